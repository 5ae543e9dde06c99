"""The native code of each op, against NumPy's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from graphs import DTYPES, FLOATS, Builder, assert_same, call, pick_one, run_native, special, whole
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from gradtape.compile.graph import Node
from gradtape.compile.native import engine as native
from gradtape.compile.native import llvm, schedule
from gradtape.compile.native.fusion import fused
from gradtape.compile.native.lanes import TRANSCENDENTAL

pytestmark = pytest.mark.skipif(not native.available(), reason="this Python has no native code")


@pytest.fixture(params=[(["e", "d", "b"], 64), (["d", "b"], 32), (["b"], 16), ([], 16)], ids=str)
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrower machines than this one may be, and one without vector functions."""
    engine = native.engine()
    isas, width = request.param
    if not set(isas) <= set(engine.isas):
        pytest.skip("wider than this machine")
    monkeypatch.setattr(engine, "isas", isas)
    monkeypatch.setattr(engine, "bytes", width)


@pytest.fixture
def tiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small things treated as large ones: in tiles, by threads."""
    monkeypatch.setattr(schedule, "_SMALL", 1)
    monkeypatch.setattr(llvm, "_PARALLEL", 1)
    monkeypatch.setattr(llvm, "_TILE", 512)


# -- elementwise ---------------------------------------------------------------------------------------------

UNARY = [
    "negative",
    "abs",
    "floor",
    "ceil",
    "round",
    "sign",
    "sqrt",
    "is_nan",
    "is_inf",
    "is_finite",
    "identity",
]
UNARY += ["logical_not", "bitwise_invert"]
BINARY = [
    "add",
    "subtract",
    "multiply",
    "divide",
    "maximum",
    "minimum",
    "mod",
    "floordiv",
    "equal",
    "not_equal",
]
BINARY += ["less", "less_equal", "greater", "greater_equal", "logical_and", "logical_or", "logical_xor"]
BINARY += ["bitwise_and", "bitwise_or", "bitwise_xor"]


def attempted(
    builder: Builder, *names: str, operands: Sequence[int], statics: Sequence[Any] = ()
) -> list[int]:
    """The results of those ops that take these operands and give a dtype that is compiled."""
    found = []
    for name in names:
        try:
            out = builder.op(name, *operands, statics=statics)
        except (TypeError, ValueError, OverflowError):
            continue
        if builder.specs[out].dtype in DTYPES and not isinstance(fused(builder.graph(out))[-1], Node):
            found.append(out)
        else:
            builder.nodes.pop()
    return found


def check_all(builder: Builder, outs: Sequence[int]) -> None:
    made, graph = whole(builder, *outs)
    for out, got in zip(outs, call(made, graph, builder.arguments()), strict=True):
        node = next(node for node in graph.nodes if out in node.outs)
        assert_same(got, builder.values[out], what=graph.line(node))


@pytest.mark.parametrize("dtype", DTYPES)
def test_unary_arithmetic_is_that_of_numpy_to_the_bit(dtype: Any, machine: None) -> None:
    builder = Builder()
    x = builder.input(special(dtype))
    outs = attempted(builder, *UNARY, operands=[x])
    for name, casts in (("smooth_cast", FLOATS), ("discrete_cast", [np.int32, np.int64, np.bool_])):
        for to in casts:
            outs += attempted(builder, name, operands=[x], statics=[np.dtype(to).name])
    assert len(outs) >= (9 if dtype == np.bool_ else 15)
    check_all(builder, outs)


@pytest.mark.parametrize(("first", "second"), list(itertools.product(DTYPES, DTYPES)))
def test_binary_arithmetic_is_that_of_numpy_to_the_bit(first: Any, second: Any) -> None:
    builder = Builder()
    x, y = builder.input(special(first)[:, None]), builder.input(special(second))
    outs = attempted(builder, *BINARY, operands=[x, y])
    condition = builder.op("less", x, y)
    outs += [condition, *attempted(builder, "where", operands=[condition, x, y])]
    assert len(outs) >= 12
    check_all(builder, outs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("number", [2, -1, 0.5, True, 2**40])
def test_python_numbers_are_weak(dtype: Any, number: float) -> None:
    builder = Builder()
    x, y = builder.input(special(dtype)), builder.constant(number)
    outs = attempted(builder, *BINARY, operands=[x, y]) + attempted(builder, *BINARY, operands=[y, x])
    if outs:
        check_all(builder, outs)
    assert bool(outs) == (dtype != np.int32 or number != 2**40)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 5.0, 8, 0.5, -1, -0.5])
def test_powers_by_multiplication(dtype: Any, exponent: float) -> None:
    builder = Builder()
    outs = attempted(builder, "pow", operands=[builder.input(special(dtype)), builder.constant(exponent)])
    if outs:
        made, graph = whole(builder, *outs)
        (got,) = call(made, graph, builder.arguments())
        exact = exponent == int(exponent) and (exponent > 2 or dtype == np.int32)
        assert_same(got, builder.values[outs[0]], 0 if exact else 1)


def wide(name: str, dtype: Any) -> list[np.ndarray]:
    """Operands of all magnitudes, and the special ones."""
    rng = np.random.default_rng(1)
    parts = [
        rng.normal(size=900),
        rng.normal(size=900) * 10,
        rng.uniform(-1, 1, 900),
        rng.uniform(-750, 750, 300),
    ]
    parts.append(np.exp(rng.uniform(-80, 80, 900)) * rng.choice([-1, 1], 900))
    parts.append(np.exp(rng.uniform(-700, 700, 300)) * rng.choice([-1, 1], 300))
    with np.errstate(over="ignore"):
        x = np.concatenate([*parts, special(np.float64), rng.uniform(0, 1e-307, 50)]).astype(dtype)
    if TRANSCENDENTAL[name] == 1:
        return [x]
    y = rng.permutation(x) if name == "atan2" else (rng.normal(size=x.size) * 5).astype(dtype)
    pairs = np.meshgrid(special(dtype), special(dtype))
    return [np.append(some, edges) for some, edges in zip((x, y), pairs, strict=True)]


@pytest.mark.parametrize("dtype", FLOATS)
def test_functions_are_within_4_ulp_of_numpy(dtype: Any, machine: None) -> None:
    builder = Builder()
    outs = {name: builder.op(name, *[builder.input(x) for x in wide(name, dtype)]) for name in TRANSCENDENTAL}
    made, graph = whole(builder, *outs.values())
    for (name, out), got in zip(outs.items(), call(made, graph, builder.arguments()), strict=True):
        want = builder.values[out]
        if name == "erfc":  # SciPy's is hundreds of units off where it is small
            want = np.array([math.erfc(x) for x in wide(name, dtype)[0]]).astype(dtype)
        assert_same(got, want, 4, name)


@given(mutually_broadcastable_shapes(num_shapes=3, max_dims=4, max_side=5), st.sampled_from(FLOATS))
@settings(max_examples=25, deadline=None)
def test_broadcasting(shapes: Any, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    builder = Builder()
    x, y, z = (builder.input(rng.normal(size=shape).astype(dtype)) for shape in shapes.input_shapes)
    out = builder.op("subtract", builder.op("multiply", x, y), z)
    (got,) = run_native(builder.graph(out), builder.arguments())
    assert_same(got, builder.values[out])


# -- reductions ----------------------------------------------------------------------------------------------

REDUCTIONS = ["reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_any", "reduce_all"]
AXES = [None, 0, 1, -1, (0, 1), (0, 2), (1, 2), (0, 1, 2)]


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 1, 40), (70, 3, 2), (1, 1, 1)])
@pytest.mark.parametrize("large", [False, True])
def test_reductions(shape: tuple[int, ...], large: bool, request: pytest.FixtureRequest) -> None:
    """Of small whole numbers, so that sums are exact in any order."""
    if large:
        request.getfixturevalue("tiled")
    rng = np.random.default_rng(0)
    builder = Builder()
    outs = []
    for dtype in (np.float32, np.int32, np.bool_):
        x = builder.input(rng.integers(-2, 3, size=shape).astype(dtype))
        for name, axis, keepdims in itertools.product(REDUCTIONS, AXES, [False, True]):
            if not (name == "reduce_prod" and dtype in FLOATS) and (keepdims or axis != (0, 1, 2)):
                outs.append(builder.op(name, x, statics=(axis, keepdims)))
    made, graph = whole(builder, *outs)
    for out, got in zip(outs, call(made, graph, builder.arguments()), strict=True):
        want = np.asarray(builder.values[out])
        np.testing.assert_array_equal(got, want, graph.line(graph.nodes[outs.index(out)]))
        assert got.dtype == want.dtype


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [1, 7, 1000, 70_000])
def test_sums_and_extremes_of_vectors(dtype: Any, n: int) -> None:
    rng = np.random.default_rng(0)
    data = rng.random(n).astype(dtype)
    builder = Builder()
    x, y = builder.input(data), builder.input(np.where(np.arange(n) == n // 2, np.nan, data))
    outs = [
        builder.op("reduce_sum", x, statics=(None, False)),
        builder.op("reduce_max", y, statics=(0, False)),
    ]
    made, graph = whole(builder, *outs)
    total, largest = call(made, graph, builder.arguments())
    exact = math.fsum(data.tolist())
    assert abs(float(total) - exact) <= 4 * np.finfo(dtype).eps * exact
    assert np.isnan(largest)


def test_long_rows_are_summed_in_blocks() -> None:
    """Numbers whose sum is rounded in one direction all along, if each is added to the total."""
    data = np.full((3, 1_000_001), 0.1, np.float32)
    builder = Builder()
    made, graph = whole(builder, builder.op("reduce_sum", builder.input(data), statics=(1, False)))
    (got,) = call(made, graph, [data])
    np.testing.assert_allclose(got, data.sum(1, dtype=float), rtol=5e-6)


# -- index arithmetic ----------------------------------------------------------------------------------------

STRUCTURAL: list[tuple[str, tuple[Any, ...]]] = [
    ("broadcast_to", ((2, 4, 6),)),
    ("reshape", ((6, 4),)),
    ("reshape", ((2, 2, 3, 2),)),
    ("reshape", ((3, 8),)),
    ("expand_dims", (1,)),
    ("squeeze", (None,)),
    ("transpose", ((1, 0), False)),
    ("transpose", (None, False)),
    ("matrix_transpose", (False,)),
    ("reverse", ((0, 1),)),
    ("read_at", ((slice(1, None), slice(None, None, -2)),)),
    ("read_at", ((..., None, 2),)),
    ("read_at", ((-1, slice(4, 1, -1)),)),
    ("scatter_at", ((slice(1, 9, 2), slice(7, 1, -1)), (9, 9))),
    ("scatter_at", ((2, slice(1, 5), slice(3, None)), (3, 6, 9))),
    ("scatter_at", ((slice(None), None, slice(1, 7)), (4, 9))),
    ("pad", (((1, 0), (2, 3)), "CONSTANT", 7)),
    ("split", (2, 1, None)),
    ("split", ((1, -1), 0, None)),
    ("unstack", (None, 1)),
]


@pytest.mark.parametrize(("name", "statics"), STRUCTURAL)
@pytest.mark.parametrize("large", [False, True])
def test_index_arithmetic(
    name: str, statics: tuple[Any, ...], large: bool, request: pytest.FixtureRequest
) -> None:
    """Of an input, and of what is computed; and what is computed from the result."""
    if large:
        request.getfixturevalue("tiled")
    shape = (4, 1, 6) if name == "scatter_at" and None in statics[0] else (4, 6)
    builder = Builder()
    x = builder.input(np.random.default_rng(0).normal(size=shape))
    outs = []
    for operand in (x, builder.op("multiply", x, builder.constant(3.0))):
        for part in builder.ops(name, operand, statics=statics):
            outs.append(builder.op("add", part, builder.constant(1.0)))
            outs.append(builder.op("reduce_sum", part, statics=(None, False)))
    made, graph = whole(builder, *outs)
    for out, got in zip(outs, call(made, graph, builder.arguments()), strict=True):
        assert_same(got, builder.values[out], 1e4 if got.ndim == 0 else 0, str(graph))


@pytest.mark.parametrize("name", ["concat", "stack"])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("count", [1, 2, 20])
def test_joining(name: str, axis: int, count: int) -> None:
    rng = np.random.default_rng(0)
    builder = Builder()
    parts = [builder.input(rng.normal(size=(3, 4))) for _ in range(count)]
    parts = [builder.op("negative", x) if i % 2 else x for i, x in enumerate(parts)]
    out = builder.op("multiply", builder.op(name, *parts, statics=(axis,)), builder.constant(2.0))
    made, graph = whole(builder, out)
    assert_same(call(made, graph, builder.arguments())[0], builder.values[out])


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_reading_at_integers_and_refusing_those_out_of_range(dtype: Any) -> None:
    table = np.random.default_rng(0).normal(size=(9, 20))
    builder = Builder()
    x = builder.input(table)
    y = builder.op("multiply", x, x)
    indices = builder.input(np.array([[0, 8, -9], [3, -1, 3]], dtype))
    first = builder.op("take", y, indices, statics=(0,))
    second = builder.op("take", builder.op("read_at", x, statics=((slice(None), 3),)), indices, statics=(0,))
    outs = [builder.op("negative", first), builder.op("negative", second)]
    made, graph = whole(builder, *outs)
    for out, got in zip(outs, call(made, graph, builder.arguments()), strict=True):
        assert_same(got, builder.values[out])
    outputs = [np.empty(graph.specs[x].shape) for x in outs]
    assert made.call(*outputs, table, np.array([[0, 8, 9], [3, -1, 3]], dtype)) is None
    assert made.call(*outputs, table, np.array([[0, 8, -10], [3, -1, 3]], dtype)) is None


def test_gather_takes_no_negative_index() -> None:
    builder = Builder()
    x, i = builder.input(np.arange(5.0)), builder.input(np.array([4, 0]))
    out = builder.op("exp", builder.op("gather", x, i, statics=(None, None, 0)))
    made, graph = whole(builder, out)
    assert_same(call(made, graph, builder.arguments())[0], builder.values[out], 4)
    assert made.call(np.empty(2), np.arange(5.0), np.array([4, -1])) is None


@pytest.mark.parametrize("count", [2, 40])
def test_parts_scattered_and_added_up(count: int) -> None:
    """The gradient of a function that reads elements and slices one by one; in the order of the sum."""
    rng = np.random.default_rng(0)
    builder = Builder()
    total = builder.input(rng.normal(size=count + 3))
    for i in range(count):
        index = (pick_one(rng, [i, slice(0, 3), slice(i, None, 2), slice(None, None, -1)]),)
        part = builder.input(rng.normal(size=np.zeros(count + 3)[index].shape) * 10.0 ** rng.integers(-9, 9))
        part = builder.op("scatter_at", part, statics=(index, (count + 3,)))
        total = builder.op("add", *((total, part) if i % 3 else (part, total)))
    out = builder.op("exp", builder.op("negative", builder.op("abs", total)))
    made, graph = whole(builder, total, out)
    found = call(made, graph, builder.arguments())
    assert_same(found[0], builder.values[total])
    assert_same(found[1], builder.values[out], 4)


# -- matrix products -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", list(itertools.product([False, True], repeat=2)))
@pytest.mark.parametrize(("n", "m", "p"), [(3, 4, 5), (16, 16, 16), (1, 7, 9), (9, 30, 1), (2, 3, 70)])
def test_small_matrix_products(flags: tuple[bool, bool], n: int, m: int, p: int) -> None:
    rng = np.random.default_rng(0)
    builder = Builder()
    a = builder.input(rng.integers(-9, 9, size=(m, n) if flags[0] else (n, m)).astype(float))
    b = builder.input(rng.integers(-9, 9, size=(p, m) if flags[1] else (m, p)).astype(float))
    outs = [
        builder.op("matmul", a, b, statics=(*flags, False, False)),
        builder.op("matmul", a, b, statics=(False, False, *flags)),
    ]
    made, graph = whole(builder, *outs)
    for out, got in zip(outs, call(made, graph, builder.arguments()), strict=True):
        assert_same(got, builder.values[out])


@pytest.mark.parametrize("n", [5, 3000])
def test_products_with_vectors(n: int) -> None:
    rng = np.random.default_rng(0)
    builder = Builder()
    a = builder.input(rng.integers(-9, 9, size=(n, 13)).astype(float))
    w, r = (builder.input(rng.integers(-9, 9, size=k).astype(float)) for k in (13, n))
    outs = [
        builder.op("matvec", a, w, statics=(False, False)),
        builder.op("matvec", a, r, statics=(True, False)),
        builder.op("matmul", r, a, statics=(False,) * 4),
        builder.op("matmul", w, a, statics=(False, True, False, False)),
        builder.op("matmul", r, r, statics=(False,) * 4),
    ]
    made, graph = whole(builder, *outs)
    for out, got in zip(outs, call(made, graph, builder.arguments()), strict=True):
        assert_same(got, builder.values[out])
