"""GradientTape, item by item; expected numbers are closed forms or what TensorFlow 2 answers."""

from collections import OrderedDict

import numpy as np
import pytest
from numerics import Pair, check

import gradtape as gt


def derivative(f):
    """f' by a tape of its own, so that calls of it nest."""

    def df(x):
        with gt.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return tape.gradient(y, x)

    return df


def gradients(f, *xs, **options):
    with gt.GradientTape() as tape:
        tape.watch(xs)
        y = f(*xs)
    return tape.gradient(y, list(xs), **options)


# -- 1. what is recorded and watched -------------------------------------------------------------------------


def test_a_watched_tensor_is_followed():
    x = gt.constant(3.0)
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    check(tape.gradient(y, x), 6.0)


def test_a_tensor_that_is_not_watched_is_not_followed():
    x = gt.constant(3.0)
    with gt.GradientTape() as tape:
        y = x * x
    assert tape.gradient(y, x) is None


def test_ops_outside_the_block_are_not_recorded():
    x = gt.constant(3.0)
    before = x * x
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        inside = x * x
    after = x * x
    beyond = inside * x
    assert tape.gradient(before, x) is None
    check(tape.gradient(inside, x), 6.0)
    assert tape.gradient(after, x) is None
    assert tape.gradient(beyond, x) is None


def test_what_ran_before_watch_is_not_recorded():
    x = gt.constant(3.0)
    with gt.GradientTape(persistent=True) as tape:
        early = x * x
        tape.watch(x)
        late = early * x
    assert tape.gradient(early, x) is None
    check(tape.gradient(late, x), 9.0)


def test_trainable_variables_are_watched_when_accessed():
    a, b = gt.Variable(2.0), gt.Variable(3.0)
    with gt.GradientTape() as tape:
        y = a * b
    da, db = tape.gradient(y, [a, b])
    check(da, 3.0)
    check(db, 2.0)


def test_variables_that_are_not_trainable_are_not_watched():
    a, b = gt.Variable(2.0), gt.Variable(3.0, trainable=False)
    with gt.GradientTape() as tape:
        y = a * b
    da, db = tape.gradient(y, [a, b])
    check(da, 3.0)
    assert db is None


def test_a_variable_that_is_not_trainable_can_be_watched():
    b = gt.Variable(3.0, trainable=False)
    with gt.GradientTape() as tape:
        tape.watch(b)
        y = b * b
    check(tape.gradient(y, b), 6.0)


def test_watch_accessed_variables_false_watches_only_what_it_is_told_to():
    a, b = gt.Variable(2.0, name="a"), gt.Variable(3.0, name="b")
    with gt.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(b)
        y = a * b
    assert [v.name for v in tape.watched_variables()] == ["b:0"]
    da, db = tape.gradient(y, [a, b])
    assert da is None
    check(db, 2.0)


@pytest.mark.parametrize(
    "read",
    [
        lambda v: v.value(),
        lambda v: v.read_value(),
        lambda v: +v,
        lambda v: v[...],
        gt.identity,
        gt.convert_to_tensor,
        lambda v: 0.0 + v,
        lambda v: v * np.float32(1.0),
        lambda v: np.multiply(v, np.float32(1.0)),
    ],
)
def test_every_way_to_read_a_variable_is_an_access(read):
    v = gt.Variable(3.0)
    with gt.GradientTape() as tape:
        y = read(v)
        z = y * y
    dv, dy = tape.gradient(z, [v, y])
    check(dv, 6.0)
    check(dy, 6.0)


@pytest.mark.parametrize(
    "structure",
    [
        lambda x, y: [x, y],
        lambda x, y: (x, y),
        lambda x, y: {"x": x, "y": y},
        lambda x, y: Pair(x, y),
        lambda x, y: {"deep": [(x,), {"er": Pair(y, [])}]},
    ],
)
def test_watch_takes_nested_structures(structure):
    x, y = gt.constant(2.0), gt.constant(5.0)
    with gt.GradientTape() as tape:
        tape.watch(structure(x, y))
        z = x * x * y
    dx, dy = tape.gradient(z, (x, y))
    check(dx, 20.0)
    check(dy, 4.0)


@pytest.mark.parametrize("thing", [np.ones(2), np.float64(1.0), 1.0, 3, "x", object(), [1.0]])
def test_watching_what_is_no_tensor_names_its_type_and_says_constant(thing):
    with gt.GradientTape() as tape:
        with pytest.raises(ValueError, match="constant") as caught:
            tape.watch(thing)
        leaf = thing[0] if isinstance(thing, list) else thing
        assert type(leaf).__name__ in str(caught.value)


def test_a_structure_with_an_ndarray_is_refused_whole():
    x = gt.constant(3.0)
    with gt.GradientTape() as tape:
        with pytest.raises(ValueError, match="ndarray"):
            tape.watch([x, np.ones(2)])
        y = x * x
    assert tape.gradient(y, x) is None


@pytest.mark.parametrize("value", [3, True, [1, 2], np.array([1, 2], np.uint8), np.int64(4)])
def test_watching_integers_and_booleans_warns_and_their_gradient_is_none(value):
    x = gt.constant(value)
    with gt.GradientTape() as tape:
        with pytest.warns(UserWarning, match=f"watch: {x.dtype} .*cannot be differentiated"):
            tape.watch(x)
        y = gt.cast(x, "float32") * 2.0
    assert tape.gradient(y, x) is None


def test_watching_integers_among_floats_warns_once_and_follows_the_floats():
    x, n = gt.constant(3.0), gt.constant(2)
    with gt.GradientTape() as tape:
        with pytest.warns(UserWarning, match="int32") as caught:
            tape.watch([n, x])
        y = x * gt.cast(n, "float32")
    assert len(caught) == 1
    assert caught[0].filename == __file__
    dn, dx = tape.gradient(y, [n, x])
    assert dn is None
    check(dx, 2.0)


def test_integer_arithmetic_of_a_watched_integer_has_no_gradient():
    x = gt.constant(3)
    with gt.GradientTape() as tape:
        with pytest.warns(UserWarning, match="int32"):
            tape.watch(x)
        y = x * x
    with pytest.warns(UserWarning, match="int32"):
        assert tape.gradient(y, x) is None


def test_an_integer_variable_has_no_gradient_and_no_warning():
    n, x = gt.Variable(3), gt.Variable(2.0)
    with gt.GradientTape() as tape:
        y = gt.cast(n, "float32") * x
    dn, dx = tape.gradient(y, [n, x])
    assert dn is None
    check(dx, 3.0)


# -- 2. gradient: structures, targets, output gradients, unconnected sources ---------------------------------


def test_the_result_has_the_structure_of_the_sources():
    x, y = gt.constant(2.0), gt.constant(5.0)
    with gt.GradientTape(persistent=True) as tape:
        tape.watch((x, y))
        z = x * x * y

    for sources, kind in [([x, y], list), ((x, y), tuple), (Pair(x, y), Pair)]:
        found = tape.gradient(z, sources)
        assert type(found) is kind
        check(found[0], 20.0)
        check(found[1], 4.0)
    for kind in (dict, OrderedDict):
        found = tape.gradient(z, kind([("y", y), ("x", x)]))
        assert type(found) is kind
        assert list(found) == ["y", "x"]
        check(found["x"], 20.0)
        check(found["y"], 4.0)
    check(tape.gradient(z, x), 20.0)

    nested = tape.gradient(z, Pair([x], {"k": (y, [x, ()])}))
    assert isinstance(nested, Pair)
    assert nested.right["k"][1][1] == ()
    check(nested.left[0], 20.0)
    check(nested.right["k"][0], 4.0)
    check(nested.right["k"][1][0], 20.0)
    assert tape.gradient(z, []) == []
    assert tape.gradient(z, ()) == ()
    assert tape.gradient(z, {}) == {}


def test_none_stands_in_its_place_in_the_structure():
    x, u = gt.constant(2.0), gt.constant(1.0)
    with gt.GradientTape() as tape:
        tape.watch([x, u])
        z = x * x
    found = tape.gradient(z, {"u": u, "x": (x, [u])})
    assert found["u"] is None
    assert found["x"][1] == [None]
    check(found["x"][0], 4.0)


