"""Every op over many examples at once, by its samples: the same as one example after the other."""

import itertools
from typing import Any

import numpy as np
import pytest
from numerics import TOLERANCE, Case, assert_close, case_id, cases, tensors

import gradtape as gt
from gradtape.tensor import Value

N = 3


def stacked(case: Case) -> list[np.ndarray]:
    """For each random operand of the sample, N different ones."""
    base = case.draw("d")
    rng = np.random.default_rng(1)
    return [np.stack([x * (1.0 + 0.05 * rng.uniform(size=np.shape(x))) for _ in range(N)]) for x in base]


def subsets(n: int) -> list[tuple[bool, ...]]:
    """Which of n operands differ from example to example: at least one."""
    return [which for which in itertools.product([True, False], repeat=n) if any(which)]


# What they return differs in shape from example to example, or is nothing.
ONE_BY_ONE = {"true_places"}


def mapped_cases() -> list[Case]:
    return [c for c in cases() if c.draw("d") and c.op.name not in ONE_BY_ONE and c.results(c.draw("d"))]


@pytest.mark.parametrize("case", mapped_cases(), ids=case_id)
def test_all_examples_at_once_give_what_one_after_the_other_gives(case: Case) -> None:
    operands = stacked(case)
    for which in subsets(len(operands)):
        mapped = [x for x, varies in zip(operands, which, strict=True) if varies]

        def of_one(some: list[Any], which: tuple[bool, ...] = which) -> list[Any]:
            given = iter(some)
            full = [next(given) if v else gt.constant(x[0]) for x, v in zip(operands, which, strict=True)]
            return [y for y in case.results(full) if isinstance(y, Value)]

        got = gt.vectorized_map(of_one, tensors(mapped))
        wanted = [of_one(tensors([x[i] for x in mapped])) for i in range(N)]
        for y, *ws in zip(got, *wanted, strict=True):
            want = np.stack([np.asarray(w) for w in ws])
            assert y.dtype == want.dtype
            assert_close(y, want, TOLERANCE["d"], f"{case!r} with {which}")


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
