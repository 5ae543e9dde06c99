"""ForwardAccumulator: TensorFlow's documented semantics, every op, nesting with tapes, and what it keeps."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numerics import TOLERANCE, Case, Pair, assert_close, case_id, cases, check, normal, tensors

import gradtape as gt
from gradtape.ops import op as declaring
from gradtape.recorders import listening
from gradtape.tensor import TensorLike

Accumulator = gt.autodiff.ForwardAccumulator


def reverse(f):
    """f' by a tape."""

    def df(x):
        with gt.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return tape.gradient(y, x)

    return df


def forward(f):
    """f' by an accumulator."""

    def df(x):
        with Accumulator(x, gt.ones_like(x)) as acc:
            y = f(x)
        return acc.jvp(y)

    return df


# -- TensorFlow's documentation ------------------------------------------------------------------------------


def test_the_jvp_of_a_dense_layer():
    """The first example of tf.autodiff.ForwardAccumulator."""
    kernel, bias = gt.Variable([[1.0], [1.0]]), gt.Variable([0.0])
    x = gt.constant([[2.0, 3.0], [1.0, 4.0]])
    targets = gt.constant([[1.0], [-1.0]])
    with Accumulator(kernel, gt.constant([[1.0], [0.0]])) as acc:
        loss = gt.reduce_sum((gt.matmul(x, kernel) + bias - targets) ** 2.0)
    check(acc.jvp(loss), 2 * (4.0 * 2.0 + 6.0 * 1.0))


def test_it_equals_the_product_of_the_jacobian_and_the_direction(rng):
    x, t = rng.normal(size=(3,)), rng.normal(size=(3,))
    a = rng.normal(size=(2, 3))
    primal = gt.constant(x)
    with gt.GradientTape() as tape:
        tape.watch(primal)
        y = gt.sin(gt.linalg.matvec(a, primal))
    with Accumulator(primal, t) as acc:
        z = gt.sin(gt.linalg.matvec(a, primal))
    check(acc.jvp(z), tape.jacobian(y, primal).numpy() @ t, "float64", 1e-12)


def test_the_hessian_vector_product_by_nested_accumulators():
    """The second example: one around the other, of f(x, y) = x^3 + x^2 y."""
    x, y = gt.constant(1.0), gt.constant(2.0)
    with (
        Accumulator([x, y], [gt.constant(1.0), gt.constant(0.0)]) as outer,
        Accumulator([x, y], [gt.constant(0.0), gt.constant(1.0)]) as inner,
    ):
        z = x**3.0 + x**2.0 * y
    check(outer.jvp(inner.jvp(z)), 2.0)  # d/dx d/dy = 2 x
    check(inner.jvp(z), 1.0)
    check(outer.jvp(z), 7.0)


def test_forward_over_reverse_is_the_hessian_vector_product():
    x = gt.constant([2.0, 3.0])
    with Accumulator(x, gt.constant([1.0, -1.0])) as acc:
        with gt.GradientTape() as tape:
            tape.watch(x)
            y = gt.reduce_prod(x) * x[0]
        g = tape.gradient(y, x)
    check(g, [12.0, 4.0])
    check(acc.jvp(g), [6.0 - 4.0, 4.0])


def test_unconnected_gradients():
    x = gt.constant([1.0, 2.0])
    with Accumulator(x, gt.ones_like(x)) as acc:
        z = gt.zeros((3,), "float64")
    assert acc.jvp(z) is None
    assert acc.jvp(z, gt.UnconnectedGradients.NONE) is None
    check(acc.jvp(z, "zero"), [0.0, 0.0, 0.0], "float64")
    check(acc.jvp(z, unconnected_gradients=gt.UnconnectedGradients.ZERO), [0.0, 0.0, 0.0], "float64")
    with pytest.raises(ValueError, match="wanted 'none', 'zero' or 'raise'"):
        acc.jvp(z, "some")


def test_several_primals_add_up():
    x, y = gt.constant(3.0), gt.constant(5.0)
    with Accumulator([x, y], [gt.constant(1.0), gt.constant(10.0)]) as acc:
        z = x * y
    check(acc.jvp(z), 5.0 + 30.0)


