"""Forward mode: what gets pushed forward, when, and by whom: ForwardAccumulator."""

import weakref
from collections.abc import Sequence
from typing import Any, Self, cast

import numpy as np

from gradtape import recorders
from gradtape.asking import UnconnectedGradients, unconnected_choice
from gradtape.batched import alias
from gradtape.errors import (
    ArgumentError,
    DTypeError,
    ShapeError,
    StructureError,
    TapeStateError,
    UnconnectedError,
)
from gradtape.ops.op import Namespace, Op, raw, recorded
from gradtape.ops.rule import IS_KEPT, IS_ONE, identified
from gradtape.recorders import HearsEachOp, listening, who_can
from gradtape.slices import IndexedSlices, require_dense
from gradtape.structure import flatten, unflattened
from gradtape.sweep import Cotangents
from gradtape.tape import GradientTape
from gradtape.tensor import Tensor, TensorLike, Value, Variable, as_array, holds, require_value

__all__ = ["ForwardAccumulator"]

# A value of at least so many bytes takes its tangent with it when it goes; smaller ones are not worth it.
_LARGE = 4096


class ForwardAccumulator(HearsEachOp):
    """Computes Jacobian-vector products ("forward mode") of the ops that run in its block, as they run.

    primals: a tensor or variable of a real or complex dtype, or a structure of them; tangents: their
    directions, of the same structure, shapes and dtypes. Accumulators and tapes nest in any order: around a
    tape it gives Hessian-vector products. Its time is that of the ops in its block, times a small number; it
    keeps nothing for a value that is gone.

    Raises StructureError, ShapeError or DTypeError where tangents do not fit their primals, DTypeError for a
    primal that is not real or complex, ArgumentError for one that is there twice.

    >>> x = gt.constant([1.0, 2.0])
    >>> with gt.autodiff.ForwardAccumulator(x, gt.constant([1.0, 0.0])) as acc:
    ...     y = gt.reduce_sum(x * x)
    >>> acc.jvp(y)
    <tf.Tensor: shape=(), dtype=float32, numpy=2.0>
    """

    __slots__ = ("__weakref__", "_alive", "_recording", "_tangents")

    def __init__(self, primals: Any, tangents: Any) -> None:
        self._recording = False
        self._alive: dict[int, weakref.ref[Any]] = {}  # the large values that hold tangents, by key
        self._tangents: dict[int, Any] = {}
        for primal, tangent in paired(primals, tangents):
            if primal._key in self._tangents:
                raise ArgumentError(
                    f"ForwardAccumulator: a primal of shape {primal.shape} is there twice; give it once, "
                    "with the sum of its tangents"
                )
            self._tangents[primal._key] = tangent

    def __enter__(self) -> Self:
        if self._recording:
            raise TapeStateError(
                "this accumulator is accumulating already; leave its block before entering it again"
            )
        self._recording = True
        recorders.push(self)
        return self

    def __exit__(self, *problem: object) -> None:
        self._recording = False
        recorders.pop(self)

    def jvp(
        self, primals: Any, unconnected_gradients: UnconnectedGradients | str = UnconnectedGradients.NONE
    ) -> Any:
        """The tangent of each of `primals`, in their structure: results of ops in the block, or sources.

        unconnected_gradients: what a value has that does not depend on the primals: "none" gives None, "zero"
        zeros, "raise" raises UnconnectedError. Raises NotATensorError for what is no tensor.

        >>> x = gt.Variable(3.0)
        >>> with gt.autodiff.ForwardAccumulator(x, 1.0) as acc:
        ...     y = {"square": x * x, "constant": gt.constant(1.0)}
        >>> acc.jvp(y, unconnected_gradients="zero")["square"]
        <tf.Tensor: shape=(), dtype=float32, numpy=6.0>
        """
        choice = unconnected_choice(unconnected_gradients)
        flat, rebuild = unflattened(primals)
        return rebuild([self._tangent(require_value(x, "jvp: primal"), choice) for x in flat])

    def _tangent(self, primal: Value, choice: UnconnectedGradients) -> Tensor | IndexedSlices | None:
        if isinstance(primal, IndexedSlices):
            rows = self._tangent(primal.values, choice)
            return None if rows is None else IndexedSlices(rows, primal.indices, primal.dense_shape)
        tangent = self._tangents.get(primal._key)
        if tangent is None:
            if choice is UnconnectedGradients.RAISE:
                raise UnconnectedError(
                    f"jvp: a {primal.dtype} tensor of shape {primal.shape} has no tangent: it was not made, "
                    "within the accumulator's block, of what has one; compute it there, of the primals"
                )
            zero = choice is UnconnectedGradients.ZERO
            return Tensor(np.zeros(primal.shape, primal.dtype)[()]) if zero else None
        return alias(tangent) if isinstance(tangent, Tensor) else Tensor(tangent)

    # -- what ops tell it ------------------------------------------------------------------------------------

    def accessed(self, variable: Variable) -> None:
        """Hears that a variable is read; only those among the primals have tangents."""

    def follows(self, key: int) -> bool:
        """Whether the value of this key has a tangent."""
        return key in self._tangents

    def record(self, op: Op, keys: tuple[Any, ...], values: tuple[Any, ...], uniform: bool) -> None:
        """Pushes the tangents of the operands forward to the result (see `recorders.Recorder`)."""
        stack = listening()
        tangents = self._tangents
        if not op.broadcasts or stack[0] is not self:
            if any(keys[rule.index] in tangents for rule in op.rules):
                self._push(stack, op, keys, values)
            return
        # What op.jvp does, at half of its cost: on bare arrays the commonest products need no call.
        total = None
        for rule in op.rules:
            t = tangents.get(keys[rule.index])
            if t is None:
                continue
            if type(t) is Tensor:
                t = t._value
            factor = rule.factor
            if factor is IS_KEPT:
                t = t * values[rule.place]
            elif factor is not IS_ONE:
                place = rule.place
                t = rule.pull(raw, t, values[place] if place is not None else rule.take and rule.take(values))
            total = t if total is None else total + t
        if total is not None:
            out = values[-1]
            if not uniform:
                total = _fitted(raw, total, out)
            if out.nbytes < _LARGE:
                tangents[keys[-1]] = total
            else:
                self._keep(keys[-1], out, total)

    def _push(
        self, stack: tuple[recorders.Recorder, ...], op: Op, keys: tuple[Any, ...], values: tuple[Any, ...]
    ) -> None:
        """The same for any op, recorded by those on the stack who were there before this accumulator."""
        several = type(keys[-1]) is tuple
        bare = stack[0] is self
        tangents = [self._tangents.get(key) for key in keys[: op.arity]]
        recorders.set_listening(stack[: stack.index(self)])
        try:
            if bare:
                tangents = [t._value if type(t) is Tensor else t for t in tangents]
            if op.jvp:
                given = values if bare else tuple(map(identified, values, keys))
                found = op.jvp(raw if bare else recorded, tangents, given)
                found = found if several else [found]
            else:
                found = transposed(op, tangents, keys, values)
                found = [t._value if bare and t is not None else t for t in found]
            outs, own = (values[-1], keys[-1]) if several else ([values[-1]], [keys[-1]])
            for key, out, t in zip(own, outs, found, strict=True):
                if t is not None and out.dtype.kind in "fc":
                    fitted = _fitted(raw if bare else recorded, t, out)
                    for checker in who_can("checked"):
                        checker.pushed(op, keys, values, tangents, fitted)
                    self._keep(key, out, fitted)
        finally:
            recorders.set_listening(stack)

    def _keep(self, key: int, out: Any, tangent: Any) -> None:
        self._tangents[key] = tangent
        if isinstance(out, np.ndarray) and out.nbytes >= _LARGE:
            this = weakref.ref(self)
            self._alive[key] = weakref.ref(out, lambda _: _forget(this, key))


