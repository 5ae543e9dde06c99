"""Derivatives of plain functions: their values, nested in all ways, in SciPy's hands, and what is refused."""

import functools
import gc
import itertools
import math
import threading
import weakref
from typing import NamedTuple

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
from numerics import assert_close
from scipy.optimize import rosen, rosen_der, rosen_hess, rosen_hess_prod

import gradtape as gt
from gradtape.errors import (
    ArgumentError,
    DTypeError,
    LeavesTapeError,
    NotATensorError,
    NotScalarError,
    ShapeError,
    StructureError,
)
from gradtape.recorders import listening

EXACT = 1e-12
MODES = ["auto", "forward", "reverse"]


def rosenbrock(x):
    """SciPy's `rosen` in NumPy's own functions."""
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def energy(x, y, z=1.0, *, power=2.0):
    """One number of two vectors and a number, by no symmetry of which mistakes can hide."""
    return np.sum(np.exp(0.3 * x) * y**power) * z + np.sum(x * x) * z**2


# How far central differences lie off, with the step below.
BY_DIFFERENCES = 1e-6


def along(f, x, direction, step=1e-6):
    """How a plain function of one array changes along a direction."""
    return (f(x + step * direction) - f(x - step * direction)) / (2 * step)


def by_differences(f, x):
    """The gradient of a plain function of one array of real numbers."""
    return np.array([along(f, x, unit.reshape(x.shape)) for unit in np.eye(x.size)]).reshape(x.shape)


def assert_same(got, want, tolerance=EXACT):
    """Equal structures of equal kinds of leaves, and equal values."""
    assert type(got) is type(want), f"{got!r}, wanted {want!r}"
    if isinstance(want, dict):
        assert list(got) == list(want)
        got, want = list(got.values()), list(want.values())
    if isinstance(want, (list, tuple)):
        assert len(got) == len(want)
        for a, b in zip(got, want, strict=True):
            assert_same(a, b, tolerance)
    elif want is not None and not isinstance(want, str):
        assert getattr(got, "dtype", None) == getattr(want, "dtype", None)
        assert_close(got, want, tolerance)


X, Y, Z = np.array([0.5, -1.0, 2.0]), np.array([1.5, 0.7, -0.4]), 0.8
DX = Z * 0.3 * np.exp(0.3 * X) * Y**2 + 2 * X * Z**2
DY = Z * np.exp(0.3 * X) * 2 * Y
DZ = float(np.sum(np.exp(0.3 * X) * Y**2) + 2 * Z * np.sum(X * X))
VALUE = float(energy(X, Y, Z))


# -- values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argnums", "want"),
    [
        (0, DX),
        (1, DY),
        (2, DZ),
        (-1, DZ),
        (-3, DX),
        (np.int64(1), DY),
        ((0,), (DX,)),
        ((1, 0), (DY, DX)),
        ([0, -1], (DX, DZ)),
        ((2, 1, 0), (DZ, DY, DX)),
    ],
)
def test_gradients_by_argnums(argnums, want):
    assert_same(gt.grad(energy, argnums)(X, Y, Z), want)
    assert_same(gt.value_and_grad(energy, argnums)(X, Y, Z), (VALUE, want))
    value, pullback = gt.vjp(energy, argnums)(X, Y, Z)
    assert_same((value, pullback(1.0)), (VALUE, want))
    assert_same(gt.jacobian(energy, argnums)(X, Y, Z), want)
    several = want if isinstance(want, tuple) else (want,)
    directions = tuple(np.cos(d) for d in several)
    along = float(sum(np.sum(g * t) for g, t in zip(several, directions, strict=True)))
    places = [i % 3 for i in (argnums if isinstance(argnums, (tuple, list)) else [argnums])]
    given = [X, Y, Z]
    given.insert(max(places) + 1, directions if isinstance(want, tuple) else directions[0])
    assert_same(gt.jvp(energy, argnums)(*given), (VALUE, along))
    product = gt.hvp(energy, argnums)(*given)
    rows = gt.hessian(energy, argnums)(X, Y, Z)
    if not isinstance(want, tuple):
        rows, product = ((rows,),), (product,)
    for row, got in zip(rows, product, strict=True):
        pairs = zip(row, directions, strict=True)
        assert_close(got, sum(np.tensordot(block, t, np.ndim(t)) for block, t in pairs), EXACT)


def test_other_arguments_and_keywords_pass_through():
    assert_same(gt.grad(energy)(X, Y, power=3.0), 0.3 * np.exp(0.3 * X) * Y**3 + 2 * X)
    assert_same(gt.grad(energy)(X, Y, z=Z), DX)
    assert_same(gt.jvp(energy)(X, np.ones(3), Y, Z, power=2.0), (VALUE, float(np.sum(DX))))
    assert_same(gt.hvp(energy, 1)(X, Y, np.ones(3), Z), 2 * Z * np.exp(0.3 * X))
    scaled = gt.grad(lambda x, how, *rest: np.sum(x) * {"double": 2}[how] + len(rest))
    assert_same(scaled(X, "double", None, object()), np.full(3, 2.0))


class Point(NamedTuple):
    a: float
    b: float


def test_structures_of_arguments():
    def f(p, scale):
        return scale * (np.sum(p["w"][0] * p["w"][1]) + p["b"] ** 2)

    p = {"b": 3.0, "w": [X, (Y)]}
    slope = {"b": 12.0, "w": [2 * Y, 2 * X]}
    assert_same(gt.grad(f)(p, 2.0), slope)
    inner = float(X @ Y + 9)
    assert_same(gt.value_and_grad(f, (0, 1))(p, 2.0), (2 * inner, (slope, inner)))
    assert_same(gt.jvp(f)(p, {"b": 1.0, "w": [X, Y]}, 2.0), (2 * inner, float(12 + 4 * X @ Y)))
    assert_same(gt.hvp(f)(p, {"b": 1.0, "w": [X, Y]}, 2.0), {"b": 4.0, "w": [2 * Y, 2 * X]})
    h = gt.hessian(f)(p, 2.0)
    assert_same(h["b"], {"b": 4.0, "w": [np.zeros(3), np.zeros(3)]})
    assert_same(h["w"][0], {"b": np.zeros(3), "w": [np.zeros((3, 3)), 2 * np.eye(3)]})
    assert_same(gt.grad(lambda q: q.a * q.b)(Point(2.0, 3.0)), Point(3.0, 2.0))
    assert_same(gt.grad(lambda xs: xs[0] * xs[1])([2.0, 3.0]), [3.0, 2.0])
    assert_same(gt.grad(lambda xs, y: gt.constant(y))([], 3.0), [])


