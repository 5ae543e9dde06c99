"""IndexedSlices: the gradients of lookups, what they cost, and what the optimizers do with them."""

import copy
import functools
import operator
import pickle
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradtape as gt
from gradtape.errors import DTypeError, NotATensorError, OutOfRangeError, ShapeError
from gradtape.optimizers import SGD, Adam
from gradtape.slices import Rows

START = np.arange(1.0, 9.0).reshape(4, 2)


def table(dtype: str = "float64") -> gt.Variable:
    return gt.Variable(START.astype(dtype), name="table")


def gradient(loss: Callable[[Any], Any], source: Any) -> Any:
    with gt.GradientTape() as tape:
        tape.watch(source)
        value = loss(source)
    return tape.gradient(value, source)


def dense_gradient(loss: Callable[[Any], Any], source: Any) -> np.ndarray:
    """The same by way of a tensor that an op made, which gets no slices."""
    g = gradient(lambda x: loss(gt.identity(x)), source)
    assert type(g) is gt.Tensor
    return g.numpy()


def assert_slices(got: Any, values: Any, indices: Any, shape: tuple[int, ...]) -> None:
    assert type(got) is gt.IndexedSlices
    assert (type(got.values), type(got.indices), got.dense_shape) == (gt.Tensor, gt.Tensor, shape)
    np.testing.assert_allclose(got.values.numpy(), values)
    assert got.indices.numpy().tolist() == list(indices)


# -- what a tape gives ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("lookup", [gt.gather, gt.nn.embedding_lookup])
@pytest.mark.parametrize("source", [table, lambda: gt.constant(START)], ids=["variable", "watched tensor"])
def test_the_gradient_of_a_lookup_is_its_rows(lookup, source):
    x = source()
    g = gradient(lambda t: gt.reduce_sum(lookup(t, [2, 0, 2]) ** 2.0), x)
    assert_slices(g, 2 * START[[2, 0, 2]], [2, 0, 2], (4, 2))
    want = np.zeros((4, 2))
    want[0], want[2] = 2 * START[0], 4 * START[2]
    np.testing.assert_array_equal(g.numpy(), want)
    np.testing.assert_array_equal(gt.convert_to_tensor(g).numpy(), want)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("index_dtype", ["int8", "uint8", "int32", "int64", "uint64"])
@pytest.mark.parametrize("indices", [3, [1], [[0, 3], [3, 1]], [[[2]]], []])
def test_every_dtype_and_shape_of_indices(dtype, index_dtype, indices):
    indices = np.array(indices, index_dtype)
    x = table(dtype)
    g = gradient(lambda t: gt.reduce_sum(gt.math.real(gt.gather(t, indices) * gt.gather(t, indices))), x)
    assert (type(g), g.dtype, g.shape, g.ndim, g.size) == (gt.IndexedSlices, x.dtype, (4, 2), 2, 8)
    assert g.indices.dtype == index_dtype
    assert g.values.shape == (2 * indices.size, 2)
    np.testing.assert_allclose(
        g.numpy(), 2 * START * np.bincount(indices.ravel().astype(int), minlength=4)[:, None]
    )


@pytest.mark.parametrize("shape", [(5,), (5, 2, 3), (5, 0)])
def test_tables_of_any_rank(shape):
    x = gt.Variable(np.ones(shape))
    g = gradient(lambda t: gt.reduce_sum(gt.gather(t, [[4, 4]]) * 3.0), x)
    want = np.zeros(shape)
    want[4] = 6.0
    assert_slices(g, np.full((2, *shape[1:]), 3.0), [4, 4], shape)
    np.testing.assert_array_equal(np.asarray(g), want)


def test_an_empty_list_of_indices():
    g = gradient(lambda t: gt.reduce_sum(gt.gather(t, [])) + gt.reduce_sum(gt.gather(t, [1])), table())
    assert_slices(g, [[1.0, 1.0]], [1], (4, 2))
    assert g.indices.dtype.kind == "i"


