"""Derivatives through `function`, in every combination: tapes inside and outside, orders, other modes."""

import functools
import gc
import weakref
from typing import Any

import numpy as np
import pytest
from counted import counting

import gradtape as gt
from gradtape.ops.op import op
from gradtape.recorders import listening
from gradtape.tensor import TensorLike

Accumulator = gt.autodiff.ForwardAccumulator

W = gt.Variable(np.array([0.2, -0.9, 0.6]))
K = gt.constant(np.array([1.5, 0.5, -1.0]))
X, V = gt.constant(np.array([0.4, 0.8, -0.6])), gt.constant(np.array([0.3, -0.7, 0.5]))
OTHERS = [gt.constant(np.array([0.9, -0.1, 0.3])), gt.constant(np.array([-0.5, 0.25, 2.0]))]


@pytest.fixture(autouse=True)
def variable_as_it_was():
    before = W.numpy()
    yield
    W.assign(before)


def c(value, dtype="float64"):
    return gt.constant(value, dtype)


def arrays(x):
    """The values of a structure of tensors, slices dense, None as it is."""
    if isinstance(x, (list, tuple)):
        return [part for item in x for part in arrays(item)]
    return [x if x is None else np.asarray(gt.convert_to_tensor(x))]


def assert_same(got, want):
    got, want = arrays(got), arrays(want)
    assert [x is None for x in got] == [x is None for x in want]
    for a, b in zip(got, want, strict=True):
        if a is not None:
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            np.testing.assert_allclose(a, b, rtol=1e-5 if a.dtype == np.float32 else 1e-10, atol=1e-12)


# -- every way of deriving, of functions of every kind -------------------------------------------------------


def _products(x):
    return gt.reduce_sum(gt.sin(x * W) * gt.exp(x[::-1] * 0.5) * K) + x[0] ** 3 * x[1] ** 2 * x[2]


def _branches(x):
    if x[0] > 0.5:
        return gt.reduce_sum(x**2 * W**2)
    return gt.reduce_sum(x**3 * W) if x[0] > 0 else gt.reduce_sum(gt.cos(x * W))


def _loops(x):
    total = gt.reduce_sum(x * W)
    while total < 4.0:
        total = total * 1.5 + gt.reduce_sum(x * x) * W[0] ** 2 + 1.0
    return total


def _lookups(x):
    return gt.reduce_sum(gt.gather(W, [0, 2, 2]) * gt.gather(x, [1, 1, 0]) ** 3)


def _assigns_in_place(x):
    t = gt.identity(x * W)
    t[1:] = t[:2] * x[1:]
    t[0] = x[2] ** 2
    return gt.reduce_sum(t**3 * K)


def _algebra(x):
    m = gt.expand_dims(x, 1) * W + 0.1 * x * x + 3.0 * np.eye(3)
    return gt.reduce_sum(gt.linalg.solve(m, gt.expand_dims(x, 1)) ** 2) + gt.reduce_logsumexp(m @ m)


def _stops(x):
    narrow = gt.cast(gt.cast(x, "float32") * 2.0, "float64")
    return gt.reduce_sum(gt.stop_gradient(x * x) * x * W + narrow**2)


def _integers(x):
    return gt.reduce_sum(x * x * W) * gt.cast(gt.argmax(x) + 1, "float64")


def _custom(x):
    @gt.custom_gradient
    def clipped(y):
        return y * 2.0, lambda g: gt.clip_by_value(g, -1.0, 1.0) * y

    return gt.reduce_sum(clipped(x * W) ** 2)


def _recomputed(x):
    block = gt.recompute_grad(lambda y: gt.tanh(y * W) * y)
    return gt.reduce_sum(block(block(x)) ** 2)


@gt.custom_jvp
def _softplus(x):
    return gt.math.log(1.0 + gt.exp(x))


@_softplus.defjvp
def _softplus_jvp(primals, tangents):
    return _softplus(primals[0]), gt.sigmoid(primals[0]) * tangents[0]


def _by_jvp(x):
    return gt.reduce_sum(_softplus(x * W) * x)


