"""Reading slices and points of arrays by integers that are data themselves, and the adjoint of that."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from gradtape.batched import Batched
from gradtape.errors import ShapeError
from gradtape.ops.batching import alone, behind, moved, size_of, spread
from gradtape.ops.op import LINEAR, Namespace, Sample, op
from gradtape.ops.scatter import add_blocks, check_range, integers, point_positions
from gradtape.tensor import Array, TensorLike

__all__ = ["gather", "gather_nd", "take"]


def _axis_and_batch(
    name: str, shape: tuple[int, ...], indices: Array, axis: int | None, batch_dims: int
) -> tuple[int, int]:
    """The axis and the number of batch axes, counted from the front; raises if they do not fit."""
    batch = batch_dims + indices.ndim if batch_dims < 0 else batch_dims
    if not 0 <= batch <= indices.ndim:
        raise ShapeError(f"{name}: batch_dims={batch_dims}, but the indices have {indices.ndim} axes")
    axis = normalize_axis_index(batch if axis is None else axis, len(shape))
    if axis < batch:
        raise ShapeError(f"{name}: axis={axis} must not be less than batch_dims={batch}")
    if shape[:batch] != indices.shape[:batch]:
        raise ShapeError(
            f"{name}: with batch_dims={batch} the leading axes must agree, "
            f"got params {shape}, indices {indices.shape}"
        )
    return axis, batch


def _rows(indices: Array, batch: int, n: int) -> Array:
    """Indices along an axis of length n in each of a batch, as flat ones along all those axes in a row."""
    if not batch:
        return indices.ravel()
    count = prod(indices.shape[:batch])
    return (indices.reshape(count, prod(indices.shape[batch:])) + n * np.arange(count)[:, None]).ravel()


def _gathered_behind(
    xp: Namespace, params: Any, indices: Any, validate_indices: Any, axis: int | None, batch_dims: int
) -> Any:
    batch = batch_dims + indices.ndim - 1 if batch_dims < 0 else batch_dims
    axis = behind(batch if axis is None else axis, params.ndim - 1)
    if not batch and indices.shape[0] == 1:
        return xp.gather(params, alone(xp, indices), None, axis)
    if not batch and params.shape[0] == 1:
        return moved(xp, xp.gather(alone(xp, params), indices, None, axis - 1), axis - 1, 0)
    size = size_of([params, indices])
    return xp.gather(spread(xp, params, size), spread(xp, indices, size), None, axis, batch + 1)


def _sparse(
    xp: Namespace, g: Any, params_shape: tuple[int, ...], indices: Any, axis: int | None, batch_dims: int
) -> Any:
    """The cotangent of `params` as the rows that were read, if it was rows, of one example; else dense."""
    batched = isinstance(g, Batched) or isinstance(indices, Batched)
    if batched or _axis_and_batch("gather", params_shape, indices, axis, batch_dims) != (0, 0):
        return xp.ungather(g, indices, params_shape, axis, batch_dims)
    flat = xp.reshape(indices if indices.dtype.kind in "iu" else xp.cast(indices, "int32"), (-1,))
    return xp.indexed_slices(xp.reshape(g, (indices.size, *params_shape[1:])), flat, params_shape)


@op(
    vjp=lambda xp, g, params_shape, indices, axis, batch_dims: xp.ungather(
        g, indices, params_shape, axis, batch_dims
    ),
    jvp=LINEAR,
    batch=_gathered_behind,
    sparse=_sparse,
    samples=[
        Sample((4, 3), [0, 3, 0]),
        Sample((4,), 2),
        Sample((4, 3), np.zeros((0, 2), int)),
        Sample((3, 4, 2), [[1, 0], [3, 3]], axis=-2),
        Sample((2, 4, 3), [[0, 3, 0], [1, 1, 2]], batch_dims=1),
        Sample((2, 3, 4), [[0, 3], [1, 1]], axis=2, batch_dims=1),
        Sample((2, 3, 4, 2), [[[1], [3]], [[2], [2]]], axis=-2, batch_dims=-2),
        Sample((2, 3), [1, 2], axis=1, batch_dims=1),
    ],
    dtypes="efdFD",
)
def gather(
    params: TensorLike,
    indices: TensorLike,
    validate_indices: bool | None = None,
    axis: int | None = None,
    batch_dims: int = 0,
) -> Array:
    """The slices of `params` along `axis` that `indices`, integers of any shape, count out.

    The first `batch_dims` axes of both are paired with each other; axis: by default the first after them.
    Returns shape params.shape[:axis] + indices.shape[batch_dims:] + params.shape[axis + 1:]. validate_indices
    is ignored. The gradient by a variable or a watched tensor whose rows are read, those of axis 0, is an
    `IndexedSlices`.

    Raises OutOfRangeError for an index that is negative or beyond the axis, DTypeError for one that is no
    integer.

    >>> gt.gather([[1.0, 2.0], [3.0, 4.0]], [1, 0], axis=1).numpy()
    array([[2., 1.],
           [4., 3.]], dtype=float32)
    """
    indices = integers("gather", indices)
    axis, batch = _axis_and_batch("gather", params.shape, indices, axis, batch_dims)
    n = params.shape[axis]
    check_range("gather", indices, n, f"axis {axis}, of length {n}, of params")
    if not batch:
        return params.take(indices, axis)
    moved = params if axis == batch else np.moveaxis(params, axis, batch)
    rest = moved.shape[batch + 1 :]
    found = moved.reshape(prod(moved.shape[: batch + 1]), *rest).take(_rows(indices, batch, n), 0)
    found = found.reshape(indices.shape + rest)
    if axis == batch:
        return found
    inner = indices.ndim - batch
    return np.moveaxis(found, range(batch, batch + inner), range(axis, axis + inner))


def _from_front(xp: Namespace, indices: Any, n: int) -> Any:
    """Indices of an axis of length n, none of which counts from the back."""
    return xp.where(indices < 0, indices + n, indices)


def _ungathered_behind(
    xp: Namespace, updates: Any, indices: Any, shape: tuple[int, ...], axis: int | None, batch_dims: int
) -> Any:
    batch = batch_dims + indices.ndim - 1 if batch_dims < 0 else batch_dims
    axis = behind(batch if axis is None else axis, len(shape))
    if not batch and indices.shape[0] == 1:
        return xp.ungather(updates, alone(xp, indices), (updates.shape[0], *shape), axis)
    size = size_of([updates, indices])
    indices = _from_front(xp, spread(xp, indices, size), shape[axis - 1])
    return xp.ungather(spread(xp, updates, size), indices, (size, *shape), axis, batch + 1)


def _picked(xp: Namespace, x: Any, indices: Any, axis: int | None, batch_dims: int) -> Any:
    """What `ungather` is the adjoint of; indices from the back are for `take` only."""
    return xp.gather(x, indices, None, axis, batch_dims) if batch_dims else xp.take(x, indices, axis or 0)


@op(
    vjp=lambda xp, g, indices, axis, batch_dims: _picked(xp, g, indices, axis, batch_dims),
    jvp=LINEAR,
    batch=_ungathered_behind,
    samples=[
        Sample((3, 3), [0, 3, 0], shape=(4, 3), axis=0),
        Sample((3, 2), [3, 3], shape=(3, 4), axis=1),
        Sample((2,), [-1, 2], shape=(3,), axis=0),
        Sample((2, 3, 2), [[0, 3], [1, 1]], shape=(2, 3, 4), axis=2, batch_dims=1),
        Sample((2, 2, 3), [[0, 3], [1, 1]], shape=(2, 4, 3), axis=None, batch_dims=1),
    ],
    dtypes="efdFD",
)
def ungather(
    updates: TensorLike,
    indices: TensorLike,
    shape: Sequence[int],
    axis: int | None = None,
    batch_dims: int = 0,
) -> Array:
    """Zeros of `shape` with the updates added where `gather` reads; its adjoint, and that of `take`.

    >>> ungather([1.0, 2.0, 3.0], [0, 2, 0], (3,)).numpy()
    array([4., 0., 2.], dtype=float32)
    """
    indices = integers("ungather", indices)
    shape = tuple(shape)
    axis, batch = _axis_and_batch("ungather", shape, indices, axis, batch_dims)
    inner = indices.ndim - batch
    if axis != batch:
        updates = np.moveaxis(updates, range(axis, axis + inner), range(batch, batch + inner))
    rest = shape[batch:axis] + shape[axis + 1 :]
    rows = _rows(indices, batch, shape[axis])
    count = prod(shape[:batch]) * shape[axis]
    total = add_blocks(count, rows, updates.reshape(rows.size, *rest)).reshape(
        *shape[:batch], shape[axis], *rest
    )
    return total if axis == batch else np.moveaxis(total, batch, axis)


def _taken_behind(xp: Namespace, x: Any, indices: Any, axis: int | None) -> Any:
    if axis is None and x.ndim != 2:
        return NotImplemented
    axis = behind(axis or 0, x.ndim - 1)
    if indices.shape[0] == 1:
        return xp.take(x, alone(xp, indices), axis)
    if x.shape[0] == 1:
        return moved(xp, xp.take(alone(xp, x), indices, axis - 1), axis - 1, 0)
    return xp.gather(x, _from_front(xp, indices, x.shape[axis]), None, axis, 1)


@op(
    vjp=lambda xp, g, x_shape, indices, axis: xp.ungather(g, indices, x_shape, axis),
    jvp=LINEAR,
    batch=_taken_behind,
    samples=[Sample((4,), [0, -1, 0]), Sample((3, 4), [[1, -4]], axis=-1), Sample((2, 3), 1, axis=0)],
    dtypes="efdFD",
)
def take(x: TensorLike, indices: TensorLike, axis: int | None = None) -> Array:
    """The slices of `x` along `axis` at `indices`, integers of any shape; negative ones count from the back.

    The axis may be left out if `x` has one only. Raises OutOfRangeError for an index beyond the axis.

    >>> take([10.0, 20.0, 30.0], [0, -1]).numpy()
    array([10., 30.], dtype=float32)
    """
    indices = integers("take", indices)
    if axis is None and x.ndim != 1:
        raise ShapeError(f"take: an array of shape {x.shape} needs axis= to say along which to take")
    return x.take(indices, axis)


def _grid(shape: tuple[int, ...], batch: int) -> Array:
    """For indices of this shape, the indices of the batch that each of them belongs to."""
    counts = np.moveaxis(np.indices(shape[:batch]), 0, -1)
    counts = counts.reshape(*shape[:batch], *(1,) * (len(shape) - 1 - batch), batch)
    return np.broadcast_to(counts, (*shape[:-1], batch))


def _unpicked(xp: Namespace, g: Any, shape: tuple[int, ...], indices: Any, batch_dims: int) -> Any:
    if batch_dims:
        indices = xp.concat([_grid(indices.shape, batch_dims), indices], -1)
    return xp.scatter_nd(indices, g, shape)


def _points_behind(xp: Namespace, params: Any, indices: Any, batch_dims: int) -> Any:
    last = params.ndim - 1
    if indices.shape[-1] > last:
        return NotImplemented  # there are not so many axes, as the op will say
    if not batch_dims and indices.shape[0] == 1:
        found = xp.gather_nd(moved(xp, params, 0, last), alone(xp, indices))
        return moved(xp, found, found.ndim - 1, 0)
    if not batch_dims and params.shape[0] == 1:
        return xp.gather_nd(alone(xp, params), indices)
    size = size_of([params, indices])
    return xp.gather_nd(spread(xp, params, size), spread(xp, indices, size), batch_dims + 1)


@op(
    vjp=lambda xp, g, params_shape, indices, batch_dims: _unpicked(xp, g, params_shape, indices, batch_dims),
    jvp=LINEAR,
    batch=_points_behind,
    samples=[
        Sample((3, 4), [[0, 1], [2, 3], [0, 1]]),
        Sample((3, 4), [[2], [2]]),
        Sample((3,), np.zeros((2, 0), int)),
        Sample((3, 2), np.zeros((0, 1), int)),
        Sample((3,), [1]),
        Sample((2, 3, 4), [[[0, 1], [0, 1]], [[2, 3], [1, 1]]], batch_dims=1),
        Sample((2, 3, 4, 2), [[[0], [3], [3]], [[2], [1], [0]]], batch_dims=2),
    ],
    dtypes="efdFD",
)
def gather_nd(params: TensorLike, indices: TensorLike, batch_dims: int = 0) -> Array:
    """The slices of `params` at points: the last axis of `indices` holds an index into its first K axes.

    params: shape B + N + R with K = len(N); indices: integers of shape B + I + (K,), where B is the first
    `batch_dims` axes. Returns shape B + I + R.

    Raises OutOfRangeError for an index that is negative or beyond its axis, ShapeError if the shapes do not
    fit.

    >>> gt.gather_nd([[1.0, 2.0], [3.0, 4.0]], [[0, 1], [1, 0]]).numpy()
    array([2., 3.], dtype=float32)
    """
    indices = integers("gather_nd", indices)
    if batch_dims:
        if not 0 < batch_dims < indices.ndim or params.shape[:batch_dims] != indices.shape[:batch_dims]:
            raise ShapeError(
                f"gather_nd: with batch_dims={batch_dims} the leading axes must agree, "
                f"got params {params.shape}, indices {indices.shape}"
            )
        indices = np.concatenate([_grid(indices.shape, batch_dims), indices], -1)
    positions, count, block = point_positions("gather_nd", indices, params.shape)
    return params.reshape(count, *block).take(positions, 0)
