"""`function` where Python decides and where things happen: paths and guards, effects, errors, threads."""

import builtins
import io
import math
import re
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import gradtape as gt
from gradtape.recorders import listening, tracer

NAN = math.nan


def c(value, dtype=None):
    return gt.constant(value, dtype)


def numbers(x):
    """The values of a structure of tensors, for comparing."""
    if isinstance(x, (list, tuple)):
        return [numbers(part) for part in x]
    return np.asarray(x).tolist() if isinstance(x, gt.Tensor) else x


def check(f, *calls, runs=None):
    """The compiled function gives what the Python function does, for each tuple of numbers, three times over;
    the Python function then ran once for each of its paths.
    """
    for _ in range(3):
        for args in calls:
            want = numbers(f.python_function.__wrapped__(*map(c, args)))
            np.testing.assert_equal(numbers(f(*map(c, args))), want)
    assert len(f.runs) == runs
    assert listening() == ()


# -- Python's own control flow -------------------------------------------------------------------------------


def seed(x, y):
    output = 1.0
    for i in range(1, y + 1):
        if i > 2 and i <= 5:
            output = gt.multiply(output, x)
    return output


def test_the_seeds_control_flow_with_the_tape_inside(compiled):
    def grad(x, y):
        with gt.GradientTape() as t:
            t.watch(x)
            out = seed(x, y)
        return t.gradient(out, x)

    grad = compiled(grad)
    for _ in range(2):
        found = [str(grad(c(2.0), c(y))) for y in (6, 5, 4)]
        assert found == [f"tf.Tensor({k}, shape=(), dtype=float32)" for k in (12.0, 12.0, 4.0)]
    assert [float(grad(c(2.0), y)) for y in (6, 5, 4, 6, 5, 4)] == [12.0, 12.0, 4.0] * 2
    assert len(grad.runs) == 6  # three paths of one kind, and three kinds


def test_the_seeds_control_flow_with_the_tape_outside(compiled):
    f = compiled(seed)
    for y in (6, 5, 4, 6, 5, 4):
        x = c(2.0)
        with gt.GradientTape() as t:
            t.watch(x)
            out = f(x, c(y))
        assert float(t.gradient(out, x)) == {6: 12.0, 5: 12.0, 4: 4.0}[y]
    assert len(f.runs) == 3


def test_newton(compiled):
    def root(a, x, tol):
        step = x
        while abs(step) > tol:
            step = (x * x - a) / (2.0 * x)
            x = x - step
        return x

    starts = [(2.0, s, 1e-6) for s in (1.0, 5.0, 1.5, 100.0, -3.0, 1e-3)] + [
        (9.0, 1.0, 1e-6),
        (9.0, 3.0, 1e-6),
    ]
    f = compiled(root)
    for _ in range(2):
        for args in starts:
            assert float(f(*map(c, args))) == pytest.approx(float(root(*map(c, args))), rel=1e-6)
    assert len(f.runs) <= len(starts)


def test_collatz(compiled):
    def steps(n):
        count = 0
        while n != 1:
            n = 3 * n + 1 if n % 2 else n // 2
            count += 1
        return n * 0 + count

    check(compiled(steps), *((n,) for n in (6, 7, 1, 2, 3, 9, 12)), runs=7)


def _if(x, y):
    if x > y:
        return x - y
    elif x == y:
        return x * 0.0
    return y - x


def _min_max(x, y):
    return min(x, y), max(x, y), max([x, y, x + y]), sorted([x, y, x * y])


def _chained(x, y):
    return x * 2 if 0 < x < y <= 4 else y


def _and_or(x, y):
    return (x and y) - (x or y), (not x) + y


def _early(x, y):
    for k in range(5):
        if x * k > y:
            return x * k, k
    return y, -1


def _nested(x, y):
    total = x * 0.0
    for i in range(int(x)):
        for j in range(int(y)):
            if (i + j) % 2:
                total = total + i * x
            elif total > 3.0:
                break
    return total


def _conditional(x, y):
    return [x if x > 0 else -x, y if y > 0 else -y], all([x > 0, y > 0]), any(t > 1 for t in (x, y))


def _conversions(x, y):
    return int(x) + y, float(y) * x, complex(x).real + y, round(float(x)), math.floor(y) * x, bool(x)


def _membership(x, y):
    return x in (1.0, 2.0), x * 1.0 if y in [x, 2 * x] else y


def _formatted(x, y):
    return {"1": x, "2": x * 2}.get(f"{x:.0f}", y)


def _match(x, y):
    match int(x):
        case 1:
            return y
        case 2 | 3:
            return y * x
    return x


def _try(x, y):
    try:
        if x > y:
            raise ValueError
        return x * 2
    except ValueError:
        return y * 3
    finally:
        x = y


def _iterated(x, y):
    return [t * 2 for t in gt.stack([x, y]) if t > 1]