@pytest.mark.parametrize("mode", MODES)
def test_structures_of_values(mode):
    def f(x):
        return {"product": x[0] * x[1], "rest": [x**2, (1.0, 2)]}

    x = np.array([2.0, 3.0])
    zero = np.zeros(2)
    value = {"product": 6.0, "rest": [x**2, (1.0, 2)]}
    want = {"product": np.array([3.0, 2.0]), "rest": [np.diag(2 * x), (zero, zero)]}
    assert_same(gt.jacobian(f, mode=mode)(x), want)
    assert_same(gt.jvp(f)(x, np.ones(2)), (value, {"product": 5.0, "rest": [2 * x, (0.0, 0)]}))
    got, pullback = gt.vjp(f)(x)
    assert_same(got, value)
    assert_same(pullback({"product": 1.0, "rest": [np.ones(2), (5.0, 5)]}), np.array([7.0, 8.0]))
    by_two = gt.jacobian(lambda x, y: [x * y, x], (0, 1), mode=mode)(x, 2.0)
    assert_same(by_two, [(2 * np.eye(2), x), (np.eye(2), zero)])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shapes", [((), ()), ((), (3,)), ((3,), ()), ((2, 3), (4,)), ((4,), (2, 1, 2))])
def test_the_shape_of_a_jacobian_is_that_of_value_and_argument(mode, shapes, rng):
    of_x, of_y = shapes
    weights = rng.normal(size=of_y + of_x)
    x = rng.normal(size=of_x)

    def f(x):
        return np.sin(np.tensordot(weights, x, len(of_x)))

    slope = np.cos(np.tensordot(weights, x, len(of_x)))
    got = gt.jacobian(f, mode=mode)(x)
    assert_close(got, slope.reshape(of_y + (1,) * len(of_x)) * weights, EXACT)
    for chunk_size in (1, 2, 100):
        assert_close(gt.jacobian(f, mode=mode, chunk_size=chunk_size)(x), got, EXACT)


def test_auto_takes_the_smaller_side():
    calls = []

    def f(x, n):
        calls.append(n)
        return gt.tile(np.sum(np.sin(x)), [n]) if n else np.sum(x)

    x = np.ones(4)
    for n, times in [(0, 1), (4, 1), (5, 2)]:
        calls.clear()
        slope = np.cos(x)[None].repeat(n, 0) if n else x
        assert_close(gt.jacobian(f)(x, n), slope, EXACT)
        assert len(calls) == times
    calls.clear()
    gt.jacobian(f, mode="forward", chunk_size=2)(x, 5)
    assert len(calls) == 2
    calls.clear()
    gt.hessian(lambda x: f(x, 0))(x)
    assert len(calls) == 1


@pytest.mark.parametrize("n", [2, 5])
def test_second_derivatives_of_rosenbrock_are_scipys(n, rng):
    x, v = rng.normal(size=(2, n))
    assert_close(gt.grad(rosenbrock)(x), rosen_der(x), EXACT)
    assert_close(gt.grad(rosenbrock)(x), by_differences(rosenbrock, x), BY_DIFFERENCES)
    h = gt.hessian(rosenbrock)(x)
    assert_close(h, rosen_hess(x), EXACT)
    assert_close(h, h.T, EXACT)
    assert_close(gt.hvp(rosenbrock)(x, v), rosen_hess_prod(x, v), EXACT)
    assert_close(gt.hvp(rosenbrock)(x, v), h @ v, EXACT)
    for mode in MODES:
        assert_close(gt.jacobian(gt.grad(rosenbrock), mode=mode)(x), h, EXACT)
    for chunk_size in (1, 3):
        assert_close(gt.hessian(rosenbrock, chunk_size=chunk_size)(x), h, EXACT)


def test_a_pullback_may_be_called_many_times():
    value, pullback = gt.vjp(lambda x, y: x * y, (0, 1))(X, Y)
    assert_same(value, X * Y)
    for i in range(3):
        e = np.eye(3)[i]
        assert_same(pullback(e), (e * Y, e * X))
    assert_same(pullback([1, 0, 0]), pullback(np.eye(3)[0]))


def test_aux_is_passed_on_behind_the_answer():
    def f(x, scale=1.0):
        y = np.sum(x * x) * scale
        return y, {"half": x / 2, "name": "f", "none": None, "y": y, "list": [1, X]}

    aux = {"half": X / 2, "name": "f", "none": None, "y": float(X @ X), "list": [1, X]}
    value, slope, v = float(X @ X), 2 * X, np.ones(3)
    assert_same(gt.grad(f, has_aux=True)(X), (slope, aux))
    assert_same(gt.value_and_grad(f, has_aux=True)(X), ((value, aux), slope))
    got, pullback, rest = gt.vjp(f, has_aux=True)(X)
    assert_same((got, pullback(1.0), rest), (value, slope, aux))
    assert_same(gt.jvp(f, has_aux=True)(X, v), (value, float(np.sum(slope)), aux))
    assert_same(gt.hvp(f, has_aux=True)(X, v), (2 * v, aux))
    assert_same(gt.hessian(f, has_aux=True)(X), (2 * np.eye(3), aux))
    for mode in MODES:
        assert_same(gt.jacobian(f, mode=mode, has_aux=True)(X), (slope, aux))
    assert_same(gt.grad(lambda x: [x * x, None], has_aux=True)(3.0), (6.0, None))
    _, tensors = gt.grad(f, has_aux=True)(gt.constant(X))
    assert isinstance(tensors["half"], gt.Tensor)


