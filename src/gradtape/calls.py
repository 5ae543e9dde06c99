"""One call of a transformed function: its arguments as tensors, and its results as the caller wants them."""

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from gradtape.batched import Batched, is_followed
from gradtape.errors import (
    ArgumentError,
    DTypeError,
    LeavesTapeError,
    NotATensorError,
    NotScalarError,
    ShapeError,
    StructureError,
)
from gradtape.ops.op import recorded
from gradtape.structure import flatten, outline, unflattened
from gradtape.tape import GradientTape
from gradtape.tensor import Tensor, Value, as_array

__all__ = ["Argnums", "Call", "Function", "call_with_tangents", "face"]

Function: TypeAlias = Callable[..., Any]
Argnums: TypeAlias = int | Sequence[int]

_NUMBERS = (float, complex, int, np.ndarray, np.generic)


def face(name: str, f: Function, argnums: Argnums, transformed: Function) -> Function:
    """`transformed`, under a name that says what it is of what; ArgumentError if f or argnums cannot be."""
    if not callable(f):
        raise ArgumentError(f"{name}: wanted a function to differentiate, got {_brief(f)}")
    _numbers(name, argnums)
    transformed.__name__ = transformed.__qualname__ = f"{name}({_named(f)})"
    transformed.takes_arrays = True  # type: ignore[attr-defined]  # and gives them, where it gets no tensors
    transformed.__doc__ = f"What gradtape.{name} makes of {_named(f)}."
    return transformed


