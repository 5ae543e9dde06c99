"""SGD and Adam against numbers that Keras 3.15 gave, and what an optimizer keeps, warns of and refuses."""

import copy
import inspect
import pickle
import warnings

import numpy as np
import pytest

import gradtape as gt
from gradtape.errors import DTypeError, NotATensorError, ShapeError, StructureError
from gradtape.optimizers import SGD, Adam, Optimizer

START = [1.0, -2.0, 0.5]
GRADIENTS = [[0.3, -0.7, 0.0], [-1.2, 0.4, 2.0], [0.05, -0.6, -3.0], [0.8, 0.8, 0.01], [0.0, 0.0, 0.0]]

# What Keras made of a float64 variable that starts at START, after two and after all five of the GRADIENTS.
KERAS = [
    (SGD(), [1.009, -1.997, 0.48], [1.0005, -1.999, 0.5099]),
    (SGD(0.1), [1.09, -1.97, 0.3], [1.005, -1.99, 0.599]),
    (SGD(0.1, nesterov=True), [1.09, -1.97, 0.3], [1.005, -1.99, 0.599]),
    (SGD(0.1, momentum=0.9), [1.0630000007, -1.9070000017, 0.3], [1.1242769931, -1.8403030107, 0.6233000049]),
    (
        SGD(0.1, momentum=0.9, nesterov=True),
        [1.1466999991, -1.8863000037, 0.1200000048],
        [1.1168492908, -1.8462727134, 0.7099700015],
    ),
    (SGD(0.1, weight_decay=0.5), [0.994, -1.7785, 0.25125], [0.77171825, -1.5466914375, 0.48521546875]),
    (
        SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.5),
        [1.0520499991, -1.6979500036, 0.0712500048],
        [0.8701448851, -1.4243523686, 0.6065129695],
    ),
    (Adam(), [0.9995595156, -1.9987876461, 0.4992558693], [0.9998990803, -1.9983359614, 0.4997869400]),
    (Adam(0.1), [0.9559515554, -1.8787646109, 0.4255869309], [0.9899080252, -1.8335961353, 0.4786939996]),
    (
        Adam(0.1, beta_1=0.5, beta_2=0.7, epsilon=0.01),
        [0.9790905605, -1.9085161164, 0.4138636139],
        [0.9533120987, -1.9163772369, 0.5094521975],
    ),
    (
        Adam(0.1, beta_2=0.5, amsgrad=True),
        [0.9491940104, -1.8788202546, 0.4355397628],
        [0.9754212235, -1.8317020994, 0.4759164825],
    ),
    (
        Adam(0.1, weight_decay=0.5),
        [0.8634514693, -1.6887645549, 0.3768369309],
        [0.7704773994, -1.4075733904, 0.3732615352],
    ),
    (
        Adam(0.1, amsgrad=True, weight_decay=0.5),
        [0.8634514693, -1.6887645549, 0.3768369309],
        [0.7704789288, -1.4075719800, 0.3732388693],
    ),
]


def called(optimizer):
    """How the optimizer was made, for a test's name."""
    defaults = inspect.signature(type(optimizer)).parameters
    given = [
        f"{k}={getattr(optimizer, k)}" for k, p in defaults.items() if getattr(optimizer, k) != p.default
    ]
    return f"{type(optimizer).__name__}({', '.join(given)})"


def values_of(optimizer, steps, dtype="float64"):
    """The variable after each step."""
    v = gt.Variable(START, dtype=dtype)
    values = []
    for g in steps:
        optimizer.apply_gradients([(gt.constant(g, dtype=dtype), v)])
        assert v.dtype == dtype
        values.append(v.numpy())
    return values


def step(optimizer, *pairs):
    optimizer.apply_gradients(pairs)


