"""How long each op of a tape takes, when it runs and when the tape is read backwards."""

import functools
import math
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from gradtape import recorders
from gradtape.batched import Batched, only_mappings
from gradtape.explain.sweeps import heeded
from gradtape.ops.op import REGISTRY, Namespace, Op
from gradtape.ops.rule import Forward, identified
from gradtape.recorders import listening
from gradtape.sweep import Edge
from gradtape.tensor import Variable

__all__ = ["Profile", "Times", "call_again", "clock_cost"]

_TRIES = 3
_LONG = 2e-3  # seconds; what took longer is not tried again


class Times(NamedTuple):
    """Of all runs of one op: seconds, how many runs, and their floating-point operations (0 for what is no
    product, NaN where they are not known).
    """

    seconds: float = 0.0
    runs: int = 0
    flops: float = 0.0

    def plus(self, seconds: float, runs: int = 1, flops: float = 0.0) -> "Times":
        return Times(self.seconds + seconds, self.runs + runs, self.flops + flops)

    @property
    def each(self) -> float | None:
        """Seconds of one run, on average."""
        return self.seconds / self.runs if self.runs else None

    @property
    def gflops(self) -> float | None:
        """Billions of floating-point operations a second, of a product."""
        return self.flops / self.seconds / 1e9 if self.flops > 0 and self.seconds else None


