"""Derivatives of one's own: a rule for gradients, or for tangents, in place of those of a function's ops."""

import functools
import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeAlias, TypeVar, cast

import numpy as np

from gradtape.batched import Batched, Mapping, alias, alone, innermost, is_followed, unbatched
from gradtape.errors import (
    ArgumentError,
    DTypeError,
    InPlaceError,
    LeavesTapeError,
    NoGradientError,
    ShapeError,
    StructureError,
)
from gradtape.ops.op import Namespace, Op, Rule, raw, recorded
from gradtape.recorders import Recorder, access, listening, pop, push
from gradtape.replay import Noting, Pinned
from gradtape.structure import flatten, unflattened
from gradtape.sweep import Cotangents
from gradtape.tape import GradientTape
from gradtape.tensor import Array, Tensor, Value, Variable, convert_to_array

__all__ = [
    "Inside",
    "Like",
    "announce",
    "bare",
    "copied",
    "custom_gradient",
    "custom_jvp",
    "like_of",
    "made_op",
    "name_of",
    "refuse_assigned",
]

P = ParamSpec("P")
R = TypeVar("R")
# From the cotangents of all results (None where there is none) to those of all operands (None likewise).
Gradients: TypeAlias = Callable[[list[Tensor | None]], list[Tensor | None]]


# -- by a rule for gradients ---------------------------------------------------------------------------------


def custom_gradient(f: Callable[P, tuple[R, Callable[..., Any]]]) -> Callable[P, R]:
    """A function that returns its result and the rule for its gradient, as one that returns the result.

    f(*args, **keywords) returns (result, grad_fn); arguments and result may be nested structures.
    grad_fn(*cotangents) gets a tensor for each part of the result, zeros where nothing depends on it, and
    returns a gradient for each part of the positional arguments, of its shape: None for no derivative, and
    for what is no tensor; a lone one needs no list. If f reads trainable variables that are not among its
    arguments, grad_fn(*cotangents, variables=...) gets them as a list, in the order of their creation, and
    returns (gradients, variable_gradients). It sees variables as they were when f ran. A rule can be
    differentiated again, by its ops or by a custom gradient of its own; tensors that f closes over have no
    derivative but what the rule makes of them.

    Raises StructureError for another number of gradients, ShapeError and DTypeError for those that do not
    fit (a real one of another dtype is cast), LeavesTapeError if a tape follows a keyword argument.

    >>> @gt.custom_gradient
    ... def log1pexp(x):
    ...     e = gt.exp(x)
    ...     return gt.math.log(1.0 + e), lambda g: g * (1.0 - 1.0 / (1.0 + e))
    >>> x = gt.constant(80.0)
    >>> with gt.GradientTape() as tape:
    ...     tape.watch(x)
    ...     y = log1pexp(x)
    >>> print(tape.gradient(y, x))
    tf.Tensor(1.0, shape=(), dtype=float32)
    """
    return cast(Callable[P, R], CustomGradient(f))


