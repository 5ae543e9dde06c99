"""custom_gradient, custom_jvp and recompute_grad, against closed forms and what TensorFlow 2 answers."""

import gc
import threading
import tracemalloc
import weakref
from typing import Any, NamedTuple

import numpy as np
import pytest
from test_tape import check, derivative
from test_threads import together

import gradtape as gt
from gradtape.errors import (
    ArgumentError,
    DTypeError,
    InPlaceError,
    LeavesTapeError,
    NoGradientError,
    RecomputationError,
    ShapeError,
    StructureError,
)
from gradtape.ops.op import raw, recorded


class Pair(NamedTuple):
    left: Any
    right: Any


def gradients(f, *xs, **options):
    with gt.GradientTape() as tape:
        tape.watch(xs)
        y = f(*xs)
    return tape.gradient(y, list(xs), **options)


def tensors(*values):
    return [gt.constant(np.float64(v)) for v in values]


def forgets(action):
    """Whether what `action` returns a weak reference to is gone, without the collector of cycles."""
    gc.collect()
    gc.disable()
    try:
        return action()() is None
    finally:
        gc.enable()


def array_of(tensor):
    """A weak reference to the array below a tensor."""
    view = tensor.numpy()
    return weakref.ref(view if view.base is None else view.base)


# -- custom_gradient: the rule -------------------------------------------------------------------------------


@gt.custom_gradient
def log1pexp(x):
    """TensorFlow's own example."""
    e = gt.exp(x)
    return gt.math.log(1.0 + e), lambda g: g * (1.0 - 1.0 / (1.0 + e))


@gt.custom_gradient
def clipped(x):
    """The identity, whose gradient is clipped to norm 1."""
    return gt.identity(x), lambda g: gt.clip_by_norm(g, 1.0)


@gt.custom_gradient
def wrong_square(x):
    """x**2 with the derivative 7 x, to see who is asked."""
    return x * x, lambda g: g * 7.0 * x


def test_the_rule_is_used_and_not_the_ops():
    (x,) = tensors(3.0)
    check(gradients(wrong_square, x)[0], 21.0, "float64")


def test_log1pexp_where_its_ops_give_no_number():
    x = gt.constant(80.0)
    check(log1pexp(x), 80.0)
    check(gradients(log1pexp, x)[0], 1.0)


def test_the_second_derivative_goes_through_what_the_rule_uses_of_the_body():
    (x,) = tensors(0.7)
    s = 1 / (1 + np.exp(-0.7))
    check(derivative(log1pexp)(x), s, "float64")
    check(derivative(derivative(log1pexp))(x), s * (1 - s), "float64")
    check(derivative(derivative(derivative(log1pexp)))(x), s * (1 - s) * (1 - 2 * s), "float64")


def test_clipping_a_gradient():
    x = gt.constant([3.0, 4.0])
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = gt.reduce_sum(clipped(x) * [30.0, 40.0])
    check(tape.gradient(y, x), [0.6, 0.8])


def test_a_rule_with_a_rule_of_its_own():
    @gt.custom_gradient
    def cube(x):
        @gt.custom_gradient
        def slope(x, g):
            return 3.0 * x**2 * g, lambda gg: (gg * g * 100.0, gg * 3.0 * x**2)

        return x**3, lambda g: slope(x, g)

    (x,) = tensors(2.0)
    check(derivative(cube)(x), 12.0, "float64")
    check(derivative(derivative(cube))(x), 100.0, "float64")


def test_tensorflows_fused_second_order_example():
    @gt.custom_gradient
    def fused(x):
        y, slope = x**3, 3.0 * x**2

        def first(g):
            @gt.custom_gradient
            def first_custom(unused):
                return slope, lambda gg: 6.0 * x * gg

            return g * first_custom(x)

        return y, first

    (x,) = tensors(2.0)
    check(fused(x), 8.0, "float64")
    check(derivative(fused)(x), 12.0, "float64")
    check(derivative(derivative(fused))(x), 12.0, "float64")


def test_results_are_connected_by_the_rule_alone():
    inside = []

    @gt.custom_gradient
    def f(x):
        y = x * x
        inside.append(y)
        return y, lambda g: g

    (x,) = tensors(3.0)
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = f(x)
    assert y is not inside[0]
    check(tape.gradient(y, x), 1.0, "float64")
    check(tape.gradient(inside[0], x), 6.0, "float64")
    assert tape.gradient(y, inside[0]) is None


def test_an_argument_that_comes_back_is_another_tensor():
    f = gt.custom_gradient(lambda x: (x, lambda g: -g))
    (x,) = tensors(3.0)
    assert f(x) is not x
    check(gradients(f, x)[0], -1.0, "float64")
    check(gradients(lambda x: f(f(x)), x)[0], 1.0, "float64")


def test_every_tape_that_listens_has_it_persistent_or_not():
    (x,) = tensors(3.0)
    with gt.GradientTape(persistent=True) as outer:
        outer.watch(x)
        with gt.GradientTape() as inner:
            inner.watch(x)
            y = wrong_square(x)
        dy = inner.gradient(y, x)
    check(dy, 21.0, "float64")
    for _ in range(2):
        check(outer.gradient(y, x), 21.0, "float64")
        check(outer.gradient(dy, x), 7.0, "float64")


def test_the_gradient_within_the_block_of_a_persistent_tape():
    (x,) = tensors(3.0)
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        dy = tape.gradient(wrong_square(x), x)
    check(tape.gradient(dy, x), 7.0, "float64")


def test_grad_fn_runs_once_in_a_sweep():
    calls = []

    @gt.custom_gradient
    def product(a, b, c):
        def grad_fn(g):
            calls.append(g)
            return g * b * c, g * a * c, g * a * b

        return a * b * c, grad_fn

    xs = tensors(2.0, 3.0, 5.0)
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(xs)
        y = product(*xs)
    for count in (1, 2):
        for got, want in zip(tape.gradient(y, xs), (15.0, 10.0, 6.0), strict=True):
            check(got, want, "float64")
        assert len(calls) == count
    assert tape.gradient(xs[0] * 1.0, xs) == [None] * 3
    assert len(calls) == 2


def test_the_same_tensor_twice():
    @gt.custom_gradient
    def f(a, b):
        return a * b, lambda g: (10.0 * g, 1.0 * g)

    (x,) = tensors(3.0)
    check(gradients(lambda x: f(x, x), x)[0], 11.0, "float64")


# -- custom_gradient: arguments and results ------------------------------------------------------------------