def test_variables_are_primals():
    v, w = gt.Variable(3.0), gt.Variable(2.0, trainable=False)
    with Accumulator([v, w], [1.0, 0.5]) as acc:
        y = v * w
        v.assign(7.0)
        z = v * w
    check(acc.jvp(y), 2.0 + 1.5)
    check(acc.jvp(z), 2.0 + 3.5)
    check(acc.jvp(v), 1.0)


def test_other_variables_are_constants():
    x, v = gt.constant(3.0), gt.Variable(2.0)
    with Accumulator(x, 1.0) as acc:
        y = x * v
    check(acc.jvp(y), 2.0)
    assert acc.jvp(v) is None


def test_the_jvp_of_the_primals_is_their_tangents_before_and_after_the_block():
    x = gt.constant([1.0, 2.0])
    acc = Accumulator(x, [3.0, 4.0])
    check(acc.jvp(x), [3.0, 4.0])
    with acc:
        y = x * 2.0
    check(acc.jvp(x), [3.0, 4.0])
    check(acc.jvp(y), [6.0, 8.0])


def test_what_runs_outside_the_block_is_not_followed():
    x = gt.constant(3.0)
    acc = Accumulator(x, 1.0)
    before = x * x
    with acc:
        inside = x * x
        early = before * x
    after = inside * x
    assert acc.jvp(before) is None
    check(acc.jvp(inside), 6.0)
    check(acc.jvp(early), 9.0)
    assert acc.jvp(after) is None


def test_a_block_can_be_entered_again_and_goes_on():
    x = gt.constant(3.0)
    acc = Accumulator(x, 1.0)
    with acc:
        y = x * x
    with acc:
        z = y * x
    check(acc.jvp(z), 27.0)


def test_jvp_takes_and_gives_structures():
    x = gt.constant(3.0)
    with Accumulator({"x": x}, {"x": 1.0}) as acc:
        found = {"a": Pair(x * x, gt.constant(1.0)), "b": [x]}
    got = acc.jvp(found)
    check(got["a"].left, 6.0)
    assert isinstance(got["a"], Pair)
    assert got["a"].right is None
    check(got["b"][0], 1.0)
    got = acc.jvp(found, "zero")
    check(got["a"].right, 0.0)


def test_several_results_of_one_op():
    x = gt.constant([[2.0, 1.0], [1.0, 3.0]])
    with Accumulator(x, gt.eye(2)) as acc:
        parts = gt.split(x, 2), gt.unstack(x, axis=1)
        sign, log = gt.linalg.slogdet(x)
        mean, variance = gt.nn.moments(x, [0])
        values, indices = gt.math.top_k(x, 1)
    (top, bottom), (left, right) = acc.jvp(parts)
    check(top, [[1.0, 0.0]])
    check(bottom, [[0.0, 1.0]])
    check(left, [1.0, 0.0])
    check(right, [0.0, 1.0])
    assert acc.jvp(sign) is None
    check(acc.jvp(log), 1.0)  # the trace of the inverse
    check(acc.jvp(mean), [0.5, 0.5])
    check(acc.jvp(variance), [0.5, 1.0])
    check(acc.jvp(values), [[1.0], [1.0]])
    assert acc.jvp(indices) is None


# -- what it refuses -----------------------------------------------------------------------------------------


def test_the_same_primal_twice_is_an_error():
    x, v = gt.constant(1.0), gt.Variable(1.0)
    for primals in ([x, x], [v, v], [x, gt.Variable(2.0), x]):
        with pytest.raises(ValueError, match="there twice"):
            Accumulator(primals, [1.0] * len(primals))


