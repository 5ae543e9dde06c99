"""Graphs made by hand, and run by native code."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradtape.compile.graph import Graph, Node, Spec
from gradtape.compile.native.fusion import Kernel, fused
from gradtape.compile.native.llvm import Native, compiled
from gradtape.ops.op import REGISTRY

DTYPES = [np.float32, np.float64, np.int32, np.int64, np.bool_]
FLOATS = [np.float32, np.float64]


class Builder:
    """A graph in the making, whose ops run as they are added."""

    def __init__(self) -> None:
        self.values: dict[int, Any] = {}
        self.specs: dict[int, Spec] = {}
        self.constants: dict[int, Any] = {}
        self.inputs: list[int] = []
        self.nodes: list[Node] = []

    def value(self, x: Any) -> int:
        number = len(self.values) + 1
        self.values[number] = x
        if isinstance(x, (np.ndarray, np.generic)):
            self.specs[number] = Spec(x.shape, x.dtype)
        return number

    def input(self, x: Any) -> int:
        self.inputs.append(self.value(np.asarray(x)[()]))
        return self.inputs[-1]

    def constant(self, x: Any) -> int:
        number = self.value(x)
        self.constants[number] = x
        return number

    def ops(self, name: str, *operands: int, statics: Sequence[Any] = ()) -> list[int]:
        op = REGISTRY[name]
        if name in ("concat", "stack"):
            op = copy.copy(op)
            op.variadic = True
        node = Node(op, operands, tuple(statics), ())
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = node.evaluate([self.values[x] for x in operands])
        outs = tuple([self.value(np.asarray(x)[()]) for x in found])
        self.nodes.append(node._replace(outs=outs))
        return list(outs)

    def op(self, name: str, *operands: int, statics: Sequence[Any] = ()) -> int:
        return self.ops(name, *operands, statics=statics)[0]

    def graph(self, *outputs: int) -> Graph:
        return Graph(tuple(self.inputs), outputs, tuple(self.nodes), self.constants, self.specs)

    def arguments(self) -> list[Any]:
        return [self.values[x] for x in self.inputs]


def pick_one(rng: np.random.Generator, some: Sequence[Any]) -> Any:
    return some[rng.integers(len(some))]


def call(made: Native, graph: Graph, inputs: Sequence[Any]) -> list[np.ndarray]:
    outputs = [np.empty(graph.specs[x].shape, graph.specs[x].dtype) for x in graph.outputs]
    assert made.call(*outputs, *inputs) is outputs[0]
    return outputs


def run_native(graph: Graph, inputs: Sequence[Any]) -> list[Any]:
    """What the graph computes, its kernels by native code and the rest by NumPy."""
    values = {**graph.constants, **dict(zip(graph.inputs, inputs, strict=True))}
    for step in fused(graph):
        if isinstance(step, Kernel):
            part = step.graph
            given = [np.ascontiguousarray(a) if a.ndim else a[()] for a in (values[x] for x in part.inputs)]
            found = call(compiled([step], part.inputs, part.outputs), part, given)
            values.update(zip(part.outputs, [x[()] for x in found], strict=True))
        else:
            values.update(zip(step.outs, step.evaluate([values[x] for x in step.operands]), strict=True))
    return [values[x] for x in graph.outputs]


def whole(builder: Builder, *outputs: int) -> tuple[Native, Graph]:
    """The graph as one native function; there must be nothing that is left to NumPy."""
    graph = builder.graph(*outputs)
    steps = fused(graph)
    kernels = [step for step in steps if isinstance(step, Kernel)]
    assert len(kernels) == len(steps), steps
    return compiled(kernels, graph.inputs, graph.outputs), graph


def assert_same(got: Any, want: Any, ulps: float = 0, what: str = "") -> None:
    """Equal to the bit but for the sign of NaN, or no further off than some units in the last place."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, what
    assert got.dtype == want.dtype, what
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want, what)
        return
    same = (got == want) & (np.signbit(got) == np.signbit(want)) | (np.isnan(got) & np.isnan(want))
    with np.errstate(all="ignore"):
        unit = np.spacing(np.maximum(np.abs(want), np.finfo(want.dtype).tiny))
        off = np.where(same, 0.0, np.abs(got.astype(np.longdouble) - want) / unit)
    off[~np.isfinite(off)] = np.inf
    assert (off <= ulps).all(), (
        f"{what}: {off.max()} ulp, {got[off == off.max()][0]} {want[off == off.max()][0]}"
    )


def special(dtype: Any) -> np.ndarray:
    """Numbers of a dtype where something may go wrong, and some others."""
    rng = np.random.default_rng(0)
    if dtype == np.bool_:
        return np.array([True, False, True])
    if np.issubdtype(dtype, np.integer):
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        return np.array(
            [0, 1, -1, 2, -2, 3, 7, -7, high, low, high - 1, low + 1, *rng.integers(-99, 99, 9)], dtype
        )
    tiny, high = np.finfo(dtype).tiny, np.finfo(dtype).max
    edges = [-(2.0**31), -(2.0**31) - 1, 2.0**31 - 1, 2.0**31, 2.0**63, -(2.0**63)]
    some = [0.0, -0.0, 1, -1, 0.5, -0.5, 1.5, 2.5, -2.5, np.nan, np.inf, -np.inf, tiny, -tiny, tiny / 8]
    return np.array([*some, high, -high, 3e9, 7, -7, 100, 700, -700, *edges, *rng.normal(size=9) * 9], dtype)
