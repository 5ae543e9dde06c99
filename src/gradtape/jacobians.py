"""Whole Jacobians: many cotangents swept backwards at once, or one after the other."""

import functools
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

from gradtape.asking import Absent
from gradtape.batched import Batched, Mapping, Span, mapped
from gradtape.errors import ShapeError
from gradtape.ops.op import raw, recorded
from gradtape.recorders import listening
from gradtape.slices import IndexedSlices, Rows, densified
from gradtape.sweep import Cuts, Edge, sweep
from gradtape.tensor import Tensor, Value

__all__ = ["Seeds", "by_example", "matrix", "one_batch", "one_by_one", "together"]


# The cotangents from one place to another among all that are wanted, stacked.
Seeds: TypeAlias = Callable[[int, int], Any]


def one_hot_seeds(target: Value) -> Seeds:
    """The cotangents of each element of the target by itself."""

    def seeds(start: int, stop: int) -> np.ndarray[Any, Any]:
        rows = one_hot_rows(start, stop, target.size, target.dtype)
        return rows.reshape(stop - start, *target.shape)

    return seeds


def one_batch(target: Value, source: Value) -> tuple[int, Seeds]:
    """How many elements an example of the target has, and the cotangents of each of them in all examples at
    once. Raises ShapeError if target and source are not two batches of as many examples.
    """
    if target.ndim < 2 or source.ndim < 2:
        raise ShapeError(
            "batch_jacobian: wanted a target and a source of two axes or more, got shapes "
            f"{target.shape} and {source.shape}; `jacobian` takes any"
        )
    if target.shape[0] != source.shape[0]:
        raise ShapeError(
            f"batch_jacobian: the first lengths of target {target.shape} and source {source.shape} differ; "
            "they count the rows of one batch"
        )
    batch, *inner = target.shape
    n = math.prod(inner)

    def seeds(start: int, stop: int) -> np.ndarray[Any, Any]:
        rows = one_hot_rows(start, stop, n, target.dtype).reshape(stop - start, 1, *inner)
        return np.broadcast_to(rows, (stop - start, batch, *inner))

    return n, seeds


def together(
    edges: list[Edge],
    target: Value,
    sources: Sequence[Value],
    seeds: Seeds | None,
    spans: Iterable[Span],
    cuts: Cuts | None,
) -> list[Tensor | None]:
    """The cotangents of the sources for many of the target, with an axis in front that counts them.

    edges are consumed; seeds: the cotangents of a span, (n, *target.shape), or None for those of each element
    by itself; spans: from where to where, and whether it is the last; cuts: as for `sweep`.
    """
    wanted = {source._key for source in sources}
    key = target._key
    if seeds is None:
        key, seeds = _written_down(edges, target, wanted)
    start_from = seeds

    def run(mapping: Mapping, start: int, stop: int, last: bool) -> list[Any]:
        rows = start_from(start, stop)
        seed = Batched(rows if isinstance(rows, Tensor) else Tensor(rows), mapping)
        found = sweep(recorded, edges if last else edges.copy(), {key: seed}, wanted, cuts)
        return [found.get(source._key) for source in sources]

    return mapped(spans, run)


def _written_down(edges: list[Edge], target: Value, wanted: Collection[int]) -> tuple[int, Seeds]:
    """Takes off the last edges as long as the Jacobian beyond them can be written down without a product.

    Through elementwise ops of one operand it stays diagonal, and an op that declares `rows` makes a matrix of
    that. Returns the key of the value that was reached, and the target's Jacobian by it, as seeds.
    """
    key = target._key
    diagonal: Any = None
    while key not in wanted and (edge := _lone_edge(edges, key)) is not None:
        _, source, rule, saved, keys, _ = edge
        kept = rule.wrap(saved, keys)
        d = Tensor(np.ones(target.shape, target.dtype)[()]) if diagonal is None else diagonal
        if rule.op.broadcasts:
            diagonal = rule.pull(recorded, d, kept)
        else:
            rows = rule.rows(recorded, d, kept) if rule.rows and target.ndim == 1 else NotImplemented
            if rows is NotImplemented:
                break
            edges.pop()
            return source, functools.partial(_cut, rows)
        edges.pop()
        key = source
    seeds = one_hot_seeds(target)
    return key, seeds if diagonal is None else lambda start, stop: seeds(start, stop) * diagonal


def _lone_edge(edges: list[Edge], key: int) -> Edge | None:
    """The edge that alone leads to the value of this key, if its cotangent needs no fitting; takes off those
    that lead elsewhere.
    """
    while edges and key not in (edges[-1][0] if type(edges[-1][0]) is tuple else (edges[-1][0],)):
        edges.pop()
    alone = edges and edges[-1][0] == key and edges[-1][-1] is None
    return edges[-1] if alone and not (len(edges) > 1 and edges[-2][0] == key) else None


def _cut(rows: Tensor, start: int, stop: int) -> Tensor:
    return rows if stop - start == rows.shape[0] else rows[start:stop]


def one_by_one(
    edges: list[Edge],
    target: Value,
    sources: Sequence[Value],
    seeds: Seeds | None,
    spans: Iterable[Span],
    cuts: Cuts | None,
) -> list[Tensor | None]:
    """The same by one sweep for each cotangent."""
    wanted = {source._key for source in sources}
    bare = not listening()
    seeds = one_hot_seeds(target) if seeds is None else seeds
    rows: list[list[Any]] = []
    for start, stop, last in spans:
        seed = seeds(start, stop)[0, ...][()]
        found = sweep(
            raw if bare else recorded,
            edges if last else edges.copy(),
            {target._key: seed if bare else Tensor(seed)},
            wanted,
            cuts,
        )
        rows.append([_dense(found.get(source._key)) for source in sources])
    return [None if column[0] is None else recorded.stack(list(column)) for column in zip(*rows, strict=True)]


def _dense(g: Any) -> Any:
    if isinstance(g, Rows):
        g = g.slices()
    return densified(g) if isinstance(g, IndexedSlices) else g


def matrix(g: Tensor | None, shape: tuple[int, ...], source: Value, absent: Absent) -> Tensor | None:
    """Swept rows as a Jacobian of this shape; zeros, or None, where there are none."""
    return absent(source, shape) if g is None else recorded.reshape(recorded.convert_to_tensor(g), shape)


def by_example(g: Tensor | None, target: Value, source: Value, absent: Absent) -> Tensor | None:
    """Rows that were swept for all examples of a batch at once as a Jacobian for each example."""
    if g is not None:
        g = recorded.transpose(g, (1, 0, *range(2, g.ndim)))
    return matrix(g, (*target.shape, *source.shape[1:]), source, absent)


def one_hot_rows(start: int, stop: int, n: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Rows start to stop of the n x n identity matrix."""
    rows = np.zeros((stop - start, n), dtype)
    rows[np.arange(stop - start), np.arange(start, stop)] = 1
    return rows
