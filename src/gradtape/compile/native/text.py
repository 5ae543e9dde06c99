"""LLVM's language: its names for dtypes and numbers, and instructions in the making."""

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "FLOATS",
    "INTS",
    "KINDS",
    "Lanes",
    "Text",
    "in_memory",
    "itemsize",
    "literal",
    "loaded",
    "stored",
    "typed",
]

# LLVM's name for the dtypes that are compiled; a boolean is i1 in a register and i8 in memory.
KINDS = {np.dtype(np.float32): "float", np.dtype(np.float64): "double", np.dtype(np.bool_): "i1"}
KINDS |= {np.dtype(np.int32): "i32", np.dtype(np.int64): "i64"}
FLOATS, INTS = ("float", "double"), ("i32", "i64")

# The vector functions that a machine has: by C name and kind, the symbol for each number of lanes.
Vectors = Callable[[str, str, int], Mapping[int, str]]


class Lanes(NamedTuple):
    """A value in a register: its name or literal, the kind of its elements, and their number."""

    text: str
    kind: str
    width: int = 1


def typed(kind: str, width: int) -> str:
    return kind if width == 1 else f"<{width} x {kind}>"


def literal(value: Any, kind: str) -> str:
    """A number as LLVM writes it."""
    if kind in FLOATS:
        number = float(np.float32(value)) if kind == "float" else float(value)
        return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"
    if kind == "i1":
        return "true" if value else "false"
    return str(int(value))


class Text:
    """Instructions in the making, and the functions from outside that they call."""

    def __init__(self, vectors: Vectors, x86: bool) -> None:
        self.lines: list[str] = []
        self.declared: dict[str, str] = {}
        self.count = 0
        self.vectors = vectors
        self.x86 = x86

    def fresh(self, prefix: str = "t") -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def put(self, line: str) -> None:
        self.lines.append(f"  {line}")

    def emit(self, instruction: str) -> str:
        name = f"%{self.fresh()}"
        self.lines.append(f"  {name} = {instruction}")
        return name

    def widened(self, x: Lanes, width: int) -> str:
        """x in that many lanes, if it is one number yet."""
        if x.width == width:
            return x.text
        kind = x.kind
        if x.text[0] != "%":
            return "<" + ", ".join([f"{kind} {x.text}"] * width) + ">"
        one = self.emit(f"insertelement {typed(kind, width)} poison, {kind} {x.text}, i64 0")
        return self.shuffled(one, kind, width, [0] * width)

    def shuffled(self, x: str, kind: str, width: int, lanes: Sequence[int], other: str = "poison") -> str:
        """The vector of some lanes of x and, numbered on, of `other`; a negative number is any lane."""
        picks = ", ".join("i32 poison" if i < 0 else f"i32 {i}" for i in lanes)
        given = typed(kind, width)
        return self.emit(f"shufflevector {given} {x}, {given} {other}, <{len(lanes)} x i32> <{picks}>")

    def call(self, name: str, kind: str, width: int, arguments: Sequence[str], given: str = "") -> str:
        """A call of a function of the C library, or of LLVM, from lanes to as many of a kind."""
        result, taken = typed(kind, width), typed(given or kind, width)
        self.declared[name] = f"declare {result} @{name}({', '.join([taken] * len(arguments))}) #0"
        return self.emit(f"call {result} @{name}({', '.join(f'{taken} {a}' for a in arguments)})")

    def intrinsic(self, name: str, kind: str, width: int, *arguments: str) -> str:
        """A call of an LLVM intrinsic that is overloaded by its one type."""
        suffix = {"float": "f32", "double": "f64"}.get(kind, kind)
        return self.call(
            f"llvm.{name}.{suffix if width == 1 else f'v{width}{suffix}'}", kind, width, arguments
        )

    def intrinsic_to(self, name: str, kind: str, width: int, x: str) -> str:
        """A call of an LLVM intrinsic that makes one number of a vector."""
        given = typed(kind, width)
        full = f"llvm.{name}.v{width}{kind}"
        self.declared[full] = f"declare {kind} @{full}({given}) #0"
        return self.emit(f"call {kind} @{full}({given} {x})")

    def loop(self, start: str, end: str, step: int, body: Callable[[str], None]) -> None:
        """body(i) for i from start, as long as it is below end."""
        before, head, latch, after = (self.fresh("l") for _ in range(4))
        known = start.isdigit() and end.isdigit()
        if known and int(start) >= int(end):
            return
        if known:
            self.put(f"br label %{before}")
        else:
            self.put(f"br i1 {self.emit(f'icmp slt i64 {start}, {end}')}, label %{before}, label %{after}")
        i, following = f"%{self.fresh('i')}", f"%{self.fresh('i')}"
        self.lines.append(f"{before}:\n  br label %{head}\n{head}:")
        self.put(f"{i} = phi i64 [ {start}, %{before} ], [ {following}, %{latch} ]")
        body(i)
        self.put(f"br label %{latch}")
        self.lines.append(f"{latch}:")
        self.put(f"{following} = add nsw i64 {i}, {step}")
        self.put(f"br i1 {self.emit(f'icmp slt i64 {following}, {end}')}, label %{head}, label %{after}")
        self.lines.append(f"{after}:")

    def only_if(self, condition: str, body: Callable[[], None]) -> None:
        inside, after = self.fresh("l"), self.fresh("l")
        self.put(f"br i1 {condition}, label %{inside}, label %{after}")
        self.lines.append(f"{inside}:")
        body()
        self.put(f"br label %{after}")
        self.lines.append(f"{after}:")


# -- memory ------------------------------------------------------------------------------------------------


def in_memory(kind: str) -> str:
    return "i8" if kind == "i1" else kind


def itemsize(kind: str) -> int:
    return {"i1": 1, "float": 4, "i32": 4}.get(kind, 8)


def loaded(t: Text, pointer: str, kind: str, width: int) -> str:
    memory = typed(in_memory(kind), width)
    found = t.emit(f"load {memory}, ptr {pointer}, align {itemsize(kind)}")
    return (
        t.emit(f"icmp ne {memory} {found}, {'zeroinitializer' if width > 1 else '0'}")
        if kind == "i1"
        else found
    )


def stored(t: Text, pointer: str, x: Lanes) -> None:
    memory, text = typed(in_memory(x.kind), x.width), x.text
    if x.kind == "i1":
        text = t.emit(f"zext {typed('i1', x.width)} {text} to {memory}")
    t.put(f"store {memory} {text}, ptr {pointer}, align {itemsize(x.kind)}")