PAIRS = [(1.0, 2.0), (2.0, 1.0), (1.5, 1.5), (0.0, 3.0), (3.0, 0.0), (-1.0, 1.0), (2.0, 4.0)]
CONTROL = [
    _if,
    _min_max,
    _chained,
    _and_or,
    _early,
    _nested,
    _conditional,
    _conversions,
    _membership,
    _formatted,
]
CONTROL += [_match, _try, _iterated]


@pytest.mark.parametrize("f", CONTROL, ids=lambda f: f.__name__)
def test_control_flow(compiled, f):
    f = compiled(f)
    for _ in range(3):
        for pair in PAIRS:
            x, y = map(c, pair)
            assert numbers(f(x, y)) == numbers(f.python_function.__wrapped__(x, y))
    assert len(f.runs) <= len(PAIRS)


def test_as_many_paths_as_there_are_answers(compiled):
    pairs = [(c(x), c(y)) for x, y in PAIRS]
    for f, count in ((_if, 3), (_try, 2)):
        f = compiled(f)
        for args in pairs * 2:
            f(*args)
        assert len(f.runs) == count


def test_an_index(compiled):
    def f(x, i):
        return [10.0, 20.0, 30.0][i] * x, x[i], "abc"[i : i + 1], x[: int(i)]

    f = compiled(f)
    for i in (0, 1, 2, -1, 0, 1, 2, -1):
        x = c([1.0, 2.0, 3.0 + i])
        assert numbers(f(x, c(i))) == numbers(f.python_function.__wrapped__(x, c(i)))
    assert len(f.runs) == 4


def test_assert(compiled):
    def f(x):
        assert x < 100, "too large"
        return x + 1

    f = compiled(f)
    f(c(1.0))
    for _ in range(2):
        with pytest.raises(AssertionError, match="too large"):
            f(c(200.0))
        assert listening() == ()
        assert float(f(c(2.0))) == 3.0


def test_the_truth_and_the_value_of_the_same_tensor(compiled):
    """The truth is a coarser question than the value."""

    def f(x):
        y = x * 2.0
        return (y + int(y), 1) if y else (y - 1.0, 0)

    check(compiled(f), (1.0,), (0.0,), (1.5,), (-0.0,), (4.0,), runs=4)


def test_a_truth_makes_no_path_for_each_value(compiled):
    check(compiled(lambda x: x * 2 if x else x - 1), *((float(k),) for k in range(8)), runs=2)


def test_an_equal_question_is_asked_once(compiled):
    """The same tensor asked again has no second guard."""

    def f(x):
        positive = x > 0
        if positive:
            x = x * 2
        if positive:
            x = x + 1
        return x

    check(compiled(f), (1.0,), (-1.0,), (2.0,), runs=2)


@pytest.mark.parametrize("x", [0.0, -0.0, NAN, math.inf, 1.0])
def test_guards_on_special_values(compiled, x):
    f = compiled(
        lambda x: (x * 2.0 if x > 0 else x - 1.0, 1 if x != x else 0, math.copysign(1.0, x), float(x))
    )
    calls = [1.0, x, NAN, x, 0.0, -0.0, x, 1.0]
    for k in calls * 2:
        np.testing.assert_equal(numbers(f(c(k))), numbers(f.python_function.__wrapped__(c(k))))
    assert len(f.runs) <= 5  # a NaN agrees with itself, and zeros are told apart


def test_branching_on_a_variable(compiled):
    v = gt.Variable(1.0)
    f = compiled(lambda x: x * 2 if v > 0 else x - v)
    for value in (1.0, 2.0, -1.0, -2.0, 1.0, -3.0):
        v.assign(value)
        assert float(f(c(3.0))) == (6.0 if value > 0 else 3.0 - value)
    assert len(f.runs) == 2


def test_branching_on_a_captured_tensor_takes_no_guard_to_fail(compiled):
    t = c(1.0)
    f = compiled(lambda x: x * 2 if t > 0 else x)
    check(f, (1.0,), (2.0,), runs=1)


def test_branching_on_elements_of_an_array(compiled):
    def f(x):
        total = 0.0
        for e in x:
            if e > 0:
                total = total + e
        return total if len(x) else None

    f = compiled(f)
    for signs in ([1, 1, 1], [1, -1, 1], [-1, -1, -1], [1, 1, 1], [-1, 1, 1], [1, -1, 1]):
        x = c(np.array([0.5, 1.5, 2.5]) * signs)
        assert numbers(f(x)) == numbers(f.python_function.__wrapped__(x))
    assert len(f.runs) == 4


def test_shapes_that_depend_on_values(compiled):
    f = compiled(lambda x: (gt.where(x > 0), gt.reduce_sum(gt.boolean_mask(x, x > 1)), x[x > 0] * 2.0))
    for row in ([1.0, -1.0, 2.0], [-1.0, -1.0, -2.0], [1.0, 1.0, 3.0], [3.0, -1.0, 1.0], [0.0, 5.0, 9.0]):
        for scale in (1.0, 2.0):
            x = c(np.array(row) * scale)
            assert numbers(f(x)) == numbers(f.python_function.__wrapped__(x))
    assert len(f.runs) == 5  # only how many there are makes a path


