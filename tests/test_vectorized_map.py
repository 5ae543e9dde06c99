"""vectorized_map: the same as a loop over the examples, whatever runs inside and whoever listens where."""

from __future__ import annotations

import copy
import threading
import tracemalloc
import warnings
from typing import Any

import numpy as np
import pytest
from numerics import Pair, assert_close
from numerics import check as numerics_check

import gradtape as gt
from gradtape.errors import PerExampleError
from gradtape.extending import LEADING, VECTORS, Array, op
from gradtape.ops import batching
from gradtape.ops import op as declaring
from gradtape.recorders import listening
from gradtape.tensor import TensorLike

vmap = gt.vectorized_map
Accumulator = gt.autodiff.ForwardAccumulator

X = np.arange(1.0, 13.0).reshape(3, 4) / 4
W = np.array([1.0, -2.0, 0.5, 3.0])


def check(tensor, want, dtype="float64", rtol=1e-12):
    numerics_check(tensor, want, dtype, rtol)


def check_loop(f, *elems, rtol=1e-12):
    """f of all examples at once is f of one after the other."""
    elems = tuple(gt.convert_to_tensor(x) for x in elems)
    got = gt.structure.flatten(vmap(lambda args: f(*args), elems))
    wanted = [gt.structure.flatten(f(*(x[i] for x in elems))) for i in range(len(elems[0]))]
    for y, *ws in zip(got, *wanted, strict=True):
        want = np.stack([np.asarray(gt.convert_to_tensor(w)) for w in ws])
        check(y, want, want.dtype, rtol)


# -- structures ----------------------------------------------------------------------------------------------


def test_one_tensor():
    check(vmap(lambda row: gt.reduce_sum(row * row), gt.constant(X)), (X * X).sum(1))


@pytest.mark.parametrize(
    "elems",
    [X, gt.constant(X), gt.Variable(X), gt.IndexedSlices(X, [0, 1, 2], (3, 4))],
    ids=["ndarray", "Tensor", "Variable", "IndexedSlices"],
)
def test_every_kind_of_value_is_mapped_over(elems):
    check(vmap(lambda row: row[0] - row[1], elems), X[:, 0] - X[:, 1])


def test_structures_go_in_and_come_out():
    def f(e):
        assert isinstance(e["pair"], Pair)
        return [Pair(e["pair"].left + e["pair"].right[0], None), {"a": e["x"]}]

    got = vmap(f, {"x": X, "pair": Pair(X, [X[:, 0]])})
    assert isinstance(got, list)
    assert isinstance(got[0], Pair)
    check(got[0].left, X + X[:, :1])
    assert got[0].right is None
    check(got[1]["a"], X)


def test_results_that_do_not_depend_on_the_example_are_there_for_each():
    v = gt.Variable([1.0, 2.0])
    one, two, three, rows = vmap(
        lambda row: (v * 2.0, 7, np.float64(0.5), gt.IndexedSlices([[1.0]], [1], (2, 1))), X
    )
    check(one, [[2.0, 4.0]] * 3, "float32")
    check(two, [7] * 3, "int32")
    check(three, [0.5] * 3)
    check(rows, [[[0.0], [1.0]]] * 3, "float32")


def test_fn_runs_once():
    calls = []
    vmap(lambda row: calls.append(1) or row, X)
    assert len(calls) == 1
    vmap(lambda row: calls.append(1) or row, X, chunk_size=2)
    assert len(calls) == 3


@pytest.mark.parametrize("size", [1, 2, 3, 100, np.int64(2), None])
def test_chunks_change_nothing(size):
    v = gt.Variable(W)
    with gt.GradientTape() as tape:
        got, none = vmap(lambda row: (gt.sin(row * v), None), gt.constant(X), chunk_size=size)
    check(got, np.sin(X * W))
    assert none is None
    check(tape.gradient(got, v), (X * np.cos(X * W)).sum(0))


def test_chunks_bound_the_memory():
    x = gt.constant(np.ones((64, 1000)))
    peaks = []
    for size in (None, 4):
        tracemalloc.start()
        vmap(lambda row: gt.reduce_sum(gt.sin(row) * gt.cos(row)), x, chunk_size=size)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] / 8


@pytest.mark.parametrize("size", [0, -2, 1.5])
@pytest.mark.parametrize("n", [0, 3])
def test_sizes_that_are_none(size, n):
    with pytest.raises(ValueError, match="vectorized_map: chunk_size is"):
        vmap(lambda row: row, X[:n], chunk_size=size)


