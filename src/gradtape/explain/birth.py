"""What is said of a NaN or an infinity that came out where none went in: the text of a NumericsError."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradtape.batched import Batched
from gradtape.callers import Site, place
from gradtape.errors import NumericsError
from gradtape.explain.ranges import Odd, holds_numbers, like, number, odd_kinds, odd_one, parts, plain, shown
from gradtape.explain.traps import Origin, Scene, Trap, sprung
from gradtape.ops.op import REGISTRY, Op

__all__ = ["Birth", "Input", "inputs_of", "names_of"]

COTANGENT = "cotangent"


class Input(NamedTuple):
    """One input of an op or of a rule: what it is called, and its key, 0 for what no op made."""

    name: str
    value: Any
    key: Any


class Birth(NamedTuple):
    """What gave a NaN or an infinity, of what.

    gave: the headline, with {} where "NaN" or "-inf" goes; site: the user's line that ran the op, if known;
    asked: the line that asked for the derivative, in a sweep; called: what the result is called; kinds: those
    of "nan" and "inf" that no input had; traps: what may be the cause.
    """

    op: Op
    gave: str
    site: Site | None
    asked: Site | None
    inputs: Sequence[Input]
    out: Any
    called: str
    kinds: set[str]
    traps: tuple[Trap, ...]

    def error(self, origins: Callable[[int], list[Origin]]) -> NumericsError:
        """The error; origins: the ops that the value of a key came from."""
        kind = "nan" if "nan" in self.kinds else "inf"
        odd = odd_one(self.out, kind)
        at = _at(self.op, self.inputs, odd)
        lines = [self.gave.replace("{}", odd.name) + (f" at {place(self.site)}" if self.site else "")]
        if self.asked and self.inputs and not self.site:
            lines.append("  the line of that op is not known: it ran before the check began")
        if self.asked:
            lines.append(f"  asked for at {place(self.asked)}")
        lines += [f"  {_title(each.name)}: {shown(each.value)}" for each in self.inputs]
        lines.append(f"  {self.called}: {_told(self.out, odd, at)}")
        keys = {each.name: each.key for each in self.inputs if type(each.key) is int}
        scene = Scene(
            kind=kind,
            dtype=odd.array.dtype,
            at=at,
            inputs=set().union(*(odd_kinds(each.value) for each in self.inputs)),
            empty=any(part.size == 0 for each in self.inputs for part in parts(each.value)),
            origins=lambda name: origins(keys.get(name, 0)),
        )
        trap = sprung(self.traps, scene)
        if trap is not None:
            lines += [f"  {trap[0]}.", f"Remedy: {trap[1]}."]
        return NumericsError(
            "\n".join(lines),
            self.op.title,
            "sweep" if self.asked else "forward",
            self.site.filename if self.site else None,
            self.site.line if self.site else None,
            kind,
        )


def names_of(op: Op, n: int) -> list[str]:
    """What the n + 1 values of a record of this op are called: operands, statics, shapes, and last "out"."""
    declared = REGISTRY.get(op.name)
    names = list(inspect.signature(declared.call if declared else op.forward).parameters)
    if not op.operands or (not op.variadic and len(names) < op.operands):
        return [*(f"operand {i}" for i in range(n)), "out"]
    if op.variadic:
        names = [f"{names[0]}[{i}]" for i in range(op.operands)] + names[1:]
    else:
        names = names[: op.operands + op.statics]
    return [*names, *["shape"] * (n - len(names)), "out"]


def inputs_of(names: Sequence[str], values: Sequence[Any], keys: Sequence[Any]) -> list[Input]:
    """Those of the values that hold numbers, not shapes or the like."""
    return [Input(*each) for each in zip(names, values, keys, strict=True) if holds_numbers(each[1])]


def _title(name: str) -> str:
    return "its result" if name == "out" else name


def _told(out: Any, odd: Odd, at: dict[str, Any]) -> str:
    """The result in one line: how much of it is odd, and what the inputs are where the first of that is."""
    size = odd.array.size
    if size == 1:
        return shown(odd.array)
    there = ", ".join(f"{_title(name)} is {number(value)}" for name, value in at.items())
    first = f"the first at {list(odd.place)}" if odd.odds > 1 else f"at {list(odd.place)}"
    kind = "NaN" if odd.name == "NaN" else "infinite"
    of = like(odd.array if isinstance(out, (list, tuple)) else out)
    return f"{of}, {odd.odds} of {size} {kind}, {first}" + (f", where {there}" if there else "")


def _at(op: Op, inputs: Sequence[Input], odd: Odd) -> dict[str, Any]:
    """What each input of an elementwise op is where the result is odd first."""
    found: dict[str, Any] = {}
    for each in inputs if op.broadcasts else ():
        value: Any = plain(each.value)
        if value is None:
            continue
        if isinstance(each.value, Batched):  # the axis of the examples stays in front
            missing = (1,) * (odd.array.ndim - value.ndim)
            value = value.reshape(value.shape[0], *missing, *value.shape[1:])
        try:
            found[each.name] = np.broadcast_to(value, odd.array.shape)[odd.place]
        except ValueError:  # of another shape, as what is still to be summed
            continue
    return found
