"""Kinds of arguments: what two calls must have in common to be one program's."""

import inspect
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradtape.arguments import brief, listed, whole
from gradtape.batched import is_followed
from gradtape.errors import ArgumentError, DTypeError, NotATensorError, ShapeError
from gradtape.ops.op import recorded
from gradtape.slices import IndexedSlices
from gradtape.structure import flatten, outline, unflattened
from gradtape.tensor import DTypeLike, Tensor, Value, as_array, as_dtype

__all__ = [
    "Given",
    "TensorSpec",
    "given",
    "is_number_leaf",
    "kept_alive",
    "own_arrays",
    "quick",
    "with_signature",
]

_BY_VALUE = frozenset({int, bool, str, bytes, type(None), type(Ellipsis)})
_BY_TEXT = frozenset({float, complex, slice, range})  # whose == takes -0.0 for 0.0, and which nan never fits
_NUMBERS = frozenset({int, float, complex})


class TensorSpec:
    """What a tensor must be: its shape, with None for a length that may be any, and its dtype.

    >>> gt.TensorSpec([None, 2], "float32")
    TensorSpec(shape=(None, 2), dtype=float32)
    """

    def __init__(
        self, shape: Sequence[int | None] | None, dtype: DTypeLike = np.float32, name: str | None = None
    ) -> None:
        self.shape: tuple[int | None, ...] | None = None
        if shape is not None:
            what = "TensorSpec: shape"
            lengths = listed(what, shape, "lengths, None for one that may be any")
            self.shape = tuple([n if n is None else whole(what, n) for n in lengths])
        self.dtype = as_dtype(dtype)
        self.name = name

    def is_compatible_with(self, tensor: Value) -> bool:
        """Whether a tensor is of this dtype, and of such a shape.

        >>> gt.TensorSpec([None], "int32").is_compatible_with(gt.constant([1, 2]))
        True
        """
        shape = self.shape
        if not isinstance(tensor, Value):
            raise NotATensorError(f"is_compatible_with: wanted a tensor, got {brief(tensor)}")
        if shape is None:
            return tensor.dtype == self.dtype
        fits = all(n is None or n == m for n, m in zip(shape, tensor.shape, strict=False))
        return tensor.dtype == self.dtype and len(shape) == tensor.ndim and fits

    def __repr__(self) -> str:
        return f"TensorSpec(shape={self.shape}, dtype={self.dtype})"


class Given(NamedTuple):
    """The arguments of one call.

    key: their kind; arrays: the bare values of tensors and arrays, in order; tensors: the same as they were
    given; objects: what is known by identity.
    """

    key: Any
    arrays: list[Any]
    tensors: list[Any]
    objects: list[Any]


def quick(args: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[Any], bool] | None:
    """The kind and the bare arrays of arguments that are tensors, arrays and plain values by position, and
    whether there are arrays among them; None for any others.
    """
    key: list[Any] = []
    arrays: list[Any] = []
    loose = False
    for x in args:
        kind = type(x)
        if kind is Tensor:
            value = x._value
        elif isinstance(x, np.ndarray) and x.dtype.kind in "biufc":
            value = x if kind is np.ndarray else np.asarray(x)
            loose = True
        elif kind in _BY_VALUE:
            key.append(kind)
            key.append(x)
            continue
        elif kind is float:
            key.append(kind)
            key.append(repr(x))
            continue
        else:
            return None
        arrays.append(value)
        key.append(value.shape)
        key.append(value.dtype)
    return tuple(key), arrays, loose


def given(args: tuple[Any, ...], keywords: dict[str, Any], numbers_too: bool) -> Given | None:
    """The arguments by kind; None if some differ from example to example of a mapping."""
    found = None if keywords or numbers_too else quick(args)
    if found is None:
        return _given_structure(args, keywords, numbers_too)
    key, arrays, _ = found
    return Given(key, arrays, [x for x in args if isinstance(x, (Tensor, np.ndarray))], [])


def _given_structure(args: tuple[Any, ...], keywords: dict[str, Any], numbers_too: bool) -> Given | None:
    import optree

    everything: Any = (args, keywords)
    leaves: list[Any]
    leaves, structure = optree.tree_flatten(everything, none_is_leaf=True)
    key: list[Any] = [structure, *_orders(everything)]
    arrays: list[Any] = []
    tensors: list[Any] = []
    objects: list[Any] = []
    for x in leaves:
        for part in (x.values, x.indices) if isinstance(x, IndexedSlices) else (x,):
            kind = type(part)
            if kind is Tensor or is_number_leaf(part, numbers_too):
                value = part._value if kind is Tensor else _bare(part)
                arrays.append(value)
                tensors.append(part)
                key += (value.shape, value.dtype)
            elif isinstance(part, Tensor):
                return None
            elif kind in _BY_VALUE:
                key += (kind, part)
            elif kind in _BY_TEXT:
                key += (kind, repr(part))
            elif kind is frozenset:
                key += (kind, frozenset((type(x), x) for x in part))
            elif isinstance(part, np.dtype):
                key.append(part)
            else:
                key += ("object", id(part))
                objects.append(part)
        if isinstance(x, IndexedSlices):
            key.append(x.dense_shape)
    return Given(tuple(key), arrays, tensors, objects)


