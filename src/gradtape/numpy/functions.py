"""The array API standard's functions where their arguments differ from TensorFlow's."""

import contextlib
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from gradtape.arguments import listed, number, whole, wholes
from gradtape.errors import ArgumentError, AxisError, ShapeError
from gradtape.ops import (
    accumulation,
    arithmetic,
    contraction,
    einsum,
    indexing,
    joining,
    making,
    reduction,
    shaping,
    transcendental,
)
from gradtape.ops.operands import explained
from gradtape.tensor import DTypeLike, Tensor, TensorLike, Value, as_dtype, holds

Axis: TypeAlias = "int | Sequence[int] | None"


# -- making --------------------------------------------------------------------------------------------------


def asarray(obj: TensorLike, dtype: DTypeLike = None, copy: bool | None = None) -> Tensor:
    """A tensor of `obj`, in NumPy's dtype for it unless one is given; a tensor keeps its derivative.

    >>> gnp.asarray([1.0, 2.0])
    <tf.Tensor: shape=(2,), dtype=float64, numpy=array([1., 2.])>
    """
    if not isinstance(obj, Value) and type(obj) in (bool, int, float, complex):
        obj = np.asarray(obj)
    elif isinstance(obj, (list, tuple)) and dtype is None and not holds(obj, Value):
        with contextlib.suppress(ValueError):  # of a ragged list, which convert_to_tensor tells of
            obj = np.asarray(obj)
    x = making.convert_to_tensor(obj)
    return x if dtype is None or x.dtype == as_dtype(dtype) else making.cast(x, dtype)


def zeros(shape: int | Sequence[int], dtype: DTypeLike = None) -> Tensor:
    """Zeros of that shape, float64 unless said otherwise.

    >>> gnp.zeros(2)
    <tf.Tensor: shape=(2,), dtype=float64, numpy=array([0., 0.])>
    """
    return full(shape, 0, dtype or np.float64)


def ones(shape: int | Sequence[int], dtype: DTypeLike = None) -> Tensor:
    """Ones of that shape, float64 unless said otherwise.

    >>> gnp.ones(2)
    <tf.Tensor: shape=(2,), dtype=float64, numpy=array([1., 1.])>
    """
    return full(shape, 1, dtype or np.float64)


def full(shape: int | Sequence[int], fill_value: TensorLike, dtype: DTypeLike = None) -> Tensor:
    """An array of one value, in that value's dtype unless said otherwise; followed, if the value is.

    >>> gnp.full(2, 7.0)
    <tf.Tensor: shape=(2,), dtype=float64, numpy=array([7., 7.])>
    """
    return shaping.broadcast_to(asarray(fill_value, dtype), wholes("full: shape", shape))


def zeros_like(x: TensorLike, dtype: DTypeLike = None) -> Tensor:
    """Zeros of the shape of x, and of its dtype unless said otherwise.

    >>> gnp.zeros_like(np.ones(2))
    <tf.Tensor: shape=(2,), dtype=float64, numpy=array([0., 0.])>
    """
    return full_like(x, 0, dtype)


def ones_like(x: TensorLike, dtype: DTypeLike = None) -> Tensor:
    """Ones of the shape of x, and of its dtype unless said otherwise.

    >>> gnp.ones_like(np.zeros(2))
    <tf.Tensor: shape=(2,), dtype=float64, numpy=array([1., 1.])>
    """
    return full_like(x, 1, dtype)


def full_like(x: TensorLike, fill_value: TensorLike, dtype: DTypeLike = None) -> Tensor:
    """An array of one value, of the shape of x, and of its dtype unless said otherwise.

    >>> gnp.full_like(np.ones(2), 7)
    <tf.Tensor: shape=(2,), dtype=float64, numpy=array([7., 7.])>
    """
    like = asarray(x)
    return full(like.shape, fill_value, dtype or like.dtype)


