"""GradientTape.jacobian and batch_jacobian: TensorFlow's results, shapes and errors, at once and by loop."""

from __future__ import annotations

import gc
import itertools
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numerics import Pair, assert_close, check

import gradtape as gt
from gradtape import recorders
from gradtape.recorders import listening


def recorded(f: Callable[..., Any], *xs: Any, persistent: bool = True) -> tuple[gt.GradientTape, Any]:
    """A tape that watched xs, and f(*xs)."""
    with gt.GradientTape(persistent=persistent) as tape:
        tape.watch(xs)
        y = f(*xs)
    return tape, y


at_once_and_by_loop = pytest.mark.parametrize("at_once", [True, False], ids=["at once", "by loop"])

X = np.array([1.0, 2.0, 3.0], "f")
M = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], "f")


# -- jacobian: values and shapes -----------------------------------------------------------------------------


@at_once_and_by_loop
def test_the_jacobian_of_an_elementwise_function(at_once):
    x = gt.constant(X)
    tape, y = recorded(lambda x: x * x, x)
    check(tape.jacobian(y, x, experimental_use_pfor=at_once), np.diag(2 * X))


@at_once_and_by_loop
@pytest.mark.parametrize("of", [(), (2,), (2, 3)])
@pytest.mark.parametrize("by", [(), (3,), (3, 2)])
def test_the_shape_is_that_of_the_target_and_then_of_the_source(at_once, of, by, rng):
    x, a = gt.constant(rng.normal(size=by)), rng.normal(size=(*of, *by))
    tape, y = recorded(lambda x: gt.reduce_sum(a * gt.sin(x), list(range(len(of), a.ndim))), x)
    want = a * np.cos(x.numpy())
    check(tape.jacobian(y, x, experimental_use_pfor=at_once), want, "float64", 1e-12)


@at_once_and_by_loop
@pytest.mark.parametrize(
    "structure",
    [
        lambda x, z: [x, z],
        lambda x, z: (x, z),
        lambda x, z: {"b": z, "a": x},
        lambda x, z: Pair(x, {"z": [z]}),
    ],
)
def test_sources_in_a_structure_give_that_structure(at_once, structure):
    x, z = gt.constant(X), gt.constant([5.0, 6.0])
    tape, y = recorded(lambda x, z: x * gt.reduce_sum(z), x, z)
    got = tape.jacobian(y, structure(x, z), experimental_use_pfor=at_once)
    want = structure(np.eye(3) * 11.0, np.tile(X[:, None], (1, 2)))
    assert type(got) is type(want)
    for j, w in zip(gt.structure.flatten(got), gt.structure.flatten(want), strict=True):
        check(j, w)


@at_once_and_by_loop
def test_what_is_not_connected(at_once):
    x, z = gt.constant(X), gt.constant(M)
    tape, y = recorded(lambda x, z: x * x, x, z)
    _, none = tape.jacobian(y, [x, z], experimental_use_pfor=at_once)
    assert none is None
    for zero in ("zero", gt.UnconnectedGradients.ZERO):
        dx, dz = tape.jacobian(y, [x, z], zero, experimental_use_pfor=at_once)
        check(dx, np.diag(2 * X))
        check(dz, np.zeros((3, 3, 2)))


@at_once_and_by_loop
def test_intermediate_values_and_the_target_itself_are_sources(at_once):
    x = gt.constant(X)
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        square = x * x
        y = square * square
    by_y, by_square, by_x = tape.jacobian(y, [y, square, x], experimental_use_pfor=at_once)
    check(by_y, np.eye(3))
    check(by_square, np.diag(2 * X**2))
    check(by_x, np.diag(4 * X**3))
    check(tape.jacobian(x, x, experimental_use_pfor=at_once), np.eye(3))


@at_once_and_by_loop
def test_variables_are_sources_and_targets(at_once):
    v = gt.Variable(X)
    with gt.GradientTape(persistent=True) as tape:
        y = v * v
    check(tape.jacobian(y, v, experimental_use_pfor=at_once), np.diag(2 * X))
    check(tape.jacobian(v, v, experimental_use_pfor=at_once), np.eye(3))


