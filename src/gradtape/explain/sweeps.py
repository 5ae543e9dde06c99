"""Being there when a tape is read backwards: the edges of a sweep, with somebody between it and the rules."""

import copy
import functools
from collections.abc import Sequence
from typing import Any, Protocol

from gradtape.ops.op import Namespace
from gradtape.ops.rule import Rule
from gradtape.sweep import Edge

__all__ = ["Heeder", "heeded", "made_of"]


class Heeder(Protocol):
    """Whoever is to be there."""

    def heed(self, edge: Edge, xp: Namespace, g: Any, saved: Any) -> Any:
        """The cotangent that the edge's rule makes of g, as from `rule.pull(xp, g, saved)`."""


def heeded(edges: Sequence[Edge], by: Heeder) -> list[Edge]:
    """The same edges for a sweep that asks `by` for every cotangent, of which none is to be taken for
    granted.
    """
    return [(edge[0], edge[1], _heeded(edge, by), *edge[3:]) for edge in edges]


def _heeded(edge: Edge, by: Heeder) -> Rule:
    rule = copy.copy(edge[2])
    rule.pull = functools.partial(by.heed, edge)
    rule.factor = rule.rows = None
    return rule


def made_of(edges: Sequence[tuple[Any, ...]], targets: Sequence[int]) -> set[int]:
    """The keys of all that the targets were made of, theirs included, by edges or what is known of them."""
    found = set(targets)
    for key, operand, *_ in reversed(edges):
        if not found.isdisjoint(key if type(key) is tuple else (key,)):
            found.add(operand)
    return found
