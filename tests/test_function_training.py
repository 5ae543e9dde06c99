"""Steps of optimizers inside `function`: the same as eager ones, whatever the optimizer was told."""

import copy
import functools
import pickle
import tracemalloc

import numpy as np
import pytest

import gradtape as gt
from gradtape.errors import DTypeError, FunctionError, ShapeError
from gradtape.optimizers import SGD, Adam

STEPS = 5

OPTIMIZERS = {
    "SGD": lambda: SGD(0.1),
    "momentum": lambda: SGD(0.1, momentum=0.9),
    "nesterov": lambda: SGD(0.1, momentum=0.9, nesterov=True),
    "SGD, weight_decay": lambda: SGD(0.1, momentum=0.5, weight_decay=0.25),
    "SGD, clipnorm": lambda: SGD(0.1, clipnorm=0.5),
    "SGD, clipnorm of more": lambda: SGD(0.1, clipnorm=500.0),
    "SGD, clipvalue": lambda: SGD(0.1, momentum=0.5, clipvalue=0.25),
    "SGD, global_clipnorm": lambda: SGD(0.1, global_clipnorm=0.5),
    "SGD, schedule": lambda: SGD(lambda step: 0.1 / (step + 1)),
    "SGD, power": lambda: SGD(lambda step: 0.1 * 0.5 ** (step // 2)),
    "SGD, int": lambda: SGD(1, clipnorm=0.125),
    "Adam": lambda: Adam(0.1),
    "Adam, betas": lambda: Adam(0.1, beta_1=0.5, beta_2=0.7, epsilon=0.01),
    "Adam, no betas": lambda: Adam(0.1, beta_1=0, beta_2=0),
    "amsgrad": lambda: Adam(0.1, beta_2=0.5, amsgrad=True),
    "Adam, weight_decay": lambda: Adam(0.1, weight_decay=0.25),
    "Adam, clipnorm": lambda: Adam(0.1, epsilon=0.1, clipnorm=0.5),
    "Adam, clipvalue": lambda: Adam(0.1, epsilon=0.1, clipvalue=0.25),
    "Adam, global_clipnorm": lambda: Adam(0.1, epsilon=0.1, global_clipnorm=0.5),
    "Adam, schedule": lambda: Adam(lambda step: gt.constant(0.1) * 0.9 ** gt.cast(step, "float32")),
    "Adam, NumPy's numbers": lambda: Adam(np.float32(0.1), np.float64(0.9), epsilon=np.float64(1e-3)),
}
every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
every_plan = pytest.mark.parametrize("native", [False, True], ids=["NumPy", "LLVM"])


class Counted:
    """A function that counts how often Python runs it."""

    def __init__(self, f):
        self.f = f
        self.runs = 0

    def __call__(self, *args):
        self.runs += 1
        return self.f(*args)


def compiled(f, native=None):
    """The function, compiled, and what counts its runs."""
    if native:
        pytest.importorskip("llvmlite")
    counted = Counted(f)
    return gt.function(counted, jit_compile=native), counted


def states(optimizer, *variables):
    """All that a step changes."""
    kept = [part for v in variables for part in optimizer._states.get(v, ())]
    return [x.numpy() for x in (*variables, *kept, optimizer.iterations)]


def assert_same(got, want, rtol=1e-6):
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol / 10)


def regression(make, dtype="float32"):
    """The step of a little model, made anew, as a function of data, and all that the step changes."""
    w = gt.Variable(np.linspace(-1, 1, 6).reshape(3, 2).astype(dtype))
    b = gt.Variable(np.zeros(2, dtype))
    scale = gt.Variable(np.ones((), dtype))
    optimizer = make()

    def step(x, y):
        with gt.GradientTape() as tape:
            loss = gt.reduce_mean(gt.abs((x @ w + b) * scale - y) ** 2.0)
        gradients = tape.gradient(loss, [w, b, scale])
        optimizer.apply_gradients(zip(gradients, [w, b, scale], strict=True))
        return loss

    return step, lambda: states(optimizer, w, b, scale), optimizer


def data(rng, dtype="float32", steps=STEPS):
    """An x and a y for each step."""
    shapes = (4, 3), (4, 2)
    return [[gt.constant(rng.normal(size=s).astype(dtype)) for s in shapes] for _ in range(steps)]


# -- dense gradients -----------------------------------------------------------------------------------------


@every_plan
@every_optimizer
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_are_the_eager_ones(make, dtype, native, rng):
    eagerly, want, _ = regression(make, dtype)
    step, got, _ = regression(make, dtype)
    step, counted = compiled(step, native)
    start = got()[0]
    for x, y in data(rng, dtype):
        losses = [f(x, y).numpy() for f in (eagerly, step)]
        np.testing.assert_allclose(*losses, rtol=1e-5)
        assert_same(got(), want(), 1e-5 if dtype == "float32" else 1e-12)
    assert counted.runs == 1
    assert not np.allclose(got()[0], start)


@every_plan
@pytest.mark.parametrize("name", ["SGD", "momentum", "nesterov", "SGD, weight_decay", "SGD, global_clipnorm"])
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_variables(name, dtype, native, rng):
    eagerly, want, _ = regression(OPTIMIZERS[name], dtype)
    step, got, _ = regression(OPTIMIZERS[name], dtype)
    step, counted = compiled(step, native)
    for x, y in data(rng):
        x, y = (gt.cast(a, dtype) * (1 + 0.5j) for a in (x, y))
        eagerly(x, y)
        step(x, y)
        assert_same(got(), want(), 1e-5 if dtype == "complex64" else 1e-12)
    assert counted.runs == 1


@every_optimizer
def test_eager_and_compiled_steps_go_on_from_each_other(make, rng):
    eagerly, want, _ = regression(make)
    step, got, _ = regression(make)
    function, counted = compiled(step)
    for i, (x, y) in enumerate(data(rng, steps=8)):
        eagerly(x, y)
        (step if i % 4 in (0, 3) else function)(x, y)
        assert_same(got(), want(), 1e-5)
    assert counted.runs == 1


@pytest.mark.parametrize("name", ["momentum", "amsgrad"])
def test_what_someone_holds_does_not_change_under_a_step(name, rng):
    step, got, _ = regression(OPTIMIZERS[name])
    function, _ = compiled(step)
    for x, y in data(rng, steps=4):
        for run in (function, step):
            held = got()
            before = copy.deepcopy(held)
            run(x, y)
            for a, b in zip(held, before, strict=True):
                np.testing.assert_array_equal(a, b)


@every_plan
def test_gradients_that_are_no_tensors(native):
    def made():
        v, w, optimizer = gt.Variable([1.0, 2.0]), gt.Variable(1.0), Adam(0.1)
        fixed = np.array([0.5, -1.0], "float32")

        def step(x):
            optimizer.apply_gradients([(fixed, v), (0.5, w), ([1.0, 0.25], v), (x, w), (w, w)])

        return step, lambda: states(optimizer, v, w)

    (eagerly, want), (step, got) = made(), made()
    step, counted = compiled(step, native)
    for x in (1.0, -2.0, 0.5):
        eagerly(gt.constant(x))
        step(gt.constant(x))
        assert_same(got(), want())
    assert counted.runs == 1


def test_variables_without_a_gradient_are_warned_of_once():
    v, w, optimizer = gt.Variable(1.0, name="v"), gt.Variable(1.0), SGD(0.5)

    @gt.function
    def step(x):
        optimizer.apply_gradients([(None, v), (x, w)])

    with pytest.warns(UserWarning, match="'v:0'") as caught:
        step(gt.constant(1.0))
    assert caught[0].filename == __file__
    step(gt.constant(1.0))
    assert (float(v), float(w)) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("gradient", "error"),
    [([1.0], ShapeError), (np.ones(2), DTypeError), (gt.ones((2, 1)), ShapeError), (None, ValueError)],
)
def test_a_gradient_that_does_not_fit_changes_nothing(gradient, error):
    first, v, optimizer = gt.Variable([5.0]), gt.Variable([1.0, 2.0]), Adam()

    @gt.function
    def step(x):
        optimizer.apply_gradients([(None if gradient is None else x, first), (gradient, v)])

    for _ in range(2):
        with pytest.raises(error):
            step(gt.constant([1.0]))
    assert (first.numpy().tolist(), v.numpy().tolist(), int(optimizer.iterations)) == ([5.0], [1.0, 2.0], 0)


