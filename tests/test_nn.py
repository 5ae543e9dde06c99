"""Networks' parts: dropout, stability far out, TensorFlow's choices where a function is not smooth, NaN."""

import itertools
import math

import numpy as np
import pytest

import gradtape as gt
from gradtape.errors import DTypeError, OutOfRangeError, ShapeError

NAN, INF = math.nan, math.inf


def gradients(f, *xs, weights=None):
    """The gradient of f by each of its operands, as arrays, and None where there is none."""
    tensors = [gt.convert_to_tensor(x) for x in xs]
    with gt.GradientTape() as tape:
        tape.watch(tensors)
        y = f(*tensors)
    return [None if g is None else g.numpy() for g in tape.gradient(y, tensors, weights)]


def three_orders(f, x, weight=None):
    """f(x), its gradient, and the gradient of that gradient weighted, as arrays."""
    x = gt.convert_to_tensor(x)
    with gt.GradientTape() as outer:
        outer.watch(x)
        with gt.GradientTape() as inner:
            inner.watch(x)
            y = f(x)
        g = inner.gradient(y, x)
        total = g if weight is None else g * weight
    return y.numpy(), g.numpy(), outer.gradient(total, x, unconnected_gradients="zero").numpy()


# -- where a function is not smooth: numbers that TensorFlow 2.21 gave ---------------------------------------

KINKS = [-7.0, -1.0, -0.0, 0.0, 1.0, 6.0, 7.0]
SELU, SELU_LOW = 1.0507010221481323, 1.7580993175506592

