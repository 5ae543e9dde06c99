"""What a value is: Tensor and Variable, how they are made from Python and NumPy values, how they print."""

import opcode
import operator
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np

from gradtape.errors import DTypeError, LeavesTapeError, NotATensorError, ShapeError
from gradtape.recorders import access, is_followed, journals, listening, new_key, tracer
from gradtape.replay import view

__all__ = [
    "Array",
    "DTypeLike",
    "Tensor",
    "TensorLike",
    "Value",
    "Variable",
    "as_array",
    "as_dtype",
    "convert_to_array",
    "holds",
    "is_tensor",
    "looked_at",
    "require_dtype",
    "require_value",
    "with_key",
]

# A bare array or NumPy scalar in a forward; an array of whichever namespace it runs on in a rule.
Array: TypeAlias = Any
# What an op takes as an operand: tensors, variables, NumPy arrays and scalars, Python numbers, nested lists.
TensorLike: TypeAlias = Annotated[Any, "operand"]
DTypeLike: TypeAlias = Any

_WEAK = {
    float: np.dtype("float32"),
    int: np.dtype("int32"),
    bool: np.dtype("bool"),
    complex: np.dtype("complex128"),
}
_STORES = {opcode.opmap.get(name) for name in ("STORE_SUBSCR", "STORE_SLICE")}


class Value:
    """What Tensor, Variable and IndexedSlices share: an immutable array, its identity, and how NumPy looks
    at it.

    `_key` is the identity: tapes know values by it, so that a record holds no reference to a tensor.
    """

    __slots__ = ("__weakref__", "_key", "_value")

    _value: Any
    _key: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis; `()` for a scalar."""
        return self._value.shape  # type: ignore[no-any-return]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type, a `numpy.dtype`."""
        return self._value.dtype  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._value.ndim  # type: ignore[no-any-return]

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._value.size  # type: ignore[no-any-return]

    def numpy(self) -> Any:
        """The value as a read-only NumPy array, or as a NumPy scalar if it has no axes; no copy.

        >>> gt.constant([1.0, 2.0]).numpy()
        array([1., 2.], dtype=float32)
        """
        return self._read_only("numpy()")

    def _read_only(self, how: str) -> Any:
        traced = tracer()
        if traced is not None:
            traced.refuse_reading(self, how)
        for journal in journals():
            journal.left(self, how)
        value = self._value
        if not value.ndim:
            return value[()]
        view = value.view()
        view.flags.writeable = False
        return view

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        self._refuse_storing(sys._getframe(1))
        array = np.asarray(self._read_only("np.asarray"))
        if copy or (dtype is not None and array.dtype != dtype):
            if copy is False:
                raise ValueError(
                    f"an array of dtype {dtype} of a tensor of {array.dtype} cannot do without a copy"
                )
            return np.array(array, dtype)
        if not array.ndim:
            array.flags.writeable = False
        return array

    def _refuse_storing(self, caller: Any) -> None:
        """Raises if the calling instruction is `array[...] = self` and a tape follows this value."""
        if not listening() or caller.f_code.co_code[caller.f_lasti] not in _STORES:
            return
        if isinstance(self, Variable):
            access(self)
        if not is_followed(self._key):
            return
        raise LeavesTapeError(
            f"a tensor of shape {self.shape} that a tape follows was stored into an ndarray, where its "
            "derivative would be lost; build the array with gradtape.zeros and assign to that, or store "
            ".numpy() on purpose"
        )

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a tensor of rank 0; .size counts its elements")
        return self.shape[0]

    def __iter__(self) -> Iterator["Tensor"]:
        if not self.ndim:
            raise TypeError("a tensor of rank 0 cannot be iterated over")
        return (self[i] for i in range(len(self)))

    def _item(self, kind: str) -> Any:
        """The one element, for Python's conversions."""
        if self._value.size != 1:
            raise TypeError(
                f"{kind}() takes a tensor of one element, not of shape {self.shape}; index it first"
            )
        if kind != "format":
            for journal in journals():
                journal.left(self, f"{kind}()")
        return looked_at(self).item()

    def __bool__(self) -> bool:
        if self._value.size != 1:
            raise ValueError(
                f"the truth of a tensor of shape {self.shape} is ambiguous; use reduce_any or reduce_all"
            )
        return bool(looked_at(self, "truth").item())

    def __int__(self) -> int:
        self._refuse_storing(sys._getframe(1))
        return int(self._item("int"))

    def __float__(self) -> float:
        self._refuse_storing(sys._getframe(1))
        return float(self._item("float"))

    def __complex__(self) -> complex:
        self._refuse_storing(sys._getframe(1))
        return complex(self._item("complex"))

    def __index__(self) -> int:
        if self._value.dtype.kind not in "iub":
            raise TypeError(f"a tensor of dtype {self.dtype} cannot be an index; cast it to an integer")
        return int(self._item("index"))

    def __format__(self, spec: str) -> str:
        if spec:
            return format(self._item("format"), spec)
        return str(looked_at(self) if isinstance(self, Tensor) else self)

    def __hash__(self) -> int:
        return id(self)

    if TYPE_CHECKING:  # operators.py gives every value Python's operators and NumPy's protocols

        @property
        def T(self) -> "Tensor": ...  # noqa: N802
        def __getitem__(self, index: Any) -> "Tensor": ...
        def __add__(self, other: TensorLike) -> "Tensor": ...
        def __radd__(self, other: TensorLike) -> "Tensor": ...
        def __sub__(self, other: TensorLike) -> "Tensor": ...
        def __rsub__(self, other: TensorLike) -> "Tensor": ...
        def __mul__(self, other: TensorLike) -> "Tensor": ...
        def __rmul__(self, other: TensorLike) -> "Tensor": ...
        def __truediv__(self, other: TensorLike) -> "Tensor": ...
        def __rtruediv__(self, other: TensorLike) -> "Tensor": ...
        def __floordiv__(self, other: TensorLike) -> "Tensor": ...
        def __rfloordiv__(self, other: TensorLike) -> "Tensor": ...
        def __mod__(self, other: TensorLike) -> "Tensor": ...
        def __rmod__(self, other: TensorLike) -> "Tensor": ...
        def __pow__(self, other: TensorLike) -> "Tensor": ...
        def __rpow__(self, other: TensorLike) -> "Tensor": ...
        def __matmul__(self, other: TensorLike) -> "Tensor": ...
        def __rmatmul__(self, other: TensorLike) -> "Tensor": ...
        def __neg__(self) -> "Tensor": ...
        def __pos__(self) -> "Tensor": ...
        def __abs__(self) -> "Tensor": ...
        def __invert__(self) -> "Tensor": ...
        def __and__(self, other: TensorLike) -> "Tensor": ...
        def __or__(self, other: TensorLike) -> "Tensor": ...
        def __xor__(self, other: TensorLike) -> "Tensor": ...
        def __lt__(self, other: TensorLike) -> "Tensor": ...
        def __le__(self, other: TensorLike) -> "Tensor": ...
        def __gt__(self, other: TensorLike) -> "Tensor": ...
        def __ge__(self, other: TensorLike) -> "Tensor": ...
        def __eq__(self, other: object) -> "Tensor": ...  # type: ignore[override]
        def __ne__(self, other: object) -> "Tensor": ...  # type: ignore[override]


