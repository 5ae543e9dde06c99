"""Loop nests: for each point of a domain, what its roots take, traced back to loads and elementwise ops."""

import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gradtape.compile.graph import Node
from gradtape.compile.native.places import (
    ZERO,
    Affine,
    CutError,
    Fill,
    OpaqueError,
    Pick,
    Place,
    Ranges,
    RefineError,
    depth,
    flat,
    is_structural,
    source,
    stretched,
    variable,
)
from gradtape.compile.native.roots import Constant, Program, Root

__all__ = ["Body", "Compute", "Load", "Lookup", "Nest", "StuckError", "collapsed", "traced"]

# Beyond these, a value is put into memory instead:
_MOST_BOXES = 12  # pieces that a domain is cut into
_MOST_PLACES = 16  # in which one body computes a value
_MOST_LOOKUPS = 8  # one inside the other


class Lookup(NamedTuple):
    """A part of an offset that is data: `factor` times the integer of an earlier step, which is checked."""

    step: int
    factor: int
    length: int
    wraps: bool


class Load(NamedTuple):
    """One step of a body: an element of a buffer, at an offset that is affine in the loops."""

    buffer: int
    offset: Affine
    lookups: tuple[Lookup, ...] = ()


class Compute(NamedTuple):
    """One step of a body: an elementwise op on earlier steps; None for an operand that is a Python number."""

    node: Node
    operands: tuple[int | None, ...]


@dataclass
class Body:
    """What is evaluated at each point of a box of the domain: steps, and those that each root takes."""

    box: tuple[tuple[int, int], ...]
    steps: list[Load | Constant | Compute]
    taken: list[tuple[int, ...]]
    points: list[tuple[int, Place]] = field(
        default_factory=list
    )  # the elementwise values computed, with where
    reads: list[tuple[int, Place, Affine]] = field(default_factory=list)  # values read from memory


@dataclass
class Nest:
    """Roots over one domain as loops, the outermost first; outs: the offsets where each root stores."""

    roots: list[Root]
    extents: list[int]
    cuts: list[list[int]]  # of each loop: where it begins and ends, and is cut
    outs: list[Affine]
    bodies: list[Body]
    variables: Place

    def variables_of(self, shape: tuple[int, ...]) -> Place:
        """The place that goes over all of a value of the shape, whose axes are the domain's."""
        left = iter(self.variables)
        return tuple([ZERO if n == 1 else next(left, Affine(-1)) for n in shape])

    def reduced(self, root: int) -> list[bool]:
        """Of each loop, whether the root reduces over it."""
        if not self.roots[root].reduce:
            return [False] * len(self.extents)
        kept = {atom for atom, _ in self.outs[root].terms}
        return [loop not in kept for loop in range(len(self.extents))]


