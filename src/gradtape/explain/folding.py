"""Long chains of ops that repeat themselves, made short enough to be drawn."""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from gradtape.explain.picture import Node, Picture

__all__ = ["folded"]

_FEWEST = 3  # rounds that are worth a fold
_LONGEST = 16  # ops of a round


def folded(picture: Picture) -> Picture:
    """With each run of three or more rounds that do the same, one after the other, drawn as one box.

    The ops of a round are the same as those of the round before, and read each other's results in the same
    way; what they read of sources, constants and ops before the run may differ: those links go to the box.
    The nodes must come in the order in which they were computed; sources and constants may stand anywhere.
    Where the path begins and ends, and what a broken link touches, is left as it is.

    >>> from gradtape.explain.picture import Link, Node, Picture
    >>> nodes = [Node(i, "op", ("sin", "float32 ()")) for i in range(100)]
    >>> links = [Link(i, i + 1) for i in range(99)]
    >>> [node.lines for node in folded(Picture(nodes, links)).nodes]
    [('sin × 100', 'float32 ()')]
    """
    chain = _Chain(picture)
    fold_of: dict[Hashable, Node] = {}
    place_of: dict[Hashable, int] = {}
    start = 0
    while start < len(chain.nodes):
        period, rounds = chain.longest(start)
        run = chain.nodes[start : start + max(period * rounds, 1)]
        start += len(run)
        if rounds:
            fold = _fold(run[:period], rounds)
            for i, node in enumerate(run):
                fold_of[node.key], place_of[node.key] = fold, i % period
    return _joined(picture, fold_of | _gathered(picture, fold_of, place_of))


class _Chain:
    """What was computed, in that order: the nodes, and for each what must be the same in the next round."""

    def __init__(self, picture: Picture) -> None:
        fixed = set(picture.path[:1]) | set(picture.path[-1:])
        fixed.update(key for link in picture.links if link.broken for key in link[:2])
        made = {link.end for link in picture.links}
        self.nodes = [node for node in picture.nodes if node.kind == "op" or node.key in made]
        place = {node.key: i for i, node in enumerate(self.nodes)}
        self.labels: list[Any] = [
            node.lines if node.kind == "op" and node.key not in fixed else i
            for i, node in enumerate(self.nodes)
        ]
        self.reads: list[set[int]] = [set() for _ in self.nodes]
        for link in picture.links:
            if link.start in place:
                self.reads[place[link.end]].add(place[link.start])

    def longest(self, start: int) -> tuple[int, int]:
        """Of the runs of rounds from `start`, the one of most ops: ops in a round, and rounds, or twice 0."""
        best = 0, 0
        for period in range(1, _LONGEST + 1):
            rounds = self._rounds(start, period)
            if rounds >= _FEWEST and rounds * period > best[0] * best[1]:
                best = period, rounds
        return best

    def _rounds(self, start: int, period: int) -> int:
        i = start + period
        while i < len(self.nodes) and self._same(i, start, period):
            i += 1
        rounds = (i - start) // period
        second = range(start + period, min(start + 2 * period, len(self.nodes)))
        goes_on = any(start <= j < start + period for i in second for j in self.reads[i])
        return rounds if goes_on else 0

    def _same(self, i: int, start: int, period: int) -> bool:
        """Whether op i does in its round what the op one period earlier did in the round before."""
        if self.labels[i] != self.labels[i - period]:
            return False
        before = {i - period - j for j in self.reads[i - period] if j >= start}
        now = {i - j for j in self.reads[i] if j >= start}
        if i < start + 2 * period:  # the first round had none before it
            now = {back for back in now if back <= i - start - period}
        return now == before


def _fold(ops: Sequence[Node], rounds: int) -> Node:
    names, details = [node.lines[0] for node in ops], dict.fromkeys(node.lines[1:] for node in ops)
    if len(ops) == 1:
        lines: tuple[str, ...] = (f"{names[0]} × {rounds}", *ops[0].lines[1:])
    elif len(details) == 1:
        lines = (f"× {rounds}", *names, *ops[0].lines[1:])
    else:
        lines = (f"× {rounds}", *(" ".join(node.lines) for node in ops))
    return Node(ops[0].key, "fold", lines, rounds * sum(node.ops for node in ops))


def _gathered(
    picture: Picture, fold_of: Mapping[Hashable, Node], place_of: Mapping[Hashable, int]
) -> dict[Hashable, Node]:
    """One node for the sources, or constants, that are alike and read at one place, each by another round."""
    readers: dict[Hashable, list[Hashable]] = defaultdict(list)
    for link in picture.links:
        readers[link.start].append(link.end)
    others = {link.end for link in picture.links} | set(picture.path)
    groups: dict[Any, list[Node]] = defaultdict(list)
    for node in picture.nodes:
        if node.kind in ("source", "constant") and node.key not in others:
            read = set(readers[node.key])
            folds = {fold_of.get(key) for key in read}
            places = frozenset(place_of.get(key) for key in read)
            if len(folds) == 1 and None not in folds and len(places) == len(read):
                groups[node.kind, node.lines[1:] or node.lines, *folds, places].append(node)
    one_of: dict[Hashable, Node] = {}
    for group in groups.values():
        if len(group) >= _FEWEST:
            names = dict.fromkeys((group[0].lines[0], group[-1].lines[0]))
            lines = (" … ".join(names), *group[0].lines[1:], f"× {len(group)}")
            one_of.update(dict.fromkeys([node.key for node in group], group[0]._replace(lines=lines)))
    return one_of


def _joined(picture: Picture, one_of: Mapping[Hashable, Node]) -> Picture:
    """With each of these nodes replaced by the one for it."""
    nodes = dict.fromkeys(one_of.get(node.key, node) for node in picture.nodes)
    key_of = {key: one.key for key, one in one_of.items()}
    links = [
        link._replace(start=key_of.get(link.start, link.start), end=key_of.get(link.end, link.end))
        for link in picture.links
    ]
    path = dict.fromkeys(key_of.get(key, key) for key in picture.path)
    return Picture(tuple(nodes), tuple(dict.fromkeys(x for x in links if x.start != x.end)), tuple(path))