def _mapped(x):
    return gt.reduce_sum(gt.vectorized_map(lambda e: e * e * gt.reduce_sum(gt.sin(x * e) * W), x))


def _derived(x):
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = gt.reduce_sum(x**3 * W)
    return gt.reduce_sum(tape.gradient(y, x) * x)


FUNCTIONS = [_products, _branches, _loops, _lookups, _assigns_in_place, _algebra, _stops, _integers, _custom]
FUNCTIONS += [_recomputed, _by_jvp, _mapped, _derived]


def gradient(f, x):
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    return [y, *tape.gradient(y, [x, W])]


def scaled(f, x):
    """With the function in the middle of what is recorded."""
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = gt.exp(f(x * x) * 0.1) * gt.reduce_sum(x)
    return tape.gradient(y, [x, W])


def twice_called(f, x):
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = f(x) * f(x[::-1] * 1.5) + f(x)
    return tape.gradient(y, [x, W])


def second(f, x):
    with gt.GradientTape() as outer:
        outer.watch(x)
        with gt.GradientTape() as inner:
            inner.watch(x)
            y = f(x)
        of_x, of_w = inner.gradient(y, [x, W])
        total = (
            gt.reduce_sum(of_x * V) if of_w is None else gt.reduce_sum(of_x * V) + gt.reduce_sum(of_w * V * V)
        )
    return [of_x, of_w, *outer.gradient(total, [x, W])]


def third(f, x):
    with gt.GradientTape() as t3:
        t3.watch(x)
        with gt.GradientTape() as t2:
            t2.watch(x)
            with gt.GradientTape() as t1:
                t1.watch(x)
                y = f(x)
            g1 = gt.reduce_sum(t1.gradient(y, x) * V)
        g2 = gt.reduce_sum(t2.gradient(g1, x) * V)
    return t3.gradient(g2, [x, W])


def forward(f, x):
    with Accumulator(x, V) as acc:
        y = f(x)
    return [y, acc.jvp(y)]


def forward_by_the_variable(f, x):
    with Accumulator(W, V) as acc:
        y = f(x)
    return [acc.jvp(y)]


def forward_over_reverse(f, x):
    with Accumulator(x, V) as acc:
        with gt.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        found = tape.gradient(y, [x, W])
    return [found, [None if g is None else acc.jvp(g) for g in found]]


def reverse_over_forward(f, x):
    with gt.GradientTape() as tape:
        tape.watch(x)
        with Accumulator(x, V) as acc:
            y = f(x)
        along = acc.jvp(y)
    return tape.gradient(along, [x, W])


def tape_jacobian(f, x):
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = gt.stack([f(x), f(x * 1.5) ** 2])
    return tape.jacobian(y, [x, W])


def batch_jacobian(f, x):
    rows = gt.stack([x, x * 1.5])
    with gt.GradientTape() as tape:
        tape.watch(rows)
        y = gt.expand_dims(gt.stack([f(row) for row in rows]), 1)
    return tape.batch_jacobian(y, rows)


def jacobian_of_gradient(f, x):
    with gt.GradientTape() as outer:
        outer.watch(x)
        with gt.GradientTape() as inner:
            inner.watch(x)
            y = f(x)
        g = gt.convert_to_tensor(inner.gradient(y, x))
    return outer.jacobian(g, [x, W])


def transforms(f, x):
    return [gt.grad(f)(x), gt.hvp(f)(x, V), gt.jvp(f)(x, V), gt.jacobian(f)(x), gt.value_and_grad(f)(x)]


def mapped(f, x):
    return gt.vectorized_map(f, gt.stack([x, x * 0.9, x * 1.1]))


def gradient_of_mapped(f, x):
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = gt.vectorized_map(f, gt.stack([x, x * 0.9]))
    return tape.gradient(y, [x, W])


def recomputed(f, x):
    return gradient(gt.recompute_grad(f), x)


def with_a_gradient(f, x):
    @gt.custom_gradient
    def g(y):
        return (
            f(y),
            lambda cotangent, variables=(): (
                (cotangent * f(y) * y, [None for _ in variables]) if variables else cotangent * f(y) * y
            ),
        )

    return gradient(g, x)


