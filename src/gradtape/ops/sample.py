"""By what calls the tests check an op: random operands, and static attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradtape.tensor import Array

__all__ = ["Sample", "Uniform", "elementwise_samples"]


class Uniform(NamedTuple):
    """A random sample operand: uniform in [low, high), then mapped by `then` (to make it symmetric, say).

    >>> gt.extending.Uniform((2, 3), low=0.5)
    Uniform(shape=(2, 3), low=0.5, high=2.0, then=None)
    """

    shape: tuple[int, ...]
    low: float = -2.0
    high: float = 2.0
    then: Callable[[Array], Array] | None = None

    def draw(self, rng: np.random.Generator, dtype: Any) -> Array:
        """An array of this kind; complex dtypes get an imaginary part of the same range."""
        x = rng.uniform(self.low, self.high, self.shape)
        if np.dtype(dtype).kind == "c":
            x = x + 1j * rng.uniform(self.low, self.high, self.shape)
        return (x if self.then is None else self.then(x)).astype(dtype)


class Sample:
    """One call by which the tests check an op: operands (tuples of ints are shapes) and static attributes.

    >>> gt.extending.Sample((2, 3), 1.0, axis=0)
    (2, 3), 1.0, axis=0
    """

    def __init__(self, *operands: Any, **attributes: Any) -> None:
        self.operands = tuple(Uniform(x) if type(x) is tuple else x for x in operands)
        self.attributes = attributes

    def draw(self, rng: np.random.Generator, dtype: Any) -> list[Array]:
        """An array for each random operand, the same for every dtype but for rounding (and the imaginary
        part).
        """
        return [np.asarray(x.draw(rng, dtype)) for x in _uniforms(self.operands)]

    def filled(self, operands: Sequence[Any]) -> list[Any]:
        """The operands, the random ones replaced in order."""
        replacements = iter(operands)
        return [_filled(x, replacements) for x in self.operands]

    def __repr__(self) -> str:
        parts = [str(x.shape) if isinstance(x, Uniform) else repr(x) for x in self.operands]
        return ", ".join([*parts, *(f"{name}={value!r}" for name, value in self.attributes.items())])


def _uniforms(operand: Any) -> Iterator[Uniform]:
    if isinstance(operand, Uniform):
        yield operand
    elif isinstance(operand, (list, tuple)):
        for part in operand:
            yield from _uniforms(part)


def _filled(operand: Any, replacements: Iterator[Any]) -> Any:
    if isinstance(operand, Uniform):
        return next(replacements)
    if isinstance(operand, (list, tuple)):
        return type(operand)([_filled(part, replacements) for part in operand])
    return operand


def elementwise_samples(lows: Sequence[float], highs: Sequence[float]) -> list[Sample]:
    """Every shape that an elementwise op must take: ordinary, broadcast, rank 0 and empty."""
    shapes: dict[int, list[tuple[tuple[int, ...], ...]]] = {
        1: [((3, 4),), ((),), ((0, 2),)],
        2: [((3, 4), (3, 4)), ((3, 1), (4,)), ((2, 3), ()), ((), ()), ((0, 2), (2,))],
    }
    cases = shapes.get(len(lows), [((2, 3),) * len(lows), ((3, 1), (), (1, 4), (4,))[: len(lows)]])
    return [
        Sample(*(Uniform(s, lo, hi) for s, lo, hi in zip(case, lows, highs, strict=True))) for case in cases
    ]
