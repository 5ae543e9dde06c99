"""All tables: `make bench`, or `python benchmarks/run.py`. README.md tells how to read them."""

import flags
import greeks
import imports
import lookups
import memory
import speed
import training
from common import machine, peers
from workloads import WORKLOADS


def main() -> None:
    """Measures and prints imports, memory, lookups and speed."""
    print(machine())
    imports.show(imports.measured(rounds=10))
    memory.show(memory.measured())
    training.show(training.measured(rounds=3))
    lookups.show(lookups.measured(lookups.STEPS))
    flags.show(flags.measured())
    figures = speed.measured(list(WORKLOADS), rounds=3, seconds=0.5)
    speed.show(figures, speed.EAGER)
    speed.show(figures, speed.COMPILED)
    greeks.show(greeks.measured(rounds=3, seconds=0.5))
    if not peers():
        print("\nNo peers in this environment: .venv/bin/pip install torch jax tensorflow-cpu autograd")


if __name__ == "__main__":
    main()
