"""A tape's computation as a graph to be drawn: sources, ops, targets, and what connects them or does not."""

from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from gradtape.callers import frame_of_caller
from gradtape.errors import ArgumentError
from gradtape.explain.bindings import called, named_values
from gradtape.explain.connections import Connection, Ran, happened
from gradtape.explain.folding import folded
from gradtape.explain.journal import Assigned, Journal, Left, Watched
from gradtape.explain.picture import Link, Node, Picture
from gradtape.explain.ways import Memory, Way, ways_of
from gradtape.slices import IndexedSlices
from gradtape.tensor import Value

__all__ = ["drawn"]

_MOST = 1500  # boxes, which take Graphviz some ten seconds

_CUTS = {
    "no_derivative": "no derivative",
    "integer_cast": "to integers",
    "stop_gradient": "cut off",
    "stop_recording": "not recorded",
    "reset": "before reset",
    "own_rule": "rule gives None",
    "unwatched": "not watched",
    "watched_late": "watched too late",
    "numpy": "left the tape",
    "came_back": "as a constant",
    "assigned": "assigned",
}


def drawn(memory: Memory, targets: Sequence[Value], source: Value | None) -> Picture:
    """What the targets were made of (all that was computed, if there are none), with the way from the source
    to the first of them, and repetitive chains folded.
    """
    sketch = _Sketch(memory, targets, source)
    if memory.journal is None:
        sketch.from_edges()
    else:
        sketch.from_journal(memory.journal)
    picture = folded(sketch.finished())
    if len(picture.nodes) > _MOST:
        raise ArgumentError(
            f"draw: {len(picture.nodes)} boxes are more than a picture can show; draw(target) draws what one "
            "value was made of, and stop_recording leaves out what does not matter"
        )
    return picture


