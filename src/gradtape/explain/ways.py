"""What became of a value, op by op: where there is a way from it, and what cuts derivatives on that way."""

import bisect
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from gradtape.callers import Site
from gradtape.explain.bindings import has_literal
from gradtape.explain.connections import happened
from gradtape.explain.journal import Assigned, Heard, Journal, Left, heard
from gradtape.sweep import Cuts
from gradtape.tensor import Variable

__all__ = ["Leaf", "Link", "Memory", "Recorded", "Way", "first_use", "leaves", "ops", "origin", "ways_of"]


class Recorded(NamedTuple):
    """What is known of an edge (see `sweep.Edge`) without the values that it keeps; place: the operand's."""

    key: Any
    operand: int
    place: int
    op: str


class Memory(NamedTuple):
    """What a tape still knows.

    edges: those recorded, None once it has answered; live: the keys that it follows; variables: those that it
    has watched; told: the keys of what it was told to watch; watches_accessed: whether it watches what is
    read; started, ended: keys that all values made before its block are below, and after it (0 while it
    lasts) above; journal: what happened, if it was to be noted; cuts: where rules are known to give None;
    problem: what a sweep raised.
    """

    edges: Sequence[Recorded] | None
    live: frozenset[int]
    variables: Mapping[int, Variable]
    told: Collection[int]
    watches_accessed: bool
    started: int
    ended: int
    journal: Journal | None
    cuts: Cuts
    problem: Exception | None = None


class Link(NamedTuple):
    """One op on a way; broken: the kind of cause that cuts the derivative there, if one does; what: more of
    it; at: the op's place in the journal, or the key of its result.
    """

    op: str
    site: Site | None
    broken: str | None = None
    what: str = ""
    at: Any = None


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


def ways_of(memory: Memory, targets: Iterable[int], source: int) -> dict[int, Way]:
    """The best way to every value that came of the source, by key, as far as a tape knows."""
    if memory.journal is None:
        return ways_by_edges(memory.edges or (), source, memory.cuts)
    return ways_by_journal(memory.journal, source, targets, memory.watches_accessed, memory.cuts)


def ways_by_edges(edges: Sequence[Recorded], source: int, cuts: Cuts) -> dict[int, Way]:
    """The best way to every value that came of the source, by key, as far as a tape has recorded it."""
    ways = {source: _HERE}
    for key, operand, place, op in edges:
        if operand in ways:
            link = Link(op, None, "own_rule" if (key, place) in cuts else None, at=key)
            for result in key if type(key) is tuple else (key,):
                _take(ways, result, ways[operand].on(link))
    return ways


def _take(ways: dict[int, Way], key: int, way: Way) -> None:
    if key not in ways or way.cost < ways[key].cost:
        ways[key] = way


def ways_by_journal(
    journal: Journal, source: int, targets: Iterable[int], watches_accessed: bool, cuts: Cuts
) -> dict[int, Way]:
    """The same by all that happened in a tape's block, also where the tape did not record it."""
    ways = {source: _HERE}
    outside = _Outside()
    made: set[int] = set()

    def fresh(keys: Iterable[int]) -> list[int]:
        """Those of tensors that no op made."""
        return [key for key in keys if key not in made and key not in journal.variables]

    for at, event in happened(journal, watches_accessed, cuts):
        if isinstance(event, Assigned):
            before = ways.pop(event.variable, None) if event.variable != source else None
            if before is not None and event.adds:
                ways[event.variable] = before.on(Link("assign", event.site, at=at))
            if fresh([event.key]) and (back := outside.latest([False, True], event.key)) is not None:
                _take(ways, event.key, back)
            if event.key in ways:
                name = journal.variables.get(event.variable, ("the variable", True))[0]
                _take(
                    ways, event.variable, ways[event.key].on(Link("assign", event.site, "assigned", name, at))
                )
        elif isinstance(event, Left):
            if event.key in ways:
                link = Link(event.how, event.site, "numpy", event.how, at)
                outside.add(event, ways[event.key].on(link, guess=1))
        else:
            op = event.op
            results = {c.result for c in event.connections} or {result for result, _ in op.results}
            # made already by the ops of a function with a derivative of its own, which holds in their place
            inside = {
                result: ways.pop(result) for result in results & made if result in ways and result != source
            }
            for c in event.connections:
                if c.operand in ways:
                    way = ways[c.operand]
                    broken = c.cut or (c.idle if way is _HERE else None)
                    what = f"a cast to {c.dtype}" if broken == "integer_cast" else ""
                    _take(ways, c.result, way.on(Link(op.op.title, op.site, broken, what, at)))
            if (found := outside.came_back(op, fresh(key for _, key in event.operands))) is not None:
                back, guess = found
                for result in results:
                    _take(ways, result, back.on(Link(op.op.title, op.site, at=at), guess))
            for result, way in inside.items():
                if way.cost[0]:  # an array that had left came in there
                    _take(ways, result, way)
            made |= results
    for target in fresh(targets):
        if (back := outside.latest([False, True], target)) is not None:
            _take(ways, target, back)
    return ways


class _Outside:
    """What has left the tape, as arrays and as Python numbers, in order: what constants may be made of."""

    def __init__(self) -> None:
        self._then: dict[bool, list[int]] = {False: [], True: []}
        self._ways: dict[bool, list[Way]] = {False: [], True: []}

    def add(self, left: Left, way: Way) -> None:
        self._then[left.is_number].append(left.then)
        self._ways[left.is_number].append(way)

    def latest(self, kinds: Iterable[bool], key: float = math.inf) -> Way | None:
        """The way of what left last, as a number (True) or an array, before a value of this key was made."""
        found = [(self._then[kind][i - 1], self._ways[kind][i - 1])
                 for kind in kinds if (i := bisect.bisect_left(self._then[kind], key))]  # fmt: skip
        return max(found, key=itemgetter(0))[1] if found else None

    def came_back(self, op: Heard, fresh: Sequence[int]) -> tuple[Way, int] | None:
        """The way of what an operand of the op may have been made of, and how much of a guess that is.

        fresh: the operands that no op made. Functions with a derivative of their own do not say all they got.
        """
        loose = op.loose.values()
        way, guess = None, 0
        if fresh:
            way = self.latest([False, True], max(fresh))
        elif not op.op.operands or any(map(_is_float_array, loose)):
            way, guess = self.latest([False, True]), 1
        elif any(like in (float, complex) for like in loose) and not has_literal(op.site):
            way, guess = self.latest([True]), 1
        return None if way is None else (way, guess)


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
            needed.update({key: Leaf(key, op.op.title, op.site) for _, key in op.operands})
    return list(needed.values())
