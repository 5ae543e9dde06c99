"""Native code of whole programs: loops together, threads, the call, and what becomes a kernel."""

from __future__ import annotations

import copy
import gc
import math
import os
import re
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from graphs import FLOATS, Builder, assert_same, call, pick_one, run_native, whole

import gradtape as gt
from gradtape import config
from gradtape.compile.graph import Node, run
from gradtape.compile.native import engine as native
from gradtape.compile.native import fusion, llvm, nests, schedule
from gradtape.compile.native.fusion import Kernel, fused
from gradtape.compile.native.llvm import Native, compiled
from gradtape.ops.op import REGISTRY

pytestmark = pytest.mark.skipif(not native.available(), reason="this Python has no native code")

REDUCTIONS = ["reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_any", "reduce_all"]


@pytest.fixture
def tiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small things treated as large ones: in tiles, by threads."""
    monkeypatch.setattr(schedule, "_SMALL", 1)
    monkeypatch.setattr(llvm, "_PARALLEL", 1)
    monkeypatch.setattr(llvm, "_TILE", 512)


@pytest.fixture
def threads() -> Iterator[None]:
    before = config.threads
    yield
    config.threads = before


# -- several loops, rows, threads ----------------------------------------------------------------------------


def softmax(builder: Builder, x: int) -> int:
    largest = builder.op("reduce_max", x, statics=(-1, True))
    powers = builder.op("exp", builder.op("subtract", x, largest))
    return builder.op("divide", powers, builder.op("reduce_sum", powers, statics=(-1, True)))


def logistic(n: int, m: int) -> tuple[Builder, list[int]]:
    """The loss and its gradient, of which both products read the rows of one matrix."""
    rng = np.random.default_rng(0)
    builder = Builder()
    X, w, y = (builder.input(rng.normal(size=shape)) for shape in ((n, m), (m,), (n,)))
    error = builder.op("subtract", builder.op("tanh", builder.op("matvec", X, w, statics=(False, False))), y)
    loss = builder.op("reduce_sum", builder.op("multiply", error, error), statics=(None, False))
    return builder, [loss, builder.op("matmul", X, error, statics=(False, False, True, False))]


def rosenbrock(n: int) -> tuple[Builder, list[int]]:
    """The gradient of the sum of 100 (b - a²)² + (1 - a)², of neighbours a and b."""
    builder = Builder()
    x = builder.input(np.random.default_rng(0).normal(size=n))
    low, high = (slice(None, -1),), (slice(1, None),)
    a, b = (builder.op("read_at", x, statics=(index,)) for index in (low, high))
    gap = builder.op("subtract", b, builder.op("multiply", a, a))
    by_b = builder.op("multiply", gap, builder.constant(200.0))
    by_a = builder.op("multiply", builder.op("multiply", by_b, a), builder.constant(-2.0))
    outs = [
        builder.op("scatter_at", part, statics=(index, (n,))) for part, index in ((by_b, high), (by_a, low))
    ]
    return builder, [builder.op("add", *outs)]


def softmax_of_rows(n: int, m: int) -> tuple[Builder, list[int]]:
    builder = Builder()
    return builder, [softmax(builder, builder.input(np.random.default_rng(0).normal(size=(n, m)) * 9))]


PROGRAMS = {
    "softmax of many": (softmax_of_rows, (30_001, 10)),
    "softmax of long": (softmax_of_rows, (50, 9001)),
    "softmax of few": (softmax_of_rows, (3, 10)),
    "logistic": (logistic, (20_003, 21)),
    "small logistic": (logistic, (17, 3)),
    "rosenbrock": (rosenbrock, (500_001,)),
    "short rosenbrock": (rosenbrock, (2,)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name: str, threads: None) -> None:
    """As NumPy has it, and the same for any number of threads."""
    program, sizes = PROGRAMS[name]
    builder, outs = program(*sizes)  # type: ignore[operator]
    made, graph = whole(builder, *outs)
    found = []
    for config.threads in (1, 2, 3):
        found.append(call(made, graph, builder.arguments()))
        for out, got in zip(outs, found[-1], strict=True):
            np.testing.assert_allclose(got, builder.values[out], rtol=1e-11, atol=1e-9)
            assert_same(got, found[0][outs.index(out)])


def test_threads_are_counted(threads: None) -> None:
    config.threads = 3
    assert config.threads == 3
    for wrong in (0, -1, 10**6):
        with pytest.raises(ValueError, match="threads"):
            config.threads = wrong
    with pytest.raises(TypeError):
        config.threads = 1.5
    assert config.threads == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
def test_threads_run_in_a_forked_process(threads: None) -> None:
    builder, outs = rosenbrock(500_001)
    made, graph = whole(builder, *outs)
    config.threads = 2
    want = call(made, graph, builder.arguments())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        same = all(map(np.array_equal, call(made, graph, builder.arguments()), want))
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


def neighbours(builder: Builder, x: int) -> int:
    """A step of a scheme whose array grows shorter."""
    first, second = (builder.op("read_at", x, statics=((index,),)) for index in (slice(1, None), slice(-1)))
    return builder.op("multiply", builder.op("add", first, second), builder.constant(0.5))


def in_a_ring(builder: Builder, x: int) -> int:
    """A step of a scheme whose ends are neighbours."""
    parts = [builder.op("read_at", x, statics=((index,),)) for index in (slice(1, None), slice(1))]
    gap = builder.op("subtract", builder.op("concat", *parts, statics=(0,)), x)
    return builder.op("add", x, builder.op("multiply", gap, builder.constant(0.1)))


def permuted(builder: Builder, x: int) -> int:
    order = builder.constant(np.random.default_rng(0).permutation(600))
    return builder.op("negative", builder.op("gather", x, order, statics=(None, None, 0)))


def chased(builder: Builder, x: int) -> int:
    """Each number is where the next is found."""
    table = builder.constant(np.random.default_rng(0).permutation(600))
    return builder.op("gather", table, x, statics=(None, None, 0))


@pytest.mark.parametrize("step", [neighbours, in_a_ring, permuted, chased])
def test_many_steps_take_little_time_to_compile(step: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is traced a few times, not once more for each step after it."""
    bodies = []
    body = nests._body

    def counted(*arguments: Any) -> Any:
        bodies.append(body(*arguments))
        return bodies[-1]

    monkeypatch.setattr(nests, "_body", counted)
    builder = Builder()
    x = builder.input(np.arange(600) if step is chased else np.random.default_rng(0).normal(size=600))
    for _ in range(200):
        x = step(builder, x)
    made, graph = whole(builder, x)
    assert_same(call(made, graph, builder.arguments())[0], builder.values[x])
    assert sum(len(body.steps) for body in bodies) < 100 * len(graph.nodes)


