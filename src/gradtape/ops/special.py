"""Special functions, elementwise: the error function, gamma's family, and products that are 0 at 0."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradtape.errors import DTypeError
from gradtape.ops.op import Namespace, Sample, Uniform, elementwise
from gradtape.ops.rule import Forward
from gradtape.tensor import Array, Tensor, TensorLike

__all__ = ["digamma", "erf", "erfc", "lgamma", "of_scipy", "polygamma", "xdivy", "xlogy"]


def of_scipy(name: str) -> Forward:
    """scipy.special's function of this name, imported when it is first called; float16 by way of float32."""
    function: Any = None

    def forward(x: Array) -> Array:
        nonlocal function
        if function is None:
            from scipy import special

            function = getattr(special, name)
        if x.dtype.char == "e":
            return function(x.astype(np.float32)).astype(x.dtype)
        return function(x)

    return forward


_TWO_BY_ROOT_PI = 2 / math.sqrt(math.pi)


@elementwise(of_scipy("erf"), lambda xp, x: _TWO_BY_ROOT_PI * xp.exp(-(x * x)))
def erf(x: TensorLike) -> Tensor:
    """The error function, 2/√π times the integral of exp(-t²) from 0 to x, elementwise.

    >>> gt.math.erf([0.0, 1.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([0.       , 0.8427...], dtype=float32)>
    """


@elementwise(of_scipy("erfc"), lambda xp, x: -_TWO_BY_ROOT_PI * xp.exp(-(x * x)))
def erfc(x: TensorLike) -> Tensor:
    """1 - erf(x), elementwise, without cancellation for large x.

    >>> gt.math.erfc([0.0, 1.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([1.       , 0.1572...], dtype=float32)>
    """


@elementwise(of_scipy("gammaln"), lambda xp, x: xp.digamma(x), low=0.3, high=4.0)
def lgamma(x: TensorLike) -> Tensor:
    """log |Γ(x)|, elementwise; its derivative is digamma(x).

    >>> gt.math.lgamma([1.0, 5.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([0.       , 3.1780...], dtype=float32)>
    """


@elementwise(of_scipy("psi"), lambda xp, x: xp.polygamma(1, x), low=0.3, high=4.0)
def digamma(x: TensorLike) -> Tensor:
    """The derivative of lgamma, elementwise; its own is polygamma(1, x).

    >>> gt.math.digamma([1.0, 2.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([-0.5772...,  0.4227...], dtype=float32)>
    """


def _polygamma(a: Array, x: Array) -> Array:
    from scipy import special

    if np.result_type(a, x).kind == "c":
        raise DTypeError(
            f"polygamma, which is the derivative of digamma: x is {np.result_type(a, x)}; wanted real numbers"
        )
    return np.asarray(special.polygamma(a, x), np.result_type(a, x, np.float16))[()]


@elementwise(
    _polygamma,
    None,
    lambda xp, a, x: xp.polygamma(a + 1, x),
    samples=[
        Sample(1.0, Uniform((3, 4), 0.5, 4.0)),
        Sample(np.array([[0.0], [2.0]]), Uniform((3,), 0.5, 4.0)),
        Sample(3, Uniform((), 0.5, 4.0)),
        Sample(2.0, Uniform((2,), -0.8, -0.2)),
        Sample(1.0, Uniform((0, 2), 0.5, 4.0)),
    ],
)
def polygamma(a: TensorLike, x: TensorLike) -> Tensor:
    """The derivative of digamma of order a, a whole number, at x, elementwise with broadcasting.

    Its derivative by x is polygamma(a + 1, x); by a it has none.

    >>> gt.math.polygamma(1.0, [1.0, 2.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([1.6449..., 0.6449...], dtype=float32)>
    """


def _xlogy(x: Array, y: Array) -> Array:
    y = np.asarray(y, np.result_type(x, y))
    zero = x == 0
    return np.where(zero, 0, x * np.log(np.where(zero, 1, y)))[()]


def _xlogy_lower(xp: Namespace, x: Any, y: Any) -> Any:
    y = _promoted(xp, y, x)
    zero = x == 0
    return xp.where(zero, 0, x * xp.log(xp.where(zero, 1, y)))


def _promoted(xp: Namespace, y: Any, x: Any) -> Any:
    """y in the dtype that x and y have together; one of them may be a Python number."""
    if not hasattr(y, "dtype"):
        return x.dtype.type(y)
    return xp.smooth_cast(y, np.result_type(getattr(x, "dtype", x), y.dtype))


@elementwise(
    _xlogy,
    lambda xp, x, y: xp.xlogy(xp.cast(xp.not_equal(x, 0), x.dtype), y),
    lambda xp, x, y: xp.xdivy(x, y),
    low=(-2.0, 0.3),
    dtypes="efdFD",
    lower=_xlogy_lower,
)
def xlogy(x: TensorLike, y: TensorLike) -> Tensor:
    """x log y, elementwise with broadcasting, and 0, with derivatives 0, where x is 0, whatever y is.

    >>> gt.math.xlogy([0.0, 2.0], [0.0, 1.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([0., 0.], dtype=float32)>
    """


def _xdivy(x: Array, y: Array) -> Array:
    y = np.asarray(y, np.result_type(x, y))
    zero = x == 0
    return np.where(zero, 0, x / np.where(zero, 1, y))[()]


def _xdivy_lower(xp: Namespace, x: Any, y: Any) -> Any:
    y = _promoted(xp, y, x)
    zero = x == 0
    return xp.where(zero, 0, x / xp.where(zero, 1, y))


@elementwise(
    _xdivy,
    lambda xp, x, y: xp.xdivy(xp.cast(xp.not_equal(x, 0), x.dtype), y),
    lambda xp, x, y: xp.xdivy(-x, y * y),
    low=(-2.0, 0.5),
    dtypes="efdFD",
    lower=_xdivy_lower,
)
def xdivy(x: TensorLike, y: TensorLike) -> Tensor:
    """x / y, elementwise with broadcasting, and 0, with derivatives 0, where x is 0, whatever y is.

    >>> gt.math.xdivy([0.0, 2.0], [0.0, 4.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([0. , 0.5], dtype=float32)>
    """
