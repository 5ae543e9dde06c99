"""Reductions: sums, products, extremes and norms over axes; running sums and products along one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradtape.errors import AxisError, DTypeError
from gradtape.ops.namespace import Namespace, raw
from gradtape.ops.op import composite, op
from gradtape.ops.sample import Sample, Uniform
from gradtape.tensor import Array, DTypeLike, Tensor, TensorLike, as_dtype, convert_to_array

__all__ = [
    "argmax",
    "argmin",
    "clip_by_global_norm",
    "clip_by_norm",
    "cumprod",
    "cumsum",
    "global_norm",
    "norm",
    "reduce_all",
    "reduce_any",
    "reduce_logsumexp",
    "reduce_max",
    "reduce_mean",
    "reduce_min",
    "reduce_prod",
    "reduce_std",
    "reduce_sum",
    "reduce_variance",
]

Axes = int | Sequence[int] | None
_sum: Any = np.add.reduce  # (array, axis, dtype, out, keepdims)
_product: Any = np.multiply.reduce
_any: Any = np.logical_or.reduce
_all: Any = np.logical_and.reduce


def _spread(xp: Namespace, g: Any, shape: tuple[int, ...], axis: Any, keepdims: bool) -> Any:
    """What a reduction made, put back over the axes it reduced."""
    if not (axis is None or keepdims):
        n = len(shape)
        gone = {a % n for a in (axis if isinstance(axis, tuple) else (axis,))} if n else ()
        g = xp.reshape(g, tuple(1 if i in gone else length for i, length in enumerate(shape)))
    return xp.broadcast_to(g, shape)


AXES = [
    Sample((3, 4)),
    Sample((3, 4), axis=0),
    Sample((2, 3, 2), axis=[0, -1]),
    Sample((2, 3, 2), axis=-2, keepdims=True),
    Sample((3, 4), keepdims=True),
    Sample((3, 4), axis=[]),
    Sample(()),
]
EMPTY = [Sample((0, 2)), Sample((0, 2), axis=0), Sample((0, 2), axis=1)]


@op(
    vjp=lambda xp, g, input_tensor_shape, axis, keepdims: _spread(xp, g, input_tensor_shape, axis, keepdims),
    samples=AXES + EMPTY,
    dtypes="efdFD",
)
def reduce_sum(input_tensor: TensorLike, axis: Axes = None, keepdims: bool = False) -> Array:
    """The sum over the axes given, all of them by default; integers keep their dtype.

    >>> gt.reduce_sum([[1.0, 2.0], [3.0, 4.0]], axis=0)
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([4., 6.], dtype=float32)>
    """
    dtype = input_tensor.dtype
    return _sum(input_tensor, axis, dtype if dtype.kind in "iu" else None, None, keepdims)


def _mean_vjp(xp: Namespace, g: Any, input_tensor_shape: tuple[int, ...], axis: Any, keepdims: bool) -> Any:
    n = _length(input_tensor_shape, axis)
    return _spread(xp, g / n if n > 1 else g, input_tensor_shape, axis, keepdims)


def _length(shape: tuple[int, ...], axis: Any) -> int:
    """How many elements a reduction over `axis` puts into one."""
    if axis is None:
        return math.prod(shape)
    return math.prod(shape[a] for a in (axis if isinstance(axis, tuple) else (axis,)) if shape)


@op(vjp=_mean_vjp, samples=AXES + EMPTY, dtypes="efdFD")
def reduce_mean(input_tensor: TensorLike, axis: Axes = None, keepdims: bool = False) -> Array:
    """The mean over the axes given, all of them by default; of nothing, nan.

    The mean of integers is float64, as in NumPy, where TensorFlow rounds it down to an integer.

    >>> gt.reduce_mean([[1.0, 2.0], [3.0, 4.0]])
    <tf.Tensor: shape=(), dtype=float32, numpy=2.5>
    """
    dtype = input_tensor.dtype
    half = dtype.kind == "f" and dtype.itemsize == 2
    kind = np.float32 if half else None if dtype.kind in "fc" else np.float64
    total = _sum(input_tensor, axis, kind, None, keepdims)
    n = _length(input_tensor.shape, axis)
    mean = total / n if n else total * total.dtype.type(np.nan)
    return mean.astype(dtype) if half else mean


def _rows(xp: Namespace, x: Any, axis: Any) -> tuple[Any, tuple[int, ...], tuple[int, ...]]:
    """x with the axes to reduce made one, at the end; the permutation and shape between."""
    ndim = len(x.shape)
    reduced = tuple(range(ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    reduced = tuple(a % ndim for a in reduced) if ndim else ()
    perm = (*(i for i in range(ndim) if i not in reduced), *reduced)
    turned = xp.transpose(x, perm)
    kept = turned.shape[: ndim - len(reduced)]
    return xp.reshape(turned, (*kept, math.prod(x.shape[a] for a in reduced))), perm, turned.shape


def _prod_vjp(xp: Namespace, g: Any, input_tensor: Any, axis: Any, keepdims: bool) -> Any:
    rows, perm, turned = _rows(xp, input_tensor, axis)
    others = xp.cumprod(rows, -1, True, False) * xp.cumprod(rows, -1, True, True)
    back = tuple(sorted(range(len(perm)), key=perm.__getitem__))
    others = xp.transpose(xp.reshape(others, turned), back)
    return _spread(xp, g, input_tensor.shape, axis, keepdims) * xp.conj(others)


WITH_ZEROS = [
    Sample(Uniform((2, 3), then=lambda x: x * np.array([[1, 0, 1], [0, 1, 0]]))),
    Sample(Uniform((2, 4), then=lambda x: x * np.array([[1, 0, 1, 1], [0, 1, 0, 1]])), axis=1),
    Sample(Uniform((3, 2), then=np.zeros_like), axis=0),
]


@op(vjp=_prod_vjp, samples=AXES + EMPTY + WITH_ZEROS, dtypes="efdFD")
def reduce_prod(input_tensor: TensorLike, axis: Axes = None, keepdims: bool = False) -> Array:
    """The product over the axes given, all of them by default; integers keep their dtype.

    The derivative is the product of all the others, formed without dividing, so that zeros are safe.

    >>> gt.reduce_prod([[1.0, 2.0], [3.0, 4.0]])
    <tf.Tensor: shape=(), dtype=float32, numpy=24.0>
    """
    dtype = input_tensor.dtype
    return _product(input_tensor, axis, dtype if dtype.kind in "iu" else None, None, keepdims)


def _extreme_vjp(xp: Namespace, g: Any, input_tensor: Any, out: Any, axis: Any, keepdims: bool) -> Any:
    shape = input_tensor.shape
    if 0 in shape:
        return _spread(xp, g, shape, axis, keepdims)
    chosen = xp.cast(xp.equal(input_tensor, _spread(xp, out, shape, axis, keepdims)), g.dtype)
    shared = g / xp.reduce_sum(chosen, axis, keepdims)
    return _spread(xp, shared, shape, axis, keepdims) * chosen


def _extreme(reduce: Any, x: Array, axis: Any, keepdims: bool, worst: float) -> Array:
    """The maximum or minimum; `worst` (in integers, the end of their range) where there is nothing."""
    if x.size:
        return reduce(x, axis, None, None, keepdims)
    if x.dtype.kind in "iu":
        worst = np.iinfo(x.dtype).max if worst > 0 else np.iinfo(x.dtype).min
    return reduce(x, axis, None, None, keepdims, worst if x.dtype.kind != "b" else worst > 0)


TIES = [Sample(np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]]), axis=1)]


@op(vjp=_extreme_vjp, samples=AXES + EMPTY + TIES, dtypes="efd")
def reduce_max(input_tensor: TensorLike, axis: Axes = None, keepdims: bool = False) -> Array:
    """The largest over the axes given, all of them by default; of nothing, -inf or the least integer.

    The derivative is shared equally among elements that tie.

    >>> gt.reduce_max([[1.0, 5.0], [3.0, 4.0]], axis=1)
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([5., 4.], dtype=float32)>
    """
    return _extreme(np.maximum.reduce, input_tensor, axis, keepdims, -math.inf)


@op(vjp=_extreme_vjp, samples=AXES + EMPTY + TIES, dtypes="efd")
def reduce_min(input_tensor: TensorLike, axis: Axes = None, keepdims: bool = False) -> Array:
    """The smallest over the axes given, all of them by default; of nothing, inf or the greatest integer.

    The derivative is shared equally among elements that tie.

    >>> gt.reduce_min([[1.0, 5.0], [3.0, 4.0]], axis=1)
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([1., 3.], dtype=float32)>
    """
    return _extreme(np.minimum.reduce, input_tensor, axis, keepdims, math.inf)


BOOLS = np.array([[True, False], [False, False]])


@op(
    differentiable=False,
    samples=[Sample(BOOLS), Sample(BOOLS, axis=1), Sample(BOOLS, axis=[0], keepdims=True)],
)
def reduce_any(input_tensor: TensorLike, axis: Axes = None, keepdims: bool = False) -> Array:
    """Whether any element over the axes given, all by default, is true or nonzero; of nothing, False.

    >>> gt.reduce_any([[True, False], [False, False]], axis=1)
    <tf.Tensor: shape=(2,), dtype=bool, numpy=array([ True, False])>
    """
    return _any(input_tensor, axis, None, None, keepdims)


@op(
    differentiable=False,
    samples=[Sample(BOOLS), Sample(BOOLS, axis=1), Sample(BOOLS, axis=[0], keepdims=True)],
)
def reduce_all(input_tensor: TensorLike, axis: Axes = None, keepdims: bool = False) -> Array:
    """Whether every element over the axes given, all by default, is true or nonzero; of nothing, True.

    >>> gt.reduce_all([[True, True], [True, False]], axis=1)
    <tf.Tensor: shape=(2,), dtype=bool, numpy=array([ True, False])>
    """
    return _all(input_tensor, axis, None, None, keepdims)


def _logsumexp_vjp(xp: Namespace, g: Any, input_tensor: Any, out: Any, axis: Any, keepdims: bool) -> Any:
    shape = input_tensor.shape
    shift = xp.stop_gradient(out)
    shift = xp.where(xp.is_finite(shift), shift, xp.zeros_like(shift))
    powers = xp.exp(input_tensor - _spread(xp, shift, shape, axis, keepdims))
    share = xp.divide_no_nan(g, xp.reduce_sum(powers, axis, keepdims))
    return _spread(xp, share, shape, axis, keepdims) * powers


@op(
    vjp=_logsumexp_vjp,
    samples=[*AXES, *EMPTY, Sample(Uniform((2, 3), -2e4, 2e4), axis=1)],
    dtypes="efd",
)
def reduce_logsumexp(input_tensor: TensorLike, axis: Axes = None, keepdims: bool = False) -> Array:
    """log(sum(exp(x))) over the axes given, all of them by default, without overflow; of nothing, -inf.

    log(sum(exp(x - m))) + m with m the largest x. Its derivative is softmax(x); 0 where all x are -inf.

    >>> gt.reduce_logsumexp([1e4, 1e4])
    <tf.Tensor: shape=(), dtype=float32, numpy=10000.693359375>
    """
    if input_tensor.dtype.kind == "c":
        raise DTypeError(
            f"reduce_logsumexp: wanted real numbers, got {input_tensor.dtype}; take the real part"
        )
    x = input_tensor if input_tensor.dtype.kind == "f" else input_tensor.astype(np.float64)
    largest = _extreme(np.maximum.reduce, x, axis, True, -math.inf)
    shift = np.where(np.isfinite(largest), largest, x.dtype.type(0))
    with np.errstate(divide="ignore"):
        out = np.log(_sum(np.exp(x - shift), axis, None, None, keepdims))
    return out + shift.reshape(out.shape)


def _variance_vjp(xp: Namespace, g: Any, input_tensor: Any, axis: Any, keepdims: bool) -> Any:
    shape = input_tensor.shape
    centred = input_tensor - xp.reduce_mean(input_tensor, axis, True)
    return _spread(xp, g * (2 / max(_length(shape, axis), 1)), shape, axis, keepdims) * centred


@op(vjp=_variance_vjp, samples=AXES + EMPTY, dtypes="efdFD")
def reduce_variance(input_tensor: TensorLike, axis: Axes = None, keepdims: bool = False) -> Array:
    """The mean of |x - mean(x)|^2 over the axes given, all of them by default; integers give float64.

    >>> gt.math.reduce_variance([1.0, 3.0])
    <tf.Tensor: shape=(), dtype=float32, numpy=1.0>
    """
    centred = input_tensor - raw.reduce_mean(input_tensor, axis, True)
    squares = (centred * centred.conj()).real if centred.dtype.kind == "c" else centred * centred
    return raw.reduce_mean(squares, axis, keepdims)


@composite(
    samples=[s for s in AXES if s.operands[0].shape and s.attributes.get("axis") != []] + EMPTY,
    dtypes="efdFD",
)
def reduce_std(xp: Namespace, input_tensor: TensorLike, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The square root of `reduce_variance`; where that is 0, the derivative is nan, as in TensorFlow.

    >>> gt.math.reduce_std([1.0, 3.0])
    <tf.Tensor: shape=(), dtype=float32, numpy=1.0>
    """
    return xp.sqrt(xp.reduce_variance(input_tensor, axis, keepdims))  # type: ignore[no-any-return]


