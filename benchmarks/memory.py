"""How many arrays a tape keeps alive: `python benchmarks/memory.py`.

NumPy reports every array's bytes to tracemalloc; figures are those bytes over the bytes of one array (8 MB),
so they count everything that lives: what the caller holds, what the tape keeps, what an op makes on its way.
"""

import argparse
import json
import tracemalloc
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from common import print_table, yes_no

import gradtape as gt

SIZE = 1_000_000
ADDITIONS = 200
LENGTH = 40
LAYERS, EVERY, WIDTH = 32, 4, 20


class Figure(NamedTuple):
    """One line of the table: what was counted, how many arrays lived, and how many may."""

    what: str
    arrays: float
    at_most: int

    @property
    def holds(self) -> bool:
        """Whether it is within the bound; a hundredth of an array is allowed for Python's own objects."""
        return self.arrays <= self.at_most + 0.01


def alive() -> float:
    """Arrays alive now."""
    return tracemalloc.get_traced_memory()[0] / (8 * SIZE)


def peak(run: Callable[[], object]) -> float:
    """The most arrays that were alive at once while `run` ran."""
    tracemalloc.reset_peak()
    run()
    return tracemalloc.get_traced_memory()[1] / (8 * SIZE)


def array() -> gt.Tensor:
    """One array's worth of halves."""
    return gt.constant(np.full(SIZE, 0.5))


def agree(got: gt.Tensor, want: float) -> None:
    """Stops the benchmark if a gradient is wrong, since memory saved by a wrong answer is none."""
    if not np.allclose(got.numpy(), want, rtol=1e-10):
        raise SystemExit(f"wrong gradient: {got.numpy()[0]} where {want} was wanted")


def additions() -> Iterator[Figure]:
    """y = y + b: the derivative of a sum needs no value, so only b and the two ends of one op live."""
    b = array()
    y = array()
    with gt.GradientTape() as tape:
        tape.watch(b)

        def add() -> None:
            nonlocal y
            for _ in range(ADDITIONS):
                y = y + b

        yield Figure(f"{ADDITIONS} times y = y + b, most alive while recording", peak(add), 3)
    yield Figure("  when recorded: b and y", alive(), 2)
    agree(tape.gradient(y, b), ADDITIONS)


def exponentials() -> Iterator[Figure]:
    """y = exp(-y): exp keeps its result, which is all that its derivative needs, and minus keeps none."""
    x = array()
    y = x
    with gt.GradientTape() as tape:
        tape.watch(x)
        for _ in range(LENGTH):
            y = gt.exp(-y)
    before = alive()
    yield Figure(f"{LENGTH} times y = exp(-y), recorded: x and one per exp", before, 1 + LENGTH)

    gradient = x

    def sweep() -> None:
        nonlocal gradient
        gradient = tape.gradient(y, x)

    yield Figure("  its sweep: most alive, beyond what was before it", peak(sweep) - before, 3)
    yield Figure("  after it, the tape still there: x, y and the gradient", alive(), 3)
    value, slope = 0.5, 1.0
    for _ in range(LENGTH):
        value = np.exp(-value)
        slope *= -value
    agree(gradient, slope)


def replaced() -> Iterator[Figure]:
    """y = exp(-y * w) with a w for each step: the sweep makes a gradient for each value it lets go of.

    If it held the kept values to its end, the gradients would come on top of them, one array for each step.
    """
    ws = [array() for _ in range(LENGTH)]
    y = array()
    with gt.GradientTape() as tape:
        tape.watch(ws)
        for w in ws:
            y = gt.exp(-(y * w))
    before = alive()
    gradients: list[gt.Tensor] = []

    def sweep() -> None:
        nonlocal gradients
        gradients = tape.gradient(y, ws)

    what = f"{LENGTH} times y = exp(-y * w), a w each: sweep beyond what was before it"
    yield Figure(what, peak(sweep) - before, 3)
    values = [0.5]
    for _ in ws:
        values.append(np.exp(-values[-1] * 0.5))
    slope = 1.0
    for i in reversed(range(LENGTH)):
        agree(gradients[i], slope * -values[i + 1] * values[i])
        slope *= -values[i + 1] * 0.5


def network() -> Iterator[Figure]:
    """A training step of layers y = tanh(y @ w): a value per layer lives, or one per block and one block's.

    The gradients by the weights are compared with those by hand.
    """
    rng = np.random.default_rng(0)
    weights = [gt.Variable(rng.normal(size=(WIDTH, WIDTH)) / np.sqrt(WIDTH)) for _ in range(LAYERS)]
    x = gt.constant(rng.normal(size=(SIZE // WIDTH, WIDTH)))
    gradients: list[gt.Tensor] = []

    def block(y: gt.Tensor, i: int) -> gt.Tensor:
        for w in weights[i : i + EVERY]:
            y = gt.tanh(y @ w)
        return y

    def step(run: Callable[[gt.Tensor, int], gt.Tensor]) -> None:
        nonlocal gradients
        with gt.GradientTape() as tape:
            y = x
            for i in range(0, LAYERS, EVERY):
                y = run(y, i)
            loss = gt.reduce_sum(y)
        del y
        gradients = tape.gradient(loss, weights)

    for what, run, at_most in (
        (f"training step of {LAYERS} layers, most alive", block, LAYERS + 4),
        (f"  the same, recompute_grad around each {EVERY} layers", gt.recompute_grad(block), LAYERS // 2 + 1),
    ):
        yield Figure(what, peak(lambda run=run: step(run)), at_most)  # type: ignore[misc]
        by_hand = backwards(x.numpy(), [w.numpy() for w in weights])
        for got in reversed(gradients):
            if not np.allclose(got.numpy(), next(by_hand), rtol=1e-8, atol=1e-8):
                raise SystemExit("wrong gradient of a layer's weights")


def backwards(x: np.ndarray, weights: list[np.ndarray]) -> Iterator[np.ndarray]:
    """The gradients by the weights of that network, last layer first, by hand."""
    values = [x]
    for w in weights:
        values.append(np.tanh(values[-1] @ w))
    g = np.ones_like(x)
    for w in reversed(weights):
        g = g * (1 - values.pop() ** 2)
        yield values[-1].T @ g
        g = g @ w.T


def measured() -> list[Figure]:
    """All figures; what one part made is gone before the next begins."""
    figures: list[Figure] = []
    tracemalloc.start()
    try:
        for part in (additions, exponentials, replaced, network):
            figures += part()
    finally:
        tracemalloc.stop()
    return figures


def show(figures: list[Figure]) -> None:
    """Prints the table."""
    rows = [(f.what, f"{f.arrays:.2f}", str(f.at_most), yes_no(f.holds)) for f in figures]
    print_table("Memory, arrays of 8 MB alive at once", ("what", "arrays", "at most", "holds"), rows)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    figures = measured()
    if options.json:
        print(json.dumps([{**f._asdict(), "holds": f.holds} for f in figures], indent=2))
    else:
        show(figures)


if __name__ == "__main__":
    main()