@pytest.mark.parametrize(
    ("optimizer", "second", "fifth"), KERAS, ids=[called(optimizer) for optimizer, *_ in KERAS]
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_steps_are_those_of_keras(optimizer, second, fifth, dtype):
    values = values_of(copy.deepcopy(optimizer), GRADIENTS, dtype)
    np.testing.assert_allclose(values[1], second, rtol=3e-6)  # Keras rounds 0.999 and the like to float32
    np.testing.assert_allclose(values[4], fifth, rtol=3e-6)


@pytest.mark.parametrize(
    ("optimizer", "fifth"),
    [
        (SGD(0.125, momentum=0.875), [1.1464508056640623, -1.8140167236328126, 0.66025390625]),
        (
            SGD(0.125, momentum=0.875, nesterov=True, weight_decay=0.5),
            [0.8278008699417112, -1.3182493448257446, 0.6392860221862793],
        ),
        (
            Adam(0.125, beta_1=0.875, beta_2=0.96875, epsilon=2**-10),
            [0.9869405976415114, -1.7993514007687468, 0.47632637440582715],
        ),
        (
            Adam(0.125, beta_1=0.875, beta_2=0.5, epsilon=2**-10, amsgrad=True, weight_decay=0.5),
            [0.7054909048324806, -1.2842988024635145, 0.3441952129401011],
        ),
    ],
    ids=["momentum", "nesterov", "Adam", "amsgrad"],
)
def test_steps_are_those_of_keras_to_the_last_digits_where_float32_holds_the_arguments(optimizer, fifth):
    np.testing.assert_allclose(values_of(optimizer, GRADIENTS)[-1], fifth, rtol=1e-14)


def test_arguments_and_defaults_are_those_of_keras():
    def arguments(f):
        return {name: p.default for name, p in inspect.signature(f).parameters.items()}

    shared = dict.fromkeys(["weight_decay", "clipnorm", "clipvalue", "global_clipnorm"])
    sgd = {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False, **shared, "name": "SGD"}
    assert list(arguments(SGD).items()) == list(sgd.items())
    adam = {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "amsgrad": False}
    assert list(arguments(Adam).items())[:5] == list(adam.items())
    assert list(arguments(Adam).items()) == list({**adam, **shared, "name": "Adam"}.items())


@pytest.mark.parametrize(
    ("clip", "v_after", "w_after"),  # Keras 3's numbers
    [
        ({"clipnorm": 1.0}, [0.3999999761581421, 1.2000000476837158], [2.75]),
        ({"clipvalue": 0.5}, [0.5, 1.5], [2.75]),
        ({"global_clipnorm": 1.0}, [0.400748610496521, 1.200998067855835], [2.9500622749328613]),
    ],
)
def test_gradients_are_clipped_as_in_keras(clip, v_after, w_after):
    v, w = gt.Variable([1.0, 2.0]), gt.Variable([3.0])
    step(SGD(1.0, **clip), ([3.0, 4.0], v), ([0.25], w))
    np.testing.assert_allclose(v.numpy(), v_after, rtol=2e-7)
    np.testing.assert_allclose(w.numpy(), w_after, rtol=2e-7)


def test_two_ways_of_clipping_are_an_error():
    with pytest.raises(ValueError, match="one of clipnorm, clipvalue and global_clipnorm"):
        SGD(1.0, clipnorm=1.0, clipvalue=1.0)


def test_amsgrad_remembers_the_greatest_second_moment():
    gradients = [[10.0, 0.0, 0.0], *[[0.1, 0.0, 0.0]] * 4]
    plain, ams = (values_of(Adam(0.1, beta_2=0.5, amsgrad=a), gradients)[-1][0] for a in (False, True))
    assert plain < ams < 1.0


def test_weight_decay_multiplies_before_the_step():
    v = gt.Variable([4.0])
    step(SGD(0.5, weight_decay=0.5), ([0.0], v))
    assert v.numpy() == [3.0]


# -- the learning rate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [SGD, Adam])
def test_a_schedule_is_asked_for_each_step_with_the_count_of_steps_made(make):
    asked = []

    def schedule(i):
        asked.append(i)
        return 0.1 / (i + 1)

    scheduled = make(schedule)
    by_hand = make()
    v, w = gt.Variable(START), gt.Variable(START)
    for i, g in enumerate(GRADIENTS):
        step(scheduled, (g, v))
        by_hand.learning_rate = 0.1 / (i + 1)
        step(by_hand, (g, w))
        np.testing.assert_array_equal(v.numpy(), w.numpy())
    assert asked == [0, 1, 2, 3, 4]
    assert all(type(i) is int for i in asked)


def test_the_learning_rate_can_be_changed_between_steps():
    v, optimizer = gt.Variable(1.0), SGD(0.5)
    step(optimizer, (1.0, v))
    optimizer.learning_rate = 0.25
    assert optimizer.learning_rate == 0.25
    step(optimizer, (1.0, v))
    assert float(v) == 0.25
    optimizer.learning_rate = lambda i: i * 0.125
    assert optimizer.learning_rate == 0.25
    step(optimizer, (1.0, v))
    assert float(v) == 0.0


def test_a_schedule_may_return_a_tensor():
    v = gt.Variable(1.0)
    step(SGD(lambda i: gt.constant(0.5)), (1.0, v))
    assert float(v) == 0.5


def test_a_rate_may_be_a_tensor_of_one_element():
    v, rate = gt.Variable(1.0), gt.Variable([0.5])
    optimizer = SGD(rate)
    rate.assign([0.25])
    assert optimizer.learning_rate == 0.5
    step(optimizer, (1.0, v))
    assert float(v) == 0.5


@pytest.mark.parametrize(
    ("rate", "error"), [("fast", TypeError), (None, TypeError), (gt.ones(2), ShapeError)]
)
def test_what_is_no_rate_is_refused(rate, error):
    optimizer = SGD(0.5)
    with pytest.raises(error):
        optimizer.learning_rate = rate
    assert optimizer.learning_rate == 0.5
    with pytest.raises(error):
        SGD(rate)


# -- state ---------------------------------------------------------------------------------------------------


def test_iterations_count_steps_and_nothing_else_watches_them():
    optimizer, v = Adam(), gt.Variable(1.0)
    assert (int(optimizer.iterations), optimizer.iterations.dtype) == (0, np.dtype("int64"))
    with gt.GradientTape() as tape:
        step(optimizer, (1.0, v), (1.0, gt.Variable(2.0)))
        step(optimizer, (1.0, v))
    assert int(optimizer.iterations) == 2
    assert not optimizer.iterations.trainable
    assert [w.name for w in tape.watched_variables() if w is optimizer.iterations] == []


@pytest.mark.parametrize("make", [lambda: SGD(0.1, momentum=0.9), lambda: Adam(0.1)], ids=["SGD", "Adam"])
def test_each_variable_has_a_state_of_its_own(make):
    alone = values_of(make(), GRADIENTS)[-1]
    optimizer = make()
    v = gt.Variable(START, dtype="float64")
    others = [gt.Variable(np.ones((2, 2), "float32")), gt.Variable(3.0)]
    for g in GRADIENTS:
        step(optimizer, (np.full((2, 2), 7.0, "float32"), others[0]), (np.array(g), v), (1.0, others[1]))
    np.testing.assert_array_equal(v.numpy(), alone)


def test_equal_variables_are_not_taken_for_one():
    optimizer = SGD(1.0, momentum=0.5)
    v, w = gt.Variable(1.0), gt.Variable(1.0)
    for _ in range(2):
        step(optimizer, (1.0, v))
    step(optimizer, (1.0, w))
    assert (float(v), float(w)) == (-1.5, 0.0)


@pytest.mark.parametrize("make", [lambda: SGD(0.1, momentum=0.9), lambda: Adam(0.1, amsgrad=True)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_state_is_of_variables_that_nobody_trains_and_keeps_what_was_read_of_it(make, dtype):
    optimizer, v = make(), gt.Variable(START, name="v", dtype=dtype)
    step(optimizer, (np.array(GRADIENTS[0], dtype), v))
    for kept in optimizer._states[v]:
        held = kept.numpy()
        before = held.copy()
        for _ in range(2):
            step(optimizer, (np.array(GRADIENTS[1], dtype), v))
        np.testing.assert_array_equal(held, before)
        assert not np.array_equal(kept.numpy(), before)
        assert (kept.trainable, kept.dtype, kept.shape) == (False, v.dtype, v.shape)
        assert kept.name.startswith("v/")


def test_a_variable_given_twice_is_changed_twice():
    v = gt.Variable(1.0)
    step(SGD(0.25), (1.0, v), (1.0, v))
    assert float(v) == 0.5


@pytest.mark.parametrize(
    "make",
    [lambda: SGD(0.1), lambda: SGD(0.1, momentum=0.9, nesterov=True), lambda: Adam(0.1, amsgrad=True)],
    ids=["SGD", "momentum", "amsgrad"],
)
def test_neither_the_gradient_nor_what_a_tape_holds_is_written_to(make):
    optimizer, v = make(), gt.Variable([1.0, 2.0])
    with gt.GradientTape() as tape:
        y = v * v
    before, g = v.numpy(), gt.constant([0.5, 0.25])
    for _ in range(2):
        step(optimizer, (g, v))
    assert before.tolist() == [1.0, 2.0]
    assert g.numpy().tolist() == [0.5, 0.25]
    assert tape.gradient(y, v).numpy().tolist() == [2.0, 4.0]


@pytest.mark.parametrize("copied", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy])
@pytest.mark.parametrize(
    "make",
    [
        lambda: SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda: Adam(0.1, amsgrad=True),
    ],
    ids=["SGD", "Adam"],
)
def test_a_copy_goes_on_where_the_original_stood(make, copied):
    optimizer, v = make(), gt.Variable(START, name="v")
    for g in GRADIENTS[:3]:
        step(optimizer, (g, v))
    again, w = copied((optimizer, v))
    assert w is not v
    assert int(again.iterations) == 3
    middle = v.numpy()
    for g in GRADIENTS[3:]:
        step(again, (g, w))
    np.testing.assert_array_equal(v.numpy(), middle)
    for g in GRADIENTS[3:]:
        step(optimizer, (g, v))
    np.testing.assert_array_equal(w.numpy(), v.numpy())
    assert not np.array_equal(v.numpy(), middle)


# -- what it takes and what it refuses -----------------------------------------------------------------------


@pytest.mark.parametrize("make", [SGD, lambda: SGD(momentum=0.5), Adam], ids=["SGD", "momentum", "Adam"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,)])
def test_every_real_dtype_and_shape(make, dtype, shape):
    v = gt.Variable(np.ones(shape, dtype))
    optimizer = make()
    optimizer.learning_rate = 0.25
    step(optimizer, (gt.ones(shape, dtype), v))
    assert (v.dtype, v.shape) == (np.dtype(dtype), shape)
    np.testing.assert_allclose(v.numpy(), np.full(shape, 0.75), rtol=2e-3)
    assert "numpy=" in repr(v)


def test_sgd_goes_down_a_complex_slope():
    v = gt.Variable(np.array([1 + 1j, -2j]))
    optimizer = SGD(0.25)
    for _ in range(40):
        with gt.GradientTape() as tape:
            loss = gt.reduce_sum(gt.math.real(v * gt.math.conj(v)))
        step(optimizer, (tape.gradient(loss, v), v))
    np.testing.assert_allclose(v.numpy(), 0, atol=1e-6)


def test_adam_refuses_complex_variables():
    v = gt.Variable(1j)
    with pytest.raises(DTypeError, match=r"complex128.*Adam"):
        step(Adam(), (gt.constant(1j), v))
    assert complex(v.numpy()) == 1j


@pytest.mark.parametrize("gradient", [[1.0, 2.0], (1.0, 2.0), np.array([1, 2], "f"), gt.constant([1.0, 2.0])])
def test_gradients_of_every_kind(gradient):
    v = gt.Variable([1.0, 2.0])
    step(SGD(0.5), (gradient, v))
    assert v.numpy().tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("gradient", "error", "words"),
    [
        ([1.0], ShapeError, [r"v:0", r"\(2,\)", r"\(1,\)"]),
        (gt.ones((2, 1)), ShapeError, [r"v:0", r"\(2,\)", r"\(2, 1\)"]),
        (np.ones(2), DTypeError, [r"v:0", "float32", "float64", "cast"]),
        (gt.constant([1, 2]), DTypeError, [r"v:0", "float32", "int32", "cast"]),
    ],
)
@pytest.mark.parametrize("make", [SGD, Adam])
def test_a_gradient_that_does_not_fit_is_named_and_nothing_is_changed(make, gradient, error, words):
    first, v, optimizer = gt.Variable([5.0]), gt.Variable([1.0, 2.0], name="v"), make()
    with pytest.raises(error) as caught:
        step(optimizer, ([1.0], first), (gradient, v))
    for word in words:
        assert caught.match(word)
    assert (first.numpy().tolist(), v.numpy().tolist(), int(optimizer.iterations)) == ([5.0], [1.0, 2.0], 0)


