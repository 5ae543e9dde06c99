"""Putting elements in order, and what order they are in."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from gradtape.errors import ArgumentError, ShapeError
from gradtape.ops.op import ALONG_AXIS, VECTORS, Namespace, Sample, composite, op
from gradtape.tensor import Array, DTypeLike, Tensor, TensorLike, as_dtype

__all__ = ["TopKV2", "argsort", "sort", "top_k"]


class TopKV2(NamedTuple):
    """The k largest values along the last axis, and their indices."""

    values: Tensor
    indices: Tensor


def _descends(name: str, direction: str) -> bool:
    if direction not in ("ASCENDING", "DESCENDING"):
        raise ArgumentError(f"{name}: direction must be 'ASCENDING' or 'DESCENDING', got {direction!r}")
    return direction == "DESCENDING"


def _reversed(values: Array) -> Array:
    """Values of the opposite order, NaN the last of either; its own inverse. Integers cannot overflow."""
    return ~values if values.dtype.kind in "iub" else -values


def _unsorted(xp: Namespace, g: Any, order: Any, axis: int) -> Any:
    """g along `axis` put back to where it was before it was put in `order`."""
    last = g.ndim - 1
    back = xp.argsort(order, axis)
    axis = normalize_axis_index(axis, g.ndim)
    if axis == last:
        return xp.gather(g, back, None, last, last)
    swapped = list(range(g.ndim))
    swapped[axis], swapped[last] = last, axis
    found = xp.gather(xp.transpose(g, swapped), xp.transpose(back, swapped), None, last, last)
    return xp.transpose(found, swapped)


@op(
    vjp=lambda xp, g, values, axis, direction: _unsorted(xp, g, xp.argsort(values, axis, direction), axis),
    batch=ALONG_AXIS,
    samples=[
        Sample((5,)),
        Sample((3, 4), axis=0),
        Sample((2, 3, 4), axis=1, direction="DESCENDING"),
        Sample((3, 4), direction="DESCENDING"),
        Sample((0, 2), axis=0),
    ],
    dtypes="efd",
)
def sort(values: TensorLike, axis: int = -1, direction: str = "ASCENDING") -> Array:
    """The values in order along `axis`, direction "ASCENDING" or "DESCENDING"; NaN comes last.

    The cotangent goes back to where each value came from; equal ones keep their order. Raises AxisError for
    an axis that is not there.

    >>> gt.sort([3.0, 1.0, 2.0], direction="DESCENDING").numpy()
    array([3., 2., 1.], dtype=float32)
    """
    if _descends("sort", direction):
        return _reversed(np.sort(_reversed(values), axis))
    return np.sort(values, axis)


@op(
    differentiable=False,
    batch=ALONG_AXIS,
    samples=[Sample((5,)), Sample((3, 4), axis=0, direction="DESCENDING"), Sample((0, 2))],
    dtypes="efd",
)
def argsort(values: TensorLike, axis: int = -1, direction: str = "ASCENDING", stable: bool = False) -> Array:
    """The indices (int32) that put the values in order along `axis`, as in `sort`; not differentiable.

    Equal values always keep their order, whatever `stable` says.

    >>> gt.argsort([3.0, 1.0, 3.0], direction="DESCENDING").numpy()
    array([0, 2, 1], dtype=int32)
    """
    ordered = _reversed(values) if _descends("argsort", direction) else values
    return np.argsort(ordered, axis, kind="stable").astype(np.int32)


@op(
    title="top_k",
    differentiable=False,
    batch=VECTORS,
    samples=[Sample((5,), k=2), Sample((2, 3), k=0)],
    dtypes="efd",
)
def top_k_indices(input: TensorLike, k: int = 1) -> Array:
    """The indices (int32) of the k largest values along the last axis, the largest first.

    >>> top_k_indices([3.0, 1.0, 3.0], 2).numpy()
    array([0, 2], dtype=int32)
    """
    if not input.ndim or not 0 <= k <= input.shape[-1]:
        raise ShapeError(
            f"top_k: k={k} values wanted of an array of shape {input.shape}; its last axis has fewer"
        )
    return np.argsort(_reversed(input), axis=-1, kind="stable")[..., :k].astype(np.int32)


@composite(
    samples=[
        Sample((5,), k=2),
        Sample((2, 3), k=3, index_type=np.int64),
        Sample((2, 2, 4)),
        Sample((2, 3), k=0),
    ],
    dtypes="efd",
)
def top_k(
    xp: Namespace, input: TensorLike, k: int = 1, sorted: bool = True, index_type: DTypeLike = np.int32
) -> TopKV2:
    """The k largest values along the last axis, the largest first, and their indices, as a pair.

    Of equal values the one with the lower index comes first; `sorted` changes nothing. index_type: the dtype
    of the indices. Raises ShapeError if the axis has less than k values.

    >>> values, indices = gt.math.top_k([1.0, 4.0, 2.0], k=2)
    >>> values.numpy(), indices.numpy()
    (array([4., 2.], dtype=float32), array([1, 2], dtype=int32))
    """
    x = xp.convert_to_tensor(input)
    indices = xp.top_k_indices(x, k)
    batch = indices.ndim - 1
    return TopKV2(xp.gather(x, indices, None, batch, batch), xp.cast(indices, as_dtype(index_type)))
