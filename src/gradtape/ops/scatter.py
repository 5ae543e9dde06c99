"""Adding and writing to points and segments of arrays, and the kernels that all scattering shares."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from gradtape.errors import DTypeError, OutOfRangeError, ShapeError
from gradtape.ops.batching import alone, moved, size_of, spread
from gradtape.ops.op import LINEAR, Namespace, Sample, op
from gradtape.ops.rule import Forward
from gradtape.tensor import Array, TensorLike

__all__ = [
    "add_blocks",
    "cast_to",
    "check_range",
    "integers",
    "is_last",
    "point_positions",
    "scatter_nd",
    "segment_sum",
    "tensor_scatter_nd_add",
    "tensor_scatter_nd_update",
    "unsorted_segment_sum",
]

# Elements added at a time: their positions, eight bytes each, should stay in cache.
_CHUNK = 2**17


# -- kernels -------------------------------------------------------------------------------------------------


def integers(name: str, indices: Array) -> Array:
    """The indices as intp, the dtype that NumPy indexes with; an empty list counts as integers."""
    if indices.dtype.kind not in "iu" and indices.size:
        raise DTypeError(f"{name}: the indices have dtype {indices.dtype}, wanted integers; cast them")
    return indices.astype(np.intp, copy=False)


def check_range(name: str, indices: Array, n: int, what: str) -> None:
    """Raises OutOfRangeError unless all indices, of dtype intp, are from 0 to n - 1."""
    if indices.size and np.maximum.reduce(indices.view(np.uintp), axis=None) >= n:
        where = np.argwhere(np.atleast_1d(indices).view(np.uintp) >= n)[0].tolist()
        bad = np.atleast_1d(indices)[tuple(where)]
        raise OutOfRangeError(f"{name}: index {bad} (at {where}) is not in [0, {n}): {what}")


def add_blocks(count: int, positions: Array, blocks: Array) -> Array:
    """Zeros of shape (count, *block) with each of the blocks, shape (m, *block), added at one of m positions.

    NumPy adds at repeated indices at full speed only along one axis, so blocks are taken apart to elements,
    some at a time. Halves are added up in single precision.
    """
    block = blocks.shape[1:]
    width = prod(block)
    total = np.zeros(count * width, np.float32 if blocks.dtype == np.float16 else blocks.dtype)
    rows = max(1, _CHUNK // max(1, width))
    for start in range(0, len(positions) if width else 0, rows):
        some = positions[start : start + rows]
        if width != 1:
            some = (some[:, None] * width + np.arange(width)).ravel()
        np.add.at(total, some, blocks[start : start + rows].ravel().astype(total.dtype, copy=False))
    return total.reshape(count, *block).astype(blocks.dtype, copy=False)


def is_last(positions: Array, count: int) -> Array:
    """For each of m positions below `count`, whether it does not come again."""
    order = np.arange(len(positions))
    holder = np.empty(count, np.intp)
    holder[positions] = order
    return holder[positions] == order


def cast_to(name: str, v: Any, dtype: np.dtype[Any]) -> Array:
    """The array `v` in another dtype of its kind or a greater one; DTypeError for any other."""
    given = np.asarray(v)
    if given.dtype == dtype:
        return given
    if given.dtype.kind in "iu" and dtype.kind in "iu":
        cast = given.astype(dtype)
        if np.array_equal(cast, given):
            return cast
        raise DTypeError(
            f"{name}: the integers of dtype {given.dtype} do not all fit into {dtype}; cast on purpose"
        )
    if not np.can_cast(given.dtype, dtype, "same_kind"):
        raise DTypeError(
            f"{name}: values of dtype {given.dtype} cannot be stored in an array of dtype {dtype}; "
            "cast the values, or cast the array first"
        )
    return given.astype(dtype)


def point_positions(name: str, indices: Array, shape: tuple[int, ...]) -> tuple[Array, int, tuple[int, ...]]:
    """Points in the first K axes of an array of `shape`, as positions in a row of `count` blocks.

    indices: shape I + (K,). Returns the positions, shape I, the count, and the shape of a block.
    """
    if not indices.ndim or indices.shape[-1] > len(shape):
        raise ShapeError(
            f"{name}: indices of shape {indices.shape} cannot point into an array of shape {shape}; "
            "their last axis holds one index for each of its leading axes"
        )
    k = indices.shape[-1]
    lengths = np.array(shape[:k], np.intp)
    outside = (indices < 0) | (indices >= lengths)
    if outside.any():
        where = np.argwhere(outside.any(-1))[0].tolist()
        point = indices[tuple(where)].tolist()
        raise OutOfRangeError(f"{name}: index {point} (at {where}) does not point into shape {tuple(shape)}")
    strides = [prod(shape[i + 1 : k]) for i in range(k)]
    return indices @ np.array(strides, np.intp), prod(shape[:k]), tuple(shape[k:])


def _point_updates(
    name: str, indices: Array, updates: Array, shape: Sequence[int]
) -> tuple[Array, int, tuple[int, ...], Array]:
    """The positions, shape (m,), count and shape of blocks, and the updates as (m, *block)."""
    positions, count, block = point_positions(name, integers(name, indices), tuple(shape))
    if updates.shape != positions.shape + block:
        raise ShapeError(
            f"{name}: updates of shape {updates.shape} for indices of shape {indices.shape} into shape "
            f"{tuple(shape)}; wanted {positions.shape + block}"
        )
    return positions.ravel(), count, block, updates.reshape(positions.size, *block)


# -- points --------------------------------------------------------------------------------------------------

_POINTS: list[tuple[Any, tuple[int, ...], tuple[int, ...]]] = [
    ([[1], [1], [3]], (3,), (5,)),
    ([[0, 1], [2, 0], [0, 1]], (3, 2), (3, 2, 2)),
    ([[[0]], [[2]]], (2, 1, 2), (3, 2)),
    (np.zeros((0, 1), int), (0, 2), (3, 2)),
    (np.zeros((2, 0), int), (2, 3), (3,)),
]


def _numbered(xp: Namespace, indices: Any, size: int) -> Any:
    """The points of each example, shape (size, ..., K), as points (..., K + 1) in the array of all."""
    indices = spread(xp, indices, size)
    numbers = np.arange(size).reshape(size, *(1,) * (indices.ndim - 1))
    numbers = np.broadcast_to(numbers, (*indices.shape[:-1], 1))
    return xp.concat([xp.cast(numbers, indices.dtype), indices], -1)


def _scattered_nd_behind(xp: Namespace, indices: Any, updates: Any, shape: tuple[int, ...]) -> Any:
    if indices.shape[0] == 1:
        updates = moved(xp, updates, 0, updates.ndim - 1)
        found = xp.scatter_nd(alone(xp, indices), updates, (*shape, updates.shape[-1]))
        return moved(xp, found, found.ndim - 1, 0)
    size = size_of([indices, updates])
    return xp.scatter_nd(_numbered(xp, indices, size), spread(xp, updates, size), (size, *shape))


def _scattered_into(name: str) -> Forward:
    """The batching rule of an op that scatters into a tensor."""

    def batch(xp: Namespace, tensor: Any, indices: Any, updates: Any) -> Any:
        size = size_of([tensor, indices, updates])
        tensor, updates = spread(xp, tensor, size), spread(xp, updates, size)
        return getattr(xp, name)(tensor, _numbered(xp, indices, size), updates)

    return batch


def _last_behind(xp: Namespace, indices: Any, shape: tuple[int, ...]) -> Any:
    return xp.last_update(_numbered(xp, indices, indices.shape[0]), (indices.shape[0], *shape))


@op(
    vjp=(None, lambda xp, g, indices: xp.gather_nd(g, indices)),
    jvp=LINEAR,
    batch=_scattered_nd_behind,
    samples=[Sample(indices, updates, shape=shape) for indices, updates, shape in _POINTS],
    dtypes="efdFD",
)
def scatter_nd(indices: TensorLike, updates: TensorLike, shape: Sequence[int]) -> Array:
    """Zeros of `shape` with the updates added at points; those at the same point add up.

    indices: integers of shape I + (K,), whose last axis points into the first K axes of the result; updates:
    shape I + shape[K:]. The adjoint of `gather_nd`. Raises OutOfRangeError for an index that is negative or
    beyond its axis, ShapeError for updates of another shape.

    >>> gt.scatter_nd([[1], [3], [1]], [1.0, 2.0, 3.0], [5]).numpy()
    array([0., 4., 0., 2., 0.], dtype=float32)
    """
    positions, count, _, blocks = _point_updates("scatter_nd", indices, updates, shape)
    return add_blocks(count, positions, blocks).reshape(shape)


@op(
    promote=("tensor", "updates"),
    vjp=(lambda xp, g: g, None, lambda xp, g, indices: xp.gather_nd(g, indices)),
    jvp=LINEAR,
    batch=_scattered_into("tensor_scatter_nd_add"),
    samples=[Sample(shape, indices, updates) for indices, updates, shape in _POINTS],
    dtypes="efdFD",
)
def tensor_scatter_nd_add(tensor: TensorLike, indices: TensorLike, updates: TensorLike) -> Array:
    """The tensor with the updates added at points, as in `scatter_nd`; the result has the tensor's dtype.

    Raises OutOfRangeError, ShapeError, or DTypeError if that dtype cannot hold the updates.

    >>> gt.tensor_scatter_nd_add([1.0, 1.0, 1.0], [[0], [2], [0]], [1.0, 2.0, 3.0]).numpy()
    array([5., 1., 3.], dtype=float32)
    """
    new = cast_to("tensor_scatter_nd_add", updates, tensor.dtype)
    positions, count, _, blocks = _point_updates("tensor_scatter_nd_add", indices, new, tensor.shape)
    return tensor + add_blocks(count, positions, blocks).reshape(tensor.shape)


@op(
    differentiable=False,
    batch=_last_behind,
    samples=[Sample([[1], [0], [1]], shape=(3, 2))],
)
def last_update(indices: TensorLike, shape: Sequence[int]) -> Array:
    """For updates at points of an array of `shape`, whether no later one is at the same point.

    indices: shape I + (K,). Returns booleans that broadcast to the updates, of shape I + (1,) * (len(shape) -
    K).

    >>> last_update([[1], [0], [1]], (3,)).numpy()
    array([False,  True,  True])
    """
    positions, count, block = point_positions("last_update", integers("last_update", indices), tuple(shape))
    return is_last(positions.ravel(), count).reshape(positions.shape + (1,) * len(block))


@op(
    promote=("tensor", "updates"),
    vjp=(
        lambda xp, g, indices, updates_shape: xp.tensor_scatter_nd_update(
            g, indices, xp.zeros(updates_shape, g.dtype)
        ),
        None,
        lambda xp, g, indices: xp.where(
            xp.last_update(indices, g.shape), xp.gather_nd(g, indices), xp.zeros((), g.dtype)
        ),
    ),
    jvp=LINEAR,
    batch=_scattered_into("tensor_scatter_nd_update"),
    samples=[Sample(shape, indices, updates) for indices, updates, shape in _POINTS],
    dtypes="efdFD",
)
def tensor_scatter_nd_update(tensor: TensorLike, indices: TensorLike, updates: TensorLike) -> Array:
    """The tensor with the updates put at points, as in `scatter_nd`; the last one at a point stays.

    The cotangent of an update that a later one overwrites is 0. The result has the tensor's dtype.
    Raises OutOfRangeError, ShapeError, or DTypeError if that dtype cannot hold the updates.

    >>> gt.tensor_scatter_nd_update([1.0, 1.0, 1.0], [[0], [2]], [5.0, 6.0]).numpy()
    array([5., 1., 6.], dtype=float32)
    """
    new = cast_to("tensor_scatter_nd_update", updates, tensor.dtype)
    positions, count, block, blocks = _point_updates("tensor_scatter_nd_update", indices, new, tensor.shape)
    last = is_last(positions, count)
    out = np.array(tensor, order="C")
    out.reshape(count, *block)[positions[last]] = blocks[last]
    return out if out.ndim else out[()]


# -- segments ------------------------------------------------------------------------------------------------


def _segment_rows(name: str, data: Array, segment_ids: Array) -> tuple[Array, Array]:
    """The ids, shape (m,), and the data as (m, *rest)."""
    ids = integers(name, segment_ids)
    if data.shape[: ids.ndim] != ids.shape:
        raise ShapeError(
            f"{name}: segment_ids of shape {ids.shape} must have the leading axes of the data, "
            f"of shape {data.shape}"
        )
    return ids.ravel(), data.reshape(ids.size, *data.shape[ids.ndim :])


def _segments_behind(xp: Namespace, data: Any, segment_ids: Any) -> Any:
    if segment_ids.shape[0] != 1:
        return NotImplemented  # how many segments there are may differ
    return moved(xp, xp.segment_sum(moved(xp, data, 0, 1), alone(xp, segment_ids)), 1, 0)


def _unsorted_segments_behind(xp: Namespace, data: Any, segment_ids: Any, num_segments: int) -> Any:
    ids = segment_ids.ndim - 1
    if segment_ids.shape[0] == 1:
        summed = xp.unsorted_segment_sum(moved(xp, data, 0, ids), alone(xp, segment_ids), num_segments)
        return moved(xp, summed, 1, 0)
    size = size_of([data, segment_ids])
    numbered = _numbered_segments(xp, spread(xp, segment_ids, size), num_segments)
    summed = xp.unsorted_segment_sum(spread(xp, data, size), numbered, size * num_segments)
    return xp.reshape(summed, (size, num_segments, *summed.shape[1:]))


def _numbered_segments(xp: Namespace, ids: Any, n: int) -> Any:
    """The ids of each example, n at most, as ids of all; negative ones stay so."""
    first = n * np.arange(ids.shape[0]).reshape(-1, *(1,) * (ids.ndim - 1))
    return xp.where(ids < 0, ids, ids + first)


def _read_segments_behind(xp: Namespace, x: Any, segment_ids: Any) -> Any:
    if segment_ids.shape[0] == 1:
        ids = alone(xp, segment_ids)
        return moved(xp, xp.read_segments(moved(xp, x, 0, 1), ids), ids.ndim, 0)
    if x.shape[0] == 1:
        return xp.read_segments(alone(xp, x), segment_ids)
    size, n, *row = x.shape
    return xp.read_segments(xp.reshape(x, (size * n, *row)), _numbered_segments(xp, segment_ids, n))


@op(
    varies=True,
    vjp=lambda xp, g, segment_ids: xp.read_segments(g, segment_ids),
    jvp=LINEAR,
    batch=_segments_behind,
    samples=[Sample((4, 2), [0, 0, 2, 2]), Sample((3,), [0, 1, 1]), Sample((0, 2), np.zeros(0, int))],
    dtypes="efdFD",
)
def segment_sum(data: TensorLike, segment_ids: TensorLike) -> Array:
    """The sums of runs of slices along axis 0; a segment without slices gives 0.

    data: shape (m, ...); segment_ids: m integers in ascending order, from 0. Returns shape (last id + 1,
    ...). Raises OutOfRangeError if the ids are negative or not in order, ShapeError if there are not m of
    them.

    >>> gt.math.segment_sum([1.0, 2.0, 3.0], [0, 0, 2]).numpy()
    array([3., 0., 3.], dtype=float32)
    """
    ids, rows = _segment_rows("segment_sum", data, segment_ids)
    if segment_ids.ndim != 1:
        raise ShapeError(f"segment_sum: segment_ids must have one axis, not shape {segment_ids.shape}")
    if ids.size and (ids[0] < 0 or (ids[1:] < ids[:-1]).any()):
        raise OutOfRangeError(
            "segment_sum: segment_ids must ascend, from 0 or more; unsorted_segment_sum takes any order"
        )
    return add_blocks(int(ids[-1]) + 1 if ids.size else 0, ids, rows)


@op(
    vjp=lambda xp, g, segment_ids: xp.read_segments(g, segment_ids),
    jvp=LINEAR,
    batch=_unsorted_segments_behind,
    samples=[
        Sample((4, 2), [2, 0, -1, 2], num_segments=4),
        Sample((2, 3), [[0, 1, 0], [1, -1, 0]], num_segments=2),
        Sample((3,), 1, num_segments=2),
        Sample((0, 2), np.zeros(0, int), num_segments=2),
        Sample((2,), [-1, -1], num_segments=0),
    ],
    dtypes="efdFD",
)
def unsorted_segment_sum(data: TensorLike, segment_ids: TensorLike, num_segments: int) -> Array:
    """The sums of the slices of `data` that have the same id; a segment without slices gives 0.

    segment_ids: integers below num_segments, of the shape of the leading axes of the data; what has a
    negative id is left out. Returns shape (num_segments,) + data.shape[segment_ids.ndim:]. Raises
    OutOfRangeError for an id that is too large, ShapeError if the shapes do not fit.

    >>> gt.math.unsorted_segment_sum([1.0, 2.0, 3.0], [1, 0, 1], 3).numpy()
    array([2., 4., 0.], dtype=float32)
    """
    ids, rows = _segment_rows("unsorted_segment_sum", data, segment_ids)
    kept = ids >= 0
    if not kept.all():
        ids, rows = ids[kept], rows[kept]
    check_range("unsorted_segment_sum", ids, num_segments, "num_segments is the bound of segment_ids")
    return add_blocks(num_segments, ids, rows)


@op(
    vjp=lambda xp, g, segment_ids, x_shape: xp.unsorted_segment_sum(g, segment_ids, x_shape[0]),
    jvp=LINEAR,
    batch=_read_segments_behind,
    samples=[Sample((3, 2), [[2, -1], [0, 0]]), Sample((2,), [1, 0]), Sample((0, 2), [-1, -1])],
    dtypes="efdFD",
)
def read_segments(x: TensorLike, segment_ids: TensorLike) -> Array:
    """The row of `x` for each id, zeros for negative ones; the adjoint of `unsorted_segment_sum`.

    >>> read_segments([1.0, 2.0], [1, -1, 0]).numpy()
    array([2., 0., 1.], dtype=float32)
    """
    ids = integers("read_segments", segment_ids)
    kept = ids >= 0
    if kept.all():
        return x.take(ids, 0)
    rows = np.zeros(ids.shape + x.shape[1:], x.dtype)
    rows[kept] = x[ids[kept]]
    return rows