# -- the learning rate ---------------------------------------------------------------------------------------


@every_plan
@pytest.mark.parametrize("make", [SGD, Adam])
def test_a_rate_set_between_calls_takes_effect(make, native, rng):
    eagerly, want, other = regression(make)
    step, got, optimizer = regression(make)
    step, counted = compiled(step, native)
    for rate, (x, y) in zip([0.1, 0.01, 0.0, np.float32(0.2), gt.constant(0.3)], data(rng), strict=True):
        optimizer.learning_rate = other.learning_rate = rate
        assert optimizer.learning_rate == float(rate)
        eagerly(x, y)
        step(x, y)
        assert_same(got(), want(), 1e-5)
    assert counted.runs == 1


def test_a_rate_that_the_function_sets_and_reads():
    v, optimizer = gt.Variable(0.0), SGD(1.0)

    @gt.function
    def step(x):
        optimizer.apply_gradients([(x, v)])
        rate = optimizer.learning_rate
        optimizer.learning_rate = rate * 0.5
        return rate

    assert [float(step(gt.constant(-1.0))) for _ in range(4)] == [1.0, 0.5, 0.25, 0.125]
    assert (float(v), optimizer.learning_rate) == (1.875, 0.0625)


@every_plan
def test_a_schedule_by_branching_is_a_path_for_each_branch(native):
    asked = []

    def schedule(step):
        asked.append(step)
        return 0.5 if step < 3 else 0.25

    v, optimizer = gt.Variable(0.0), SGD(schedule)
    step, counted = compiled(lambda x: optimizer.apply_gradients([(x, v)]), native)
    values = []
    for _ in range(6):
        step(gt.constant(-1.0))
        values.append(float(v))
    assert values == [0.5, 1.0, 1.5, 1.75, 2.0, 2.25]
    assert counted.runs == 2
    assert [x.dtype for x in asked] == ["int64"] * 2
    assert optimizer.learning_rate == 0.25
    assert asked[-1] == 6
    assert type(asked[-1]) is int