def test_paths_that_share_a_beginning_need_different_values_of_it(compiled):
    """Each path returns other values of the common beginning, which the first path did not need."""

    def f(x):
        a, b, d = gt.sin(x), gt.cos(x), gt.exp(x)
        e = a * b
        if x > 3:
            return a
        if x > 2:
            return b, e
        v.assign(d)
        return e if x > 1 else d

    v = gt.Variable(0.0)
    f = compiled(f)
    for k in (4.0, 2.5, 1.5, 0.5, 3.5, 2.2, 1.2, 0.2, 5.0):
        got, left = f(c(k)), float(v)
        want = f.python_function.__wrapped__(c(k))
        np.testing.assert_allclose(numbers(got), numbers(want), rtol=1e-6)
        assert left == pytest.approx(float(v))
    assert len(f.runs) == 4


def test_paths_of_other_kinds_of_results(compiled):
    f = compiled(lambda x: {"big": x} if x > 2 else (x, 1) if x > 1 else None if x > 0 else "none")
    for k in (3.0, 1.5, 0.5, -1.0) * 2:
        assert repr(f(c(k))) == repr(f.python_function.__wrapped__(c(k)))
    assert len(f.runs) == 4


def test_the_same_branches_with_other_constants(compiled):
    """Two paths with the same answers cannot differ; a new list at each step is no matter."""
    f = compiled(lambda x, n: gt.stack([x * k for k in range(int(n))]) if n > 0 else x)
    check(f, (1.0, 1), (1.0, 3), (2.0, 3), (2.0, 1), (2.0, 0), runs=3)


def test_a_long_loop_and_many_guards_on_one_path(compiled):
    def f(x, n):
        for _ in range(int(n)):
            x = x * 1.01 + 0.001
        while x < 3.0:
            x = x + 0.01
        return x

    f = compiled(f)
    for k in (1.0, 1.1, 1.0):
        assert float(f(c(k), c(100))) == float(f.python_function.__wrapped__(c(k), c(100)))
    assert len(f.runs) == 2


@pytest.mark.parametrize(
    "op",
    [
        lambda x: x[np.array([1, 0])],
        lambda x: x[..., [True, False]],
        lambda x: gt.pad(x, [[1, 0]], constant_values=float("nan")),
        lambda x: gt.pad(x, [[1, 0]], constant_values=math.copysign(0.0, -1.0)),
    ],
)
def test_an_op_before_a_branch_is_known_again_whatever_its_attributes(compiled, op):
    def f(x):
        y = op(x)
        return y * 2.0 if gt.reduce_sum(x) > 0 else y

    check(compiled(f), ([1.0, 2.0],), ([-1.0, -2.0],), runs=2)


# -- too many paths ------------------------------------------------------------------------------------------


def test_more_than_64_paths(compiled):
    def f(x):
        if x > 0:
            x = x + 1
        return x * int(x)  # the line that keeps branching

    line = f.__code__.co_firstlineno + 3
    f = compiled(f)
    values = [float(k) for k in range(1, 81)]
    with pytest.warns(UserWarning, match="64 paths") as caught:
        found = [float(f(c(k))) for k in values]
    assert found == [(k + 1) ** 2 for k in values]
    assert [float(f(c(k))) for k in values] == [(k + 1) ** 2 for k in values]
    (warned,) = caught
    assert f"{__file__}:{line}" in str(warned.message)
    assert "function f " in str(warned.message)
    assert "gradtape.where" in str(warned.message)
    assert warned.filename == __file__
    before = len(f.runs)
    assert float(f(c(1.0))) == 4.0  # in Python from now on
    assert len(f.runs) == before + 1
    other = c([1.0])  # while another kind is compiled still
    assert [float(f(other)[0]) for _ in range(3)] == [4.0] * 3
    assert len(f.runs) == before + 2
    assert listening() == ()


def test_64_paths_are_not_too_many(compiled):
    f = compiled(lambda x: x * float(x))
    for _ in range(2):
        assert [float(f(c(float(k)))) for k in range(64)] == [k * k for k in range(64)]
    assert len(f.runs) == 64


def test_effects_when_there_are_too_many_paths(compiled):
    v = gt.Variable(0.0)

    def f(x):
        v.assign_add(1.0)
        drawn = gt.random.uniform([])
        return x * int(x), drawn

    f = compiled(f)
    gt.random.set_seed(3)
    with pytest.warns(UserWarning, match="64 paths"):
        got = [float(f(c(float(k)))[1]) for k in range(70)]
    assert float(v) == 70.0
    gt.random.set_seed(3)
    assert got == [float(gt.random.uniform([])) for _ in range(70)]


# -- effects -------------------------------------------------------------------------------------------------


