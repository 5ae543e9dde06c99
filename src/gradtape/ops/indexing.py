"""What `t[...]` and `t[...] = v` mean; and by name, every op that reads or writes parts of arrays.

Each reader and the writer that is its adjoint are one another's rules, so that every order follows.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np

from gradtape.arguments import brief, whole
from gradtape.batched import Batched
from gradtape.errors import (
    ArgumentError,
    AxisError,
    DTypeError,
    FunctionError,
    OutOfRangeError,
    PerExampleError,
    ShapeError,
)
from gradtape.ops import arithmetic
from gradtape.ops.batching import lead, moved, size_of, spread
from gradtape.ops.broadcasting import unbroadcast
from gradtape.ops.gathering import gather, gather_nd, take
from gradtape.ops.op import LINEAR, REGISTRY, Namespace, Sample, composite, op, raw
from gradtape.ops.operands import weakened
from gradtape.ops.scatter import (
    add_blocks,
    cast_to,
    is_last,
    scatter_nd,
    segment_sum,
    tensor_scatter_nd_add,
    tensor_scatter_nd_update,
    unsorted_segment_sum,
)
from gradtape.ops.sorting import TopKV2, argsort, sort, top_k
from gradtape.recorders import listening, tracer
from gradtape.tensor import Array, Tensor, TensorLike, Value, looked_at

__all__ = [
    "TopKV2",
    "argsort",
    "boolean_mask",
    "gather",
    "gather_nd",
    "getitem",
    "scatter_nd",
    "segment_sum",
    "setitem",
    "sort",
    "take",
    "tensor_scatter_nd_add",
    "tensor_scatter_nd_update",
    "top_k",
    "true_places",
    "unsorted_segment_sum",
    "where",
]

# Ints, slices of ints, None, Ellipsis, bools, and private arrays of intp or bool with at least one axis.
Index: TypeAlias = tuple[Any, ...]

_PLAIN = frozenset({int, type(None), type(Ellipsis), bool})
_BOUNDS = frozenset({int, type(None)})


# -- what an index is ----------------------------------------------------------------------------------------


def _index(name: str, index: Any) -> Index:
    """What NumPy takes between brackets, made a tuple that nobody else can change."""
    kind = type(index)
    if kind is int:
        return (index,)
    if kind is not tuple:
        return (_index_part(name, index),)
    return tuple([i if type(i) in _PLAIN else _index_part(name, i) for i in index])


def _index_part(name: str, part: Any) -> Any:
    kind = type(part)
    if kind in _PLAIN:
        return part
    if kind is slice:
        return _slice(name, part)
    try:
        array = np.asarray(looked_at(part)) if isinstance(part, Value) else np.array(part)
    except FunctionError:  # which is a ValueError too
        raise
    except ValueError:
        raise ShapeError(f"{name}: an index that is a nested list must have rows of equal length") from None
    if not array.size and kind in (list, tuple):
        return np.zeros(array.shape, np.intp)
    if array.dtype.kind == "b":
        return array if array.ndim else bool(array)
    if array.dtype.kind in "iu":
        return array.astype(np.intp, copy=False) if array.ndim else int(array)
    wanted = "wanted integers, booleans, slices, None or ..."
    if array.dtype.kind in "fc":
        raise DTypeError(
            f"{name}: an index of dtype {array.dtype} (type {kind.__name__}); {wanted}, so cast it"
        )
    raise DTypeError(f"{name}: an index of type {kind.__name__}, {brief(part)}; {wanted}")


def _varies(index: Any) -> bool:
    """Whether the index holds integer arrays that a function that is being recorded will have others of."""
    traced = tracer()
    if traced is None:
        return False
    parts = [i for i in (index if type(index) is tuple else (index,)) if isinstance(i, Value)]
    return any(i.ndim and i.dtype.kind in "iu" and not traced.is_constant(i) for i in parts)


def _is_varying_mask(index: Any, x: TensorLike) -> bool:
    """Whether the index is a mask over the first axes of x that a function that is being recorded will have
    others of.
    """
    traced = tracer()
    if traced is None or not isinstance(index, Value) or index.dtype.kind != "b" or not index.ndim:
        return False
    return isinstance(x, Value) and index.shape == x.shape[: index.ndim] and not traced.is_constant(index)


def _read_mask(xp: Namespace, x: TensorLike, mask: Value) -> Tensor:
    return xp.gather_nd(x, xp.true_places(mask))  # type: ignore[no-any-return]


def _points(xp: Namespace, name: str, index: Any, shape: tuple[int, ...]) -> Any:
    """An index of integers, of which some differ from example to example, as points for `gather_nd`."""
    parts = index if type(index) is tuple else (index,)
    plain = not any(i is None or i is Ellipsis or isinstance(i, slice) for i in parts)
    places = [xp.convert_to_tensor(i) for i in parts] if plain else []
    if not plain or len(parts) > len(shape) or any(i.dtype.kind not in "iu" for i in places):
        raise PerExampleError(
            f"{name}: an index that differs from example to example, into shape {shape}; it must be of "
            "integers, at most one for each axis, or one alone beside slices; masks and bounds of slices are "
            "the same for all, so use gather, or where"
        )
    lengths = np.broadcast_shapes(*(i.shape for i in places))
    places = [
        xp.broadcast_to(xp.where(i < 0, i + n, i), lengths) for i, n in zip(places, shape, strict=False)
    ]
    return xp.stack(places, -1)


def _read_each(xp: Namespace, x: Any, index: Any) -> Tensor:
    """`x[index]`, where integers of the index differ from example to example."""
    parts = index if type(index) is tuple else (index,)
    own = [n for n, i in enumerate(parts) if isinstance(i, Batched) and i.dtype.kind in "iu"]
    others = [i for n, i in enumerate(parts) if n not in own]
    plain = all(i is None or i is Ellipsis or isinstance(i, (int, slice)) for i in others)
    turned = any(isinstance(i, int) for i in others) and any(parts[n].ndim for n in own)
    if len(own) != 1 or not plain or turned or all(isinstance(i, int) for i in others):
        return xp.gather_nd(x, _points(xp, "getitem", index, x.shape))  # type: ignore[no-any-return]
    place = own[0]
    taken = sum(i is not None and i is not Ellipsis for i in parts)
    axis = sum(x.ndim - taken if i is Ellipsis else i is None or isinstance(i, slice) for i in parts[:place])
    rest = x[(*parts[:place], slice(None), *parts[place + 1 :])]
    return xp.take(rest, parts[place], axis)  # type: ignore[no-any-return]


def _slice(name: str, part: slice) -> slice:
    """The slice, with bounds that are tensors or NumPy scalars read as ints."""
    start, stop, step = part.start, part.stop, part.step
    if type(start) in _BOUNDS and type(stop) in _BOUNDS and type(step) in _BOUNDS:
        return part
    try:
        return slice(*(None if bound is None else operator.index(bound) for bound in (start, stop, step)))
    except TypeError as problem:
        raise DTypeError(f"{name}: the bounds of a slice must be integers or None: {problem}") from None


def _repeats(index: Index) -> bool:
    """Whether the index may name an element twice: only integer arrays can."""
    return any(type(i) is np.ndarray and i.dtype.kind == "i" for i in index)


def _blocks(index: Index, shape: tuple[int, ...]) -> tuple[Array, int, tuple[int, ...]]:
    """The index in numbers: an array is a row of `count` blocks, and the index picks those at `positions`.

    Returns positions, count, and the shape of a block: the trailing axes that the index takes whole.
    """
    axes = 0
    for i in index:
        if i is Ellipsis:
            axes = len(shape)
            break
        axes += (
            i.ndim if type(i) is np.ndarray and i.dtype.kind == "b" else i is not None and type(i) is not bool
        )
    count = prod(shape[:axes])
    return np.arange(count).reshape(shape[:axes])[index], count, shape[axes:]


def _beyond(name: str, problem: IndexError, x: Array) -> OutOfRangeError:
    return OutOfRangeError(
        f"{name}: {problem} (got an array of shape {x.shape}); "
        "indices run from -n to n - 1 along an axis of length n, and masks have the shape of what they read"
    )


def _place_of_examples(index: Index) -> int:
    """Where the axis of the examples, the first, comes out when what is behind it is indexed.

    NumPy puts the axes of arrays in front of all others if something stands between the arrays; integers
    count as arrays where there is one, and so do booleans.
    """
    arrays = [i for i in index if type(i) in (np.ndarray, bool)]
    places = [n for n, i in enumerate(index) if type(i) in (np.ndarray, bool, int)]
    if not arrays or places == list(range(places[0], places[0] + len(places))):
        return 0
    return max(1 if type(i) is bool or i.dtype.kind == "b" else i.ndim for i in arrays)


def _read_behind(xp: Namespace, x: Any, index: Index) -> Any:
    return moved(xp, xp.read_at(x, (slice(None), *index)), _place_of_examples(index), 0)


def _scattered_behind(xp: Namespace, updates: Any, index: Index, shape: Sequence[int]) -> Any:
    size = updates.shape[0]
    updates = moved(xp, updates, 0, _place_of_examples(index))
    return xp.scatter_at(updates, (slice(None), *index), (size, *shape))


def _written_behind(xp: Namespace, x: Any, v: Any, index: Index) -> Any:
    size = size_of([x, v])
    part = np.broadcast_to(np.int8(0), x.shape[1:])[index].ndim
    v = lead(xp, v, part)
    v = xp.reshape(v, (v.shape[0], *v.shape[v.ndim - part :]))
    v = moved(xp, v, 0, _place_of_examples(index))
    return xp.write_at(spread(xp, x, size), v, (slice(None), *index))


# -- t[...] --------------------------------------------------------------------------------------------------

_INDICES: list[Any] = [
    (1,),
    (slice(1, None),),
    (slice(None, None, -2), -1),
    (..., None, 0),
    (np.array([[True, False, True], [False, True, True], [True, True, False]]),),
    (np.array([0, 2, 0, -1]),),
    (np.array([0, 2]), slice(1), np.array([[0], [-1]])),
    (slice(None), np.array([0, 1, 1]), 2),
    (np.array([True, False, True]), np.array([1, 1])),
    (True, 0),
]
_READS = [Sample((3, 3, 4), index=index) for index in _INDICES]
_READS += [Sample((), index=()), Sample((), index=(None, ...)), Sample((0, 2), index=(slice(None), 1))]


@op(
    title="getitem",
    vjp=lambda xp, g, index, x_shape: xp.scatter_at(g, index, x_shape),
    jvp=LINEAR,
    batch=_read_behind,
    samples=_READS,
    dtypes="efdFD",
)
def read_at(x: TensorLike, index: Any) -> Array:
    """`x[index]`, for an index that `getitem` has made plain; a view where NumPy gives one.

    >>> read_at(gt.constant([1, 2, 3]), (0,)).numpy()
    np.int32(1)
    """
    try:
        return x[index]
    except IndexError as problem:
        raise _beyond("getitem", problem, x) from None
    except ValueError as problem:
        raise ShapeError(f"getitem: {problem} (got an array of shape {x.shape})") from None


@op(
    vjp=lambda xp, g, index: xp.read_at(g, index),
    jvp=LINEAR,
    batch=_scattered_behind,
    samples=[
        Sample(
            np.zeros(s.operands[0].shape)[s.attributes["index"]].shape,
            **s.attributes,
            shape=s.operands[0].shape,
        )
        for s in _READS
    ],
    dtypes="efdFD",
)
def scatter_at(updates: TensorLike, index: Any, shape: Sequence[int]) -> Array:
    """Zeros of `shape` with the updates added at `index`; the adjoint of `x[index]`, and shaped like it.

    >>> scatter_at([1.0, 2.0, 3.0], (np.array([0, 2, 0]),), (3,)).numpy()
    array([4., 0., 2.], dtype=float32)
    """
    if not _repeats(index):
        total = np.zeros(shape, updates.dtype)
        total[index] = updates
        return total
    positions, count, block = _blocks(index, tuple(shape))
    blocks = updates.reshape(positions.size, *block)
    return add_blocks(count, positions.ravel(), blocks).reshape(shape)


_READ = REGISTRY["read_at"]


@composite(
    samples=[
        Sample((3, 4), index=1),
        Sample((3, 4), index=(..., slice(None, None, 2))),
        Sample((3, 4), index=[0, 2, 0]),
        Sample((2, 3), index=np.array([[True, False, True], [False, True, False]])),
    ],
    dtypes="efdFD",
)
def getitem(xp: Namespace, x: TensorLike, index: Any) -> Tensor:
    """The part of `x` at `index`, which is what `x[index]` calls: all that NumPy takes, and tensors of it.

    index: ints, slices, None, `...`, integer arrays, boolean masks, or a tuple of these. The cotangent of the
    part goes back to where it was read; what was read twice gets the sum.

    Raises OutOfRangeError for an index beyond its axis, and DTypeError for one that is no integer or boolean.

    >>> x = gt.constant([[1.0, 2.0], [3.0, 4.0]])
    >>> x[:, 1].numpy(), x[x > 2.5].numpy(), x[[1, 1], 0].numpy()
    (array([2., 4.], dtype=float32), array([3., 4.], dtype=float32), array([3., 3.], dtype=float32))
    """
    if _varies(index):
        with contextlib.suppress(PerExampleError):
            return _read_each(xp, xp.convert_to_tensor(x), index)
    elif _is_varying_mask(index, x):
        return _read_mask(xp, x, index)
    try:
        plain = _index("getitem", index)
    except PerExampleError:
        return _read_each(xp, xp.convert_to_tensor(x), index)
    part: Any
    tensor: Tensor
    if type(x) is Tensor:
        values = x._value
        part = raw.read_at(values, plain)
        tensor = Tensor(part)
        for recorder in listening():  # what calling read_at would record, at a third of its cost
            recorder.record(_READ, (x._key, 0, 0, tensor._key), (values, plain, values.shape, part), False)
    else:
        part = tensor = xp.read_at(x, plain)
        if type(x) is not Batched:
            return tensor
    if part.ndim and not any(type(i) is np.ndarray for i in plain):
        tensor._part = True
    return tensor


# -- t[...] = v ----------------------------------------------------------------------------------------------


def _last_at(index: Index, shape: tuple[int, ...]) -> Array | None:
    """For each block that `index` writes, whether no later one overwrites it; None if that is so for all."""
    if not _repeats(index):
        return None
    positions, count, block = _blocks(index, shape)
    last = is_last(positions.ravel(), count)
    return None if last.all() else last.reshape(positions.shape + (1,) * len(block))


def _written(xp: Namespace, g: Any, index: Index, v_shape: tuple[int, ...]) -> Any:
    """The cotangent of what was written: the part's, but 0 where overwritten, summed to `v_shape`."""
    part = xp.read_at(g, index)
    last = _last_at(index, g.shape)
    if last is not None:
        part = xp.where(last, part, 0.0)
    return unbroadcast(xp, part, v_shape)


