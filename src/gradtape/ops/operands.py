"""What an op is given, as bare arrays and their identities, and what its forward complained of, explained."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradtape import errors
from gradtape.batched import Batched
from gradtape.ops.namespace import recorded
from gradtape.recorders import access, tracer
from gradtape.slices import IndexedSlices, densified
from gradtape.tensor import Value, Variable, as_array, holds, with_key

__all__ = ["PYTHON", "REAL", "array_operand", "explained", "operands_apart", "operands_together", "weakened"]

REAL = frozenset([float, int, bool])
PYTHON = REAL | {complex}
_WEAK = PYTHON | {list, tuple}


def operand(x: Any) -> tuple[Any, int]:
    """The bare array and key of one operand; Python numbers pass as they are, for NumPy's weak promotion, and
    so does what differs from example to example.
    """
    if isinstance(x, Variable):
        access(x)
        return x._value, x._key
    if isinstance(x, IndexedSlices):
        x = densified(x)
    if type(x) is Batched:
        return x, x._key
    if isinstance(x, Value):
        return x._value, x._key
    if type(x) in PYTHON:
        return x, 0
    if isinstance(x, (list, tuple)) and holds(x, Value):
        return operand(recorded.stack(x))
    return as_array(x), 0


def array_operand(x: Any) -> tuple[Any, int]:
    """The same, with Python numbers made arrays."""
    value, key = operand(x)
    return (as_array(value), 0) if type(value) in PYTHON else (value, key)


def operands_apart(operands: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """Each operand by itself; None, for an optional one (never the first) that is not given, stays None."""
    pairs = [(None, 0) if x is None and i else array_operand(x) for i, x in enumerate(operands)]
    return [value for value, _ in pairs], [key for _, key in pairs]


def operands_together(
    together: Sequence[int], weakly: bool, operands: Sequence[Any]
) -> tuple[list[Any], list[int]]:
    """The bare arrays and keys of operands of which those at `together` are promoted together.

    Python numbers and lists of them are weak: they take the dtype that the others give them, as in NumPy. A
    number becomes an array of it, or, if `weakly`, stays as it is for NumPy's own operators to promote.
    """
    pairs = [(None, 0) if x is None and i not in together else operand(x) for i, x in enumerate(operands)]
    values: list[Any]
    values, keys = [value for value, _ in pairs], [key for _, key in pairs]
    weak = [i for i in together if type(operands[i]) in _WEAK and not keys[i]]
    if not weak and len(together) == len(operands):
        return values, keys
    dtypes = [values[i].dtype for i in together if i not in weak and values[i].dtype.kind != "b"]
    if weak and not dtypes:
        made = [as_array(operands[i]) for i in weak]
        inexact = {x.dtype for x in made if x.dtype.kind in "fc"}  # so that int32 with float32 is not float64
        for i, x in zip(weak, made, strict=True):
            values[i] = as_array(operands[i], np.result_type(*inexact)) if inexact else x
    for i in weak if dtypes else ():
        value = operands[i]
        if type(value) in (list, tuple):
            wanted = np.result_type(*dtypes, values[i].dtype.type(0).item())
            values[i] = values[i] if values[i].dtype == wanted else as_array(value, wanted)
        elif not weakly or type(value) is complex:  # whose own operators swallow an np.float64
            values[i] = as_array(value, np.result_type(*dtypes, value))
    for i, value in enumerate(values):
        if type(value) in PYTHON and i not in together:
            values[i] = as_array(value)
    return values, keys


def weakened(operands: Sequence[Any]) -> list[Any]:
    """Operands promoted together, those that are no values made arrays, for ops in terms of others."""
    values, keys = operands_together(range(len(operands)), False, operands)
    packed = [
        with_key(value, key) if key and type(value) is not Batched else value
        for value, key in zip(values, keys, strict=True)
    ]
    return [x if isinstance(x, Value) else made for x, made in zip(operands, packed, strict=True)]


def explained(name: str, problem: Exception, values: Sequence[Any]) -> Exception:
    """What a forward raised, as one of this package's errors that names the op and what it got; a function
    that is being recorded hears of it.
    """
    traced = tracer()
    if traced is not None:
        traced.failed()
    if type(problem).__module__ == errors.__name__:
        return problem
    got = ", ".join(f"{v.dtype}{v.shape}" if hasattr(v, "dtype") else repr(v) for v in values)
    for kind, sign, make, remedy in _REMEDIES:
        if isinstance(problem, kind) and sign in str(problem):
            return make(f"{name}: {problem} (got {got}); {remedy}" if got else f"{name}: {problem}; {remedy}")
    return problem


# What NumPy raises, a sign of it in the message, what it becomes, and the remedy.
_REMEDIES: list[tuple[type[Exception], str, Callable[[str], Exception], str]] = [
    (np.exceptions.AxisError, "", errors.AxisError, "axes run from -ndim to ndim - 1"),
    (np.linalg.LinAlgError, "", errors.LinearAlgebraError, "check the matrix's shape and its condition"),
    (
        ValueError,
        "broadcast",
        errors.ShapeError,
        "from the right, lengths must be equal or 1; reshape or expand_dims align them",
    ),
    (ValueError, "", errors.ShapeError, "see the op's documentation for what it takes"),
    (IndexError, "", errors.OutOfRangeError, "indices run from -n to n - 1 along an axis of length n"),
    (OverflowError, "", errors.DTypeError, "the integer does not fit the dtype; cast the operands"),
    (TypeError, "as an integer", errors.DTypeError, "axes, lengths and indices are integers"),
    (TypeError, "", errors.DTypeError, "cast the operands to what the op's documentation names"),
]