def test_assignments_in_order_with_reads_between(compiled):
    v, w = gt.Variable(1.0), gt.Variable([1.0, 2.0])

    def f(x):
        before = v.value()
        v.assign_add(x)
        a = v * 2.0
        v.assign(a)
        w.assign_sub(w * v)
        v.assign_add(gt.reduce_sum(w))
        b = v + 0.0
        v.assign(v)
        return before, a, b, w.value(), v * 1.0

    f = compiled(f)
    found = [(numbers(f(c(k))), float(v), w.numpy().tolist()) for k in (1.0, 2.0, 3.0)]
    v.assign(1.0)
    w.assign([1.0, 2.0])
    plain = f.python_function.__wrapped__
    assert found == [(numbers(plain(c(k))), float(v), w.numpy().tolist()) for k in (1.0, 2.0, 3.0)]
    assert len(f.runs) == 1


def test_a_variable_that_is_returned(compiled):
    v = gt.Variable(1.0)
    f = compiled(lambda x: v.assign_add(x))
    for k in (2.0, 3.0, 4.0):
        got = f(c(1.0))
        assert float(got) == float(v) == k
    assert len(f.runs) == 1


def test_assigned_outside_between_calls(compiled):
    v = gt.Variable(1.0)
    f = compiled(lambda x: x * v)
    for k in (1.0, 2.0, 3.0):
        v.assign(k)
        assert float(f(c(2.0))) == 2.0 * k
    assert len(f.runs) == 1


def test_results_do_not_change_when_their_variable_does(compiled):
    v = gt.Variable(np.zeros(3))
    f = compiled(lambda x: (v.assign_add(x), v.value(), v[1:], gt.identity(v))[1:])
    first = f(c(np.ones(3)))
    second = f(c(np.ones(3)))
    v.assign(np.full(3, 9.0))
    assert numbers(first) == [[1.0] * 3, [1.0] * 2, [1.0] * 3]
    assert numbers(second) == [[2.0] * 3, [2.0] * 2, [2.0] * 3]


def test_two_variables_swapped_and_one_array_in_both(compiled):
    v, w = gt.Variable([1.0]), gt.Variable([2.0])

    def f(x):
        old = v.value()
        v.assign(w)
        w.assign(old)
        u.assign(x)

    u = gt.Variable([0.0])
    f = compiled(f)
    x = c([5.0])
    for k in range(4):
        f(x)
        assert [float(t[0]) for t in (v, w, u)] == ([2.0, 1.0] if k % 2 == 0 else [1.0, 2.0]) + [5.0]
    v.assign_add([1.0])
    assert float(w[0]) == 2.0