@gt.custom_gradient
def two(x):
    """Two results, whose cotangents are told apart."""
    return (x, {"twice": 2.0 * x}), lambda g, h: 10.0 * g + h


def test_structured_results():
    (x,) = tensors(3.0)
    first, rest = two(x)
    assert (float(first), float(rest["twice"])) == (3.0, 6.0)
    check(gradients(lambda x: two(x)[0], x)[0], 10.0, "float64")
    check(gradients(lambda x: two(x)[1]["twice"], x)[0], 1.0, "float64")
    check(gradients(two, x)[0], 11.0, "float64")


def test_a_result_nobody_depends_on_has_zeros_of_its_shape_and_dtype():
    seen = []

    @gt.custom_gradient
    def f(x):
        def grad_fn(*gs):
            seen.extend(gs)
            return gs[0]

        return [x, gt.ones((2, 3)), gt.constant([1, 2])], grad_fn

    gradients(lambda x: f(x)[0], *tensors(1.0))
    assert [(g.shape, str(g.dtype), float(gt.reduce_sum(g))) for g in seen] == [
        ((), "float64", 1.0),
        ((2, 3), "float32", 0.0),
        ((2,), "int32", 0.0),
    ]


def test_structured_arguments_and_gradients():
    @gt.custom_gradient
    def f(pair, more):
        def grad_fn(g):
            return Pair(2.0 * g, 3.0 * g), [{"c": 5.0 * g}]

        return pair.left + pair.right + more[0]["c"], grad_fn

    a, b, c = tensors(1.0, 2.0, 3.0)
    got = gradients(lambda a, b, c: f(Pair(a, b), [{"c": c}]), a, b, c)
    assert [float(g) for g in got] == [2.0, 3.0, 5.0]


def test_named_tuples_come_back():
    f = gt.custom_gradient(lambda x: (Pair(x, x), lambda g, h: g + h))
    assert isinstance(f(gt.constant(1.0)), Pair)


def test_one_gradient_for_each_part_of_the_arguments_whatever_it_is():
    seen = []

    @gt.custom_gradient
    def f(x, n, how, nothing, array, number):
        seen.extend((type(n), how, nothing, type(array), type(number)))
        return x * n * array * number, lambda g: (g * 4.0, None, None, None, None, None)

    (x,) = tensors(3.0)
    check(
        gradients(lambda x: f(x, 2, "mean", None, np.float64(2.0) * np.ones(()), 0.5), x)[0], 4.0, "float64"
    )
    assert seen == [int, "mean", None, np.float64, float]


def test_gradients_of_what_is_no_float_are_let_go_of():
    @gt.custom_gradient
    def f(x, n):
        return x * gt.cast(n, "float64"), lambda g: (g, gt.ones((7,)))

    (x,) = tensors(3.0)
    check(gradients(lambda x: f(x, gt.constant(2)), x)[0], 1.0, "float64")


def test_no_derivative_is_none_or_zero():
    f = gt.custom_gradient(lambda a, b: (a * b, lambda g: (g, None)))
    a, b = tensors(2.0, 3.0)
    got = gradients(f, a, b)
    check(got[0], 1.0, "float64")
    assert got[1] is None
    check(gradients(f, a, b, unconnected_gradients="zero")[1], 0.0, "float64")
    check(gradients(lambda a, b: f(a, b) + b, a, b)[1], 1.0, "float64")
    check(gradients(lambda a, b: b + f(a, b), a, b)[1], 1.0, "float64")


def test_arrays_and_numbers_as_arguments_without_a_tape():
    check(log1pexp(np.float64(0.0)), np.log(2.0), "float64")
    check(log1pexp(0.0), np.log(2.0))


def test_results_may_be_numbers_and_arrays():
    f = gt.custom_gradient(
        lambda x: ((1.5, np.ones(2)), lambda g, h: g + gt.reduce_sum(gt.cast(h, "float32")))
    )
    a, b = f(gt.constant(1.0))
    check(a, 1.5)
    check(b, [1.0, 1.0], "float64")
    check(gradients(f, gt.constant(1.0))[0], 3.0)


@pytest.mark.parametrize(
    "back", [lambda g: g.numpy().astype("float64") * 2.0, lambda g: gt.cast(g, "float64") * 2]
)
def test_a_gradient_of_another_real_dtype_is_cast(back):
    f = gt.custom_gradient(lambda x: (x, back))
    check(gradients(f, gt.constant([1.0, 2.0]))[0], [2.0, 2.0])


def test_a_python_number_and_a_list_as_gradients():
    f = gt.custom_gradient(lambda x: (x, lambda g: 2))
    check(gradients(f, gt.constant(1.0))[0], 2.0)


def test_a_gradient_for_a_complex_operand_may_be_real():
    f = gt.custom_gradient(lambda z: (gt.math.real(z), lambda g: 3.0 * g))
    z = gt.constant(np.complex128(1 + 2j))
    check(gradients(f, z)[0], 3.0 + 0j, "complex128")


def test_keywords_are_passed_on():
    @gt.custom_gradient
    def power(x, exponent=1.0):
        return x**exponent, lambda g: g * exponent * x ** (exponent - 1.0)

    (x,) = tensors(3.0)
    check(gradients(lambda x: power(x, exponent=3.0), x)[0], 27.0, "float64")
    check(gradients(lambda x: power(x, exponent=gt.constant(3.0)), x)[0], 27.0, "float64")


def test_a_keyword_that_a_tape_follows_is_refused():
    @gt.custom_gradient
    def scaled(x, scale=None):
        return x * scale["by"], lambda g: g

    x, s = tensors(3.0, 2.0)
    with pytest.raises(LeavesTapeError, match=r"scaled.*scale= a tensor of shape \(\).*by position"):
        gradients(lambda x, s: scaled(x, scale={"by": s}), x, s)


def test_methods_and_their_names():
    class Layer(gt.Module):
        def __init__(self):
            super().__init__()
            self.factor = 5.0

        @gt.custom_gradient
        def __call__(self, x):
            """Five times x."""
            return x, lambda g: g * self.factor

        @staticmethod
        @gt.custom_gradient
        def plain(x):
            return x, lambda g: g * 2.0

    layer = Layer()
    (x,) = tensors(1.0)
    check(gradients(layer, x)[0], 5.0, "float64")
    check(gradients(layer.__call__, x)[0], 5.0, "float64")
    check(gradients(Layer.plain, x)[0], 2.0, "float64")
    assert (Layer.__call__.__doc__, layer.__call__.__name__) == ("Five times x.", "__call__")
    assert (log1pexp.__name__, log1pexp.__doc__) == ("log1pexp", "TensorFlow's own example.")


