"""What an op is given, as bare arrays and their identities, and what its forward complained of, explained."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradtape import errors
from gradtape.ops.namespace import recorded
from gradtape.recorders import local
from gradtape.tensor import Value, Variable, as_array, holds

__all__ = ["PYTHON", "REAL", "array_operand", "explained", "operands_apart", "operands_together"]

REAL = frozenset([float, int, bool])
PYTHON = REAL | {complex}


def operand(x: Any) -> tuple[Any, int]:
    """The bare array and key of one operand; Python numbers pass as they are, for NumPy's weak promotion."""
    if isinstance(x, Variable):
        for recorder in local.recorders:
            recorder.accessed(x)
        return x._value, x._key
    if isinstance(x, Value):
        return x._value, x._key
    if type(x) in PYTHON:
        return x, 0
    if isinstance(x, (list, tuple)) and holds(x, Value):
        packed = recorded.stack(x)
        return packed._value, packed._key
    return as_array(x), 0


def array_operand(x: Any) -> tuple[Any, int]:
    """The same, with Python numbers made arrays."""
    value, key = operand(x)
    return (as_array(value), 0) if type(value) in PYTHON else (value, key)


def operands_apart(operands: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """Each operand by itself; None, for an optional one (never the first) that is not given, stays None."""
    pairs = [(None, 0) if x is None and i else array_operand(x) for i, x in enumerate(operands)]
    return [value for value, _ in pairs], [key for _, key in pairs]


def operands_together(operands: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """The bare arrays and keys of operands promoted together, Python numbers and lists of them being weak."""
    pairs = [operand(x) for x in operands]
    values = [value for value, _ in pairs]
    weak = [i for i, x in enumerate(operands) if type(x) in (*PYTHON, list, tuple) and not pairs[i][1]]
    dtypes = [value.dtype for i, value in enumerate(values) if i not in weak and value.dtype.kind != "b"]
    if weak and not dtypes:
        made = [as_array(operands[i]) for i in weak]
        inexact = {x.dtype for x in made if x.dtype.kind in "fc"}  # so that int32 with float32 is not float64
        for i, x in zip(weak, made, strict=True):
            values[i] = as_array(operands[i], np.result_type(*inexact)) if inexact else x
    for i in weak if dtypes else ():
        if type(operands[i]) in (list, tuple):
            wanted = np.result_type(*dtypes, values[i].dtype.type(0).item())
            values[i] = values[i] if values[i].dtype == wanted else as_array(operands[i], wanted)
        elif type(operands[i]) is complex:  # whose own operators would take a NumPy scalar for a Python float
            values[i] = as_array(operands[i], np.result_type(*dtypes, 0j))
    return values, [key for _, key in pairs]


def explained(name: str, problem: Exception, values: Sequence[Any]) -> Exception:
    """What a forward raised, as one of this package's errors that names the op and what it got."""
    if type(problem).__module__ == errors.__name__:
        return problem
    got = ", ".join(f"{v.dtype}{v.shape}" if hasattr(v, "dtype") else repr(v) for v in values)
    kinds: list[tuple[type[Exception], Callable[[str], Exception], str]] = [
        (np.exceptions.AxisError, errors.AxisError, "axes run from -ndim to ndim - 1"),
        (np.linalg.LinAlgError, errors.LinearAlgebraError, "check the matrix's shape and its condition"),
        (
            ValueError,
            errors.ShapeError,
            "see the op's documentation for the shapes it takes; reshape or expand_dims align them",
        ),
        (IndexError, errors.OutOfRangeError, "indices run from -n to n - 1 along an axis of length n"),
        (TypeError, errors.DTypeError, "cast the operands, or see the op's documentation for what it takes"),
    ]
    for kind, make, remedy in kinds:
        if isinstance(problem, kind):
            return make(f"{name}: {problem} (got {got}); {remedy}")
    return problem
