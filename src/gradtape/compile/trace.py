"""Hearing a function run: what becomes of its ops, where Python looked at a value, and what it changed."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from gradtape import recorders
from gradtape.callers import line_of_caller
from gradtape.compile.graph import Node, Spec, hashable
from gradtape.errors import FunctionError, PlanError
from gradtape.ops.batching import OF_SHAPE
from gradtape.ops.effects import Raised, had, had_again
from gradtape.ops.op import Op
from gradtape.tape import GradientTape
from gradtape.tensor import Array, Tensor, Value, Variable, with_key

__all__ = ["SEEN", "Capture", "End", "Guard", "Recording", "Segment", "Tracer"]

SEEN = Op("seen", lambda x: x, (), "", primitive=False)  # a value whose shape a guard has seen

Answer: TypeAlias = bool | bytes | tuple[int, ...]  # what Python was told of a value


# -- what there is to be heard -------------------------------------------------------------------------------


class Guard(NamedTuple):
    """Where Python looked at a value, so that what follows holds only for what it saw.

    kind: "truth", "value" or "shape" of the value with this number; line: of the user's code.
    """

    number: int
    kind: str
    line: str

    def answer(self, value: Array) -> Answer:
        """What Python sees of the value."""
        if self.kind == "truth":
            return bool(value)
        return np.asarray(value).tobytes() if self.kind == "value" else np.shape(value)


class Capture(NamedTuple):
    """A tensor from outside that the function read without being given it."""

    key: int
    value: Array


class End(NamedTuple):
    """What a path ends with: the result, and what variables it leaves changed.

    leaves: for each leaf of the result what it is: "tensor" and the number of its value, "slices" and a tuple
    of those of an IndexedSlices and its shape, "array" and one to copy, or "as it is" and the leaf itself;
    assigned: variables and the numbers of their new values, in the order of assigning; has_rules: whether
    something on the path has a derivative of its own.
    """

    leaves: tuple[tuple[str, Any], ...]
    rebuild: Callable[[list[Any]], Any]
    assigned: tuple[tuple[Variable, int], ...]
    has_rules: bool

    def needs(self) -> set[int]:
        """The numbers of the values that results and variables take."""
        found = {number for _, number in self.assigned}
        for kind, leaf in self.leaves:
            found |= {leaf} if kind == "tensor" else set(leaf[:2]) if kind == "slices" else set()
        return found


class Segment:
    """The ops from one guard to the next, and what came up first in them, all by number."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.specs: dict[int, Spec] = {}
        self.constants: dict[int, Any] = {}
        self.variables: dict[int, Variable] = {}
        self.captures: dict[int, Capture] = {}
        self.guard: Guard | None = None

    def does_as(self, other: "Segment") -> bool:
        """Whether both are of the same ops on the same values."""
        return (
            self.guard == other.guard
            and self.specs == other.specs
            and self.variables.keys() == other.variables.keys()
            and all(v is other.variables[x] for x, v in self.variables.items())
            and {x: c.key for x, c in self.captures.items()} == {x: c.key for x, c in other.captures.items()}
            and len(self.nodes) == len(other.nodes)
            and all(map(_does_as, self.nodes, other.nodes))
            and self.constants.keys() == other.constants.keys()
            and all(_is_same(c, other.constants[x]) for x, c in self.constants.items())
        )


def _does_as(a: Node, b: Node) -> bool:
    same = a.op is b.op and a.operands == b.operands and a.outs == b.outs
    return same and (not a.op.pure or hashable(a.statics) == hashable(b.statics))


def _is_same(a: Any, b: Any) -> bool:
    if isinstance(a, (np.ndarray, np.generic)):
        return isinstance(b, (np.ndarray, np.generic)) and a.tobytes() == b.tobytes()
    return type(a) is type(b) and repr(a) == repr(b)


class Recording(NamedTuple):
    """One run of a function: segments with the answers that led from each to the next, and how it ended."""

    segments: list[Segment]
    answers: list[Answer]
    end: End


# -- hearing it ----------------------------------------------------------------------------------------------


