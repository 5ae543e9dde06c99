"""Running sums and products along an axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradtape.ops.batching import ALONG_AXIS, behind, size_of, spread
from gradtape.ops.namespace import Namespace
from gradtape.ops.op import LINEAR, op
from gradtape.ops.sample import Sample, Uniform
from gradtape.tensor import Array, TensorLike

__all__ = ["cumprod", "cumsum", "linear_recurrence"]


def _running(ufunc: np.ufunc, x: Array, axis: int, exclusive: bool, reverse: bool) -> Array:
    """The running reduction by a ufunc; exclusive: without the element itself; reverse: from the end."""
    if not -x.ndim <= axis < x.ndim:
        raise np.exceptions.AxisError(axis, x.ndim)
    turn = _at(axis, x.ndim, slice(None, None, -1))
    if reverse:
        x = x[turn]
    y = ufunc.accumulate(x, axis, x.dtype if x.dtype.kind in "iu" else None)
    if exclusive:
        shifted = np.empty_like(y)
        shifted[_at(axis, x.ndim, slice(None, 1))] = ufunc.identity
        shifted[_at(axis, x.ndim, slice(1, None))] = y[_at(axis, x.ndim, slice(None, -1))]
        y = shifted
    return y[turn] if reverse else y


def _at(axis: int, ndim: int, place: slice) -> tuple[slice, ...]:
    return (*(slice(None),) * (axis % ndim), place)


RUNS = [
    Sample((4,)),
    Sample((3, 4), axis=1, exclusive=True),
    Sample((3, 4), axis=-1, reverse=True),
    Sample((2, 3, 2), axis=1, exclusive=True, reverse=True),
    Sample((0, 2)),
    Sample((2, 0), axis=1, exclusive=True),
    Sample((1,), exclusive=True),
]


@op(
    vjp=lambda xp, g, axis, exclusive, reverse: xp.cumsum(g, axis, exclusive, not reverse),
    jvp=LINEAR,
    batch=ALONG_AXIS,
    samples=RUNS,
    dtypes="efdFD",
)
def cumsum(x: TensorLike, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Array:
    """The running sum along `axis`; exclusive: of those before only; reverse: starting from the end.

    >>> gt.cumsum([1.0, 2.0, 3.0])
    <tf.Tensor: shape=(3,), dtype=float32, numpy=array([1., 3., 6.], dtype=float32)>
    """
    return _running(np.add, x, axis, exclusive, reverse)


def _cumprod_vjp(xp: Namespace, g: Any, x: Any, axis: int, exclusive: bool, reverse: bool) -> Any:
    """x_i, times all before it, weighs h_i = g_i + x_(i+1) h_(i+1): what the products from i on make of it.

    For exclusive products the sum starts one place later: h_i = g_(i+1) + x_(i+1) h_(i+1).
    """
    place = axis % len(x.shape)
    factors = _shifted(xp, xp.conj(x), place, not reverse)
    if exclusive:
        g = _shifted(xp, g, place, not reverse)
    return xp.conj(xp.cumprod(x, axis, True, reverse)) * xp.linear_recurrence(factors, g, place, not reverse)


def _shifted(xp: Namespace, x: Any, axis: int, backwards: bool) -> Any:
    """x one place along the axis, or back, with a zero moved in."""
    n = x.shape[axis]
    if not n:
        return x
    margins = tuple(((0, 1) if backwards else (1, 0)) if i == axis else (0, 0) for i in range(len(x.shape)))
    return xp.pad(x[_at(axis, len(x.shape), slice(1, None) if backwards else slice(None, n - 1))], margins)


@op(
    vjp=_cumprod_vjp,
    batch=ALONG_AXIS,
    samples=[
        *RUNS,
        Sample(Uniform((2, 4), then=lambda x: x * np.array([[1, 0, 1, 1], [0, 1, 0, 1]])), axis=1),
        Sample(Uniform((4,), then=lambda x: x * np.array([1, 0, 0, 1])), exclusive=True, reverse=True),
    ],
    dtypes="efdFD",
)
def cumprod(x: TensorLike, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Array:
    """The running product along `axis`; exclusive: of those before only; reverse: starting from the end.

    The derivative is formed without dividing, so that it holds where some are 0.

    >>> gt.math.cumprod([1.0, 2.0, 3.0])
    <tf.Tensor: shape=(3,), dtype=float32, numpy=array([1., 2., 6.], dtype=float32)>
    """
    return _running(np.multiply, x, axis, exclusive, reverse)


def _recurrence_factor_vjp(xp: Namespace, g: Any, factors: Any, out: Any, axis: int, reverse: bool) -> Any:
    return _recurrence_term_vjp(xp, g, factors, axis, reverse) * xp.conj(_shifted(xp, out, axis, reverse))


def _recurrence_term_vjp(xp: Namespace, g: Any, factors: Any, axis: int, reverse: bool) -> Any:
    return xp.linear_recurrence(_shifted(xp, xp.conj(factors), axis, not reverse), g, axis, not reverse)


def _recurrence_behind(xp: Namespace, factors: Any, terms: Any, axis: int, reverse: bool) -> Any:
    size = size_of([factors, terms])
    return xp.linear_recurrence(
        spread(xp, factors, size), spread(xp, terms, size), behind(axis, terms.ndim - 1), reverse
    )


@op(
    vjp=(_recurrence_factor_vjp, _recurrence_term_vjp),
    batch=_recurrence_behind,
    samples=[
        Sample((5,), (5,)),
        Sample((3, 4), (3, 4), axis=1, reverse=True),
        Sample((6, 2), (6, 2), reverse=True),
        Sample((0,), (0,)),
    ],
    dtypes="efdFD",
)
def linear_recurrence(factors: TensorLike, terms: TensorLike, axis: int = 0, reverse: bool = False) -> Array:
    """y with y_i = terms_i + factors_i y_(i-1) along `axis`, or y_(i+1) if reverse; y is 0 beyond the ends.

    Found by doubling, in log2(n) steps over whole arrays: maps y -> t + f y compose to maps of the same kind
    (Hillis and Steele, "Data parallel algorithms", 1986).

    >>> from gradtape.ops.accumulation import linear_recurrence
    >>> linear_recurrence([0.5, 0.5, 0.5], [1.0, 1.0, 1.0])
    <tf.Tensor: shape=(3,), dtype=float32, numpy=array([1.  , 1.5 , 1.75], dtype=float32)>
    """
    y = np.array(terms, np.result_type(factors, terms))
    f = np.array(factors)
    n, ndim, step = y.shape[axis], y.ndim, 1
    while step < n:
        later, earlier = slice(step, None), slice(None, n - step)
        if reverse:
            later, earlier = earlier, later
        to, by = _at(axis, ndim, later), _at(axis, ndim, earlier)
        y[to] += f[to] * y[by]
        f[to] = f[to] * f[by]
        step *= 2
    return y
