"""Finding out why a gradient is None, by what a tape still knows and by what the user's code calls things."""

import math
from collections.abc import Sequence

from gradtape.callers import Site, frame_of_caller, place
from gradtape.explain.bindings import Binding, bindings, called, made_from, name_of, named_values
from gradtape.explain.explanation import KINDS, Explanation, Step
from gradtape.explain.journal import Journal
from gradtape.explain.sweeps import made_of
from gradtape.explain.ways import Leaf, Link, Memory, Way, first_use, leaves, origin, ways_of
from gradtape.tensor import Value, Variable

__all__ = ["explained"]


def explained(memory: Memory, targets: Sequence[Value], source: Value) -> Explanation:
    """Why the gradient of the sum of targets by source is None, or how they are connected."""
    if not memory.started:
        return _Case(memory, targets[0], source, None).said("never_began")
    ways = ways_of(memory, [target._key for target in targets], source._key)
    none = math.inf, math.inf
    target = min(targets, key=lambda x: ways[x._key].cost if x._key in ways else none)
    case = _Case(memory, target, source, ways.get(target._key))
    return case.connected() or case.by_dtype() or case.by_journal() or case.by_what_is_left()


class _Case:
    """One question: a target, a source, what the tape knows, and the code that asks."""

    def __init__(self, memory: Memory, target: Value, source: Value, way: Way | None) -> None:
        self.memory = memory
        self.journal = memory.journal
        self.target = target
        self.source = source
        self.frame = frame_of_caller()
        self.names = named_values(self.frame)
        self.way = way
        self.links = way.links() if way else []

    # -- one cause after the other ---------------------------------------------------------------------------

    def connected(self) -> Explanation | None:
        whole = self.way is not None and not any(link.broken for link in self.links)
        if not (whole and _is_smooth(self.source) and _is_smooth(self.target)):
            return None
        if (problem := self.memory.problem) is not None:
            at = next((link for link in self.links if str(problem).startswith(link.op)), None)
            return self.said("raises", at, path=self.links, what=f"{type(problem).__name__}: {problem}")
        return self.said("connected", path=self.links)

    def by_dtype(self) -> Explanation | None:
        for kind, x in (("integer_source", self.source), ("integer_target", self.target)):
            if not _is_smooth(x):
                made = self.journal and origin(self.journal, x._key)
                op = made or (self.journal and first_use(self.journal, x._key))
                if not op:
                    return self.said(kind, what=str(x.dtype))
                at = Link(op.op.title, op.site)
                details = [f"{at.op} {'made' if made else 'got'} it at {_place(at)}"]
                return self.said(kind, at, what=str(x.dtype), details=details)
        return None

    def by_journal(self) -> Explanation | None:
        """The first break on the way, or why there is no way."""
        if self.journal is None:
            return None
        if self.way is None or 0 < self.memory.ended < self.target._key:
            return self._after() or self._before(self.journal) or self._unrelated(self.journal)
        i, link = next((i, link) for i, link in enumerate(self.links) if link.broken)
        path = self.links[: i + 1]
        details = [_place(link)]
        if link.broken == "unwatched":
            if (replaced := self._replaced()) is not None:
                return replaced
            details.insert(0, self._why_unwatched())
        if link.broken == "numpy" and self.links[i + 1 :]:
            back = self.links[i + 1]
            details.append(f"{back.op} got a constant afterwards: {_place(back)}")
        return self.said(link.broken or "", link, path=path, what=link.what, details=details)

    def _after(self) -> Explanation | None:
        """If the target or the source was made after the block."""
        for x in (self.target, self.source):
            if 0 < self.memory.ended < x._key and not isinstance(x, Variable):
                if x is self.source and (replaced := self._replaced()) is not None:
                    return replaced
                block = self.journal.block if self.journal else None
                # where a list was bound is not where its item was made
                bound = [b for b in bindings(self.frame, x) if "[" not in b.name]
                bound = [b for b in bound if block is None or _follows(b.site, block)]
                bound = [b for b in bound if b.passed] or bound
                details = [place(b.site) for b in bound]
                if block is not None:
                    details.append(f"the block begins at {place(block)}")
                return self.said("after", _alone(bound), what=self._name(x), details=details)
        return None

    def _replaced(self) -> Explanation | None:
        """If the source has the name of a variable that the code gave another value."""
        bound = [] if isinstance(self.source, Variable) else bindings(self.frame, self.source)
        renewals = [b for b in bound if b.renews]
        first = [b for b in bound if not b.renews]
        is_attribute = not first and all("." in b.name for b in bound)  # which a model's are, made elsewhere
        if renewals and (is_attribute or any("Variable" in b.loads for b in first)):
            return self.said("replaced", _alone(renewals), details=[place(b.site) for b in renewals])
        return None

    def _before(self, journal: Journal) -> Explanation | None:
        """If the target was made before the block, or of what the code has made of the source until then."""
        if self.target._key < self.memory.started and not isinstance(self.target, Variable):
            return self.said("before", what=self._name(self.target))
        for leaf in leaves(journal, self.target._key):
            if self.source._key < leaf.key < self.memory.started and leaf.key in self.names:
                name, value = self.names[leaf.key]
                site = None if isinstance(value, Variable) else made_from(self.frame, value, self.source)
                if site is not None:
                    details = [place(site)] + ([f"{leaf.op} got it: {place(leaf.site)}"] if leaf.site else [])
                    return self.said("before", Link("", site), what=name, details=details)
        return None

    def _unrelated(self, journal: Journal) -> Explanation:
        found = leaves(journal, self.target._key)
        found.sort(key=lambda leaf: leaf.key not in journal.variables)
        if self.source._key in ways_of(self.memory, [], self.target._key):
            source, target = self._name(self.source), self._name(self.target)
            return self.said("unrelated", details=[f"{source} depends on {target}: the wrong way round?"])
        if [leaf.key for leaf in found] == [self.target._key]:
            return self.said("unrelated", details=[f"no op of the block made {self._name(self.target)}"])
        names = [self._told(journal, leaf) for leaf in found[:3]]
        more = f", and on {len(found) - 3} more" if found[3:] else ""
        return self.said("unrelated", details=[f"it depends on {', '.join(names)}{more}"] if names else [])

    def _told(self, journal: Journal, leaf: Leaf) -> str:
        if leaf.key in self.names:
            name = self._name(self.names[leaf.key][1])
        elif leaf.key in journal.variables:
            name = journal.variables[leaf.key].name.removesuffix(":0")
        else:
            name = "a tensor" if leaf.key < self.memory.started else "a constant"
        if leaf.key < self.memory.started and leaf.key not in journal.variables:
            name = f"{name}, made before the block"
        return f"{name} (by {leaf.op}, {place(leaf.site)})" if leaf.site else name

    def by_what_is_left(self) -> Explanation:
        """What can be told without a journal."""
        memory, source = self.memory, self.source
        if (after := self._after()) is not None:
            return after
        if self.way is not None:
            broken = next(link for link in self.links if link.broken)
            return self.said(broken.broken or "", broken, path=self.links)
        if isinstance(source, Variable) and source._key not in memory.variables:
            if source.trainable and memory.watches_accessed:
                return self.said("not_recorded", details=["nothing that the tape recorded reads it"])
            return self.said("unwatched", details=[self._why_unwatched()])
        is_older = source._key < memory.started and not isinstance(source, Variable)
        is_unknown = memory.edges is not None and source._key not in memory.live
        if is_unknown or (is_older and source._key not in memory.told):
            return self._replaced() or self.said("unwatched", details=[self._why_unwatched()])
        if memory.edges is None:
            return self.said("forgotten")
        reached = made_of(memory.edges, [self.target._key])
        found = [self._name(variable) for key, variable in memory.variables.items() if key in reached]
        details = [f"recorded is that it depends on {', '.join(found)}"] if found else []
        return self.said("not_recorded", details=details)

    # -- words -----------------------------------------------------------------------------------------------

    def said(
        self,
        kind: str,
        at: Link | None = None,
        *,
        path: Sequence[Link] = (),
        what: str = "",
        details: Sequence[str] = (),
    ) -> Explanation:
        words = KINDS[kind]
        target, source = self._name(self.target), self._name(self.source)
        name = name_of(self.frame, self.source) or "it"
        fields = {"target": target, "source": source, "name": name, "what": what, "op": at.op if at else ""}
        return Explanation(
            kind=kind,
            headline=f"The gradient of {target} by {source} {words.headline.format(**fields)}",
            details=tuple(details),
            remedy=words.remedy.format(**fields),
            op=(at.op or None) if at else None,
            filename=at.site.filename if at and at.site else None,
            line=at.site.line if at and at.site else None,
            path=tuple(Step(s.op, s.site and s.site.filename, s.site and s.site.line) for s in path),
        )

    def _name(self, x: Value) -> str:
        """What to call the value."""
        kind = "variable" if isinstance(x, Variable) else "tensor"
        return called(x, name_of(self.frame, x)) or f"a {x.dtype} {kind} of shape {x.shape}"

    def _why_unwatched(self) -> str:
        x = self.source
        if not isinstance(x, Variable):
            renewals = [b.site for b in bindings(self.frame, x) if b.renews]
            if renewals:
                return (
                    "it is a tensor, and unasked a tape follows only variables; if it was one before "
                    f"{place(renewals[-1])}, keep that, and change its value by assign"
                )
            return "it is a tensor, and unasked a tape follows only variables"
        if not x.trainable:
            return "it is a variable with trainable=False, which a tape follows only when told to"
        return "the tape was made with watch_accessed_variables=False"


def _is_smooth(x: Value) -> bool:
    return x.dtype.kind in "fc"


def _place(at: Link) -> str:
    return place(at.site) if at.site else at.op


def _alone(found: Sequence[Binding]) -> Link | None:
    """The place, if it is the only one."""
    return Link("", found[0].site) if len(found) == 1 else None


def _follows(site: Site, block: Site) -> bool:
    """Whether a line stands below the one that a tape's block begins at, as far as that can be told."""
    return site.code is not block.code or site.offset > block.offset
