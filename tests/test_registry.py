"""Every op of the registry, by its samples: its first and second derivatives, in every dtype it takes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numerics import MODES, TOLERANCE, Arrays, Case, assert_close, case_id, cases, tensors

import gradtape as gt
from gradtape.ops import op as declaring
from gradtape.ops.op import REGISTRY, Op, Sample, Uniform
from gradtape.tensor import Tensor, TensorLike
from gradtape.testing import GradientCheckError, check_gradients, check_op, check_sample

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
all_modes = pytest.mark.parametrize("mode", MODES)
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


def is_analytic(case: Case) -> bool:
    flags = {name for name, value in case.sample.attributes.items() if value is True}
    return "D" in case.op.dtypes and case.op.name not in NOT_ANALYTIC and not flags & CONJUGATES


@all_modes
@all_cases
def test_first_derivative(case: Case, mode: str) -> None:
    """Against differences and, where the op must be analytic, the complex step."""
    check_sample(case.op, case.number, "d", 1, [mode], analytic=is_analytic(case) or None)


@all_cases
def test_second_derivative(case: Case) -> None:
    check_sample(case.op, case.number, "d", 2, MODES)


@all_modes
@complex_cases
def test_first_derivative_by_a_complex_operand(case: Case, mode: str) -> None:
    check_sample(case.op, case.number, "D", 1, [mode])


@complex_cases
def test_second_derivative_by_a_complex_operand(case: Case) -> None:
    check_sample(case.op, case.number, "D", 2, MODES)


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
                followed = case.followed(tensors(arrays))
            except gt.errors.DTypeError:
                assert (case.op.name in KEEPS_THE_DTYPE, wide) == (True, "D")
                continue
            if wide == "d":
                check_narrow(case, arrays, TOLERANCE["f"])
            elif followed:
                check_gradients(lambda *xs, case=case: case.results(xs), arrays, 1, MODES)


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


def test_every_differentiable_op_has_a_random_operand_and_a_result_that_depends_on_it() -> None:
    """A sample without them checks no derivative."""
    checked = {c.op.name for c in cases() if c.draw("d") and c.followed(tensors(c.draw("d")))}
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

    with pytest.raises(GradientCheckError, match=r"backward_sine\(\(3, 4\)\) in float64: order 1, reverse"):
        check_op(backward_sine, modes=["reverse"])


@pytest.mark.usefixtures("scratch_registry")
def test_a_second_derivative_that_the_tape_does_not_see_is_found() -> None:
    @declaring.elementwise(np.sin, lambda xp, x: np.cos(np.asarray(x)))
    def flat_sine(x: TensorLike) -> Tensor: ...

    check_op(flat_sine, 1, ["reverse"])
    with pytest.raises(GradientCheckError, match=r"flat_sine.* order 2, reverse over reverse"):
        check_op(flat_sine, modes=["reverse"])


@pytest.mark.usefixtures("scratch_registry")
def test_a_gradient_of_the_wrong_shape_is_found() -> None:
    @declaring.op(vjp=lambda xp, g, x: xp.broadcast_to(g, (2, 3)), samples=[Sample(Uniform((3,)))])
    def stretched(x: TensorLike) -> Tensor:
        return np.sum(x)

    with pytest.raises(GradientCheckError, match=r"the gradient by args\[0\] is of shape \(2, 3\)"):
        check_op(stretched, modes=["reverse"])