class Tensor(Value):
    """An array that tapes can follow. Made by `constant`, `convert_to_tensor` and every op, not by hand.

    >>> gt.constant([[1.0, 2.0], [3.0, 4.0]])
    <tf.Tensor: shape=(2, 2), dtype=float32, numpy=
    array([[1., 2.],
           [3., 4.]], dtype=float32)>
    """

    __slots__ = ("_part",)

    _part: bool  # set on what was read from part of another tensor, where NumPy would give a view

    def __init__(self, value: Array) -> None:
        self._value = value
        self._key = new_key()

    def __str__(self) -> str:
        return f"tf.Tensor({_text(looked_at(self), str)}, shape={self.shape}, dtype={self.dtype})"

    def __repr__(self) -> str:
        return f"<tf.Tensor: shape={self.shape}, dtype={self.dtype}, numpy={_text(looked_at(self), repr)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Tensor, (np.asarray(self.numpy())[()],)

    def __copy__(self) -> "Tensor":
        return with_key(self._value, self._key)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Tensor":
        return with_key(self._value, self._key)

    if TYPE_CHECKING:

        def __setitem__(self, index: Any, value: TensorLike) -> None: ...


def with_key(value: Array, key: int) -> Tensor:
    """A tensor of an identity that is known already."""
    tensor = Tensor.__new__(Tensor)
    tensor._value = value
    tensor._key = key
    return tensor


