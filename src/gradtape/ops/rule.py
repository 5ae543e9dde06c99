"""How derivatives go through one op: rules for cotangents and tangents, made of what a declaration says."""

import functools
import operator
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

from gradtape.batched import Batched
from gradtape.errors import ArgumentError, NoGradientError
from gradtape.ops.layout import Layout, unknown
from gradtape.ops.namespace import Namespace
from gradtape.tensor import with_key

if TYPE_CHECKING:
    from gradtape.ops.op import Op

__all__ = [
    "IS_KEPT",
    "IS_ONE",
    "LINEAR",
    "MULTILINEAR",
    "Forward",
    "Partial",
    "Rule",
    "diagonal_jvp",
    "identified",
    "jvp_of",
    "linear_jvp_of_list",
    "no_gradient",
    "parameters",
    "partial_rule",
    "vjp_rule",
    "with_saved",
]

# A partial derivative: a number, the name of the value that it is, or a function of what it needs.
Partial: TypeAlias = float | str | Callable[..., Any]
Forward: TypeAlias = Callable[..., Any]

IS_ONE, IS_KEPT = "one", "kept"  # what the factor of a rule can be

# What `jvp` can be: linear in all differentiable operands together, or in each by itself.
LINEAR, MULTILINEAR = "linear", "multilinear"


class Rule:
    """How a cotangent of an op's result becomes one of the operand at `index`.

    `pull(xp, g, saved)`: saved is the one value that the rule needs, or a tuple of them; `take` picks it from
    the values (or keys) of a record. `conjugate` is the same rule for complex values, by TensorFlow's
    convention that a gradient is the conjugate of the holomorphic derivative. `factor` tells a sweep of the
    two commonest products, by 1 and by the kept value, that need no call. `sparse` is the rule, if there is
    one, for an operand whose cotangent nothing will take further, so that it may be IndexedSlices.
    `rows(xp, d, saved)` is, if there is one, what `pull` makes of the cotangents d[i] e_i of a vector, all of
    them stacked, at the cost of no product; NotImplemented where there is no such way.
    """

    __slots__ = ("_conjugate", "factor", "index", "op", "place", "pull", "rows", "sparse", "take")

    def __init__(self, op: "Op", index: int, pull: Forward, positions: Sequence[int]) -> None:
        self.op = op
        self.index = index
        self.pull = pull
        self._conjugate: Rule | None = None  # none but itself, which would be a cycle
        self.factor: str | None = None
        self.sparse: Rule | None = None
        self.rows: Forward | None = None
        self.take: Any = itemgetter(*positions) if positions else None
        self.place: Any = positions[0] if len(positions) == 1 else None

    @property
    def conjugate(self) -> "Rule":
        return self._conjugate or self

    @conjugate.setter
    def conjugate(self, rule: "Rule") -> None:
        self._conjugate = rule

    def wrap(self, saved: Any, keys: tuple[int, ...]) -> Any:
        """What was saved, as tensors of their old identities, for a sweep that is itself recorded."""
        if self.take is None:
            return None
        if self.place is not None:
            return identified(saved, self.take(keys))
        return tuple(map(identified, saved, self.take(keys)))


def identified(value: Any, key: Any) -> Any:
    if type(key) is tuple:
        return tuple(map(identified, value, key))
    return with_key(value, key) if key and type(value) is not Batched else value


# -- for cotangents ------------------------------------------------------------------------------------------


def parameters(function: Callable[..., Any]) -> list[str]:
    """The names of a plain function's parameters; a fraction of what inspect.signature costs on import."""
    code = getattr(function, "__code__", None)
    if code is None:
        raise ArgumentError(
            f"wanted a function by def or lambda, since its parameters say what it needs, got {function!r}"
        )
    return list(code.co_varnames[: code.co_argcount])


def partial_rule(op: "Op", index: int, partial: Partial, names: Sequence[str]) -> Rule:
    if isinstance(partial, str):
        positions = [_place(op.name, names, partial)]
        rule = Rule(op, index, lambda xp, g, s: g * s, positions)
        rule.conjugate = Rule(op, index, lambda xp, g, s: g * xp.conj(s), positions)
        rule.factor = IS_KEPT
        return rule
    if not callable(partial):
        factor = partial
        if factor == 1:
            rule = Rule(op, index, lambda xp, g, _: g, ())
            rule.factor = IS_ONE
            return rule
        if factor == -1:
            return Rule(op, index, lambda xp, g, _: -g, ())
        return Rule(op, index, lambda xp, g, _: g * factor, ())
    needs = parameters(partial)[1:]
    whole = needs[:1] == ["g"]
    positions = [_place(op.name, names, need) for need in needs[whole:]]
    if whole:
        rule = with_saved(op, index, partial, positions)
        rule.conjugate = Rule(op, index, lambda xp, g, s: xp.conj(rule.pull(xp, xp.conj(g), s)), positions)
    elif len(positions) == 1:
        rule = Rule(op, index, lambda xp, g, s: g * partial(xp, s), positions)
        rule.conjugate = Rule(op, index, lambda xp, g, s: g * xp.conj(partial(xp, s)), positions)
    else:
        rule = Rule(op, index, lambda xp, g, s: g * partial(xp, *s), positions)
        rule.conjugate = Rule(op, index, lambda xp, g, s: g * xp.conj(partial(xp, *s)), positions)
    return rule