def test_the_same_source_twice_gives_its_gradient_twice():
    x = gt.constant(2.0)
    with gt.GradientTape() as tape:
        tape.watch(x)
        z = x * x
        w = z * x
    first, middle, second = tape.gradient(w, [x, z, x])
    check(first, 12.0)
    check(second, 12.0)
    check(middle, 2.0)


def test_several_targets_are_summed():
    x = gt.constant([1.0, 2.0])
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        a, b = x * x, 3.0 * x
    check(tape.gradient([a, b], x), [5.0, 7.0])
    check(tape.gradient({"p": a, "q": [b, (b,)]}, x), [8.0, 10.0])
    check(tape.gradient([a, a], x), [4.0, 8.0])


def test_targets_of_different_shapes_are_summed():
    x = gt.constant([1.0, 2.0])
    with gt.GradientTape() as tape:
        tape.watch(x)
        targets = [gt.reduce_sum(x), gt.reshape(x * x, (2, 1)), x[0]]
    check(tape.gradient(targets, x), [4.0, 5.0])


def test_no_targets_have_no_gradient():
    x = gt.constant(2.0)
    with gt.GradientTape() as tape:
        tape.watch(x)
    assert tape.gradient([], x) is None


@pytest.mark.parametrize("wrap", [lambda g: g, gt.constant, np.float32])
def test_a_target_that_is_a_source_contributes_its_own_output_gradient(wrap):
    x, y = gt.constant(7.0), gt.constant(3.0)
    with gt.GradientTape() as tape:
        tape.watch([x, y])
        z = x * y
    dx, dy = tape.gradient([z, x], [x, y], output_gradients=[wrap(1.0), wrap(2.0)])
    check(dx, 3.0 + 2.0)
    check(dy, 7.0)


def test_an_intermediate_target_adds_to_what_flows_back_from_later_ones():
    x = gt.constant(2.0)
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        z = x * x
        w = z * x
    dx, dz = tape.gradient([w, z], [x, z])  # as TensorFlow: 16 and 3
    check(dx, 16.0)
    check(dz, 3.0)
    dx, dz = tape.gradient([z, w], [x, z], output_gradients=[10.0, 1.0])
    check(dx, 12.0 + 40.0)
    check(dz, 12.0)


def test_the_same_target_twice_takes_both_output_gradients():
    x = gt.constant([1.0, 2.0])
    with gt.GradientTape() as tape:
        tape.watch(x)
        z = x * x
    given = [gt.constant([1.0, 2.0]), gt.constant([10.0, 20.0])]
    check(tape.gradient([z, z], x, output_gradients=given), [22.0, 88.0])


@pytest.mark.parametrize("wrap", [gt.constant, gt.Variable, np.array, lambda g: [gt.constant(g)]])
def test_output_gradients_of_every_kind(wrap):
    x = gt.constant(np.array([1.0, 2.0, 3.0]))
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    given = wrap(np.array([1.0, -1.0, 0.5]))
    check(tape.gradient(y, x, output_gradients=given), [2.0, -4.0, 3.0], "float64")


def test_output_gradients_in_the_structure_of_the_targets():
    x = gt.constant([1.0, 2.0])
    with gt.GradientTape() as tape:
        tape.watch(x)
        targets = {"a": x * x, "b": gt.reduce_sum(x)}
    given = {"a": gt.constant([1.0, 10.0]), "b": gt.constant(100.0)}
    check(tape.gradient(targets, x, output_gradients=given), [102.0, 140.0])


def test_none_among_the_output_gradients_means_ones():
    x = gt.constant([1.0, 2.0])
    with gt.GradientTape() as tape:
        tape.watch(x)
        targets = [x * x, 3.0 * x]
    check(tape.gradient(targets, x, output_gradients=[None, gt.constant([1.0, 10.0])]), [5.0, 34.0])


def test_output_gradients_are_left_as_they_were():
    x, seed = gt.constant([1.0, 2.0]), gt.constant([1.0, 1.0])
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x + 0.0
        z = y + x + y
    for _ in range(2):
        check(tape.gradient([z, y, z], x, output_gradients=[seed, seed, seed]), [7.0, 7.0])
    check(seed, [1.0, 1.0])


@pytest.mark.parametrize("choice", [None, "none", gt.UnconnectedGradients.NONE])
def test_unconnected_gradients_are_none_by_default(choice):
    x, y = gt.constant(3.0), gt.constant([2.0, 1.0])
    options = {} if choice is None else {"unconnected_gradients": choice}
    with gt.GradientTape() as tape:
        tape.watch([x, y])
        z = x * x
    dx, dy = tape.gradient(z, [x, y], **options)
    check(dx, 6.0)
    assert dy is None


@pytest.mark.parametrize("choice", ["zero", gt.UnconnectedGradients.ZERO])
def test_unconnected_gradients_can_be_zeros(choice):
    x, y, n = gt.constant(3.0), gt.constant(np.ones((2, 3))), gt.constant([1, 2])
    v = gt.Variable(np.ones(2, np.float16))
    with gt.GradientTape() as tape:
        tape.watch([x, y])
        z = x * gt.cast(n[0], "float32")
    dx, dy, dn, dv = tape.gradient(z, [x, y, n, v], unconnected_gradients=choice)
    check(dx, 1.0)
    check(dy, np.zeros((2, 3)), "float64")
    check(dn, [0, 0], "int32")
    check(dv, [0.0, 0.0], "float16")


@pytest.mark.parametrize("choice", ["NONE", "Zero", "zeros", "nonsense", 0, None, True])
def test_any_other_choice_for_unconnected_gradients_is_a_value_error(choice):
    x = gt.constant(3.0)
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    with pytest.raises(ValueError, match="unconnected_gradients") as caught:
        tape.gradient(y, x, unconnected_gradients=choice)
    assert repr(choice) in str(caught.value)
    check(tape.gradient(y, x), 6.0)


def test_a_target_of_any_shape_is_summed_over_its_elements():
    x = gt.constant(np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]))
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = gt.sin(x)
        total = gt.reduce_sum(y)
    check(tape.gradient(y, x), np.cos(x.numpy()), "float64", 1e-14)
    check(tape.gradient(total, x), np.cos(x.numpy()), "float64", 1e-14)


def test_an_integer_target_warns_and_has_no_gradient():
    x = gt.constant(3.0)
    with gt.GradientTape() as tape:
        tape.watch(x)
        n = gt.cast(x, "int32")
    with pytest.warns(UserWarning, match="int32"):
        assert tape.gradient(n, x) is None


def test_arguments_of_gradient_can_be_named():
    x, u = gt.constant(3.0), gt.constant(1.0)
    with gt.GradientTape(persistent=False, watch_accessed_variables=True) as tape:
        tape.watch(tensor=x)
        y = x * x
    dx, du = tape.gradient(target=y, sources=[x, u], output_gradients=[10.0], unconnected_gradients="zero")
    check(dx, 60.0)
    check(du, 0.0)


# -- 3. intermediate sources ---------------------------------------------------------------------------------


def test_intermediate_values_alone_and_with_what_they_come_from():
    x = gt.constant(2.0)
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x
        z = gt.sin(y)
        w = y * z
    s, c = np.sin(4.0), np.cos(4.0)
    dy, dz, dx = s + 4.0 * c, 4.0, (s + 4.0 * c) * 4.0
    check(tape.gradient(w, y), dy)
    check(tape.gradient(w, z), dz)
    check(tape.gradient(w, x), dx)
    for sources, wants in [
        ([x, y, z], [dx, dy, dz]),
        ([z, y], [dz, dy]),
        ([y, x], [dy, dx]),
        ([z, x], [dz, dx]),
    ]:
        for got, want in zip(tape.gradient(w, sources), wants, strict=True):
            check(got, want)


def test_an_intermediate_variable_value_is_a_source():
    v = gt.Variable(2.0)
    with gt.GradientTape() as tape:
        y = v.value()
        again = v.read_value()
        z = y * y
    dv, dy, dagain = tape.gradient(z, [v, y, again])
    check(dv, 4.0)
    check(dy, 4.0)
    assert dagain is None


