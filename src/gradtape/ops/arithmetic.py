"""Arithmetic, elementwise: sums, products, powers, rounding, choosing, and the parts of complex values."""

from __future__ import annotations

import cmath
import functools
import math
import operator
from typing import Any

import numpy as np

from gradtape.errors import DTypeError
from gradtape.ops.op import LEADING, LINEAR, Namespace, Sample, Uniform, composite, elementwise, op, raw
from gradtape.tensor import Array, Tensor, TensorLike

__all__ = [
    "abs",
    "add",
    "angle",
    "ceil",
    "clip_by_value",
    "conj",
    "divide",
    "divide_no_nan",
    "floor",
    "floordiv",
    "imag",
    "maximum",
    "minimum",
    "mod",
    "multiply",
    "multiply_no_nan",
    "negative",
    "pow",
    "real",
    "reciprocal",
    "round",
    "sign",
    "square",
    "squared_difference",
    "subtract",
    "where",
    "zero_or_quotient",
]

_PYTHON = (int, float, bool, complex)


# -- sums and products ---------------------------------------------------------------------------------------


@elementwise(operator.add, 1, 1, dtypes="efdFD")
def add(x: TensorLike, y: TensorLike) -> Tensor:
    """x + y, elementwise with broadcasting; booleans are or-ed, as in NumPy.

    >>> gt.add([1.0, 2.0], 0.5)
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([1.5, 2.5], dtype=float32)>
    """


@elementwise(operator.sub, 1, -1, dtypes="efdFD")
def subtract(x: TensorLike, y: TensorLike) -> Tensor:
    """x - y, elementwise with broadcasting; DTypeError for booleans.

    >>> gt.subtract([1.0, 2.0], 0.5)
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([0.5, 1.5], dtype=float32)>
    """


@elementwise(operator.mul, "y", "x", dtypes="efdFD")
def multiply(x: TensorLike, y: TensorLike) -> Tensor:
    """x * y, elementwise with broadcasting.

    >>> gt.multiply([1.0, 2.0], [[2.0], [3.0]])
    <tf.Tensor: shape=(2, 2), dtype=float32, numpy=
    array([[2., 4.],
           [3., 6.]], dtype=float32)>
    """


@elementwise(
    operator.truediv,
    lambda xp, g, y: g / y,
    lambda xp, g, y, out: g * out / -y,
    low=(-2.0, 0.5),
    dtypes="efdFD",
)
def divide(x: TensorLike, y: TensorLike) -> Tensor:
    """x / y, elementwise with broadcasting; integers are divided as float64.

    >>> gt.divide([1.0, 2.0], 4.0)
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([0.25, 0.5 ], dtype=float32)>
    """


@elementwise(operator.neg, -1, dtypes="efdFD")
def negative(x: TensorLike) -> Tensor:
    """-x, elementwise.

    >>> gt.negative([1.0, -2.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([-1.,  2.], dtype=float32)>
    """


@elementwise(lambda x: x * x, lambda xp, x: x + x, dtypes="efdFD", lower=lambda xp, x: x * x)
def square(x: TensorLike) -> Tensor:
    """x * x, elementwise; of complex values too, where it is not the square of the absolute value.

    >>> gt.square([1.0, -3.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([1., 9.], dtype=float32)>
    """


@np.errstate(invalid="ignore", over="ignore")
def _zero_or_quotient(x: Array, y: Array) -> Array:
    quotient = x / y
    total = np.vdot(quotient, quotient)  # NaN if any is, and the fastest way to know
    return quotient if total == total else np.where(x == 0, quotient.dtype.type(0), quotient)[()]


def _zero_or_quotient_lower(xp: Namespace, x: Any, y: Any) -> Any:
    quotient = x / y
    return xp.where(xp.logical_and(xp.is_nan(quotient), x == 0), 0, quotient)


@elementwise(
    _zero_or_quotient,
    lambda xp, g, y: xp.zero_or_quotient(g, y),
    lambda xp, g, y, out: xp.zero_or_quotient(g * -out, y),
    low=(-2.0, 0.5),
    dtypes="efdFD",
    lower=_zero_or_quotient_lower,
)
def zero_or_quotient(x: TensorLike, y: TensorLike) -> Tensor:
    """x / y, elementwise with broadcasting, and 0 where x is 0, also over 0 and NaN.

    It makes cotangents of functions whose slope can be infinite: what the target does not depend on gets 0.
    Unlike that of `xdivy`, its derivative by x is 1 / y where x is 0, too.

    >>> from gradtape.ops.arithmetic import zero_or_quotient
    >>> zero_or_quotient([0.0, 2.0], [0.0, 4.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([0. , 0.5], dtype=float32)>
    """


