"""What is computed in which loop, and which loops run together, tile by tile of the rows they share."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gradtape.compile.graph import Node
from gradtape.compile.native.lanes import REDUCTIONS, TRANSCENDENTAL
from gradtape.compile.native.nests import Body, Compute, Load, Nest, StuckError, collapsed, traced
from gradtape.compile.native.places import Affine, bounds, is_structural
from gradtape.compile.native.roots import Program, Root, is_product, roots

__all__ = ["Group", "in_row", "scheduled"]

_COSTLY = 8  # what is not computed twice, in units of a sum
_COSTS = {"divide": 4, "sqrt": 4, "mod": 20, "floordiv": 20, **dict.fromkeys(TRANSCENDENTAL, 20)}
_SMALL = 20_000  # below this work a nest runs at once, without tiles
_ROUNDS = 6
_MOST_STEPS = 8000  # of one loop's body
_MOST_NESTS = 12  # of a group that runs at once, since the time to compile it grows faster than their number
_MOST_PLACES = 4  # in which one loop computes what costs little


@dataclass
class Group:
    """Nests that run one after the other for some rows, then for the next.

    rows: into how many the outermost loop of each is divided; 1 where all runs at once. work: about how many
    sums it costs.
    """

    nests: list[Nest]
    rows: int
    made: set[int] = field(default_factory=set)
    work: int = 0


def scheduled(program: Program, outputs: Sequence[int]) -> list[Group]:
    """The groups of nests that put the outputs, and what they need in between, into memory."""
    program.kept = (
        set(outputs)
        | program.outputs
        | {x for node in program.nodes for x in node.outs if node.op.name in REDUCTIONS or is_product(node)}
    )
    program.kept &= set(program.maker)
    program.kept |= _across_nests(program)
    for rounds in range(_ROUNDS):
        nests = _nests(program)
        more = _worth_keeping(program, nests) if rounds < _ROUNDS - 1 else set()
        if not more:
            break
        program.kept |= more
    return _groups(program, [collapsed(nest) for nest in nests])


# -- roots to nests ------------------------------------------------------------------------------------------


def _live(program: Program) -> list[int]:
    """The values that live in memory, in an order in which they can be made."""
    return sorted(program.kept, key=lambda x: program.maker[x])


def _nests(program: Program) -> list[Nest]:
    known: dict[int, list[Nest]] = {}
    while True:
        try:
            return _placed(program, known)
        except StuckError as problem:
            before = set(program.kept)
            found = program.keep(problem.node)
            if not found:
                raise AssertionError(problem.node) from None
            if found & program.copied:
                program.kept |= _across_nests(program)
            first = min(program.maker[x] for x in found | (program.kept - before))
            known = {x: nests for x, nests in known.items() if program.maker[x] < first}


def _placed(program: Program, known: dict[int, list[Nest]]) -> list[Nest]:
    """Each root in the first nest over its domain that is not before what it needs.

    known: of values, the nests of their roots alone, which are added to.
    """
    together: list[list[Root]] = []
    alone: list[Nest] = []  # of the first of these
    steps: list[int] = []
    home: dict[int, int] = {}
    for value in _live(program):
        if value not in known:
            known[value] = [traced(program, [root]) for root in roots(program, value)]
        for nest in known[value]:
            (root,) = nest.roots
            earliest = home[value] + 1 if value in home else 0
            indices = _indices(nest)
            for x, place, _ in (read for body in nest.bodies for read in body.reads):
                buffer = program.buffer(x)
                if buffer not in home:
                    continue
                beside = together[home[buffer]]
                same = x == buffer not in indices and place == nest.variables_of(program.specs[x].shape)
                made_here = any(r.value == x and r.alone and not r.reduce for r in beside)
                fits = same and made_here and beside[0].domain == root.domain and root.alone
                earliest = max(earliest, home[buffer] + (not fits))
            own = len(nest.bodies[0].steps)
            at = earliest
            while at < len(together) and not (
                _may_join(root, together[at]) and steps[at] + own <= _MOST_STEPS
            ):
                at += 1
            if at == len(together):
                together.append([])
                alone.append(nest)
                steps.append(0)
            together[at].append(root)
            steps[at] += own
            home[value] = at
    return [
        nest if len(some) == 1 else traced(program, some) for nest, some in zip(alone, together, strict=True)
    ]


def _indices(nest: Nest) -> set[int]:
    """The values whose elements are read to be indices of others."""
    return {
        at.buffer
        for body in nest.bodies
        for step in body.steps
        if isinstance(step, Load)
        for lookup in step.lookups
        if isinstance(at := body.steps[lookup.step], Load)
    }


def _may_join(root: Root, others: Sequence[Root]) -> bool:
    return root.alone and others[0].alone and others[0].domain == root.domain


# -- what is computed once, and kept -------------------------------------------------------------------------


def _across_nests(program: Program) -> set[int]:
    """Values that cost more than to keep them, and are read both before and after some reduction or copy."""
    stage: dict[int, int] = {}  # how many of these, one after the other, a value waits for
    for node in program.nodes:
        before = max([stage.get(x, 0) for x in node.operands], default=0)
        stage.update(dict.fromkeys(node.outs, before + _ends_nest(program, node)))
    last: dict[int, int] = {}  # the stage of the last nest that reads a value
    for node in reversed(program.nodes):
        for out in node.outs:
            ends = _ends_nest(program, node)
            read = last.get(out, stage[out]) if is_structural(node) and not ends else stage[out] - ends
            last.update({x: max(read, last.get(x, 0)) for x in node.operands})
    costs: dict[int, int] = {}
    found = set()
    for node in program.nodes:
        for out in node.outs:
            costs[out] = _cost(node, costs)
            if out in program.kept:
                costs[out] = 0
            elif not is_structural(node) and costs[out] >= _COSTLY and last.get(out, 0) > stage[out]:
                costs[out] = 0
                found.add(out)
    return found


def _ends_nest(program: Program, node: Node) -> bool:
    """Whether what reads the node's result has to wait until all of it is there."""
    return node.op.name in REDUCTIONS or is_product(node) or node.outs[0] in program.copied


