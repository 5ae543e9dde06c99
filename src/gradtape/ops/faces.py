"""How ops are called: what each face makes of its arguments, and whom it tells.

A face is what users call. It takes the operands apart into bare arrays and keys, runs the forward, and tells
all who listen.
"""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gradtape import errors
from gradtape.batched import Batched
from gradtape.ops.batching import over_examples
from gradtape.ops.layout import Layout, static
from gradtape.ops.operands import (
    PYTHON,
    REAL,
    array_operand,
    complain,
    named,
    operands_apart,
    operands_together,
)
from gradtape.ops.rule import Forward, parameters, with_saved
from gradtape.recorders import listening
from gradtape.tensor import Tensor, Value

if TYPE_CHECKING:
    from gradtape.ops.op import Op

__all__ = ["binary", "general", "renamed", "unary", "variadic"]

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


# -- of elementwise ops --------------------------------------------------------------------------------------


def unary(op: "Op") -> Forward:
    forward = op.forward

    def call(x: Any, name: str | None = None) -> Tensor:
        if type(x) is Tensor:
            value, key = x._value, x._key
        else:
            try:
                value, key = array_operand(x)
            except Exception as problem:
                raise named(op.title, problem) from None
            if type(value) is Batched:
                return cast(Tensor, over_examples(op, [value], [key]))
        try:
            out = forward(value)
        except Exception as problem:
            complain(op.title, problem, [value])
        tensor = Tensor(out)
        for recorder in listening():
            dtype = out.dtype
            uniform = value.dtype is dtype and (dtype is FLOAT32 or dtype is FLOAT64)
            recorder.record(op, (key, tensor._key), (value, out), uniform)
        return tensor

    return call


def renamed(op: "Op", layout: Layout) -> Forward:
    """The face of a one-operand op that calls its operand something else than x."""
    call = unary(op)

    def renamed(*args: Any, **keywords: Any) -> Tensor:
        if len(args) != 1 or keywords:
            args = tuple(layout.complete(op.name, args, keywords))
        return cast(Tensor, call(*args))

    return renamed


def binary(op: "Op") -> Forward:
    forward = op.forward

    def call(x: Any, y: Any, name: str | None = None) -> Tensor:
        if type(x) is Tensor and type(y) is Tensor:
            a, ka = x._value, x._key
            b, kb = y._value, y._key
        elif type(x) is Tensor and type(y) in REAL:
            a, ka = x._value, x._key
            b, kb = y, 0
        elif type(y) is Tensor and type(x) in REAL:
            a, ka = x, 0
            b, kb = y._value, y._key
        else:
            try:
                (a, b), (ka, kb) = operands_together((0, 1), True, (x, y))
            except Exception as problem:
                raise named(op.title, problem) from None
            if type(a) is Batched or type(b) is Batched:
                return cast(Tensor, over_examples(op, [a, b], [ka, kb]))
        try:
            out = forward(a, b)
        except Exception as problem:
            complain(op.title, problem, [a, b])
        tensor = Tensor(out)
        for recorder in listening():
            dtype = out.dtype
            if ka and kb:
                uniform = a.dtype is dtype is b.dtype and a.shape == b.shape
            else:
                keyed = a if ka else b
                uniform = ka != kb and keyed.dtype is dtype and keyed.shape == out.shape
            uniform = uniform and (dtype is FLOAT32 or dtype is FLOAT64)
            recorder.record(op, (ka, kb, tensor._key), (a, b, out), uniform)
        return tensor

    return call


# -- of all others -------------------------------------------------------------------------------------------


def general(op: "Op", layout: Layout, promote: Sequence[str]) -> Forward:
    n, total = layout.operands, len(layout.names)
    together = [layout.names.index(name) for name in promote]
    convert = functools.partial(operands_together, together, op.broadcasts) if promote else operands_apart

    def derive(values: list[Any]) -> list[Any]:
        return [getattr(values[i], what) for i, what in layout.derived]

    def call(*args: Any, **keywords: Any) -> Any:
        full = args if len(args) == total and not keywords else layout.complete(op.name, args, keywords)
        try:
            if n == 1 and type(full[0]) is Tensor:
                values, keys = [full[0]._value], [full[0]._key]
            else:
                values, keys = convert(full[:n])
                if Batched in map(type, values):
                    statics = [static(v) for v in full[n:]]
                    return over_examples(op, values, keys, statics, derive)
            values.extend([v if v is None or type(v) in PYTHON else static(v) for v in full[n:]])
        except Exception as problem:
            raise named(op.title, problem) from None
        try:
            out = op.forward(*values)
        except Exception as problem:
            complain(op.title, problem, values[:n], layout.told(values))
        result, key = _result(out)
        if listening():
            values.extend(derive(values))
            keys.extend([0] * (len(values) - n))
            for recorder in listening():
                recorder.record(op, (*keys, key), (*values, out), False)
        return result

    return call


def variadic(op: "Op", layout: Layout, rules: Sequence[Forward | None]) -> Forward:
    """The face of an op over a sequence of operands; its rule is `vjp(xp, g, i, ...)` for the operand at i.

    Its records hold the operands, then the static attributes, `shapes` (the operands'), and the result.
    """
    vjp = next(rule for rule in rules if rule is not None)
    places = [*layout.names[1:], "shapes", "out"]
    positions = [places.index(need) - len(places) for need in parameters(vjp)[3:]]

    @functools.cache
    def of_arity(n: int) -> "Op":
        sized = type(op)(op.name, op.forward, op.samples, op.dtypes)
        sized.rules = tuple(
            with_saved(sized, i, lambda xp, g, *s, i=i: vjp(xp, g, i, *s), positions) for i in range(n)
        )
        sized.jvp = op.jvp
        sized.lower, sized.varies = op.lower, op.varies
        sized.operands, sized.statics, sized.variadic = n, op.statics, True
        return sized

    def shapes_of(values: list[Any]) -> list[Any]:
        return [tuple([value.shape for value in values])]

    def call(*args: Any, **keywords: Any) -> Tensor:
        given, *rest = layout.complete(op.name, args, keywords)
        if not isinstance(given, (list, tuple, Value, np.ndarray)):
            raise errors.NotATensorError(f"{op.name}: wanted a list of tensors, got {type(given).__name__}")
        if isinstance(given, Value) and not given.ndim:
            raise errors.NotATensorError(f"{op.name}: wanted a list of tensors, got a tensor of shape ()")
        operands = list(given)
        try:
            values, keys = operands_together(range(len(operands)), False, operands)
            statics = [static(value) for value in rest]
        except Exception as problem:
            raise named(op.title, problem) from None
        if Batched in map(type, values):
            return cast(
                Tensor, over_examples(op, values, keys, statics, shapes_of, True, of_arity(len(values)))
            )
        try:
            out = op.forward(values, *statics)
        except Exception as problem:
            complain(op.title, problem, values, layout.told([given, *statics]))
        tensor = Tensor(out)
        for recorder in listening():
            padding = [0] * (len(statics) + 1)
            recorder.record(
                of_arity(len(values)),
                (*keys, *padding, tensor._key),
                (*values, *statics, *shapes_of(values), out),
                False,
            )
        return tensor

    return call


def _result(out: Any) -> tuple[Any, Any]:
    """A forward's result as tensors in the same container, and their key or keys."""
    if not isinstance(out, (list, tuple)):
        tensor = Tensor(out)
        return tensor, tensor._key
    tensors = [Tensor(part) for part in out]
    result = type(out)(*tensors) if hasattr(out, "_fields") else type(out)(tensors)
    return result, tuple(tensor._key for tensor in tensors)