WAYS = [gradient, scaled, twice_called, second, third, forward, forward_by_the_variable, forward_over_reverse]
WAYS += [reverse_over_forward, tape_jacobian, batch_jacobian, jacobian_of_gradient, transforms, mapped]
WAYS += [gradient_of_mapped, recomputed, with_a_gradient]
UNMAPPABLE = {_branches, _loops}  # whose branch would differ from example to example
MAPPED = {mapped, gradient_of_mapped}


COMBINATIONS = [
    pytest.param(way, f, id=f"{way.__name__}-{f.__name__}")
    for way in WAYS
    for f in FUNCTIONS
    if not (way in MAPPED and f in UNMAPPABLE)
]


@functools.cache
def wanted(way, f, place):
    return way(f, [X, *OTHERS][place])


def check_every_place(way, f, jit_compile):
    """The way around a function, the way as a function, and the way as a function around a function."""
    outside = counting(f, jit_compile=jit_compile)
    inside, nested = (counting(functools.partial(way, g), jit_compile=jit_compile) for g in (f, outside))
    for place in (0, 1, 2, 0):
        x, want = [X, *OTHERS][place], wanted(way, f, place)
        for got in (way(outside, x), inside(x), nested(x)):
            assert_same(got, want)
    assert listening() == ()
    if f not in UNMAPPABLE:
        assert len(inside.runs) == len(nested.runs) == 1


@pytest.mark.parametrize(("way", "f"), COMBINATIONS)
def test_every_way_by_numpy(way, f):
    check_every_place(way, f, jit_compile=False)


@pytest.mark.parametrize(("way", "f"), COMBINATIONS[::6])
def test_ways_by_default(way, f):
    check_every_place(way, f, jit_compile=None)


# -- a tape outside: by what, and of what --------------------------------------------------------------------


@pytest.mark.parametrize(
    "f", [_products, _lookups, _assigns_in_place, _algebra, _custom, _mapped], ids=lambda f: f.__name__
)
def test_the_derivative_is_compiled_too(compiled, f):
    g = compiled(f)
    for k in range(4):
        W.assign(V * (1.0 + k))
        x = c(np.array([0.4, 0.8, -0.6]) + k)
        assert_same(gradient(g, x), gradient(f, x))
    assert len(g.runs) == 1


def test_by_a_captured_tensor(compiled):
    k = c([1.0, 2.0, 3.0])
    f = compiled(lambda x: gt.reduce_sum(gt.sin(k * x)))
    for x in (X, *OTHERS):
        with gt.GradientTape() as tape:
            tape.watch(k)
            y = f(x)
        np.testing.assert_allclose(tape.gradient(y, k).numpy(), np.cos((k * x).numpy()) * x.numpy())
    assert len(f.runs) == 1


def test_by_what_the_captured_tensor_came_from(compiled):
    with gt.GradientTape() as tape:
        k = W * 2.0
        f = compiled(lambda x: gt.reduce_sum(k * x))
        y = f(X) + f(V)
    np.testing.assert_allclose(tape.gradient(y, W).numpy(), 2.0 * (X + V).numpy())


def test_an_outer_tape_cannot_begin_to_watch_within(compiled):
    w = c(2.0)

    def f(x):
        y = w * x
        tape.watch(w)
        return y * w

    f = compiled(f)
    with (
        gt.GradientTape() as tape,
        pytest.raises(gt.errors.FunctionError, match=r"f: a tape outside"),
    ):
        f(c(3.0))
    with gt.GradientTape() as tape:
        tape.watch(w)
        y = f(c(3.0))
    assert float(tape.gradient(y, w)) == 12.0


