"""Looking at numbers: whether any is NaN or infinite, where the first is, and a value in one line."""

import cmath
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from gradtape.batched import Batched
from gradtape.slices import IndexedSlices, Rows
from gradtape.tensor import Tensor, Value

__all__ = [
    "Odd",
    "holds_numbers",
    "is_finite",
    "like",
    "number",
    "odd_kinds",
    "odd_one",
    "parts",
    "plain",
    "shown",
]


def parts(value: Any) -> Iterator[Any]:
    """The real and complex arrays in what an op got or gave: arrays, tensors, slices, numbers, lists of them.

    What is neither, such as a shape or None, has none.
    """
    if isinstance(value, (np.ndarray, np.generic)):
        if value.dtype.kind in "fc":
            yield value
    elif isinstance(value, Batched):
        yield from parts(value.examples)
    elif isinstance(value, IndexedSlices):
        yield from parts(value.values)
    elif isinstance(value, Value):
        yield from parts(value._value)
    elif isinstance(value, Rows):
        for rows, _ in value.parts:
            yield from parts(rows)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from parts(part)
    elif type(value) in (float, complex):
        yield np.asarray(value)


def holds_numbers(value: Any) -> bool:
    """Whether there are numbers in what an op got or gave, integers in arrays among them."""
    is_whole = isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "iu"
    return is_whole or next(parts(value), None) is not None


_SMALL = 5000  # elements, below which BLAS starts no threads


def is_finite(value: Any) -> bool:
    """Whether nothing in a value is NaN or infinite; quick for what is small, if the sum of squares tells."""
    kind = type(value)
    if kind is Tensor:
        value = value._value
        kind = type(value)
    if kind is np.float32 or kind is np.float64:
        return math.isfinite(value)
    if kind is np.ndarray:
        if value.size < _SMALL and value.dtype.char in "fd" and math.isfinite(np.vdot(value, value)):
            return True
        return value.dtype.kind not in "fc" or bool(np.isfinite(value).all())
    return all(bool(np.isfinite(part).all()) for part in parts(value))


def odd_kinds(value: Any) -> set[str]:
    """Which of "nan" and "inf" are among the elements of a value."""
    found = set()
    for part in parts(value):
        if np.isnan(part).any():
            found.add("nan")
        if np.isinf(part).any():
            found.add("inf")
    return found


class Odd(NamedTuple):
    """What is odd in an array: how many elements are (odds), where the first of them stands, and its name."""

    array: Any
    odds: int
    place: tuple[int, ...]
    name: str  # "NaN", "inf" or "-inf"


def odd_one(value: Any, kind: str) -> Odd:
    """The elements of this kind, "nan" or "inf", in the first array of the value that has any."""
    look = np.isnan if kind == "nan" else np.isinf
    array, mask = next((part, look(part)) for part in parts(value) if look(part).any())
    place = tuple(int(i) for i in np.unravel_index(int(np.argmax(mask)), mask.shape))
    element = complex(array[place])
    largest = max(element.real, element.imag, key=lambda x: (math.isinf(x), abs(x)))
    return Odd(array, int(mask.sum()), place, "NaN" if kind == "nan" else number(largest))


def plain(value: Any) -> Any:
    """A value as one bare array, that of all examples if it has some; None if it is none."""
    if isinstance(value, Batched):
        return plain(value.examples)
    if isinstance(value, Value):
        return value._value
    is_number = isinstance(value, (np.ndarray, np.generic)) or type(value) in (bool, int, float, complex)
    return value if is_number else None


def number(x: Any) -> str:
    """A number as it is shown: with all digits that tell it from its neighbours in its dtype."""
    z = complex(x)
    if cmath.isnan(z):
        return "NaN"
    return str(x) if z.imag or not isinstance(x, (complex, np.complexfloating)) else str(x.real)


def shown(value: Any) -> str:
    """A value in one line: dtype, shape, and from where to where it goes."""
    if isinstance(value, (list, tuple)):
        return "; ".join("none" if part is None else shown(part) for part in value)
    if isinstance(value, (IndexedSlices, Rows)):
        rows = "; ".join(shown(part) for part in parts(value))
        return f"{like(value)}, whose rows are {rows}"
    if type(value) in (bool, int, float, complex):
        return number(value)
    return f"{like(value)}, {_range(np.asarray(plain(value)))}"


def like(value: Any) -> str:
    """The dtype and shape of an array or tensor; of how many, if it is one for each example."""
    if isinstance(value, Batched):
        return f"{value.dtype} {value.shape} for each of {value.mapping.size}"
    if isinstance(value, (IndexedSlices, Rows)):
        return f"slices of shape {value.shape}"
    array = np.asarray(plain(value))
    return f"{array.dtype} {array.shape}"


def _range(array: Any) -> str:
    if not array.size:
        return "empty"
    if array.dtype.kind == "b":
        return f"{int(array.sum())} of {array.size} true"
    if array.size == 1:
        return number(array.reshape(())[()])
    sizes, of = (abs(array), "in magnitude ") if array.dtype.kind == "c" else (array, "")
    known = sizes[~np.isnan(sizes)]
    if not known.size:
        return "all NaN"
    least, most = number(known.min()), number(known.max())
    nans = f", {array.size - known.size} NaN" if known.size < array.size else ""
    return f"{of}all {least}{nans}" if least == most else f"{of}from {least} to {most}{nans}"