# -- kinds of numbers ----------------------------------------------------------------------------------------


def test_python_numbers_are_double_and_numpy_scalars_keep_their_type():
    third = 1 / 3
    assert gt.grad(lambda x: x * x)(third) == 2 * third
    assert_same(gt.value_and_grad(np.exp)(third), (math.exp(third), math.exp(third)))
    single = gt.grad(lambda x: x * x)(np.float32(0.25))
    assert type(single) is np.float32
    assert single == 0.5
    assert type(gt.grad(np.exp)(np.float64(0.0))) is np.float64
    assert gt.jvp(lambda x: 3 * x)(0.5, 0.1) == (1.5, 3 * 0.1), "a tangent of Python's is double, too"
    assert_same(gt.jvp(lambda x: x)(np.ones(2), [0.1, 0.2])[1], np.array([0.1, 0.2]))
    assert gt.vjp(lambda x: 3 * x)(0.5)[1](0.1) == 3 * 0.1


def test_float32_stays_float32():
    x = np.array([0.5, 1.5], "float32")
    f = lambda x: np.sum(np.sin(x) * x) / 3  # noqa: E731
    assert gt.grad(f)(x).dtype == "float32"
    assert gt.hvp(f)(x, np.ones(2)).dtype == "float32"
    assert gt.hessian(f)(x).dtype == "float32"
    assert gt.jvp(np.sin)(x, np.ones(2))[1].dtype == "float32"
    assert gt.vjp(np.sin)(x)[1](np.ones(2)).dtype == "float32"
    for mode in MODES:
        assert gt.jacobian(np.sin, mode=mode)(x).dtype == "float32"
        wide = gt.jacobian(lambda x: gt.cast(x, "float64") * 2.0, mode=mode)(x)
        assert_same(wide, np.eye(2, dtype="float32") * 2)
    by_two = gt.grad(lambda a, b: np.sum(a * b), (0, 1))(x, np.ones(2))
    assert [g.dtype for g in by_two] == ["float32", "float64"]


def test_complex_gradients_follow_tensorflows_convention(rng):
    z = rng.normal(size=3) + 1j * rng.normal(size=3)

    def f(z):
        return np.sum(np.real(z * z * np.conj(z)) + np.imag(z) ** 3)

    got = gt.grad(f)(z)
    for unit in (*np.eye(3), *(1j * np.eye(3))):
        assert abs(np.vdot(got, unit).real - along(f, z, unit)) < BY_DIFFERENCES
    assert gt.grad(lambda z: abs(z) ** 2)(1 + 2j) == 2 + 4j
    value, tangent = gt.jvp(lambda z: z * z)(z, np.ones(3) * 1j)
    assert_close(value, z * z, EXACT)
    assert_close(tangent, 2j * z, EXACT)
    _, pullback = gt.vjp(lambda z: z * z)(z)
    assert_close(pullback(np.ones(3) * 1j), 1j * np.conj(2 * z), EXACT)


@pytest.mark.parametrize("f", [lambda x: np.sum(x) * 1j, lambda x: gt.cast(x, "complex128")[0]])
def test_complex_numbers_have_no_plain_jacobian(f):
    for transformed in (gt.jacobian(f), gt.jacobian(f, mode="forward"), gt.hessian(f)):
        with pytest.raises(DTypeError, match="complex128"):
            transformed(X)
        with pytest.raises(DTypeError, match=r"GradientTape\.jacobian"):
            transformed(X + 1j)


def test_what_comes_back_is_the_callers_own_and_writable():
    x, y = X.copy(), Y.copy()

    def f(x, y):
        return np.sum(y), {"x": x, "y": y, "constant": X}

    (_, aux), gradients = gt.value_and_grad(f, (0, 1), has_aux=True)(x, y)
    value, pullback = gt.vjp(lambda x: x)(x)
    seed = np.ones(3)
    found = [*gradients, aux["x"], aux["y"], value, pullback(seed), *gt.jvp(lambda x: x)(x, seed)]
    found += [gt.jacobian(lambda x: x, mode=mode)(x) for mode in MODES]
    found += [gt.hessian(np.sum)(x), gt.hvp(np.sum)(x, seed)]
    for a in found:
        assert type(a) is np.ndarray
        assert a.flags.writeable
        assert not any(np.shares_memory(a, b) for b in (x, y, seed, X, *(c for c in found if c is not a)))
        a[...] = 7
    assert_same((x, y, seed), (X, Y, np.ones(3)))


def test_tensors_in_tensors_out():
    x, v = gt.constant(X), gt.constant(np.ones(3))
    f = lambda x: np.sum(x**3)  # noqa: E731
    found = [gt.grad(f)(x), *gt.value_and_grad(f)(x), *gt.jvp(f)(x, v), *gt.jvp(f)(X, v), *gt.jvp(f)(x, X)]
    found += [gt.hvp(f)(x, v), gt.hessian(f)(x), gt.jacobian(f)(x), gt.vjp(f)(x)[1](1.0)]
    found += [gt.grad(lambda x, c: np.sum(c * x))(X, x), gt.grad(lambda x, *, c: np.sum(c * x))(X, c=[x])]
    found += [gt.grad(f)(gt.Variable(X)), gt.grad(lambda d: f(d["x"]))({"x": x})["x"]]
    assert {type(t) for t in found} == {gt.Tensor}
    assert_close(gt.grad(f)(gt.Variable(X)), 3 * X**2, EXACT)


# -- what functions do ---------------------------------------------------------------------------------------