# -- custom_gradient: variables ------------------------------------------------------------------------------


def linear(w, seen=None):
    @gt.custom_gradient
    def line(x):
        def grad_fn(g, variables=None):
            if seen is not None:
                seen.append(variables)
            return 10.0 * g * w, [100.0 * g * x]

        return w * x, grad_fn

    return line


def test_variables_that_are_read():
    w, seen = gt.Variable(np.float64(3.0), name="w"), []
    (x,) = tensors(2.0)
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = linear(w, seen)(x)
    dx, dw = tape.gradient(y, [x, w])
    check(dx, 30.0, "float64")
    check(dw, 200.0, "float64")
    assert len(seen) == 1
    assert len(seen[0]) == 1
    assert seen[0][0] is w
    assert tape.watched_variables() == (w,)


def test_variables_come_in_the_order_of_their_creation_and_by_var_keywords_too():
    a, b = gt.Variable(2.0, name="a"), gt.Variable(3.0, name="b")
    names = []

    @gt.custom_gradient
    def f(x):
        def grad_fn(g, **keywords):
            names.extend(v.name for v in keywords["variables"])
            return g, {"one": 5.0 * g, "two": None}

        return b * x + a + b, grad_fn

    with gt.GradientTape() as tape:
        y = f(gt.constant(1.0))
    da, db = tape.gradient(y, [a, b])
    assert names == ["a:0", "b:0"]
    check(da, 5.0)
    assert db is None


def test_a_variable_among_the_arguments_is_an_argument():
    v = gt.Variable(3.0)
    f = gt.custom_gradient(lambda v: (v * v, lambda g: 50.0 * g))
    with gt.GradientTape() as tape:
        y = f(v)
    check(tape.gradient(y, v), 50.0)


def test_a_variable_among_the_arguments_counts_as_read_even_if_it_is_not():
    v = gt.Variable(3.0)
    f = gt.custom_gradient(lambda v: (gt.constant(1.0), lambda g: 50.0 * g))
    with gt.GradientTape() as tape:
        y = f(v)
    check(tape.gradient(y, v), 50.0)


def test_variables_without_training_count_only_where_a_tape_follows_them():
    v = gt.Variable(3.0, trainable=False)
    f = gt.custom_gradient(lambda x: (v * x, lambda g: g))
    check(f(gt.constant(1.0)), 3.0)
    with gt.GradientTape() as tape:
        tape.watch(v)
        with pytest.raises(StructureError, match="variables="):
            f(gt.constant(1.0))


def test_a_variable_given_by_keyword_is_one_that_is_read():
    v = gt.Variable(3.0)

    @gt.custom_gradient
    def f(x, by):
        return x * by, lambda g, variables: (g, [g * 8.0])

    with gt.GradientTape() as tape:
        y = f(gt.constant(2.0), by=v)
    check(tape.gradient(y, v), 8.0)


def test_second_derivatives_by_variables():
    w = gt.Variable(np.float64(3.0))
    (x,) = tensors(2.0)
    with gt.GradientTape() as outer:
        outer.watch(x)
        with gt.GradientTape() as inner:
            inner.watch(x)
            y = linear(w)(x)
        dx, dw = inner.gradient(y, [x, w])
        total = dx + dw
    check(outer.gradient(total, w), 10.0, "float64")


def test_a_rule_sees_variables_as_they_were():
    w = gt.Variable(np.float64(3.0))
    (x,) = tensors(2.0)
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = linear(w)(x)
    w.assign(1000.0)
    check(tape.gradient(y, x), 30.0, "float64")
    check(w.value(), 1000.0, "float64")


def test_a_rule_may_assign_a_variable():
    norm = gt.Variable(0.0, trainable=False)

    @gt.custom_gradient
    def noted(x):
        norm.assign_add(1.0)

        def grad_fn(g):
            norm.assign_add(gt.reduce_sum(g))
            return g * norm

        return gt.identity(x), grad_fn

    check(gradients(noted, gt.constant([1.0, 2.0]))[0], [3.0, 3.0])
    check(norm.value(), 3.0)


# -- custom_gradient: errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (lambda x: x, StructureError, r"broken.*\(result, grad_fn\).*Tensor"),
        (lambda x: (x, x, x), StructureError, r"broken.*\(result, grad_fn\).*3 values"),
        (lambda x: (x, x), StructureError, "broken.*a function for grad_fn.*Tensor"),
        (lambda x: (V * x, np.negative), StructureError, "broken.*the_v:0.*variables="),
        (lambda x: (x, lambda g: (g, g)), StructureError, "broken.*got 2.*wanted 1"),
        (lambda x: (x, lambda g: ()), StructureError, "broken.*got 0.*wanted 1"),
        (lambda x: (x, lambda g: gt.ones((3,))), ShapeError, r"broken.*gradient 0.*\(3,\).*\(2,\)"),
        (lambda x: (x, lambda g: gt.reduce_sum(g)), ShapeError, r"broken.*gradient 0.*\(\).*\(2,\)"),
        (lambda x: (x, lambda g: gt.cast(g, "complex64")), DTypeError, "broken.*complex64.*float32.*real"),
        (lambda x: (x, lambda g: "none"), DTypeError, "broken.*gradient 0.*none"),
        (lambda x: ("text", lambda g: g), DTypeError, "broken.*result.*text"),
        (lambda x: (V * x, lambda g: g), StructureError, "broken.*the_v:0.*variables="),
        (lambda x: (V * x, lambda g, variables: g), StructureError, "broken.*variable_gradients.*Tensor"),
        (
            lambda x: (V * x, lambda g, variables: (g, [])),
            StructureError,
            "broken.*got 0.*wanted 1.*variable",
        ),
        (lambda x: (V * x, lambda g, variables: (g, [g])), ShapeError, r"broken.*the_v:0.*\(2,\).*\(\)"),
    ],
)
def test_what_a_broken_rule_raises(answer, error, words):
    def broken(x):
        return answer(x)

    f = gt.custom_gradient(broken)
    with pytest.raises(error, match=words):
        gradients(f, gt.constant([1.0, 2.0]))


V = gt.Variable(1.0, name="the_v")


def test_the_missing_variables_are_told_of_without_a_tape_too():
    with pytest.raises(TypeError, match="variables="):
        gt.custom_gradient(lambda x: (V * x, lambda g: g))(1.0)


