"""gradtape's compiled Greeks beside a loop written in C: `python benchmarks/greeks.py`.

The workload is `greeks` of workloads.py; greeks.c is compiled by gcc, for this machine and with its freest
arithmetic, and runs on as many threads as gradtape's code. Both are compared with NumPy by hand first.
"""

import argparse
import ctypes
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import speed
from common import print_table, tell, turn, yes_no
from workloads import INTEREST, WORKLOADS

WORKLOAD = WORKLOADS["greeks"]
AT_MOST = 1.4
FLAGS = ("-O3", "-march=native", "-ffast-math", "-fopenmp", "-shared", "-fPIC")
NO_COMPILER = "no gcc here"


def in_c(spot: np.ndarray, *others: np.ndarray) -> Callable[[], list[np.ndarray]]:
    """The Greeks by greeks.c, written to the same four arrays at each call.

    To be called in a process that does nothing else: -ffast-math has all of it take denormals for zero.
    """
    from gradtape import config

    with tempfile.TemporaryDirectory() as folder:
        library = str(Path(folder, "greeks.so"))
        source = str(Path(__file__).with_name("greeks.c"))
        subprocess.run(["gcc", *FLAGS, "-o", library, source, "-lm"], check=True)
        function = ctypes.CDLL(library).greeks
    array = np.ctypeslib.ndpointer(np.float64, ndim=1, flags="C_CONTIGUOUS")
    function.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_double, *[array] * 8]
    function.restype = None
    found = [np.zeros_like(spot) for _ in range(4)]

    def run() -> list[np.ndarray]:
        function(len(spot), config.threads, INTEREST, spot, *others, *found)
        return found

    return run


def one_turn(seconds: float) -> dict[str, Any]:
    """The turn of C, in this process, as in speed.py."""
    data = WORKLOAD.data(np.random.default_rng(0))
    run = in_c(*data[0])
    problem = speed.wrong_by(run(), WORKLOAD, data)
    if problem:
        return {"error": problem}
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(times) < 5:
        times.append(speed.timed(run)[0])
    return {"seconds": statistics.median(times)}


def measured(rounds: int, seconds: float) -> dict[str, dict[str, Any]]:
    """By contestant, the least of the rounds' medians, in turns."""
    if not shutil.which("gcc"):
        return {"C": {"error": NO_COMPILER}}
    turns = {
        "C": [__file__, "--turn"],
        "gradtape.function": [speed.__file__, "greeks", "--turn", "gradtape.function"],
    }
    found: dict[str, dict[str, Any]] = {name: {} for name in turns}
    for _ in range(rounds):
        for name, command in turns.items():
            if "error" not in found[name]:
                found[name] = speed.best([found[name], turn([*command, "--seconds", str(seconds)])])
    return found


def show(found: dict[str, dict[str, Any]]) -> None:
    """Prints the table, or why there is none."""
    for name, result in found.items():
        if "error" in result:
            print(f"\nThe Greeks in C: {name}: {result['error']}")
            return
    c, ours = (result["seconds"] * 1e3 for result in found.values())
    row = (f"{c:.2f}", f"{ours:.2f}", f"{ours / c:.2f}", f"{AT_MOST:.2f}", yes_no(ours / c <= AT_MOST))
    header = ("C", "gradtape.function", "ratio", "at most", "holds")
    print_table("The Greeks of 1,000,000 calls, compiled, milliseconds", header, [row])


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (3)")
    parser.add_argument("--seconds", type=float, default=0.5, help="timed seconds of one turn (0.5)")
    parser.add_argument("--json", action="store_true", help="print the figures, in seconds, as JSON")
    parser.add_argument("--turn", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turn:
        print(json.dumps(one_turn(options.seconds)))
        return
    tell(measured(options.rounds, options.seconds), show, options.json)


if __name__ == "__main__":
    main()