def _forget(accumulator: "weakref.ref[ForwardAccumulator]", key: int) -> None:
    this = accumulator()
    if this is not None:
        del this._alive[key]
        this._tangents.pop(key, None)


def _fitted(xp: Namespace, t: Any, out: Any) -> Any:
    """A tangent in the shape and dtype of the result that it belongs to."""
    if t.dtype != out.dtype:
        if t.dtype.kind == "c" and out.dtype.kind != "c":
            t = xp.real(t)
        t = xp.cast(t, out.dtype)
    return t if t.shape == out.shape else xp.broadcast_to(t, out.shape)


def transposed(
    op: Op, tangents: Sequence[Any], keys: tuple[Any, ...], values: tuple[Any, ...]
) -> list[Tensor | None]:
    """The tangents of an op's results, by its reverse rules.

    A reverse rule g -> c(g) is linear in g, so that its own reverse is the forward one: for the tangents t of
    the operands, the derivative by g of the sum of <c(g), t>.
    """
    several = type(keys[-1]) is tuple
    outs = values[-1] if several else [values[-1]]
    zeros = [Tensor(np.zeros(out.shape, out.dtype)[()]) for out in outs]
    cotangents, seeds = [], []
    with GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([z for z in zeros if z.dtype.kind in "fc"])
        g = Cotangents(zeros) if several else zeros[0]
        for rule in op.rules:
            if tangents[rule.index] is None:
                continue
            t = recorded.convert_to_tensor(tangents[rule.index])
            saved = rule.wrap(rule.take and rule.take(values), keys)
            cotangent = rule.pull(recorded, g, saved)
            if cotangent is None:
                continue
            if cotangent.dtype.kind == "c" and t.dtype.kind != "c":
                cotangent = recorded.real(cotangent)
            cotangents.append(recorded.cast(cotangent, t.dtype))
            seeds.append(t)
    grads = tape.gradient(cotangents, zeros, seeds)
    return [g if g is None else recorded.convert_to_tensor(g) for g in grads]  # no slices of a lookup