@pytest.mark.parametrize("watched", [True, False])
def test_the_gradient_of_a_value_by_itself_is_ones(watched):
    x = gt.constant(np.full((2, 3), 5.0))
    with gt.GradientTape(persistent=True) as tape:
        if watched:
            tape.watch(x)
        y = x * x
    check(tape.gradient(x, x), np.ones((2, 3)), "float64")
    check(tape.gradient(y, y), np.ones((2, 3)), "float64")
    check(
        tape.gradient(x, x, output_gradients=np.arange(6.0).reshape(2, 3)), [[0, 1, 2], [3, 4, 5]], "float64"
    )
    check(tape.gradient([x, x], x), np.full((2, 3), 2.0), "float64")


def test_the_gradient_of_a_value_by_itself_needs_no_op():
    x, v = gt.constant(3.0), gt.Variable(2.0)
    with gt.GradientTape(persistent=True) as tape:
        pass
    check(tape.gradient(x, x), 1.0)
    check(tape.gradient(v, v), 1.0)
    check(tape.gradient([v, v], v), 2.0)
    assert tape.gradient(x, v) is None


def test_results_of_an_op_with_several_results_are_sources():
    x = gt.constant([1.0, 2.0, 3.0, 4.0])
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        a, b = gt.split(x * x, 2)
        y = gt.reduce_sum(b * b)
    da, db, dx = tape.gradient(y, [a, b, x])
    assert da is None
    check(db, [18.0, 32.0])
    check(dx, [0.0, 0.0, 108.0, 256.0])
    zero, _ = tape.gradient(y, [a, b], unconnected_gradients="zero")
    check(zero, [0.0, 0.0])


def test_an_identity_is_a_value_of_its_own():
    x = gt.constant(3.0)
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = gt.identity(x)
        z = y * y + x
    dx, dy = tape.gradient(z, [x, y])
    check(dx, 7.0)
    check(dy, 6.0)


# -- 4. one set of gradients, or many ------------------------------------------------------------------------


def test_a_tape_that_is_not_persistent_answers_once():
    x = gt.constant(3.0)
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    check(tape.gradient(y, x), 6.0)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="persistent=True"):
            tape.gradient(y, x)


def test_a_persistent_tape_answers_often():
    x = gt.constant([3.0, 4.0])
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x
        z = y * y
    for _ in range(3):
        check(tape.gradient(z, x), [108.0, 256.0])
        check(tape.gradient(y, x), [6.0, 8.0])
        check(tape.gradient(z, y), [18.0, 32.0])


# -- 5. control flow -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "want"), [(6, 12.0), (5, 12.0), (4, 4.0)])
def test_the_seed_loop(n, want):
    def f(x, y):
        output = 1.0
        for i in range(y):
            if 1 < i < 5:
                output = gt.multiply(output, x)
        return output

    x = gt.constant(2.0)
    with gt.GradientTape() as tape:
        tape.watch(x)
        out = f(x, n)
    assert str(tape.gradient(out, x)) == f"tf.Tensor({want}, shape=(), dtype=float32)"


def test_while_on_a_tensor():
    def f(x):
        while x < 100.0:
            x = x * x
        return x

    check(*_value(derivative(f), 2.0, 8 * 2.0**7))  # 2 -> 4 -> 16 -> 256 = x ** 8
    check(*_value(derivative(f), 10.0, 2 * 10.0))


def _value(df, x, want):
    return df(gt.constant(x)), want


