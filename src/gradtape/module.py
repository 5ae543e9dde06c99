"""Module: a base class for models, which finds the variables that it holds."""

import re
from collections.abc import Iterator
from typing import Any

from gradtape.errors import ArgumentError
from gradtape.tensor import Variable

__all__ = ["Module"]

_WORD_STARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Module:
    """A base class for models: it finds the variables in its attributes, however deep they lie.

    name: a Python identifier, by default the class's name in snake case; else ArgumentError.

    >>> class Line(gt.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.slope = gt.Variable(2.0, name="slope")
    ...         self.shift = gt.Variable(1.0, name="shift")
    ...     def __call__(self, x):
    ...         return self.slope * x + self.shift
    >>> line = Line()
    >>> print(line(gt.constant(3.0)), [v.name for v in line.trainable_variables])
    tf.Tensor(7.0, shape=(), dtype=float32) ['shift:0', 'slope:0']
    """

    _name: str | None = None

    def __init__(self, name: str | None = None) -> None:
        if name is not None and not (isinstance(name, str) and name.isidentifier()):
            raise ArgumentError(f"Module: name {name!r} is no Python identifier; use letters, digits and _")
        self._name = name

    @property
    def name(self) -> str:
        """The name that the module was given, or its class's in snake case.

        >>> gt.Module().name, gt.Module(name="encoder").name
        ('module', 'encoder')
        """
        return self._name or _WORD_STARTS.sub("_", type(self).__name__).lower()

    @property
    def variables(self) -> tuple[Variable, ...]:
        """Every variable of the module and of those inside it, each once.

        Its own come first, by the name of the attribute; then those of the modules inside, in the same order.
        Lists and tuples are searched in order, dicts by key.

        >>> layer, model = gt.Module(), gt.Module()
        >>> layer.w, model.layers, model.scale = gt.Variable(1.0, name="w"), [layer, layer], gt.Variable(2.0)
        >>> [v.name for v in model.variables]
        ['Variable:0', 'w:0']
        """
        return tuple(x for x in _walk(self, {id(self)}) if isinstance(x, Variable))

    @property
    def trainable_variables(self) -> tuple[Variable, ...]:
        """Those of `variables` that tapes watch by themselves: what an optimizer should change.

        >>> model = gt.Module()
        >>> model.w, model.steps = gt.Variable(1.0, name="w"), gt.Variable(0, trainable=False)
        >>> [v.name for v in model.trainable_variables]
        ['w:0']
        """
        return tuple(v for v in self.variables if v.trainable)

    @property
    def submodules(self) -> tuple["Module", ...]:
        """Every module inside this one, however deep, each once and without itself.

        >>> model = gt.Module()
        >>> model.layers = {"first": gt.Module(name="first"), "second": gt.Module(name="second")}
        >>> [m.name for m in model.submodules]
        ['first', 'second']
        """
        return tuple(x for x in _walk(self, {id(self)}) if isinstance(x, Module))


def _walk(module: Module, seen: set[int]) -> Iterator[Variable | Module]:
    """What the module holds, then what the modules in it hold; each once, also where they hold each other."""
    inside = []
    for x in _held(module):
        if id(x) not in seen:
            seen.add(id(x))
            yield x
            if isinstance(x, Module):
                inside.append(x)
    for x in inside:
        yield from _walk(x, seen)


def _held(module: Module) -> Iterator[Variable | Module]:
    """The variables and modules in one module's attributes, and in lists, tuples and dicts there."""
    attributes: dict[str, Any] = vars(module)
    waiting = [attributes[name] for name in sorted(attributes, reverse=True)]
    containers: dict[int, Any] = {}
    while waiting:
        x = waiting.pop()
        if isinstance(x, (Variable, Module)):
            yield x
        elif isinstance(x, (list, tuple, dict)) and id(x) not in containers:
            containers[id(x)] = x
            waiting.extend(reversed(_by_key(x) if isinstance(x, dict) else x))


def _by_key(x: dict[Any, Any]) -> list[Any]:
    """A dict's values by sorted key, or in their own order where keys cannot be compared."""
    try:
        return [x[key] for key in sorted(x)]
    except TypeError:
        return list(x.values())