@pytest.mark.parametrize(
    ("before", "after"),
    [(0.1, lambda step: 0.2), (lambda step: 0.2, 0.1), (lambda step: 0.2, lambda step: 0.3)],
)
def test_what_a_compiled_function_would_not_heed_is_refused(before, after):
    v, optimizer = gt.Variable(0.0), SGD(before)
    optimizer.learning_rate = after
    optimizer.learning_rate = before
    rate = optimizer.learning_rate
    gt.function(lambda x: optimizer.apply_gradients([(x, v)]))(gt.constant(1.0))
    with pytest.raises(FunctionError, match="make a new optimizer"):
        optimizer.learning_rate = after
    assert optimizer.learning_rate == rate


# -- slices --------------------------------------------------------------------------------------------------

LOOKUPS = [[1, 1, 2], [0, 5, 1], [2, 2, 2], [3, 4, 5], [0, 0, 1]]


def lookups(make, dtype="float64"):
    """The step of a table that is looked up twice, and a weight, made anew, and all that the step changes."""
    table = gt.Variable(np.linspace(-1, 1, 12).reshape(6, 2).astype(dtype))
    weight = gt.Variable(np.array([1.0, 2.0], dtype))
    optimizer = make()

    def step(ids, others):
        with gt.GradientTape() as tape:
            rows = gt.nn.embedding_lookup(table, ids) * weight + gt.nn.embedding_lookup(table, others)
            loss = gt.reduce_sum((rows - 0.5) ** 2.0)
        gradients = tape.gradient(loss, [table, weight])
        assert isinstance(gradients[0], gt.IndexedSlices)
        optimizer.apply_gradients(zip(gradients, [table, weight], strict=True))

    return step, lambda: states(optimizer, table, weight)


