"""Roots, exponentials, logarithms, circular and hyperbolic functions and their inverses, elementwise.

Complex values are taken by all but atan2 and softplus, on the principal branch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradtape.ops.op import Namespace, elementwise
from gradtape.ops.special import of_scipy
from gradtape.tensor import Array, Tensor, TensorLike

__all__ = [
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cos",
    "cosh",
    "exp",
    "expm1",
    "log",
    "log1p",
    "rsqrt",
    "sigmoid",
    "sin",
    "sinh",
    "softplus",
    "sqrt",
    "tan",
    "tanh",
]


# -- roots ---------------------------------------------------------------------------------------------------


@elementwise(np.sqrt, lambda xp, g, out: xp.zero_or_quotient(g, out) * 0.5, low=0.3, dtypes="efdFD")
def sqrt(x: TensorLike) -> Tensor:
    """The square root, elementwise; NaN for negative x. (√x)' = 1 / 2√x.

    Where the cotangent is 0 so is that of x, also for x that is 0 or negative, so that
    `where(x > 0, sqrt(x), 0.0)` has derivative 0 there.

    >>> gt.sqrt([4.0, 9.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([2., 3.], dtype=float32)>
    """


@elementwise(
    lambda x: 1 / np.sqrt(x),
    lambda xp, g, x, out: xp.zero_or_quotient(g, x / out) * -0.5,
    low=0.3,
    dtypes="efdFD",
    lower=lambda xp, x: 1 / xp.sqrt(x),
)
def rsqrt(x: TensorLike) -> Tensor:
    """1 / √x, elementwise; NaN for negative x. (1 / √x)' = -1 / 2x√x.

    Where the cotangent is 0 so is that of x, also for x that is 0 or negative.

    >>> gt.math.rsqrt([4.0, 0.25])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([0.5, 2. ], dtype=float32)>
    """


# -- exponentials and logarithms -----------------------------------------------------------------------------


@elementwise(np.exp, "out", dtypes="efdFD")
def exp(x: TensorLike) -> Tensor:
    """e to the power of x, elementwise.

    >>> print(gt.exp([0.0, 1.0]))
    tf.Tensor([1... 2.71828...], shape=(2,), dtype=float32)
    """


@elementwise(np.expm1, lambda xp, out: out + 1, dtypes="efdFD")
def expm1(x: TensorLike) -> Tensor:
    """e to the power of x, less 1, elementwise; exact for small x, too.

    >>> gt.math.expm1([0.0, 1e-10])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([0.e+00, 1.e-10], dtype=float32)>
    """


@elementwise(np.log, lambda xp, g, x: g / x, low=0.3, dtypes="efdFD")
def log(x: TensorLike) -> Tensor:
    """The natural logarithm, elementwise; NaN for negative x. (log x)' = 1 / x.

    >>> print(gt.math.log([1.0, 10.0]))
    tf.Tensor([0... 2.30...], shape=(2,), dtype=float32)
    """


@elementwise(np.log1p, lambda xp, g, x: g / (1 + x), low=-0.7, dtypes="efdFD")
def log1p(x: TensorLike) -> Tensor:
    """The natural logarithm of 1 + x, elementwise; exact for small x, too.

    >>> gt.math.log1p([0.0, 1e-10])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([0.e+00, 1.e-10], dtype=float32)>
    """


_expit = of_scipy("expit")


def _sigmoid(x: Array) -> Array:
    if x.dtype.kind == "c":
        return 1 / (1 + np.exp(-x))
    if x.size < 1024 or x.dtype.char not in "fd":
        return _expit(x)
    out = np.negative(x)
    with np.errstate(over="ignore", under="ignore"):
        np.exp(out, out=out)
        out += 1
        return np.divide(1, out, out=out)


def _sigmoid_lower(xp: Namespace, x: Any) -> Any:
    """Of e^-|x|, which cannot overflow."""
    e = xp.exp(-abs(x))
    return xp.where(x < 0, e, 1) / (1 + e)


@elementwise(_sigmoid, lambda xp, out: out * (1 - out), dtypes="efdFD", lower=_sigmoid_lower)
def sigmoid(x: TensorLike) -> Tensor:
    """1 / (1 + e^-x), elementwise, without overflow. The derivative, of its result s, is s (1 - s).

    >>> gt.sigmoid([0.0, 1000.0, -1000.0])
    <tf.Tensor: shape=(3,), dtype=float32, numpy=array([0.5, 1. , 0. ], dtype=float32)>
    """


@np.errstate(under="ignore", invalid="ignore")
def _softplus(x: Array) -> Array:
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|), in as few buffers as there can be."""
    if x.size < 128 or x.dtype.char not in "fd":
        return np.logaddexp(0, x)
    out = np.abs(x)
    np.negative(out, out=out)
    np.exp(out, out=out)
    np.log1p(out, out=out)
    out += np.maximum(x, 0)
    return out


@elementwise(
    _softplus,
    lambda xp, features: xp.sigmoid(features),
    lower=lambda xp, x: xp.maximum(x, 0) + xp.log1p(xp.exp(-abs(x))),
)
def softplus(features: TensorLike) -> Tensor:
    """log(1 + e^x), elementwise, without overflow. The derivative is sigmoid(x).

    >>> gt.nn.softplus([0.0, -1000.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([0.6931..., 0.       ], dtype=float32)>
    """


# -- circular functions --------------------------------------------------------------------------------------


@elementwise(np.sin, lambda xp, x: xp.cos(x), dtypes="efdFD")
def sin(x: TensorLike) -> Tensor:
    """The sine of x, in radians, elementwise; (sin x)' = cos x.

    >>> print(gt.sin([0.0, 1.0]))
    tf.Tensor([0... 0.8414...], shape=(2,), dtype=float32)
    """


@elementwise(np.cos, lambda xp, x: -xp.sin(x), dtypes="efdFD")
def cos(x: TensorLike) -> Tensor:
    """The cosine of x, in radians, elementwise; (cos x)' = -sin x.

    >>> print(gt.cos([0.0, 1.0]))
    tf.Tensor([1... 0.54...], shape=(2,), dtype=float32)
    """


@elementwise(np.tan, lambda xp, out: 1 + out * out, low=-1.2, high=1.2, dtypes="efdFD")
def tan(x: TensorLike) -> Tensor:
    """The tangent of x, in radians, elementwise; (tan x)' = 1 + tan² x.

    >>> print(gt.tan([0.0, 1.0]))
    tf.Tensor([0... 1.55...], shape=(2,), dtype=float32)
    """


@elementwise(np.arcsin, lambda xp, g, x: g / xp.sqrt((1 - x) * (1 + x)), low=-0.8, high=0.8, dtypes="efdFD")
def asin(x: TensorLike) -> Tensor:
    """The angle whose sine is x, in [-π/2, π/2], elementwise; (asin x)' = 1 / √(1 - x²).

    >>> print(gt.asin([0.0, 1.0]))
    tf.Tensor([0... 1.57...], shape=(2,), dtype=float32)
    """


@elementwise(np.arccos, lambda xp, g, x: g / -xp.sqrt((1 - x) * (1 + x)), low=-0.8, high=0.8, dtypes="efdFD")
def acos(x: TensorLike) -> Tensor:
    """The angle whose cosine is x, in [0, π], elementwise; (acos x)' = -1 / √(1 - x²).

    >>> print(gt.acos([1.0, 0.0]))
    tf.Tensor([0... 1.57...], shape=(2,), dtype=float32)
    """


@elementwise(np.arctan, lambda xp, g, x: g / (1 + x * x), dtypes="efdFD")
def atan(x: TensorLike) -> Tensor:
    """The angle whose tangent is x, in [-π/2, π/2], elementwise; (atan x)' = 1 / (1 + x²).

    >>> print(gt.atan([0.0, 1.0]))
    tf.Tensor([0... 0.78...], shape=(2,), dtype=float32)
    """


@elementwise(
    np.arctan2,
    lambda xp, g, y, x: g * x / (x * x + y * y),
    lambda xp, g, y, x: g * y / -(x * x + y * y),
    low=(-2.0, 0.3),
)
def atan2(y: TensorLike, x: TensorLike) -> Tensor:
    """The angle of the point (x, y) against the positive x-axis, in [-π, π], elementwise with broadcasting.

    Its derivatives are x / (x² + y²) by y, and -y / (x² + y²) by x.

    >>> gt.math.atan2([1.0, 0.0], [0.0, -1.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([1.5707..., 3.1415...], dtype=float32)>
    """


# -- hyperbolic functions ------------------------------------------------------------------------------------


@elementwise(np.sinh, lambda xp, x: xp.cosh(x), dtypes="efdFD")
def sinh(x: TensorLike) -> Tensor:
    """The hyperbolic sine, elementwise; (sinh x)' = cosh x.

    >>> print(gt.sinh([0.0, 1.0]))
    tf.Tensor([0... 1.17...], shape=(2,), dtype=float32)
    """


@elementwise(np.cosh, lambda xp, x: xp.sinh(x), dtypes="efdFD")
def cosh(x: TensorLike) -> Tensor:
    """The hyperbolic cosine, elementwise; (cosh x)' = sinh x.

    >>> print(gt.cosh([0.0, 1.0]))
    tf.Tensor([1... 1.54...], shape=(2,), dtype=float32)
    """


@elementwise(np.tanh, lambda xp, out: 1 - out * out, dtypes="efdFD")
def tanh(x: TensorLike) -> Tensor:
    """The hyperbolic tangent, elementwise; (tanh x)' = 1 - tanh² x.

    >>> print(gt.tanh([0.0, 1.0]))
    tf.Tensor([0... 0.76...], shape=(2,), dtype=float32)
    """


@elementwise(np.arcsinh, lambda xp, g, x: g / xp.sqrt(1 + x * x), dtypes="efdFD")
def asinh(x: TensorLike) -> Tensor:
    """The inverse of sinh, elementwise; (asinh x)' = 1 / √(x² + 1).

    >>> print(gt.asinh([0.0, 1.0]))
    tf.Tensor([0... 0.88...], shape=(2,), dtype=float32)
    """


@elementwise(
    np.arccosh, lambda xp, g, x: g / (xp.sqrt(x - 1) * xp.sqrt(x + 1)), low=1.3, high=3.0, dtypes="efdFD"
)
def acosh(x: TensorLike) -> Tensor:
    """The inverse of cosh that is not negative, elementwise; NaN for x < 1. (acosh x)' = 1 / √(x² - 1).

    >>> print(gt.acosh([1.0, 2.0]))
    tf.Tensor([0... 1.31...], shape=(2,), dtype=float32)
    """


@elementwise(np.arctanh, lambda xp, g, x: g / ((1 - x) * (1 + x)), low=-0.8, high=0.8, dtypes="efdFD")
def atanh(x: TensorLike) -> Tensor:
    """The inverse of tanh, elementwise; NaN for |x| > 1. (atanh x)' = 1 / (1 - x²).

    >>> print(gt.atanh([0.0, 0.5]))
    tf.Tensor([0... 0.54...], shape=(2,), dtype=float32)
    """