def test_recursion():
    def power(x, n):
        if n == 0:
            return gt.constant(1.0)
        half = power(x, n // 2)
        return half * half * x if n % 2 else half * half

    for n in range(1, 8):
        check(*_value(derivative(lambda x, n=n: power(x, n)), 1.5, n * 1.5 ** (n - 1)))


def test_early_return():
    def f(x):
        for i in range(1, 10):
            x = x * float(i)
            if x > 20.0:
                return x
        return -x

    check(*_value(derivative(f), 1.0, 24.0))
    check(*_value(derivative(f), 30.0, 1.0))
    check(*_value(derivative(f), 1e-9, -362880.0))


def test_comprehensions_generators_and_closures():
    x = gt.constant([1.0, 2.0, 3.0])
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        listed = sum([xi * xi for xi in x])
        lazily = sum(xi**3 for xi in x if xi > 1.5)
        mapped = dict(zip("abc", (gt.sin(xi) for xi in x), strict=True))
    check(tape.gradient(listed, x), [2.0, 4.0, 6.0])
    check(tape.gradient(lazily, x), [0.0, 12.0, 27.0])
    check(tape.gradient(mapped, x), np.cos([1.0, 2.0, 3.0]))


def test_branches_on_values_take_the_branch_that_ran():
    def f(x):
        return x * x if x > 0 else (-x if x < -1 else x * 0.5)

    for x, want in [(3.0, 6.0), (-2.0, -1.0), (-0.5, 0.5)]:
        check(*_value(derivative(f), x, want))


def test_newton_iteration_to_convergence():
    def root(a):
        x = a
        for _ in range(50):
            step = (x * x - a) / (2.0 * x)
            x = x - step
            if abs(step) < 1e-12:
                break
        return x

    a = gt.constant(np.float64(3.0))
    check(derivative(root)(a), 0.5 / np.sqrt(3.0), "float64", 1e-10)
    check(derivative(derivative(root))(a), -0.25 * 3.0**-1.5, "float64", 1e-9)


# -- 6. tapes nest, to any order -----------------------------------------------------------------------------

# f, the point, f' to the fifth derivative
HIGHER = {
    "x ** 5": (lambda x: x**5, 1.3, lambda x: [5 * x**4, 20 * x**3, 60 * x**2, 120 * x, 120.0]),
    "x * x * x * x * x": (
        lambda x: x * x * x * x * x,
        1.3,
        lambda x: [5 * x**4, 20 * x**3, 60 * x**2, 120 * x, 120.0],
    ),
    "x ** 5.5": (
        lambda x: x**5.5,
        1.3,
        lambda x: [np.prod(5.5 - np.arange(k)) * x ** (5.5 - k) for k in range(1, 6)],
    ),
    "sin": (gt.sin, 0.7, lambda x: [np.cos(x), -np.sin(x), -np.cos(x), np.sin(x), np.cos(x)]),
    "exp(2 x)": (lambda x: gt.exp(2.0 * x), 0.3, lambda x: [2.0**k * np.exp(2 * x) for k in range(1, 6)]),
    "1 / x": (lambda x: 1.0 / x, 1.7, lambda x: [-(x**-2), 2 * x**-3, -6 * x**-4, 24 * x**-5, -120 * x**-6]),
    "log": (gt.math.log, 1.7, lambda x: [1 / x, -(x**-2), 2 * x**-3, -6 * x**-4, 24 * x**-5]),
    "sqrt": (gt.sqrt, 1.7, lambda x: [np.prod(0.5 - np.arange(k)) * x ** (0.5 - k) for k in range(1, 6)]),
    "2 ** x": (lambda x: 2.0**x, 0.4, lambda x: [np.log(2.0) ** k * 2.0**x for k in range(1, 6)]),
    "x exp(x)": (lambda x: x * gt.exp(x), 0.4, lambda x: [(x + k) * np.exp(x) for k in range(1, 6)]),
    "sinh": (gt.sinh, 0.4, lambda x: [np.cosh(x), np.sinh(x), np.cosh(x), np.sinh(x), np.cosh(x)]),
}
HIGHER_CASES = pytest.mark.parametrize(("f", "at", "closed"), HIGHER.values(), ids=HIGHER.keys())


@HIGHER_CASES
@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_five_nested_tapes(f, at, closed, shape):
    value = np.full(shape, at)
    x = gt.constant(value)
    g = f
    for want in closed(at):
        g = derivative(g)
        check(g(x), np.full(shape, want), "float64", 1e-11)


@HIGHER_CASES
def test_five_orders_by_one_persistent_tape_inside_its_own_block(f, at, closed):
    x = gt.constant(np.float64(at))
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        values = [f(x)]
        for _ in range(5):
            values.append(tape.gradient(values[-1], x))
    for got, want in zip(values[1:], closed(at), strict=True):
        check(got, want, "float64", 1e-11)
    for value, want in zip(values[:-1], closed(at), strict=True):  # and asked again from outside
        check(tape.gradient(value, x), want, "float64", 1e-11)


def test_the_fourth_derivative_of_a_cube_is_zero():
    x = gt.constant(3.0)
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        found = [x**3]
        for _ in range(3):
            found.append(tape.gradient(found[-1], x))
    for got, want in zip(found, [27.0, 27.0, 18.0, 6.0], strict=True):
        check(got, want)
    check(tape.gradient(found[3], x, unconnected_gradients="zero"), 0.0)


def test_five_tapes_written_out():
    x = gt.Variable(2.0)
    with gt.GradientTape() as t5:
        with gt.GradientTape() as t4:
            with gt.GradientTape() as t3:
                with gt.GradientTape() as t2:
                    with gt.GradientTape() as t1:
                        y = x * x * x * x * x
                    g1 = t1.gradient(y, x)
                g2 = t2.gradient(g1, x)
            g3 = t3.gradient(g2, x)
        g4 = t4.gradient(g3, x)
    g5 = t5.gradient(g4, x)
    for got, want in zip([g1, g2, g3, g4, g5], [80.0, 160.0, 240.0, 240.0, 120.0], strict=True):
        check(got, want)


def test_mixed_derivatives_commute():
    x, y = gt.constant(np.float64(0.6)), gt.constant(np.float64(1.1))

    def mixed(first, second):
        with gt.GradientTape() as outer:
            outer.watch([x, y])
            with gt.GradientTape() as inner:
                inner.watch([x, y])
                z = gt.sin(x * y) + x**2 * y**3
            g = inner.gradient(z, first)
        return outer.gradient(g, second)

    want = np.cos(0.66) - 0.66 * np.sin(0.66) + 6 * 0.6 * 1.1**2
    check(mixed(x, y), want, "float64", 1e-12)
    check(mixed(y, x), want, "float64", 1e-12)


def test_a_hessian_of_an_array_function():
    a = np.array([[2.0, 1.0, 0.0], [1.0, 3.0, -1.0], [0.0, -1.0, 1.5]])
    x = gt.constant(np.array([0.3, -0.2, 0.9]))
    with gt.GradientTape(persistent=True) as outer:
        outer.watch(x)
        with gt.GradientTape() as inner:
            inner.watch(x)
            y = gt.reduce_sum(x * gt.linalg.matvec(a, x)) + gt.reduce_sum(x**3)
        g = inner.gradient(y, x)
        rows = [g[i] for i in range(3)]
    hessian = np.array([outer.gradient(row, x).numpy() for row in rows])
    np.testing.assert_allclose(hessian, 2 * a + np.diag(6 * x.numpy()), rtol=1e-12, atol=1e-12)


def test_a_gradient_penalty_flows_on_through_later_ops():
    x, w = gt.constant([1.0, 2.0]), gt.Variable(3.0)
    with gt.GradientTape() as outer:
        with gt.GradientTape() as inner:
            inner.watch(x)
            y = gt.reduce_sum(w * x * x)
        g = inner.gradient(y, x)  # 2 w x
        penalty = gt.reduce_sum(g * g) + w  # 4 w^2 |x|^2 + w
    check(outer.gradient(penalty, w), 8 * 3.0 * 5.0 + 1.0)


def test_output_gradients_are_differentiated_too():
    x, s = gt.constant([1.0, 2.0]), gt.constant([3.0, 4.0])
    with gt.GradientTape() as outer:
        outer.watch([x, s])
        with gt.GradientTape() as inner:
            inner.watch(x)
            y = x**3
        g = inner.gradient(y, x, output_gradients=s * s)  # 3 x^2 s^2
    dx, ds = outer.gradient(g, [x, s])
    check(dx, [6 * 1 * 9, 6 * 2 * 16])
    check(ds, [6 * 1 * 3, 6 * 4 * 4])


def test_a_variable_as_output_gradient_is_watched_by_the_outer_tape():
    x, s = gt.constant([1.0, 2.0]), gt.Variable([3.0, 4.0])
    with gt.GradientTape() as outer:
        with gt.GradientTape() as inner:
            inner.watch(x)
            y = x * x
        g = inner.gradient(y, x, output_gradients=s)
    check(outer.gradient(g, s), [2.0, 4.0])


def test_gradient_inside_the_tapes_own_block_ends_the_recording():
    x = gt.constant(3.0)
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = x * x
        g = tape.gradient(y, x)
        z = x * x * x
    check(g, 6.0)
    with pytest.raises(RuntimeError, match="persistent=True"):
        tape.gradient(z, x)


def test_a_tape_that_answered_in_its_own_block_watches_nothing_more():
    a, b = gt.Variable(2.0, name="a"), gt.Variable(3.0, name="b")
    with gt.GradientTape() as tape:
        g = tape.gradient(a * a, a)
        b * b
        with pytest.raises(ValueError, match="not recording"), tape.stop_recording():
            pass
    check(g, 4.0)
    assert [v.name for v in tape.watched_variables()] == ["a:0"]


def test_an_outer_tape_records_on_after_an_inner_one_answered_in_its_block():
    x = gt.constant(3.0)
    with gt.GradientTape() as outer:
        outer.watch(x)
        with gt.GradientTape() as inner:
            inner.watch(x)
            y = x**3
            g = inner.gradient(y, x)
            z = g * x  # 3 x^3, in the block of a tape that has stopped
        w = z * x
    check(outer.gradient(w, x), 12 * 27.0)


def test_a_persistent_tape_outside_its_block_does_not_record_its_own_gradient():
    x = gt.constant(3.0)
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x**3
    g = tape.gradient(y, x)
    assert tape.gradient(g, x) is None


def test_a_persistent_inner_tape_asked_twice_in_an_outer_block():
    x = gt.constant(2.0)
    with gt.GradientTape() as outer:
        outer.watch(x)
        with gt.GradientTape(persistent=True) as inner:
            inner.watch(x)
            y = x**3
            z = x**4
        g = inner.gradient(y, x) + inner.gradient(z, x)
    check(outer.gradient(g, x), 6 * 2.0 + 12 * 4.0)


def test_an_inner_tape_can_watch_an_intermediate_of_an_outer_one():
    x = gt.constant(3.0)
    with gt.GradientTape() as outer:
        outer.watch(x)
        y = x * x
        with gt.GradientTape() as inner:
            inner.watch(y)
            z = y * y * x
        dz = inner.gradient(z, y)  # 2 y x = 2 x^3
    check(dz, 54.0)
    check(outer.gradient(dz, x), 54.0)


def test_the_outer_tape_sees_what_the_inner_one_kept_by_its_old_identity():
    x = gt.constant(0.5)
    with gt.GradientTape() as outer:
        outer.watch(x)
        a = gt.exp(x)
        with gt.GradientTape() as inner:
            inner.watch(a)
            z = a * a
        g = inner.gradient(z, a)  # 2 exp(x)
    dx, da = outer.gradient(g, [x, a])
    check(dx, 2 * np.exp(0.5))
    check(da, 2.0)


def test_what_one_tape_watches_another_does_not():
    x = gt.constant(3.0)
    with gt.GradientTape() as outer, gt.GradientTape() as inner:
        inner.watch(x)
        y = x * x
    assert outer.gradient(y, x) is None
    check(inner.gradient(y, x), 6.0)

    with gt.GradientTape() as outer:
        with gt.GradientTape() as inner:
            inner.watch(x)
            y = x * x
        g = inner.gradient(y, x)
    check(g, 6.0)
    assert outer.gradient(g, x) is None

    with gt.GradientTape() as outer:
        outer.watch(x)
        with gt.GradientTape() as inner:
            y = x * x
        assert inner.gradient(y, x) is None
    check(outer.gradient(y, x), 6.0)


def test_tapes_side_by_side_watch_different_things():
    x, y = gt.constant(2.0), gt.constant(5.0)
    with gt.GradientTape() as of_x, gt.GradientTape() as of_y:
        of_x.watch(x)
        of_y.watch(y)
        z = x * x * y
    dx, dy = of_x.gradient(z, [x, y])
    check(dx, 20.0)
    assert dy is None
    dx, dy = of_y.gradient(z, [x, y])
    assert dx is None
    check(dy, 4.0)


def test_an_inner_tape_may_be_left_after_the_outer_one():
    x = gt.constant(3.0)
    outer, inner = gt.GradientTape(), gt.GradientTape()
    outer.__enter__()
    outer.watch(x)
    inner.__enter__()
    inner.watch(x)
    y = x * x
    outer.__exit__(None, None, None)
    z = y * x
    inner.__exit__(None, None, None)
    assert outer.gradient(z, x) is None
    check(inner.gradient(z, x), 27.0)
    with gt.GradientTape() as clean:
        clean.watch(x)
        w = x * x
    check(clean.gradient(w, x), 6.0)


def test_higher_order_through_broadcasting_and_reductions():
    x = gt.constant(np.array([[0.2], [0.7]]))
    y = gt.constant(np.array([1.0, 2.0, 3.0]))
    with gt.GradientTape() as outer:
        outer.watch([x, y])
        with gt.GradientTape() as inner:
            inner.watch(x)
            z = gt.reduce_sum(gt.exp(x * y), axis=1)
        g = inner.gradient(z, x)  # sum over j of y_j exp(x_i y_j)
    dx, dy = outer.gradient(g, [x, y])
    xn, yn = x.numpy(), y.numpy()
    check(dx, np.sum(yn**2 * np.exp(xn * yn), 1, keepdims=True), "float64", 1e-12)
    check(dy, np.sum((1 + xn * yn) * np.exp(xn * yn), 0), "float64", 1e-12)


# -- 7. stopping, resetting, watched variables, re-entering --------------------------------------------------


def test_stop_recording():
    x = gt.constant(3.0)
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x
        with tape.stop_recording():
            hidden = y * x
        z = y * hidden
    assert tape.gradient(hidden, x) is None
    check(tape.gradient(z, x), 6.0 * 27.0)


def test_stop_recording_does_not_watch_variables():
    a, b = gt.Variable(1.0, name="a"), gt.Variable(2.0, name="b")
    with gt.GradientTape() as tape:
        y = a * 2.0
        with tape.stop_recording():
            b * 2.0
    assert [v.name for v in tape.watched_variables()] == ["a:0"]
    check(tape.gradient(y, a), 2.0)


def test_stop_recording_stops_this_tape_only():
    x = gt.constant(3.0)
    with gt.GradientTape() as outer:
        outer.watch(x)
        with gt.GradientTape() as inner:
            inner.watch(x)
            with inner.stop_recording():
                y = x * x
    assert inner.gradient(y, x) is None
    check(outer.gradient(y, x), 6.0)


def test_recording_goes_on_after_an_exception_in_stop_recording():
    x = gt.constant(3.0)
    with gt.GradientTape() as tape:
        tape.watch(x)
        with pytest.raises(KeyError), tape.stop_recording():
            raise KeyError
        y = x * x
    check(tape.gradient(y, x), 6.0)


def test_gradient_can_be_taken_cheaply_within_stop_recording():
    x = gt.constant(3.0)
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x**3
        with tape.stop_recording():
            g = tape.gradient(y, x)
        z = g * x
    check(g, 27.0)
    assert tape.gradient(g, x) is None
    check(tape.gradient(z, x), 27.0)


def test_stop_recording_and_reset_need_a_tape_that_records():
    tape = gt.GradientTape()
    for _ in range(2):
        with pytest.raises(ValueError, match="not recording"):
            tape.reset()
        with pytest.raises(ValueError, match="not recording"), tape.stop_recording():
            pass
        with tape:
            pass
    with tape, tape.stop_recording(), pytest.raises(ValueError, match="not recording"):
        tape.reset()


def test_reset_forgets_what_was_recorded_and_watched():
    x = gt.constant(3.0)
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x
        tape.reset()
        lost = y + x * 3.0
        tape.watch(x)
        z = y + x * 3.0
    assert tape.gradient(lost, x) is None
    assert tape.gradient(y, x) is None
    check(tape.gradient(z, x), 3.0)
    assert tape.gradient(z, y) is None


def test_reset_forgets_variables():
    a, b = gt.Variable(1.0, name="a"), gt.Variable(1.0, name="b")
    with gt.GradientTape() as tape:
        y = b * 1.0
        tape.reset()
        z = a * y
    assert [v.name for v in tape.watched_variables()] == ["a:0"]
    da, db = tape.gradient(z, [a, b])
    check(da, 1.0)
    assert db is None


def test_watched_variables_come_in_order_of_creation_and_stay():
    a, b, c = (gt.Variable(float(i), name=name) for i, name in enumerate("abc", 1))
    d = gt.Variable(4.0, name="d", trainable=False)
    with gt.GradientTape() as tape:
        assert tape.watched_variables() == ()
        y = c * b * d
        assert [v.name for v in tape.watched_variables()] == ["b:0", "c:0"]
        y = y * a + b
    found = tape.watched_variables()
    assert type(found) is tuple
    assert all(got is want for got, want in zip(found, (a, b, c), strict=True))
    check(tape.gradient(y, a), 24.0)
    assert [v.name for v in tape.watched_variables()] == ["a:0", "b:0", "c:0"]


def test_watched_variables_of_nested_tapes():
    a, b = gt.Variable(1.0, name="a"), gt.Variable(2.0, name="b")
    with gt.GradientTape() as outer:
        a * 1.0
        with gt.GradientTape() as inner:
            b * 1.0
    assert [v.name for v in outer.watched_variables()] == ["a:0", "b:0"]
    assert [v.name for v in inner.watched_variables()] == ["b:0"]


def test_a_tape_that_was_left_goes_on_recording_when_entered_again():
    x = gt.constant(3.0)
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    missed = y * y
    with tape:
        w = y * x + missed
    dx, dmissed = tape.gradient(w, [x, missed])
    check(dx, 27.0)
    assert dmissed is None


def test_entering_again_keeps_the_variables():
    a, b = gt.Variable(1.0, name="a"), gt.Variable(1.0, name="b")
    with gt.GradientTape() as tape:
        y = b * 2.0
    with tape:
        z = a * y
    assert [v.name for v in tape.watched_variables()] == ["a:0", "b:0"]
    da, db = tape.gradient(z, [a, b])
    check(da, 2.0)
    check(db, 2.0)


def test_a_persistent_tape_goes_on_after_it_answered():
    x = gt.constant(3.0)
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x
    check(tape.gradient(y, x), 6.0)
    with tape:
        w = y * x
    check(tape.gradient(w, x), 27.0)


def test_a_tape_that_answered_starts_afresh_when_entered_again():
    a, b, x = gt.Variable(1.0, name="a"), gt.Variable(1.0, name="b"), gt.constant(3.0)
    tape = gt.GradientTape()
    with tape:
        tape.watch(x)
        y = x * x * b
    check(tape.gradient(y, x), 6.0)
    with tape:
        z = x * x * a
    assert [v.name for v in tape.watched_variables()] == ["a:0"]
    da, dx = tape.gradient(z, [a, x])
    check(da, 9.0)
    assert dx is None
    with tape:
        tape.watch(x)
        w = x**3
    check(tape.gradient(w, x), 27.0)


def test_entering_a_tape_that_is_open_is_a_value_error_and_harms_nothing():
    x = gt.constant(3.0)
    with gt.GradientTape() as tape:
        tape.watch(x)
        with pytest.raises(ValueError, match="recording already"), tape:
            pass
        y = x * x
    check(tape.gradient(y, x), 6.0)


def test_an_exception_in_the_block_leaves_no_tape_behind():
    x, v = gt.constant(3.0), gt.Variable(2.0)
    broken, values = gt.GradientTape(persistent=True), []

    def breaks():
        with broken:
            broken.watch(x)
            values.append(x * x)
            raise KeyError

    with pytest.raises(KeyError):
        breaks()
    early = values[0]
    late = x * x * v
    assert broken.gradient(late, x) is None
    assert broken.watched_variables() == ()
    check(broken.gradient(early, x), 6.0)
    with broken:
        again = early * x
    check(broken.gradient(again, x), 27.0)


def test_exceptions_through_nested_tapes_leave_none_behind():
    x = gt.constant(3.0)
    with gt.GradientTape() as outer:
        outer.watch(x)
        a, b = gt.GradientTape(), gt.GradientTape()

        def breaks():
            with a, b:
                a.watch(x)
                b.watch(x)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            breaks()
        y = x * x
    assert a.gradient(y, x) is None
    assert b.gradient(y, x) is None
    check(outer.gradient(y, x), 6.0)


def test_a_variable_assigned_in_the_block():
    v = gt.Variable(2.0)
    with gt.GradientTape(persistent=True) as tape:
        y = v * v
        v.assign(5.0)
        z = v * v * v
    check(tape.gradient(y, v), 4.0)
    check(tape.gradient(z, v), 75.0)
    check(tape.gradient([y, z], v), 79.0)
    v.assign(-1.0)
    check(tape.gradient([y, z], v), 79.0)


def test_assigning_takes_the_value_off_the_tape():
    v, x = gt.Variable(2.0), gt.constant(3.0)
    with gt.GradientTape() as tape:
        tape.watch(x)
        v.assign(x * x)
        y = v * v
    dx, dv = tape.gradient(y, [x, v])
    assert dx is None
    check(dv, 18.0)


def test_assign_add_of_what_was_computed_from_the_variable():
    v = gt.Variable(2.0)
    with gt.GradientTape() as tape:
        y = v * v
        v.assign_add(y)
        z = v * v
    check(tape.gradient(z, v), 12.0)


def test_what_assign_returns_is_the_variable():
    v = gt.Variable(2.0)
    with gt.GradientTape() as tape:
        y = v.assign_add(1.0) * v
    check(tape.gradient(y, v), 6.0)


def test_a_variable_assigned_between_the_tape_and_its_gradient_at_second_order():
    v = gt.Variable(np.float64(0.5))
    with gt.GradientTape() as outer:
        with gt.GradientTape() as inner:
            y = gt.sin(v)
        v.assign(2.0)
        g = inner.gradient(y, v)
    check(g, np.cos(0.5), "float64", 1e-12)
    check(outer.gradient(g, v), -np.sin(0.5), "float64", 1e-12)


# -- contract: a value never changes under a record ----------------------------------------------------------


def test_an_ndarray_operand_changed_afterwards_does_not_change_the_derivative():
    x, a = gt.constant(np.array([1.0, 2.0])), np.array([3.0, 4.0])
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        ys = [x * a, a * x, np.multiply(a, x), gt.multiply(a, x), a / x, x**a]
        a[:] = 100.0
    wants = [[3, 4], [3, 4], [3, 4], [3, 4], [-3.0, -1.0], [3.0, 32.0]]
    for y, want in zip(ys, wants, strict=True):
        check(tape.gradient(y, x), want, "float64")


def test_an_ndarray_operand_changed_before_a_second_order_sweep():
    x, a = gt.constant(np.array([0.5, 0.25])), np.array([3.0, 4.0])
    with gt.GradientTape() as outer:
        outer.watch(x)
        with gt.GradientTape() as inner:
            inner.watch(x)
            y = gt.exp(x * a)
        a[:] = 100.0
        g = inner.gradient(y, x)
    check(g, [3 * np.exp(1.5), 4 * np.exp(1.0)], "float64")
    check(outer.gradient(g, x), [9 * np.exp(1.5), 16 * np.exp(1.0)], "float64")


def test_a_matrix_operand_changed_afterwards():
    a = np.array([[1.0, 2.0], [3.0, 4.0]])
    x = gt.constant(np.array([[1.0], [1.0]]))
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y, z = gt.matmul(a, x), a @ x
        a *= 0.0
    check(tape.gradient(y, x), [[4.0], [6.0]], "float64")
    check(tape.gradient(z, x), [[4.0], [6.0]], "float64")


@pytest.mark.parametrize(
    "take", [lambda x, i: x[i], lambda x, i: gt.gather(x, i), lambda x, i: np.take(x, i)]
)
def test_an_index_array_changed_afterwards(take):
    x, index = gt.constant([1.0, 2.0, 3.0]), np.array([0, 2])
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = take(x, index) ** 2
        index[:] = 1
    check(gt.convert_to_tensor(tape.gradient(y, x)), [2.0, 0.0, 6.0])


def test_a_mask_changed_afterwards():
    x, mask = gt.constant([1.0, 2.0, 3.0]), np.array([True, False, True])
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        picked, chosen = x[mask] ** 2, gt.where(mask, x, 0.0)
        mask[:] = False
    check(tape.gradient(picked, x), [2.0, 0.0, 6.0])
    check(tape.gradient(chosen, x), [1.0, 0.0, 1.0])


def test_output_gradients_changed_afterwards_do_not_change_the_answer():
    x, seed = gt.constant(np.array([1.0, 2.0])), np.array([1.0, 1.0])
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = gt.identity(x)
    g = tape.gradient(y, x, output_gradients=seed)
    seed[:] = 7.0
    check(g, [1.0, 1.0], "float64")


# -- 8. stop_gradient, integers on the path ------------------------------------------------------------------


def test_stop_gradient():
    x = gt.constant(3.0)
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        s = gt.stop_gradient(x)
        y = s * x
    check(tape.gradient(y, x), 3.0)
    check(tape.gradient(s, s), 1.0)
    assert tape.gradient(s, x) is None
    assert tape.gradient(y, s) is None
    check(s, 3.0)


def test_stop_gradient_of_a_variable_and_in_a_nest():
    v = gt.Variable(3.0)
    with gt.GradientTape() as outer:
        with gt.GradientTape() as inner:
            y = v * v * v
        g = gt.stop_gradient(inner.gradient(y, v)) * v
    check(g, 81.0)
    check(outer.gradient(g, v), 27.0)


@pytest.mark.parametrize("kind", ["int8", "int32", "int64", "uint8", "bool"])
def test_a_value_cast_to_integers_and_back_has_no_gradient(kind):
    x = gt.constant([1.5, 2.5])
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = gt.cast(gt.cast(x, kind), "float32")
        z = y * x
    assert tape.gradient(y, x) is None
    check(tape.gradient(z, x), y.numpy())


def test_a_value_cast_between_floats_keeps_its_gradient():
    x = gt.constant([1.5, 2.5])
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = gt.cast(gt.cast(x, "float64") ** 2, "float16")
    check(tape.gradient(y, x), [3.0, 5.0])


@pytest.mark.parametrize("f", [gt.floor, gt.round, gt.math.ceil, lambda x: x // 2.0])
def test_ops_that_are_constant_between_their_jumps_have_no_gradient(f):
    x = gt.constant(0.3)
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    assert tape.gradient(y, x) is None


def test_comparisons_and_argmax_have_no_gradient():
    x = gt.constant([0.3, 0.9])
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = gt.cast(x > 0.5, "float32")
        z = gt.cast(gt.argmax(x), "float32")
    assert tape.gradient(y, x) is None
    assert tape.gradient(z, x) is None


# -- 9. shapes, broadcasting, dtypes, complex values ---------------------------------------------------------

BROADCASTS = [
    ((), ()),
    ((3,), ()),
    ((), (3,)),
    ((3,), (1,)),
    ((1,), (3,)),
    ((2, 3), (3,)),
    ((2, 3), (2, 1)),
    ((2, 1), (1, 3)),
    ((2, 1), (3,)),
    ((1, 1), (2, 3)),
    ((4, 1, 3), (2, 1)),
    ((1,), (1, 1, 1)),
    ((0,), ()),
    ((0,), (1,)),
    ((2, 0), (2, 1)),
    ((3, 1), (0,)),
    ((0, 3), (3,)),
]


@pytest.mark.parametrize(("left", "right"), BROADCASTS)
@pytest.mark.parametrize(
    ("dl", "dr"), [("float64", "float64"), ("float32", "float64"), ("float64", "float16")]
)
def test_broadcasting_sums_the_gradient_to_the_operands_shape_and_dtype(left, right, dl, dr):
    rng = np.random.default_rng(0)
    a, b = rng.uniform(1, 2, left).astype(dl), rng.uniform(1, 2, right).astype(dr)
    x, y = gt.constant(a), gt.constant(b)
    out = np.broadcast_shapes(left, right)
    seed = rng.uniform(1, 2, out)
    with gt.GradientTape(persistent=True) as tape:
        tape.watch([x, y])
        z = x * y
        q = x / y
        s = x - y

    def summed(g, shape):
        g = np.broadcast_to(g, out)
        added = g.ndim - len(shape)
        axes = (
            *range(added),
            *(i + added for i, n in enumerate(shape) if n == 1 and g.shape[i + added] != 1),
        )
        return g.sum(axis=axes).reshape(shape)

    low = {"float16": 2e-3, "float32": 1e-5, "float64": 1e-12}
    rl, rr = low[dl], low[dr]
    assert z.dtype == np.result_type(dl, dr)
    seed_t = gt.constant(seed.astype(z.dtype))
    for target, da, db in [
        (z, b, a),
        (q, 1 / b.astype("d"), -a.astype("d") / b.astype("d") ** 2),
        (s, 1.0, -1.0),
    ]:
        dx, dy = tape.gradient(target, [x, y], output_gradients=seed_t)
        check(dx, summed(seed * da, left), dl, rl)
        check(dy, summed(seed * db, right), dr, rr)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
def test_every_floating_dtype_keeps_itself(dtype):
    x = gt.constant(np.array([1.5, 2.0], dtype))
    with gt.GradientTape() as outer:
        outer.watch(x)
        with gt.GradientTape() as inner:
            inner.watch(x)
            y = x * x * 0.5 + 2.0 * x + 1
        g = inner.gradient(y, x)
    h = outer.gradient(g, x)
    assert y.dtype == np.dtype(dtype)
    check(g, [3.5, 4.0], dtype, 1e-3)
    check(h, [1.0, 1.0], dtype, 1e-3)


def test_mixed_precision_keeps_each_operands_dtype_to_second_order():
    x, y = gt.constant(np.array([0.5, 1.5], np.float32)), gt.constant(np.array([2.0, 3.0]))
    with gt.GradientTape() as outer:
        outer.watch([x, y])
        with gt.GradientTape() as inner:
            inner.watch([x, y])
            z = x * x * y
        dx, dy = inner.gradient(z, [x, y])
        total = [dx, dy]
    assert z.dtype == np.dtype("float64")
    check(dx, [2.0, 9.0], "float32")
    check(dy, [0.25, 2.25], "float64")
    hx, hy = outer.gradient(total, [x, y])  # d/dx (2xy + x^2), d/dy 2xy
    check(hx, [5.0, 9.0], "float32")
    check(hy, [1.0, 3.0], "float64")


def test_one_value_used_in_two_dtypes():
    x = gt.constant(np.array([0.5, 1.5], np.float32))
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = gt.reduce_sum(x * np.array([2.0, 3.0])) + gt.cast(gt.reduce_sum(x * x), "float64")
    check(tape.gradient(y, x), [3.0, 6.0], "float32")


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 4)])
def test_empty_arrays(shape):
    x = gt.constant(np.zeros(shape, np.float32))
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = gt.exp(x) * x
        total = gt.reduce_sum(y)
    check(tape.gradient(y, x), np.zeros(shape))
    check(tape.gradient(total, x), np.zeros(shape))
    assert repr(tape.gradient(y, x)) == repr(gt.zeros(shape))