@elementwise(
    lambda x: 1 / x,
    lambda xp, g, x: -xp.zero_or_quotient(g, x * x),
    low=0.5,
    dtypes="efdFD",
    lower=lambda xp, x: 1 / x,
)
def reciprocal(x: TensorLike) -> Tensor:
    """1 / x, elementwise; integers are divided as float64. (1 / x)' = -1 / x².

    Where the cotangent is 0 so is that of x, even if x is 0.

    >>> gt.math.reciprocal([2.0, 4.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([0.5 , 0.25], dtype=float32)>
    """


@composite(
    samples=[
        Sample((3, 4), (3, 4)),
        Sample((3, 1), (4,)),
        Sample((2, 3), ()),
        Sample((), ()),
        Sample((0, 2), (2,)),
    ],
    dtypes="efdFD",
)
def squared_difference(xp: Namespace, x: TensorLike, y: TensorLike) -> Tensor:
    """(x - y)², elementwise with broadcasting; of complex values |x - y|², still as a complex dtype.

    >>> gt.math.squared_difference([1.0, 2.0], 4.0)
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([9., 4.], dtype=float32)>
    """
    difference = xp.subtract(x, y)
    if difference.dtype.kind == "c":
        return xp.multiply(difference, xp.conj(difference))  # type: ignore[no-any-return]
    return xp.square(difference)  # type: ignore[no-any-return]


def _divide_no_nan(x: Array, y: Array) -> Array:
    y = np.asarray(y, np.result_type(x, y))
    zero = y == 0
    return np.where(zero, 0, x / np.where(zero, 1, y))[()]


def _multiply_no_nan(x: Array, y: Array) -> Array:
    x = np.asarray(x, np.result_type(x, y))
    return np.where(y == 0, 0, x)[()] * y


def _divide_no_nan_lower(xp: Namespace, x: Any, y: Any) -> Any:
    if type(y) in _PYTHON:
        y = x.dtype.type(y)
    zero = y == 0
    return xp.where(zero, 0, x / xp.where(zero, 1, y))


def _multiply_no_nan_lower(xp: Namespace, x: Any, y: Any) -> Any:
    if type(x) in _PYTHON:
        x = y.dtype.type(x)
    return xp.where(y == 0, 0, x) * y


@elementwise(
    _divide_no_nan,
    lambda xp, g, y: xp.divide_no_nan(g, y),
    lambda xp, g, y, out: xp.divide_no_nan(g * -out, y),
    low=(-2.0, 0.5),
    dtypes="efdFD",
    lower=_divide_no_nan_lower,
)
def divide_no_nan(x: TensorLike, y: TensorLike) -> Tensor:
    """x / y, elementwise with broadcasting, and 0, with derivatives 0, where y is 0.

    >>> gt.math.divide_no_nan([1.0, 2.0], [0.0, 4.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([0. , 0.5], dtype=float32)>
    """


@elementwise(
    _multiply_no_nan,
    lambda xp, g, y: xp.multiply_no_nan(g, y),
    lambda xp, g, x: xp.multiply_no_nan(x, g),
    dtypes="efdFD",
    lower=_multiply_no_nan_lower,
)
def multiply_no_nan(x: TensorLike, y: TensorLike) -> Tensor:
    """x * y, elementwise with broadcasting, and 0 where y is 0, even if x is infinite or NaN.

    >>> gt.math.multiply_no_nan([np.inf, 2.0], [0.0, 4.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([0., 8.], dtype=float32)>
    """


# -- powers --------------------------------------------------------------------------------------------------


def _pow(x: Array, y: Array) -> Array:
    if type(y) in (int, float) and 2 < y <= 8 and y == int(y) and x.dtype.kind in "fc":
        return _product(x, int(y))
    try:
        return x**y
    except ValueError:
        if np.result_type(x, y).kind in "iu" and np.any(np.less(y, 0)):
            raise DTypeError(
                f"pow: integers have no integer powers of negative exponent (dtype {np.result_type(x, y)}); "
                "cast the base to a floating dtype"
            ) from None
        raise