@op(
    title="setitem",
    promote=("x", "v"),
    vjp=(
        lambda xp, g, index: xp.write_at(g, 0.0, index),
        lambda xp, g, index, v_shape: _written(xp, g, index, v_shape),
    ),
    jvp=LINEAR,
    batch=_written_behind,
    samples=[
        *(Sample(s.operands[0].shape, (), **s.attributes) for s in _READS),
        Sample((3, 4), (4,), index=(slice(1, None),)),
        Sample((3, 4), (1, 1, 4), index=(0,)),
        Sample((3, 4), (3, 1), index=(np.array([0, 2, 0]),)),
        Sample((3, 4), (2, 3), index=(np.array([[0], [0]]), np.array([1, 1, 3]))),
        Sample((3, 2, 4), (3, 1), index=(0, slice(None), np.array([3, 0, 3]))),
        Sample((3, 2, 4), (3, 2), index=(np.array([1, 0, 1]), slice(None), 2)),
    ],
    dtypes="efdFD",
)
def write_at(x: TensorLike, v: TensorLike, index: Any) -> Array:
    """A copy of `x` with `v` at `index`, for an index that `setitem` has made plain.

    >>> write_at(gt.constant([1, 2, 3]), 5, (0,)).numpy()
    array([5, 2, 3], dtype=int32)
    """
    out = np.array(x, order="C")
    new = cast_to("setitem", v, out.dtype)
    try:
        last = _last_at(index, out.shape)
        if last is None:
            out[index] = new
        else:
            positions, count, block = _blocks(index, out.shape)
            whole = np.empty(positions.shape + block, out.dtype)
            whole[...] = new
            kept = last.ravel()
            out.reshape(count, *block)[positions.ravel()[kept]] = whole.reshape(positions.size, *block)[kept]
    except IndexError as problem:
        raise _beyond("setitem", problem, out) from None
    except ValueError as problem:
        raise ShapeError(
            f"setitem: {problem} (got a value of shape {new.shape} for a part of an array of shape "
            f"{out.shape}); the value must broadcast to the part"
        ) from None
    return out if out.ndim else out[()]


