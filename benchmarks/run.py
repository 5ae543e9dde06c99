"""All tables: `make bench`, or `python benchmarks/run.py`. README.md tells how to read them."""

import imports
import lookups
import memory
import speed
from common import machine, peers


def main() -> None:
    """Measures and prints imports, memory, lookups and speed."""
    print(machine())
    imports.show(imports.measured(rounds=10))
    memory.show(memory.measured())
    lookups.show(lookups.measured(lookups.STEPS))
    speed.show(speed.measured(list(speed.WORKLOADS), rounds=3, seconds=0.5))
    if not peers():
        print("\nNo peers in this environment: .venv/bin/pip install torch jax tensorflow-cpu autograd")


if __name__ == "__main__":
    main()