def test_axis_0_by_other_names_and_other_axes():
    for axis in (0, -2):
        g = gradient(lambda t, axis=axis: gt.reduce_sum(gt.gather(t, [1], axis=axis)), table())
        assert_slices(g, [[1.0, 1.0]], [1], (4, 2))
    for keywords in ({"axis": 1}, {"axis": -1}, {"batch_dims": 1}):
        g = gradient(
            lambda t, keywords=keywords: gt.reduce_sum(gt.gather(t, [[0], [1], [1], [0]], **keywords)),
            table(),
        )
        assert type(g) is gt.Tensor


@pytest.mark.parametrize("max_norm", [None, 1.0, 1e3])
def test_lookups_of_limited_length(max_norm):
    def loss(t):
        return gt.reduce_sum(gt.nn.embedding_lookup(t, [[1, 3]], max_norm=max_norm) ** 3.0)

    g = gradient(loss, table())
    assert type(g) is gt.IndexedSlices
    np.testing.assert_allclose(g.numpy(), dense_gradient(loss, table()), atol=1e-14)


def test_a_tensor_that_an_op_made_gets_a_dense_gradient_even_if_it_is_watched_then():
    x = table()
    with gt.GradientTape() as tape:
        y = x * 2.0
        tape.watch(y)
        loss = gt.reduce_sum(gt.gather(y, [1, 1]))
    by_y, by_x = tape.gradient(loss, [y, x])
    assert type(by_y) is type(by_x) is gt.Tensor
    np.testing.assert_array_equal(by_y.numpy(), [[0, 0], [2, 2], [0, 0], [0, 0]])
    np.testing.assert_array_equal(by_x.numpy(), [[0, 0], [4, 4], [0, 0], [0, 0]])


def test_a_tensor_that_was_watched_first_and_then_used_elsewhere():
    x = gt.constant(START)
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        tape.watch(x)
        lookup = gt.reduce_sum(gt.gather(x, [1]))
        both = lookup + gt.reduce_sum(x * 3.0)
    assert_slices(tape.gradient(lookup, x), [[1.0, 1.0]], [1], (4, 2))
    got = tape.gradient(both, x)
    assert type(got) is gt.Tensor
    np.testing.assert_array_equal(got.numpy(), [[3, 3], [4, 4], [3, 3], [3, 3]])


def test_after_a_reset_what_was_made_before_is_a_leaf():
    x = table()
    with gt.GradientTape() as tape:
        y = x * 2.0
        tape.reset()
        tape.watch(y)
        loss = gt.reduce_sum(gt.gather(y, [0]))
    assert_slices(tape.gradient(loss, y), [[1.0, 1.0]], [0], (4, 2))


@pytest.mark.parametrize("persistent", [False, True])
def test_no_gradient_is_none_or_zeros_as_ever(persistent):
    x, other = table(), table()
    with gt.GradientTape(persistent=persistent) as tape:
        loss = gt.reduce_sum(gt.gather(x, [0]))
    got = tape.gradient(loss, {"a": other, "b": x}, unconnected_gradients="zero")
    np.testing.assert_array_equal(got["a"].numpy(), np.zeros((4, 2)))
    assert type(got["b"]) is gt.IndexedSlices
    if persistent:
        assert tape.gradient(loss, other) is None
        assert_slices(tape.gradient(loss, x), [[1.0, 1.0]], [0], (4, 2))


# -- sums in a sweep -----------------------------------------------------------------------------------------


def lookups_first(t):
    return gt.reduce_sum(gt.gather(t, [3, 0]) ** 2.0) + gt.reduce_sum(t**3.0)


def dense_first(t):
    return gt.reduce_sum(t**3.0) + gt.reduce_sum(gt.gather(t, [3, 0]) ** 2.0)


def between(t):
    first, last = gt.gather(t, [1]), gt.gather(t, [3, 0])
    return gt.reduce_sum(first * first) + gt.reduce_sum(t**3.0) + gt.reduce_sum(last**2.0)


@pytest.mark.parametrize("loss", [lookups_first, dense_first, between])
@pytest.mark.parametrize("recorded", [False, True])
def test_a_dense_use_makes_the_whole_dense(loss, recorded):
    x = table()
    with gt.GradientTape() as tape:
        value = loss(x)
        g = tape.gradient(value, x) if not recorded else None
    if recorded:
        with gt.GradientTape():
            with gt.GradientTape() as tape:
                value = loss(x)
            g = tape.gradient(value, x)
    assert type(g) is gt.Tensor
    np.testing.assert_allclose(g.numpy(), dense_gradient(loss, x))


