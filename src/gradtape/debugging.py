"""Finding out what goes wrong: checks around code that runs as it is."""

import contextlib
from collections.abc import Iterator

__all__ = ["check_numerics"]


@contextlib.contextmanager
def check_numerics() -> Iterator[None]:
    """A block (or, as a decorator, a function) in which every op, and every derivative that a tape is asked
    for, is checked: the first result with a NaN or an infinity that no input of the op had raises
    NumericsError.

    The error names the op, the ranges, shapes and dtypes of what it got, and the line of your code; for a
    derivative also the line of the op that it is of, if that ran within the block, too. Infinities and NaNs
    that you put in yourself are passed on. `GradientTape(check_numerics=True)` does the same for the tape's
    block and for its gradients. Functions of `gradtape.function` run in Python here, op by op. Not checked:
    other threads. See docs/why-nan.md.

    >>> with np.errstate(over="ignore"), gt.debugging.check_numerics():  # doctest: +ELLIPSIS
    ...     gt.exp([0.0, 100.0])
    Traceback (most recent call last):
    ...
    gradtape.errors.NumericsError: exp gave inf at ...
      x: float32 (2,), from 0.0 to 100.0
      result: float32 (2,), 1 of 2 infinite, at [1], where x is 100.0
      The exponential is beyond float32, which ends at 3.4028e+38.
    Remedy: ...
    """
    from gradtape.explain.numerics import Checker  # here, so that importing gradtape does not take its time

    with Checker():
        yield
