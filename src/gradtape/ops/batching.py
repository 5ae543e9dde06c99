"""How an op runs on many examples at once, and what batching rules are made of."""

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradtape import errors
from gradtape.batched import Batched, Mapping, alias, innermost
from gradtape.ops.namespace import Namespace, recorded
from gradtape.ops.operands import explained
from gradtape.recorders import listening, set_listening
from gradtape.tensor import Tensor, with_key

if TYPE_CHECKING:
    from gradtape.ops.op import Op

__all__ = [
    "ALONG_AXIS",
    "LEADING",
    "MATRICES",
    "OF_SHAPE",
    "VECTORS",
    "alone",
    "behind",
    "lead",
    "moved",
    "over_examples",
    "size_of",
    "spread",
]

# What `batch` of an op can be: the forward takes any leading axes as they are, of arrays, of vectors or of
# matrices; its `axis` counts one more; it asks for the shape only, so that its result is the same for all.
LEADING, VECTORS, MATRICES, ALONG_AXIS, OF_SHAPE = "leading", "vectors", "matrices", "along axis", "of shape"
_LEAST_AXES: dict[Any, int] = {LEADING: 0, VECTORS: 1, MATRICES: 2}


# -- where axes go when that of the examples comes in front --------------------------------------------------


def behind(axis: Any, ndim: int) -> Any:
    """An axis, or axes, of one example's `ndim`, counted in all examples' array; None stands for all of them.

    Raises AxisError for one that is not there: counted from the back it could be the examples' own.
    """
    if axis is None:
        return tuple(range(1, ndim + 1))
    if isinstance(axis, (tuple, list)):
        return tuple(behind(a, ndim) for a in axis)
    if not -ndim <= axis < ndim:
        raise np.exceptions.AxisError(axis, ndim)
    return axis % ndim + 1


def lead(xp: Namespace, x: Any, ndim: int) -> Any:
    """All examples' array with axes of length 1 behind the first, so that one example has `ndim`."""
    missing = ndim + 1 - x.ndim
    return xp.reshape(x, (x.shape[0], *(1,) * missing, *x.shape[1:])) if missing > 0 else x


def size_of(arrays: Sequence[Any]) -> int:
    """How many examples there are, by arrays that have them in front; 1 is for what they share."""
    return next((x.shape[0] for x in arrays if x.shape[0] != 1), 1)


def spread(xp: Namespace, x: Any, size: int) -> Any:
    """What the examples share, for each of them."""
    return x if x.shape[0] == size else xp.broadcast_to(x, (size, *x.shape[1:]))


def alone(xp: Namespace, x: Any) -> Any:
    """What the examples share, without their axis."""
    return xp.reshape(x, x.shape[1:])


def moved(xp: Namespace, x: Any, source: int, destination: int) -> Any:
    """x with one axis moved to another place."""
    order = [i for i in range(x.ndim) if i != source]
    order.insert(destination, source)
    return x if source == destination else xp.transpose(x, tuple(order))


# -- running -------------------------------------------------------------------------------------------------


def over_examples(
    op: "Op",
    values: list[Any],
    keys: list[int],
    statics: Sequence[Any] = (),
    derive: Callable[[list[Any]], list[Any]] | None = None,
    as_list: bool = False,
    told: "Op | None" = None,
) -> Any:
    """What `op` gives for each example, of values of which some are batched.

    derive: what else a record holds, of the values; as_list: the op is variadic; told: the op that the record
    is of, if not this one.
    """
    mapping = innermost(values)
    stack = listening()
    place = stack.index(mapping)
    set_listening(stack[:place])  # as mapping.outside() does, at a fraction of its cost
    try:
        if op.batch == OF_SHAPE:
            return Tensor(op.forward(*values, *statics))
        out = _batched(op, mapping, values, keys, statics, as_list)
    except Exception as problem:
        raise explained(op.name, problem, values) from None
    finally:
        set_listening(stack)
    parts = [Batched(part, mapping) for part in (out if isinstance(out, (list, tuple)) else [out])]
    listeners = stack[place + 1 :]
    if listeners:
        key: Any = parts[0]._key
        result: Any = alias(parts[0])
        if isinstance(out, (list, tuple)):
            key, result = tuple(part._key for part in parts), [alias(part) for part in parts]
        kept = [alias(x) if type(x) is Batched else x for x in values]
        more = [*statics, *(derive(values) if derive else ())]
        for recorder in listeners:
            recorder.record(told or op, (*keys, *[0] * len(more), key), (*kept, *more, result), False)
    if not isinstance(out, (list, tuple)):
        return parts[0]
    return type(out)(*parts) if hasattr(out, "_fields") else type(out)(parts)


def _batched(
    op: "Op", mapping: Mapping, values: list[Any], keys: list[int], statics: Sequence[Any], as_list: bool
) -> Any:
    """The results for all examples, with their axis in front."""
    if op.broadcasts:
        rank = max([x.ndim if hasattr(x, "ndim") else 0 for x in values])
        operands = [
            lead(recorded, x.examples, rank)
            if type(x) is Batched and x.mapping is mapping
            else with_key(x, key)
            if key and type(x) is not Batched
            else x
            for x, key in zip(values, keys, strict=True)
        ]
        return op.call(*operands)
    operands = [mapping.all_examples(x, key) for x, key in zip(values, keys, strict=True)]
    given = [operands] if as_list else operands
    least = _LEAST_AXES.get(op.batch)
    if least is not None:
        if min(x.ndim for x in operands) <= least:  # it says so itself, and must not see the examples' axis
            op.forward(*[np.zeros(x.shape[1:], x.dtype) for x in operands], *statics)
        rank = max(x.ndim for x in operands) - 1
        return op.call(*[lead(recorded, x, rank) for x in operands], *statics)
    out = op.batch(recorded, *given, *statics) if callable(op.batch) else NotImplemented
    if out is not NotImplemented:
        return out
    return _one_by_one(op, mapping.size, operands, statics, as_list)


_told_of: set[str] = set()


def _one_by_one(op: "Op", size: int, operands: list[Any], statics: Sequence[Any], as_list: bool) -> Any:
    """The same without a batching rule: a Python loop, of which the user hears once for each op."""
    if not size:
        raise errors.ShapeError(f"{op.name} runs example by example, and there is none to tell its shape")
    results = []
    for i in range(size):
        one = [x if x is None else x[i if x.shape[0] > 1 else 0] for x in operands]
        results.append(op.call(one, *statics) if as_list else op.call(*one, *statics))
    if op.name not in _told_of:
        _told_of.add(op.name)
        warnings.warn(
            f"{op.name} has no batching rule, so that it runs example by example; declare one with batch=",
            stacklevel=5,
        )
    first = results[0]
    if not isinstance(first, (list, tuple)):
        return recorded.stack(results)
    parts = [recorded.stack(list(part)) for part in zip(*results, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