EVERY = {
    "grad": lambda f: gt.grad(lambda x: np.sum(f(x) * np.arange(1.0, 4.0))),
    "vjp": lambda f: lambda x: gt.vjp(f)(x)[1](np.arange(1.0, 4.0)),
    "reverse": lambda f: lambda x: np.arange(1.0, 4.0) @ gt.jacobian(f, mode="reverse")(x),
    "forward": lambda f: lambda x: np.arange(1.0, 4.0) @ gt.jacobian(f, mode="forward")(x),
    "by one": lambda f: lambda x: np.arange(1.0, 4.0) @ gt.jacobian(f, mode="forward", chunk_size=1)(x),
    "jvp": lambda f: lambda x: np.array([np.arange(1.0, 4.0) @ gt.jvp(f)(x, e)[1] for e in np.eye(3)]),
}


def assigns(x):
    y = np.zeros_like(x)
    y[0] = x[1] * x[2]
    y[1:] = x[:2] ** 2
    return y


def assigns_to_its_argument(x):
    x[1] = x[0] * x[2]
    x[0] *= 3.0
    return x * x


def stacks(x):
    return np.stack([x[1] * x[0], 0.0, x[0]])


def loops(x):
    y = x
    for i in range(3):
        if y[i] > 0:
            y = y * x[i]
    return y


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize(
    "f", [assigns, assigns_to_its_argument, loops, lambda x: np.stack([x[1], 0.0, x[0]])]
)
def test_plain_code_is_differentiated_by_all(every, f):
    x = X.copy()
    want = by_differences(lambda x: np.sum(np.asarray(f(x.copy())) * np.arange(1.0, 4.0)), X)
    assert_close(EVERY[every](f)(x), want, BY_DIFFERENCES)
    assert_same(x, X)


@pytest.mark.parametrize("every", EVERY)
def test_what_the_function_does_not_use_has_zeros(every):
    assert_same(EVERY[every](lambda x: gt.constant(Y))(X), np.zeros(3))


def test_lookups_have_dense_gradients():
    table = np.arange(6.0).reshape(3, 2)
    f = lambda t: np.sum(gt.gather(t, [2, 0, 2]) ** 3)  # noqa: E731
    slope = 3 * table**2 * np.array([[1.0], [0.0], [2.0]])
    assert_same(gt.grad(f)(table), slope)
    got = gt.grad(f)(gt.constant(table))
    assert type(got) is gt.Tensor
    assert_close(gt.hvp(f)(table, table), 2 * slope, EXACT)


@pytest.mark.parametrize("f", [np.sin, gt.sin, functools.partial(np.multiply, 3.0), np.linalg.norm])
def test_functions_of_any_make(f):
    assert_close(
        gt.grad(f)(0.5), {np.sin: np.cos(0.5), gt.sin: np.cos(0.5), np.linalg.norm: 1}.get(f, 3), EXACT
    )


def test_one_array_for_two_arguments():
    assert_same(gt.grad(lambda x, y: np.sum(x * x * y), (0, 1))(X, X), (2 * X * X, X * X))
    assert_same(gt.grad(lambda x, y: np.sum(x * x * y))(X, X), 2 * X * X)
    x = gt.constant(X)
    dx, dy = gt.grad(lambda x, y: np.sum(x * x * y), (0, 1))(x, x)
    assert_close(dx, 2 * X * X, EXACT)
    assert_close(dy, X * X, EXACT)
    assert_same(gt.jvp(lambda x, y: x * y, (0, 1))(X, X, (Y, Y)), (X * X, 2 * X * Y))
    with gt.GradientTape() as tape:
        tape.watch(x)
        slope = np.sum(gt.grad(lambda x, y: np.sum(x * x * y))(x, x))
    assert_close(tape.gradient(slope, x), 4 * X, EXACT)


@pytest.mark.parametrize("mode", MODES)
def test_nothing_has_derivatives_of_no_elements(mode):
    none = np.zeros(0)
    assert_same(gt.jacobian(lambda x: x * 2, mode=mode)(none), np.zeros((0, 0)))
    assert_same(gt.jacobian(np.sum, mode=mode)(none), none)
    assert_same(gt.jacobian(lambda x: x[:0], mode=mode)(X), np.zeros((0, 3)))
    assert_same(gt.jacobian(lambda x: x, mode=mode)(np.zeros((2, 0))), np.zeros((2, 0, 2, 0)))
    assert_same(gt.grad(np.sum)(none), none)
    assert_same(gt.hessian(np.sum)(none), np.zeros((0, 0)))
    assert_same(gt.hvp(np.sum)(none, none), none)
    assert_same(gt.jvp(np.sum)(none, none), (0.0, 0.0))


def test_nothing_is_kept_but_by_a_pullback():
    made = []

    def f(x):
        y = np.exp(x)
        made.append(weakref.ref(y._value))
        return np.sum(y * y)

    def fails(x):
        return f(x) / {}[0]

    x = np.ones(9)
    gc.disable()
    try:
        for transformed in (gt.grad(f), gt.hessian(f), *(gt.jacobian(f, mode=mode) for mode in MODES)):
            transformed(x)
        for transformed in (gt.jvp(f), gt.hvp(f)):
            transformed(x, x)
        with pytest.raises(KeyError):
            gt.grad(fails)(x)
        assert len(made) == 8
        assert [ref() for ref in made] == [None] * 8
        _, pullback = gt.vjp(f)(x)
        assert made[-1]() is not None
        del pullback
        assert made[-1]() is None
    finally:
        gc.enable()


def test_variables_in_closures_are_constants_unless_someone_around_follows_them():
    w = gt.Variable(Y)
    f = lambda x: np.sum(w * x * x)  # noqa: E731
    assert_same(gt.grad(f)(X), 2 * X * Y)
    with gt.GradientTape() as tape:
        slope = gt.grad(f)(X)
        loss = np.sum(slope * slope)
    assert isinstance(slope, gt.Tensor)
    assert_close(tape.gradient(loss, w), 8 * X * X * Y, EXACT)
    with gt.autodiff.ForwardAccumulator(w, np.ones(3)) as accumulator:
        slope = gt.grad(f)(X)
    assert_close(accumulator.jvp(slope), 2 * X, EXACT)


