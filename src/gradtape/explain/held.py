"""What the records of a tape keep alive: each array once, told of the record that keeps it first."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from types import FunctionType, MethodType
from typing import Any, NamedTuple

import numpy as np

from gradtape.batched import Batched
from gradtape.slices import IndexedSlices
from gradtape.sweep import Edge
from gradtape.tensor import Tensor, Variable

__all__ = ["Held", "held"]

_key = itemgetter(0)  # of the result of an edge's record


class Held(NamedTuple):
    """One record: its op's title, the key (or keys) of its result, the bytes that no record before it keeps,
    and those that variables hold anyway.
    """

    op: str
    key: Any
    kept: int
    of_variables: int


def held(edges: Sequence[Edge], variables: Iterable[Variable]) -> list[Held]:
    """What each record keeps, in the order of recording.

    A view keeps all of the array that it is a view of. What rules keep in their closures, as those of custom
    gradients and compiled functions do, counts as far as functions, containers and tensors lead to it.
    """
    own = {id(_owner(v._value)) for v in variables}
    seen: set[int] = set()
    found: list[Held] = []
    for key, of_record in groupby(edges, _key):
        kept = of_variables = 0
        for _, _, rule, saved, _, _ in of_record:
            op = rule.op
            if not op.operands:  # others computed its results, and its rules keep what they need themselves
                saved = rule.pull
            elif saved is None:
                continue
            for x in (saved,) if type(saved) is np.ndarray else _arrays(saved, seen, own):
                owner = x if x.base is None else _owner(x)
                if id(owner) not in seen:
                    seen.add(id(owner))
                    if id(owner) in own:
                        of_variables += owner.nbytes
                    else:
                        kept += owner.nbytes
        found.append(Held(op.title, key, kept, of_variables))
    return found


def _owner(array: Any) -> Any:
    """The array whose memory this one is a view of; itself if it is none."""
    owner = below = array
    while (below := getattr(below, "base", None)) is not None:
        if isinstance(below, np.ndarray):
            owner = below
    return owner


def _arrays(x: Any, seen: set[int], own: set[int]) -> Iterator[Any]:
    """The arrays and NumPy scalars that x leads to, those of variables noted among their own; containers and
    functions are seen once.
    """
    waiting = [x]
    while waiting:
        x = waiting.pop()
        if isinstance(x, (np.ndarray, np.generic)):
            yield x
        elif isinstance(x, Variable):
            own.add(id(_owner(x._value)))
            yield x._value
        elif id(x) not in seen and (parts := _parts(x)):
            seen.add(id(x))
            waiting.extend(parts)


def _parts(x: Any) -> Sequence[Any]:
    """What x holds, if it is a tensor, a container or a function."""
    if isinstance(x, (tuple, list, set, frozenset)):
        return tuple(x)
    if isinstance(x, dict):
        return tuple(x.values())
    if isinstance(x, Tensor):
        return (x.examples if isinstance(x, Batched) else x._value,)
    if isinstance(x, IndexedSlices):
        return x.values, x.indices
    if isinstance(x, functools.partial):
        return x.func, x.args, x.keywords
    if isinstance(x, MethodType):
        return x.__func__, x.__self__
    if isinstance(x, FunctionType):
        cells = [cell.cell_contents for cell in x.__closure__ or () if _is_filled(cell)]
        return *cells, x.__defaults__, x.__kwdefaults__
    return ()


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False