@every_plan
@every_optimizer
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_slices_change_their_rows_as_eagerly(make, dtype, native):
    eagerly, want = lookups(make, dtype)
    step, got = lookups(make, dtype)
    step, counted = compiled(step, native)
    for ids, others in zip(LOOKUPS, LOOKUPS[1:] + LOOKUPS[:1], strict=True):
        eagerly(gt.constant(ids), gt.constant(others))
        step(gt.constant(ids), gt.constant(others))
        assert_same(got(), want(), 1e-5 if dtype == "float32" else 1e-12)
    assert counted.runs == 1


@every_optimizer
def test_rows_that_are_not_looked_up_stay_and_so_does_their_state(make):
    table, optimizer = gt.Variable(np.ones((4, 2))), make()

    @gt.function
    def step(values, indices):
        optimizer.apply_gradients([(gt.IndexedSlices(values, indices, (4, 2)), table)])

    for row in (1, 2, 1):
        step(gt.constant([[1.0, -2.0]], dtype="float64"), gt.constant([row]))
    *kept, _ = states(optimizer, table)
    for part, start in zip(kept, [1.0, 0.0, 0.0, 0.0], strict=False):
        np.testing.assert_array_equal(part[[0, 3]], start)
        assert (part[[1, 2]] != start).any(axis=1).all()


def test_slices_do_not_change_what_someone_holds():
    step, got = lookups(OPTIMIZERS["amsgrad"])
    function, _ = compiled(step)
    for ids in LOOKUPS[:3]:
        for run in (function, step):
            held = got()
            before = copy.deepcopy(held)
            run(gt.constant(ids), gt.constant(ids))
            for a, b in zip(held, before, strict=True):
                np.testing.assert_array_equal(a, b)


# -- functions of many kinds ---------------------------------------------------------------------------------


def test_two_optimizers():
    def made():
        v, w = gt.Variable([1.0, 2.0]), gt.Variable([3.0, 4.0])
        first, second = Adam(0.1), SGD(lambda step: 0.1 / (step + 1), momentum=0.9)

        def step(x):
            with gt.GradientTape() as tape:
                loss = gt.reduce_sum((v * w - x) ** 2.0)
            by_v, by_w = tape.gradient(loss, [v, w])
            first.apply_gradients([(by_v, v)])
            second.apply_gradients([(by_w, w), (by_v, v)])
            return loss

        return step, lambda: [*states(first, v), *states(second, v, w)]

    (eagerly, want), (step, got) = made(), made()
    step, counted = compiled(step)
    for x in (1.0, 2.0, -3.0, 4.0, 0.0):
        np.testing.assert_allclose(step(gt.constant(x)).numpy(), eagerly(gt.constant(x)).numpy(), rtol=1e-5)
        assert_same(got(), want(), 1e-5)
    assert counted.runs == 1


class Line(gt.Module):
    """A model that makes its variables, and its optimizer, when it is first called."""

    def __init__(self):
        super().__init__()
        self.slope = None
        self.optimizer = None
        self.runs = 0

    def learned(self, x, y):
        self.runs += 1
        if self.slope is None:
            self.slope = gt.Variable(1.0)
            self.optimizer = Adam(0.1)
        with gt.GradientTape() as tape:
            loss = gt.reduce_mean((self.slope * x - y) ** 2.0)
        self.optimizer.apply_gradients([(tape.gradient(loss, self.slope), self.slope)])
        return loss

    step = gt.function(learned)


def test_a_method_of_a_module_that_makes_all_it_needs():
    eager, models = Line(), [Line(), Line()]
    x = gt.constant([1.0, 2.0, 3.0])
    for _ in range(5):
        want = float(eager.learned(x, x * 3.0))
        for model in models:
            assert float(model.step(x, x * 3.0)) == pytest.approx(want, rel=1e-5)
    for model in models:
        assert_same(states(model.optimizer, model.slope), states(eager.optimizer, eager.slope), 1e-5)
        assert model.runs == 2