# -- nesting -------------------------------------------------------------------------------------------------


def by_tape(f):
    def derivative(x):
        x = gt.identity(gt.convert_to_tensor(np.float64(x) if type(x) is float else x))
        with gt.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return tape.gradient(y, x)

    return derivative


def by_accumulator(f):
    def derivative(x):
        x = gt.identity(gt.convert_to_tensor(np.float64(x) if type(x) is float else x))
        with gt.autodiff.ForwardAccumulator(x, gt.ones_like(x)) as accumulator:
            y = f(x)
        return accumulator.jvp(y)

    return derivative


ONCE = {
    "grad": gt.grad,
    "vjp": lambda f: lambda x: gt.vjp(f)(x)[1](1.0),
    "jvp": lambda f: lambda x: gt.jvp(f)(x, 1.0)[1],
    "forward": lambda f: gt.jacobian(f, mode="forward"),
    "reverse": lambda f: gt.jacobian(f, mode="reverse"),
    "tape": by_tape,
    "accumulator": by_accumulator,
}
TWICE = {"hessian": gt.hessian, "hvp": lambda f: lambda x: gt.hvp(f)(x, 1.0)}
PATHS = [
    *itertools.chain.from_iterable(itertools.product(ONCE, repeat=n) for n in (1, 2, 3)),
    *((twice,) for twice in TWICE),
    *itertools.product(TWICE, ONCE),
    *itertools.product(ONCE, TWICE),
    *itertools.product(TWICE, TWICE),
]


@pytest.mark.parametrize("outermost", [*ONCE, *TWICE])
def test_all_nest_in_all_to_the_third_order_and_beyond(outermost):
    for path in PATHS:
        if path[0] != outermost:
            continue
        n = sum(2 if name in TWICE else 1 for name in path)
        f = lambda x: x * np.exp(2 * x)  # noqa: E731
        for name in reversed(path):
            f = (ONCE | TWICE)[name](f)
        want = (0.3 * 2**n + n * 2 ** (n - 1)) * math.exp(0.6)
        assert abs(float(f(0.3)) - want) < 1e-11 * want, " of ".join(path)


A, V = np.random.default_rng(5).normal(size=(4, 3))[:3], np.array([0.3, -0.5, 0.2])
ALONG = {
    "jvp": lambda f: lambda x: gt.jvp(f)(x, V)[1],
    "forward": lambda f: lambda x: gt.jacobian(f, mode="forward")(x) @ V,
    "reverse": lambda f: lambda x: gt.jacobian(f, mode="reverse", chunk_size=2)(x) @ V,
    "transposed": lambda f: (
        lambda x: gt.grad(lambda u: np.sum(gt.vjp(f)(x)[1](u) * V))(np.zeros(3))  # linear in u
    ),
    "mapped": lambda f: (
        lambda x: gt.vectorized_map(lambda e: np.sum(e * gt.jvp(f)(x, V)[1]), gt.constant(np.eye(3)))
    ),
}


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("outermost", ALONG)
def test_all_nest_on_vectors(outermost, n):
    slope = A @ V
    for path in itertools.product(ALONG, repeat=n - 1):
        f = lambda x: np.exp(A @ x) * x  # noqa: E731
        for name in reversed((outermost, *path)):
            f = ALONG[name](f)
        assert_close(
            f(X), np.exp(A @ X) * (slope**n * X + n * slope ** (n - 1) * V), 1e-11, " of ".join(path)
        )


INNER = {
    "grad": lambda f: gt.grad(f)(1.0),
    "jvp": lambda f: gt.jvp(f)(1.0, 1.0)[1],
    "forward": lambda f: gt.jacobian(f, mode="forward")(1.0),
    "reverse": lambda f: gt.jacobian(f, mode="reverse")(1.0),
    "vjp": lambda f: gt.vjp(f)(1.0)[1](1.0),
}


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("outer", ONCE)
def test_perturbations_are_not_confused(outer, inner):
    derivative = ONCE[outer](lambda x: x * INNER[inner](lambda y: x + y))
    assert float(derivative(3.0)) == 1
    derivative = ONCE[outer](lambda x: x * INNER[inner](lambda y: x * y * y))
    assert float(derivative(3.0)) == 12
    assert INNER[inner](lambda y: gt.stop_gradient(y) * y) == 1


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("outer", ["tape", "accumulator"])
def test_a_derivative_that_depends_on_an_outer_tensor_stays_a_tensor(outer, inner):
    seen = []

    def f(x):
        seen.append(INNER[inner](lambda y: x**3 * y * y))  # called with a number only
        return seen[0]

    assert float(ONCE[outer](f)(2.0)) == 24
    assert isinstance(seen[0], gt.Tensor)
    assert type(INNER[inner](lambda y: gt.constant(2.0) * y)) is float


def test_a_hessian_of_what_takes_gradients_inside(rng):
    x = rng.normal(size=3)

    def f(x):
        return np.sum(gt.grad(lambda y: np.sum(y**3 * x))(x) ** 2)  # 9 x**6

    assert_close(gt.hessian(f)(x), np.diag(9 * 30 * x**4), EXACT)
    assert_close(gt.hvp(f)(x, V), 270 * x**4 * V, EXACT)
    assert_close(gt.hessian(lambda x: gt.hvp(f)(x, V)[0])(x)[0, 0], 270 * 12 * x[0] ** 2 * V[0], EXACT)


