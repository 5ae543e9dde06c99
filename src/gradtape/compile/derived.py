"""A compiled run that tapes hear of: as of one op, whose derivative is compiled too."""

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from gradtape.announce import announce, made_op, name_of
from gradtape.batched import Batched, alias
from gradtape.compile.kinds import Given
from gradtape.compile.paths import Branch, Diverged, Paths, Ran
from gradtape.compile.trace import SEEN, End
from gradtape.ops.op import recorded
from gradtape.recorders import access, is_followed, listening, who_can
from gradtape.replay import Replaying
from gradtape.slices import IndexedSlices
from gradtape.structure import flatten, unflattened
from gradtape.tape import GradientTape
from gradtape.tensor import Tensor, with_key

__all__ = ["run_and_told", "told"]


def run_and_told(
    paths: Paths, f: Callable[..., Any], call: Given, args: tuple[Any, ...], keywords: dict[str, Any]
) -> Any:
    """The result of a compiled run, told to all who listen; Diverged if its derivative was not recorded
    yet.
    """
    tensors = [x for x in call.tensors if isinstance(x, Tensor)]
    derived = bool(paths.variables or paths.captures) or any(is_followed(x._key) for x in tensors)
    profiles = who_can("ran")
    start = perf_counter()
    ran = paths.run(call.arrays, derived)
    for profile in profiles:
        profile.ran(name_of(f), perf_counter() - start)
    return told(paths, ran, f, call, args, keywords)


def told(
    paths: Paths,
    ran: Ran,
    f: Callable[..., Any],
    call: Given,
    args: tuple[Any, ...],
    keywords: dict[str, Any],
) -> Any:
    """The result of a run, told to all who listen as that of one op."""
    operands = {i: x for i, x in enumerate(call.tensors) if isinstance(x, Tensor)}
    for x, variable in ran.variables.items():
        access(variable)
        operands[x] = with_key(ran.values[x], variable._key)
    operands.update({x: with_key(c.value, c.key) for x, c in ran.captures.items()})
    followed = {x: t for x, t in operands.items() if t.dtype.kind in "fc" and is_followed(t._key)}
    if not followed:
        return paths.finished(ran, call)
    there = paths.constants.keys() | ran.values.keys()
    fitting = [d for d in ran.path[-1].derivatives if followed.keys() <= set(d.wrt) and there >= set(d.needs)]
    if not fitting:
        raise Diverged(ran.outcomes)
    derivative = min(fitting, key=lambda d: len(d.wrt))
    if not derivative.targets:
        return paths.finished(ran, call)
    kept = {x: paths.value(ran, x) for x in derivative.needs}
    likes = [paths.specs[x] for x in derivative.seeds]
    wanted = tuple([x for x in derivative.wrt if x in followed])
    sources = [followed[x] for x in wanted]
    reached = [places for x, places in zip(derivative.wrt, derivative.reached, strict=True) if x in followed]
    before = {variable._key: ran.values[x] for x, variable in ran.variables.items()}
    outcomes, path, end = ran.outcomes, ran.path, ran.end

    def again() -> list[Any]:
        """The result's leaves once more, by ops that those who listen hear."""
        if not end.has_rules:
            arguments = {i: Tensor(array) for i, array in enumerate(call.arrays)}
            return replayed(paths, path, end, arguments | operands, outcomes)
        leaves, rebuild = unflattened((args, keywords))
        own_args, own_keywords = rebuild([alias(x) if isinstance(x, Tensor) else x for x in leaves])
        with Replaying(before, [[Tensor(x) for x in outcome] for outcome in outcomes]):
            return flatten(f(*own_args, **own_keywords))

    def gradients(cotangents: list[Tensor | None]) -> list[Any]:
        if listening() or not derivative.is_possible or any(isinstance(g, Batched) for g in cotangents):
            return _by_ops(again, derivative.targets, sources, cotangents)
        seeds = [
            np.zeros(like.shape, like.dtype)[()] if g is None else g._value
            for g, like in zip(cotangents, likes, strict=True)
        ]
        values = {**kept, **dict(zip(derivative.seeds, seeds, strict=True))}
        given = {place for place, g in enumerate(cotangents) if g is not None}
        found = paths.pulled(derivative, wanted, values)
        return [
            _cotangent(parts, source) if places & given else None
            for parts, source, places in zip(found, sources, reached, strict=True)
        ]

    def announced(results: Sequence[Tensor]) -> Sequence[Tensor]:
        return announce(made_op(name_of(f), sources, gradients), sources, results)

    return paths.finished(ran, call, derivative.targets, announced)


def _cotangent(parts: Sequence[Any], source: Tensor) -> Tensor | IndexedSlices | None:
    """A cotangent of its parts: itself, or the values and indices of the rows that have one."""
    if len(parts) == 2:
        return IndexedSlices(Tensor(parts[0]), Tensor(parts[1]), source.shape)
    return Tensor(parts[0]) if parts else None


def _by_ops(
    again: Callable[[], list[Any]],
    places: Sequence[int],
    sources: list[Tensor],
    cotangents: Sequence[Tensor | None],
) -> list[Any]:
    """The cotangents op by op, so that those who listen can differentiate them."""
    with GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(sources)
        flat = again()
    reached = [(flat[i], g) for i, g in zip(places, cotangents, strict=True) if g is not None]
    found: list[Any] = tape.gradient([y for y, _ in reached], sources, [g for _, g in reached])
    return found


def replayed(
    paths: Paths, path: Sequence[Branch], end: End, operands: Mapping[int, Tensor], outcomes: Sequence[Any]
) -> list[Any]:
    """The leaves of the result of a path, by its ops on the tensors and variables that it was given."""
    values: dict[int, Any] = {x: alias(tensor) for x, tensor in operands.items()}
    happened = iter(outcomes)

    def value(x: int) -> Any:
        if x not in values:
            constant = paths.constants[x]
            values[x] = Tensor(constant) if isinstance(constant, (np.ndarray, np.generic)) else constant
        return values[x]

    for node in (node for branch in path for node in branch.segment.nodes):
        given = [value(x) for x in node.operands]
        op = node.op
        if not op.pure:
            found: Any = [Tensor(x) for x in next(happened)]
        elif op is SEEN:
            found = given
        elif hasattr(recorded, op.name):
            found = getattr(recorded, op.name)(*([given] if op.variadic else given), *node.statics)
        else:  # an op without a derivative that has no name in public
            found = [
                Tensor(x) for x in node.evaluate([x._value if isinstance(x, Tensor) else x for x in given])
            ]
        values.update(zip(node.outs, found if isinstance(found, (list, tuple)) else [found], strict=True))
    return [value(leaf) if kind == "tensor" else leaf for kind, leaf in end.leaves]
