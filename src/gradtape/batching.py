"""One function of one example, run on all examples at once: vectorized_map."""

from collections.abc import Callable
from typing import Any

from gradtape.arguments import brief
from gradtape.batched import Batched, Mapping, chunks, mapped
from gradtape.errors import ArgumentError, NotATensorError, ShapeError
from gradtape.ops.batching import size_of, spread
from gradtape.ops.op import recorded
from gradtape.ops.operands import named
from gradtape.structure import unflattened
from gradtape.tensor import Tensor

__all__ = ["vectorized_map"]


def vectorized_map(fn: Callable[[Any], Any], elems: Any, chunk_size: int | None = None) -> Any:
    """`fn` of each slice along the first axis of `elems`, stacked, without a loop in Python.

    fn: a function of this package's ops; it gets one slice of each tensor, in the structure of elems (always
    the same one of a tensor whose first axis has length 1), and returns a tensor or a structure of them, each
    of which comes back with a first axis of as many. Tapes and accumulators work within it (per-example
    gradients) and around it. chunk_size: how many examples at a time at the most, which bounds the memory.

    `fn` runs once, on tensors that stand for all examples, so that it assigns a variable once: `if` and
    `.numpy()` cannot tell them apart, and raise PerExampleError; `where` can. An op without a batching rule
    runs example by example, with one warning. Raises ShapeError if first lengths differ, NotATensorError if
    `fn` returns nothing.

    >>> gt.vectorized_map(lambda row: gt.reduce_sum(row * row), gt.constant([[1.0, 2.0], [3.0, 4.0]]))
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([ 5., 25.], dtype=float32)>
    """
    if not callable(fn):
        raise ArgumentError(f"vectorized_map: wanted a function first, got {brief(fn)}")
    flat, rebuild = unflattened(elems)
    tensors = [recorded.convert_to_tensor(x) for x in flat]
    size = _size(tensors)
    tensors = [spread(recorded, x, size) for x in tensors]
    shape: Callable[[list[Any]], Any] = list

    def run(mapping: Mapping, start: int, stop: int, last: bool) -> list[Any]:
        nonlocal shape
        some = tensors if stop - start == size else [x[start:stop] for x in tensors]
        result = fn(rebuild([Batched(x, mapping) for x in some]))
        results, shape = unflattened(result)
        if all(x is None for x in results):
            name = getattr(fn, "__name__", repr(fn))
            raise NotATensorError(f"vectorized_map: {name} returned {result!r}; return a tensor, or several")
        try:
            return [x if x is None else recorded.convert_to_tensor(x) for x in results]
        except Exception as problem:
            raise named("vectorized_map", problem) from None

    found = mapped(chunks("vectorized_map", size, chunk_size, False), run, draws=True)
    return shape(found)


def _size(tensors: list[Tensor]) -> int:
    """How many examples there are."""
    shapes = [x.shape for x in tensors]
    if not shapes or () in shapes or len({shape[0] for shape in shapes} - {1}) > 1:
        raise ShapeError(
            "vectorized_map: wanted tensors whose first axis counts the examples, all of the same length or "
            f"of length 1, got shapes {shapes}"
        )
    return size_of(tensors)