class Call:
    """One call of a transformed function: what to differentiate by, and how results go back to the caller.

    primals: the leaves of the arguments at argnums, each as a tensor of its own; plain: whether the caller
    gave no tensors, and so gets none; from `run` on, aux: what the function passed on, and in_value: what
    puts one leaf for each of its results in their places.
    """

    def __init__(
        self,
        name: str,
        f: Function,
        argnums: Argnums,
        has_aux: bool,
        args: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> None:
        self.name = name
        self.f = f
        self.of = _named(f)
        self.has_aux = has_aux
        self.args = args
        self.keywords = keywords
        self.several = isinstance(argnums, (tuple, list))
        self.plain = not any(map(_holds_tensor, [*args, *keywords.values()]))
        self.primals: list[Tensor] = []
        self.numbers: list[bool] = []  # which of them came as Python numbers
        self.places: list[tuple[int, int, Callable[[list[Any]], Any]]] = []  # where, how many, in what
        for place in _places(name, self.of, argnums, len(args)):
            leaves, rebuild = unflattened(args[place])
            self.primals += [self._primal(place, x) for x in leaves]
            self.numbers += [type(x) in (float, complex) for x in leaves]
            self.places.append((place, len(leaves), rebuild))

    def _primal(self, place: int, x: Any) -> Tensor:
        """One leaf of an argument as a tensor; Python numbers are in double precision, as in NumPy."""
        what = f"{self.name}: argument {place} of {self.of}"
        if isinstance(x, Value):
            t: Tensor = recorded.identity(x)
        elif isinstance(x, _NUMBERS):
            t = _tensor(what, x)
        else:
            raise NotATensorError(
                f"{what} is or holds {_brief(x)}; wanted arrays, numbers or tensors, or structures of them"
            )
        if t.dtype.kind not in "fc":
            raise DTypeError(
                f"{what} is or holds {t.dtype}, which has no derivative; make it real, as in x.astype(float) "
                "or 3.0"
            )
        return t

    # -- running it ------------------------------------------------------------------------------------------

    def run(self) -> list[Tensor]:
        """Calls the function, on copies of the primals, which it may assign to; the leaves of its value."""
        copies = self.in_places([recorded.identity(x) for x in self.primals])
        args = list(self.args)
        for (place, _, _), copy in zip(self.places, copies, strict=True):
            args[place] = copy
        result = self.f(*args, **self.keywords)
        if self.has_aux:
            if not isinstance(result, (tuple, list)) or len(result) != 2:
                raise StructureError(
                    f"{self.name}: with has_aux {self.of} must return a pair, (value, aux), not "
                    f"{_brief(result)}"
                )
            result, self.aux = result
        leaves, self.in_value = unflattened(result)
        if not leaves or any(x is None for x in leaves):
            raise NotATensorError(
                f"{self.name}: {self.of} returned {_brief(result)}; return what to differentiate"
            )
        if not any(isinstance(x, Value) for x in leaves):
            raise LeavesTapeError(
                f"{self.name}: {self.of} returned {_brief(result)}, which is no tensor and so has no "
                "derivative: math.sin, float() and np.array([...]) leave the tape (not so np.sin and "
                "np.stack); return gradtape.constant(...) if it is meant to be constant"
            )
        ys = [
            recorded.convert_to_tensor(x) if isinstance(x, Value) else _tensor(f"{self.name}: {self.of}", x)
            for x in leaves
        ]
        if not any(y.dtype.kind in "fc" for y in ys):
            raise DTypeError(
                f"{self.name}: {self.of} returned {ys[0].dtype}, which has no derivative; wanted real numbers"
            )
        return ys

    def gradients(self) -> tuple[Tensor, list[Tensor]]:
        """The value, which must be one number, and its gradients by the primals, which all who listen hear
        of.
        """
        with GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.primals)
            y, *more = self.run()
        if more or y.shape:
            got = f"{1 + len(more)} results" if more else f"shape {y.shape}"
            raise NotScalarError(
                f"{self.name}: {self.of} returned {got}, wanted one number, shape (); sum it, pass the rest "
                "on by has_aux, or use jacobian or vjp"
            )
        found = tape.gradient(y, self.primals, unconnected_gradients="zero")
        return y, [recorded.convert_to_tensor(g) for g in found]

    def require_real(self, values: Sequence[Value]) -> None:
        """Raises for complex numbers among the arguments or results."""
        for x in values:
            if x.dtype.kind == "c":
                raise DTypeError(
                    f"{self.name}: {self.of} has {x.dtype} arguments or results; take real and imaginary "
                    "parts apart, or use GradientTape.jacobian, by TensorFlow's convention"
                )

    # -- back to the caller ----------------------------------------------------------------------------------

    def back(self, x: Value, number: bool) -> Any:
        """A tensor as the caller wants it; number: as a Python number, if it has no axes."""
        t = recorded.convert_to_tensor(x)
        if not self.plain or isinstance(t, Batched) or is_followed(t):
            return t
        value = t._value
        return np.array(value) if value.ndim else value.item() if number else value[()]

    def in_places(self, leaves: Sequence[Any]) -> list[Any]:
        """One leaf for each primal, in the structures of the arguments."""
        waiting = iter(leaves)
        return [rebuild([next(waiting) for _ in range(n)]) for _, n, rebuild in self.places]

    def in_arguments(self, leaves: Sequence[Any]) -> Any:
        """The same for the caller: a tuple if argnums are several."""
        found = self.in_places(leaves)
        return tuple(found) if self.several else found[0]

    def like_arguments(self, tensors: Sequence[Value]) -> Any:
        """One tensor for each primal, as the caller wants them."""
        return self.in_arguments([self.back(x, n) for x, n in zip(tensors, self.numbers, strict=True)])

    def like_value(self, tensors: Sequence[Value]) -> Any:
        """One tensor for each leaf of the value, as the caller wants them."""
        return self.in_value([self.back(x, True) for x in tensors])

    def answer(self, *parts: Any) -> Any:
        """The parts as a tuple, or one by itself; with has_aux, what the function passed on comes last."""
        if self.has_aux:
            leaves, rebuild = unflattened(self.aux)
            parts = *parts, rebuild([self.back(x, True) if isinstance(x, Value) else x for x in leaves])
        return parts if len(parts) > 1 else parts[0]

    def fitted(self, what: str, of: str, given: Any, like: Any, leaves: Sequence[Tensor]) -> list[Tensor]:
        """The leaves of a cotangent or tangent, each of the shape and dtype of what it belongs to.

        like: the structure of `leaves`, an array where it is one.
        """
        own = [given] if isinstance(like, Value) else flatten(given)
        there, wanted = outline(given), outline(like)
        if there != wanted and not (isinstance(like, Value) and isinstance(given, (list, tuple))):
            raise StructureError(
                f"{self.name}: the {what} has structure {there}, the {of} {wanted}; they must agree"
            )
        return [self._direction(what, of, t, x) for t, x in zip(own, leaves, strict=True)]

    def _direction(self, what: str, of: str, given: Any, x: Tensor) -> Tensor:
        t = given if isinstance(given, Value) else _tensor(f"{self.name}: {what}", given)
        if t.shape != x.shape:
            raise ShapeError(
                f"{self.name}: the {what} has shape {t.shape}, the {of} {x.shape}; they must agree"
            )
        if t.dtype.kind == "c" and x.dtype.kind != "c":
            raise DTypeError(
                f"{self.name}: the {what} has dtype {t.dtype}, the {of} {x.dtype}; take its real part"
            )
        return recorded.cast(t, x.dtype)  # type: ignore[no-any-return]