def _bare(x: Any) -> Any:
    """What programs compute with: plain arrays, whatever the class of the argument, and scalars."""
    if isinstance(x, np.ndarray):
        return np.asarray(x)
    return x if isinstance(x, np.generic) else as_array(x)


def _orders(x: Any) -> Iterator[tuple[Any, ...]]:
    """The keys of all dicts within, in their order, which structures that are equal need not share."""
    if isinstance(x, dict):
        yield tuple(x)
    if isinstance(x, (dict, list, tuple)):
        for part in x.values() if isinstance(x, dict) else x:
            yield from _orders(part)


def own_arrays(call: "Given", args: Any, keywords: Any, numbers_too: bool) -> tuple["Given", Any, Any]:
    """The arguments with tensors in place of NumPy arrays, which the caller may change meanwhile."""
    if all(isinstance(x, Tensor) for x in call.tensors):
        return call, args, keywords
    leaves, rebuild = unflattened((args, keywords))
    own = [Tensor(as_array(x)) if is_number_leaf(x, numbers_too) else x for x in leaves]
    waiting = (
        x
        for leaf in own
        for x in ((leaf.values, leaf.indices) if isinstance(leaf, IndexedSlices) else (leaf,))
    )
    tensors = [x for x in waiting if type(x) is Tensor]
    return Given(call.key, [x._value for x in tensors], call.tensors, call.objects), *rebuild(own)


def is_number_leaf(x: Any, numbers_too: bool) -> bool:
    """Whether x, which is no tensor, is taken for one: a NumPy array or scalar of numbers, or a Python
    number.
    """
    if isinstance(x, (np.ndarray, np.generic)):
        return x.dtype.kind in "biufc"
    return numbers_too and type(x) in _NUMBERS


def kept_alive(objects: Sequence[Any], forget: Callable[[], None]) -> list[Any]:
    """References to objects that are known by identity: weak ones, that tell when one goes, where
    possible.
    """
    kept: list[Any] = []
    for x in objects:
        try:
            kept.append(weakref.ref(x, lambda _: forget()))
        except TypeError:
            kept.append(x)
    return kept


def require_specs(signature: Any) -> None:
    """Raises ArgumentError for what is no input_signature."""
    flat = flatten(signature) if isinstance(signature, (list, tuple)) else [signature]
    if not isinstance(signature, (list, tuple)) or not all(isinstance(x, TensorSpec) for x in flat):
        raise ArgumentError(
            f"function: input_signature is {signature!r}; wanted a list with a TensorSpec, or a structure of "
            "them, for each argument"
        )


def as_given(result: Any, arguments: Any) -> Any:
    """The result as the transforms of plain functions give it: in arrays, if no argument was a tensor."""
    flat, rebuild = unflattened(result)
    if any(isinstance(x, Value) for x in flatten(arguments)):
        return result
    return rebuild([_array_of(x) if isinstance(x, Tensor) and not is_followed(x) else x for x in flat])


def _array_of(tensor: Tensor) -> Any:
    return np.array(tensor._value) if tensor.ndim else tensor._value[()]


def with_signature(
    f: Callable[..., Any],
    name: str,
    signature: Sequence[Any],
    args: tuple[Any, ...],
    keywords: dict[str, Any],
) -> tuple[Any, ...]:
    """The arguments as tensors of the signature; ArgumentError tells what does not fit."""
    if keywords:
        try:
            bound = inspect.signature(f).bind(*args, **keywords)
        except TypeError as problem:
            raise TypeError(f"{name}: {problem}") from None
        args, keywords = bound.args, bound.kwargs
    if keywords or len(args) != len(signature):
        raise ArgumentError(
            f"{name}: got {len(args)} positional and {len(keywords)} keyword arguments; its input_signature "
            f"wants {len(signature)}, that can be given by position"
        )
    return tuple(
        [
            _fitted(name, f"argument {i}", x, spec)
            for i, (x, spec) in enumerate(zip(args, signature, strict=True))
        ]
    )


def _fitted(name: str, what: str, x: Any, spec: Any) -> Any:
    """One argument, or part of one, as a tensor of its spec, or a structure of them."""
    if not isinstance(spec, TensorSpec):
        import optree

        specs, structure = optree.tree_flatten(spec)
        try:
            parts = structure.flatten_up_to(x)
        except ValueError:
            raise ArgumentError(
                f"{name}: {what} has structure {outline(x)}; its input_signature wants {outline(spec)}"
            ) from None
        pairs = enumerate(zip(parts, specs, strict=True))
        return structure.unflatten([_fitted(name, f"part {i} of {what}", *pair) for i, pair in pairs])
    try:
        plain = not isinstance(x, (Value, np.ndarray, np.generic))
        tensor = recorded.convert_to_tensor(x, spec.dtype if plain else None)
    except (DTypeError, ShapeError) as problem:
        raise ArgumentError(f"{name}: {what} is no {spec}: {problem}") from None
    if not spec.is_compatible_with(tensor):
        raise ArgumentError(
            f"{name}: {what} is {tensor.dtype} of shape {tensor.shape}; its input_signature wants {spec}"
        )
    return tensor
