"""Every op of the registry, by its samples: its first and second derivatives, in every dtype it takes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numerics import (
    BY_DIFFERENCES,
    TOLERANCE,
    Arrays,
    Case,
    along,
    assert_close,
    case_id,
    cases,
    central,
    complex_step,
    normal,
    symmetric_directions,
    tensors,
    unit_directions,
)

import gradtape as gt
from gradtape.ops import op as declaring
from gradtape.ops.op import REGISTRY, Op, Sample, Uniform
from gradtape.tensor import Tensor, TensorLike

# Ops that read one triangle of a symmetric operand, so that only symmetric displacements have a meaning: the
# gradient is compared along those.
READS_A_TRIANGLE = {"cholesky"}

# Ops that take complex operands but are not analytic, or find their value in a way that is not. Nor is any op
# analytic that is asked for a conjugate.
NOT_ANALYTIC = {
    *("abs", "angle", "cast", "conj", "imag", "norm", "real", "sign", "smooth_cast", "squared_difference"),
    *("reduce_std", "reduce_variance", "clip_by_norm", "clip_by_global_norm", "global_norm"),
    *("cholesky", "_cholesky_of_hermitian_part", "_cofactors", "slogdet"),
}
CONJUGATES = {"adjoint", "adjoint_a", "adjoint_b", "conjugate"}

# Ops that write into a copy of their first operand, and rightly refuse to put complex values into a real one.
KEEPS_THE_DTYPE = {"setitem", "write_at", "tensor_scatter_nd_add", "tensor_scatter_nd_update"}

all_cases = pytest.mark.parametrize("case", cases(), ids=case_id)
complex_cases = pytest.mark.parametrize("case", cases(lambda op: "D" in op.dtypes), ids=case_id)


# -- the tape's derivatives ----------------------------------------------------------------------------------


def gradients(case: Case, arrays: Arrays, cotangents: Arrays) -> list[Any]:
    """The gradient of each operand, None where the tape says so."""
    xs = tensors(arrays)
    with gt.GradientTape() as tape:
        tape.watch(xs)
        ys = case.followed(xs)
    seeds = tensors([c.astype(y.dtype, copy=False) for c, y in zip(cotangents, ys, strict=True)])
    return tape.gradient(ys, xs, seeds) if ys else [None] * len(xs)


def second_gradients(
    case: Case, arrays: Arrays, cotangents: Arrays, weights: Arrays
) -> tuple[list[Any], list[Any]]:
    """Gradients as an outer tape sees them, and those of their weighted sum by operands and cotangents."""
    xs, cs = tensors(arrays), tensors(cotangents)
    with gt.GradientTape() as outer:
        outer.watch([*xs, *cs])
        with gt.GradientTape() as inner:
            inner.watch(xs)
            ys = case.followed(xs)
        first = inner.gradient(ys, xs, cs)
    reached = [(g, w) for g, w in zip(first, tensors(weights), strict=True) if g is not None]
    targets, seeds = [g for g, _ in reached], [w for _, w in reached]
    return first, outer.gradient(targets, [*xs, *cs], seeds) if reached else [None] * len([*xs, *cs])


def weights_for(arrays: Arrays) -> Arrays:
    rng = np.random.default_rng(7)
    return [normal(rng, a.shape, a.dtype) for a in arrays]


def contraction(parts: list[Any], weights: Arrays) -> float:
    """Re sum conj(w) y: the real loss whose cotangent is w."""
    return float(sum(np.sum(np.conj(w) * np.asarray(y)).real for y, w in zip(parts, weights, strict=True)))


def directions_of(case: Case, x: np.ndarray) -> list[np.ndarray]:
    return list((symmetric_directions if case.op.name in READS_A_TRIANGLE else unit_directions)(x))


def check_gradient(case: Case, got: Any, x: np.ndarray, index: int, numeric: Any, tolerance: float) -> None:
    """A gradient has its operand's shape and dtype, and says the same as the numeric derivative."""
    if got is not None:
        assert got.shape == x.shape, f"{case!r}, operand {index}: gradient of shape {got.shape} for {x.shape}"
        assert got.dtype == x.dtype, f"{case!r}, operand {index}: gradient of dtype {got.dtype} for {x.dtype}"
    directions = directions_of(case, x)
    claimed = [along(got, x, d) for d in directions]
    assert_close(claimed, [numeric(d) for d in directions], tolerance, f"{case!r}, operand {index}")


def check_first(case: Case, arrays: Arrays) -> None:
    cotangents = case.cotangents(arrays)

    def loss(moved: Arrays) -> float:
        return contraction(case.followed(tensors(moved)), cotangents)

    for i, (x, g) in enumerate(zip(arrays, gradients(case, arrays, cotangents), strict=True)):
        check_gradient(case, g, x, i, lambda d, i=i: central(loss, arrays, i, d), BY_DIFFERENCES)