def test_after_an_error_in_the_body_the_stack_is_clean():
    def fails(x):
        raise KeyError("mine")

    for make in (gt.custom_gradient, gt.recompute_grad):
        with gt.GradientTape() as tape, pytest.raises(KeyError, match="mine"):
            make(fails)(V)
        assert tape.gradient(V, V) is not None


def test_an_error_in_a_recomputation_leaves_the_stack_clean():
    state = []

    def fails(x):
        if state:
            raise KeyError("mine")
        state.append(1)
        return x * x

    with pytest.raises(KeyError, match="mine"):
        gradients(gt.recompute_grad(fails), gt.constant(1.0))


# -- custom_gradient: memory and threads ---------------------------------------------------------------------


@pytest.mark.parametrize("persistent", [False, True])
def test_nothing_is_left_of_a_custom_gradient(persistent):
    def run():
        x = gt.constant(np.ones(1000))
        seen = []

        @gt.custom_gradient
        def f(x, w):
            e = gt.exp(x)
            seen.append(array_of(e))
            return e, lambda g: (g * e, None)

        with gt.GradientTape(persistent=persistent) as tape:
            tape.watch(x)
            y = f(x, V)
        del f
        assert tape.gradient(y, x) is not None
        if persistent:
            assert seen[0]() is not None
            del tape
        del y
        return seen[0]

    assert forgets(run)


def test_a_persistent_tape_holds_no_cotangents_between_its_sweeps():
    seen = []

    @gt.custom_gradient
    def f(a, b):
        def grad_fn(g):
            seen.append(array_of(g))
            return g * 2.0, g * 3.0

        return a + b, grad_fn

    a, b = gt.constant(np.ones(1000)), gt.constant(np.ones(1000))

    def run():
        tape.gradient(y * 1.0, a)
        return seen[0]

    with gt.GradientTape(persistent=True) as tape:
        tape.watch(a)
        y = f(a, b)
        y = y * 1.0
    tape.gradient(y, a)
    gc.disable()
    try:
        assert seen[0]() is None
    finally:
        gc.enable()


def test_threads_use_the_same_functions():
    block = gt.recompute_grad(lambda x: gt.sin(x) * x)

    def work(i):
        x = float(i)
        for _ in range(20):
            (t,) = tensors(x)
            check(derivative(derivative(wrong_square))(t), 7.0, "float64")
            check(derivative(block)(t), np.cos(x) * x + np.sin(x), "float64")
            check(derivative(derivative(block))(t), 2 * np.cos(x) - x * np.sin(x), "float64")

    together(work)


# -- recompute_grad ------------------------------------------------------------------------------------------


def counted(f):
    """f, and the list that each of its calls makes longer."""
    calls = []

    def call(*args, **keywords):
        calls.append(1)
        return f(*args, **keywords)

    return call, calls


def test_the_derivative_is_the_same_and_f_runs_twice():
    f, calls = counted(lambda x: gt.sin(gt.exp(x)))
    (x,) = tensors(0.5)
    check(gradients(gt.recompute_grad(f), x)[0], np.cos(np.exp(0.5)) * np.exp(0.5), "float64")
    assert len(calls) == 2


def test_without_a_tape_or_a_followed_operand_f_just_runs():
    f, calls = counted(lambda x: x * x)
    (x,) = tensors(3.0)
    check(gt.recompute_grad(f)(x), 9.0, "float64")
    with gt.GradientTape() as tape:
        y = gt.recompute_grad(f)(x)
    assert tape.gradient(y, x) is None
    assert len(calls) == 2


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_to_any_order(order):
    def plain(x):
        return gt.sin(x) * gt.exp(x) / (1.0 + x * x)

    def nth(f):
        for _ in range(order):
            f = derivative(f)
        return f

    (x,) = tensors(0.8)
    check(nth(gt.recompute_grad(plain))(x), nth(plain)(x).numpy(), "float64")
    check(nth(gt.recompute_grad(gt.recompute_grad(plain)))(x), nth(plain)(x).numpy(), "float64")


def mlp(depth, width=4):
    rng = np.random.default_rng(3)
    return [gt.Variable(rng.normal(size=(width, width)) / 2, name=f"w{i}") for i in range(depth)]


def through(ws):
    def block(x):
        for w in ws:
            x = gt.tanh(x @ w)
        return x

    return block


def loss_of(blocks, x):
    for block in blocks:
        x = block(x)
    return gt.reduce_sum(x * x)


def test_variables_that_f_reads(rng):
    ws = mlp(6)
    x = gt.constant(rng.normal(size=(3, 4)))
    wanted, got = [], []
    for answer, wrap in ((wanted, lambda f: f), (got, gt.recompute_grad)):
        with gt.GradientTape() as tape:
            y = loss_of([wrap(through(ws[i : i + 2])) for i in (0, 2, 4)], x)
        answer.extend(tape.gradient(y, ws))
        assert tape.watched_variables() == tuple(ws)
    for g, want in zip(got, wanted, strict=True):
        check(g, want.numpy(), "float64", rtol=1e-12)


def test_hessian_vector_products_through_variables(rng):
    ws = mlp(4)
    x = gt.constant(rng.normal(size=(3, 4)))
    vs = [gt.constant(rng.normal(size=w.shape)) for w in ws]

    def product(wrap):
        with gt.GradientTape() as outer:
            with gt.GradientTape() as inner:
                y = loss_of([wrap(through(ws[:2])), wrap(through(ws[2:]))], x)
            gs = inner.gradient(y, ws)
            total = sum(gt.reduce_sum(g * v) for g, v in zip(gs, vs, strict=True))
        return outer.gradient(total, ws)

    for got, want in zip(product(gt.recompute_grad), product(lambda f: f), strict=True):
        check(got, want.numpy(), "float64", rtol=1e-11)


def test_nested_blocks(rng):
    ws = mlp(4)
    x = gt.constant(rng.normal(size=(3, 4)))

    @gt.recompute_grad
    def outer_block(x):
        return gt.recompute_grad(through(ws[2:]))(gt.recompute_grad(through(ws[:2]))(x))

    with gt.GradientTape(persistent=True) as tape:
        got, want = loss_of([outer_block], x), loss_of([through(ws)], x)
    for g, w in zip(tape.gradient(got, ws), tape.gradient(want, ws), strict=True):
        check(g, w.numpy(), "float64", rtol=1e-12)


