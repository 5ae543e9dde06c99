"""An op for one call of a function that has a derivative of its own, and how it is told to the recorders."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np

from gradtape.batched import Batched, Mapping, alias, innermost, unbatched
from gradtape.errors import DTypeError, InPlaceError, ShapeError, StructureError
from gradtape.ops.op import Namespace, Op, raw, recorded
from gradtape.ops.rule import Rule
from gradtape.recorders import Recorder, access, listening
from gradtape.slices import IndexedSlices, densified
from gradtape.sweep import Cotangents
from gradtape.tensor import Array, Tensor, Value, Variable, convert_to_array

__all__ = [
    "Gradients",
    "Inside",
    "Like",
    "announce",
    "bare",
    "copied",
    "fitted",
    "like_of",
    "made_op",
    "name_of",
    "operands_of",
    "pair_of",
    "refuse_assigned",
    "result_of",
    "tensor_of",
]

# From the cotangents of all results (None where there is none) to those of all operands (None likewise, or
# IndexedSlices, which become dense where they are taken further).
Gradients: TypeAlias = Callable[[list[Tensor | None]], list[Any]]


class Like(NamedTuple):
    """The shape and dtype of a tensor that need not be kept."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"{self.dtype}{self.shape}"

    def zeros(self) -> Tensor:
        return Tensor(np.zeros(self.shape, self.dtype)[()])


def like_of(x: Value) -> Like:
    return Like(x.shape, x.dtype)


def name_of(f: Callable[..., Any]) -> str:
    return getattr(f, "__name__", type(f).__name__)


def made_op(name: str, operands: Sequence[Value], gradients: Gradients) -> Op:
    """An op for one call, whose rules are `gradients`, run once a sweep, within the maps of the call."""
    gradients = _within([m for m in listening() if isinstance(m, Mapping)], gradients)
    face = Op(name, gradients, (), "")  # that the rules know; if they knew the op itself, it would be a cycle
    op = Op(name, gradients, (), "")

    def found(g: list[Any], i: int) -> Any:
        of_all = getattr(g, "shared", None)
        if of_all is None:
            of_all = gradients([None if x is None else tensor_of(x) for x in g])
            if isinstance(g, Cotangents):
                g.shared = of_all
        return of_all[i]

    def rule(i: int) -> Rule:
        def pull(xp: Namespace, g: list[Any], _: None) -> Any:
            gradient = found(g, i)
            if isinstance(gradient, IndexedSlices):
                gradient = densified(gradient)
            return gradient._value if xp is raw and gradient is not None else gradient

        def pull_slices(xp: Namespace, g: list[Any], saved: None) -> Any:
            gradient = found(g, i)
            if not isinstance(gradient, IndexedSlices):
                return pull(xp, g, saved)
            if xp is raw:
                return raw.indexed_slices(gradient.values._value, gradient.indices._value, gradient.shape)
            return gradient

        made = Rule(face, i, pull, ())
        made.sparse = Rule(face, i, pull_slices, ())
        return made

    op.rules = tuple(rule(i) for i, x in enumerate(operands) if x.dtype.kind in "fc")
    return op


def _within(mappings: Sequence[Mapping], gradients: Gradients) -> Gradients:
    """The same within these mappings, since the function may have read what differs from example to example
    even where neither its operands nor its results do.
    """

    def found(cotangents: list[Tensor | None]) -> list[Tensor | None]:
        with contextlib.ExitStack() as entered:
            for mapping in mappings:
                if mapping not in listening():
                    entered.enter_context(mapping)
            return gradients(cotangents)

    return found if mappings else gradients


def announce(op: Op, operands: Sequence[Value], results: Sequence[Tensor]) -> list[Tensor]:
    """Tells all who listen that `op` made the results of the operands; returns the results.

    Where some differ from example to example all results do, and those who listen to all examples hear of an
    op on these.
    """
    if not any(type(x) is Batched for x in (*operands, *results)):
        _tell(listening(), op, operands, results)
        return list(results)
    mapping = innermost([*operands, *results])
    with mapping.outside():
        of_all = [cast(Tensor, unbatched(x, mapping)) for x in results]
    own: list[Tensor] = [
        x if _differs(x, mapping) else Batched(y, mapping) for x, y in zip(results, of_all, strict=True)
    ]
    _tell(mapping.inside(), op, operands, own)
    with mapping.outside():
        if listening():
            whole = [_all_of(x) if _differs(x, mapping) else x for x in operands]
            announce(_of_all_examples(op, mapping, operands, whole), whole, [_all_of(x) for x in own])
    return own


def _tell(listeners: Sequence[Recorder], op: Op, operands: Sequence[Value], results: Sequence[Value]) -> None:
    keys = (*(x._key for x in operands), tuple(x._key for x in results))
    values = (*(bare(x) for x in operands), tuple(bare(x) for x in results))
    for recorder in listeners:
        recorder.record(op, keys, values, False)


def bare(x: Value) -> Array:
    """The value as a record holds it."""
    return alias(x) if isinstance(x, Batched) else x._value


def _differs(x: Any, mapping: Mapping) -> bool:
    return type(x) is Batched and x.mapping is mapping


def _all_of(x: Any) -> Tensor:
    return cast(Batched, x).examples


