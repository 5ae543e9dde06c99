"""Matrix products: matmul and matvec."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradtape.errors import ShapeError
from gradtape.ops.batching import alone, lead
from gradtape.ops.broadcasting import unbroadcast
from gradtape.ops.op import MULTILINEAR, Namespace, Sample, op
from gradtape.tensor import Array, TensorLike

__all__ = ["matmul", "matvec"]


# -- matrix products -----------------------------------------------------------------------------------------


def _turned(x: Array, name: str, transpose: bool, adjoint: bool) -> Array:
    """The bare matrices x as the flags say; a view unless a complex adjoint is asked for."""
    if not (transpose or adjoint):
        return x
    if transpose and adjoint:
        raise ShapeError(f"{name}: transpose and adjoint of one operand are both set; set one")
    if x.ndim < 2:
        raise ShapeError(f"{name}: cannot transpose an operand of shape {x.shape}; it needs two axes or more")
    x = x.swapaxes(-1, -2)
    return x.conj() if adjoint and x.dtype.kind == "c" else x


def _multiplied(name: str, a: Array, b: Array) -> Array:
    try:
        return np.matmul(a, b)
    except ValueError:
        raise ShapeError(
            f"{name}: cannot multiply {a.dtype}{a.shape} by {b.dtype}{b.shape}; the last axis of the first "
            "must be as long as the last but one (or only one) of the second, and all axes before broadcast"
        ) from None


def _seen(xp: Namespace, x: Any, transpose: bool, adjoint: bool) -> Any:
    """The matrices x as the flags say; its own inverse."""
    return xp.matrix_transpose(x, adjoint) if transpose or adjoint else x


def _turned_shape(shape: tuple[int, ...], turned: bool) -> tuple[int, ...]:
    return (*shape[:-2], shape[-1], shape[-2]) if turned else shape


def _rows(xp: Namespace, x: Any) -> Any:
    """All vectors along the last axis as one matrix."""
    return xp.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1])) if x.ndim > 2 else x


def _matmul_left(
    xp: Namespace,
    g: Any,
    b: Any,
    a_shape: tuple[int, ...],
    transpose_a: bool,
    transpose_b: bool,
    adjoint_a: bool,
    adjoint_b: bool,
) -> Any:
    """C = A B: the cotangent of A is G Bᴴ."""
    b = _seen(xp, b, transpose_b, adjoint_b)
    if b.ndim == 1:
        return (
            g * xp.conj(b) if len(a_shape) == 1 else _matvec_left(xp, g, b, a_shape, transpose_a, adjoint_a)
        )
    if len(a_shape) == 1:
        return _matvec_right(xp, g, xp.matrix_transpose(b), a_shape, False, False)
    ct = unbroadcast(
        xp, xp.matmul(g, b, False, False, False, True), _turned_shape(a_shape, transpose_a or adjoint_a)
    )
    return _seen(xp, ct, transpose_a, adjoint_a)


def _matmul_right(
    xp: Namespace,
    g: Any,
    a: Any,
    b_shape: tuple[int, ...],
    transpose_a: bool,
    transpose_b: bool,
    adjoint_a: bool,
    adjoint_b: bool,
) -> Any:
    """C = A B: the cotangent of B is Aᴴ G; one product over all batches if B has none of its own."""
    if len(b_shape) == 1:
        return g * xp.conj(a) if a.ndim == 1 else _matvec_right(xp, g, a, b_shape, transpose_a, adjoint_a)
    a = _seen(xp, a, transpose_a, adjoint_a)
    if a.ndim == 1:
        return _seen(xp, xp.expand_dims(xp.conj(a), -1) * xp.expand_dims(g, -2), transpose_b, adjoint_b)
    if len(b_shape) == 2:
        a, g = _rows(xp, a), _rows(xp, g)
    ct = unbroadcast(
        xp, xp.matmul(a, g, False, False, True), _turned_shape(b_shape, transpose_b or adjoint_b)
    )
    return _seen(xp, ct, transpose_b, adjoint_b)


def _matvec_left(
    xp: Namespace, g: Any, b: Any, a_shape: tuple[int, ...], transpose_a: bool, adjoint_a: bool
) -> Any:
    """c = A b: the cotangent of A is g bᴴ; one product over all batches if A has none of its own."""
    if len(a_shape) == 2 and b.ndim > 1:
        ct = xp.matmul(_rows(xp, g), _rows(xp, xp.conj(b)), True)
    else:
        ct = xp.expand_dims(g, -1) * xp.expand_dims(xp.conj(b), -2)
        ct = unbroadcast(xp, ct, _turned_shape(a_shape, transpose_a or adjoint_a))
    return _seen(xp, ct, transpose_a, adjoint_a)


def _matvec_right(
    xp: Namespace, g: Any, a: Any, b_shape: tuple[int, ...], transpose_a: bool, adjoint_a: bool
) -> Any:
    """c = A b: the cotangent of b is Aᴴ g; one product over all batches if b has none of its own."""
    a = _seen(xp, a, transpose_a, adjoint_a)
    if len(b_shape) == 1:
        return xp.matmul(_rows(xp, a), xp.reshape(g, (math.prod(g.shape),)), False, False, True)
    return unbroadcast(xp, xp.matvec(a, g, False, True), b_shape)


def _matmul_behind(xp: Namespace, a: Any, b: Any, *flags: bool) -> Any:
    """One product where it can be: many vectors are a matrix, and so are the rows of many matrices."""
    transpose_a, transpose_b, adjoint_a, adjoint_b = flags
    turned_a, turned_b = transpose_a or adjoint_a, transpose_b or adjoint_b
    if min(a.ndim, b.ndim) < 2 or (turned_a and a.ndim == 2) or (turned_b and b.ndim == 2):
        return NotImplemented  # no matrices, and no vectors that could be transposed, as the op will say
    if a.ndim == 2 and b.ndim == 2:
        if a.shape[1] != b.shape[1]:
            return NotImplemented  # nor may a length of 1 be stretched
        return xp.reduce_sum(a * b, 1)
    if a.ndim == 2:
        if b.shape[0] == 1 and b.ndim == 3:
            return xp.matmul(a, alone(xp, b), False, transpose_b, False, adjoint_b)
        return xp.squeeze(_matmul_behind(xp, xp.expand_dims(a, 1), b, *flags), -2)
    if b.ndim == 2:
        return _matvec_behind(xp, a, b, transpose_a, adjoint_a)
    if b.shape[0] == 1 and b.ndim == 3 and not turned_a:
        rows = xp.reshape(a, (math.prod(a.shape[:-1]), a.shape[-1]))
        product = xp.matmul(rows, alone(xp, b), False, transpose_b, False, adjoint_b)
        return xp.reshape(product, (*a.shape[:-1], product.shape[-1]))
    rank = max(a.ndim, b.ndim) - 1
    return xp.matmul(lead(xp, a, rank), lead(xp, b, rank), *flags)


def _matvec_behind(xp: Namespace, a: Any, b: Any, transpose_a: bool, adjoint_a: bool) -> Any:
    if a.ndim < 3 or b.ndim < 2:
        return NotImplemented  # no matrices and vectors, as the op will say
    if a.shape[0] == 1 and a.ndim == 3:
        return xp.matvec(alone(xp, a), b, transpose_a, adjoint_a)
    batch = max(a.ndim - 2, b.ndim - 1)
    return xp.matvec(lead(xp, a, batch + 1), lead(xp, b, batch), transpose_a, adjoint_a)


def _matvec_rows(
    xp: Namespace, d: Any, a: Any, b_shape: tuple[int, ...], transpose_a: bool, adjoint_a: bool
) -> Any:
    """c = A b: for the cotangent d[i] e_i, that of b is conj(A)[i] d[i]."""
    if len(a.shape) != 2 or len(b_shape) != 1:
        return NotImplemented
    return xp.expand_dims(d, -1) * xp.conj(_seen(xp, a, transpose_a, adjoint_a))


def _matmul_rows(
    xp: Namespace,
    d: Any,
    a: Any,
    b_shape: tuple[int, ...],
    transpose_a: bool,
    transpose_b: bool,
    adjoint_a: bool,
    adjoint_b: bool,
) -> Any:
    return _matvec_rows(xp, d, a, b_shape, transpose_a, adjoint_a)


@op(
    promote=("a", "b"),
    vjp=(_matmul_left, _matmul_right),
    dtypes="efdFD",
    jvp=MULTILINEAR,
    batch=_matmul_behind,
    rows={"b": _matmul_rows},
    samples=[
        Sample((3, 4), (4, 2)),
        Sample((4, 3), (4, 2), transpose_a=True),
        Sample((3, 4), (2, 4), transpose_b=True),
        Sample((4, 3), (2, 4), transpose_a=True, transpose_b=True),
        Sample((4, 3), (2, 4), adjoint_a=True, adjoint_b=True),
        Sample((4, 3), (2, 4), adjoint_a=True, transpose_b=True),
        Sample((4,), (4,)),
        Sample((3, 4), (4,)),
        Sample((4,), (4, 2)),
        Sample((4, 3), (4,), adjoint_a=True),
        Sample((4,), (2, 4), transpose_b=True),
        Sample((4,), (2, 4), adjoint_b=True),
        Sample((2, 2, 3, 4), (4,)),
        Sample((4,), (2, 2, 4, 3)),
        Sample((2, 3, 4), (2, 4, 2)),
        Sample((2, 3, 4), (4, 2)),
        Sample((2, 4, 3), (2, 4), adjoint_a=True, adjoint_b=True),
        Sample((3, 4), (2, 4, 2)),
        Sample((4, 3), (2, 2, 4), transpose_a=True, transpose_b=True),
        Sample((3, 1, 2, 4), (2, 4, 2)),
        Sample((0, 4), (4, 2)),
        Sample((3, 0), (0, 2)),
        Sample((0, 2, 3), (3, 2)),
    ],
)
def matmul(
    a: TensorLike,
    b: TensorLike,
    transpose_a: bool = False,
    transpose_b: bool = False,
    adjoint_a: bool = False,
    adjoint_b: bool = False,
) -> Array:
    """The matrix product A B, as `@` and `numpy.matmul` take it.

    a: (..., n, m) and b: (..., m, p) give (..., n, p); leading axes are batches and broadcast. A vector on
    either side is a row on the left, a column on the right, and leaves no axis. transpose_a, adjoint_a
    (and so for b): use the transpose or the conjugate transpose of each matrix instead. Raises ShapeError
    if the shapes do not fit.

    For C = A B and the cotangent G of C, those of A and B are G Bᴴ and Aᴴ G.

    >>> gt.matmul([[1.0, 2.0], [3.0, 4.0]], [[1.0, 0.0], [1.0, 1.0]])
    <tf.Tensor: shape=(2, 2), dtype=float32, numpy=
    array([[3., 2.],
           [7., 4.]], dtype=float32)>
    """
    a, b = _turned(a, "matmul", transpose_a, adjoint_a), _turned(b, "matmul", transpose_b, adjoint_b)
    return _multiplied("matmul", a, b)


@op(
    promote=("a", "b"),
    vjp=(_matvec_left, _matvec_right),
    rows={"b": _matvec_rows},
    dtypes="efdFD",
    jvp=MULTILINEAR,
    batch=_matvec_behind,
    samples=[
        Sample((3, 4), (4,)),
        Sample((4, 3), (4,), transpose_a=True),
        Sample((4, 3), (4,), adjoint_a=True),
        Sample((2, 3, 4), (4,)),
        Sample((3, 4), (2, 4)),
        Sample((4, 3), (2, 2, 4), adjoint_a=True),
        Sample((2, 3, 4), (2, 4)),
        Sample((2, 4, 3), (3, 1, 4), transpose_a=True),
        Sample((1, 4, 3), (2, 4), adjoint_a=True),
        Sample((0, 4), (4,)),
        Sample((2, 0), (0,)),
    ],
)
def matvec(a: TensorLike, b: TensorLike, transpose_a: bool = False, adjoint_a: bool = False) -> Array:
    """The product of matrices and vectors, A b.

    a: (..., n, m) and b: (..., m) give (..., n); leading axes are batches and broadcast. transpose_a,
    adjoint_a: use the transpose or the conjugate transpose of each matrix instead. Raises ShapeError if
    the shapes do not fit.

    For c = A b and the cotangent g of c, those of A and b are g bᴴ and Aᴴ g.

    >>> gt.linalg.matvec([[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([3., 7.], dtype=float32)>
    """
    a = _turned(a, "matvec", transpose_a, adjoint_a)
    if a.ndim < 2 or not b.ndim or a.shape[-1] != b.shape[-1]:
        raise ShapeError(
            f"matvec: wanted matrices (..., n, m) and vectors (..., m), got {a.shape} and {b.shape}; "
            "expand_dims adds an axis"
        )
    if b.ndim == 1:
        return _multiplied("matvec", a, b)
    if a.ndim == 2:
        return np.matmul(b, a.T)
    return _multiplied("matvec", a, b[..., None])[..., 0]
