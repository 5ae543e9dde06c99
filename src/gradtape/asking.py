"""What a tape is asked: targets and their cotangents, and what a source gets that has no gradient."""

import enum
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gradtape.batched import alias
from gradtape.errors import ArgumentError, DTypeError, ShapeError, UnconnectedError
from gradtape.ops.op import recorded
from gradtape.recorders import access
from gradtape.slices import IndexedSlices, Rows, densified
from gradtape.structure import flatten
from gradtape.tensor import Tensor, TensorLike, Value, Variable, as_array, require_value

if TYPE_CHECKING:
    from gradtape.explain.ways import Memory

__all__ = [
    "Absent",
    "Insisting",
    "UnconnectedGradients",
    "answer",
    "nothing",
    "seed_of",
    "seeds_of",
    "summed",
    "unconnected_choice",
    "values_of",
    "zeros",
]


class UnconnectedGradients(enum.Enum):
    """What the gradient of a source is that the target does not depend on: None, zeros, or an error.

    >>> gt.UnconnectedGradients("zero")
    <UnconnectedGradients.ZERO: 'zero'>
    """

    NONE = "none"
    ZERO = "zero"
    RAISE = "raise"


# What a source gets, in this shape, that the target does not depend on.
Absent: TypeAlias = Callable[[Value, tuple[int, ...]], Tensor | None]


def nothing(source: Value, shape: tuple[int, ...]) -> None:
    return None


def zeros(source: Value, shape: tuple[int, ...]) -> Tensor:
    return Tensor(np.zeros(shape, source.dtype)[()])


class Insisting:
    """Raises for a source without a gradient, and says why, by what the tape knew before its sweep."""

    def __init__(self, memory: "Memory", targets: list[Value]) -> None:
        self.memory = memory
        self._targets = targets

    def __call__(self, source: Value, shape: tuple[int, ...]) -> None:
        from gradtape.explain.causes import explained

        why = explained(self.memory, self._targets, source)
        raise UnconnectedError(str(why), why)


def unconnected_choice(choice: UnconnectedGradients | str) -> UnconnectedGradients:
    """The choice as a member of UnconnectedGradients, or ArgumentError."""
    try:
        return UnconnectedGradients(choice)
    except ValueError:
        raise ArgumentError(
            f"unconnected_gradients: wanted 'none', 'zero' or 'raise', got {choice!r}"
        ) from None


def values_of(structure: Any, what: str) -> list[Value]:
    """The values of a structure; variables count as read."""
    values = [require_value(x, what) for x in flatten(structure)]
    for x in values:
        if isinstance(x, Variable):
            access(x)
        if x.dtype.kind not in "fc":
            warnings.warn(
                f"{what}: {x.dtype} values have no gradient; cast to a floating dtype first", stacklevel=3
            )
    return values


def seeds_of(targets: list[Value], output_gradients: Any) -> list[Tensor]:
    """The cotangent of each target: ones where none is given."""
    given = [None] * len(targets) if output_gradients is None else flatten(output_gradients)
    if len(targets) == 1 and len(given) > 1:
        given = [output_gradients]  # the one cotangent, as a nested list
    if len(given) != len(targets):
        raise ShapeError(
            f"gradient: {len(targets)} targets, but {len(given)} output_gradients; give one for each"
        )
    return [seed_of(x, g) for x, g in zip(targets, given, strict=True)]


def summed(targets: list[Value], seeds: list[Tensor], bare: bool) -> dict[int, Any]:
    """The cotangents to start from, by key, as bare arrays or as tensors."""
    cotangents: dict[int, Any] = {}
    for x, seed in zip(targets, seeds, strict=True):
        if x.dtype.kind in "fc":
            g = seed._value if bare else seed
            cotangents[x._key] = cotangents[x._key] + g if x._key in cotangents else g
    return cotangents


def seed_of(x: Value, given: TensorLike) -> Tensor:
    if given is None:
        shape = x.values.shape if isinstance(x, IndexedSlices) else x.shape
        return Tensor(np.ones(shape, x.dtype)[()])
    if isinstance(given, IndexedSlices):
        given = densified(given)
    if not isinstance(given, Value):
        given = Tensor(as_array(given, x.dtype))
    if given.shape != x.shape:
        raise ShapeError(
            f"gradient: output_gradients of shape {given.shape} for a target of shape {x.shape}; give it the "
            "target's shape"
        )
    if given.dtype != x.dtype:
        raise DTypeError(
            f"gradient: output_gradients of dtype {given.dtype} for a target of {x.dtype}; cast it"
        )
    if isinstance(given, Variable):
        access(given)
    if isinstance(x, IndexedSlices):  # known by its values, each of which is added into the row of its index
        given = recorded.gather(given, x.indices)
    return alias(given)


def answer(g: Any, source: Value, absent: Absent) -> Tensor | IndexedSlices | None:
    if g is None:
        return absent(source, source.shape)
    if isinstance(g, (Rows, IndexedSlices)):
        return g.slices() if isinstance(g, Rows) else g
    return alias(g) if isinstance(g, Tensor) else Tensor(g)