def test_one_set_after_another_is_followed(compiled):
    """Nobody, the argument, the variable, both, the captured tensor, all, and nobody again."""
    f = compiled(lambda x, y: (gt.reduce_sum(x * y * W * K), x * 2.0))
    plain = f.python_function.__wrapped__

    def derive(run, watch, variables):
        x, y = gt.identity(X), gt.identity(V)
        sources = {"x": x, "y": y, "K": K}
        with gt.GradientTape(persistent=True, watch_accessed_variables=variables) as tape:
            tape.watch([sources[name] for name in watch])
            a, b = run(x, y)
        by = [x, y, W, K]
        return [
            tape.gradient(a, by),
            tape.gradient(b, by),
            tape.gradient([a, b], by),
            tape.gradient(b * 0.0 + a, by),
        ]

    sets = ["", "x", "y", "xy", "K", "xyK", "", "yK", "x", ""]
    for _ in range(2):
        runs = len(f.runs)
        for watch in sets:
            for variables in (False, True):
                assert_same(derive(f, watch, variables), derive(plain, watch, variables))
        f(X, V)
    assert len(f.runs) == runs  # the second time round all is known


def test_the_same_tensor_twice_and_then_two(compiled):
    f = compiled(lambda x, y: gt.reduce_sum(x**2 * gt.sin(y)))
    for x, y in [(X, X), (X, V), (V, V), (V, X), (X, X)]:
        for run in (f, f.python_function.__wrapped__):
            with gt.GradientTape() as tape:
                tape.watch([x, y])
                z = run(x, y)
            found = tape.gradient(z, [x, y])
            if run is f:
                got = found
        assert_same(got, found)
    assert len(f.runs) == 1


def test_results_that_are_arguments_or_variables(compiled):
    f = compiled(lambda x: (x, W, W.value(), K, [x, x * 2.0]))
    plain = f.python_function.__wrapped__
    for _ in range(3):
        for pick in [
            lambda r: r[0],
            lambda r: r[1] * 2.0,
            lambda r: r[2],
            lambda r: r[3],
            lambda r: r[4][0] * r[4][1],
        ]:
            found = []
            for run in (f, plain):
                x = gt.identity(X)
                with gt.GradientTape() as tape:
                    tape.watch([x, K])
                    y = pick(run(x))
                found.append(tape.gradient(y, [x, W, K]))
            assert_same(*found)


def test_persistent_tapes(compiled):
    f = compiled(lambda x: (gt.reduce_sum(x * x * W), gt.exp(x), gt.argmax(x)))
    for _ in range(3):
        with gt.GradientTape(persistent=True) as tape:
            tape.watch(X)
            a, b, i = f(X)
            d = a * b
        for _ in range(2):
            np.testing.assert_allclose(tape.gradient(a, X).numpy(), (2 * X * W).numpy())
            np.testing.assert_allclose(tape.gradient(b, X).numpy(), np.exp(X.numpy()))
            np.testing.assert_allclose(tape.gradient(a, W).numpy(), (X * X).numpy())
            assert tape.gradient(b, W) is None
        assert int(i) == 1
        assert tape.gradient(d, X).shape == (3,)
    assert len(f.runs) == 1


def test_variables_that_are_not_watched(compiled):
    f = compiled(lambda x: gt.reduce_sum(x * W))
    for _ in range(3):
        with gt.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(X)
            y = f(X)
        of_x, of_w = tape.gradient(y, [X, W])
        np.testing.assert_array_equal(of_x.numpy(), W.numpy())
        assert of_w is None
        assert tape.watched_variables() == ()
        with gt.GradientTape() as tape:
            y = f(X)
        assert [v is W for v in tape.watched_variables()] == [True]
        np.testing.assert_array_equal(tape.gradient(y, W).numpy(), X.numpy())
    assert len(f.runs) <= 3


def test_a_variable_that_is_not_trainable(compiled):
    frozen = gt.Variable(2.0, trainable=False)
    f = compiled(lambda x: x * frozen * frozen)
    for _ in range(3):
        x = c(3.0, "float32")
        with gt.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        of_x, of_v = tape.gradient(y, [x, frozen])
        assert float(of_x) == 4.0
        assert of_v is None


def test_unused_integer_and_unconnected_results(compiled):
    def f(x, n):
        return gt.sin(x) * W, gt.cast(n, "float64") * 2.0, n + 1, gt.stop_gradient(x), x > 0, None, "text"

    f, plain = compiled(f), f
    n = c([1, 2, 3], "int32")

    def derive(run, zero):
        with gt.GradientTape(persistent=True) as tape:
            tape.watch(X)
            results = run(X, n)
        options = {"unconnected_gradients": "zero" if zero else "none"}
        of = [tape.gradient(r, [X, W], **options) for r in (results[0], results[1], results[3])]
        return of, results[2], results[4]

    for zero in (False, True, False, True):
        assert_same(derive(f, zero), derive(plain, zero))
    assert len(f.runs) == 1