# -- random programs -----------------------------------------------------------------------------------------


def random_program(seed: int) -> tuple[Builder, list[int]]:
    """Ops of all kinds on each other's results."""
    rng = np.random.default_rng(seed)
    builder = Builder()

    def shape() -> tuple[int, ...]:
        return tuple(rng.integers(1, 8, size=rng.integers(0, 4)).tolist())

    pool = [builder.input(rng.normal(size=shape()).astype(pick_one(rng, FLOATS))) for _ in range(3)]
    pool.append(builder.input(rng.integers(-5, 5, size=shape())))
    for _ in range(12):
        x, y = pool[-1] if rng.random() < 0.5 else pick_one(rng, pool), pick_one(rng, pool)
        given = builder.specs[x].shape
        n = len(given)
        axis = int(rng.integers(n)) if n else None
        factor = pick_one(rng, [d for d in range(1, math.prod(given) + 1) if math.prod(given) % d == 0])
        starts = rng.integers(0, given) if n else []
        index = tuple(
            [pick_one(rng, [int(i), slice(int(i), None, pick_one(rng, [1, 1, -1, 2]))]) for i in starts]
        )
        choices: list[tuple[str, tuple[int, ...], tuple[Any, ...]]] = [
            (pick_one(rng, ["add", "subtract", "multiply", "maximum", "less"]), (x, y), ()),
            (pick_one(rng, ["negative", "abs", "sin", "floor", "exp", "sqrt"]), (x,), ()),
            (pick_one(rng, REDUCTIONS), (x,), (pick_one(rng, [None, axis]), bool(rng.random() < 0.5))),
            ("transpose", (x,), (tuple(rng.permutation(n).tolist()), False)),
            ("read_at", (x,), (index,)),
            ("reshape", (x,), ((factor, -1),)),
            ("pad", (x,), (tuple([tuple(rng.integers(0, 3, 2).tolist()) for _ in given]), "CONSTANT", 1)),
            ("concat", (x, x), (axis,)),
            ("stack", (x, x), (axis,)),
            ("reverse", (x,), (axis,)),
            ("broadcast_to", (x,), ((int(rng.integers(1, 4)), *given),)),
            ("take", (x, builder.constant(rng.integers(-1, 1, size=4))), (0,)),
        ]
        name, operands, statics = pick_one(rng, choices)
        try:
            made = builder.op(name, *operands, statics=statics)
            if name == "read_at":
                made = builder.op("scatter_at", made, statics=(index, given))
        except (TypeError, ValueError, np.exceptions.AxisError):
            continue
        if 0 < np.size(builder.values[made]) < 5000:
            pool.append(made)
    outs = [x for node in builder.nodes for x in node.outs if x in pool]
    return builder, [*outs[-1:], *outs[::5]]


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("some", range(4))
def test_random_programs(some: int, large: bool, request: pytest.FixtureRequest) -> None:
    if large:
        request.getfixturevalue("tiled")
    for seed in range(20 * some, 20 * some + 20):
        builder, outs = random_program(seed)
        if not outs:
            continue
        graph = builder.graph(*outs)
        with np.errstate(all="ignore"):
            found = zip(run_native(graph, builder.arguments()), run(graph, builder.arguments()), strict=True)
        for got, want in found:
            assert got.dtype == want.dtype
            close = 1e-4 if np.float32 in {spec.dtype.type for spec in graph.specs.values()} else 1e-9
            np.testing.assert_allclose(got, want, rtol=close, atol=close, err_msg=f"seed {seed}\n{graph}")