def call_with_tangents(
    name: str, f: Function, argnums: Argnums, has_aux: bool, args: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[Call, list[Tensor]]:
    """The call, and the tangents of its primals, which stand behind the last argument to differentiate by."""
    if len(args) < 2:
        raise ArgumentError(
            f"{name}: wanted the arguments of {_named(f)} and a tangent, got {len(args)} positional "
            f"arguments; call it as {name}(f)(x, v)"
        )
    behind = 1 + max(_places(name, _named(f), argnums, len(args) - 1))
    call = Call(name, f, argnums, has_aux, (*args[:behind], *args[behind + 1 :]), keywords)
    tangent = args[behind]
    call.plain = call.plain and not _holds_tensor(tangent)
    return call, call.fitted("tangent", "argument", tangent, call.in_arguments(call.primals), call.primals)


def _numbers(name: str, argnums: Argnums) -> list[int]:
    """argnums as a list of integers."""
    given: Sequence[Any] = argnums if isinstance(argnums, (tuple, list)) else [argnums]
    if not given or not all(isinstance(i, (int, np.integer)) and not isinstance(i, bool) for i in given):
        raise ArgumentError(
            f"{name}: argnums is {argnums!r}; wanted an integer, or a tuple of them; what to "
            f"differentiate at goes to the function that {name} returns, {name}(f)(x)"
        )
    return [operator.index(i) for i in given]


def _places(name: str, of: str, argnums: Argnums, n: int) -> list[int]:
    """The positions to differentiate by, from 0, of n arguments."""
    numbers = _numbers(name, argnums)
    if not all(-n <= i < n for i in numbers):
        raise ArgumentError(
            f"{name}: argnums is {argnums!r}, but {of} was called with {n} positional arguments; only these "
            "can be differentiated"
        )
    places = [i % n for i in numbers]
    if len(set(places)) < len(places):
        raise ArgumentError(f"{name}: argnums is {argnums!r}, which names an argument twice")
    return places


def _tensor(what: str, x: Any) -> Tensor:
    """Numbers as a tensor; Python's real and complex ones in their own precision, which is double."""
    if isinstance(x, (list, tuple)) and any(isinstance(leaf, Value) for leaf in flatten(x)):
        return recorded.convert_to_tensor(x)  # type: ignore[no-any-return]
    try:
        array = as_array(x)
        if array.dtype == np.float32 and isinstance(x, (float, list, tuple)):
            array = as_array(x, np.dtype(np.float64))
    except (DTypeError, ShapeError) as problem:
        raise type(problem)(f"{what}: {problem}") from None
    return Tensor(array)


def _holds_tensor(x: Any) -> bool:
    return isinstance(x, Value) or (
        not isinstance(x, _NUMBERS) and any(isinstance(leaf, Value) for leaf in flatten(x))
    )


def _named(f: Function) -> str:
    return getattr(f, "__name__", None) or repr(f)


def _brief(x: Any) -> str:
    text = "None" if x is None else f"{type(x).__name__} {x!r}"
    return text if len(text) <= 60 else text[:57] + "..."