@at_once_and_by_loop
def test_a_lookup_gives_a_dense_jacobian(at_once):
    table = gt.Variable(M)
    with gt.GradientTape(persistent=True) as tape:
        once = gt.gather(table, [2, 0])
        twice = once + gt.nn.embedding_lookup(table, [2, 1])
    want = np.zeros((2, 2, 3, 2))
    for row, column in itertools.product(range(2), range(2)):
        want[row, column, (2, 0)[row], column] += 1
    check(tape.jacobian(once, table, experimental_use_pfor=at_once), want)
    for row, column in itertools.product(range(2), range(2)):
        want[row, column, (2, 1)[row], column] += 1
    check(tape.jacobian(twice, table, experimental_use_pfor=at_once), want)


@at_once_and_by_loop
def test_of_nothing_and_by_nothing(at_once):
    x, empty, other = gt.constant(X), gt.zeros((0, 2)), gt.constant([1.0])
    tape, (shorter, longer) = recorded(lambda x, e: (x[:0] * 2.0, x + gt.reduce_sum(e)), x, empty)
    options = {"experimental_use_pfor": at_once}
    dx, none = tape.jacobian(shorter, [x, other], **options)
    check(dx, np.zeros((0, 3)))
    assert none is None
    check(tape.jacobian(shorter, other, "zero", **options), np.zeros((0, 1)))
    de, dx = tape.jacobian(longer, [empty, x], **options)
    check(de, np.zeros((3, 0, 2)))
    check(dx, np.eye(3))
    assert tape.jacobian(x * 2.0, empty, **options) is None


@at_once_and_by_loop
def test_an_integer_target_has_no_jacobian(at_once):
    x = gt.constant(X)
    tape, y = recorded(lambda x: gt.cast(x, "int32"), x)
    with pytest.warns(UserWarning, match="int32 values have no gradient"):
        assert tape.jacobian(y, x, experimental_use_pfor=at_once) is None
    with pytest.warns(UserWarning, match="int32 values have no gradient"):
        check(tape.jacobian(y, x, "zero", experimental_use_pfor=at_once), np.zeros((3, 3)))


@at_once_and_by_loop
@pytest.mark.parametrize("dtype", ["float16", "float64", "complex64", "complex128"])
def test_in_other_dtypes(at_once, dtype):
    x = gt.constant(X.astype(dtype))
    tape, y = recorded(lambda x: gt.reduce_sum(x) * x, x)
    j = tape.jacobian(y, x, experimental_use_pfor=at_once)
    check(j, 6.0 * np.eye(3) + X[:, None], dtype, 1e-3)


@at_once_and_by_loop
def test_complex_values_follow_the_convention_of_gradient(at_once):
    z = gt.constant(np.array([1 + 2j, 3 - 1j]))
    tape, y = recorded(lambda z: z * z * gt.math.conj(z) + gt.reverse(z, [0]), z)
    j = tape.jacobian(y, z, experimental_use_pfor=at_once)
    rows = [tape.gradient(y, z, row) for row in np.eye(2, dtype=complex)]
    check(j, np.stack([np.asarray(row) for row in rows]), "complex128", 1e-14)
    analytic, w = recorded(lambda z: z**3.0, z)
    got = analytic.jacobian(w, z, experimental_use_pfor=at_once)
    check(got, np.diag(np.conj(3 * z.numpy() ** 2)), "complex128", 1e-14)


def test_parallel_iterations_changes_nothing():
    x = gt.constant(X)
    tape, y = recorded(lambda x: x * x, x)
    check(tape.jacobian(y, x, "none", 7), np.diag(2 * X))


# -- chunks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 4, 100, np.int64(2), None])
def test_chunks_change_nothing(size):
    x, m = gt.constant(X), gt.constant(M)
    tape, y = recorded(lambda x: gt.sin(x) * gt.reduce_sum(x), x)
    want = np.diag(np.cos(X)) * X.sum() + np.sin(X)[:, None]
    check(tape.jacobian(y, x, chunk_size=size), want)
    tape, y = recorded(lambda m: m * m, m)
    want = np.einsum("bi,ij->bij", 2 * M, np.eye(2))
    check(tape.batch_jacobian(y, m, chunk_size=size), want)


