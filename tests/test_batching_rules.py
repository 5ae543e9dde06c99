"""Every op over many examples at once, by its samples: the same as one example after the other."""

import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numerics import TOLERANCE, Case, assert_close, case_id, cases, flat, normal, tensors

import gradtape as gt
from gradtape.ops.op import Uniform
from gradtape.tensor import Value

N = 3

# A function of one example's operands, and what it gives: tensors, of which some may be None.
OfOne = Callable[[list[Any]], list[Any]]


def stacked(case: Case, dtype: str = "d", n: int = N) -> list[np.ndarray]:
    """For each random operand of the sample, n different ones."""
    base = case.draw(dtype)
    rng = np.random.default_rng(1)
    noise = [[rng.uniform(size=np.shape(x)) for _ in range(n)] for x in base]
    return [
        np.array([x * (1.0 + 0.05 * u) for u in us], dtype).reshape(n, *np.shape(x))
        for x, us in zip(base, noise, strict=True)
    ]


def subsets(n: int) -> list[tuple[bool, ...]]:
    """Which of n operands differ from example to example: at least one."""
    return [which for which in itertools.product([True, False], repeat=n) if any(which)]


# What they return differs in shape from example to example, or is nothing.
ONE_BY_ONE = {"true_places"}


def mapped_cases() -> list[Case]:
    return [c for c in cases() if c.draw("d") and c.op.name not in ONE_BY_ONE and c.results(c.draw("d"))]


def results(case: Case) -> OfOne:
    return lambda operands: [y for y in case.results(operands) if isinstance(y, Value)]


def varying(of_one: OfOne, operands: Sequence[np.ndarray], which: Sequence[bool]) -> OfOne:
    """`of_one` as a function of those operands only that differ from example to example."""

    def of_some(some: list[Any]) -> list[Any]:
        given = iter(some)
        return of_one([next(given) if v else gt.constant(x[0]) for x, v in zip(operands, which, strict=True)])

    return of_some


def assert_same_as_a_loop(of_one: OfOne, mapped: Sequence[np.ndarray], dtype: str, what: str) -> None:
    wanted = [of_one(tensors([x[i] for x in mapped])) for i in range(len(mapped[0]))]
    if all(w is None for w in wanted[0]):
        return
    got = gt.vectorized_map(of_one, tensors(mapped))
    for y, *ws in zip(got, *wanted, strict=True):
        assert [w is None for w in ws] == [y is None] * len(ws), what
        if y is not None:
            want = np.stack([np.asarray(gt.convert_to_tensor(w)) for w in ws])
            assert y.dtype == want.dtype, what
            assert_close(y, want, TOLERANCE[dtype], what)


@pytest.mark.parametrize("case", mapped_cases(), ids=case_id)
def test_all_examples_at_once_give_what_one_after_the_other_gives(case: Case) -> None:
    for dtype in case.op.dtypes:
        operands = stacked(case, dtype)
        for which in subsets(len(operands)):
            mapped = [x for x, v in zip(operands, which, strict=True) if v]
            of_some = varying(results(case), operands, which)
            assert_same_as_a_loop(of_some, mapped, dtype, f"{case!r} in {dtype} with {which}")


@pytest.mark.parametrize("case", mapped_cases(), ids=case_id)
def test_one_example_and_none(case: Case) -> None:
    for which in subsets(len(case.draw("d"))):
        ones = stacked(case, n=1)
        mapped = [x for x, v in zip(ones, which, strict=True) if v]
        of_some = varying(results(case), ones, which)
        if not of_some(tensors([x[0] for x in mapped])):
            continue
        assert_same_as_a_loop(of_some, mapped, "d", f"{case!r} with {which}")
        got = gt.vectorized_map(of_some, tensors([x[:0] for x in mapped]))
        for y, w in zip(got, of_some(tensors([x[0] for x in mapped])), strict=True):
            assert (y.shape, y.dtype) == ((0, *w.shape), w.dtype), f"{case!r} with {which}, no example"