@pytest.mark.parametrize("n", [0, 1])
def test_no_example_and_one(n):
    v = gt.Variable(W)

    def f(row):
        with gt.GradientTape() as tape:
            tape.watch(row)
            y = gt.reduce_sum(gt.reshape(row, (2, -1))[0]) * gt.reduce_max(v * row)
        return tape.gradient(y, [row, v]), tape.watched_variables() == (v,), row[0] > 0

    (by_row, by_v), watched, positive = vmap(f, X[:n])
    assert (by_row.shape, by_v.shape, positive.shape) == ((n, 4), (n, 4), (n,))
    assert (by_row.dtype, positive.dtype) == (np.float64, np.bool_)
    assert watched.numpy().all()
    if n:
        check(by_v, [[0.0, 0.0, 0.0, X[0, :2].sum() * X[0, 3]]])


# -- tapes and accumulators ----------------------------------------------------------------------------------


def per_example(row, v):
    """Gradients within, of sum(sin(row * v)): v cos(row v) and row cos(row v)."""
    with gt.GradientTape() as tape:
        tape.watch(row)
        y = gt.reduce_sum(gt.sin(row * v))
    return tape.gradient(y, [row, v])


def test_gradients_of_each_example_by_a_shared_variable_and_by_itself():
    v = gt.Variable(W)
    by_row, by_v = vmap(lambda row: per_example(row, v), X)
    check(by_row, W * np.cos(X * W))
    check(by_v, X * np.cos(X * W))


def test_a_variable_that_the_example_does_not_meet():
    v = gt.Variable(W)

    def f(row):
        with gt.GradientTape() as tape:
            tape.watch(row)
            y = gt.reduce_sum(v * v)
        return tape.gradient(y, [row, v])

    none, by_v = vmap(f, X)
    assert none is None
    check(by_v, np.stack([2 * W] * 3))


def test_a_tape_around_it():
    v, x = gt.Variable(W), gt.constant(X)
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = vmap(lambda row: gt.reduce_sum(gt.sin(row * v)), x)
    by_x, by_v = tape.gradient(y, [x, v])
    assert tape.watched_variables() == (v,)
    check(by_x, W * np.cos(X * W))
    check(by_v, (X * np.cos(X * W)).sum(0))


def test_tapes_on_both_sides():
    v, x = gt.Variable(W), gt.constant(X)
    with gt.GradientTape() as tape:
        tape.watch(x)
        _, by_v = vmap(lambda row: per_example(row, v), x)
        y = gt.reduce_sum(by_v**2.0)
    by_x, by_v = tape.gradient(y, [x, v])
    s, c = np.sin(X * W), np.cos(X * W)
    check(by_x, 2 * X * c * (c - X * W * s))
    check(by_v, (-2 * X * c * X * X * s).sum(0))


def test_the_outer_tape_hears_of_the_whole_and_the_inner_one_of_one_example():
    v = gt.Variable(W)
    shapes = []
    with gt.GradientTape() as outer:

        def f(row):
            with gt.GradientTape() as inner:
                y = row * v
            shapes.append((y.shape, y.ndim, y.size, y.dtype, len(y)))
            return inner.gradient(y, v)

        g = vmap(f, X)
    check(g, X)
    assert shapes == [((4,), 1, 4, np.float64, 4)]
    assert outer.gradient(g, v) is None


def test_an_outer_tape_that_stops_for_a_while_goes_on_outside():
    v = gt.Variable(2.0)
    with gt.GradientTape() as tape:

        def f(a):
            y = a * v
            with tape.stop_recording():
                constant = a * v
            return y * constant

        y = vmap(f, gt.constant([1.0, 2.0]))
    check(tape.gradient(y, v), 2.0 + 8.0, "float32")


def test_an_accumulator_within():
    v = gt.Variable(W)

    def along_row(row):
        with Accumulator(v, row) as acc:
            y = gt.reduce_sum(v * v)
        return acc.jvp(y)

    check(vmap(along_row, X), (2 * X * W).sum(1))

    def by_row(row):
        with Accumulator(row, W) as acc:
            y = gt.sort(row * v)
        return acc.jvp(y)

    check_loop(by_row, X)


def test_an_accumulator_around_it():
    x, v = gt.constant(X), gt.Variable(W)
    with Accumulator([x, v], [np.ones_like(X), W]) as acc:
        y = vmap(lambda row: gt.reduce_sum(row * row * v), x)
    check(acc.jvp(y), (2 * X * W + X * X * W).sum(1))


def test_hessian_vector_products_of_each_example():
    def f(row):
        with Accumulator(row, W) as acc:
            with gt.GradientTape() as tape:
                tape.watch(row)
                y = gt.reduce_sum(row**4.0)
            g = tape.gradient(y, row)
        return acc.jvp(g)

    check(vmap(f, X), 12 * X**2 * W)


def test_the_jacobian_of_each_example():
    def f(row):
        with gt.GradientTape() as tape:
            tape.watch(row)
            y = row * gt.reduce_sum(row * row)
        return tape.jacobian(y, row, chunk_size=3)

    check(vmap(f, X), np.stack([np.eye(4) * (r @ r) + 2 * np.outer(r, r) for r in X]))