@pytest.mark.parametrize("size", [0, -1, 1.5, "2"])
def test_sizes_that_are_none(size):
    m = gt.constant(M)
    tape, y = recorded(lambda m: m * m, m, persistent=False)
    with pytest.raises(ValueError, match=r"^jacobian: chunk_size is"):
        tape.jacobian(y, m, chunk_size=size)
    with pytest.raises(ValueError, match=r"^batch_jacobian: chunk_size is"):
        tape.batch_jacobian(y, m, chunk_size=size)
    check(tape.gradient(y, m), 2 * M)


def test_chunks_bound_the_memory():
    n = 400
    x = gt.ones((n,))

    def f(x):
        for _ in range(8):
            x = gt.sin(x) + gt.cos(x)
        return gt.reshape(x, (20, 20))

    tape, y = recorded(f, x)
    peaks = []
    for size in (None, 10):
        tracemalloc.start()
        j = tape.jacobian(y, x, chunk_size=size)
        peaks.append(tracemalloc.get_traced_memory()[1] - j.numpy().nbytes)
        tracemalloc.stop()
        del j
    whole, chunked = peaks
    assert whole > 2 * 4 * n * n, "at once it holds several Jacobians"
    assert chunked < 1.3 * 4 * n * n, "in chunks the one that it joins, and little else"


@at_once_and_by_loop
def test_progress_shows_a_bar_and_changes_nothing(at_once, capfd):
    pytest.importorskip("tqdm")
    m = gt.constant(M)
    tape, y = recorded(lambda m: m * m, m)
    options = {"experimental_use_pfor": at_once, "chunk_size": 2 if at_once else None}
    plain = tape.jacobian(y, m, **options)
    assert capfd.readouterr().err == ""
    check(tape.jacobian(y, m, progress=True, **options), plain.numpy())
    out, err = capfd.readouterr()
    assert out == ""
    assert "jacobian" in err
    assert ("3/3" if at_once else "6/6") in err
    tape.batch_jacobian(y, m, progress=True, **options)
    assert "batch_jacobian" in capfd.readouterr().err


# -- batch_jacobian ------------------------------------------------------------------------------------------


@at_once_and_by_loop
@pytest.mark.parametrize("of", [(4,), (2, 2)])
@pytest.mark.parametrize("by", [(3,), (3, 2), (1, 1, 2)])
def test_batch_jacobian_is_the_jacobian_of_each_row(at_once, of, by, rng):
    a = rng.normal(size=(int(np.prod(of)), int(np.prod(by))))

    def f(x):
        return gt.reshape(gt.matmul(gt.sin(gt.reshape(x, (x.shape[0], -1))), a.T), (-1, *of))

    x = gt.constant(rng.normal(size=(3, *by)))
    tape, y = recorded(f, x)
    got = tape.batch_jacobian(y, x, experimental_use_pfor=at_once)
    whole = tape.jacobian(y, x).numpy()
    want = np.stack([whole[(i, *[slice(None)] * len(of), i)] for i in range(3)])
    check(got, want, "float64", 1e-12)
    assert got.shape == (3, *of, *by)


@at_once_and_by_loop
def test_batch_jacobian_of_what_is_not_connected(at_once):
    m, other = gt.constant(M), gt.ones((3, 4))
    tape, y = recorded(lambda m: m * m, m)
    assert tape.batch_jacobian(y, other, experimental_use_pfor=at_once) is None
    check(
        tape.batch_jacobian(y, other, "zero", experimental_use_pfor=at_once),
        np.zeros((3, 2, 4)),
    )


@at_once_and_by_loop
@pytest.mark.parametrize("shape", [(0, 2), (3, 0), (0, 0)])
def test_batch_jacobian_of_nothing(at_once, shape):
    m = gt.zeros(shape)
    tape, y = recorded(lambda m: m * m, m)
    check(tape.batch_jacobian(y, m, experimental_use_pfor=at_once), np.zeros((*shape, shape[1])))