def test_rank_zero_stays_rank_zero():
    x = gt.constant(2.0)
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        values = [x + x, x * x, gt.reduce_sum(x), gt.exp(x), gt.reshape(x, ()), gt.reshape(x, (1, 1))]
    for y, want in zip(values, [2.0, 4.0, 1.0, np.exp(2.0), 1.0, 1.0], strict=True):
        g = tape.gradient(y, x)
        check(g, want)
        assert type(g.numpy()) is np.float32


# By TensorFlow at z = 3 + 4j: the conjugate of the derivative where it is holomorphic.
COMPLEX = {
    "abs": (lambda z: abs(z), 0.6 + 0.8j),
    "z * z": (lambda z: z * z, 6 - 8j),
    "exp": (gt.exp, -13.128783081462158 + 15.200784463067954j),
    "log": (gt.math.log, 0.12 + 0.16j),
    "sin": (gt.sin, -27.034945603074224 + 3.851153334811777j),
    "tanh": (gt.tanh, -0.001395484578639472 + 0.00982348130724447j),
    "sqrt": (gt.sqrt, 0.2 + 0.1j),
    "real": (gt.math.real, 1 + 0j),
    "imag": (gt.math.imag, 1j),
    "conj": (gt.math.conj, 1 + 0j),
    "angle": (gt.math.angle, -0.16 + 0.12j),
    "z * conj(z)": (lambda z: z * gt.math.conj(z), 6 + 8j),
    "1 / z": (lambda z: 1.0 / z, 0.0112 - 0.0384j),
    "-z": (lambda z: -z, -1 + 0j),
    "real(z * z)": (lambda z: gt.math.real(z * z), 6 - 8j),
    "abs(z) ** 2": (lambda z: abs(z) ** 2, 6 + 8j),
    "abs(z * z)": (lambda z: abs(z * z), 6 + 8j),
    "z ** 3": (lambda z: z**3, -21 - 72j),
    "z * (2 + 1j)": (lambda z: z * (2 + 1j), 2 - 1j),
    "real(z * 1j)": (lambda z: gt.math.real(z * 1j), -1j),
}


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize(("f", "want"), COMPLEX.values(), ids=COMPLEX.keys())
def test_complex_gradients_by_tensorflows_convention(f, want, dtype):
    z = gt.constant(np.array(3 + 4j, dtype))
    check(gradients(f, z)[0], want, dtype, 2e-5 if dtype == "complex64" else 1e-12)


