"""The paths that a function has taken for one kind of arguments: a tree of segments with guards between
them.
"""

import itertools
import threading
import weakref
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradtape.compile.direct import Direct, direct
from gradtape.compile.graph import Graph, Node, Spec
from gradtape.compile.kinds import Given
from gradtape.compile.passes import form
from gradtape.compile.plan import Plan, planned
from gradtape.compile.trace import Answer, Capture, End, Guard, Recording, Segment
from gradtape.recorders import captors
from gradtape.slices import IndexedSlices
from gradtape.tensor import Array, Tensor, Variable

__all__ = ["Branch", "Derivative", "Diverged", "Paths", "Ran"]


_MANY = 32  # values, from which on those that no later segment reads are let go of


class Derivative:
    """How cotangents of a path's results become those of what it was given, as a graph.

    wrt: the numbers of what is differentiated by; targets: the places of results among the leaves; seeds: the
    numbers of their cotangents; found: for each of wrt the number of its cotangent, those of the values and
    indices of an IndexedSlices, or none; is_possible: whether it can be compiled, which looks at no value and
    has no effects; needs: the numbers of the values of the forward run that it reads; reached: for each of
    wrt the places of the seeds that its cotangent depends on.
    """

    def __init__(
        self,
        wrt: tuple[int, ...],
        targets: tuple[int, ...],
        seeds: tuple[int, ...],
        found: tuple[tuple[int, ...], ...],
        nodes: Sequence[Node],
        is_possible: bool,
    ) -> None:
        self.wrt = wrt
        self.targets = targets
        self.seeds = seeds
        self.found = found
        self.nodes = nodes
        self.is_possible = is_possible
        self.needs: tuple[int, ...] = ()
        self.reached: tuple[set[int], ...] = (set[int](),) * len(wrt)
        self.plans: dict[tuple[int, ...], Plan] = {}


class Branch:
    """One segment in the tree: what follows it, by the answer that its guard gives, or how the path ends.

    live: the numbers that it and all that follows need from before it, without and with derivatives.
    """

    def __init__(self, segment: Segment, numbers: list[int]) -> None:
        self.segment = segment
        self.numbers = numbers
        self.made = {x for node in segment.nodes for x in node.outs}
        self.children: dict[Answer, Branch] = {}
        self.followers: list[Branch] = []  # the children, and those that are being compiled still
        self.end: End | None = None
        self.derivatives: list[Derivative] = []  # by several sets of what was followed
        self.live: tuple[set[int], set[int]] = (set(), set())
        self.plans: dict[bool, tuple[frozenset[int], Plan]] = {}

    @property
    def guard(self) -> Guard | None:
        return self.segment.guard

    def needs_after(self, derived: bool) -> set[int]:
        """The numbers that what follows needs."""
        if self.end is not None:
            more = [derivative.needs for derivative in self.derivatives] if derived else []
            return self.end.needs().union(*more)
        after: set[int] = set().union(*(follower.live[derived] for follower in self.followers))
        return after | ({self.guard.number} if self.guard else set())


class Diverged(Exception):  # noqa: N818
    """A call went where no call went before; outcomes: of the effects that it has had so far."""

    def __init__(self, outcomes: list[Any]) -> None:
        self.outcomes = outcomes


class Ran(NamedTuple):
    """What a compiled run leaves: its path, values by number, what it read, and what its effects gave."""

    path: list[Branch]
    values: dict[int, Any]
    variables: dict[int, Variable]
    captures: dict[int, Capture]
    outcomes: list[Any]

    @property
    def end(self) -> End:
        """How the path ended."""
        end = self.path[-1].end
        assert end is not None
        return end


