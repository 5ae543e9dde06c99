"""Why a gradient is None: the programs that people write, what the tape says of them, and the mended ones.

In each wrong program the line where the connection broke ends in the comment `# here`.
"""

import inspect
import pickle
import re
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradtape as gt
from gradtape.errors import NotATensorError, StructureError, UnconnectedError
from gradtape.explain.explanation import KINDS, Explanation

FILE = __file__


def watching(**keywords: Any) -> gt.GradientTape:
    return gt.GradientTape(explain=True, **keywords)


@pytest.fixture(params=[False, True], ids=["fresh", "answered"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Explanation]:
    """Asks a tape for its explanation, before or after it has answered that the gradient is None."""

    def ask(tape: gt.GradientTape, y: Any, x: Any) -> Explanation:
        if request.param and not tape._used:
            assert tape.gradient(y, x) is None
        return tape.explain(y, x)

    return ask


# -- the wrong programs, asked; the op where each broke; the mended program's gradient, and what it is -------


def never_watched(ask):
    x = gt.constant(3.0)
    with watching() as tape:
        y = x * x  # here
    yield ask(tape, y, x), "multiply"
    with watching() as tape:
        tape.watch(x)
        y = x * x
    yield tape.gradient(y, x), 6.0


def not_trainable(ask):
    v = gt.Variable(3.0, trainable=False)
    with watching() as tape:
        y = v * 2.0  # here
    yield ask(tape, y, v), "multiply"
    v = gt.Variable(3.0)
    with watching() as tape:
        y = v * 2.0
    yield tape.gradient(y, v), 2.0


def watches_nothing_unasked(ask):
    v = gt.Variable(3.0)
    with watching(watch_accessed_variables=False) as tape:
        y = v * v  # here
    yield ask(tape, y, v), "multiply"
    with watching(watch_accessed_variables=False) as tape:
        tape.watch(v)
        y = v * v
    yield tape.gradient(y, v), 6.0


def watched_after_use(ask):
    x = gt.constant(3.0)
    with watching() as tape:
        y = x * x  # here
        tape.watch(x)
    yield ask(tape, y, x), "multiply"
    with watching() as tape:
        tape.watch(x)
        y = x * x
    yield tape.gradient(y, x), 6.0


def variable_replaced_in_a_loop(ask):
    w = gt.Variable(2.0)
    for _ in range(2):
        with watching() as tape:
            loss = w * w
        g = tape.gradient(loss, w)
        if g is None:
            break
        w = w - 0.25 * g  # here
    yield ask(tape, loss, w), None
    w = gt.Variable(2.0)
    for _ in range(2):
        with watching() as tape:
            loss = w * w
        g = tape.gradient(loss, w)
        w.assign_sub(0.25 * g)
    yield g, 2.0


class Model:
    def __init__(self):
        self.w = gt.Variable(2.0)


def variable_replaced_in_an_object(ask):
    model = Model()
    with watching() as tape:
        y = model.w * model.w
    model.w = model.w + 1.0  # here
    yield ask(tape, y, model.w), None
    model = Model()
    with watching() as tape:
        y = model.w * model.w
    yield tape.gradient(y, model.w), 4.0


def within_stop_recording(ask):
    v = gt.Variable(3.0)
    with watching() as tape:
        y = v * v
        with tape.stop_recording():
            z = gt.exp(y)  # here
        z = z * 2.0
    yield ask(tape, z, v), "exp"
    with watching() as tape:
        y = v * v
        z = y * 2.0
    yield tape.gradient(z, v), 12.0


def before_the_block(ask):
    v = gt.Variable(3.0)
    y = v * v  # here
    with watching() as tape:
        z = y * 2.0
    yield ask(tape, z, v), None
    with watching() as tape:
        y = v * v
        z = y * 2.0
    yield tape.gradient(z, v), 12.0


def never_entered(ask):
    v = gt.Variable(3.0)
    tape = watching()
    y = v * v
    yield tape.explain(y, v), None
    with tape:
        y = v * v
    yield tape.gradient(y, v), 6.0


def replaced_by_a_method(ask):
    class Net:
        def __init__(self):
            self.w = gt.Variable(2.0)

        def update(self, g):
            self.w = self.w - 0.1 * g  # here

    net = Net()
    for _ in range(2):
        with watching() as tape:
            loss = net.w * net.w
        g = tape.gradient(loss, net.w)
        if g is None:
            break
        net.update(g)
    yield tape.explain(loss, net.w), None
    net = Net()
    with watching() as tape:
        loss = net.w * net.w
    yield tape.gradient(loss, net.w), 4.0


def replaced_in_a_list(ask):
    ws = [gt.Variable(1.0), gt.Variable(2.0)]
    for _ in range(2):
        with watching() as tape:
            loss = ws[0] * ws[1]
        if tape.gradient(loss, ws)[0] is None:
            break
        for j, w in enumerate(ws):
            ws[j] = w - 0.1  # here
    yield tape.explain(loss, ws)[0], None
    ws = [gt.Variable(1.0), gt.Variable(2.0)]
    with watching() as tape:
        loss = ws[0] * ws[1]
    yield tape.gradient(loss, ws[0]), 2.0


def through_a_new_variable(ask):
    x = gt.Variable(3.0)
    with watching() as tape:
        h = x * 2.0
        k = gt.Variable(h)  # here
        y = k * k
    yield ask(tape, y, x), "assign"
    with watching() as tape:
        h = x * 2.0
        y = h * h
    yield tape.gradient(y, x), 24.0


def after_the_block(ask):
    v = gt.Variable(3.0)
    with watching() as tape:
        y = v * v
    z = y * 2.0  # here
    yield ask(tape, z, v), None
    with watching() as tape:
        y = v * v
        z = y * 2.0
    yield tape.gradient(z, v), 12.0


def before_a_reset(ask):
    v = gt.Variable(3.0)
    with watching() as tape:
        y = v * v  # here
        tape.reset()
        z = y * 2.0
    yield ask(tape, z, v), "multiply"
    with watching() as tape:
        tape.reset()
        z = v * v * 2.0
    yield tape.gradient(z, v), 12.0


def watched_before_a_reset(ask):
    x = gt.constant(3.0)
    with watching() as tape:
        tape.watch(x)
        tape.reset()
        y = x * x  # here
    yield ask(tape, y, x), "multiply"
    with watching() as tape:
        tape.reset()
        tape.watch(x)
        y = x * x
    yield tape.gradient(y, x), 6.0


def unused(ask):
    a, b = gt.Variable(1.0, name="a"), gt.Variable(2.0, name="b")
    with watching() as tape:
        y = a * a
        z = b * 3.0
    yield ask(tape, y, b), None
    with watching() as tape:
        z = b * 3.0
    yield tape.gradient(z, b), 3.0


def through_argmax(ask):
    x = gt.Variable([1.0, 3.0])
    with watching() as tape:
        best = gt.argmax(x)  # here
        y = gt.gather(gt.constant([5.0, 7.0]), best) * 2.0
    yield ask(tape, y, x), "argmax"
    with watching() as tape:
        y = gt.reduce_max(x) * 2.0
    yield tape.gradient(y, x), [0.0, 2.0]


def through_round(ask):
    x = gt.Variable(1.4)
    with watching() as tape:
        y = gt.round(x) * 3.0  # here
    yield ask(tape, y, x), "round"
    with watching() as tape:
        y = (x + gt.stop_gradient(gt.round(x) - x)) * 3.0
    yield tape.gradient(y, x), 3.0


def through_a_comparison(ask):
    x = gt.Variable([-1.0, 2.0])
    with watching() as tape:
        positive = x > 0.0  # here
        y = gt.reduce_sum(gt.cast(positive, "float32"))
    yield ask(tape, y, x), "greater"
    with watching() as tape:
        y = gt.reduce_sum(gt.sigmoid(x * 0.0))
    yield tape.gradient(y, x), [0.0, 0.0]


def through_the_condition_of_where(ask):
    x = gt.Variable([-1.0, 2.0])
    with watching() as tape:
        y = gt.reduce_sum(gt.where(x > 0.0, 1.0, 0.0))  # here
    yield ask(tape, y, x), "greater"
    with watching() as tape:
        y = gt.reduce_sum(gt.where(x > 0.0, x, 0.0))
    yield tape.gradient(y, x), [0.0, 1.0]


def through_a_cast_to_an_integer(ask):
    x = gt.Variable(2.7)
    with watching() as tape:
        whole = gt.cast(x, "int32")  # here
        y = gt.cast(whole, "float32") * 2.0
    yield ask(tape, y, x), "cast"
    with watching() as tape:
        y = gt.cast(x, "float64") * 2.0
    yield tape.gradient(y, x), 2.0


def through_stop_gradient(ask):
    x = gt.Variable(2.0)
    with watching() as tape:
        y = gt.stop_gradient(x * x) + 1.0  # here
    yield ask(tape, y, x), "stop_gradient"
    with watching() as tape:
        y = x * x + 1.0
    yield tape.gradient(y, x), 4.0


def through_numpy(ask):
    x = gt.Variable([1.0, 2.0])
    with watching() as tape:
        s = np.sin(x.numpy())  # here
        y = gt.reduce_sum(gt.constant(s) * 2.0)
    yield ask(tape, y, x), "numpy()"
    with watching() as tape:
        y = gt.reduce_sum(np.sin(x) * 2.0)
    yield tape.gradient(y, x), 2.0 * np.cos([1.0, 2.0])


def through_asarray(ask):
    x = gt.Variable([1.0, 2.0])
    with watching() as tape:
        a = np.asarray(x * 2.0)  # here
        y = gt.reduce_sum(a * gt.constant(3.0))
    yield ask(tape, y, x), "np.asarray"
    with watching() as tape:
        y = gt.reduce_sum(x * 2.0 * gt.constant(3.0))
    yield tape.gradient(y, x), [6.0, 6.0]


def through_float(ask):
    x = gt.Variable(2.0)
    c = gt.Variable(1.0)
    with watching() as tape:
        scale = float(x * x)  # here
        y = c * scale
    yield ask(tape, y, x), "float()"
    with watching() as tape:
        y = c * (x * x)
    yield tape.gradient(y, x), 4.0


def through_an_ndarray(ask):
    x = gt.constant(2.0)
    with watching() as tape:
        y = x * x
        a = np.zeros(2, "float32")
        a[0] = y  # here
        z = gt.reduce_sum(gt.constant(a))
    yield ask(tape, z, y), "float()"
    x = gt.Variable(2.0)
    with watching() as tape:
        a = gt.zeros(2)
        a[0] = x * x
        z = gt.reduce_sum(a)
    yield tape.gradient(z, x), 4.0


def through_a_variables_state(ask):
    x, state = gt.Variable(3.0), gt.Variable(0.0, name="state")
    with watching() as tape:
        state.assign(x * x)  # here
        y = state * 2.0
    yield ask(tape, y, x), "assign"
    with watching() as tape:
        now = x * x
        state.assign(now)
        y = now * 2.0
    yield tape.gradient(y, x), 12.0


def through_numpy_function(ask):
    x = gt.Variable([3.0, 1.0])
    with watching() as tape:
        y = gt.reduce_sum(gt.numpy_function(np.sort, [x], "float32"))  # here
    yield ask(tape, y, x), "numpy_function"
    with watching() as tape:
        y = gt.reduce_sum(gt.sort(x))
    yield tape.gradient(y, x), [1.0, 1.0]


def by_a_rule_that_gives_none(ask):
    @gt.custom_gradient
    def clipped(x):
        return gt.minimum(x, 1.0), lambda g: None

    x = gt.Variable(0.5)
    with watching() as tape:
        y = clipped(x * 2.0)  # here
    yield ask(tape, y, x), "clipped"
    with watching() as tape:
        y = gt.minimum(x * 1.5, 1.0)
    yield tape.gradient(y, x), 1.5


def integer_source(ask):
    n = gt.constant([1, 2])
    with watching() as tape:
        y = gt.reduce_sum(gt.cast(n, "float32") * 2.0)  # here
    yield ask(tape, y, n), "cast"
    x = gt.constant([1.0, 2.0])
    with watching() as tape:
        tape.watch(x)
        y = gt.reduce_sum(x * 2.0)
    yield tape.gradient(y, x), [2.0, 2.0]


def integer_target(ask):
    x = gt.Variable([1.0, 3.0])
    with watching() as tape:
        best = gt.argmax(x)  # here
    yield ask(tape, best, x), "argmax"
    with watching() as tape:
        best = gt.reduce_max(x)
    yield tape.gradient(best, x), [0.0, 1.0]


PROGRAMS: dict[Callable[..., Iterator[Any]], str] = {
    never_watched: "unwatched",
    not_trainable: "unwatched",
    watches_nothing_unasked: "unwatched",
    watched_after_use: "watched_late",
    variable_replaced_in_a_loop: "replaced",
    variable_replaced_in_an_object: "replaced",
    within_stop_recording: "stop_recording",
    before_the_block: "before",
    never_entered: "never_began",
    replaced_by_a_method: "replaced",
    replaced_in_a_list: "replaced",
    through_a_new_variable: "assigned",
    after_the_block: "after",
    before_a_reset: "reset",
    watched_before_a_reset: "reset",
    unused: "unrelated",
    through_argmax: "no_derivative",
    through_round: "no_derivative",
    through_a_comparison: "no_derivative",
    through_the_condition_of_where: "no_derivative",
    through_a_cast_to_an_integer: "integer_cast",
    through_stop_gradient: "stop_gradient",
    through_numpy: "numpy",
    through_asarray: "numpy",
    through_float: "numpy",
    through_an_ndarray: "numpy",
    through_a_variables_state: "assigned",
    through_numpy_function: "no_derivative",
    by_a_rule_that_gives_none: "own_rule",
    integer_source: "integer_source",
    integer_target: "integer_target",
}


def marked(program: Callable[..., Any]) -> int | None:
    lines, first = inspect.getsourcelines(program)
    return next((first + i for i, line in enumerate(lines) if line.rstrip().endswith("# here")), None)


@pytest.mark.filterwarnings("ignore:.*int32.*", "ignore:.*int64.*")
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_the_cause_is_told_with_its_line_and_mended(program: Any, ask: Callable[..., Explanation]) -> None:
    steps = program(ask)
    found, op = next(steps)
    assert found.kind == PROGRAMS[program], found
    assert found.op == op
    assert found.line == marked(program)
    assert found.filename == (FILE if found.line else None)
    assert str(found).startswith("The gradient of")
    assert str(found).endswith(f"Remedy: {found.remedy}.")
    gradient, wanted = next(steps)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-6)