def test_tapes_and_accumulators_inside(rng):
    x = rng.normal(size=3)

    def penalty(x):
        with gt.GradientTape() as tape:
            tape.watch(x)
            y = np.sum(x**4)
        with gt.autodiff.ForwardAccumulator(x, V) as accumulator:
            z = np.sum(x**3)
        return np.sum(tape.gradient(y, x) ** 2) + accumulator.jvp(z)  # 16 x**6 + 3 x**2 v

    assert_close(gt.grad(penalty)(x), 96 * x**5 + 6 * x * V, EXACT)
    assert_close(gt.hessian(penalty)(x), np.diag(480 * x**4 + 6 * V), EXACT)
    assert_close(gt.jvp(penalty)(x, V)[1], (96 * x**5 + 6 * x * V) @ V, EXACT)


def test_a_pullback_is_differentiated_too():
    x = gt.constant(X)
    with gt.GradientTape() as tape:
        tape.watch(x)
        _, pullback = gt.vjp(lambda x: x**3)(x)
        y = np.sum(pullback(Y))
    assert_close(tape.gradient(y, x), 6 * X * Y, EXACT)
    _, pullback = gt.vjp(lambda x: x**3)(X)
    with gt.GradientTape() as tape:
        seed = gt.constant(Y)
        tape.watch(seed)
        found = pullback(seed)
    assert_close(tape.gradient(found, seed), 3 * X**2, EXACT)


def test_many_examples(rng):
    xs = rng.normal(size=(4, 3))
    got = gt.vectorized_map(gt.grad(rosenbrock), xs)
    assert_close(got, [rosen_der(x) for x in xs], EXACT)
    assert_close(gt.vectorized_map(gt.hessian(rosenbrock), xs), [rosen_hess(x) for x in xs], EXACT)
    values, slopes = gt.vectorized_map(gt.value_and_grad(rosenbrock), xs)
    assert_close(values, [rosen(x) for x in xs], EXACT)
    assert_close(slopes, got, EXACT)
    products = gt.vectorized_map(lambda x: gt.hvp(rosenbrock)(x, V), xs)
    assert_close(products, [rosen_hess_prod(x, V) for x in xs], EXACT)
    for mode in MODES:
        got = gt.vectorized_map(gt.jacobian(lambda x: np.stack([x[0] * x[1], x[2]]), mode=mode), xs)
        assert_close(got, [[[x[1], x[0], 0], [0, 0, 1]] for x in xs], EXACT)
    within = gt.grad(lambda x: np.sum(gt.vectorized_map(lambda row: np.sum(row**2), x) ** 2))
    assert_close(within(xs), 4 * np.sum(xs**2, 1, keepdims=True) * xs, EXACT)
    of_closure = gt.vectorized_map(lambda row: gt.grad(lambda w: np.sum(w * w * row))(X), xs)
    assert_close(of_closure, 2 * X * xs, EXACT)


# -- SciPy ---------------------------------------------------------------------------------------------------

START = np.array([1.3, 0.7, 0.8, 1.9, 1.2])


def scaled(x, a, b):
    return a * np.sum((x - b) ** 4) + np.sum((x - b) ** 2)


def test_minimize():
    def solved(*args, **keywords):
        found = scipy.optimize.minimize(*args, **keywords)
        assert found.success, found.message
        return found

    value_and_grad = gt.value_and_grad(rosenbrock)
    assert_close(solved(value_and_grad, START, jac=True, method="L-BFGS-B").x, np.ones(5), 1e-4)
    jac, hessp, hess = gt.grad(rosenbrock), gt.hvp(rosenbrock), gt.hessian(rosenbrock)
    for method in ("Newton-CG", "trust-ncg", "trust-krylov"):
        assert_close(solved(rosenbrock, START, jac=jac, hessp=hessp, method=method).x, np.ones(5), 1e-3)
    for method in ("Newton-CG", "trust-exact"):
        assert_close(solved(rosenbrock, START, jac=jac, hess=hess, method=method).x, np.ones(5), 1e-3)
    args = (0.5, np.arange(5.0))
    for keywords in (
        {"jac": gt.grad(scaled), "hessp": gt.hvp(scaled), "method": "trust-ncg"},
        {"jac": gt.grad(scaled), "hess": gt.hessian(scaled), "method": "trust-exact"},
        {"jac": gt.grad(scaled), "method": "BFGS"},
    ):
        assert_close(solved(scaled, START, args=args, **keywords).x, np.arange(5.0), 1e-4)
    bound = scipy.optimize.NonlinearConstraint(
        lambda x: np.sum(x * x), 0, 1, jac=gt.jacobian(lambda x: np.sum(x * x))
    )
    found = solved(rosenbrock, START / 2, jac=jac, hess=hess, constraints=[bound], method="trust-constr")
    assert abs(found.x @ found.x - 1) < 1e-3


def test_least_squares_and_root():
    t = np.linspace(0, 2, 30)
    y = 2.5 * np.exp(-1.3 * t) + 0.5

    def residuals(p, t, y):
        return p[0] * np.exp(-p[1] * t) + p[2] - y

    for method in ("trf", "lm", "dogbox"):
        found = scipy.optimize.least_squares(
            residuals, [1.0, 1.0, 0.0], jac=gt.jacobian(residuals), args=(t, y), method=method
        )
        assert_close(found.x, [2.5, 1.3, 0.5], 1e-7)

    def model(t, a, k, c):
        return a * np.exp(-k * t) + c

    jac = gt.jacobian(model, argnums=(1, 2, 3))
    found, _ = scipy.optimize.curve_fit(
        model, t, y, [1.0, 1.0, 0.0], jac=lambda *args: np.stack(jac(*args), axis=-1)
    )
    assert_close(found, [2.5, 1.3, 0.5], 1e-7)

    def circle_and_line(x):
        return [x[0] ** 2 + x[1] ** 2 - 1, x[0] - x[1]]

    found = scipy.optimize.root(circle_and_line, [1.0, 0.2], jac=gt.jacobian(circle_and_line))
    assert found.success
    assert_close(found.x, [0.5**0.5] * 2, 1e-9)
    cube = scipy.optimize.root_scalar(lambda x: x**3 - 2, x0=1.0, fprime=gt.grad(lambda x: x**3 - 2))
    assert abs(cube.root - 2 ** (1 / 3)) < 1e-12