def _of_all_examples(op: Op, mapping: Mapping, operands: Sequence[Value], whole: Sequence[Value]) -> Op:
    """The op of one example as one of all, by its rules within the mapping, which is entered once more."""
    differs = [_differs(x, mapping) for x in operands]
    gradients, jvp = op.forward, op.jvp

    def of_all(cotangents: list[Tensor | None]) -> list[Tensor | None]:
        with mapping:
            found = gradients([None if g is None else Batched(g, mapping) for g in cotangents])
        return [_for_all(g, mapping, own) for g, own in zip(found, differs, strict=True)]

    def jvp_of_all(xp: Namespace, tangents: Sequence[Any], values: Sequence[Any]) -> list[Any]:
        def each(x: Any, own: bool) -> Any:
            return None if x is None else Batched(tensor_of(x), mapping) if own else tensor_of(x)

        with mapping:
            found = cast(Callable[..., Any], jvp)(recorded, list(map(each, tangents, differs)), values)
        of_all = [unbatched(t, mapping) for t in found]
        return [t._value if xp is raw and t is not None else t for t in of_all]

    made = made_op(op.name, whole, of_all)
    made.jvp = None if jvp is None else jvp_of_all
    return made


def _for_all(g: Tensor | None, mapping: Mapping, differs: bool) -> Tensor | None:
    """A cotangent for all examples: with their axis in front, or summed over them for what they share."""
    whole = unbatched(g, mapping)
    return whole if whole is None or differs else recorded.reduce_sum(whole, 0)


class Inside:
    """Hears alone what runs inside a function, and finds what that reads of what those outside follow."""

    def __init__(self) -> None:
        self._outside = listening()
        self._live: set[int] = set()
        self.found: dict[int, Array] = {}

    def record(self, op: Op, keys: tuple[Any, ...], values: tuple[Any, ...], uniform: bool) -> None:
        read = [self.reads(keys[rule.index], values[rule.index]) for rule in op.rules]
        if any(read):
            key = keys[-1]
            self._live.update(key if type(key) is tuple else (key,))

    def reads(self, key: int, value: Array) -> bool:
        """Whether derivatives flow through the value of this key, which is noted if it is from outside."""
        if key not in self._live:
            if not self._is_followed(key, value):
                return False
            self._live.add(key)
            self.found[key] = value
        return True

    def _is_followed(self, key: int, value: Array) -> bool:
        while not self.follows(key):
            if not isinstance(value, Batched):
                return False
            key, value = value.examples._key, value.examples
        return True

    def accessed(self, variable: Variable) -> None:
        for recorder in self._outside:
            recorder.accessed(variable)

    def follows(self, key: int) -> bool:
        return key in self._live or any(recorder.follows(key) for recorder in self._outside)


def operands_of(leaves: Sequence[Any]) -> dict[int, Tensor]:
    """The tensors and variables among the leaves, as they are now, by place; variables count as read."""
    for x in leaves:
        if isinstance(x, Variable):
            access(x)
    return {i: alias(x) for i, x in enumerate(leaves) if isinstance(x, Value)}


def copied(x: Any) -> Any:
    """x, if it can be changed in place, as a copy."""
    if isinstance(x, Tensor):
        return alias(x)
    return x.copy() if isinstance(x, np.ndarray) else x


def refuse_assigned(what: str, leaves: Sequence[Any], before: Sequence[Any]) -> None:
    for x, old in zip(leaves, before, strict=True):
        if isinstance(x, Tensor) and x._key != old._key:
            raise InPlaceError(
                f"{what} assigns in place to a tensor of shape {x.shape} that it was given, which nobody "
                "outside would see; copy it first, t = gradtape.identity(t), and assign to the copy"
            )


def pair_of(answer: Any, wanted: str) -> tuple[Any, Any]:
    if isinstance(answer, (tuple, list)) and len(answer) == 2:
        return answer[0], answer[1]
    got = f"{len(answer)} values" if isinstance(answer, (tuple, list)) else type(answer).__name__
    raise StructureError(f"{wanted}, got {got}")


def tensor_of(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else Tensor(x)


def result_of(what: str, x: Any) -> Tensor:
    """One part of a result, under an identity of its own."""
    if isinstance(x, Value):
        return recorded.stop_gradient(x)  # type: ignore[no-any-return]
    try:
        return Tensor(convert_to_array(x))
    except (DTypeError, ShapeError) as problem:
        raise type(problem)(f"{what}: its result must consist of tensors: {problem}") from None


def fitted(what: str, x: Any, like: Like) -> Tensor:
    """x as a tensor of this shape and dtype; ShapeError or DTypeError if that is not to be had."""
    try:
        tensor: Tensor = recorded.convert_to_tensor(x)
    except (DTypeError, ShapeError) as problem:
        raise type(problem)(f"{what}: {problem}") from None
    if tensor.shape != like.shape:
        raise ShapeError(f"{what} has shape {tensor.shape}, wanted {like.shape}; reduce or reshape it")
    if tensor.dtype.kind == "c" and like.dtype.kind != "c":
        raise DTypeError(f"{what} has dtype {tensor.dtype}, wanted {like.dtype}; take its real part")
    return tensor if tensor.dtype == like.dtype else recorded.cast(tensor, like.dtype)
