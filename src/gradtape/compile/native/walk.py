"""The loops of one nest: around vectors of the innermost, with reductions in registers where they fit."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradtape.compile.native.lanes import REDUCTIONS, TRANSCENDENTAL, cast, computed
from gradtape.compile.native.nests import Body, Compute, Load, Nest
from gradtape.compile.native.places import Affine
from gradtape.compile.native.roots import Constant
from gradtape.compile.native.text import FLOATS, KINDS, Lanes, itemsize, literal, typed

if TYPE_CHECKING:
    from gradtape.compile.native.emit import Function

__all__ = ["BLOCK", "Index", "Walk"]

BLOCK = 4096  # numbers of a long loop that are added up before their sum is added to the others
_UNROLLED = 4  # accumulators that a short reduction along the innermost loop keeps, to hide its latency
_SHORT = 12  # steps of a body that is short
_COLUMNS = 8  # vectors of sums down the columns that are kept in registers
Index = str  # of a loop: its variable, or a number
Box = tuple[tuple[int, int], ...]


class Walk:
    """Writes one nest into a function; low and high: the range of the outermost loop, if it is not all of it.

    A root that is reduced over the last loops, from number `scope` on, is so in registers, whose lanes are
    combined at the end; so is one that is reduced over all these but the very last, if that is short. Where
    loops around these are reduced over as well, the registers are then combined with what is in memory.
    """

    def __init__(self, function: "Function", nest: Nest, low: str | None, high: str | None) -> None:
        self.f, self.t, self.nest = function, function.t, nest
        self.low, self.high = low, high
        self.depth = len(nest.extents)
        self.kinds = [KINDS[function.program.specs[root.value].dtype] for root in nest.roots]
        self.reduced = [nest.reduced(i) for i in range(len(nest.roots))]
        self.bodies = {body.box: body for body in nest.bodies}
        self.levels = {body.box: _levels(body) for body in nest.bodies}
        self.width = function.bytes // max(map(itemsize, self._kinds()), default=1)
        longest = max(len(body.steps) for body in nest.bodies)
        self.straight = self._is_straight(longest)
        self.scope = [self._scope(reduced) for reduced in self.reduced]
        self.across = across = any(r and r[-1] for r in self.reduced)
        costly = any(
            isinstance(s, Compute) and s.node.op.name in TRANSCENDENTAL for b in nest.bodies for s in b.steps
        )
        self.unrolled = _UNROLLED if across and longest <= _SHORT and not (costly or self.straight) else 1
        self.registers: dict[tuple[int, int, int], str] = {}

    def _kinds(self) -> set[str]:
        specs = self.f.program.specs
        values = [root.value for root in self.nest.roots]
        for body in self.nest.bodies:
            values += [s.buffer for s in body.steps if isinstance(s, Load)]
            values += [s.node.outs[0] for s in body.steps if isinstance(s, Compute)]
        return {KINDS[specs[x].dtype] for x in values} - {"i1"}

    def _is_straight(self, steps: int) -> bool:
        """Whether the innermost loop is short enough to be written out, for sums down its columns."""
        if self.depth < 2 or len(self.nest.cuts[-1]) > 2:
            return False
        vectors = -(-self.nest.extents[-1] // self.width)
        columns = any(r[-2] and not r[-1] for r in self.reduced)
        return columns and vectors <= _COLUMNS and vectors * steps <= _COLUMNS * _SHORT

    def _scope(self, reduced: Sequence[bool]) -> int:
        """The loop from which on the reduction is in registers; one beyond the last if it is not."""
        if not reduced or not any(reduced):
            return self.depth
        last = self.depth if reduced[-1] else self.depth - 1
        if not reduced[-1] and not (self.straight and reduced[-2]):
            return self.depth
        return next(s for s in range(last) if all(reduced[s:last]))

    def _in_memory(self, i: int) -> bool:
        """Whether the reduction adds to what is in memory, since loops around it are reduced over, too."""
        reduced = self.reduced[i]
        return (
            self.nest.roots[i].adds
            or any(reduced[: self.scope[i]])
            or bool(self.low is not None and reduced and reduced[0])
        )

    def write(self) -> None:
        for i, root in enumerate(self.nest.roots):
            if root.reduce and self._in_memory(i) and not root.adds and not (self.low and self.reduced[i][0]):
                size = self.f.program.size(root.value)
                first, end = "0", str(size)
                if self.low is not None:
                    part = size // self.nest.extents[0]
                    first = self.t.emit(f"mul nsw i64 {self.low}, {part}")
                    end = self.t.emit(f"mul nsw i64 {self.high}, {part}")
                self.f.fill(root.value, first, end, root.reduce)
        if self.nest.extents:
            self._axis(0, (), [], {})
        else:
            self._point((), [], 1, 0, {})

    # -- loops -----------------------------------------------------------------------------------------------

    def _axis(self, level: int, box: Box, loops: list[Index], found: Mapping[int, Lanes]) -> None:
        """One loop and all in it; found: the steps of the body that no loop from here on changes."""
        inner = self.nest.cuts[level:]
        if all(len(cuts) == 2 for cuts in inner):
            full = (*box, *[(cuts[0], cuts[1]) for cuts in inner])
            found = self._steps(full, loops, 1, found, level)
        start = len(self.t.lines)
        for segment in itertools.pairwise(self.nest.cuts[level]):
            self._segment(level, (*box, segment), loops, found)
        for i, root in enumerate(self.nest.roots):
            if root.reduce and self.scope[i] == level:
                self._finish(i, loops, start)

    def _segment(self, level: int, box: Box, loops: list[Index], found: Mapping[int, Lanes]) -> None:
        t = self.t
        first, last = box[-1]
        low, high = str(first), str(last)
        if level == 0 and self.low is not None and self.high is not None:
            low, high = self.low, self.high
            if len(self.nest.cuts[0]) > 2:
                low = t.intrinsic("smax", "i64", 1, low, str(first))
                high = t.intrinsic("smin", "i64", 1, high, str(last))
                high = t.intrinsic("smax", "i64", 1, high, low)
        if level < self.depth - 1:
            t.loop(low, high, 1, lambda i: self._axis(level + 1, box, [*loops, i], found))
        elif low.isdigit() and high.isdigit():
            self._static(int(low), int(high), box, loops, found)
        else:
            self._dynamic(low, high, box, loops, found)

    def _static(self, low: int, high: int, box: Box, loops: list[Index], found: Mapping[int, Lanes]) -> None:
        """The innermost loop, of known length: whole vectors, then one of what is left."""
        if self.straight:
            for turn, at in enumerate(range(low, high, self.width)):
                self._point(box, [*loops, str(at)], min(self.width, high - at), turn, found)
            return
        while self.across and high - low > 2 * BLOCK:
            blocks = (high - low) // BLOCK
            self.t.loop(
                str(low), str(low + blocks * BLOCK), BLOCK, lambda i: self._block(box, loops, i, found)
            )
            low += blocks * BLOCK
        for unrolled in sorted({self.unrolled, 1}, reverse=True):
            step = self.width * unrolled
            count = (high - low) // step
            if count == 1:
                self._run(box, loops, unrolled, found, str(low))
            elif count:
                run = functools.partial(self._run, box, loops, unrolled, found)
                self.t.loop(str(low), str(low + count * step), step, run)
            low += count * step
        if low < high:
            self._point(box, [*loops, str(low)], high - low, 0, found)

    def _block(self, box: Box, loops: list[Index], first: str, found: Mapping[int, Lanes]) -> None:
        """A block of a long loop, whose sums are added to those of the others when it is done."""
        t = self.t
        step = self.width * self.unrolled
        t.loop(
            "0", str(BLOCK), step, lambda i: self._run(box, loops, self.unrolled, found, self._sum(first, i))
        )
        for (i, width, turn), cell in list(self.registers.items()):
            kind, type_ = self.kinds[i], typed(self.kinds[i], width)
            if self.reduced[i][-1] and turn < self.unrolled:
                total = self._register(i, width, turn + self.unrolled)
                one, before = t.emit(f"load {type_}, ptr {cell}"), t.emit(f"load {type_}, ptr {total}")
                combine = REDUCTIONS[self.nest.roots[i].reduce][1]
                t.put(f"store {type_} {combine(t, kind, width, before, one)}, ptr {total}")
                t.put(f"store {type_} {t.widened(Lanes(self._beginning(i), kind), width)}, ptr {cell}")

    def _sum(self, a: str, b: str) -> str:
        return self.t.emit(f"add nsw i64 {a}, {b}")

    def _dynamic(self, low: str, high: str, box: Box, loops: list[Index], found: Mapping[int, Lanes]) -> None:
        """The innermost loop, of a length known when it runs; at its end a vector of the rest, or numbers."""
        t, width = self.t, self.width
        n = self.nest.extents[0]
        aligned = len(self.nest.cuts[0]) == 2 and self.f.unit * (n // self.f.group.rows) % width == 0
        for unrolled in sorted({self.unrolled, 1}, reverse=True):
            step = width * unrolled
            length = t.emit(f"sub nsw i64 {high}, {low}")
            rest = t.emit(f"and i64 {length}, {step - 1}")
            middle = t.emit(f"sub nsw i64 {high}, {rest}")
            t.loop(low, middle, step, functools.partial(self._run, box, loops, unrolled, found))
            low = middle
        if not aligned:
            if width > 1:
                t.loop(low, high, 1, lambda i: self._point(box, [*loops, i], 1, 0, found))
        elif n % width:
            left = t.emit(f"icmp slt i64 {low}, {high}")
            end = str(n - n % width)
            t.only_if(left, lambda: self._point(box, [*loops, end], n % width, 0, found))

    def _run(self, box: Box, loops: list[Index], unrolled: int, found: Mapping[int, Lanes], i: str) -> None:
        for n in range(unrolled):
            at = self.f.offset(Affine(n * self.width, ((0, 1),)), [i])
            self._point(box, [*loops, at], self.width, n, found)

    # -- one point, or as many as there are lanes ------------------------------------------------------------

    def _point(self, box: Box, loops: list[Index], width: int, turn: int, found: Mapping[int, Lanes]) -> None:
        f, t = self.f, self.t
        steps = self._steps(box, loops, width, found, self.depth)
        for i, (root, taken) in enumerate(zip(self.nest.roots, self.bodies[box].taken, strict=True)):
            kind, out = self.kinds[i], self.nest.outs[i]
            factors = [cast(t, steps[x], kind) for x in taken] or [Lanes(literal(root.constant, kind), kind)]
            texts = [t.widened(x, width) for x in factors]
            if not root.reduce:
                f.store(root.value, out, loops, Lanes(texts[0], kind, width))
            elif self.scope[i] < self.depth:
                cell = self._register(i, width, turn)
                before = t.emit(f"load {typed(kind, width)}, ptr {cell}")
                t.put(f"store {typed(kind, width)} {self._with(i, before, texts, width)}, ptr {cell}")
            else:
                before = t.widened(Lanes(self._beginning(i), kind), width)
                if self._in_memory(i):
                    before = t.widened(f.load(root.value, kind, out, loops, width), width)
                f.store(root.value, out, loops, Lanes(self._with(i, before, texts, width), kind, width))

    def _steps(
        self, box: Box, loops: list[Index], width: int, found: Mapping[int, Lanes], level: int
    ) -> dict[int, Lanes]:
        """The steps of a body that depend on no more than the first `level` loops, but for those found."""
        f, t, program = self.f, self.t, self.f.program
        steps = dict(found)
        for number, (step, needed) in enumerate(zip(self.bodies[box].steps, self.levels[box], strict=True)):
            if needed > level or number in steps:
                continue
            if isinstance(step, Constant):
                kind = KINDS[step.dtype]
                steps[number] = Lanes(literal(step.value, kind), kind)
            elif isinstance(step, Load):
                kind = KINDS[program.specs[step.buffer].dtype]
                if step.lookups:
                    lookups = [(lookup, steps[lookup.step]) for lookup in step.lookups]
                    steps[number] = f.looked_up(step, kind, lookups, loops, width)
                else:
                    steps[number] = f.load(step.buffer, kind, step.offset, loops, width)
            else:
                operands: list[Any] = [None if x is None else steps[x] for x in step.operands]
                steps[number] = computed(t, step.node, operands, program.specs, program.constants)
        return steps

    # -- reductions ------------------------------------------------------------------------------------------

    def _beginning(self, i: int) -> str:
        return literal(REDUCTIONS[self.nest.roots[i].reduce][0](self.kinds[i]), self.kinds[i])

    def _with(self, i: int, total: str, factors: Sequence[str], width: int) -> str:
        """The total of a reduction with one more element, or product of two."""
        t, kind = self.t, self.kinds[i]
        if len(factors) == 1:
            return REDUCTIONS[self.nest.roots[i].reduce][1](t, kind, width, total, factors[0])
        assert kind in FLOATS
        return t.intrinsic("fmuladd", kind, width, *factors, total)

    def _register(self, i: int, width: int, turn: int) -> str:
        key = (i, width, turn)
        if key not in self.registers:
            self.registers[key] = self.f.alloca(typed(self.kinds[i], width), 64)
        return self.registers[key]

    def _finish(self, i: int, loops: list[Index], start: int) -> None:
        """Begins a reduction's registers where its loops were about to start, and stores their total."""
        t, f, kind, root, out = self.t, self.f, self.kinds[i], self.nest.roots[i], self.nest.outs[i]
        cells = [(width, turn, cell) for (r, width, turn), cell in self.registers.items() if r == i]
        begin = self._beginning(i)
        t.lines[start:start] = [
            f"  store {typed(kind, width)} {t.widened(Lanes(begin, kind), width)}, ptr {cell}"
            for width, _, cell in cells
        ]
        parts = [
            (turn, Lanes(t.emit(f"load {typed(kind, w)}, ptr {cell}"), kind, w)) for w, turn, cell in cells
        ]
        if self.reduced[i][-1]:
            parts = [(0, self._total(i, [part for _, part in parts]))]
        around = self.depth - 1 - len(loops)
        for turn, part in parts:
            at = [*loops, *["0"] * around, str(turn * self.width)]
            text = part.text
            if self._in_memory(i):
                before = t.widened(f.load(root.value, kind, out, at, part.width), part.width)
                text = REDUCTIONS[root.reduce][1](t, kind, part.width, before, text)
            f.store(root.value, out, at, Lanes(text, kind, part.width))

    def _total(self, i: int, parts: Sequence[Lanes]) -> Lanes:
        """All lanes of all parts as one number."""
        t, kind = self.t, self.kinds[i]
        combine = REDUCTIONS[self.nest.roots[i].reduce][1]
        wide: dict[int, str] = {}
        for part in parts:
            before = wide.get(part.width)
            wide[part.width] = combine(t, kind, part.width, before, part.text) if before else part.text
        totals = [one for width, text in wide.items() for one in self._across(i, text, width)]
        total = totals[0]
        for one in totals[1:]:
            total = combine(t, kind, 1, total, one)
        return Lanes(total, kind)

    def _across(self, i: int, x: str, width: int) -> list[str]:
        """The lanes of x combined, half with half, to one number, and those that were left over."""
        t, kind = self.t, self.kinds[i]
        combine = REDUCTIONS[self.nest.roots[i].reduce][1]
        rest = []
        while width > 1:
            half = width // 2
            if width % 2:
                rest.append(t.emit(f"extractelement {typed(kind, width)} {x}, i64 {width - 1}"))
            if half == 1:
                low, high = (t.emit(f"extractelement {typed(kind, width)} {x}, i64 {n}") for n in (0, 1))
            else:
                low = t.shuffled(x, kind, width, range(half))
                high = t.shuffled(x, kind, width, range(half, 2 * half))
            x, width = combine(t, kind, half, low, high), half
        return [x, *rest]


def _levels(body: Body) -> list[int]:
    """For each step, how many of the outer loops it depends on: the last that it does, counted from 1."""
    found: list[int] = []
    for step in body.steps:
        if isinstance(step, Load):
            loops = [loop + 1 for loop, _ in step.offset.terms]
            found.append(max([*loops, *[found[lookup.step] for lookup in step.lookups]], default=0))
        elif isinstance(step, Compute):
            found.append(max([found[x] for x in step.operands if x is not None], default=0))
        else:
            found.append(0)
    return found
