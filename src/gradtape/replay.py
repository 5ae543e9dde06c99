"""Running a function again just as it ran: variables as they were, random numbers as they were drawn."""

from collections.abc import Iterator
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from gradtape.errors import RecomputationError

if TYPE_CHECKING:
    import numpy as np

    from gradtape.tensor import Variable

__all__ = ["Noting", "Pinned", "Replaying", "View", "view"]

State: TypeAlias = "tuple[type[np.random.BitGenerator], Any]"  # a kind of generator, and its state


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

    def drawn(self) -> "np.random.Generator | None":
        """The generator to draw from next in place of any other; None if there is no such."""
        return None if self._beyond is None else self._beyond.drawn()

    def draws(self, generator: "np.random.Generator") -> None:
        """Hears which generator is about to be drawn from, once."""
        if self._beyond is not None:
            self._beyond.draws(generator)


_view: ContextVar[View | None] = ContextVar("view", default=None)
view = _view.get  # what every variable and generator asks: None, but within a view's block


class Noting(View):
    """Notes each variable's value before its first use and after its last, by key, and each generator's state
    before each draw.
    """

    def __init__(self) -> None:
        self.first: dict[int, Any] = {}
        self.last: dict[int, Any] = {}
        self.states: list[State] = []

    def read(self, variable: "Variable") -> Any:
        value = super().read(variable)
        self.first.setdefault(variable._key, value)
        self.last[variable._key] = value
        return value

    def write(self, variable: "Variable", value: Any) -> None:
        self.read(variable)
        self.last[variable._key] = value
        super().write(variable, value)

    def drawn(self) -> "np.random.Generator | None":
        generator = super().drawn()
        if generator is not None:
            self._note(generator)
        return generator

    def draws(self, generator: "np.random.Generator") -> None:
        self._note(generator)
        super().draws(generator)

    def _note(self, generator: "np.random.Generator") -> None:
        bits = generator.bit_generator
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


class Replaying(Pinned):
    """The same, with random numbers as they were drawn; the world beyond is not changed, nor drawn from."""

    def __init__(self, values: dict[int, Any], states: list[State]) -> None:
        super().__init__(values)
        self._states: Iterator[State] = iter(states)

    def write(self, variable: "Variable", value: Any) -> None:
        self._values[variable._key] = value

    def drawn(self) -> "np.random.Generator | None":
        from numpy.random import Generator

        for kind, state in self._states:
            bits = kind(0)
            bits.state = state
            return Generator(bits)
        raise RecomputationError(
            "a function that is run again draws more random numbers than it did at first; it must do the "
            "same each time it is called"
        )
