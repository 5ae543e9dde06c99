"""What became of a value, op by op: where there is a way from it, and what cuts derivatives on that way."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradtape.callers import Site
from gradtape.explain.journal import Assigned, Heard, Journal, Left, Reset, Watched, heard
from gradtape.sweep import Cuts, Edge

__all__ = ["Leaf", "Link", "Way", "first_use", "leaves", "ops", "origin", "ways_by_edges", "ways_by_journal"]

_CUTTERS = {"discrete_cast": "integer_cast", "stop_gradient": "stop_gradient"}


class Link(NamedTuple):
    """One op on a way; broken: the kind of cause that cuts the derivative there, if one does; what: more of
    it.
    """

    op: str
    site: Site | None
    broken: str | None = None
    what: str = ""


class Way(NamedTuple):
    """From the source to one value. cost: how many of its links are guesses, how many broken."""

    cost: tuple[int, int]
    link: Link | None
    before: "Way | None"

    def on(self, link: Link, guess: int = 0) -> "Way":
        """The way with one link more."""
        guesses, breaks = self.cost
        return Way((guesses + guess, breaks + (link.broken is not None)), link, self)

    def links(self) -> list[Link]:
        """The links, from the source on."""
        found: list[Link] = []
        way: Way | None = self
        while way is not None and way.link is not None:
            found.append(way.link)
            way = way.before
        return found[::-1]


_HERE = Way((0, 0), None, None)


def ways_by_edges(edges: Sequence[Edge], source: int, cuts: Cuts) -> dict[int, Way]:
    """The best way to every value that came of the source, by key, as far as a tape has recorded it."""
    ways = {source: _HERE}
    for key, operand, rule, *_ in edges:
        if operand in ways:
            link = Link(rule.op.name, None, "own_rule" if (key, operand) in cuts else None)
            for result in key if type(key) is tuple else (key,):
                _take(ways, result, ways[operand].on(link))
    return ways


def _take(ways: dict[int, Way], key: int, way: Way) -> None:
    if key not in ways or way.cost < ways[key].cost:
        ways[key] = way


def ways_by_journal(
    journal: Journal, source: int, target: int, watches_accessed: bool, cuts: Cuts
) -> dict[int, Way]:
    """The same by all that happened in a tape's block, also where the tape did not record it."""
    return _Walk(journal, source, target, watches_accessed, cuts).ways


