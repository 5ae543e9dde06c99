"""The passes, each alone: what they take out of a graph, what they leave, and that nothing else changes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from graphs import Builder, special

from gradtape.compile.graph import Graph, run
from gradtape.compile.passes import PASSES, common, folded, form, live, optimized, simplified

NAN, INF = np.nan, np.inf
X = {
    "real": np.array([0.0, -0.0, 1.5, -2.0, INF, -INF, NAN, 5e-324]),
    "complex": np.array([complex(a, b) for a, b in itertools.product([0.0, -0.0, 1.5, INF, NAN], repeat=2)]),
    "int": np.array([0, 1, -1, 2**62]),
    "bool": np.array([True, False]),
}


def names(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.nodes]


def assert_same_bits(graph: Graph, other: Graph, inputs: list[Any]) -> None:
    with np.errstate(all="ignore"):
        for got, want in zip(run(other, inputs), run(graph, inputs), strict=True):
            got, want = np.asarray(got), np.asarray(want)
            assert (got.shape, got.dtype) == (want.shape, want.dtype)
            parts = [(got.real, want.real), (got.imag, want.imag)] if got.dtype.kind == "c" else [(got, want)]
            for a, b in parts:
                np.testing.assert_array_equal(a, b)
                if a.dtype.kind == "f":
                    sure = ~np.isnan(b)
                    np.testing.assert_array_equal(np.signbit(a)[sure], np.signbit(b)[sure])


# -- algebra -------------------------------------------------------------------------------------------------

NUMBERS = [0, 1, -1, True, False, 0.0, -0.0, 1.0, 2.0, np.float64(1.0), np.int64(1), np.int64(0), np.ones(3)]


@pytest.mark.parametrize("kind", X)
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
@pytest.mark.parametrize("left", [False, True])
def test_algebra_changes_no_bit(name: str, kind: str, left: bool) -> None:
    for number, vary in itertools.product(NUMBERS, [np.asarray, lambda x: x[:1]]):
        x = vary(X[kind])
        if np.ndim(number):
            number = np.ones(x.shape)
        b = Builder()
        operands = [b.input(x), b.constant(number)]
        try:
            out = b.op(name, *(operands[::-1] if left else operands))
        except TypeError:
            continue  # no subtracting of bools
        graph = b.graph(out)
        assert_same_bits(graph, simplified(graph), b.arguments())


SIMPLE: dict[str, Callable[[Builder, int], int]] = {
    "x * 1": lambda b, x: b.op("multiply", x, b.constant(1.0)),
    "1 * x": lambda b, x: b.op("multiply", b.constant(1), x),
    "x * ones": lambda b, x: b.op("multiply", x, b.constant(np.ones((2, 3)))),
    "x / 1": lambda b, x: b.op("divide", x, b.constant(1)),
    "x - 0": lambda b, x: b.op("subtract", x, b.constant(0.0)),
    "x + -0": lambda b, x: b.op("add", x, b.constant(-0.0)),
    "--x": lambda b, x: b.op("negative", b.op("negative", x)),
    "identity": lambda b, x: b.op("identity", x),
    "reshape back": lambda b, x: b.op("reshape", b.op("reshape", x, statics=[(6,)]), statics=[(2, 3)]),
    "transpose back": lambda b, x: b.op(
        "transpose", b.op("transpose", x, statics=[None, False]), statics=[(1, 0), True]
    ),
    "broadcast": lambda b, x: b.op("broadcast_to", x, statics=[(2, 3)]),
    "where": lambda b, x: b.op("where", b.constant(np.bool_(True)), x, b.constant(np.zeros((2, 3)))),
    "where of the same": lambda b, x: b.op("where", b.input(np.bool_(True)), x, x),
}
NOT_SIMPLE: dict[str, Callable[[Builder, int], int]] = {
    "x + 0": lambda b, x: b.op("add", x, b.constant(0.0)),
    "x - -0": lambda b, x: b.op("subtract", x, b.constant(-0.0)),
    "x * 0": lambda b, x: b.op("multiply", x, b.constant(0.0)),
    "a wider shape": lambda b, x: b.op("multiply", x, b.constant(np.ones((4, 2, 3)))),
    "another dtype": lambda b, x: b.op("multiply", x, b.constant(np.ones((), complex)[()])),
    "1 - x": lambda b, x: b.op("subtract", b.constant(1.0), x),
}


@pytest.mark.parametrize("make", SIMPLE.values(), ids=SIMPLE)
def test_what_changes_nothing_is_simplified(make: Callable[[Builder, int], int]) -> None:
    b = Builder()
    x = b.input(np.arange(6.0).reshape(2, 3))
    graph = simplified(b.graph(make(b, x)))
    assert graph.outputs == (x,)


@pytest.mark.parametrize("make", NOT_SIMPLE.values(), ids=NOT_SIMPLE)
def test_what_may_change_something_stays(make: Callable[[Builder, int], int]) -> None:
    b = Builder()
    graph = b.graph(make(b, b.input(np.arange(6.0).reshape(2, 3))))
    assert names(simplified(graph)) == names(graph)


# -- dead code, common subexpressions, constants -------------------------------------------------------------


def test_what_nobody_reads_is_let_go() -> None:
    b = Builder()
    x = b.input(np.ones(2))
    out = b.op("sin", x)
    b.op("exp", b.op("multiply", out, b.constant(2.0)))
    graph = live(b.graph(out))
    assert names(graph) == ["sin"]
    assert not graph.constants


def test_equal_ops_on_equal_constants_are_one_and_others_are_not() -> None:
    b = Builder()
    x = b.input(np.ones(2))
    same = [b.op("multiply", x, b.constant(c)) for c in (2.0, 2.0)]
    others = [
        b.op("multiply", x, b.constant(c)) for c in (2, np.float64(2.0), 0.0, -0.0, np.array([2.0, 2.0]))
    ]
    graph = common(b.graph(*same, *others))
    assert len(graph.nodes) == 6
    assert graph.outputs[0] == graph.outputs[1]
    assert len(set(graph.outputs)) == 6


def test_attributes_tell_ops_apart() -> None:
    b = Builder()
    x = b.input(np.ones((2, 2)))
    pads = [b.op("pad", x, statics=[((1, 0), (0, 1)), "CONSTANT", c]) for c in (0.0, -0.0, NAN, NAN, 1, 1.0)]
    assert len(common(b.graph(*pads)).nodes) == 5


def test_constants_are_folded_if_they_are_small() -> None:
    b = Builder()
    x = b.input(np.float64(1.0))
    small = b.op("exp", b.constant(np.array([0.0, 1.0])))
    large = b.op("exp", b.constant(np.zeros(10_000)))
    out = b.op("multiply", b.op("add", small, x), b.op("reduce_sum", large, statics=[None, False]))
    graph = folded(b.graph(out))
    assert names(graph) == ["exp", "add", "reduce_sum", "multiply"]
    assert_same_bits(b.graph(out), graph, [2.0])


# -- all of them ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("kind", ["real", "complex", "int"])
def test_all_passes_together_change_no_bit(kind: str, native: bool) -> None:
    b = Builder()
    x = b.input(X[kind])
    one = b.op("multiply", b.op("add", x, b.constant(0)), b.constant(1))
    two = b.op("add", b.op("multiply", x, b.constant(1)), b.constant(0))
    out = b.op("subtract", b.op("negative", b.op("negative", one)), b.op("multiply", two, b.constant(2)))
    graph = b.graph(out, one, x)
    for _, one_pass in PASSES:
        assert_same_bits(graph, one_pass(graph), b.arguments())
    assert_same_bits(graph, optimized(graph, native)[0], b.arguments())


def test_graphs_that_do_the_same_have_one_form() -> None:
    def made(number: Any, first: int) -> Graph:
        b = Builder()
        for _ in range(first):
            b.constant(0)
        out = b.op("multiply", b.input(special(np.float64)), b.constant(number))
        return live(b.graph(out))

    assert form(made(2.0, 0)) == form(made(2.0, 5))
    assert len({form(made(x, 0)) for x in (2.0, 2, np.float64(2.0), 0.0, -0.0, NAN)}) == 6
