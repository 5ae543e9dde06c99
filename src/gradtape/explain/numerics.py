"""Where a NaN or an infinity is born: a recorder that looks at every result, and heeds sweeps too."""

import contextlib
import itertools
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from gradtape import recorders
from gradtape.callers import PACKAGE, Site, frame_of_caller, place, site_of
from gradtape.errors import NumericsError
from gradtape.explain.birth import COTANGENT, Birth, Input, inputs_of, names_of
from gradtape.explain.ranges import is_finite, odd_kinds
from gradtape.explain.sweeps import heeded
from gradtape.explain.traps import FORWARD, OF_SUM, OWN_RULE, Origin, in_sweep
from gradtape.ops.op import Namespace, Op
from gradtape.ops.rule import Rule
from gradtape.sweep import Edge
from gradtape.tensor import Value, Variable

__all__ = ["Checker"]

_MOST = 100_000  # of so many latest results at least the lines are known

# Where an op's result is 0 though it should not be, by its operands.
_UNDERFLOWS: dict[str, Callable[..., Any]] = {
    "exp": lambda x: np.greater(x, -np.inf),
    "sigmoid": lambda x: np.greater(x, -np.inf),
    "softmax": lambda logits: np.greater(logits, -np.inf),
    "multiply": lambda x, y: np.logical_and(x, y),
    "divide": lambda x, y: np.logical_and(x, np.isfinite(y)),
    "square": lambda x: np.not_equal(x, 0),
    "pow": lambda x, y: np.logical_and(x, np.isfinite(x) & np.isfinite(y)),
    "smooth_cast": lambda x: np.not_equal(x, 0),
}

# Ops that may hand on a 0 that an op before them made.
_CARRIERS = {
    *("add", "subtract", "negative", "multiply", "divide", "square", "sqrt", "abs", "where", "maximum"),
    *("minimum", "clip_by_value", "matmul", "matvec", "_contract", "_collapse", "reduce_sum", "reduce_mean"),
    *("reduce_max", "reduce_min", "reduce_prod", "reshape", "expand_dims", "squeeze", "transpose", "tile"),
    *("broadcast_to", "concat", "stack", "unstack", "split", "gather", "gather_nd", "take", "read_at"),
    *("identity", "smooth_cast", *_UNDERFLOWS),
}


class _Made(NamedTuple):
    """What made a value: the op's name and title, how many operands it has, the keys of its record, the
    user's line.
    """

    op: str
    title: str
    operands: int
    keys: tuple[Any, ...]
    code: Any
    offset: int

    @property
    def site(self) -> Site:
        return Site(self.code, self.offset)