class _Sketch:
    """A picture in the making. Ops are known by their places in the journal, or by the keys of their results;
    all else by what it is and its key.
    """

    def __init__(self, memory: Memory, targets: Sequence[Value], source: Value | None) -> None:
        self.memory = memory
        self.targets = targets
        self.source = source
        self.names = named_values(frame_of_caller())
        self.nodes: dict[Hashable, Node] = {}
        self.links: dict[tuple[Hashable, Hashable], Link] = {}
        self.maker: dict[int, Hashable] = {}  # the node that each value came from last
        self.unread: dict[int, Hashable] = {}  # of values that nobody has read yet
        self.read: dict[tuple[Hashable, int], Hashable] = {}  # where each op had each of its operands from
        self.way: Way | None = None
        if source is not None and targets:
            self.way = ways_of(memory, [targets[0]._key], source._key).get(targets[0]._key)

    # -- what happened ---------------------------------------------------------------------------------------

    def from_edges(self) -> None:
        for key, operand, at, op in self.memory.edges or ():
            if key not in self.nodes:
                self._op(key, op, [(result, None) for result in (key if type(key) is tuple else (key,))])
            broken = "own_rule" if (key, at) in self.memory.cuts else None
            self._link(self._from(operand, "source", key), key, broken)

    def from_journal(self, journal: Journal) -> None:
        watched = {e.key: e.like for e in journal.events if isinstance(e, Watched)}
        known = {key: read.like for key, read in journal.variables.items()} | watched
        on_way = {link.at for link in self.way.links()} if self.way else set()
        for at, event in happened(journal, self.memory.watches_accessed, self.memory.cuts):
            if isinstance(event, Assigned):
                name = journal.variables[event.variable].name if event.variable in journal.variables else ""
                is_source = self.source is not None and event.variable == self.source._key
                if event.adds and not is_source:
                    self._link(self._from(event.variable, "source", at), at, None)
                self._op(at, "assign", [] if is_source else [(event.variable, None)], name)
                self._link(self._from(event.key, "constant", at), at, "assigned")
            elif isinstance(event, Left):
                if at in on_way:
                    self._op(at, event.how, [])
                    self._link(self._from(event.key, "constant", at), at, "numpy")
            elif event.op.results:
                self._ran(at, event, known)

    def _ran(self, at: int, ran: Ran, known: Mapping[int, Any]) -> None:
        op = ran.op
        starts = {}
        for _, key in ran.operands:
            kind = "source" if key in known else "constant"
            starts[key] = self._from(key, kind, at, known.get(key))
        self._op(at, op.op.title, list(op.results))
        for key, start in starts.items():
            self._link(start, at, self._break([c for c in ran.connections if c.operand == key]))
        for i, like in op.loose.items():
            if not isinstance(like, type) and like[0]:
                self.nodes[at, i] = Node((at, i), "constant", ("array", _spec(like)))
                self._link((at, i), at, None)

    def _break(self, connections: Sequence[Connection]) -> str | None:
        """What cuts an operand off from all results of an op, if derivatives flowed through it until then."""
        first = connections[0]
        cut = first.cut if all(c.cut for c in connections) else None
        if first.idle:
            is_source = self.source is not None and first.operand == self.source._key
            return (cut or first.idle) if is_source else None
        return cut

    # -- nodes and links -------------------------------------------------------------------------------------

    def _op(self, at: Hashable, name: str, results: Sequence[tuple[int, Any]], detail: str = "") -> None:
        likes = [_spec(like) for _, like in results if like]
        shown = [f"{likes[0]} and {len(likes) - 1} more"] if likes[2:] else likes
        self.nodes[at] = Node(at, "op", (name, *([detail] if detail else []), *shown))
        for key, _ in results:
            self.maker[key] = at
            self.unread[key] = at

    def _from(self, key: int, kind: str, at: Hashable, like: Any = None) -> Hashable:
        """The node that an operand of the op at `at` comes from."""
        self.unread.pop(key, None)
        if key not in self.maker:
            self.maker[key] = self._leaf(key, kind, like)
        self.read[at, key] = self.maker[key]
        return self.maker[key]

    def _leaf(self, key: int, kind: str, like: Any = None) -> Hashable:
        at = "leaf", key
        is_source = kind == "source" or (self.source is not None and key == self.source._key)
        like = like or self._known(key)
        lines = (self._name(key) or ("tensor" if is_source else "constant"), *([_spec(like)] if like else []))
        self.nodes[at] = Node(at, "source" if is_source else "constant", lines)
        return at

    def _name(self, key: int) -> str:
        """What to call a value; "" if the code which asks has no name for it, and it is no variable's."""
        name, value = self.names.get(key, (None, self.memory.variables.get(key)))
        return "" if value is None else called(value, name) or "variable"

    def _known(self, key: int) -> Any:
        """The shape and dtype of a value that has a name."""
        value = self.names[key][1] if key in self.names else self.memory.variables.get(key)
        return None if value is None else (value.shape, value.dtype)

    def _link(self, start: Hashable, end: Hashable, broken: str | None) -> None:
        """Connects two nodes; of several values between them, one that is followed is enough."""
        if start != end and (broken is None or (start, end) not in self.links):
            note = _CUTS.get(broken, "") if broken else ""
            self.links[start, end] = Link(start, end, broken is not None, note)

    # -- the picture -----------------------------------------------------------------------------------------

    def finished(self) -> Picture:
        """The picture of what leads to the targets."""
        ends = [self._target(x._key, _like_of(x)) for x in self.targets]
        if not ends:
            ends = [self._target(key, self._known(key)) if key in self.names else self._last(at)
                    for key, at in self.unread.items()]  # fmt: skip
        path: list[Hashable] = []
        if self.source is not None:
            key = self.source._key
            steps = [link.at for link in self.way.links()] if self.way else []
            start = self.read[steps[0], key] if steps else self.maker.get(key)
            start = self._leaf(key, "source") if start is None else start
            ends.append(start)
            if self.way is not None:
                path = [start, *steps, ends[0]]
                for a, b in pairwise(path):
                    if (a, b) not in self.links:  # a guess: what left the tape may have come back there
                        self._link(a, b, "came_back" if steps else None)
        needed = set(ends) | set(path)
        readers: dict[Hashable, list[Hashable]] = {}
        for start, end in self.links:
            readers.setdefault(end, []).append(start)
        waiting = list(needed)
        while waiting:
            for start in readers.get(waiting.pop(), ()):
                if start not in needed:
                    needed.add(start)
                    waiting.append(start)
        nodes = [node for key, node in self.nodes.items() if key in needed]
        links = [link for link in self.links.values() if link.start in needed and link.end in needed]
        return Picture(nodes, links, path)

    def _target(self, key: int, like: Any) -> Hashable:
        at = "target", key
        self.nodes[at] = Node(at, "target", (self._name(key) or "target", _spec(like)))
        if key in self.maker:
            self._link(self.maker[key], at, None)
        return at

    def _last(self, at: Hashable) -> Hashable:
        """An op whose result nobody has read, as a target."""
        self.nodes[at] = self.nodes[at]._replace(kind="target")
        return at


def _like_of(x: Value) -> Any:
    return (x.values if isinstance(x, IndexedSlices) else x).shape, x.dtype


def _spec(like: Any) -> str:
    shape, dtype = like
    return f"{dtype} {shape}"