class Tracer:
    """Hears one run of a function, in one thread; on the stack of recorders like a tape.

    Values that follow from the function's arguments, from variables, from tensors outside and from effects
    have numbers, in the order of coming up, so that two runs that did the same have the same numbers. What
    follows from none of them is constant. outcomes: those of the effects that an earlier run of the same call
    has had already, and that this one is to take instead of having them again. may_make: whether the function
    may make variables. outside: who listens to the call of the function as a whole; then values are kept, by
    number.
    """

    def __init__(
        self, name: str, outcomes: Sequence[Any], may_make: bool, outside: Sequence[recorders.Recorder]
    ) -> None:
        self.name = name
        self._may_make = may_make
        self._outside = outside
        self.start = recorders.new_key()
        self._outcomes = list(outcomes)
        self._count = 0
        self._numbers: dict[int, int] = {}  # by key
        self._constants: set[int] = set()
        self._initial: dict[int, int] = {}  # the number of each variable's first value, by its key
        self._versions: dict[int, dict[int, int]] = {}  # of each variable, by the identity of the array
        self._alive: list[Any] = []  # those arrays, so that no other gets their identity
        self._assigned: dict[int, tuple[Variable, int]] = {}
        self._asked: set[tuple[int, str]] = set()
        self.segments = [Segment()]
        self.answers: list[Answer] = []
        self.made: list[Variable] = []
        self.is_kept = True  # whether the path can be had again
        self.may_have_effects = True
        self.has_rules = False  # whether something has a derivative that is not that of its ops
        self.followed: dict[int, Tensor] = {}  # what somebody outside follows, by number
        self.values: dict[int, Array] = {}
        self._read: set[int] = set()
        self._round = self._rounds = 0  # which recomputation is going on, and how many there were
        # hears the function too, if somebody listens
        self.beside = GradientTape(watch_accessed_variables=False)

    # -- as a recorder ---------------------------------------------------------------------------------------

    def record(self, op: Op, keys: tuple[Any, ...], values: tuple[Any, ...], uniform: bool) -> None:
        """Notes the op, unless its result is constant, or was computed by others (see recorders.Recorder)."""
        n = op.operands
        if not n:
            self.has_rules = True
            return
        several = type(keys[-1]) is tuple
        outs, own = (values[-1], keys[-1]) if several else ((values[-1],), keys[-1:])
        operands = tuple([self._number(key, value) for key, value in zip(keys[:n], values[:n], strict=True)])
        if op.batch == OF_SHAPE or all(x in self._constants for x in operands):
            for key, value in zip(own, outs, strict=True):
                self._numbers[key] = self._constant(value)
            return
        numbers = tuple([self._new(key, value) for key, value in zip(own, outs, strict=True)])
        self._note(
            Node(op, operands, values[n : n + op.statics], numbers, line_of_caller(), self._round), own, outs
        )

    def accessed(self, variable: Variable) -> None:
        """Gives the variable's value a number; those outside hear of it once."""
        self.known(variable)
        key = variable._key
        if key not in self._read:
            self._read.add(key)
            for recorder in self._outside:
                recorder.accessed(variable)
            self._follow(self._initial[key], key, Tensor(variable._current), key)

    def known(self, variable: Variable) -> None:
        """Gives the variable's value before the function a number, if it has none."""
        key = variable._key
        if key not in self._versions:
            self._versions[key] = {}
            self._initial[key] = number = self._version(key, variable._current)
            self.segments[-1].variables[number] = variable

    def follows(self, key: int) -> bool:
        """Nothing: derivatives are others' business."""
        return False

    # -- values ----------------------------------------------------------------------------------------------

    def argument(self, tensor: Tensor, source: Tensor | None = None) -> int:
        """Gives an argument of the function, or a cotangent of its result, a number; source: what it was
        given as.
        """
        number = self._new(tensor._key, tensor._value)
        if source is not None:
            self._follow(number, source._key, tensor, tensor._key)
        return number

    def number(self, value: Value) -> int:
        """The number of a tensor or variable."""
        if isinstance(value, Variable):
            recorders.access(value)
        return self._number(value._key, value._value)

    def _next(self) -> int:
        self._count += 1
        return self._count - 1

    def _new(self, key: int, value: Array) -> int:
        number = self._next()
        self._numbers[key] = number
        self._specified(number, value)
        return number

    def _specified(self, number: int, value: Array) -> None:
        self.segments[-1].specs[number] = Spec(value.shape, value.dtype)
        if self._outside:
            self.values[number] = value

    def _constant(self, value: Any) -> int:
        number = self._next()
        self._constants.add(number)
        self.segments[-1].constants[number] = value
        if hasattr(value, "dtype"):
            self.segments[-1].specs[number] = Spec(value.shape, value.dtype)
        return number

    def _number(self, key: int, value: Any) -> int:
        """The number of what an op got: known, constant, or a tensor from outside, which comes up now."""
        if key in self._versions:
            versions = self._versions[key]
            if id(value) not in versions:  # what it was before the function ran, in a derivative of then
                versions[id(value)] = self._constant(value)
                self._alive.append(value)
            return versions[id(value)]
        if not key:
            return self._constant(value)
        if key in self._numbers:
            return self._numbers[key]
        if key > self.start:
            number = self._constant(value)
        else:
            number = self._new(key, value)
            self.segments[-1].captures[number] = Capture(key, value)
            self._follow(number, key, Tensor(value), key)
            return number
        self._numbers[key] = number
        return number

    def _version(self, key: int, value: Array) -> int:
        number = self._next()
        self._specified(number, value)
        self._versions[key][id(value)] = number
        self._alive.append(value)
        return number

    def _follow(self, number: int, key: int, tensor: Tensor, own: int) -> None:
        """Lets the tape beside follow, under its own key, what somebody outside follows."""
        if tensor.dtype.kind in "fc" and any(recorder.follows(key) for recorder in self._outside):
            self.followed[number] = with_key(tensor._value, own)
            self.beside.watch(self.followed[number])

    def is_constant(self, value: Value) -> bool:
        """Whether the value is the same in every run of this path."""
        return self.number(value) in self._constants

    def is_from_outside(self, tensor: Tensor) -> bool:
        """Whether the tensor was there before the function ran, and is none of its arguments."""
        return tensor._key < self.start

    @contextlib.contextmanager
    def recomputing(self) -> Iterator[None]:
        """A block whose ops are to run again in compiled runs too, though they ran before on the same
        values.
        """
        self._rounds += 1
        before, self._round = self._round, self._rounds
        try:
            yield
        finally:
            self._round = before

    # -- where Python looks ----------------------------------------------------------------------------------

    def asked(self, value: Value, kind: str = "value") -> None:
        """Hears that Python is about to look at a value, at its truth or at all of it."""
        number = self.number(value)
        if number not in self._constants:
            array = value._value
            self._guard(number, kind, Guard(number, kind, "").answer(array))

    def _guard(self, number: int, kind: str, answer: Answer) -> None:
        if (number, kind) in self._asked:
            return
        self._asked.add((number, kind))
        self.segments[-1].guard = Guard(number, kind, line_of_caller())
        self.answers.append(answer)
        self.segments.append(Segment())

    def refuse_reading(self, value: Value, how: str) -> None:
        """Raises if a value that is not constant is about to become a bare array, by `how`."""
        if not self.is_constant(value):
            what = "np.asarray, or a NumPy function that calls it," if how == "np.asarray" else how
            raise FunctionError(
                f"{what} of a {value.dtype} tensor of shape {value.shape} inside function {self.name} "
                f"({line_of_caller()}): a compiled run has no such array to look at; use gradtape's ops or "
                "NumPy's on the tensor itself (np.stack puts tensors together), gradtape.print to see it, or "
                "gradtape.numpy_function to call out with it"
            )

    # -- effects ---------------------------------------------------------------------------------------------

    def assigned(self, variable: Variable, number: int, value: Array) -> None:
        """Hears that the variable has the value of this number now, or, in a recomputation, seems to."""
        key = variable._key
        self._versions.setdefault(key, {})[id(value)] = number
        self._alive.append(value)
        if variable._current is value:
            self._assigned.pop(key, None)
            self._assigned[key] = variable, number

    def created(self, variable: Variable) -> None:
        """Hears of a new variable; raises FunctionError but at the first call of the function."""
        if not self._may_make:
            raise FunctionError(
                f"function {self.name} makes a variable at {line_of_caller()} in a call that is not its "
                "first; make variables outside, or once only, as in "
                "`if self.v is None: self.v = gradtape.Variable(...)`"
            )
        self.made.append(variable)

    def happens(self, op: Op, operands: Sequence[Value], do: Callable[..., Sequence[Array]]) -> list[Tensor]:
        """Has an effect, or takes its outcome from an earlier run; a compiled run will have it again."""
        if not self.may_have_effects:
            raise PlanError(f"{op.name} in a derivative, which is not compiled then")
        assigned = list(self._assigned.values())
        numbers = (*(self.number(x) for x in operands), *(number for _, number in assigned))
        again = functools.partial(had_again, [variable for variable, _ in assigned], do)
        outcome = self._outcomes.pop(0) if self._outcomes else had(do, *(x._value for x in operands))
        if isinstance(outcome, Raised):
            self.failed()
            raise outcome.problem
        tensors = [Tensor(value) for value in outcome]
        outs = tuple([self._new(x._key, x._value) for x in tensors])
        self._note(Node(op, numbers, (again,), outs, line_of_caller()), [x._key for x in tensors], outcome)
        return tensors

    def failed(self) -> None:
        """Hears that an op, or an effect, raised: if the function goes on, another call may not come this
        way.
        """
        self.is_kept = False

    def _note(self, node: Node, keys: Sequence[int], values: Sequence[Array]) -> None:
        self.segments[-1].nodes.append(node)
        if not node.op.varies:
            return
        for number, value in zip(node.outs, values, strict=True):
            self.segments[-1].specs[number] = Spec((-1,), value.dtype)
        for key, number, value in zip(keys, node.outs, values, strict=True):
            self._guard(number, "shape", np.shape(value))
            self.segments[-1].nodes.append(Node(SEEN, (number,), (), (self._new(key, value),), node.line))

    # -- the end ---------------------------------------------------------------------------------------------

    def end(self, leaves: Sequence[tuple[str, Any]], rebuild: Callable[[list[Any]], Any]) -> End:
        """How the path ends, once the function has returned."""
        return End(tuple(leaves), rebuild, tuple(self._assigned.values()), self.has_rules)
