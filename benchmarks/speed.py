"""Derivatives in gradtape, its peers and NumPy by hand: `python benchmarks/speed.py [workload ...]`.

Each library runs each workload in a process of its own, in turns, several rounds; a figure is the least of
the rounds' medians. A library's answer is first compared with the one written by hand in NumPy and run in
float64. All is eager: nobody's compiler takes part. Peers that are not installed are left out.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from common import PEERS, machine, peers, print_table, turn, yes_no
from libraries import LIBRARIES
from workloads import WORKLOADS, Data, Workload

BY_HAND = "by hand"
CANNOT = "-"  # what stands in place of a time, where a library has no such derivative


def runner(library: str, workload: Workload, data: Data) -> Callable[[], Sequence[Any]] | None:
    """What is timed: a function without arguments that gives the derivatives; None: the library has none."""
    sources, constants, along = data
    if library == BY_HAND:
        return partial(workload.by_hand, *sources, *constants, *along)
    m = LIBRARIES[library]()
    if not hasattr(m, workload.derivative):
        return None
    fixed = [m.array(array) for array in constants]
    n = len(sources)

    def function(*values: Any) -> Any:
        return workload.function(m, *values[:n], *fixed, *values[n:])

    run: Callable[[], Sequence[Any]] = getattr(m, workload.derivative)(
        function, [m.array(array) for array in sources], [m.array(array) for array in along]
    )
    return run


def wrong_by(answer: Sequence[Any], workload: Workload, data: Data) -> str | None:
    """What is the matter with a library's answer, beside the one by hand in float64; None: nothing.

    The error counts relative to the largest element: 1e-3 is forgiven in float32, 1e-9 in float64.
    """
    arrays = [array for arrays in data for array in arrays]
    wanted = workload.by_hand(*(array.astype(np.float64) for array in arrays))
    forgiven = 1e-3 if arrays[0].dtype == np.float32 else 1e-9
    for found, want in zip(map(np.asarray, answer), wanted, strict=True):
        if found.shape != want.shape:
            return f"wrong shape {found.shape}"
        error = np.max(np.abs(found - want)) / np.max(np.abs(want))
        if not error <= forgiven:
            return f"wrong by {error:.0e}"
    return None


def one_turn(library: str, name: str, seconds: float) -> dict[str, Any]:
    """One library's turn, in this process: {"seconds": the median time} or {"error": what is the matter}."""
    workload = WORKLOADS[name]
    data = workload.data(np.random.default_rng(0))
    run = runner(library, workload, data)
    if run is None:
        return {"error": CANNOT}
    problem = wrong_by(run(), workload, data)
    if problem:
        return {"error": problem}
    run()
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(times) < 5:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return {"seconds": statistics.median(times)}


def measured(names: Sequence[str], rounds: int, seconds: float) -> dict[str, dict[str, Any]]:
    """By workload and library, the least of the rounds' medians; a library that fails has no further turn."""
    libraries = [BY_HAND, "gradtape", *peers()]
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        results: dict[str, Any] = {}
        for _ in range(rounds):
            for library in libraries:
                best = results.get(library)
                if best is None or "seconds" in best:
                    new = turn([__file__, name, "--turn", library, "--seconds", str(seconds)])
                    if best is None or new.get("seconds", 0.0) < best["seconds"]:
                        results[library] = new
        found[name] = results
    return found


def ratios(results: dict[str, Any]) -> dict[str, float]:
    """gradtape's time over that of the best peer, of autograd and of NumPy by hand, as far as known."""
    times = {library: result["seconds"] for library, result in results.items() if "seconds" in result}
    ours = times.pop("gradtape", None)
    if ours is None:
        return {}
    others = {"autograd": times.get("autograd"), BY_HAND: times.pop(BY_HAND, None)}
    others["best peer"] = min(times.values(), default=None)
    return {name: ours / other for name, other in others.items() if other is not None}


def targets(found: dict[str, dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """The rows of the targets: which ratio, what it is, what it may be, whether it holds."""
    ours = {name: results["gradtape"].get("seconds") for name, results in found.items()}
    rows = []
    for name, results in found.items():
        over = ratios(results)
        if ours[name]:
            over |= {other: ours[name] / time for other, time in ours.items() if time}
        for other, at_most in WORKLOADS[name].targets.items():
            if other in over:
                ratio = over[other]
                rows.append((f"{name} / {other}", f"{ratio:.2f}", f"{at_most:.2f}", yes_no(ratio <= at_most)))
    return rows


def failure(error: str) -> str:
    """What stands in place of a time: how wrong the answer was, or why there was none."""
    return error if error == CANNOT or error.startswith("wrong") else "failed"


def show(found: dict[str, dict[str, Any]]) -> None:
    """Prints the figures, and what became of the targets."""
    libraries = list(next(iter(found.values()))) if found else []
    compared = {name: ratios(results) for name, results in found.items()}
    over = [
        other
        for other in ("best peer", "autograd", BY_HAND)
        if any(other in row for row in compared.values())
    ]
    rows = []
    for name, results in found.items():
        workload = WORKLOADS[name]
        cells = [
            f"{r['seconds'] * workload.scale:.2f}" if "seconds" in r else failure(r["error"])
            for r in results.values()
        ]
        rows.append(
            (
                name,
                workload.unit,
                *cells,
                *(f"{compared[name][other]:.2f}" if other in compared[name] else "" for other in over),
            )
        )
    header = (
        "workload",
        "unit",
        *(PEERS.get(library, library) for library in libraries),
        *(f"/ {o}" for o in over),
    )
    title = "Speed: one derivative, eager; the last columns are gradtape's time over others'"
    print_table(title, header, rows)
    for name, results in found.items():
        for library, r in results.items():
            if "error" in r and failure(r["error"]) != r["error"]:
                print(f"{name}, {PEERS.get(library, library)}: {r['error']}")
    wanted = targets(found)
    if wanted:
        print_table("Speed: the targets", ("gradtape's time over", "is", "at most", "holds"), wanted)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "workloads", nargs="*", metavar="workload", help=f"of {', '.join(WORKLOADS)}; else all"
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each library (3)")
    parser.add_argument("--seconds", type=float, default=0.5, help="timed seconds of one turn (0.5)")
    parser.add_argument("--json", action="store_true", help="print the figures, in seconds, as JSON")
    parser.add_argument("--turn", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.workloads or list(WORKLOADS)
    unknown = [name for name in names if name not in WORKLOADS]
    if unknown:
        parser.error(f"no workload {unknown[0]!r}; there are {', '.join(WORKLOADS)}")
    if options.turn:
        print(json.dumps(one_turn(options.turn, names[0], options.seconds)))
        return
    found = measured(names, options.rounds, options.seconds)
    if options.json:
        compared = {name: ratios(results) for name, results in found.items()}
        print(json.dumps({"machine": machine(), "figures": found, "ratios": compared}, indent=2))
    else:
        show(found)


if __name__ == "__main__":
    main()