@pytest.mark.parametrize("what", [gt.constant([1.0]), np.array([1.0]), 1.0, None])
def test_only_variables_are_changed(what):
    v, optimizer = gt.Variable(1.0), SGD()
    with pytest.raises(NotATensorError, match=f"Variable.*{type(what).__name__}"):
        step(optimizer, (1.0, v), (1.0, what))
    assert float(v) == 1.0


def test_variables_without_a_gradient_stay_with_one_warning_that_names_them():
    a, b, c = (gt.Variable(1.0, name=name) for name in "abc")
    with pytest.warns(UserWarning, match=r"'a:0', 'c:0'") as caught:
        step(SGD(0.5), (None, a), (1.0, b), (None, c))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert [float(v) for v in (a, b, c)] == [1.0, 0.5, 1.0]


@pytest.mark.parametrize("names", ["a", "ab"])
def test_no_gradient_at_all_is_an_error(names):
    optimizer = SGD()
    pairs = [(None, gt.Variable(1.0, name=name)) for name in names]
    with pytest.raises(ValueError, match="a:0"):
        optimizer.apply_gradients(pairs)
    assert int(optimizer.iterations) == 0


def test_a_refused_step_is_taken_back_also_when_only_the_warning_is_an_error():
    a, b, optimizer = gt.Variable(1.0), gt.Variable(1.0), SGD(0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning):
            step(optimizer, (None, a), (1.0, b))
    assert (float(b), int(optimizer.iterations)) == (1.0, 0)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: SGD(momentum=-0.1), "momentum"),
        (lambda: SGD(momentum=1.1), "momentum"),
        (lambda: Adam(beta_1=1.0), "beta_1"),
        (lambda: Adam(beta_2=-0.1), "beta_2"),
    ],
)
def test_arguments_out_of_range(make, word):
    with pytest.raises(ValueError, match=word):
        make()