@pytest.mark.parametrize("method", ["BDF", "Radau", "LSODA"])
def test_solve_ivp(method):
    def van_der_pol(t, y, mu):
        return [y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]]

    def robertson_like(t, y):
        return [-0.04 * y[0] + 0.0, 0.04 * y[0]]

    jac = gt.jacobian(van_der_pol, argnums=1)
    rows = jac(0.0, np.array([2.0, 0.5]), 5.0)
    assert_same(rows, [np.array([0.0, 1.0]), np.array([-11.0, -15.0])])
    options = {"args": (5.0,), "method": method, "rtol": 1e-8, "atol": 1e-8}
    plain = scipy.integrate.solve_ivp(van_der_pol, (0, 3), [2.0, 0.0], **options)
    exact = scipy.integrate.solve_ivp(van_der_pol, (0, 3), [2.0, 0.0], jac=jac, **options)
    assert exact.success
    assert_close(exact.y[:, -1], plain.y[:, -1], 1e-5)
    decay = scipy.integrate.solve_ivp(
        robertson_like, (0, 10), [1.0, 0.0], jac=gt.jacobian(robertson_like, 1), method=method, rtol=1e-8
    )
    assert abs(decay.y[0, -1] - math.exp(-0.4)) < 1e-5


# -- what is refused -----------------------------------------------------------------------------------------

FUNCTIONS = {
    "grad": gt.grad,
    "value_and_grad": gt.value_and_grad,
    "vjp": gt.vjp,
    "jacobian": gt.jacobian,
    "hessian": gt.hessian,
}
WITH_TANGENTS = {"jvp": gt.jvp, "hvp": gt.hvp}


def product(x, y):
    return np.sum(x * y)


@pytest.mark.parametrize("name", [*FUNCTIONS, *WITH_TANGENTS])
@pytest.mark.parametrize(
    ("argnums", "says"),
    [
        (2, "2, but product was called with 2 positional"),
        (-3, "-3, but product"),
        ((0, 5), r"\(0, 5\), but product"),
        ((0, 0), "twice"),
        ((1, -1), "twice"),
        ((), r"\(\); wanted an integer"),
        ("x", "'x'; wanted an integer"),
        (1.0, "1.0; wanted an integer"),
        (None, "None; wanted an integer"),
        (True, "True; wanted an integer"),
        ((0, None), "wanted an integer"),
    ],
)
def test_wrong_argnums(name, argnums, says):
    args = (X, Y, X) if name in WITH_TANGENTS else (X, Y)
    with pytest.raises(ArgumentError, match=f"^{name}: argnums is .*{says}"):
        (FUNCTIONS | WITH_TANGENTS)[name](product, argnums)(*args)


@pytest.mark.parametrize("name", [*FUNCTIONS, *WITH_TANGENTS])
@pytest.mark.parametrize("at", [X, (X,), 2.0])
def test_an_argument_beside_the_function_is_refused_at_once(name, at):
    with pytest.raises(ArgumentError, match=rf"goes to the function that {name} returns, {name}\(f\)\(x\)"):
        (FUNCTIONS | WITH_TANGENTS)[name](product, at)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_by_keyword_cannot_be_differentiated(name):
    with pytest.raises(ArgumentError, match=f"^{name}: .*product was called with 0 positional"):
        FUNCTIONS[name](product)(x=X, y=Y)


@pytest.mark.parametrize("name", [*FUNCTIONS, *WITH_TANGENTS])
def test_wrong_functions_results_and_arguments(name):
    def call(f, x=X, **options):
        transformed = (FUNCTIONS | WITH_TANGENTS)[name](f, **options)
        return transformed(x, x) if name in WITH_TANGENTS else transformed(x)

    def refuses(error, says, *args, **options):
        with pytest.raises(error, match=rf"^{name}: (?s:.*){says}"):
            call(*args, **options)
        assert not listening()

    def forgets(x):
        np.sum(x)

    def leaves(x):
        return math.sin(x[0])

    def copies(x):
        return np.array([float(x[0]), float(x[1])])

    def counts(x):
        return np.argmax(x)

    refuses(ArgumentError, "wanted a function .* got ndarray", X)
    refuses(ArgumentError, "wanted a function .* got None", None)
    refuses(NotATensorError, "forgets returned None", forgets)
    refuses(NotATensorError, r"returned list \[", lambda x: [np.sum(x), None])
    refuses(NotATensorError, r"returned tuple \(\)", lambda x: ())
    refuses(LeavesTapeError, r"leaves returned float 0\.479.*np\.sin", leaves)
    refuses(LeavesTapeError, r"copies returned ndarray array.*np\.array", copies)
    refuses(LeavesTapeError, "returned str 'abc'", lambda x: "abc")
    refuses(DTypeError, "counts returned int64", counts)
    refuses(DTypeError, "returned bool", lambda x: np.sum(x) > 1)
    refuses(DTypeError, "cannot make a tensor of 'abc'", lambda x: [np.sum(x), "abc"])
    refuses(DTypeError, r"argument 0 of sum is or holds int64.*astype\(float\)", np.sum, np.arange(3))
    refuses(DTypeError, "argument 0 of sum is or holds int32", np.sum, 3)
    refuses(DTypeError, "argument 0 of sum is or holds bool", np.sum, True)
    refuses(DTypeError, "argument 0 of sum is or holds int32", np.sum, gt.constant([1, 2]))
    refuses(DTypeError, "argument 0 of sum.*'a'", np.sum, np.array(["a"]))
    refuses(DTypeError, "argument 0 of sum.*None", np.sum, np.array([None]))
    refuses(NotATensorError, "argument 0 of sum is or holds str 'a'", np.sum, "a")
    refuses(NotATensorError, "argument 0 of sum is or holds None", np.sum, None)
    refuses(NotATensorError, "argument 0 of sum is or holds str 'b'", np.sum, {"a": 1.0, "b": "b"})
    refuses(StructureError, "must return a pair", np.sum, has_aux=True)
    refuses(StructureError, "must return a pair.*tuple", lambda x: (np.sum(x),) * 3, has_aux=True)
    refuses(NotATensorError, "returned None", lambda x: (None, 1), has_aux=True)
    if name not in ("vjp", "jvp", "jacobian"):
        refuses(NotScalarError, r"returned shape \(3,\), wanted one number, .* jacobian or vjp", lambda x: x)
        refuses(NotScalarError, r"returned shape \(1,\)", lambda x: x[:1])
        refuses(NotScalarError, r"returned 2 results, .* has_aux", lambda x: (np.sum(x), x))
    with pytest.raises(ZeroDivisionError):
        call(lambda x: 1 / 0)
    assert not listening()