# -- the call ------------------------------------------------------------------------------------------------


def doubled(dtype: Any = float, shape: tuple[int, ...] = (3, 4)) -> tuple[Native, np.ndarray]:
    builder = Builder()
    x = builder.input(np.ones(shape, dtype))
    made, _ = whole(builder, builder.op("add", x, x))
    return made, np.empty(shape, dtype)


def test_inputs_that_are_not_contiguous_or_aligned_are_refused() -> None:
    made, out = doubled()
    assert made.call(out, np.ones((3, 4))) is out
    assert made.call(out, np.ones((4, 3)).T) is None
    assert made.call(out, np.ones((3, 8))[:, ::2]) is None
    raw = np.zeros(12 * 8 + 1, np.uint8)
    assert made.call(out, raw[1:].view(float).reshape(3, 4)) is None


def test_values_without_axes_come_as_numpy_scalars() -> None:
    for dtype in (np.float32, np.float64, np.int32, np.int64):
        made, out = doubled(dtype, ())
        assert made.call(out, dtype(3)) is out
        assert out == 6
        for wrong in (np.array(3, dtype), np.float16(3), 3):
            assert made.call(out, wrong) is None


def test_integers_of_the_same_size_are_alike() -> None:
    """Whichever of C's names for them a system has."""
    for dtype in (np.intc, np.long, np.longlong):
        made, out = doubled(dtype)
        assert made.call(out, np.ones((3, 4), dtype)) is out
        made, out = doubled(dtype, ())
        assert made.call(out, out.dtype.type(3)) is out
    assert doubled(np.longlong, ())[0].call(out, np.int64(4)) is out
    assert out == 8


def test_the_first_output_comes_back_with_its_references_counted() -> None:
    made, out = doubled()
    x = np.ones((3, 4))
    for _ in range(1000):
        made.call(out, x)
        made.call(out, x.T)
    gone = weakref.ref(out)
    del out
    assert gone() is None


def test_code_goes_with_its_last_user() -> None:
    made, out = doubled()
    builtin = made.call
    owner = weakref.ref(builtin.__self__)
    del made
    builtin(out, np.ones((3, 4)))
    assert owner() is not None
    del builtin
    gc.collect()
    assert owner() is None


def test_large_constants_stay_as_long_as_the_code() -> None:
    builder = Builder()
    x = builder.input(np.ones(1000))
    made, graph = whole(builder, builder.op("add", x, builder.constant(np.arange(1000.0))))
    want = np.arange(1000.0) + 1
    builder.constants.clear()
    builder.values.clear()
    gc.collect()
    assert_same(call(made, graph, [np.ones(1000)])[0], want)


def test_zeros_of_both_signs_are_no_uniform_constant() -> None:
    builder = Builder()
    x = builder.input(np.ones(100))
    zeros = np.where(np.arange(100) % 2, -0.0, 0.0)
    out = builder.op("divide", x, builder.constant(zeros))
    made, graph = whole(builder, out)
    assert_same(call(made, graph, builder.arguments())[0], builder.values[out])


@pytest.mark.parametrize("value", [np.float64(3.0), np.zeros(1000)])
def test_a_uniform_constant_is_read_from_no_memory(value: Any) -> None:
    """Not even if it is looked at in another shape."""
    builder = Builder()
    x = builder.input(np.ones((np.size(value), 1)))
    view = builder.op("reshape", builder.constant(value), statics=((-1, 1),))
    out = builder.op("add", x, view)
    made, graph = whole(builder, out)
    assert_same(call(made, graph, builder.arguments())[0], builder.values[out])
    assert not made.call.__self__.constants


