"""What a tape made of what happened: which values it followed, and where derivatives were cut."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gradtape.explain.journal import Assigned, Heard, Journal, Left, Reset, Watched
from gradtape.sweep import Cuts

__all__ = ["Connection", "Ran", "happened"]

_CUTTERS = {"discrete_cast": "integer_cast", "stop_gradient": "stop_gradient"}


class Connection(NamedTuple):
    """Between an operand and a result of one op, by key. cut: the kind of cause, if one lets no derivatives
    flow here; idle: why the tape did not follow the operand, if it did not.
    """

    operand: int
    result: int
    dtype: np.dtype[np.generic]
    cut: str | None
    idle: str | None


class Ran(NamedTuple):
    """An op that ran, the places and keys of its operands, and their connections with its results."""

    op: Heard
    operands: tuple[tuple[int, int], ...]
    connections: tuple[Connection, ...]


def happened(
    journal: Journal, watches_accessed: bool, cuts: Cuts
) -> Iterator[tuple[int, Ran | Left | Assigned]]:
    """What a journal tells of, in order, each with its place there."""
    live: set[int] = set()
    once_live: set[int] = set()
    watched = {e.key for e in journal.events if isinstance(e, Watched)}
    last_reset = max((i for i, e in enumerate(journal.events) if isinstance(e, Reset)), default=-1)

    def idle(key: int) -> str | None:
        if key in live:
            return None
        return "reset" if key in once_live else "watched_late" if key in watched else "unwatched"

    def cut(at: int, op: Heard, i: int, dtype: np.dtype[np.generic]) -> str | None:
        if dtype.kind not in "fc" or all(rule.index != i for rule in op.op.rules):
            return _CUTTERS.get(op.op.name, "no_derivative")
        if op.paused:
            return "stop_recording"
        if at < last_reset:
            return "reset"
        return "own_rule" if (op.keys[-1], i) in cuts else None

    for at, event in enumerate(journal.events):
        if isinstance(event, Reset):
            live.clear()
        elif isinstance(event, Watched):
            live.add(event.key)
            once_live.add(event.key)
        elif isinstance(event, (Left, Assigned)):
            yield at, event
        else:
            op = Heard(*event)
            operands = op.operands
            for _, key in operands:
                read = journal.variables.get(key)
                if read and read.is_trainable and watches_accessed and not op.paused:
                    live.add(key)
            connections = tuple(
                Connection(operand, result, dtype, cut(at, op, i, dtype), idle(operand))
                for result, (_, dtype) in op.results
                for i, operand in operands
            )
            # what is cut only later, by a reset or in a sweep, is followed until then
            live.update(c.result for c in connections if not c.idle and c.cut in (None, "reset", "own_rule"))
            yield at, Ran(op, operands, connections)
