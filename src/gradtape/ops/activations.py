"""Activations of neural networks, elementwise: what stands behind a layer."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from gradtape.errors import DTypeError
from gradtape.ops.op import LEADING, Namespace, Sample, Uniform, elementwise, op, raw
from gradtape.tensor import Array, Tensor, TensorLike

__all__ = ["elu", "gelu", "leaky_relu", "real_only", "relu", "relu6", "selu", "silu"]

_EACH_SIDE = [Sample((3, 4)), Sample(()), Sample((0, 2)), Sample(Uniform((2, 3), 6.5, 8.0))]


def real_only(name: str, x: Array) -> Array:
    """x, if it is not complex: the op asks which side of 0 a number lies on."""
    if x.dtype.kind == "c":
        raise DTypeError(f"{name}: wanted real numbers, got {x.dtype}; take their real part, or abs")
    return x


def _relu(x: Array) -> Array:
    if not x.ndim or x.dtype.kind == "c":
        return np.maximum(real_only("relu", x), 0)
    out = np.empty_like(
        x
    )  # against an array of zeros NumPy's maximum runs three times as fast as against one zero
    out.fill(0)
    return np.maximum(x, out, out=out)


@elementwise(_relu, lambda xp, out: out > 0, samples=_EACH_SIDE, lower=lambda xp, x: xp.maximum(x, 0))
def relu(features: TensorLike) -> Tensor:
    """max(x, 0), elementwise; its derivative is 1 where x > 0, and 0 elsewhere, at 0 too.

    >>> gt.nn.relu([-1.0, 0.0, 2.0]).numpy()
    array([0., 0., 2.], dtype=float32)
    """


def _relu6(xp: Namespace, x: Any) -> Any:
    return xp.minimum(xp.maximum(real_only("relu6", x), 0), 6)


@elementwise(
    functools.partial(_relu6, raw),
    lambda xp, out: xp.logical_and(out > 0, out < 6),
    samples=_EACH_SIDE,
    lower=_relu6,
)
def relu6(features: TensorLike) -> Tensor:
    """min(max(x, 0), 6), elementwise; its derivative is 1 where 0 < x < 6, and 0 elsewhere, at both ends too.

    >>> gt.nn.relu6([-1.0, 3.0, 8.0]).numpy()
    array([0., 3., 6.], dtype=float32)
    """


@op(
    vjp=lambda xp, g, features, alpha: xp.where(features > 0, g, g * alpha),
    jvp=lambda xp, t, features, alpha: xp.where(features > 0, t, t * alpha),
    batch=LEADING,
    samples=[
        Sample((3, 4)),
        Sample((), alpha=0.1),
        Sample((0, 2)),
        Sample((5,), alpha=3.0),
        Sample((5,), alpha=-0.5),
    ],
    dtypes="efd",
    lower=lambda xp, x, alpha: xp.where(x > 0, x, x * alpha),
)
def leaky_relu(features: TensorLike, alpha: float = 0.2) -> Array:
    """x where x > 0, else alpha x; its derivative at 0 is alpha.

    >>> gt.nn.leaky_relu([-1.0, 2.0]).numpy()
    array([-0.2,  2. ], dtype=float32)
    """
    out = np.where(real_only("leaky_relu", features) > 0, features, features * alpha)
    return out if out.ndim else out[()]


def _elu(xp: Namespace, x: Any) -> Any:
    return xp.maximum(real_only("elu", x), 0) + xp.expm1(xp.minimum(x, 0))


@elementwise(
    functools.partial(_elu, raw),
    lambda xp, out: xp.minimum(out, 0.0) + 1.0,
    samples=_EACH_SIDE,
    lower=_elu,
)
def elu(features: TensorLike) -> Tensor:
    """x where x > 0, else exp(x) - 1; its derivative is min(elu(x), 0) + 1. Clevert et al., 2016.

    >>> gt.nn.elu([-1.0, 2.0]).numpy()
    array([-0.6321...,  2.        ], dtype=float32)
    """


# The fixed point of mean 0 and variance 1, from equation 14 of Klambauer et al., 2017.
_SELU_SCALE = 1.0507009873554805
_SELU_ALPHA = 1.6732632423543772


def _selu(xp: Namespace, x: Any) -> Any:
    return (xp.maximum(real_only("selu", x), 0) + xp.expm1(xp.minimum(x, 0)) * _SELU_ALPHA) * _SELU_SCALE


@elementwise(
    functools.partial(_selu, raw),
    lambda xp, out: xp.where(out < 0, out + _SELU_SCALE * _SELU_ALPHA, _SELU_SCALE),
    samples=_EACH_SIDE,
    lower=_selu,
)
def selu(features: TensorLike) -> Tensor:
    """s x where x > 0, else s a (exp(x) - 1), with s = 1.0507 and a = 1.6733.

    It keeps mean 0 and variance 1. Klambauer et al., Self-Normalizing Neural Networks, 2017.

    >>> gt.nn.selu([-1.0, 2.0]).numpy()
    array([-1.1113...,  2.1014...], dtype=float32)
    """


_ROOT_2 = math.sqrt(2)
_TANH_SLOPE = math.sqrt(2 / math.pi)


def _gelu_vjp(xp: Namespace, g: Array, features: Array, approximate: bool) -> Array:
    x = features
    square = x * x
    if approximate:
        t = xp.tanh(x * (square * 0.044715 + 1.0) * _TANH_SLOPE)
        slope = (square * (3 * 0.044715) + 1.0) * _TANH_SLOPE
        return g * ((t + 1.0 + (1.0 - t * t) * x * slope) * 0.5)
    density = xp.exp(square * -0.5) / math.sqrt(2 * math.pi)
    return g * (xp.erfc(x / -_ROOT_2) * 0.5 + x * density)


def _gelu(xp: Namespace, x: Any, approximate: bool) -> Any:
    if approximate:
        return x * 0.5 * (xp.tanh(x * (x * x * 0.044715 + 1.0) * _TANH_SLOPE) + 1.0)
    return x * 0.5 * xp.erfc(x / -_ROOT_2)


@op(
    vjp=_gelu_vjp,
    jvp=_gelu_vjp,
    batch=LEADING,
    samples=[Sample(shape, approximate=a) for shape in ((3, 4), (), (0, 2)) for a in (False, True)],
    dtypes="efd",
    lower=_gelu,
)
def gelu(features: TensorLike, approximate: bool = False) -> Array:
    """x P(Z <= x) for a standard normal Z; approximate: x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2.

    Hendrycks and Gimpel, Gaussian Error Linear Units, 2016.

    >>> gt.nn.gelu([-1.0, 2.0]).numpy()
    array([-0.1586...,  1.9544...], dtype=float32)
    """
    return _gelu(raw, real_only("gelu", features), approximate)


def _silu_slope(xp: Namespace, features: Array, beta: Array) -> Array:
    s = xp.sigmoid(features * beta)
    return s + features * beta * s * (1.0 - s)


def _silu_beta_slope(xp: Namespace, features: Array, beta: Array) -> Array:
    s = xp.sigmoid(features * beta)
    return features * features * s * (1.0 - s)


def _silu(xp: Namespace, x: Any, beta: Any) -> Any:
    return x * xp.sigmoid(x * beta)


@elementwise(
    functools.partial(_silu, raw),
    _silu_slope,
    _silu_beta_slope,
    samples=[Sample((3, 4)), Sample(()), Sample((2, 3), (3,)), Sample((2, 1), ()), Sample((0, 2), beta=2.0)],
    lower=_silu,
)
def silu(features: TensorLike, beta: TensorLike = 1.0) -> Tensor:
    """x sigmoid(beta x), elementwise, also called swish; beta may be a tensor, and is differentiated too.

    >>> gt.nn.silu([-1.0, 2.0]).numpy()
    array([-0.2689...,  1.7615...], dtype=float32)
    """