def test_a_guard_after_an_assignment(compiled):
    """A call that diverges has had no effect yet when it is run anew."""
    v = gt.Variable(0.0)

    def f(x):
        v.assign_add(1.0)
        if x > 0:
            v.assign_add(10.0)
        if v > 50:
            v.assign(0.0)
        return v * 1.0

    f = compiled(f)
    calls = [1.0, 1.0, -1.0, 1.0, -1.0, 1.0, 1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    found = [(float(f(c(x))), float(v)) for x in calls]
    v.assign(0.0)
    assert found == [(float(f.python_function.__wrapped__(c(x))), float(v)) for x in calls]
    assert len(f.runs) <= 4


def _draws(x):
    return gt.random.uniform([2]), gt.random.normal([3], seed=7), gt.random.uniform([], 0, 100, "int32")


def _truncates(x):
    return gt.random.truncated_normal([4], dtype="float64") * x, gt.random.shuffle(gt.range(6))


def _shuffles(x):
    return gt.random.shuffle(gt.stack([x, x * 2, x * 3]))


def _drops(x):
    return gt.nn.dropout(x * gt.ones(50), 0.5), gt.nn.dropout(x * gt.ones(20), 0.5, seed=3)


def _branches(x):
    a = gt.random.uniform([])
    b = gt.random.normal([]) if a > 0.5 else gt.random.uniform([2])
    return a, b, gt.random.uniform([]) * x


def test_a_shape_to_draw_may_hold_tensors(compiled):
    f = compiled(lambda n: gt.random.uniform([n, 2]))
    for n in (3, 3, 4, 3):
        assert f(c(n)).shape == (n, 2)
    assert len(f.runs) == 2


@pytest.mark.parametrize("f", [_draws, _truncates, _shuffles, _drops, _branches], ids=lambda f: f.__name__)
def test_random_numbers_are_those_of_eager(compiled, f):
    f = compiled(f)
    dtype = "float64" if f.__name__ == "_truncates" else "float32"
    for _ in range(2):
        gt.random.set_seed(5)
        found = [numbers(f(c(1.0 + k, dtype))) for k in range(6)]
        gt.random.set_seed(5)
        assert found == [numbers(f.python_function.__wrapped__(c(1.0 + k, dtype))) for k in range(6)]
        assert found[2] != found[3]
    assert len(f.runs) == (2 if f.__name__ == "_branches" else 1)


def test_generators(compiled):
    def run(f):
        generator = gt.random.Generator.from_seed(4)
        return [numbers(f(generator, c(1.0))) for _ in range(4)] + [numbers(generator.normal([2]))]

    f = compiled(lambda g, x: (g.normal([2]) * x, g.uniform([])))
    assert run(f) == run(f.python_function.__wrapped__)
    own = gt.random.Generator.from_seed(4)
    h = compiled(lambda x: (own.normal([2]) * x, own.uniform([])))
    found = [numbers(h(c(1.0))) for _ in range(4)]
    assert found == run(f)[:4]
    assert len(h.runs) == 1


def test_effects_happen_once_a_call_also_where_it_diverges(compiled):
    v = gt.Variable(0.0)
    called, out = [], io.StringIO()

    def double(a):
        called.append(float(a))
        return a * 2

    def f(x):
        v.assign_add(1.0)
        gt.print("at", x, output_stream=out)
        drawn = gt.random.uniform([])
        y = gt.numpy_function(double, [x], "float32")
        if drawn > 0.5:
            y = y + gt.random.normal([])
        gt.print("then", y, output_stream=out)
        if y > 4:
            v.assign_add(10.0)
            gt.print("more", output_stream=out)
        return y

    f = compiled(f)
    calls = [1.0, 1.0, 5.0, 1.0, 5.0, 5.0, 1.0, 1.0, 2.2, 1.0, 5.0]

    def outcome(run):
        gt.random.set_seed(0)
        v.assign(0.0)
        called.clear()
        out.seek(0)
        out.truncate()
        found = [(float(run(c(x))), float(v)) for x in calls]
        return found, list(called), out.getvalue()

    assert outcome(f) == outcome(f.python_function.__wrapped__)
    assert len(f.runs) <= 4
    before = len(f.runs)
    again = outcome(f)
    assert again == outcome(f.python_function.__wrapped__)
    assert len(f.runs) == before


def test_print(compiled, capsys):
    def f(x):
        gt.print("x", x, {"a": [x * 2.0]}, sep="|")
        gt.print("to", "stdout", output_stream=sys.stdout, end="!\n")
        builtins.print("recorded")
        return x

    f = compiled(f)
    for k in (1.0, 2.0, 3.0):
        f(c(k))
    shown = capsys.readouterr()
    assert shown.err == "x|1.0|{'a': [2.0]}\nx|2.0|{'a': [4.0]}\nx|3.0|{'a': [6.0]}\n"
    assert shown.out.count("to stdout!\n") == 3
    assert shown.out.count("recorded\n") == 1


def test_print_of_a_variable_between_assignments(compiled):
    v, out = gt.Variable(0.0), io.StringIO()

    def f():
        gt.print(v, output_stream=out)
        v.assign_add(1.0)
        gt.print(v, output_stream=out)

    f = compiled(f)
    for _ in range(3):
        f()
    assert out.getvalue().split() == ["0.0", "1.0", "1.0", "2.0", "2.0", "3.0"]
    assert len(f.runs) == 1


def test_numpy_function(compiled):
    seen = []

    def order(a, b):
        seen.append((a.flags.writeable, type(a)))
        return np.sort(a)[::-1], np.int64(len(b))

    f = compiled(lambda x: gt.numpy_function(order, [x, x * 2.0], ["float64", "int64"]))
    for k in range(3):
        high, count = f(c([1.0 + k, 3.0, 2.0], "float64"))
        assert high.numpy().tolist() == sorted([1.0 + k, 3.0, 2.0], reverse=True)
        assert int(count) == 3
    assert seen == [(False, np.ndarray)] * 3
    assert len(f.runs) == 1


def test_numpy_function_whose_shape_varies(compiled):
    f = compiled(lambda x: gt.reduce_sum(gt.numpy_function(lambda a: a[a > 0], [x], "float32") * 2.0))
    for row in ([1.0, -1.0], [1.0, 2.0], [-1.0, -1.0], [3.0, -1.0]):
        assert float(f(c(row))) == 2 * sum(e for e in row if e > 0)
    assert len(f.runs) == 3


@pytest.mark.parametrize(
    ("result", "tout", "error"),
    [
        (lambda a: "text", "float32", TypeError),
        (lambda a: a, "float64", TypeError),
        (lambda a: (a, a), ["float32"], ValueError),
    ],
)
def test_numpy_function_that_returns_something_else(compiled, result, tout, error):
    answers = [lambda a: a.astype(tout if isinstance(tout, str) else tout[0]), result]
    f = compiled(lambda x: gt.numpy_function(lambda a: answers[0](a), [x], tout))
    f(c(1.0))
    answers.pop(0)
    with pytest.raises(error, match="numpy_function"):
        f(c(1.0))
    assert listening() == ()


def test_what_an_effect_raises_comes_out(compiled):
    v, w = gt.Variable(0.0), gt.Variable(0.0)
    called, fails = [], []

    def call(a):
        called.append(1)
        if fails:
            raise KeyError("mine")
        return a

    def f(x):
        v.assign_add(1.0)
        y = gt.numpy_function(call, [x], "float32")
        w.assign_add(y)
        return y

    f = compiled(f)
    for _ in range(2):
        f(c(1.0))
    fails.append(1)
    for k in (3, 4):
        with pytest.raises(KeyError, match="mine"):
            f(c(1.0))
        assert len(called) == k
        assert (float(w), listening()) == (2.0, ())
        assert float(v) in (2.0, k)  # untouched, or as in eager
    fails.clear()
    runs, before = len(f.runs), float(v)
    f(c(1.0))
    assert (float(v), float(w), len(f.runs)) == (before + 1.0, 3.0, runs)


def test_what_an_effect_raises_and_the_function_catches(compiled):
    called = []

    def call(a):
        called.append(1)
        if a > 1:
            raise KeyError("mine")
        return a

    def f(x):
        try:
            return gt.numpy_function(call, [x], "float32") * 2.0
        except KeyError:
            return x - 1.0

    for calls in ([1.0, 3.0, 1.0, 3.0, 0.5, 5.0], [3.0, 1.0, 3.0, 1.0]):
        g = compiled(f)
        for k in calls:
            called.clear()
            assert float(g(c(k))) == (2 * k if k <= 1 else k - 1)
            assert len(called) == 1


def test_a_variable_that_numpy_function_assigns(compiled):
    """Its new value is read at each call, or the function refused; never that of the first call."""
    v = gt.Variable(0.0)

    def call(a):
        v.assign(a * 2)
        return a

    def f(x):
        before = v * 1.0
        y = gt.numpy_function(call, [x], "float32")
        after = v * 1.0
        v.assign_add(x)
        return before, after, y

    g, found, want = compiled(f), [], []
    for run, seen in ((f, want), (g, found)):
        v.assign(0.0)
        for k in (1.0, 2.0, 3.0):
            try:
                seen.append((numbers(run(c(k))), float(v)))
            except gt.errors.FunctionError:
                return
    assert found == want


def test_numpy_function_sees_variables_as_they_are(compiled):
    v, seen = gt.Variable(0.0), []

    def f(x):
        v.assign(x)
        gt.numpy_function(lambda a: seen.append(float(v)) or a, [x], "float32")
        v.assign_add(x)

    f = compiled(f)
    for k in (1.0, 2.0, 3.0):
        f(c(k))
        assert float(v) == 2 * k
    assert seen == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("shape", [(), (2,)])
def test_a_variable_is_assigned_an_array_that_it_had(compiled, shape):
    """A derivative of what was computed before is of the value before, whichever array the first call had."""
    v = gt.Variable(np.full(shape, 3.0))

    def f(x):
        with gt.GradientTape() as tape:
            y = v * v
        v.assign(x)
        return tape.gradient(y, v)

    f = compiled(f)
    for x in (v.value(), c(np.full(shape, 5.0)), c(np.full(shape, 7.0))):
        want = 2.0 * v.numpy()
        np.testing.assert_array_equal(f(x).numpy(), want)
    assert len(f.runs) == 1


# -- errors in a compiled run --------------------------------------------------------------------------------

BAD = [
    (gt.linalg.inv, np.eye(2), np.ones((2, 2))),
    (gt.linalg.cholesky, np.eye(2), -np.eye(2)),
    (lambda x: gt.linalg.solve(x, x), np.eye(2), np.zeros((2, 2))),
    (lambda i: gt.gather(gt.range(3), gt.cast(i, "int32")), np.array([0.0, 2.0]), np.array([0.0, 3.0])),
    (
        lambda i: gt.gather_nd(gt.range(3), gt.cast(i, "int32")[:, None]),
        np.array([0.0, 2.0]),
        np.array([0.0, -9.0]),
    ),
    (
        lambda i: gt.scatter_nd(gt.cast(i, "int32")[:, None], i, [3]),
        np.array([0.0, 2.0]),
        np.array([0.0, 7.0]),
    ),
    (lambda i: gt.range(3)[gt.cast(i, "int32")], np.array([0.0, 2.0]), np.array([0.0, 8.0])),
]


@pytest.mark.parametrize(
    ("f", "good", "bad"), BAD, ids=["inv", "cholesky", "solve", "gather", "gather_nd", "scatter", "item"]
)
@pytest.mark.parametrize("taped", [False, True])
def test_an_error_in_a_compiled_run_is_that_of_eager(compiled, f, good, bad, taped):
    v = gt.Variable(0.0)

    def body(x):
        v.assign_add(1.0)
        drawn = gt.random.uniform([])
        y = f(x)
        v.assign_add(1.0)
        return y, drawn

    g = compiled(body)

    def outcome(run, x):
        before = float(v)
        try:
            if taped:
                with gt.GradientTape() as tape:
                    tape.watch(x)
                    run(x)
            else:
                run(x)
        except Exception as problem:
            return type(problem), float(v) - before
        return float(v) - before

    for _ in range(2):
        assert outcome(g, c(good)) == 2.0
    want = outcome(body, c(bad))
    assert issubclass(want[0], (ValueError, IndexError))
    for _ in range(2):
        assert outcome(g, c(bad)) == want
        assert listening() == ()
        assert tracer() is None
    runs = len(g.runs)
    assert outcome(g, c(good)) == 2.0
    assert len(g.runs) == runs
    gt.random.set_seed(1)
    first = [float(g(c(good))[1])]
    outcome(g, c(bad))
    first.append(float(g(c(good))[1]))
    gt.random.set_seed(1)
    assert first == [float(gt.random.uniform([])) for _ in range(3)][::2]


def test_numpys_warnings_are_those_of_eager(compiled):
    f = compiled(lambda x: gt.math.log(x) / x)
    f(c([1.0, 2.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = f.python_function.__wrapped__(c([0.0, -1.0])).numpy()
        got = f(c([0.0, -1.0])).numpy()
    np.testing.assert_array_equal(got, want)


def test_an_error_of_a_call_that_leaves_the_known_paths_has_no_cause_within(compiled):
    def f(x):
        if x > 0:
            return x
        raise KeyError("mine")

    f = compiled(f)
    f(c(1.0))
    with pytest.raises(KeyError, match="mine") as raised:
        f(c(-1.0))
    assert raised.value.__context__ is None


# -- try and except inside -----------------------------------------------------------------------------------


def test_an_error_that_the_function_catches(compiled):
    """A compiled run that hits it is run in Python, where it is caught; no path is taken for the other."""

    def f(x):
        try:
            return gt.linalg.inv(x)
        except ValueError:
            return gt.zeros_like(x)

    f = compiled(f)
    good, bad = c(2 * np.eye(2)), c(np.ones((2, 2)))
    for x in (good, bad, good, bad, bad, good):
        np.testing.assert_array_equal(f(x).numpy(), f.python_function.__wrapped__(x).numpy())
    g = compiled(f.python_function.__wrapped__)
    for x in (bad, good, bad, good):
        np.testing.assert_array_equal(g(x).numpy(), f.python_function.__wrapped__(x).numpy())


def test_a_context_manager_inside(compiled):
    entered = []

    class Block:
        def __enter__(self):
            entered.append("in")

        def __exit__(self, *_):
            entered.append("out")

    def f(x):
        with Block():
            return x * 2 if x > 0 else x

    check(compiled(f), (1.0,), (-1.0,), runs=2)


# -- threads -------------------------------------------------------------------------------------------------

THREADS = 8


@pytest.fixture
def together():
    """Runs `work(i)` in THREADS threads that start at once, and switch often; the results."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def run(work):
        barrier = threading.Barrier(THREADS)

        def one(i):
            barrier.wait()
            return work(i)

        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(one, range(THREADS)))

    yield run
    sys.setswitchinterval(interval)


def test_many_threads_and_the_first_call(compiled, together):
    w = gt.Variable(2.0)

    def f(x):
        y = x
        if x > 4:
            y = y * 2.0
        for _ in range(int(x) % 3):
            y = y + w
        return gt.sin(y) * x, y

    f = compiled(f)

    def work(i):
        for k in range(15):
            x = c(float((3 * i + k) % 9))
            np.testing.assert_allclose(numbers(f(x)), numbers(f.python_function.__wrapped__(x)), rtol=1e-6)
        return listening() == () and tracer() is None

    assert together(work) == [True] * THREADS
    before = len(f.runs)
    for k in range(9):
        f(c(float(k)))
    assert len(f.runs) == before


def test_many_threads_with_tapes(compiled, together):
    w = gt.Variable(np.array([1.0, 2.0]))

    def f(x, k):
        y = gt.reduce_sum(gt.sin(x * w))
        return y * y if k > 1 else y * 3.0 if k > 0 else y

    f = compiled(f)

    def gradients(run, x, k):
        with gt.GradientTape() as tape:
            tape.watch(x)
            y = run(x, c(k))
        return [g.numpy() for g in tape.gradient(y, [x, w])]

    def work(i):
        for k in range(10):
            x = c(np.array([0.1 * i, 0.2 + k]))
            want = gradients(f.python_function.__wrapped__, x, (i + k) % 3)
            np.testing.assert_allclose(gradients(f, x, (i + k) % 3), want, rtol=1e-12)
        return True

    assert all(together(work))


def test_many_threads_that_follow_different_things(compiled, together):
    """One runs a path while another adds a derivative to it that needs more."""
    w = gt.Variable(np.arange(3.0))

    def f(x, y):
        return gt.reduce_sum(gt.sin(x * w) * gt.exp(y) * x * y)

    def gradients(run, x, y, which):
        with gt.GradientTape(watch_accessed_variables=which == 0) as tape:
            tape.watch([[x], [y], [x, y], [y]][which])
            z = run(x, y)
        return [None if g is None else g.numpy() for g in tape.gradient(z, [x, y, w])]

    for _ in range(8):
        g = compiled(f)

        def work(i, g=g):
            for k in range(4):
                x, y = c(np.ones(3) * (i + 1)), c(np.ones(3) * 0.5)
                want = gradients(f, x, y, (i + k) % 4)
                for a, b in zip(gradients(g, x, y, (i + k) % 4), want, strict=True):
                    assert (a is None) == (b is None)
                    assert a is None or np.allclose(a, b, rtol=1e-12)
            return True

        assert all(together(work))


@pytest.mark.parametrize("returned", ["earlier", "later"])
def test_a_path_is_added_while_another_thread_runs_what_is_before_it(compiled, returned):
    """That thread's segment was compiled when nobody needed all of it that the new path does."""
    here, go_on = threading.Event(), threading.Event()
    waits: list[int] = []

    class Stream:
        def write(self, text):
            if threading.get_ident() in waits:
                waits.clear()
                here.set()
                go_on.wait(10)

    def f(x):
        y = gt.sin(x)
        gt.print(x, output_stream=Stream())
        if x > 0:
            return x * 1.0
        return y if returned == "earlier" else y * 2.0

    f = compiled(f)
    for _ in range(2):
        f(c(1.0))

    def work():
        waits.append(threading.get_ident())
        return f(c(-1.0))

    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(work)
        assert here.wait(10)
        want = numbers(f(c(-1.0)))
        go_on.set()
        assert numbers(found.result()) == want
    assert want == pytest.approx(math.sin(-1.0) * (1.0 if returned == "earlier" else 2.0))


def test_tensors_are_assigned_to_while_others_are_captured(together):
    x, kept = gt.ones([2]), []

    def captures(k):
        f = gt.function(lambda x: x * k, jit_compile=False)
        f(x)
        return f

    def work(i):
        t = gt.zeros([2])
        while len(kept) < 100:
            if i == 0:
                kept.append(captures(t * 1.0))
            else:
                t[0] = 1.0
        return True

    assert all(together(work))


def test_many_threads_with_kinds_of_their_own(compiled, together):
    f = compiled(lambda x, n: gt.reduce_sum(x) * n)

    def work(i):
        return [float(f(c(np.ones(1 + (i + k) % 4)), i)) for k in range(10)]

    assert together(work) == [[(1.0 + (i + k) % 4) * i for k in range(10)] for i in range(THREADS)]


def test_methods_in_many_threads(together):
    class Model:
        def __init__(self, scale):
            self.scale = scale

        @gt.function(jit_compile=False)
        def scaled(self, x):
            return x * self.scale

    models = [Model(float(i)) for i in range(3)]

    def work(i):
        return [float(models[(i + k) % 3].scaled(c(2.0))) for k in range(12)]

    assert together(work) == [[2.0 * ((i + k) % 3) for k in range(12)] for i in range(THREADS)]


def test_an_exception_in_one_thread(compiled, together):
    def f(x):
        if x > 3:
            raise KeyError(int(x))
        return x * 2.0

    f = compiled(f)

    def work(i):
        for _ in range(10):
            if i > 3:
                with pytest.raises(KeyError, match=re.escape(str(i))):
                    f(c(float(i)))
            else:
                assert float(f(c(float(i)))) == 2.0 * i
        return True

    assert all(together(work))


@pytest.mark.usefixtures("scratch_registry")
@pytest.mark.parametrize("varies", [False, True])
def test_an_op_from_elsewhere_whose_shape_depends_on_values(compiled, varies):
    """It says so, or is found out; either way no kernel reads beyond what there is."""

    @gt.extending.op(differentiable=False, varies=varies)
    def distinct_values(x: gt.extending.TensorLike) -> gt.extending.Array:
        return np.unique(x)

    f = compiled(lambda x: distinct_values(x) * 2.0 + 1.0)
    rows = ([1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0])
    for _ in range(4):
        for row in rows:
            np.testing.assert_array_equal(f(c(row)).numpy(), np.unique(row) * 2.0 + 1.0)
    assert len(f.runs) == (3 if varies else 4)


@pytest.mark.usefixtures("scratch_registry")
def test_an_op_from_elsewhere_that_gives_a_list_of_one(compiled):
    @gt.extending.op(vjp=lambda xp, g: g[0] * 2.0)
    def boxed(x: gt.extending.TensorLike) -> gt.extending.Array:
        return [x * 2.0]

    f = compiled(lambda x: boxed(x)[0] + 1.0)
    for value in (1.0, 2.0, 3.0):
        np.testing.assert_array_equal(f(c([value, value])).numpy(), [2.0 * value + 1.0] * 2)
    assert len(f.runs) == 1