class Variable(Value):
    """A value that can be assigned anew; tapes watch it as soon as an op reads it, if it is trainable.

    initial_value: whatever `convert_to_tensor` takes; dtype: the element type, else the value's own.
    Its shape and dtype stay. Assigning never changes what a tape recorded before.

    >>> v = gt.Variable([1.0, 2.0], name="v")
    >>> v.assign_add([1.0, 1.0])
    <tf.Variable 'v:0' shape=(2,) dtype=float32, numpy=array([2., 3.], dtype=float32)>
    """

    __slots__ = ("_current", "_name", "_trainable")

    def __init__(
        self,
        initial_value: TensorLike,
        trainable: bool = True,
        name: str | None = None,
        dtype: DTypeLike = None,
    ) -> None:
        self._current = convert_to_array(initial_value, dtype)
        self._key = new_key()
        self._trainable = trainable
        self._name = f"{name or 'Variable'}:0"
        for journal in journals() if isinstance(initial_value, Value) else ():
            journal.assigned(self, initial_value, False)
        traced = tracer()
        if traced is not None:
            traced.created(self)

    @property
    def _value(self) -> Any:
        seen = view()
        return self._current if seen is None else seen.read(self)

    @_value.setter
    def _value(self, value: Array) -> None:
        seen = view()
        if seen is None:
            self._current = value
        else:
            seen.write(self, value)

    @property
    def name(self) -> str:
        """The name, with TensorFlow's `:0` behind it."""
        return self._name

    @property
    def trainable(self) -> bool:
        """Whether tapes watch it when it is accessed."""
        return self._trainable

    def assign(self, value: TensorLike) -> "Variable":
        """Takes `value`, of the same shape and dtype (Python numbers and lists are cast); returns the
        variable.

        Raises ShapeError or DTypeError, which name both, and leaves the variable as it was.

        >>> gt.Variable(1.0).assign(2.0)
        <tf.Variable 'Variable:0' shape=() dtype=float32, numpy=2.0>
        """
        return self._become(value, "assign")

    def assign_add(self, delta: TensorLike) -> "Variable":
        """Adds `delta`, which fits like the value of `assign`; returns the variable.

        >>> gt.Variable(1.0).assign_add(2.0)
        <tf.Variable 'Variable:0' shape=() dtype=float32, numpy=3.0>
        """
        return self._become(delta, "assign_add", operator.add)

    def assign_sub(self, delta: TensorLike) -> "Variable":
        """Subtracts `delta`, which fits like the value of `assign`; returns the variable.

        >>> gt.Variable(1.0).assign_sub(2.0)
        <tf.Variable 'Variable:0' shape=() dtype=float32, numpy=-1.0>
        """
        return self._become(delta, "assign_sub", operator.sub)

    def _become(
        self, value: TensorLike, verb: str, update: Callable[[Any, Any], Any] | None = None
    ) -> "Variable":
        if isinstance(value, Value):
            new: Any = value
        else:
            try:
                new = Tensor(
                    as_array(value, self.dtype if isinstance(value, (list, tuple, *_WEAK)) else None)
                )
            except (DTypeError, ShapeError) as problem:
                raise type(problem)(f"{verb}: {problem}") from None
        if new.shape != self.shape:
            raise ShapeError(
                f"{verb}: variable {self._name} has shape {self.shape}, the value has {new.shape}; "
                "a variable keeps its shape"
            )
        if new.dtype != self.dtype:
            raise DTypeError(
                f"{verb}: variable {self._name} has dtype {self.dtype}, the value has {new.dtype}; cast it"
            )
        for journal in journals():
            journal.assigned(self, new, update is not None)
        traced = tracer()
        if traced is None:
            self._value = new._value if update is None else update(self._value, new._value)
            return self
        traced.known(self)
        if update is not None:
            new = update(self, new)
        number = traced.number(new)
        own = new._value.view()  # by whose identity the tracer tells this value from those before
        self._value = own
        traced.assigned(self, number, own)
        return self

    if TYPE_CHECKING:

        def value(self) -> Tensor: ...
        def read_value(self) -> Tensor: ...

    def __repr__(self) -> str:
        text = _text(looked_at(self), repr)
        return f"<tf.Variable '{self._name}' shape={self.shape} dtype={self.dtype}, numpy={text}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Variable, (self.numpy(), self._trainable, self._name.removesuffix(":0"))

    def __deepcopy__(self, memo: dict[int, Any]) -> "Variable":
        return Variable(self._value, self._trainable, self._name.removesuffix(":0"))


def _text(value: Array, printer: Any) -> str:
    """The array as TensorFlow prints it: Python's own text for a scalar, on lines of its own if it has
    several.
    """
    if not value.ndim:
        return printer(value.item() if printer is repr else value[()])  # type: ignore[no-any-return]
    text: str = printer(value)
    return "\n" + text if "\n" in text else text


def is_tensor(x: object) -> bool:
    """Whether `x` is a Tensor, a Variable or an IndexedSlices.

    >>> gt.is_tensor(gt.constant(1.0)), gt.is_tensor(1.0)
    (True, False)
    """
    return isinstance(x, Value)


