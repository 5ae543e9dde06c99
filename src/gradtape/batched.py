"""Many examples at once: tensors that hold one value for each, and the mapping that they belong to."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeAlias, cast

import numpy as np

from gradtape import recorders
from gradtape.errors import PerExampleError, ShapeError
from gradtape.ops.namespace import recorded
from gradtape.recorders import HearsEachOp, Recorder, listening
from gradtape.tensor import Tensor, Value, Variable, with_key

if TYPE_CHECKING:
    from gradtape.ops.op import Op

__all__ = [
    "Batched",
    "Mapping",
    "Span",
    "alias",
    "alone",
    "chunks",
    "innermost",
    "is_followed",
    "mapped",
    "only_mappings",
    "unbatched",
]

Span: TypeAlias = tuple[int, int, bool]  # from where to where, and whether it is the last


class Mapping(HearsEachOp):
    """One mapping over `size` examples: a mark on the stack of recorders.

    Whoever was pushed after it hears of ops on one example's shapes; whoever was there before hears of what
    is really computed, the ops on all examples together. So tapes work inside, outside and on both sides.
    draws: whether each example draws random numbers of its own; the rows of a Jacobian do not.
    """

    __slots__ = ("draws", "size")

    def __init__(self, size: int, draws: bool = False) -> None:
        self.size = size
        self.draws = draws

    def __enter__(self) -> Self:
        recorders.push(self)
        return self

    def __exit__(self, *problem: object) -> None:
        recorders.pop(self)

    def record(self, op: "Op", keys: tuple[Any, ...], values: tuple[Any, ...], uniform: bool) -> None:
        """Hears of an op that all examples share."""

    def accessed(self, variable: Variable) -> None:
        """Hears of a variable that all examples share."""

    def follows(self, key: int) -> bool:
        """Nothing: a mapping keeps nothing."""
        return False

    def inside(self) -> tuple[Recorder, ...]:
        """Those who listen to one example."""
        stack = listening()
        return stack[stack.index(self) + 1 :]

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """A block that only those hear who listen to all examples."""
        stack = listening()
        recorders.set_listening(stack[: stack.index(self)])
        try:
            yield
        finally:
            recorders.set_listening(stack)

    def all_examples(self, value: Any, key: int) -> Any:
        """What an op got, with the axis of the examples in front: of length 1 if they share it."""
        if type(value) is Batched and value.mapping is self:
            return value.examples
        if value is None:
            return None
        shared = value if type(value) is Batched else with_key(value, key) if key else value
        return recorded.expand_dims(shared, 0)


class Batched(Tensor):
    """A tensor for each example of a mapping; its shape is that of one. Ops take it like any tensor.

    examples: the tensor of all, with their axis in front. What needs one plain value (`if`, `.numpy()`,
    `float`) raises PerExampleError.
    """

    __slots__ = ("examples", "mapping")

    def __init__(self, examples: Tensor, mapping: Mapping) -> None:
        self.examples = examples
        self.mapping = mapping
        self._key = recorders.new_key()

    @property
    def _value(self) -> Any:
        raise PerExampleError(
            f"a tensor of shape {self.shape} that differs from example to example was asked for one plain "
            "value (by if, while, float(), .numpy(), a variable's assign or the like); inside vectorized_map "
            "choose with gradtape.where and index with gradtape.gather"
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.examples.shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type."""
        return self.examples.dtype

    @property
    def ndim(self) -> int:
        """The number of axes of one example."""
        return self.examples.ndim - 1

    @property
    def size(self) -> int:
        """The number of elements of one example."""
        return int(np.prod(self.shape, dtype=int))

    def __repr__(self) -> str:
        n = self.mapping.size
        return f"<tf.Tensor: shape={self.shape}, dtype={self.dtype}, one for each of {n} examples>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(self._item("format"), spec) if spec else str(self)

    def __copy__(self) -> Tensor:
        return alias(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return alias(self)


def alias(tensor: Value) -> Tensor:
    """Another tensor of the same value and identity, so that assigning to one does not reach the other."""
    if not isinstance(tensor, Batched):
        return with_key(tensor._value, tensor._key)
    other = Batched.__new__(Batched)
    other.examples, other.mapping, other._key = tensor.examples, tensor.mapping, tensor._key
    return other


def is_followed(x: Value) -> bool:
    """Whether anyone who listens follows this value, for one example or for all."""
    while not recorders.is_followed(x._key):
        if not isinstance(x, Batched):
            return False
        x = x.examples
    return True


@contextlib.contextmanager
def alone(recorder: Recorder) -> Iterator[None]:
    """A block in which of all who listen only `recorder` does, and whoever is pushed meanwhile; a function
    that is being recorded hears all of itself, though.
    """
    stack = listening()
    kept = [other for other in stack if isinstance(other, Mapping) or other is recorders.tracer()]
    recorders.set_listening((*kept, recorder))
    try:
        yield
    finally:
        recorders.set_listening(stack)


@contextlib.contextmanager
def only_mappings() -> Iterator[None]:
    """A block that nobody hears, within the mappings that there are."""
    stack, traced = listening(), recorders.tracer()
    recorders.set_listening(tuple([other for other in stack if isinstance(other, Mapping)]))
    recorders.set_tracer(None)
    try:
        yield
    finally:
        recorders.set_listening(stack)
        recorders.set_tracer(traced)


def innermost(values: Sequence[Any]) -> Mapping:
    """The mapping that was entered last of those that the batched ones of the values belong to.

    Raises PerExampleError if one of them has ended.
    """
    stack = listening()
    last = -1
    for value in values:
        if type(value) is Batched:
            if value.mapping not in stack:
                raise PerExampleError(
                    "a tensor from inside a vectorized_map was used after it had ended; return it from the "
                    "function"
                )
            last = max(last, stack.index(value.mapping))
    return cast(Mapping, stack[last])


def unbatched(x: Any, mapping: Mapping) -> Tensor | None:
    """What a mapping gave, for all examples, with their axis in front; None stays None."""
    if x is None:
        return None
    if type(x) is Batched and x.mapping is mapping:
        return x.examples
    whole: Tensor = recorded.broadcast_to(recorded.expand_dims(x, 0), (mapping.size, *x.shape))
    return whole


# -- all of them, some at a time -----------------------------------------------------------------------------


def chunks(name: str, n: int, size: int | None, progress: bool) -> Iterable[Span]:
    """0 to n in spans of at most `size` (all in one if None; an empty one if n is 0), each told if it is the
    last; with a progress bar, if wanted. Raises ShapeError for a size below 1.
    """
    if size is not None and (not isinstance(size, (int, np.integer)) or size < 1):
        raise ShapeError(f"{name}: chunk_size is {size!r}; wanted None, or an integer of at least 1")
    step = n if size is None else int(size)
    spans = [(start, min(start + step, n), start + step >= n) for start in range(0, n or 1, step or 1)]
    if not progress:
        return spans
    try:
        from tqdm import tqdm
    except ImportError:
        raise ImportError(f"{name}: progress=True shows its bar by tqdm; pip install tqdm") from None
    return tqdm(spans, desc=name)  # type: ignore[no-any-return]


def mapped(
    spans: Iterable[Span], run: Callable[[Mapping, int, int, bool], Sequence[Any]], draws: bool = False
) -> list[Tensor | None]:
    """What `run` gives for each span, within a mapping over as many examples; of all, their axis in front."""
    parts: list[list[Tensor | None]] = []
    for start, stop, last in spans:
        with Mapping(stop - start, draws) as mapping:
            found = run(mapping, start, stop, last)
        parts.append([unbatched(x, mapping) for x in found])
    if len(parts) == 1:
        return parts[0]
    return [None if rows[0] is None else recorded.concat(rows, 0) for rows in zip(*parts, strict=True)]