def test_output_gradients(compiled):
    f = compiled(lambda x: (x * W, gt.reduce_sum(x**3)))
    for k in range(3):
        with gt.GradientTape() as tape:
            tape.watch(X)
            a, b = f(X)
        found = tape.gradient([a, b], [X, W], output_gradients=[V * float(k), c(2.0)])
        assert_same(found, [V * float(k) * W + 6.0 * X * X, V * float(k) * X])
    assert len(f.runs) == 1


@pytest.mark.parametrize("dtype", ["float16", "float32", "complex64", "complex128"])
def test_other_dtypes(compiled, dtype):
    def f(x, y):
        return gt.reduce_sum(gt.abs(x * y + x) ** 2) + gt.reduce_sum(gt.abs(gt.exp(x * 0.5)))

    def derive(run, x, y):
        with gt.GradientTape() as tape:
            tape.watch([x, y])
            z = run(x, y)
        return [z, *tape.gradient(z, [x, y])]

    f, plain = compiled(f), f
    rng = np.random.default_rng(0)
    for _ in range(3):
        x, y = (
            c(rng.normal(size=4) + (1j * rng.normal(size=4) if dtype[0] == "c" else 0), dtype)
            for _ in range(2)
        )
        for a, b in zip(derive(f, x, y), derive(plain, x, y), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-2 if dtype == "float16" else 1e-5)
    assert len(f.runs) == 1


def test_mixed_dtypes(compiled):
    v = gt.Variable(np.float32(1.5))
    f = compiled(lambda x: gt.reduce_sum(x * v * 2) + gt.cast(v, "float64") ** 2)
    for k in range(3):
        x = X * float(k)
        with gt.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        of_x, of_v = tape.gradient(y, [x, v])
        assert (of_x.dtype, of_v.dtype) == (np.float64, np.float32)
        np.testing.assert_allclose(of_x.numpy(), [3.0] * 3)
        np.testing.assert_allclose(of_v.numpy(), 2 * x.numpy().sum() + 3.0, rtol=1e-6)


def test_an_array_of_the_callers_that_changes_before_the_gradient(compiled):
    f = compiled(lambda a: gt.reduce_sum(gt.sin(W * a)))
    want = gradient(f.python_function.__wrapped__, V)[2]
    for _ in range(3):
        a = V.numpy().copy()
        with gt.GradientTape() as tape:
            y = f(a)
        a[:] = 100.0
        assert_same(tape.gradient(y, W), want)
        with gt.GradientTape() as outer:
            with gt.GradientTape() as inner:
                y = f(a := V.numpy().copy())
            a[:] = 100.0
            g = inner.gradient(y, W)
        assert_same(g, want)
        assert_same(outer.gradient(g, W), -gt.sin(W * V) * V * V)


def test_a_variable_that_changes_before_the_gradient(compiled):
    f = compiled(lambda x: gt.reduce_sum(gt.sin(W * x)))
    for _ in range(3):
        before = W.numpy()
        with gt.GradientTape() as outer:
            outer.watch(X)
            with gt.GradientTape() as inner:
                inner.watch(X)
                y = f(X)
            W.assign(V)
            of_x, of_w = inner.gradient(y, [X, W])
        np.testing.assert_allclose(of_x.numpy(), np.cos(before * X.numpy()) * before)
        np.testing.assert_allclose(of_w.numpy(), np.cos(before * X.numpy()) * X.numpy())
        second = outer.gradient(of_x, X)
        np.testing.assert_allclose(second.numpy(), -np.sin(before * X.numpy()) * before**2)
        W.assign(before)
    with gt.GradientTape() as tape:
        y = f(X)
    W.assign(V)
    np.testing.assert_allclose(tape.gradient(y, W).numpy(), np.cos(before * X.numpy()) * X.numpy())