def eye(n_rows: int, n_cols: int | None = None, k: int = 0, dtype: DTypeLike = None) -> Tensor:
    """Ones on the k-th diagonal, zeros elsewhere, float64 unless said otherwise.

    >>> gnp.eye(2, k=1)
    <tf.Tensor: shape=(2, 2), dtype=float64, numpy=
    array([[0., 1.],
           [0., 0.]])>
    """
    rows = whole("eye: n_rows", n_rows)
    columns = rows if n_cols is None else whole("eye: n_cols", n_cols)
    if rows < 0 or columns < 0:
        raise ShapeError(f"eye: wanted lengths from 0 up, got {rows} rows and {columns} columns")
    return Tensor(np.eye(rows, columns, whole("eye: k", k), dtype=as_dtype(dtype or np.float64)))


def arange(start: float, stop: float | None = None, step: float = 1, dtype: DTypeLike = None) -> Tensor:
    """Evenly spaced numbers of the half-open interval [start, stop), or [0, start).

    >>> gnp.arange(3)
    <tf.Tensor: shape=(3,), dtype=int64, numpy=array([0, 1, 2])>
    """
    try:
        values = np.arange(start, step=step) if stop is None else np.arange(start, stop, step)
    except Exception as problem:
        raise explained("arange", problem, [start, stop, step]) from None
    return Tensor(values if dtype is None else values.astype(as_dtype(dtype)))


def linspace(
    start: TensorLike, stop: TensorLike, num: int, dtype: DTypeLike = None, endpoint: bool = True
) -> Tensor:
    """`num` evenly spaced numbers from start to stop, stop included if `endpoint`; followed, if an end is.

    >>> gnp.linspace(0.0, 1.0, 3)
    <tf.Tensor: shape=(3,), dtype=float64, numpy=array([0. , 0.5, 1. ])>
    """
    first, last = asarray(start), asarray(stop)
    count = whole("linspace: num", num)
    if count < 0:
        raise ArgumentError(f"linspace: num is {count}; wanted at least 0")
    steps = np.linspace(0.0, 1.0, count, endpoint=endpoint)
    values = first * (1.0 - steps) + last * steps
    return values if dtype is None else making.cast(values, dtype)


# -- reductions ----------------------------------------------------------------------------------------------


def sum(x: TensorLike, axis: Axis = None, dtype: DTypeLike = None, keepdims: bool = False) -> Tensor:
    """The sum over the axes, all of them if none is named; see `gradtape.reduce_sum`.

    >>> gnp.sum(gnp.ones((2, 3)), axis=1)
    <tf.Tensor: shape=(2,), dtype=float64, numpy=array([3., 3.])>
    """
    return reduction.reduce_sum(x if dtype is None else making.cast(x, dtype), axis, keepdims)


def prod(x: TensorLike, axis: Axis = None, dtype: DTypeLike = None, keepdims: bool = False) -> Tensor:
    """The product over the axes; see `gradtape.reduce_prod`.

    >>> gnp.prod([2.0, 3.0])
    <tf.Tensor: shape=(), dtype=float32, numpy=6.0>
    """
    return reduction.reduce_prod(x if dtype is None else making.cast(x, dtype), axis, keepdims)


