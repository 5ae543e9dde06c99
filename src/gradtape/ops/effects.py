"""Effects: what an op does besides computing, which is done, in order, each time it runs."""

import builtins
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradtape.arguments import listed
from gradtape.errors import ArgumentError, DTypeError, ShapeError, StructureError
from gradtape.ops.namespace import recorded
from gradtape.ops.op import Op
from gradtape.recorders import access, listening, tracer, unheard
from gradtape.replay import Sealed, unseen, view
from gradtape.structure import unflattened
from gradtape.tensor import Array, DTypeLike, Tensor, TensorLike, Value, Variable, as_array, as_dtype

__all__ = ["Raised", "effect", "had", "had_again", "happen", "having_happened", "numpy_function", "print"]


def effect(name: str) -> Op:
    """An op that does something each time it runs: what its last static attribute says."""
    op = Op(name, lambda *given: given[-1](*given[:-1]), (), "", primitive=False)
    op.pure = False
    return op


def happen(op: Op, operands: Sequence[Value], do: Callable[..., Sequence[Array]]) -> list[Tensor]:
    """Does it with the bare operands, and returns what came of it; where a function is run again to find out
    how it got where it is, what came of it then.
    """
    seen = view()
    then = seen and seen.happened()
    if isinstance(then, list):
        return [x if isinstance(x, Tensor) else Tensor(x) for x in then]
    return having_happened(op, operands, do)


def having_happened(op: Op, operands: Sequence[Value], do: Callable[..., Sequence[Array]]) -> list[Tensor]:
    """Does it, and tells a function that is being recorded, and who notes outcomes, what came of it."""
    traced, seen = tracer(), view()
    if traced is not None:
        found = traced.happens(op, operands, do)
    else:
        given = [x._value for x in operands]
        outcome = do(*given)
        found = [Tensor(x) for x in outcome]
        for recorder in listening():
            keys = (*(x._key for x in operands), tuple(x._key for x in found))
            recorder.record(op, keys, (*given, tuple(outcome)), False)
    if seen:
        seen.happens(list[Any](found))
    return found


class Raised:
    """What came of an effect that raised."""

    def __init__(self, problem: Exception) -> None:
        self.problem = problem


def had(do: Callable[..., Sequence[Array]], *arrays: Array) -> Any:
    """What comes of an effect of a function that is being recorded: its results, or that it raised."""
    with unheard(), unseen():
        return had_again((), do, *arrays)


def had_again(assigned: Sequence[Variable], do: Callable[..., Sequence[Array]], *arrays: Array) -> Any:
    """The same of a compiled one; the last arrays are what these variables are about to have for values."""
    n = len(arrays) - len(assigned)
    try:
        with Sealed({v._key: value for v, value in zip(assigned, arrays[n:], strict=True)}):
            found = do(*arrays[:n])
        return [x._value if isinstance(x, Tensor) else x for x in found]
    except Exception as problem:
        return Raised(problem)


# -- seeing, and calling out ---------------------------------------------------------------------------------

_PRINT, _NUMPY_FUNCTION = effect("print"), effect("numpy_function")
_NUMPY_FUNCTION.varies = True


def print(
    *inputs: Any, output_stream: Any = None, sep: str = " ", end: str = "\n", name: str | None = None
) -> None:
    """Prints tensors, as NumPy prints their values, and anything else, as Python does; to `output_stream`, by
    default sys.stderr.

    In a `function` it prints at each call, where Python's own `print` does so only when it is recorded.

    >>> import sys
    >>> gt.print("x =", gt.constant([1.0, 2.0]), {"n": gt.constant(3)}, output_stream=sys.stdout)
    x = [1. 2.] {'n': 3}
    """
    flat, rebuild = unflattened(list(inputs))
    places = [i for i, x in enumerate(flat) if isinstance(x, Value)]
    for i in places:
        if isinstance(flat[i], Variable):
            access(flat[i])

    def do(*arrays: Array) -> Sequence[Array]:
        shown = [*flat]
        for i, array in zip(places, arrays, strict=True):
            shown[i] = array if array.ndim else array.item()
        builtins.print(*rebuild(shown), sep=sep, end=end, file=output_stream or sys.stderr)
        return []

    happen(_PRINT, [recorded.convert_to_tensor(flat[i]) for i in places], do)


def numpy_function(
    func: Callable[..., Any],
    inp: Sequence[TensorLike],
    Tout: DTypeLike | Sequence[DTypeLike],
    name: str | None = None,
) -> Any:
    """What `func` makes of the values of `inp`, as NumPy arrays; in a `function`, it is called at each call.

    Tout: the dtype of its result, or a list of those of several. No derivative flows through it
    (`custom_gradient` around it can give one). Raises DTypeError or StructureError if `func` returns
    something else.

    >>> gt.numpy_function(lambda x: np.sort(x)[::-1], [gt.constant([1.0, 3.0, 2.0])], "float32")
    <tf.Tensor: shape=(3,), dtype=float32, numpy=array([3., 2., 1.], dtype=float32)>
    """
    if not callable(func):
        raise ArgumentError(f"numpy_function: wanted a function, got {type(func).__name__}")
    what = f"numpy_function: {getattr(func, '__name__', type(func).__name__)}"
    given = listed("numpy_function: inp", inp, "the arguments, as in [x]")
    several = isinstance(Tout, (list, tuple))
    wanted = [as_dtype(dtype) for dtype in (Tout if several else [Tout])]

    def do(*arrays: Array) -> Sequence[Array]:
        found = func(*map(_read_only, arrays))
        parts = list(found) if several and isinstance(found, (list, tuple)) else [found]
        if len(parts) != len(wanted):
            raise StructureError(f"{what} returned {len(parts)} results; Tout says {len(wanted)}")
        results = []
        for part, dtype in zip(parts, wanted, strict=True):
            plain = isinstance(part, (bool, int, float, complex, list, tuple))
            try:
                array = as_array(part, dtype if plain else None)
            except (DTypeError, ShapeError) as problem:
                raise type(problem)(f"{what} returned no array of numbers: {problem}") from None
            if array.dtype != dtype:
                raise DTypeError(f"{what} returned {array.dtype}; Tout says {dtype}: cast it, or change Tout")
            results.append(array)
        return results

    tensors = happen(_NUMPY_FUNCTION, [recorded.convert_to_tensor(x) for x in given], do)
    return tensors if several else tensors[0]


def _read_only(array: Array) -> Array:
    if isinstance(array, np.ndarray):
        array = array.view()
        array.flags.writeable = False
    return array
