"""Shapes: the same elements in another arrangement, and what their shape is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradtape.errors import ArgumentError, ShapeError
from gradtape.ops.batching import ALONG_AXIS, OF_SHAPE, behind, lead
from gradtape.ops.broadcasting import unbroadcast
from gradtape.ops.namespace import Namespace
from gradtape.ops.op import LINEAR, op
from gradtape.ops.sample import Sample
from gradtape.tensor import Array, DTypeLike, TensorLike, as_dtype

__all__ = [
    "broadcast_to",
    "expand_dims",
    "pad",
    "rank",
    "repeat",
    "reshape",
    "reverse",
    "roll",
    "shape",
    "size",
    "squeeze",
    "tile",
    "transpose",
]

Axes = int | Sequence[int] | None


# -- the same elements ---------------------------------------------------------------------------------------


def _lengths(shape: Any, given: tuple[int, ...]) -> tuple[int, ...]:
    """The new shape of one example of shape `given`, -1 worked out, since there may be no example at all."""
    lengths = shape if isinstance(shape, tuple) else (shape,)
    others = math.prod(n for n in lengths if n != -1)
    return tuple(math.prod(given) // others if n == -1 and others else n for n in lengths)


@op(
    vjp=lambda xp, g, tensor_shape: xp.reshape(g, tensor_shape),
    jvp=LINEAR,
    batch=lambda xp, x, shape: xp.reshape(x, (x.shape[0], *_lengths(shape, x.shape[1:]))),
    samples=[
        Sample((3, 4), [2, 6]),
        Sample((3, 4), [-1]),
        Sample((3, 4), [2, -1, 2]),
        Sample((1,), []),
        Sample((), [1, 1]),
        Sample((0, 2), [0]),
    ],
    dtypes="efdFD",
)
def reshape(tensor: TensorLike, shape: Sequence[int]) -> Array:
    """The elements, in order, in another shape; one length may be -1, and follows from the others.

    Raises ShapeError if the number of elements differs.

    >>> gt.reshape([1.0, 2.0, 3.0, 4.0], (2, -1))
    <tf.Tensor: shape=(2, 2), dtype=float32, numpy=
    array([[1., 2.],
           [3., 4.]], dtype=float32)>
    """
    return tensor.reshape(shape)


def _undo(perm: Sequence[int] | None) -> tuple[int, ...] | None:
    """The permutation that undoes `perm`."""
    if perm is None:
        return None
    n = len(perm)
    return tuple(sorted(range(n), key=[p % n for p in perm].__getitem__))


def _transposed_behind(xp: Namespace, a: Any, perm: Any, conjugate: bool) -> Any:
    order = tuple(range(a.ndim - 1, 0, -1)) if perm is None else behind(perm, a.ndim - 1)
    return xp.transpose(a, (0, *order), conjugate)


@op(
    vjp=lambda xp, g, perm, conjugate: xp.transpose(g, _undo(perm), conjugate),
    jvp=LINEAR,
    batch=_transposed_behind,
    samples=[
        Sample((3, 4)),
        Sample((2, 3, 4), perm=[1, 2, 0]),
        Sample((2, 3, 4), perm=[-1, 0, 1], conjugate=True),
        Sample((3,)),
        Sample(()),
        Sample((0, 2)),
    ],
    dtypes="efdFD",
)
def transpose(a: TensorLike, perm: Sequence[int] | None = None, conjugate: bool = False) -> Array:
    """The axes in the order `perm`, reversed if there is none; complex conjugated if `conjugate`.

    >>> gt.transpose([[1.0, 2.0], [3.0, 4.0]])
    <tf.Tensor: shape=(2, 2), dtype=float32, numpy=
    array([[1., 3.],
           [2., 4.]], dtype=float32)>
    """
    turned = a.transpose() if perm is None else a.transpose(perm)
    return turned.conj() if conjugate else turned


@op(
    vjp=lambda xp, g, input_shape: xp.reshape(g, input_shape),
    jvp=LINEAR,
    batch=lambda xp, x, axis: xp.expand_dims(x, behind(axis, x.ndim - 1 + np.size(axis))),
    samples=[Sample((3, 4), 0), Sample((3, 4), -1), Sample((3, 4), [0, 2]), Sample((), 0), Sample((0, 2), 1)],
    dtypes="efdFD",
)
def expand_dims(input: TensorLike, axis: int | Sequence[int]) -> Array:
    """A new axis of length 1 at the place `axis` of the result; a tuple makes several.

    >>> gt.expand_dims([1.0, 2.0], -1)
    <tf.Tensor: shape=(2, 1), dtype=float32, numpy=
    array([[1.],
           [2.]], dtype=float32)>
    """
    if type(axis) is int and -input.ndim - 1 <= axis <= input.ndim:
        place = axis % (input.ndim + 1)
        return input.reshape((*input.shape[:place], 1, *input.shape[place:]))
    return np.expand_dims(input, axis)


@op(
    vjp=lambda xp, g, input_shape: xp.reshape(g, input_shape),
    jvp=LINEAR,
    batch=lambda xp, x, axis: xp.squeeze(
        x, tuple(i for i in range(1, x.ndim) if x.shape[i] == 1) if axis is None else behind(axis, x.ndim - 1)
    ),
    samples=[Sample((1, 3, 1)), Sample((1, 3, 1), [0]), Sample((1, 3, 1), -1), Sample(()), Sample((0, 1))],
    dtypes="efdFD",
)
def squeeze(input: TensorLike, axis: Axes = None) -> Array:
    """Without the axes of length 1: all of them, or those given. Raises ShapeError if one given is longer.

    >>> gt.squeeze([[[1.0], [2.0]]])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([1., 2.], dtype=float32)>
    """
    return input.squeeze(axis)


@op(
    vjp=lambda xp, g, axis: xp.reverse(g, axis),
    jvp=LINEAR,
    batch=ALONG_AXIS,
    samples=[
        Sample((3, 4), [0]),
        Sample((3, 4), [-1, 0]),
        Sample((3,), 0),
        Sample((), []),
        Sample((0, 2), [1]),
    ],
    dtypes="efdFD",
)
def reverse(tensor: TensorLike, axis: int | Sequence[int]) -> Array:
    """Back to front along each of the axes.

    >>> gt.reverse([1.0, 2.0, 3.0], [0])
    <tf.Tensor: shape=(3,), dtype=float32, numpy=array([3., 2., 1.], dtype=float32)>
    """
    return np.flip(tensor, axis)  # type: ignore[arg-type]


def _opposite(shift: int | tuple[int, ...]) -> int | tuple[int, ...]:
    return tuple(-s for s in shift) if isinstance(shift, tuple) else -shift


def _rolled_behind(xp: Namespace, x: Any, shift: Any, axis: Any) -> Any:
    if axis is not None:
        return xp.roll(x, shift, behind(axis, x.ndim - 1))
    row = xp.reshape(x, (x.shape[0], math.prod(x.shape[1:])))
    return xp.reshape(xp.roll(row, shift, 1), x.shape)


def _roll_lower(xp: Namespace, x: Any, shift: Any, axis: Any) -> Any:
    """The tail of each axis put in front of its head."""
    if axis is None:
        return xp.reshape(_roll_lower(xp, xp.reshape(x, (x.size,)), shift, 0), x.shape)
    for places, along in np.broadcast(shift, axis):
        whole = (slice(None),) * (along % x.ndim)
        n = x.shape[along]
        cut = -places % n if n else 0
        if cut:
            x = xp.concat([x[(*whole, slice(cut, None))], x[(*whole, slice(None, cut))]], along)
    return x


@op(
    vjp=lambda xp, g, shift, axis: xp.roll(g, _opposite(shift), axis),
    jvp=LINEAR,
    batch=_rolled_behind,
    samples=[
        Sample((3, 4), 1, 0),
        Sample((3, 4), [-1, 2], [0, 1]),
        Sample((3, 4), 5, -1),
        Sample((3, 4), 2, None),
        Sample((0, 2), 1, 0),
    ],
    dtypes="efdFD",
    lower=_roll_lower,
)
def roll(input: TensorLike, shift: int | Sequence[int], axis: Axes) -> Array:
    """Each element `shift` places further along its axis, the last ones coming round to the front.

    Several shifts go with as many axes; axis None rolls all elements as one row.

    >>> gt.roll([1.0, 2.0, 3.0], 1, 0)
    <tf.Tensor: shape=(3,), dtype=float32, numpy=array([3., 1., 2.], dtype=float32)>
    """
    return np.roll(input, shift, axis)


# -- more of the same ----------------------------------------------------------------------------------------


@op(
    vjp=lambda xp, g, input_shape: unbroadcast(xp, g, input_shape),
    jvp=LINEAR,
    batch=lambda xp, x, shape: xp.broadcast_to(lead(xp, x, len(shape)), (x.shape[0], *shape)),
    samples=[
        Sample((3, 1), [2, 3, 4]),
        Sample((), [2, 3]),
        Sample((1,), [0]),
        Sample((3,), [3]),
        Sample((), []),
        Sample((1, 1), [1, 4]),
        Sample((0, 1), [2, 0, 3]),
    ],
    dtypes="efdFD",
)
def broadcast_to(input: TensorLike, shape: Sequence[int]) -> Array:
    """`input` repeated to `shape` by broadcasting, without copying. Raises ShapeError if it does not fit.

    >>> gt.broadcast_to([1.0, 2.0], (2, 2))
    <tf.Tensor: shape=(2, 2), dtype=float32, numpy=
    array([[1., 2.],
           [1., 2.]], dtype=float32)>
    """
    if input.shape == shape:
        return input
    if isinstance(input, np.generic) and type(shape) is tuple:
        return np.ndarray(shape, input.dtype, input, 0, (0,) * len(shape))
    return np.broadcast_to(input, shape)


def _tiled_behind(xp: Namespace, x: Any, multiples: tuple[int, ...]) -> Any:
    x = lead(xp, x, len(multiples))
    return xp.tile(x, (*(1,) * (x.ndim - len(multiples)), *multiples))


def _tile_vjp(xp: Namespace, g: Any, input_shape: tuple[int, ...], multiples: tuple[int, ...]) -> Any:
    n = max(len(input_shape), len(multiples))
    counts = (1,) * (n - len(multiples)) + multiples
    lengths = (1,) * (n - len(input_shape)) + input_shape
    pairs = [x for pair in zip(counts, lengths, strict=True) for x in pair]
    return xp.reshape(
        xp.reduce_sum(xp.reshape(g, tuple(pairs)), tuple(range(0, 2 * n, 2)), False), input_shape
    )


def _tile_lower(xp: Namespace, x: Any, multiples: tuple[int, ...]) -> Any:
    """Broadcast over a new axis in front of each."""
    n = max(x.ndim, len(multiples))
    counts = (1,) * (n - len(multiples)) + multiples
    lengths = (1,) * (n - x.ndim) + x.shape
    pairs = list(zip(counts, lengths, strict=True))
    x = xp.reshape(x, tuple(m for _, length in pairs for m in (1, length)))
    x = xp.broadcast_to(x, tuple(m for pair in pairs for m in pair))
    return xp.reshape(x, tuple(count * length for count, length in pairs))


@op(
    vjp=_tile_vjp,
    jvp=LINEAR,
    batch=_tiled_behind,
    samples=[
        Sample((2, 3), [2, 1]),
        Sample((3,), [2, 2]),
        Sample((2, 3), [3]),
        Sample((), []),
        Sample((2,), [0]),
    ],
    dtypes="efdFD",
    lower=_tile_lower,
)
def tile(input: TensorLike, multiples: Sequence[int]) -> Array:
    """The whole array `multiples` times along each axis; multiples missing in front are 1, as in NumPy.

    >>> gt.tile([1.0, 2.0], [2])
    <tf.Tensor: shape=(4,), dtype=float32, numpy=array([1., 2., 1., 2.], dtype=float32)>
    """
    return np.tile(input, multiples)


def _summed_by(xp: Namespace, g: Any, index: Array, n: int, axis: int) -> Any:
    """The adjoint of taking `index` along an axis of length n: sums those of g that came from one place."""
    order = (axis, *(i for i in range(len(g.shape)) if i != axis))
    return xp.transpose(xp.unsorted_segment_sum(xp.transpose(g, order), index, n), _undo(order))


def _repeated_behind(xp: Namespace, x: Any, repeats: Any, axis: int | None) -> Any:
    if axis is None:
        return xp.repeat(xp.reshape(x, (x.shape[0], math.prod(x.shape[1:]))), repeats, 1)
    return xp.repeat(x, repeats, behind(axis, x.ndim - 1))


def _repeat_vjp(xp: Namespace, g: Any, input_shape: tuple[int, ...], repeats: Any, axis: int | None) -> Any:
    shape = (math.prod(input_shape),) if axis is None else input_shape
    place = 0 if axis is None else axis % len(shape)
    n = shape[place]
    if isinstance(repeats, tuple) and len(repeats) == 1:
        repeats = repeats[0]
    if isinstance(repeats, tuple):
        summed = _summed_by(xp, g, np.repeat(np.arange(n), repeats), n, place)
    else:
        split_axis = (*shape[:place], n, repeats, *shape[place + 1 :])
        summed = xp.reduce_sum(xp.reshape(g, split_axis), place + 1, False)
    return xp.reshape(summed, input_shape) if axis is None else summed


def _repeat_lower(xp: Namespace, x: Any, repeats: Any, axis: int | None) -> Any:
    """Broadcast over a new axis behind the one that is repeated, if that is done uniformly."""
    if isinstance(repeats, tuple):
        if len(repeats) != 1:
            return NotImplemented
        repeats = repeats[0]
    place = 0 if axis is None else axis % x.ndim
    shape = (x.size,) if axis is None else x.shape
    before, n, after = shape[:place], shape[place], shape[place + 1 :]
    x = xp.broadcast_to(xp.reshape(x, (*before, n, 1, *after)), (*before, n, repeats, *after))
    return xp.reshape(x, (*before, n * repeats, *after))


@op(
    vjp=_repeat_vjp,
    jvp=LINEAR,
    batch=_repeated_behind,
    samples=[
        Sample((2, 3), 2),
        Sample((2, 3), 3, axis=0),
        Sample((2, 3), [2, 0, 1], axis=-1),
        Sample((2, 3), [2, 1], axis=0),
        Sample((2, 3), [2], axis=1),
        Sample((), 3),
        Sample((0, 2), 2, axis=1),
    ],
    dtypes="efdFD",
    lower=_repeat_lower,
)
def repeat(input: TensorLike, repeats: int | Sequence[int], axis: int | None = None) -> Array:
    """Each element along `axis` so many times, or as often as its own number says; None flattens first.

    >>> gt.repeat([1.0, 2.0], [1, 2], axis=0)
    <tf.Tensor: shape=(3,), dtype=float32, numpy=array([1., 2., 2.], dtype=float32)>
    """
    return np.repeat(input, repeats, axis)


def _pad_vjp(
    xp: Namespace, g: Any, tensor_shape: tuple[int, ...], paddings: tuple[tuple[int, int], ...], mode: str
) -> Any:
    if mode.upper() == "CONSTANT":
        return g[
            tuple(slice(before, before + n) for n, (before, _) in zip(tensor_shape, paddings, strict=True))
        ]
    for axis, (n, margins) in enumerate(zip(tensor_shape, paddings, strict=True)):
        if any(margins):
            index = np.pad(np.arange(n), margins, mode=mode.lower())  # type: ignore[call-overload]
            g = _summed_by(xp, g, index, n, axis)
    return g


@op(
    vjp=_pad_vjp,
    jvp=lambda xp, t, paddings, mode: xp.pad(t, paddings, mode),
    batch=lambda xp, x, paddings, mode, value: xp.pad(x, ((0, 0), *paddings), mode, value),
    samples=[
        Sample((2, 3), [[1, 0], [2, 1]]),
        Sample((2, 3), [[0, 0], [1, 1]], constant_values=7),
        Sample((3, 4), [[2, 1], [0, 3]], mode="REFLECT"),
        Sample((3, 4), [[3, 1], [1, 4]], mode="SYMMETRIC"),
        Sample((), []),
        Sample((0, 2), [[1, 1], [0, 0]]),
    ],
    dtypes="efdFD",
)
def pad(
    tensor: TensorLike,
    paddings: Sequence[Sequence[int]],
    mode: str = "CONSTANT",
    constant_values: float = 0,
) -> Array:
    """`tensor` with margins: `paddings` gives for each axis the width before and after.

    mode: "CONSTANT" fills them with `constant_values`; "REFLECT" mirrors without the edge itself, "SYMMETRIC"
    with it. Raises ShapeError if `paddings` is not of shape (ndim, 2), and ArgumentError for another mode.

    >>> gt.pad([1.0, 2.0, 3.0], [[2, 1]], mode="REFLECT")
    <tf.Tensor: shape=(6,), dtype=float32, numpy=array([3., 2., 1., 2., 3., 2.], dtype=float32)>
    """
    if np.shape(paddings) != (tensor.ndim, 2) and (tensor.ndim or paddings):
        raise ShapeError(
            f"pad: paddings must be of shape {(tensor.ndim, 2)}, two for each axis, not {paddings}"
        )
    if not tensor.ndim:
        return tensor
    how = str(mode).lower()
    if how == "constant":
        return np.pad(tensor, paddings, constant_values=constant_values)
    if how in ("reflect", "symmetric"):
        return np.pad(tensor, paddings, mode=how)  # type: ignore[call-overload]
    raise ArgumentError(f"pad: unknown mode {mode!r}; wanted 'CONSTANT', 'REFLECT' or 'SYMMETRIC'")


# -- what the shape is ---------------------------------------------------------------------------------------


@op(
    differentiable=False,
    batch=OF_SHAPE,
    samples=[Sample((3, 4)), Sample(())],
    dtypes="efdFD",
)
def shape(input: TensorLike, out_type: DTypeLike = None) -> Array:
    """The length of each axis, as a vector of dtype `out_type` (int32); no derivative flows through it.

    >>> gt.shape([[1.0, 2.0, 3.0]])
    <tf.Tensor: shape=(2,), dtype=int32, numpy=array([1, 3], dtype=int32)>
    """
    return np.array(input.shape, np.int32 if out_type is None else as_dtype(out_type))


@op(
    differentiable=False,
    batch=OF_SHAPE,
    samples=[Sample((3, 4)), Sample(())],
    dtypes="efdFD",
)
def size(input: TensorLike, out_type: DTypeLike = None) -> Array:
    """The number of elements, as a scalar of dtype `out_type` (int32); no derivative flows through it.

    >>> gt.size([[1.0, 2.0, 3.0]])
    <tf.Tensor: shape=(), dtype=int32, numpy=3>
    """
    return (np.int32 if out_type is None else as_dtype(out_type).type)(input.size)


@op(
    differentiable=False,
    batch=OF_SHAPE,
    samples=[Sample((3, 4)), Sample(())],
    dtypes="efdFD",
)
def rank(input: TensorLike) -> Array:
    """The number of axes, as an int32 scalar; no derivative flows through it.

    >>> gt.rank([[1.0, 2.0, 3.0]])
    <tf.Tensor: shape=(), dtype=int32, numpy=2>
    """
    return np.int32(input.ndim)
