"""Where an op that only rearranges finds an element of its result: index arithmetic in place of copies.

A place is an index into a value, one affine expression of the loop variables for each of its axes. What a
structural op yields at a place is what its operand holds at another, or a constant in the margins.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from gradtape.compile.graph import Node, Spec

__all__ = [
    "ZERO",
    "Affine",
    "CutError",
    "Fill",
    "OpaqueError",
    "Part",
    "Pick",
    "Place",
    "Ranges",
    "RefineError",
    "basic",
    "bounds",
    "can_place",
    "depth",
    "flat",
    "is_structural",
    "source",
    "stretched",
    "variable",
]


class Affine(NamedTuple):
    """constant + the sum of coefficient * atom; an atom is the number of a loop, or a Pick."""

    constant: int
    terms: tuple[tuple[Any, int], ...] = ()

    def plus(self, other: "Affine") -> "Affine":
        if not other.terms:
            return Affine(self.constant + other.constant, self.terms)
        total = dict(self.terms)
        for atom, factor in other.terms:
            total[atom] = total.get(atom, 0) + factor
        return Affine(self.constant + other.constant, _ordered(total))

    def shifted(self, by: int) -> "Affine":
        return Affine(self.constant + by, self.terms) if by else self

    def times(self, factor: int) -> "Affine":
        if not factor:
            return ZERO
        return Affine(self.constant * factor, tuple([(atom, f * factor) for atom, f in self.terms]))


Place: TypeAlias = tuple[Affine, ...]


class Pick(NamedTuple):
    """An index that is data: what the integers of `value` hold at `place`, from 0 to `length` - 1.

    wraps: negative ones count from the back.
    """

    value: int
    place: Place
    length: int
    wraps: bool


class Part(NamedTuple):
    """The operand, by position, and the place in it, where an element of the result comes from."""

    operand: int
    place: Place


class Fill(NamedTuple):
    """The number that an element of the result is, whatever the operands are."""

    number: float


class OpaqueError(Exception):
    """No index arithmetic tells where the element comes from: the value must be put into memory."""


class RefineError(Exception):
    """It can be told if the loop is made two, the inner of `length`."""

    def __init__(self, loop: int, length: int) -> None:
        super().__init__(loop, length)
        self.loop, self.length = loop, length


class CutError(Exception):
    """It can be told if the loop is cut in two before `at`."""

    def __init__(self, loop: int, at: int) -> None:
        super().__init__(loop, at)
        self.loop, self.at = loop, at


Ranges: TypeAlias = Sequence[tuple[int, int]]  # of each loop: its first value, and the one after its last
ZERO = Affine(0)


def variable(loop: int) -> Affine:
    return Affine(0, ((loop, 1),))


def bounds(x: Affine, ranges: Ranges) -> tuple[int, int]:
    """The least and the greatest that x can be."""
    low = high = x.constant
    for atom, factor in x.terms:
        first, end = (0, atom.length) if type(atom) is Pick else ranges[atom]
        ends = factor * first, factor * (end - 1)
        low, high = low + min(ends), high + max(ends)
    return low, high


def depth(place: Place) -> int:
    """How many picks stand one inside the other."""
    picks = [atom for x in place for atom, _ in x.terms if type(atom) is Pick]
    return max([1 + depth(pick.place) for pick in picks], default=0)


def flat(place: Place, shape: Sequence[int]) -> Affine:
    """The index into the elements in order, of a contiguous array of the shape."""
    total, stride = ZERO, 1
    for x, n in zip(reversed(place), reversed(shape), strict=True):
        total = total.plus(x.times(stride))
        stride *= n
    return total


def stretched(place: Place, shape: Sequence[int]) -> Place:
    """The place in an operand of the shape that was broadcast."""
    behind = place[len(place) - len(shape) :]
    return tuple([ZERO if n == 1 else x for n, x in zip(shape, behind, strict=True)])


def _ordered(terms: Mapping[Any, int]) -> tuple[tuple[Any, int], ...]:
    loops = sorted((atom, f) for atom, f in terms.items() if f and type(atom) is int)
    picks = [(atom, f) for atom, f in terms.items() if f and type(atom) is not int]
    return (*loops, *sorted(picks, key=repr))


# -- the table of structural ops -----------------------------------------------------------------------------


def source(node: Node, out: int, place: Place, specs: Mapping[int, Spec], ranges: Ranges) -> Part | Fill:
    """Where the element of the node's result number `out` at `place` comes from.

    Raises OpaqueError, RefineError or CutError where that cannot be told for the ranges of the loops.
    """
    shapes = [specs[x].shape if x in specs else () for x in node.operands]
    return _SOURCES[node.op.name](place, shapes, node.statics, specs[node.outs[out]].shape, out, ranges)


def _broadcast_to(place: Place, shapes: Any, *rest: Any) -> Part:
    return Part(0, stretched(place, shapes[0]))


def _reshape(
    place: Place, shapes: Any, statics: Any, shape: tuple[int, ...], out: int, ranges: Ranges
) -> Part:
    return Part(0, _digits(flat(place, shape), shapes[0], ranges))


def _digits(x: Affine, shape: Sequence[int], ranges: Ranges) -> Place:
    """The place of element number x of a contiguous array."""
    found = []
    for n in reversed(shape):
        if n == 1:
            found.append(ZERO)
            continue
        high, low = _divided(x, n, ranges)
        found.append(low)
        x = high
    return tuple(reversed(found))


def _divided(x: Affine, n: int, ranges: Ranges) -> tuple[Affine, Affine]:
    """Quotient and remainder of x by n, as far as the terms are multiples of n, or never reach it."""
    rest = Affine(0, tuple([(atom, f) for atom, f in x.terms if f % n]))
    low, high = bounds(rest, ranges)
    constant = x.constant % n
    constant += n * -((low + constant) // n)
    if high + constant < n:
        quotient = tuple([(atom, f // n) for atom, f in x.terms if f % n == 0])
        return Affine((x.constant - constant) // n, quotient), rest.shifted(constant)
    if len(rest.terms) == 1:
        loop, factor = rest.terms[0]
        if type(loop) is int and factor > 0 and n % factor == 0:
            raise RefineError(loop, n // factor)
    raise OpaqueError


def _expand_dims(place: Place, shapes: Any, statics: Any, shape: tuple[int, ...], *rest: Any) -> Part:
    added = _axes(statics[0], len(shape))
    return Part(0, tuple([x for i, x in enumerate(place) if i not in added]))


def _squeeze(place: Place, shapes: Any, statics: Any, *rest: Any) -> Part:
    (given,) = shapes
    axes = _axes(statics[0], len(given))
    gone = [n == 1 if statics[0] is None else i in axes for i, n in enumerate(given)]
    left = iter(place)
    return Part(0, tuple([ZERO if g else next(left) for g in gone]))


def _transpose(place: Place, shapes: Any, statics: Any, *rest: Any) -> Part:
    n = len(place)
    perm = tuple(range(n))[::-1] if statics[0] is None else [p % n for p in statics[0]]
    found = [ZERO] * n
    for x, p in zip(place, perm, strict=True):
        found[p] = x
    return Part(0, tuple(found))


def _matrix_transpose(place: Place, *rest: Any) -> Part:
    return Part(0, (*place[:-2], place[-1], place[-2]))


def _reverse(place: Place, shapes: Any, statics: Any, *rest: Any) -> Part:
    axes = _axes(statics[0], len(place))
    return Part(
        0,
        tuple(
            [
                x.times(-1).shifted(n - 1) if i in axes else x
                for i, (x, n) in enumerate(zip(place, shapes[0], strict=True))
            ]
        ),
    )


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """The axes counted from the front; all for None."""
    if axis is None:
        return tuple(range(ndim))
    return tuple([a % ndim for a in (axis if isinstance(axis, (tuple, list)) else (axis,))])


def basic(index: Any, shape: tuple[int, ...]) -> list[Any] | None:
    """A basic index as one item for each axis of the operand and for each new one, or None if it is not one.

    An item is an int from 0, a slice's (start, step, length), or None for a new axis.
    """
    parts = index if type(index) is tuple else (index,)
    if not all(i is None or i is Ellipsis or type(i) in (int, slice) for i in parts):
        return None
    taken = sum(i is not None and i is not Ellipsis for i in parts)
    around = [slice(None)] * (len(shape) - taken)
    at = parts.index(Ellipsis) if Ellipsis in parts else len(parts)
    full = [*parts[:at], *around, *parts[at + 1 :]]
    items: list[Any] = []
    lengths = iter(shape)
    for part in full:
        if part is None:
            items.append(None)
            continue
        n = next(lengths)
        if type(part) is int:
            items.append(part % n)
        else:
            chosen = range(n)[part]
            items.append((chosen.start, chosen.step, len(chosen)))
    return items


def _read_at(place: Place, shapes: Any, statics: Any, *rest: Any) -> Part:
    items = basic(statics[0], shapes[0])
    assert items is not None
    left, found = iter(place), []
    for item in items:
        if item is None:
            next(left)
        elif type(item) is int:
            found.append(Affine(item))
        else:
            start, step, _ = item
            found.append(next(left).times(step).shifted(start))
    return Part(0, tuple(found))


def _scatter_at(
    place: Place, shapes: Any, statics: Any, shape: tuple[int, ...], out: int, ranges: Ranges
) -> Part | Fill:
    items = basic(statics[0], shape)
    assert items is not None
    left, found = iter(place), []
    for item in items:
        if item is None:
            found.append(ZERO)
            continue
        start, step, length = (item, 1, 1) if type(item) is int else item
        x = next(left)
        high, low = _divided(x.shifted(-start), abs(step), ranges) if abs(step) > 1 else (None, ZERO)
        steps = x.shifted(-start) if high is None else high
        if low != ZERO:
            raise OpaqueError
        inside = _within(steps.times(-1) if step < 0 else steps, length, ranges)
        if inside is None:
            return Fill(0)
        if type(item) is not int:
            found.append(inside)
    return Part(0, tuple(found))


def _within(x: Affine, length: int, ranges: Ranges) -> Affine | None:
    """x if it is from 0 to length - 1 all over the ranges, None if it is nowhere.

    Raises CutError, or OpaqueError, if it is so in a part of them.
    """
    low, high = bounds(x, ranges)
    if high < 0 or low >= length:
        return None
    if low >= 0 and high < length:
        return x
    if len(x.terms) != 1 or type(x.terms[0][0]) is not int or abs(x.terms[0][1]) != 1:
        raise OpaqueError
    edge = 0 if low < 0 else length
    ((loop, factor),) = x.terms
    raise CutError(loop, edge - x.constant if factor > 0 else x.constant - edge + 1)


def _pad(
    place: Place, shapes: Any, statics: Any, shape: tuple[int, ...], out: int, ranges: Ranges
) -> Part | Fill:
    paddings, _, value = statics
    found = []
    for x, n, (before, _) in zip(place, shapes[0], paddings, strict=True):
        inside = _within(x.shifted(-before), n, ranges)
        if inside is None:
            return Fill(value)
        found.append(inside)
    return Part(0, tuple(found))


def _concat(
    place: Place, shapes: Any, statics: Any, shape: tuple[int, ...], out: int, ranges: Ranges
) -> Part:
    axis = statics[0] % len(place)
    start = 0
    for i, given in enumerate(shapes):
        inside = _within(place[axis].shifted(-start), given[axis], ranges)
        if inside is not None:
            return Part(i, (*place[:axis], inside, *place[axis + 1 :]))
        start += given[axis]
    raise AssertionError(place)


def _stack(place: Place, shapes: Any, statics: Any, shape: tuple[int, ...], out: int, ranges: Ranges) -> Part:
    axis = statics[0] % len(place)
    for i, given in enumerate(shapes):
        if _within(place[axis].shifted(-i), 1, ranges) is not None:
            return Part(i, stretched((*place[:axis], *place[axis + 1 :]), given))
    raise AssertionError(place)


def _unstack(place: Place, shapes: Any, statics: Any, shape: Any, out: int, *rest: Any) -> Part:
    axis = statics[1] % (len(place) + 1)
    return Part(0, (*place[:axis], Affine(out), *place[axis:]))


def _split(place: Place, shapes: Any, statics: Any, shape: Any, out: int, *rest: Any) -> Part:
    axis = statics[1] % len(place)
    sizes = statics[0]
    if isinstance(sizes, int):
        start = out * shape[axis]
    else:
        free = shapes[0][axis] - sum(n for n in sizes if n != -1)
        start = sum(free if n == -1 else n for n in sizes[:out])
    return Part(0, (*place[:axis], place[axis].shifted(start), *place[axis + 1 :]))


def _taken(place: Place, shapes: Any, statics: Any, *rest: Any) -> Part:
    raise NotImplementedError("reads at an index that is data are told by the tracer")


_SOURCES: dict[str, Callable[..., Part | Fill]] = {
    "broadcast_to": _broadcast_to,
    "concat": _concat,
    "expand_dims": _expand_dims,
    "gather": _taken,
    "matrix_transpose": _matrix_transpose,
    "pad": _pad,
    "read_at": _read_at,
    "reshape": _reshape,
    "reverse": _reverse,
    "scatter_at": _scatter_at,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "take": _taken,
    "transpose": _transpose,
    "unstack": _unstack,
}


def is_structural(node: Node) -> bool:
    return node.op.name in _SOURCES


def can_place(node: Node, specs: Mapping[int, Spec]) -> bool:
    """Whether `source` knows the op, for these static attributes."""
    name, statics = node.op.name, node.statics
    if name not in _SOURCES or any(x not in specs for x in node.operands):
        return False
    if name in ("concat", "stack"):
        return type(statics[0]) is int and len({specs[x].dtype for x in node.operands}) == 1
    if name == "read_at":
        return basic(statics[0], specs[node.operands[0]].shape) is not None
    if name == "scatter_at":
        return basic(statics[0], tuple(statics[1])) is not None
    if name == "pad":
        return statics[1].upper() == "CONSTANT" and type(statics[2]) in (int, float)
    if name == "split":
        return isinstance(statics[0], (int, tuple))
    if name in ("take", "gather"):
        return _along_first(node, specs)
    return True


def _along_first(node: Node, specs: Mapping[int, Spec]) -> bool:
    """Whether the node reads along the first axis, at integers of their own dtype."""
    x, indices = node.operands
    if specs[indices].dtype.kind != "i" or not specs[x].shape:
        return False
    if node.op.name == "take":
        return node.statics[0] in (0, -len(specs[x].shape)) or (
            node.statics[0] is None and len(specs[x].shape) == 1
        )
    _, axis, batch = node.statics
    return batch == 0 and axis in (None, 0, -len(specs[x].shape))