ACTIVATIONS = {
    "relu": (gt.nn.relu, [0, 0, 0, 0, 1, 6, 7], [0, 0, 0, 0, 1, 1, 1]),
    "relu6": (gt.nn.relu6, [0, 0, 0, 0, 1, 6, 6], [0, 0, 0, 0, 1, 0, 0]),
    "leaky_relu": (gt.nn.leaky_relu, [-1.4, -0.2, 0, 0, 1, 6, 7], [0.2, 0.2, 0.2, 0.2, 1, 1, 1]),
    "elu": (
        gt.nn.elu,
        [-0.9990881085, -0.6321205497, 0, 0, 1, 6, 7],
        [0.0009118915, 0.3678794503, 1, 1, 1, 1, 1],
    ),
    "selu": (
        gt.nn.selu,
        [-1.7564960718, -1.1113307476, 0, 0, 1.0507010221, 6.3042058945, 7.3549070358],
        [0.0016032457, 0.6467685699, SELU, SELU, SELU, SELU, SELU],
    ),
    "gelu": (
        gt.nn.gelu,
        [-8.958679e-12, -0.1586552560, 0, 0, 0.8413447142, 6, 7],
        [-6.266324e-11, -0.0833154917, 0.5, 0.5, 1.0833154917, 1, 1],
    ),
    "silu": (
        gt.nn.silu,
        [-0.0063773584, -0.2689414322, 0, 0, 0.7310585976, 5.9851641655, 6.9936227798],
        [-0.0054604975, 0.0723294839, 0.5, 0.5, 0.9276705384, 1.0123264790, 1.0054606199],
    ),
    "abs": (gt.abs, [7, 1, 0, 0, 1, 6, 7], [-1, -1, 0, 0, 1, 1, 1]),
    "sign": (gt.sign, [-1, -1, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0]),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kinks_are_turned_as_in_tensorflow(name, dtype):
    f, value, slope = ACTIVATIONS[name]
    x = np.array(KINKS, dtype)
    np.testing.assert_allclose(f(x).numpy(), value, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(gradients(f, x)[0], slope, rtol=1e-4, atol=1e-9)
    for at, y, g in zip(x, value, slope, strict=True):
        np.testing.assert_allclose(f(at).numpy(), y, rtol=1e-4, atol=1e-9)
        np.testing.assert_allclose(gradients(f, at)[0], g, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("f", [gt.nn.relu, gt.nn.relu6, gt.nn.leaky_relu, gt.abs, gt.sign])
def test_piecewise_straight_functions_have_no_second_derivative(f):
    assert three_orders(f, KINKS)[2].tolist() == [0.0] * 7


@pytest.mark.parametrize(
    ("f", "second"),
    [
        (gt.nn.elu, [0.0009118915, 0.3678794503, 0, 0, 0, 0, 0]),
        (gt.nn.selu, [0.0016032457, 0.6467685699, 0, 0, 0, 0, 0]),
    ],
)
def test_second_derivatives_of_elu_and_selu(f, second):
    y = three_orders(f, KINKS)[2]
    np.testing.assert_allclose(y[[0, 1, 4, 5, 6]], np.array(second)[[0, 1, 4, 5, 6]], rtol=1e-5)


@pytest.mark.parametrize("f", [gt.floor, gt.round, gt.math.ceil, lambda x: gt.floordiv(x, 3.0)])
def test_rounding_has_no_derivative(f):
    assert gradients(f, [0.5, 1.5, 2.0]) == [None]


@pytest.mark.parametrize(
    ("f", "x", "y", "by_x", "by_y"),
    [
        (gt.maximum, [1.0, 2.0, 3.0], [2.0, 2.0, 2.0], [0, 1, 1], [1, 0, 0]),
        (gt.minimum, [1.0, 2.0, 3.0], [2.0, 2.0, 2.0], [1, 1, 0], [0, 0, 1]),
        (gt.maximum, 2.0, [1.0, 2.0, 3.0], 2, [0, 0, 1]),
        (gt.minimum, 2.0, [1.0, 2.0, 3.0], 2, [1, 0, 0]),
        (gt.maximum, [1.0, 2.0, 3.0], 2.0, [0, 1, 1], 1),
        (gt.maximum, [NAN, 1.0, NAN], [1.0, NAN, NAN], [0, 0, 0], [1, 1, 1]),
        (gt.minimum, [NAN, 1.0, NAN], [1.0, NAN, NAN], [0, 0, 0], [1, 1, 1]),
        (gt.math.mod, [5.0, -5.0], [3.0, 3.0], [1, 1], [-1, 2]),
        (gt.math.divide_no_nan, [1.0, 2.0], [0.0, 4.0], [0, 0.25], [0, -0.125]),
        (gt.math.multiply_no_nan, [1.0, 2.0], [0.0, 4.0], [0, 4], [1, 2]),
        (gt.math.xlogy, [0.0, 0.0, 2.0], [0.0, 2.0, 4.0], [0, 0, 1.3862943649], [0, 0, 0.5]),
        (gt.math.xdivy, [0.0, 0.0, 2.0], [0.0, 2.0, 4.0], [0, 0, 0.25], [0, 0, -0.125]),
    ],
)
def test_ties_and_zeros_of_two_operands_as_in_tensorflow(f, x, y, by_x, by_y):
    got = gradients(f, x, y)
    np.testing.assert_allclose(got[0], by_x, rtol=1e-6)
    np.testing.assert_allclose(got[1], by_y, rtol=1e-6)


@pytest.mark.parametrize(
    ("f", "x", "slope"),
    [
        (gt.reduce_max, [1.0, 2.0, 2.0, 0.0, 0.0], [0, 0.5, 0.5, 0, 0]),
        (gt.reduce_min, [1.0, 2.0, 2.0, 0.0, 0.0], [0, 0, 0, 0.5, 0.5]),
        (lambda x: gt.reduce_max(x, axis=1), [[1.0, 1.0], [2.0, 3.0]], [[0.5, 0.5], [0, 1]]),
        (lambda x: gt.reduce_min(x, axis=1), [[1.0, 1.0], [2.0, 3.0]], [[0.5, 0.5], [1, 0]]),
        (gt.reduce_max, [0.0, -0.0], [0.5, 0.5]),
        (lambda x: gt.norm(x, ord=np.inf), [3.0, -3.0, 1.0], [0.5, -0.5, 0]),
        (lambda x: gt.norm(x, ord=1), [0.0, -3.0], [0, -1]),
        (gt.norm, [0.0, 0.0], [NAN, NAN]),
        (gt.norm, [3.0, 4.0], [0.6, 0.8]),
        (lambda x: gt.norm(x, axis=1), [[0.0, 0.0], [3.0, 4.0]], [[NAN, NAN], [0.6, 0.8]]),
        (gt.sqrt, [0.0, 4.0], [INF, 0.25]),
        (gt.math.rsqrt, [0.0, 4.0], [-INF, -0.0625]),
        (gt.math.reduce_std, [1.0, 1.0], [NAN, NAN]),
        (gt.math.reduce_std, [1.0, 3.0], [-0.5, 0.5]),
        (gt.reduce_prod, [0.0, 2.0, 3.0], [6, 0, 0]),
        (gt.reduce_prod, [0.0, 0.0, 3.0], [0, 0, 0]),
        (lambda x: gt.clip_by_value(x, -1.0, 1.0), [-2.0, -1.0, 0.0, 1.0, 2.0], [0, 1, 1, 1, 0]),
        (lambda x: gt.where(x > 0, x, gt.zeros_like(x)), [-1.0, 0.0, 1.0], [0, 0, 1]),
        (lambda x: gt.clip_by_norm(x, 1.0), [0.0, 0.0], [1, 1]),
        (lambda x: gt.clip_by_norm(x, 5.0), [3.0, 4.0], [0.16, -0.12]),
        (lambda x: gt.clip_by_norm(x, 1.0), [3.0, 4.0], [0.032, -0.024]),
        (lambda x: gt.math.top_k(x, 2)[0], [1.0, 2.0, 2.0, 2.0], [0, 1, 1, 0]),
        (gt.sort, [2.0, 2.0, 1.0], [1, 1, 1]),
        (gt.nn.l2_loss, [0.0, 3.0], [0, 3]),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_ties_and_zeros_of_one_operand_as_in_tensorflow(f, x, slope):
    np.testing.assert_allclose(gradients(f, x)[0], slope, rtol=2e-5, atol=2e-6)


def test_the_bounds_of_clip_by_value_have_the_rest():
    got = gradients(gt.clip_by_value, [-2.0, -1.0, 0.0, 1.0, 2.0], [-1.0] * 5, [1.0] * 5)
    assert [g.tolist() for g in got] == [[0, 1, 1, 1, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("exponent", "by_base", "by_exponent"),
    [
        (0.0, [0, 0], [0, 0.6931471825]),  # TensorFlow: NaN by the base at 0
        (0.5, [INF, 0.3535533845], [0, 0.9802581072]),
        (1.0, [1, 1], [0, 1.3862943649]),
        (2.0, [0, 4], [0, 2.7725887299]),
        (3.0, [0, 12], [0, 5.5451774597]),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_powers_of_zero(exponent, by_base, by_exponent):
    base = [0.0, 2.0]
    for e in (exponent, gt.constant(exponent), np.float32(exponent)):
        np.testing.assert_allclose(gradients(lambda x, e=e: x**e, base)[0], by_base, rtol=1e-6)
    got = gradients(gt.pow, base, [exponent] * 2)
    np.testing.assert_allclose(got[0], by_base, rtol=1e-6)
    np.testing.assert_allclose(got[1], by_exponent, rtol=1e-6)


@pytest.mark.parametrize("exponent", [0.0, 0, 1.0, 1, 2.0, 2, 3.0, 4.0])
@pytest.mark.parametrize("kind", ["number", "tensor"])
def test_powers_are_safe_at_zero_to_the_second_order(exponent, kind):
    e = exponent if kind == "number" else gt.constant(exponent, dtype="float32")
    with np.errstate(all="raise"):
        y, g, h = three_orders(lambda x: x**e, 0.0)
    assert y == 0.0**exponent
    assert g == (exponent == 1)
    assert h == 2 * (exponent == 2)


# -- stability: ten thousand in float32 ----------------------------------------------------------------------

FAR = [1e4, -1e4, 0.0]
ONE, OTHER = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
STABLE = {
    "softplus": (gt.nn.softplus, [1e4, 0, 0.6931471825], [1, 0, 0.5], [0, 0, 0.25]),
    "sigmoid": (gt.sigmoid, [1, 0, 0.5], [0, 0, 0.25], [0, 0, 0]),
    "tanh": (gt.tanh, [1, -1, 0], [0, 0, 1], [0, 0, 0]),
    "softmax": (gt.nn.softmax, [1, 0, 0], [0, 0, 0], [0, 0, 0]),
    "log_softmax": (gt.nn.log_softmax, [0, -2e4, -1e4], [-2, 1, 1], [0, 0, 0]),
    "reduce_logsumexp": (gt.reduce_logsumexp, 1e4, [1, 0, 0], [0, 0, 0]),
    "softmax_cross_entropy": (
        lambda x: gt.nn.softmax_cross_entropy_with_logits(OTHER, x),
        2e4,
        [1, -1, 0],
        [0, 0, 0],
    ),
    "softmax_cross_entropy, right": (
        lambda x: gt.nn.softmax_cross_entropy_with_logits(ONE, x),
        0,
        [0, 0, 0],
        [0, 0, 0],
    ),
    "sparse_softmax_cross_entropy": (
        lambda x: gt.nn.sparse_softmax_cross_entropy_with_logits(1, x),
        2e4,
        [1, -1, 0],
        [0, 0, 0],
    ),
    "sigmoid_cross_entropy": (
        lambda x: gt.nn.sigmoid_cross_entropy_with_logits(labels=[0.0, 0.0, 1.0], logits=x),
        [1e4, 0, 0.6931471825],
        [1, 0, -0.5],
        [0, 0, 0.25],
    ),
    "sigmoid_cross_entropy, wrong": (
        lambda x: gt.nn.sigmoid_cross_entropy_with_logits([0.0, 1.0, 1.0], x),
        [1e4, 1e4, 0.6931471825],
        [1, -1, -0.5],
        [0, 0, 0.25],
    ),
    "gelu": (gt.nn.gelu, [1e4, 0, 0], [1, 0, 0.5], [0, 0, 0.7978845608]),
    "gelu, approximate": (
        lambda x: gt.nn.gelu(x, approximate=True),
        [1e4, 0, 0],
        [1, 0, 0.5],
        [0, 0, 0.7978845608],
    ),
    "silu": (gt.nn.silu, [1e4, 0, 0], [1, 0, 0.5], [0, 0, 0.5]),
    "elu": (gt.nn.elu, [1e4, -1, 0], [1, 0, 1], None),
    "selu": (gt.nn.selu, [1e4 * SELU, -SELU_LOW, 0], [SELU, 0, SELU], None),
}


@pytest.mark.parametrize("name", STABLE)
def test_nothing_overflows_at_ten_thousand(name):
    f, value, first, second = STABLE[name]
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y, g, h = three_orders(f, np.float32(FAR))
    assert y.dtype == g.dtype == h.dtype == np.float32
    np.testing.assert_allclose(y, value, rtol=1e-6)
    np.testing.assert_allclose(g, first, rtol=1e-6, atol=1e-7)
    assert np.isfinite(h).all()
    if second is not None:
        np.testing.assert_allclose(h, second, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["softplus", "sigmoid", "tanh", "sigmoid_cross_entropy", "silu", "elu"])
def test_nothing_overflows_from_small_to_large(name):
    f = STABLE[name][0]
    for x in itertools.product([-1e4, -104.0, -89.0, -88.0, -17.0, 17.0, 88.0, 89.0, 104.0, 1e4], repeat=3):
        if x[0] > x[1] or x[1] > x[2]:
            continue
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            results = three_orders(f, np.float32(x))
        assert all(np.isfinite(part).all() for part in results)


WEIGHT = np.float32([0.5, -2.0, 1.0])


@pytest.mark.parametrize("name", ["log_softmax", "softmax", "reduce_logsumexp", "softmax_cross_entropy"])
@pytest.mark.parametrize("x", [[1e4, 1e4 - 1, 1e4 + 1], [-1e4, -1e4 - 1, -1e4 + 1]], ids=["high", "low"])
def test_far_from_zero_is_the_same_as_near_it(name, x):
    """These depend on differences of the logits, and ten thousand loses none of theirs in float32."""
    f = STABLE[name][0]

    def weighted(x):
        y = f(x)
        return y * WEIGHT if y.ndim else y

    with np.errstate(over="raise", invalid="raise", divide="raise"):
        far = three_orders(weighted, np.float32(x), WEIGHT)
    want = three_orders(weighted, np.float32([0.0, -1.0, 1.0]), WEIGHT)
    if name == "reduce_logsumexp":
        want = (want[0] + np.float32(x[0]), *want[1:])
    for got, wanted in zip(far, want, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=1e-6)
    assert np.abs(want[2]).max() > 0.01


def test_a_sum_of_exponentials_of_many_axes_is_stable_too():
    x = np.float32([[1e4, 1e4], [-1e4, -1e4]])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y, g, _ = three_orders(lambda x: gt.reduce_logsumexp(x, axis=1), x)
    np.testing.assert_allclose(y, [1e4 + math.log(2), -1e4 + math.log(2)], rtol=1e-7)
    np.testing.assert_allclose(g, 0.5)


@pytest.mark.parametrize("f", [gt.nn.softmax, gt.nn.log_softmax, gt.reduce_logsumexp])
def test_the_greatest_float_is_no_overflow(f):
    top = np.finfo("float32").max
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y, g, h = three_orders(f, np.float32([top, 0.0]))
    assert np.isfinite(y).all()
    assert np.isfinite(g).all()
    assert np.isfinite(h).all()


# -- NaN and infinities --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "value", "slope"),
    [
        (gt.nn.relu, [NAN, INF, 0], [0, 1, 0]),
        (gt.nn.relu6, [NAN, 6, 0], [0, 0, 0]),
        (gt.nn.leaky_relu, [NAN, INF, -INF], [0.2, 1, 0.2]),
        (gt.nn.elu, [NAN, INF, -1], [None, 1, 0]),
        (gt.nn.selu, [NAN, INF, -SELU_LOW], [SELU, SELU, 0]),
        (gt.abs, [NAN, INF, INF], [NAN, 1, -1]),
        (gt.sign, [NAN, 1, -1], [0, 0, 0]),
        (gt.nn.softplus, [NAN, INF, 0], [NAN, 1, 0]),
        (gt.sigmoid, [NAN, 1, 0], [NAN, 0, 0]),
        (gt.tanh, [NAN, 1, -1], [NAN, 0, 0]),
    ],
)
def test_nan_and_infinity_as_in_tensorflow(f, value, slope):
    x = np.float32([NAN, INF, -INF])
    with np.errstate(over="raise", divide="raise"):
        np.testing.assert_allclose(f(x).numpy(), value, rtol=1e-6)
        got = gradients(f, x)[0]
    known = [g is not None for g in slope]
    np.testing.assert_allclose(got[known], np.array(slope, float)[known], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "f", [gt.reduce_max, gt.reduce_min, gt.reduce_sum, gt.reduce_mean, gt.reduce_logsumexp]
)
def test_reductions_hand_nan_on(f):
    assert np.isnan(f([1.0, NAN, 2.0]).numpy())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("f", [gt.reduce_max, gt.reduce_min])
def test_the_derivative_of_a_largest_nan_is_nan(f):
    assert np.isnan(gradients(f, [1.0, NAN])[0]).all()


@pytest.mark.parametrize("f", [gt.nn.softmax, gt.nn.log_softmax])
def test_nan_spreads_along_the_axis_of_a_softmax_and_no_further(f):
    y = f([[1.0, NAN], [1.0, 2.0]]).numpy()
    assert np.isnan(y[0]).all()
    assert np.isfinite(y[1]).all()


def test_a_logit_of_minus_infinity_has_no_share():
    x = np.float32([-INF, 1.0])
    with np.errstate(all="raise"):
        assert gt.nn.softmax(x).numpy().tolist() == [0, 1]
        assert gradients(gt.nn.log_softmax, x)[0].tolist() == [1, -1]
        assert gradients(gt.reduce_logsumexp, x)[0].tolist() == [0, 1]
        assert gradients(lambda x: gt.nn.sparse_softmax_cross_entropy_with_logits(1, x), x)[0].tolist() == [
            0,
            0,
        ]
    assert gt.nn.log_softmax(x).numpy().tolist() == [-INF, 0]
    assert gt.reduce_logsumexp([-INF, -INF]).numpy() == -INF
    assert gt.reduce_logsumexp([INF, 0.0]).numpy() == INF


def test_a_safe_where_keeps_nan_out_of_a_derivative():
    x = np.float32([-1.0, 0.0, 4.0])

    def safe_root(x):
        positive = x > 0
        return gt.where(positive, gt.sqrt(gt.where(positive, x, 1.0)), 0.0)

    with np.errstate(all="raise"):
        assert gradients(safe_root, x)[0].tolist() == [0, 0, 0.25]


# -- softmaxes and cross-entropies ---------------------------------------------------------------------------


def test_cross_entropies_agree_with_their_definition(rng):
    logits = rng.normal(size=(5, 4))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = rng.dirichlet(np.ones(4), 5)
    classes = rng.integers(0, 4, 5)
    np.testing.assert_allclose(
        gt.nn.softmax_cross_entropy_with_logits(labels, logits).numpy(), -(labels * np.log(p)).sum(1)
    )
    np.testing.assert_allclose(
        gt.nn.sparse_softmax_cross_entropy_with_logits(classes, logits).numpy(),
        -np.log(p[np.arange(5), classes]),
    )
    s = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(
        gt.nn.sigmoid_cross_entropy_with_logits(labels, logits).numpy(),
        -labels * np.log(s) - (1 - labels) * np.log(1 - s),
    )
    by_logits = p - np.eye(4)[classes]
    got = gradients(lambda x: gt.nn.sparse_softmax_cross_entropy_with_logits(classes, x), logits)[0]
    np.testing.assert_allclose(got, by_logits, rtol=1e-10, atol=1e-12)
    by_labels, by_logits = gradients(gt.nn.softmax_cross_entropy_with_logits, labels, logits)
    np.testing.assert_allclose(by_labels, -np.log(p), rtol=1e-10)
    np.testing.assert_allclose(by_logits, p - labels, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: gt.nn.sparse_softmax_cross_entropy_with_logits([3], [[0.0, 1.0]]),
            OutOfRangeError,
            "label 3",
        ),
        (lambda: gt.nn.sparse_softmax_cross_entropy_with_logits([-1], [[0.0, 1.0]]), OutOfRangeError, "-1"),
        (lambda: gt.nn.sparse_softmax_cross_entropy_with_logits([0.0], [[0.0, 1.0]]), DTypeError, "integer"),
        (lambda: gt.nn.sparse_softmax_cross_entropy_with_logits([0, 1], [[0.0, 1.0]]), ShapeError, r"\(2,\)"),
        (lambda: gt.nn.softmax_cross_entropy_with_logits([0, 1], [[0.0, 1.0]]), ShapeError, "sparse_"),
        (lambda: gt.nn.softmax(1.0), ShapeError, r"\(\)"),
        (lambda: gt.nn.softmax([1, 2]), DTypeError, "int32"),
        (lambda: gt.nn.log_softmax([1.0], axis=1), ValueError, "axis"),
        (lambda: gt.nn.relu([1j]), DTypeError, "complex128"),
        (lambda: gt.nn.bias_add([[1.0, 2.0]], [1.0]), ShapeError, r"\(1, 2\).*\(1,\)"),
        (lambda: gt.nn.embedding_lookup([[1.0]], [1]), OutOfRangeError, "1"),
    ],
)
def test_what_does_not_fit_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()


# -- dropout -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_dropout_drops_its_share_and_scales_the_rest(rate, dtype):
    n = 20_000
    y = gt.nn.dropout(gt.ones([n], dtype), rate).numpy()
    assert y.dtype == dtype
    kept = y != 0
    assert abs(kept.mean() - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / n)
    np.testing.assert_allclose(y[kept], 1 / (1 - rate), rtol=1e-3 if dtype == "float16" else 1e-6)
    assert abs(y.astype("float64").mean() - 1) < 6 * np.sqrt(rate / (1 - rate) / n)


def test_what_dropout_keeps_is_what_its_derivative_keeps(rng):
    x = rng.normal(size=(30, 4))
    v = gt.Variable(x)
    with gt.GradientTape() as tape:
        y = gt.nn.dropout(v, 0.25)
    g = tape.gradient(y, v).numpy()
    assert set(np.round(g, 12).ravel()) == {0.0, round(4 / 3, 12)}
    np.testing.assert_allclose(y.numpy(), x * g, rtol=1e-12)


def test_the_noise_shape_says_what_falls_together():
    x = gt.ones([50, 6])
    for noise_shape, axis in ([50, 1], 1), ([None, 1], 1), ((1, 6), 0), ([1, None], 0):
        y = gt.nn.dropout(x, 0.5, noise_shape=noise_shape).numpy()
        assert (y == y.max(axis, keepdims=True)).all()
        assert len(np.unique(y)) == 2
    assert len(np.unique(gt.nn.dropout(x, 0.5, noise_shape=[1, 1]).numpy())) == 1


def test_dropout_never_drops_by_a_factor_that_nan_survives():
    """Where an element falls, 0 stands, whatever it was."""
    y = gt.nn.dropout(np.full(100, NAN, "float32"), 0.5).numpy()
    assert set(y[~np.isnan(y)]) == {0.0}


def test_dropout_at_rate_0_is_the_identity_and_draws_nothing():
    gt.random.set_seed(4)
    want = gt.random.uniform([3]).numpy()
    gt.random.set_seed(4)
    x = gt.constant([1.0, 2.0])
    assert gt.nn.dropout(x, 0.0).numpy().tolist() == [1.0, 2.0]
    np.testing.assert_array_equal(gt.random.uniform([3]).numpy(), want)
    assert gradients(lambda x: gt.nn.dropout(x, 0), [1.0, 2.0])[0].tolist() == [1.0, 1.0]


def test_dropout_seeds():
    x = gt.ones([200])

    def draw(**keywords):
        return gt.nn.dropout(x, 0.5, **keywords).numpy().tolist()

    gt.random.set_seed(1)
    free, own, own_second = draw(), draw(seed=3), draw(seed=3)
    assert own != own_second
    gt.random.set_seed(1)
    assert draw(seed=3) == own
    assert draw() == free
    assert draw() != free


def test_a_rate_that_is_a_tensor_is_differentiated():
    rate = gt.Variable(0.25)
    x = gt.ones([40])
    with gt.GradientTape() as tape:
        y = gt.nn.dropout(x, rate)
    kept = np.count_nonzero(y.numpy())
    assert 0 < kept < 40
    np.testing.assert_allclose(tape.gradient(y, rate).numpy(), kept / 0.75**2, rtol=1e-5)


@pytest.mark.parametrize(
    ("x", "rate", "error", "words"),
    [
        ([1.0], 1.0, ValueError, "less than 1"),
        ([1.0], -0.1, ValueError, "at least 0"),
        ([1.0], NAN, ValueError, "rate"),
        ([1.0], [0.5], ShapeError, "one number"),
        ([1], 0.5, DTypeError, "int32"),
    ],
)
def test_dropout_refuses(x, rate, error, words):
    with pytest.raises(error, match=words):
        gt.nn.dropout(x, rate)
    with pytest.raises(ShapeError, match="noise_shape"):
        gt.nn.dropout([1.0], 0.5, noise_shape=[1, 1])


# -- moments, biases, embeddings -----------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [[0], [1], [0, 1], [-1], 0, (0, 1), [2, 0]])
@pytest.mark.parametrize("keepdims", [False, True])
def test_moments_are_mean_and_variance(rng, axes, keepdims):
    x = rng.normal(size=(3, 4, 2)) * 5 + 100
    over = tuple(axes) if isinstance(axes, list) else axes
    mean, variance = gt.nn.moments(x, axes, keepdims=keepdims)
    np.testing.assert_allclose(mean.numpy(), x.mean(over, keepdims=keepdims))
    np.testing.assert_allclose(variance.numpy(), x.var(over, keepdims=keepdims))
    by_variance = gradients(lambda x: gt.nn.moments(x, axes, keepdims=keepdims)[1], x)[0]
    n = x.size / np.size(x.mean(over))
    np.testing.assert_allclose(by_variance, 2 * (x - x.mean(over, keepdims=True)) / n, rtol=1e-9, atol=1e-12)
    by_mean = gradients(lambda x: gt.nn.moments(x, axes, keepdims=keepdims)[0], x)[0]
    np.testing.assert_allclose(by_mean, 1 / n)


def test_moments_of_half_precision_are_summed_up_in_single():
    x = np.tile(np.array([100, 101], "float16"), 2000)
    mean, variance = gt.nn.moments(x, [0])
    assert mean.dtype == variance.dtype == np.float16
    assert (float(mean), float(variance)) == (100.5, 0.25)


def test_bias_add_lies_along_the_channels(rng):
    x, last, second = rng.normal(size=(2, 3, 4)), rng.normal(size=4), rng.normal(size=3)
    np.testing.assert_allclose(gt.nn.bias_add(x, last).numpy(), x + last)
    np.testing.assert_allclose(gt.nn.bias_add(x, second, "NCHW").numpy(), x + second[:, None])
    weight = rng.normal(size=(2, 3, 4))
    got = gradients(lambda x, b: gt.nn.bias_add(x, b, "NC..."), x, second, weights=weight)
    np.testing.assert_allclose(got[0], weight)
    np.testing.assert_allclose(got[1], weight.sum((0, 2)))


def test_embeddings_sum_the_derivatives_of_a_row_that_comes_twice():
    table = np.float32([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]])
    got = gt.nn.embedding_lookup(table, [[0, 2], [0, 1]]).numpy()
    np.testing.assert_array_equal(got, table[[[0, 2], [0, 1]]])
    by_table = gradients(lambda t: gt.nn.embedding_lookup(t, [0, 2, 0]), table)[0]
    assert by_table.tolist() == [[2, 2], [0, 0], [1, 1]]


def test_embeddings_of_limited_length():
    table = np.float32([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]])
    with np.errstate(all="raise"):
        got = gt.nn.embedding_lookup(table, [0, 2, 1], max_norm=2.0).numpy()
        by_table = gradients(lambda t: gt.nn.embedding_lookup(t, [0, 2, 1], max_norm=2.0), table)[0]
    np.testing.assert_allclose(got, [[1.2, 1.6], [1, 0], [0, 0]], rtol=1e-6)
    np.testing.assert_allclose(by_table, [[0.064, -0.048], [1, 1], [1, 1]], rtol=1e-5)
