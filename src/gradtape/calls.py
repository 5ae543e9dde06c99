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
from gradtape.structure import flatten, unflattened
from gradtape.tape import GradientTape
from gradtape.tensor import Tensor, Value, as_array

__all__ = ["Argnums", "Call", "Function", "face", "fitting", "with_tangents"]

Function: TypeAlias = Callable[..., Any]
Argnums: TypeAlias = int | Sequence[int]


def face(name: str, f: Function, transformed: Function) -> Function:
    """`transformed`, under a name that says what it is of what; ArgumentError if `f` is no function."""
    if not callable(f):
        raise ArgumentError(f"{name}: wanted a function to differentiate, got {_brief(f)}")
    transformed.__name__ = transformed.__qualname__ = f"{name}({named(f)})"
    transformed.__doc__ = f"What gradtape.{name} makes of {named(f)}."
    return transformed


class Call:
    """One call of a transformed function: what to differentiate by, and how results go back to the caller.

    primals: the leaves of the arguments at argnums, each as a tensor of its own; plain: whether the caller
    gave no tensors, and so gets none.
    """

    def __init__(
        self, name: str, f: Function, argnums: Argnums, args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> None:
        self.name = name
        self.f = f
        self.keywords = keywords
        self.several = not isinstance(argnums, (int, np.integer))
        self.places = _places(name, f, argnums, len(args))
        self.plain = not any(isinstance(x, Value) for x in flatten([args, keywords]))
        self.primals: list[Tensor] = []
        self.numbers: list[bool] = []  # which of them came as Python numbers
        self.rebuilds: list[tuple[int, Callable[[list[Any]], Any]]] = []
        self.args = list(args)
        for place in self.places:
            leaves, rebuild = unflattened(args[place])
            own = [_primal(name, f, place, x) for x in leaves]
            self.primals += own
            self.numbers += [type(x) in (float, complex) for x in leaves]
            self.rebuilds.append((len(own), rebuild))
            self.args[place] = rebuild(own)
        self.rebuild_result: Callable[[list[Any]], Any] = list

    def results(self, has_aux: bool) -> tuple[list[Tensor], Callable[[], Any], Callable[[], Any]]:
        """The leaves of what `f` returns; the value and the rest for the caller, when they are asked for."""
        result = self.f(*self.args, **self.keywords)
        aux = None
        if has_aux:
            if not isinstance(result, (tuple, list)) or len(result) != 2:
                raise StructureError(
                    f"{self.name}: with has_aux {named(self.f)} must return a pair, (value, aux), not "
                    f"{_brief(result)}"
                )
            result, aux = result
        leaves, self.rebuild_result = unflattened(result)
        if not leaves or any(x is None for x in leaves):
            raise NotATensorError(
                f"{self.name}: {named(self.f)} returned {_brief(result)}; return what to differentiate"
            )
        if not any(isinstance(x, Value) for x in leaves):
            raise LeavesTapeError(
                f"{self.name}: {named(self.f)} returned {_brief(result)}, which is no tensor and so "
                "has no derivative: math.sin, float() and np.array([...]) leave the tape (not so np.sin and "
                "np.stack); return gradtape.constant(...) if it is meant to be constant"
            )
        ys = [recorded.convert_to_tensor(_float64(x)) for x in leaves]

        def value() -> Any:
            return self.like_results([self.back(y, True) for y in ys])

        def rest() -> Any:
            found, rebuild = unflattened(aux)
            return rebuild([self.back(x, True) if isinstance(x, Value) else x for x in found])

        return ys, value, rest

    def gradients(self, has_aux: bool) -> tuple[list[Tensor], Callable[[], Any]]:
        """The gradients by the primals, recorded by all who listen, and the rest of what `f` returned."""
        with GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.primals)
            (y,), _, aux = self.results(has_aux)
            self.require_scalar(y)
        found = tape.gradient(y, self.primals, unconnected_gradients="zero")
        return [recorded.convert_to_tensor(g) for g in found], aux

    def require_scalar(self, y: Tensor) -> None:
        """Raises unless `f` returned one real or complex number."""
        if y.shape:
            raise NotScalarError(
                f"{self.name}: {named(self.f)} returned shape {y.shape}, wanted one number, shape (); sum "
                "it, or use jacobian or vjp"
            )
        if y.dtype.kind not in "fc":
            raise DTypeError(
                f"{self.name}: {named(self.f)} returned {y.dtype}, which has no derivative; wanted a real "
                "number"
            )

    def require_real(self, ys: Sequence[Value]) -> None:
        """Raises for complex numbers among the arguments or results."""
        for x in [*self.primals, *ys]:
            if x.dtype.kind == "c":
                raise DTypeError(
                    f"{self.name}: {named(self.f)} has {x.dtype} arguments or results; take real and "
                    "imaginary parts apart, or use GradientTape.jacobian, by TensorFlow's convention"
                )

    def back(self, x: Value, number: bool) -> Any:
        """A tensor as the caller wants it; number: as a Python number, if it has no axes."""
        t = recorded.convert_to_tensor(x)
        if not self.plain or isinstance(t, Batched) or is_followed(t):
            return t
        value = t._value
        return np.array(value) if value.ndim else value.item() if number else value[()]

    def like_arguments(self, leaves: Sequence[Any]) -> Any:
        """One leaf for each primal, in the structure of the arguments."""
        waiting = iter(
            [
                self.back(x, n) if isinstance(x, Value) else x
                for x, n in zip(leaves, self.numbers, strict=True)
            ]
        )
        found = [rebuild([next(waiting) for _ in range(n)]) for n, rebuild in self.rebuilds]
        return tuple(found) if self.several else found[0]

    def like_results(self, leaves: Sequence[Any]) -> Any:
        """One leaf for each result, in the structure of the results."""
        return self.rebuild_result([self.back(x, True) if isinstance(x, Value) else x for x in leaves])