def as_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """`dtype` as a `numpy.dtype`, or DTypeError; one of the boolean, integer, real and complex types."""
    try:
        found = None if dtype is None else np.dtype(dtype)
    except (TypeError, ValueError):
        found = None
    if found is None or found.kind not in "biufc":
        raise DTypeError(
            f"unknown dtype {dtype!r}; wanted a boolean, integer, real or complex one, such as 'float32'"
        )
    return found


def as_array(value: Any, dtype: np.dtype[Any] | None = None) -> Array:
    """A NumPy array or scalar of its own for a value that is no tensor and holds none.

    Without `dtype`, Python floats become float32, ints int32 (int64 if they need it), bools bool and complex
    complex128; arrays keep their dtype. Raises DTypeError for what is no number, ShapeError for ragged lists.
    """
    kind = type(value)
    if kind in _WEAK and dtype is None:
        found = _WEAK[kind]
        if kind is int and not -(2**31) <= value < 2**31:
            found = np.dtype("int64")
            if not -(2**63) <= value < 2**63:
                raise DTypeError(
                    f"cannot make a tensor of {_brief(value)}: it does not fit int64; make it a float"
                )
        return found.type(value)
    try:
        array = np.array(value)
    except ValueError:
        raise ShapeError(f"a nested list must have rows of equal length, not {_brief(value)}") from None
    if array.dtype.kind not in "biufc":
        why = " (a gradient is None where the target does not depend on the source)" if value is None else ""
        raise DTypeError(
            f"cannot make a tensor of {_brief(value)} (type {kind.__name__}){why}; wanted numbers"
        )
    if dtype is not None:
        lossy = {"f": "biu", "c": "biuf"}.get(array.dtype.kind, "")
        if dtype.kind in lossy and isinstance(value, (list, tuple, float, complex)):
            raise DTypeError(f"cannot make a tensor of dtype {dtype} of {_brief(value)}; cast it")
        given, array = array, array.astype(dtype, copy=False)
        if given.dtype.kind in "iu" and dtype.kind in "iu" and not np.array_equal(given, array):
            raise DTypeError(f"cannot make a tensor of dtype {dtype} of {_brief(value)}: it does not fit")
    elif isinstance(value, (list, tuple, range)) and not holds(value, (np.ndarray, np.generic)):
        array = array.astype(_weak_dtype(array), copy=False)
    return array if array.ndim else array[()]


def convert_to_array(value: TensorLike, dtype: DTypeLike = None) -> Array:
    """The bare array of any value that `convert_to_tensor` takes, off the tape."""
    if not isinstance(value, Value):
        return as_array(value, None if dtype is None else as_dtype(dtype))
    require_dtype(value, dtype)
    return looked_at(value)


def looked_at(value: Value, kind: str = "value") -> Array:
    """The bare array of a value, for Python to decide by; a function that is being recorded is told so, since
    what follows holds only for this value, or this truth.
    """
    traced = tracer()
    if traced is not None:
        traced.asked(value, kind)
    return value._value


def require_dtype(value: Value, dtype: DTypeLike) -> None:
    """Raises DTypeError for a value of another dtype than `dtype`; None takes any."""
    wanted = None if dtype is None else as_dtype(dtype)
    if wanted is not None and value.dtype != wanted:
        raise DTypeError(f"wanted a tensor of dtype {wanted}, got one of {value.dtype}; use cast")


def _weak_dtype(array: np.ndarray[Any, Any]) -> np.dtype[Any]:
    """What a list of Python numbers becomes; NumPy made it int64, float64, complex128 or bool."""
    if array.dtype.kind == "i":
        small = not array.size or (array.min() >= -(2**31) and array.max() < 2**31)
        return np.dtype("int32" if small else "int64")
    return np.dtype("float32") if array.dtype.kind == "f" else array.dtype


def holds(value: Any, kinds: type | tuple[type, ...]) -> bool:
    """Whether a nested list or tuple holds an instance of `kinds`."""
    return any(holds(v, kinds) if isinstance(v, (list, tuple)) else isinstance(v, kinds) for v in value)


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def require_value(x: object, what: str) -> Value:
    """`x` if it is a tensor or a variable, else NotATensorError."""
    if isinstance(x, Value):
        return x
    raise NotATensorError(
        f"{what}: wanted a Tensor or a Variable, got {type(x).__name__}; "
        + (
            "give one at a time"
            if isinstance(x, (list, tuple))
            else "make it with constant before it is used"
        )
    )
