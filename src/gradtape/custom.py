"""Derivatives of one's own: a rule for gradients, or for tangents, in place of those of a function's ops."""

import functools
import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar, cast

from gradtape.announce import (
    Inside,
    Like,
    announce,
    bare,
    copied,
    fitted,
    like_of,
    made_op,
    name_of,
    operands_of,
    pair_of,
    refuse_assigned,
    result_of,
    tensor_of,
)
from gradtape.batched import alias, alone, is_followed
from gradtape.errors import (
    ArgumentError,
    DTypeError,
    LeavesTapeError,
    NoGradientError,
    ShapeError,
    StructureError,
)
from gradtape.ops.op import Namespace, Op, raw
from gradtape.recorders import listening, pop, push
from gradtape.replay import Noting, Pinned
from gradtape.structure import flatten, unflattened
from gradtape.tape import GradientTape
from gradtape.tensor import Tensor, Value, Variable, convert_to_array

__all__ = ["custom_gradient", "custom_jvp"]

P = ParamSpec("P")
R = TypeVar("R")


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
    operands = operands_of(leaves)
    watcher = _Accessed()
    push(watcher)
    try:
        with Noting() as notes:
            answer = f(*args, **keywords)
    finally:
        pop(watcher)
    result, grad_fn = pair_of(answer, f"{what}: wanted (result, grad_fn) returned")
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
    results = [result_of(what, x) for x in flat]
    likes = [like_of(x) for x in results]
    places = {i: like_of(x) for i, x in operands.items()}
    count, seen = len(leaves), notes.last

    def gradients(cotangents: list[Tensor | None]) -> list[Tensor | None]:
        filled = [like.zeros() if g is None else g for g, like in zip(cotangents, likes, strict=True)]
        more: list[Any] = []
        with Pinned(seen):
            if variables:
                pair = grad_fn(*filled, variables=list(variables))
                found, more = pair_of(
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
    return None if g is None or like.dtype.kind not in "fc" else fitted(what, g, like)


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
        if not callable(rule):
            raise ArgumentError(f"custom_jvp: {name_of(self._f)}: wanted a rule, got {type(rule).__name__}")
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
        try:
            bound = inspect.signature(f).bind(*args, **keywords)
        except TypeError as problem:
            raise TypeError(f"{what}: {problem}") from None
        if bound.kwargs:
            raise StructureError(f"{what}: {', '.join(bound.kwargs)} cannot be given by position; let it be")
        args = bound.args
    if not listening():
        return f(*args)
    leaves, rebuild = unflattened(args)
    kept = [copied(x) for x in leaves]
    operands = operands_of(leaves)
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
    results = [result_of(what, x) for x in flat]
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
        given = {i: tensor_of(t) for i, t in zip(places, tangents, strict=False) if t is not None}
        pushed = _pushed(what, rule, rebuild, primals, given, likes)
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
    out, tangent = pair_of(answer, f"{what}: wanted (out, tangent_out) returned by its rule")
    for part, found in (("out", flatten(out)), ("tangent_out", flatten(tangent))):
        if len(found) != len(likes):
            raise StructureError(
                f"{what}: {part} of its rule has {len(found)} parts, the function's result {len(likes)}"
            )
    for i, (x, like) in enumerate(zip(flatten(out), likes, strict=True)):
        fitted(f"{what}: part {i} of its rule's out", x, like)
    return [
        fitted(f"{what}: part {i} of its rule's tangent_out", t, like)
        if like.dtype.kind in "fc"
        else like.zeros()
        for i, (t, like) in enumerate(zip(flatten(tangent), likes, strict=True))
    ]


def _no_tangent(x: Any) -> Tensor | None:
    """Zeros like a number or an array; None for anything else."""
    try:
        return like_of(x if isinstance(x, Value) else Tensor(convert_to_array(x))).zeros()
    except (DTypeError, ShapeError):
        return None
