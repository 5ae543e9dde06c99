"""One call of a function in Python, which is recorded, with its derivative if somebody outside follows it."""

import contextlib
import enum
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradtape.announce import refuse_assigned
from gradtape.batched import alias
from gradtape.compile.kinds import is_number_leaf
from gradtape.compile.paths import Derivative
from gradtape.compile.trace import Recording, Segment, Tracer
from gradtape.errors import FunctionError, NoGradientError, PlanError
from gradtape.recorders import listening, set_listening, set_tracer, tracer
from gradtape.slices import IndexedSlices
from gradtape.structure import flatten, unflattened
from gradtape.tensor import Array, Tensor, Variable, as_array

__all__ = ["Recorded", "run_recorded"]


class Recorded(NamedTuple):
    """What came of a recorded call.

    is_kept: whether the recording holds for other calls; made: whether variables were, in which case the next
    call, which makes none, is to be recorded; values: by number, and derivative, with its ops: if somebody
    listens.
    """

    result: Any
    recording: Recording
    is_kept: bool
    made: bool
    values: dict[int, Array]
    derivative: tuple[Derivative, Segment] | None


def run_recorded(
    f: Callable[..., Any],
    name: str,
    args: tuple[Any, ...],
    keywords: dict[str, Any],
    numbers_too: bool,
    outcomes: Sequence[Any],
    may_make: bool,
) -> Recorded:
    """Runs f on its arguments, tensors under identities of their own, and notes all that it does, which
    nobody else hears.
    """
    stack, before = listening(), tracer()
    hears = Tracer(name, outcomes, may_make, stack)
    hears.beside.home = hears.start
    leaves, rebuild = unflattened((args, keywords) if keywords else args)
    own = [_of_its_own(x, numbers_too) for x in leaves]
    set_tracer(hears)
    set_listening((hears,))
    try:
        with hears.beside if stack else contextlib.nullcontext():
            for x, leaf in zip(own, leaves, strict=True):
                for part, source in zip(_parts(x), _parts(leaf) or (None,), strict=False):
                    hears.argument(part, source)
            kept = [alias(x) if isinstance(x, Tensor) else x for x in own]
            own_args, own_keywords = rebuild(own) if keywords else (rebuild(own), {})
            result = f(*own_args, **own_keywords)
        refuse_assigned(f"function {name}", own, kept)
        _refuse_changed(name, own, (own_args, own_keywords) if keywords else own_args)
        flat, rebuild_result = unflattened(result)
        end = hears.end([_leaf(hears, x, leaves) for x in flat], rebuild_result)
        recording = Recording(list(hears.segments), list(hears.answers), end)
        derivative = _differentiated(hears, flat) if hears.followed else None
        return Recorded(result, recording, hears.is_kept, bool(hears.made), hears.values, derivative)
    finally:
        set_tracer(before)
        set_listening(stack)


def _of_its_own(x: Any, numbers_too: bool) -> Any:
    """A tensor or array among the arguments as a tensor that nothing else is."""
    if isinstance(x, IndexedSlices):
        return IndexedSlices(Tensor(x.values._value), Tensor(x.indices._value), x.dense_shape)
    if isinstance(x, Tensor):
        return Tensor(x._value)
    return Tensor(as_array(x)) if is_number_leaf(x, numbers_too) else x


def _parts(x: Any) -> Sequence[Tensor]:
    if isinstance(x, IndexedSlices):
        return x.values, x.indices
    return (x,) if isinstance(x, Tensor) else ()


def _refuse_changed(name: str, before: Sequence[Any], now: Any) -> None:
    leaves = flatten(now)
    if len(leaves) != len(before) or any(x is not y for x, y in zip(leaves, before, strict=True)):
        raise FunctionError(
            f"function {name} changes a list or dict that it was given, which a compiled run would not; "
            "return what is new"
        )


_NUMBERS = (bool, int, float, complex, np.generic)
_PLAIN = (*_NUMBERS, str, bytes, type(None), type, range, slice, np.dtype, enum.Enum)


def _leaf(hears: Tracer, x: Any, given: Sequence[Any]) -> tuple[str, Any]:
    """One leaf of the result, as End wants it; FunctionError for an object that may hold what differs from
    call to call.
    """
    if isinstance(x, IndexedSlices):
        return "slices", (hears.number(x.values), hears.number(x.indices), x.dense_shape)
    if isinstance(x, Tensor):
        return "tensor", hears.number(x)
    if isinstance(x, np.ndarray):
        return "array", x.copy()
    if isinstance(x, (Variable, *_PLAIN)) or any(x is other for other in given):
        return "as it is", x
    raise FunctionError(
        f"function {hears.name} returns an object of type {type(x).__name__}, which a compiled run could "
        "only return again as it was; return tensors, in tuples, lists, dicts or named tuples, or register "
        "the type with optree"
    )


def _differentiated(hears: Tracer, flat: Sequence[Any]) -> tuple[Derivative, Segment]:
    """How cotangents of the result's leaves become those of what is followed outside, noted as ops."""
    beside, wrt = hears.beside, tuple(hears.followed)
    places = [i for i, x in enumerate(flat) if isinstance(x, Tensor) and beside.follows(x._key)]
    places = [i for i in places if flat[i].dtype.kind in "fc"]
    count, segment = len(hears.segments), Segment()
    hears.segments.append(segment)
    hears.may_have_effects = False  # a sweep may, each time that it is made
    try:
        seeds = [Tensor(np.ones(flat[i].shape, flat[i].dtype)[()]) for i in places]
        numbers = tuple([hears.argument(seed) for seed in seeds])
        gradients: Sequence[Any] = [None] * len(wrt)
        if places:
            gradients = beside.gradient([flat[i] for i in places], list(hears.followed.values()), seeds)
        found = tuple([tuple([hears.number(part) for part in _parts(g)]) for g in gradients])
        if len(hears.segments) == count + 1:
            return Derivative(wrt, tuple(places), numbers, found, segment.nodes, True), segment
    except (NoGradientError, PlanError):
        pass
    return Derivative(wrt, tuple(places), (), ((),) * len(wrt), [], False), Segment()
