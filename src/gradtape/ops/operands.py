"""What an op is given, as bare arrays and their identities, and what its forward complained of, explained."""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np

from gradtape import errors
from gradtape.arguments import brief
from gradtape.batched import Batched
from gradtape.ops.namespace import recorded
from gradtape.recorders import access, tracer
from gradtape.slices import IndexedSlices, densified
from gradtape.tensor import Value, Variable, as_array, holds, with_key

__all__ = [
    "PYTHON",
    "REAL",
    "array_operand",
    "complain",
    "explained",
    "is_of_a_body",
    "is_unnamed",
    "named",
    "of_elsewhere",
    "operands_apart",
    "operands_together",
    "weakened",
]

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


# -- what went wrong, explained ------------------------------------------------------------------------------


def explained(
    name: str, problem: Exception, values: Sequence[Any], statics: Mapping[str, Any] = MappingProxyType({})
) -> Exception:
    """What a forward raised, as one of this package's errors that names the op and what it got; a function
    that is being recorded hears of it.
    """
    traced = tracer()
    if traced is not None:
        traced.failed()
    if type(problem).__module__ == errors.__name__:
        return named(name, problem)
    if isinstance(problem, AttributeError) and any(value is None for value in values):
        problem = TypeError("wanted tensors, arrays or numbers, not None")
    got = ", ".join([*map(brief, values), *(f"{key}={brief(value)}" for key, value in statics.items())])
    text = str(problem).strip(" .")
    for kind, sign, make, says, remedy in _REMEDIES:
        if isinstance(problem, kind) and sign in text:
            says = says or text
            return make(f"{name}: {says} (got {got}); {remedy}" if got else f"{name}: {says}; {remedy}")
    return problem


def complain(
    name: str, problem: Exception, values: Sequence[Any], statics: Mapping[str, Any] = MappingProxyType({})
) -> NoReturn:
    """Raises it, explained; the cause is seen of an op that is declared elsewhere, and hidden of others."""
    told = explained(name, problem, values, statics)
    try:
        raise told from told.__cause__
    finally:
        del told, problem  # whose tracebacks hold this frame


def named(name: str, problem: Exception) -> Exception:
    """The problem, with the name of the op in front if it begins with no name yet."""
    return type(problem)(f"{name}: {problem}") if is_unnamed(problem) else problem


def is_of_a_body(problem: Exception) -> bool:
    """Whether the function that was called raised it in its body, and it is still to be explained.

    What does not fit a signature Python tells, and most errors of this package have said all.
    """
    told = type(problem).__module__ == errors.__name__ and not is_unnamed(problem)
    return not told and problem.__traceback__ is not None and problem.__traceback__.tb_next is not None


def is_unnamed(problem: Exception) -> bool:
    """Whether it is one of the errors that are raised where the op is not known, and begins with no name."""
    return isinstance(problem, _UNNAMED) and not _NAMED.match(str(problem))


_UNNAMED = (errors.DTypeError, errors.ShapeError, errors.LeavesTapeError, errors.PerExampleError)
_NAMED = re.compile(r"[\w.]+: ")


def of_elsewhere(name: str, forward: Callable[..., Any]) -> Callable[..., Any]:
    """The forward of an op that is declared outside of this package: its results are looked at, and what it
    raises stays to be seen, as the cause of the error.
    """
    if isinstance(forward, np.ufunc):  # which gives arrays
        return forward

    @functools.wraps(forward)
    def checked(*args: Any) -> Any:
        try:
            out = forward(*args)
        except Exception as problem:
            told = explained(name, problem, args)
            try:
                raise told from (problem.__cause__ if told is problem else problem)
            finally:
                del told  # whose traceback holds this frame
        for part in out if isinstance(out, (list, tuple)) else [out]:
            if not isinstance(part, (np.ndarray, np.generic)):
                raise errors.NotATensorError(
                    f"{name}: its forward returned {brief(part)} of type {type(part).__name__}; wanted an "
                    "array, or a list or tuple of arrays, so return np.asarray(...)"
                )
        return out

    return checked


_ALIGN = "from the right, lengths must be equal or 1; reshape or expand_dims align them"
_INTEGERS = "axes, lengths and indices are integers"
_NO_SUCH_DTYPE = "it is not defined for these dtypes"
_CAST = "cast the operands to a dtype that it takes"

# What NumPy raises, a sign of it in the message, what it becomes, what it says if not that, and the remedy.
_REMEDIES: list[tuple[type[Exception], str, Callable[[str], Exception], str | None, str]] = [
    (np.exceptions.AxisError, "", errors.AxisError, None, "axes run from -ndim to ndim - 1"),
    (np.linalg.LinAlgError, "", errors.LinearAlgebraError, None, "check it, its shape and its condition"),
    (ValueError, "remapped shapes", errors.ShapeError, "the array does not broadcast to that shape", _ALIGN),
    (ValueError, "broadcast", errors.ShapeError, None, _ALIGN),
    (ValueError, "duplicate value", errors.AxisError, None, "name each axis once"),
    (ValueError, "repeated axis", errors.AxisError, None, "name each axis once"),
    (ValueError, "axes don't match", errors.AxisError, None, "name each axis of the array once"),
    (ValueError, "cannot reshape", errors.ShapeError, None, "it must hold all elements; -1 finds a length"),
    (ValueError, "same shape", errors.ShapeError, None, "reshape or pad them, or use concat"),
    (ValueError, "all the input array", errors.ShapeError, None, "lengths may differ along that axis only"),
    (ValueError, "squeeze out", errors.ShapeError, None, "only axes of length 1 can be taken out"),
    (ValueError, "zero-size array", errors.ShapeError, None, "none is the largest or least of no elements"),
    (ValueError, "empty sequence", errors.ShapeError, None, "none is the largest or least of no elements"),
    (ValueError, "negative dimensions", errors.ShapeError, None, "lengths count from 0"),
    (ValueError, "", errors.ShapeError, None, "see the op's documentation for what it takes"),
    (IndexError, "", errors.OutOfRangeError, None, "indices run from -n to n - 1 along an axis of length n"),
    (OverflowError, "", errors.DTypeError, None, "the integer does not fit the dtype; cast the operands"),
    (TypeError, "not None", errors.DTypeError, None, "only what is optional may be None"),
    (TypeError, "integer", errors.DTypeError, None, _INTEGERS),
    (TypeError, "not iterable", errors.DTypeError, None, _INTEGERS),
    (TypeError, "for the input types", errors.DTypeError, _NO_SUCH_DTYPE, _CAST),
    (TypeError, "did not contain a loop", errors.DTypeError, _NO_SUCH_DTYPE, _CAST),
    (TypeError, "", errors.DTypeError, None, _CAST),
]