@composite(
    samples=[
        Sample((3, 4), (4,), index=1),
        Sample((3, 4), (), index=[0, 2, 0]),
        Sample((4,), (2,), index=slice(1, 3)),
    ],
    dtypes="efdFD",
)
def setitem(xp: Namespace, x: TensorLike, v: TensorLike, index: Any) -> Tensor:
    """A copy of `x` in which the part at `index` is `v`, broadcast and cast to the dtype of `x`.

    This is what `x[index] = v` rebinds a tensor to. index: as in `getitem`; where integer arrays name an
    element twice, the last value stays. The cotangent of the part goes to `v`, that of the rest to `x`.

    Raises ShapeError if `v` does not broadcast to the part, DTypeError if the dtype of `x` cannot hold it
    (reals in integers, complex values in reals, an integer too large), OutOfRangeError for an index beyond
    its axis.

    >>> t = gt.zeros((3,))
    >>> t[1:] = [1.0, 2.0]
    >>> t
    <tf.Tensor: shape=(3,), dtype=float32, numpy=array([0., 1., 2.], dtype=float32)>
    """
    if _varies(index):
        with contextlib.suppress(PerExampleError):
            return _write_each(xp, xp.convert_to_tensor(x), v, index)
    try:
        return xp.write_at(x, v, _index("setitem", index))  # type: ignore[no-any-return]
    except PerExampleError:
        return _write_each(xp, xp.convert_to_tensor(x), v, index)


