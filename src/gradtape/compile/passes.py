"""What is done to a graph before it runs: each pass is a function from graph to graph, with the same
results.
"""

from collections.abc import Callable, Mapping
from math import copysign
from typing import Any, TypeAlias

import numpy as np

from gradtape.compile.graph import Graph, Node, Spec, hashable, is_scalar
from gradtape.compile.lowering import lowered

__all__ = ["PASSES", "common", "folded", "form", "live", "optimized", "simplified"]

Pass: TypeAlias = Callable[[Graph], Graph]


def optimized(graph: Graph, native: bool) -> tuple[Graph, list[tuple[str, int]]]:
    """The graph after all passes, and how many ops each left; native: in terms of the compiler's own ops."""
    left = [("recorded", len(graph.nodes))]
    for name, run in PASSES:
        graph = run(graph)
        left.append((name, len(graph.nodes)))
    if native:
        lower = lowered(graph)
        left.append(("lowered", len(lower.nodes)))
        if lower.nodes != graph.nodes:
            graph = lower
            for name, run in PASSES:
                graph = run(graph)
                left.append((name, len(graph.nodes)))
    return graph, left


# -- dead code -----------------------------------------------------------------------------------------------


def live(graph: Graph) -> Graph:
    """Without the nodes whose results nobody reads; effects stay."""
    read = set(graph.outputs)
    kept = []
    for node in reversed(graph.nodes):
        if not node.op.pure or not read.isdisjoint(node.outs):
            kept.append(node)
            read.update(node.operands)
    return graph.with_nodes(reversed(kept))


# -- common subexpressions -----------------------------------------------------------------------------------


def common(graph: Graph) -> Graph:
    """With one node for each op on the same operands, and one constant for each value."""
    first: dict[Any, Any] = {}
    same: dict[int, int] = {}
    for x, value in graph.constants.items():
        same[x] = first.setdefault(_constant_key(x, value), x)
    kept = []
    for node in graph.nodes:
        node = node._replace(operands=tuple([same.get(x, x) for x in node.operands]))
        key = (id(node.op), node.operands, hashable(node.statics), node.round) if node.op.pure else id(node)
        outs = first.setdefault(key, node.outs)
        if outs is node.outs:
            kept.append(node)
        else:
            same.update(zip(node.outs, outs, strict=True))
    return graph.with_nodes(kept, [same.get(x, x) for x in graph.outputs])


_SMALL = 4096  # bytes up to which constants are compared


