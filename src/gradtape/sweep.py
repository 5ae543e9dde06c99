"""Reading a tape backwards: from the cotangents of the targets to those of everything they depend on."""

from collections.abc import Collection
from typing import Any, TypeAlias

import numpy as np

from gradtape.errors import NoGradientError
from gradtape.ops.broadcasting import unbroadcast
from gradtape.ops.namespace import Namespace, raw
from gradtape.ops.rule import IS_KEPT, IS_ONE, Rule

__all__ = ["Cotangents", "Cuts", "Edge", "sweep"]

# One operand of one op that ran: the key of the result (a tuple of keys if it has several), the key of the
# operand, the rule between them, what the rule needs, all keys of that record, and the shape and dtype that
# the cotangent must be brought to (None where it cannot come out otherwise).
Edge: TypeAlias = tuple[Any, int, Rule, Any, tuple[Any, ...], tuple[tuple[int, ...], np.dtype[Any]] | None]


# The key of a result, or keys, and the place of an operand, between which a rule gave None.
Cuts: TypeAlias = set[tuple[Any, int]]


class Cotangents(list[Any]):
    """Those of an op with several results, None for those that have none; lives as long as its rules need it.

    shared: what the first of the op's rules found for all of them, if they work together.
    """

    __slots__ = ("shared",)

    shared: Any


def sweep(
    xp: Namespace,
    edges: list[Edge],
    cotangents: dict[int, Any],
    wanted: Collection[int],
    cuts: Cuts | None = None,
) -> dict[int, Any]:
    """The cotangents of all values that no op made, and of the wanted ones that an op did make.

    edges and cotangents (those of the targets, by key) are consumed: each is let go of as soon as it has been
    passed on. cuts: takes down where a rule gives None.
    """
    pop = cotangents.pop
    bare = xp is raw
    kept: dict[int, Any] = {}
    current: Any = None
    g: Any = None
    while edges:
        key, source, rule, saved, keys, fit = edges.pop()
        if key != current:
            current = key
            g = pop(key, None)
            if g is None and type(key) is tuple:
                g = _several(key, cotangents, wanted, kept)
            elif key in wanted and g is not None:
                kept[key] = g
        if g is None:
            continue
        factor = rule.factor
        if factor is IS_ONE:
            cotangent = g
        elif factor is IS_KEPT and bare:
            cotangent = g * saved
        else:
            try:
                cotangent = rule.pull(xp, g, saved if bare else rule.wrap(saved, keys))
            except NoGradientError:
                if _leads_to(source, edges, wanted):
                    raise
                continue
            if cotangent is None:
                if cuts is not None:
                    cuts.add((key, rule.index))
                continue
        if fit is not None:
            cotangent = _fitted(xp, cotangent, *fit)
        if source in cotangents:
            cotangents[source] = pop(source) + cotangent
        else:
            cotangents[source] = cotangent
    cotangents.update(kept)
    return cotangents


def _several(
    keys: tuple[int, ...], cotangents: dict[int, Any], wanted: Collection[int], kept: dict[int, Any]
) -> Cotangents | None:
    """The cotangents of an op with several results; None if no one has any."""
    found = Cotangents([cotangents.pop(key, None) for key in keys])
    kept.update((key, g) for key, g in zip(keys, found, strict=True) if key in wanted and g is not None)
    return None if all(g is None for g in found) else found


def _leads_to(key: int, edges: list[Edge], wanted: Collection[int]) -> bool:
    """Whether the value of this key depends on a wanted one, by the edges that are left."""
    reached = {key}
    for edge in reversed(edges):
        results = edge[0] if type(edge[0]) is tuple else (edge[0],)
        if not reached.isdisjoint(results):
            reached.add(edge[1])
    return not reached.isdisjoint(wanted)


def _fitted(xp: Namespace, g: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """g in the shape and dtype of the operand that it belongs to."""
    g = unbroadcast(xp, g, shape)
    if g.dtype is not dtype:
        if g.dtype.kind == "c" and dtype.kind != "c":
            g = xp.real(g)
        g = xp.cast(g, dtype)
    return g
