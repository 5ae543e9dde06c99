"""Who is listening: the stack of recorders, outermost first, of each thread and each asynchronous task."""

import contextlib
import threading
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from gradtape.ops.op import Op
    from gradtape.tensor import Variable

__all__ = ["Recorder", "access", "alone", "is_followed", "listening", "local", "pop", "push"]


class Recorder(Protocol):
    """What an op tells whoever is on the stack."""

    def record(self, op: "Op", keys: tuple[Any, ...], values: tuple[Any, ...], uniform: bool) -> None:
        """Hears that `op` ran.

        values: the operands, the static attributes, the derived ones, and last the result, as bare arrays;
        keys: their identities in the same order, 0 for what is static; uniform: the op is elementwise and
        all operands are of the result's shape and dtype, float32 or float64, so that no cotangent needs
        fitting.
        """

    def accessed(self, variable: "Variable") -> None:
        """Hears that an op is about to read `variable`."""

    def follows(self, key: int) -> bool:
        """Whether derivatives flow through the value of this key."""


_stack: ContextVar[tuple[Recorder, ...]] = ContextVar("recorders", default=())
listening = _stack.get  # what every op asks: the recorders of this thread and asynchronous task


def push(recorder: Recorder) -> None:
    """Puts `recorder` on top of the stack."""
    _stack.set((*listening(), recorder))


def pop(recorder: Recorder) -> None:
    """Takes `recorder` off the stack, wherever it lies on it."""
    _stack.set(tuple(other for other in listening() if other is not recorder))


@contextlib.contextmanager
def alone(recorder: Recorder) -> Iterator[None]:
    """A block in which of all who listen only `recorder` does, and whoever is pushed meanwhile."""
    token = _stack.set((recorder,))
    try:
        yield
    finally:
        _stack.reset(token)


def access(variable: "Variable") -> None:
    """Tells all who listen that `variable` is about to be read."""
    for recorder in listening():
        recorder.accessed(variable)


def is_followed(key: int) -> bool:
    """Whether anyone who listens follows this value."""
    return any(recorder.follows(key) for recorder in listening())


class _Local(threading.local):
    """Every living tape of this thread that watches a tensor explicitly, whether it is recording or not."""

    def __init__(self) -> None:
        self.watching: weakref.WeakSet[Any] = weakref.WeakSet()


local = _Local()