# -- along one axis ------------------------------------------------------------------------------------------


def _running(ufunc: np.ufunc, x: Array, axis: int, exclusive: bool, reverse: bool) -> Array:
    """The running reduction by a ufunc; exclusive: without the element itself; reverse: from the end."""
    if not -x.ndim <= axis < x.ndim:
        raise np.exceptions.AxisError(axis, x.ndim)
    turn = _at(axis, x.ndim, slice(None, None, -1))
    if reverse:
        x = x[turn]
    y = ufunc.accumulate(x, axis, x.dtype if x.dtype.kind in "iu" else None)
    if exclusive:
        shifted = np.empty_like(y)
        shifted[_at(axis, x.ndim, slice(None, 1))] = ufunc.identity
        shifted[_at(axis, x.ndim, slice(1, None))] = y[_at(axis, x.ndim, slice(None, -1))]
        y = shifted
    return y[turn] if reverse else y


def _at(axis: int, ndim: int, place: slice) -> tuple[slice, ...]:
    return (*(slice(None),) * (axis % ndim), place)


RUNS = [
    Sample((4,)),
    Sample((3, 4), axis=1, exclusive=True),
    Sample((3, 4), axis=-1, reverse=True),
    Sample((2, 3, 2), axis=1, exclusive=True, reverse=True),
    Sample((0, 2)),
    Sample((2, 0), axis=1, exclusive=True),
    Sample((1,), exclusive=True),
]