@pytest.mark.parametrize(
    ("primals", "tangents", "error", "message"),
    [
        (gt.constant(1.0), gt.constant([1.0]), gt.errors.ShapeError, r"shape \(1,\) for a primal of shape"),
        (gt.constant([1.0, 2.0]), 1.0, gt.errors.ShapeError, r"shape \(\) for a primal of shape \(2,\)"),
        (gt.constant(1.0), np.ones(()), gt.errors.DTypeError, "dtype float64 for a primal of float32"),
        (gt.constant(1.0), gt.constant(1), gt.errors.DTypeError, "dtype int32"),
        (gt.constant(1), 1, gt.errors.DTypeError, "only real and complex"),
        (gt.constant(True), True, gt.errors.DTypeError, "only real and complex"),
        ([gt.constant(1.0)], [], gt.errors.StructureError, "1 primals, but 0 tangents"),
        ([gt.constant(1.0)], (1.0,), gt.errors.StructureError, "same structure"),
        ({"a": gt.constant(1.0)}, {"b": 1.0}, gt.errors.StructureError, "same structure"),
        ([gt.constant([1.0, 2.0])], [[1.0, 2.0]], gt.errors.StructureError, "2 tangents"),
        (gt.constant(1.0), None, gt.errors.DTypeError, "None"),
        (1.0, 1.0, gt.errors.NotATensorError, "got float"),
        (np.ones(2), np.ones(2), gt.errors.NotATensorError, "got ndarray"),
        (None, None, gt.errors.NotATensorError, "got NoneType"),
    ],
)
def test_primals_and_tangents_that_do_not_fit(primals, tangents, error, message):
    with pytest.raises(error, match=message):
        Accumulator(primals, tangents)


def test_entering_twice_is_an_error_and_leaves_it_accumulating():
    x = gt.constant(3.0)
    with Accumulator(x, 1.0) as acc:
        with pytest.raises(ValueError, match="accumulating already"):
            acc.__enter__()
        y = x * x
    check(acc.jvp(y), 6.0)


@pytest.mark.parametrize("other", [1.0, np.ones(2), None, "x"])
def test_the_jvp_of_what_is_no_tensor_is_an_error(other):
    acc = Accumulator(gt.constant(1.0), 1.0)
    with pytest.raises(gt.errors.NotATensorError, match="jvp"):
        acc.jvp([gt.constant(1.0), other])


def test_an_exception_in_the_block_leaves_nothing_on_the_stack():
    acc = Accumulator(gt.constant(1.0), 1.0)
    with pytest.raises(KeyError), acc:
        raise KeyError
    assert not listening()


# -- orders of nesting ---------------------------------------------------------------------------------------

NESTINGS = [order for n in (1, 2, 3) for order in itertools.product([forward, reverse], repeat=n)]


def nesting_id(order: tuple[Callable[..., Any], ...]) -> str:
    return "-".join(f.__name__ for f in order)


@pytest.mark.parametrize("order", NESTINGS, ids=nesting_id)
@pytest.mark.parametrize(
    ("f", "derivatives"),
    [
        (lambda x: x**5.0, lambda x: [5 * x**4, 20 * x**3, 60 * x**2]),
        (
            lambda x: gt.sin(x) * gt.exp(x),
            lambda x: [
                np.exp(x) * (np.sin(x) + np.cos(x)),
                2 * np.exp(x) * np.cos(x),
                2 * np.exp(x) * (np.cos(x) - np.sin(x)),
            ],
        ),
        (
            lambda x: gt.reduce_sum(gt.linalg.inv(gt.reshape(gt.stack([x, 1.0, 0.0, x]), (2, 2)))),
            # 2/x - 1/x^2
            lambda x: [-2 / x**2 + 2 / x**3, 4 / x**3 - 6 / x**4, -12 / x**4 + 24 / x**5],
        ),
        (
            lambda x: gt.sort(gt.stack([x * x, x]))[1] * gt.reduce_max(gt.stack([x, 0.5 * x])),
            lambda x: [3 * x**2, 6 * x, 6.0],
        ),
    ],
    ids=["power", "exponential", "inverse", "sorted"],
)
def test_derivatives_of_every_order_in_every_nesting(order, f, derivatives):
    point = 1.5
    df = f
    for step in order:
        df = step(df)
    check(df(gt.constant(np.float64(point))), derivatives(point)[len(order) - 1], "float64", 1e-12)


