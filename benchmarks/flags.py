"""What a tape costs that explains, checks numbers or takes times: `python benchmarks/flags.py`.

The gradient of 300 small ops on 4 floats, as in the `chain` of `speed.py`; microseconds per op, the least of
many turns, all kinds of tape taking turns.
"""

import argparse
import contextlib
import math
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from common import print_table, tell, yes_no

import gradtape as gt

STEPS = 100  # of 3 ops
TURNS = 100

TAPES: dict[str, tuple[Callable[[], gt.GradientTape], float | None]] = {
    "plain": (gt.GradientTape, None),
    "explain=True": (lambda: gt.GradientTape(explain=True), 2.0),
    "check_numerics=True": (lambda: gt.GradientTape(check_numerics=True), None),
    "profile()": (gt.GradientTape, None),
}


class Figure(NamedTuple):
    """One line of the table: microseconds per op, and how many times those of a plain tape that is."""

    tape: str
    us: float
    ratio: float
    at_most: float | None


def gradient(name: str, x: gt.Variable) -> np.ndarray:
    """That of the sum after all steps."""
    with TAPES[name][0]() as tape, tape.profile() if name == "profile()" else contextlib.nullcontext():
        y = gt.convert_to_tensor(x)
        for _ in range(STEPS):
            y = gt.sin(y) * 0.9 + 0.1
        total = gt.reduce_sum(y)
    return tape.gradient(total, x).numpy()


def check(x: gt.Variable) -> None:
    """Stops the benchmark if a gradient is wrong, since time saved by a wrong answer is none."""
    y, want = x.numpy(), np.ones(4)
    for _ in range(STEPS):
        y, want = np.sin(y) * 0.9 + 0.1, want * 0.9 * np.cos(y)
    for name in TAPES:
        got = gradient(name, x)
        if not np.allclose(got, want, rtol=1e-10, atol=0):
            raise SystemExit(f"wrong gradient of {name}: {got} where {want} was wanted")


def measured(turns: int) -> list[Figure]:
    """A figure for each kind of tape."""
    x = gt.Variable(np.array([0.1, 0.2, 0.3, 0.4]))
    check(x)
    least = dict.fromkeys(TAPES, math.inf)
    for _ in range(turns):
        for name in TAPES:
            start = time.perf_counter()
            gradient(name, x)
            least[name] = min(least[name], time.perf_counter() - start)
    us = {name: seconds / (3 * STEPS) * 1e6 for name, seconds in least.items()}
    return [Figure(name, us[name], us[name] / us["plain"], limit) for name, (_, limit) in TAPES.items()]


def show(figures: list[Figure]) -> None:
    """Prints the table."""
    rows = [(f.tape, f"{f.us:.2f}", f"{f.ratio:.2f}", *_target(f)) for f in figures]
    print_table(
        "A chain of small ops, by what the tape is to tell",
        ("tape", "us per op", "ratio", "at most", "holds"),
        rows,
    )


def _target(figure: Figure) -> tuple[str, str]:
    if figure.at_most is None:
        return "", ""
    return f"{figure.at_most}", yes_no(figure.ratio <= figure.at_most)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    figures = measured(options.turns)
    tell([f._asdict() for f in figures] if options.json else figures, show, options.json)


if __name__ == "__main__":
    main()