@pytest.mark.parametrize("known", [False, True])
def test_a_captured_tensor_that_changes_before_the_gradient(compiled, known):
    k = c([2.0, 3.0, 4.0])
    f = compiled(lambda x: gt.reduce_sum(k * x * x))
    if known:
        assert_same(second(f, X)[0], 2 * k * X)
    for _ in range(3):
        before = gt.identity(k)
        with gt.GradientTape() as outer:
            outer.watch(X)
            with gt.GradientTape() as inner:
                inner.watch(X)
                y = f(X)
            k[0] = k[0] * 10.0
            g = inner.gradient(y, X)
        assert_same([y, g], [gt.reduce_sum(before * X * X), 2 * before * X])
        assert_same(outer.gradient(g, X), 2 * before)


def test_higher_orders_are_of_what_was_compiled(compiled):
    """A compiled run does not look at Python's objects again; no more do its derivatives of any order."""

    class Model:
        scale = 2.0

    model = Model()
    f = compiled(lambda x: gt.reduce_sum(model.scale * x**3))
    for scale in (2.0, 2.0, 5.0, 7.0):
        model.scale = scale
        assert_same(
            [*gradient(f, X)[:2], *second(f, X)[::2]], [*gradient(_cubes, X)[:2], *second(_cubes, X)[::2]]
        )


def _cubes(x):
    return gt.reduce_sum(2.0 * x**3)


def test_a_variable_read_after_its_assignment(compiled):
    """Inside and outside: after v.assign(v * x) derivatives stop at what was assigned, as in eager."""
    v = gt.Variable(2.0)

    def f(x):
        before = v * x
        v.assign(v * x)
        return before + v * v * x

    def derive(run, x):
        v.assign(2.0)
        with gt.GradientTape() as tape:
            tape.watch(x)
            y = run(x)
            z = y * v
        return [y, *tape.gradient(z, [x, v]), v]

    def inside(run, x):
        v.assign(2.0)
        return run(x)

    f, plain = compiled(f), f
    g = compiled(lambda x: _gradient_of(plain, x, v))
    for k in (3.0, 4.0, 5.0):
        x = c(k, "float32")
        assert_same(derive(f, x), derive(plain, x))
        assert_same(inside(g, x), inside(lambda x: _gradient_of(plain, x, v), x))
    assert len(f.runs) == len(g.runs) == 1


def test_a_variable_that_is_assigned_before_it_is_read(compiled):
    v = gt.Variable(1.0)

    def f(x):
        v.assign(x)
        return v * v * x

    g = compiled(f)
    for k in (1.0, 2.0, 3.0):
        assert_same(_gradient_of(g, c(k, "float32"), v), _gradient_of(f, c(k, "float32"), v))


def _gradient_of(f, x, v):
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    return tape.gradient(y, [x, v])


def test_a_later_tape_over_the_gradient_of_an_earlier_one(compiled):
    f = compiled(lambda x: gt.reduce_sum(x**3))
    for _ in range(3):
        with gt.GradientTape() as earlier:
            earlier.watch(X)
            y = f(X)
        with gt.GradientTape() as later:
            later.watch(X)
            g = earlier.gradient(y, X)
        assert_same(later.gradient(g, X), 6.0 * X)


def test_functions_one_after_another(compiled):
    f = compiled(lambda x: gt.sin(x) * W)
    g = compiled(lambda x: gt.reduce_sum(x * x))

    def derive(f, g):
        with gt.GradientTape() as tape:
            tape.watch(X)
            y = g(f(f(X)) + X)
        return tape.gradient(y, [X, W])

    want = derive(f.python_function.__wrapped__, g.python_function.__wrapped__)
    for _ in range(3):
        assert_same(derive(f, g), want)
    assert len(f.runs) == len(g.runs) == 1


def test_recorded_without_a_tape_and_called_with_one(compiled):
    f = compiled(_products)
    f(X)
    for x in (X, *OTHERS):
        assert_same(gradient(f, x), gradient(_products, x))
        assert_same(f(x), _products(x))
    assert len(f.runs) == 2  # once more, for the derivative