def _place(name: str, names: Sequence[str], need: str) -> int:
    """Where the value that a partial derivative names stands: an operand, or the result."""
    if need != "out" and need not in names:
        raise unknown(name, need, names)
    return -1 if need == "out" else names.index(need)


def with_saved(op: "Op", index: int, vjp: Forward, positions: Sequence[int]) -> Rule:
    """The rule `vjp(xp, g, ...)`, given what stands at `positions`."""
    if len(positions) == 1:
        return Rule(op, index, vjp, positions)
    if not positions:
        return Rule(op, index, lambda xp, g, _: vjp(xp, g), ())
    return Rule(op, index, lambda xp, g, s: vjp(xp, g, *s), positions)


def no_gradient(name: str) -> Forward:
    def vjp(xp: Namespace, g: Any) -> Any:
        raise NoGradientError(
            f"{name} has no derivative rule, and lies on the path from a source to the target; "
            "compute that part another way, or cut it off with stop_gradient"
        )

    return vjp


def vjp_rule(op: "Op", index: int, vjp: Forward, layout: Layout) -> Rule:
    needs = parameters(vjp)
    if len(needs) < 2:
        raise ArgumentError(f"{op.name}: a rule of vjp takes ({', '.join(needs)}); wanted (xp, g, ...)")
    positions = [layout.position(need) for need in needs[2:]]
    return with_saved(op, index, vjp, positions)


# -- for tangents --------------------------------------------------------------------------------------------


def diagonal_jvp(op: "Op", xp: Namespace, tangents: Sequence[Any], values: Sequence[Any]) -> Any:
    """The tangent of an elementwise op: its reverse rules are diagonal, and so their own transposes."""
    parts = [
        rule.pull(xp, tangents[rule.index], rule.take and rule.take(values))
        for rule in op.rules
        if tangents[rule.index] is not None
    ]
    return functools.reduce(operator.add, parts)


def jvp_of(op: "Op", jvp: Forward | str | None, layout: Layout) -> Forward | None:
    """The tangent of the result, as Op.jvp says, from what `op` was given."""
    n, total = layout.operands, len(layout.names)
    if callable(jvp):
        rule = jvp
        positions = [layout.position(need) for need in parameters(rule)[2:]]
        return lambda xp, tangents, values: rule(
            xp, tangents[0] if n == 1 else tangents, *(values[i] for i in positions)
        )
    differentiable = [rule.index for rule in op.rules]

    def linear(xp: Namespace, tangents: Sequence[Any], values: Sequence[Any]) -> Any:
        operands = list(values[:n])
        for i in differentiable:
            if operands[i] is not None:
                operands[i] = xp.zeros_like(operands[i]) if tangents[i] is None else tangents[i]
        return getattr(xp, op.name)(*operands, *values[n:total])

    def multilinear(xp: Namespace, tangents: Sequence[Any], values: Sequence[Any]) -> Any:
        given, forward = list(values[:total]), getattr(xp, op.name)
        parts = [
            forward(*given[:i], tangents[i], *given[i + 1 :])
            for i in differentiable
            if tangents[i] is not None
        ]
        return functools.reduce(operator.add, parts)

    if jvp is None:
        return None
    if jvp not in (LINEAR, MULTILINEAR):
        raise ArgumentError(f"{op.name}: jvp is {jvp!r}; wanted LINEAR, MULTILINEAR, a rule or None")
    return linear if jvp == LINEAR else multilinear


def linear_jvp_of_list(name: str, layout: Layout) -> Forward:
    statics = len(layout.names) - 1

    def linear(xp: Namespace, tangents: Sequence[Any], values: Sequence[Any]) -> Any:
        n = len(tangents)
        operands = [xp.zeros_like(x) if t is None else t for x, t in zip(values[:n], tangents, strict=True)]
        return getattr(xp, name)(operands, *values[n : n + statics])

    return linear