@op(
    vjp=lambda xp, g, axis, exclusive, reverse: xp.cumsum(g, axis, exclusive, not reverse),
    samples=RUNS,
    dtypes="efdFD",
)
def cumsum(x: TensorLike, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Array:
    """The running sum along `axis`; exclusive: of those before only; reverse: starting from the end.

    >>> gt.cumsum([1.0, 2.0, 3.0])
    <tf.Tensor: shape=(3,), dtype=float32, numpy=array([1., 3., 6.], dtype=float32)>
    """
    return _running(np.add, x, axis, exclusive, reverse)


def _cumprod_vjp(xp: Namespace, g: Any, x: Any, axis: int, exclusive: bool, reverse: bool) -> Any:
    """x_i, times all before it, weighs h_i = g_i + x_(i+1) h_(i+1): what the products from i on make of it.

    For exclusive products the sum starts one place later: h_i = g_(i+1) + x_(i+1) h_(i+1).
    """
    place = axis % len(x.shape)
    factors = _shifted(xp, xp.conj(x), place, not reverse)
    if exclusive:
        g = _shifted(xp, g, place, not reverse)
    return xp.conj(xp.cumprod(x, axis, True, reverse)) * xp.linear_recurrence(factors, g, place, not reverse)


def _shifted(xp: Namespace, x: Any, axis: int, backwards: bool) -> Any:
    """x one place along the axis, or back, with a zero moved in."""
    n = x.shape[axis]
    if not n:
        return x
    margins = tuple(((0, 1) if backwards else (1, 0)) if i == axis else (0, 0) for i in range(len(x.shape)))
    return xp.pad(x[_at(axis, len(x.shape), slice(1, None) if backwards else slice(None, n - 1))], margins)


@op(
    vjp=_cumprod_vjp,
    samples=[
        *RUNS,
        Sample(Uniform((2, 4), then=lambda x: x * np.array([[1, 0, 1, 1], [0, 1, 0, 1]])), axis=1),
        Sample(Uniform((4,), then=lambda x: x * np.array([1, 0, 0, 1])), exclusive=True, reverse=True),
    ],
    dtypes="efdFD",
)
def cumprod(x: TensorLike, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Array:
    """The running product along `axis`; exclusive: of those before only; reverse: starting from the end.

    The derivative is formed without dividing, so that it holds where some are 0.

    >>> gt.math.cumprod([1.0, 2.0, 3.0])
    <tf.Tensor: shape=(3,), dtype=float32, numpy=array([1., 2., 6.], dtype=float32)>
    """
    return _running(np.multiply, x, axis, exclusive, reverse)


def _recurrence_factor_vjp(xp: Namespace, g: Any, factors: Any, out: Any, axis: int, reverse: bool) -> Any:
    return _recurrence_term_vjp(xp, g, factors, axis, reverse) * xp.conj(_shifted(xp, out, axis, reverse))


def _recurrence_term_vjp(xp: Namespace, g: Any, factors: Any, axis: int, reverse: bool) -> Any:
    return xp.linear_recurrence(_shifted(xp, xp.conj(factors), axis, not reverse), g, axis, not reverse)


@op(
    vjp=(_recurrence_factor_vjp, _recurrence_term_vjp),
    samples=[
        Sample((5,), (5,)),
        Sample((3, 4), (3, 4), axis=1, reverse=True),
        Sample((6, 2), (6, 2), reverse=True),
        Sample((0,), (0,)),
    ],
    dtypes="efdFD",
)
def linear_recurrence(factors: TensorLike, terms: TensorLike, axis: int = 0, reverse: bool = False) -> Array:
    """y with y_i = terms_i + factors_i y_(i-1) along `axis`, or y_(i+1) if reverse; y is 0 beyond the ends.

    Found by doubling, in log2(n) steps over whole arrays: maps y -> t + f y compose to maps of the same kind
    (Hillis and Steele, "Data parallel algorithms", 1986).

    >>> from gradtape.ops.reduction import linear_recurrence
    >>> linear_recurrence([0.5, 0.5, 0.5], [1.0, 1.0, 1.0])
    <tf.Tensor: shape=(3,), dtype=float32, numpy=array([1.  , 1.5 , 1.75], dtype=float32)>
    """
    y = np.array(terms, np.result_type(factors, terms))
    f = np.array(factors)
    n, ndim, step = y.shape[axis], y.ndim, 1
    while step < n:
        later, earlier = slice(step, None), slice(None, n - step)
        if reverse:
            later, earlier = earlier, later
        to, by = _at(axis, ndim, later), _at(axis, ndim, earlier)
        y[to] += f[to] * y[by]
        f[to] = f[to] * f[by]
        step *= 2
    return y


# -- places --------------------------------------------------------------------------------------------------

PLACES = [Sample((3, 4)), Sample((3, 4), axis=1), Sample((2, 3, 2), axis=-1)]


@op(differentiable=False, samples=PLACES)
def argmax(input: TensorLike, axis: int | None = None, output_type: DTypeLike = np.int64) -> Array:
    """The index of the largest element along `axis` (the first axis by default); of the first among equals.

    >>> gt.argmax([[1.0, 5.0], [3.0, 4.0]], axis=1)
    <tf.Tensor: shape=(2,), dtype=int64, numpy=array([1, 1])>
    """
    return np.argmax(input, 0 if axis is None else axis).astype(as_dtype(output_type), copy=False)


@op(differentiable=False, samples=PLACES)
def argmin(input: TensorLike, axis: int | None = None, output_type: DTypeLike = np.int64) -> Array:
    """The index of the smallest element along `axis` (the first axis by default); of the first among equals.

    >>> gt.argmin([[1.0, 5.0], [3.0, 4.0]], axis=1)
    <tf.Tensor: shape=(2,), dtype=int64, numpy=array([0, 0])>
    """
    return np.argmin(input, 0 if axis is None else axis).astype(as_dtype(output_type), copy=False)


# -- norms ---------------------------------------------------------------------------------------------------


def _axes(axis: TensorLike) -> int | tuple[int, ...] | None:
    """An axis or axes, from whatever they came in, as ints."""
    if axis is None or isinstance(axis, int):
        return axis
    plain = convert_to_array(axis).tolist()
    return plain if isinstance(plain, int) else tuple(plain)


def _squares(xp: Namespace, x: Any) -> Any:
    """|x|^2, a real number also where x is complex; integers become float64, which they overflow later."""
    if x.dtype.kind in "biu":
        x = xp.cast(x, np.float64)
    return xp.real(x * xp.conj(x)) if x.dtype.kind == "c" else x * x


@composite(
    samples=[
        Sample((3, 4)),
        Sample((3, 4), axis=1),
        Sample((3, 4), ord=1, axis=0, keepdims=True),
        Sample((3, 4), ord=2, axis=-1),
        Sample((3, 4), ord=math.inf, axis=1),
        Sample(Uniform((3, 4), 0.5, 2.0), ord=3),
        Sample(Uniform((3, 4), 0.5, 2.0), ord=2.5, axis=0),
        Sample((2, 3, 4), ord="fro", axis=[1, 2]),
        Sample((2, 3, 4), ord=1, axis=[1, 2]),
        Sample((2, 3, 4), ord=1, axis=[-1, 0], keepdims=True),
        Sample((2, 3, 4), ord=math.inf, axis=[-2, -1]),
        Sample((2, 3, 4), ord=math.inf, axis=[2, 0]),
        Sample((3,), axis=[0]),
    ],
    dtypes="efdFD",
)
def norm(
    xp: Namespace,
    tensor: TensorLike,
    ord: str | float = "euclidean",
    axis: int | Sequence[int] | None = None,
    keepdims: bool | None = None,
) -> Tensor:
    """The norm of vectors along `axis` (of all elements, as one vector, if None), or of matrices in two axes.

    ord: "euclidean" or "fro": the root of the sum of |x|^2; vectors also take inf (the largest |x|) and any
    positive p: (sum |x|^p)^(1/p); matrices 1 (the largest column sum of |x|) and inf (the largest row sum).
    Raises ValueError for any other. At 0 the euclidean norm has no derivative: it is nan, as in TensorFlow.

    >>> gt.norm([3.0, 4.0])
    <tf.Tensor: shape=(), dtype=float32, numpy=5.0>
    """
    x = xp.asarray(tensor)
    keepdims = bool(keepdims)
    over = _axes(axis)
    if isinstance(over, tuple) and len(over) == 1:
        over = over[0]
    matrix = isinstance(over, tuple)
    ndim = len(x.shape)
    if isinstance(over, tuple) and (
        len(over) != 2 or not all(-ndim <= a < ndim for a in over) or over[0] % ndim == over[1] % ndim
    ):
        raise AxisError(f"norm: wanted one axis, or two different ones, of {ndim}, got {over}")
    if ord in ("euclidean", "fro") or (ord == 2 and not matrix):
        found = xp.sqrt(xp.reduce_sum(_squares(xp, x), over, keepdims))
    elif isinstance(ord, str) or not ord > 0 or (matrix and ord not in (1, math.inf)):
        known = "'euclidean', 'fro', 1 and inf" if matrix else "'euclidean', 'fro', inf and positive numbers"
        raise ValueError(
            f"norm: unsupported ord {ord!r}; norms of {'matrices' if matrix else 'vectors'} take {known}"
        )
    elif isinstance(over, tuple):
        rows, columns = (a % ndim for a in over)
        summed, sought = (rows, columns) if ord == 1 else (columns, rows)
        found = xp.reduce_max(xp.reduce_sum(xp.abs(x), summed, True), sought, True)
        found = found if keepdims else xp.squeeze(found, (rows, columns))
    elif ord == math.inf:
        found = xp.reduce_max(xp.abs(x), over, keepdims)
    elif ord == 1:
        found = xp.reduce_sum(xp.abs(x), over, keepdims)
    else:
        found = xp.pow(xp.reduce_sum(xp.pow(xp.abs(x), float(ord)), over, keepdims), 1 / float(ord))
    return found  # type: ignore[no-any-return]


@composite(
    samples=[
        Sample((3, 4), 1.0),
        Sample((3, 4), 100.0),
        Sample((3, 4), 0.5, axes=[1]),
        Sample((3, 4), (), axes=0),
        Sample(Uniform((3, 4), then=np.zeros_like), 1.0),
    ],
    dtypes="efdFD",
)
def clip_by_norm(xp: Namespace, t: TensorLike, clip_norm: TensorLike, axes: Axes = None) -> Tensor:
    """t scaled down to the euclidean norm `clip_norm` where it is longer, along `axes` (all by default).

    t clip_norm / max(norm(t), clip_norm); the zero vector stays as it is, and its derivative is finite.

    >>> gt.clip_by_norm([3.0, 4.0], 1.0)
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([0.6, 0.8], dtype=float32)>
    """
    x = xp.asarray(t)
    squares = xp.reduce_sum(_squares(xp, x), _axes(axes), True)
    nonzero = squares > 0
    length = xp.where(nonzero, xp.sqrt(xp.where(nonzero, squares, 1.0)), 0.0)
    return x * (clip_norm / xp.maximum(length, clip_norm))  # type: ignore[no-any-return]


@composite(samples=[Sample([Uniform((2, 3)), None, Uniform(())])], dtypes="efdFD")
def global_norm(xp: Namespace, t_list: Sequence[TensorLike | None]) -> Tensor:
    """The euclidean norm of all elements of all tensors of a list together; None among them is passed over.

    >>> gt.linalg.global_norm([[3.0], None, [[4.0]]])
    <tf.Tensor: shape=(), dtype=float32, numpy=5.0>
    """
    sums = [xp.reduce_sum(_squares(xp, xp.asarray(t))) for t in t_list if t is not None]
    return xp.sqrt(sum(sums[1:], sums[0]) if sums else xp.zeros(()))  # type: ignore[no-any-return]


@composite(
    samples=[
        Sample([Uniform((2, 3)), None, Uniform(())], 1.0),
        Sample([Uniform((2,)), Uniform((3,))], 100.0, use_norm=2.0),
    ],
    dtypes="efdFD",
)
def clip_by_global_norm(
    xp: Namespace, t_list: Sequence[TensorLike | None], clip_norm: TensorLike, use_norm: TensorLike = None
) -> tuple[list[Tensor | None], Tensor]:
    """The tensors scaled by clip_norm / max(global_norm, clip_norm), and that norm; None stays None.

    use_norm: the global norm, if it is known already. If it is not finite, all that comes back is nan.
    (Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013.)

    >>> clipped, length = gt.clip_by_global_norm([[3.0], None, [4.0]], 1.0)
    >>> print(clipped[0], length)
    tf.Tensor([0.6], shape=(1,), dtype=float32) tf.Tensor(5.0, shape=(), dtype=float32)
    """
    tensors = [None if t is None else xp.asarray(t) for t in t_list]
    dtype = next((t.dtype.type(0).real.dtype for t in tensors if t is not None), np.float32)
    length = xp.global_norm(tensors) if use_norm is None else xp.cast(use_norm, dtype)
    scale = xp.where(xp.is_finite(length), clip_norm / xp.maximum(length, clip_norm), math.nan)
    return [None if t is None else t * xp.cast(scale, t.dtype) for t in tensors], length