def test_every_kind_has_a_program() -> None:
    assert set(PROGRAMS.values()) == set(KINDS) - {"connected", "forgotten", "not_recorded", "raises"}


def test_the_page_shows_every_kind() -> None:
    page = Path(__file__).parents[1] / "docs" / "why-none.md"
    titles = re.findall(r"^#+ (\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(set(titles) & set(KINDS)) == sorted(set(KINDS) - {"connected"})


# -- what it says --------------------------------------------------------------------------------------------


def test_the_whole_text() -> None:
    x = gt.constant(3.0)
    with watching() as tape:
        y = gt.exp(x)
    line = inspect.currentframe().f_lineno - 1  # type: ignore[union-attr]
    text = str(tape.explain(y, x)).replace(FILE, "FILE").replace("tests/test_explain.py", "FILE")
    assert text.splitlines() == [
        "The gradient of y by x is None: x was never watched.",
        "  it is a tensor, and unasked a tape follows only variables",
        f"  FILE:{line}: y = gt.exp(x)",
        f"  On the way: exp (FILE:{line}).",
        "Remedy: call tape.watch(x) before its first use, or make it a gradtape.Variable.",
    ]


def test_a_gradient_that_is_there_is_explained_by_its_path() -> None:
    v = gt.Variable(2.0)
    with watching(persistent=True) as tape:
        y = gt.sin(v) * v
        z = gt.exp(y)
    found = tape.explain(z, v)
    assert found.kind == "connected"
    assert [step.op for step in found.path] == ["sin", "multiply", "exp"]
    assert str(found).startswith("The gradient of z by v is there.\n  On the way: sin (")
    assert tape.gradient(z, v) is not None
    assert tape.explain(z, z).kind == "connected"


def test_the_nearest_values_that_the_target_depends_on() -> None:
    a, b, c = gt.Variable(1.0, name="a"), gt.Variable(2.0, name="b"), gt.Variable(2.0, name="c")
    with watching() as tape:
        tape.watch(c)
        y = gt.exp(a) * b
    found = tape.explain(y, c)
    assert found.kind == "unrelated"
    assert "a (by exp, " in found.details[0]
    assert "b (by multiply, " in found.details[0]
    del a
    assert "a (by exp, " in tape.explain(y, c).details[0]


def test_a_target_that_no_op_made() -> None:
    v = gt.Variable(1.0)
    with watching() as tape:
        y = gt.constant(2.0)
    assert tape.explain(y, v).details == ("no op of the block made y",)


def test_integers_have_no_derivative_by_themselves() -> None:
    n = gt.constant(1)
    with watching() as tape:
        pass
    assert tape.explain(n, n).kind == "integer_source"


def test_of_several_ways_the_least_broken_one_is_told() -> None:
    x = gt.Variable(2.0)
    with watching(persistent=True) as tape:
        y = gt.stop_gradient(gt.round(x)) + gt.floor(x)
        z = y + x
    assert tape.explain(y, x).op == "floor"
    assert tape.explain(z, x).kind == "connected"


def test_one_of_several_targets_is_enough() -> None:
    x = gt.Variable(2.0)
    with watching() as tape:
        y, z = gt.round(x), x * x
    assert tape.explain([y, z], x).kind == "connected"
    assert tape.explain({"y": y}, x).kind == "no_derivative"


def test_what_a_variable_has_taken_is_gone_when_it_takes_another_value_but_not_when_that_is_added() -> None:
    x, state = gt.Variable(2.0), gt.Variable(0.0)
    with watching(persistent=True) as tape:
        state.assign(x * x)
        y = state * 2.0
        state.assign_add(1.0)
        added = state * 2.0
        state.assign(3.0)
        z = state * 2.0
        state.assign(np.asarray(x))
        again = state * 2.0
    assert tape.explain(y, x).kind == tape.explain(added, x).kind == "assigned"
    assert tape.explain(z, x).kind == "unrelated"
    assert tape.explain(again, x).kind == "numpy"


def test_names_are_those_of_the_code_that_asks() -> None:
    with watching() as tape:
        found = [gt.constant([1.0, 2.0]) * 2.0]
    assert "a float32 tensor of shape (2,)" in str(tape.explain(found[0] + 1.0, gt.Variable(1.0, name="b")))
    assert "by b is None" in str(tape.explain(found[0], gt.Variable(1.0, name="b")))
    assert "by a float32 variable of shape (3,)" in str(
        tape.explain(found[0], gt.Variable(np.ones(3, "float32")))
    )


def test_a_tape_within_a_tape_tells_its_own_story() -> None:
    x = gt.Variable(2.0)
    with watching(persistent=True) as outer:
        with watching(persistent=True) as inner:
            y = gt.round(x)
        z = x * x * y
    assert outer.explain(z, x).kind == "connected"
    assert inner.explain(y, x).kind == "no_derivative"
    assert inner.explain(z, x).kind == "after"


def test_second_order_goes_through_the_sweep() -> None:
    x = gt.Variable(2.0)
    with watching(persistent=True) as outer:
        with gt.GradientTape() as inner:
            y = 3.0 * x
        slope = inner.gradient(y, x)
    assert outer.gradient(slope, x) is None
    assert outer.explain(slope, x).kind == "unrelated"
    with watching() as outer:
        with gt.GradientTape() as inner:
            y = x**3.0
        slope = inner.gradient(y, x)
    assert outer.explain(slope, x).kind == "connected"
    np.testing.assert_allclose(outer.gradient(slope, x), 12.0)


def test_a_compiled_function_is_looked_into() -> None:
    @gt.function
    def f(x):
        return gt.round(x) * 2.0  # here

    x = gt.Variable(1.4)
    for _ in range(2):
        f(x)
    with watching() as tape:
        y = f(x)
    assert tape.gradient(y, x) is None
    found = tape.explain(y, x)
    assert (found.kind, found.op, found.line) == ("no_derivative", "round", marked(f.python_function))


def test_many_examples_at_once() -> None:
    x = gt.Variable([1.0, 2.0, 3.0])
    with watching() as tape:
        y = gt.vectorized_map(lambda r: gt.round(r) * 2.0, x)
    assert tape.gradient(y, x) is None
    assert tape.explain(y, x).op == "round"


def test_a_tape_that_is_used_again_begins_anew() -> None:
    x = gt.Variable(2.0)
    with watching() as tape:
        y = gt.round(x)
    assert tape.gradient(y, x) is None
    with tape:
        z = x * x
    assert tape.explain(z, x).kind == "connected"
    assert tape.explain(y, x).kind != "no_derivative"


def at_random(random: np.random.Generator, tape: gt.GradientTape) -> list[gt.Tensor | gt.Variable]:
    """The values of a program of a few steps, each of any of those before."""
    state = gt.Variable([0.5, 1.0])
    first = gt.custom_gradient(lambda a, b: (a * 2.0 + b, lambda g: (g * 2.0, None)))
    nothing = gt.custom_gradient(lambda a: (a + 1.0, lambda g: None))
    both = gt.custom_gradient(lambda a: ((a * 2.0, a + 1.0), lambda g, h: g * 2.0))

    def paused(a, b):
        with tape.stop_recording():
            return gt.exp(a) * b

    steps = [
        lambda a, b: a * b,
        lambda a, b: gt.sin(a),
        lambda a, b: gt.round(a) + b,
        lambda a, b: gt.stop_gradient(a) * b,
        lambda a, b: gt.cast(gt.cast(a, "int32"), "float32"),
        lambda a, b: gt.sin(gt.constant(a.numpy())),
        lambda a, b: state.assign(a) * 1.0,
        lambda a, b: gt.concat([gt.split(a, 2)[0], [1.0]], 0),
        lambda a, b: gt.gather(a, gt.argsort(b)),
        lambda a, b: gt.where(a > 0.5, b, 1.0),
        lambda a, b: gt.vectorized_map(gt.sin, a),
        lambda a, b: first(a, b),
        lambda a, b: nothing(a),
        lambda a, b: both(a)[0],
        lambda a, b: both(a)[1],
        paused,
        lambda a, b: tape.watch(a),
        lambda a, b: tape.reset() if random.random() < 0.2 else None,
    ]
    values = [gt.Variable([1.0, 2.0]), gt.Variable([0.7, 0.1], trainable=False), gt.constant([0.3, 0.4])]
    with tape:
        for _ in range(random.integers(2, 10)):
            a, b = random.integers(len(values), size=2)
            made = steps[random.integers(len(steps))](values[a], values[b])
            if made is not None:
                values.append(made)
    values.append(values[-1] * 2.0)
    return values


@pytest.mark.parametrize("explain", [False, True])
def test_it_is_connected_exactly_if_there_is_a_gradient(explain: bool) -> None:
    for seed in range(60):
        random = np.random.default_rng(seed)
        tape = gt.GradientTape(persistent=True, explain=explain, watch_accessed_variables=seed % 5 > 0)
        values = at_random(random, tape)
        for _ in range(6):
            i, j = (int(place) for place in random.integers(len(values), size=2))
            target, source = values[i], values[j]
            before = tape.explain(target, source).kind
            gradient = tape.gradient(target, source)
            assert (before == "connected") == (gradient is not None), (seed, i, j, before)
            assert tape.explain(target, source).kind == before, (seed, i, j)


def test_what_goes_in_is_checked() -> None:
    x = gt.Variable(2.0)
    with watching() as tape:
        y = x * x
    with pytest.raises(NotATensorError, match=r"explain: source.*ndarray"):
        tape.explain(y, np.ones(2))
    with pytest.raises(NotATensorError, match="explain: target"):
        tape.explain(2.0, x)
    with pytest.raises(StructureError, match="explain: wanted a target"):
        tape.explain([], x)
    np.testing.assert_allclose(tape.gradient(y, x), 4.0)


def test_a_tape_that_answers_while_it_is_stopped_does_not_go_on() -> None:
    v = gt.Variable(2.0)
    with watching() as tape:
        y = v * v
        with tape.stop_recording():
            tape.gradient(y, v)
        z = v * 3.0
    assert tape.explain(z, v).kind == "after"


def test_a_journal_keeps_no_array() -> None:
    x = gt.Variable(np.ones(5))
    with watching() as tape:
        y = gt.exp(x) + 1.0
    kept = weakref.ref(y._value)
    tape.gradient(y, x)
    del y
    assert kept() is None


@pytest.mark.skipif(sys.gettrace() is not None, reason="whoever traces keeps the values of frames")
def test_asking_keeps_nothing_alive_in_the_code_that_asks_nor_takes_anything_from_it() -> None:
    def asks() -> None:
        x, later = gt.Variable(np.ones(5)), gt.constant(1.0)
        with gt.GradientTape() as tape:
            y = gt.sin(x) * x
        assert tape.explain(y, later).kind == "unwatched"
        kept = weakref.ref(tape)
        del tape, y
        assert kept() is None

    def holds_its_names() -> None:
        x, v = gt.constant(1.0), gt.Variable(1.0)
        names = locals()
        with gt.GradientTape() as tape:
            y = v * x
        assert tape.explain(y, x).kind == "unwatched"
        assert names["x"] is x

    asks()
    holds_its_names()


# -- without the flag ----------------------------------------------------------------------------------------


def test_what_can_be_told_without_memory() -> None:
    x, v = gt.constant(3.0), gt.Variable(2.0)
    fixed = gt.Variable(2.0, trainable=False)
    with gt.GradientTape() as tape:
        y = x * v * fixed
        rounded = gt.round(v)
    later = y * 2.0
    assert tape.explain(y, x).kind == "unwatched"
    assert tape.explain(y, v).kind == "connected"
    assert tape.explain(y, fixed).kind == "unwatched"
    assert tape.explain(later, v).kind == "after"
    assert tape.explain(later, v).line is not None
    found = tape.explain(rounded, v)
    assert found.kind == "not_recorded"
    assert "explain=True" in str(found)
    assert tape.explain(gt.constant(1), v).kind == "integer_target"
    assert tape.explain(y, gt.constant(1)).kind == "integer_source"
    np.testing.assert_allclose(tape.gradient(y, v), 6.0)
    assert tape.explain(y, x).kind == "unwatched"
    assert tape.explain(y, fixed).kind == "unwatched"
    found = tape.explain(y, v)
    assert found.kind == "forgotten"
    assert "GradientTape(explain=True)" in found.remedy


def test_a_replaced_variable_needs_no_memory() -> None:
    w = gt.Variable(2.0)
    for _ in range(2):
        with gt.GradientTape() as tape:
            y = w * w
        g = tape.gradient(y, w)
        if g is None:
            break
        w = w - 0.1 * g
    assert tape.explain(y, w).kind == "replaced"


def test_a_rule_that_gives_none_is_found_without_memory() -> None:
    @gt.custom_gradient
    def clipped(x):
        return gt.minimum(x, 1.0), lambda g: None

    x = gt.Variable(0.5)
    with gt.GradientTape() as tape:
        y = clipped(x * 2.0)
    assert (tape.explain(y, x).kind, tape.explain(y, x).op) == ("own_rule", "clipped")
    assert tape.gradient(y, x) is None


@pytest.mark.parametrize("explain", [False, True])
def test_a_rule_may_give_none_for_one_of_two_operands_that_are_the_same(
    explain,
) -> None:
    @gt.custom_gradient
    def first(a, b):
        return a + b, lambda g: (g, None)

    x = gt.Variable(0.5)
    with gt.GradientTape(persistent=True, explain=explain) as tape:
        y = first(x, x)
    assert tape.gradient(y, x).numpy() == 1.0
    assert tape.explain(y, x).kind == "connected"


def test_what_a_function_with_a_derivative_of_its_own_gave_is_connected_with_itself() -> None:
    doubled = gt.custom_gradient(lambda x: (x * 2.0, lambda g: g * 2.0))
    x = gt.Variable(0.5)
    with watching(persistent=True) as tape:
        y = doubled(x)
    assert tape.gradient(y, y).numpy() == 1.0
    assert tape.explain(y, y).kind == "connected"


def test_a_name_that_never_was_a_variables_was_not_replaced() -> None:
    x = gt.constant(2.0)
    x = x + 1.0
    with gt.GradientTape() as tape:
        y = x * x
    assert tape.explain(y, x).kind == "unwatched"


def test_a_variables_name_for_something_else_was_not_replaced() -> None:
    w = gt.Variable(2.0)
    with gt.GradientTape() as tape:
        y = w * w
    print(w)
    w = gt.constant(3.0)
    assert tape.explain(y, w).kind == "after"


# -- raising -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("explain", [False, True])
def test_raise_says_why_and_leaves_the_tape_as_it_was(explain: bool) -> None:
    a, b = gt.Variable(2.0), gt.Variable(3.0)
    with gt.GradientTape(explain=explain) as tape:
        y = a * a
        b * 2.0
    with pytest.raises(UnconnectedError, match="The gradient of y by b is None") as caught:
        tape.gradient(y, [a, b], unconnected_gradients="raise")
    assert caught.value.explanation.kind == ("unrelated" if explain else "not_recorded")
    assert pickle.loads(pickle.dumps(caught.value)).explanation == caught.value.explanation
    assert tape.gradient(y, [a], unconnected_gradients="raise")[0].numpy() == 4.0


def test_raise_finds_a_rule_that_gives_none() -> None:
    @gt.custom_gradient
    def clipped(x):
        return gt.minimum(x, 1.0), lambda g: None

    x = gt.Variable(0.5)
    with gt.GradientTape() as tape:
        y = clipped(x * 2.0)
    with pytest.raises(UnconnectedError) as caught:
        tape.gradient(y, x, unconnected_gradients="raise")
    assert (caught.value.explanation.kind, caught.value.explanation.op) == ("own_rule", "clipped")


def test_jacobians_and_tangents_raise_too() -> None:
    x, z = gt.Variable([[1.0], [2.0]]), gt.Variable([[1.0], [2.0]])
    with gt.GradientTape(persistent=True) as tape:
        y = x * x
    for ask in (tape.jacobian, tape.batch_jacobian):
        with pytest.raises(UnconnectedError, match="by z is None"):
            ask(y, z, unconnected_gradients="raise")
        assert ask(y, x, unconnected_gradients="raise") is not None
    with gt.autodiff.ForwardAccumulator(x, gt.ones_like(x)) as acc:
        y = x * x
    with pytest.raises(UnconnectedError, match="has no tangent"):
        acc.jvp(z, unconnected_gradients="raise")
    assert acc.jvp(y, unconnected_gradients="raise") is not None


def test_an_integer_target_raises_too() -> None:
    x = gt.Variable([1.0, 2.0])
    with watching() as tape:
        y = gt.argmax(x)
    with pytest.raises(UnconnectedError), pytest.warns(UserWarning, match="no gradient"):
        tape.gradient(y, x, unconnected_gradients="raise")


def test_none_and_zero_stay_as_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    x, z = gt.Variable(1.0), gt.Variable([2.0, 3.0])
    with watching(persistent=True) as tape:
        y = x * x
    assert tape.gradient(y, z) is None
    assert tape.gradient(y, z, unconnected_gradients="zero").numpy().tolist() == [0.0, 0.0]
    assert capsys.readouterr() == ("", "")


# -- what is not to be taken for a cause ---------------------------------------------------------------------


@gt.custom_gradient
def two(a, b):
    """Two results, of which b has a derivative by the first rule only."""
    return (a * b, a + b), lambda g1, g2: (g1 * 2.0 + g2, None)


def test_one_value_as_two_operands_of_a_rule_that_gives_none_for_one() -> None:
    v = gt.Variable(2.0)
    for explain in (False, True):
        with gt.GradientTape(persistent=True, explain=explain) as tape:
            p, _ = two(v, v)
        assert tape.gradient(p, v) is not None
        assert tape.explain(p, v).kind == "connected"


def test_what_one_sweep_cut_is_not_held_against_another_target() -> None:
    @gt.custom_gradient
    def pair(a):
        return (a * 1.0, a * 2.0), lambda g1, g2: g2 if np.any(g2.numpy()) else None

    x = gt.Variable(2.0)
    with watching(persistent=True) as tape:
        p, q = pair(x)
    assert tape.gradient(p, x) is None
    assert tape.gradient(q, x) is not None
    assert tape.explain(p, x).kind == "own_rule"
    assert tape.explain(q, x).kind == "connected"


def test_the_result_of_a_function_with_a_derivative_of_its_own_is_a_source() -> None:
    @gt.custom_gradient
    def f(a):
        return gt.sin(a) * 2.0, lambda g: g * 2.0

    v = gt.Variable(2.0)
    with watching(persistent=True) as tape:
        h = f(v)
        y = h * 3.0
    assert tape.gradient(y, h) is not None
    assert tape.explain(y, h).kind == tape.explain(h, h).kind == "connected"


def test_an_array_that_left_and_came_back_into_such_a_function() -> None:
    @gt.custom_gradient
    def f(a):
        return a * 2.0, lambda g: 2.0 * g

    x = gt.Variable([1.0, 2.0])
    with watching() as tape:
        z = f(np.sin(x.numpy()))
    assert tape.explain(z, x).kind == "numpy"


def test_a_variable_that_takes_another_value_hides_what_it_had() -> None:
    x, state = gt.Variable(3.0), gt.Variable(0.0)
    with watching(persistent=True) as tape:
        state.assign(x * 2.0)
        state.assign(5.0)
        y = state * 2.0
        state.assign_add(x)
        z = state * 2.0
    assert tape.explain(y, x).kind == "unrelated"
    assert tape.explain(z, x).kind == "assigned"


def test_an_argument_that_was_converted_is_no_variable_that_was_replaced() -> None:
    def f(x):
        x = gt.convert_to_tensor(x)
        with watching() as tape:
            y = x * x
        return tape.explain(y, x)

    found = f(np.ones(3, "float32"))
    assert found.kind == "unwatched"
    assert "if it was one before" in str(found)


def test_of_several_lines_none_is_told_for_certain() -> None:
    x = gt.Variable(2.0)
    with watching() as tape:
        y = x * x
    z = y * 2.0
    if float(y) > 1.0:
        z = y * 3.0
    found = tape.explain(z, x)
    assert (found.kind, found.line) == ("after", None)
    assert sum("z = y" in detail for detail in found.details) == 2


def test_what_comes_after_the_answer_within_the_block() -> None:
    x = gt.Variable(2.0)
    with watching() as tape:
        y = x * x
        tape.gradient(y, x)
        z = 3.0 * x
    assert tape.explain(z, x).kind == "after"


def test_values_from_before_the_block_are_told_as_such() -> None:
    v = gt.Variable(3.0)
    y = v * v
    with watching() as tape:
        z = 2.0 * y
        v * 1.0
    found = tape.explain(z, v)
    assert (found.kind, found.line) == ("before", inspect.currentframe().f_lineno - 5)  # type: ignore[union-attr]


def test_data_from_before_the_block_is_no_cause() -> None:
    unused = gt.Variable(np.ones(3), name="unused")
    w = gt.Variable(np.ones(3))
    batch = gt.constant(np.ones((4, 3)))
    with watching() as tape:
        loss = gt.reduce_mean(batch @ gt.expand_dims(w, 1))
    found = tape.explain(loss, unused)
    assert found.kind == "unrelated"
    assert "batch, made before the block (by matmul, " in found.details[0]
    assert "w (by expand_dims, " in found.details[0]


def test_items_have_names_too() -> None:
    params = [gt.Variable(float(i)) for i in range(2)]
    named = {"w": params[0]}
    with watching() as tape:
        y = params[0] * 2.0
    assert str(tape.explain(y, params[1])).startswith("The gradient of y by params[1] is None: y does not")
    params = [p - 0.1 for p in params]
    found = tape.explain(y, params[0])
    assert (found.kind, found.line) == ("replaced", inspect.currentframe().f_lineno - 2)  # type: ignore[union-attr]
    assert "named['w']" in str(tape.explain(y, named["w"]))


def test_an_op_without_a_rule_and_a_rule_that_fails_are_told() -> None:
    @gt.custom_gradient
    def fails(a):
        def rule(g):
            raise RuntimeError("no way")

        return a * 2.0, rule

    x = gt.Variable(2.0)
    for explain in (False, True):
        with gt.GradientTape(explain=explain) as tape:
            y = fails(x)
        found = tape.explain(y, x)
        assert found.kind == "raises"
        assert "RuntimeError: no way" in str(found)
        with pytest.raises(RuntimeError, match="no way"):
            tape.gradient(y, x)


def test_within_a_map_a_tape_explains_one_example() -> None:
    kinds = []

    def f(a):
        with watching() as tape:
            tape.watch(a)
            y = gt.sin(a) * a
            z = gt.round(a)
        kinds.extend([tape.explain(y, a).kind, tape.explain(z, a).op])
        return tape.gradient(y, a)

    gt.vectorized_map(f, gt.constant([1.0, 2.0, 3.0]))
    assert kinds == ["connected", "round"]


def test_slices_are_targets_too() -> None:
    table = gt.Variable(np.ones((4, 2)))
    with watching() as tape, watching(persistent=True) as inner:
        rows = gt.gather(table, [0, 2])
        slices = inner.gradient(gt.reduce_sum(rows * rows), table)
    assert isinstance(slices, gt.IndexedSlices)
    assert tape.explain(slices, table).kind == "connected"


def test_of_all_that_left_the_latest_is_told() -> None:
    x = gt.Variable([1.0, 2.0])
    with watching() as tape:
        shown = [float(part) for part in x]
        s = np.sum(x.numpy())
        y = gt.constant(s) * 2.0
    found = tape.explain(y, x)
    assert (found.kind, found.op) == ("numpy", "numpy()")
    assert found.line == inspect.currentframe().f_lineno - 4  # type: ignore[union-attr]
    assert shown == [1.0, 2.0]


def test_a_task_that_stops_recording_stops_no_other() -> None:
    import asyncio

    x = gt.Variable(2.0)

    async def child() -> Any:
        await asyncio.sleep(0)
        y = x * 2.0
        await asyncio.sleep(0)
        return y

    async def child_that_stops(tape: gt.GradientTape) -> Any:
        with tape.stop_recording():
            await asyncio.sleep(0)
            y = x * 3.0
            await asyncio.sleep(0)
        return y

    async def both(tape: gt.GradientTape) -> Any:
        return await asyncio.gather(child(), child_that_stops(tape))

    with watching(persistent=True) as tape:
        a, b = asyncio.run(both(tape))
    assert tape.gradient(a, x) is not None
    assert tape.explain(a, x).kind == "connected"
    assert tape.gradient(b, x) is None
    assert tape.explain(b, x).kind == "stop_recording"


def test_a_number_that_is_written_there_did_not_leave_the_tape() -> None:
    x, w, c = gt.Variable(1.0), gt.Variable(2.0), gt.Variable(1.0)
    with watching() as tape:
        shown = float(x * x)
        y = w * 2.0
        z = c * shown
    assert tape.explain(y, x).kind == "unrelated"
    assert tape.explain(z, x).kind == "numpy"


def test_a_tensor_that_came_up_since_is_a_better_guess_than_an_array() -> None:
    x, P = gt.Variable([1.0, 2.0]), gt.Variable(np.ones((2, 2), "float32"))
    with watching() as tape:
        h = gt.constant(np.tanh(x.numpy()))
        y = gt.reduce_sum((np.ones((2, 2), "float32") * 5) @ P + h)
    assert "add got a constant afterwards" in tape.explain(y, x).details[1]


def test_a_line_that_has_not_run_yet_is_no_cause() -> None:
    w = gt.Variable(2.0)
    w = gt.constant(1.0)
    with watching() as tape:
        y = w * w
    found = tape.explain(y, w)
    w = w + 1.0
    assert found.kind == "unwatched"
    assert "if it was one before" not in str(found)


def test_the_wrong_way_round() -> None:
    w = gt.Variable(2.0)
    with watching() as tape:
        y = w * w
    assert "y depends on w: the wrong way round?" in str(tape.explain(w, y))


def test_several_sources_are_explained_in_their_structure() -> None:
    a, b = gt.Variable(2.0, name="kernel"), gt.Variable(3.0)
    with watching() as tape:
        y = a * a
    found = tape.explain(y, {"a": a, "b": [b]})
    assert (found["a"].kind, found["b"][0].kind) == ("connected", "unrelated")
    assert str(found["a"]).startswith("The gradient of y by kernel is there")
    assert found["b"][0].details[0].startswith("it depends on kernel (by multiply")


def test_what_is_shown_at_a_prompt_is_the_text() -> None:
    x = gt.constant(2.0)
    with watching() as tape:
        y = x * x
    assert repr(tape.explain(y, x)) == str(tape.explain(y, x))
    assert repr(tape.summary()) == str(tape.summary())


def test_insisting_on_gradients_keeps_no_values() -> None:
    import weakref

    x = gt.Variable(np.ones(5))
    inside: list[Any] = []

    @gt.custom_gradient
    def looks(a):
        return a * 1.0, lambda g: inside.append(kept() is None) or g

    with gt.GradientTape() as tape:
        z = looks(x)
        w = gt.exp(z)
        kept = weakref.ref(w._value)
        v = w * w
    del w
    assert tape.gradient(v, x, unconnected_gradients="raise") is not None
    assert inside == [True]


# -- the code that asks --------------------------------------------------------------------------------------


class Unbound:
    """What raises whatever one asks of it, as proxies outside of their context do."""

    def __getattribute__(self, name):
        raise RuntimeError("outside of its context")


def test_objects_that_cannot_be_asked_are_left_in_peace() -> None:
    proxy = Unbound()
    x = gt.constant(2.0)
    with watching() as tape:
        y = x * x
    assert "The gradient of y by x" in str(tape.explain(y, x))
    assert type(proxy) is Unbound


def test_asking_keeps_nobodys_locals_alive() -> None:
    import weakref

    big = gt.constant(np.ones(1000))
    x = gt.Variable(1.0)
    with watching() as tape:
        y = x * 2.0
    tape.explain(y, big)
    gone = weakref.ref(big)
    del big
    assert gone() is None


def test_a_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    x = gt.constant(2.0)
    with watching() as tape:
        y = x * x
    assert tape.explain(y, x).kind == "unwatched"
