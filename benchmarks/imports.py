"""How long `import gradtape` takes beside `import numpy`: `python benchmarks/imports.py`.

Each import is timed in a Python process of its own, the libraries in turns; a figure is the least of its
rounds, in milliseconds, the start of Python itself not included.
"""

import argparse
from typing import Any

from common import PEERS, peers, print_table, tell, turn, yes_no

AT_MOST = 1.6
CODE = """
import json, time
start = time.perf_counter()
import {module}
print(json.dumps({{"ms": (time.perf_counter() - start) * 1e3}}))
"""


def measured(rounds: int, peer_rounds: int = 3) -> dict[str, Any]:
    """The least time of each import, {"ms": ...} or {"error": ...}; peers, slower, have fewer rounds."""
    found: dict[str, Any] = {}
    for i in range(rounds):
        for module in ["numpy", "gradtape", *(peers() if i < peer_rounds else [])]:
            result = turn(["-c", CODE.format(module=module)])
            if module not in found or result.get("ms", 0) < found[module].get("ms", 0):
                found[module] = result
    return found


def show(found: dict[str, Any]) -> None:
    """Prints the table."""
    base = found["numpy"]["ms"]
    rows = []
    for module, result in found.items():
        name = PEERS.get(module, module)
        if "ms" not in result:
            rows.append((name, result["error"], "", "", ""))
            continue
        ratio = result["ms"] / base
        wanted = (f"{AT_MOST}", yes_no(ratio <= AT_MOST)) if module == "gradtape" else ("", "")
        rows.append((name, f"{result['ms']:.0f}", f"{ratio:.2f}", *wanted))
    print_table("Import, milliseconds", ("import", "ms", "/ numpy", "at most", "holds"), rows)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    tell(measured(options.rounds), show, options.json)


if __name__ == "__main__":
    main()
