"""Running a function again just as it ran: variables as they were, random numbers as they were drawn."""

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from gradtape.errors import FunctionError, RecomputationError

if TYPE_CHECKING:
    import numpy as np

    from gradtape.tensor import Variable

__all__ = ["Noting", "Pinned", "Replaying", "Sealed", "View", "unseen", "view"]

State: TypeAlias = "tuple[type[np.random.BitGenerator], Any]"  # a kind of generator, and its state
Noted: TypeAlias = "State | list[Any]"
# What was not computed: a generator to draw from, or the outcome itself, which a compiled function has kept.
Outcome: TypeAlias = "np.random.Generator | list[Any]"


class View:
    """How variables and random generators look within its block, to this thread and asynchronous task.

    A plain view passes everything on to the one that it was entered in, or to the things themselves.
    """

    def __enter__(self) -> Self:
        self._beyond = view()
        self._token: Token[View | None] = _view.set(self)
        return self

    def __exit__(self, *problem: object) -> None:
        _view.reset(self._token)

    def read(self, variable: "Variable") -> Any:
        """The variable's value."""
        return variable._current if self._beyond is None else self._beyond.read(variable)

    def write(self, variable: "Variable", value: Any) -> None:
        """Gives the variable another value."""
        if self._beyond is None:
            variable._current = value
        else:
            self._beyond.write(variable, value)

    def happened(self) -> "Outcome | None":
        """What happened here when the function ran first: the generator as it was, or the outcome; None if it
        runs for the first time.
        """
        return None if self._beyond is None else self._beyond.happened()

    def happens(self, outcome: "Outcome") -> None:
        """Hears which generator is about to be drawn from, once, or what came of an effect."""
        if self._beyond is not None:
            self._beyond.happens(outcome)


_view: ContextVar[View | None] = ContextVar("view", default=None)
view = _view.get  # what every variable and generator asks: None, but within a view's block


@contextlib.contextmanager
def unseen() -> Iterator[None]:
    """A block in which variables and generators look as they are."""
    token = _view.set(None)
    try:
        yield
    finally:
        _view.reset(token)


class Noting(View):
    """Notes each variable's value before its first use and after its last, by key, and each generator's state
    before each draw.
    """

    def __init__(self) -> None:
        self.first: dict[int, Any] = {}
        self.last: dict[int, Any] = {}
        self.states: list[Noted] = []

    def read(self, variable: "Variable") -> Any:
        value = super().read(variable)
        self.first.setdefault(variable._key, value)
        self.last[variable._key] = value
        return value

    def write(self, variable: "Variable", value: Any) -> None:
        self.read(variable)
        self.last[variable._key] = value
        super().write(variable, value)

    def happened(self) -> "Outcome | None":
        outcome = super().happened()
        if outcome is not None:
            self._note(outcome)
        return outcome

    def happens(self, outcome: "Outcome") -> None:
        self._note(outcome)
        super().happens(outcome)

    def _note(self, outcome: "Outcome") -> None:
        if isinstance(outcome, list):
            self.states.append(outcome)
        else:
            bits = outcome.bit_generator
            self.states.append((type(bits), bits.state))


class Pinned(View):
    """Shows the variables of these keys as they were, until they are given another value."""

    def __init__(self, values: dict[int, Any]) -> None:
        self._values = values.copy()

    def read(self, variable: "Variable") -> Any:
        key = variable._key
        return self._values[key] if key in self._values else super().read(variable)

    def write(self, variable: "Variable", value: Any) -> None:
        self._values.pop(variable._key, None)
        super().write(variable, value)


class Sealed(Pinned):
    """Shows the variables of these keys with values that they are about to have, and refuses to change
    any.
    """

    def write(self, variable: "Variable", value: Any) -> None:
        raise FunctionError(
            f"variable {variable.name} is assigned by what a function calls out to, which its compiled "
            "program would not see; return the value, and assign it in the function"
        )


class Replaying(Pinned):
    """The same, with random numbers as they were drawn; the world beyond is not changed, nor drawn from."""

    def __init__(self, values: dict[int, Any], states: Sequence[Noted]) -> None:
        super().__init__(values)
        self._states = iter(states)

    def write(self, variable: "Variable", value: Any) -> None:
        self._values[variable._key] = value

    def happened(self) -> "Outcome | None":
        from numpy.random import Generator

        for outcome in self._states:
            if isinstance(outcome, list):
                return outcome
            kind, state = outcome
            bits = kind(0)
            bits.state = state
            return Generator(bits)
        raise RecomputationError(
            "a function that is run again draws more random numbers, or has more effects, than it did at "
            "first; it must do the same each time it is called"
        )
