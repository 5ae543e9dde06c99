"""Random nestings of everything that differentiates, maps, recomputes or replaces a derivative.

Each layer takes a function of a vector to a number and makes another, either the same function by another way
or its derivative along one direction; so the value and its derivative are those of plain tapes in any case.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradtape as gt

Accumulator = gt.autodiff.ForwardAccumulator
Function: TypeAlias = Callable[[Any], Any]

W = gt.Variable(np.array([0.2, -0.9, 0.6]))
X = gt.constant(np.array([0.4, 0.8, -0.6]))
V = gt.constant(np.array([0.3, -0.7, 0.5]))
M = np.random.default_rng(0).uniform(-1.0, 1.0, (3, 3))


def along(gradient: Any) -> Any:
    return gt.reduce_sum(gradient * V)


# -- functions, all of them of the variable too --------------------------------------------------------------


def _products(x: Any) -> Any:
    return gt.reduce_sum(gt.sin(x * W) * gt.exp(x[::-1] * 0.5)) + x[0] ** 3 * x[1] ** 2 * x[2]


def _lookups(x: Any) -> Any:
    return gt.reduce_sum(gt.gather(W, [0, 2, 2]) * gt.gather(x, [1, 1, 0]) ** 3)


def _contraction(x: Any) -> Any:
    return gt.reduce_sum(gt.einsum("i,jk,k->ij", x * W, M, x) ** 2) + gt.einsum("i,i->", x, W) ** 3


def _assignment(x: Any) -> Any:
    t = gt.identity(x * W)
    t[1:] = t[:2] * x[1:]
    t[[0, 2, 0]] = x * x
    return gt.reduce_sum(t**3 * W)


def _algebra(x: Any) -> Any:
    m = gt.expand_dims(x, 1) * W + 0.1 * x * x + 3.0 * np.eye(3)
    return gt.reduce_sum(gt.linalg.solve(m, gt.expand_dims(x, 1)) ** 2) + gt.linalg.det(m)


def _choices(x: Any) -> Any:
    i = gt.argmax(x * x)
    in_order = gt.reduce_sum(gt.sort(x * W) * np.array([1.0, 4.0, 9.0]) * x)
    chosen = gt.reduce_sum(gt.where(x > 0.1, x * x * W, gt.sin(W * x)))
    return in_order + gt.gather(W * x, i) ** 2 * x[0] + chosen


def _complex(x: Any) -> Any:
    z = gt.cast(x * W, "complex128") + 1j * gt.cast(x * x, "complex128")
    return gt.reduce_sum(gt.abs(gt.exp(z * (0.3 + 0.2j)) * gt.math.conj(z)))


FUNCTIONS = [_products, _lookups, _contraction, _assignment, _algebra, _choices, _complex]

# -- the same function by another way ------------------------------------------------------------------------


def mapped(f: Function) -> Function:
    return lambda x: gt.vectorized_map(f, gt.stack([x, x * 1.1, -x]))[0]


def mapped_in_chunks(f: Function) -> Function:
    return lambda x: gt.vectorized_map(f, gt.stack([x * 0.3, x * 1.1, x]), chunk_size=2)[2]


def mapped_alone(f: Function) -> Function:
    return lambda x: gt.vectorized_map(f, gt.expand_dims(x, 0))[0]


def shared_in_a_map(f: Function) -> Function:
    weights = gt.constant(np.array([1.0, 2.0]))
    return lambda x: gt.reduce_sum(gt.vectorized_map(lambda e: e * f(x), weights)) / 3.0


def scaled_in_a_map(f: Function) -> Function:
    return lambda x: gt.vectorized_map(lambda e: f(x * e), gt.constant(np.array([1.0, 2.0])))[0]


def with_a_gradient(f: Function) -> Function:
    @gt.custom_gradient
    def g(x: Any) -> Any:
        def rule(cotangent: Any, variables: Any = ()) -> Any:
            with gt.GradientTape() as tape:
                tape.watch(x)
                y = f(x)
            of_x, *of_variables = tape.gradient(y, [x, *variables], cotangent)
            return (of_x, of_variables) if variables else of_x

        return f(x), rule

    return g


def with_a_jvp(f: Function) -> Function:
    g = gt.custom_jvp(lambda x, w: f(x))

    @g.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        with Accumulator(primals, tangents) as acc:
            y = f(primals[0])
        return y, acc.jvp(y, unconnected_gradients="zero")

    return lambda x: g(x, W)


def one_of_two(f: Function) -> Function:
    return lambda x: gt.unstack(gt.stack([f(x), 2.0 * x[0]]))[0]


SAME = [
    gt.recompute_grad,
    mapped,
    mapped_in_chunks,
    mapped_alone,
    shared_in_a_map,
    scaled_in_a_map,
    with_a_gradient,
    with_a_jvp,
    one_of_two,
]

# -- its derivative along V ----------------------------------------------------------------------------------


def by_tape(f: Function) -> Function:
    def g(x: Any) -> Any:
        with gt.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            y = f(x)
        return along(tape.gradient(y, x, unconnected_gradients="zero"))

    return g


def by_tape_within_its_block(f: Function) -> Function:
    def g(x: Any) -> Any:
        with gt.GradientTape(persistent=True) as tape:
            tape.watch(x)
            return along(tape.gradient(f(x), x, unconnected_gradients="zero"))

    return g


def by_accumulator(f: Function) -> Function:
    def g(x: Any) -> Any:
        x = gt.identity(x)
        with Accumulator(x, V) as acc:
            y = f(x)
        return acc.jvp(y, unconnected_gradients="zero")

    return g


def by_jacobian(**how: Any) -> Callable[[Function], Function]:
    def layer(f: Function) -> Function:
        def g(x: Any) -> Any:
            with gt.GradientTape(persistent=True) as tape:
                tape.watch(x)
                y = gt.stack([x[0], f(x)])
            return along(tape.jacobian(y, x, **how)[1])

        return g

    return layer


def by_batch_jacobian(f: Function) -> Function:
    def g(x: Any) -> Any:
        xs = gt.stack([x, x * 2.0])
        with gt.GradientTape() as tape:
            tape.watch(xs)
            y = gt.expand_dims(gt.vectorized_map(f, xs), 1)
        return along(tape.batch_jacobian(y, xs, unconnected_gradients="zero")[0, 0])

    return g


def by_mapped_tangents(f: Function) -> Function:
    return lambda x: gt.vectorized_map(lambda v: gt.jvp(f)(x, v)[1], gt.stack([V, 2.0 * V]))[0]


def by_mapped_cotangents(f: Function) -> Function:
    def g(x: Any) -> Any:
        _, pullback = gt.vjp(f)(x)
        return along(gt.vectorized_map(pullback, gt.constant(np.array([1.0, 2.0])))[0])

    return g


DERIVATIVES = [
    by_tape,
    by_tape_within_its_block,
    by_accumulator,
    by_jacobian(),
    by_jacobian(chunk_size=1),
    by_jacobian(experimental_use_pfor=False),
    by_batch_jacobian,
    by_mapped_tangents,
    by_mapped_cotangents,
    lambda f: lambda x: along(gt.grad(f)(x)),
    lambda f: lambda x: along(gt.vectorized_map(gt.grad(f), gt.stack([x, x + 1.0]))[0]),
    lambda f: lambda x: along(gt.jacobian(f, mode="forward", chunk_size=2)(x)),
    lambda f: lambda x: along(gt.jacobian(f, mode="reverse")(x)),
]
SECOND_DERIVATIVES = [
    lambda f: lambda x: along(gt.hvp(f)(x, V)),
    lambda f: lambda x: along(gt.linalg.matvec(gt.hessian(f)(x), V)),
    lambda f: lambda x: along(gt.linalg.matvec(gt.hessian(f, chunk_size=2)(x), V)),
]

# -- what comes out of it ------------------------------------------------------------------------------------


def outcome(f: Function, mode: str) -> tuple[Any, Any]:
    """The value, and its derivative by the variable."""
    if mode == "reverse":
        with gt.GradientTape() as tape:
            y = f(X)
        found = tape.gradient(y, W, unconnected_gradients="zero")
    else:
        with Accumulator(W, V) as acc:
            y = f(X)
        found = acc.jvp(y, unconnected_gradients="zero")
    return y.numpy(), gt.convert_to_tensor(found).numpy()


@cache
def wanted(f: Function, order: int, mode: str) -> tuple[Any, Any]:
    for _ in range(order):
        f = by_tape(f)
    return outcome(f, mode)


layers = st.one_of(
    st.sampled_from(SAME).map(lambda layer: (0, layer)),
    st.sampled_from(DERIVATIVES).map(lambda layer: (1, layer)),
    st.sampled_from(SECOND_DERIVATIVES).map(lambda layer: (2, layer)),
)


@pytest.mark.parametrize("f", FUNCTIONS)
@given(layers=st.lists(layers, max_size=5), mode=st.sampled_from(["forward", "reverse"]))
def test_any_nesting(f: Function, layers: list[tuple[int, Any]], mode: str) -> None:
    order, nested = 0, f
    for degree, layer in layers:
        if order + degree <= 3:
            order, nested = order + degree, layer(nested)
    value, derivative = outcome(nested, mode)
    want_value, want_derivative = wanted(f, order, mode)
    np.testing.assert_allclose(value, want_value, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(derivative, want_derivative, rtol=1e-9, atol=1e-9)
