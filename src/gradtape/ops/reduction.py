"""Reductions over axes: sums, products, extremes, and where these are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradtape.errors import DTypeError
from gradtape.ops.batching import ALONG_AXIS, behind
from gradtape.ops.namespace import Namespace, raw
from gradtape.ops.op import LINEAR, composite, op
from gradtape.ops.sample import Sample, Uniform
from gradtape.tensor import Array, DTypeLike, Tensor, TensorLike, as_dtype

__all__ = [
    "argmax",
    "argmin",
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
    jvp=LINEAR,
    batch=ALONG_AXIS,
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


def _mean_lower(xp: Namespace, x: Any, axis: Any, keepdims: bool) -> Any:
    total = xp.reduce_sum(x, axis, keepdims)
    n = _length(x.shape, axis)
    return total / n if n else total * math.nan


def _length(shape: tuple[int, ...], axis: Any) -> int:
    """How many elements a reduction over `axis` puts into one."""
    if axis is None:
        return math.prod(shape)
    return math.prod(shape[a] for a in (axis if isinstance(axis, tuple) else (axis,)) if shape)


@op(
    vjp=_mean_vjp,
    jvp=LINEAR,
    batch=ALONG_AXIS,
    samples=AXES + EMPTY,
    dtypes="efdFD",
    lower=_mean_lower,
)
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


@op(vjp=_prod_vjp, batch=ALONG_AXIS, samples=AXES + EMPTY + WITH_ZEROS, dtypes="efdFD")
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


@op(vjp=_extreme_vjp, batch=ALONG_AXIS, samples=AXES + EMPTY + TIES, dtypes="efd")
def reduce_max(input_tensor: TensorLike, axis: Axes = None, keepdims: bool = False) -> Array:
    """The largest over the axes given, all of them by default; of nothing, -inf or the least integer.

    The derivative is shared equally among elements that tie.

    >>> gt.reduce_max([[1.0, 5.0], [3.0, 4.0]], axis=1)
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([5., 4.], dtype=float32)>
    """
    return _extreme(np.maximum.reduce, input_tensor, axis, keepdims, -math.inf)


@op(vjp=_extreme_vjp, batch=ALONG_AXIS, samples=AXES + EMPTY + TIES, dtypes="efd")
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
    batch=ALONG_AXIS,
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
    batch=ALONG_AXIS,
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


def _logsumexp_lower(xp: Namespace, x: Any, axis: Any, keepdims: bool) -> Any:
    largest = xp.reduce_max(x, axis, True)
    shift = xp.where(xp.is_finite(largest), largest, 0.0)
    out = xp.log(xp.reduce_sum(xp.exp(x - shift), axis, keepdims))
    return out + xp.reshape(shift, out.shape)


@op(
    vjp=_logsumexp_vjp,
    batch=ALONG_AXIS,
    samples=[*AXES, *EMPTY, Sample(Uniform((2, 3), -2e4, 2e4), axis=1)],
    dtypes="efd",
    lower=_logsumexp_lower,
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


def _variance_lower(xp: Namespace, x: Any, axis: Any, keepdims: bool) -> Any:
    centred = x - xp.reduce_mean(x, axis, True)
    return xp.reduce_mean(centred * centred, axis, keepdims)


@op(vjp=_variance_vjp, batch=ALONG_AXIS, samples=AXES + EMPTY, dtypes="efdFD", lower=_variance_lower)
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


# -- places --------------------------------------------------------------------------------------------------

PLACES = [Sample((3, 4)), Sample((3, 4), axis=1), Sample((2, 3, 2), axis=-1)]


@op(
    differentiable=False,
    batch=lambda xp, x, axis, kind: xp.argmax(x, behind(axis or 0, x.ndim - 1), kind),
    samples=PLACES,
)
def argmax(input: TensorLike, axis: int | None = None, output_type: DTypeLike = np.int64) -> Array:
    """The index of the largest element along `axis` (the first axis by default); of the first among equals.

    >>> gt.argmax([[1.0, 5.0], [3.0, 4.0]], axis=1)
    <tf.Tensor: shape=(2,), dtype=int64, numpy=array([1, 1])>
    """
    return np.argmax(input, 0 if axis is None else axis).astype(as_dtype(output_type), copy=False)


@op(
    differentiable=False,
    batch=lambda xp, x, axis, kind: xp.argmin(x, behind(axis or 0, x.ndim - 1), kind),
    samples=PLACES,
)
def argmin(input: TensorLike, axis: int | None = None, output_type: DTypeLike = np.int64) -> Array:
    """The index of the smallest element along `axis` (the first axis by default); of the first among equals.

    >>> gt.argmin([[1.0, 5.0], [3.0, 4.0]], axis=1)
    <tf.Tensor: shape=(2,), dtype=int64, numpy=array([0, 0])>
    """
    return np.argmin(input, 0 if axis is None else axis).astype(as_dtype(output_type), copy=False)