def _with_gradient(f: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    what = f"custom_gradient: {name_of(f)}"
    for keyword, value in keywords.items():
        for x in flatten(value):
            if isinstance(x, Tensor) and is_followed(x):
                raise LeavesTapeError(
                    f"{what} was given {keyword}= a tensor of shape {x.shape} that a tape follows, and has "
                    "gradients for positional arguments only; give it by position, or cut it off with "
                    "stop_gradient"
                )
    leaves = flatten(args)
    operands = _operands(leaves)
    watcher = _Accessed()
    push(watcher)
    try:
        with Noting() as notes:
            answer = f(*args, **keywords)
    finally:
        pop(watcher)
    result, grad_fn = _pair(answer, f"{what}: wanted (result, grad_fn) returned")
    if not callable(grad_fn):
        raise StructureError(f"{what}: wanted a function for grad_fn, got {type(grad_fn).__name__}")
    given = {x._key for x in operands.values()}
    variables = [
        v for key, v in sorted(watcher.variables.items())
        if key not in given and (v.trainable or is_followed(v))
    ]  # fmt: skip
    if variables and not _takes_variables(grad_fn):
        raise StructureError(
            f"{what} reads variables that are not among its arguments "
            f"({', '.join(v.name for v in variables)}); let its grad_fn take variables= and return "
            "(gradients, variable_gradients), or give the variables by position"
        )
    flat, rebuild = unflattened(result)
    results = [_result(what, x) for x in flat]
    likes = [like_of(x) for x in results]
    places = {i: like_of(x) for i, x in operands.items()}
    count, seen = len(leaves), notes.last

    def gradients(cotangents: list[Tensor | None]) -> list[Tensor | None]:
        filled = [like.zeros() if g is None else g for g, like in zip(cotangents, likes, strict=True)]
        more: list[Any] = []
        with Pinned(seen):
            if variables:
                pair = grad_fn(*filled, variables=list(variables))
                found, more = _pair(
                    pair, f"{what}: wanted (gradients, variable_gradients) returned by grad_fn"
                )
                more = _counted(f"{what}: variable_gradients", more, len(variables), "variable")
            else:
                found = grad_fn(*filled)
        found = _counted(f"{what}: gradients", found, count, "part of the positional arguments")
        return [
            *(_gradient(f"{what}: gradient {i}", found[i], like) for i, like in places.items()),
            *(
                _gradient(f"{what}: gradient of {v.name}", g, like_of(v))
                for v, g in zip(variables, more, strict=True)
            ),
        ]

    operated = [*operands.values(), *map(alias, variables)]
    return rebuild(announce(made_op(name_of(f), operated, gradients), operated, results))


class _Accessed:
    """Hears which variables are read, and nothing else."""

    def __init__(self) -> None:
        self.variables: dict[int, Variable] = {}

    def record(self, op: Op, keys: tuple[Any, ...], values: tuple[Any, ...], uniform: bool) -> None: ...

    def accessed(self, variable: Variable) -> None:
        self.variables[variable._key] = variable

    def follows(self, key: int) -> bool:
        return False


def _takes_variables(grad_fn: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(grad_fn).parameters
    except ValueError:  # a function of C's, which tells no signature
        return False
    return "variables" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _gradient(what: str, g: Any, like: "Like") -> Tensor | None:
    return None if g is None or like.dtype.kind not in "fc" else _fitted(what, g, like)


def _counted(what: str, found: Any, count: int, each: str) -> list[Any]:
    """The parts of `found`, or StructureError if they are not `count`."""
    flat = flatten(found)
    if len(flat) != count:
        raise StructureError(
            f"{what}: got {len(flat)} from grad_fn, wanted {count}, one for each {each}; "
            "None stands for no derivative"
        )
    return flat


# -- by a rule for tangents ----------------------------------------------------------------------------------


def custom_jvp(f: Callable[..., Any]) -> "CustomJvp":
    """A function whose derivative is told by how tangents go through it; its `defjvp` takes that rule.

    The rule gets (primals, tangents), tuples in the structure of f's arguments, and returns
    (out, tangent_out), in the structure of f's result, linear in the tangents; tangents that there are not
    are zeros, and None for what is no number. Forward mode runs the rule, reverse mode transposes it, which
    its ops must allow. Variables and tensors are to be given as arguments: LeavesTapeError if f reads
    another that a tape follows.

    Raises NoGradientError if there is no rule; StructureError, ShapeError or DTypeError if what the rule
    returns is not like what f does.

    >>> @gt.custom_jvp
    ... def log1pexp(x):
    ...     return gt.math.log(1.0 + gt.exp(x))
    >>> @log1pexp.defjvp
    ... def log1pexp_jvp(primals, tangents):
    ...     (x,), (t,) = primals, tangents
    ...     return log1pexp(x), gt.sigmoid(x) * t
    >>> x = gt.constant(80.0)
    >>> with gt.GradientTape() as tape:
    ...     tape.watch(x)
    ...     y = log1pexp(x)
    >>> print(tape.gradient(y, x))
    tf.Tensor(1.0, shape=(), dtype=float32)
    """
    return CustomJvp(f)


class _Custom:
    """What a function with a derivative of its own becomes; a method's object is none of its arguments."""

    def __init__(self, f: Callable[..., Any]) -> None:
        if not callable(f):
            decorator = "custom_jvp" if isinstance(self, CustomJvp) else "custom_gradient"
            raise ArgumentError(f"{decorator}: wanted a function, got {type(f).__name__}")
        functools.update_wrapper(cast(Callable[..., Any], self), f)
        self._f = f

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return self if owner is None else type(self)(types.MethodType(self._f, owner))


class CustomGradient(_Custom):
    """What `custom_gradient` makes of a function."""

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return _with_gradient(self._f, args, keywords)


class CustomJvp(_Custom):
    """What `custom_jvp` makes of a function."""

    _rule: Callable[..., Any] | None = None

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return _with_jvp(self._f, self._rule, args, keywords)

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        bound = super().__get__(owner, kind)
        if owner is not None and self._rule is not None:
            bound._rule = types.MethodType(self._rule, owner)
        return bound

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Takes `rule(primals, tangents)`, which returns (out, tangent_out); returns it.

        >>> double = gt.custom_jvp(lambda x: 2.0 * x)
        >>> rule = double.defjvp(lambda primals, tangents: (2.0 * primals[0], 2.0 * tangents[0]))
        """
        self._rule = rule
        return rule


def _with_jvp(
    f: Callable[..., Any], rule: Callable[..., Any] | None, args: tuple[Any, ...], keywords: dict[str, Any]
) -> Any:
    name = name_of(f)
    what = f"custom_jvp: {name}"
    if rule is None:
        raise NoGradientError(f"{what} has no rule for tangents; give it one with @{name}.defjvp")
    if keywords:
        bound = inspect.signature(f).bind(*args, **keywords)
        if bound.kwargs:
            raise StructureError(f"{what}: {', '.join(bound.kwargs)} cannot be given by position; let it be")
        args = bound.args
    if not listening():
        return f(*args)
    leaves, rebuild = unflattened(args)
    kept = [copied(x) for x in leaves]
    operands = _operands(leaves)
    inside = Inside()
    with alone(inside), Noting() as notes:
        out = f(*args)
    refuse_assigned(what, leaves, kept)
    flat, rebuild_result = unflattened(out)
    for x in flat:
        if isinstance(x, Value):
            inside.reads(x._key, bare(x))
    strays = inside.found.keys() - {x._key for x in operands.values()}
    if strays:
        shapes = ", ".join(str(inside.found[key].shape) for key in sorted(strays))
        raise LeavesTapeError(
            f"{what} reads values of shape {shapes} that a tape follows and that are not among its "
            "arguments, so that its rule cannot tell their derivatives; give them as arguments"
        )
    results = [_result(what, x) for x in flat]
    likes = [like_of(x) for x in results]
    primals = [operands.get(i, x) for i, x in enumerate(kept)]
    places, seen = list(operands), notes.last

    def gradients(cotangents: list[Tensor | None]) -> list[Tensor | None]:
        seeds = {i: like_of(primals[i]).zeros() for i in places if primals[i].dtype.kind in "fc"}
        sources = list(seeds.values())
        with GradientTape(watch_accessed_variables=False) as tape, Pinned(seen):
            tape.watch(sources)
            tangents = _pushed(what, rule, rebuild, primals, seeds, likes)
        reached = [(t, g) for t, g in zip(tangents, cotangents, strict=True) if g is not None]
        found = tape.gradient([t for t, _ in reached], sources, output_gradients=[g for _, g in reached])
        by_place = dict(zip(seeds, found, strict=True))
        return [by_place.get(i) for i in places]

    def jvp(xp: Namespace, tangents: Sequence[Any], values: Sequence[Any]) -> list[Any]:
        there = primals.copy()
        for i, value in zip(places, values, strict=False):
            there[i] = _tensor(value)
        given = {i: _tensor(t) for i, t in zip(places, tangents, strict=False) if t is not None}
        pushed = _pushed(what, rule, rebuild, there, given, likes)
        return [t._value if xp is raw else t for t in pushed]

    op = made_op(name, list(operands.values()), gradients)
    op.jvp = jvp
    return rebuild_result(announce(op, list(operands.values()), results))


def _pushed(
    what: str,
    rule: Callable[..., Any],
    rebuild: Callable[[list[Any]], Any],
    primals: list[Any],
    tangents: dict[int, Tensor],
    likes: list["Like"],
) -> list[Tensor]:
    """The tangents of the results, by the rule, from those of the primals at some places."""
    filled = [tangents[i] if i in tangents else _no_tangent(x) for i, x in enumerate(primals)]
    answer = rule(rebuild(primals), rebuild(filled))
    out, tangent = _pair(answer, f"{what}: wanted (out, tangent_out) returned by its rule")
    for part, found in (("out", flatten(out)), ("tangent_out", flatten(tangent))):
        if len(found) != len(likes):
            raise StructureError(
                f"{what}: {part} of its rule has {len(found)} parts, the function's result {len(likes)}"
            )
    for i, (x, like) in enumerate(zip(flatten(out), likes, strict=True)):
        _fitted(f"{what}: part {i} of its rule's out", x, like)
    return [
        _fitted(f"{what}: part {i} of its rule's tangent_out", t, like)
        if like.dtype.kind in "fc"
        else like.zeros()
        for i, (t, like) in enumerate(zip(flatten(tangent), likes, strict=True))
    ]


def _no_tangent(x: Any) -> Tensor | None:
    """Zeros like a number or an array; None for anything else."""
    try:
        return like_of(Tensor(convert_to_array(x))).zeros()
    except (DTypeError, ShapeError):
        return None


# -- what they share -----------------------------------------------------------------------------------------


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
    """An op for one call, whose rules are `gradients`, run once in each sweep."""
    face = Op(name, gradients, (), "")  # that the rules know; if they knew the op itself, it would be a cycle
    op = Op(name, gradients, (), "")

    def rule(i: int) -> Rule:
        def pull(xp: Namespace, g: list[Any], _: None) -> Any:
            found = getattr(g, "shared", None)
            if found is None:
                found = gradients([None if x is None else _tensor(x) for x in g])
                if isinstance(g, Cotangents):
                    g.shared = found
            gradient = found[i]
            return gradient._value if xp is raw and gradient is not None else gradient

        return Rule(face, i, pull, ())

    op.rules = tuple(rule(i) for i, x in enumerate(operands) if x.dtype.kind in "fc")
    return op


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
            return None if x is None else Batched(_tensor(x), mapping) if own else _tensor(x)

        with mapping:
            given = [list(map(each, xs, differs)) for xs in (tangents, values)]
            found = cast(Callable[..., Any], jvp)(recorded, *given)
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


def _operands(leaves: Sequence[Any]) -> dict[int, Tensor]:
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
                f"{what} assigns in place to a tensor of shape {x.shape} that it was given, which no tape "
                "sees; copy it first, t = gradtape.identity(t), and assign to the copy"
            )


def _pair(answer: Any, wanted: str) -> tuple[Any, Any]:
    if isinstance(answer, (tuple, list)) and len(answer) == 2:
        return answer[0], answer[1]
    got = f"{len(answer)} values" if isinstance(answer, (tuple, list)) else type(answer).__name__
    raise StructureError(f"{wanted}, got {got}")


def _tensor(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else Tensor(x)


def _result(what: str, x: Any) -> Tensor:
    """One part of a result, under an identity of its own."""
    if isinstance(x, Value):
        return recorded.stop_gradient(x)  # type: ignore[no-any-return]
    try:
        return Tensor(convert_to_array(x))
    except (DTypeError, ShapeError) as problem:
        raise type(problem)(f"{what}: its result must consist of tensors: {problem}") from None


def _fitted(what: str, x: Any, like: Like) -> Tensor:
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
