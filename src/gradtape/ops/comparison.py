"""Comparisons and logic, elementwise: none of these is differentiable."""

from __future__ import annotations

import operator
from collections.abc import Callable

import numpy as np

from gradtape.errors import DTypeError
from gradtape.ops.op import Sample, elementwise
from gradtape.tensor import Array, Tensor, TensorLike

__all__ = [
    "bitwise_and",
    "bitwise_invert",
    "bitwise_or",
    "bitwise_xor",
    "equal",
    "greater",
    "greater_equal",
    "is_finite",
    "is_inf",
    "is_nan",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "not_equal",
]


# -- comparisons ---------------------------------------------------------------------------------------------


@elementwise(operator.eq, dtypes="efdFD")
def equal(x: TensorLike, y: TensorLike) -> Tensor:
    """x == y, elementwise with broadcasting; NaN equals nothing.

    >>> gt.equal([1.0, 2.0], 2.0)
    <tf.Tensor: shape=(2,), dtype=bool, numpy=array([False,  True])>
    """


@elementwise(operator.ne, dtypes="efdFD")
def not_equal(x: TensorLike, y: TensorLike) -> Tensor:
    """x != y, elementwise with broadcasting; NaN differs from everything.

    >>> gt.not_equal([1.0, 2.0], 2.0)
    <tf.Tensor: shape=(2,), dtype=bool, numpy=array([ True, False])>
    """


@elementwise(operator.lt)
def less(x: TensorLike, y: TensorLike) -> Tensor:
    """x < y, elementwise with broadcasting.

    >>> gt.less([1.0, 2.0], 2.0)
    <tf.Tensor: shape=(2,), dtype=bool, numpy=array([ True, False])>
    """


@elementwise(operator.le)
def less_equal(x: TensorLike, y: TensorLike) -> Tensor:
    """x <= y, elementwise with broadcasting.

    >>> gt.less_equal([1.0, 3.0], 2.0)
    <tf.Tensor: shape=(2,), dtype=bool, numpy=array([ True, False])>
    """


@elementwise(operator.gt)
def greater(x: TensorLike, y: TensorLike) -> Tensor:
    """x > y, elementwise with broadcasting.

    >>> gt.greater([1.0, 3.0], 2.0)
    <tf.Tensor: shape=(2,), dtype=bool, numpy=array([False,  True])>
    """


@elementwise(operator.ge)
def greater_equal(x: TensorLike, y: TensorLike) -> Tensor:
    """x >= y, elementwise with broadcasting.

    >>> gt.greater_equal([1.0, 2.0], 2.0)
    <tf.Tensor: shape=(2,), dtype=bool, numpy=array([False,  True])>
    """


# -- logic ---------------------------------------------------------------------------------------------------


def _of_booleans(name: str, combine: Callable[..., Array]) -> Callable[..., Array]:
    """`combine`, for booleans only: NumPy would take any number for its truth."""

    def forward(*operands: Array) -> Array:
        for x in operands:
            if np.result_type(x).kind != "b":
                raise DTypeError(f"{name}: wanted booleans, got {np.result_type(x)}; compare with 0 first")
        return combine(*operands)

    return forward


_UNARY = [Sample(np.array([[True, False]])), Sample(True), Sample(np.zeros((0, 2), bool))]
_BINARY = [
    Sample(np.array([True, True, False, False]), np.array([True, False, True, False])),
    Sample(np.array([[True], [False]]), np.array([True, False])),
    Sample(np.array([True, False]), True),
    Sample(False, True),
    Sample(np.zeros((0, 2), bool), np.array([True, False])),
]


@elementwise(_of_booleans("logical_and", np.logical_and), samples=_BINARY)
def logical_and(x: TensorLike, y: TensorLike) -> Tensor:
    """Whether both hold, elementwise with broadcasting; DTypeError for what is not boolean.

    >>> gt.logical_and([True, False], True)
    <tf.Tensor: shape=(2,), dtype=bool, numpy=array([ True, False])>
    """


