"""Every op's `lower`, by the op's samples and by special values: what it computes, against the forward."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from numerics import Case, case_id, cases, tensors

import gradtape as gt
from gradtape.compile.graph import Graph, Node, Spec, run
from gradtape.compile.lowering import lowered
from gradtape.ops import op as declaring
from gradtape.ops.op import LEADING, REGISTRY, Op
from gradtape.recorders import pop, push
from gradtape.tensor import Array, Tensor, TensorLike

# What the compiler knows, so that none of these has a `lower` of its own (but pow, for some exponents).
CORE = {
    *("add", "subtract", "multiply", "divide", "negative", "abs", "maximum", "minimum", "where", "pow"),
    *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"),
    *("logical_and", "logical_or", "logical_not", "logical_xor", "is_nan", "is_inf", "is_finite"),
    *("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_invert"),
    *("sqrt", "exp", "expm1", "log", "log1p", "erf", "erfc", "floor", "ceil", "round", "sign", "mod"),
    *("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "floordiv", "smooth_cast", "discrete_cast"),
    *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
    *("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_any", "reduce_all"),
    *("broadcast_to", "reshape", "expand_dims", "squeeze", "transpose", "matrix_transpose", "reverse"),
    *("read_at", "scatter_at", "pad", "concat", "stack", "unstack", "split", "gather", "take"),
    *("matmul", "matvec"),
}

# Ops whose forward computes a transcendental function in another way; for all others no bit may differ.
ULPS = {"sigmoid": 4, "silu": 4, "softplus": 4}
OF_SCALARS = {"pow": 1}

# Ops whose forward makes 0 of what is subnormal if the array is large: how many times the least normal number
# they may be off.
SUBNORMAL = {"sigmoid": 1, "silu": 1000}

FLOATS = ("f", "d")


class Call(NamedTuple):
    """An op that ran, and on what: as a record tells it."""

    op: Op
    operands: Sequence[Any]
    statics: tuple[Any, ...] = ()

    def graph(self, line: str = "") -> Graph:
        """The op alone: Python numbers and None are constants, all else is an input."""
        with np.errstate(all="ignore"):
            results = Node(self.op, (), self.statics, ()).evaluate(self.operands)
        n = len(self.operands)
        outs = tuple(range(n, n + len(results)))
        arrays = {i: x for i, x in enumerate(self.operands) if hasattr(x, "dtype")}
        specs = {i: Spec(x.shape, x.dtype) for i, x in [*arrays.items(), *zip(outs, results, strict=True)]}
        return Graph(
            tuple(arrays),
            outs,
            (Node(self.op, tuple(range(n)), self.statics, outs, line),),
            {i: x for i, x in enumerate(self.operands) if i not in arrays},
            specs,
        )

    def inputs(self) -> list[Any]:
        return [x for x in self.operands if hasattr(x, "dtype")]


class Listener:
    """A recorder that keeps the calls."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def record(self, op: Op, keys: Any, values: tuple[Any, ...], uniform: bool) -> None:
        end = op.operands + op.statics
        self.calls.append(Call(op, values[: op.operands], values[op.operands : end]))

    def accessed(self, variable: Any) -> None: ...

    def follows(self, key: int) -> bool:
        return False


def calls_of(function: Callable[[], Any]) -> list[Call]:
    listener = Listener()
    push(listener)
    try:
        function()
    finally:
        pop(listener)
    return listener.calls


def calls_of_sample(case: Case, dtype: str) -> list[Call]:
    return calls_of(lambda: case.results(tensors(case.draw(dtype))))


def assert_same(op: Op, got: Any, want: Any, what: str) -> None:
    """The same bits, NaN for NaN; or, if some ulps are allowed for the op, values that many apart at most."""
    got, want = np.asarray(got), np.asarray(want)
    assert (got.shape, got.dtype) == (want.shape, want.dtype), what
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want, what)
        return
    with np.errstate(all="ignore"):
        same = (got == want) & (np.signbit(got) == np.signbit(want)) | np.isnan(got) & np.isnan(want)
        ulps = (ULPS if want.ndim else ULPS | OF_SCALARS).get(op.name, 0)
        allowed = ulps * np.spacing(abs(want))
        allowed += SUBNORMAL.get(op.name, 0) * np.finfo(want.dtype).tiny
        near = np.isfinite(want) & (abs(got - want) <= allowed) & (allowed > 0)
    if not (same | near).all():
        raise AssertionError(f"{what}: {got[~(same | near)][:5]}, wanted {want[~(same | near)][:5]}")