def _write_each(xp: Namespace, x: Any, v: TensorLike, index: Any) -> Tensor:
    """A copy of `x` with `v` at an index of integers that differ from example to example, or call to call."""
    points = _points(xp, "setitem", index, x.shape)
    part = (*points.shape[:-1], *x.shape[points.shape[-1] :])
    _, v = weakened([x, v])
    return xp.tensor_scatter_nd_update(x, points, xp.broadcast_to(v, part))  # type: ignore[no-any-return]


# -- masks ---------------------------------------------------------------------------------------------------


@op(
    title="where",
    differentiable=False,
    varies=True,
    samples=[
        Sample(np.array([[True, False], [True, True]])),
        Sample((2, 3)),
        Sample(True),
        Sample(np.zeros((0, 2), bool)),
    ],
    dtypes="efdFD",
)
def true_places(condition: TensorLike) -> Array:
    """The indices (int64) of the elements that are true, or not 0, one row for each.

    >>> from gradtape.ops.indexing import true_places
    >>> true_places([True, False, True]).numpy()
    array([[0],
           [2]])
    """
    return np.argwhere(condition)


def where(
    condition: TensorLike, x: TensorLike = None, y: TensorLike = None, name: str | None = None
) -> Tensor:
    """x where the condition holds and y elsewhere, elementwise, all three broadcast against each other.

    No derivative reaches the one that was not chosen, not even an infinite one. With the condition alone: the
    indices (int64) of its elements that are true, or not 0, as the rows of a matrix. Raises ArgumentError if
    only one of x and y is given.

    >>> gt.where([True, False], [1.0, 2.0], 0.0)
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([1., 0.], dtype=float32)>
    >>> gt.where([True, False, True]).numpy()
    array([[0],
           [2]])
    """
    if x is None and y is None:
        return true_places(condition)
    if x is None or y is None:
        raise ArgumentError("where: wanted both x and y, or neither; give None for neither")
    return arithmetic.where(condition, x, y)