def test_persistent_tapes_and_gradients_within_the_block():
    (x,) = tensors(3.0)
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = gt.recompute_grad(lambda x: x**3)(x)
        dy = tape.gradient(y, x)
    for _ in range(2):
        check(tape.gradient(y, x), 27.0, "float64")
        check(tape.gradient(dy, x), 18.0, "float64")


def test_tensors_that_f_closes_over_and_keywords():
    x, a, b, c = tensors(2.0, 3.0, 5.0, 7.0)

    @gt.recompute_grad
    def f(x, options, by=None):
        return x * a * by, options["add"] * 1.0

    got = gradients(lambda x, a, b, c: f(x, {"add": c, "how": "mean"}, by=b), x, a, b, c)
    assert [float(g) for g in got] == [15.0, 10.0, 6.0, 1.0]


def test_results_that_are_operands_and_results_that_are_none():
    x, a = tensors(2.0, 3.0)
    f = gt.recompute_grad(lambda x: {"x": x, "a": a, "none": None, "n": gt.constant(3), "y": x * a})
    with gt.GradientTape(persistent=True) as tape:
        tape.watch([x, a])
        out = f(x)
    assert out["none"] is None
    assert int(out["n"]) == 3
    assert out["x"] is not x
    check(tape.gradient(out["x"], x), 1.0, "float64")
    check(tape.gradient(out["a"], a), 1.0, "float64")
    check(tape.gradient(out["y"], x), 3.0, "float64")
    assert tape.gradient(out["x"], a) is None


def test_a_result_that_no_op_inside_has_read():
    x, a = tensors(2.0, 3.0)
    got = gradients(lambda x, a: gt.recompute_grad(lambda x: (x * x, a))(x), x, a)
    assert [float(g) for g in got] == [4.0, 1.0]


def test_an_inner_block_that_closes_over_what_the_outer_made():
    @gt.recompute_grad
    def f(x):
        h = x * x
        return gt.recompute_grad(lambda: gt.sin(h))()

    (x,) = tensors(2.0)
    check(derivative(f)(x), 4 * np.cos(4.0), "float64")
    check(derivative(derivative(f))(x), 2 * np.cos(4.0) - 16 * np.sin(4.0), "float64")


def test_a_variable_that_comes_back():
    v = gt.Variable(2.0)
    with gt.GradientTape() as tape:
        y = gt.recompute_grad(lambda: v)()
    check(tape.gradient(y, v), 1.0)


def test_variables_assigned_after_the_forward_pass():
    v = gt.Variable(np.float64(3.0))
    (x,) = tensors(2.0)
    f = gt.recompute_grad(lambda x: x * v * v)
    for _ in range(2):
        v.assign(3.0)
        with gt.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = f(x)
        v.assign(100.0)
        dx, dv = tape.gradient(y, [x, v])
        check(dx, 9.0, "float64")
        check(dv, 12.0, "float64")
        check(v.value(), 100.0, "float64")


def test_variables_that_f_assigns():
    count = gt.Variable(np.float64(0.0), trainable=False)

    @gt.recompute_grad
    def f(x):
        count.assign_add(1.0)
        y = x**2 * count
        count.assign_add(1.0)
        return y

    (x,) = tensors(3.0)
    check(gradients(f, x)[0], 6.0, "float64")
    check(count.value(), 2.0, "float64")
    check(derivative(derivative(f))(x), 6.0, "float64")
    check(count.value(), 4.0, "float64")
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    count.assign(50.0)
    check(tape.gradient(y, x), 30.0, "float64")
    check(count.value(), 50.0, "float64")


def test_variables_that_f_makes_when_first_called():
    made = []

    @gt.recompute_grad
    def f(x):
        if not made:
            made.append(gt.Variable(np.float64(5.0)))
        return x * made[0]

    (x,) = tensors(3.0)
    with gt.GradientTape() as tape:
        y = f(x)
    check(tape.gradient(y, made[0]), 3.0, "float64")


def test_variables_that_a_tape_is_told_to_watch():
    v, w = gt.Variable(2.0, trainable=False), gt.Variable(3.0)
    with gt.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(v)
        y = gt.recompute_grad(lambda: v * w)()
    got = tape.gradient(y, [v, w])
    check(got[0], 3.0)
    assert got[1] is None


def test_another_thread_sees_the_variable_as_it_is_meanwhile():
    v = gt.Variable(1.0)
    running, seen = [], []

    def look():
        seen.append(float(v))
        v.assign(3.0)

    @gt.recompute_grad
    def f(x):
        if running:
            other = threading.Thread(target=look)
            other.start()
            other.join()
        return x * v

    with gt.GradientTape() as tape:
        tape.watch(x := gt.constant(1.0))
        y = f(x)
    v.assign(2.0)
    running.append(1)
    check(tape.gradient(y, x), 1.0)
    assert seen == [2.0]
    assert float(v) == 3.0


def test_arguments_changed_in_place_after_the_forward_pass():
    array = np.full(2, 3.0)
    (x,) = tensors(2.0)
    t = x * gt.constant([1.0, 1.0])
    f = gt.recompute_grad(lambda t, array: t * t * array)
    with gt.GradientTape() as tape:
        tape.watch(x)
        t = x * gt.constant([1.0, 1.0])
        u = gt.identity(t)
        y = f(u, array)
        u[0] = 100.0
    array[:] = 50.0
    check(tape.gradient(y, x), 24.0, "float64")


def test_an_argument_that_f_assigns_to_is_refused():
    def f(t):
        t[0] = 2.0
        return t * 1.0

    (x,) = tensors(1.0)
    for wrapped in (gt.recompute_grad(f), jvp_of(f, lambda primals, tangents: (primals[0], tangents[0]))):
        with gt.GradientTape() as tape:
            tape.watch(x)
            with pytest.raises(InPlaceError, match=r"f assigns in place.*\(2,\).*identity"):
                wrapped(x * gt.constant([1.0, 1.0]))


@pytest.mark.parametrize("how", ["in place", "anew"])
def test_what_f_closes_over_must_stay(how):
    scale = gt.constant([2.0, 3.0])

    def scaled(x):
        return x * scale

    f = gt.recompute_grad(scaled)
    x = gt.constant([1.0, 1.0])
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = f(x)
    check(tape.gradient(y, x), [2.0, 3.0])
    if how == "in place":
        scale[0] = 10.0
    else:
        scale = gt.constant([10.0, 10.0])
    with pytest.raises(RecomputationError, match=r"scaled.*multiply reads.*after the forward pass"):
        tape.gradient(y, x)