def test_assignment_in_place_under_a_tape():
    def f(row):
        with gt.GradientTape() as tape:
            tape.watch(row)
            y = gt.identity(row)
            z = y * y
            y[0] = y[1] * row[0]
            y[1:3] = 0.0
            loss = gt.reduce_sum(y * y) + gt.reduce_sum(z)
        return tape.gradient(loss, row), y

    check_loop(f, X)


def test_what_the_inner_tape_recorded_is_of_no_use_outside():
    v = gt.Variable(W)
    kept = []

    def f(row):
        with gt.GradientTape(persistent=True) as tape:
            y = gt.reduce_sum(row * v)
        kept.append((tape, y))
        return y

    vmap(f, X)
    tape, y = kept[0]
    with pytest.raises(PerExampleError, match="after it had ended"):
        tape.gradient(y, v)
    with pytest.raises(PerExampleError, match="after it had ended"):
        vmap(lambda row: tape.gradient(y, v), X)


# -- nested --------------------------------------------------------------------------------------------------


def test_every_pair():
    check(vmap(lambda r: vmap(lambda s: gt.reduce_sum(r * s), X), X), X @ X.T)


def test_row_by_row_and_column_by_column():
    def of_row(row):
        def of_element(e):
            with gt.GradientTape() as tape:
                tape.watch([row, e])
                y = gt.reduce_sum(row * e * e)
            return tape.gradient(y, [row, e])

        return vmap(of_element, row)

    by_row, by_element = vmap(of_row, X)
    check(by_row, np.broadcast_to((X * X)[:, :, None], (3, 4, 4)))
    check(by_element, 2 * X * X.sum(1, keepdims=True))


def test_three_deep_with_tapes_between():
    v = gt.Variable(1.5)

    def f(a):
        def g(b):
            with gt.GradientTape() as tape:
                y = vmap(lambda c: a * b * c * v * v, gt.constant([1.0, 2.0]))
            return tape.gradient(y, v)

        with gt.GradientTape() as tape:
            y = vmap(g, gt.constant([1.0, 10.0, 100.0]))
        return y, tape.gradient(y, v)

    first, second = vmap(f, gt.constant([1.0, 2.0]))
    base = np.outer([1.0, 2.0], [1.0, 10.0, 100.0]) * 3.0
    check(first, 2 * 1.5 * base, "float32", 1e-6)
    check(second, 2 * base.sum(1), "float32", 1e-6)


def test_a_map_of_what_the_examples_share_within_a_map():
    check(vmap(lambda r: vmap(lambda e: e * 2.0, gt.constant(W)), X), np.stack([2 * W] * 3))


# -- indices that differ -------------------------------------------------------------------------------------

I = np.array([0, 3, 2])  # noqa: E741
J = np.array([2, -1, 0])


@pytest.mark.parametrize(
    "read",
    [
        lambda row, i, j: row[i],
        lambda row, i, j: row[j],
        lambda row, i, j: gt.constant(X)[j, i],
        lambda row, i, j: gt.constant(X)[j],
        lambda row, i, j: gt.constant(X)[1, i],
        lambda row, i, j: gt.constant(X)[np.int64(1), i],
        lambda row, i, j: gt.constant(X)[j, [0, -1]],
        lambda row, i, j: gt.constant(X)[[j, 1], i],
        lambda row, i, j: gt.constant(X)[gt.stack([j, 0]), np.array([[1], [2]])],
        lambda row, i, j: gt.Variable(X)[j, 0],
        lambda row, i, j: row[[i, j]],
    ],
)
def test_reading_at_an_index_of_each_example(read):
    def gradient(row, i, j):
        with gt.GradientTape() as tape:
            tape.watch(row)
            y = gt.reduce_sum((row * read(row, i, j)) ** 2.0) if read(row, i, j).ndim == 0 else None
        return [read(row, i, j)] if y is None else [read(row, i, j), tape.gradient(y, row)]

    check_loop(gradient, X, I, J)


def test_writing_at_an_index_of_each_example():
    def f(row, i, j, v):
        with gt.GradientTape() as tape:
            tape.watch([row, v])
            t = gt.identity(row)
            t[i] = v * v
            t[j] = t[i] + 0.1
            t[i] = t[j] * t[1]
            loss = gt.reduce_sum(t * t)
        return t, tape.gradient(loss, [row, v])

    check_loop(f, X, I, J, W[:3])


def test_writing_a_row_at_an_index_of_each_example():
    def f(matrix, i, row):
        t = gt.identity(matrix)
        t[i] = row
        t[i, 1] = 0.1
        t[[i, 0], 0] = [5.0, 6.0]
        return t

    check_loop(f, np.stack([X] * 3), I - 1, X)


@pytest.mark.parametrize(
    ("x", "value", "error"),
    [
        (np.zeros((3, 4), int), 1.5, "cannot be stored"),
        (np.zeros((3, 4)), 1j, "cannot be stored"),
        (np.zeros((3, 4), np.uint8), 300, "does not fit"),
    ],
)
def test_what_cannot_be_stored_is_refused_at_an_index_of_each_example_too(x, value, error):
    def f(args):
        row, i = args
        t = gt.identity(row)
        t[i] = value
        return t

    with pytest.raises(gt.errors.DTypeError, match=error):
        vmap(f, (x, I))