def check(call: Call) -> Graph:
    """The lowered graph, which must give the same, in terms of core ops or of the op itself."""
    graph = call.graph()
    made = lowered(graph)
    names = {node.op.name for node in made.nodes}
    assert names <= CORE | {call.op.name}, names - CORE
    compare(call, graph, made, call.inputs())
    return made


def compare(call: Call, graph: Graph, made: Graph, inputs: Sequence[Any]) -> None:
    with np.errstate(all="ignore"):
        for got, want in zip(run(made, inputs), run(graph, inputs), strict=True):
            assert_same(call.op, got, want, f"{call.op.name}{call.statics} of {inputs}\n{made}")


# -- by samples ----------------------------------------------------------------------------------------------

float_cases = [case for case in cases() if set(case.op.dtypes) & set(FLOATS)]


@pytest.mark.parametrize("case", float_cases, ids=case_id)
def test_the_samples_of_every_op(case: Case) -> None:
    for dtype in FLOATS:
        for call in calls_of_sample(case, dtype):
            check(call)


def test_no_core_op_has_a_lowering_but_pow() -> None:
    assert [name for name in sorted(CORE) if REGISTRY[name].lower] == ["pow"]


@pytest.mark.parametrize("name", [name for name, op in REGISTRY.items() if op.lower])
def test_every_lowering_is_used_by_some_sample_of_each_dtype(name: str) -> None:
    for dtype in FLOATS:
        calls = [call for case in cases(lambda op: op.name == name) for call in calls_of_sample(case, dtype)]
        assert any(name not in {node.op.name for node in lowered(call.graph()).nodes} for call in calls)


@pytest.mark.parametrize("name", [name for name, op in REGISTRY.items() if op.lower])
def test_other_dtypes_are_left_as_they_are(name: str) -> None:
    op = REGISTRY[name]
    for case in cases(lambda op: op.name == name):
        calls = [call for d in "eFD" if d in op.dtypes and case.draw(d) for call in calls_of_sample(case, d)]
        if op.name == "identity":
            calls += [Call(op, [x]) for x in (np.arange(3), np.array([True]))]
        for call in calls:
            assert [node.op for node in lowered(call.graph()).nodes] == [call.op]


# -- by special values ---------------------------------------------------------------------------------------

elementwise_ops = pytest.mark.parametrize(
    "op",
    [op for op in REGISTRY.values() if op.lower and (op.broadcasts or op.batch == LEADING)],
    ids=lambda op: op.name,
)


def specials(dtype: str) -> Array:
    """NaN, infinities, zeros, subnormals, the greatest, where exponentials overflow, and ordinary ones."""
    info = np.finfo(dtype)
    positive = [
        0.0,
        info.smallest_subnormal,
        info.tiny,
        1e-3,
        0.5,
        1,
        2.5,
        6,
        30,
        88,
        104,
        709,
        745,
        info.max,
        np.inf,
    ]
    return np.array([np.nan, *positive, *(-x for x in positive)], dtype)


def statics_of(op: Op) -> list[tuple[Any, ...]]:
    """The static attributes of the op's samples, each once."""
    return list(
        dict.fromkeys(c.statics for case in cases(lambda o: o is op) for c in calls_of_sample(case, "d"))
    )


@elementwise_ops
@pytest.mark.parametrize("dtype", FLOATS)
def test_special_values_one_by_one(op: Op, dtype: str) -> None:
    values = specials(dtype) if op.operands < 3 else specials(dtype)[::3]
    combinations = [[np.array([x]) for x in xs] for xs in itertools.product(values, repeat=op.operands)]
    for statics in statics_of(op):
        call = Call(op, combinations[0], statics)
        graph = call.graph()
        made = lowered(graph)
        for operands in combinations:
            compare(call, graph, made, operands)


@elementwise_ops
@pytest.mark.parametrize("dtype", FLOATS)
def test_many_values_at_once(op: Op, dtype: str, rng: np.random.Generator) -> None:
    """Some forwards take other ways for large arrays."""
    xs = [rng.normal(size=5000) * 10.0 ** rng.integers(-3, 3, 5000) for _ in range(op.operands)]
    for statics in statics_of(op):
        check(Call(op, [x.astype(dtype) for x in xs], statics))


