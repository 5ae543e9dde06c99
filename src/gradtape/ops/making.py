"""Making tensors: from Python and NumPy values, filled, counted, and from other tensors unchanged."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import numpy as np

from gradtape.arguments import whole
from gradtape.batched import Batched
from gradtape.errors import ArgumentError, AxisError, DTypeError, ShapeError
from gradtape.ops.namespace import Namespace, raw, recorded
from gradtape.ops.op import LEADING, LINEAR, Op, composite, elementwise, op
from gradtape.ops.operands import explained
from gradtape.ops.sample import Sample
from gradtape.recorders import access, listening
from gradtape.slices import IndexedSlices, densified
from gradtape.tensor import (
    Array,
    DTypeLike,
    Tensor,
    TensorLike,
    Value,
    Variable,
    as_dtype,
    convert_to_array,
    holds,
    require_dtype,
)

__all__ = [
    "cast",
    "constant",
    "convert_to_tensor",
    "eye",
    "fill",
    "identity",
    "linspace",
    "one_hot",
    "ones",
    "ones_like",
    "range",
    "stop_gradient",
    "zeros",
    "zeros_like",
]

P = ParamSpec("P")


def _publish(name: str, on_arrays: Callable[..., Any], on_tensors: Callable[..., Any]) -> None:
    """Puts into both namespaces what is no op: tapes need not hear of it."""
    setattr(raw, name, on_arrays)
    setattr(recorded, name, on_tensors)


# -- from values ---------------------------------------------------------------------------------------------


def convert_to_tensor(
    value: TensorLike, dtype: DTypeLike = None, dtype_hint: DTypeLike = None, name: str | None = None
) -> Tensor:
    """A tensor of a number, a NumPy array, a nested list or a variable; a tensor comes back as it is.

    Python floats become float32, ints int32, bools bool, complex numbers complex128; NumPy arrays keep their
    dtype and are copied. dtype_hint: the dtype to have if `value` can be converted to it and there is no
    `dtype`. Tensors within lists are stacked, the rows of `IndexedSlices` put in their places among zeros,
    and derivatives flow to them. Raises DTypeError for a tensor
    of another dtype than `dtype`, and for what is no number; ShapeError for ragged lists.

    >>> gt.convert_to_tensor([[1, 2], [3, 4]])
    <tf.Tensor: shape=(2, 2), dtype=int32, numpy=
    array([[1, 2],
           [3, 4]], dtype=int32)>
    """
    if dtype is None and dtype_hint is not None:
        with contextlib.suppress(DTypeError):
            return convert_to_tensor(value, as_dtype(dtype_hint))
    if isinstance(value, (list, tuple)) and holds(value, Value):
        value = recorded.stack(value)
    if isinstance(value, IndexedSlices):
        value = densified(value)
    if isinstance(value, Tensor):
        require_dtype(value, dtype)
        return value
    if isinstance(value, Variable):
        require_dtype(value, dtype)
        return identity(value)
    return Tensor(convert_to_array(value, dtype))


def constant(
    value: TensorLike,
    dtype: DTypeLike = None,
    shape: Sequence[int] | None = None,
    name: str | None = None,
) -> Tensor:
    """A tensor of `value`, as by `convert_to_tensor`; in `shape`, reshaped, or filled with a single element.

    Raises ShapeError if the number of elements fits neither.

    >>> gt.constant(7.0, shape=(2,))
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([7., 7.], dtype=float32)>
    """
    tensor = convert_to_tensor(value, dtype)
    if shape is None:
        return identity(tensor) if tensor is value else tensor
    wanted = _dimensions("constant", shape)
    if tensor.size == np.prod(wanted, dtype=int):
        return recorded.reshape(tensor, wanted)  # type: ignore[no-any-return]
    if tensor.size != 1:
        raise ShapeError(
            f"constant: {tensor.size} elements, of shape {tensor.shape}, do not fill shape {wanted}; "
            "give as many elements as it holds, or one"
        )
    return recorded.broadcast_to(recorded.reshape(tensor, ()), wanted)  # type: ignore[no-any-return]


def _asarray(value: Any, dtype: DTypeLike = None) -> Array:
    """What `convert_to_tensor` is to bare arrays."""
    return value if isinstance(value, np.ndarray) and dtype is None else convert_to_array(value, dtype)


_publish("asarray", _asarray, convert_to_tensor)
_publish("convert_to_tensor", _asarray, convert_to_tensor)
_publish("constant", lambda value, dtype=None, shape=None: constant(value, dtype, shape)._value, constant)


# -- from other tensors --------------------------------------------------------------------------------------


@elementwise(lambda x: x, 1, dtypes="efdFD", lower=lambda xp, x: x)
def identity(input: TensorLike) -> Tensor:
    """The same values as a tensor of its own, to be watched, asked for, or assigned to apart from `input`.

    >>> gt.identity([1.0, 2.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([1., 2.], dtype=float32)>
    """


_STOPPED = Op("stop_gradient", lambda input: input, (), "", primitive=False)
_STOPPED.operands = 1


def stop_gradient(input: TensorLike, name: str | None = None) -> Tensor:
    """The same values, as a constant that no tape follows.

    >>> x = gt.constant(3.0)
    >>> with gt.GradientTape() as tape:
    ...     tape.watch(x)
    ...     y = x * gt.stop_gradient(x)
    >>> tape.gradient(y, x)
    <tf.Tensor: shape=(), dtype=float32, numpy=3.0>
    """
    if isinstance(input, Batched):
        whole = Batched(stop_gradient(input.examples), input.mapping)
        for recorder in input.mapping.inside():
            recorder.record(_STOPPED, (input._key, whole._key), (input, whole), False)
        return whole
    if isinstance(input, Variable):
        access(input)
    old = input if isinstance(input, Value) else convert_to_tensor(input)
    new = Tensor(old._value)
    for recorder in listening():
        recorder.record(_STOPPED, (old._key, new._key), (old._value, new._value), False)
    return new


_publish("stop_gradient", lambda input: input, stop_gradient)


def _bare(x: Any) -> Array:
    """The bare array behind a value, of all examples where they differ, for a rule to choose its way by."""
    while isinstance(x, Batched):
        x = x.examples
    return x._value if isinstance(x, Value) else x


_publish("bare", lambda x: x, _bare)


def _as_type(x: Array, dtype: DTypeLike) -> Array:
    """x in `dtype`, not copied if it has that already; the real part of complex numbers, if it is real."""
    if x.dtype.kind == "c" and as_dtype(dtype).kind in "iuf":
        x = x.real
    return x.astype(dtype, copy=False)


@op(
    title="cast",
    vjp=lambda xp, g: g,
    jvp=LINEAR,
    batch=LEADING,
    samples=[Sample((3, 4), "float64"), Sample((), "complex128")],
    dtypes="efdFD",
)
def smooth_cast(x: TensorLike, dtype: DTypeLike) -> Array:
    """`cast` to a real or complex dtype, which derivatives flow through.

    >>> from gradtape.ops.making import smooth_cast
    >>> smooth_cast([1, 2], "float32")
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([1., 2.], dtype=float32)>
    """
    return _as_type(x, dtype)


@op(
    title="cast",
    differentiable=False,
    batch=LEADING,
    samples=[Sample((3, 4), "int32"), Sample((), "bool")],
    dtypes="efdFD",
)
def discrete_cast(x: TensorLike, dtype: DTypeLike) -> Array:
    """`cast` to an integer dtype or to bool, which no tape follows.

    >>> from gradtape.ops.making import discrete_cast
    >>> discrete_cast([1.7, -1.7], "int32")
    <tf.Tensor: shape=(2,), dtype=int32, numpy=array([ 1, -1], dtype=int32)>
    """
    return _as_type(x, dtype)


@composite(
    samples=[
        Sample((3, 4), "float64"),
        Sample((), "complex128"),
        Sample((0, 2), "float64"),
        Sample((3, 4), "int64"),
    ],
    dtypes="efdFD",
)
def cast(xp: Namespace, x: TensorLike, dtype: DTypeLike) -> Tensor:
    """x in another dtype: real to integer cuts off the fraction, complex to real takes the real part.

    Derivatives flow between real and complex dtypes, not through integers and bools.
    Raises DTypeError if `dtype` is none.

    >>> gt.cast([1.7, -1.7], "int32")
    <tf.Tensor: shape=(2,), dtype=int32, numpy=array([ 1, -1], dtype=int32)>
    """
    wanted = as_dtype(dtype)
    made: Tensor = xp.smooth_cast(x, wanted) if wanted.kind in "fc" else xp.discrete_cast(x, wanted)
    return made


_publish("cast", _as_type, cast)


# -- from shapes and numbers ---------------------------------------------------------------------------------


def maker(template: Callable[P, Array]) -> Callable[P, Tensor]:
    """Puts a function that makes a new array into both namespaces, as it is and as a maker of a constant."""
    name = template.__name__

    @functools.wraps(template)
    def call(*args: P.args, **keywords: P.kwargs) -> Tensor:
        keywords.pop("name", None)
        try:
            return Tensor(template(*args, **keywords))
        except ValueError as problem:
            raise explained(name, problem, args) from None

    _publish(name, template, call)
    return call


def _dimensions(name: str, shape: TensorLike) -> tuple[int, ...]:
    """A shape given as a tuple, list, array, tensor or lone number, as a tuple of ints."""
    if isinstance(shape, (tuple, list)):
        try:
            return tuple(map(operator.index, shape))
        except TypeError as problem:
            raise DTypeError(f"{name}: a shape must be integers, got {shape} ({problem})") from None
    array = np.asarray(convert_to_array(shape))
    if array.dtype.kind not in "iu" or array.ndim > 1:
        raise DTypeError(f"{name}: a shape must be integers, got {array.dtype} of shape {array.shape}")
    return tuple(array.ravel().tolist())


@maker
def ones(shape: Sequence[int], dtype: DTypeLike = np.float32) -> Array:
    """Ones, of the given shape and dtype.

    >>> gt.ones((3,))
    <tf.Tensor: shape=(3,), dtype=float32, numpy=array([1., 1., 1.], dtype=float32)>
    """
    return np.ones(_dimensions("ones", shape), as_dtype(dtype))[()]


@maker
def zeros(shape: Sequence[int], dtype: DTypeLike = np.float32) -> Array:
    """Zeros, of the given shape and dtype.

    >>> gt.zeros((3,), "int32")
    <tf.Tensor: shape=(3,), dtype=int32, numpy=array([0, 0, 0], dtype=int32)>
    """
    return np.zeros(_dimensions("zeros", shape), as_dtype(dtype))[()]


@maker
def ones_like(input: TensorLike, dtype: DTypeLike = None) -> Array:
    """Ones, of the shape of `input`, and of its dtype unless another is given.

    >>> gt.ones_like([3.0, 4.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([1., 1.], dtype=float32)>
    """
    like = input if isinstance(input, Value) else _asarray(input)
    return np.ones(like.shape, like.dtype if dtype is None else as_dtype(dtype))[()]


@maker
def zeros_like(input: TensorLike, dtype: DTypeLike = None) -> Array:
    """Zeros, of the shape of `input`, and of its dtype unless another is given.

    >>> gt.zeros_like([3.0, 4.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([0., 0.], dtype=float32)>
    """
    like = input if isinstance(input, Value) else _asarray(input)
    return np.zeros(like.shape, like.dtype if dtype is None else as_dtype(dtype))[()]


@composite(samples=[Sample([2, 3], ()), Sample([], ()), Sample([0, 2], ())], dtypes="efdFD")
def fill(xp: Namespace, dims: Sequence[int], value: TensorLike) -> Tensor:
    """The scalar `value` everywhere, in the shape `dims`. Raises ShapeError if `value` is no scalar.

    >>> gt.fill((2,), 9)
    <tf.Tensor: shape=(2,), dtype=int32, numpy=array([9, 9], dtype=int32)>
    """
    scalar = xp.asarray(value)
    if scalar.shape:
        raise ShapeError(
            f"fill: wanted a scalar to fill with, got shape {scalar.shape}; broadcast_to stretches arrays"
        )
    return xp.broadcast_to(scalar, _dimensions("fill", dims))  # type: ignore[no-any-return]


@maker
def eye(
    num_rows: int,
    num_columns: int | None = None,
    batch_shape: Sequence[int] | None = None,
    dtype: DTypeLike = np.float32,
) -> Array:
    """The identity matrix, square unless `num_columns` is given; one for each element of `batch_shape`.

    >>> gt.eye(2)
    <tf.Tensor: shape=(2, 2), dtype=float32, numpy=
    array([[1., 0.],
           [0., 1.]], dtype=float32)>
    """
    rows = whole("eye: num_rows", num_rows)
    columns = rows if num_columns is None else whole("eye: num_columns", num_columns)
    batch = () if batch_shape is None else _dimensions("eye", batch_shape)
    return np.broadcast_to(np.eye(rows, columns, dtype=as_dtype(dtype)), (*batch, rows, columns))


@maker
def range(
    start: TensorLike, limit: TensorLike = None, delta: TensorLike = 1, dtype: DTypeLike = None
) -> Array:
    """The numbers from `start` up to, and without, `limit`, in steps of `delta`; from 0 if only one is given.

    int32 for Python ints, float32 if one is a float; arrays and tensors promote as NumPy does. Empty if
    `delta` leads away from `limit`; ArgumentError if it is 0.

    >>> gt.range(3)
    <tf.Tensor: shape=(3,), dtype=int32, numpy=array([0, 1, 2], dtype=int32)>
    >>> gt.range(1.0, 2.0, 0.25)
    <tf.Tensor: shape=(4,), dtype=float32, numpy=array([1.  , 1.25, 1.5 , 1.75], dtype=float32)>
    """
    if limit is None:
        start, limit = 0, start
    given = [start, limit, delta]
    values = [convert_to_array(x) for x in given]
    if any(x.shape for x in values):
        raise ShapeError(
            f"range: start, limit and delta must be scalars, not of shapes {[x.shape for x in values]}"
        )
    if not values[2]:
        raise ArgumentError("range: delta is 0, so that the limit is never reached; give another")
    weak = [x if type(x) in (int, float) else v for x, v in zip(given, values, strict=True)]
    if dtype is not None:
        kind = as_dtype(dtype)
    elif all(type(x) in (int, float) for x in weak):
        kind = np.dtype(np.float32) if float in map(type, weak) else np.result_type(*values)
    else:
        kind = np.result_type(*weak)
    first, last, step = (x.item() if isinstance(x, np.generic) else x for x in weak)
    return np.arange(first, last, step).astype(kind, copy=False)


@composite(
    samples=[
        Sample((), (), 4),
        Sample((), (), 1),
        Sample((2, 1), (3,), 5),
        Sample((2,), (2,), 3, axis=-1),
        Sample((0,), (), 3),
        Sample((2,), (), 0),
    ]
)
def linspace(xp: Namespace, start: TensorLike, stop: TensorLike, num: int, axis: int = 0) -> Tensor:
    """`num` evenly spaced numbers from `start` to `stop`, both included, along a new axis.

    float32 for Python floats, float64 for ints; start and stop broadcast, and derivatives flow to them:
    (1 - w) start + w stop for w in 0, 1 / (num - 1), ..., 1. Raises ArgumentError if num is negative.

    >>> gt.linspace(0.0, 1.0, 5)
    <tf.Tensor: shape=(5,), dtype=float32, numpy=array([0.  , 0.25, 0.5 , 0.75, 1.  ], dtype=float32)>
    """
    count = whole("linspace: num", num)
    if count < 0:
        raise ArgumentError(f"linspace: num is {count}; wanted at least 0")
    given = [x if type(x) in (int, float, complex) else xp.asarray(x) for x in (start, stop)]
    kind = np.result_type(*(getattr(x, "dtype", x) for x in given))
    if kind.kind not in "fc":
        kind = np.dtype(np.float64)
    elif kind == np.float64 and all(type(x) in (int, float) for x in given):
        kind = np.dtype(np.float32)
    ends = [xp.cast(x, kind) if hasattr(x, "dtype") else xp.asarray(x, kind) for x in given]
    ndim = max(len(x.shape) for x in ends)
    axis = whole("linspace: axis", axis)
    if not -ndim - 1 <= axis <= ndim:
        raise AxisError(
            f"linspace: no place {axis} for a new axis among {ndim}; it runs from {-ndim - 1} to {ndim}"
        )
    place = axis % (ndim + 1)
    ends = [xp.reshape(x, (1,) * (ndim - len(x.shape)) + tuple(x.shape)) for x in ends]
    first, last = (xp.reshape(x, (*x.shape[:place], 1, *x.shape[place:])) for x in ends)
    weights = np.linspace(0.0, 1.0, count).astype(kind).reshape(_along(place, ndim + 1))
    return first * (1 - weights) + last * weights  # type: ignore[no-any-return]


def _along(axis: int, ndim: int) -> list[int]:
    """The shape that puts a vector along one of ndim axes."""
    return [1] * axis + [-1] + [1] * (ndim - axis - 1)


@composite(
    samples=[
        Sample(np.array([1, 0, -1]), 2),
        Sample(np.array([[1], [0]]), 3, on_value=5.0, off_value=-1.0, axis=0, dtype="float64"),
        Sample(2, 3, dtype="float64"),
        Sample(np.zeros(0, int), 2),
    ]
)
def one_hot(
    xp: Namespace,
    indices: TensorLike,
    depth: int,
    on_value: TensorLike = None,
    off_value: TensorLike = None,
    axis: int | None = None,
    dtype: DTypeLike = None,
) -> Tensor:
    """`on_value` (1) at the index along a new axis of length `depth`, and `off_value` (0) elsewhere.

    axis: the place of the new axis in the result, the last by default. The dtype is the values', else
    float32. An index that is not in 0 ... depth - 1 gives `off_value` only.
    Raises DTypeError unless the indices are integers.

    >>> gt.one_hot([1, 0, -1], 2)
    <tf.Tensor: shape=(3, 2), dtype=float32, numpy=
    array([[0., 1.],
           [1., 0.],
           [0., 0.]], dtype=float32)>
    """
    index = xp.asarray(indices)
    if index.dtype.kind not in "iu" and index.size:
        raise DTypeError(f"one_hot: wanted integer indices, got {index.dtype}; cast them")
    values = [None if x is None else convert_to_array(x) for x in (on_value, off_value)]
    given = [x.dtype for x in values if x is not None]
    kind = as_dtype(dtype) if dtype is not None else np.result_type(*given) if given else np.dtype(np.float32)
    on, off = (default if x is None else x for x, default in zip(values, (1, 0), strict=True))
    place = -1 if axis is None else whole("one_hot: axis", axis)
    hot = xp.equal(
        xp.expand_dims(index, place),
        np.arange(whole("one_hot: depth", depth)).reshape(_along(place % (index.ndim + 1), index.ndim + 1)),
    )
    return xp.where(hot, np.asarray(on, kind), np.asarray(off, kind))  # type: ignore[no-any-return]