@pytest.mark.parametrize(
    "read",
    [
        lambda x, i: x[i:],
        lambda x, i: x[:i],
        lambda x, i: x[::i],
        lambda x, i: x[i, :, i],
        lambda x, i: x[0, ..., gt.stack([i, i])],
        lambda x, i: x[x > i],
        lambda x, i: x[i, 0, 0],
        lambda x, i: x[gt.cast(i, "float32")],
        lambda x, i: gt.boolean_mask(x, x > i),
    ],
)
def test_indices_that_cannot_differ(read):
    with pytest.raises(PerExampleError, match="gather"):
        vmap(lambda i: read(gt.constant(X), i), I)


def test_an_index_beyond_the_axis():
    for i in ([0, 4], [-5, 0]):
        with pytest.raises(gt.errors.OutOfRangeError):
            vmap(lambda i: gt.constant(W)[i], gt.constant(i))


def test_lookups_of_each_example():
    table = gt.Variable(X)
    ids = np.array([[0, 1], [2, 2], [1, 0]])

    def f(ids):
        with gt.GradientTape() as tape:
            rows = gt.nn.embedding_lookup(table, ids, max_norm=2.0)
            loss = gt.reduce_sum(rows**2.0 * W)
        g = tape.gradient(loss, table)
        return rows, gt.convert_to_tensor(g), gt.gather(table, ids, axis=1), np.take(table, -ids - 1, -1)

    check_loop(f, ids)
    with gt.GradientTape() as tape:
        y = vmap(lambda i: gt.reduce_sum(gt.gather(table, i) ** 2.0), ids)
    check(tape.gradient(y, table), 2 * X * np.array([[2.0], [2.0], [2.0]]))


def test_a_lookup_that_the_examples_share_stays_rows_until_it_comes_out():
    table = gt.Variable(X)
    kinds = []

    def f(row):
        with gt.GradientTape() as tape:
            loss = gt.reduce_sum(gt.gather(table, [0, 2]))
        g = tape.gradient(loss, table)
        kinds.append(type(g))
        return g, g * row[0], gt.IndexedSlices(gt.expand_dims(row, 0), [1], (2, 4)), -g

    whole, scaled, made, negative = vmap(f, X)
    ones = np.ones((3, 4)) * [[1.0], [0.0], [1.0]]
    assert kinds == [gt.IndexedSlices]
    check(whole, np.stack([ones] * 3))
    check(scaled, X[:, :1, None] * ones)
    check(made, np.stack([np.zeros_like(X), X], 1))
    check(negative, -np.stack([ones] * 3))


def test_labels_of_each_example():
    def f(logits, label):
        with gt.GradientTape() as tape:
            tape.watch(logits)
            loss = gt.nn.sparse_softmax_cross_entropy_with_logits(label, logits)
        hot = gt.one_hot(label, 4, on_value=2.0, off_value=-1.0)
        return loss, tape.gradient(loss, logits), hot, gt.one_hot([label, 1], 3, axis=0)

    check_loop(f, X, I)


def test_orders_of_each_example():
    def f(row):
        order = gt.argsort(row, direction="DESCENDING")
        values, places = gt.math.top_k(row, 2)
        return (
            gt.gather(row, order),
            gt.sort(row),
            values,
            places,
            gt.argmax(row),
            gt.argmin(row),
            row[gt.argmax(row)],
        )

    check_loop(f, np.sin(7 * X))


@pytest.mark.filterwarnings("ignore:segment_sum has no batching rule")
def test_segments_of_each_example():
    ids = np.array([[0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1]])

    def f(row, ids):
        return gt.math.segment_sum(row, ids), gt.math.unsorted_segment_sum(row, ids - 1, 2)

    check_loop(f, X, ids)
    with pytest.raises(ValueError, match="same shape"):
        vmap(lambda a: gt.math.segment_sum(*a), (X, ids * np.array([[1], [2], [1]])))


def test_conditions_of_each_example():
    def f(row, i):
        with gt.GradientTape() as tape:
            tape.watch(row)
            chosen = gt.where(row > row[1], gt.sqrt(row), gt.where(i > 1, row * row, 3.0))
        return chosen, tape.gradient(chosen, row)

    check_loop(f, X, I)


# -- NumPy's functions, Python's numbers and lists -----------------------------------------------------------


