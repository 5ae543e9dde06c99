"""Random tensors: the module's own generator and seeds, and generators of one's own, on NumPy's."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from gradtape.arguments import brief, whole
from gradtape.batched import Batched, Mapping
from gradtape.errors import ArgumentError, DTypeError, ShapeError
from gradtape.ops import arithmetic
from gradtape.ops.effects import effect, having_happened
from gradtape.ops.op import recorded
from gradtape.recorders import listening, tracer
from gradtape.replay import view
from gradtape.tensor import (
    Array,
    DTypeLike,
    Tensor,
    TensorLike,
    Value,
    as_dtype,
    convert_to_array,
    holds,
    looked_at,
)

__all__ = ["Generator", "normal", "set_seed", "shuffle", "truncated_normal", "uniform"]

# What draws once, from a generator that nobody else uses meanwhile.
Draw: TypeAlias = "Callable[[np.random.Generator], Array]"


# -- where numbers come from ---------------------------------------------------------------------------------


class _Source:
    """The generator behind the module's functions; `draw` is safe in threads.

    A call with a seed of its own has its own stream for that function, global seed and seed: the first such
    call after `set_seed` always gives the same numbers, the second others, but always the same others.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.generator: np.random.Generator | None = (
            None  # made when first needed: numpy.random is slow to import
        )
        self.seed = 0
        self.calls: Counter[tuple[str, int]] = Counter()

    def restart(self, seed: int) -> None:
        with self.lock:
            self.generator = np.random.default_rng(_entropy(seed))
            self.seed = seed
            self.calls.clear()

    def draw(self, name: str, seed: int | None, draw: Draw) -> Array:
        return _drawn(self.lock, lambda: self._generator(name, seed), draw)

    def _generator(self, name: str, seed: int | None) -> np.random.Generator:
        if seed is None:
            self.generator = self.generator or np.random.default_rng()
            return self.generator
        seed = whole(f"random.{name}: seed", seed)
        stream = (*name.encode(), _entropy(seed), self.calls[name, seed])
        self.calls[name, seed] += 1
        return np.random.default_rng(np.random.SeedSequence(_entropy(self.seed), spawn_key=stream))


def _drawn(lock: threading.Lock, generator: Callable[[], np.random.Generator], draw: Draw) -> Any:
    """What `draw` makes of the generator, or, where a function is run again, of the one that it had then; a
    tensor in a function that is being recorded, which draws anew at each call.
    """
    seen = view()
    then = seen and seen.happened()
    if then:
        return then[0] if isinstance(then, list) else draw(then)
    if tracer() is not None:
        return having_happened(_DRAW, (), lambda: [_drawn(lock, generator, draw)])[0]
    with lock:
        now = generator()
        if seen:
            seen.happens(now)
        return draw(now)


def _entropy(seed: int) -> int:
    """A seed as NumPy wants it, not negative."""
    return whole("random: seed", seed) % 2**64


_source = _Source()
_DRAW = effect("draw")


def set_seed(seed: int) -> None:
    """Makes all that this module draws from now on the same on every run.

    seed: any integer. It also starts the streams of calls with a `seed=` of their own anew.

    >>> gt.random.set_seed(7)
    >>> a = gt.random.normal([3])
    >>> gt.random.set_seed(7)
    >>> bool(np.all(a == gt.random.normal([3])))
    True
    """
    _source.restart(whole("random.set_seed", seed))


# -- distributions -------------------------------------------------------------------------------------------


def _dimensions(shape: TensorLike) -> tuple[int, ...]:
    """A shape given as a tuple, list, integer, or tensor of integers."""
    if isinstance(shape, (list, tuple)):
        shape = [looked_at(n) if isinstance(n, Value) else n for n in shape]
    try:
        lengths = np.array(shape if isinstance(shape, list) else convert_to_array(shape))
    except ValueError:
        lengths = np.zeros(())
    if lengths.ndim > 1 or (lengths.size and (lengths.dtype.kind not in "iu" or (lengths < 0).any())):
        raise ShapeError(f"random: wanted a shape, a list of integers from 0, got {shape!r}")
    return tuple(lengths.astype(int).reshape(-1).tolist())


def _real(name: str, dtype: DTypeLike) -> np.dtype[Any]:
    found = as_dtype(dtype)
    if found.kind != "f":
        raise DTypeError(
            f"random.{name}: draws real numbers of dtype float16, float32 or float64, not {found}"
        )
    return found


def _native(dtype: np.dtype[Any]) -> Any:
    """The dtype that NumPy draws natively for this one."""
    return np.float64 if dtype == np.float64 else np.float32


def _each(
    take: Callable[[Draw], Array], draw: Callable[[tuple[int, ...]], Draw], shape: tuple[int, ...]
) -> Any:
    """What `draw` makes of a shape, by what hands it a generator; batched where each example has its own."""
    mappings = [m for m in listening() if isinstance(m, Mapping) and m.draws]
    drawn = take(draw((*(m.size for m in mappings), *shape)))
    for mapping in mappings:
        drawn = Batched(drawn if isinstance(drawn, Tensor) else Tensor(drawn), mapping)
    return drawn