def test_a_table_that_is_a_target_too():
    x = table()
    with gt.GradientTape() as tape:
        y = gt.gather(x, [0])
    np.testing.assert_array_equal(tape.gradient([y, x], x).numpy(), [[2, 2], [1, 1], [1, 1], [1, 1]])


def test_two_lookups_give_the_rows_of_both():
    x = table()
    with gt.GradientTape() as tape:
        a = gt.gather(x, np.array([3, 0], "int64"))
        b = gt.gather(x, np.array([[3]], "uint64"))
        loss = gt.reduce_sum(a) + gt.reduce_sum(b) * 2.0
    g = tape.gradient(loss, x)
    assert g.indices.dtype == np.int64
    assert sorted(zip(g.indices.numpy().tolist(), g.values.numpy()[:, 0].tolist(), strict=True)) == [
        (0, 1.0),
        (3, 1.0),
        (3, 2.0),
    ]
    np.testing.assert_array_equal(g.numpy(), [[1, 1], [0, 0], [0, 0], [3, 3]])


def test_the_sum_of_slices_is_slices_and_any_other_sum_is_dense():
    a = gt.IndexedSlices([[1.0, 2.0]], [1], (3, 2))
    b = gt.IndexedSlices([[4.0, 4.0]], [0], [3, 2])
    assert_slices(a + b, [[1.0, 2.0], [4.0, 4.0]], [1, 0], (3, 2))
    assert_slices(functools.reduce(operator.add, [a, b, a]), [[1, 2], [4, 4], [1, 2]], [1, 0, 1], (3, 2))
    for other in (1.0, np.ones((3, 2), "f"), gt.ones((3, 2)), gt.Variable(np.ones((3, 2), "f"))):
        for total in (a + other, other + a):
            assert type(total) is gt.Tensor
            np.testing.assert_array_equal(total.numpy(), [[1, 1], [2, 3], [1, 1]])
    wide = gt.IndexedSlices(gt.constant([[1.0, 1.0]], dtype="float64"), [1], (3, 2))
    assert (type(a + wide), (a + wide).dtype) == (gt.Tensor, np.dtype("float64"))


def test_bare_rows_add_up_with_arrays_from_both_sides():
    rows = Rows([(np.ones((1, 2)), np.array([1]))], (3, 2))
    for total in (rows + np.ones((3, 2)), np.ones((3, 2)) + rows):
        assert type(total) is np.ndarray
        assert total.tolist() == [[1, 1], [2, 2], [1, 1]]


# -- further derivatives, targets, cotangents ----------------------------------------------------------------


def test_the_second_derivative_of_a_lookup():
    x = table()
    weights = np.arange(8.0).reshape(4, 2)
    with gt.GradientTape() as outer:
        with gt.GradientTape() as inner:
            loss = gt.reduce_sum(gt.gather(x, [2, 1, 2]) ** 3.0)
        g = inner.gradient(loss, x)
        assert type(g) is gt.IndexedSlices
        scalar = gt.reduce_sum(g * weights)
    got = outer.gradient(scalar, x)
    assert type(got) is gt.IndexedSlices
    np.testing.assert_allclose(got.numpy(), 6 * START * weights * [[0], [1], [2], [0]])


def test_the_third_derivative_of_lookups_and_a_dense_use():
    x = table()
    with gt.GradientTape() as third:
        with gt.GradientTape() as second:
            with gt.GradientTape() as first:
                loss = gt.reduce_sum(gt.gather(x, [0, 0]) ** 4.0) + gt.reduce_sum(x**4.0)
            g = gt.reduce_sum(first.gradient(loss, x))
        h = gt.reduce_sum(gt.gather(second.gradient(g, x), [0, 1]))
    np.testing.assert_allclose(third.gradient(h, x).numpy(), 24 * START * [[3], [1], [0], [0]])


