"""Random tensors: seeds and streams, moments and bounds, dtypes, threads, derivatives by the parameters."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import gradtape as gt
from gradtape.errors import DTypeError, ShapeError

Generator = gt.random.Generator
DRAWS = {
    "normal": gt.random.normal,
    "truncated_normal": gt.random.truncated_normal,
    "uniform": gt.random.uniform,
}
N = 40_000


def same(a, b):
    return np.array_equal(a.numpy(), b.numpy())


def close(sample, mean, variance):
    """Mean and variance within five standard errors of what the distribution has."""
    sample = np.asarray(sample, "float64")
    n = sample.size
    assert abs(sample.mean() - mean) < 5 * np.sqrt(variance / n)
    fourth = np.mean((sample - sample.mean()) ** 4)
    assert abs(sample.var() - variance) < 5 * np.sqrt(max(fourth - variance**2, 0) / n)


@pytest.fixture(params=["module", "generator"])
def source(request):
    """Where to draw from: the module's functions, or a generator's."""
    gt.random.set_seed(3)
    return gt.random if request.param == "module" else Generator.from_seed(3)


# -- distributions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_normal_numbers(source, dtype):
    x = source.normal([N], 3.0, 2.0, dtype)
    assert (x.dtype, x.shape) == (np.dtype(dtype), (N,))
    close(x.numpy(), 3.0, 4.0)
    z = (x.numpy().astype("float64") - 3.0) / 2.0
    assert abs(np.mean(np.abs(z) < 1) - 0.6827) < 5 * np.sqrt(0.6827 * 0.3173 / N)
    assert np.abs(z).max() > 3.5
    assert abs(np.mean(z**3)) < 5 * np.sqrt(15 / N)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_truncated_normal_numbers_lie_within_two_deviations(source, dtype):
    x = source.truncated_normal([N], 3.0, 0.5, dtype)
    assert (x.dtype, x.shape) == (np.dtype(dtype), (N,))
    close(x.numpy(), 3.0, 0.25 * 0.7737413)  # 1 - 4 phi(2) / (Phi(2) - Phi(-2))
    assert 2.0 <= x.numpy().min() < 2.05
    assert 3.95 < x.numpy().max() <= 4.0


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_uniform_numbers_fill_the_half_open_interval(source, dtype):
    x = source.uniform([N], dtype=dtype)
    assert (x.dtype, x.shape) == (np.dtype(dtype), (N,))
    close(x.numpy(), 0.5, 1 / 12)
    assert 0.0 <= x.numpy().min() < 0.001
    assert 0.999 <= x.numpy().max() < 1.0
    counts, _ = np.histogram(x.numpy(), 10, (0, 1))
    assert np.abs(counts - N / 10).max() < 5 * np.sqrt(N * 0.09)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_uniform_never_reaches_maxval_even_where_rounding_would(source, dtype):
    low = np.dtype(dtype).type(1)
    high = low + 4 * np.finfo(dtype).eps
    x = source.uniform([2000], low, high, dtype).numpy()
    assert set(np.round((x - low) / np.finfo(dtype).eps)) == {0, 1, 2, 3}
    assert (source.uniform([2000], -5.0, -3.0, dtype).numpy() < -3).all()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "uint64"])
def test_uniform_integers(source, dtype):
    x = source.uniform([6000], 1, 7, dtype)
    assert (x.dtype, x.shape) == (np.dtype(dtype), (6000,))
    values, counts = np.unique(x.numpy(), return_counts=True)
    assert values.tolist() == [1, 2, 3, 4, 5, 6]
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(6000 * 5 / 36)


def test_uniform_integers_to_the_ends_of_their_dtype(source):
    x = source.uniform([2000], -128, 128, "int8").numpy()
    assert (x.min(), x.max()) == (-128, 127)
    top = 2**64 - 1
    assert int(source.uniform([], np.uint64(top - 1), np.uint64(top), "uint64")) == top - 1


def test_bounds_and_parameters_broadcast_with_the_shape(source):
    x = source.uniform([1000, 3], [0, 10, 20], [1, 12, 30], "int32").numpy()
    assert x.min(0).tolist() == [0, 10, 20]
    assert x.max(0).tolist() == [0, 11, 29]
    y = source.uniform([1000, 2], [0.0, -10.0], [1.0, -9.0]).numpy()
    assert ((y >= [0, -10]) & (y < [1, -9])).all()
    z = source.normal([N, 2], mean=[0.0, 100.0], stddev=[1.0, 5.0]).numpy()
    close(z[:, 0], 0, 1)
    close(z[:, 1], 100, 25)
    assert source.normal([4], mean=np.zeros((3, 1))).shape == (3, 4)


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize(
    ("shape", "want"),
    [
        ([], ()),
        ((), ()),
        (3, (3,)),
        ((2, 3), (2, 3)),
        ([0, 2], (0, 2)),
        (np.array([2, 1]), (2, 1)),
        (np.int64(2), (2,)),
        (gt.constant([2, 3]), (2, 3)),
        ([gt.constant(2), np.int32(3)], (2, 3)),
    ],
)
def test_shapes(source, name, shape, want):
    x = getattr(source, name)(shape)
    assert isinstance(x, gt.Tensor)
    assert x.shape == want
    assert x.dtype == np.float32
    assert repr(x).startswith("<tf.Tensor")


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("shape", [[-1], [1.5], [[2, 3]], [[1], [2, 3]], gt.constant(2.0)])
def test_what_is_no_shape_is_refused(source, name, shape):
    with pytest.raises(ShapeError, match="shape"):
        getattr(source, name)(shape)


@pytest.mark.parametrize("name", ["normal", "truncated_normal", "uniform"])
@pytest.mark.parametrize("dtype", ["complex64", "bool", "no such"])
def test_dtypes_that_cannot_be_drawn_are_refused(source, name, dtype):
    with pytest.raises(DTypeError, match=dtype):
        getattr(source, name)([2], dtype=dtype)


@pytest.mark.parametrize("name", ["normal", "truncated_normal"])
def test_normal_integers_are_refused(source, name):
    with pytest.raises(DTypeError, match="int32"):
        getattr(source, name)([2], dtype="int32")


def test_parameters_that_do_not_fit_the_shape_are_refused(source):
    with pytest.raises(ShapeError, match=r"\(2,\).*\(3,\)"):
        source.normal([2], mean=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"\(3,\)"):
        source.uniform([2], 0, [1, 2, 3], "int32")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0,), "maxval must be given"),
        ((3, 3), "less than"),
        ((3, 2), "less than"),
        ((-1, 2, "uint8"), "cannot hold"),
        ((0, 257, "uint8"), "cannot hold"),
    ],
)
def test_uniform_integers_need_bounds_that_make_sense(source, arguments, words):
    low, *rest = arguments
    high = rest[0] if rest else None
    with pytest.raises(ValueError, match=words):
        source.uniform([2], low, high, rest[1] if len(rest) > 1 else "int32")


def test_uniform_integers_need_integer_bounds(source):
    with pytest.raises(DTypeError, match="integers"):
        source.uniform([2], 0.5, 3, "int32")


# -- seeds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DRAWS)
def test_a_global_seed_fixes_everything_that_follows(name):
    draw = DRAWS[name]
    gt.random.set_seed(5)
    first = [draw([4]) for _ in range(3)]
    gt.random.set_seed(5)
    again = [draw([4]) for _ in range(3)]
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert not same(first[0], first[1])
    gt.random.set_seed(6)
    assert not same(first[0], draw([4]))


@pytest.mark.parametrize("name", DRAWS)
def test_a_seed_of_its_own_starts_a_stream_that_set_seed_starts_anew(name):
    draw = DRAWS[name]
    gt.random.set_seed(5)
    first, second = draw([4], seed=1), draw([4], seed=1)
    assert not same(first, second)
    gt.random.set_seed(5)
    for other in DRAWS.values():
        other([3], seed=2)
        other([3])
    assert same(draw([4], seed=1), first)
    assert same(draw([4], seed=1), second)
    gt.random.set_seed(6)
    assert not same(draw([4], seed=1), first)


def test_each_function_and_seed_has_a_stream_of_its_own():
    gt.random.set_seed(0)
    normals = [gt.random.normal([4], seed=seed).numpy().tolist() for seed in (0, 1, -1, 2**63)]
    assert len(set(map(tuple, normals))) == 4
    truncated = gt.random.truncated_normal([4], seed=0).numpy().tolist()
    assert truncated != normals[0]


def test_a_draw_with_a_seed_leaves_the_other_stream_alone():
    gt.random.set_seed(5)
    gt.random.normal([3])
    want = gt.random.normal([3])
    gt.random.set_seed(5)
    gt.random.normal([3])
    gt.random.uniform([7], seed=5)
    assert same(gt.random.normal([3]), want)


@pytest.mark.parametrize("seed", [-1, 0, 2**40, np.int64(7), np.uint8(7), gt.constant(7)])
def test_any_integer_is_a_seed(seed):
    gt.random.set_seed(seed)
    first, own = gt.random.normal([3]), gt.random.normal([3], seed=seed)
    gt.random.set_seed(int(seed))
    assert same(gt.random.normal([3]), first)
    assert same(gt.random.normal([3], seed=int(seed)), own)
    assert same(Generator.from_seed(seed).normal([3]), Generator.from_seed(int(seed)).normal([3]))


@pytest.mark.parametrize("seed", [1.5, "1", None])
def test_what_is_no_integer_is_no_seed(seed):
    gt.random.set_seed(5)
    want = gt.random.normal([3])
    gt.random.set_seed(5)
    with pytest.raises(TypeError):
        gt.random.set_seed(seed)
    assert same(gt.random.normal([3]), want)
    with pytest.raises(TypeError):
        Generator.from_seed(seed)


def test_numpys_global_generator_is_neither_used_nor_moved():
    np.random.seed(1)  # noqa: NPY002
    want = np.random.random()  # noqa: NPY002
    gt.random.set_seed(5)
    first = gt.random.normal([3])
    gt.random.set_seed(5)
    np.random.seed(1)  # noqa: NPY002
    assert same(gt.random.normal([3]), first)
    assert np.random.random() == want  # noqa: NPY002


def test_a_generator_is_fixed_by_its_seed_and_by_nothing_else():
    def draws(rng):
        return [rng.normal([3]), rng.uniform([3]), rng.truncated_normal([3]), rng.uniform([3], 0, 9, "int32")]

    gt.random.set_seed(5)
    want = draws(Generator.from_seed(9))
    gt.random.set_seed(6)
    gt.random.normal([3])
    got = draws(Generator.from_seed(9))
    assert all(same(a, b) for a, b in zip(want, got, strict=True))
    assert not same(draws(Generator.from_seed(10))[0], want[0])


def test_a_generator_leaves_the_global_stream_alone_and_moves_on():
    gt.random.set_seed(5)
    want = gt.random.normal([3])
    gt.random.set_seed(5)
    rng = Generator.from_seed(5)
    assert not same(rng.normal([3]), rng.normal([3]))
    assert same(gt.random.normal([3]), want)


def test_generators_without_a_seed_differ():
    a, b = (Generator.from_non_deterministic_state() for _ in range(2))
    assert not same(a.normal([4]), b.normal([4]))


# -- derivatives ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["normal", "truncated_normal"])
def test_the_derivative_flows_to_mean_and_deviation(source, name):
    mean, stddev = gt.Variable([1.0, 2.0]), gt.constant(3.0)
    with gt.GradientTape() as tape:
        tape.watch(stddev)
        x = getattr(source, name)([5, 2], mean, stddev)
    by_mean, by_stddev = tape.gradient(x, [mean, stddev])
    assert by_mean.numpy().tolist() == [5.0, 5.0]
    noise = (x.numpy() - [1.0, 2.0]) / 3.0
    np.testing.assert_allclose(by_stddev.numpy(), noise.sum(), rtol=1e-4, atol=1e-5)


def test_the_derivative_flows_to_the_bounds(source):
    low, high = gt.Variable(2.0), gt.Variable([4.0, 6.0, 8.0])
    with gt.GradientTape() as tape:
        x = source.uniform([3], low, high)
    by_low, by_high = tape.gradient(x, [low, high])
    share = (x.numpy() - 2.0) / [2.0, 4.0, 6.0]
    assert ((share >= 0) & (share < 1)).all()
    np.testing.assert_allclose(by_high.numpy(), share, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(by_low.numpy(), np.sum(1 - share), rtol=1e-5)


def test_tensors_and_numbers_as_parameters_give_the_same():
    for mean, stddev in [
        (1.5, 2.0),
        (gt.constant(1.5), 2.0),
        (1.5, gt.Variable(2.0)),
        ([1.5], np.array(2.0)),
    ]:
        gt.random.set_seed(1)
        x = gt.random.normal([4], mean, stddev)
        assert x.dtype == np.float32
        gt.random.set_seed(1)
        np.testing.assert_allclose(x.numpy(), gt.random.normal([4]).numpy() * 2 + 1.5, rtol=1e-6)


def test_draws_without_parameters_to_follow_are_constants():
    v = gt.Variable(2.0)
    with gt.GradientTape() as tape:
        y = gt.random.normal([3]) * v
    assert tape.gradient(y, v).shape == ()
    with gt.GradientTape() as tape:
        y = gt.cast(gt.random.uniform([3], 0, 9, "int32"), "float32")
    assert tape.gradient(y, v) is None


# -- shuffle -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6,), (6, 2), (6, 2, 3), (1, 3), (0,), (0, 3)])
def test_shuffle_moves_whole_slices_of_axis_0(shape):
    x = np.arange(np.prod(shape, dtype=int), dtype="float32").reshape(shape)
    y = gt.random.shuffle(x).numpy()
    assert y.dtype == x.dtype
    assert y.shape == x.shape
    if x.size:
        np.testing.assert_array_equal(y[np.argsort(y.reshape(len(y), -1)[:, 0])], x)


def test_every_order_comes_up_about_as_often():
    gt.random.set_seed(0)
    orders = [tuple(gt.random.shuffle([0, 1, 2]).numpy().tolist()) for _ in range(1200)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert all(abs(n - 200) < 5 * np.sqrt(1200 * 5 / 36) for n in counts)


def test_shuffle_seeds_and_leaves_its_argument_alone():
    x = gt.constant(np.arange(20.0))
    gt.random.set_seed(1)
    first, own = gt.random.shuffle(x), gt.random.shuffle(x, seed=3)
    gt.random.set_seed(1)
    assert same(gt.random.shuffle(x), first)
    assert same(gt.random.shuffle(x, seed=3), own)
    assert not same(first, own)
    assert not same(gt.random.shuffle(x), first)
    assert x.numpy().tolist() == list(range(20))


def test_shuffle_of_a_scalar_is_the_scalar():
    assert float(gt.random.shuffle(3.0)) == 3.0


def test_the_derivative_flows_back_to_where_each_slice_came_from():
    x = gt.Variable(np.arange(5.0))
    with gt.GradientTape() as tape:
        y = gt.random.shuffle(x)
    g = tape.gradient(y, x, output_gradients=np.array([10.0, 20.0, 30.0, 40.0, 50.0]))
    assert g.numpy()[y.numpy().astype(int)].tolist() == [10.0, 20.0, 30.0, 40.0, 50.0]


# -- threads -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["module", "seeded", "generator"])
def test_draws_in_threads_are_those_of_one_thread_in_some_order(kind):
    def draw_from(rng):
        return {
            "module": lambda: gt.random.normal([3]),
            "seeded": lambda: gt.random.normal([3], seed=4),
            "generator": lambda: rng.normal([3]),
        }[kind]

    gt.random.set_seed(8)
    draw = draw_from(Generator.from_seed(8))
    want = {tuple(draw().numpy().tolist()) for _ in range(160)}
    assert len(want) == 160
    gt.random.set_seed(8)
    draw = draw_from(Generator.from_seed(8))
    together = threading.Barrier(8)

    def work(_):
        together.wait()
        return [tuple(draw().numpy().tolist()) for _ in range(20)]

    with ThreadPoolExecutor(8) as pool:
        got = [x for part in pool.map(work, range(8)) for x in part]
    assert len(got) == 160
    assert set(got) == want
