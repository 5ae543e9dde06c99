"""NumPy's protocols: functions called on tensors are recorded, and nothing leaves a tape unseen."""

import contextlib
import re

import numpy as np
import pytest

import gradtape as gt

A = np.array([[0.5, 1.5, -0.25], [2.0, -1.0, 0.75]])
SQUARE = np.array([[2.0, 0.5], [-1.0, 3.0]])


def check(tensor, want, dtype="float64", rtol=1e-12):
    """A tensor of this dtype, of the shape of `want`, and close to it."""
    assert isinstance(tensor, gt.Tensor), tensor
    assert tensor.dtype == np.dtype(dtype)
    assert tensor.shape == np.shape(want)
    np.testing.assert_allclose(tensor.numpy(), want, rtol=rtol, atol=rtol)


def central(f, x, h=1e-6):
    """The gradient of a scalar function of one float64 array, by central differences."""
    g = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += h
        down[i] -= h
        g[i] = (f(up) - f(down)) / (2 * h)
    return g


FUNCTIONS = {
    "sin": (lambda x: np.sin(x), A),
    "cos": (lambda x: np.cos(x), A),
    "tan": (lambda x: np.tan(x), A),
    "exp": (lambda x: np.exp(x), A),
    "expm1": (lambda x: np.expm1(x), A),
    "log": (lambda x: np.log(x), np.abs(A)),
    "log1p": (lambda x: np.log1p(x), np.abs(A)),
    "sqrt": (lambda x: np.sqrt(x), np.abs(A)),
    "tanh": (lambda x: np.tanh(x), A),
    "sinh": (lambda x: np.sinh(x), A),
    "cosh": (lambda x: np.cosh(x), A),
    "arcsin": (lambda x: np.arcsin(x), A / 4),
    "arccos": (lambda x: np.arccos(x), A / 4),
    "arctan": (lambda x: np.arctan(x), A),
    "arcsinh": (lambda x: np.arcsinh(x), A),
    "arctanh": (lambda x: np.arctanh(x), A / 4),
    "square": (lambda x: np.square(x), A),
    "reciprocal": (lambda x: np.reciprocal(x), A),
    "negative": (lambda x: np.negative(x), A),
    "absolute": (lambda x: np.absolute(x), A),
    "abs": (lambda x: np.abs(x), A),
    "add": (lambda x: np.add(x, [1.0, 2.0, 3.0]), A),
    "add, from the right": (lambda x: np.add(A, x), A[0]),
    "subtract": (lambda x: np.subtract(1.0, x), A),
    "multiply": (lambda x: np.multiply(x, x), A),
    "divide": (lambda x: np.divide(A, x), A),
    "true_divide": (lambda x: np.true_divide(x, 3.0), A),
    "power": (lambda x: np.power(x, 3), A),
    "maximum": (lambda x: np.maximum(x, 0.3), A),
    "minimum": (lambda x: np.minimum(0.3, x), A),
    "arctan2": (lambda x: np.arctan2(x, A + 3.0), A),
    "matmul": (lambda x: np.matmul(SQUARE, x), A),
    "dot": (lambda x: np.dot(SQUARE, x), A),
    "einsum": (lambda x: np.einsum("ij,kj->ik", x, A), A),
    "tensordot": (lambda x: np.tensordot(x, A, axes=[[0, 1], [0, 1]]), A),
    "sum": (lambda x: np.sum(x * x), A),
    "sum, axis": (lambda x: np.sum(x * x, axis=0), A),
    "sum, axes, keepdims": (lambda x: np.sum(x * x, axis=(0, 1), keepdims=True), A),
    "mean": (lambda x: np.mean(x * x, axis=1), A),
    "prod": (lambda x: np.prod(x, axis=-1), A),
    "max": (lambda x: np.max(x, axis=1), A),
    "amin": (lambda x: np.amin(x), A),
    "var": (lambda x: np.var(x), A),
    "std": (lambda x: np.std(x, axis=0), A),
    "cumsum": (lambda x: np.cumsum(x, axis=1), A),
    "cumprod": (lambda x: np.cumprod(x, axis=1), A),
    "concatenate": (lambda x: np.concatenate([x, x * x]), A),
    "concatenate, axis": (lambda x: np.concatenate((x, A, x), axis=1), A),
    "stack": (lambda x: np.stack([x, x], axis=-1), A),
    "split": (lambda x: np.split(x, 3, axis=1)[1], A),
    "reshape": (lambda x: np.reshape(x, (3, -1)), A),
    "transpose": (lambda x: np.transpose(x), A),
    "expand_dims": (lambda x: np.expand_dims(x, 1), A),
    "atleast_1d": (lambda x: np.atleast_1d(x[0, 0]), A),
    "atleast_2d": (lambda x: np.atleast_2d(x[0]) * np.atleast_2d(x[0, 0], x[1])[1], A),
    "atleast_3d": (lambda x: np.atleast_3d(x) + np.atleast_3d(x[0, 1]), A),
    "squeeze": (lambda x: np.squeeze(x[None]), A),
    "broadcast_to": (lambda x: np.broadcast_to(x, (4, 2, 3)), A),
    "tile": (lambda x: np.tile(x, (2, 1)), A),
    "repeat": (lambda x: np.repeat(x, 2, axis=0), A),
    "roll": (lambda x: np.roll(x, 1, axis=1), A),
    "flip": (lambda x: np.flip(x, axis=0), A),
    "where": (lambda x: np.where(A > 0.6, x, x * x), A),
    "where, other side": (lambda x: np.where(A > 0.6, 1.0, x), A),
    "clip": (lambda x: np.clip(x, -0.5, 1.0), A),
    "take": (lambda x: np.take(x, [0, 2], axis=1), A),
    "sort": (lambda x: np.sort(x, axis=1), A),
    "trace": (lambda x: np.trace(x), SQUARE),
    "diagonal or diag": (lambda x: np.diag(x), SQUARE),
    "real": (lambda x: np.real(x), A),
    "linalg.inv": (lambda x: np.linalg.inv(x), SQUARE),
    "linalg.det": (lambda x: np.linalg.det(x), SQUARE),
    "linalg.solve": (lambda x: np.linalg.solve(x, A), SQUARE),
    "linalg.solve, right": (lambda x: np.linalg.solve(SQUARE, x), A),
    "linalg.norm": (lambda x: np.linalg.norm(x), A),
    "linalg.cholesky": (lambda x: np.linalg.cholesky(x @ x.T), SQUARE),
    "ndarray + t": (lambda x: A + x, A[0]),
    "ndarray - t": (lambda x: A - x, A),
    "ndarray * t": (lambda x: A * x, A[0]),
    "ndarray / t": (lambda x: A / x, A),
    "ndarray ** t": (lambda x: np.abs(A) ** x, A),
    "ndarray @ t": (lambda x: SQUARE @ x, A),
    "scalar * t": (lambda x: np.float64(2.0) * x, A),
}