def test_a_conversion_is_recorded_by_a_tape_that_begins_later():
    slices = gt.IndexedSlices(gt.constant([[1.0, 2.0], [3.0, 4.0]]), [1, 1], (3, 2))
    before = gt.convert_to_tensor(slices)
    with gt.GradientTape() as tape:
        tape.watch(slices.values)
        loss = gt.reduce_sum(gt.convert_to_tensor(slices) ** 2.0)
    np.testing.assert_array_equal(tape.gradient(loss, slices.values).numpy(), [[8.0, 12.0], [8.0, 12.0]])
    np.testing.assert_array_equal(before.numpy(), slices.numpy())


@pytest.mark.parametrize(
    "use",
    [
        lambda s: gt.reduce_sum(s * s),
        lambda s: np.sum(np.multiply(s, s)),
        lambda s: gt.reduce_sum(gt.stack([s, s]) ** 2.0) / 2.0,
        lambda s: np.sum(np.concatenate([s, s], 0) ** 2.0) / 2.0,
        lambda s: np.ones((1, 3)) @ (s * s) @ np.ones((2, 1)),
        lambda s: sum(gt.reduce_sum(row**2.0) for row in s),
        lambda s: gt.reduce_sum(s.T**2.0),
        lambda s: gt.reduce_sum(s[1] ** 2.0),
        lambda s: gt.reduce_sum((-s) ** 2.0),
        lambda s: gt.reduce_sum(gt.constant(s) ** 2.0),
        lambda s: gt.clip_by_global_norm([s], 1e9)[1] ** 2.0,
    ],
)
def test_any_use_in_an_expression_is_that_of_the_dense_tensor(use):
    slices = gt.IndexedSlices(gt.constant(START[:2]), [1, 1], (3, 2))
    with gt.GradientTape() as tape:
        tape.watch(slices.values)
        loss = use(slices)
    total = START[:2].sum(0)
    np.testing.assert_allclose(float(loss), (total**2).sum())
    np.testing.assert_allclose(tape.gradient(loss, slices.values).numpy(), [2 * total, 2 * total])


def test_slices_as_a_target():
    x = table()
    weights = np.arange(8.0).reshape(4, 2)
    with gt.GradientTape(persistent=True) as outer:
        with gt.GradientTape() as inner:
            loss = gt.reduce_sum(gt.gather(x, [2, 1, 2]) ** 3.0)
        g = inner.gradient(loss, x)
    np.testing.assert_allclose(outer.gradient(g, x).numpy(), 6 * START * [[0], [1], [2], [0]])
    weighted = 6 * START * weights * [[0], [1], [2], [0]]
    np.testing.assert_allclose(outer.gradient(g, x, output_gradients=weights).numpy(), weighted)
    with pytest.raises(ShapeError, match=r"\(3, 2\).*\(4, 2\)"):
        outer.gradient(g, x, output_gradients=weights[:3])


def test_slices_as_output_gradients():
    x = table()
    cotangent = gt.IndexedSlices([[1.0, 2.0], [1.0, 1.0]], [3, 3], (4, 2))
    with gt.GradientTape() as tape:
        y = gt.cast(x, "float32") * 2.0
    got = tape.gradient(y, x, output_gradients=cotangent)
    np.testing.assert_array_equal(got.numpy(), [[0, 0], [0, 0], [0, 0], [4, 6]])


def test_the_derivative_of_the_derivative_by_its_cotangent():
    x, cotangent = table(), gt.Variable(np.ones((2, 2)))
    with gt.GradientTape() as outer:
        with gt.GradientTape() as inner:
            y = gt.gather(x, [1, 1]) * 3.0
        loss = gt.reduce_sum(inner.gradient(y, x, output_gradients=cotangent) ** 2.0)
    np.testing.assert_array_equal(outer.gradient(loss, cotangent).numpy(), np.full((2, 2), 36.0))


def test_slices_are_no_source_and_cannot_be_watched():
    slices = gt.IndexedSlices([[1.0]], [0], (2, 1))
    with gt.GradientTape() as tape:
        with pytest.raises(NotATensorError, match="IndexedSlices"):
            tape.watch(slices)
        y = gt.reduce_sum(slices)
    with pytest.raises(NotATensorError, match=r"IndexedSlices.*\.values"):
        tape.gradient(y, [slices])


