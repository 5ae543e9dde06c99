"""A group of loop nests as one LLVM function over a range of rows."""

from collections.abc import Sequence

from gradtape.compile.native.lanes import REDUCTIONS, cast
from gradtape.compile.native.nests import Load, Lookup
from gradtape.compile.native.places import Affine
from gradtape.compile.native.roots import Program
from gradtape.compile.native.schedule import Group
from gradtape.compile.native.text import KINDS, Lanes, Text, in_memory, literal, loaded, stored, typed
from gradtape.compile.native.walk import Index, Walk

__all__ = ["Function"]


class Function:
    """The text of one group.

    tile: how many rows run through all nests before the next ones do, 0 for all at once; unit: a number of
    rows that every range begins at a multiple of; local: the values that live in a buffer of one tile;
    vector: the bytes of one.
    """

    def __init__(
        self,
        text: Text,
        program: Program,
        group: Group,
        name: str,
        tile: int,
        unit: int,
        local: Sequence[int],
        vector: int,
    ) -> None:
        self.t = text
        self.program = program
        self.group = group
        self.name = name
        self.tile = tile
        self.unit = unit
        self.local = list(local)
        self.bytes = vector
        self.allocas: list[str] = []
        steps = [s for n in group.nests for b in n.bodies for s in b.steps]
        used = {s.buffer for s in steps if isinstance(s, Load)} | group.made
        self.buffers = sorted(used - set(local))
        self.checks = any(isinstance(s, Load) and s.lookups for s in steps)

    # -- the frame -------------------------------------------------------------------------------------------

    def write(self) -> None:
        """Puts the whole function into the text."""
        t = self.t
        arguments = "".join(f", ptr %b{x}" for x in self.buffers)
        t.lines.append(
            f"define internal void @{self.name}(i64 %first, i64 %end{arguments}, ptr %failed) #1 {{\nentry:"
        )
        start = len(t.lines)
        if self.group.rows == 1:
            for nest in self.group.nests:
                Walk(self, nest, None, None).write()
        else:
            self._clear_totals()
            if self.tile:
                self.t.loop("%first", "%end", self.tile, self._rows)
            else:
                self._rows("%first", "%end")
        t.lines[start:start] = self.allocas
        t.put("ret void")
        t.lines.append("}")

    def _rows(self, first: str, end: str = "") -> None:
        """All nests for the rows from first to end, or for one tile of them."""
        t = self.t
        if not end:
            end = t.emit(f"add nsw i64 {first}, {self.tile}")
            end = t.intrinsic("smin", "i64", 1, end, "%end")
        for x in self.local:
            kind = KINDS[self.program.specs[x].dtype]
            part = self.program.size(x) // self.group.rows
            buffer = self.alloca(f"[{part * self.tile} x {in_memory(kind)}]", 64)
            back = t.emit(f"mul nsw i64 {first}, {-part}")
            t.put(f"%b{x} = getelementptr {in_memory(kind)}, ptr {buffer}, i64 {back}")
        for nest in self.group.nests:
            step = nest.extents[0] // self.group.rows
            low, high = (t.emit(f"mul nsw i64 {x}, {step}") if step > 1 else x for x in (first, end))
            Walk(self, nest, low, high).write()

    def _clear_totals(self) -> None:
        """What is summed over all rows begins here, not with each tile."""
        for nest in self.group.nests:
            for i, root in enumerate(nest.roots):
                if nest.reduced(i)[0]:
                    self.fill(root.value, "0", str(self.program.size(root.value)), root.reduce)

    def alloca(self, type_: str, align: int) -> str:
        name = f"%{self.t.fresh('a')}"
        self.allocas.append(f"  {name} = alloca {type_}, align {align}")
        return name

    def fill(self, value: int, first: str, end: str, reduce: str) -> None:
        """Elements from first to end of a buffer as a reduction begins with them."""
        kind = KINDS[self.program.specs[value].dtype]
        start = literal(REDUCTIONS[reduce][0](kind), kind)

        def body(i: str) -> None:
            self.store(value, Affine(0, ((0, 1),)), [i], Lanes(start, kind))

        self.t.loop(first, end, 1, body)

    # -- memory ----------------------------------------------------------------------------------------------

    def offset(self, x: Affine, loops: Sequence[Index]) -> str:
        """The number that x is, for these values of the loop variables."""
        t, constant, total = self.t, x.constant, ""
        for loop, factor in x.terms:
            at = loops[loop]
            if at.isdigit():
                constant += int(at) * factor
                continue
            term = at if factor == 1 else t.emit(f"mul nsw i64 {at}, {factor}")
            total = t.emit(f"add nsw i64 {total}, {term}") if total else term
        if not total:
            return str(constant)
        return t.emit(f"add nsw i64 {total}, {constant}") if constant else total

    def pointer(self, buffer: int, kind: str, offset: str) -> str:
        return self.t.emit(f"getelementptr {in_memory(kind)}, ptr %b{buffer}, i64 {offset}")

    def load(self, buffer: int, kind: str, offset: Affine, loops: Sequence[Index], width: int) -> Lanes:
        """Elements at the offset for this and the next values of the innermost loop; one, if they are one."""
        t = self.t
        step = dict(offset.terms).get(len(loops) - 1, 0)
        at = self.offset(offset, loops)
        if width == 1 or not step:
            return Lanes(loaded(t, self.pointer(buffer, kind, at), kind, 1), kind)
        if step == 1:
            return Lanes(loaded(t, self.pointer(buffer, kind, at), kind, width), kind, width)
        if step == -1:
            last = t.emit(f"add nsw i64 {at}, {1 - width}")
            turned = loaded(t, self.pointer(buffer, kind, last), kind, width)
            return Lanes(t.shuffled(turned, kind, width, range(width)[::-1]), kind, width)
        places = [at, *[t.emit(f"add nsw i64 {at}, {step * i}") for i in range(1, width)]]
        return self._gathered(buffer, kind, places)

    def _gathered(self, buffer: int, kind: str, places: Sequence[str]) -> Lanes:
        t, width, total = self.t, len(places), "poison"
        for i, at in enumerate(places):
            one = loaded(t, self.pointer(buffer, kind, at), kind, 1)
            total = t.emit(f"insertelement {typed(kind, width)} {total}, {kind} {one}, i64 {i}")
        return Lanes(total, kind, width)

    def store(self, buffer: int, offset: Affine, loops: Sequence[Index], x: Lanes) -> None:
        t, width = self.t, x.width
        step = dict(offset.terms).get(len(loops) - 1, 0)
        at = self.offset(offset, loops)
        if width > 1 and step != 1:
            for i in range(width):
                one = Lanes(t.emit(f"extractelement {typed(x.kind, width)} {x.text}, i64 {i}"), x.kind)
                stored(t, self.pointer(buffer, x.kind, t.emit(f"add nsw i64 {at}, {step * i}")), one)
            return
        stored(t, self.pointer(buffer, x.kind, at), x)

    def looked_up(
        self,
        load: Load,
        kind: str,
        lookups: Sequence[tuple[Lookup, Lanes]],
        loops: Sequence[Index],
        width: int,
    ) -> Lanes:
        """Elements at an offset that depends on integers of the data; these are checked."""
        t = self.t
        at = self.offset(load.offset, loops)
        step = dict(load.offset.terms).get(len(loops) - 1, 0)
        vectors = []
        for lookup, given in lookups:
            index = self._checked(lookup, given)
            if index.width == 1:
                at = t.emit(f"add nsw i64 {at}, {t.emit(f'mul nsw i64 {index.text}, {lookup.factor}')}")
            else:
                vectors.append((index.text, lookup.factor))
        if not vectors and (width == 1 or step in (0, 1)):
            width = width if step else 1
            return Lanes(loaded(t, self.pointer(load.buffer, kind, at), kind, width), kind, width)
        places = []
        for i in range(width):
            place = t.emit(f"add nsw i64 {at}, {step * i}")
            for text, factor in vectors:
                one = t.emit(f"extractelement {typed('i64', width)} {text}, i64 {i}")
                place = t.emit(f"add nsw i64 {place}, {t.emit(f'mul nsw i64 {one}, {factor}')}")
            places.append(place)
        return self._gathered(load.buffer, kind, places)

    def _checked(self, lookup: Lookup, x: Lanes) -> Lanes:
        """An index from 0 to below the length; 0 in place of one that is beyond, which is told of."""
        t, width = self.t, x.width
        at = t.widened(cast(t, x, "i64"), width)
        type_, flag = typed("i64", width), typed("i1", width)
        length = t.widened(Lanes(str(lookup.length), "i64"), width)
        zero = t.widened(Lanes("0", "i64"), width)
        if lookup.wraps:
            negative = t.emit(f"icmp slt {type_} {at}, {zero}")
            wrapped = t.emit(f"add {type_} {at}, {length}")
            at = t.emit(f"select {flag} {negative}, {type_} {wrapped}, {type_} {at}")
        beyond = t.emit(f"icmp uge {type_} {at}, {length}")
        some = beyond if width == 1 else t.intrinsic_to("vector.reduce.or", "i1", width, beyond)
        aside = self.alloca("i8", 1)
        where = t.emit(f"select i1 {some}, ptr %failed, ptr {aside}")
        t.put(f"store i8 1, ptr {where}")
        return Lanes(t.emit(f"select {flag} {beyond}, {type_} {zero}, {type_} {at}"), "i64", width)
