"""A run of kernels as one native function: its buffers, its threads, and the call from Python."""

import functools
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from gradtape import config
from gradtape.compile.native.emit import Function
from gradtape.compile.native.engine import available, engine, made
from gradtape.compile.native.fusion import Kernel
from gradtape.compile.native.lanes import REDUCTIONS
from gradtape.compile.native.nests import Load
from gradtape.compile.native.roots import Program
from gradtape.compile.native.schedule import Group, in_row, scheduled
from gradtape.compile.native.text import KINDS, Lanes, Text, in_memory, itemsize, loaded, stored
from gradtape.compile.native.threads import ATTRIBUTES, threads
from gradtape.compile.native.walk import BLOCK

__all__ = ["Native", "available", "compiled"]

_TILE = 2**15  # bytes that a tile of rows may take: what stays in the first cache
_PARALLEL = 1_000_000  # the work, in sums, from which on threads are worth starting
_CHUNKS = 16  # pieces of a group that threads share; sums are added up by piece, for any number of threads
_GOOD = 0x1 | 0x100  # an ndarray's flags C_CONTIGUOUS and ALIGNED
_STACK = 2**15  # bytes of values between groups that are taken from the stack
_TOTALS = 2**22  # bytes that the totals of all pieces may take


class Native(NamedTuple):
    """A native function. call(*outputs, *inputs) returns the first output, or None if it refuses.

    seconds: what LLVM took to make it.
    """

    call: Any
    seconds: float


def compiled(kernels: Sequence[Kernel], inputs: Sequence[int], outputs: Sequence[int]) -> Native:
    """The kernels, one after the other, as one function of their inputs.

    It is called with the outputs, C-contiguous arrays of their Spec that alias nothing, then the inputs:
    arrays as they come, or NumPy scalars for values without axes. It returns None, and the outputs may hold
    anything, if an input is not C-contiguous and aligned or no such scalar, or an index is out of range.
    """
    program = Program([kernel.graph for kernel in kernels], outputs)
    groups = scheduled(program, outputs)
    module = _Module(program, groups, inputs, outputs)
    return Native(*made(module.text(), list(module.constants.values())))


@dataclass
class _Plan:
    """How a group runs: rows of a tile, what ranges begin at multiples of, and in how many pieces."""

    tile: int
    unit: int
    local: list[int]
    rows: int  # of a piece
    pieces: int
    totals: dict[int, int] = field(default_factory=dict)  # what is summed over all rows: offset of its parts


