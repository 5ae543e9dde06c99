"""What is asked of a function besides its tensors, made plain: integers, numbers, lists; or an error."""

import contextlib
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

from gradtape.errors import ArgumentError, ShapeError

__all__ = ["brief", "listed", "number", "whole", "wholes"]


def brief(x: Any) -> str:
    """What something is, in 60 characters at most: arrays and tensors by dtype and shape."""
    if _is_array(x):
        with contextlib.suppress(ShapeError):  # of IndexedSlices that have none
            return f"{x.dtype}{x.shape}"
    if isinstance(x, (list, tuple)) and 0 < len(x) <= 8 and any(map(_is_array, x)):
        return f"[{', '.join(map(brief, x))}]"
    text = repr(x)
    return text if len(text) <= 60 else text[:57] + "..."


def _is_array(x: Any) -> bool:
    return isinstance(getattr(x, "dtype", None), np.dtype)


def whole(what: str, x: Any) -> int:
    """x as an int; ArgumentError if it is no integer."""
    try:
        return operator.index(x)
    except TypeError as problem:
        if type(problem) is not TypeError:  # of a tensor that cannot be read here
            raise
        raise ArgumentError(f"{what}: wanted an integer, got {brief(x)}") from None


def wholes(what: str, x: Any) -> tuple[int, ...]:
    """An integer, or a list of them, as a tuple of ints; ArgumentError if it is neither."""
    if isinstance(x, int) or getattr(x, "shape", None) == ():
        return (whole(what, x),)
    return tuple([whole(what, n) for n in listed(what, x, "integers")])


def number(what: str, x: Any) -> float:
    """x as a float; ArgumentError if it is no real number."""
    try:
        if not isinstance(x, (str, bytes)):
            return float(x)
    except (TypeError, ValueError) as problem:
        if type(problem) not in (TypeError, ValueError):
            raise
    raise ArgumentError(f"{what}: wanted a real number, got {brief(x)}")


def listed(what: str, x: Any, of: str) -> list[Any]:
    """x as a list; ArgumentError if it has no parts, or is itself one of what a list is wanted of."""
    single = isinstance(x, (str, bytes, np.generic)) or getattr(x, "shape", None) == ()
    if single or not isinstance(x, Iterable):
        raise ArgumentError(f"{what}: wanted a list of {of}, got {brief(x)}")
    return list(x)
