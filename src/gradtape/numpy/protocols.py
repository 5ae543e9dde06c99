"""NumPy's protocols: what `np.sin(t)`, `np.sum(t, axis=0)` or `array + t` do when `t` is a tensor or a
variable.

`__array_ufunc__` and `__array_function__` look NumPy's own functions up in two tables, whose entries take
NumPy's arguments. What is not in the tables raises UnsupportedFunctionError, never silently leaves the tape.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import gradtape.numpy as gnp
from gradtape.errors import UnsupportedFunctionError
from gradtape.numpy import functions
from gradtape.ops import accumulation, arithmetic, einsum, joining, making, norms, reduction, shaping
from gradtape.ops import linalg as matrices
from gradtape.ops.namespace import recorded
from gradtape.ops.operands import is_unnamed, named, weakened
from gradtape.recorders import tracer
from gradtape.tensor import Tensor, TensorLike, Value

__all__ = ["FUNCTIONS", "UFUNCS"]


# -- NumPy's functions where their arguments differ from the array API standard's ----------------------------


def _cumulative(along: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def cumulative(a: TensorLike, axis: int | None = None) -> Tensor:
        return along(shaping.reshape(a, (-1,)), 0) if axis is None else along(a, axis)

    return cumulative


def _split(ary: TensorLike, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    if isinstance(indices_or_sections, (int, np.integer)):
        return list(joining.split(ary, int(indices_or_sections), axis))
    edges = [0, *(int(i) for i in indices_or_sections), making.convert_to_tensor(ary).shape[axis]]
    return list(joining.split(ary, [b - a for a, b in itertools.pairwise(edges)], axis))


def _concatenate(arrays: Sequence[TensorLike], axis: int | None = 0) -> Tensor:
    return functions.concat(arrays, axis)


def _pad(
    array: TensorLike, pad_width: Any, mode: str = "constant", constant_values: TensorLike = 0
) -> Tensor:
    ndim = making.convert_to_tensor(array).ndim
    widths = np.broadcast_to(np.asarray(pad_width), (ndim, 2)).tolist()
    return shaping.pad(array, widths, mode.upper(), constant_values)


def _dot(a: TensorLike, b: TensorLike) -> Tensor:
    left, right = (making.convert_to_tensor(x) for x in weakened([a, b]))
    if not left.ndim or not right.ndim:
        return left * right
    return einsum.tensordot(left, right, [[left.ndim - 1], [max(right.ndim - 2, 0)]])


def _outer(a: TensorLike, b: TensorLike) -> Tensor:
    left, right = weakened([a, b])
    return shaping.reshape(left, (-1, 1)) * shaping.reshape(right, (1, -1))


def _ravel(a: TensorLike) -> Tensor:
    return shaping.reshape(a, (-1,))


def _clip(
    a: TensorLike,
    a_min: TensorLike = None,
    a_max: TensorLike = None,
    *,
    min: TensorLike = None,
    max: TensorLike = None,
) -> Tensor:
    return functions.clip(a, a_min if min is None else min, a_max if max is None else max)


def _tile(A: TensorLike, reps: Any) -> Tensor:
    return functions.tile(A, reps)


def _diag(v: TensorLike, k: int = 0) -> Tensor:
    v = making.convert_to_tensor(v)
    return matrices.diag(v, k) if v.ndim == 1 else matrices.diag_part(v, k)


def _as_dtype(a: TensorLike, dtype: Any) -> TensorLike:
    return a if dtype is None else making.cast(a, dtype)


def _mean(a: TensorLike, axis: Any = None, dtype: Any = None, *, keepdims: bool = False) -> Tensor:
    return gnp.mean(_as_dtype(a, dtype), axis, keepdims)


def _diagonal(a: TensorLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    return gnp.linalg.diagonal(gnp.moveaxis(a, (axis1, axis2), (-2, -1)), offset)


def _trace(a: TensorLike, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Tensor:
    return reduction.reduce_sum(_as_dtype(_diagonal(a, offset, axis1, axis2), dtype), -1)


def _variance(of: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def variance(
        a: TensorLike,
        axis: Any = None,
        dtype: Any = None,
        *,
        ddof: float = 0,
        keepdims: bool = False,
        correction: float | None = None,
    ) -> Tensor:
        return of(_as_dtype(a, dtype), axis, ddof if correction is None else correction, keepdims)

    return variance


def _round(a: TensorLike, decimals: int = 0) -> Tensor:
    if not decimals:
        return arithmetic.round(a)
    return making.convert_to_tensor(np.round(making.convert_to_tensor(a).numpy(), decimals))


def _angle(z: TensorLike, deg: bool = False) -> Tensor:
    return arithmetic.angle(z) * (180 / math.pi) if deg else arithmetic.angle(z)


def _at_least(n: int) -> Callable[..., Any]:
    """numpy.atleast_1d and its like: axes of length 1 in front, and in three dimensions one behind."""

    def call(*arys: TensorLike) -> Any:
        found = []
        for a in arys:
            x = making.convert_to_tensor(a)
            behind = 1 if n == 3 and x.ndim in (1, 2) else 0
            front = max(n - x.ndim - behind, 0)
            found.append(shaping.reshape(x, (*(1,) * front, *x.shape, *(1,) * behind)))
        return found[0] if len(found) == 1 else tuple(found)

    return call


def _where(condition: TensorLike, *values: TensorLike) -> Any:
    return gnp.where(condition, *values) if values else gnp.nonzero(condition)


def _norm(x: TensorLike, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    x = making.convert_to_tensor(x)
    if ord is not None and axis is None and x.ndim == 2:
        axis = (-2, -1)
    return norms.norm(x, "euclidean" if ord is None else ord, axis, keepdims)


def _sort(find: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def ordered(a: TensorLike, axis: int | None = -1, stable: bool = True) -> Tensor:
        return find(shaping.reshape(a, (-1,))) if axis is None else find(a, axis)

    return ordered


def _like(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda a, *args, **keywords: make(a, *args, **keywords)


def _on_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose result no derivative flows through, on the bare arrays."""

    def call(*args: Any, **keywords: Any) -> Any:
        return function(*(x.numpy() if isinstance(x, Value) else x for x in args), **keywords)

    return call