def test_an_older_llvm_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads no pointers without types."""
    monkeypatch.setattr("llvmlite.binding.llvm_version_info", (15, 0, 7))
    monkeypatch.setattr(native, "engine", native.Engine)
    assert not native.available.__wrapped__()


# -- what becomes a kernel -----------------------------------------------------------------------------------


def test_views_for_numpy_are_left_to_numpy_and_repeated_in_kernels() -> None:
    builder = Builder()
    x = builder.input(np.arange(12.0).reshape(3, 4))
    view = builder.op("transpose", x, statics=(None, False))
    out = builder.op("exp", view)
    steps = fused(builder.graph(view, out))
    assert [s.op.name if isinstance(s, Node) else "kernel" for s in steps] == ["transpose", "kernel"]


def test_what_is_not_compiled_stands_between_kernels() -> None:
    builder = Builder()
    x = builder.input(np.array([3.0, 1.0, 2.0]))
    y = builder.op("sort", builder.op("negative", x), statics=(-1, "ASCENDING"))
    out = builder.op("add", builder.op("negative", y), builder.op("abs", x))
    graph = builder.graph(out)
    steps = fused(graph)
    assert [isinstance(step, Kernel) for step in steps] == [True, False, True]
    assert_same(run_native(graph, builder.arguments())[0], builder.values[out])


def test_effects_stay_in_order() -> None:
    builder = Builder()
    x = builder.input(np.ones(3))
    early = builder.op("sort", builder.op("negative", x), statics=(-1, "ASCENDING"))
    late = builder.op("sort", x, statics=(-1, "ASCENDING"))
    graph = builder.graph(early, late)
    impure = copy.copy(REGISTRY["sort"])
    impure.pure = False
    nodes = [node._replace(op=impure) if node.op.name == "sort" else node for node in graph.nodes]
    steps = fused(graph.with_nodes(nodes))
    assert [step.outs for step in steps if isinstance(step, Node)] == [(early,), (late,)]


@pytest.mark.parametrize("dtype", [np.float16, np.complex128, np.uint8, ">f8"])
def test_other_dtypes_are_left_to_numpy(dtype: Any) -> None:
    builder = Builder()
    x = builder.input(np.ones(3, dtype))
    assert isinstance(fused(builder.graph(builder.op("add", x, x)))[0], Node)


def test_empty_arrays_are_left_to_numpy() -> None:
    builder = Builder()
    x = builder.input(np.ones((0, 3)))
    steps = fused(builder.graph(builder.op("reduce_max", x, statics=(0, False)), builder.op("add", x, x)))
    assert all(isinstance(step, Node) for step in steps)


def test_a_kernel_is_not_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many nodes make several kernels, which can be one function again."""
    monkeypatch.setattr(fusion, "_MOST", 10)
    monkeypatch.setattr(fusion, "_AT_A_TIME", 10)
    builder = Builder()
    x = builder.input(np.full(50, 0.1))
    y = x
    for _ in range(18):
        y = builder.op("add", builder.op("multiply", y, y), x)
    graph = builder.graph(y)
    kernels = [step for step in fused(graph) if isinstance(step, Kernel)]
    assert [len(kernel.graph.nodes) for kernel in kernels] == [10, 10, 10, 6]
    made = compiled(kernels, graph.inputs, graph.outputs)
    assert_same(call(made, graph, builder.arguments())[0], builder.values[y])


def test_many_products_are_left_to_numpy_and_rounds_of_a_loop_share_their_code():
    """Unrolled loops compile in a time that grows with their length, at the most."""

    @gt.function
    def last(h, w):
        for _ in range(40):
            h = gt.tanh(h @ w) * 0.5
        return h

    h, w = gt.constant(np.full((4, 8), 0.25, "f4")), gt.constant(np.full((8, 8), 0.125, "f4"))
    np.testing.assert_allclose(last(h, w).numpy(), last(h, w).numpy(), rtol=1e-6)
    (paths,) = last._learned.paths.values()
    plan = paths.plan(paths.root, False)
    assert plan.by_numpy.count("matmul") == 40
    assert len(plan.kernels) == 40
    calls = set(re.findall(r"if (k\d+)", plan.source))
    assert len({id(value) for value in (plan.run.__globals__[name] for name in calls)}) == 1


def test_what_reads_other_places_is_not_written_over():
    """A dead array is read at one place, and in a sum, by what could take its memory."""

    @gt.function
    def f(a, b):
        y = a @ b
        z = y * 2.0 + y[0, 0] + gt.reduce_sum(y)
        return gt.sin(z)

    rng = np.random.default_rng(0)
    a, b = (gt.constant(rng.normal(size=(700, 700))) for _ in range(2))
    want = f.python_function(a, b)
    for _ in range(2):
        np.testing.assert_allclose(f(a, b).numpy(), want.numpy(), rtol=1e-9, atol=1e-9)
