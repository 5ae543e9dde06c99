"""Random shapes and random small programs thrown at the tape, compared with finite differences."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numerics import MODES, assert_close, flat, tensors

import gradtape as gt
from gradtape.testing import check_gradients

# -- broadcasting --------------------------------------------------------------------------------------------

BINARY: dict[str, Callable[..., Any]] = {
    "add": gt.add,
    "subtract": gt.subtract,
    "multiply": gt.multiply,
    "divide": lambda x, y: x / (2.5 + y),
    "pow": lambda x, y: (2.5 + x) ** y,
    "maximum": gt.maximum,
    "atan2": lambda x, y: gt.math.atan2(x, 2.5 + y),
    "squared_difference": gt.math.squared_difference,
    "xlogy": lambda x, y: gt.math.xlogy(x, 2.5 + y),
    "where": lambda x, y: gt.where(gt.stop_gradient(x) > 0.0, x * y, y),
}

shapes = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, min_side=0, max_side=3)
seeds = st.integers(0, 2**16)


def drawn(shapes: Sequence[tuple[int, ...]], seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.uniform(-1.5, 1.5, shape)) for shape in shapes]


@pytest.mark.parametrize("name", BINARY)
@given(shapes=shapes, seed=seeds)
def test_broadcasting(name: str, shapes: hnp.BroadcastableShapes, seed: int) -> None:
    arrays = drawn(shapes.input_shapes, seed)
    assert BINARY[name](*tensors(arrays)).shape == shapes.result_shape
    check_gradients(BINARY[name], arrays, 1, MODES)


# -- programs ------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """A name to print, how many values it takes, which shapes suit it, and what it does."""

    name: str
    arity: int
    suits: Callable[..., bool]
    apply: Callable[..., Any]

    def __repr__(self) -> str:
        return self.name


def anything(*shapes: tuple[int, ...]) -> bool:
    return True


def a_vector(shape: tuple[int, ...]) -> bool:
    return len(shape) >= 1


def a_matrix(shape: tuple[int, ...]) -> bool:
    return len(shape) >= 2


def broadcast(*shapes: tuple[int, ...]) -> bool:
    try:
        return len(np.broadcast_shapes(*shapes)) <= 3
    except ValueError:
        return False


def chained(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return len(a) == len(b) == 2 and a[1] == b[0]


def _assigned(x: gt.Tensor, y: gt.Tensor) -> gt.Tensor:
    x = gt.identity(x)
    x[..., :1] = gt.reduce_mean(y)
    return x


# Smooth everywhere, and bounded enough that ten of them in a row stay small.
STEPS = [
    Step("x + y", 2, broadcast, lambda x, y: x + y),
    Step("x - 0.5 y", 2, broadcast, lambda x, y: x - 0.5 * y),
    Step("x y", 2, broadcast, lambda x, y: x * y),
    Step("x / (1 + y y)", 2, broadcast, lambda x, y: x / (1.0 + y * y)),
    Step("atan2", 2, broadcast, lambda x, y: gt.math.atan2(x, 2.0 + y * y)),
    Step("x @ y", 2, chained, lambda x, y: x @ y),
    Step("x[..., :1] = mean(y)", 2, lambda a, b: len(a) >= 1, _assigned),
    Step("sin", 1, anything, gt.sin),
    Step("tanh", 1, anything, gt.tanh),
    Step("exp(-x x)", 1, anything, lambda x: gt.exp(-gt.square(x))),
    Step("sigmoid", 1, anything, gt.sigmoid),
    Step("softplus", 1, anything, gt.math.softplus),
    Step("log(2 + cos)", 1, anything, lambda x: gt.math.log(2.0 + gt.cos(x))),
    Step("sqrt(1 + x x)", 1, anything, lambda x: gt.sqrt(1.0 + x**2)),
    Step("erf", 1, anything, gt.math.erf),
    Step("sum", 1, a_vector, lambda x: gt.reduce_sum(x, axis=-1)),
    Step("mean, axis kept", 1, a_vector, lambda x: gt.reduce_mean(x, axis=0, keepdims=True)),
    Step("logsumexp", 1, a_vector, lambda x: gt.reduce_logsumexp(x, axis=0)),
    Step("variance", 1, a_vector, lambda x: gt.math.reduce_variance(x, axis=-1, keepdims=True)),
    Step("cumsum", 1, a_vector, lambda x: gt.math.cumsum(x, axis=-1)),
    Step("softmax", 1, a_vector, gt.nn.softmax),
    Step("reshape", 1, anything, lambda x: gt.reshape(x, (-1, 1))),
    Step("transpose", 1, a_matrix, lambda x: gt.transpose(x)),
    Step("expand_dims", 1, lambda s: len(s) < 3, lambda x: gt.expand_dims(x, 0)),
    Step("x[..., ::-1]", 1, a_vector, lambda x: x[..., ::-1]),
    Step("x[0]", 1, a_vector, lambda x: x[0]),
    Step("concat with itself", 1, lambda s: len(s) >= 1 and s[0] <= 4, lambda x: gt.concat([x, x], axis=0)),
    Step("gather", 1, a_vector, lambda x: gt.gather(x, [0, 0, -1 + x.shape[0]])),
]

LEAVES = [(), (3,), (2, 3), (3, 2), (2, 1), (1, 3), (1,)]


class Program(NamedTuple):
    """Leaves by shape, then steps with the places of what they take in the growing list of values."""

    leaves: list[tuple[int, ...]]
    steps: list[tuple[Step, tuple[int, ...]]]

    def run(self, leaves: Sequence[gt.Tensor]) -> list[gt.Tensor]:
        values = list(leaves)
        for step, places in self.steps:
            values.append(step.apply(*(values[place] for place in places)))
        return values

    def loss(self, leaves: Sequence[gt.Tensor]) -> gt.Tensor:
        """Every value that no step took, weighted unevenly and summed."""
        taken = {place for _, places in self.steps for place in places}
        values = self.run(leaves)
        return sum(
            (
                gt.reduce_sum(v * np.cos(np.arange(v.size)).reshape(v.shape))
                for i, v in enumerate(values)
                if i not in taken
            ),
            start=gt.constant(np.float64(0.0)),
        )


@st.composite
def programs(draw: st.DrawFn, length: int = 10) -> tuple[Program, list[np.ndarray]]:
    """A program of ten steps that its values suit, and leaves for it."""
    leaves = draw(st.lists(st.sampled_from(LEAVES), min_size=2, max_size=4))
    arrays = drawn(leaves, draw(seeds))
    program = Program(leaves, [])
    values = tensors(arrays)
    for _ in range(length):
        step = draw(st.sampled_from(STEPS))
        places: tuple[int, ...] = ()
        for n in range(step.arity):
            fit = [
                i
                for i in range(len(values))
                if n + 1 < step.arity or step.suits(*(values[p].shape for p in (*places, i)))
            ]
            assume(fit)
            places = (*places, draw(st.sampled_from(fit)))
        program.steps.append((step, places))
        values.append(step.apply(*(values[place] for place in places)))
        assume(values[-1].size <= 64 and np.all(np.abs(values[-1]) < 20))
    return program, arrays


@given(programs())
def test_program(drawn: tuple[Program, list[np.ndarray]]) -> None:
    program, arrays = drawn
    check_gradients(lambda *xs: program.loss(xs), arrays, 1, MODES)


@given(programs())
def test_program_to_second_order(drawn: tuple[Program, list[np.ndarray]]) -> None:
    program, arrays = drawn
    check_gradients(lambda *xs: program.loss(xs), arrays, 2, MODES)


@given(programs())
def test_program_on_a_persistent_tape_inside_and_out(drawn: tuple[Program, list[np.ndarray]]) -> None:
    """The same gradient from a tape that is asked twice, inside its block, and from variables."""
    program, arrays = drawn
    xs = tensors(arrays)
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(xs)
        y = program.loss(xs)
        inside = tape.gradient(y, xs)
    outside = tape.gradient(y, xs)
    variables = [gt.Variable(a) for a in arrays]
    with gt.GradientTape() as once:
        y = program.loss(variables)
    of_variables = once.gradient(y, variables)
    for a, b, c in zip(inside, outside, of_variables, strict=True):
        assert (a is None) == (b is None) == (c is None)
        if a is not None:
            assert_close(a, b, 1e-13)
            assert_close(c, b, 1e-13)


@settings(max_examples=30)
@given(programs(), st.sampled_from(["float32", "float64"]))
def test_program_compiled(drawn: tuple[Program, list[np.ndarray]], dtype: str) -> None:
    """All values and gradients of a function, recorded on other numbers, by NumPy and by native code, as
    eagerly.
    """
    program, arrays = drawn
    xs = tensors([a.astype(dtype) for a in arrays])
    before = tensors([(a * 0.5).astype(dtype) for a in arrays])

    def f(*xs: gt.Tensor) -> object:
        with gt.GradientTape() as tape:
            tape.watch(xs)
            loss = program.loss(xs)
        return program.run(xs), loss, tape.gradient(loss, list(xs))

    want = flat(f(*xs))
    for native in (False, None):
        compiled = gt.function(f, jit_compile=native)
        compiled(*before)
        got = flat(compiled(*xs))
        assert len(got) == len(want)
        for a, b in zip(got, want, strict=True):
            assert a.dtype == b.dtype
            assert_close(a, b, 2e-5 if dtype == "float32" else 1e-13)