def check_second(case: Case, arrays: Arrays) -> None:
    cotangents, weights = case.cotangents(arrays), weights_for(arrays)
    n = len(arrays)

    def loss(moved: Arrays) -> float:
        found = gradients(case, moved[:n], moved[n:])
        return contraction([0.0 if g is None else g for g in found], weights)

    if not cotangents or not all(np.isfinite(np.asarray(y)).all() for y in case.followed(tensors(arrays))):
        return  # the mean of nothing is NaN, and so is what follows from it
    plain = gradients(case, arrays, cotangents)
    first, second = second_gradients(case, arrays, cotangents, weights)
    for g, recorded in zip(plain, first, strict=True):
        assert (g is None) == (recorded is None), (
            f"{case!r}: bare and recorded sweeps disagree on what is None"
        )
        if g is not None:
            assert_close(recorded, g, TOLERANCE["d"], f"{case!r}: bare and recorded sweeps")
    everything = [*arrays, *cotangents]
    for i, (x, h) in enumerate(zip(everything, second, strict=True)):
        if i >= n:
            claimed = [along(h, x, d) for d in unit_directions(x)]
            wanted = [central(loss, everything, i, d, 0.5) for d in unit_directions(x)]
            assert_close(claimed, wanted, TOLERANCE["d"], f"{case!r}, cotangent {i - n}")
        else:
            check_gradient(case, h, x, i, lambda d, i=i: central(loss, everything, i, d), BY_DIFFERENCES)


@all_cases
def test_first_derivative(case: Case) -> None:
    check_first(case, case.draw("d"))


@all_cases
def test_second_derivative(case: Case) -> None:
    check_second(case, case.draw("d"))


def is_analytic(case: Case) -> bool:
    flags = {name for name, value in case.sample.attributes.items() if value is True}
    return "D" in case.op.dtypes and case.op.name not in NOT_ANALYTIC and not flags & CONJUGATES


@pytest.mark.parametrize("case", [c for c in cases() if is_analytic(c)], ids=case_id)
def test_first_derivative_by_the_complex_step(case: Case) -> None:
    arrays = case.draw("d")
    cotangents = case.cotangents(arrays)

    def loss(moved: Arrays) -> complex:
        ys = case.followed([x.astype(complex) for x in moved])
        return complex(sum(np.sum(c * np.asarray(y)) for y, c in zip(ys, cotangents, strict=True)))

    for i, (x, g) in enumerate(zip(arrays, gradients(case, arrays, cotangents), strict=True)):
        check_gradient(case, g, x, i, lambda d, i=i: complex_step(loss, arrays, i, d), TOLERANCE["d"])


@complex_cases
def test_first_derivative_by_a_complex_operand(case: Case) -> None:
    check_first(case, case.draw("D"))


@complex_cases
def test_second_derivative_by_a_complex_operand(case: Case) -> None:
    check_second(case, case.draw("D"))


def check_narrow(case: Case, arrays: Arrays, tolerance: float) -> None:
    """The gradients, each in its operand's dtype, are those of the same operands in double precision."""
    cotangents = case.cotangents(arrays)
    wide = [a.astype("D" if a.dtype.kind == "c" else "d") for a in arrays]
    wanted = gradients(case, wide, cotangents)
    for x, g, w in zip(arrays, gradients(case, arrays, cotangents), wanted, strict=True):
        assert (g is None) == (w is None), f"{case!r}: gradient in {x.dtype} {g}, in double precision {w}"
        if g is not None:
            assert g.dtype == x.dtype, f"{case!r}: gradient of dtype {g.dtype} for {x.dtype}"
            assert_close(g, w, tolerance, f"{case!r} in {x.dtype}")


@all_cases
def test_gradient_in_narrow_dtypes(case: Case) -> None:
    for dtype in "efF":
        if dtype in case.op.dtypes:
            check_narrow(case, case.draw(dtype), TOLERANCE[dtype])


# -- kinds of operands ---------------------------------------------------------------------------------------


@all_cases
def test_every_kind_of_operand_gives_the_same(case: Case) -> None:
    arrays = case.draw("d")
    cotangents = case.cotangents(arrays)
    want = case.results(tensors(arrays))
    kinds = {
        "ndarray": arrays,
        "NumPy scalar": [a[()] for a in arrays],
        "Variable": [gt.Variable(a) for a in arrays],
    }
    for kind, operands in kinds.items():
        for y, w in zip(case.results(operands), want, strict=True):
            assert y.dtype == w.dtype, f"{case!r} of {kind}: dtype {y.dtype}, of tensors {w.dtype}"
            np.testing.assert_array_equal(y, w, f"{case!r} of {kind}")

    if not cotangents:
        return
    grads = gradients(case, arrays, cotangents)
    with gt.GradientTape() as tape:
        ys = case.followed(kinds["Variable"])
    of_variables = tape.gradient(ys, kinds["Variable"], tensors(cotangents))
    for g, w in zip(of_variables, grads, strict=True):
        _assert_same(g, w, f"{case!r}, gradient of variables")
    for i, w in enumerate(grads):
        alone: list[Any] = list(arrays)
        alone[i] = gt.convert_to_tensor(arrays[i])
        with gt.GradientTape() as tape:
            tape.watch(alone[i])
            ys = case.followed(alone)
        _assert_same(
            tape.gradient(ys, alone[i], tensors(cotangents)), w, f"{case!r}, operand {i} the only tensor"
        )