def test_steps_in_a_branch_that_comes_up_late():
    v, optimizer = gt.Variable([1.0, 1.0]), Adam(0.5)

    @gt.function
    def step(x):
        if gt.reduce_sum(x) > 0:
            optimizer.apply_gradients([(x, v)])
        return gt.reduce_sum(v)

    assert float(step(gt.constant([-1.0, 0.0]))) == 2.0
    for _ in range(3):
        step(gt.constant([1.0, 1.0]))
    w, eager = gt.Variable([1.0, 1.0]), Adam(0.5)
    for _ in range(3):
        eager.apply_gradients([(gt.constant([1.0, 1.0]), w)])
    assert_same(states(optimizer, v), states(eager, w))
    assert float(step(gt.constant([-1.0, 0.0]))) == pytest.approx(float(gt.reduce_sum(w)))


@every_plan
def test_several_steps_in_one_call(native, rng):
    eagerly, want, _ = regression(OPTIMIZERS["amsgrad"])
    step, got, _ = regression(OPTIMIZERS["amsgrad"])

    def thrice(x, y):
        for _ in range(3):
            step(x, y)

    function, counted = compiled(thrice, native)
    for x, y in data(rng, steps=3):
        for _ in range(3):
            eagerly(x, y)
        function(x, y)
        assert_same(got(), want(), 1e-5)
    assert counted.runs == 1


def test_a_step_within_the_tapes_block_and_a_tape_outside():
    v, optimizer = gt.Variable([1.0, 2.0]), Adam(0.5)

    @gt.function
    def step(x):
        with gt.GradientTape(persistent=True) as tape:
            loss = gt.reduce_sum(v * v * x)
            optimizer.apply_gradients([(tape.gradient(loss, v), v)])
        return loss, tape.gradient(loss, v)

    for _ in range(3):
        before, x = v.numpy(), gt.constant([1.0, 3.0])
        with gt.GradientTape() as outer:
            outer.watch(x)
            loss, g = step(x)
        np.testing.assert_allclose(g.numpy(), 2 * before * x.numpy(), rtol=1e-6)
        by_x, by_v = outer.gradient(loss, [x, v])
        np.testing.assert_allclose(by_x.numpy(), before**2, rtol=1e-6)
        np.testing.assert_allclose(by_v.numpy(), 2 * before * x.numpy(), rtol=1e-6)
        assert not np.allclose(v.numpy(), before)


def test_a_tape_outside_follows_what_is_read_after_the_step():
    v, optimizer = gt.Variable([1.0, 2.0]), SGD(0.5)

    def step(x):
        optimizer.apply_gradients([(x, v)])
        return gt.reduce_sum(v * v * x)

    function, counted = compiled(step)
    for x in ([1.0, 0.0], [1.0, 1.0], [-1.0, 2.0]):
        with gt.GradientTape() as outer:
            y = function(gt.constant(x))
        np.testing.assert_allclose(outer.gradient(y, v).numpy(), 2 * v.numpy() * x)
    assert counted.runs == 1


def test_a_tape_inside_hears_nothing_of_how_a_step_is_made():
    v, w, optimizer = gt.Variable(1.0), gt.Variable(1.0), Adam(0.5)
    watched = []

    @gt.function
    def step(x):
        with gt.GradientTape() as tape:
            y = v * x
            optimizer.apply_gradients([(x, v), (x, w)])
        watched.extend(tape.watched_variables())
        return y

    step(gt.constant(1.0))
    assert len(watched) == 1
    assert watched[0] is v


