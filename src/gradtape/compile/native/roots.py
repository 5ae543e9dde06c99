"""What a run of kernels puts into memory, and from what: a root for each value, or several."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradtape.compile.graph import Graph, Node, Spec
from gradtape.compile.native.lanes import REDUCTIONS
from gradtape.compile.native.places import ZERO, Affine, Place, basic, variable

__all__ = ["Constant", "Program", "Root", "is_product", "roots"]


_COPIED = ("concat", "pad", "scatter_at", "stack")  # ops whose operands can be stored, each at its place


class Constant(NamedTuple):
    """A number of a dtype."""

    value: Any
    dtype: np.dtype[Any]


class Program:
    """The nodes of consecutive kernels, with who makes what; `kept` are the values that live in memory."""

    def __init__(self, graphs: Sequence[Graph], outputs: Iterable[int]) -> None:
        self.specs: dict[int, Spec] = {}
        self.constants: dict[int, Any] = {}
        self.kept: set[int] = set()
        self.copied: set[int] = set()
        self.sums: dict[int, list[int]] = {}
        self.outputs = {x for graph in graphs for x in graph.outputs} if len(graphs) > 1 else set()
        self.alike: dict[int, Constant | None] = {}
        for graph in graphs:
            self.specs.update(graph.specs)
            self.constants.update(graph.constants)
        first = {node.outs[0]: node for graph in reversed(graphs) for node in reversed(graph.nodes)}
        needed = set(outputs)
        found: list[Node] = []
        for node in reversed([node for graph in graphs for node in graph.nodes]):
            if first[node.outs[0]] is node and needed & set(node.outs):
                needed.update(node.operands)
                found.append(node)
        self.nodes = found[::-1]
        self.maker = {x: i for i, node in enumerate(self.nodes) for x in node.outs}

    def size(self, value: int) -> int:
        return math.prod(self.specs[value].shape)

    def constant(self, value: int) -> "Constant | None":
        """The one number that all elements of a constant are, if they are alike to the bit."""
        if value not in self.alike:
            array = np.asarray(self.constants[value])
            first = array.flat[0]
            same = array.size == 1 or bool((array == first).all())
            if same and array.dtype.kind == "f":
                same = bool((np.signbit(array) == np.signbit(first)).all())
            self.alike[value] = Constant(first, array.dtype) if same else None
        return self.alike[value]

    def node(self, value: int) -> Node:
        return self.nodes[self.maker[value]]

    def is_leaf(self, value: int) -> bool:
        """Whether the value is read from memory."""
        return value in self.kept or value not in self.maker

    def keep(self, node: Node) -> set[int]:
        """Puts into memory what makes the loops too many, or the index unknown: the values not yet there."""
        if node.op.name not in _COPIED:
            new = set(node.operands if node.op.name == "reshape" else node.outs) - self.kept
            self.kept |= new
            return new
        terms = _added(self, node)
        if len(terms) > 3:
            self.sums[terms[-1]] = terms[:-1]
            self.kept.add(terms[-1])
            return {terms[-1]}
        alike = [
            other.outs[0]
            for other in self.nodes
            if other.op.name == node.op.name and self.specs[other.outs[0]] == self.specs[node.outs[0]]
        ]
        new = set(alike) - self.copied
        self.kept.update(alike)
        self.copied.update(alike)
        return new

    def buffer(self, value: int) -> int | None:
        """Whose memory holds the elements of the value, in order; None if none does."""
        while not self.is_leaf(value):
            node = self.node(value)
            if node.op.name not in ("reshape", "expand_dims", "squeeze"):
                return None
            value = node.operands[0]
        return value


# -- what is put into memory ---------------------------------------------------------------------------------


class Root(NamedTuple):
    """For all points of the domain: the product of the factors is stored at `out`, or reduced into it.

    Places are affine in the axes of the domain, which has none of length 1. Without factors, the constant is
    stored. A value may have several roots, which are to run in order: none of them is `alone`. adds: what the
    roots before have stored is reduced with it.
    """

    value: int
    domain: tuple[int, ...]
    factors: tuple[tuple[int, Place], ...]
    out: Place
    reduce: str = ""
    constant: float = 0
    alone: bool = True
    adds: bool = False


def is_product(node: Node) -> bool:
    return node.op.name in ("matmul", "matvec")


def _axes(shape: Sequence[int]) -> tuple[tuple[int, ...], Place]:
    """The domain of a shape, and the place in it that goes over all of the shape."""
    loops = itertools.count()
    place = tuple([ZERO if n == 1 else variable(next(loops)) for n in shape])
    return tuple([n for n in shape if n != 1]), place


def roots(program: Program, value: int) -> list[Root]:
    """How the value comes into memory."""
    node = program.node(value)
    if node.op.name in REDUCTIONS:
        return [_reduction(program, node)]
    if is_product(node):
        return [_product(program, node)]
    if value in program.sums:
        return _sum(program, value)
    if value in program.copied:
        return _copies(program, node)
    domain, place = _axes(program.specs[value].shape)
    return [Root(value, domain, ((value, place),), place)]


def _reduction(program: Program, node: Node) -> Root:
    (x,) = node.operands
    axis, keepdims = node.statics
    shape = program.specs[x].shape
    n = len(shape)
    gone = range(n) if axis is None else [a % n for a in (axis if isinstance(axis, tuple) else (axis,)) if n]
    domain, place = _axes(shape)
    out = tuple([ZERO if i in gone else p for i, p in enumerate(place) if keepdims or i not in gone])
    return Root(node.outs[0], domain, ((x, place),), out, node.op.name)


def _product(program: Program, node: Node) -> Root:
    """A sum of products: in the order of the elements of the first matrix, or along rows of the second."""
    (a, b), (value,) = node.operands, node.outs
    shape_a, shape_b = program.specs[a].shape, program.specs[b].shape
    flags = node.statics if node.op.name == "matmul" else (node.statics[0], False, node.statics[1], False)
    turned_a, turned_b = flags[0] or flags[2], flags[1] or flags[3]
    n = 1 if len(shape_a) == 1 else shape_a[-1] if turned_a else shape_a[-2]
    m = shape_a[-2] if turned_a else shape_a[-1]
    p = 1 if len(shape_b) == 1 else shape_b[-2] if turned_b else shape_b[-1]
    order = ("k", "i", "j") if turned_a else ("i", "j", "k") if turned_b or p == 1 else ("i", "k", "j")
    lengths = {"i": n, "j": p, "k": m}
    domain, place = _axes([lengths[axis] for axis in order])
    at = dict(zip(order, place, strict=True))
    of_a = (at["k"],) if len(shape_a) == 1 else (at["k"], at["i"]) if turned_a else (at["i"], at["k"])
    of_b = (at["k"],) if len(shape_b) == 1 else (at["j"], at["k"]) if turned_b else (at["k"], at["j"])
    out = tuple([at["i"]] * (len(shape_a) > 1) + [at["j"]] * (len(shape_b) > 1))
    return Root(value, domain, ((a, of_a), (b, of_b)), out, "reduce_sum")


def _copies(program: Program, node: Node) -> list[Root]:
    """The operands of an op that puts them side by side or into margins, each stored at its place."""
    (value,) = node.outs
    shape = program.specs[value].shape
    name, statics = node.op.name, node.statics
    stores = []
    if name in ("scatter_at", "pad"):
        domain, place = _axes(shape)
        stores.append(Root(value, domain, (), place, constant=statics[2] if name == "pad" else 0))
    start = 0
    for i, x in enumerate(node.operands):
        given = program.specs[x].shape if x in program.specs else ()
        domain, place = _axes(given)
        if name == "scatter_at":
            out = _scattered(statics[0], shape, place)
        elif name == "pad":
            out = [p.shifted(before) for p, (before, _) in zip(place, statics[0], strict=True)]
        elif name == "concat":
            axis = statics[0] % len(shape)
            out = [p.shifted(start) if k == axis else p for k, p in enumerate(place)]
            start += given[axis]
        else:
            axis = statics[0] % len(shape)
            out = [*place[:axis], Affine(i), *place[axis:]]
        stores.append(Root(value, domain, ((x, place),), tuple(out)))
    return [root._replace(alone=False) for root in stores]


def _scattered(index: Any, shape: tuple[int, ...], place: Place) -> list[Affine]:
    """Where in an array of the shape the update at `place` goes."""
    left = iter(place)
    out = []
    for item in basic(index, shape) or []:
        if type(item) is int:
            out.append(Affine(item))
        elif item is None:
            next(left)
        else:
            out.append(next(left).times(item[1]).shifted(item[0]))
    return out


def _added(program: Program, node: Node) -> list[int]:
    """The terms of a sum, one added after the other, of which that of `node` is one, and then the sum itself.

    All but the first are scattered, and nothing else reads them, nor the sums in between.
    """
    users: dict[int, list[Node]] = {}
    for user in program.nodes:
        for x in user.operands:
            users.setdefault(x, []).append(user)

    def only_added(x: int) -> bool:
        read = users.get(x, [])
        return x not in program.kept and len(read) == 1 and read[0].op.name == "add"

    def is_scattered(x: int) -> bool:
        return x in program.maker and program.node(x).op.name == "scatter_at" and only_added(x)

    total = node.outs[0]
    while only_added(total) and program.specs[users[total][0].outs[0]] == program.specs[total]:
        total = users[total][0].outs[0]
    terms, sofar = [total], total
    while program.node(sofar).op.name == "add" and (sofar == total or only_added(sofar)):
        a, b = program.node(sofar).operands
        if not is_scattered(b):
            a, b = b, a
        if not is_scattered(b) or program.specs.get(a) != program.specs[total]:
            break
        terms.append(b)
        sofar = a
        if a not in program.maker:
            break
    return [*([sofar] if sofar != total else []), *terms[:0:-1], total]


def _sum(program: Program, value: int) -> list[Root]:
    """The first term is stored, and each of the others added where it goes."""
    spec = program.specs[value]
    first, *others = program.sums[value]
    domain, place = _axes(spec.shape)
    found = [Root(value, domain, ((first, place),), place, alone=False)]
    for x in others:
        node = program.node(x)
        domain, at = _axes(program.specs[node.operands[0]].shape)
        out = tuple(_scattered(node.statics[0], spec.shape, at))
        found.append(
            Root(value, domain, ((node.operands[0], at),), out, "reduce_sum", alone=False, adds=True)
        )
    return found