class StuckError(Exception):
    """The node's value must be put into memory, or that of a reshape's operand, for the loops to be told."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.node = node


def traced(program: Program, together: Sequence[Root]) -> Nest:
    """The nest of roots that share a domain; values that the program keeps are loaded, but for theirs."""
    factors = [[n] for n in together[0].domain]
    cuts: dict[int, set[int]] = {}
    own = {root.value for root in together if root.alone and not root.reduce}
    program.kept -= own
    try:
        while True:
            extents = [n for axis in factors for n in axis]
            segments = [sorted({0, n, *cuts.get(loop, ())}) for loop, n in enumerate(extents)]
            boxes = list(itertools.product(*[list(itertools.pairwise(s)) for s in segments]))
            variables = _variables(factors)
            places = [[(x, _over(p, variables)) for x, p in root.factors] for root in together]
            try:
                bodies = [_body(program, places, box) for box in boxes]
            except _PlaceError as problem:
                _resolved(problem, factors, extents, cuts)
                if len(boxes) > _MOST_BOXES:
                    raise StuckError(problem.node) from None
                continue
            outs = [flat(_over(root.out, variables), program.specs[root.value].shape) for root in together]
            return Nest(list(together), extents, segments, outs, bodies, variables)
    finally:
        program.kept |= own


def _resolved(
    problem: "_PlaceError", factors: list[list[int]], extents: list[int], cuts: dict[int, set[int]]
) -> None:
    """Makes two loops of one, or cuts one, as the problem asks; raises StuckError if that does not help."""
    cause = problem.cause
    if isinstance(cause, CutError) and cause.at not in cuts.setdefault(cause.loop, set()):
        cuts[cause.loop].add(cause.at)
        return
    if isinstance(cause, RefineError):
        n, length = extents[cause.loop], cause.length
        if 1 < length < n and n % length == 0:
            loop = cause.loop
            for axis in factors:
                if loop < len(axis):
                    axis[loop : loop + 1] = [n // length, length]
                    cuts.clear()
                    return
                loop -= len(axis)
    raise StuckError(problem.node)


class _PlaceError(Exception):
    """Where a place could not be told."""

    def __init__(self, node: Node, cause: Exception) -> None:
        super().__init__(node, cause)
        self.node, self.cause = node, cause


def _variables(factors: Sequence[Sequence[int]]) -> Place:
    """Each axis of the domain in terms of the loops that it was made into."""
    loop, found = 0, []
    for axis in factors:
        total, stride = ZERO, 1
        for i in reversed(range(len(axis))):
            total = total.plus(variable(loop + i).times(stride))
            stride *= axis[i]
        found.append(total)
        loop += len(axis)
    return tuple(found)


def _over(place: Place, variables: Place) -> Place:
    """A place in terms of axes, in terms of what these are."""
    found = []
    for x in place:
        total = Affine(x.constant)
        for axis, factor in x.terms:
            total = total.plus(variables[axis].times(factor))
        found.append(total)
    return tuple(found)


class _Tracer:
    """Follows elements back to where they come from, for one box of a domain."""

    def __init__(self, program: Program, ranges: Ranges) -> None:
        self.program = program
        self.ranges = ranges
        self.wanted: dict[tuple[int, Place], list[Any]] = {}  # of elementwise values: the operands' points
        self.queue: list[tuple[int, int]] = []
        self.waiting: dict[int, list[tuple[int, Place]]] = {}  # by the position of the node that makes them

    def point(self, x: int, place: Place) -> Any:
        """What is at the place: None for a Python number, a Constant, or the point of a leaf or of an op."""
        program = self.program
        while True:
            buffer = program.buffer(x)
            if buffer in program.constants:
                if buffer not in program.specs:
                    return None
                constant = program.constant(buffer)
                if constant is not None:
                    return constant
            if buffer is not None:
                for affine in place:
                    for atom, _ in affine.terms:
                        if type(atom) is Pick:
                            self.point(atom.value, atom.place)
                return (x, place)
            node = program.node(x)
            if not is_structural(node):
                self.want(x, place)
                return (x, place)
            if node.op.name in ("take", "gather"):
                x, place = self.picked(node, place)
                continue
            try:
                found = source(node, node.outs.index(x), place, program.specs, self.ranges)
            except (OpaqueError, RefineError, CutError) as cause:
                raise _PlaceError(node, cause) from None
            if isinstance(found, Fill):
                return Constant(found.number, program.specs[x].dtype)
            x, place = node.operands[found.operand], found.place

    def picked(self, node: Node, place: Place) -> tuple[int, Place]:
        """Reading the first axis of x at integers that are data."""
        x, indices = node.operands
        if depth(place) >= _MOST_LOOKUPS:
            raise StuckError(node)
        rank = len(self.program.specs[indices].shape)
        length = self.program.specs[x].shape[0]
        at = self.point(indices, place[:rank])
        if isinstance(at, Constant):
            number = int(at.value)
            if node.op.name == "take" and number < 0:
                number += length
            if not 0 <= number < length:
                raise _PlaceError(node, OpaqueError())
            return x, (Affine(number), *place[rank:])
        if depth(at[1]) >= _MOST_LOOKUPS and self.program.buffer(indices) is None:
            raise StuckError(self.program.node(indices))
        pick = Pick(at[0], at[1], length, node.op.name == "take")
        return x, (Affine(0, ((pick, 1),)), *place[rank:])

    def want(self, x: int, place: Place) -> None:
        if (x, place) in self.wanted:
            return
        self.wanted[x, place] = []
        position = self.program.maker[x]
        if position not in self.waiting:
            self.waiting[position] = []
            heapq.heappush(self.queue, (-position, position))
        self.waiting[position].append((x, place))
        if len(self.waiting[position]) > _MOST_PLACES:
            raise StuckError(self.program.nodes[position])

    def follow(self) -> None:
        """Finds the operands of all that is wanted, the last first."""
        program = self.program
        while self.queue:
            _, position = heapq.heappop(self.queue)
            node = program.nodes[position]
            shape = program.specs[node.outs[0]].shape
            for x, place in self.waiting.pop(position):
                full = place[len(place) - len(shape) :]
                operands = self.wanted[x, place]
                for operand in node.operands:
                    given = program.specs[operand].shape if operand in program.specs else ()
                    operands.append(self.point(operand, stretched(full, given)))


def _body(program: Program, places: Sequence[Sequence[tuple[int, Place]]], box: Ranges) -> Body:
    tracer = _Tracer(program, box)
    ends = [[tracer.point(x, place) for x, place in factors] for factors in places]
    tracer.follow()
    body = Body(tuple(box), [], [])
    numbers: dict[Any, int] = {}

    def step(key: Any, made: Load | Constant | Compute) -> int:
        if key not in numbers:
            numbers[key] = len(body.steps)
            body.steps.append(made)
        return numbers[key]

    def number(point: Any) -> int:
        if isinstance(point, Constant):
            return step((Constant, repr(point.value), point.dtype), point)
        if point in tracer.wanted:
            return numbers[point]
        x, place = point
        buffer = program.buffer(x)
        assert buffer is not None
        offset = flat(place, program.specs[x].shape)
        body.reads.append((x, place, offset))
        lookups = []
        for atom, factor in offset.terms:
            if type(atom) is Pick:
                at = number(tracer.point(atom.value, atom.place))
                lookups.append(Lookup(at, factor, atom.length, atom.wraps))
        affine = Affine(offset.constant, tuple([(a, f) for a, f in offset.terms if type(a) is int]))
        load = Load(buffer, affine, tuple(lookups))
        return step(load, load)

    for x, place in sorted(tracer.wanted, key=lambda point: program.maker[point[0]]):
        operands = [None if p is None else number(p) for p in tracer.wanted[x, place]]
        step((x, place), Compute(program.node(x), tuple(operands)))
        body.points.append((x, place))
    body.taken = [tuple([number(p) for p in points]) for points in ends]
    return body


# -- fewer loops ---------------------------------------------------------------------------------------------


def collapsed(nest: Nest) -> Nest:
    """The same with every two loops made one where all offsets go on from the one to the other."""
    loop = len(nest.extents) - 2
    while loop >= 0:
        if _is_one(nest, loop):
            nest = _joined(nest, loop)
        loop -= 1
    return nest


def _offsets(nest: Nest) -> Iterable[Affine]:
    yield from nest.outs
    for body in nest.bodies:
        for step in body.steps:
            if isinstance(step, Load):
                yield step.offset


def _is_one(nest: Nest, loop: int) -> bool:
    if len(nest.cuts[loop]) > 2 or len(nest.cuts[loop + 1]) > 2:
        return False
    n = nest.extents[loop + 1]
    for offset in _offsets(nest):
        terms: Mapping[Any, int] = dict(offset.terms)
        if terms.get(loop, 0) != n * terms.get(loop + 1, 0):
            return False
    return True


def _joined(nest: Nest, loop: int) -> Nest:
    def affine(x: Affine) -> Affine:
        kept = [(a if a < loop else a - 1, f) for a, f in x.terms if a != loop]
        return Affine(x.constant, tuple(kept))

    n = nest.extents[loop] * nest.extents[loop + 1]
    bodies = []
    for body in nest.bodies:
        steps = [s._replace(offset=affine(s.offset)) if isinstance(s, Load) else s for s in body.steps]
        box = (*body.box[:loop], (0, n), *body.box[loop + 2 :])
        bodies.append(Body(box, steps, body.taken, body.points, body.reads))
    return Nest(
        nest.roots,
        [*nest.extents[:loop], n, *nest.extents[loop + 2 :]],
        [*nest.cuts[:loop], [0, n], *nest.cuts[loop + 2 :]],
        [affine(x) for x in nest.outs],
        bodies,
        nest.variables,
    )