class _Walk:
    """From the first event to the last: ways from the source, what the tape follows, what has left it."""

    def __init__(
        self, journal: Journal, source: int, target: int, watches_accessed: bool, cuts: Cuts
    ) -> None:
        self.journal = journal
        self.watches_accessed = watches_accessed
        self.cuts = cuts
        self.ways = {source: _HERE}
        self._live: set[int] = set()
        self._once_live: set[int] = set()
        self._made: set[int] = set()
        self._outside: list[tuple[Left, Way]] = []
        self._watched = {e.key for e in journal.events if isinstance(e, Watched)}
        resets = [i for i, e in enumerate(journal.events) if isinstance(e, Reset)]
        for i, event in enumerate(journal.events):
            if isinstance(event, Reset):
                self._live.clear()
            elif isinstance(event, Watched):
                self._live.add(event.key)
            elif isinstance(event, Assigned):
                self._assigned(event)
            elif isinstance(event, Left):
                if event.key in self.ways:
                    link = Link(event.how, event.site, "numpy", event.how)
                    self._outside.append((event, self.ways[event.key].on(link, guess=1)))
            else:
                self._heard(Heard(*event), bool(resets) and i < resets[-1])
            self._once_live |= self._live if isinstance(event, Watched) else set()
        for left, way in self._outside:
            if self._is_fresh(target, left):
                _take(self.ways, target, way)

    def _assigned(self, event: Assigned) -> None:
        if event.key in self.ways:
            name = self.journal.variables.get(event.variable, ("the variable", True))[0]
            link = Link("assign", event.site, "assigned", name)
            _take(self.ways, event.variable, self.ways[event.key].on(link))

    def _heard(self, op: Heard, forgotten: bool) -> None:
        rules = {rule.index for rule in op.op.rules}
        for _, key in op.operands:
            name, trainable = self.journal.variables.get(key, ("", False))
            if name and trainable and self.watches_accessed and not op.paused:
                self._live.add(key)
        follows = not op.paused and any(i in rules and key in self._live for i, key in op.operands)
        came_back = [way for left, way in self._outside if self._may_hold(op, left)]
        for result, (_, dtype) in op.results:
            if result in self._made:  # by the ops of a function that has a derivative of its own
                self.ways.pop(result, None)
            for i, operand in op.operands:
                if operand in self.ways:
                    broken = self._broken(op, operand, i in rules, dtype, forgotten)
                    what = f"a cast to {dtype}" if broken == "integer_cast" else ""
                    link = Link(op.op.name, op.site, broken, what)
                    _take(self.ways, result, self.ways[operand].on(link))
            for way in came_back:
                _take(self.ways, result, way.on(Link(op.op.name, op.site)))
            if follows and dtype.kind in "fc":
                self._live.add(result)
        self._made.update(result for result, _ in op.results)

    def _broken(
        self, op: Heard, operand: int, has_rule: bool, dtype: np.dtype[Any], forgotten: bool
    ) -> str | None:
        """What cuts the derivative between an operand and a result of this dtype, if anything does."""
        if not has_rule or dtype.kind not in "fc":
            return _CUTTERS.get(op.op.name, "no_derivative")
        if op.paused:
            return "stop_recording"
        if forgotten:
            return "reset"
        if operand not in self._live and self.ways[operand] is _HERE:
            if operand in self._once_live:
                return "reset"
            return "watched_late" if operand in self._watched else "unwatched"
        return "own_rule" if (op.keys[-1], operand) in self.cuts else None

    def _is_fresh(self, key: int, left: Left) -> bool:
        """Whether a tensor was made by no op, after something had left the tape."""
        return key > left.then and key not in self._made and key not in self.journal.variables

    def _may_hold(self, op: Heard, left: Left) -> bool:
        """Whether an operand of the op may have been made of what left: a constant that came up since."""
        return any(self._is_fresh(key, left) for _, key in op.operands) or any(
            like in (float, complex) if left.is_number and isinstance(like, type) else _is_float_array(like)
            for like in op.loose.values()
        )


def _is_float_array(like: Any) -> bool:
    return not isinstance(like, type) and like[1].kind in "fc"


# -- where a value came from ---------------------------------------------------------------------------------


class Leaf(NamedTuple):
    """A value that no op of a block made, and the op that got it first."""

    key: int
    op: str | None
    site: Site | None


def ops(journal: Journal) -> Iterator[Heard]:
    """The ops among what a journal tells of."""
    return (op for op in map(heard, journal.events) if op is not None)


def origin(journal: Journal, key: int) -> Heard | None:
    """The op that made the value of this key; None if no op of the block did."""
    return next((op for op in reversed([*ops(journal)]) if any(key == made for made, _ in op.results)), None)


def first_use(journal: Journal, key: int) -> Heard | None:
    """The first op that got the value of this key; None if none did."""
    return next((op for op in ops(journal) if key in op.keys[:-1]), None)


def leaves(journal: Journal, target: int) -> list[Leaf]:
    """What the target was made of: variables, watched tensors and constants that are tensors."""
    needed: dict[int, Leaf] = {target: Leaf(target, None, None)}
    for op in reversed([*ops(journal)]):
        made = [key for key, _ in op.results if key in needed]
        for key in made:
            del needed[key]
        if made:
            needed.update({key: Leaf(key, op.op.name, op.site) for _, key in op.operands})
    return list(needed.values())