@functools.cache
def clock_cost() -> float:
    """Seconds that reading the clock twice adds to a time."""
    times = [-(perf_counter() - perf_counter()) for _ in range(1000)]
    return sorted(times)[len(times) // 2]


class _OfThread(threading.local):
    """The seconds that profiles of this thread have spent on running ops again."""

    again = 0.0


_of_thread = _OfThread()


class Profile:
    """A recorder that runs every op once more, by a clock, and whoever is there, with one, in a sweep.

    forward, sweep: the times by the op's title; sweeps: how many there were; is_on: whether it is to listen
    while the tape records.
    """

    __slots__ = ("_last", "_products", "forward", "is_on", "sweep", "sweeps")

    def __init__(self) -> None:
        self.is_on = False
        self.clear()

    def clear(self) -> None:
        self.forward: defaultdict[str, Times] = defaultdict(Times)
        self.sweep: defaultdict[str, Times] = defaultdict(Times)
        self.sweeps = 0
        self._products: dict[Any, tuple[int, int]] = {}  # multiplications and results, by the result's key
        self._last: tuple[Any, int] = (None, 0)

    # -- forward ---------------------------------------------------------------------------------------------

    def joins(self, tape: recorders.Recorder) -> None:
        """Listens next to the tape, from now on, to what that hears."""
        stack = listening()
        if self.is_on and self not in stack:
            recorders.push(self, stack.index(tape) + 1 if tape in stack else None)

    def leaves(self) -> None:
        recorders.pop(self)

    def record(self, op: Op, keys: tuple[Any, ...], values: tuple[Any, ...], uniform: bool) -> None:
        """Runs the op once more, heard by nobody (see `recorders.Recorder`)."""
        begun = perf_counter()
        call = call_again(op, keys, values)
        if call is None:
            return
        flops = 0.0
        if op.name in _LENGTHS:
            out = values[-1]
            n = _size(out)
            multiplications = n * _LENGTHS[op.name](*values[: op.operands + op.statics])
            self._products[keys[-1]] = multiplications, n
            flops = _flops(multiplications, out)
        self.forward[op.title] = self.forward[op.title].plus(_seconds(call), flops=flops)
        _of_thread.again += perf_counter() - begun

    def ran(self, name: str, seconds: float) -> None:
        """Hears how long something took that is not to be run again."""
        self.forward[name] = self.forward[name].plus(seconds)

    def accessed(self, variable: Variable) -> None:
        """Hears that a variable is read, which takes no time."""

    def follows(self, key: int) -> bool:
        """Nothing: derivatives are the tape's business."""
        return False

    # -- in the sweep ----------------------------------------------------------------------------------------

    def timed(self, edges: Sequence[Edge]) -> list[Edge]:
        """The same edges for a sweep that is to be timed."""
        self.sweeps += 1
        found = heeded(edges, self)
        for edge, (_, _, rule, *_) in zip(edges, found, strict=True):
            if edge[2].rows is not None:  # so that a Jacobian is found in the way that it is without a clock
                rule.rows = functools.partial(self._clocked, edge, edge[2].rows)
        return found

    def heed(self, edge: Edge, xp: Namespace, g: Any, saved: Any) -> Any:
        """What the rule gives (see `sweeps.Heeder`)."""
        return self._clocked(edge, edge[2].pull, xp, g, saved)

    def _clocked(self, edge: Edge, pull: Forward, xp: Namespace, g: Any, saved: Any) -> Any:
        key, _, rule, *_ = edge
        again = _of_thread.again
        start = perf_counter()
        cotangent = pull(xp, g, saved)
        seconds = perf_counter() - start
        seconds -= _of_thread.again - again
        flops = 0.0
        if rule.op.name in _LENGTHS and cotangent is not None and cotangent is not NotImplemented:
            multiplications, n = self._products.get(key, (math.nan, 1))
            flops = _flops(multiplications * _size(g) / max(n, 1), cotangent)
        is_next = key != self._last[0] or rule.index >= self._last[1]  # a record's last operand comes first
        self._last = key, rule.index
        title = rule.op.title
        self.sweep[title] = self.sweep[title].plus(seconds, int(is_next), flops)
        return cotangent


# -- running an op again -------------------------------------------------------------------------------------

_CALLED_BY = {"read_at": "getitem"}  # ops that another one records, at less than their own cost


def call_again(op: Op, keys: tuple[Any, ...], values: tuple[Any, ...]) -> functools.partial[Any] | None:
    """What users call to run this op, with what it was given (see `recorders.Recorder`); None if it must not
    be run again, or others compute its results.
    """
    known = REGISTRY.get(op.name)
    if known is None or not op.pure or not (known is op or (op.variadic and known.variadic)):
        return None
    operands = [identified(x, key) for x, key in zip(values[: op.operands], keys, strict=False)]
    statics = values[op.operands : op.operands + op.statics]
    face = REGISTRY[_CALLED_BY.get(op.name, op.name)].call
    return functools.partial(face, *([operands] if op.variadic else operands), *statics)


def _seconds(call: Callable[[], Any]) -> float:
    """How long a call takes that nobody hears: the best of some tries, unless it is long."""
    best = math.inf
    with only_mappings(), np.errstate(all="ignore"):  # its first run has said what there is to say
        for _ in range(_TRIES):
            start = perf_counter()
            call()
            seconds = perf_counter() - start
            best = min(best, seconds)
            if seconds > _LONG:
                break
    return best


# -- products ------------------------------------------------------------------------------------------------

# The length that each product sums over, from its operands and static attributes.
_LENGTHS: dict[str, Callable[..., int]] = {
    "matmul": lambda a, b, transpose_a, transpose_b, adjoint_a, adjoint_b: a.shape[
        -2 if transpose_a or adjoint_a else -1
    ],
    "matvec": lambda a, b, transpose_a, adjoint_a: b.shape[-1],
    "_contract": lambda a, b, left, right, to: math.prod(
        n for label, n in zip(left, a.shape, strict=True) if label in right and label not in to
    ),
}


def _flops(multiplications: float, result: Any) -> float:
    """Two for each multiplication whose product is added to others, one for each that is not; four times as
    many for complex numbers.

    A product and its derivatives multiply the same pairs of numbers, and differ in what they sum over.
    """
    weight = 4 if result.dtype.kind == "c" else 1
    return weight * (multiplications if multiplications <= _size(result) else 2 * multiplications)


def _size(x: Any) -> int:
    """The number of elements, of all examples together."""
    while type(x) is Batched:
        x = x.examples
    return int(x.size)