@pytest.mark.parametrize(("f", "x"), FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_numpy_functions_are_recorded(f, x):
    want = f(x)
    weight = np.random.default_rng(0).normal(size=want.shape)
    for make in (gt.constant, gt.Variable):
        t = make(x)
        with gt.GradientTape() as tape:
            tape.watch(t)
            y = f(t)
        check(y, want)
        g = tape.gradient(y, t, output_gradients=weight)
        check(g, central(lambda x: np.sum(f(x) * weight), x), rtol=1e-7)


def test_numpy_functions_agree_with_the_op_of_their_name():
    x = gt.constant(A)
    pairs = [
        (np.sin(x), gt.sin(x)),
        (np.sum(x, axis=0), gt.reduce_sum(x, axis=0)),
        (np.concatenate([x, x], axis=1), gt.concat([x, x], axis=1)),
        (np.where(x > 0.0, x, 0.0), gt.where(x > 0.0, x, 0.0)),
        (np.linalg.inv(gt.constant(SQUARE)), gt.linalg.inv(SQUARE)),
    ]
    for a, b in pairs:
        assert repr(a) == repr(b)


def test_numpy_functions_without_a_derivative_give_tensors_too():
    x = gt.constant(A)
    check(np.argmax(x, axis=1), [1, 0], np.argmax(x, axis=1).dtype)
    check(np.sign(x), np.sign(A))
    check(np.floor(x), np.floor(A))
    check(np.isnan(x), np.isnan(A), "bool")
    check(np.isfinite(x), np.isfinite(A), "bool")
    check(np.greater(x, 0.6), A > 0.6, "bool")
    check(np.equal(A, x), A == A, "bool")
    check(np.logical_and(x > 0.0, x < 1.0), (A > 0) & (A < 1), "bool")
    check(np.zeros_like(x), np.zeros((2, 3)))
    check(np.ones_like(x), np.ones((2, 3)))
    assert bool(np.all(x < 5.0)) is True
    assert bool(np.any(x > 5.0)) is False
    assert np.shape(x) == (2, 3)
    assert np.ndim(x) == 2
    assert np.size(x) == 6


def test_numpy_functions_keep_float32_and_promote_as_numpy_does():
    x = gt.constant([1.0, 2.0])
    check(np.sin(x), np.sin(np.float32([1, 2])), "float32", 1e-6)
    check(np.add(x, np.array([1.0, 2.0])), [2.0, 4.0], "float64")
    check(np.add(x, 1.0), [2.0, 3.0], "float32")
    check(np.float64(2.0) * x, [2.0, 4.0], "float64")
    check(np.float32(2.0) * x, [2.0, 4.0], "float32")
    check(x * np.float64(2.0), [2.0, 4.0], "float64")


def test_numpy_functions_reach_higher_orders():
    x = gt.constant(np.float64(0.7))
    with gt.GradientTape() as outer:
        outer.watch(x)
        with gt.GradientTape() as inner:
            inner.watch(x)
            y = np.sin(x) * np.exp(x)
        g = inner.gradient(y, x)
    check(g, np.exp(0.7) * (np.sin(0.7) + np.cos(0.7)))
    check(outer.gradient(g, x), 2 * np.exp(0.7) * np.cos(0.7))


def test_numpy_functions_are_an_access_of_a_variable():
    v = gt.Variable(A)
    with gt.GradientTape() as tape:
        y = np.sum(np.multiply(A, v))
    assert [w is v for w in tape.watched_variables()] == [True]
    check(tape.gradient(y, v), A)


@pytest.mark.parametrize("call", [lambda t: np.hypot(t, 1.0), lambda t: np.interp(t, [0, 1], [0, 1])])
def test_no_function_is_called_near_that_only_shares_letters(call):
    with pytest.raises(TypeError, match="has no op here; write it with functions that have one, and numpy"):
        call(gt.constant(0.5))


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("median", lambda t: np.median(t)),
        ("fft", lambda t: np.fft.fft(t)),
        ("convolve", lambda t: np.convolve(t[0], t[1])),
        ("histogram", lambda t: np.histogram(t)),
        ("nansum", lambda t: np.nansum(t)),
        ("cbrt", lambda t: np.cbrt(t)),
        ("heaviside", lambda t: np.heaviside(t, 0.5)),
        ("eigvals", lambda t: np.linalg.eigvals(t[:, :2])),
        ("nextafter", lambda t: np.nextafter(1.0, t)),
        ("copyto", lambda t: np.copyto(np.zeros((2, 3)), t)),
        ("put", lambda t: np.put(np.zeros(6), [0, 1, 2, 3, 4, 5], t)),
        ("fmod", lambda t: np.fmod(t, 2.0)),
    ],
)
@pytest.mark.parametrize("followed", [True, False])
def test_a_numpy_function_without_an_op_is_named_with_the_nearest_that_has_one(name, call, followed):
    t = gt.constant(A)
    with gt.GradientTape() as tape:
        if followed:
            tape.watch(t)
        with pytest.raises(TypeError, match=rf"\b{name}\b") as caught:
            call(t)
        y = t * t
    message = str(caught.value)
    offered = {
        word
        for word in re.findall(r"\w+", message)
        if word != name
        and (
            hasattr(gt, word) or hasattr(gt.math, word) or hasattr(gt.numpy, word) or hasattr(gt.linalg, word)
        )
    }
    assert offered - {"numpy", "math", "linalg", "constant"}, message
    if followed:
        check(tape.gradient(y, t), 2 * A)


