"""What the tape is held against: samples of ops, numeric derivatives, and how close is close."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import gradtape as gt
from gradtape.ops.op import REGISTRY, Op, Sample, Uniform
from gradtape.tensor import Value

Arrays = list[np.ndarray]
Loss = Callable[[Arrays], float]

# How far a result may lie off, over the largest magnitude in it, when the op itself works in this dtype.
TOLERANCE = {"e": 2e-2, "f": 2e-5, "d": 1e-11, "F": 2e-5, "D": 1e-11}
# The same for central differences of something computed in float64 to full precision.
BY_DIFFERENCES = 2e-7
STEP = 1e-6
TINY = 1e-30


def assert_close(got: Any, want: Any, tolerance: float, what: str = "") -> None:
    """Equal shapes, and equal values but for `tolerance` times the largest magnitude wanted (or one)."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, wanted {want.shape}"
    if got.dtype.kind in "biu" and want.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want, what)
        return
    scale = max(1.0, np.max(np.abs(want), initial=0.0, where=np.isfinite(want)))
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * scale, err_msg=what)


# -- numeric derivatives -------------------------------------------------------------------------------------


def moved(arrays: Arrays, index: int, by: np.ndarray) -> Arrays:
    """The arrays, that at `index` displaced."""
    return [a + by if i == index else a for i, a in enumerate(arrays)]


def central(loss: Loss, arrays: Arrays, index: int, direction: np.ndarray, step: float = STEP) -> float:
    """The derivative of a real loss along a direction, by central differences; its error falls as step**2."""
    step = step * max(1.0, np.max(np.abs(arrays[index]), initial=0.0))
    up = loss(moved(arrays, index, step * direction))
    down = loss(moved(arrays, index, -step * direction))
    return (up - down) / (2 * step)


def complex_step(
    loss: Callable[[Arrays], complex], arrays: Arrays, index: int, direction: np.ndarray
) -> float:
    """The same for an analytic loss of real arrays, by Im loss(x + ih) / h: exact but for rounding."""
    return loss(moved(arrays, index, TINY * 1j * direction)).imag / TINY


def unit_directions(x: np.ndarray) -> Iterator[np.ndarray]:
    """Every real and, for a complex array, every imaginary unit direction."""
    for where in np.ndindex(x.shape):
        unit = np.zeros_like(x)
        unit[where] = 1
        yield unit
        if x.dtype.kind == "c":
            yield 1j * unit


def symmetric_directions(x: np.ndarray) -> Iterator[np.ndarray]:
    """Every direction in which a stack of symmetric (Hermitian) matrices stays one."""
    for *batch, i, j in np.ndindex(x.shape):
        if i < j:
            continue
        for unit in (1, 1j) if x.dtype.kind == "c" and i != j else (1,):
            direction = np.zeros_like(x)
            direction[(*batch, i, j)] = unit
            direction[(*batch, j, i)] = np.conj(unit)
            yield direction


def along(gradient: Any, x: np.ndarray, direction: np.ndarray) -> float:
    """What a gradient dL/dx + i dL/dy (None: zero) says of the derivative along a direction."""
    return 0.0 if gradient is None else float(np.vdot(np.asarray(gradient), direction).real)


# -- samples of ops ------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """One sample of one op, as a function of the arrays in the places of its random operands."""

    op: Op
    number: int
    sample: Sample

    def __repr__(self) -> str:
        return f"{self.op.name}({self.sample!r})"

    def generator(self) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(f"{self.op.name} {self.number}".encode()))

    def draw(self, dtype: str) -> Arrays:
        """The random operands, the same for every dtype but for rounding (and the imaginary part)."""
        rng = self.generator()
        return [np.asarray(x.draw(rng, dtype)) for x in _uniforms(self.sample.operands)]

    def filled(self, operands: Sequence[Any]) -> list[Any]:
        """The sample's operands, the random ones replaced in order."""
        replacements = iter(operands)
        return [_filled(x, replacements) for x in self.sample.operands]

    def results(self, operands: Sequence[Any]) -> list[Any]:
        """All results of the public function."""
        return flat(self.op.call(*self.filled(operands), **self.sample.attributes))

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


def _uniforms(operand: Any) -> Iterator[Uniform]:
    if isinstance(operand, Uniform):
        yield operand
    elif isinstance(operand, (list, tuple)):
        for part in operand:
            yield from _uniforms(part)


def _filled(operand: Any, replacements: Iterator[Any]) -> Any:
    if isinstance(operand, Uniform):
        return next(replacements)
    if isinstance(operand, (list, tuple)):
        return type(operand)([_filled(part, replacements) for part in operand])
    return operand


def cases(only: Callable[[Op], bool] = lambda op: True) -> list[Case]:
    """Every sample of every op of the registry."""
    return [Case(op, i, s) for op in REGISTRY.values() if only(op) for i, s in enumerate(op.samples)]


def case_id(case: Case) -> str:
    return f"{case.op.name}-{case.number}"
