"""Numeric derivatives: of a function of a vector of real numbers, which complex ones are pairs of.

Central differences in float64, extrapolated, with a ladder of steps where they do not settle at once; and the
complex step.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from gradtape.tensor import Array, Tensor, Value

__all__ = [
    "EXACT",
    "ROUNDING",
    "TOLERANCE",
    "Function",
    "Run",
    "Slopes",
    "Vector",
    "complex_steps",
    "count",
    "largest",
    "packed",
    "random",
    "tensors",
    "unpacked",
    "where",
]

# How far a derivative may lie off a difference, over the size of the terms it is the sum of.
TOLERANCE = 1e-8
# The same where the numeric derivative is exact but for rounding: what is linear, and the complex step.
EXACT = 1e-11
# The rounding error of a result in float64, over the largest magnitude in it; and the magnitude below which
# that error is the one of terms of magnitude one that cancelled.
ROUNDING = 64 * 2.0**-52
SMALL = 1 / 16
# The first step to try, over the magnitude of the argument; no round number, lest it fits a lattice of jumps.
STEP = 3e-4 * np.pi
TINY = 1e-30

Vector: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Run: TypeAlias = Callable[[Sequence[Tensor]], list[Value | None]]


class Function(NamedTuple):
    """A function of a list of tensors, at a point: what is checked, and then checked in its derivative.

    run gives a list of results, None for what depends on nothing. linear: for each argument, whether the
    function is linear in it. arguments, results: their names. chain: the modes that made it, outermost first.
    """

    run: Run
    point: list[Array]
    linear: list[bool]
    arguments: list[str]
    results: list[str]
    chain: tuple[str, ...]


# -- vectors of real numbers ---------------------------------------------------------------------------------


def packed(arrays: Sequence[Any]) -> Vector:
    """The elements of all arrays, complex ones as their real and imaginary parts."""
    return np.concatenate([np.empty(0), *(np.ravel(a).view(np.float64) for a in arrays)])


def unpacked(vector: Vector, like: Sequence[Array]) -> list[Array]:
    """The arrays that were packed into `vector`, of the shapes and dtypes of `like`."""
    arrays, start = [], 0
    for a in like:
        stop = start + count(a)
        arrays.append(vector[start:stop].view(a.dtype).reshape(a.shape))
        start = stop
    return arrays


def count(a: Array) -> int:
    return int(a.size * (2 if a.dtype.kind == "c" else 1))


def spread(per_array: Sequence[Any], like: Sequence[Array]) -> Any:
    """One value for each array, as one for each real number."""
    return np.repeat(np.asarray(per_array), [count(a) for a in like])


def largest(vector: Vector, like: Sequence[Array]) -> Vector:
    """For each real number the largest magnitude in its array."""
    largest, start = np.abs(vector), 0
    for a in like:
        stop = start + count(a)
        largest[start:stop] = largest[start:stop].max(initial=0.0)
        start = stop
    return largest


def where(coordinate: int, arrays: Sequence[Array], names: Sequence[str]) -> str:
    """Which element of which array a real number is."""
    ends = np.cumsum([count(a) for a in arrays])
    i = int(np.searchsorted(ends, coordinate, side="right"))
    a, name = arrays[i], names[i]
    coordinate -= int(ends[i]) - count(a)
    part = ""
    if a.dtype.kind == "c":
        coordinate, imaginary = divmod(coordinate, 2)
        part = ", imaginary part" if imaginary else ", real part"
    element = tuple(map(int, np.unravel_index(coordinate, a.shape)))
    return f"{name}{f', element {element}' if element else ''}{part}"


def tensors(arrays: Sequence[Array]) -> list[Tensor]:
    return [Tensor(a[()]) for a in arrays]


def random(like: Sequence[Any], rng: np.random.Generator) -> list[Array]:
    """Random arrays of the shapes and dtypes of `like`, of magnitudes of about one."""
    template = [np.empty(x.shape, x.dtype) for x in like]
    n = sum(map(count, template))
    return unpacked(rng.uniform(0.5, 1.5, n) * rng.choice([-1.0, 1.0], n), template)


# -- numeric derivatives -------------------------------------------------------------------------------------


class Slopes:
    """The Jacobian of a function by differences, and how far each entry of it may lie off, row by argument.

    values[j, k] is the derivative of the real number k of the results by the real number j of the arguments,
    NaN where the differences do not settle; error[j, k] is the part of its uncertainty that no tolerance is
    asked for: rounding, and what is left of the truncation.
    """

    def __init__(self, f: Function, places: Sequence[int], like: list[Array], tolerance: float) -> None:
        self.f = f
        self.places = places
        self.like = like
        self.tolerance = tolerance
        self.x = packed(f.point)
        self.linear = spread(f.linear, f.point).astype(bool)
        self.scale = np.maximum(largest(self.x, f.point), 1.0)
        self.size = np.maximum(largest(packed(like), like), SMALL)
        self.values = np.full((self.x.size, self.size.size), np.nan)
        self.error = np.zeros_like(self.values)
        self.fine = np.zeros(self.x.size, bool)
        with np.errstate(all="ignore"):
            for j in range(self.x.size):
                if self.linear[j]:
                    self.values[j], self.error[j] = self._secant(j, 0.5 * self.scale[j])
                else:
                    found = self._attempt(j, STEP * self.scale[j])
                    if not isinstance(found, Exception):
                        self.values[j], _, self.error[j], _ = found

    def allowed(self) -> Any:
        """How far each entry may lie off, in all."""
        return np.where(self.linear, EXACT, self.tolerance)[:, None] * np.abs(self.values) + self.error

    def refine(self, j: int) -> bool:
        """Tries many steps for row j, and takes for each entry the one whose error is least; whether there
        was anything left to try.
        """
        if self.fine[j] or self.linear[j]:
            return False
        self.fine[j] = True
        with np.errstate(all="ignore"):
            tries = [self._attempt(j, step) for step in _steps(self.scale[j], abs(self.x[j]))]
        problems = [found for found in tries if isinstance(found, Exception)]
        if len(problems) == len(tries):
            raise problems[-1]
        found = [found for found in tries if not isinstance(found, Exception)]
        values, truncation, rounding, slopes = map(np.stack, zip(*found, strict=True))
        with np.errstate(all="ignore"):
            truncation[1:] = np.fmin(truncation[1:], np.abs(np.diff(values, axis=0)))
            total = np.where(np.isfinite(truncation + rounding), truncation + rounding, np.inf)
            for i in range(len(total)):  # a step is too wide if narrower ones, for all their error, disagree
                disagree = np.abs(values[i] - values[i + 1 :]) > total[i] + 10.0 * total[i + 1 :]
                total[i, disagree.any(axis=0)] = np.inf
        best = np.argmin(total, axis=0), np.arange(self.size.size)
        steepest = np.max(np.where(np.isfinite(slopes), slopes, 1.0), axis=0, initial=1.0)
        settled = truncation[best] <= self.tolerance * steepest + rounding[best]
        self.values[j] = np.where(settled, values[best], np.nan)
        self.error[j] = total[best]
        return True

    def _at(self, j: int, x: float) -> Vector:
        """The results, the argument's real number j being x; ArithmeticError if they are others."""
        moved = self.x.copy()
        moved[j] = x
        ys = self.f.run(tensors(unpacked(moved, self.f.point)))
        if len(ys) != len(self.f.results):
            raise ArithmeticError("results of another structure")
        found = []
        for place, like in zip(self.places, self.like, strict=True):
            y = ys[place]
            value = np.zeros_like(like) if y is None else y._value
            if value.shape != like.shape or value.dtype != like.dtype:
                raise ArithmeticError("results of another shape or dtype")
            found.append(value)
        return packed(found)

    def _secant(self, j: int, step: float) -> tuple[Vector, Vector]:
        """The slope of the secant, and the rounding error in it."""
        up, down = self.x[j] + step, self.x[j] - step
        above, below = self._at(j, up), self._at(j, down)
        size = np.maximum(largest(np.maximum(np.abs(above), np.abs(below)), self.like), self.size)
        rounding = ROUNDING * (1.0 + size / (up - down))
        return (above - below) / (up - down), rounding

    def _attempt(self, j: int, step: float) -> tuple[Vector, Vector, Vector, Vector] | Exception:
        """Richardson's extrapolation of two secants, whose error is of order step⁴; the estimated errors of
        truncation (that of the narrower secant) and of rounding; and the steeper slope. Or what f raised.
        """
        try:
            narrow, rounding = self._secant(j, step)
            wide, _ = self._secant(j, 2.0 * step)
        except (ArithmeticError, ValueError) as problem:
            return problem
        steepest = np.maximum(np.abs(narrow), np.abs(wide))
        return narrow + (narrow - wide) / 3.0, np.abs(narrow - wide), 2.0 * rounding, steepest


def _steps(scale: float, x: float) -> Iterator[float]:
    """Steps from a hundred times the usual one, for what is all rounding at that, down to the narrowest."""
    least = 1e-8 * min(1.0, max(x, 1e-8))
    step = 100.0 * STEP * scale
    while step > least:
        yield step
        step /= 10.0


def complex_steps(f: Function, places: Sequence[int], like: list[Array]) -> Vector | None:
    """The Jacobian as Im f(x + ih) / h; None if f is not real, or takes no complex numbers."""
    if any(a.dtype.kind == "c" for a in (*f.point, *like)):
        return None
    rows = []
    template = [a.astype(complex) for a in f.point]
    x = packed(f.point).astype(complex)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            for j in range(x.size):
                moved = x.copy()
                moved[j] += TINY * 1j
                ys = f.run(tensors(unpacked(moved.view(np.float64), template)))
                values = [ys[place]._value for place in places]  # type: ignore[union-attr]
                if [v.shape for v in values] != [y.shape for y in like]:
                    return None
                rows.append(np.concatenate([np.empty(0), *(np.ravel(v).imag / TINY for v in values)]))
    except Exception:
        return None
    return np.reshape(rows, (x.size, packed(like).size))