@pytest.mark.parametrize(
    "call",
    [
        lambda t: np.add.reduce(t),
        lambda t: np.multiply.outer(t, t),
        lambda t: np.add.accumulate(t),
        lambda t: np.add.at(np.zeros(3), [0, 1, 2], t[0]),
        lambda t: np.add(t, 1.0, out=np.zeros((2, 3))),
        lambda t: np.sin(A, out=t),
        lambda t: np.add(t, 1.0, where=A > 0),
        lambda t: np.sum(t, out=np.zeros(())),
        lambda t: np.sum(t, where=A > 0),
        lambda t: np.sum(t, initial=3.0),
        lambda t: np.sin(t, dtype="float32"),
        lambda t: np.sort(t, kind="stable", order="f0"),
        lambda t: np.concatenate([t, t], out=np.zeros((4, 3))),
    ],
    ids=[
        "reduce",
        "outer",
        "accumulate",
        "at",
        "out",
        "out=t",
        "where",
        "sum out",
        "sum where",
        "sum initial",
        "dtype",
        "order",
        "concatenate out",
    ],
)
def test_options_of_numpy_functions_are_honoured_or_refused_but_never_dropped(call):
    t = gt.constant(A)
    with gt.GradientTape() as tape:
        tape.watch(t)
        try:
            result = call(t)
        except TypeError:
            return
    want = call(A.copy())
    assert isinstance(result, gt.Tensor)
    np.testing.assert_allclose(result.numpy(), want)
    weight = np.random.default_rng(0).normal(size=result.shape)
    check(
        tape.gradient(result, t, output_gradients=weight),
        central(lambda x: np.sum(call(x) * weight), A),
        rtol=1e-6,
    )