def _on_shapes(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that asks for no more than shapes and dtypes, which are there for many examples too."""

    def stand_in(x: Any) -> Any:
        return np.broadcast_to(np.zeros((), x.dtype), x.shape) if isinstance(x, Value) else x

    return lambda *args, **keywords: function(*map(stand_in, args), **keywords)


# -- the tables ----------------------------------------------------------------------------------------------

UFUNCS: dict[Any, Callable[..., Any]] = {
    **{f: getattr(gnp, name) for name in gnp.__all__ if isinstance(f := getattr(np, name, None), np.ufunc)},
    np.conjugate: gnp.conj,
    np.power: gnp.pow,
    np.float_power: gnp.pow,
    np.true_divide: gnp.divide,
    np.absolute: gnp.abs,
    np.fabs: gnp.abs,
    np.positive: making.identity,
    np.arcsin: gnp.asin,
    np.arccos: gnp.acos,
    np.arctan: gnp.atan,
    np.arctan2: gnp.atan2,
    np.arcsinh: gnp.asinh,
    np.arccosh: gnp.acosh,
    np.arctanh: gnp.atanh,
    np.rint: gnp.round,
    np.matmul: gnp.matmul,
}

# The functions whose arguments are the array API standard's already.
_SAME = """
    all any argmax argmin astype broadcast_arrays broadcast_to clip cumulative_prod cumulative_sum einsum
    expand_dims flip full_like imag matrix_transpose max min moveaxis nonzero ones_like prod real repeat
    reshape roll squeeze stack sum swapaxes take tensordot tile unstack zeros_like
""".split()  # noqa: SIM905

FUNCTIONS: dict[Any, Callable[..., Any]] = {
    **{getattr(np, name): getattr(gnp, name) for name in _SAME if hasattr(np, name) and hasattr(gnp, name)},
    **{
        getattr(np.linalg, name): getattr(gnp.linalg, name)
        for name in gnp.linalg.__all__
        if hasattr(np.linalg, name)
    },
    np.amax: gnp.max,
    np.amin: gnp.min,
    np.atleast_1d: _at_least(1),
    np.atleast_2d: _at_least(2),
    np.atleast_3d: _at_least(3),
    np.angle: _angle,
    np.around: _round,
    np.round: _round,
    np.argsort: _sort(gnp.argsort),
    np.sort: _sort(gnp.sort),
    np.concatenate: _concatenate,
    np.clip: _clip,
    np.cumsum: _cumulative(accumulation.cumsum),
    np.cumprod: _cumulative(accumulation.cumprod),
    np.diag: _diag,
    np.diagonal: _diagonal,
    np.dot: _dot,
    np.linalg.norm: _norm,
    np.mean: _mean,
    np.outer: _outer,
    np.pad: _pad,
    np.ravel: _ravel,
    np.split: _split,
    np.std: _variance(gnp.std),
    np.var: _variance(gnp.var),
    np.tile: _tile,
    np.trace: _trace,
    np.transpose: gnp.permute_dims,
    np.where: _where,
    **{
        f: _on_arrays(f)
        for f in (
            np.allclose,
            np.array_equal,
            np.isclose,
            np.array2string,
            np.array_repr,
            np.array_str,
        )
    },
    **{
        f: _on_shapes(f)
        for f in (
            np.ndim,
            np.shape,
            np.size,
            np.iscomplexobj,
            np.isrealobj,
            np.result_type,
            np.can_cast,
        )
    },
}


# What NumPy and SciPy call an op that goes by another name here.
_ELSEWHERE = {"expit": "sigmoid", "gammaln": "lgamma", "logsumexp": "reduce_logsumexp", "psi": "digamma"}
_METHODS: dict[tuple[Any, str], str] = {
    (np.add, "reduce"): "sum",
    (np.multiply, "reduce"): "prod",
    (np.maximum, "reduce"): "max",
    (np.minimum, "reduce"): "min",
    (np.logical_and, "reduce"): "all",
    (np.logical_or, "reduce"): "any",
    (np.add, "accumulate"): "cumsum",
    (np.multiply, "accumulate"): "cumprod",
    (np.multiply, "outer"): "outer",
}


def _unsupported(f: Any, table: dict[Any, Any]) -> UnsupportedFunctionError:
    """That f has no op, what comes nearest, and how to leave the tape on purpose."""
    import difflib

    module = getattr(f, "__module__", "numpy" if getattr(np, f.__name__, None) is f else "scipy.special")
    full = f"{module}.{f.__name__}"
    here = _ELSEWHERE.get(f.__name__, f.__name__)
    if hasattr(recorded, here):
        advice = f"the op of that name here is gradtape's {here}"
    else:
        known = sorted({g.__name__ for g in table})
        close = difflib.get_close_matches(f.__name__, known, n=1, cutoff=0.75)
        advice = (
            f"the nearest that has one is numpy.{close[0]}"
            if close
            else "write it with functions that have one"
        )
    if tracer() is not None:
        off = f"gradtape.numpy_function({full}, [t], t.dtype) calls it, without a derivative"
    else:
        off = f"{full} of np.asarray(t) works on the bare array, off the tape"
    return UnsupportedFunctionError(f"{full} has no op here; {advice}, and {off}")


def _call(f: Any, table: dict[Any, Any], args: Sequence[Any], keywords: dict[str, Any]) -> Any:
    if f not in table:
        raise _unsupported(f, table)
    keywords = {name: value for name, value in keywords.items() if not (name == "out" and value is None)}
    for name in ("out", "where", "casting", "order", "subok", "initial"):
        if name in keywords:
            remedy = "take the result, as in a = a + t for a += t" if name == "out" else "leave it out"
            raise UnsupportedFunctionError(f"numpy.{f.__name__}: no {name}= with a tensor; {remedy}")
    try:
        return table[f](*args, **keywords)
    except Exception as problem:
        if is_unnamed(problem):
            raise named(f"numpy.{f.__name__}", problem) from None
        if type(problem) is TypeError:
            told = str(problem).rpartition("() ")[2]  # without the name of what stands for f here
            raise UnsupportedFunctionError(f"numpy.{f.__name__} with a tensor: {told}") from None
        raise


# How to write methods of NumPy's arrays that tensors have not, where a function of that name will not do.
_INSTEAD = {
    "astype": "gradtape.cast(t, dtype)",
    "copy": "gradtape.identity(t)",
    "fill": "t[...] = value",
    "flatten": "numpy.ravel(t)",
    "item": "t.numpy().item()",
    "tolist": "t.numpy().tolist()",
    "view": "gradtape.cast(t, dtype) or gradtape.reshape(t, shape)",
}


class _Elsewhere:
    """Stands where an array has an attribute and a tensor has not, and says what to write.

    A `__getattr__` could say so too, but would make every other attribute slower to read.
    """

    def __init__(self, name: str) -> None:
        function = getattr(np, name, None)
        if name in _INSTEAD:
            self.advice = f"write {_INSTEAD[name]}"
        elif function in FUNCTIONS or function in UFUNCS:
            self.advice = f"write numpy.{name}(t, ...), which tapes follow"
        else:
            self.advice = f"the bare array has it, off the tape: t.numpy().{name}"
        self.name = name

    def __get__(self, x: Value | None, kind: type[Value]) -> Any:
        raise AttributeError(
            f"{kind.__name__!r} object has no attribute {self.name!r}; {self.advice}", name=self.name, obj=x
        )


def _attributes(self: Value) -> list[str]:
    """What a tensor has, without what it only tells of."""
    return [name for name in object.__dir__(self) if name not in _MISSING]


def _array_ufunc(self: Value, ufunc: np.ufunc, method: str, *inputs: Any, **keywords: Any) -> Any:
    if method != "__call__":
        nearest = _METHODS.get((ufunc, method), ufunc.__name__)
        raise UnsupportedFunctionError(
            f"numpy.{ufunc.__name__}.{method} has no op here; the nearest that has one is numpy.{nearest}"
        )
    return _call(ufunc, UFUNCS, inputs, keywords)


def _array_function(self: Value, function: Any, _: Any, args: Sequence[Any], keywords: dict[str, Any]) -> Any:
    return _call(function, FUNCTIONS, args, keywords)


Value.__array_ufunc__ = _array_ufunc  # type: ignore[attr-defined]
Value.__array_function__ = _array_function  # type: ignore[attr-defined]

_MISSING = frozenset(name for name in dir(np.ndarray) if name[0] != "_" and not hasattr(Value, name))
for _name in _MISSING:
    setattr(Value, _name, _Elsewhere(_name))
Value.__dir__ = _attributes  # type: ignore[assignment, method-assign]
