"""The checker of derivatives: it passes what is right, and names what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradtape as gt
from gradtape.ops import op as declaring
from gradtape.ops.op import REGISTRY, Sample
from gradtape.tensor import Tensor, TensorLike
from gradtape.testing import GradientCheckError, check_gradients, check_op

REVERSE, FORWARD, BOTH = ["reverse"], ["forward"], ["forward", "reverse"]
all_modes = pytest.mark.parametrize("modes", [REVERSE, FORWARD, BOTH], ids="-".join)


@pytest.fixture(autouse=True)
def scratch_registry() -> Iterator[None]:
    """Ops declared in a test are gone after it."""
    known = set(REGISTRY)
    yield
    for name in set(REGISTRY) - known:
        del REGISTRY[name]
        for namespace in (declaring.raw, declaring.recorded):
            delattr(namespace, name)


def op_of(forward: Callable[..., Any], **declaration: Any) -> Callable[..., Tensor]:
    """A declared op of one operand."""

    def scratch(x: TensorLike) -> Any:
        return forward(x)

    return declaring.op(**declaration)(scratch)


def found(f: Callable[..., Any], args: Any, *rest: Any, **options: Any) -> str:
    """What the checker complains of."""
    with pytest.raises(GradientCheckError) as caught:
        check_gradients(f, args, *rest, **options)
    return str(caught.value)


# -- what is right -------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    first: Any
    second: Any


@all_modes
def test_structures_of_floats_arrays_and_tensors_go_in_and_come_out(modes: list[str]) -> None:
    def f(x: dict[str, Any], pair: Pair, n: int, name: str) -> dict[str, Any]:
        assert (n, name, type(pair.second)) == (3, "name", np.ndarray)
        assert {v.dtype for v in (x["a"], *x["b"], pair.first)} == {np.dtype("float64")}
        assert isinstance(x["a"], Tensor)
        return {
            "sum": x["a"] * x["b"][0] + gt.sin(pair.first),
            "rest": [x["b"][1] ** n, None, pair.second, gt.argmax(x["a"]), 2.0, np.ones(2)],
        }

    x = {"a": gt.constant([0.3, 0.7]), "b": (1.5, np.float32(0.5))}
    check_gradients(f, (x, Pair(gt.Variable(2.0), np.arange(2)), 3, "name"), 2, modes)


@all_modes
@pytest.mark.parametrize("order", [1, 2, 3])
def test_any_order_in_any_mode(modes: list[str], order: int) -> None:
    check_gradients(lambda x, y: gt.exp(x * y) / y, [np.array([0.3, -0.7]), 1.5], order, modes)


@all_modes
def test_complex_values(modes: list[str]) -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2, 2)) + 1j * rng.normal(size=(2, 2))
    check_gradients(lambda z, x: (gt.exp(z) * x, gt.abs(z), gt.math.conj(z) @ z), [z, 0.5], 2, modes)
    check_gradients(lambda z: gt.math.real(z) ** 2, [1.0 + 2.0j], 2, modes)
    check_gradients(lambda x: gt.cast(x, "complex128") * (1.0 + 2.0j), [np.array([1.0, 2.0])], 2, modes)


@all_modes
@pytest.mark.parametrize("distance", [1e-2, 1e-3, 1e-5, 1e-7, 1e-9])
def test_a_kink_a_jump_or_a_pole_nearby(distance: float, modes: list[str]) -> None:
    x = np.array([distance, -distance, 1.0])
    check_gradients(gt.nn.relu, [x], 2, modes)
    check_gradients(lambda x: gt.abs(x) * x, [x], 2, modes)
    check_gradients(lambda x: gt.floor(x) * x, [1.0 + max(distance, 1e-6)], 2, modes)
    check_gradients(lambda x: gt.math.log(gt.abs(x)), [x], 1, modes)
    check_gradients(gt.sqrt, [np.abs(x)], 2, modes)


@all_modes
@pytest.mark.parametrize("size", [1e-6, 1e-3, 1e3, 1e6])
def test_large_and_small_magnitudes(size: float, modes: list[str]) -> None:
    x = size * np.array([1.0, -0.7])
    check_gradients(lambda x: x**3.0, [x], 2, modes)
    check_gradients(gt.sin, [x], 2, modes)
    check_gradients(lambda x: gt.exp(x / size), [x], 2, modes)
    check_gradients(lambda x: gt.tanh(x[0] * x[1]), [x / size**2], 1, modes)
    check_gradients(lambda x: size * gt.cos(x), [np.array([0.3, 0.0])], 2, modes)


@all_modes
def test_derivatives_that_vanish(modes: list[str]) -> None:
    zero = np.zeros(2)
    for f in (lambda x: x**5.0, lambda x: x**9.0, gt.cos, lambda x: 0.0 * x, gt.floor):
        check_gradients(f, [zero + 0.0 if f is not gt.floor else zero + 0.5], 2, modes)


@all_modes
def test_nothing_to_move(modes: list[str]) -> None:
    check_gradients(gt.exp, [np.ones((0, 2))], 2, modes)


def test_a_matrix_that_cannot_be_moved_far() -> None:
    a = 1e-4 * np.array([[2.0, 0.5], [0.5, 1.0]])
    check_gradients(lambda a: gt.linalg.cholesky(0.5 * (a + gt.transpose(a))), [a], 1)


def test_variables_of_the_function_stay_as_they_are() -> None:
    w = gt.Variable(np.array([1.0, 2.0]))
    check_gradients(lambda x: gt.reduce_sum(w * x), [np.ones(2)])
    assert w.numpy().tolist() == [1.0, 2.0]


def test_lookups_have_gradients_of_a_kind_of_their_own() -> None:
    check_gradients(lambda x: gt.gather(x, [2, 0, 2]) ** 2.0, [np.arange(6.0).reshape(3, 2)])


@given(st.lists(st.floats(-3.0, 3.0), min_size=1, max_size=4), st.integers(0, 3))
def test_polynomials(coefficients: list[float], seed: int) -> None:
    def polynomial(x: Tensor) -> Tensor:
        return sum(c * x**k for k, c in enumerate(coefficients, 1))

    check_gradients(polynomial, [np.random.default_rng(seed).normal(size=2)])


# -- what is wrong -------------------------------------------------------------------------------------------


@given(st.integers(0, 5), st.sampled_from([1e-6, 1e-3, 0.5, -2.0]), st.floats(-1.0, 1.0))
def test_any_element_that_is_off_is_found_and_named(place: int, by: float, x: float) -> None:
    factor = np.ones((2, 3))
    factor.flat[place] += by

    def cosine(xp: Any, x: Any) -> Any:
        return xp.cos(x) * factor

    if "off" in REGISTRY:
        del REGISTRY["off"]

    @declaring.elementwise(np.sin, cosine)
    def off(x: TensorLike) -> Tensor: ...

    element = tuple(map(int, np.unravel_index(place, (2, 3))))
    for modes in (REVERSE, FORWARD):
        message = found(off, [np.full((2, 3), x)], 1, modes, analytic=False)
        assert f"args[0], element {element}" in message


def test_the_message_names_everything() -> None:
    @declaring.elementwise(np.square, lambda xp, x: 3.0 * x)
    def squared(x: TensorLike) -> Tensor: ...

    def f(x: dict[str, Any]) -> Tensor:
        return squared(x["b"])

    x = {"a": 1.0, "b": np.array([0.0, 2.0])}
    message = found(f, [x], 1, FORWARD)
    pattern = (
        r"order 1, forward: the tangent of result, element \(1,\), along args\[0\]\['b'\], element \(1,\), "
        r"is 6.0, by finite differences (\S+); they differ by 2.00e\+00, and the tolerance is (\S+)"
    )
    match = re.fullmatch(pattern, message)
    assert match, message
    assert float(match[1]) == pytest.approx(4.0, rel=1e-9)
    assert float(match[2]) < 1e-7
    assert "order 1, reverse: the gradient by args[0]['b'], element (1,) is " in found(f, [x], 1, REVERSE)


def test_a_second_derivative_that_is_not_recorded() -> None:
    @declaring.elementwise(np.sin, lambda xp, x: np.cos(np.asarray(x)))
    def flat(x: TensorLike) -> Tensor: ...

    x = [np.array([0.5])]
    check_gradients(flat, x, 1)
    assert found(flat, x, 2, REVERSE).startswith("order 2, reverse over reverse: the gradient by args[0]")
    assert "order 2, forward over forward" in found(flat, x, 2, FORWARD)
    check_gradients(flat, x, 1, BOTH)


def test_a_second_derivative_by_the_cotangent_alone() -> None:
    """g is used as it is recorded for the value, but its own derivative is lost."""
    wrong = op_of(np.sin, vjp=lambda xp, g, x: np.asarray(g) * xp.cos(x))
    x = [np.array([0.5, 1.5])]
    check_gradients(wrong, x, 1, REVERSE)
    assert "by the cotangent of result" in found(wrong, x, 2, REVERSE)


def test_a_derivative_that_is_not_linear_in_the_cotangent() -> None:
    wrong = op_of(np.sin, vjp=lambda xp, g, x: xp.clip_by_value(g, -1.6, 1.6) * xp.cos(x))
    check_gradients(wrong, [np.array([0.5])], 1, REVERSE)
    assert "by the cotangent of result" in found(wrong, [np.array([0.5])], 2, REVERSE)


def test_forward_mode_alone() -> None:
    wrong = op_of(
        np.sin, vjp=lambda xp, g, x: g * xp.cos(x), jvp=lambda xp, t, x: t * xp.cos(x) * (1.0 + 1e-6)
    )
    x = [np.array([0.5])]
    check_gradients(wrong, x, 2, REVERSE)
    assert "order 1, forward: the tangent of result" in found(wrong, x, 1, BOTH)


def test_forward_mode_alone_at_the_second_order() -> None:
    wrong = op_of(np.sin, vjp=lambda xp, g, x: g * xp.cos(x), jvp=lambda xp, t, x: t * np.cos(np.asarray(x)))
    x = [np.array([0.5])]
    check_gradients(wrong, x, 2, REVERSE)
    check_gradients(wrong, x, 1, BOTH)
    assert re.match("order 2, (forward|reverse) over forward", found(wrong, x, 2, BOTH))


def test_shapes_and_dtypes() -> None:
    wide = op_of(np.sum, vjp=lambda xp, g, x: xp.broadcast_to(g, (2, 3)))
    message = (
        "order 1, reverse: the gradient by args[0] is of shape (2, 3) and dtype float64; wanted (3,) and"
    )
    assert message in found(wide, [np.ones(3)], 1, REVERSE)


def test_a_dependence_that_the_tape_does_not_see() -> None:
    def f(x: Tensor) -> Any:
        return gt.sin(x.numpy())

    assert "is 0.0, by finite differences" in found(f, [np.array([0.5])], 1, REVERSE)
    assert "is 0.0, by finite differences" in found(lambda x: float(x) ** 2.0, [0.5], 1, REVERSE)


def test_a_function_of_chance() -> None:
    rng = np.random.default_rng(0)
    assert "the same on every call" in found(lambda x: x * rng.normal(), [1.0])


def test_an_unconnected_gradient_that_depends_on_being_recorded() -> None:
    def f(x: Tensor) -> Tensor:
        return x**2.0 if gt.recorders.listening() else x**3.0

    assert "when it is recorded" in found(f, [2.0])


def test_a_kink_right_here() -> None:
    assert "args[0], element (1,)" in found(gt.nn.relu, [np.array([1.0, 0.0])], 1)


def test_a_value_without_a_derivative() -> None:
    with np.errstate(all="ignore"):
        assert "result, element (1,) is -inf" in found(gt.math.log, [np.array([1.0, 0.0])])
        assert "does not settle" in found(gt.sqrt, [np.array([0.0])])


# -- the complex step ----------------------------------------------------------------------------------------


def test_the_complex_step_sees_what_differences_do_not() -> None:
    slightly = op_of(np.sin, vjp=lambda xp, g, x: g * xp.cos(x) * (1.0 + 1e-9))
    x = [np.array([0.5])]
    check_gradients(slightly, x, 1, REVERSE, analytic=False)
    assert "by the complex step" in found(slightly, x, 1, REVERSE)


def test_a_function_that_is_not_analytic_or_takes_no_complex_numbers() -> None:
    for f in (lambda x: gt.abs(x) * x, lambda x: x * gt.math.conj(x), lambda x: gt.nn.relu(x) * x):
        check_gradients(f, [np.array([0.5])])
        assert "f is not analytic by args[0], element (0,)" in found(f, [np.array([0.5])], analytic=True)
    check_gradients(gt.sin, [np.array([0.5])], analytic=True)


# -- ops -----------------------------------------------------------------------------------------------------


def test_ops_are_checked_by_their_samples() -> None:
    for right in (gt.sin, gt.concat, gt.linalg.solve, gt.math.top_k):
        check_op(right)
    wrong = op_of(np.sin, vjp=lambda xp, g, x: g, samples=[Sample(()), Sample((2,))], dtypes="fdD")
    with pytest.raises(GradientCheckError, match=r"^scratch\(\(\)\) in float64: order 1, forward: "):
        check_op(wrong)


def test_an_op_that_is_wrong_for_complex_numbers_only() -> None:
    wrong = op_of(np.square, vjp=lambda xp, g, x: g * 2.0 * x, samples=[Sample((2,))], dtypes="fdD")
    with pytest.raises(
        GradientCheckError, match=r"^scratch\(\(2,\)\) in complex128: order 1, reverse: .*part is"
    ):
        check_op(wrong, modes=REVERSE)


def test_what_is_no_op_or_has_nothing_to_check() -> None:
    with pytest.raises(TypeError, match=r"wanted a declared op, got .*; use check_gradients"):
        check_op(lambda x: x)
    with pytest.raises(gt.errors.NotATensorError, match="no sample of argmax has"):
        check_op(gt.argmax)


# -- bad input -----------------------------------------------------------------------------------------------


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match=r"wanted a list of f's arguments, got ndarray; write .*\(f, \[x\]\)"):
        check_gradients(gt.sin, np.ones(2))
    for nothing in ([], [3, "text", np.arange(3), None]):
        with pytest.raises(gt.errors.NotATensorError, match="nothing to differentiate"):
            check_gradients(lambda *args: gt.constant(1.0), nothing)


def test_bad_results() -> None:
    for nothing in (None, [], (None, {})):
        with pytest.raises(gt.errors.NotATensorError, match="f returned nothing"):
            check_gradients(lambda x, nothing=nothing: nothing, [1.0])
    with pytest.raises(gt.errors.NotATensorError, match="f returned neither floating nor complex values"):
        check_gradients(lambda x: [gt.argmax(x), 3], [np.ones(2)])
    with pytest.raises(gt.errors.DTypeError, match="f returned float32, too coarse"):
        check_gradients(lambda x: gt.cast(x, "float32"), [1.0])


def test_bad_modes_and_orders() -> None:
    with pytest.raises(ValueError, match="unknown mode 'backward'; wanted 'forward' or 'reverse'"):
        check_gradients(gt.sin, [1.0], modes=["reverse", "backward"])
    for modes in ("reverse", []):
        with pytest.raises(ValueError, match="wanted a list of modes"):
            check_gradients(gt.sin, [1.0], modes=modes)
    with pytest.raises(ValueError, match="wanted an order of 1 or more, got 0"):
        check_gradients(gt.sin, [1.0], 0)


def test_what_the_function_raises_passes_through() -> None:
    class OwnError(Exception):
        pass

    def f(x: Tensor) -> Tensor:
        raise OwnError

    with pytest.raises(OwnError):
        check_gradients(f, [1.0])
    with pytest.raises(gt.errors.ShapeError):
        check_gradients(gt.matmul, [np.ones((2, 3)), np.ones((2, 3))])
