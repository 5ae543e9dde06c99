"""What the tape is held against: samples of ops, and how close is close."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import gradtape as gt
from gradtape.ops.op import REGISTRY, Op, Sample
from gradtape.tensor import Value
from gradtape.testing import drawn

Arrays = list[np.ndarray]

# The modes of differentiation that are checked wherever a test does not say otherwise.
MODES = ("forward", "reverse")

# How far a result may lie off, over the largest magnitude in it, when the op itself works in this dtype.
TOLERANCE = {"e": 2e-2, "f": 2e-5, "d": 1e-11, "F": 2e-5, "D": 1e-11}


class Pair(NamedTuple):
    """A structure to put values in."""

    left: Any
    right: Any


def check(tensor: Any, want: Any, dtype: Any = "float32", rtol: float = 1e-5) -> None:
    """A tensor of this dtype, of the shape of `want`, and close to it."""
    assert type(tensor) is gt.Tensor, tensor
    assert tensor.dtype == np.dtype(dtype)
    assert tensor.shape == np.shape(want)
    np.testing.assert_allclose(tensor.numpy(), want, rtol=rtol, atol=rtol)


def assert_close(got: Any, want: Any, tolerance: float, what: str = "") -> None:
    """Equal shapes, and equal values but for `tolerance` times the largest magnitude wanted (or one)."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, wanted {want.shape}"
    if got.dtype.kind in "biu" and want.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want, what)
        return
    scale = max(1.0, np.max(np.abs(want), initial=0.0, where=np.isfinite(want)))
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * scale, err_msg=what)


# -- samples of ops ------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """One sample of one op, as a function of the arrays in the places of its random operands."""

    op: Op
    number: int
    sample: Sample

    def __repr__(self) -> str:
        return f"{self.op.name}({self.sample!r})"

    def draw(self, dtype: str) -> Arrays:
        """The random operands, the same for every dtype but for rounding (and the imaginary part)."""
        return drawn(self.op, self.number, dtype)

    def results(self, operands: Sequence[Any]) -> list[Any]:
        """All results of the public function."""
        return flat(self.op.call(*self.sample.filled(operands), **self.sample.attributes))

    def followed(self, operands: Sequence[Any]) -> list[Value]:
        """Those results that can have a derivative."""
        return [y for y in self.results(operands) if isinstance(y, Value) and y.dtype.kind in "fc"]

    def cotangents(self, arrays: Arrays) -> Arrays:
        """A random array like each result that can have a derivative."""
        rng = np.random.default_rng(self.number + 1)
        return [normal(rng, y.shape, y.dtype) for y in self.followed(tensors(arrays))]


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    x = rng.normal(size=shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.normal(size=shape)
    return np.asarray(x, dtype)


def tensors(arrays: Sequence[Any]) -> list[gt.Tensor]:
    return [gt.convert_to_tensor(a) for a in arrays]


def flat(results: Any) -> list[Any]:
    """All results in one list, those left out that are None."""
    if isinstance(results, (list, tuple)):
        return [leaf for part in results for leaf in flat(part)]
    return [] if results is None else [results]


def cases(only: Callable[[Op], bool] = lambda op: True) -> list[Case]:
    """Every sample of every op of the registry."""
    return [Case(op, i, s) for op in REGISTRY.values() if only(op) for i, s in enumerate(op.samples)]


def case_id(case: Case) -> str:
    return f"{case.op.name}-{case.number}"