def other_shapes(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Shapes of fewer axes, of one more, and of other lengths, such as may fit the op or not."""
    if shape:
        yield from {shape[1:], shape[:-1], (), (N,) * len(shape)}
    yield (2, *shape)
    for i, n in enumerate(shape):
        yield from ((*shape[:i], m, *shape[i + 1 :]) for m in {1, n + 1} - {n})


# Internal ops, which are given no more and no less than what fits.
KNOWS_WHAT_IT_GETS = {"_contract", "linear_recurrence", "scatter_at"}


@pytest.mark.parametrize("case", mapped_cases(), ids=case_id)
@np.errstate(all="ignore")
def test_what_one_example_refuses_all_of_them_refuse(case: Case) -> None:
    if case.op.name in KNOWS_WHAT_IT_GETS:
        return
    rng = np.random.default_rng(2)
    shapes = [x.shape for x in case.draw("d")]
    for i, shape in enumerate(shapes):
        for other in other_shapes(shape):
            given = [other if i == j else s for j, s in enumerate(shapes)]
            operands = [rng.uniform(0.5, 1.5, (N, *s)) for s in given]
            for which in subsets(len(operands)):
                mapped = [x for x, v in zip(operands, which, strict=True) if v]
                of_some = varying(results(case), operands, which)
                what = f"{case!r} of shapes {given}, with {which}"
                try:
                    alone = [of_some(tensors([x[k] for x in mapped])) for k in range(N)]
                except (ValueError, TypeError, IndexError):
                    with pytest.raises((ValueError, TypeError, IndexError)):
                        print(what, gt.vectorized_map(of_some, tensors(mapped)))
                    continue
                try:
                    if alone[0]:
                        assert_same_as_a_loop(of_some, mapped, "d", what)
                except gt.errors.AxisError:
                    if () not in given:  # which counts as an array of one axis for NumPy, and not here
                        raise


@pytest.mark.parametrize("case", [c for c in mapped_cases() if "D" not in c.op.dtypes], ids=case_id)
def test_a_dtype_that_one_example_refuses_all_of_them_refuse(case: Case) -> None:
    operands = [x.astype("D") for x in stacked(case)]
    try:
        results(case)(tensors([x[0] for x in operands]))
    except TypeError:
        with pytest.raises(TypeError):
            gt.vectorized_map(results(case), tensors(operands))


# -- integers that differ from example to example ------------------------------------------------------------


def places_of_integers(case: Case) -> list[int]:
    """Which of the operands are integers or booleans."""
    parameters = list(inspect.signature(case.op.call).parameters.values())
    return [
        i
        for i, (x, parameter) in enumerate(zip(case.sample.operands, parameters, strict=False))
        if str(parameter.annotation).startswith("TensorLike")
        and x is not None
        and not isinstance(x, (Uniform, float))
        and not (isinstance(x, list) and any(isinstance(part, Uniform) for part in x))
        and np.asarray(x).dtype.kind in "iub"
    ]


# The shape of the result is that of the mask.
MASKS = {"boolean_mask"}


@pytest.mark.parametrize(
    "case",
    [c for c in cases() if places_of_integers(c) and c.op.name not in ONE_BY_ONE | MASKS],
    ids=case_id,
)
@pytest.mark.filterwarnings("ignore:segment_sum has no batching rule")
def test_integers_that_differ_from_example_to_example(case: Case) -> None:
    """They are the sample's, rolled; forwards, and the gradient by the other operands."""
    places = places_of_integers(case)
    floats = stacked(case) if case.draw("d") else []
    integers = [np.stack([np.roll(np.asarray(case.sample.operands[p]), k) for k in range(N)]) for p in places]

    def forward(operands: list[Any]) -> list[Any]:
        full = case.sample.filled(operands[: len(floats)])
        for place, x in zip(places, operands[len(floats) :], strict=True):
            full[place] = x
        return flat(case.op.call(*full, **case.sample.attributes))

    def gradient(operands: list[Any]) -> list[Any]:
        with gt.GradientTape() as tape:
            tape.watch(operands[: len(floats)])
            squares = [gt.reduce_sum(y * y) for y in forward(operands) if y.dtype.kind == "f"]
        return tape.gradient(squares, operands[: len(floats)]) if squares and floats else [None]

    operands = [*floats, *integers]
    for which in subsets(len(operands)):
        mapped = [x for x, v in zip(operands, which, strict=True) if v]
        for of_one in (forward, gradient):
            of_some = varying(of_one, operands, which)
            try:
                [of_some(tensors([x[k] for x in mapped])) for k in range(N)]
            except IndexError:  # segments that do not ascend
                with pytest.raises(IndexError):
                    gt.vectorized_map(of_some, tensors(mapped))
                continue
            assert_same_as_a_loop(of_some, mapped, "d", f"{case!r} with {which}")


# -- derivatives within the map ------------------------------------------------------------------------------

followed_cases = pytest.mark.parametrize(
    "case", [c for c in mapped_cases() if c.followed(tensors(c.draw("d")))], ids=case_id
)


def gradient_within(case: Case) -> OfOne:
    def of_one(operands: list[Any]) -> list[Any]:
        with gt.GradientTape() as tape:
            tape.watch(operands)
            ys = case.followed(operands)
        return tape.gradient(ys, operands)  # type: ignore[no-any-return]

    return of_one


def forward_over(case: Case, of: Callable[[Case], OfOne]) -> OfOne:
    """The derivative of `of(case)` along one direction, the same for each example."""

    def of_one(operands: list[Any]) -> list[Any]:
        rng = np.random.default_rng(5)
        directions = tensors([normal(rng, x.shape, x.dtype) for x in operands])
        with gt.autodiff.ForwardAccumulator(operands, directions) as acc:
            found = of(case)(operands)
        return [None if y is None or y.dtype.kind not in "fc" else acc.jvp(y) for y in found]

    return of_one


@followed_cases
def test_derivatives_within_the_map_are_those_of_each_example(case: Case) -> None:
    """By a tape, by an accumulator, and by one around the other, whether operands are shared or not."""
    for dtype in "dD":
        if dtype not in case.op.dtypes:
            continue
        operands = stacked(case, dtype)
        for of_one in (
            gradient_within(case),
            forward_over(case, results),
            forward_over(case, gradient_within),
        ):
            for which in subsets(len(operands)):
                mapped = [x for x, v in zip(operands, which, strict=True) if v]
                what = f"{case!r} in {dtype} with {which}"
                assert_same_as_a_loop(varying(of_one, operands, which), mapped, dtype, what)


@pytest.mark.parametrize("case", [c for c in cases() if c.draw("d") and c.op.rules], ids=case_id)
def test_jacobians_at_once_and_by_loop(case: Case) -> None:
    arrays = case.draw("d")
    xs = tensors(arrays)
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(xs)
        ys = case.followed(xs)
    for y in ys:
        by_loop = tape.jacobian(y, xs, experimental_use_pfor=False)
        for size in (None, 2):
            for a, b, x in zip(tape.jacobian(y, xs, chunk_size=size), by_loop, xs, strict=True):
                assert (a is None) == (b is None), f"{case!r}, chunks of {size}"
                if a is not None:
                    assert a.shape == y.shape + x.shape
                    assert_close(a, b, TOLERANCE["d"], f"{case!r}, chunks of {size}")
