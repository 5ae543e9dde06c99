"""TensorFlow's `tf.linalg`: the ops of linear algebra, by name."""

from gradtape.ops.contraction import matmul, matvec
from gradtape.ops.einsum import einsum, tensordot
from gradtape.ops.linalg import cholesky, det, diag, diag_part, inv, matrix_transpose, slogdet, solve, trace
from gradtape.ops.making import eye
from gradtape.ops.norms import global_norm, norm

__all__ = [
    "cholesky",
    "det",
    "diag",
    "diag_part",
    "einsum",
    "eye",
    "global_norm",
    "inv",
    "matmul",
    "matrix_transpose",
    "matvec",
    "norm",
    "slogdet",
    "solve",
    "tensordot",
    "trace",
]