# -- what it is given ----------------------------------------------------------------------------------------


def paired(primals: Any, tangents: Any) -> list[tuple[Value, Tensor]]:
    """Each primal with its tangent, of the same shape and dtype, or an error that names both."""
    flat = [require_dense(x, "ForwardAccumulator: primal") for x in flatten(primals)]
    given = [tangents] if isinstance(primals, Value) else flatten(tangents)
    if len(given) != len(flat) or not (isinstance(primals, Value) or _alike(primals, tangents)):
        raise StructureError(
            f"ForwardAccumulator: {len(flat)} primals, but {len(given)} tangents, or in another structure; "
            "give each primal its own, in the same structure"
        )
    return [(x, _direction(x, t)) for x, t in zip(flat, given, strict=True)]


def _alike(a: Any, b: Any) -> bool:
    import optree

    return bool(optree.tree_structure(a, none_is_leaf=True) == optree.tree_structure(b, none_is_leaf=True))


def _direction(x: Value, tangent: TensorLike) -> Tensor:
    if x.dtype.kind not in "fc":
        raise DTypeError(
            f"ForwardAccumulator: a primal of dtype {x.dtype}; only real and complex values have tangents, "
            "so cast it"
        )
    t = tangent
    if isinstance(t, (list, tuple)) and holds(t, Value):
        t = recorded.stack(t)
    elif not isinstance(t, Value):
        t = Tensor(as_array(t, _weak(t, x)))
    if t.shape != x.shape:
        raise ShapeError(
            f"ForwardAccumulator: a tangent of shape {t.shape} for a primal of shape {x.shape}; "
            "they must agree"
        )
    if t.dtype != x.dtype:
        raise DTypeError(
            f"ForwardAccumulator: a tangent of dtype {t.dtype} for a primal of {x.dtype}; cast it"
        )
    return cast(Tensor, recorded.convert_to_tensor(t))


def _weak(tangent: TensorLike, x: Value) -> Any:
    """The dtype that Python numbers and lists of them take on; arrays keep theirs."""
    return x.dtype if isinstance(tangent, (int, float, complex, list, tuple)) else None