def _cost(node: Node, costs: Mapping[int, int]) -> int:
    """What the node costs with those before it, up to a bound."""
    own = 0 if is_structural(node) else _COSTS.get(node.op.name, 1)
    return min(own + sum(costs.get(x, 0) for x in dict.fromkeys(node.operands)), 1000)


def _worth_keeping(program: Program, nests: Sequence[Nest]) -> set[int]:
    """Values that are computed in several places and cost more than to keep them."""
    seen: dict[int, set[tuple[int, object]]] = {}
    widest: dict[int, int] = {}
    for i, nest in enumerate(nests):
        size = math.prod(nest.extents)
        for body in nest.bodies:
            for x, place in body.points:
                if x not in program.kept:
                    seen.setdefault(x, set()).add((i, place))
                    widest[x] = max(widest.get(x, 0), size)
    costs = _costs(program)
    found = set()
    for x, places in seen.items():
        size = program.size(x)
        again = len({nest for nest, _ in places}) > 1 or len(places) > _MOST_PLACES
        dear = (again or _moved(places)) and costs[x] >= _COSTLY
        inflated = widest[x] >= 2 * size and (costs[x] > 2 if size > 1 else costs[x] >= _COSTLY)
        if dear or inflated:
            found.add(x)
    users: dict[int, list[int]] = {}
    for node in program.nodes:
        for x in node.operands:
            users.setdefault(x, []).extend(node.outs)
    covered = {x for x in found if any(u in found and seen[u] == seen[x] for u in users.get(x, []))}
    return found - covered


def _moved(places: set[tuple[int, object]]) -> bool:
    """Whether one nest reads the value in several places."""
    return len(places) > len({nest for nest, _ in places})


def _costs(program: Program) -> dict[int, int]:
    """What it costs to compute each value where it is not kept, up to a bound."""
    costs: dict[int, int] = {}
    for node in program.nodes:
        cost = _cost(node, {x: costs.get(x, 0) for x in node.operands if x not in program.kept})
        costs.update(dict.fromkeys(node.outs, cost))
    return costs


# -- nests to groups -----------------------------------------------------------------------------------------


def _groups(program: Program, nests: Sequence[Nest]) -> list[Group]:
    """Each nest in the first group that it fits and that is not before what it needs."""
    groups: list[Group] = []
    home: dict[int, int] = {}
    for nest in nests:
        work = _work(nest)
        reads = {s.buffer for b in nest.bodies for s in b.steps if isinstance(s, Load)} & set(home)
        reads |= {root.value for root in nest.roots} & set(home)
        earliest = max((home[x] for x in reads), default=0)
        shared = next((g for g in range(earliest, len(groups)) if reads & groups[g].made), None)
        at = None
        for g in range(earliest, len(groups)):
            group = groups[g]
            rows = _rows(group, nest)
            if not rows or (work < _SMALL and group.rows > 1 and g != shared):
                continue
            if group.rows == 1 and (work >= _SMALL or len(group.nests) == _MOST_NESTS):
                continue
            if all(_local(program, n, rows, reads) for n in [*group.nests, nest]):
                group.rows = rows
                at = g
                break
        if at is None:
            at = len(groups)
            groups.append(Group([], 1 if work < _SMALL or not nest.extents else nest.extents[0]))
        groups[at].nests.append(nest)
        groups[at].work += work
        groups[at].made |= {root.value for root in nest.roots}
        home.update({root.value: at for root in nest.roots})
    return groups


def _work(nest: Nest) -> int:
    return sum(math.prod(end - start for start, end in body.box) * _body_work(body) for body in nest.bodies)


def _body_work(body: Body) -> int:
    return 1 + sum(_COSTS.get(s.node.op.name, 1) if isinstance(s, Compute) else 1 for s in body.steps)


def _rows(group: Group, nest: Nest) -> int:
    """The number of rows that both can be divided into; 0 if there is none that is many enough."""
    if group.rows == 1:
        return 1
    n = nest.extents[0] if nest.extents else 1
    if n % group.rows == 0:
        return group.rows
    return n if n > 1 and group.rows % n == 0 and (16 * n >= group.rows or n >= 1024) else 0


def _local(program: Program, nest: Nest, rows: int, shared: set[int]) -> bool:
    """Whether each row of the nest reads and writes, of the shared values, those parts that are its own."""
    if rows == 1:
        return True
    loads = [s for body in nest.bodies for s in body.steps if isinstance(s, Load) and s.buffer in shared]
    if any(load.lookups for load in loads):
        return False
    places = [(load.buffer, load.offset) for load in loads]
    places += [(r.value, out) for r, out in zip(nest.roots, nest.outs, strict=True) if r.value in shared]
    return all(in_row(offset, program.size(x), nest.extents, rows) for x, offset in places)


def in_row(offset: Affine, size: int, extents: Sequence[int], rows: int) -> bool:
    """Whether row r of the loops has offsets only in part r of `rows` equal parts of the size."""
    if size % rows or not extents or extents[0] % rows:
        return False
    step, part = extents[0] // rows, size // rows
    if dict(offset.terms).get(0, 0) * step != part:
        return False
    low, high = bounds(offset, [(0, step), *[(0, n) for n in extents[1:]]])
    return low >= 0 and high < part