def _assert_same(g: Any, w: Any, what: str) -> None:
    """Equal but for the order of a sum."""
    assert (g is None) == (w is None), what
    if g is not None:
        assert g.dtype == w.dtype, what
        assert_close(g, w, 1e-14, what)


@pytest.mark.parametrize("case", cases(lambda op: op.broadcasts), ids=case_id)
def test_python_numbers_are_weak(case: Case) -> None:
    """A Python float among float32 operands gives what the float32 of it gives, in float32."""
    arrays = case.draw("f")
    scalars = [i for i, x in enumerate(arrays) if not x.ndim]
    for i in scalars if len(arrays) > 1 else []:
        operands: list[Any] = tensors(arrays)
        operands[i] = float(arrays[i])
        for y, w in zip(case.results(operands), case.results(tensors(arrays)), strict=True):
            assert y.dtype == w.dtype, f"{case!r}, operand {i} a Python float"
            assert_close(y, w, TOLERANCE["f"], f"{case!r}, operand {i} a Python float")


@pytest.mark.parametrize("case", [c for c in cases() if len(c.draw("d")) > 1], ids=case_id)
def test_gradients_of_operands_of_two_dtypes(case: Case) -> None:
    for narrow, wide in (("f", "d"), ("d", "D")):
        if wide not in case.op.dtypes:
            continue
        for i in range(len(case.draw("d"))):
            arrays = case.draw(wide)
            arrays[i] = case.draw(narrow)[i]
            try:
                case.results(tensors(arrays))
            except gt.errors.DTypeError:
                assert (case.op.name in KEEPS_THE_DTYPE, wide) == (True, "D")
                continue
            if wide == "D":
                check_first(case, arrays)
            else:
                check_narrow(case, arrays, TOLERANCE["f"])


# -- what a tape keeps ---------------------------------------------------------------------------------------


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@all_cases
def test_a_tape_lets_go_by_reference_counting(case: Case, no_collector: None) -> None:
    cotangents = tensors(case.cotangents(case.draw("d")))
    xs = tensors(case.draw("d"))
    with gt.GradientTape() as tape:
        tape.watch(xs)
        inner = [gt.identity(x) for x in xs]
        ys = case.followed(inner)
    if not ys or not xs:
        return
    kept = [weakref.ref(t) for t in [*inner, *ys]]
    kept += [weakref.ref(t._value) for t in [*inner, *ys] if isinstance(t._value, np.ndarray)]
    tape.gradient(ys, xs, cotangents)
    del xs, inner, ys
    left = [r() for r in kept if r() is not None]
    assert not left, f"{case!r}: {len(left)} of {len(kept)} values outlive the gradient"


# -- the registry itself, and that these tests can fail ------------------------------------------------------


def without_samples(registry: dict[str, Op]) -> list[str]:
    return [name for name, op in registry.items() if not op.samples]


def test_every_op_has_samples() -> None:
    assert not without_samples(REGISTRY)


def test_every_differentiable_op_has_a_random_operand() -> None:
    """A sample without one checks no derivative."""
    checked = {case.op.name for case in cases() if case.draw("d")}
    assert not [name for name, op in REGISTRY.items() if op.rules and name not in checked]


@pytest.mark.usefixtures("scratch_registry")
def test_an_op_without_samples_is_found() -> None:
    @declaring.op(vjp=lambda xp, g: g)
    def unsampled(x: TensorLike) -> Tensor:
        return x

    assert without_samples(REGISTRY) == ["unsampled"]


@pytest.mark.usefixtures("scratch_registry")
def test_a_wrong_first_derivative_is_found() -> None:
    @declaring.elementwise(np.sin, lambda xp, x: -xp.cos(x))
    def backward_sine(x: TensorLike) -> Tensor: ...

    case = Case(REGISTRY["backward_sine"], 0, Sample((3, 4)))
    with pytest.raises(AssertionError, match="backward_sine"):
        check_first(case, case.draw("d"))


@pytest.mark.usefixtures("scratch_registry")
def test_a_second_derivative_that_the_tape_does_not_see_is_found() -> None:
    @declaring.elementwise(np.sin, lambda xp, x: np.cos(np.asarray(x)))
    def flat_sine(x: TensorLike) -> Tensor: ...

    case = Case(REGISTRY["flat_sine"], 0, Sample((3, 4)))
    check_first(case, case.draw("d"))
    with pytest.raises(AssertionError, match="flat_sine"):
        check_second(case, case.draw("d"))


@pytest.mark.usefixtures("scratch_registry")
def test_a_gradient_of_the_wrong_shape_is_found() -> None:
    @declaring.op(vjp=lambda xp, g, x: xp.broadcast_to(g, (2, 3)))
    def stretched(x: TensorLike) -> Tensor:
        return np.sum(x)

    case = Case(REGISTRY["stretched"], 0, Sample(Uniform((3,))))
    with pytest.raises(AssertionError, match="gradient of shape"):
        check_first(case, case.draw("d"))