def test_augmented_assignment_to_an_ndarray_never_loses_the_derivative():
    x, a = gt.constant([1.0, 2.0]), np.array([3.0, 4.0], np.float32)
    with gt.GradientTape() as tape:
        tape.watch(x)
        with pytest.raises(TypeError):
            a += x * x
        y = x * x
    np.testing.assert_array_equal(a, [3.0, 4.0])
    check(tape.gradient(y, x), [2.0, 4.0], "float32")


# -- leaving the tape ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [gt.constant, gt.Variable])
def test_asarray_gives_the_value_read_only_and_leaves_the_tape(make):
    x = make([1.0, 2.0])
    with gt.GradientTape() as tape:
        tape.watch(x)
        a = np.asarray(x)
        y = x * a
    assert type(a) is np.ndarray
    assert a.dtype == np.float32
    assert not a.flags.writeable
    assert np.shares_memory(a, np.asarray(x))
    check(tape.gradient(y, x), [1.0, 2.0], "float32")


@pytest.mark.parametrize("make", [gt.constant, gt.Variable])
def test_asarray_of_rank_0(make):
    a = np.asarray(make(1.5))
    assert type(a) is np.ndarray
    assert (a.shape, a.dtype) == ((), np.dtype("float32"))
    assert a == 1.5
    assert not a.flags.writeable


