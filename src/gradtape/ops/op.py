"""What an op is: one declaration with its forward, its derivative rules and what they need kept.

A rule is written against a namespace, `xp`, whose attributes are the ops by name: `raw` works on bare arrays,
`recorded` on tensors that the recorders of this thread hear of. A rule's parameters say what it needs: the
names of operands and static attributes of the forward, `out` for the result, and `x_shape` or `x_dtype` for
no more than the shape or dtype of operand `x`. A record keeps those, and nothing else.

    @elementwise(np.sin, lambda xp, x: xp.cos(x))            # the partial derivative
    def sin(x: TensorLike) -> Tensor: ...

    @op(
        vjp=lambda xp, g, perm: xp.transpose(g, argsort(perm)),   # the vector-Jacobian product
        jvp=LINEAR,                                               # the forward is its own
        batch=lambda xp, a, perm: xp.transpose(a, behind(perm)),  # of many examples at once
    )
    def transpose(a: TensorLike, perm: Sequence[int] | None = None) -> Tensor:
        return np.transpose(a, perm)                              # the forward, on bare arrays

Parameters annotated `TensorLike` are operands and come first; `Sequence[TensorLike]`, alone, makes a variadic
op, whose rule also gets the operand's position, `i`. All other parameters are static attributes.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from gradtape import errors
from gradtape.ops.batching import ALONG_AXIS, LEADING, MATRICES, OF_SHAPE, VECTORS, behind
from gradtape.ops.checks import (
    is_own,
    refuse_bare,
    require_batch,
    require_partials,
    require_rows,
    require_rules,
)
from gradtape.ops.faces import binary, general, renamed, unary, variadic
from gradtape.ops.layout import Layout
from gradtape.ops.namespace import Namespace, raw, recorded
from gradtape.ops.operands import (
    complain,
    is_of_a_body,
    of_elsewhere,
)
from gradtape.ops.rule import (
    LINEAR,
    MULTILINEAR,
    Forward,
    Partial,
    Rule,
    diagonal_jvp,
    jvp_of,
    linear_jvp_of_list,
    no_gradient,
    parameters,
    partial_rule,
    vjp_rule,
)
from gradtape.ops.sample import Sample, Uniform, elementwise_samples
from gradtape.tensor import Tensor

__all__ = [
    "ALONG_AXIS",
    "LEADING",
    "LINEAR",
    "MATRICES",
    "MULTILINEAR",
    "OF_SHAPE",
    "REGISTRY",
    "VECTORS",
    "Namespace",
    "Op",
    "Sample",
    "Uniform",
    "composite",
    "elementwise",
    "op",
    "raw",
    "recorded",
]

P = ParamSpec("P")
R = TypeVar("R")


class Op:
    """A declaration: what an op is called, does, and how it is differentiated.

    title: what users know it as, if that is a composite that it is a part of; rules: one Rule per operand
    that has a derivative; broadcasts: elementwise, so that NumPy's broadcasting stretches the operands,
    and the rules are diagonal; arity: how many operands there are up to the last that has a rule; jvp(xp,
    tangents, values): the tangent of the result (a list of them, for several) from those of the operands
    (None where there is none) and the values of a record, where it is not to be had by transposing the
    rules; batch(xp, ...): the results for many examples, of operands that have their axis in front;
    lower(xp, ...): the same result in terms of ops that the compiler knows; operands, statics: how many
    of each a record begins with (0 for an op that is only told of, since others computed its results);
    variadic: the operands go to the forward as one list; pure: its results follow from its operands, and
    it does nothing else; varies: the shape of its results depends on the values of its operands; samples,
    dtypes: by what calls, in which dtypes, the tests check it; primitive: False for an op that is written
    in terms of others and so needs no rules.
    """

    def __init__(
        self, name: str, forward: Forward, samples: Sequence[Sample], dtypes: str, primitive: bool = True
    ) -> None:
        self.name = name
        self.title = name
        self.forward = forward
        self.rules: tuple[Rule, ...] = ()
        self.broadcasts = False
        self.jvp: Forward | None = None
        self.batch: Forward | str | None = None
        self.lower: Forward | None = None
        self.operands = 0
        self.statics = 0
        self.variadic = False
        self.pure = True
        self.varies = False
        self.samples = samples
        self.dtypes = dtypes
        self.primitive = primitive
        self.call: Forward = forward

    @property
    def arity(self) -> int:
        """How many operands there are, up to the last that has a rule."""
        return 1 + max(rule.index for rule in self.rules)

    def __repr__(self) -> str:
        return f"<op {self.name}>"


REGISTRY: dict[str, Op] = {}


def _declare(op: Op, call: Forward, template: Forward, on_arrays: Forward) -> Any:
    """Registers `call` as the public face of `op`, with the name and documentation of `template`."""
    functools.update_wrapper(call, template)
    call.op = op  # type: ignore[attr-defined]
    op.call = call
    known = REGISTRY.get(op.name)
    if known is not None and not known.call.__module__ == template.__module__ == "__main__":
        raise errors.ArgumentError(
            f"op {op.name} is declared already, in {known.call.__module__}; give yours another name"
        )
    REGISTRY[op.name] = op
    setattr(raw, op.name, on_arrays)
    setattr(recorded, op.name, call)
    return call


# -- elementwise ops -----------------------------------------------------------------------------------------


def elementwise(
    forward: Forward,
    *partials: Partial | None,
    low: float | tuple[float, ...] = -2.0,
    high: float | tuple[float, ...] = 2.0,
    dtypes: str = "efd",
    samples: Sequence[Sample] = (),
    lower: Forward | None = None,
) -> Callable[[Callable[P, Tensor]], Callable[P, Tensor]]:
    """Declares an op that works element by element, with broadcasting, by its partial derivatives.

    partials: one per operand: a number where it is constant, the name of an operand or "out" where it is
    that, else a function; None where there is no derivative; none at all for an op that is constant between
    its jumps. A function whose second parameter is `g` gives the whole product of cotangent and derivative,
    for where `g * partial` would make 0 * inf. low, high: the range of the samples, or one for each operand.
    lower: as for `op`.

    >>> @gt.extending.elementwise(np.cbrt, lambda xp, out: 1.0 / (3.0 * out * out), low=0.5)
    ... def cube_root(x: gt.extending.TensorLike) -> gt.Tensor:
    ...     "The real cube root, elementwise."
    >>> gt.grad(cube_root)(8.0)
    0.08333333333333333
    """
    refuse_bare("elementwise", forward, "the forward")

    def declare(template: Callable[P, Tensor]) -> Callable[P, Tensor]:
        names = parameters(template)
        n = len(names)
        require_partials(template.__name__, partials, names)
        lows = low if isinstance(low, tuple) else (low,) * n
        highs = high if isinstance(high, tuple) else (high,) * n
        made = Op(template.__name__, forward, samples or elementwise_samples(lows, highs), dtypes)
        made.forward = forward if is_own(template) else of_elsewhere(made.name, forward)
        made.broadcasts = True
        made.operands = n
        made.lower = lower
        made.rules = tuple(
            partial_rule(made, i, partial, names) for i, partial in enumerate(partials) if partial is not None
        )
        made.jvp = functools.partial(diagonal_jvp, made)
        if n == 1:
            call = unary(made) if names == ["x"] else renamed(made, Layout(template))
        elif names == ["x", "y"]:
            call = binary(made)
        else:
            call = general(made, Layout(template), names)
        return cast(Callable[P, Tensor], _declare(made, call, template, forward))

    return declare


# -- all other ops -------------------------------------------------------------------------------------------


def op(
    vjp: Forward | Sequence[Forward | None] | None = None,
    jvp: Forward | str | None = None,
    batch: Forward | str | None = None,
    samples: Sequence[Sample] = (),
    dtypes: str = "fd",
    differentiable: bool = True,
    promote: Sequence[str] = (),
    sparse: Forward | None = None,
    rows: Mapping[str, Forward] = MappingProxyType({}),
    lower: Forward | None = None,
    varies: bool = False,
    title: str | None = None,
) -> Callable[[Callable[P, Any]], Callable[P, Tensor]]:
    """Declares an op by its forward, which the decorated function is, and its vector-Jacobian products.

    vjp: for each operand `rule(xp, g, ...)`, which returns the operand's cotangent, or None where it has
    none; a lone function for the first operand only. A forward that returns a tuple or list makes an op of
    several results, whose rules get the list of their cotangents, None for a result that the target does not
    depend on. differentiable=False: constant between its jumps, so that no tape follows its result. An op
    that is differentiable but has no `vjp` raises NoGradientError in a sweep.

    jvp: LINEAR, MULTILINEAR, or `rule(xp, t, ...)`, which returns the tangent of the result; t is that of the
    operand, or of several operands the list of theirs, with None where there is none. Without it, forward
    mode transposes `vjp`.

    batch: LEADING, VECTORS, MATRICES, ALONG_AXIS, OF_SHAPE, or `rule(xp, ...)`, which gets the operands with
    the axis of many examples in front, of length 1 for an operand that they share, then the static
    attributes, and returns the result with that axis in front. Without it, an op in `vectorized_map` runs
    example by example; it also does where the rule returns NotImplemented.

    promote: the operands that share a dtype, so that numbers and lists among them take it from the others.
    sparse: the first operand's rule where a tape watches that operand itself, which may give
    `xp.indexed_slices`. rows: for an operand, by name, a rule with the parameters of its `vjp`, which gets a
    vector d in place of g and returns what `vjp` makes of all d[i] e_i, stacked, or NotImplemented; with it a
    Jacobian need not multiply by the identity. lower: `rule(xp, ...)`, which gets the operands and the static
    attributes and returns the result in terms of ops that the compiler knows (see docs/function.md), or
    NotImplemented; without it, compiled functions run the op by NumPy. varies: the shape of the result
    depends on values, so that a compiled function looks at it. title: what users know the op as, where they
    call another that is made of it.

    >>> @gt.extending.op(vjp=lambda xp, g: xp.mirrored(g), jvp=gt.extending.LINEAR)
    ... def mirrored(x: gt.extending.TensorLike) -> gt.extending.Array:
    ...     "The last axis back to front."
    ...     return x[..., ::-1]
    >>> gt.grad(lambda x: mirrored(x)[0])(np.array([1.0, 2.0]))
    array([0., 1.])
    """
    refuse_bare("op", vjp, "a rule for vjp")
    require_batch(batch)

    def declare(template: Callable[P, Any]) -> Callable[P, Tensor]:
        made = Op(template.__name__, template, samples, dtypes)
        made.forward = template if is_own(template) else of_elsewhere(made.name, template)
        layout = Layout(template)
        rules: Sequence[Forward | None] | None = [vjp] if callable(vjp) else vjp
        require_rules(made.name, layout, rules, promote)
        if rules is None:
            rules = [no_gradient(made.name)] * layout.operands if differentiable else []
        made.batch = _along_axis(made.name, layout) if batch == ALONG_AXIS else batch
        made.lower = lower
        made.varies = varies
        made.title = title or made.name
        made.operands = layout.operands
        made.statics = len(layout.names) - layout.operands
        made.variadic = layout.variadic
        if layout.variadic:
            call = variadic(made, layout, rules)
            made.jvp = linear_jvp_of_list(made.name, layout) if jvp == LINEAR else None
        else:
            made.rules = tuple(vjp_rule(made, i, r, layout) for i, r in enumerate(rules) if r is not None)
            made.jvp = jvp_of(made, jvp, layout)
            if sparse is not None:
                made.rules[0].sparse = vjp_rule(made, 0, sparse, layout)
            require_rows(made.name, layout, rules, rows)
            for rule in made.rules:
                if layout.names[rule.index] in rows:
                    rule.rows = vjp_rule(made, rule.index, rows[layout.names[rule.index]], layout).pull
            call = general(made, layout, promote)
        return cast(Callable[P, Tensor], _declare(made, call, template, template))

    return declare


# -- many examples at once -----------------------------------------------------------------------------------


def _along_axis(name: str, layout: Layout) -> Forward:
    place = layout.names.index("axis")

    def batch(xp: Namespace, x: Any, *statics: Any) -> Any:
        given = list(statics)
        given[place - 1] = behind(given[place - 1], x.ndim - 1)
        return getattr(xp, name)(x, *given)

    return batch


def composite(
    samples: Sequence[Sample] = (), dtypes: str = "fd"
) -> Callable[[Callable[Concatenate[Namespace, P], R]], Callable[P, R]]:
    """Declares an op that is written in terms of others, against a namespace, and so needs no rules.

    >>> @gt.extending.composite()
    ... def entropy(xp, p: gt.extending.TensorLike) -> gt.Tensor:
    ...     "-sum(p log p), in nats."
    ...     return -xp.reduce_sum(xp.xlogy(p, p))
    >>> round(gt.grad(entropy)(np.array([0.5, 0.5]))[0], 6)
    np.float64(-0.306853)
    """

    refuse_bare("composite", samples, "samples, if any")

    def declare(template: Callable[Concatenate[Namespace, P], R]) -> Callable[P, R]:
        made = Op(template.__name__, template, samples, dtypes, primitive=False)
        own = is_own(template)

        def call(*args: Any, **keywords: Any) -> R:
            keywords.pop("name", None)
            try:
                return template(recorded, *args, **keywords)
            except Exception as problem:
                if not own or not is_of_a_body(problem):
                    raise
                complain(made.name, problem, args, keywords)

        signature = inspect.signature(template)
        face = cast(Callable[P, R], _declare(made, call, template, functools.partial(template, raw)))
        face.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])  # type: ignore[attr-defined]
        return face

    return declare