class Paths:
    """All paths of one kind of arguments, which may grow, and be run, in many threads at once.

    Numbers are unique in the whole tree: those of a recording are translated when it is added.
    """

    def __init__(self, title: str, native: bool, arguments: int) -> None:
        self.title = title  # the arguments, for people
        self.native = native
        self.arguments = arguments  # how many; their numbers are the first
        self.lock = threading.RLock()
        self.root: Branch | None = None
        self.count = 0
        self._plans: dict[Any, Plan] = {}  # by the form of their graphs
        self.is_stale = False
        self.direct: Direct | None = None
        self.is_fresh = False  # whether the direct way's results are surely no views of arguments
        self.specs: dict[int, Spec] = {}
        self.constants: dict[int, Any] = {}
        self.variables: dict[int, Variable] = {}
        self.captures: dict[int, Capture] = {}
        self._new = itertools.count(arguments).__next__

    # -- growing ---------------------------------------------------------------------------------------------

    def add(
        self, recording: Recording, derivative: tuple[Derivative, Segment] | None, values: Mapping[int, Array]
    ) -> Ran:
        """Adds the path of one run, with its derivative if it has one, and compiles what is new.

        values: those of the recording, by number, which the run that is returned has.
        """
        with self.lock:
            path, translated = self._walked(recording)
            leaf = path[-1]
            if leaf.end is None:
                self.count += 1
                leaf.end = _end_translated(recording.end, translated)
            if derivative is not None:
                new = self._derivative(*derivative, translated)
                others = [d for d in leaf.derivatives if not set(d.wrt) <= set(new.wrt)]
                leaf.derivatives = [*others, new]
            for branch in reversed(path):
                self._update(branch)
            for branch in path:
                for derived in (False, True):
                    if not derived or derivative is not None:
                        self.plan(branch, derived)
            for branch, child, answer in zip(path, path[1:], recording.answers, strict=False):
                branch.children[answer] = child
            self.root = path[0]
            self.direct = self._direct(leaf) if leaf is self.root else None
            variables = {x: v for branch in path for x, v in branch.segment.variables.items()}
            captures = {x: c for branch in path for x, c in branch.segment.captures.items()}
            own = {translated[x]: value for x, value in values.items() if x in translated}
            outcomes = (
                [
                    [own[x] for x in node.outs]
                    for branch in path
                    for node in branch.segment.nodes
                    if not node.op.pure
                ]
                if own
                else []
            )
            return Ran(path, own, variables, captures, outcomes)

    def _direct(self, leaf: Branch) -> Direct | None:
        """The short way, for a lone path that needs nothing more."""
        end = leaf.end
        if end is None or any(kind in ("slices", "array") for kind, _ in end.leaves):
            return None
        if not all(node.op.pure for node in leaf.segment.nodes):
            return None
        plan = self.plan(leaf, False)
        self.is_fresh = plan.is_fresh and end.needs() <= set(plan.outputs)
        return direct(plan, end, self.arguments, self.variables, self.captures, self.constants)

    def _walked(self, recording: Recording) -> tuple[list[Branch], dict[int, int]]:
        """The branches of a recording, those that were not there yet made."""
        translated = {x: x for x in range(self.arguments)}
        path: list[Branch] = []
        for place, segment in enumerate(recording.segments):
            there = path[-1].children.get(recording.answers[place - 1]) if path else self.root
            if there is None or not _matches(there, segment, translated):
                new = self._branch(segment, translated)
                if path:
                    path[-1].followers = [x for x in path[-1].followers if x is not there] + [new]
                there = new
            path.append(there)
        return path, translated

    def _branch(self, segment: Segment, translated: dict[int, int]) -> Branch:
        numbers = []
        for x in _numbers(segment):
            if x not in translated:
                translated[x] = self._new()
            numbers.append(translated[x])
        own = _translated(segment, translated)
        self.specs.update(own.specs)
        self.constants.update(own.constants)
        self.variables.update(own.variables)
        self.captures.update(own.captures)
        if own.captures:
            captors.add(weakref.ref(self, captors.discard))
        return Branch(own, numbers)

    def rebound(self, key: int) -> None:
        """Hears that the tensor of this key is assigned to in place: paths that captured it are no longer
        right.
        """
        if any(capture.key == key for capture in self.captures.values()):
            self.is_stale = True
            self.direct = None

    def _derivative(self, found: Derivative, segment: Segment, translated: dict[int, int]) -> Derivative:
        own = self._branch(segment, translated).segment
        new = Derivative(
            tuple([translated[x] for x in found.wrt]),
            found.targets,
            tuple([translated[x] for x in found.seeds]),
            tuple([tuple([translated[x] for x in parts]) for parts in found.found]),
            own.nodes,
            found.is_possible,
        )
        if new.is_possible:
            made = {x for node in own.nodes for x in node.outs} | set(own.constants)
            read = {x for node in own.nodes for x in node.operands}.union(*new.found)
            new.needs = tuple(sorted(read - made - set(new.seeds) - set(self.constants)))
            new.reached = _reached(new)
        return new

    def _update(self, branch: Branch) -> None:
        """Works out anew what the branch and all that follows it need; other threads may be running it."""
        read = {x for node in branch.segment.nodes for x in node.operands}
        without, derived = [(branch.needs_after(d) | read) - branch.made for d in (False, True)]
        branch.live = without, derived

    # -- compiling -------------------------------------------------------------------------------------------

    def plan(self, branch: Branch, derived: bool) -> Plan:
        """What runs the branch, for a call with derivatives or without; made anew if more of it is needed."""
        there = branch.plans.get(derived)
        if there is not None and branch.needs_after(derived) & branch.made <= there[0]:
            return there[1]
        with self.lock:
            outputs = frozenset(branch.needs_after(derived) & branch.made)
            other = branch.plans.get(not derived)
            if other is not None and other[0] == outputs:
                plan = other[1]
            else:
                plan = self._planned(branch.segment.nodes, sorted(outputs))
            branch.plans[derived] = outputs, plan
            return plan

    def _planned(self, nodes: Sequence[Node], outputs: Iterable[int]) -> Plan:
        """A plan of the nodes; that of others that do the same, as the rounds of a loop do, serves again."""
        graph = self.graph(nodes, outputs)
        key = form(graph)
        if key not in self._plans:
            self._plans[key] = planned(graph, self.native)
        return self._plans[key]._replace(inputs=graph.inputs, outputs=graph.outputs)

    def graph(self, nodes: Sequence[Node], outputs: Iterable[int]) -> Graph:
        """The nodes as a graph, of what they read from elsewhere."""
        outs = tuple(outputs)
        made = {x for node in nodes for x in node.outs}
        read = dict.fromkeys(itertools.chain.from_iterable(node.operands for node in nodes))
        read.update(dict.fromkeys(outs))
        constants = {x: self.constants[x] for x in read if x in self.constants}
        inputs = tuple([x for x in read if x not in made and x not in constants])
        known = {x: self.specs[x] for x in (*read, *made) if x in self.specs}
        return Graph(inputs, outs, tuple(nodes), constants, known)

    # -- running ---------------------------------------------------------------------------------------------

    def run(self, arguments: Sequence[Array], derived: bool) -> Ran:
        """Runs the path that the arguments take; raises Diverged where it is not known, or cannot be run."""
        values: dict[int, Any] = dict(enumerate(arguments))
        variables: dict[int, Variable] = {}
        captures: dict[int, Capture] = {}
        outcomes: list[Any] = []
        path: list[Branch] = []
        branch = self.root
        while branch is not None:
            path.append(branch)
            segment = branch.segment
            if segment.variables:
                variables.update(segment.variables)
                values.update({x: variable._value for x, variable in segment.variables.items()})
            if segment.captures:
                captures.update(segment.captures)
                values.update({x: capture.value for x, capture in segment.captures.items()})
            there = branch.plans.get(derived)
            plan = self.plan(branch, derived) if there is None else there[1]
            try:
                outs = plan.run(outcomes, *[values[x] for x in plan.inputs])
            except Exception:
                break  # Python will tell what is wrong, and where
            values.update(zip(plan.outputs, outs, strict=True))
            guard = segment.guard
            if guard is None:
                return Ran(path, values, variables, captures, outcomes)
            branch = branch.children.get(guard.answer(values[guard.number]))
            if branch is not None and len(values) > _MANY + 2 * len(branch.live[derived]):
                live = branch.live[derived]
                values = {x: value for x, value in values.items() if x in live or x in variables}
        raise Diverged(outcomes)

    def value(self, ran: Ran, x: int) -> Any:
        """The value of this number, which may be a constant."""
        return self.constants[x] if x in self.constants else ran.values[x]

    def pulled(
        self, derivative: Derivative, wanted: tuple[int, ...], values: Mapping[int, Any]
    ) -> list[tuple[Array, ...]]:
        """The cotangents of those of `wrt` that are wanted, in the parts of `found`, by the values that it
        needs.
        """
        plan = derivative.plans.get(wanted)
        found = [parts for x, parts in zip(derivative.wrt, derivative.found, strict=True) if x in wanted]
        if plan is None:
            with self.lock:
                outs = dict.fromkeys(x for parts in found for x in parts)
                plan = derivative.plans[wanted] = self._planned(derivative.nodes, outs)
        made = dict(zip(plan.outputs, plan.run([], *[values[x] for x in plan.inputs]), strict=True))
        return [tuple([made[x] for x in parts]) for parts in found]

    # -- the end ---------------------------------------------------------------------------------------------

    def finished(
        self,
        ran: Ran,
        call: Given,
        places: Sequence[int] = (),
        told: Callable[[Sequence[Tensor]], Sequence[Tensor]] | None = None,
    ) -> Any:
        """The result of a run, after which variables have their new values; told: what tapes are told of, and
        by whom. Raises Diverged if the run lacks some of it.
        """
        end = ran.end
        loose = [x for x in call.tensors if isinstance(x, np.ndarray)]

        def own(x: int) -> Any:
            value = self.value(ran, x)
            if loose and any(np.may_share_memory(value, array) for array in loose):
                return value.copy()
            return value

        def made(kind: str, leaf: Any) -> Any:
            if kind == "tensor":
                return Tensor(own(leaf))
            if kind == "slices":
                return IndexedSlices(Tensor(own(leaf[0])), Tensor(own(leaf[1])), leaf[2])
            return leaf.copy() if kind == "array" else leaf

        try:
            leaves = [made(kind, leaf) for kind, leaf in end.leaves]
            assigned = [(variable, own(x)) for variable, x in end.assigned]
        except KeyError:  # the path was added meanwhile, and needs more than the segments before it gave then
            raise Diverged(ran.outcomes) from None
        for variable, value in assigned:
            variable._value = value
        if told is not None:
            for i, tensor in zip(places, told([leaves[i] for i in places]), strict=True):
                leaves[i] = tensor
        return end.rebuild(leaves)

    def guards(self) -> Iterator[tuple[Guard, int]]:
        """The guards of all paths, and how many ways lead on from each."""
        waiting = [self.root]
        while waiting:
            branch = waiting.pop()
            if branch is not None:
                waiting += branch.children.values()
                if branch.guard is not None:
                    yield branch.guard, len(branch.children)


