"""What the gradient of a lookup is: rows and their indices, in place of a table that is mostly zeros."""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from gradtape.arguments import wholes
from gradtape.errors import DTypeError, NotATensorError, OutOfRangeError, ShapeError
from gradtape.ops.namespace import raw, recorded
from gradtape.tensor import Array, Tensor, TensorLike, Value, require_value

__all__ = ["IndexedSlices", "Rows", "densified", "require_dense"]


class IndexedSlices(Value):
    """A tensor that is zero but for some rows: what the gradient of a lookup is, so that its cost is theirs.

    values: the rows, shape (k, ...); indices: where they stand along axis 0, k integers from 0 up, in any
    order; rows of equal index add up. dense_shape: the shape of the whole; without it there is no `shape`,
    and nothing to convert to.

    The sum of two holds the rows of both. Every other op, NumPy function and operator takes it for the dense
    tensor, which `convert_to_tensor` makes; derivatives flow to `values`.

    Raises ShapeError if the shapes do not fit each other, DTypeError for indices that are no integers,
    OutOfRangeError for one that is negative or beyond dense_shape[0].

    >>> table = gt.Variable([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> with gt.GradientTape() as tape:
    ...     loss = gt.reduce_sum(gt.nn.embedding_lookup(table, [2, 0, 2]))
    >>> gradient = tape.gradient(loss, table)
    >>> type(gradient).__name__, gradient.shape, gradient.values.shape, gradient.indices.numpy()
    ('IndexedSlices', (3, 2), (3, 2), array([2, 0, 2], dtype=int32))
    >>> gt.convert_to_tensor(gradient).numpy()
    array([[1., 1.],
           [0., 0.],
           [2., 2.]], dtype=float32)
    """

    __slots__ = ("dense_shape", "indices", "values")

    values: Tensor
    indices: Tensor
    dense_shape: tuple[int, ...] | None

    def __init__(
        self, values: TensorLike, indices: TensorLike, dense_shape: Sequence[int] | None = None
    ) -> None:
        values, indices = recorded.convert_to_tensor(values), recorded.convert_to_tensor(indices)
        if indices.ndim != 1 or values.shape[:1] != indices.shape:
            raise ShapeError(
                f"IndexedSlices: values of shape {values.shape} and indices of shape {indices.shape}; "
                "wanted (k, ...) and (k,)"
            )
        if not indices.size and indices.dtype.kind == "f":  # an empty list
            indices = recorded.cast(indices, "int32")
        if indices.dtype.kind not in "iu":
            raise DTypeError(
                f"IndexedSlices: the indices have dtype {indices.dtype}, wanted integers; cast them"
            )
        lowest = int(indices._value.min(initial=0))
        if dense_shape is not None:
            dense_shape = wholes("IndexedSlices: dense_shape", dense_shape)
            if dense_shape[1:] != values.shape[1:] or not dense_shape:
                raise ShapeError(
                    f"IndexedSlices: values of shape {values.shape} are no rows of shape {dense_shape}; "
                    f"wanted (k, *{dense_shape[1:]})"
                )
            highest = int(indices._value.max(initial=0))
            if indices.size and highest >= dense_shape[0]:
                raise OutOfRangeError(
                    f"IndexedSlices: index {highest} is not in [0, {dense_shape[0]}), the rows of shape "
                    f"{dense_shape}"
                )
        if lowest < 0:
            raise OutOfRangeError(f"IndexedSlices: index {lowest} is negative; count the rows from 0 up")
        self.values = values
        self.indices = indices
        self.dense_shape = dense_shape

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the dense tensor; ShapeError without a `dense_shape`."""
        if self.dense_shape is None:
            raise ShapeError(
                "IndexedSlices: without a dense_shape there is no shape, and no dense tensor to convert to; "
                "make it with IndexedSlices(values, indices, dense_shape)"
            )
        return self.dense_shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type, a `numpy.dtype`."""
        return self.values.dtype

    @property
    def ndim(self) -> int:
        """The number of axes of the dense tensor."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements of the dense tensor."""
        return prod(self.shape)

    @property
    def _value(self) -> Array:
        """The dense array, made anew each time, off the tape."""
        return raw.ungather(self.values._value, self.indices._value, self.shape)

    @property
    def _key(self) -> int:  # type: ignore[override]
        """The identity of `values`, by which derivatives flow here."""
        return self.values._key

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return iter(densified(self))

    def __add__(self, other: TensorLike) -> Any:
        alike = isinstance(other, IndexedSlices) and other.dense_shape == self.dense_shape
        if alike and other.dtype == self.dtype:
            indices = [self.indices, other.indices]
            if self.indices.dtype != other.indices.dtype:
                indices = [recorded.cast(x, np.int64) for x in indices]
            return IndexedSlices(
                recorded.concat([self.values, other.values], 0), recorded.concat(indices, 0), self.dense_shape
            )
        return recorded.add(self, other)

    def __str__(self) -> str:
        whole = "" if self.dense_shape is None else f", dense_shape={self.dense_shape}"
        return f"IndexedSlices(indices={self.indices!s}, values={self.values!s}{whole})"

    def __repr__(self) -> str:
        whole = "" if self.dense_shape is None else f", dense_shape={self.dense_shape}"
        return f"IndexedSlices(indices={self.indices!r}, values={self.values!r}{whole})"

    def __reduce__(self) -> tuple[Any, ...]:
        return IndexedSlices, (self.values, self.indices, self.dense_shape)


def densified(slices: IndexedSlices) -> Tensor:
    """The dense tensor, by an op that all who listen hear of; made anew each time, so that they do."""
    return recorded.ungather(slices.values, slices.indices, slices.shape)  # type: ignore[no-any-return]


def require_dense(x: object, what: str) -> Value:
    """`x` if it is a tensor or a variable, else NotATensorError; IndexedSlices only stand for one."""
    if isinstance(x, IndexedSlices):
        raise NotATensorError(f"{what}: wanted a Tensor or a Variable, got IndexedSlices; take its .values")
    return require_value(x, what)


class Rows:
    """What IndexedSlices is among bare arrays: the cotangent of a table, in a sweep that is not recorded.

    parts: the values, shape (k, ...), and the indices, shape (k,), of each lookup. A sum keeps the parts of
    both as they are, so that n lookups are joined once, and not n times over.
    """

    __slots__ = ("parts", "shape")
    __array_ufunc__ = None  # so that an array on the left leaves the sum to __radd__

    def __init__(self, parts: list[tuple[Array, Array]], shape: tuple[int, ...]) -> None:
        self.parts = parts
        self.shape = shape

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Rows):
            return Rows(self.parts + other.parts, self.shape)
        values, indices = self._whole()
        return raw.ungather(values, indices, self.shape) + other

    __radd__ = __add__

    def _whole(self) -> tuple[Array, Array]:
        if len(self.parts) == 1:
            return self.parts[0]
        values, indices = zip(*self.parts, strict=True)
        return np.concatenate(values), _joined(indices)

    def slices(self) -> IndexedSlices:
        """The same of tensors."""
        values, indices = self._whole()
        return IndexedSlices(Tensor(values), Tensor(indices), self.shape)


def _joined(indices: Sequence[Array]) -> Array:
    """Indices in a row: in the dtype that all have, else int64."""
    dtypes = {part.dtype for part in indices}
    return np.concatenate(indices, dtype=dtypes.pop() if len(dtypes) == 1 else np.int64, casting="unsafe")


setattr(raw, "indexed_slices", lambda values, indices, shape: Rows([(values, indices)], shape))  # noqa: B010
setattr(recorded, "indexed_slices", IndexedSlices)  # noqa: B010