def _product(x: Array, n: int) -> Array:
    """x to the power of n > 0 by multiplication, which is many times faster than by logarithms."""
    if n == 1:
        return x
    root = _product(x, n // 2)
    return root * root * x if n % 2 else root * root


def _pow_lower(xp: Namespace, x: Any, y: Any) -> Any:
    """Products and roots, where NumPy's own power of an array is one."""
    if type(y) not in (int, float):
        return NotImplemented
    if 1 <= y <= 8 and y == int(y):
        return _product(x, int(y))
    if y == -1:
        return 1 / x
    return xp.sqrt(x) if y == 0.5 and x.ndim else NotImplemented


def _pow_by_base(xp: Namespace, x: Any, y: Any) -> Any:
    """y x^(y - 1), and 0 where y is 0, with cheap forms for exponents that are Python numbers."""
    if type(y) not in _PYTHON:
        singular = xp.logical_and(xp.equal(x, 0), xp.equal(y, 0))
        return xp.pow(xp.where(singular, 1, x), y - 1) * y
    if y in (0, 1):
        return xp.ones_like(x) if y else xp.zeros_like(x)
    return x + x if y == 2 else xp.pow(x, y - 1) * y


def _pow_by_exponent(xp: Namespace, x: Any, y: Any, out: Any) -> Any:
    """x^y log x, and 0 where log x is no number."""
    if type(x) in _PYTHON:
        usable = x != 0 if out.dtype.kind == "c" else x > 0
        logarithm = cmath.log(x) if usable else 0.0
        return out * (logarithm if out.dtype.kind == "c" else logarithm.real)
    if out.dtype.kind == "c":
        usable = xp.not_equal(x, 0)
        return xp.where(usable, out, 0) * xp.log(xp.cast(xp.where(usable, x, 1), out.dtype))
    usable = xp.greater(x, 0)
    return xp.where(usable, out, 0) * xp.log(xp.where(usable, x, 1))


@elementwise(
    _pow,
    _pow_by_base,
    _pow_by_exponent,
    dtypes="efdFD",
    samples=[
        Sample(Uniform((3, 4), 0.3), (3, 4)),
        Sample(Uniform((3, 1), 0.3), (4,)),
        Sample(Uniform((2, 3), 0.3), ()),
        Sample(Uniform((), 0.3), ()),
        Sample(Uniform((0, 2), 0.3), (2,)),
        *(Sample((2, 3), exponent) for exponent in (0.0, 1, 2.0, 3)),
        *(Sample(Uniform((2, 3), 0.3), exponent) for exponent in (0.5, -1, -1.5)),
        Sample((2, 3), np.array([0.0, 2.0, 3.0])),
        Sample(2.0, (2, 3)),
    ],
    lower=_pow_lower,
)
def pow(x: TensorLike, y: TensorLike) -> Tensor:
    """x to the power of y, elementwise with broadcasting.

    The derivatives are y x^(y-1), 0 where y is 0, and x^y log x, 0 where x is not positive (where x is 0, for
    complex values). DTypeError for integers with negative exponents.

    >>> gt.pow([1.0, 2.0], 3.0)
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([1., 8.], dtype=float32)>
    """


# -- quotients that are rounded ------------------------------------------------------------------------------


@elementwise(operator.floordiv, low=(-2.0, 0.5))
def floordiv(x: TensorLike, y: TensorLike) -> Tensor:
    """x / y rounded down to a whole number, elementwise with broadcasting; not differentiable.

    >>> gt.floordiv([7.0, -7.0], 2.0)
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([ 3., -4.], dtype=float32)>
    """


@elementwise(operator.mod, 1, lambda xp, x, y: -xp.floordiv(x, y), low=(-2.0, 0.5))
def mod(x: TensorLike, y: TensorLike) -> Tensor:
    """What x leaves when divided by y, with the sign of y: x - y floor(x / y), elementwise with broadcasting.

    >>> gt.math.mod([7.0, -7.0], 3.0)
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([1., 2.], dtype=float32)>
    """


@elementwise(np.floor)
def floor(x: TensorLike) -> Tensor:
    """The largest whole number that is not above x, elementwise; not differentiable.

    >>> gt.floor([1.5, -1.5])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([ 1., -2.], dtype=float32)>
    """


@elementwise(np.ceil)
def ceil(x: TensorLike) -> Tensor:
    """The smallest whole number that is not below x, elementwise; not differentiable.

    >>> gt.math.ceil([1.5, -1.5])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([ 2., -1.], dtype=float32)>
    """


@elementwise(lambda x: x.round())
def round(x: TensorLike) -> Tensor:
    """The nearest whole number, the even one of two equally near, elementwise; not differentiable.

    >>> gt.round([0.5, 1.5, -1.7])
    <tf.Tensor: shape=(3,), dtype=float32, numpy=array([ 0.,  2., -2.], dtype=float32)>
    """


# -- choosing ------------------------------------------------------------------------------------------------


@elementwise(
    np.maximum,
    lambda xp, g, x, y: xp.where(xp.greater_equal(x, y), g, 0),
    lambda xp, g, x, y: xp.where(xp.greater_equal(x, y), 0, g),
)
def maximum(x: TensorLike, y: TensorLike) -> Tensor:
    """The larger of x and y, elementwise with broadcasting; NaN if either is NaN.

    Where they tie, the derivative by x is 1 and that by y is 0.

    >>> gt.maximum([1.0, -2.0], 0.0)
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([1., 0.], dtype=float32)>
    """


@elementwise(
    np.minimum,
    lambda xp, g, x, y: xp.where(xp.less_equal(x, y), g, 0),
    lambda xp, g, x, y: xp.where(xp.less_equal(x, y), 0, g),
)
def minimum(x: TensorLike, y: TensorLike) -> Tensor:
    """The smaller of x and y, elementwise with broadcasting; NaN if either is NaN.

    Where they tie, the derivative by x is 1 and that by y is 0.

    >>> gt.minimum([1.0, -2.0], 0.0)
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([ 0., -2.], dtype=float32)>
    """


def _where(condition: Array, x: Array, y: Array) -> Array:
    if type(condition) is np.ndarray and condition.dtype.kind == "b":
        if _is_maskable(x) and _is_zero(y):
            return _masked(condition, x)
        if _is_maskable(y) and _is_zero(x):
            return _masked(~condition, y)
    return np.asarray(np.where(condition, x, y))[()]


def _is_maskable(x: Array) -> bool:
    return type(x) is np.ndarray and x.dtype.char in "efd"


def _is_zero(x: Array) -> bool:
    return type(x) in (int, float) and x == 0 and math.copysign(1, x) > 0


def _masked(condition: Array, x: Array) -> Array:
    """x where the condition holds, else 0: the bits of x times 0 or 1, so that no branch is mispredicted."""
    bits = np.dtype(f"i{x.itemsize}")
    return np.multiply(condition.view("i1"), x.view(bits), dtype=bits).view(x.dtype)


_MIXED = np.array([[True, False, True], [False, False, True]])


@elementwise(
    _where,
    None,
    lambda xp, g, condition: xp.where(condition, g, 0),
    lambda xp, g, condition: xp.where(condition, 0, g),
    dtypes="efdFD",
    samples=[
        Sample(_MIXED, (2, 3), (2, 3)),
        Sample(_MIXED, (3,), (2, 1)),
        Sample(_MIXED, (), 0.5),
        Sample(True, (2, 3), ()),
        Sample(False, (), ()),
        Sample(np.zeros((0, 3), bool), (0, 3), (3,)),
    ],
)
def where(condition: TensorLike, x: TensorLike, y: TensorLike) -> Tensor:
    """x where the condition holds and y elsewhere, elementwise, all three broadcast against each other.

    No derivative reaches the one that was not chosen, not even an infinite one.

    >>> gt.where([True, False], [1.0, 2.0], 0.0)
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([1., 0.], dtype=float32)>
    """


def _clip(xp: Namespace, t: Any, clip_value_min: Any, clip_value_max: Any) -> Any:
    return xp.minimum(xp.maximum(t, clip_value_min), clip_value_max)


def _clip_by_value(xp: Namespace, g: Any, t: Any, clip_value_min: Any, clip_value_max: Any) -> Any:
    outside = xp.logical_or(xp.less(t, clip_value_min), xp.greater(t, clip_value_max))
    return xp.where(outside, 0, g)


@elementwise(
    functools.partial(_clip, raw),
    _clip_by_value,
    lambda xp, g, t, clip_value_min: xp.where(xp.less(t, clip_value_min), g, 0),
    lambda xp, g, t, clip_value_max: xp.where(xp.greater(t, clip_value_max), g, 0),
    low=(-2.0, -1.0, 0.5),
    high=(2.0, -0.5, 1.0),
    lower=_clip,
)
def clip_by_value(t: TensorLike, clip_value_min: TensorLike, clip_value_max: TensorLike) -> Tensor:
    """t, or the bound that it is beyond, elementwise with broadcasting; on a bound, t is differentiated.

    >>> gt.clip_by_value([-2.0, 0.5, 2.0], -1.0, 1.0)
    <tf.Tensor: shape=(3,), dtype=float32, numpy=array([-1. ,  0.5,  1. ], dtype=float32)>
    """


# -- signs and complex values --------------------------------------------------------------------------------


@elementwise(operator.abs, lambda xp, x: xp.conj(xp.sign(x)), dtypes="efdFD")
def abs(x: TensorLike) -> Tensor:
    """The absolute value, elementwise; real for complex values. Its derivative at 0 is 0.

    >>> gt.abs([-1.5, 2.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([1.5, 2. ], dtype=float32)>
    """


def _sign(xp: Namespace, g: Any, x: Any, out: Any) -> Any:
    """0 for real values; for complex ones, s = x / |x| has ds/dx = 1 / 2|x| and ds/dx* = -s² / 2|x|.

    As a map of real and imaginary parts it is symmetric, and so its own transpose.
    """
    if x.dtype.kind != "c":
        return xp.zeros_like(g)
    return xp.divide_no_nan(g - xp.conj(g) * (out * out), 2 * xp.abs(x))


@op(
    vjp=_sign,
    jvp=_sign,
    batch=LEADING,
    samples=[Sample((3, 4)), Sample(()), Sample((0, 2))],
    dtypes="efdFD",
)
def sign(x: TensorLike) -> Array:
    """-1, 0 or 1 by the sign of x, elementwise, with derivative 0; x / |x| for complex values.

    >>> gt.sign([-1.5, 0.0, 2.0])
    <tf.Tensor: shape=(3,), dtype=float32, numpy=array([-1.,  0.,  1.], dtype=float32)>
    """
    return np.sign(x)


@elementwise(operator.attrgetter("real"), 1, dtypes="efdFD", lower=lambda xp, x: x)
def real(input: TensorLike) -> Tensor:
    """The real part, elementwise; real values themselves.

    >>> gt.math.real([3.0 + 4.0j])
    <tf.Tensor: shape=(1,), dtype=float64, numpy=array([3.])>
    """


@op(
    vjp=lambda xp, g, input_dtype: g * 1j if input_dtype.kind == "c" else xp.zeros_like(g),
    jvp=LINEAR,
    batch=LEADING,
    samples=[Sample((3, 4)), Sample(()), Sample((0, 2))],
    dtypes="efdFD",
    lower=lambda xp, input: xp.broadcast_to(input.dtype.type(0), input.shape),
)
def imag(input: TensorLike) -> Array:
    """The imaginary part, elementwise; zeros for real values.

    >>> gt.math.imag([3.0 + 4.0j])
    <tf.Tensor: shape=(1,), dtype=float64, numpy=array([4.])>
    """
    return input.imag


@elementwise(
    operator.methodcaller("conjugate"), lambda xp, g: xp.conj(g), dtypes="efdFD", lower=lambda xp, x: x
)
def conj(x: TensorLike) -> Tensor:
    """The complex conjugate, elementwise; a real x itself.

    >>> gt.math.conj([3.0 + 4.0j])
    <tf.Tensor: shape=(1,), dtype=complex128, numpy=array([3.-4.j])>
    """


def _angle(xp: Namespace, input: Any) -> Any:
    return xp.divide_no_nan(-1j, input) if input.dtype.kind == "c" else xp.zeros_like(input)


@elementwise(
    lambda x: np.arctan2(x.imag, x.real), _angle, dtypes="efdFD", lower=lambda xp, x: xp.atan2(0.0, x)
)
def angle(input: TensorLike) -> Tensor:
    """The angle of complex values against the positive real axis, in (-π, π]; 0 or π for real ones.

    >>> gt.math.angle([1.0j, -1.0])
    <tf.Tensor: shape=(2,), dtype=float64, numpy=array([1.57079633, 3.14159265])>
    """
