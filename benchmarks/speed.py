"""Derivatives in gradtape, its peers and NumPy by hand: `python benchmarks/speed.py [workload ...]`.

Each contestant runs each workload in a process of its own, in turns, several rounds; a figure is the least of
the rounds'. Its answer is first compared with the one written by hand in NumPy and run in float64. There are
two tables: eager, where nobody's compiler takes part, and compiled. Peers that are missing are left out.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from common import PEERS, machine, peers, print_table, turn, yes_no
from libraries import LIBRARIES
from workloads import WORKLOADS, Data, Workload

BY_HAND = "by hand"
CANNOT = "-"  # what stands in place of a time, where a library has no such derivative

# Those who compile, as they are called in the tables: the library's module.
COMPILERS = {
    "gradtape.function": "gradtape",
    "torch.compile": "torch",
    "jax.jit": "jax",
    "tf.function": "tensorflow",
}
Results = dict[str, dict[str, Any]]  # by contestant: what one_turn gives


class Table(NamedTuple):
    """One table of times: gradtape's contestant, its rivals, and over whose times gradtape's are shown."""

    title: str
    ours: str
    rivals: tuple[str, ...]
    over: Mapping[str, tuple[str, ...]]

    def contestants(self) -> list[str]:
        """Those who take part here."""
        return [BY_HAND, self.ours, *(r for r in self.rivals if COMPILERS.get(r, r) in peers())]


EAGER = Table(
    "Speed: one derivative, eager",
    "gradtape",
    tuple(PEERS),
    {"best peer": tuple(PEERS), "autograd": ("autograd",), BY_HAND: (BY_HAND,)},
)
COMPILED = Table(
    "Speed: one derivative, compiled",
    "gradtape.function",
    tuple(COMPILERS)[1:],
    {"best peer": tuple(COMPILERS)[1:], "eager": ("gradtape",), BY_HAND: (BY_HAND,)},
)
TABLES = {"eager": EAGER, "compiled": COMPILED}


# -- one turn ------------------------------------------------------------------------------------------------


def runner(contestant: str, workload: Workload, data: Data) -> Callable[[], Sequence[Any]] | None:
    """What is timed: a function without arguments that gives the derivatives; None: the library has none."""
    given = [array for arrays in data for array in arrays]
    if contestant == BY_HAND:
        return partial(workload.by_hand, *given)
    m = LIBRARIES[COMPILERS.get(contestant, contestant)]()
    if not hasattr(m, workload.derivative):
        return None
    n, k = len(data[0]), len(data[0]) + len(data[1])

    def derivative(*arrays: Any) -> Callable[[], Sequence[Any]]:
        def function(*values: Any) -> Any:
            return workload.function(m, *values[:n], *arrays[n:k], *values[n:])

        found: Callable[[], Sequence[Any]] = getattr(m, workload.derivative)(
            function, list(arrays[:n]), list(arrays[k:])
        )
        return found

    arrays = [m.array(array) for array in given]
    if contestant in COMPILERS:
        return partial(m.compiled(lambda *arrays: derivative(*arrays)()), *arrays)
    return derivative(*arrays)


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


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """The seconds of one call, and what it gave."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def one_turn(contestant: str, workload: Workload, seconds: float) -> dict[str, Any]:
    """One contestant's turn, in this process: {"seconds": the median time} or {"error": what is the matter}.

    Beside it "first", the seconds of the first call of all, and for gradtape.function "another", those of the
    first call of another function, when the process has compiled one.
    """
    data = workload.data(np.random.default_rng(0))
    run = runner(contestant, workload, data)
    if run is None:
        return {"error": CANNOT}
    first, answer = timed(run)
    found = {"first": first}
    # What runs after the first call may be another program: what is compiled, not what was recorded.
    problem = wrong_by(answer, workload, data) or wrong_by(run(), workload, data)
    if problem:
        return {"error": problem}
    if contestant == COMPILED.ours and (other := runner(contestant, workload, data)):
        found["another"], _ = timed(other)
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(times) < 5:
        times.append(timed(run)[0])
    return {"seconds": statistics.median(times), **found}