class Checker(recorders.HearsEachOp):
    """A recorder that raises NumericsError at the first result with a NaN or an infinity that no input had.

    It also knows which op and line made each of the latest results, so that a sweep can tell them. On the
    stack while it is entered.
    """

    __slots__ = ("_made", "_underflowed", "names", "odd_before")

    def __init__(self) -> None:
        self._made: dict[int, tuple[str, str, int, tuple[Any, ...], Any, int]] = {}
        self._underflowed: set[int] = set()
        self.names: dict[int, str] = {}  # of variables, by key
        # What was odd in the operands and results of functions with a derivative of their own, which does not
        # say what it is made of; by the keys of the results.
        self.odd_before: dict[int, set[str]] = {}

    def __enter__(self) -> Self:
        traced = recorders.tracer()
        if traced is not None:
            traced.is_kept = False  # a compiled run would not be checked
        recorders.push(self)
        return self

    def __exit__(self, *problem: object) -> None:
        recorders.pop(self)

    # -- as a recorder ---------------------------------------------------------------------------------------

    def record(self, op: Op, keys: tuple[Any, ...], values: tuple[Any, ...], uniform: bool) -> None:
        """Looks at the result (see `recorders.Recorder`)."""
        frame = frame_of_caller()
        key, out = keys[-1], values[-1]
        if not is_finite(out):
            found = odd_kinds(out) - odd_kinds(values[:-1])
            if found and not _is_apart():
                raise self._born(op, keys, values, site_of(frame), found)
        if not op.operands and not is_finite(values):
            self.odd_before.update(dict.fromkeys(_flat(key), odd_kinds(values)))
        made = op.name, op.title, op.operands, keys, frame.f_code, frame.f_lasti
        for one in _flat(key):
            self._made[one] = made
        if op.name in _UNDERFLOWS and _underflows(op, values):
            self._underflowed.add(key)
        if len(self._made) > 2 * _MOST:
            self._made = dict(itertools.islice(self._made.items(), _MOST, None))
            self._underflowed &= self._made.keys()
            self.odd_before = {key: kinds for key, kinds in self.odd_before.items() if key in self._made}

    def accessed(self, variable: Variable) -> None:
        """Notes the name of a variable that an op is about to read."""
        self.names[variable._key] = variable.name

    def follows(self, key: int) -> bool:
        """Nothing: derivatives are the tape's business."""
        return False

    def _born(
        self, op: Op, keys: tuple[Any, ...], values: tuple[Any, ...], site: Site, found: set[str]
    ) -> NumericsError:
        return Birth(
            op=op,
            gave=f"{op.title} gave {{}}",
            site=site,
            asked=None,
            inputs=inputs_of(names_of(op, len(values) - 1)[:-1], values[:-1], keys[:-1]),
            out=values[-1],
            called="result",
            kinds=found,
            traps=FORWARD.get(op.name, ()),
        ).error(lambda key: list(self.origins(key)))

    def checked(
        self, edges: list[Edge], others: "Sequence[Checker]", seeds: Iterable[tuple[Value, Any]]
    ) -> list[Edge]:
        """The edges for a sweep that this checker and others check.

        seeds: the targets, and the cotangents that the user gave for them.
        """
        checks = _SweepCheck([self, *others], seeds, site_of(frame_of_caller()))
        made = {key for edge in edges for key in _flat(edge[0])}
        leaves = dict.fromkeys(edge[1] for edge in edges if edge[1] not in made)
        return [*map(checks.last_edge, leaves), *heeded(edges, checks)]

    def pushed(
        self, op: Op, keys: tuple[Any, ...], values: tuple[Any, ...], tangents: Sequence[Any], out: Any
    ) -> None:
        """Looks at a tangent that an op's result got from those of its operands."""
        found = set() if is_finite(out) else odd_kinds(out) - odd_kinds(values) - odd_kinds(tangents)
        if not found:
            return
        names = names_of(op, len(values) - 1)
        given = [Input(f"tangent of {names[i]}", t, 0) for i, t in enumerate(tangents) if t is not None]
        raise Birth(
            op=op,
            gave=f"The tangent of {op.title}'s result is {{}}",
            site=site_of(frame_of_caller()),
            asked=None,
            inputs=[*given, *inputs_of(names, values, keys)],
            out=out,
            called="tangent",
            kinds=found,
            traps=in_sweep(op.name) if op.operands else (OWN_RULE,),
        ).error(lambda key: list(self.origins(key)))

    # -- what it knows of the past ---------------------------------------------------------------------------

    def made(self, key: int) -> _Made | None:
        """What made the value of this key, if it has heard of it."""
        found = self._made.get(key)
        return None if found is None else _Made(*found)

    def origins(self, key: int) -> Iterator[Origin]:
        """The ops that the value of this key came from, nearest first, through ops that can hand on a 0."""
        queue, seen = deque([key]), {key}
        while queue and len(seen) < 100:
            made = self.made(queue.popleft())
            if made is None:
                continue
            yield Origin(
                made.op,
                f"{made.title} at {place(made.site)}",
                not self._underflowed.isdisjoint(_flat(made.keys[-1])),
            )
            if made.op in _CARRIERS:
                new = [k for k in made.keys[: made.operands] if k and k not in seen]
                seen.update(new)
                queue.extend(new)


# Functions of this package below which ops are not checked one by one.
_APART = {"sweep", "_SweepCheck.heed", "ForwardAccumulator._push"}


def _flat(key: Any) -> tuple[int, ...]:
    return key if type(key) is tuple else (key,)


def _is_apart() -> bool:
    """Whether the op runs for a derivative: a sweep, whose rules and sums are checked as a whole, or the
    tangent of another op. Rules of the user's are no such thing.
    """
    frame: Any = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith(PACKAGE):
            if frame.f_code.co_qualname in _APART:
                return True
            if frame.f_code.co_qualname == "_SweepCheck._pulled_by_user":
                return False
        frame = frame.f_back
    return False


def _underflows(op: Op, values: tuple[Any, ...]) -> bool:
    out = values[-1]
    if not isinstance(out, (np.ndarray, np.generic)) or out.dtype.kind not in "fc" or out.all():
        return False
    return bool(np.any((out == 0) & _UNDERFLOWS[op.name](*values[: op.operands])))


# -- heeding a sweep -----------------------------------------------------------------------------------------