# -- the class -----------------------------------------------------------------------------------------------


def test_what_slices_are():
    slices = gt.IndexedSlices([[1.0, 2.0], [3.0, 4.0]], [2, 0], (3, 2))
    assert (slices.shape, slices.dtype, slices.ndim, slices.size, len(slices)) == ((3, 2), "float32", 2, 6, 3)
    assert gt.is_tensor(slices)
    assert not isinstance(slices, gt.Tensor)
    assert str(slices) == (
        "IndexedSlices(indices=tf.Tensor([2 0], shape=(2,), dtype=int32), values=tf.Tensor(\n"
        "[[1. 2.]\n [3. 4.]], shape=(2, 2), dtype=float32), dense_shape=(3, 2))"
    )
    assert "tf.Tensor: shape=(2,), dtype=int32" in repr(slices)
    assert f"{slices}" == str(slices)
    assert np.asarray(slices, "float64").tolist() == [[3, 4], [0, 0], [1, 2]]
    assert not slices.numpy().flags.writeable
    values = gt.constant([[1.0]])
    assert gt.IndexedSlices(values, [0]).values is values


def test_slices_without_a_dense_shape():
    slices = gt.IndexedSlices([[1.0, 2.0]], [7])
    assert (slices.dense_shape, slices.dtype) == (None, np.dtype("float32"))
    assert "dense_shape" not in str(slices) + repr(slices)
    for use in (
        lambda: slices.shape,
        lambda: gt.convert_to_tensor(slices),
        lambda: slices * 2.0,
        slices.numpy,
    ):
        with pytest.raises(ShapeError, match="dense_shape"):
            use()
    assert (slices + slices).indices.numpy().tolist() == [7, 7]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies(copied):
    slices = gt.IndexedSlices([[1.0, 2.0]], [1], (3, 2))
    assert_slices(copied(slices), [[1.0, 2.0]], [1], (3, 2))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([[1.0]], [0, 1], (3, 1)), ShapeError, [r"\(1, 1\)", r"\(2,\)", r"\(k,\)"]),
        (([[1.0]], [[0]], (3, 1)), ShapeError, [r"\(1, 1\)"]),
        ((1.0, 0, (3,)), ShapeError, [r"\(\)"]),
        (([[1.0]], [0], (3, 2)), ShapeError, [r"\(1, 1\)", r"\(3, 2\)"]),
        (([1.0], [0], ()), ShapeError, [r"\(1,\)"]),
        (([[1.0]], [0.0], (3, 1)), DTypeError, ["float32", "integers", "cast"]),
        (([[1.0]], [-1], (3, 1)), OutOfRangeError, ["-1"]),
        (([[1.0]], [-1], None), OutOfRangeError, ["-1"]),
        (([[1.0]], [3], (3, 1)), OutOfRangeError, ["3"]),
        (([[1.0]], [0], (0, 1)), OutOfRangeError, ["0"]),
    ],
)
def test_what_does_not_fit_is_refused(arguments, error, words):
    with pytest.raises(error, match="IndexedSlices") as caught:
        gt.IndexedSlices(*arguments)
    for word in words:
        assert caught.match(word)


# -- what it costs -------------------------------------------------------------------------------------------