def best(results: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The least of each figure, or the first error."""
    least: dict[str, Any] = {}
    for result in results:
        if "error" in result:
            return result
        least = {figure: min(x, least.get(figure, x)) for figure, x in result.items()}
    return least


def measured(
    names: Sequence[str], rounds: int, seconds: float, tables: Iterable[Table] = TABLES.values()
) -> dict[str, Results]:
    """By workload and contestant, the least of the rounds' figures; who fails has no further turn."""
    contestants = list(dict.fromkeys(c for table in tables for c in table.contestants()))
    found: dict[str, Results] = {}
    for name in names:
        results: Results = {}
        for _ in range(rounds):
            for contestant in contestants:
                so_far = results.get(contestant, {})
                if "error" not in so_far:
                    command = [__file__, name, "--turn", contestant, "--seconds", str(seconds)]
                    results[contestant] = best([so_far, turn(command)])
        found[name] = results
    return found


# -- what comes of it ----------------------------------------------------------------------------------------


def ratios(results: Results, table: Table) -> dict[str, float]:
    """gradtape's time over others', as far as known, in the order of the table's columns."""
    times = {contestant: r["seconds"] for contestant, r in results.items() if "seconds" in r}
    if table.ours not in times:
        return {}
    others = {name: [times[w] for w in who if w in times] for name, who in table.over.items()}
    return {name: times[table.ours] / min(known) for name, known in others.items() if known}


def first_ratio(results: Results) -> float | None:
    """gradtape's first call over JAX's."""
    ours, theirs = (results.get(c, {}).get("first") for c in (COMPILED.ours, "jax.jit"))
    return ours / theirs if ours and theirs else None


def targets(found: dict[str, Results], table: Table) -> list[tuple[str, str, str, str]]:
    """The rows of the targets: which ratio, what it is, what it may be, whether it holds."""
    ours = {name: results.get(table.ours, {}).get("seconds") for name, results in found.items()}
    rows = []
    for name, results in found.items():
        workload = WORKLOADS[name]
        over = ratios(results, table)
        if own := ours[name]:
            over |= {other: own / time for other, time in ours.items() if time}
            over[workload.unit] = own * workload.scale
        wanted = workload.targets if table is EAGER else workload.compiled
        compared = [(f"{name} / {other}", over.get(other), limit) for other, limit in wanted.items()]
        if "best peer" in wanted and table is COMPILED:
            compared.append((f"{name}, first call / jax.jit's", first_ratio(results), 1.0))
        rows += [
            (what, number(ratio), f"{at_most:.2f}", yes_no(ratio <= at_most))
            for what, ratio, at_most in compared
            if ratio is not None
        ]
    return rows


def failure(error: str) -> str:
    """What stands in place of a time: how wrong the answer was, or why there was none."""
    return error if error == CANNOT or error.startswith("wrong") else "failed"


def number(x: float) -> str:
    """With two decimals, or if it is small with two digits."""
    return f"{x:.2f}" if x >= 0.1 else f"{x:.2g}"


def cell(result: dict[str, Any], figure: str, scale: float) -> str:
    """A time, or what stands in its place."""
    return number(result[figure] * scale) if figure in result else failure(result["error"])


def show(found: dict[str, Results], table: Table) -> None:
    """Prints the times of one table, what went wrong, and what became of the targets."""
    taking_part = [c for c in table.contestants() if all(c in results for results in found.values())]
    compared = {name: ratios(results, table) for name, results in found.items()}
    over = [other for other in table.over if any(other in row for row in compared.values())]
    rows = [
        (
            name,
            WORKLOADS[name].unit,
            *(cell(results[c], "seconds", WORKLOADS[name].scale) for c in taking_part),
            *(number(compared[name][other]) if other in compared[name] else "" for other in over),
        )
        for name, results in found.items()
    ]
    header = ("workload", "unit", *(PEERS.get(c, c) for c in taking_part), *(f"/ {o}" for o in over))
    print_table(f"{table.title}; the last columns are gradtape's time over others'", header, rows)
    for name, results in found.items():
        for contestant in taking_part:
            error = results[contestant].get("error")
            if error and failure(error) != error:
                print(f"{name}, {PEERS.get(contestant, contestant)}: {error}")
    if table is COMPILED:
        show_first(found, taking_part)
    wanted = targets(found, table)
    if wanted:
        print_table(f"{table.title}: the targets", ("gradtape's time over", "is", "at most", "holds"), wanted)


def show_first(found: dict[str, Results], taking_part: Sequence[str]) -> None:
    """Prints the times of the first calls."""
    ours, *others = (c for c in taking_part if c in COMPILERS)
    rows = []
    for name, results in found.items():
        ratio = first_ratio(results)
        rows.append(
            (
                name,
                cell(results[ours], "first", 1e3),
                cell(results[ours], "another", 1e3),
                *(cell(results[c], "first", 1e3) for c in others),
                *([number(ratio) if ratio else ""] if "jax.jit" in others else []),
            )
        )
    header = ("workload", ours, "another", *others, *(["/ jax.jit"] if "jax.jit" in others else []))
    print_table("Speed: the first call, recording and compiling included, milliseconds", header, rows)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "workloads", nargs="*", metavar="workload", help=f"of {', '.join(WORKLOADS)}; else all"
    )
    parser.add_argument("--only", choices=TABLES, help="one of the two tables")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contestant (3)")
    parser.add_argument("--seconds", type=float, default=0.5, help="timed seconds of one turn (0.5)")
    parser.add_argument("--json", action="store_true", help="print the figures, in seconds, as JSON")
    parser.add_argument("--turn", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.workloads or list(WORKLOADS)
    unknown = [name for name in names if name not in WORKLOADS]
    if unknown:
        parser.error(f"no workload {unknown[0]!r}; there are {', '.join(WORKLOADS)}")
    if options.turn:
        print(json.dumps(one_turn(options.turn, WORKLOADS[names[0]], options.seconds)))
        return
    tables = {name: table for name, table in TABLES.items() if options.only in (None, name)}
    found = measured(names, options.rounds, options.seconds, tables.values())
    if options.json:
        compared = {
            name: {workload: ratios(results, table) for workload, results in found.items()}
            for name, table in tables.items()
        }
        print(json.dumps({"machine": machine(), "figures": found, "ratios": compared}, indent=2))
    else:
        for table in tables.values():
            show(found, table)


if __name__ == "__main__":
    main()
