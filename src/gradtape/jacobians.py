"""Whole Jacobians: many cotangents swept backwards at once, or one after the other."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from gradtape.batched import Batched, Mapping, unbatched
from gradtape.errors import ShapeError
from gradtape.ops.op import raw, recorded
from gradtape.recorders import listening
from gradtape.slices import IndexedSlices, Rows, densified
from gradtape.sweep import Edge, sweep
from gradtape.tensor import Tensor, Value

__all__ = ["chunks", "one_by_one", "one_hot_rows", "together"]


def together(
    edges: Callable[[bool], list[Edge]],
    target: Value,
    sources: Sequence[Value],
    seeds: Callable[[int, int], np.ndarray[Any, Any]],
    spans: Iterable[tuple[int, int, bool]],
) -> list[Tensor | None]:
    """The cotangents of the sources for many of the target, with an axis in front that counts them.

    edges: gives those to sweep, told whether it is the last time; seeds: the cotangents of a span, (n,
    *target.shape); spans: from where to where, and whether it is the last.
    """
    wanted = {source._key for source in sources}
    parts: list[list[Tensor | None]] = []
    for start, stop, last in spans:
        with Mapping(stop - start) as mapping:
            seed = Batched(Tensor(seeds(start, stop)), mapping)
            found = sweep(recorded, edges(last), {target._key: seed}, wanted)
        parts.append([unbatched(found.get(source._key), mapping) for source in sources])
    if len(parts) == 1:
        return parts[0]
    return [None if rows[0] is None else recorded.concat(rows, 0) for rows in zip(*parts, strict=True)]


def one_by_one(
    edges: Callable[[bool], list[Edge]],
    target: Value,
    sources: Sequence[Value],
    seeds: Callable[[int, int], np.ndarray[Any, Any]],
    spans: Iterable[tuple[int, int, bool]],
) -> list[Tensor | None]:
    """The same by one sweep for each cotangent."""
    wanted = {source._key for source in sources}
    bare = not listening()
    rows: list[list[Any]] = []
    for start, stop, last in spans:
        seed = seeds(start, stop)[0, ...][()]
        found = sweep(
            raw if bare else recorded, edges(last), {target._key: seed if bare else Tensor(seed)}, wanted
        )
        rows.append([_dense(found.get(source._key)) for source in sources])
    return [None if column[0] is None else recorded.stack(list(column)) for column in zip(*rows, strict=True)]


def _dense(g: Any) -> Any:
    if isinstance(g, Rows):
        g = g.slices()
    return densified(g) if isinstance(g, IndexedSlices) else g


def one_hot_rows(start: int, stop: int, n: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Rows start to stop of the n x n identity matrix."""
    rows = np.zeros((stop - start, n), dtype)
    rows[np.arange(stop - start), np.arange(start, stop)] = 1
    return rows


def chunks(name: str, n: int, size: int | None, progress: bool) -> Iterable[tuple[int, int, bool]]:
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
