"""Every op of the registry in a compiled function, by NumPy and by native code: values and gradients as
eagerly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numerics import Arrays, Case, assert_close, case_id, cases, normal, tensors

import gradtape as gt
from gradtape.testing import drawn

# What draws anew at each call is tested where random numbers are.
CASES = cases(lambda op: op.name != "dropout")
all_cases = pytest.mark.parametrize("case", CASES, ids=case_id)
complex_or_half = pytest.mark.parametrize(
    "case", [case for case in CASES if set("eD") & set(case.op.dtypes)], ids=case_id
)

# What may be reordered or computed by another library's mathematics, relative to the largest value.
TOLERANCE = {"e": 4e-3, "f": 2e-6, "d": 4e-15, "F": 4e-6, "D": 1e-14}


def values_and_gradients(case: Case, ran: list[int]) -> Any:
    """A function of the operands and the cotangents, which counts how often Python runs it."""

    def f(xs: Any, seeds: Any) -> Any:
        ran.append(1)
        with gt.GradientTape() as tape:
            tape.watch([x for x in xs if x.dtype.kind in "fc"])
            results = case.results(xs)
            ys = [y for y in results if isinstance(y, gt.Tensor) and y.dtype.kind in "fc"]
        return results, tape.gradient(ys, list(xs), list(seeds)) if ys and xs else []

    return f


def another(case: Case, arrays: Arrays) -> Arrays:
    """Other operands of the same shapes, in the range of the sample."""
    return [np.asarray(x[tuple(slice(None, None, -1) for _ in x.shape)]) for x in arrays]


def check(case: Case, dtype: str, native: bool | None) -> None:
    arrays = drawn(case.op, case.number, dtype)
    rng = np.random.default_rng(case.number + 1)
    with np.errstate(all="ignore"):
        ys = case.followed(tensors(arrays))
    seeds = tensors([normal(rng, y.shape, y.dtype) for y in ys])
    ran: list[int] = []
    plain = values_and_gradients(case, [])
    compiled = gt.function(values_and_gradients(case, ran), jit_compile=native)
    compiled(tensors(arrays), seeds)
    count = len(ran)
    for operands in (arrays, another(case, arrays)):
        given = tensors(operands)
        try:
            want = plain(given, seeds)
        except Exception as problem:
            with pytest.raises(type(problem)):
                compiled(given, seeds)
            continue
        got = compiled(given, seeds)
        for x, y in zip(leaves(got), leaves(want), strict=True):
            assert x.dtype == y.dtype
            with np.errstate(invalid="ignore"):
                assert_close(x, y, TOLERANCE.get(y.dtype.char, 0.0), repr(case))
        if operands is arrays:
            assert len(ran) == count, "a call of the same values ran in Python again"


def leaves(structure: Any) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    for part in structure:
        if isinstance(part, (list, tuple)):
            found += leaves(part)
        elif part is not None:
            found.append(gt.convert_to_tensor(part).numpy())
    return found


@all_cases
@pytest.mark.parametrize("native", [False, None], ids=["NumPy", "native"])
def test_as_eagerly(case: Case, native: bool | None) -> None:
    check(case, "fd"[case.number % 2], native)


@complex_or_half
def test_other_dtypes_as_eagerly(case: Case) -> None:
    kinds = [c for c in "eFD" if c in case.op.dtypes]
    check(case, kinds[case.number % len(kinds)], None)
