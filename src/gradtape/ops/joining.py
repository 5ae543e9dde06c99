"""Joining arrays to one along an axis, and parting one into several."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from gradtape.errors import ShapeError
from gradtape.ops.batching import ALONG_AXIS, behind, size_of, spread
from gradtape.ops.namespace import Namespace
from gradtape.ops.op import LINEAR, op
from gradtape.ops.sample import Sample, Uniform
from gradtape.tensor import Array, TensorLike

__all__ = ["concat", "split", "stack", "unstack"]


def _part(axis: int, ndim: int, place: Any) -> tuple[Any, ...]:
    """The index that is `place` on one axis and everything on those before it."""
    return (*(slice(None),) * (axis % ndim), place)


def _concat_behind(xp: Namespace, values: Sequence[Any], axis: int) -> Any:
    size = size_of(values)
    return xp.concat([spread(xp, x, size) for x in values], behind(axis, values[0].ndim - 1))


def _stack_behind(xp: Namespace, values: Sequence[Any], axis: int) -> Any:
    size = size_of(values)
    return xp.stack([spread(xp, x, size) for x in values], behind(axis, values[0].ndim))


def _concat_vjp(xp: Namespace, g: Any, i: int, shapes: tuple[tuple[int, ...], ...], axis: int) -> Any:
    ndim = len(shapes[i])
    start = sum(s[axis] for s in shapes[:i])
    return g[_part(axis, ndim, slice(start, start + shapes[i][axis]))]


@op(
    vjp=_concat_vjp,
    jvp=LINEAR,
    batch=_concat_behind,
    samples=[
        Sample([Uniform((2, 3)), Uniform((4, 3))], 0),
        Sample([Uniform((2, 1)), Uniform((2, 3)), Uniform((2, 0))], -1),
        Sample([Uniform((2, 1, 2)), Uniform((2, 3, 2))], 1),
        Sample([Uniform((3,))], 0),
    ],
    dtypes="efdFD",
)
def concat(values: Sequence[TensorLike], axis: int) -> Array:
    """The arrays one behind the other along `axis`; they agree on every other axis, else ShapeError.

    >>> gt.concat([[1.0, 2.0], [3.0]], 0)
    <tf.Tensor: shape=(3,), dtype=float32, numpy=array([1., 2., 3.], dtype=float32)>
    """
    return np.concatenate(values, axis)


@op(
    vjp=lambda xp, g, i, shapes, axis: g[_part(axis, len(shapes[i]) + 1, i)],
    jvp=LINEAR,
    batch=_stack_behind,
    samples=[
        Sample([Uniform((2, 3)), Uniform((2, 3))]),
        Sample([Uniform((2, 3)), Uniform((2, 3)), Uniform((2, 3))], axis=1),
        Sample([Uniform((2, 3)), Uniform((2, 3))], axis=-1),
        Sample([Uniform(()), Uniform(())]),
        Sample([Uniform((0, 2))]),
    ],
    dtypes="efdFD",
)
def stack(values: Sequence[TensorLike], axis: int = 0) -> Array:
    """The arrays one behind the other along a new axis; they agree in shape, else ShapeError.

    >>> gt.stack([[1.0, 2.0], [3.0, 4.0]], axis=1)
    <tf.Tensor: shape=(2, 2), dtype=float32, numpy=
    array([[1., 3.],
           [2., 4.]], dtype=float32)>
    """
    weak = any(not hasattr(value, "dtype") for value in values)
    return np.stack(values, axis, dtype=np.result_type(*values) if weak else None)


def _filled(xp: Namespace, parts: Sequence[Any], shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    """The cotangents of an op's several results, zeros where there is none."""
    dtype = next(g.dtype for g in parts if g is not None)
    return [xp.zeros(shape, dtype) if g is None else g for g, shape in zip(parts, shapes, strict=True)]


def _unstack_vjp(xp: Namespace, g: Sequence[Any], axis: int) -> Any:
    shape = next(part.shape for part in g if part is not None)
    return xp.stack(_filled(xp, g, [shape] * len(g)), axis)


@op(
    vjp=_unstack_vjp,
    jvp=LINEAR,
    batch=ALONG_AXIS,
    samples=[
        Sample((3, 4)),
        Sample((3, 4), axis=1),
        Sample((2, 3, 2), axis=-2),
        Sample((3,), 3),
        Sample((0, 2)),
    ],
    dtypes="efdFD",
)
def unstack(value: TensorLike, num: int | None = None, axis: int = 0) -> list[Array]:
    """The list of slices along `axis`, which they have no longer. Raises ShapeError if they are not `num`.

    >>> first, second = gt.unstack([[1.0, 2.0], [3.0, 4.0]])
    >>> second
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([3., 4.], dtype=float32)>
    """
    parts = list(np.moveaxis(value, axis, 0))
    if num is not None and num != len(parts):
        raise ShapeError(f"unstack: shape {value.shape} has {len(parts)} slices along axis {axis}, not {num}")
    return parts


def _sizes(shape: tuple[int, ...], parts: int | Sequence[int], axis: int) -> list[int]:
    """The lengths of the parts that `split` makes."""
    n = shape[axis]
    if isinstance(parts, int):
        if parts < 1 or n % parts:
            raise ShapeError(
                f"split: axis {axis} of shape {shape} does not make {parts} equal parts; give their sizes"
            )
        return [n // parts] * parts
    sizes = list(parts)
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = n - sum(sizes) - 1
    if sum(sizes) != n or min(sizes, default=0) < 0:
        raise ShapeError(f"split: sizes {list(parts)} do not add up to axis {axis} of shape {shape}")
    return sizes


def _split_vjp(
    xp: Namespace, g: Sequence[Any], value_shape: tuple[int, ...], num_or_size_splits: Any, axis: int
) -> Any:
    place = axis % len(value_shape)
    sizes = _sizes(value_shape, num_or_size_splits, axis)
    return xp.concat(
        _filled(xp, g, [(*value_shape[:place], n, *value_shape[place + 1 :]) for n in sizes]), axis
    )


@op(
    vjp=_split_vjp,
    jvp=LINEAR,
    batch=ALONG_AXIS,
    samples=[
        Sample((4, 3), 2),
        Sample((4, 3), [1, 3]),
        Sample((2, 6), [2, -1, 1], axis=-1),
        Sample((2, 4, 2), 4, axis=1),
        Sample((0, 2), 1),
    ],
    dtypes="efdFD",
)
def split(
    value: TensorLike, num_or_size_splits: int | Sequence[int], axis: int = 0, num: int | None = None
) -> list[Array]:
    """The list of parts along `axis`: so many equal ones, or of the sizes given, where -1 is the rest.

    Raises ShapeError if they do not make up the axis, or are not `num`.

    >>> head, tail = gt.split([1.0, 2.0, 3.0], [1, 2])
    >>> tail
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([2., 3.], dtype=float32)>
    """
    if not -value.ndim <= axis < value.ndim:
        raise np.exceptions.AxisError(axis, value.ndim)
    sizes = _sizes(value.shape, num_or_size_splits, axis)
    if num is not None and num != len(sizes):
        raise ShapeError(f"split: {len(sizes)} sizes {sizes}, but num is {num}")
    ends = np.cumsum([0, *sizes]).tolist()
    return [value[_part(axis, value.ndim, slice(a, b))] for a, b in pairwise(ends)]