def test_lists_in_place_of_pairs_are_refused():
    v = gt.Variable([1.0, 2.0])
    with pytest.raises(StructureError, match=r"as from zip\(gradients, variables\), got list among them"):
        gt.optimizers.SGD(0.5).apply_gradients(([gt.ones(2)], [v]))
    with pytest.raises(StructureError, match="got Tensor among them"):
        gt.optimizers.SGD(0.5).apply_gradients((gt.ones(2), v))
    assert v.numpy().tolist() == [1.0, 2.0]


@pytest.mark.parametrize("make", [SGD, Adam])
def test_apply_gradients_takes_any_iterable_of_pairs(make):
    v, w, optimizer = gt.Variable(1.0), gt.Variable(1.0), make(0.5)
    optimizer.apply_gradients(zip([1.0, 1.0], [v, w], strict=True))
    optimizer.apply_gradients((g, x) for g, x in [(1.0, v), (1.0, w)])
    assert float(v) == float(w) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("optimizer", [SGD(0.05, momentum=0.9), Adam(0.1)], ids=["SGD", "Adam"])
def test_a_valley_is_walked_down(optimizer):
    assert isinstance(optimizer, Optimizer)
    x = gt.Variable([-1.0, 2.0], dtype="float64")
    for _ in range(300):
        with gt.GradientTape() as tape:
            loss = (1.0 - x[0]) ** 2 + 3.0 * (x[1] - x[0]) ** 2
        step(optimizer, (tape.gradient(loss, x), x))
    np.testing.assert_allclose(x.numpy(), [1.0, 1.0], atol=1e-2)