@pytest.mark.parametrize("order", NESTINGS, ids=nesting_id)
def test_of_numpy_scalars_and_float32(order):
    df = lambda x: np.float32(2.0) * x**4.0  # noqa: E731
    for step in order:
        df = step(df)
    want = {1: 8 * 8.0, 2: 24 * 4.0, 3: 48 * 2.0}[len(order)]
    check(df(gt.constant(np.float32(2.0))), want)


def test_accumulators_of_different_primals_do_not_mix():
    x, y = gt.constant(2.0), gt.constant(3.0)
    with Accumulator(x, 1.0) as by_x, Accumulator(y, 1.0) as by_y:
        z = x * x * y
    check(by_x.jvp(z), 12.0)
    check(by_y.jvp(z), 4.0)
    check(by_x.jvp(by_y.jvp(z)), 4.0)
    assert by_y.jvp(by_x.jvp(z)) is None, "the outer one is not seen by the inner one"


def test_the_derivative_by_a_tangent():
    x, t, s = gt.constant([2.0, 3.0]), gt.Variable([1.0, 1.0]), gt.Variable(4.0)
    with gt.GradientTape() as tape:
        with Accumulator(x, t) as acc:
            y = gt.reduce_sum(x**3.0)
        j = acc.jvp(y)
    check(tape.gradient(j, t), [12.0, 27.0])
    with gt.GradientTape() as tape:
        with Accumulator(x, [s, 2.0]) as acc:
            y = gt.reduce_sum(x**3.0)
        j = acc.jvp(y)
    check(tape.gradient(j, s), 12.0)


def test_a_tape_that_stopped_for_a_while_still_sees_the_tangents():
    """It goes on at its place in the stack, outside of what was entered after it."""
    x = gt.constant(2.0)
    with gt.GradientTape() as tape:
        tape.watch(x)
        with Accumulator(x, 1.0) as acc:
            y = x * x
            with tape.stop_recording():
                constant = y * x
            z = y * x
        jz, jc = acc.jvp([z, constant])
    check(jz, 12.0)
    check(jc, 12.0)
    check(tape.gradient(jz, x), 12.0)


def test_an_accumulator_goes_on_while_a_tape_within_has_stopped():
    x = gt.constant(2.0)
    with Accumulator(x, 1.0) as acc, gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        with tape.stop_recording():
            y = x * x
            inner = tape.gradient(y, x)
        z = y * x
        g = tape.gradient(z, x)
    assert inner is None
    check(acc.jvp(y), 4.0)
    check(acc.jvp(z), 12.0)
    check(g, 4.0)
    check(acc.jvp(g), 4.0)


# -- every op ------------------------------------------------------------------------------------------------


def directions(case: Case, arrays: list[np.ndarray]) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    found = [normal(rng, a.shape, a.dtype) for a in arrays]
    if case.op.name == "cholesky":  # which reads one triangle of a matrix that it takes to be Hermitian
        found = [t + np.conj(np.swapaxes(t, -1, -2)) for t in found]
    return found


@pytest.mark.parametrize("case", [c for c in cases() if c.draw("d")], ids=case_id)
def test_the_jvp_in_narrow_dtypes(case: Case) -> None:
    for narrow, wide in (("e", "d"), ("f", "d"), ("F", "D")):
        if narrow not in case.op.dtypes:
            continue
        arrays = case.draw(narrow)
        ts = directions(case, arrays)
        found = []
        for dtype in (narrow, wide):
            xs = tensors([a.astype(dtype) for a in arrays])
            with Accumulator(xs, tensors([t.astype(dtype) for t in ts])) as acc:
                ys = case.followed(xs)
            found.append([(y, acc.jvp(y)) for y in ys])
        for (y, j), (_, w) in zip(*found, strict=True):
            assert (j is None) == (w is None), f"{case!r} in {narrow}"
            if j is not None and np.isfinite(np.asarray(w)).all():
                assert j.dtype == y.dtype, f"{case!r} in {narrow}"
                assert_close(j, w, 4 * TOLERANCE[narrow], f"{case!r} in {narrow}")