def test_recorded_with_a_tape_that_does_not_follow(compiled):
    f = compiled(_products)
    with gt.GradientTape(watch_accessed_variables=False):
        f(X)
    for x in (X, *OTHERS):
        assert_same(gradient(f, x), gradient(_products, x))
    assert len(f.runs) == 2


def test_effects_are_not_repeated_by_derivatives(compiled):
    """A call whose derivative is not known yet is run anew, and its second order runs Python once more."""
    v, called = gt.Variable(0.0), []

    def f(x):
        v.assign_add(1.0)
        noise = gt.random.uniform([3], dtype="float64")
        more = gt.numpy_function(lambda a: called.append(1) or a, [x], "float64")
        return gt.reduce_sum(x**3 * noise) + 0.0 * gt.reduce_sum(more)

    def seen_by_tapes(run):
        gt.random.set_seed(1)
        v.assign(0.0)
        called.clear()
        found = [run(X), *gradient(run, X)[:2], *second(run, X)[::2], *third(run, X)[:1], run(X)]
        found += [*gradient(run, X)[:2], *second(run, X)[::2], *third(run, X)[:1]]
        return found, float(v), len(called)

    f, plain = compiled(f), f
    got, want = seen_by_tapes(f), seen_by_tapes(plain)
    assert_same(got[0], want[0])
    assert got[1:] == want[1:]


def test_no_derivative_through_numpy_function(compiled):
    f = compiled(lambda x: gt.numpy_function(np.sin, [x], "float64") * x)
    for _ in range(3):
        np.testing.assert_allclose(gradient(f, X)[1].numpy(), np.sin(X.numpy()))


def test_random_numbers_in_the_derivative(compiled):
    f = compiled(lambda x: gt.reduce_sum(gt.nn.dropout(x * W * gt.ones((50, 1), "float64"), 0.5)))

    def seen_by_tapes(run):
        gt.random.set_seed(2)
        return [gradient(run, X) for _ in range(4)] + [second(run, X)]

    assert_same(seen_by_tapes(f), seen_by_tapes(f.python_function.__wrapped__))
    assert len(f.runs) <= 2


def test_a_recomputed_function_that_draws(compiled):
    v = gt.Variable(1.0)

    def f(x):
        v.assign_add(1.0)
        return gt.reduce_sum(gt.sin(x * gt.cast(v, "float64")) * gt.random.uniform([3], dtype="float64"))

    def seen_by_tapes(run):
        v.assign(1.0)
        gt.random.set_seed(2)
        return [recomputed(run, x) for x in (X, V, X, V)] + [second(gt.recompute_grad(run), X)] + [v]

    g = compiled(f)
    assert_same(seen_by_tapes(g), seen_by_tapes(f))


# -- lookups -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["outside", "inside", "both"])
def test_gradients_of_lookups_are_slices(compiled, where):
    table = gt.Variable(np.arange(12.0).reshape(6, 2))

    def loss(ids):
        return gt.reduce_sum(gt.nn.embedding_lookup(table, ids) ** 2)

    def derive(run, ids):
        with gt.GradientTape() as tape:
            y = run(ids)
        return tape.gradient(y, table)

    inner = compiled(loss) if where != "inside" else loss
    outer = compiled(lambda ids: derive(inner, ids)) if where != "outside" else lambda ids: derive(inner, ids)
    for row in ([0, 2], [5, 5], [1, 0]):
        ids = gt.constant(row)
        got, want = outer(ids), derive(loss, ids)
        assert type(want) is gt.IndexedSlices
        assert type(got) is type(want), where
        assert got.dense_shape == want.dense_shape
        assert_same(got, want)


def test_lookups_and_dense_uses_of_one_table(compiled):
    table = gt.Variable(np.arange(12.0).reshape(6, 2))
    f = compiled(lambda ids: gt.reduce_sum(gt.gather(table, ids) ** 2) + gt.reduce_sum(table) * 2.0)
    for row in ([0, 2], [5, 5], [1, 0]):
        found = []
        for run in (f, f.python_function.__wrapped__):
            with gt.GradientTape() as tape:
                y = run(gt.constant(row))
            found.append(tape.gradient(y, table))
        assert_same(*found)