COMPLEX_PAIRS = {
    "z * w": (lambda z, w: z * w, 1 + 2j, 3 - 4j),
    "z / w": (lambda z, w: z / w, 0.2 - 0.4j, 1 + 0j),
    "z ** w": (
        lambda z, w: z**w,
        -5.383456345627224 - 13.23329801815812j,
        -11.676723709469691 + 58.17714363777141j,
    ),
}


@pytest.mark.parametrize(("f", "dz", "dw"), COMPLEX_PAIRS.values(), ids=COMPLEX_PAIRS.keys())
def test_complex_gradients_of_two_operands(f, dz, dw):
    got = gradients(f, gt.constant(3 + 4j), gt.constant(1 - 2j))
    check(got[0], dz, "complex128", 1e-12)
    check(got[1], dw, "complex128", 1e-12)


def test_complex_matmul_and_reductions_as_in_tensorflow():
    a = gt.constant(np.array([[1 + 2j, 3 - 1j], [2j, 1.0]]))
    b = gt.constant(np.array([[1.0], [1j]]))
    da, db = gradients(lambda a, b: a @ b, a, b)
    check(da, [[1, -1j], [1, -1j]], "complex128", 1e-12)
    check(db, [[1 - 4j], [4 + 1j]], "complex128", 1e-12)
    check(gradients(lambda a: gt.reduce_sum(a * a), a)[0], [[2 - 4j, 6 + 2j], [-4j, 2]], "complex128", 1e-12)