class _Module:
    """The text of one LLVM module: a function for each group, and `call`, which runs them."""

    def __init__(
        self, program: Program, groups: Sequence[Group], inputs: Sequence[int], outputs: Sequence[int]
    ) -> None:
        self.program, self.groups = program, groups
        self.inputs, self.outputs = inputs, outputs
        self.t = Text(engine().vectors, engine().x86)
        self.constants: dict[int, np.ndarray[Any, Any]] = {}
        self.bytes = 0
        self.plans = [self._plan(group, g) for g, group in enumerate(groups)]
        self.places = self._workspace()

    # -- where values live -----------------------------------------------------------------------------------

    def _plan(self, group: Group, g: int) -> _Plan:
        if group.rows == 1:
            return _Plan(0, 1, [], 1, 1)
        local = [x for x in group.made if self._is_local(group, g, x)]
        part = {x: self.program.size(x) // group.rows * self._size(x) for x in self._read(group) | set(local)}
        per_row = 1 + sum(part.values())
        tile = 0
        if len(group.nests) > 1:
            tile = 2 ** int(math.log2(min(max(_TILE // per_row, 1), 4096)))
        elif any(
            root.reduce and nest.reduced(i)[0] for nest in group.nests for i, root in enumerate(nest.roots)
        ):
            inner = math.prod(group.nests[0].extents) // group.rows
            tile = 2 ** max(6, int(math.log2(max(BLOCK // inner, 1))))
        if sum(part[x] for x in local) * tile > 2 * _TILE or not tile:
            local = []
        unit = tile or 64
        rows, pieces = group.rows, 1
        if group.work >= _PARALLEL:
            rows = math.ceil(math.ceil(group.rows / _CHUNKS) / unit) * unit
            if group.rows < _CHUNKS * unit and all(len(nest.extents) > 1 for nest in group.nests):
                rows, unit = math.ceil(group.rows / _CHUNKS), tile or 1
                rows = math.ceil(rows / unit) * unit
            pieces = math.ceil(group.rows / rows)
            if sum(self.program.size(x) * self._size(x) for x in _totals(group)) * pieces > _TOTALS:
                rows, pieces = group.rows, 1
        return _Plan(tile, unit, local, rows, pieces)

    def _read(self, group: Group) -> set[int]:
        return {s.buffer for n in group.nests for b in n.bodies for s in b.steps if isinstance(s, Load)}

    def _is_local(self, group: Group, g: int, value: int) -> bool:
        """Whether nothing but this group needs the value, and of that only the same row."""
        if value in self.outputs or any(value in self._read(other) for other in self.groups[g + 1 :]):
            return False
        if any(value in other.made for other in self.groups if other is not group):
            return False
        size = self.program.size(value)
        return all(
            in_row(out, size, nest.extents, group.rows)
            for nest in group.nests
            for root, out in zip(nest.roots, nest.outs, strict=True)
            if root.value == value
        )

    def _size(self, value: int) -> int:
        return itemsize(KINDS[self.program.specs[value].dtype])

    def _workspace(self) -> dict[int, int]:
        """The offset of each value that lives between groups; those not needed at once share memory."""
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for g, (group, plan) in enumerate(zip(self.groups, self.plans, strict=True)):
            for x in (group.made | self._read(group)) - set(plan.local) - set(self.outputs):
                if any(x in other.made for other in self.groups):
                    first.setdefault(x, g)
                    last[x] = g
        sizes = {x: _rounded(self.program.size(x) * self._size(x)) for x in first}
        parts: list[tuple[int, int, int, int]] = []  # offset, end, first, last
        places: dict[int, int] = {}

        def place(size: int, begin: int, until: int) -> int:
            taken = sorted((p[0], p[1]) for p in parts if p[2] <= until and begin <= p[3])
            at = 0
            for start, end in taken:
                if at + size <= start:
                    break
                at = max(at, end)
            parts.append((at, at + size, begin, until))
            self.bytes = max(self.bytes, at + size)
            return at

        for x in first:
            places[x] = place(sizes[x], first[x], last[x])
        for g, (group, plan) in enumerate(zip(self.groups, self.plans, strict=True)):
            if plan.pieces > 1:
                for x in _totals(group):
                    size = self.program.size(x) * self._size(x)
                    plan.totals[x] = place(_rounded(size * plan.pieces), g, g)
        return places

    # -- the text --------------------------------------------------------------------------------------------

    def text(self) -> str:
        t = self.t
        functions = []
        for g, (group, plan) in enumerate(zip(self.groups, self.plans, strict=True)):
            function = Function(
                t, self.program, group, f"group{g}", plan.tile, plan.unit, plan.local, engine().bytes
            )
            function.write()
            functions.append(function)
            if plan.pieces > 1:
                self._piece(g, function)
        self._call(functions)
        if any(plan.pieces > 1 for plan in self.plans):
            t.lines.append(threads(config.threads_address(), bool(engine().symbol("pthread_create"))))
        return "\n".join([*t.lines, *t.declared.values(), ATTRIBUTES])

    def _piece(self, g: int, function: Function) -> None:
        """The function that a thread calls for one piece of a group, with the pointers of all in memory."""
        t, plan, group = self.t, self.plans[g], self.groups[g]
        t.lines.append(f"define internal void @piece{g}(ptr %frame, i64 %piece) #1 {{")
        first = t.emit(f"mul nsw i64 %piece, {plan.rows}")
        end = t.intrinsic("smin", "i64", 1, t.emit(f"add nsw i64 {first}, {plan.rows}"), str(group.rows))
        given = []
        for n, x in enumerate([*function.buffers, None]):
            pointer = t.emit(f"load ptr, ptr {t.emit(f'getelementptr ptr, ptr %frame, i64 {n}')}")
            if x in plan.totals:
                bytes_ = self.program.size(x) * self._size(x)
                pointer = t.emit(
                    f"getelementptr i8, ptr {pointer}, i64 {t.emit(f'mul nsw i64 %piece, {bytes_}')}"
                )
            given.append(f", ptr {pointer}")
        t.put(f"call void @group{g}(i64 {first}, i64 {end}{''.join(given)})")
        t.lines.append("  ret void\n}")

    def _call(self, functions: Sequence[Function]) -> None:
        t = self.t
        t.lines.append("define ptr @call(ptr %self, ptr %arguments, i64 %count) #1 {")
        pointers = self._arguments()
        for x, value in self.program.constants.items():
            if isinstance(value, np.ndarray) and any(x in f.buffers for f in functions):
                self.constants[x] = np.require(value, requirements=["C", "A"])
                pointers[x] = f"inttoptr (i64 {self.constants[x].ctypes.data} to ptr)"
        t.put("%failed = alloca i8, align 1\n  store i8 0, ptr %failed")
        work = ""
        if self.bytes > _STACK:
            work = t.emit(f"call ptr @malloc(i64 {self.bytes})")
            t.declared["malloc"] = "declare ptr @malloc(i64)\ndeclare void @free(ptr)"
            t.put(f"br i1 {t.emit(f'icmp eq ptr {work}, null')}, label %refused, label %work\nwork:")
        elif self.bytes:
            work = t.emit(f"alloca [{self.bytes} x i8], align 64")
        for x, place in self.places.items():
            pointers[x] = t.emit(f"getelementptr i8, ptr {work}, i64 {place}")
        for g, function in enumerate(functions):
            self._run(g, function, pointers, work)
        if self.bytes > _STACK:
            t.put(f"call void @free(ptr {work})")
        if any(f.checks for f in functions):
            bad = t.emit(f"icmp ne i8 {t.emit('load i8, ptr %failed')}, 0")
            t.put(f"br i1 {bad}, label %refused, label %done\ndone:")
        t.put("%first = load ptr, ptr %arguments")
        _count_up(t, "%first")
        t.put("ret ptr %first\nrefused:")
        none = f"inttoptr (i64 {id(None)} to ptr)"
        if sys.version_info < (3, 12):
            _count_up(t, none)
        t.put(f"ret ptr {none}")
        t.lines.append("}")

    def _arguments(self) -> dict[int, str]:
        """The data of all arguments; leaves if an input is no such array or scalar as native code takes."""
        t, pointers, flags, good = self.t, {}, [], "true"
        for n, x in enumerate([*self.outputs, *self.inputs]):
            argument = t.emit(f"load ptr, ptr {t.emit(f'getelementptr ptr, ptr %arguments, i64 {n}')}")
            data = t.emit(f"getelementptr i8, ptr {argument}, i64 16")
            is_output = n < len(self.outputs)
            if is_output or self.program.specs[x].shape:
                data = t.emit(f"load ptr, ptr {data}")
            if not is_output and self.program.specs[x].shape:
                flags.append(t.emit(f"load i32, ptr {t.emit(f'getelementptr i8, ptr {argument}, i64 64')}"))
            elif not is_output:
                kind = t.emit(f"load i64, ptr {t.emit(f'getelementptr i8, ptr {argument}, i64 8')}")
                fits = [
                    t.emit(f"icmp eq i64 {kind}, {id(scalar)}")
                    for scalar in _scalars(self.program.specs[x].dtype)
                ]
                any_fits = functools.reduce(lambda a, b: t.emit(f"or i1 {a}, {b}"), fits)
                good = t.emit(f"and i1 {good}, {any_fits}")
            pointers[x] = data
        if flags:
            shared = functools.reduce(lambda a, b: t.emit(f"and i32 {a}, {b}"), flags)
            whole = t.emit(f"icmp eq i32 {t.emit(f'and i32 {shared}, {_GOOD}')}, {_GOOD}")
            good = t.emit(f"and i1 {good}, {whole}")
        t.put(f"br i1 {good}, label %taken, label %refused\ntaken:")
        return pointers

    def _run(self, g: int, function: Function, pointers: dict[int, str], work: str) -> None:
        t, plan, group = self.t, self.plans[g], self.groups[g]
        given = {x: pointers[x] for x in function.buffers}
        if plan.pieces == 1:
            listed = "".join(f", ptr {given[x]}" for x in function.buffers)
            t.put(f"call void @group{g}(i64 0, i64 {group.rows}{listed}, ptr %failed)")
            return
        for x, place in plan.totals.items():
            given[x] = t.emit(f"getelementptr i8, ptr {work}, i64 {place}")
        frame = t.emit(f"alloca [{len(given) + 1} x ptr], align 8")
        for n, pointer in enumerate([*[given[x] for x in function.buffers], "%failed"]):
            t.put(f"store ptr {pointer}, ptr {t.emit(f'getelementptr ptr, ptr {frame}, i64 {n}')}")
        t.put(f"call void @parallel(ptr @piece{g}, ptr {frame}, i64 {plan.pieces})")
        for x in plan.totals:
            self._combine(x, _totals(group)[x], given[x], pointers[x], plan.pieces)

    def _combine(self, x: int, reduce: str, parts: str, total: str, pieces: int) -> None:
        """The totals of all pieces, in their order, as one."""
        t, kind, size = self.t, KINDS[self.program.specs[x].dtype], self.program.size(x)

        def body(i: str) -> None:
            sofar = ""
            for piece in range(pieces):
                at = t.emit(f"add nsw i64 {i}, {piece * size}")
                part = loaded(t, t.emit(f"getelementptr {in_memory(kind)}, ptr {parts}, i64 {at}"), kind, 1)
                sofar = REDUCTIONS[reduce][1](t, kind, 1, sofar, part) if sofar else part
            stored(t, t.emit(f"getelementptr {in_memory(kind)}, ptr {total}, i64 {i}"), Lanes(sofar, kind))

        t.loop("0", str(size), 1, body)


def _totals(group: Group) -> dict[int, str]:
    """The values that a group reduces over its rows, with how."""
    if group.rows == 1:
        return {}
    return {
        root.value: root.reduce
        for nest in group.nests
        for i, root in enumerate(nest.roots)
        if root.reduce and nest.reduced(i)[0]
    }


def _scalars(dtype: np.dtype[Any]) -> list[type]:
    """The types of NumPy scalars of a dtype: two of C's integers may be of the same size."""
    types = {dtype.type, *(np.dtype(code).type for code in "ilq" if np.dtype(code) == dtype)}
    return sorted(types, key=str)


def _rounded(size: int) -> int:
    return (size + 63) // 64 * 64


def _count_up(t: Text, pointer: str) -> None:
    """One more reference to an object."""
    count = t.emit(f"load i64, ptr {pointer}")
    t.put(f"store i64 {t.emit(f'add i64 {count}, 1')}, ptr {pointer}")