def with_tangents(
    name: str, f: Function, argnums: Argnums, args: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[Call, list[Tensor]]:
    """The call, and the tangents of its primals, which stand behind the last argument to differentiate by."""
    if len(args) < 2:
        raise ArgumentError(
            f"{name}: wanted the arguments of {named(f)} and a tangent, got {len(args)} arguments; call it "
            f"as {name}(f)(x, v)"
        )
    behind = 1 + max(_places(name, f, argnums, len(args) - 1))
    call = Call(name, f, argnums, (*args[:behind], *args[behind + 1 :]), keywords)
    tangent = args[behind]
    if any(isinstance(x, Value) for x in flatten(tangent)):
        call.plain = False
    given = tuple(call.args[place] for place in call.places)
    like = given if call.several else given[0]
    return call, fitting(name, "tangent", "argument", tangent, like, call.primals)


def fitting(name: str, what: str, of: str, given: Any, like: Any, leaves: Sequence[Tensor]) -> list[Tensor]:
    """The leaves of a cotangent or tangent, each of the shape and dtype of what it belongs to."""
    import optree

    own, shape = optree.tree_flatten(given, none_is_leaf=True)
    if len(leaves) == 1 and isinstance(like, (Value, np.ndarray, float, complex)):
        own = [given]
    elif shape != optree.tree_structure(like, none_is_leaf=True):
        raise StructureError(
            f"{name}: a {what} of structure {shape}, for a {of} of structure "
            f"{optree.tree_structure(like, none_is_leaf=True)}; they must agree"
        )
    found = []
    for t, x in zip(own, leaves, strict=True):
        t = t if isinstance(t, Value) else Tensor(as_array(t))
        if t.shape != x.shape:
            raise ShapeError(f"{name}: a {what} of shape {t.shape} for a {of} of shape {x.shape}")
        if t.dtype.kind == "c" and x.dtype.kind != "c":
            raise DTypeError(
                f"{name}: a {what} of dtype {t.dtype} for a {of} of {x.dtype}; take its real part"
            )
        found.append(recorded.cast(t, x.dtype))
    return found


def _places(name: str, f: Function, argnums: Argnums, n: int) -> list[int]:
    """The positions to differentiate by, from 0, of n arguments."""
    wanted: Sequence[Any] = argnums if isinstance(argnums, (tuple, list)) else [argnums]
    try:
        given = [operator.index(i) for i in wanted]
    except TypeError:
        raise ArgumentError(
            f"{name}: argnums is {argnums!r}; wanted an integer, or a tuple of them"
        ) from None
    wrong = [i for i in given if not -n <= i < n]
    if wrong or not given:
        raise ArgumentError(
            f"{name}: argnums is {argnums!r}, but {named(f)} was called with {n} positional arguments; only "
            "these can be differentiated"
        )
    places = [i % n for i in given]
    if len(set(places)) < len(places):
        raise ArgumentError(f"{name}: argnums is {argnums!r}, which names an argument twice")
    return places


def _primal(name: str, f: Function, place: int, x: Any) -> Tensor:
    """One leaf of an argument as a tensor of its own; Python numbers are in double precision, as in NumPy."""
    what = f"{name}: argument {place} of {named(f)}"
    if isinstance(x, Value):
        t: Tensor = recorded.identity(x)
    elif isinstance(x, (float, complex, int, np.ndarray, np.generic)):
        t = Tensor(as_array(_float64(x)))
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


def _float64(x: Any) -> Any:
    """Python's real and complex numbers in their own precision, which is double."""
    return np.asarray(x)[()] if type(x) in (float, complex) else x


def named(f: Function) -> str:
    return getattr(f, "__name__", None) or repr(f)


def _brief(x: Any) -> str:
    text = "None" if x is None else f"{type(x).__name__} {x!r}"
    return text if len(text) <= 60 else text[:57] + "..."