# -- kinds of values -----------------------------------------------------------------------------------------


def test_dtypes_that_differ_promote_as_the_values_do():
    x, y = gt.constant([1.0, 2.0]), gt.constant(np.array([3.0, 4.0]))
    with Accumulator([x, y], [gt.constant([1.0, 0.0]), np.array([0.0, 1.0])]) as acc:
        product, dot, narrow, half = x * y, x @ y, gt.cast(x * y, "float32"), 0.5 * x
        mixed = gt.stack([x[0] * 1.0, x[1]]) + gt.constant([1, 2])
    check(acc.jvp(product), [3.0, 2.0], "float64")
    check(acc.jvp(dot), 5.0, "float64")
    check(acc.jvp(narrow), [3.0, 2.0])
    check(acc.jvp(half), [0.5, 0.0])
    check(acc.jvp(mixed), [1.0, 0.0], mixed.dtype)


def test_complex_values():
    z, t = gt.constant(1.0 + 2.0j), gt.constant(0.5 - 1.0j)
    with Accumulator(z, t) as acc:
        square, real, size, turned = z * z, gt.math.real(z), gt.abs(z), gt.math.conj(z)
        from_real = gt.cast(real, "complex128") * 1j
    check(acc.jvp(square), 2 * (1 + 2j) * (0.5 - 1j), "complex128", 1e-14)
    check(acc.jvp(real), 0.5, "float64", 1e-14)
    check(acc.jvp(size), (0.5 - 2.0) / np.sqrt(5), "float64", 1e-14)
    check(acc.jvp(turned), 0.5 + 1j, "complex128", 1e-14)
    check(acc.jvp(from_real), 0.5j, "complex128", 1e-14)


def test_assignment_in_place():
    x = gt.constant(2.0)
    with Accumulator(x, 1.0) as acc:
        t = gt.zeros((3,))
        before = t
        t[1] = x * x
        t[2] = t[1] * x
        y = gt.reduce_sum(t)
    check(acc.jvp(t), [0.0, 4.0, 12.0])
    check(acc.jvp(y), 16.0)
    assert before is t
    with Accumulator(w := gt.constant([1.0, 2.0]), [1.0, 1.0]) as acc:
        w[0] = 3.0
        y = w * w
    check(acc.jvp(w), [0.0, 1.0])
    check(acc.jvp(y), [0.0, 4.0])


def test_the_gradient_of_a_lookup_within_an_accumulator():
    table = gt.Variable(np.arange(6.0).reshape(3, 2))
    with Accumulator(table, np.ones((3, 2))) as acc:
        with gt.GradientTape() as tape:
            loss = gt.reduce_sum(gt.gather(table, [0, 0, 2]) ** 3.0)
        g = tape.gradient(loss, table)
        doubled = g * 2.0
    assert isinstance(g, gt.IndexedSlices)
    j = acc.jvp(g)
    assert isinstance(j, gt.IndexedSlices)
    want = 6 * table.numpy() * [[2.0], [0.0], [1.0]]
    check(gt.convert_to_tensor(j), want, "float64")
    check(acc.jvp(doubled), 2 * want, "float64")


def test_slices_are_no_primals_and_have_dense_tangents():
    rows = gt.IndexedSlices(gt.constant([[1.0, 2.0]]), [1], (3, 2))
    with pytest.raises(gt.errors.NotATensorError, match=r"take its \.values"):
        Accumulator(rows, 1.0)
    x = gt.ones((3, 2))
    with Accumulator(x, rows) as acc:
        y = x * x
    check(acc.jvp(y), [[0.0, 0.0], [2.0, 4.0], [0.0, 0.0]])