@pytest.mark.parametrize(
    "f",
    [
        np.sin,
        np.sum,
        np.linalg.norm,
        np.cumsum,
        np.sort,
        lambda x: np.where(x > 1, x, 0.0),
        lambda x: np.linalg.solve(np.outer(x, x) + np.eye(4), x),
        lambda x: np.linalg.inv(np.diag(x)),
        lambda x: np.einsum("i,j->ij", x, W),
        lambda x: np.concatenate([x, W]),
        lambda x: np.stack([x, x]),
        lambda x: np.mean(x) + np.var(x),
        lambda x: np.float64(2.0) * x + W,
        lambda x: W @ x,
        lambda x: x @ np.eye(4) @ x,
        lambda x: np.split(x, 2)[1],
        lambda x: np.reshape(x, (*np.shape(x)[::-1], 1)) * np.ndim(x) * np.size(x),
    ],
)
def test_numpy_functions(f):
    check_loop(f, X)


def test_numpy_may_ask_for_shapes_and_dtypes():
    asked = []

    def f(row):
        asked.append(
            (np.shape(row), np.ndim(row), np.size(row), np.result_type(row, 1.0), np.iscomplexobj(row))
        )
        return row

    vmap(f, X.astype("f"))
    assert asked == [((4,), 1, 4, np.float32, False)]


@pytest.mark.parametrize(
    "f",
    [
        lambda x: [x[0], 1.0, 2, x[1]] * x,
        lambda x: gt.stack([x[0], 0.1]),
        lambda x: gt.constant([[x[0], 1.0], [2.0, x[1]]]),
        lambda x: gt.concat([x, [0.1]], 0),
        lambda x: 0.1 * x - 1,
        lambda x: 2**x,
        lambda x: gt.matmul([[0.1] * 4], gt.expand_dims(x, 1)),
        lambda x: gt.maximum(x, 1),
        lambda x: gt.where(x > 1, 0.1, x),
        lambda x: gt.fill((2,), x[0]),
        lambda x: gt.linspace(x[0], 1.0, 3),
        lambda x: sum(e for e in x),
    ],
)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "uint8"])
def test_python_numbers_and_lists_are_as_weak_as_in_one_example(f, dtype):
    check_loop(f, np.ceil(X).astype(dtype), rtol=1e-3 if dtype == "float16" else 1e-6)


@pytest.mark.parametrize("other", ["float16", "float32", "float64", "complex64", "int32", "int64", "bool"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "int32", "complex128"])
def test_dtypes_that_differ_promote_as_in_one_example(dtype, other):
    shared = gt.constant(np.ones(4, other))
    x = np.ceil(X).astype(dtype)
    check_loop(lambda row: (row + shared, shared * row, row @ shared, gt.stack([row, shared])), x, rtol=1e-3)
    check_loop(
        lambda row, y: (row + y, gt.concat([y, row], 0)), x, np.ones((3, 2, 4), other)[:, 0], rtol=1e-3
    )


# -- what it refuses -----------------------------------------------------------------------------------------


def loop(x):
    while x > 0:
        x = x - 1
    return x


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x if x > 1 else -x,
        loop,
        float,
        int,
        complex,
        lambda x: x.numpy(),
        np.asarray,
        lambda x: np.array([x, x]),
        lambda x: [1, 2, 3][gt.cast(x, "int32")],
        lambda x: range(gt.cast(x, "int32")),
        lambda x: gt.range(gt.cast(x, "int32")),
        lambda x: gt.reshape(gt.ones((4,)), [gt.cast(x, "int32")]),
        lambda x: gt.zeros([gt.cast(x, "int32")]),
        lambda x: gt.zeros(gt.cast(x, "int32")),
        lambda x: gt.reduce_sum(gt.ones((2, 2)), gt.cast(x, "int32")),
        lambda x: gt.one_hot(1, gt.cast(x, "int32")),
        lambda x: gt.pad([1.0], [[1, 1]], constant_values=x),
        lambda x: gt.norm([1.0], ord=x),
        lambda x: f"{x:.2f}",
        lambda x: gt.Variable(x),
        lambda x: gt.Variable(1.0, dtype="float64").assign(x),
        lambda x: "yes" if x in [1.0, 2.0] else "no",
    ],
)
def test_one_plain_value_is_not_to_be_had(f):
    with pytest.raises(PerExampleError):
        vmap(lambda x: [f(x), x][1], X[:, 0])
    assert not listening()


def test_it_can_be_shown_and_copied():
    shown = []

    def f(row):
        shown.extend([str(row), repr(row), f"{row}", format(row)])
        return copy.copy(row) + copy.deepcopy(row)

    check(vmap(f, X), 2 * X)
    assert set(shown) == {"<tf.Tensor: shape=(4,), dtype=float64, one for each of 3 examples>"}


@pytest.mark.parametrize(
    "use",
    [
        lambda x: x + 1.0,
        lambda x: gt.constant([1.0]) * x,
        lambda x: gt.reduce_sum(x),
        lambda x: gt.stack([x, x]),
        lambda x: x[0],
        lambda x: vmap(lambda y: x, W),
        lambda x: vmap(lambda y: x + y, X),
        lambda x: vmap(lambda y: y * 1.0, x),
    ],
)
def test_a_tensor_that_leaked_out_of_its_map(use):
    leaked = []
    vmap(lambda row: leaked.append(row) or row, X)
    with pytest.raises(PerExampleError, match="after it had ended"):
        use(leaked[0])
    with pytest.raises(PerExampleError):
        leaked[0].numpy()
    assert leaked[0].shape == (4,)