def traced(run: Callable[[], Any]) -> tuple[Any, int]:
    """What `run` returns, and the most bytes that were alive at once beyond those before it."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        return run(), tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def step(optimizer: Any, x: gt.Variable, indices: Any) -> None:
    with gt.GradientTape() as tape:
        loss = gt.reduce_sum(gt.nn.embedding_lookup(x, indices) ** 2.0)
    optimizer.apply_gradients([(tape.gradient(loss, x), x)])


@pytest.mark.parametrize("recorded", [False, True])
def test_a_gradient_of_a_lookup_makes_nothing_of_the_size_of_the_table(recorded):
    x = gt.Variable(np.ones((100_000, 8)))

    def loss(t):
        return gt.reduce_sum(gt.gather(t, [5, 7]) ** 2.0) + gt.reduce_sum(gt.gather(t, [5]))

    def run():
        if not recorded:
            return gradient(loss, x)
        with gt.GradientTape():
            return gradient(loss, x)

    run()
    g, most = traced(run)
    assert g.values.shape == (3, 8)
    assert most < 50_000


@pytest.mark.parametrize(
    "make",
    [lambda: SGD(0.1), lambda: SGD(0.1, momentum=0.9, weight_decay=0.1), lambda: Adam(clipnorm=1.0)],
    ids=["SGD", "momentum", "Adam"],
)
def test_a_step_makes_nothing_of_the_size_of_the_table(make):
    x, optimizer = gt.Variable(np.ones((100_000, 8))), make()
    step(optimizer, x, [1, 2])
    _, most = traced(lambda: step(optimizer, x, [1, 5]))
    assert most < 50_000


def test_lookups_are_joined_once_however_many_there_are():
    x = gt.Variable(np.ones((1000, 500)))
    with gt.GradientTape() as tape:
        loss = sum(gt.reduce_sum(gt.gather(x, [i])) for i in range(200))
    g, most = traced(lambda: tape.gradient(loss, x))
    assert g.values.shape == (200, 500)
    assert most < 2 * g.values.numpy().nbytes


# -- optimizers ----------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "SGD": lambda: SGD(0.1),
    "momentum": lambda: SGD(0.1, momentum=0.9),
    "nesterov": lambda: SGD(0.1, momentum=0.9, nesterov=True),
    "SGD, weight_decay": lambda: SGD(0.1, momentum=0.9, weight_decay=0.25),
    "SGD, clipnorm": lambda: SGD(0.1, clipnorm=0.5),
    "SGD, clipvalue": lambda: SGD(0.1, momentum=0.5, clipvalue=0.5),
    "SGD, global_clipnorm": lambda: SGD(0.1, global_clipnorm=0.5),
    "SGD, schedule": lambda: SGD(lambda i: 0.1 / (i + 1)),
    "Adam": lambda: Adam(0.1),
    "amsgrad": lambda: Adam(0.1, beta_2=0.5, amsgrad=True),
    "Adam, weight_decay": lambda: Adam(0.1, weight_decay=0.25),
    "Adam, clipnorm": lambda: Adam(0.1, epsilon=0.1, clipnorm=0.5),
    "Adam, clipvalue": lambda: Adam(0.1, epsilon=0.1, clipvalue=0.5),
    "Adam, global_clipnorm": lambda: Adam(0.1, epsilon=0.1, global_clipnorm=0.5),
}
every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


@every_optimizer
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_step_by_slices_of_all_rows_is_the_dense_step(make, dtype, order, rng):
    start = np.asarray(START, dtype, order=order)
    by_slices, by_dense = (gt.Variable(start) for _ in range(2))
    others = [gt.Variable([1.0], dtype=dtype) for _ in range(2)]
    first, second = make(), make()
    for indices in ([3, 1, 0, 2], [0, 1, 1, 2, 3, 3, 3], [0, 1, 2, 3]):
        values = rng.normal(size=(len(indices), 2)).astype(dtype)
        slices = gt.IndexedSlices(values, indices, (4, 2))
        other = np.array([0.5], dtype)
        first.apply_gradients([(slices, by_slices), (other, others[0])])
        second.apply_gradients([(slices.numpy(), by_dense), (other, others[1])])
    assert by_slices.dtype == dtype
    np.testing.assert_allclose(by_slices.numpy(), by_dense.numpy(), rtol={"float16": 4e-3}.get(dtype, 1e-6))
    np.testing.assert_allclose(others[0].numpy(), others[1].numpy(), rtol=4e-3)
    assert not np.allclose(by_slices.numpy(), START)


@every_optimizer
def test_rows_that_are_not_looked_up_stay_and_so_does_their_state(make):
    alone, x, optimizer, by_itself = table(), table(), make(), make()
    first, second = (gt.IndexedSlices(np.array([[1.0, -2.0]]), [i], (4, 2)) for i in (1, 2))
    for _ in range(3):
        optimizer.apply_gradients([(first, x)])
    np.testing.assert_array_equal(x.numpy()[[0, 2, 3]], START[[0, 2, 3]])
    for kept in (part.numpy() for part in optimizer._states[x]):
        assert not kept[[0, 2, 3]].any()
        assert kept[1].any()
    by_itself.iterations.assign(3)
    optimizer.apply_gradients([(second, x)])
    by_itself.apply_gradients([(second, alone)])
    np.testing.assert_array_equal(x.numpy()[2], alone.numpy()[2])


def test_duplicates_are_added_up_before_the_step():
    x = table()
    SGD(0.5).apply_gradients([(gt.IndexedSlices(np.array([[1.0, 1.0], [2.0, 4.0]]), [3, 3], (4, 2)), x)])
    np.testing.assert_array_equal(x.numpy()[3], START[3] - [1.5, 2.5])
    x, y = table(), table()
    for v, values, indices in ((x, [[1.0, 1.0], [2.0, 4.0]], [3, 3]), (y, [[3.0, 5.0]], [3])):
        Adam(0.5, epsilon=1.0).apply_gradients([(gt.IndexedSlices(np.array(values), indices, (4, 2)), v)])
    np.testing.assert_array_equal(x.numpy(), y.numpy())


def test_a_complex_table():
    x = gt.Variable(START + 1j)
    for _ in range(60):
        step_by = gradient(lambda t: gt.reduce_sum(gt.math.real(gt.abs(gt.gather(t, [1])) ** 2.0)), x)
        SGD(0.25).apply_gradients([(step_by, x)])
    np.testing.assert_allclose(x.numpy()[1], 0, atol=1e-6)
    np.testing.assert_array_equal(x.numpy()[0], START[0] + 1j)
    with pytest.raises(DTypeError, match=r"complex128.*Adam"):
        Adam().apply_gradients([(step_by, x)])


@every_optimizer
def test_an_empty_lookup_changes_nothing(make):
    x, optimizer = table(), make()
    step(optimizer, x, np.zeros((0, 2), int))
    np.testing.assert_array_equal(x.numpy(), START)
    assert int(optimizer.iterations) == 1


@pytest.mark.parametrize(
    ("slices", "error", "words"),
    [
        (gt.IndexedSlices([[1.0, 1.0]], [0], (5, 2)), ShapeError, r"table:0.*\(4, 2\).*\(5, 2\)"),
        (gt.IndexedSlices([[1.0, 1.0]], [0]), ShapeError, "dense_shape"),
        (gt.IndexedSlices([[1.0, 1.0]], [0], (4, 2)), DTypeError, "table:0.*float64.*float32.*cast"),
    ],
)
def test_slices_that_do_not_fit_are_named_and_nothing_is_changed(slices, error, words):
    x, first, optimizer = table(), gt.Variable([5.0]), Adam()
    with pytest.raises(error, match=words):
        optimizer.apply_gradients([([1.0], first), (slices, x)])
    assert (float(first[0]), int(optimizer.iterations)) == (5.0, 0)
    np.testing.assert_array_equal(x.numpy(), START)


# -- in place, but under nobody's eyes -----------------------------------------------------------------------


def moved(x: gt.Variable) -> bool:
    """Makes a step on row 1, and says whether the array has moved."""
    before = x.numpy().__array_interface__["data"]
    step(SGD(0.1), x, [1])
    assert x.numpy()[1].tolist() != START[1].tolist()
    return x.numpy().__array_interface__["data"] != before


def test_an_array_that_nobody_else_sees_is_changed_in_place():
    x = table()
    assert [moved(x) for _ in range(3)] == [False] * 3
    x.assign(gt.constant(START))
    assert not moved(x)
    x.assign_add(np.ones((4, 2)))
    assert not moved(x)
    x = gt.Variable(START.T.copy().T)
    assert not moved(x)


@pytest.mark.parametrize(
    "see",
    [
        lambda x: x.numpy(),
        lambda x: x.numpy()[1:, 0],
        np.asarray,
        lambda x: memoryview(x.numpy()),
        lambda x: x.numpy().ravel(),
        gt.identity,
        gt.convert_to_tensor,
        lambda x: x.value(),
        lambda x: gt.reshape(x, (2, 4)),
        lambda x: x[1:3],
        lambda x: x.T,
        lambda x: gt.transpose(x),
        lambda x: gt.Variable(x),
        copy.copy,
        copy.deepcopy,
    ],
)
def test_what_someone_holds_does_not_change_under_a_step(see):
    x = table()
    held = see(x)
    before = np.array(held)
    for _ in range(2):
        step(SGD(0.1), x, [1, 2])
    np.testing.assert_array_equal(np.array(held), before)
    assert not np.array_equal(x.numpy()[1], START[1])
    del held
    assert not moved(x)


def test_an_array_that_another_tensor_made_first():
    t = gt.constant(START)
    x = gt.Variable(t)
    assert moved(x)
    np.testing.assert_array_equal(t.numpy(), START)
    assert not moved(x)


def test_a_view_is_never_written_to():
    whole = gt.constant(np.concatenate([START, START]))
    x = gt.Variable(whole[:4])
    y = gt.Variable(whole[4:])
    del whole
    step(SGD(0.1), x, [1])
    step(SGD(0.1), y, [0])
    np.testing.assert_array_equal(x.numpy()[[0, 2, 3]], START[[0, 2, 3]])
    np.testing.assert_array_equal(y.numpy()[1:], START[1:])


def test_a_record_does_not_change_under_a_step():
    x = table()
    with gt.GradientTape() as outer:
        with gt.GradientTape() as inner:
            y = gt.reduce_sum(x**3.0)
        g = inner.gradient(y, x)
    step(SGD(0.1), x, [1])
    np.testing.assert_allclose(g.numpy(), 3 * START**2)
    np.testing.assert_allclose(outer.gradient(g, x).numpy(), 6 * START)


@pytest.mark.parametrize("name", ["SGD", "momentum", "amsgrad"])
def test_a_step_within_the_tapes_block(name):
    x, optimizer = table(), OPTIMIZERS[name]()
    with gt.GradientTape(persistent=True) as tape:
        loss = gt.reduce_sum(gt.gather(x, [1]) ** 2.0)
        dense = gt.reduce_sum(x**2.0)
        optimizer.apply_gradients([(tape.gradient(loss, x), x)])
    np.testing.assert_allclose(tape.gradient(loss, x).values.numpy(), 2 * START[[1]])
    np.testing.assert_allclose(tape.gradient(dense, x).numpy(), 2 * START)


@every_optimizer
def test_the_slices_are_not_written_to(make):
    x, optimizer = table(), make()
    slices = gt.IndexedSlices(x.value(), [0, 1, 2, 3], (4, 2))
    for _ in range(2):
        optimizer.apply_gradients([(slices, x)])
    np.testing.assert_array_equal(slices.values.numpy(), START)


def test_a_table_is_learned():
    x = gt.Variable(np.zeros((50, 3)))
    want = np.random.default_rng(0).normal(size=(50, 3))
    optimizer = Adam(0.1)
    for i in range(600):
        ids = np.random.default_rng(i).integers(0, 50, 20)
        with gt.GradientTape() as tape:
            loss = gt.reduce_mean((gt.nn.embedding_lookup(x, ids) - want[ids]) ** 2.0)
        optimizer.apply_gradients([(tape.gradient(loss, x), x)])
    np.testing.assert_allclose(x.numpy(), want, atol=1e-2)


def test_a_step_within_a_recomputed_function_leaves_what_the_recomputation_reads() -> None:
    table = gt.Variable(np.arange(1.0, 7.0).reshape(3, 2), trainable=False)

    @gt.recompute_grad
    def f(x):
        y = gt.gather(table, [1, 2]) * x
        gt.optimizers.SGD(1.0).apply_gradients([(gt.IndexedSlices(np.ones((1, 2)), [1], (3, 2)), table)])
        return y

    x = gt.constant(np.ones((2, 2)))
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    np.testing.assert_array_equal(y, [[3.0, 4.0], [5.0, 6.0]])
    np.testing.assert_array_equal(tape.gradient(y, x), [[3.0, 4.0], [5.0, 6.0]])
    np.testing.assert_array_equal(table, [[1.0, 2.0], [2.0, 3.0], [5.0, 6.0]])