def _normal(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Draw:
    return lambda rng: np.asarray(rng.standard_normal(shape, _native(dtype))).astype(dtype, copy=False)


def _truncated(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Draw:
    def draw(rng: np.random.Generator) -> Array:
        noise = np.asarray(rng.standard_normal(shape, _native(dtype))).astype(dtype, copy=False)
        far = np.abs(noise) > 2
        while far.any():
            noise[far] = rng.standard_normal(np.count_nonzero(far), _native(dtype))
            far = np.abs(noise) > 2
        return noise

    return draw


def _unit(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Draw:
    """Uniform in [0, 1), which 1 would come out of if rounded to half precision."""
    below = np.nextafter(dtype.type(1), dtype.type(0))
    return lambda rng: np.minimum(
        np.asarray(rng.random(shape, _native(dtype))).astype(dtype, copy=False), below
    )


def _cast(x: TensorLike, dtype: np.dtype[Any]) -> Tensor:
    cast: Tensor = recorded.cast(recorded.convert_to_tensor(x), dtype)
    return cast


def _plain(x: TensorLike, dtype: np.dtype[Any]) -> Array:
    """A parameter that is no tensor, as an array of this dtype."""
    with contextlib.suppress(ValueError):  # of a ragged list
        given = np.asarray(x)
        if given.dtype.kind in "biuf":
            return given.astype(dtype)
    raise DTypeError(f"random: wanted real numbers as parameters, got {brief(x)}")


def _scaled(noise: Any, scale: TensorLike, shift: TensorLike) -> Tensor:
    """shift + scale * noise in the dtype of the noise; recorded where one of them is a tensor."""
    if holds([noise, scale, shift], Value):
        unit = noise if isinstance(noise, Tensor) else Tensor(noise[()])
        return unit * _cast(scale, noise.dtype) + _cast(shift, noise.dtype)
    scale, shift = _plain(scale, noise.dtype), _plain(shift, noise.dtype)
    _require_broadcast(noise.shape, shift.shape, scale.shape)
    return Tensor((noise * scale + shift)[()])


def _require_broadcast(shape: tuple[int, ...], first: tuple[int, ...], second: tuple[int, ...]) -> None:
    try:
        np.broadcast_shapes(shape, first, second)
    except ValueError:
        raise ShapeError(
            f"random: shape {shape} does not broadcast with parameters of shapes {first} and {second}; give "
            "the whole shape that is to be drawn"
        ) from None


def _uniform(
    take: Callable[[Draw], Array], shape: TensorLike, minval: TensorLike, maxval: TensorLike, dtype: DTypeLike
) -> Tensor:
    """What `uniform` does, with what hands a generator to a draw."""
    lengths, wanted = _dimensions(shape), as_dtype(dtype)
    if wanted.kind in "iu":
        if maxval is None:
            raise ArgumentError(f"random.uniform: maxval must be given for the integer dtype {wanted}")
        low, high = convert_to_array(minval), convert_to_array(maxval)
        if low.dtype.kind not in "iu" or high.dtype.kind not in "iu":
            raise DTypeError(f"random.uniform: minval and maxval must be integers for dtype {wanted}")
        if np.any(low >= high):
            raise ArgumentError(f"random.uniform: minval must be less than maxval, got {low} and {high}")
        kind = np.iinfo(wanted)
        if np.any(low < kind.min) or np.any(high.astype(object) - 1 > kind.max):
            raise ArgumentError(f"random.uniform: {wanted} cannot hold the numbers from {low} to {high}")
        _require_broadcast(lengths, low.shape, high.shape)
        integers = _each(take, lambda n: lambda rng: rng.integers(low, high, n, wanted), lengths)
        return integers if isinstance(integers, Tensor) else Tensor(np.asarray(integers)[()])
    noise = _each(take, lambda n: _unit(n, _real("uniform", wanted)), lengths)
    maxval = 1 if maxval is None else maxval
    if holds([minval, maxval], Value):
        return _scaled(noise, _cast(maxval, wanted) - _cast(minval, wanted), minval)
    low, high = _plain(minval, wanted), _plain(maxval, wanted)
    drawn = _scaled(noise, high - low, low)
    return arithmetic.where(low < high, arithmetic.minimum(drawn, np.nextafter(high, low)), drawn)


# -- the module's functions ----------------------------------------------------------------------------------


def normal(
    shape: Sequence[int],
    mean: TensorLike = 0.0,
    stddev: TensorLike = 1.0,
    dtype: DTypeLike = np.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Normally distributed numbers, mean + stddev * noise.

    shape: that of the noise; mean and stddev broadcast with it. dtype: float16, float32 or float64, else
    DTypeError. The derivative flows to mean and stddev where they are tensors. seed: draws from a stream of
    its own, which `set_seed` starts anew.

    >>> gt.random.normal([2, 3]).shape
    (2, 3)
    """
    kind = _real("normal", dtype)
    noise = _each(
        lambda draw: _source.draw("normal", seed, draw), lambda n: _normal(n, kind), _dimensions(shape)
    )
    return _scaled(noise, stddev, mean)


def truncated_normal(
    shape: Sequence[int],
    mean: TensorLike = 0.0,
    stddev: TensorLike = 1.0,
    dtype: DTypeLike = np.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Normally distributed numbers, drawn again until they lie within two standard deviations of the mean.

    Arguments and errors as in `normal`.

    >>> bool(np.all(gt.abs(gt.random.truncated_normal([1000])) <= 2.0))
    True
    """
    kind = _real("truncated_normal", dtype)
    noise = _each(
        lambda draw: _source.draw("truncated_normal", seed, draw),
        lambda n: _truncated(n, kind),
        _dimensions(shape),
    )
    return _scaled(noise, stddev, mean)


def uniform(
    shape: Sequence[int],
    minval: TensorLike = 0,
    maxval: TensorLike = None,
    dtype: DTypeLike = np.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Uniformly distributed numbers in [minval, maxval); maxval: 1 by default, and needed for integers.

    dtype: real or integer, else DTypeError. The derivative flows to minval and maxval where they are real
    tensors. Raises ArgumentError for integers without a maxval above minval.

    >>> dice = gt.random.uniform([100], 1, 7, dtype="int32")
    >>> dice.dtype, bool(np.all(dice >= 1)), bool(np.all(dice <= 6))
    (dtype('int32'), True, True)
    """
    return _uniform(lambda draw: _source.draw("uniform", seed, draw), shape, minval, maxval, dtype)


def shuffle(value: TensorLike, seed: int | None = None, name: str | None = None) -> Tensor:
    """The slices of `value` along axis 0 in random order; the derivative flows back to where each came from.

    >>> sorted(gt.random.shuffle([1, 2, 3]).numpy().tolist())
    [1, 2, 3]
    """
    x: Tensor = recorded.convert_to_tensor(value)
    if not x.ndim:
        return x
    order = _each(
        lambda draw: _source.draw("shuffle", seed, draw),
        lambda n: lambda rng: rng.permuted(np.broadcast_to(np.arange(n[-1]), n), axis=-1),
        x.shape[:1],
    )
    shuffled: Tensor = recorded.gather(x, order)
    return shuffled


# -- generators ----------------------------------------------------------------------------------------------


class Generator:
    """A source of random numbers of its own, which no global seed touches; safe in threads.

    Made by `from_seed` or `from_non_deterministic_state`. `normal`, `uniform` and `truncated_normal` are the
    module's, without `seed`.

    >>> a, b = (gt.random.Generator.from_seed(1) for _ in range(2))
    >>> bool(np.all(a.normal([3]) == b.normal([3])))
    True
    """

    __slots__ = ("_generator", "_lock")

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._lock = threading.Lock()

    @classmethod
    def from_seed(cls, seed: int, alg: str | int | None = None) -> Generator:
        """A generator that gives the same numbers for the same seed, any integer.

        alg: taken for TensorFlow's sake, and ignored; the algorithm is NumPy's default one.

        >>> gt.random.Generator.from_seed(1).uniform([2]).shape
        (2,)
        """
        return cls(np.random.default_rng(_entropy(seed)))

    @classmethod
    def from_non_deterministic_state(cls) -> Generator:
        """A generator that starts from the machine's entropy.

        >>> gt.random.Generator.from_non_deterministic_state().normal([2]).shape
        (2,)
        """
        return cls(np.random.default_rng())

    def _draw(self, draw: Draw) -> Array:
        return _drawn(self._lock, lambda: self._generator, draw)

    def normal(
        self,
        shape: Sequence[int],
        mean: TensorLike = 0.0,
        stddev: TensorLike = 1.0,
        dtype: DTypeLike = np.float32,
        name: str | None = None,
    ) -> Tensor:
        """Normally distributed numbers, as `random.normal` gives them.

        >>> gt.random.Generator.from_seed(1).normal([2], dtype="float64").dtype
        dtype('float64')
        """
        kind = _real("normal", dtype)
        return _scaled(_each(self._draw, lambda n: _normal(n, kind), _dimensions(shape)), stddev, mean)

    def truncated_normal(
        self,
        shape: Sequence[int],
        mean: TensorLike = 0.0,
        stddev: TensorLike = 1.0,
        dtype: DTypeLike = np.float32,
        name: str | None = None,
    ) -> Tensor:
        """Numbers within two standard deviations of the mean, as `random.truncated_normal` gives them.

        >>> gt.random.Generator.from_seed(1).truncated_normal([2]).shape
        (2,)
        """
        kind = _real("truncated_normal", dtype)
        noise = _each(self._draw, lambda n: _truncated(n, kind), _dimensions(shape))
        return _scaled(noise, stddev, mean)

    def uniform(
        self,
        shape: Sequence[int],
        minval: TensorLike = 0,
        maxval: TensorLike = None,
        dtype: DTypeLike = np.float32,
        name: str | None = None,
    ) -> Tensor:
        """Numbers in [minval, maxval), as `random.uniform` gives them.

        >>> gt.random.Generator.from_seed(1).uniform([2], 5, 6, dtype="int64").numpy()
        array([5, 5])
        """
        return _uniform(self._draw, shape, minval, maxval, dtype)