@pytest.mark.parametrize("name", WITH_TANGENTS)
def test_wrong_tangents(name):
    transformed = WITH_TANGENTS[name](
        lambda x: np.sum(x["a"] * x["a"]) if isinstance(x, dict) else np.sum(x * x)
    )

    def refuses(error, says, *args):
        with pytest.raises(error, match=f"^{name}: .*{says}"):
            transformed(*args)
        assert not listening()

    refuses(ArgumentError, rf"a tangent, got 1 positional arguments; call it as {name}\(f\)\(x, v\)", X)
    refuses(ArgumentError, "got 0 positional arguments")
    refuses(ShapeError, r"tangent has shape \(2,\), the argument \(3,\)", X, np.ones(2))
    refuses(ShapeError, r"tangent has shape \(\), the argument \(3,\)", X, 1.0)
    refuses(ShapeError, r"tangent has shape \(3,\), the argument \(\)", 1.0, X)
    refuses(DTypeError, "tangent has dtype complex128, the argument float64", X, X * 1j)
    refuses(DTypeError, "tangent has dtype complex128, the argument float64", 1.0, 1j)
    refuses(DTypeError, "tangent: .*'a'", X, np.array(["a"]))
    refuses(ShapeError, "tangent: .*rows of equal length", X, [[1.0], [1.0, 2.0], 3.0])
    refuses(StructureError, r"tangent has structure \{'a': \*\}, the argument \*", X, {"a": X})
    refuses(StructureError, r"tangent has structure \*, the argument \{'a': \*\}", {"a": X}, X)
    refuses(StructureError, r"tangent has structure \[\*\], the argument \{'a': \*\}", {"a": X}, [X])
    both = WITH_TANGENTS[name](product, (0, 1))
    with pytest.raises(StructureError, match=rf"^{name}: .*structure \*, the argument \(\*, \*\)"):
        both(X, Y, X)


def test_wrong_cotangents():
    _, pullback = gt.vjp(lambda x: x * x)(X)
    with pytest.raises(ShapeError, match=r"^vjp: the cotangent has shape \(\), the value \(3,\)"):
        pullback(1.0)
    with pytest.raises(DTypeError, match=r"^vjp: the cotangent has dtype complex128, the value float64"):
        pullback(X * 1j)
    with pytest.raises(
        StructureError, match=r"^vjp: the cotangent has structure \(\*, \*\), the value \[\*, \*\]"
    ):
        gt.vjp(lambda x: [x, x])(X)[1]((X, X))
    assert_same(pullback(np.ones(3)), 2 * X)


def test_wrong_options():
    with pytest.raises(ArgumentError, match=r"jacobian: unknown mode 'backward'; wanted 'auto'"):
        gt.jacobian(np.sin, mode="backward")
    for mode in MODES:
        with pytest.raises(ShapeError, match=r"^jacobian: chunk_size is 0"):
            gt.jacobian(np.sin, mode=mode, chunk_size=0)(X)
    with pytest.raises(ShapeError, match=r"^hessian: chunk_size is 1\.5"):
        gt.hessian(np.sum, chunk_size=1.5)(X)


def test_what_is_made_says_what_it_is():
    assert gt.grad(product).__name__ == "grad(product)"
    assert gt.jacobian(gt.grad(product)).__name__ == "jacobian(grad(product))"
    assert "gradtape.hvp" in gt.hvp(product).__doc__


def test_threads_do_not_meet():
    f = gt.hessian(lambda x, n: np.sum(x**n))
    results, barrier = {}, threading.Barrier(4)

    def work(n):
        barrier.wait()
        for _ in range(20):
            results[n] = f(X, float(n))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(2, 6):
        assert_close(results[n], np.diag(n * (n - 1) * X ** (n - 2)), EXACT)


@pytest.mark.parametrize("size", [None, 1, 2])
@pytest.mark.parametrize("of", ["forward", "auto", "hessian"])
def test_all_parts_of_a_matrix_are_of_one_function(of: str, size: int | None) -> None:
    """However often it runs: with the same random numbers and variables, which it assigns once."""
    count = gt.Variable(np.float64(0.0))
    seen = []

    def f(x):
        count.assign_add(1.0)
        noise = gt.random.normal([], dtype="float64")
        seen.append(float(noise))
        y = count * noise * x**2
        return gt.reduce_sum(y) if of == "hessian" else gt.concat([y, y], 0)

    x = np.array([1.0, 2.0, 3.0])
    if of == "hessian":
        got = gt.hessian(f, chunk_size=size)(x)
        want = 2.0 * seen[0] * np.eye(3)
    else:
        got = gt.jacobian(f, mode=of, chunk_size=size)(x)
        want = 2.0 * seen[0] * np.concatenate([np.diag(x)] * 2)
    np.testing.assert_allclose(got, want)
    assert count.numpy() == 1.0
    assert len(set(seen)) == 1
