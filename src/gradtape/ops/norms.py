"""Norms, and what is clipped by them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradtape.arguments import brief, listed, number
from gradtape.errors import ArgumentError, AxisError
from gradtape.ops.namespace import Namespace
from gradtape.ops.op import composite
from gradtape.ops.reduction import Axes
from gradtape.ops.sample import Sample, Uniform
from gradtape.tensor import Tensor, TensorLike, convert_to_array

__all__ = ["clip_by_global_norm", "clip_by_norm", "global_norm", "norm"]


def _axes(name: str, axis: TensorLike) -> int | tuple[int, ...] | None:
    """An axis or axes, from whatever they came in, as ints."""
    if axis is None or isinstance(axis, int):
        return axis
    plain = convert_to_array(axis)
    if plain.ndim > 1 or (plain.size and plain.dtype.kind not in "iu"):
        raise AxisError(f"{name}: wanted an axis, a list of axes or None, got {brief(axis)}")
    return tuple(plain.tolist()) if plain.ndim else int(plain)


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
    Raises ArgumentError for others. At 0 the euclidean norm has no derivative: it is nan, as in TensorFlow.

    >>> gt.norm([3.0, 4.0])
    <tf.Tensor: shape=(), dtype=float32, numpy=5.0>
    """
    x = xp.asarray(tensor)
    keepdims = bool(keepdims)
    p = math.nan if isinstance(ord, str) else number("norm: ord", ord)
    over = _axes("norm", axis)
    if isinstance(over, tuple) and len(over) == 1:
        over = over[0]
    matrix = isinstance(over, tuple)
    ndim = len(x.shape)
    if isinstance(over, tuple) and (
        len(over) != 2 or not all(-ndim <= a < ndim for a in over) or over[0] % ndim == over[1] % ndim
    ):
        raise AxisError(f"norm: wanted one axis, or two different ones, of {ndim}, got {over}")
    if ord in ("euclidean", "fro") or (p == 2 and not matrix):
        found = xp.sqrt(xp.reduce_sum(_squares(xp, x), over, keepdims))
    elif not p > 0 or (matrix and p not in (1, math.inf)):
        known = "'euclidean', 'fro', 1 and inf" if matrix else "'euclidean', 'fro', inf and positive numbers"
        raise ArgumentError(
            f"norm: unsupported ord {ord!r}; norms of {'matrices' if matrix else 'vectors'} take {known}"
        )
    elif isinstance(over, tuple):
        rows, columns = (a % ndim for a in over)
        summed, sought = (rows, columns) if p == 1 else (columns, rows)
        found = xp.reduce_max(xp.reduce_sum(xp.abs(x), summed, True), sought, True)
        found = found if keepdims else xp.squeeze(found, (rows, columns))
    elif p == math.inf:
        found = xp.reduce_max(xp.abs(x), over, keepdims)
    elif p == 1:
        found = xp.reduce_sum(xp.abs(x), over, keepdims)
    else:
        found = xp.pow(xp.reduce_sum(xp.pow(xp.abs(x), p), over, keepdims), 1 / p)
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
    squares = xp.reduce_sum(_squares(xp, x), _axes("clip_by_norm", axes), True)
    nonzero = squares > 0
    length = xp.where(nonzero, xp.sqrt(xp.where(nonzero, squares, 1.0)), 0.0)
    return x * (clip_norm / xp.maximum(length, clip_norm))  # type: ignore[no-any-return]


@composite(samples=[Sample([Uniform((2, 3)), None, Uniform(())])], dtypes="efdFD")
def global_norm(xp: Namespace, t_list: Sequence[TensorLike | None]) -> Tensor:
    """The euclidean norm of all elements of all tensors of a list together; None among them is passed over.

    >>> gt.linalg.global_norm([[3.0], None, [[4.0]]])
    <tf.Tensor: shape=(), dtype=float32, numpy=5.0>
    """
    tensors = [xp.asarray(t) for t in listed("global_norm", t_list, "tensors") if t is not None]
    sums = [xp.reduce_sum(_squares(xp, x)) for x in tensors]
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
    tensors = [None if t is None else xp.asarray(t) for t in listed("clip_by_global_norm", t_list, "tensors")]
    dtype = next((t.dtype.type(0).real.dtype for t in tensors if t is not None), np.float32)
    length = xp.global_norm(tensors) if use_norm is None else xp.cast(use_norm, dtype)
    scale = xp.where(xp.is_finite(length), clip_norm / xp.maximum(length, clip_norm), math.nan)
    return [None if t is None else t * xp.cast(scale, t.dtype) for t in tensors], length
