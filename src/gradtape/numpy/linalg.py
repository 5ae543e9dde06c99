"""The array API standard's `linalg`: linear algebra over the last two axes."""

from collections.abc import Sequence

from gradtape.ops import reduction
from gradtape.ops.contraction import matmul, tensordot
from gradtape.ops.linalg import cholesky, det, inv, matrix_transpose, slogdet, solve, trace
from gradtape.ops.linalg import diag_part as diagonal
from gradtape.tensor import Tensor, TensorLike

__all__ = [
    "cholesky",
    "det",
    "diagonal",
    "inv",
    "matmul",
    "matrix_norm",
    "matrix_transpose",
    "slogdet",
    "solve",
    "tensordot",
    "trace",
    "vector_norm",
]


def vector_norm(
    x: TensorLike, axis: int | Sequence[int] | None = None, keepdims: bool = False, ord: float = 2
) -> Tensor:
    """The p-norm of vectors, (sum |x|^p)^(1/p), with p = ord.

    >>> gnp.linalg.vector_norm([3.0, 4.0])
    <tf.Tensor: shape=(), dtype=float32, numpy=5.0>
    """
    return reduction.norm(x, ord, axis, keepdims)


def matrix_norm(x: TensorLike, keepdims: bool = False, ord: float | str = "fro") -> Tensor:
    """The norm of matrices over the last two axes: Frobenius, or the operator norms that `gradtape.norm` has.

    >>> gnp.linalg.matrix_norm(np.eye(4))
    <tf.Tensor: shape=(), dtype=float64, numpy=2.0>
    """
    return reduction.norm(x, ord, (-2, -1), keepdims)