def test_stop_gradient_and_jumps():
    x = gt.constant(2.5)
    with Accumulator(x, 1.0) as acc:
        stopped, half, larger, rounded, whole = (
            gt.stop_gradient(x),
            gt.stop_gradient(x) * x,
            x > 1.0,
            gt.round(x),
            gt.cast(x, "int32"),
        )
        chosen = gt.where(larger, x * x, x)
    assert acc.jvp([stopped, larger, rounded, whole]) == [None] * 4
    check(acc.jvp(half), 2.5)
    check(acc.jvp(chosen), 5.0)
    assert acc.jvp(whole, "zero").dtype == np.int32


@pytest.mark.usefixtures("scratch_registry")
def test_an_op_without_a_derivative_raises_where_a_tangent_meets_it():
    @declaring.op()
    def opaque(x: TensorLike) -> Any:
        return x * 2.0

    x = gt.constant([1.0, 2.0])
    with Accumulator(x, [1.0, 0.0]) as acc:
        opaque(gt.constant(1.0))
        opaque(gt.stop_gradient(x))
        with pytest.raises(gt.errors.NoGradientError, match="opaque has no derivative rule"):
            opaque(x)
        assert listening() == (acc,)
        y = x * x
    check(acc.jvp(y), [2.0, 0.0])


# -- threads -------------------------------------------------------------------------------------------------


def test_threads_do_not_meet():
    x = gt.constant(3.0)
    found: dict[int, Any] = {}
    barrier = threading.Barrier(2)

    def run(k: int) -> None:
        with Accumulator(x, float(k)) as acc:
            barrier.wait()
            y = x
            for _ in range(200):
                y = y + x
            barrier.wait()
        found[k] = acc.jvp(y), len(acc._tangents)

    threads = [threading.Thread(target=run, args=(k,)) for k in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in (1, 2):
        check(found[k][0], 201.0 * k)
        assert found[k][1] == 201


def test_another_thread_is_not_followed():
    x = gt.constant(3.0)
    found = []
    with Accumulator(x, 1.0) as acc:
        thread = threading.Thread(target=lambda: found.append(x * x))
        thread.start()
        thread.join()
    assert acc.jvp(found[0]) is None


# -- memory --------------------------------------------------------------------------------------------------


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


MANY = 10_000


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    "f", [gt.sin, gt.sort, lambda x: x * x, lambda x: gt.reshape(x, (2, -1)), lambda x: gt.split(x, 2)[0]]
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_large_value_that_is_gone_takes_its_tangent_with_it(f, nested):
    x = gt.ones((MANY,))
    acc = Accumulator(x, gt.ones((MANY,)))
    if nested:
        with Accumulator(x, gt.ones((MANY,))), acc:
            y = f(x)
    else:
        with acc:
            y = f(x)
    j = acc.jvp(y)
    tangent = weakref.ref(j._value)
    del j
    assert tangent() is not None
    del y
    assert tangent() is None


@pytest.mark.usefixtures("no_collector")
def test_a_chain_keeps_its_ends_only():
    x = gt.ones((MANY,))
    with Accumulator(x, gt.ones((MANY,))) as acc:
        y = x
        for _ in range(10):
            y = gt.sin(y)
    assert len(acc._tangents) == 2


@pytest.mark.usefixtures("no_collector")
def test_what_a_tape_still_needs_keeps_its_tangent():
    x = gt.ones((MANY,))
    with Accumulator(x, gt.ones((MANY,))) as acc:
        with gt.GradientTape() as tape:
            tape.watch(x)
            y = gt.reduce_sum(gt.exp(gt.exp(x)))
        g = tape.gradient(y, x)
    e = np.exp(1.0)
    check(acc.jvp(g)[:1], [np.exp(e) * e * (1 + e)])


@pytest.mark.usefixtures("no_collector")
def test_an_accumulator_is_freed_by_reference_counting():
    x = gt.ones((MANY,))
    acc = Accumulator(x, gt.ones((MANY,)))
    with acc, gt.GradientTape() as tape:
        tape.watch(x)
        y = gt.reduce_sum(gt.sort(gt.sin(x)) * x)
        g = tape.gradient(y, x)
    j = acc.jvp(g)
    freed = weakref.ref(acc), weakref.ref(j._value)
    del acc, j
    assert [r() for r in freed] == [None, None]
    assert y.shape == ()