@at_once_and_by_loop
@pytest.mark.parametrize(
    ("f", "x", "message"),
    [
        (lambda m: gt.reduce_sum(m, 1), M, r"two axes or more, got shapes \(3,\) and \(3, 2\)"),
        (lambda m: gt.reduce_sum(m), M, r"two axes or more"),
        (lambda x: gt.reshape(x, (3, 1)), X, r"two axes or more, got shapes \(3, 1\) and \(3,\)"),
        (gt.transpose, M, r"first lengths of target \(2, 3\) and source \(3, 2\) differ"),
    ],
)
def test_batch_jacobian_of_what_is_no_batch(at_once, f, x, message):
    x = gt.constant(x)
    tape, y = recorded(f, x)
    with pytest.raises(ValueError, match=message):
        tape.batch_jacobian(y, x, experimental_use_pfor=at_once)


# -- the state of the tape -----------------------------------------------------------------------------------


def ask_jacobian(tape, y, x, **options):
    return tape.jacobian(y, x, **options)


def ask_batch_jacobian(tape, y, x, **options):
    return tape.batch_jacobian(y, x, **options)


both = pytest.mark.parametrize("ask", [ask_jacobian, ask_batch_jacobian])


@both
def test_a_tape_is_used_up(ask):
    m = gt.constant(M)
    tape, y = recorded(lambda m: m * m, m, persistent=False)
    ask(tape, y, m)
    with pytest.raises(RuntimeError, match="one set of gradients"):
        ask(tape, y, m)
    with pytest.raises(RuntimeError, match="one set of gradients"):
        tape.gradient(y, m)
    tape, y = recorded(lambda m: m * m, m, persistent=False)
    tape.gradient(y, m)
    with pytest.raises(RuntimeError, match="one set of gradients"):
        ask(tape, y, m)


@both
def test_a_persistent_tape_is_not_used_up(ask):
    m = gt.constant(M)
    tape, y = recorded(lambda m: m * m, m)
    first = ask(tape, y, m, chunk_size=1)
    check(ask(tape, y, m), first.numpy())
    check(tape.gradient(y, m), 2 * M)


@both
def test_the_loop_needs_a_persistent_tape(ask):
    m = gt.constant(M)
    tape, y = recorded(lambda m: m * m, m, persistent=False)
    with pytest.raises(RuntimeError, match="persistent=True"):
        ask(tape, y, m, experimental_use_pfor=False)


@both
def test_whatever_it_raises_for_its_arguments_leaves_the_tape_usable(ask):
    m = gt.constant(M)
    tape, y = recorded(lambda m: m * m, m, persistent=False)
    rows = gt.IndexedSlices(m, [0, 1, 2], (3, 2))
    for arguments, options in (
        ((3.0, m), {}),
        (([y], m), {}),
        ((None, m), {}),
        ((rows, m), {}),
        ((y, 3.0), {}),
        ((y, M), {}),
        ((y, rows), {}),
        ((y, m), {"unconnected_gradients": "some"}),
        ((y, m), {"chunk_size": 0}),
        ((y, m), {"experimental_use_pfor": False}),
    ):
        with pytest.raises((ValueError, TypeError, RuntimeError)):
            ask(tape, *arguments, **options)
    check(tape.gradient(y, m), 2 * M)


def test_within_its_own_block_a_persistent_tape_records_it():
    x = gt.constant(X)
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        j = tape.jacobian(x**3.0, x)
    check(j, np.diag(3 * X**2))
    check(tape.gradient(j, x), 6 * X)


def test_a_jacobian_frees_what_the_tape_kept():
    gc.disable()
    try:
        x = gt.constant(np.ones(100))
        with gt.GradientTape() as tape:
            tape.watch(x)
            middle = gt.sin(x)
            y = middle * middle
        kept = weakref.ref(middle._value)
        del middle
        tape.jacobian(y, x)
        assert kept() is None
    finally:
        gc.enable()


