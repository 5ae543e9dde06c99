"""What Python's operators and in-place assignment mean on tensors and variables: ops, all of them."""

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from gradtape.batched import Batched
from gradtape.errors import DTypeError, InPlaceError, ShapeError
from gradtape.ops import arithmetic, comparison, contraction, indexing, making, shaping
from gradtape.recorders import captors, local, tracer
from gradtape.tensor import Tensor, TensorLike, Value, Variable

__all__: list[str] = []

_BINARY: dict[str, Callable[..., Tensor]] = {
    "add": arithmetic.add,
    "sub": arithmetic.subtract,
    "mul": arithmetic.multiply,
    "truediv": arithmetic.divide,
    "floordiv": arithmetic.floordiv,
    "mod": arithmetic.mod,
    "pow": arithmetic.pow,
    "matmul": contraction.matmul,
    "and": comparison.bitwise_and,
    "or": comparison.bitwise_or,
    "xor": comparison.bitwise_xor,
}
_UNARY: dict[str, Callable[..., Tensor]] = {
    "neg": arithmetic.negative,
    "abs": arithmetic.abs,
    "invert": comparison.bitwise_invert,
    "pos": making.identity,
}
_COMPARISONS: dict[str, Callable[..., Tensor]] = {
    "lt": comparison.less,
    "le": comparison.less_equal,
    "gt": comparison.greater,
    "ge": comparison.greater_equal,
}


def _swapped(op: Callable[..., Any]) -> Callable[[Any, Any], Tensor]:
    return lambda self, other: op(other, self)


def _power(self: Value, exponent: TensorLike, modulus: Any = None) -> Any:
    return NotImplemented if modulus is not None else arithmetic.pow(self, exponent)


def _equality(op: Callable[..., Tensor], otherwise: bool) -> Callable[[Any, Any], Any]:
    """Elementwise; one truth if shapes do not fit, as in TensorFlow; Python's own for what is no number."""

    def compare(self: Value, other: Any) -> Any:
        if other is None:
            return otherwise
        try:
            return op(self, other)
        except ShapeError:
            return Tensor(np.bool_(otherwise))
        except DTypeError:
            return NotImplemented

    return compare


def _set_item(self: Tensor, index: Any, value: TensorLike) -> None:
    """Rebinds the tensor to its updated value; derivatives flow to `value` and to the untouched elements."""
    if any(tape.watches(self._key) for tape in local.watching):
        raise InPlaceError(
            f"in-place assignment to a tensor of shape {self.shape} that a tape watches; "
            "copy it first, t = gradtape.identity(t), and assign to the copy"
        )
    if hasattr(self, "_part"):
        raise InPlaceError(
            f"in-place assignment to a tensor of shape {self.shape} that was read from another by t[...] or "
            "t.T: it is a value of its own, no view as in NumPy, so that the other would not change; "
            "write t[i, j] = v, or assign to gradtape.identity(part) to change a copy"
        )
    traced = tracer()
    if traced is not None and traced.is_from_outside(self):
        raise InPlaceError(
            f"in-place assignment, inside a function, to a tensor of shape {self.shape} that was made "
            "outside, which a compiled run would not repeat; make it a gradtape.Variable and assign to that"
        )
    key = self._key
    updated = indexing.setitem(self, value, index)
    if not isinstance(updated, Batched):
        self._value, self._key = updated._value, updated._key
    elif isinstance(self, Batched) and self.mapping is updated.mapping:
        self.examples, self._key = updated.examples, updated._key
    else:
        raise InPlaceError(
            f"in-place assignment of a value that differs from example to example to a tensor of shape "
            f"{self.shape} that the examples share; make one for each first, as in "
            "t = t + gradtape.zeros_like(x) * x"
        )
    for captor in captors.copy():
        paths = captor()
        if paths is not None:
            paths.rebound(key)


def _transposed(self: Value) -> Tensor:
    turned = shaping.transpose(self)
    turned._part = True
    return turned


def _refused(advice: str) -> Callable[..., NoReturn]:
    def refuse(self: Variable, *_: Any) -> NoReturn:
        raise InPlaceError(f"variable {self.name} cannot be changed in place by this; {advice}")

    return refuse


def _install() -> None:
    """Puts the operators where Python looks for them: on the classes."""
    for name, op in _BINARY.items():
        setattr(Value, f"__{name}__", op)
        setattr(Value, f"__r{name}__", _swapped(op))
    setattr(Value, "__pow__", _power)  # noqa: B010
    for name, op in (_UNARY | _COMPARISONS).items():
        setattr(Value, f"__{name}__", op)
    for name, compare in (
        ("eq", _equality(comparison.equal, False)),
        ("ne", _equality(comparison.not_equal, True)),
    ):
        setattr(Value, f"__{name}__", compare)
    for name, method in (
        ("__getitem__", indexing.getitem),
        ("T", property(_transposed, doc="The tensor with its axes reversed.")),
    ):
        setattr(Value, name, method)
    setattr(Tensor, "__setitem__", _set_item)  # noqa: B010
    setattr(Variable, "__setitem__", _refused("assign a whole new value with assign"))  # noqa: B010
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"):
        setattr(Variable, f"__i{name}__", _refused("use assign, assign_add or assign_sub"))
    for name in ("value", "read_value"):
        setattr(Variable, name, _read)


def _read(self: Variable) -> Tensor:
    """The value as a tensor, recorded like any other reading of the variable.

    >>> gt.Variable(1.0).value()
    <tf.Tensor: shape=(), dtype=float32, numpy=1.0>
    """
    return making.identity(self)


_install()