# -- no derivative -------------------------------------------------------------------------------------------


def test_an_op_without_a_derivative(compiled, scratch_registry):
    """Its error comes where eager's comes, at the gradient that needs it, and at no other."""

    @op(samples=[])
    def opaque(x: TensorLike) -> Any:
        """x."""
        return x + 0.0

    f = compiled(lambda x, y: (opaque(x), x * y))
    for _ in range(3):
        with gt.GradientTape(persistent=True) as tape:
            tape.watch([X, V])
            a, b = f(X, V)
        np.testing.assert_array_equal(tape.gradient(b, X).numpy(), V.numpy())
        with pytest.raises(gt.errors.NoGradientError, match="opaque has no derivative rule"):
            tape.gradient(a, X)
        assert listening() == ()


def test_gradients_of_what_was_not_reached(compiled):
    f = compiled(lambda x: gt.ones_like(x) * 2.0)
    for _ in range(3):
        assert gradient(f, X)[1] is None
    assert len(f.runs) <= 2


def test_a_rule_that_branches(compiled):
    @gt.custom_gradient
    def doubled(y):
        return y * 1.0, lambda g: g * 2.0 if g > 0 else g * 3.0

    def f(x):
        return doubled(x[0]) * x[1] + gt.reduce_sum(x * W)

    g, inside = compiled(f), compiled(lambda x: gradient(f, x))
    for x in (X, -X, X, V, -X):
        assert_same(gradient(g, x), gradient(f, x))
        assert_same(inside(x), gradient(f, x))
        assert_same(g(x), f(x))
    assert len(inside.runs) == 2


def test_a_rule_with_an_effect(compiled):
    called = []

    @gt.custom_gradient
    def seen(y):
        def rule(g):
            return gt.numpy_function(lambda a: called.append(1) or a * 2.0, [g], "float64")

        return y * 1.0, rule

    def f(x):
        return gt.reduce_sum(seen(x) * x)

    g, inside = compiled(f), compiled(lambda x: gradient(f, x)[:2])
    for x in (X, -X, X, V):
        called.clear()
        want = gradient(f, x)[:2]
        assert_same(gradient(g, x)[:2], want)
        assert_same(inside(x), want)
        assert len(called) == 3


# -- memory --------------------------------------------------------------------------------------------------


def test_nothing_stays_alive_after_the_tape(compiled):
    f = compiled(lambda x: gt.reduce_sum(gt.sin(x * x) * gt.exp(x)))
    for k in range(3):
        array = np.linspace(0.0, 1.0, 5000) + k
        x = gt.constant(array)
        gone = weakref.ref(x.numpy().base)
        gc.disable()
        try:
            with gt.GradientTape() as tape:
                tape.watch(x)
                y = f(x)
            if k == 2:
                del x
                assert gone() is not None  # the derivative needs it
            else:
                tape.gradient(y, x)
                del x
            del tape, y
            assert gone() is None
        finally:
            gc.enable()
    assert len(f.runs) == 1


def test_a_result_does_not_keep_the_arguments(compiled):
    f = compiled(lambda x: gt.reduce_sum(x * x))
    for _ in range(3):
        x = gt.constant(np.ones(5000))
        gone = weakref.ref(x.numpy().base)
        gc.disable()
        try:
            y = f(x)
            del x
            assert gone() is None
        finally:
            gc.enable()
        assert float(y) == 5000.0


def test_a_tape_keeps_only_what_the_derivative_needs(compiled):
    """Of two results the first is no longer needed, and the derivative reads neither."""
    f = compiled(lambda x: (gt.sin(x) * 2.0, gt.reduce_sum(gt.sin(x) + x)))
    x = gt.constant(np.linspace(0.0, 1.0, 5000))
    for k in range(3):
        gc.disable()
        try:
            with gt.GradientTape() as tape:
                tape.watch(x)
                large, y = f(x)
            gone = weakref.ref(large.numpy().base)
            del large
            assert k == 0 or gone() is None  # the first call is eager
        finally:
            gc.enable()
        np.testing.assert_allclose(tape.gradient(y, x).numpy(), np.cos(x.numpy()) + 1.0)
