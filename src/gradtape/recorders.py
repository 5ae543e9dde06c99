"""Who is listening: each thread's stack of recorders, outermost first."""

import threading
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from gradtape.ops.op import Op
    from gradtape.tensor import Variable

__all__ = ["Recorder", "is_followed", "local", "pop", "push"]


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


class _Stack(threading.local):
    """The recorders of this thread, and every living tape of it that watches a tensor explicitly."""

    recorders: tuple[Recorder, ...] = ()

    def __init__(self) -> None:
        self.watching: weakref.WeakSet[Any] = weakref.WeakSet()


local = _Stack()


def push(recorder: Recorder) -> None:
    """Puts `recorder` on top of this thread's stack."""
    local.recorders = (*local.recorders, recorder)


def pop(recorder: Recorder) -> None:
    """Takes `recorder` off this thread's stack, wherever it lies on it."""
    local.recorders = tuple(other for other in local.recorders if other is not recorder)


def is_followed(keys: Iterable[int]) -> bool:
    """Whether any recorder of this thread follows one of these values."""
    return any(recorder.follows(key) for recorder in local.recorders for key in keys)