@pytest.mark.parametrize("copied", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy])
def test_a_copy_goes_on_by_itself(copied):
    v, optimizer = gt.Variable([1.0, 2.0]), Adam(0.1)
    gradient = gt.constant([0.5, -0.25])
    function = gt.function(lambda g: optimizer.apply_gradients([(g, v)]))
    for _ in range(3):
        function(gradient)
    again, w = copied((optimizer, v))
    other = gt.function(lambda g: again.apply_gradients([(g, w)]))
    middle = states(optimizer, v)
    for _ in range(3):
        other(gradient)
    assert_same(states(optimizer, v), middle)
    for _ in range(3):
        function(gradient)
    assert_same(states(again, w), states(optimizer, v))


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_a_valley_is_walked_down(name):
    optimizer = {"SGD": SGD(0.05, momentum=0.9), "Adam": Adam(0.1)}[name]
    x = gt.Variable([-1.0, 2.0], dtype="float64")

    @gt.function
    def step():
        with gt.GradientTape() as tape:
            loss = (1.0 - x[0]) ** 2 + 3.0 * (x[1] - x[0]) ** 2
        optimizer.apply_gradients([(tape.gradient(loss, x), x)])

    for _ in range(300):
        step()
    np.testing.assert_allclose(x.numpy(), [1.0, 1.0], atol=1e-2)


@pytest.mark.parametrize("native", [False, None])
def test_a_compiled_step_keeps_one_new_array_for_each_weight(native):
    """New weights take the memory of their gradients: besides them there are activations only."""
    rng = np.random.default_rng(0)
    weights = [gt.Variable(rng.normal(size=(1000, 1000)).astype("f4") / 30) for _ in range(3)]
    optimizer = gt.optimizers.SGD(0.01)

    @functools.partial(gt.function, jit_compile=native)
    def step(x):
        with gt.GradientTape() as tape:
            y = x
            for w in weights:
                y = gt.tanh(y @ w)
            loss = gt.reduce_sum(y * y)
        gradients = tape.gradient(loss, weights)
        optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return loss, gradients[0]

    x = gt.constant(rng.normal(size=(8, 1000)).astype("f4"))
    twins = [gt.Variable(w.numpy()) for w in weights]
    first = step(x)
    for w, twin in zip(weights, twins, strict=True):
        w.assign(twin.numpy())
    tracemalloc.start()
    try:
        second = step(x)
        most = tracemalloc.get_traced_memory()[1] / weights[0].numpy().nbytes
    finally:
        tracemalloc.stop()
    assert 3.9 < most < 4.6  # three weights, the gradient that is returned, and no other gradient
    np.testing.assert_allclose(first[1], second[1], rtol=1e-5, atol=1e-6)
    for w, twin in zip(weights, twins, strict=True):
        assert not np.array_equal(w.numpy(), twin.numpy())
    np.testing.assert_allclose(weights[0].numpy(), twins[0].numpy() - 0.01 * second[1].numpy(), rtol=1e-5)


@pytest.mark.parametrize("native", [False, None])
def test_what_is_recomputed_in_a_compiled_step_is_not_kept(native):
    rng = np.random.default_rng(0)
    weights = [gt.Variable(rng.normal(size=(16, 16)) / 4) for _ in range(16)]
    x = gt.constant(rng.normal(size=(8192, 16)))

    def block(ws):
        def run(y):
            for w in ws:
                y = gt.tanh(y @ w)
            return y

        return run

    def most(around):
        blocks = [around(block(weights[i : i + 4])) for i in range(0, 16, 4)]

        @functools.partial(gt.function, jit_compile=native)
        def gradients(x):
            with gt.GradientTape() as tape:
                y = x
                for run in blocks:
                    y = run(y)
                loss = gt.reduce_sum(y * y)
            return tape.gradient(loss, weights)

        gradients(x)
        tracemalloc.start()
        try:
            found = gradients(x)
            return tracemalloc.get_traced_memory()[1] / x.numpy().nbytes, found
        finally:
            tracemalloc.stop()

    kept, one = most(lambda f: f)
    again, other = most(gt.recompute_grad)
    assert kept < 19  # a result of each layer, and what the sweep is at
    assert again < 10  # a result of each block, and the inside of one
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
