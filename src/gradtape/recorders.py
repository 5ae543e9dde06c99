"""Who is listening: the stack of recorders, outermost first, of each thread and each asynchronous task."""

import contextlib
import itertools
import threading
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from gradtape.compile.trace import Tracer
    from gradtape.explain.journal import Journal
    from gradtape.ops.op import Op
    from gradtape.tensor import Variable

__all__ = [
    "HearsEachOp",
    "Recorder",
    "access",
    "captors",
    "is_followed",
    "journals",
    "listening",
    "local",
    "new_key",
    "pop",
    "pop_journal",
    "push",
    "push_journal",
    "set_listening",
    "set_tracer",
    "tracer",
    "unheard",
    "who_can",
]

new_key = itertools.count(1).__next__  # what a value's identity is made of


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


class HearsEachOp:
    """What a recorder is that must hear every op by itself: compiled functions run in Python in its block."""

    __slots__ = ()


_stack: ContextVar[tuple[Recorder, ...]] = ContextVar("recorders", default=())
listening = _stack.get  # what every op asks: the recorders of this thread and asynchronous task
set_listening = _stack.set  # for who computes on behalf of some of them only; puts the stack back afterwards


_tracer: ContextVar["Tracer | None"] = ContextVar("tracer", default=None)
tracer = _tracer.get  # the recorder, if any, that notes a function to be compiled; it is on the stack too
set_tracer = _tracer.set

_journals: ContextVar[tuple["Journal", ...]] = ContextVar("journals", default=())
journals = _journals.get  # the recorders that note what becomes of values outside of ops too


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """A block in which nobody listens."""
    stack, traced = listening(), tracer()
    set_listening(())
    set_tracer(None)
    try:
        yield
    finally:
        set_listening(stack)
        set_tracer(traced)


def push(recorder: Recorder, place: int | None = None) -> None:
    """Puts `recorder` on top of the stack, or back to the place where it was."""
    stack = listening()
    _stack.set((*stack, recorder) if place is None else (*stack[:place], recorder, *stack[place:]))


def pop(recorder: Recorder) -> None:
    """Takes `recorder` off the stack, wherever it lies on it."""
    _stack.set(tuple(other for other in listening() if other is not recorder))


def push_journal(journal: "Journal") -> None:
    """Lets `journal` listen, to ops and to what else becomes of values."""
    push(journal)
    _journals.set((*journals(), journal))


def pop_journal(journal: "Journal") -> None:
    """Lets `journal` listen no more."""
    pop(journal)
    _journals.set(tuple(other for other in journals() if other is not journal))


def who_can(method: str) -> list[Any]:
    """Those who listen and have a method that not every recorder has."""
    return [recorder for recorder in listening() if hasattr(recorder, method)]


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
# Compiled paths that read tensors from outside; threads cannot go through a WeakSet that others change.
captors: "set[weakref.ref[Any]]" = set()
