"""The array API standard's `linalg`: linear algebra over the last two axes."""

import math
from collections.abc import Sequence

from numpy.lib.array_utils import normalize_axis_tuple

from gradtape.numpy.functions import matmul, tensordot, vecdot
from gradtape.ops import linalg, making, norms, reduction, shaping
from gradtape.ops.linalg import cholesky, det, inv, matrix_transpose, slogdet, solve
from gradtape.tensor import Tensor, TensorLike

__all__ = [
    "cholesky",
    "det",
    "diagonal",
    "inv",
    "matmul",
    "matrix_norm",
    "matrix_transpose",
    "outer",
    "slogdet",
    "solve",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]


def diagonal(x: TensorLike, offset: int = 0) -> Tensor:
    """The diagonals of matrices, `offset` places above the main one, or below it if negative.

    >>> gnp.linalg.diagonal(np.eye(2), offset=1)
    <tf.Tensor: shape=(1,), dtype=float64, numpy=array([0.])>
    """
    return linalg.diag_part(x, offset)


def trace(x: TensorLike, offset: int = 0) -> Tensor:
    """The sum of the diagonals of matrices, `offset` places above the main one, or below it if negative.

    >>> gnp.linalg.trace(np.eye(2))
    <tf.Tensor: shape=(), dtype=float64, numpy=2.0>
    """
    return reduction.reduce_sum(linalg.diag_part(x, offset), -1)


def outer(x1: TensorLike, x2: TensorLike) -> Tensor:
    """The products of each element of one vector with each of another.

    >>> gnp.linalg.outer([1, 2], [3, 4])
    <tf.Tensor: shape=(2, 2), dtype=int32, numpy=
    array([[3, 4],
           [6, 8]], dtype=int32)>
    """
    return tensordot(x1, x2, 0)


def vector_norm(
    x: TensorLike, axis: int | Sequence[int] | None = None, keepdims: bool = False, ord: float = 2
) -> Tensor:
    """The p-norm of vectors, (sum |x|^p)^(1/p), with p = ord.

    >>> gnp.linalg.vector_norm([3.0, 4.0])
    <tf.Tensor: shape=(), dtype=float32, numpy=5.0>
    """
    if axis is None or isinstance(axis, int):
        return norms.norm(x, ord, axis, keepdims)
    x = making.convert_to_tensor(x)
    over = normalize_axis_tuple(axis, x.ndim)
    rest = [i for i in range(x.ndim) if i not in over]
    lengths = [x.shape[i] for i in rest]
    row = shaping.reshape(
        shaping.transpose(x, [*rest, *over]), [*lengths, math.prod(x.shape[i] for i in over)]
    )
    found = norms.norm(row, ord, -1)
    return (
        shaping.reshape(found, [1 if i in over else n for i, n in enumerate(x.shape)]) if keepdims else found
    )


def matrix_norm(x: TensorLike, keepdims: bool = False, ord: float | str = "fro") -> Tensor:
    """The norm of matrices over the last two axes: Frobenius, or the operator norms that `gradtape.norm` has.

    >>> gnp.linalg.matrix_norm(np.eye(4))
    <tf.Tensor: shape=(), dtype=float64, numpy=2.0>
    """
    return norms.norm(x, ord, (-2, -1), keepdims)
