"""Linear algebra on (batches of) matrices: inverses, decompositions, determinants and diagonals.

Matrices are the last two axes; all axes before them are batches. Cotangents follow TensorFlow's convention
for complex values, so that where a real derivation has a transpose, a rule here has a conjugate transpose.
The derivations are those of Giles, "Collected matrix derivative results for forward and reverse mode
algorithmic differentiation" (2008), unless said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gradtape.errors import LinearAlgebraError, ShapeError
from gradtape.ops.batching import alone, lead, moved
from gradtape.ops.broadcasting import unbroadcast
from gradtape.ops.op import LINEAR, MATRICES, VECTORS, Namespace, Sample, Uniform, composite, op
from gradtape.tensor import Array, Tensor, TensorLike, as_array

__all__ = [
    "LogMatrixDeterminant",
    "cholesky",
    "det",
    "diag",
    "diag_part",
    "inv",
    "matrix_transpose",
    "slogdet",
    "solve",
    "trace",
]


def _regular(x: Array) -> Array:
    """Random matrices, moved away from the singular ones."""
    return x + 5.0 * np.eye(x.shape[-1])


def _singular(x: Array) -> Array:
    """Random matrices, the latter half of their rows replaced by the first row."""
    half = x.shape[-2] // 2
    return np.concatenate([x[..., :-half, :], np.repeat(x[..., :1, :], half, -2)], -2)


def _require_square(name: str, a: Array) -> None:
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise ShapeError(f"{name}: wanted square matrices (..., n, n), got shape {a.shape}")


def _adjoint(a: Array) -> Array:
    a = a.swapaxes(-1, -2)
    return a.conj() if a.dtype.kind == "c" else a


def _or_explain(name: str, remedy: str, forward: Callable[..., Array], *arrays: Array) -> Array:
    try:
        return forward(*arrays)
    except np.linalg.LinAlgError:
        got = ", ".join(f"{a.dtype}{a.shape}" for a in arrays)
        raise LinearAlgebraError(f"{name}: {remedy} (got {got})") from None


# -- inverses ------------------------------------------------------------------------------------------------


def _inv_vjp(xp: Namespace, g: Any, out: Any, adjoint: bool) -> Any:
    """Y = A⁻¹: -Yᴴ G Yᴴ; for Y = A⁻ᴴ: -Y Gᴴ Y."""
    if adjoint:
        return -xp.matmul(xp.matmul(out, g, False, False, False, True), out)
    return -xp.matmul(xp.matmul(out, g, False, False, True), out, False, False, False, True)


_INVERTIBLE = (
    "the matrix, or one of the batch, is singular; add a multiple of the identity, or check its rows"
)


@op(
    vjp=_inv_vjp,
    dtypes="fdFD",
    batch=MATRICES,
    samples=[
        Sample(Uniform((3, 3), then=_regular)),
        Sample(Uniform((2, 2, 2), then=_regular), adjoint=True),
        Sample(Uniform((1, 1), then=_regular)),
        Sample((0, 0)),
        Sample((0, 2, 2)),
    ],
)
def inv(input: TensorLike, adjoint: bool = False) -> Array:
    """The inverse of each square matrix, or the inverse of its conjugate transpose.

    input: (..., n, n), in float32, float64 or complex; the result likewise. Raises ShapeError if it is not
    square, LinearAlgebraError if it is singular. For Y = A⁻¹ and the cotangent G of Y, that of A is -Yᴴ G
    Yᴴ.

    >>> gt.linalg.inv([[2.0, 0.0], [0.0, 4.0]])
    <tf.Tensor: shape=(2, 2), dtype=float32, numpy=
    array([[0.5 , 0.  ],
           [0.  , 0.25]], dtype=float32)>
    """
    _require_square("inv", input)
    return _or_explain("inv", _INVERTIBLE, np.linalg.inv, _adjoint(input) if adjoint else input)


def _outer(xp: Namespace, x: Any, y: Any) -> Any:
    """x yᴴ of two matrices, or of two vectors."""
    if x.ndim == 1:
        return xp.expand_dims(x, -1) * xp.conj(y)
    return xp.matmul(x, y, False, False, False, True)


def _solve_matrix(
    xp: Namespace, g: Any, matrix: Any, rhs_shape: tuple[int, ...], out: Any, adjoint: bool
) -> Any:
    """A X = B: -A⁻ᴴ G Xᴴ; Aᴴ X = B: -X (A⁻¹ G)ᴴ."""
    ct = xp.solve(matrix, g, not adjoint)
    return unbroadcast(xp, -(_outer(xp, out, ct) if adjoint else _outer(xp, ct, out)), matrix.shape)


def _solve_behind(xp: Namespace, matrix: Any, rhs: Any, adjoint: bool) -> Any:
    """One matrix that the examples share is decomposed once, for the right-hand sides of them all."""
    if matrix.ndim < 3 or rhs.ndim < 2 or (rhs.ndim == 2 and matrix.ndim > 3):
        return NotImplemented  # a vector goes with a lone matrix, as the op will say
    if matrix.shape[0] == 1 and matrix.ndim == 3 and rhs.ndim in (2, 3):
        columns = moved(xp, rhs, 0, rhs.ndim - 1)
        found = xp.solve(
            alone(xp, matrix), xp.reshape(columns, (rhs.shape[1], math.prod(columns.shape[1:]))), adjoint
        )
        return moved(xp, xp.reshape(found, columns.shape), rhs.ndim - 1, 0)
    if rhs.ndim == 2:
        return xp.squeeze(_solve_behind(xp, matrix, xp.expand_dims(rhs, -1), adjoint), -1)
    rank = max(matrix.ndim, rhs.ndim) - 1
    return xp.solve(lead(xp, matrix, rank), lead(xp, rhs, rank), adjoint)


@op(
    promote=("matrix", "rhs"),
    vjp=(
        _solve_matrix,
        lambda xp, g, matrix, rhs_shape, adjoint: unbroadcast(
            xp, xp.solve(matrix, g, not adjoint), rhs_shape
        ),
    ),
    dtypes="fdFD",
    batch=_solve_behind,
    samples=[
        Sample(Uniform((3, 3), then=_regular), (3, 2)),
        Sample(Uniform((3, 3), then=_regular), (3, 2), adjoint=True),
        Sample(Uniform((3, 3), then=_regular), (3,)),
        Sample(Uniform((3, 3), then=_regular), (3,), adjoint=True),
        Sample(Uniform((2, 1, 2, 2), then=_regular), (3, 2, 2)),
        Sample(Uniform((2, 2), then=_regular), (3, 2, 1), adjoint=True),
        Sample(Uniform((2, 2, 2), then=_regular), (2, 3)),
        Sample((0, 0), (0, 2)),
    ],
)
def solve(matrix: TensorLike, rhs: TensorLike, adjoint: bool = False) -> Array:
    """The X of A X = B, or of Aᴴ X = B, for each square matrix A.

    matrix: A, (..., n, n); rhs: B, (..., n, k), or one vector (n,) with a lone matrix; batches broadcast.
    Raises ShapeError if the shapes do not fit, LinearAlgebraError if A is singular.

    For the cotangent G of X, that of B is C = A⁻ᴴ G, and that of A is -C Xᴴ.

    >>> gt.linalg.solve([[2.0, 0.0], [0.0, 4.0]], [[2.0], [2.0]])
    <tf.Tensor: shape=(2, 1), dtype=float32, numpy=
    array([[1. ],
           [0.5]], dtype=float32)>
    """
    _require_square("solve", matrix)
    lone = rhs.ndim == 1 and matrix.ndim == 2
    if (rhs.ndim < 2 and not lone) or rhs.shape[-1 if lone else -2] != matrix.shape[-1]:
        raise ShapeError(
            f"solve: wanted a right-hand side (..., {matrix.shape[-1]}, k) for matrices of shape "
            f"{matrix.shape}, got {rhs.shape}; expand_dims makes a column of a vector"
        )
    return _or_explain("solve", _INVERTIBLE, np.linalg.solve, _adjoint(matrix) if adjoint else matrix, rhs)


# -- Cholesky ------------------------------------------------------------------------------------------------


def _cholesky_vjp(xp: Namespace, g: Any, out: Any) -> Any:
    """(S + Sᴴ) / 2, S = L⁻ᴴ P L⁻¹, P the lower triangle of Lᴴ G with its diagonal halved (Murray 2016)."""
    half = np.tril(np.ones(out.shape[-2:]), -1) + 0.5 * np.eye(out.shape[-1])
    p = xp.matmul(out, g, False, False, True) * half.astype(out.dtype)
    s = xp.solve(out, xp.matrix_transpose(xp.solve(out, xp.matrix_transpose(p, True), True), True), True)
    return 0.5 * (s + xp.matrix_transpose(s, True))


@op(
    vjp=_cholesky_vjp,
    dtypes="fdFD",
    batch=MATRICES,
    samples=[Sample(Uniform((1, 1), 1.0, 3.0)), Sample(Uniform((2, 1, 1), 1.0, 3.0)), Sample((0, 0))],
)
def cholesky(input: TensorLike) -> Array:
    """The lower triangular L, with a positive diagonal, of each Hermitian positive definite matrix A = L Lᴴ.

    input: (..., n, n), of which only the lower triangle is read; A is taken to be Hermitian, and so the
    cotangent is: each off-diagonal pair shares its derivative. Raises ShapeError if it is not square,
    LinearAlgebraError if it is not positive definite. Derivative: Murray, "Differentiation of the Cholesky
    decomposition" (2016).

    >>> gt.linalg.cholesky([[4.0, 2.0], [2.0, 10.0]])
    <tf.Tensor: shape=(2, 2), dtype=float32, numpy=
    array([[2., 0.],
           [1., 3.]], dtype=float32)>
    """
    _require_square("cholesky", input)
    remedy = (
        "a matrix is not positive definite; add a multiple of the identity, or check that it is Hermitian"
    )
    return _or_explain("cholesky", remedy, np.linalg.cholesky, input)


@composite(
    dtypes="fdFD",
    samples=[Sample(Uniform((3, 3), then=_regular)), Sample(Uniform((2, 2, 2), then=_regular))],
)
def _cholesky_of_hermitian_part(xp: Namespace, x: TensorLike) -> Tensor:
    """Cholesky of matrices that need not be Hermitian, so that each entry may vary by itself."""
    return xp.cholesky(0.5 * (x + xp.matrix_transpose(x, True)))  # type: ignore[no-any-return]


# -- determinants --------------------------------------------------------------------------------------------


def _minors(n: int, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """The matrices that delete each row in turn, (n, n - 1, n), and the signs of the cofactors, (n, n)."""
    deleting = np.array([np.delete(np.eye(n), i, 0) for i in range(n)]).reshape(n, max(n - 1, 0), n)
    return deleting.astype(dtype), ((-1.0) ** np.add.outer(np.arange(n), np.arange(n))).astype(dtype)


def _cofactors_vjp(xp: Namespace, g: Any, a: Any) -> Any:
    """For X = A⁻ᴴ: conj(det A) (sum(G * X) X - X Gᵀ X); minor by minor where A is small or near singular."""
    if not _go_by_minors(np.asarray(xp.bare(a))):
        x = xp.inv(a, True)
        scale = xp.expand_dims(xp.expand_dims(xp.conj(xp.det(a)), -1), -1)
        along = xp.reduce_sum(g * x, (-2, -1), True)
        return scale * (along * x - xp.matmul(xp.matmul(x, g, False, True), x))
    deleting, signs = _minors(a.shape[-1], a.dtype)
    rows = deleting[:, None]
    minors = xp.matmul(xp.matmul(rows, xp.expand_dims(xp.expand_dims(a, -3), -3)), deleting, False, True)
    weights = xp.expand_dims(xp.expand_dims(g * signs, -1), -1)
    spread = xp.matmul(xp.matmul(rows, weights * xp.conj(xp._cofactors(minors)), True), deleting)
    return xp.reduce_sum(spread, (-4, -3))


def _go_by_minors(a: Array) -> bool:
    """Whether minors cost little, or an inverse would lose more than half of the digits."""
    if a.shape[-1] <= 4:
        return True
    if not np.isfinite(a).all():
        return False
    s = np.linalg.svd(a, compute_uv=False)
    return bool((s[..., -1] <= np.sqrt(np.finfo(a.dtype).eps) * s[..., 0]).any())


@op(
    vjp=_cofactors_vjp,
    dtypes="fdFD",
    batch=MATRICES,
    samples=[
        Sample(Uniform((3, 3), then=_regular)),
        Sample(Uniform((2, 2, 2), then=_regular)),
        Sample(Uniform((3, 3), then=_singular)),
        Sample(Uniform((2, 2, 2), then=_singular)),
        Sample(Uniform((5, 5), -0.5, 0.5, then=np.eye(5).__add__)),
        Sample(Uniform((5, 5), then=_singular)),
        Sample((1, 1)),
        Sample((0, 0)),
    ],
)
def _cofactors(a: TensorLike) -> Array:
    """The cofactors, which are the determinant's derivative: det(A) A⁻ᵀ, or its limit where A is singular.

    For A = U S Vᴴ the limit is det(U Vᴴ) conj(U) D conj(Vᴴ), D being diagonal with the products of all
    singular values but one.
    """
    if not a.size:
        return np.zeros_like(a)
    d = np.linalg.det(a)
    if np.all(d):
        return d[..., None, None] * np.linalg.inv(a).swapaxes(-1, -2)
    u, s, vh = np.linalg.svd(a)
    n = a.shape[-1]
    others = np.where(np.eye(n, dtype=bool), 1, s[..., None, :]).prod(-1)
    phase = np.linalg.det(u) * np.linalg.det(vh)
    return phase[..., None, None] * np.matmul(u.conj() * others[..., None, :], vh.conj())


@op(
    vjp=lambda xp, g, input: xp.expand_dims(xp.expand_dims(g, -1), -1) * xp.conj(xp._cofactors(input)),
    dtypes="fdFD",
    batch=MATRICES,
    samples=[
        Sample((3, 3)),
        Sample((2, 2, 2)),
        Sample((1, 1)),
        Sample(Uniform((3, 3), then=_singular)),
        Sample((0, 0)),
        Sample((0, 2, 2)),
    ],
)
def det(input: TensorLike) -> Array:
    """The determinant of each square matrix.

    input: (..., n, n); the result (...). Raises ShapeError if it is not square. The derivative is the
    matrix of cofactors, det(A) A⁻ᵀ (Jacobi); it is right for singular matrices too. The second derivative
    of an ill-conditioned matrix goes by its minors, in n⁵ steps.

    >>> gt.linalg.det([[1.0, 2.0], [3.0, 5.0]])
    <tf.Tensor: shape=(), dtype=float32, numpy=-1.0>
    """
    _require_square("det", input)
    return np.linalg.det(input)


class LogMatrixDeterminant(NamedTuple):
    """What `slogdet` returns: the determinant is `sign * exp(log_abs_determinant)`."""

    sign: Any
    log_abs_determinant: Any


def _slogdet_vjp(xp: Namespace, g: Any, input: Any) -> Any:
    """(g + i Im(h conj(s))) A⁻ᴴ; g and h are the cotangents of the logarithm and of the sign s."""
    h, g = g
    if input.dtype.kind == "c" and h is not None:
        turn = xp.imag(h * xp.conj(xp.slogdet(input)[0])) * 1j
        g = turn if g is None else g + turn
    if g is None:
        return xp.zeros(input.shape, input.dtype)
    return xp.expand_dims(xp.expand_dims(g, -1), -1) * xp.inv(input, True)


@op(
    vjp=_slogdet_vjp,
    dtypes="fdFD",
    batch=MATRICES,
    samples=[
        Sample(Uniform((3, 3), then=_regular)),
        Sample(Uniform((2, 2, 2), then=_regular)),
        Sample((1, 1)),
        Sample((0, 0)),
    ],
)
def slogdet(input: TensorLike) -> Array:
    """The sign and the logarithm of the absolute value of each determinant, which cannot overflow.

    input: (..., n, n); the result a named tuple of two tensors (...). The sign is -1, 0 or 1, a complex
    number of modulus 1 for a complex matrix; the logarithm is real, -inf for a singular matrix, of which
    there is no derivative: a sweep through it raises LinearAlgebraError. Raises ShapeError if the matrices
    are not square.

    The cotangent is g A⁻ᴴ, g that of the logarithm; the sign of a real matrix is constant between its jumps.

    >>> gt.linalg.slogdet([[1.0, 0.0], [0.0, -1.0]]).sign
    <tf.Tensor: shape=(), dtype=float32, numpy=-1.0>
    """
    _require_square("slogdet", input)
    return LogMatrixDeterminant(*np.linalg.slogdet(input))


# -- diagonals -----------------------------------------------------------------------------------------------


def _require_one(name: str, k: Any) -> None:
    if not isinstance(k, int):
        raise ShapeError(f"{name}: wanted one integer for k, got {k!r}; go diagonal by diagonal and stack")


def _sides(n: int, k: int, num_rows: int, num_cols: int) -> tuple[int, int]:
    """How many rows and columns the matrix has whose k-th diagonal is of length n."""
    if num_rows == num_cols == -1:
        return n + abs(k), n + abs(k)
    return n + max(-k, 0) if num_rows == -1 else num_rows, n + max(k, 0) if num_cols == -1 else num_cols


def _along_diagonal(ndim: int, n: int, k: int, columns: int) -> tuple[slice, ...]:
    """The index of a diagonal of length n in matrices whose rows lie in a row; ndim: with that one axis."""
    start = k if k > 0 else -k * columns
    return (*(slice(None),) * (ndim - 1), slice(start, start + n * (columns + 1), columns + 1))


def _diag_lower(
    xp: Namespace, diagonal: Any, k: int, num_rows: int, num_cols: int, padding_value: float
) -> Any:
    if padding_value or math.copysign(1, padding_value) < 0:
        return NotImplemented
    *batch, n = diagonal.shape
    rows, columns = _sides(n, k, num_rows, num_cols)
    place = _along_diagonal(diagonal.ndim, n, k, columns)
    return xp.reshape(xp.scatter_at(diagonal, place, (*batch, rows * columns)), (*batch, rows, columns))


@op(
    vjp=lambda xp, g, k: xp.diag_part(g, k),
    dtypes="efdFD",
    jvp=lambda xp, t, k, num_rows, num_cols: xp.diag(t, k, num_rows, num_cols),
    batch=VECTORS,
    samples=[
        Sample((3,)),
        Sample((2, 3), k=1),
        Sample((2, 3), k=-2),
        Sample((2,), k=1, num_rows=2, num_cols=5),
        Sample((2,), num_rows=4),
        Sample((2,), num_cols=4, padding_value=3),
        Sample((0,)),
        Sample((0, 2)),
    ],
    lower=_diag_lower,
)
def diag(
    diagonal: TensorLike, k: int = 0, num_rows: int = -1, num_cols: int = -1, padding_value: float = 0
) -> Array:
    """Matrices with `diagonal` on their k-th diagonal, else zeros; k > 0 is above the main one, k < 0 below.

    diagonal: (..., n); the result (..., n + |k|, n + |k|), or of num_rows rows and num_cols columns, whose
    k-th diagonal it must fill. padding_value: what all other places hold. Raises ShapeError if the diagonal
    does not fill its place, or has no axes, and for a band of diagonals, which TensorFlow takes.

    >>> gt.linalg.diag([1, 2])
    <tf.Tensor: shape=(2, 2), dtype=int32, numpy=
    array([[1, 0],
           [0, 2]], dtype=int32)>
    """
    _require_one("diag", k)
    if not diagonal.ndim:
        raise ShapeError("diag: wanted diagonals (..., n), got shape (); expand_dims adds an axis")
    n = diagonal.shape[-1]
    down, right = max(-k, 0), max(k, 0)
    rows, columns = _sides(n, k, num_rows, num_cols)
    if min(rows - down, columns - right) != n:
        raise ShapeError(
            f"diag: a diagonal of length {n} does not fill the one at k={k} of {rows} rows and {columns} "
            f"columns; wanted {n + down} rows and {n + right} columns, or more of one of the two"
        )
    out = np.full((*diagonal.shape[:-1], rows, columns), as_array(padding_value), diagonal.dtype)
    place = np.arange(n)
    out[..., place + down, place + right] = diagonal
    return out


def _diag_part_lower(xp: Namespace, x: Any, k: int) -> Any:
    *batch, rows, columns = x.shape
    n = max(min(rows + min(k, 0), columns - max(k, 0)), 0)
    flat = xp.reshape(x, (*batch, rows * columns))
    return flat[_along_diagonal(flat.ndim, n, k, columns)]


@op(
    vjp=lambda xp, g, input_shape, k: xp.diag(g, k, *input_shape[-2:]),
    dtypes="efdFD",
    jvp=LINEAR,
    batch=MATRICES,
    samples=[
        Sample((3, 3)),
        Sample((2, 3, 4), k=1),
        Sample((2, 4, 3), k=-2),
        Sample((2, 4), k=3),
        Sample((4, 2), k=-1),
        Sample((0, 0)),
        Sample((0, 2)),
    ],
    lower=_diag_part_lower,
)
def diag_part(input: TensorLike, k: int = 0) -> Array:
    """The k-th diagonal of each matrix; k > 0 is above the main one, k < 0 below.

    input: (..., n, m), square or not; the result (..., length of the diagonal), a view. Raises ShapeError
    below two axes, if the matrices have no such diagonal, and for a band of diagonals.

    >>> gt.linalg.diag_part([[1, 2], [3, 4]])
    <tf.Tensor: shape=(2,), dtype=int32, numpy=array([1, 4], dtype=int32)>
    """
    _require_one("diag_part", k)
    if input.ndim < 2 or (k and not -input.shape[-2] < k < input.shape[-1]):
        raise ShapeError(
            f"diag_part: no diagonal k={k} in an array of shape {input.shape}; wanted (..., n, m), -n < k < m"
        )
    return np.diagonal(input, k, -2, -1)


@composite(dtypes="efdFD", samples=[Sample((3, 3)), Sample((2, 3, 4)), Sample((0, 0))])
def trace(xp: Namespace, x: TensorLike) -> Tensor:
    """The sum of the main diagonal of each matrix.

    x: (..., n, m), square or not; the result (...). Raises ShapeError below two axes.

    >>> gt.linalg.trace([[1.0, 2.0], [3.0, 4.0]])
    <tf.Tensor: shape=(), dtype=float32, numpy=5.0>
    """
    return xp.reduce_sum(xp.diag_part(x), -1)  # type: ignore[no-any-return]


@op(
    vjp=lambda xp, g, conjugate: xp.matrix_transpose(g, conjugate),
    dtypes="efdFD",
    jvp=LINEAR,
    batch=MATRICES,
    samples=[Sample((3, 4)), Sample((2, 3, 4), conjugate=True), Sample((0, 2))],
)
def matrix_transpose(a: TensorLike, conjugate: bool = False) -> Array:
    """Each matrix of a, (..., n, m), transposed to (..., m, n), and conjugated if asked.

    A view, unless complex numbers are conjugated. Raises ShapeError below two axes.

    >>> gt.linalg.matrix_transpose([[1, 2, 3], [4, 5, 6]])
    <tf.Tensor: shape=(3, 2), dtype=int32, numpy=
    array([[1, 4],
           [2, 5],
           [3, 6]], dtype=int32)>
    """
    if a.ndim < 2:
        raise ShapeError(
            f"matrix_transpose: wanted two axes or more, got shape {a.shape}; expand_dims adds one"
        )
    a = a.swapaxes(-1, -2)
    return a.conj() if conjugate and a.dtype.kind == "c" else a