def test_array_copies_and_casts():
    x = gt.constant([1.0, 2.0])
    a = np.array(x)
    a[0] = 9.0
    check(x, [1.0, 2.0], "float32")
    b = np.asarray(x, dtype="float64")
    assert b.dtype == np.float64
    c = np.array(x, copy=True)
    assert not np.shares_memory(c, np.asarray(x))
    assert np.shares_memory(np.array(x, copy=False), np.asarray(x))
    with pytest.raises(ValueError, match="copy"):
        np.asarray(x, dtype="float64", copy=False)
    np.testing.assert_array_equal(np.array([x, x]), [[1.0, 2.0], [1.0, 2.0]])
    np.testing.assert_array_equal(np.array([gt.constant(1.0), gt.constant(2.0)]), [1.0, 2.0])


def test_asarray_of_a_followed_value_is_silent():
    x = gt.constant([1.0, 2.0])
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = x * x
        np.testing.assert_array_equal(np.asarray(y), [1.0, 4.0])
        np.testing.assert_array_equal(np.array(y), [1.0, 4.0])
        np.testing.assert_array_equal(np.array([y[0], y[1]]), [1.0, 4.0])
        assert (float(y[1]), int(y[1]), complex(y[1])) == (4.0, 4, 4 + 0j)
        table = {}
        table["y"] = np.asarray(y)
        table["f"] = float(y[0])
        a = np.zeros(2)
        a[:] = y.numpy()
        a[0] = y.numpy()[1]
    np.testing.assert_array_equal(a, [4.0, 4.0])


STORES = {
    "a[0] = rank 0": (0, lambda t: t[0]),
    "a[-1] = rank 0": (-1, lambda t: t[0]),
    "a[:] = t": (slice(None), lambda t: t),
    "a[...] = t": (..., lambda t: t),
    "a[mask] = t": (np.array([True, True, True]), lambda t: t),
    "a[mask] = rank 0": (np.array([True, False, True]), lambda t: t[0]),
    "a[[0, 2]] = t": ([0, 2], lambda t: t[:2]),
    "a[1:] = t": (slice(1, None), lambda t: t[:2]),
    "a[:] = rank 0": (slice(None), lambda t: t[0]),
    "a[:] = sum": (slice(None), lambda t: gt.reduce_sum(t)),
    "a[()] = t": ((), lambda t: t),
}


@contextlib.contextmanager
def refused():
    """Storing raises LeavesTapeError, which NumPy covers by a ValueError where the place is one float."""
    with pytest.raises((gt.errors.LeavesTapeError, ValueError)) as caught:
        yield
    problem = caught.value if isinstance(caught.value, gt.errors.LeavesTapeError) else caught.value.__cause__
    assert type(problem) is gt.errors.LeavesTapeError
    assert "gradtape.zeros" in str(problem)


STORE_CASES = pytest.mark.parametrize(("index", "part"), STORES.values(), ids=STORES.keys())


@STORE_CASES
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128", "int64"])
def test_storing_a_followed_tensor_into_an_ndarray_raises(index, part, dtype):
    x = gt.constant([1.0, 2.0, 3.0])
    a = np.zeros(3, dtype)
    with gt.GradientTape() as tape:
        tape.watch(x)
        value = part(x * x)
        with refused():
            a[index] = value
        y = x * x
    np.testing.assert_array_equal(a, np.zeros(3))
    check(tape.gradient(y, x), [2.0, 4.0, 6.0], "float32")


@STORE_CASES
def test_storing_a_tensor_that_no_tape_follows_works(index, part):
    x, other = gt.constant([1.0, 2.0, 3.0]), gt.constant(1.0)
    a, b, c, want = np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3)
    a[index] = part(x * x)
    with gt.GradientTape() as tape:
        tape.watch(other)
        b[index] = part(x * x)
        with tape.stop_recording():
            c[index] = part(x * x)
    want[index] = part(x * x).numpy()
    for array in (a, b, c):
        np.testing.assert_array_equal(array, want)


