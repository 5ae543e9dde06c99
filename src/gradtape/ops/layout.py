"""Where the values of an op's record stand, and how its arguments come there."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, get_args

import numpy as np

from gradtape.errors import ArgumentError, LeavesTapeError
from gradtape.recorders import is_followed
from gradtape.tensor import TensorLike, Value, looked_at

__all__ = ["Layout", "spelt", "static", "unknown"]


class Layout:
    """Where a record's values stand: operands, statics, derived shapes and dtypes, and last the result."""

    def __init__(self, template: Callable[..., Any]) -> None:
        self.signature = inspect.signature(template)
        parameters = list(self.signature.parameters.values())
        annotations = [spelt(p.annotation) for p in parameters]
        self.name = template.__name__
        self.names = [p.name for p in parameters]
        self.defaults = [p.default for p in parameters]
        self.variadic = "".join(annotations[:1]).startswith("Sequence[TensorLike")
        self.operands = 1 if self.variadic else sum(a.startswith("TensorLike") for a in annotations)
        if not self.operands or "out" in self.names:
            raise ArgumentError(
                f"{template.__name__}: wanted parameters annotated TensorLike first, and none named out"
            )
        self.derived: list[tuple[int, str]] = []

    def position(self, need: str) -> int:
        """Where the value that a rule's parameter names will stand."""
        if need == "out":
            return -1
        if need in self.names:
            return self.names.index(need)
        source, _, what = need.rpartition("_")
        if source not in self.names or what not in ("shape", "dtype"):
            raise unknown(self.name, need, self.names)
        derived = (self.names.index(source), what)
        if derived not in self.derived:
            self.derived.append(derived)
        return len(self.names) + self.derived.index(derived)

    def told(self, values: Sequence[Any]) -> dict[str, Any]:
        """The static attributes among the values of a record that are not as they are by default."""
        places = range(self.operands, len(self.names))
        return {self.names[i]: values[i] for i in places if values[i] is not self.defaults[i]}

    def complete(self, name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> list[Any]:
        """All arguments in order, defaults included; TypeError, with the signature, if they do not fit."""
        full = [*args, *self.defaults[len(args) :]]
        keywords.pop("name", None)
        for keyword, value in keywords.items():
            if keyword not in self.names[len(args) :]:
                break
            full[self.names.index(keyword)] = value
        else:
            if len(full) == len(self.names) and not any(value is inspect.Parameter.empty for value in full):
                return full
        try:
            self.signature.bind(*args, **keywords)
        except TypeError as problem:
            raise TypeError(f"{name}: {problem}; call it as {name}({', '.join(self.names)})") from None
        raise AssertionError(name)


def unknown(name: str, need: str, names: Sequence[str]) -> ArgumentError:
    """What is raised if a rule of the op `name` asks for what no record holds."""
    return ArgumentError(
        f"{name}: a rule asks for {need!r}; after xp (and g or t) it may ask for {', '.join(names)} and "
        "out, and in @op for the likes of x_shape and x_dtype"
    )


def spelt(annotation: Any) -> str:
    """An annotation, evaluated or not, with or without the name of its module, as it is told here."""
    if isinstance(annotation, str):
        return annotation.replace("gradtape.", "").replace("extending.", "").replace("gt.", "")
    if annotation == TensorLike:
        return "TensorLike"
    return "Sequence[TensorLike]" if get_args(annotation) == (TensorLike,) else str(annotation)


def static(value: Any) -> Any:
    """A static attribute, made plain and immutable: lists, arrays and tensors become numbers and tuples."""
    kind = type(value)
    if kind is list or (kind is tuple and any(isinstance(v, Value) for v in value)):
        return tuple(map(static, value))
    if isinstance(value, Value):
        if value.dtype.kind in "fc" and is_followed(value._key):
            raise LeavesTapeError(
                f"a {value.dtype} tensor that a tape follows was given where only constants go, and its "
                "derivative would be lost; give its .numpy() on purpose"
            )
        value = looked_at(value)
    return _tuples(value.tolist()) if isinstance(value, (np.ndarray, np.generic)) else value


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if type(value) is list else value
