"""What a step on a few rows costs in a small and in a large table: `python benchmarks/lookups.py`.

A step is a lookup under a tape, a loss, its gradient and `apply_gradients`; figures are medians.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from common import print_table, yes_no

import gradtape as gt

SMALL, LARGE = 10_000, 1_000_000
WIDTH, LOOKED_UP = 64, 256
STEPS = 200
AT_MOST = 2.0

OPTIMIZERS: dict[str, Callable[[], gt.optimizers.Optimizer]] = {
    "SGD": lambda: gt.optimizers.SGD(0.5),
    "SGD, momentum": lambda: gt.optimizers.SGD(0.5, momentum=0.9),
    "Adam": gt.optimizers.Adam,
}


class Figure(NamedTuple):
    """One line of the table: the milliseconds of a step with each table."""

    optimizer: str
    small: float
    large: float

    @property
    def ratio(self) -> float:
        """The large table's time over the small one's."""
        return self.large / self.small

    @property
    def holds(self) -> bool:
        """Whether it is within the bound."""
        return self.ratio <= AT_MOST


def step(table: gt.Variable, optimizer: gt.optimizers.Optimizer, ids: np.ndarray) -> None:
    """Draws the rows of these ids towards 1."""
    with gt.GradientTape() as tape:
        rows = gt.nn.embedding_lookup(table, ids)
        loss = gt.reduce_sum((rows - 1.0) ** 2.0)
    optimizer.apply_gradients([(tape.gradient(loss, table), table)])


def check() -> None:
    """Stops the benchmark if a step is wrong, since time saved by a wrong answer is none."""
    start = np.arange(12, dtype="float32").reshape(4, 3)
    table = gt.Variable(start)
    step(table, gt.optimizers.SGD(0.125), np.array([2, 0, 2]))
    want = start - 0.125 * np.array([[1.0], [0.0], [2.0], [0.0]]) * 2 * (start - 1)
    if not np.allclose(table.numpy(), want):
        raise SystemExit(f"wrong step: {table.numpy()} where {want} was wanted")


def compared(name: str, steps: int) -> Figure:
    """The medians of so many steps with each table, in turns."""
    rng = np.random.default_rng(0)
    tables = [gt.Variable(np.zeros((n, WIDTH), "float32")) for n in (SMALL, LARGE)]
    optimizers = [OPTIMIZERS[name]() for _ in tables]
    times: list[list[float]] = [[], []]
    for _ in range(steps):
        for table, optimizer, taken in zip(tables, optimizers, times, strict=True):
            ids = rng.integers(0, table.shape[0], LOOKED_UP)
            start = time.perf_counter()
            step(table, optimizer, ids)
            taken.append(time.perf_counter() - start)
    small, large = (statistics.median(taken) * 1e3 for taken in times)
    return Figure(name, small, large)


def measured(steps: int) -> list[Figure]:
    """A figure for each optimizer."""
    check()
    return [compared(name, steps) for name in OPTIMIZERS]


def show(figures: list[Figure]) -> None:
    """Prints the table."""
    rows = [
        (f.optimizer, f"{f.small:.3f}", f"{f.large:.3f}", f"{f.ratio:.2f}", f"{AT_MOST}", yes_no(f.holds))
        for f in figures
    ]
    header = ("optimizer", f"{SMALL:,} rows", f"{LARGE:,} rows", "ratio", "at most", "holds")
    print_table(f"A step on {LOOKED_UP} rows of {WIDTH} float32, milliseconds", header, rows)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    figures = measured(options.steps)
    if options.json:
        print(json.dumps([{**f._asdict(), "ratio": f.ratio, "holds": f.holds} for f in figures], indent=2))
    else:
        show(figures)


if __name__ == "__main__":
    main()