@pytest.mark.parametrize(
    ("f", "first", "second"),
    [
        (lambda z: z * z * z, -21 - 72j, 18 - 24j),
        (gt.exp, -13.128783081462158 + 15.200784463067954j, -13.128783081462158 + 15.200784463067954j),
        (lambda z: abs(z), 0.6 + 0.8j, 0.128 - 0.096j),
    ],
    ids=["cube", "exp", "abs"],
)
def test_second_order_complex_gradients_as_in_tensorflow(f, first, second):
    z = gt.constant(3 + 4j)
    check(derivative(f)(z), first, "complex128", 1e-12)
    check(derivative(derivative(f))(z), second, "complex128", 1e-12)


def test_complex_output_gradients():
    z = gt.constant(1 + 2j)
    assert gradients(lambda z: z * (2 + 1j), z, output_gradients=1j)[0].numpy() == 1 + 2j
    with gt.GradientTape() as tape:
        tape.watch(z)
    assert tape.gradient(z, z, output_gradients=gt.constant(1j)).numpy() == 1j


def test_a_real_operand_of_a_complex_op_has_a_real_gradient():
    x, z = gt.constant(np.float64(3.0)), gt.constant(2 + 1j)
    dx, dz = gradients(lambda x, z: x * z, x, z)
    check(dx, 2.0, "float64")
    check(dz, 3.0 + 0j, "complex128")
    cast = gradients(lambda x: gt.cast(x, "complex128") * (2 + 1j), x)[0]
    check(cast, 2.0, "float64")
    square = gradients(lambda x: (gt.cast(x, "complex128") * (2 + 1j)) ** 2, x)[0]
    check(square, 18.0, "float64")