def test_a_sweep_that_fails_leaves_no_recorder_on_the_stack():
    x = gt.constant(X)
    tape, y = recorded(lambda x: gt.linalg.slogdet(gt.linalg.diag(x * 0.0))[1] + x, x)
    with pytest.raises(gt.errors.LinearAlgebraError):
        tape.jacobian(y, x)
    assert not listening()


# -- nesting -------------------------------------------------------------------------------------------------


@at_once_and_by_loop
def test_third_derivatives_by_nested_jacobians(at_once):
    x = gt.constant(X.astype("d"))
    options = {"experimental_use_pfor": at_once}

    def f(x):
        return gt.reduce_sum(x) * gt.reduce_sum(x**3.0)

    with gt.GradientTape(persistent=True) as outer:
        outer.watch(x)
        with gt.GradientTape(persistent=True) as middle:
            middle.watch(x)
            with gt.GradientTape() as inner:
                inner.watch(x)
                y = f(x)
            g = inner.gradient(y, x)
        h = middle.jacobian(g, x, **options)
    third = outer.jacobian(h, x, **options)
    p, s, eye = X.astype("d"), X.sum(), np.eye(3)
    check(h, 3 * p**2 + 3 * p[:, None] ** 2 + 6 * s * np.diag(p), "float64", 1e-12)
    two = 6 * (p[:, None] * eye)  # the derivative of 3 p_i^2 by p_k
    want = two[:, None, :] + two[None, :, :] + 6 * np.diag(p)[:, :, None]
    want = want + 6 * s * np.einsum("ij,ik->ijk", eye, eye)
    check(third, want, "float64", 1e-12)


def test_a_gradient_of_a_jacobian_by_another_source():
    x, v = gt.constant(X), gt.Variable(2.0)
    with gt.GradientTape() as outer:
        tape, y = recorded(lambda x: x**3.0 * v, x, persistent=False)
        j = tape.jacobian(y, x, chunk_size=2)
    check(outer.gradient(j, v), (3 * X**2).sum())


@at_once_and_by_loop
def test_an_accumulator_around_it(at_once):
    x = gt.constant(X)
    with gt.autodiff.ForwardAccumulator(x, [1.0, 0.0, 2.0]) as acc:
        tape, y = recorded(lambda x: x**3.0, x)
        j = tape.jacobian(y, x, experimental_use_pfor=at_once)
    check(acc.jvp(j), np.diag(6 * X * [1.0, 0.0, 2.0]))


def test_by_a_tangent():
    x = gt.constant(X)
    with gt.GradientTape() as tape:
        tape.watch(x)
        with gt.autodiff.ForwardAccumulator(x, gt.ones((3,))) as acc:
            y = x**3.0
        t = acc.jvp(y)
    check(tape.jacobian(t, x), np.diag(6 * X))


@at_once_and_by_loop
def test_within_vectorized_map(at_once):
    m = gt.constant(M)

    def of_row(row):
        tape, y = recorded(lambda r: r * gt.reduce_sum(r), row)
        return tape.jacobian(y, row, experimental_use_pfor=at_once)

    want = np.stack([np.eye(2) * r.sum() + r[:, None] for r in M])
    check(gt.vectorized_map(of_row, m), want)


def test_of_a_vectorized_map():
    m = gt.constant(M)
    tape, y = recorded(lambda m: gt.vectorized_map(lambda r: gt.reduce_sum(r**2.0) * r, m), m)
    want = np.stack([np.eye(2) * (r @ r) + 2 * np.outer(r, r) for r in M])
    check(tape.batch_jacobian(y, m), want)
    check(tape.jacobian(y, m), np.einsum("bij,bc->bicj", want, np.eye(3)))


# -- what need not be multiplied -----------------------------------------------------------------------------

A = np.arange(12.0).reshape(4, 3) / 7.0 - 0.5


def like(x: gt.Tensor, a: np.ndarray) -> gt.Tensor:
    """A matrix of real numbers, or, for complex x, of complex ones."""
    return gt.constant(a * (1.0 + 0.5j) if x.dtype.kind == "c" else a)