@elementwise_ops
def test_python_numbers_and_two_dtypes(op: Op) -> None:
    if op.operands < 2:
        return
    values = specials("f")
    if op.name == "zero_or_quotient":  # where there is a NaN, its forward makes -0 in other places 0
        values = values[np.isfinite(values) & (values != 0)]
    mixed = [list(pair) for pair in itertools.product([values, values.astype("d")[::-1]], repeat=op.operands)]
    for operands in mixed:
        check(Call(op, operands))
        for i, number in itertools.product(
            range(op.operands), (2.0, 0.0, -0.0, -1.5, 3, 1e-60, np.pi, np.inf)
        ):
            weak: list[Any] = list(operands)
            weak[i] = number
            if not (op.name == "sigmoid_cross_entropy_with_logits" and i and type(number) is int):
                check(Call(op, weak))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("exponent", [*range(-2, 10), *np.arange(-2, 10, 0.5).tolist(), np.nan, np.inf, -0.0])
def test_powers(exponent: float, dtype: str) -> None:
    values = specials(dtype)
    for x in [values, *values]:
        check(Call(REGISTRY["pow"], [x, exponent]))
        if x.ndim:
            check(Call(REGISTRY["pow"], [x, x.dtype.type(exponent)]))


@pytest.mark.parametrize(
    "name", ["softmax", "log_softmax", "reduce_logsumexp", "reduce_mean", "reduce_variance", "l2_loss"]
)
def test_special_values_in_rows(name: str) -> None:
    """Every pair of special values, as rows: infinities of either sign among them."""
    op = REGISTRY[name]
    for dtype in FLOATS:
        rows = np.array(list(itertools.product(specials(dtype), repeat=2)))
        statics: dict[int, tuple[Any, ...]] = {0: (), 1: (-1,), 2: (1, False)}
        check(Call(op, [rows], statics[op.statics]))


# -- shapes and dtypes of what a lowering calls --------------------------------------------------------------


def wrapped(call: Call) -> Call:
    """The call as one of an op whose lowering calls it, on those operands that are floats."""
    places = [i for i, x in enumerate(call.operands) if getattr(x, "dtype", None) in (np.float32, np.float64)]

    def filled(arrays: Sequence[Any]) -> list[Any]:
        operands = list(call.operands)
        for place, array in zip(places, arrays, strict=True):
            operands[place] = array
        return [operands] if call.op.variadic else operands

    wrapper = Op("wrapper", lambda *xs: call.op.forward(*filled(xs), *call.statics), (), "fd")
    wrapper.lower = lambda xp, *xs: getattr(xp, call.op.name)(*filled(xs), *call.statics)
    return Call(wrapper, [call.operands[i] for i in places])


@pytest.mark.parametrize("case", cases(lambda op: op.name in CORE), ids=case_id)
def test_the_spec_of_every_core_op(case: Case) -> None:
    """`lowered` compares the spec that it infers with that of the forward's result."""
    for dtype in FLOATS:
        for call in calls_of_sample(case, dtype):
            call = wrapped(call)
            if call.operands:
                graph = call.graph()
                assert "wrapper" not in {node.op.name for node in lowered(graph).nodes}
                compare(call, graph, lowered(graph), call.operands)


# -- the pass itself -----------------------------------------------------------------------------------------


def declared(forward: Callable[..., Any], lower: Callable[..., Any]) -> Op:
    op = Op("declared", forward, (), "fd")
    op.lower = lower
    return op


X = np.array([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]], np.float32)


def test_new_nodes_have_new_numbers_and_the_line_of_the_old_one() -> None:
    graph = Call(REGISTRY["reduce_variance"], [X], (None, False)).graph("model.py:3")
    made = lowered(graph)
    assert {node.line for node in made.nodes} == {"model.py:3"}
    numbers = [x for node in made.nodes for x in node.outs]
    assert len(set(numbers)) == len(numbers)
    assert min(numbers) > max(graph.specs)
    assert [node.op.name for node in made.nodes] == [
        *("reduce_sum", "divide", "subtract", "multiply", "reduce_sum", "divide")
    ]


def test_python_numbers_stay_python_numbers() -> None:
    made = lowered(Call(REGISTRY["reduce_mean"], [X], (None, False)).graph())
    assert [(type(c), c) for c in made.constants.values()] == [(int, 6)]