# -- from one numbering to another ---------------------------------------------------------------------------


def _numbers(segment: Segment) -> list[int]:
    """The numbers that came up in a segment, in order."""
    return sorted(segment.specs.keys() | segment.constants.keys())


def _translated(segment: Segment, numbers: Mapping[int, int]) -> Segment:
    own = Segment()
    own.nodes = [
        node._replace(
            operands=tuple([numbers[x] for x in node.operands]), outs=tuple([numbers[x] for x in node.outs])
        )
        for node in segment.nodes
    ]
    own.specs = {numbers[x]: spec for x, spec in segment.specs.items()}
    own.constants = {numbers[x]: value for x, value in segment.constants.items()}
    own.variables = {numbers[x]: variable for x, variable in segment.variables.items()}
    own.captures = {numbers[x]: capture for x, capture in segment.captures.items()}
    guard = segment.guard
    own.guard = None if guard is None else guard._replace(number=numbers[guard.number])
    return own


def _reached(derivative: Derivative) -> tuple[set[int], ...]:
    """The seeds, by place, that each cotangent depends on; all of them if it follows from none, being
    constant.
    """
    on: dict[int, set[int]] = {x: {place} for place, x in enumerate(derivative.seeds)}
    for node in derivative.nodes:
        both: set[int] = set().union(*(on.get(x, ()) for x in node.operands))
        on.update(dict.fromkeys(node.outs, both))
    every = set(range(len(derivative.seeds)))
    return tuple([set().union(*(on.get(x, ()) for x in parts)) or every for parts in derivative.found])


def _end_translated(end: End, numbers: dict[int, int]) -> End:
    def leaf(kind: str, value: Any) -> tuple[str, Any]:
        if kind == "tensor":
            return kind, numbers[value]
        return (kind, (numbers[value[0]], numbers[value[1]], value[2])) if kind == "slices" else (kind, value)

    return End(
        tuple([leaf(*x) for x in end.leaves]),
        end.rebuild,
        tuple([(variable, numbers[x]) for variable, x in end.assigned]),
        end.has_rules,
    )


def _matches(branch: Branch, segment: Segment, translated: dict[int, int]) -> bool:
    """Whether the segment is that of the branch; then its numbers are translated to the branch's."""
    own = _numbers(segment)
    if len(own) != len(branch.numbers):
        return False
    new = dict(zip(own, branch.numbers, strict=True))
    if not _translated(segment, ChainMap(new, translated)).does_as(branch.segment):
        return False
    translated.update(new)
    return True