STARTS = {
    "a vector through a matrix": lambda x: gt.tanh(gt.linalg.matvec(like(x, A), x)),
    "by @": lambda x: gt.exp(like(x, A) @ gt.sin(x)),
    "transposed": lambda x: gt.tanh(gt.linalg.matvec(like(x, A.T), x, transpose_a=True)),
    "adjoint": lambda x: gt.tanh(gt.matmul(like(x, A.T), x, adjoint_a=True)),
    "elementwise only": lambda x: gt.exp(gt.sin(x)) * 2.0,
    "the identity": lambda x: gt.identity(x),
    "two operands": lambda x: gt.sin(x) * gt.exp(x),
    "the same twice": lambda x: gt.sin(x) * gt.sin(x),
    "two dtypes": lambda x: gt.sin(x) * gt.constant(np.float32(2.0)),
    "stretched": lambda x: gt.tanh(gt.reduce_sum(x) + gt.zeros((4,), "float64")),
    "many rows": lambda x: gt.tanh(gt.constant(A) @ gt.stack([x, 2.0 * x], 1)),
    "several results": lambda x: gt.sin(gt.unstack(gt.exp(x))[1]),
    "sorted": lambda x: gt.tanh(gt.sort(x)),
}


@pytest.mark.parametrize("f", STARTS.values(), ids=STARTS)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_jacobians_that_start_from_a_diagonal(f: Any, dtype: str) -> None:
    if dtype == "complex128" and f in (STARTS["sorted"], STARTS["stretched"]):
        return
    x = gt.constant(np.array([0.3, -0.7, 1.1]).astype(dtype) * (1 if dtype == "float64" else 1 + 0.5j))
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        inner = gt.sin(x)
        y = f(inner)
        gt.exp(y)  # what does not lead to the target
    sources = [x, inner, y]
    by_loop = tape.jacobian(y, sources, experimental_use_pfor=False)
    for size in (None, 1, 2):
        for got, want in zip(tape.jacobian(y, sources, chunk_size=size), by_loop, strict=True):
            assert got.dtype == want.dtype
            assert_close(got, want, 1e-14)
        assert_close(tape.jacobian(y, x, chunk_size=size), by_loop[0], 1e-14)


class Heard:
    """Hears the names of the ops that run."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def record(self, op: Any, keys: Any, values: Any, uniform: bool) -> None:
        self.names.append(op.name)

    def accessed(self, variable: Any) -> None: ...

    def follows(self, key: int) -> bool:
        return False


def test_the_identity_is_not_multiplied() -> None:
    """One product of matrices for two matrices, and none for one."""
    a, x = gt.constant(A[:3]), gt.constant(np.array([0.3, -0.7, 1.1]))
    for layers in (1, 2, 3):
        with gt.GradientTape() as tape:
            tape.watch(x)
            y = x
            for _ in range(layers):
                y = gt.tanh(gt.linalg.matvec(a, y))
        heard = Heard()
        recorders.push(heard)
        tape.jacobian(y, x)
        recorders.pop(heard)
        assert sum(name in ("matvec", "matmul") for name in heard.names) == layers - 1, heard.names


def test_second_derivatives_of_a_jacobian_that_starts_from_a_diagonal() -> None:
    def f(x: Any) -> Any:
        return gt.tanh(gt.constant(A) @ gt.sin(x))

    x = np.array([0.3, -0.7, 1.1])
    forward = gt.jacobian(gt.jacobian(f, mode="forward"), mode="forward")(x)
    assert_close(gt.jacobian(gt.jacobian(f, mode="reverse"), mode="reverse")(x), forward, 1e-13)
    assert_close(gt.jacobian(gt.jacobian(f, mode="reverse"), mode="forward")(x), forward, 1e-13)
    mapped = gt.vectorized_map(gt.jacobian(f, mode="reverse"), np.stack([x, 2.0 * x]))
    assert_close(mapped, np.stack([gt.jacobian(f)(x), gt.jacobian(f)(2.0 * x)]), 1e-14)