@pytest.mark.parametrize(
    ("elems", "message"),
    [
        (1.0, r"got shapes \[\(\)\]"),
        ((X, X[:2]), r"got shapes \[\(3, 4\), \(2, 4\)\]"),
        ((X, 1.0), r"got shapes \[\(3, 4\), \(\)\]"),
        ([], r"got shapes \[\]"),
        ({}, r"got shapes \[\]"),
    ],
)
def test_elems_that_are_no_examples(elems, message):
    with pytest.raises(ValueError, match=message):
        vmap(lambda e: e, elems)


def test_none_is_nothing_to_map_over():
    with pytest.raises(gt.errors.DTypeError, match="None"):
        vmap(lambda e: e[0], (X, None))


@pytest.mark.parametrize("result", [None, [], {}, (None, None)])
def test_a_function_that_returns_nothing(result):
    def nothing(row):
        return result

    with pytest.raises(gt.errors.NotATensorError, match="vectorized_map: nothing returned"):
        vmap(nothing, X)
    with pytest.raises(gt.errors.DTypeError, match="cannot make a tensor of 'text'"):
        vmap(lambda row: "text", X)


def test_an_error_within_leaves_no_recorder_on_the_stack():
    def f(row):
        with gt.GradientTape(), Accumulator(row, gt.ones_like(row)):
            raise KeyError

    for size in (None, 2):
        with pytest.raises(KeyError):
            vmap(f, X, chunk_size=size)
        assert not listening()
    with pytest.raises(gt.errors.ShapeError):
        vmap(lambda row: vmap(lambda e: row @ gt.ones((3,)), row), X)
    assert not listening()
    check(vmap(lambda row: row, X), X)


def test_errors_name_the_op_and_the_shapes_of_one_example():
    with pytest.raises(gt.errors.ShapeError, match=r"det: wanted square matrices .* got shape \(4,\)"):
        vmap(gt.linalg.det, X)
    with pytest.raises(gt.errors.AxisError, match="axis 1 is out of bounds for array of dimension 1"):
        vmap(lambda row: gt.reduce_sum(row, 1), X)


@pytest.mark.parametrize("part", [lambda t: t[0:2], lambda t: t[1:, None], lambda t: t.T])
def test_assigning_to_a_part_is_refused_as_in_one_example(part):
    def f(row):
        t = part(gt.identity(row))
        t[0] = 1.0
        return t

    with pytest.raises(gt.errors.InPlaceError):
        f(gt.constant(X[0]))
    with pytest.raises(gt.errors.InPlaceError):
        vmap(f, X)


def test_assigning_what_differs_to_what_is_shared():
    def f(row):
        t = gt.zeros((4,), "float64")
        t[0] = row[0]
        return t

    def as_advised(row):
        t = gt.zeros((4,), "float64")
        t = t + gt.zeros_like(row) * row
        t[0] = row[0]
        return t

    with pytest.raises(gt.errors.InPlaceError, match="the examples share"):
        vmap(f, X)
    check_loop(as_advised, X)


# -- ops without a rule --------------------------------------------------------------------------------------


@pytest.fixture
def told_of_nothing(monkeypatch):
    """Nobody has been warned of any op yet."""
    monkeypatch.setattr(batching, "_told_of", set())


@pytest.mark.usefixtures("scratch_registry", "told_of_nothing")
def test_an_op_without_a_batching_rule_runs_example_by_example_and_warns_once():
    calls = []

    @declaring.op(vjp=lambda xp, g, x: 2.0 * g * x)
    def squared_slowly(x: TensorLike) -> Any:
        calls.append(x.shape)
        return x * x

    def f(row):
        with gt.GradientTape() as tape:
            tape.watch(row)
            y = squared_slowly(row)
        return y, tape.gradient(y, row)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        y, g = vmap(f, X)
        vmap(f, X)
    check(y, X * X)
    check(g, 2 * X)
    assert calls == [(4,)] * 6
    (warning,) = caught
    assert "squared_slowly has no batching rule" in str(warning.message)
    assert warning.filename == __file__
    with pytest.raises(gt.errors.ShapeError, match="there is none to tell its shape"):
        vmap(squared_slowly, X[:0])


@pytest.mark.usefixtures("scratch_registry", "told_of_nothing")
def test_ops_of_several_operands_and_results_run_example_by_example_too():
    @declaring.op(vjp=(lambda xp, g, b: xp.multiply(g[0], b), None))
    def both_ways(a: TensorLike, b: TensorLike) -> Any:
        return [a * b, a.sum()]

    with pytest.warns(UserWarning, match="both_ways has no batching rule"):
        product, total = vmap(lambda row: both_ways(row, W), X)
    check(product, X * W)
    check(total, X.sum(1))