def test_storing_a_variable_that_a_tape_watches_raises():
    v, a = gt.Variable([1.0, 2.0]), np.zeros(2)
    with gt.GradientTape() as tape:
        y = v * v
        with refused():
            a[:] = v
        with refused():
            a[0] = v[0]
    check(tape.gradient(y, v), [2.0, 4.0], "float32")
    a[:] = v
    np.testing.assert_array_equal(a, [1.0, 2.0])


def test_storing_a_trainable_variable_that_is_not_accessed_yet_raises():
    v, a = gt.Variable([1.0, 2.0]), np.zeros(2)
    with gt.GradientTape(), refused():
        a[:] = v


def test_storing_an_element_in_a_loop_raises_at_the_first():
    x = gt.constant([1.0, 2.0, 3.0])
    out = np.zeros(3)
    with gt.GradientTape() as tape:
        tape.watch(x)
        with refused():
            for i in range(3):
                out[i] = x[i] * x[i]
    np.testing.assert_array_equal(out, np.zeros(3))


def test_storing_into_nested_places_raises():
    class Holder:
        a = np.zeros((2, 2))

    holder, table, x = Holder(), {"a": np.zeros(2)}, gt.constant(1.0)
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = x * 2.0
        with refused():
            holder.a[0, 1] = y
        with refused():
            table["a"][1] = y
        with refused():
            table["a"][0], table["b"] = y, 1.0
        assert np.all(holder.a == 0.0)
        assert np.all(table["a"] == 0.0)
        table["y"] = y
        [0, 1][1] = y
    assert table["y"] is y
    check(tape.gradient(y, x), 2.0, "float32")


def test_what_is_followed_by_an_outer_tape_only_is_followed():
    x, a = gt.constant([1.0, 2.0]), np.zeros(2)
    with gt.GradientTape() as outer:
        outer.watch(x)
        y = x * x
        with gt.GradientTape() as inner:
            inner.watch(gt.constant(1.0))
            with refused():
                a[:] = y


def test_a_gradient_computed_in_a_block_is_followed():
    x, a = gt.constant([1.0, 2.0]), np.zeros(2)
    with gt.GradientTape() as outer:
        outer.watch(x)
        with gt.GradientTape() as inner:
            inner.watch(x)
            y = x**3
        g = inner.gradient(y, x)
        with refused():
            a[:] = g
    h = outer.gradient(g, x)
    a[:] = h
    np.testing.assert_allclose(a, [6.0, 12.0])


def test_gradtape_zeros_is_the_remedy():
    x = gt.constant([1.0, 2.0, 3.0])
    with gt.GradientTape() as tape:
        tape.watch(x)
        out = gt.zeros((3,))
        for i in range(3):
            out[i] = x[i] * x[i]
        y = gt.reduce_sum(out)
    check(tape.gradient(y, x), [2.0, 4.0, 6.0], "float32")


# -- tensors as arguments of plain NumPy and Python ----------------------------------------------------------


def test_tensors_index_and_shape_ndarrays():
    i = gt.constant([0, 2])
    np.testing.assert_array_equal(np.arange(3.0)[np.asarray(i)], [0.0, 2.0])
    assert np.arange(3.0)[gt.constant(1)] == 1.0
    assert np.zeros(gt.constant(3)).shape == (3,)
    assert np.arange(gt.constant(3)).tolist() == [0, 1, 2]
    np.testing.assert_allclose(gt.constant([1.0, 2.0]), [1.0, 2.0])


def test_an_ndarray_compared_with_a_tensor_gives_a_tensor():
    t, a = gt.constant([1.0, 2.0]), np.array([2.0, 1.0], np.float32)
    check(a < t, [False, True], "bool")
    check(a >= t, [True, False], "bool")
    check(a == t, [False, False], "bool")
    check(a != t, [True, True], "bool")