def mean(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean over the axes; see `gradtape.reduce_mean`.

    >>> gnp.mean([2.0, 3.0])
    <tf.Tensor: shape=(), dtype=float32, numpy=2.5>
    """
    return reduction.reduce_mean(x, axis, keepdims)


def max(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest element over the axes; see `gradtape.reduce_max`.

    >>> gnp.max([2.0, 3.0])
    <tf.Tensor: shape=(), dtype=float32, numpy=3.0>
    """
    return reduction.reduce_max(x, axis, keepdims)


def min(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest element over the axes; see `gradtape.reduce_min`.

    >>> gnp.min([2.0, 3.0])
    <tf.Tensor: shape=(), dtype=float32, numpy=2.0>
    """
    return reduction.reduce_min(x, axis, keepdims)


def any(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether any element is true, or not 0.

    >>> gnp.any([True, False])
    <tf.Tensor: shape=(), dtype=bool, numpy=True>
    """
    return reduction.reduce_any(making.cast(x, np.bool_), axis, keepdims)


def all(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether all elements are true, or not 0.

    >>> gnp.all([True, False])
    <tf.Tensor: shape=(), dtype=bool, numpy=False>
    """
    return reduction.reduce_all(making.cast(x, np.bool_), axis, keepdims)


def var(x: TensorLike, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The variance over the axes: squared distances from the mean, summed, over n - correction.

    >>> gnp.var([1.0, 3.0], correction=1)
    <tf.Tensor: shape=(), dtype=float32, numpy=2.0>
    """
    x = making.convert_to_tensor(x)
    result = reduction.reduce_variance(x, axis, keepdims)
    if not correction:
        return result
    count = x.size // (result.size or 1)
    corrected: Tensor = result * (count / (count - number("var: correction", correction)))
    return corrected


def std(x: TensorLike, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The standard deviation over the axes: the root of the variance.

    >>> gnp.std([1.0, 3.0])
    <tf.Tensor: shape=(), dtype=float32, numpy=1.0>
    """
    return transcendental.sqrt(var(x, axis, correction, keepdims))


def cumulative_sum(x: TensorLike, axis: int | None = None) -> Tensor:
    """The running sum along an axis, which may be left out for a vector.

    >>> gnp.cumulative_sum([1.0, 2.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([1., 3.], dtype=float32)>
    """
    return accumulation.cumsum(x, _only_axis("cumulative_sum", x, axis))


def cumulative_prod(x: TensorLike, axis: int | None = None) -> Tensor:
    """The running product along an axis, which may be left out for a vector.

    >>> gnp.cumulative_prod([2.0, 3.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([2., 6.], dtype=float32)>
    """
    return accumulation.cumprod(x, _only_axis("cumulative_prod", x, axis))


def _only_axis(name: str, x: TensorLike, axis: int | None) -> int:
    shape = making.convert_to_tensor(x).shape
    if axis is None and len(shape) != 1:
        raise ShapeError(f"{name}: axis may be left out for one-dimensional arrays only, got shape {shape}")
    return axis or 0


def argmax(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Where the largest element is along the axis, or in the flattened array.

    >>> gnp.argmax([1.0, 3.0, 2.0])
    <tf.Tensor: shape=(), dtype=int64, numpy=1>
    """
    return _arg(reduction.argmax, x, axis, keepdims)


def argmin(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Where the smallest element is along the axis, or in the flattened array.

    >>> gnp.argmin([1.0, 3.0, 2.0])
    <tf.Tensor: shape=(), dtype=int64, numpy=0>
    """
    return _arg(reduction.argmin, x, axis, keepdims)


def _arg(find: Any, x: TensorLike, axis: int | None, keepdims: bool) -> Tensor:
    x = making.convert_to_tensor(x)
    found: Tensor = find(shaping.reshape(x, (-1,)), 0) if axis is None else find(x, axis)
    if not keepdims:
        return found
    return shaping.reshape(found, (1,) * x.ndim) if axis is None else shaping.expand_dims(found, axis)


# -- shapes --------------------------------------------------------------------------------------------------


def reshape(x: TensorLike, shape: int | Sequence[int]) -> Tensor:
    """The elements in a new shape; one length may be -1.

    >>> gnp.reshape(gnp.arange(4), (2, -1))
    <tf.Tensor: shape=(2, 2), dtype=int64, numpy=
    array([[0, 1],
           [2, 3]])>
    """
    return shaping.reshape(x, wholes("reshape: shape", shape))


def permute_dims(x: TensorLike, axes: Sequence[int] | None = None) -> Tensor:
    """The axes in another order, reversed if none is given.

    >>> gnp.permute_dims(gnp.ones((2, 3)), (1, 0)).shape
    (3, 2)
    """
    return shaping.transpose(x, axes)


def moveaxis(x: TensorLike, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """The axes at `source` moved to `destination`, the others left in order.

    >>> gnp.moveaxis(gnp.ones((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    x = making.convert_to_tensor(x)
    sources, places = (_axes("moveaxis", axes, x.shape) for axes in (source, destination))
    if len(sources) != len(places):
        raise AxisError(
            f"moveaxis: {len(sources)} sources, but {len(places)} destinations; give one for each"
        )
    order = [axis for axis in range(x.ndim) if axis not in sources]
    for place, axis in sorted(zip(places, sources, strict=True)):
        order.insert(place, axis)
    return shaping.transpose(x, order)


def _axes(name: str, axes: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """An axis or several of an array of that shape, counted from the front."""
    given = wholes(f"{name}: axis", axes)
    try:
        return normalize_axis_tuple(given, len(shape))
    except (IndexError, ValueError):
        raise AxisError(
            f"{name}: axes {list(given)} of an array of shape {shape}; they run from -ndim to ndim - 1, and "
            "each may be named once"
        ) from None


def swapaxes(x: TensorLike, axis1: int, axis2: int) -> Tensor:
    """Two axes exchanged.

    >>> gnp.swapaxes(gnp.ones((2, 3, 4)), 0, 2).shape
    (4, 3, 2)
    """
    x = making.convert_to_tensor(x)
    order = list(range(x.ndim))
    first, second = (_axes("swapaxes", axis, x.shape)[0] for axis in (axis1, axis2))
    order[first], order[second] = second, first
    return shaping.transpose(x, order)


def expand_dims(x: TensorLike, axis: int = 0) -> Tensor:
    """A new axis of length 1 at `axis`.

    >>> gnp.expand_dims([1.0, 2.0], axis=1).shape
    (2, 1)
    """
    return shaping.expand_dims(x, axis)


def squeeze(x: TensorLike, axis: Axis = None) -> Tensor:
    """The axes of length 1 taken out, all of them if none is named.

    >>> gnp.squeeze(gnp.ones((1, 2))).shape
    (2,)
    """
    return shaping.squeeze(x, axis)


def concat(arrays: Sequence[TensorLike], axis: int | None = 0) -> Tensor:
    """The arrays one after the other along an axis; flattened first if it is None.

    >>> gnp.concat([[1.0], [2.0]])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([1., 2.], dtype=float32)>
    """
    if axis is None:
        return joining.concat([shaping.reshape(x, (-1,)) for x in listed("concat", arrays, "arrays")], 0)
    return joining.concat(arrays, axis)


def unstack(x: TensorLike, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices along an axis, as a tuple.

    >>> [float(t) for t in gnp.unstack([1.0, 2.0])]
    [1.0, 2.0]
    """
    return tuple(joining.unstack(x, axis=axis))


def flip(x: TensorLike, axis: Axis = None) -> Tensor:
    """The order of the elements reversed along the axes, all of them if none is named.

    >>> gnp.flip([1.0, 2.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([2., 1.], dtype=float32)>
    """
    x = making.convert_to_tensor(x)
    return shaping.reverse(x, tuple(range(x.ndim)) if axis is None else wholes("flip: axis", axis))


def roll(x: TensorLike, shift: int | Sequence[int], axis: Axis = None) -> Tensor:
    """Each element `shift` places further along its axis, or in the flattened array if none is named.

    >>> gnp.roll([1.0, 2.0, 3.0], 1)
    <tf.Tensor: shape=(3,), dtype=float32, numpy=array([3., 1., 2.], dtype=float32)>
    """
    return shaping.roll(x, shift, axis)


def broadcast_arrays(*arrays: TensorLike) -> list[Tensor]:
    """The arrays, each broadcast to the shape that they have together.

    >>> [x.shape for x in gnp.broadcast_arrays([1.0, 2.0], [[3.0], [4.0]])]
    [(2, 2), (2, 2)]
    """
    tensors = [asarray(x) for x in arrays]
    try:
        shape = np.broadcast_shapes(*(x.shape for x in tensors))
    except ValueError as problem:
        raise explained("broadcast_arrays", problem, tensors) from None
    return [shaping.broadcast_to(x, shape) for x in tensors]


def tile(x: TensorLike, repetitions: int | Sequence[int]) -> Tensor:
    """The array repeated as a block along each axis.

    >>> gnp.tile([1.0, 2.0], 2)
    <tf.Tensor: shape=(4,), dtype=float32, numpy=array([1., 2., 1., 2.], dtype=float32)>
    """
    times = wholes("tile: repetitions", repetitions)
    x = making.convert_to_tensor(x)
    x = shaping.reshape(x, (1,) * (len(times) - x.ndim) + x.shape)
    return shaping.tile(x, (1,) * (x.ndim - len(times)) + times)


def repeat(x: TensorLike, repeats: Any, axis: int | None = None) -> Tensor:
    """Each element, or each slice along an axis, repeated.

    >>> gnp.repeat([1.0, 2.0], 2)
    <tf.Tensor: shape=(4,), dtype=float32, numpy=array([1., 1., 2., 2.], dtype=float32)>
    """
    return shaping.repeat(x, repeats, axis)


# -- the rest ------------------------------------------------------------------------------------------------


def clip(x: TensorLike, min: TensorLike = None, max: TensorLike = None) -> Tensor:
    """Every element brought into [min, max]; either bound may be None.

    >>> gnp.clip([-1.0, 0.5, 2.0], 0.0, 1.0)
    <tf.Tensor: shape=(3,), dtype=float32, numpy=array([0. , 0.5, 1. ], dtype=float32)>
    """
    if min is not None and max is not None:
        return arithmetic.clip_by_value(x, min, max)
    if min is not None:
        return arithmetic.maximum(x, min)
    return making.identity(x) if max is None else arithmetic.minimum(x, max)


def nonzero(x: TensorLike) -> tuple[Tensor, ...]:
    """The indices (int64) of the elements that are not 0, or true: a vector for each axis.

    >>> gnp.nonzero([0.0, 1.0, 2.0])
    (<tf.Tensor: shape=(2,), dtype=int64, numpy=array([1, 2])>,)
    """
    return unstack(indexing.true_places(x), 1)


def where(condition: TensorLike, x1: TensorLike, x2: TensorLike) -> Tensor:
    """x1 where the condition is true, x2 elsewhere.

    >>> gnp.where([True, False], [1.0, 1.0], 0.0)
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([1., 0.], dtype=float32)>
    """
    return arithmetic.where(condition, x1, x2)


def matmul(x1: TensorLike, x2: TensorLike) -> Tensor:
    """The matrix product over the last two axes; a vector counts as a row on the left, a column on the right.

    >>> gnp.matmul(np.eye(2), [1.0, 2.0])
    <tf.Tensor: shape=(2,), dtype=float64, numpy=array([1., 2.])>
    """
    return contraction.matmul(x1, x2)


def tensordot(x1: TensorLike, x2: TensorLike, axes: int | Sequence[Sequence[int]] = 2) -> Tensor:
    """The sum of products over axes of x1 paired with axes of x2; see `gradtape.tensordot`.

    >>> gnp.tensordot([[1.0, 2.0]], [[3.0, 4.0]])
    <tf.Tensor: shape=(), dtype=float32, numpy=11.0>
    """
    return einsum.tensordot(x1, x2, axes)


def vecdot(x1: TensorLike, x2: TensorLike, axis: int = -1) -> Tensor:
    """The sum of conj(x1) * x2 along an axis.

    >>> gnp.vecdot([1.0, 2.0], [3.0, 4.0])
    <tf.Tensor: shape=(), dtype=float32, numpy=11.0>
    """
    return reduction.reduce_sum(arithmetic.conj(x1) * x2, axis)


def take(x: TensorLike, indices: TensorLike, axis: int | None = None) -> Tensor:
    """The slices at `indices` along an axis, or elements of the flattened array; -1 is the last.

    >>> gnp.take([1.0, 2.0, 3.0], [2, 0], axis=0)
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([3., 1.], dtype=float32)>
    """
    return (
        indexing.take(shaping.reshape(x, (-1,)), indices, 0)
        if axis is None
        else indexing.take(x, indices, axis)
    )


def sort(x: TensorLike, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The elements in order along an axis.

    >>> gnp.sort([3.0, 1.0, 2.0])
    <tf.Tensor: shape=(3,), dtype=float32, numpy=array([1., 2., 3.], dtype=float32)>
    """
    return indexing.sort(x, axis, "DESCENDING" if descending else "ASCENDING")


def argsort(x: TensorLike, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The indices that put the elements in order along an axis.

    >>> gnp.argsort([3.0, 1.0, 2.0])
    <tf.Tensor: shape=(3,), dtype=int64, numpy=array([1, 2, 0])>
    """
    order = indexing.argsort(x, axis, "DESCENDING" if descending else "ASCENDING", stable)
    return making.cast(order, np.int64)