def _constant_key(x: int, value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        if value.nbytes > _SMALL:
            return "constant", x
        return "constant", value.dtype, value.shape, value.tobytes()
    return "constant", type(value), repr(value)


def form(graph: Graph) -> Any:
    """What two graphs have in common that do the same: all but the numbers of their values. It can be a
    key.
    """
    order: dict[int, int] = {}
    for x in (*graph.inputs, *graph.constants):
        order.setdefault(x, len(order))
    nodes = []
    for node in graph.nodes:
        order.update({x: len(order) + i for i, x in enumerate(node.outs)})
        operands, outs = [tuple([order[x] for x in numbers]) for numbers in (node.operands, node.outs)]
        statics = hashable(node.statics) if node.op.pure else tuple(map(id, node.statics))
        nodes.append((id(node.op), operands, statics, outs, node.round))
    constants = tuple([_constant_key(id(value), value) for value in graph.constants.values()])
    specs = tuple([graph.specs.get(x) for x in order])
    return tuple(nodes), constants, specs, len(graph.inputs), tuple([order[x] for x in graph.outputs])


# -- constants -----------------------------------------------------------------------------------------------


def folded(graph: Graph) -> Graph:
    """With the ops done whose operands are constant, if their results are small."""
    constants, specs = dict(graph.constants), dict(graph.specs)
    kept = []
    for node in graph.nodes:
        known = [constants.get(x, constants) for x in node.operands]
        if not node.op.pure or any(x is constants for x in known) or _bytes(node, specs) > _SMALL:
            kept.append(node)
            continue
        with np.errstate(all="ignore"):
            results = node.evaluate(known)
        for x, value in zip(node.outs, results, strict=True):
            constants[x] = value if np.ndim(value) else value[()]
    return graph.with_nodes(kept, constants=constants)


def _bytes(node: Node, specs: Mapping[int, Spec]) -> int:
    return sum(specs[x].nbytes for x in node.outs)


# -- algebra -------------------------------------------------------------------------------------------------


def simplified(graph: Graph) -> Graph:
    """Without ops that change nothing, bit for bit: x * 1, x / 1, x - 0, --x, a cast to the same dtype and so
    on.

    What IEEE arithmetic does not allow stays: x + 0 makes 0 of -0, x * 0 is NaN for an infinite x. A complex
    number changes even by * 1, whose imaginary part is 0.
    """
    same: dict[int, int] = {}
    made: dict[int, Node] = {}
    rewritten = _Rewritten(graph, made)
    kept = []
    for node in graph.nodes:
        node = node._replace(operands=tuple([same.get(x, x) for x in node.operands]))
        rule = _RULES.get(node.op.name)
        found = rule(rewritten, node) if rule else None
        if type(found) is int and rewritten.fits(found, node.outs[0]):
            same[node.outs[0]] = found
            continue
        if isinstance(found, Node):
            node = found
        kept.append(node)
        made.update(dict.fromkeys(node.outs, node))
    return graph.with_nodes(kept, [same.get(x, x) for x in graph.outputs])


class _Rewritten:
    """What the rules of `simplified` ask of the graph as it is so far."""

    def __init__(self, graph: Graph, made: dict[int, Node]) -> None:
        self.constants, self.specs = graph.constants, graph.specs
        self.made = made

    def fits(self, x: int, out: int) -> bool:
        """Whether x can stand for the value `out`: it is of its shape and dtype, and no weak number."""
        return x in self.specs and self.specs[x] == self.specs[out]

    def is_complex(self, node: Node) -> bool:
        """Whether the node's result is."""
        return self.specs[node.outs[0]].dtype.kind == "c"

    def is_number(self, x: int, number: float) -> bool:
        """Whether x is constant, and this number throughout, its sign included."""
        value = self.constants.get(x)
        if value is None:
            return False
        if not is_scalar(value):
            if not value.size or value.dtype.kind not in "biufc":
                return False
            first = value.flat[0]
            return (
                bool(first == number)
                and self.is_number_scalar(first, number)
                and bool((value == first).all())
            )
        return self.is_number_scalar(value, number)

    @staticmethod
    def is_number_scalar(value: Any, number: float) -> bool:
        if isinstance(value, complex) or getattr(value, "dtype", np.dtype(float)).kind == "c":
            return False
        return bool(value == number) and (number != 0 or copysign(1, float(value)) == copysign(1, number))

    def by(self, x: int, name: str) -> Node | None:
        """The node that made x, if it is of the op of this name."""
        node = self.made.get(x)
        return node if node is not None and node.op.name == name else None


Rule: TypeAlias = Callable[[_Rewritten, Node], "int | Node | None"]


def _first(g: _Rewritten, node: Node) -> int:
    return node.operands[0]


def _multiply(g: _Rewritten, node: Node) -> int | None:
    a, b = node.operands
    if g.is_complex(node):
        return None
    return a if g.is_number(b, 1) else b if g.is_number(a, 1) else None


def _divide(g: _Rewritten, node: Node) -> int | None:
    return node.operands[0] if g.is_number(node.operands[1], 1) and not g.is_complex(node) else None


def _subtract(g: _Rewritten, node: Node) -> int | None:
    return node.operands[0] if g.is_number(node.operands[1], 0) else None


def _add(g: _Rewritten, node: Node) -> int | None:
    a, b = node.operands
    if g.is_complex(node):
        return None
    integers = g.specs[node.outs[0]].dtype.kind in "iu"
    zero = 0.0 if integers else -0.0
    return a if g.is_number(b, zero) else b if g.is_number(a, zero) else None


def _negative(g: _Rewritten, node: Node) -> int | None:
    inner = g.by(node.operands[0], "negative")
    return inner.operands[0] if inner else None


def _through(g: _Rewritten, node: Node) -> "int | Node | None":
    """A reshape of a reshape, or of the same shape."""
    (x,) = node.operands
    if g.fits(x, node.outs[0]):
        return x
    inner = g.by(x, node.op.name)
    if inner is None:
        return None
    (first,) = inner.operands
    return first if g.fits(first, node.outs[0]) else node._replace(operands=(first,))


def _transpose(g: _Rewritten, node: Node) -> "int | Node | None":
    perm, conjugate = node.statics
    (x,) = node.operands
    ndim = len(g.specs[x].shape)
    order = tuple(p % ndim for p in perm) if perm is not None else tuple(range(ndim))[::-1]
    if conjugate and g.specs[x].dtype.kind == "c":
        return None
    if order == tuple(range(ndim)):
        return x
    inner = g.by(x, "transpose")
    if inner and not (inner.statics[1] and g.specs[x].dtype.kind == "c"):
        first = inner.statics[0]
        before = tuple(p % ndim for p in first) if first is not None else tuple(range(ndim))[::-1]
        both = tuple(before[p] for p in order)
        if both == tuple(range(ndim)):
            return inner.operands[0]
        return node._replace(operands=inner.operands, statics=(both, False))
    return None


def _where(g: _Rewritten, node: Node) -> int | None:
    condition, x, y = node.operands
    return x if g.is_number(condition, True) or x == y else y if g.is_number(condition, False) else None


_RULES: dict[str, Rule] = {
    "identity": _first,
    "stop_gradient": _first,
    "real": _first,
    "conj": lambda g, node: None if g.is_complex(node) else node.operands[0],
    "smooth_cast": _first,
    "discrete_cast": _first,
    "multiply": _multiply,
    "divide": _divide,
    "subtract": _subtract,
    "add": _add,
    "negative": _negative,
    "reshape": _through,
    "broadcast_to": _first,
    "expand_dims": _first,
    "squeeze": _first,
    "transpose": _transpose,
    "where": _where,
}


PASSES: list[tuple[str, Pass]] = [
    ("live", live),
    ("folded", folded),
    ("simplified", simplified),
    ("common", common),
    ("live", live),
]