@elementwise(_of_booleans("logical_or", np.logical_or), samples=_BINARY)
def logical_or(x: TensorLike, y: TensorLike) -> Tensor:
    """Whether one or both hold, elementwise with broadcasting; DTypeError for what is not boolean.

    >>> gt.logical_or([True, False], False)
    <tf.Tensor: shape=(2,), dtype=bool, numpy=array([ True, False])>
    """


@elementwise(_of_booleans("logical_xor", np.logical_xor), samples=_BINARY)
def logical_xor(x: TensorLike, y: TensorLike) -> Tensor:
    """Whether exactly one holds, elementwise with broadcasting; DTypeError for what is not boolean.

    >>> gt.math.logical_xor([True, False], True)
    <tf.Tensor: shape=(2,), dtype=bool, numpy=array([False,  True])>
    """


@elementwise(_of_booleans("logical_not", np.logical_not), samples=_UNARY)
def logical_not(x: TensorLike) -> Tensor:
    """Whether x does not hold, elementwise; DTypeError for what is not boolean.

    >>> gt.logical_not([True, False])
    <tf.Tensor: shape=(2,), dtype=bool, numpy=array([False,  True])>
    """


# -- what floats can be besides numbers ----------------------------------------------------------------------


@elementwise(np.isnan, dtypes="efdFD")
def is_nan(x: TensorLike) -> Tensor:
    """Whether x is not a number, elementwise; complex values are NaN if either part is.

    >>> gt.math.is_nan([1.0, np.nan])
    <tf.Tensor: shape=(2,), dtype=bool, numpy=array([False,  True])>
    """


@elementwise(np.isinf, dtypes="efdFD")
def is_inf(x: TensorLike) -> Tensor:
    """Whether x is infinite, elementwise; complex values are if either part is.

    >>> gt.math.is_inf([1.0, -np.inf])
    <tf.Tensor: shape=(2,), dtype=bool, numpy=array([False,  True])>
    """


@elementwise(np.isfinite, dtypes="efdFD")
def is_finite(x: TensorLike) -> Tensor:
    """Whether x is neither infinite nor NaN, elementwise.

    >>> gt.math.is_finite([1.0, np.nan])
    <tf.Tensor: shape=(2,), dtype=bool, numpy=array([ True, False])>
    """


# -- bits ----------------------------------------------------------------------------------------------------

_BITS = [
    Sample(np.array([[12, 10], [3, 0]]), np.array([10, 6])),
    Sample(np.array([True, False]), np.array([[True], [False]])),
    Sample(np.array(12), 10),
]


@elementwise(operator.and_, samples=_BITS)
def bitwise_and(x: TensorLike, y: TensorLike) -> Tensor:
    """x & y, elementwise with broadcasting: the bits set in both integers, or the logical and of booleans.

    >>> gnp.bitwise_and([12, 3], 10)
    <tf.Tensor: shape=(2,), dtype=int32, numpy=array([8, 2], dtype=int32)>
    """


@elementwise(operator.or_, samples=_BITS)
def bitwise_or(x: TensorLike, y: TensorLike) -> Tensor:
    """x | y, elementwise with broadcasting: the bits set in either integer, or the logical or of booleans.

    >>> gnp.bitwise_or([12, 3], 10)
    <tf.Tensor: shape=(2,), dtype=int32, numpy=array([14, 11], dtype=int32)>
    """


@elementwise(operator.xor, samples=_BITS)
def bitwise_xor(x: TensorLike, y: TensorLike) -> Tensor:
    """x ^ y, elementwise with broadcasting: the bits set in one integer only, or the logical xor of booleans.

    >>> gnp.bitwise_xor([12, 3], 10)
    <tf.Tensor: shape=(2,), dtype=int32, numpy=array([6, 9], dtype=int32)>
    """


@elementwise(operator.invert, samples=[Sample(np.array([[12, -1]])), Sample(np.array([True, False]))])
def bitwise_invert(x: TensorLike) -> Tensor:
    """~x, elementwise: all bits of an integer flipped, or the logical not of booleans.

    >>> gnp.bitwise_invert([12, -1])
    <tf.Tensor: shape=(2,), dtype=int32, numpy=array([-13,   0], dtype=int32)>
    """
