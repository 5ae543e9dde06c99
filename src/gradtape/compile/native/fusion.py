"""Which nodes become native code, in kernels as large as can be, and which NumPy runs between them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gradtape.compile.graph import Graph, Node, Spec
from gradtape.compile.native.lanes import REDUCTIONS, can_compute
from gradtape.compile.native.places import can_place, is_structural
from gradtape.compile.native.roots import is_product
from gradtape.compile.native.text import KINDS

__all__ = ["Kernel", "fused", "is_elementwise", "updates_apart"]

_SMALL_PRODUCT = 32**3  # multiplications, up to which a product of matrices is native code
_MANY_PRODUCTS = 32  # from which on they are left to NumPy: each takes milliseconds to compile
# Nodes that become one kernel, and, where there are more, how many do at a time: the time to compile a kernel
# grows faster than their number.
_MOST, _AT_A_TIME = 1200, 256
_LARGE = 2**20  # bytes of a result from which on it is worth taking the place of what it was made of
_WIDE = 2**13  # numbers, up to which a product with a transposed matrix is summed up row by row


@dataclass(frozen=True)
class Kernel:
    """A part of a graph that becomes native code; its inputs come from outside, its outputs go there."""

    graph: Graph


def fused(graph: Graph) -> list[Node | Kernel]:
    """The graph's nodes and kernels in an order in which they can run.

    A node that only looks at its operand in another way, for NumPy or as a result, is left to NumPy, which
    does not copy; kernels that read it have it, too.
    """
    maker = {x: node for node in graph.nodes for x in node.outs}
    native = {id(node) for node in graph.nodes if _can_run(node, graph.specs, graph.constants)}
    products = [node for node in graph.nodes if id(node) in native and is_product(node)]
    if len(products) > _MANY_PRODUCTS:
        native.difference_update(map(id, products))
    most = _MOST if len(native) <= _MOST else _AT_A_TIME
    is_view = {id(node) for node in graph.nodes if id(node) in native and node.op.name in _VIEWS}
    core = [node for node in graph.nodes if id(node) in native and id(node) not in is_view]
    others = _for_numpy(graph, native, is_view)
    base: dict[int, int] = {}  # what a view looks at
    for node in graph.nodes:
        if id(node) in is_view:
            base.update({x: base.get(node.operands[0], node.operands[0]) for x in node.outs})

    steps: list[Node | Kernel] = []
    place = {id(node): i for i, node in enumerate(graph.nodes)}
    others.sort(key=lambda node: place[id(node)])
    there = {*graph.inputs, *graph.constants}
    while core or others:
        made = set(there)
        chosen: list[Node] = []
        later: list[Node] = []
        # Nothing overtakes a node of NumPy's that was recorded before it, or values would live too long.
        end = place[id(others[0])] if others else len(graph.nodes)
        for node in core:
            if (
                place[id(node)] < end
                and len(chosen) < most
                and all(base.get(x, x) in made for x in node.operands)
            ):
                chosen.append(node)
                made.update(node.outs)
            else:
                later.append(node)
        if chosen:
            needed = {base.get(x, x) for node in (*later, *others) for x in node.operands}
            needed |= set(graph.outputs)
            part = _part(graph, chosen, maker, is_view, needed)
            steps.extend([Kernel(part)] if part.outputs else [])
        core, there = later, made
        end = place[id(core[0])] if core else len(graph.nodes)
        ready: list[Node] = []
        for node in others:
            if (ready and place[id(node)] > end) or not all(x in there for x in node.operands):
                break
            ready.append(node)
            there.update(node.outs)
        if not (chosen or ready):
            raise AssertionError("the graph's nodes are not in an order in which they can run")
        steps.extend(ready)
        others = others[len(ready) :]
    return steps


def updates_apart(kernel: Kernel) -> tuple[Kernel | None, list[Kernel]]:
    """A kernel without its large results that are of the shape of something it reads, element by element,
    and share single numbers at most with the others; and each of these by itself, to take the place of what
    it reads.
    """
    graph = kernel.graph
    maker = {x: node for node in graph.nodes for x in node.outs}
    behind = {x: _nodes_behind(x, maker) for x in graph.outputs}
    updates = []
    for x, nodes in behind.items():
        spec = graph.specs[x]
        others = set().union(*(theirs for y, theirs in behind.items() if y != x))
        large = spec.nbytes >= _LARGE and is_elementwise(nodes.values(), graph.specs)
        read = {y for node in nodes.values() for y in node.operands}
        takes = any(graph.specs.get(y) == spec and y in graph.inputs for y in read)
        shared = [y for i, node in nodes.items() if i in others for y in node.outs]
        if large and takes and not any(graph.specs[y].shape for y in shared):
            updates.append(x)
    if not updates or graph.outputs == tuple(updates[:1]):
        return kernel, []
    rest = [x for x in graph.outputs if x not in updates]
    return _kernel_of(graph, rest, behind) if rest else None, [
        _kernel_of(graph, [x], behind) for x in updates
    ]


def is_elementwise(nodes: Iterable[Node], specs: Mapping[int, Spec]) -> bool:
    """Whether each element follows from those at its own place, and from numbers that read no array."""

    def is_number(node: Node) -> bool:
        return not any(specs[x].shape for x in (*node.operands, *node.outs) if x in specs)

    return all(node.op.broadcasts or is_number(node) for node in nodes)


def _nodes_behind(x: int, maker: Mapping[int, Node]) -> dict[int, Node]:
    """The nodes that a value follows from, by identity."""
    found: dict[int, Node] = {}
    waiting = [x]
    while waiting:
        node = maker.get(waiting.pop())
        if node is not None and id(node) not in found:
            found[id(node)] = node
            waiting += node.operands
    return found


def _kernel_of(graph: Graph, outputs: list[int], behind: Mapping[int, Mapping[int, Node]]) -> Kernel:
    wanted = {i for x in outputs for i in behind[x]}
    part = graph.with_nodes([node for node in graph.nodes if id(node) in wanted], outputs)
    read = {x for node in part.nodes for x in node.operands}
    return Kernel(part._replace(inputs=tuple([x for x in graph.inputs if x in read])))


# What NumPy does without copying.
_VIEWS = frozenset(
    {"broadcast_to", "expand_dims", "matrix_transpose", "read_at", "reshape", "reverse", "split", "squeeze"}
    | {"transpose", "unstack"}
)


def _for_numpy(graph: Graph, native: set[int], is_view: set[int]) -> list[Node]:
    """The nodes that NumPy runs: those that are not native, and the views that these or the results need."""
    needed = set(graph.outputs)
    found = []
    for node in reversed(graph.nodes):
        if id(node) not in native or (id(node) in is_view and needed & set(node.outs)):
            found.append(node)
            needed |= set(node.operands)
    return found[::-1]


def _part(
    graph: Graph, chosen: list[Node], maker: Mapping[int, Node], is_view: set[int], needed: set[int]
) -> Graph:
    """The chosen nodes, with the views that they read, as a graph; needed: the values wanted outside."""
    kept = {id(node) for node in chosen}
    todo = [x for node in chosen for x in node.operands]
    while todo:
        x = todo.pop()
        node = maker.get(x)
        if node is not None and id(node) in is_view and id(node) not in kept:
            kept.add(id(node))
            todo.extend(node.operands)
    nodes = tuple([node for node in graph.nodes if id(node) in kept])
    made = {x for node in nodes for x in node.outs}
    read = dict.fromkeys(x for node in nodes for x in node.operands)
    return Graph(
        inputs=tuple([x for x in read if x not in made and x not in graph.constants]),
        outputs=tuple([x for node in chosen for x in node.outs if x in needed]),
        nodes=nodes,
        constants={x: graph.constants[x] for x in read if x in graph.constants},
        specs=graph.specs,
    )


# -- what native code can do ---------------------------------------------------------------------------------


def _can_run(node: Node, specs: Mapping[int, Spec], constants: Mapping[int, Any]) -> bool:
    values = [specs[x] for x in (*node.operands, *node.outs) if x in specs]
    if any(spec.dtype not in KINDS or 0 in spec.shape for spec in values):
        return False
    if is_structural(node):
        return can_place(node, specs)
    if node.op.name in REDUCTIONS:
        return node.operands[0] in specs and node.statics[0] != ()
    if is_product(node):
        return _can_multiply(node, specs)
    return can_compute(node, specs, constants)


def _can_multiply(node: Node, specs: Mapping[int, Spec]) -> bool:
    """Whether it is a product of small matrices, or of a matrix and a vector, of one floating dtype."""
    if any(x not in specs for x in node.operands):
        return False
    a, b = (specs[x] for x in node.operands)
    out = specs[node.outs[0]]
    size = math.prod(out.shape)
    if not (a.dtype == b.dtype == out.dtype) or out.dtype.kind != "f" or max(len(a.shape), len(b.shape)) > 2:
        return False
    if node.op.name == "matvec" and len(b.shape) > 1:
        return False  # many vectors
    turned = len(a.shape) == 2 and (node.statics[0] or node.statics[2 if node.op.name == "matmul" else 1])
    m = a.shape[-2] if turned else a.shape[-1]
    if size * m <= _SMALL_PRODUCT or m == 1:
        return True
    rows = 1 if len(a.shape) == 1 else a.shape[-1] if turned else a.shape[-2]
    columns = size // rows
    return 1 in (rows, columns) and (size <= _WIDE or not turned)