def test_complex_gradients_broadcast():
    x = gt.constant(np.array([1.0, 2.0, 3.0]))
    z = gt.constant(np.array([[1 + 1j], [2 - 1j]]))
    dx, dz = gradients(lambda x, z: gt.math.real(x * z * 1j), x, z)
    check(dx, [0.0, 0.0, 0.0], "float64")
    check(dz, [[-6j], [-6j]], "complex128")


# By TensorFlow: where a function has a corner, and the safe power rule, where it is not TensorFlow's.
CORNERS = {
    "relu": (gt.nn.relu, [0.0, -1.0, 2.0], [0.0, 0.0, 1.0]),
    "abs": (lambda x: abs(x), [0.0, -1.0], [0.0, -1.0]),
    "sign": (gt.sign, [0.0, 2.0], [0.0, 0.0]),
    "reduce_max": (gt.reduce_max, [1.0, 1.0, 0.0], [0.5, 0.5, 0.0]),
    "reduce_max of four": (gt.reduce_max, [1.0, 1.0, 1.0, 1.0], [0.25] * 4),
    "reduce_min": (gt.reduce_min, [1.0, 0.5, 0.5], [0.0, 0.5, 0.5]),
    "relu6": (gt.nn.relu6, [0.0, 6.0, 3.0], [0.0, 0.0, 1.0]),
    "leaky_relu": (gt.nn.leaky_relu, [0.0, 1.0, -1.0], [0.2, 1.0, 0.2]),
    "elu": (gt.nn.elu, [0.0], [1.0]),
    "clip_by_value": (
        lambda x: gt.clip_by_value(x, 0.0, 1.0),
        [0.0, 1.0, 0.5, 2.0, -1.0],
        [1.0, 1.0, 1.0, 0.0, 0.0],
    ),
    "reduce_prod of a zero": (gt.reduce_prod, [0.0, 2.0, 3.0], [6.0, 0.0, 0.0]),
    "reduce_prod of zeros": (gt.reduce_prod, [0.0, 0.0, 3.0], [0.0, 0.0, 0.0]),
    "x ** 0.0": (lambda x: x**0.0, [0.0, 2.0, -1.0], [0.0, 0.0, 0.0]),
    "x ** 1.0": (lambda x: x**1.0, [0.0, 2.0], [1.0, 1.0]),
    "x ** 2.0": (lambda x: x**2.0, [0.0, -2.0], [0.0, -4.0]),
    "x ** 2": (lambda x: x**2, [0.0, -2.0], [0.0, -4.0]),
    "x ** 3.0": (lambda x: x**3.0, [-2.0], [12.0]),
    "2.0 ** x": (lambda x: 2.0**x, [0.0, 3.0], [0.6931472, 5.5451775]),
    "0.0 ** x": (lambda x: 0.0**x, [0.0, 3.0], [0.0, 0.0]),
    "sort": (gt.sort, [3.0, 3.0, 1.0], [1.0, 1.0, 1.0]),
    "mod": (lambda x: x % 3.0, [5.0, -5.0, 3.0], [1.0, 1.0, 1.0]),
}


@pytest.mark.parametrize(("f", "x", "want"), CORNERS.values(), ids=CORNERS.keys())
def test_corners_as_in_tensorflow(f, x, want):
    check(gradients(f, gt.constant(x))[0], want)


CORNER_PAIRS = {
    "maximum": (gt.maximum, [1.0, 2.0, 0.0], [1.0, 1.0, 1.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]),
    "minimum": (gt.minimum, [1.0, 2.0, 0.0], [1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]),
    "pow": (
        gt.pow,
        [0.0, 0.0, 2.0, -2.0],
        [0.0, 2.0, 3.0, 3.0],
        [0.0, 0.0, 12.0, 12.0],
        [0.0, 0.0, 5.545177, 0.0],
    ),
    "divide_no_nan": (gt.math.divide_no_nan, [1.0], [0.0], [0.0], [0.0]),
    "xlogy": (gt.math.xlogy, [0.0], [0.0], [0.0], [0.0]),
    "squared_difference": (gt.math.squared_difference, [1.0], [2.0], [-2.0], [2.0]),
    "where": (lambda a, b: gt.where(a > b, a, b), [1.0, 2.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]),
}


@pytest.mark.parametrize(("f", "a", "b", "da", "db"), CORNER_PAIRS.values(), ids=CORNER_PAIRS.keys())
def test_corners_of_two_operands_as_in_tensorflow(f, a, b, da, db):
    got = gradients(f, gt.constant(a), gt.constant(b))
    check(got[0], da)
    check(got[1], db)


def test_a_list_of_tensors_as_an_operand():
    x = gt.constant(2.0)
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = gt.constant([1.0, 2.0]) * [x, x * x]
    check(tape.gradient(y, x), 9.0)


def test_a_value_used_as_both_operands():
    x = gt.constant(np.array([[1.0, 2.0], [3.0, 4.0]]))
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        square, zero, one, product = x * x, x - x, x / x, x @ x
    check(tape.gradient(square, x), 2 * x.numpy(), "float64")
    check(tape.gradient(zero, x), np.zeros((2, 2)), "float64")
    check(tape.gradient(one, x), np.zeros((2, 2)), "float64")
    ones, a = np.ones((2, 2)), x.numpy()
    check(tape.gradient(product, x), ones @ a.T + a.T @ ones, "float64")


def test_fan_out_and_fan_in():
    x = gt.constant(np.array([0.5, 1.5]))
    with gt.GradientTape() as tape:
        tape.watch(x)
        total = x
        for k in range(20):
            total = total + gt.sin(x * float(k)) * x + x
    k = np.arange(20.0)[:, None]
    n = x.numpy()
    check(tape.gradient(total, x), 21 + np.sum(np.sin(k * n) + k * n * np.cos(k * n), 0), "float64", 1e-12)


def test_a_long_chain_needs_no_recursion():
    x = gt.constant(np.float64(1.0))
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = x
        for _ in range(20_000):
            y = y * 1.0001
    check(tape.gradient(y, x), 1.0001**20_000, "float64", 1e-9)


def test_the_answers_share_nothing_that_can_change():
    x = gt.constant(np.array([1.0, 2.0]))
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x + x + x
    first = tape.gradient(y, [x, x, y])
    kept = [g.numpy().copy() for g in first]
    first[0][0] = 99.0
    second = tape.gradient(y, [x, x, y])
    for got, want in zip([first[1], first[2], *second], [*kept[1:], *kept], strict=True):
        check(got, want, "float64")
    check(first[0], [99.0, 3.0], "float64")


def test_gradients_under_an_outer_tape_are_assigned_apart():
    a, b = gt.Variable([1.0, 2.0]), gt.Variable([3.0, 4.0])
    with gt.GradientTape(), gt.GradientTape() as inner:
        y = a + b
        da, db = inner.gradient(y, [a, b])
        da[0] = 7.0
        np.testing.assert_array_equal(db.numpy(), [1.0, 1.0])


def test_a_followed_tensor_where_only_constants_go_is_an_error():
    slope = gt.Variable(0.1)
    with gt.GradientTape():
        followed = slope * 2.0
        with pytest.raises(gt.errors.LeavesTapeError, match="only constants go"):
            gt.nn.leaky_relu([-1.0], alpha=followed)