def test_f_must_do_the_same_each_time():
    shapes = iter([(2,), (3,), (2,), (2,)])

    def fickle(x):
        return gt.broadcast_to(x, next(shapes))

    x = gt.constant(1.0)
    with pytest.raises(RecomputationError, match=r"fickle.*float32\(3,\).*float32\(2,\)"):
        gradients(gt.recompute_grad(fickle), x)
    check(gradients(gt.recompute_grad(fickle), x)[0], 2.0)
    results = iter([1, 0])
    with pytest.raises(RecomputationError):
        gradients(gt.recompute_grad(lambda x: [x * x] * next(results)), x)


# -- recompute_grad: random numbers --------------------------------------------------------------------------


def noisy(draw):
    """x times noise, and the noise of each call."""
    noises = []

    @gt.recompute_grad
    def f(x):
        noise = draw()
        noises.append(noise.numpy())
        return gt.sin(x) * noise

    return f, noises


GENERATOR = gt.random.Generator.from_seed(5)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: gt.random.normal([4]) + gt.random.uniform([4]),
        lambda: gt.random.normal([4], seed=3),
        lambda: gt.random.truncated_normal([4]),
        lambda: GENERATOR.normal([4]),
        lambda: gt.nn.dropout(gt.ones((4,)), 0.5),
        lambda: gt.random.shuffle([1.0, 2.0, 3.0, 4.0]),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_the_recomputation_draws_the_same_numbers_and_the_stream_goes_on(draw, nested):
    def stream(sweep):
        gt.random.set_seed(1)
        GENERATOR.__init__(np.random.default_rng(1))
        f, noises = noisy(draw)
        f = gt.recompute_grad(f) if nested else f
        x = gt.constant([1.0, 2.0, 3.0, 4.0])
        with gt.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = f(x)
        if sweep:
            for _ in range(2):
                check(tape.gradient(y, x), np.cos(x.numpy()) * noises[0])
        assert len(noises) == (1 if not sweep else 5 if nested else 3)
        assert all(np.array_equal(n, noises[0]) for n in noises)
        return draw().numpy()

    np.testing.assert_array_equal(stream(True), stream(False))


def test_threads_that_draw_meanwhile_do_not_disturb_it():
    def work(i):
        for _ in range(20):
            f, noises = noisy(lambda: gt.random.normal([3]) + gt.random.normal([3]))
            x = gt.constant([1.0, 2.0, 3.0])
            check(gradients(f, x)[0], np.cos(x.numpy()) * noises[0])
            assert len(noises) == 2
            np.testing.assert_array_equal(*noises)

    together(work)


def test_more_draws_than_in_the_forward_pass():
    draws = iter([1, 2])

    @gt.recompute_grad
    def f(x):
        return x * sum(gt.random.normal([]) for _ in range(next(draws)))

    with pytest.raises(RecomputationError, match="more random numbers"):
        gradients(f, gt.constant(1.0))


def test_a_recomputation_at_second_order_draws_the_same():
    f, noises = noisy(lambda: gt.random.normal([]))
    x = gt.constant(0.5)
    check(derivative(derivative(f))(x), -np.sin(0.5) * noises[0])
    assert len(set(map(float, noises))) == 1


# -- recompute_grad: memory ----------------------------------------------------------------------------------


@pytest.mark.parametrize("persistent", [False, True])
def test_nothing_of_the_inside_is_kept(persistent):
    def run():
        seen = []

        @gt.recompute_grad
        def f(x):
            e = gt.exp(x)
            seen.append(array_of(e))
            return gt.sin(e)

        x = gt.constant(np.ones(1000))
        with gt.GradientTape(persistent=persistent) as tape:
            tape.watch(x)
            y = f(x)
            assert seen[0]() is None
        del f
        tape.gradient(y, x)
        assert seen[1]() is None
        return array_of(x)

    assert forgets(run)


def test_what_it_keeps_goes_with_the_tape():
    def run():
        x = gt.constant(np.ones(1000))
        ref = array_of(x)
        w = gt.Variable(np.ones(1000))
        with gt.GradientTape() as tape:
            y = gt.recompute_grad(lambda x: gt.exp(x) * w + gt.random.normal([], dtype="float64"))(x)
            del x
            assert ref() is not None
        assert tape.gradient(y, w) is not None
        return ref

    assert forgets(run)


def test_an_abandoned_tape_frees_it_all():
    def run():
        x = gt.constant(np.ones(1000))
        ref = array_of(x)
        with gt.GradientTape(persistent=True) as tape:
            tape.watch(x)
            gt.recompute_grad(gt.exp)(x)
            wrong_square(x)
            JVP(x)
        del tape
        return ref

    assert forgets(run)


