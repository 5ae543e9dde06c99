"""What a tape costs that explains, checks numbers or takes times: `python benchmarks/flags.py`.

The gradient of a chain of 300 ops, on few floats and on many; microseconds per op, forward and backward, the
least of many rounds, in which all kinds of tape take turns.
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
ROUNDS = {4: 100, 100_000: 5}  # by how many elements

TAPES: dict[str, tuple[Callable[[], gt.GradientTape], float | None]] = {
    "plain": (gt.GradientTape, None),
    "explain=True": (lambda: gt.GradientTape(explain=True), 2.0),
    "check_numerics=True": (lambda: gt.GradientTape(check_numerics=True), None),
    "profile()": (gt.GradientTape, None),
}


class Figure(NamedTuple):
    """One line of the table: microseconds per op, and how many times those of a plain tape that is."""

    tape: str
    elements: int
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
    y, want = x.numpy(), np.ones(x.shape)
    for _ in range(STEPS):
        y, want = np.sin(y) * 0.9 + 0.1, want * 0.9 * np.cos(y)
    for name in TAPES:
        if not np.allclose(gradient(name, x), want, rtol=1e-10, atol=0):
            raise SystemExit(f"wrong gradient of {name}")


def compared(elements: int, rounds: int) -> list[Figure]:
    """A figure for each kind of tape."""
    x = gt.Variable(np.linspace(0.1, 0.4, elements))
    check(x)
    least = dict.fromkeys(TAPES, math.inf)
    for _ in range(rounds):
        for name in TAPES:
            start = time.perf_counter()
            gradient(name, x)
            least[name] = min(least[name], time.perf_counter() - start)
    us = {name: seconds / (3 * STEPS) * 1e6 for name, seconds in least.items()}
    limits = {name: limit if elements == min(ROUNDS) else None for name, (_, limit) in TAPES.items()}
    return [Figure(name, elements, us[name], us[name] / us["plain"], limits[name]) for name in TAPES]


def measured() -> list[Figure]:
    """The figures for few elements and for many."""
    return [figure for elements, rounds in ROUNDS.items() for figure in compared(elements, rounds)]


def show(figures: list[Figure]) -> None:
    """Prints the table."""
    rows = [(f.tape, f"{f.elements:,}", f"{f.us:.2f}", f"{f.ratio:.2f}", *_target(f)) for f in figures]
    header = ("tape", "elements", "us per op", "ratio", "at most", "holds")
    print_table("A chain of 300 ops, by what the tape is to tell", header, rows)


def _target(figure: Figure) -> tuple[str, str]:
    if figure.at_most is None:
        return "", ""
    return f"{figure.at_most}", yes_no(figure.ratio <= figure.at_most)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    figures = measured()
    tell([f._asdict() for f in figures] if options.json else figures, show, options.json)


if __name__ == "__main__":
    main()