def test_what_reads_a_lowered_value_reads_the_new_one() -> None:
    """identity gives way to its operand, in later nodes and among the outputs."""
    spec = Spec(X.shape, X.dtype)
    square, identity = REGISTRY["square"], REGISTRY["identity"]
    nodes = (Node(identity, (0,), (), (1,)), Node(square, (1,), (), (2,)), Node(square, (2,), (), (3,)))
    graph = Graph((0,), (1, 3, 3), nodes, {}, dict.fromkeys(range(4), spec))
    made = lowered(graph)
    assert made.outputs[0] == 0
    assert [node.op.name for node in made.nodes] == ["multiply", "multiply"]
    for got, want in zip(run(made, [X]), [X, X**4, X**4], strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", ["shape", "size", "rank"])
def test_what_asks_for_the_shape_only_is_constant(name: str) -> None:
    for x in (X, X.astype(np.int8), X.astype("F")):
        call = Call(REGISTRY[name], [x], (None,) * REGISTRY[name].statics)
        made = lowered(call.graph())
        assert not made.nodes
        compare(call, call.graph(), made, [x])


def test_a_lowering_may_give_several_results_and_call_composites() -> None:
    op = declared(
        lambda x: [x[0].astype(np.float64), (x[1] - 1) ** 2],
        lambda xp, x: [xp.cast(xp.unstack(x)[0], "float64"), xp.squared_difference(x[1], 1.0)],
    )
    check(Call(op, [X]))


def test_a_lowering_of_another_dtype_is_refused() -> None:
    op = declared(lambda x: x + 1, lambda xp, x: x + np.float64(1))
    with pytest.raises(
        TypeError, match=r"declared: its `lower` gives float64\[2,3\], its forward float32\[2,3\]"
    ):
        lowered(Call(op, [X]).graph())


def test_a_lowering_of_another_shape_is_refused() -> None:
    op = declared(lambda x: x + 1, lambda xp, x: xp.reshape(x, (6,)) + 1)
    with pytest.raises(
        TypeError, match=r"declared: its `lower` gives float32\[6\], its forward float32\[2,3\]"
    ):
        lowered(Call(op, [X]).graph())


def test_a_lowering_that_gives_a_weak_number_is_refused() -> None:
    op = declared(lambda x: np.float32(2), lambda xp, x: 2.0)
    with pytest.raises(TypeError, match=r"declared: its `lower` gives None, its forward float32\[\]"):
        lowered(Call(op, [X]).graph())


def test_a_lowering_that_asks_for_a_value_is_refused() -> None:
    op = declared(lambda x: x, lambda xp, x: x if x[0, 0] > 0 else -x)
    with pytest.raises(TypeError, match=r"cannot choose its way by a value"):
        lowered(Call(op, [X]).graph())


def test_a_lowering_that_calls_an_op_without_a_rule_is_refused() -> None:
    op = declared(lambda x: np.sort(x), lambda xp, x: xp.sort(x))
    with pytest.raises(TypeError, match=r"sort: a lowering cannot use this op"):
        lowered(Call(op, [X]).graph())
    op.lower = lambda xp, x: xp.nonsense(x)
    with pytest.raises(AttributeError, match="no op is called nonsense"):
        lowered(Call(op, [X]).graph())


def test_a_wrong_value_is_found() -> None:
    op = declared(lambda x: x * x * x * x, lambda xp, x: (x * x) * (x * x))
    with pytest.raises(AssertionError, match="declared"):
        check(Call(op, [np.linspace(0.1, 2.0, 99)]))
    op.forward, op.lower = np.abs, lambda xp, x: xp.where(x < 0, -x, x)
    with pytest.raises(AssertionError, match="declared"):
        check(Call(op, [np.array([-0.0])]))
    op.forward, op.lower = np.exp, lambda xp, x: xp.expm1(x) + 1
    with pytest.raises(AssertionError, match="declared"):
        check(Call(op, [specials("d")]))


@pytest.mark.usefixtures("scratch_registry")
def test_a_declaration_says_how_it_is_lowered() -> None:
    @declaring.op(vjp=lambda xp, g, n: g * n, lower=lambda xp, x, n: x * n)
    def times(x: TensorLike, n: int = 2) -> Array:
        return x * n

    @declaring.elementwise(lambda x: x * x * x, lambda xp, x: 3.0 * x * x, lower=lambda xp, x: x * x * x)
    def cube(x: TensorLike) -> Tensor: ...

    for call in calls_of(lambda: cube(times(gt.constant(X), n=3))):
        made = check(call)
        assert {node.op.name for node in made.nodes} == {"multiply"}