def test_the_peak_of_a_deep_network_is_lower():
    n, depth = 100_000, 32

    def peak(every):
        wrap = (lambda f: f) if every is None else gt.recompute_grad
        x = gt.constant(np.full(n, 0.5))

        def block(x):
            for _ in range(every or 1):
                x = gt.sin(x)
            return x

        tracemalloc.start()
        try:
            with gt.GradientTape() as tape:
                tape.watch(x)
                y = x
                for _ in range(depth // (every or 1)):
                    y = wrap(block)(y)
            tape.gradient(y, x)
            return tracemalloc.get_traced_memory()[1] / (8 * n)
        finally:
            tracemalloc.stop()

    assert peak(None) > depth
    assert peak(8) < 16


# -- custom_jvp ----------------------------------------------------------------------------------------------


def jvp_of(f, rule):
    made = gt.custom_jvp(f)
    made.defjvp(rule)
    return made


# sin with twice its derivative, to see who is asked
JVP = jvp_of(gt.sin, lambda primals, tangents: (gt.sin(primals[0]), 2.0 * gt.cos(primals[0]) * tangents[0]))


def test_reverse_mode_transposes_the_rule():
    (x,) = tensors(0.5)
    check(gradients(JVP, x)[0], 2 * np.cos(0.5), "float64")
    check(derivative(derivative(JVP))(x), -2 * np.sin(0.5), "float64")
    check(JVP(x), np.sin(0.5), "float64")


def test_a_rule_that_calls_its_own_function():
    @gt.custom_jvp
    def exp(x):
        return gt.exp(x)

    @exp.defjvp
    def rule(primals, tangents):
        y = exp(primals[0])
        return y, y * tangents[0]

    (x,) = tensors(0.5)
    f = exp
    for _ in range(3):
        f = derivative(f)
        check(f(x), np.exp(0.5), "float64")


def test_structured_primals_and_results(rng):
    @gt.custom_jvp
    def f(pair, matrix, n, how):
        return {"y": matrix @ pair.left * n, "z": gt.reduce_sum(pair.right * pair.left)}

    @f.defjvp
    def rule(primals, tangents):
        pair, matrix, n, how = primals
        t, dm, dn, dhow = tangents
        assert (n, float(dn), how, dhow) == (2, 0.0, "how", None)
        y = (dm @ pair.left + matrix @ t.left) * n
        return f(*primals), {"y": y, "z": gt.reduce_sum(t.right * pair.left + pair.right * t.left)}

    a, b, m = (gt.constant(rng.normal(size=s)) for s in ((3,), (3,), (2, 3)))

    def loss(f):
        def total(a, b, m):
            out = f(Pair(a, b), m, 2, "how")
            return gt.reduce_sum(out["y"] ** 2.0) + gt.sin(out["z"])

        return total

    plain = f.__wrapped__
    for got, want in zip(gradients(loss(f), a, b, m), gradients(loss(plain), a, b, m), strict=True):
        check(got, want.numpy(), "float64", rtol=1e-11)
    only_m = gradients(lambda m: f(Pair(np.ones(3), 1.0), m, 2, "how")["y"], m)[0]
    check(only_m, np.full((2, 3), 2.0), "float64")


def test_finite_differences(rng):
    f = jvp_of(lambda x, y: x**2 * gt.sin(y), lambda p, t: (
        p[0] ** 2 * gt.sin(p[1]), 2.0 * p[0] * gt.sin(p[1]) * t[0] + p[0] ** 2 * gt.cos(p[1]) * t[1]
    ))  # fmt: skip
    x, y = rng.normal(size=(2, 4))
    h = 1e-6
    dx, dy = gradients(f, gt.constant(x), gt.constant(y))
    check(dx, ((f(x + h, y) - f(x - h, y)) / (2 * h)).numpy(), "float64", rtol=1e-8)
    check(dy, ((f(x, y + h) - f(x, y - h)) / (2 * h)).numpy(), "float64", rtol=1e-8)


def test_variables_among_the_primals_and_their_values_then():
    v = gt.Variable(np.float64(3.0))
    f = jvp_of(lambda x: x * x, lambda p, t: (p[0] * p[0], 2.0 * p[0] * t[0]))
    with gt.GradientTape() as tape:
        y = f(v)
    v.assign(100.0)
    check(tape.gradient(y, v), 6.0, "float64")


def test_a_rule_for_tangents_sees_variables_as_they_were():
    scale = gt.Variable(np.float64(3.0), trainable=False)
    f = jvp_of(lambda x: x * scale, lambda p, t: (p[0] * scale, t[0] * scale))
    (x,) = tensors(2.0)
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    scale.assign(100.0)
    check(tape.gradient(y, x), 3.0, "float64")


def test_a_tangent_that_depends_on_no_other_is_none():
    f = jvp_of(lambda x: x * x, lambda p, t: (p[0] * p[0], gt.zeros_like(p[0])))
    assert gradients(f, *tensors(2.0)) == [None]


def test_tangents_of_another_real_dtype_are_cast():
    f = jvp_of(lambda x: x * 2.0, lambda p, t: (p[0] * 2.0, np.float64(2.0) * t[0]))
    check(gradients(f, gt.constant(1.0))[0], 2.0)


def test_complex_values_follow_tensorflows_convention():
    f = jvp_of(lambda z: z * z, lambda p, t: (p[0] * p[0], 2.0 * p[0] * t[0]))
    z = gt.constant(np.complex128(1 + 2j))
    check(gradients(f, z)[0], gradients(lambda z: z * z, z)[0].numpy(), "complex128")


def told(f, *args):
    """The op and the values that a recorder hears of a call."""
    heard = []

    class Ear:
        def record(self, op, keys, values, uniform):
            heard.append((op, values))

        def accessed(self, variable): ...

        def follows(self, key):
            return True

    from gradtape.recorders import pop, push

    ear = Ear()
    push(ear)
    try:
        f(*args)
    finally:
        pop(ear)
    return heard[-1]


def test_what_forward_mode_is_told():
    f = jvp_of(
        lambda x, n, y: (x * y, x), lambda p, t: ((p[0] * p[2], p[0]), (p[0] * t[2] + p[2] * t[0], t[0]))
    )
    x, y = tensors(2.0, 3.0)
    op, values = told(f, x, 7, y)
    assert [np.shape(v) for v in values[:-1]] == [(), ()]
    got = op.jvp(raw, [None, np.float64(1.0)], values)
    assert [type(g) for g in got] == [np.float64] * 2
    assert got == [2.0, 0.0]
    ones = [gt.constant(np.float64(1.0)), None]
    got = op.jvp(recorded, ones, [x, y, None])
    check(got[0], 3.0, "float64")
    check(got[1], 1.0, "float64")
    with gt.GradientTape() as tape:
        tape.watch(y)
        got = op.jvp(recorded, ones, [x, y, None])
    check(tape.gradient(got[0], y), 1.0, "float64")


def test_ops_without_a_jvp_of_their_own_say_so():
    assert told(wrong_square, *tensors(2.0))[0].jvp is None
    assert gt.linalg.inv.op.jvp is None


def test_methods_with_a_jvp():
    class Scaler:
        by = 3.0

        @gt.custom_jvp
        def scale(self, x):
            """x, scaled."""
            return self.by * x

        @scale.defjvp
        def scale_jvp(self, primals, tangents):
            return self.by * primals[0], 10.0 * self.by * tangents[0]

    (x,) = tensors(1.0)
    check(gradients(Scaler().scale, x)[0], 30.0, "float64")
    assert (Scaler.scale.__name__, Scaler().scale.__doc__) == ("scale", "x, scaled.")


def test_keywords_take_their_positions():
    @gt.custom_jvp
    def scaled(x, by, *, how=None):
        return x * by

    scaled.defjvp(lambda p, t: (p[0] * p[1], p[1] * t[0]))
    (x,) = tensors(2.0)
    check(gradients(lambda x: scaled(by=4.0, x=x), x)[0], 4.0, "float64")
    with pytest.raises(StructureError, match="scaled: how cannot be given by position"):
        scaled(x, 4.0, how=1)


@pytest.mark.parametrize(
    ("rule", "error", "words"),
    [
        (None, NoGradientError, "broken has no rule.*@broken.defjvp"),
        (lambda p, t: t[0], StructureError, r"broken.*\(out, tangent_out\).*Tensor"),
        (lambda p, t: (gt.reduce_sum(p[0]), t[0]), ShapeError, r"broken.*out has shape \(\), wanted \(2,\)"),
        (lambda p, t: (p[0], gt.reduce_sum(t[0])), ShapeError, r"broken.*tangent_out has shape \(\)"),
        (lambda p, t: ((p[0], p[0]), t[0]), StructureError, "broken: out.*2 parts.*1"),
        (lambda p, t: (p[0], []), StructureError, "broken: tangent_out.*0 parts.*1"),
        (lambda p, t: (p[0], gt.cast(t[0], "complex64")), DTypeError, "broken.*tangent_out.*complex64"),
        (lambda p, t: (p[0], None), DTypeError, "broken.*tangent_out.*None"),
    ],
)
def test_what_a_broken_jvp_raises(rule, error, words):
    @gt.custom_jvp
    def broken(x):
        return x * 2.0

    if rule is not None:
        broken.defjvp(rule)
    with pytest.raises(error, match=words):
        gradients(broken, gt.constant([1.0, 2.0]))


def test_what_a_jvp_would_lose_is_refused():
    a = gt.constant([1.0, 2.0, 3.0])
    for stray in (lambda x: x * a, lambda x: a):
        f = jvp_of(stray, lambda p, t: (p[0], t[0]))
        with pytest.raises(LeavesTapeError, match=r"shape \(3,\).*as arguments"):
            gradients(lambda x, a, f=f: f(x), gt.constant(1.0), a)
    f = jvp_of(lambda x: x * V, lambda p, t: (p[0], t[0]))
    with pytest.raises(LeavesTapeError, match="as arguments"):
        gradients(f, gt.constant(1.0))


def test_nothing_is_left_of_a_custom_jvp():
    def run():
        x = gt.constant(np.ones(1000))
        ref = array_of(x)
        f = jvp_of(gt.exp, lambda p, t: (gt.exp(p[0]), gt.exp(p[0]) * t[0]))
        with gt.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        assert tape.gradient(y, x) is not None
        return ref

    assert forgets(run)


# -- together ------------------------------------------------------------------------------------------------


def test_each_within_the_other():
    v = gt.Variable(np.float64(3.0))

    @gt.recompute_grad
    def block(x):
        return JVP(log1pexp(x) * v)

    def plain(x):
        s = gt.math.softplus(x) * v
        return 2.0 * gt.sin(s) - gt.stop_gradient(gt.sin(s))

    (x,) = tensors(0.4)
    for order in (1, 2):
        got, want = block, plain
        for _ in range(order):
            got, want = derivative(got), derivative(want)
        if order == 1:
            check(got(x), want(x).numpy(), "float64")
    with gt.GradientTape() as tape:
        y = block(x)
    with gt.GradientTape() as other:
        z = plain(x)
    check(tape.gradient(y, v), other.gradient(z, v).numpy(), "float64")


def test_a_custom_gradient_around_a_recomputation():
    inner = gt.recompute_grad(lambda x: gt.exp(x))

    @gt.custom_gradient
    def f(x):
        y = inner(x)
        return y, lambda g: 2.0 * g * y

    (x,) = tensors(0.5)
    check(derivative(f)(x), 2 * np.exp(0.5), "float64")
    check(derivative(derivative(f))(x), 2 * np.exp(0.5), "float64")


def test_a_tape_within_a_recomputed_function():
    @gt.recompute_grad
    def slope(x):
        return derivative(lambda x: x**3)(x)

    (x,) = tensors(2.0)
    check(slope(x), 12.0, "float64")
    check(derivative(slope)(x), 12.0, "float64")
    check(derivative(derivative(slope))(x), 6.0, "float64")


def test_a_followed_value_may_not_leave_the_tape_inside_either():
    @gt.recompute_grad
    def f(x):
        y = x * 2.0
        array = np.zeros(2)
        array[0] = y
        return gt.constant(array)

    x = gt.constant(1.0)
    with gt.GradientTape() as tape:
        tape.watch(x)
        with pytest.raises(ValueError, match="sequence") as caught:
            f(x)
    assert isinstance(caught.value.__cause__, LeavesTapeError)


@pytest.mark.parametrize("name", ["custom_gradient", "custom_jvp", "recompute_grad"])
def test_only_functions_have_derivatives_of_their_own(name):
    with pytest.raises(ArgumentError, match=f"^{name}: wanted a function, got float"):
        getattr(gt, name)(3.0)


def test_a_custom_jvp_in_a_map_with_a_tangent_of_one_argument_only() -> None:
    product = gt.custom_jvp(lambda x, y: x * y)
    product.defjvp(lambda p, t: (p[0] * p[1], t[0] * p[1] + t[1] * p[0]))
    y = gt.constant(2.0)
    with gt.autodiff.ForwardAccumulator(y, gt.constant(1.0)) as acc:
        z = gt.vectorized_map(lambda x: product(x, y), gt.constant([1.0, 3.0]))
    np.testing.assert_array_equal(acc.jvp(z), [1.0, 3.0])


def test_a_rule_for_tangents_knows_a_variable_argument_in_both_modes() -> None:
    """It gets the argument itself, so that an accumulator of its own sees where else it is read."""
    w = gt.Variable(3.0)

    @gt.custom_jvp
    def square(x):
        return x * w

    @square.defjvp
    def rule(primals, tangents):
        with gt.autodiff.ForwardAccumulator(*primals, *tangents) as acc:
            y = primals[0] * w
        return y, acc.jvp(y)

    with gt.autodiff.ForwardAccumulator(w, 1.0) as acc, gt.GradientTape() as tape:
        y = square(w)
    np.testing.assert_array_equal(tape.gradient(y, w), 6.0)
    np.testing.assert_array_equal(acc.jvp(y), 6.0)


def test_a_recomputation_in_a_map_whose_result_the_examples_share() -> None:
    w = gt.Variable([1.0, 2.0])
    f = gt.recompute_grad(lambda x: gt.reduce_sum(w * w * gt.ones_like(2.0 * x)))
    with gt.GradientTape() as tape:
        y = gt.vectorized_map(f, gt.zeros((3, 2)))
    np.testing.assert_array_equal(tape.gradient(y, w), [6.0, 12.0])
    with gt.autodiff.ForwardAccumulator(w, gt.constant([1.0, 0.0])) as acc:
        y = gt.vectorized_map(lambda row: gt.vectorized_map(f, row), gt.zeros((3, 4, 2)))
    np.testing.assert_array_equal(acc.jvp(y), np.full((3, 4), 2.0))