@composite(
    samples=[
        Sample((4,), [True, False, True, True]),
        Sample((2, 3), [[True, False, True], [False, True, False]]),
        Sample((2, 3, 2), [True, False, True], axis=1),
        Sample((2, 3), [False, True, True], axis=-1),
    ],
    dtypes="efdFD",
)
def boolean_mask(xp: Namespace, tensor: TensorLike, mask: TensorLike, axis: int | None = None) -> Tensor:
    """The slices of `tensor` where `mask` is true, in one axis in place of those that the mask spans.

    mask: booleans of shape tensor.shape[axis : axis + mask.ndim], with one axis at least; axis: 0 by default.
    Raises ShapeError if the shapes do not fit, AxisError, or DTypeError if the mask is not boolean.

    >>> gt.boolean_mask([[1, 2], [3, 4], [5, 6]], [True, False, True]).numpy()
    array([[1, 2],
           [5, 6]], dtype=int32)
    """
    axis = 0 if axis is None else whole("boolean_mask: axis", axis)
    if not axis and _is_varying_mask(mask, tensor):
        return _read_mask(xp, tensor, mask)
    chosen = np.asarray(_index_part("boolean_mask", mask))
    if not chosen.size and isinstance(mask, (list, tuple)):
        chosen = chosen.astype(bool)
    if chosen.dtype.kind != "b":
        raise DTypeError(f"boolean_mask: the mask has dtype {chosen.dtype}, wanted bool; compare or cast it")
    x = xp.convert_to_tensor(tensor)
    if not -x.ndim <= axis < max(x.ndim, 1):
        raise AxisError(
            f"boolean_mask: axis={axis} of a tensor of shape {x.shape}; axes run from -ndim to ndim - 1"
        )
    start = axis % max(x.ndim, 1)
    if not chosen.ndim or x.shape[start : start + chosen.ndim] != chosen.shape:
        raise ShapeError(
            f"boolean_mask: a mask of shape {chosen.shape} does not fit axes {start} and on of a tensor "
            f"of shape {x.shape}; it must have their lengths, and one axis at least"
        )
    found: Tensor = xp.read_at(x, (slice(None),) * start + (chosen,))
    return found
