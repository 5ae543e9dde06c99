"""Memory for time: a function of whose inside a tape keeps nothing, since it is run again in the sweep."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from gradtape.announce import Inside, Like, announce, bare, copied, like_of, made_op, name_of, refuse_assigned
from gradtape.batched import alone
from gradtape.errors import ArgumentError, RecomputationError
from gradtape.ops.op import Op, recorded
from gradtape.ops.rule import identified
from gradtape.recorders import access, listening, new_key, pop, push, tracer
from gradtape.replay import Noting, Replaying
from gradtape.structure import flatten, unflattened
from gradtape.tape import GradientTape
from gradtape.tensor import Tensor, Value, Variable

__all__ = ["recompute_grad"]

P = ParamSpec("P")
R = TypeVar("R")


def recompute_grad(f: Callable[P, R]) -> Callable[P, R]:
    """f, of whose inside tapes keep nothing: for a derivative it is run again, in the sweep.

    It saves memory for the time of one more forward pass: around a few layers of a deep network each, only
    what lies between them lives on. Derivatives flow to all that f reads, variables and tensors it closes
    over included, to any order. When run again, f sees arguments and variables as they were, and gets the
    same numbers from gradtape's random functions and generators; what it draws and assigns then is not seen
    outside. For the rest, f must do the same each time.

    Raises RecomputationError, in the sweep, if f does not; InPlaceError if f assigns to an argument in place.

    >>> w = gt.Variable([[0.5, 0.25]])
    >>> @gt.recompute_grad
    ... def block(x):
    ...     return gt.tanh(gt.tanh(x * w) * w)
    >>> with gt.GradientTape() as tape:
    ...     loss = gt.reduce_sum(block(gt.constant([[1.0, 2.0]])))
    >>> tape.gradient(loss, w).shape
    (1, 2)
    """
    if not callable(f):
        raise ArgumentError(f"recompute_grad: wanted a function, got {type(f).__name__}")

    @functools.wraps(f)
    def call(*args: P.args, **keywords: P.kwargs) -> R:
        return _recomputing(f, args, keywords) if listening() else f(*args, **keywords)

    return call


def _recomputing(f: Callable[..., R], args: tuple[Any, ...], keywords: dict[str, Any]) -> R:
    what = f"recompute_grad: {name_of(f)}"
    leaves, rebuild = unflattened((args, keywords))
    kept = [copied(x) for x in leaves]
    inside = Inside()
    with alone(inside), Noting() as notes:
        out = f(*args, **keywords)
    refuse_assigned(what, leaves, kept)
    flat, rebuild_result = unflattened(out)
    places = [i for i, x in enumerate(flat) if isinstance(x, Value) and x.dtype.kind in "fc"]
    for i in places:
        if isinstance(flat[i], Variable):
            access(flat[i])
        inside.reads(flat[i]._key, bare(flat[i]))
    found = inside.found
    if not found:
        return out
    likes = [like_of(flat[i]) for i in places]
    values, states = notes.first, notes.states
    after = new_key()

    def gradients(cotangents: list[Tensor | None]) -> list[Tensor | None]:
        sources = [identified(value, key) for key, value in found.items()]
        again_args, again_keywords = rebuild([copied(x) for x in kept])
        unseen = _Unseen(what, after, new_key())
        traced = tracer()
        push(unseen)
        try:
            with (
                GradientTape(watch_accessed_variables=False) as tape,
                Replaying(values, states),
                traced.recomputing() if traced else contextlib.nullcontext(),
            ):
                tape.watch(sources)
                again = flatten(f(*again_args, **again_keywords))
        finally:
            pop(unseen)
        targets = _again(what, again, places, likes)
        reached = [(y, g) for y, g in zip(targets, cotangents, strict=True) if g is not None]
        del again, targets
        answer: list[Tensor | None] = tape.gradient(
            [y for y, _ in reached], sources, output_gradients=[g for _, g in reached]
        )
        return answer

    results = [recorded.stop_gradient(flat[i]) for i in places]
    operands = [identified(value, key) for key, value in found.items()]
    results = announce(made_op(name_of(f), operands, gradients), operands, results)
    for i, x in zip(places, results, strict=True):
        flat[i] = x
    return cast(R, rebuild_result(flat))


def _again(what: str, again: list[Any], places: list[int], likes: list["Like"]) -> list[Value]:
    """The results of the recomputation, if they are like those of the forward pass."""
    targets = [again[i] for i in places if i < len(again)]
    got = [like_of(x) if isinstance(x, Value) else type(x).__name__ for x in targets]
    if got != likes:
        raise RecomputationError(
            f"{what}: the recomputation gives {', '.join(map(str, got))}, the forward pass gave "
            f"{', '.join(map(str, likes))}; the function must do the same each time it is called"
        )
    return targets


class _Unseen:
    """Refuses that an op reads what the forward pass cannot have read: values made after it, before now."""

    def __init__(self, what: str, after: int, before: int) -> None:
        self._what = what
        self._after, self._before = after, before

    def record(self, op: Op, keys: tuple[Any, ...], values: tuple[Any, ...], uniform: bool) -> None:
        if any(self._after < key < self._before for key in keys[:-1]):
            raise RecomputationError(
                f"{self._what}: in its recomputation {op.name} reads a tensor that was made or assigned in "
                "place after the forward pass; what the function closes over must stay until the gradient "
                "is taken; give it as an argument instead"
            )

    def accessed(self, variable: Variable) -> None: ...

    def follows(self, key: int) -> bool:
        return False