@pytest.mark.usefixtures("told_of_nothing")
def test_an_op_that_refuses_its_operands_does_not_warn():
    with pytest.raises(gt.errors.ShapeError, match="matmul"):
        vmap(lambda row: row @ gt.ones((3,)), X)


# -- threads -------------------------------------------------------------------------------------------------


def test_threads_do_not_meet():
    found = {}

    def run(k):
        found[k] = vmap(lambda r: vmap(lambda s: gt.reduce_sum(r * s) * k, X), X)

    threads = [threading.Thread(target=run, args=(float(k),)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(4):
        check(found[float(k)], k * (X @ X.T))


def test_another_thread_is_not_within_the_map():
    raised = []

    def f(row):
        def run():
            try:
                row + 1.0
            except PerExampleError as problem:
                raised.append(str(problem))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return row

    check(vmap(f, X), X)
    assert len(raised) == 1


BESIDE_SLICES = {
    "x[:, i]": lambda x, i: x[:, i],
    "x[..., i]": lambda x, i: x[..., i],
    "x[i, :]": lambda x, i: x[i, :],
    "x[None, :, i]": lambda x, i: x[None, :, i],
    "x[1:, i]": lambda x, i: x[1:, i],
    "x[i, ..., None]": lambda x, i: x[i, ..., None],
    "x[i, 2:5]": lambda x, i: x[i, 2:5],
}


@pytest.mark.parametrize("read", BESIDE_SLICES.values(), ids=BESIDE_SLICES)
@pytest.mark.parametrize(
    "index", [np.array([1, -2]), np.array([[0, 1, -1], [2, 2, 0]])], ids=["one", "three"]
)
def test_an_index_per_example_beside_slices(read: Any, index: np.ndarray) -> None:
    x = np.arange(48.0).reshape(2, 3, 8)
    got = gt.vectorized_map(lambda both: read(*both), (x, index))
    np.testing.assert_array_equal(got, [read(x[k], index[k]) for k in range(2)])

    def loss(x: gt.Tensor) -> gt.Tensor:
        return gt.reduce_sum(gt.vectorized_map(lambda both: read(*both), (x, index)))

    counts = np.zeros_like(x)
    for k in range(2):
        np.add.at(counts[k], *_where(read, index[k]))
    np.testing.assert_array_equal(gt.grad(loss)(x), counts)


def _where(read: Any, index: np.ndarray) -> tuple[Any, Any]:
    """The places that are read from an array of shape (3, 8), each as often as it is."""
    places = np.ravel(read(np.arange(24).reshape(3, 8), index))
    return np.unravel_index(places, (3, 8)), np.ones(places.size)


def test_each_example_draws_its_own_random_numbers() -> None:
    x = gt.constant(np.zeros((4, 3)))
    draws = {
        "normal": lambda row: gt.random.normal([2], mean=row[0], dtype="float64"),
        "truncated_normal": lambda row: gt.random.truncated_normal([2], dtype="float64") + row[0],
        "uniform": lambda row: gt.random.uniform([2], 1.0, 2.0, dtype="float64"),
        "integers": lambda row: gt.random.uniform([2], 0, 2**30, dtype="int32"),
        "dropout": lambda row: gt.nn.dropout(gt.ones((40,)), 0.5),
        "shuffle": lambda row: gt.random.shuffle(gt.range(40)),
        "a generator": lambda row: gt.random.Generator.from_seed(1).normal([2]),
        "a seed": lambda row: gt.random.normal([2], seed=3),
    }
    for name, draw in draws.items():
        drawn = gt.vectorized_map(draw, x).numpy()
        assert len({row.tobytes() for row in drawn}) == 4, name
    uniform = gt.vectorized_map(draws["uniform"], x).numpy()
    assert (uniform >= 1.0).all()
    assert (uniform < 2.0).all()
    shuffled = gt.vectorized_map(draws["shuffle"], x).numpy()
    np.testing.assert_array_equal(np.sort(shuffled, 1), np.tile(np.arange(40), (4, 1)))
    nested = gt.vectorized_map(lambda row: gt.vectorized_map(lambda y: gt.random.normal([]), row), x).numpy()
    assert len(set(nested.ravel().tolist())) == nested.size


def test_the_rows_of_a_jacobian_share_their_random_numbers() -> None:
    def noisy(x: Any) -> Any:
        return x * gt.random.normal([3], dtype="float64", seed=1)

    slopes = {}
    for mode in ("forward", "reverse"):
        gt.random.set_seed(0)
        slopes[mode] = gt.jacobian(noisy, mode=mode)(np.ones(3))
    np.testing.assert_array_equal(slopes["forward"], slopes["reverse"])
    assert np.count_nonzero(slopes["forward"]) == 3


def test_derivatives_of_ones_own_map_over_examples() -> None:
    """Ten times the derivative, to see whose rule is used: for each example, and for all."""

    @gt.custom_gradient
    def square(x: Any, w: Any) -> Any:
        return x * x * w, lambda g: (g * 20.0 * x * w, gt.reduce_sum(g * 10.0 * x * x))

    @gt.custom_jvp
    def cube(x: Any) -> Any:
        return x**3.0

    cube.defjvp(lambda primals, tangents: (primals[0] ** 3.0, 30.0 * primals[0] ** 2 * tangents[0]))
    wave = gt.recompute_grad(lambda x, w: gt.sin(x) * w)
    xs, w = gt.constant(np.arange(1.0, 5.0)), gt.Variable(2.0, dtype="float64")
    x = xs.numpy()
    for f, by_x, by_w in (
        (square, 40.0 * x, 10.0 * x * x),
        (lambda x, w: cube(x) * w, 60.0 * x**2, x**3),
        (wave, 2.0 * np.cos(x), np.sin(x)),
    ):

        def inside(x: Any, f: Any = f) -> Any:
            with gt.GradientTape() as tape:
                tape.watch(x)
                y = f(x, w)
            return tape.gradient(y, [x, w])

        def forward_inside(x: Any, f: Any = f) -> Any:
            with gt.autodiff.ForwardAccumulator(x, gt.ones_like(x)) as accumulator:
                y = f(x, w)
            return accumulator.jvp(y)

        for got, want in zip(gt.vectorized_map(inside, xs), (by_x, by_w), strict=True):
            assert_close(got, want, 1e-14)
        assert_close(gt.vectorized_map(forward_inside, xs), by_x, 1e-14)
        with gt.GradientTape() as tape:
            tape.watch(xs)
            total = gt.reduce_sum(gt.vectorized_map(lambda x, f=f: f(x, w), xs))
        for got, want in zip(tape.gradient(total, [xs, w]), (by_x, np.sum(by_w)), strict=True):
            assert_close(got, want, 1e-14)
        with gt.autodiff.ForwardAccumulator(xs, gt.ones_like(xs)) as accumulator:
            y = gt.vectorized_map(lambda x, f=f: f(x, w), xs)
        assert_close(accumulator.jvp(y), by_x, 1e-14)
        for mode in ("forward", "reverse"):
            assert_close(gt.jacobian(lambda x, f=f: f(x, w), mode=mode)(x), np.diag(by_x), 1e-14)


def test_a_first_axis_of_length_one_stands_for_all_examples() -> None:
    pairs = vmap(lambda e: e[0] * e[1], (gt.constant([[1.0, 2.0], [3.0, 4.0]]), gt.constant([10.0])))
    np.testing.assert_array_equal(pairs, [[10.0, 20.0], [30.0, 40.0]])
    with gt.GradientTape() as tape:
        shared = gt.constant([2.0])
        tape.watch(shared)
        y = vmap(lambda e: e[0] * e[1], (gt.constant([1.0, 3.0, 5.0]), shared), chunk_size=2)
    np.testing.assert_array_equal(tape.gradient(y, shared), [9.0])


@pytest.mark.parametrize("equation", ["i,ij->ij", "ij,ij->", "ij,kj->ik", "ii->i"])
def test_einsum_in_a_map_within_a_map(equation: str) -> None:
    rng = np.random.default_rng(0)
    shapes = [(2, 3, *[4] * len(term)) for term in equation.split("->")[0].split(",")]
    arrays = [rng.normal(size=shape) for shape in shapes]
    got = vmap(lambda e: vmap(lambda f: gt.einsum(equation, *f), e), list(map(gt.constant, arrays)))
    want = [[np.einsum(equation, *(a[i, j] for a in arrays)) for j in range(3)] for i in range(2)]
    np.testing.assert_allclose(got, want)


def test_the_jacobian_of_an_einsum_within_a_map() -> None:
    a, x = np.random.default_rng(0).normal(size=(2, 3, 3)), np.ones((2, 3))
    got = vmap(lambda e: gt.jacobian(lambda x: gt.einsum("ij,j->i", e[0], x))(e[1]), (a, x))
    np.testing.assert_allclose(got, a)


@pytest.mark.usefixtures("scratch_registry")
@pytest.mark.parametrize("batch", [LEADING, VECTORS])
def test_operands_of_different_ranks_keep_their_examples_apart(batch: str) -> None:
    """The examples' axes must meet each other, not an axis of the other operand that is as long."""

    @op(vjp=(lambda xp, g, b: g * b, None), batch=batch)
    def stretched(a: TensorLike, b: TensorLike) -> Array:
        return a * b

    a, b = np.arange(27.0).reshape(3, 3, 3), np.arange(9.0).reshape(3, 3)
    got = vmap(lambda e: stretched(*e), (gt.constant(a), gt.constant(b)))
    np.testing.assert_array_equal(got, [x * y for x, y in zip(a, b, strict=True)])