class _SweepCheck:
    """Heeds one sweep (see `sweeps.Heeder`): every rule, and every sum of cotangents."""

    def __init__(self, checkers: list[Checker], seeds: Iterable[tuple[Value, Any]], asked: Site) -> None:
        self._checkers = checkers
        self._asked = asked
        self._seeds: dict[int, set[str]] = {}  # what was odd in the cotangents that the user gave
        for target, seed in seeds:
            self._seeds.setdefault(target._key, set()).update(odd_kinds(seed))
        self._given: dict[int, tuple[int, set[str]]] = {}  # how many cotangents came, what was odd in them
        self._current: Any = None

    def heed(self, edge: Edge, xp: Namespace, g: Any, saved: Any) -> Any:
        """What the edge's rule gives, once it has been looked at."""
        key, source, rule, *_ = edge
        if key != self._current:
            self._current = key
            self._arrived(key, g, rule.op)
        cotangent = self._pulled(rule, xp, g, saved)
        if cotangent is None:
            return None
        kinds: set[str] = set()
        if not is_finite(cotangent):
            kinds = odd_kinds(cotangent)
            found = kinds - odd_kinds(g) - odd_kinds(saved)
            for checker in self._checkers if found and not rule.op.operands else ():
                found -= set().union(*(checker.odd_before.get(one, ()) for one in _flat(key)))
            if found:
                raise self._born(edge, g, saved, cotangent, found)
        count, before = self._given.get(source, (0, kinds))
        self._given[source] = count + 1, before | kinds
        return cotangent

    def _pulled(self, rule: Rule, xp: Namespace, g: Any, saved: Any) -> Any:
        """What the rule gives; one that is a function of its own may ask tapes, which are to be checked."""
        return rule.pull(xp, g, saved) if rule.op.operands else self._pulled_by_user(rule, xp, g, saved)

    def _pulled_by_user(self, rule: Rule, xp: Namespace, g: Any, saved: Any) -> Any:
        """What a rule gives that is a function of the user's, whose ops are checked one by one."""
        with contextlib.ExitStack() as entered:
            for checker in self._checkers:
                if checker not in recorders.listening():
                    entered.enter_context(checker)
            return rule.pull(xp, g, saved)

    def last_edge(self, key: int) -> Edge:
        """An edge that leads nowhere, at which a sweep looks at the cotangent of what no op made."""

        def pull(xp: Namespace, g: Any, saved: None) -> None:
            self._arrived(key, g, None)

        return key, 0, Rule(_LEAF, 0, pull, ()), None, (key,), None

    def _arrived(self, key: Any, g: Any, op: Op | None) -> None:
        """Looks at the sum of all cotangents of a value, or of several that one op made."""
        given = [self._given.pop(one, (0, set())) for one in _flat(key)]
        if is_finite(g):
            return
        known: set[str] = set().union(
            *(kinds for _, kinds in given), *(self._seeds.get(one, ()) for one in _flat(key))
        )
        found = odd_kinds(g) - known
        if not found:
            return
        count = sum(n for n, _ in given)
        whose = self._name(key) if op is None else f"the result of {op.title}"
        did = (
            f"The sum of the cotangents of {whose} is {{}}"
            if count > 1
            else f"The cotangent of {whose}, brought to its shape and dtype, is {{}}"
        )
        raise Birth(
            op=op or _LEAF,
            gave=did,
            site=self._site(key),
            asked=self._asked,
            inputs=(),
            out=g,
            called="sum" if count > 1 else "cotangent",
            kinds=found,
            traps=(OF_SUM,),
        ).error(self._origins)

    def _born(self, edge: Edge, g: Any, saved: Any, cotangent: Any, found: set[str]) -> NumericsError:
        key, _, rule, _, keys, _ = edge
        names = names_of(rule.op, len(keys) - 1)
        inputs = [Input(COTANGENT, g, 0)]
        if rule.place is not None:
            inputs += inputs_of([rule.take(names)], [saved], [rule.take(keys)])
        elif rule.take is not None:
            inputs += inputs_of(rule.take(names), saved, rule.take(keys))
        return Birth(
            op=rule.op,
            gave=f"The derivative of {rule.op.title} by {names[rule.index]} gave {{}}",
            site=self._site(key),
            asked=self._asked,
            inputs=inputs,
            out=cotangent,
            called="derivative",
            kinds=found,
            traps=in_sweep(rule.op.name) if rule.op.operands else (OWN_RULE,),
        ).error(self._origins)

    def _origins(self, key: int) -> list[Origin]:
        """The ops that the value of this key came from, by all that the checkers know."""
        return [origin for checker in self._checkers for origin in checker.origins(key)]

    def _name(self, key: int) -> str:
        """What to call a value that no op made."""
        names = [checker.names[key] for checker in self._checkers if key in checker.names]
        return f"variable {names[0]}" if names else "a watched value"

    def _site(self, key: Any) -> Site | None:
        """The line of the op that made the value of this key, if one of the checkers heard it."""
        for checker in self._checkers:
            made = checker.made(_flat(key)[0])
            if made is not None:
                return made.site
        return None


_LEAF = Op("", lambda: None, (), "")  # stands for what made a value that no op made
