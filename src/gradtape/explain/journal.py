"""What happened while a tape was on: every op, whether the tape followed it or not, and the user's line."""

from typing import Any, NamedTuple, TypeAlias

import numpy as np

from gradtape import recorders
from gradtape.callers import Site, frame_of_caller, site_of
from gradtape.ops.op import Op
from gradtape.sweep import Cuts
from gradtape.tensor import Value, Variable

__all__ = ["Assigned", "Heard", "Journal", "Left", "Like", "Read", "Reset", "Watched", "heard"]

Like: TypeAlias = tuple[tuple[int, ...], np.dtype[Any]]  # a shape and a dtype


class Heard(NamedTuple):
    """One op that ran.

    keys: as in `recorders.Recorder.record`; like: of the result, or a tuple of those of several; code,
    offset: the user's line; paused: whether `stop_recording` kept the tape from recording it; loose: of
    operands that were no tensors, by place, a Like, or the type of a Python number.
    """

    op: Op
    keys: tuple[Any, ...]
    like: Any
    code: Any
    offset: int
    paused: bool
    loose: dict[int, Any]

    @property
    def site(self) -> Site:
        return Site(self.code, self.offset)

    @property
    def results(self) -> tuple[tuple[int, Like], ...]:
        """The key and the shape and dtype of each result."""
        key = self.keys[-1]
        return tuple(zip(key, self.like, strict=True)) if type(key) is tuple else ((key, self.like),)

    @property
    def operands(self) -> tuple[tuple[int, int], ...]:
        """The place and key of each operand that is a tensor or a variable."""
        return tuple((i, key) for i, key in enumerate(self.keys[:-1]) if key)


class Left(NamedTuple):
    """A value became a bare array or a Python number, by `how`; what is younger has a key above `then`."""

    key: int
    how: str
    site: Site
    then: int

    @property
    def is_number(self) -> bool:
        return self.how in ("float()", "int()", "complex()", "index()")


class Assigned(NamedTuple):
    """A variable took the value of this key; adds: and kept its own, of which it is the sum then."""

    variable: int
    key: int
    adds: bool
    site: Site


class Watched(NamedTuple):
    """The tape was told to watch a value."""

    key: int
    like: Like


class Read(NamedTuple):
    """A variable that was read."""

    name: str
    is_trainable: bool
    like: Like


class Reset(NamedTuple):
    """The tape forgot what it had recorded."""


_NONE: dict[int, Any] = {}
_FLOAT_SECOND: dict[int, Any] = {1: float}  # of y * 2.0, which is too common to be found out each time


class Journal(recorders.HearsEachOp):
    """A recorder that keeps no value, but the order of what happened in a tape's block.

    events: ops, as tuples of the fields of Heard, and the other kinds above; variables: those that were read,
    by key; cuts: where rules gave None in a sweep; paused: how many stop_recording blocks are open, in any
    asynchronous task; block: where the tape's block begins.
    """

    __slots__ = ("block", "cuts", "events", "paused", "variables")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.events: list[Any] = []
        self.variables: dict[int, Read] = {}
        self.cuts: Cuts = set()
        self.paused = 0
        self.block: Site | None = None

    # -- as a recorder ---------------------------------------------------------------------------------------

    def record(self, op: Op, keys: tuple[Any, ...], values: tuple[Any, ...], uniform: bool) -> None:
        """Notes the op (see `recorders.Recorder`)."""
        frame = frame_of_caller()
        out = values[-1]
        like = (
            tuple([(part.shape, part.dtype) for part in out])
            if type(keys[-1]) is tuple
            else (out.shape, out.dtype)
        )
        loose = _NONE
        if 0 in keys:
            if op.operands == 2 and keys[0] and type(values[1]) is float:
                loose = _FLOAT_SECOND
            else:
                loose = _loose(keys, values, op.operands)
        paused = self.paused > 0 and self._is_paused()
        self.events.append((op, keys, like, frame.f_code, frame.f_lasti, paused, loose))

    def accessed(self, variable: Variable) -> None:
        """Notes a variable that an op is about to read."""
        if variable._key not in self.variables:
            like = variable.shape, variable.dtype
            self.variables[variable._key] = Read(variable.name, variable.trainable, like)

    def follows(self, key: int) -> bool:
        """Nothing: derivatives are the tape's business."""
        return False

    # -- what others tell it ---------------------------------------------------------------------------------

    def begins(self) -> None:
        """Hears that the tape's block begins."""
        self.block = site_of(frame_of_caller())
        recorders.push_journal(self)

    def ends(self) -> None:
        """Hears that the tape's block ends."""
        recorders.pop_journal(self)

    def pauses(self) -> None:
        """Hears that the tape stops recording, until `goes_on`."""
        self.paused += 1

    def goes_on(self) -> None:
        self.paused -= 1

    def _is_paused(self) -> bool:
        """Whether the tape, which somebody has stopped, does not record in this asynchronous task either."""
        return all(getattr(recorder, "_journal", None) is not self for recorder in recorders.listening())

    def resets(self) -> None:
        """Hears that the tape forgets what it has recorded."""
        self.events.append(Reset())

    def watches(self, value: Value) -> None:
        """Hears that the tape watches a value from now on."""
        self.events.append(Watched(value._key, (value.shape, value.dtype)))

    def left(self, value: Value, how: str) -> None:
        """Hears that a value becomes a bare array or a number, by `how`."""
        self.events.append(Left(value._key, how, site_of(frame_of_caller()), recorders.new_key()))

    def assigned(self, variable: Variable, value: Value, adds: bool) -> None:
        """Hears that a variable takes a value, or adds it to its own."""
        self.events.append(Assigned(variable._key, value._key, adds, site_of(frame_of_caller())))


def heard(event: Any) -> Heard | None:
    """The op that an event of a journal tells of; None if it is of another kind."""
    return Heard(*event) if type(event) is tuple else None


def _loose(keys: tuple[Any, ...], values: tuple[Any, ...], n: int) -> dict[int, Any]:
    places = [i for i in range(n) if not keys[i] and values[i] is not None]
    return {i: _like(values[i]) for i in places}


def _like(value: Any) -> Any:
    return (value.shape, value.dtype) if hasattr(value, "dtype") else type(value)
