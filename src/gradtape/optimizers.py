"""What changes variables by their gradients: SGD and Adam, with Keras's arguments and formulas."""

import contextlib
import functools
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gradtape.arguments import brief, listed, number
from gradtape.errors import (
    ArgumentError,
    DTypeError,
    FunctionError,
    NotATensorError,
    ShapeError,
    StructureError,
)
from gradtape.ops.op import Namespace, Op, raw, recorded
from gradtape.ops.scatter import add_blocks
from gradtape.recorders import listening, new_key, set_listening, tracer, unheard, who_can
from gradtape.replay import view
from gradtape.slices import IndexedSlices
from gradtape.tensor import Array, Tensor, TensorLike, Value, Variable, convert_to_array

if TYPE_CHECKING:
    from gradtape.compile.trace import Tracer

__all__ = ["SGD", "Adam", "Optimizer"]

# A fixed rate, or a function of how many steps were made.
LearningRate: TypeAlias = float | Value | Callable[[Any], Any]
# What to change: a variable, the rows of it (None: all), and the gradient, of those rows; tensors where a
# function is being recorded, else bare arrays.
Change: TypeAlias = tuple[Variable, Any, Any]


class Optimizer:
    """What SGD and Adam share: the learning rate, the count of steps, and the state kept for each variable.

    clipnorm: each gradient is shortened to this length; clipvalue: its elements are brought into
    [-clipvalue, clipvalue]; global_clipnorm: all gradients are scaled so that their common length is at most
    this. A subclass says what it keeps for a variable (`_slots`) and how it makes the new value (`_update`).

    A gradient that is an `IndexedSlices` changes just its rows, those of equal index added up first, and
    reads and writes no others, neither the variable's nor the state's. So, unlike in a step by the dense
    gradient, a row that is not looked up does not move: its momentum and Adam's moments do not decay, nor
    does weight decay shrink it. The array is changed in place if nobody else sees it, else copied first;
    another thread must not read the variable meanwhile.

    In a `function` a step becomes part of the compiled program, which reads and changes the same state, and
    heeds a learning rate that is set later; all other arguments are as they were when it was recorded. There
    a step by `IndexedSlices` copies the whole array.

    >>> isinstance(gt.optimizers.Adam(), gt.optimizers.Optimizer)
    True
    """

    _kinds = "fc"

    def __init__(
        self,
        learning_rate: LearningRate,
        weight_decay: float | None,
        clipnorm: float | None,
        clipvalue: float | None,
        global_clipnorm: float | None,
        name: str,
    ) -> None:
        if [x is None for x in (clipnorm, clipvalue, global_clipnorm)].count(True) < 2:
            raise ArgumentError(f"{name}: give one of clipnorm, clipvalue and global_clipnorm, not several")
        self._was_recorded = False
        self._schedule: Callable[[Any], Any] | None = None
        self._rate = Variable(0.0, trainable=False, name="learning_rate", dtype="float64")
        self.learning_rate = learning_rate
        self.weight_decay = _bound(f"{name}: weight_decay", weight_decay)
        self.clipnorm = _bound(f"{name}: clipnorm", clipnorm)
        self.clipvalue = _bound(f"{name}: clipvalue", clipvalue)
        self.global_clipnorm = _bound(f"{name}: global_clipnorm", global_clipnorm)
        self.name = name
        self.iterations = Variable(0, trainable=False, name="iterations", dtype="int64")
        self._states: dict[Variable, tuple[Variable, ...]] = {}

    @property
    def learning_rate(self) -> float | Tensor:
        """The rate of the next step. Set it to a number, or to a function of `iterations`, as an int.

        In a `function` it is a float64 tensor, and so is, of int64, what a function of `iterations` gets.
        Once that was compiled, a number can only be followed by another, else FunctionError is raised.

        >>> optimizer = gt.optimizers.SGD(lambda step: 0.1 / (step + 1))
        >>> optimizer.iterations.assign_add(1).numpy(), optimizer.learning_rate
        (np.int64(1), 0.05)
        """
        traced = tracer() is not None
        if self._schedule is None:
            return self._rate.value() if traced else float(self._rate._value)
        if traced:
            return _scalar(self._schedule(self.iterations.value()))
        return number("learning_rate: its function of the step", self._schedule(int(self.iterations)))

    @learning_rate.setter
    def learning_rate(self, rate: LearningRate) -> None:
        if not callable(rate) and not isinstance(rate, (int, float, np.number, Value)):
            raise ArgumentError(
                f"learning_rate: wanted a number, or a function of the step, got {brief(rate)}"
            )
        if self._was_recorded and (callable(rate) or self._schedule is not None):
            raise FunctionError(
                "learning_rate: a function was compiled with this optimizer, and would go on with the old "
                "rate; only a number can follow a number then, and nothing a schedule; make a new optimizer"
            )
        if callable(rate):
            self._schedule = rate
        else:
            self._rate.assign(_scalar(rate))
            self._schedule = None

    def apply_gradients(self, grads_and_vars: Iterable[tuple[TensorLike, Variable]]) -> None:
        """Makes one step: changes each variable by its gradient, and adds 1 to `iterations`.

        Variables whose gradient is None stay as they are, with one warning that names them. Raises
        ArgumentError if all are, StructureError for what are no pairs, NotATensorError for what is no
        variable, ShapeError or DTypeError for a gradient unlike its variable; nothing is changed then.

        >>> v = gt.Variable([1.0, 2.0])
        >>> gt.optimizers.SGD(0.5).apply_gradients([(gt.constant([2.0, 2.0]), v)])
        >>> v.numpy()
        array([0., 1.], dtype=float32)
        """
        pairs = listed("apply_gradients", grads_and_vars, "(gradient, Variable) pairs")
        if not pairs:
            raise ArgumentError("apply_gradients: got no (gradient, Variable) pairs; the list is empty")
        for pair in pairs:
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise StructureError(
                    "apply_gradients: wanted (gradient, Variable) pairs, as from zip(gradients, variables), "
                    f"got {type(pair).__name__} among them"
                )
            variable = pair[1]
            if not isinstance(variable, Variable):
                kind = type(variable).__name__
                raise NotATensorError(
                    f"apply_gradients: wanted (gradient, Variable) pairs, got a {kind} to change; the "
                    "gradient comes first, as in zip(gradients, variables)"
                )
        without = [variable.name for gradient, variable in pairs if gradient is None]
        if len(without) == len(pairs):
            raise ArgumentError(
                f"apply_gradients: no gradient for any of {without}; the loss depends on none of them, "
                "or was not computed within the tape's block"
            )
        given = [(gradient, variable) for gradient, variable in pairs if gradient is not None]
        traced = tracer()
        with contextlib.nullcontext() if traced is None else _heard_only_by(traced, given):
            xp = raw if traced is None else recorded
            ready = [(variable, *self._gradient(xp, gradient, variable)) for gradient, variable in given]
            if without:
                what = f"apply_gradients: no gradient for {without}, which stay as they are"
                warnings.warn(what, stacklevel=2)
            self._step(xp, ready)

    def _step(self, xp: Namespace, ready: list[Change]) -> None:
        """Makes the step, in xp, once all gradients are known to fit."""
        rate: Any = self.learning_rate
        made: Any = float(self.iterations._value) if xp is raw else recorded.cast(self.iterations, np.float64)
        step = made + 1.0
        self._was_recorded = self._was_recorded or xp is recorded
        change = self._change if xp is raw else self._change_recorded
        for variable, rows, gradient in self._clipped(xp, ready):
            change(variable, rows, gradient, rate, step)
        self.iterations.assign_add(1)

    def _gradient(self, xp: Namespace, gradient: TensorLike, variable: Variable) -> tuple[Any, Any]:
        """The rows and their gradient, or None and the gradient, if it fits the variable."""
        found: Any = gradient
        if not isinstance(gradient, IndexedSlices):
            plain = isinstance(gradient, (float, int, list, tuple))
            made = convert_to_array if xp is raw else recorded.convert_to_tensor
            found = made(gradient, variable.dtype if plain else None)
        what = f"apply_gradients: variable {variable.name} of"
        pairs = "the gradients must come in the order of their variables"
        if found.shape != variable.shape:
            raise ShapeError(f"{what} shape {variable.shape} got a gradient of shape {found.shape}; {pairs}")
        if found.dtype != variable.dtype:
            raise DTypeError(f"{what} dtype {variable.dtype} got a gradient of {found.dtype}; cast it")
        if found.dtype.kind not in self._kinds:
            raise DTypeError(
                f"{what} dtype {found.dtype} is not what {type(self).__name__} can change; cast it"
            )
        if not isinstance(found, IndexedSlices):
            return None, found
        if xp is raw:
            return _summed(found.values._value, found.indices._value)
        (summed,) = _noted(_SUM_REPEATED, [found.values, found.indices])
        return found.indices, summed

    def _clipped(self, xp: Namespace, ready: list[Change]) -> list[Change]:
        """The gradients, each or all together cut to the length asked for, or to values within the bound."""
        if self.clipvalue is not None:
            bound = float(self.clipvalue)
            return [(v, rows, _within(xp, g, bound)) for v, rows, g in ready]
        if self.clipnorm is not None:
            most = float(self.clipnorm)
            return [(v, rows, _shortened(xp, g, _length(xp, g), most)) for v, rows, g in ready]
        if self.global_clipnorm is not None:
            most = float(self.global_clipnorm)
            length = xp.sqrt(sum(_length(xp, g) ** 2.0 for *_, g in ready))
            return [(v, rows, _shortened(xp, g, length, most)) for v, rows, g in ready]
        return ready

    def _kept(self, variable: Variable) -> tuple[Variable, ...]:
        """What is kept for the variable: zeros at first, of which no function need know that they are new."""
        if variable not in self._states:
            with unheard():
                self._states[variable] = tuple(
                    Variable(Tensor(_zeros(variable._value)), False, f"{variable.name[:-2]}/{slot}")
                    for slot in self._slots()
                )
        return self._states[variable]

    def _change(
        self, variable: Variable, rows: Array | None, gradient: Array, rate: float, step: float
    ) -> None:
        """Makes the step for one variable."""
        kept = self._kept(variable)
        checkers = who_can("checked")
        before = _at(rows, variable._value) if checkers else None
        if rows is None:
            new, *state = self._new(raw, variable._value, gradient, rate, step, *map(_to_be_changed, kept))
            variable.assign(Tensor(new if new.ndim else new[()]))
        else:
            arrays = [_to_be_changed(x) for x in (variable, *kept)]
            _change_rows(self._new, arrays, rows, gradient, rate, step)
            variable._value, *state = arrays
        for x, value in zip(kept, state, strict=True):
            x._value = value
        for checker in checkers:
            keys, values = (variable._key, 0, new_key()), (before, gradient, _at(rows, variable._value))
            checker.record(_step_of(type(self).__name__), keys, values, False)

    def _change_recorded(
        self, variable: Variable, rows: Tensor | None, gradient: Tensor, rate: Tensor, step: Tensor
    ) -> None:
        """The same in a function that is being recorded, by ops that it hears of."""
        kept = self._kept(variable)
        value, *state = [x.value() for x in (variable, *kept)]
        if rows is None:
            new = self._new(recorded, value, gradient, rate, step, *state)
        else:
            operands = [value, gradient, rows, rate, step, *state]
            new = _noted(_update_rows(len(operands)), operands, self._new)
        for x, part in zip((variable, *kept), new, strict=True):
            x.assign(part)

    def _new(
        self, xp: Namespace, value: Any, gradient: Any, rate: Any, step: Any, *state: Any
    ) -> Sequence[Any]:
        """`_update`, after weight decay."""
        if self.weight_decay:
            value = value * _weak(xp, 1.0 - self.weight_decay * rate, value)
        return self._update(xp, value, gradient, rate, step, *state)

    def _slots(self) -> Sequence[str]:
        """The names of what is kept for a variable, each in its shape and dtype."""
        raise NotImplementedError

    def _update(
        self, xp: Namespace, value: Any, gradient: Any, rate: Any, step: Any, *state: Any
    ) -> Sequence[Any]:
        """The new value, in a new array, since a tape may hold the old one, and the new state.

        rate, step: floats, or float64 tensors without axes. Elementwise, since it may be of some rows only.
        `state *= ...` changes bare arrays in place, which is faster, and of tensors makes new ones.
        """
        raise NotImplementedError


@contextlib.contextmanager
def _heard_only_by(traced: "Tracer", given: Sequence[tuple[Any, Variable]]) -> Iterator[None]:
    """A block in which a function that is being recorded hears how a step is made, and no tape does.

    Tapes outside the function hear which variables it reads, as they will in compiled runs.
    """
    stack = listening()
    for recorder in stack[: stack.index(traced) + 1]:
        for _, variable in given:
            recorder.accessed(variable)
    set_listening((traced,))
    try:
        yield
    finally:
        set_listening(stack)


def _bound(what: str, x: float | None) -> float | None:
    """A number that is not negative, or None."""
    if x is None:
        return None
    bound = number(what, x)
    if not bound >= 0:
        raise ArgumentError(f"{what}: wanted a number of at least 0, got {x!r}")
    return bound


def _within_one(what: str, x: float, closed: bool = False) -> float:
    """A number of [0, 1), or of [0, 1] if closed."""
    share = number(what, x)
    if not 0 <= share <= 1 or (share == 1 and not closed):
        raise ArgumentError(f"{what} must lie in [0, 1{']' if closed else ')'}, not {x!r}")
    return share


def _scalar(rate: Any) -> Tensor:
    """A number, or a tensor of one element, as a float64 tensor without axes."""
    found = recorded.cast(rate, np.float64) if isinstance(rate, Value) else Tensor(np.float64(rate))
    return recorded.reshape(found, ())  # type: ignore[no-any-return]


def _zeros(value: Array) -> Array:
    """Zeros like the value, in memory that is not touched before it is needed, as zeros_like would."""
    zeros = np.zeros(value.shape, value.dtype, order="F" if value.flags.fnc else "C")
    return zeros if zeros.ndim else zeros[()]


# -- clipping ------------------------------------------------------------------------------------------------


def _within(xp: Namespace, gradient: Any, bound: float) -> Any:
    """The gradient with its elements brought into [-bound, bound]."""
    clip = np.clip if xp is raw else recorded.clip_by_value
    return clip(gradient, -bound, bound)


def _length(xp: Namespace, gradient: Any) -> Any:
    """The length of the gradient, a float64."""
    norm = np.linalg.norm if xp is raw else recorded.norm
    return xp.cast(norm(gradient), np.float64)


def _shortened(xp: Namespace, gradient: Any, length: Any, most: float) -> Any:
    """The gradient, scaled by most / length if the length is more than that."""
    if xp is raw:
        return gradient * gradient.dtype.type(most / length) if length > most else gradient
    scale = recorded.where(length > most, most / recorded.maximum(length, most), 1.0)
    return gradient * recorded.cast(scale, gradient.dtype)


# -- in place ------------------------------------------------------------------------------------------------


def _references(variable: Variable) -> int:
    return sys.getrefcount(variable._current)


_ALONE = _references(Variable([0.0]))


def _to_be_changed(variable: Variable) -> Array:
    """The variable's array if nobody else sees it, so that its change changes no other value, else a copy.

    Views, tensors and what tapes keep all hold references to the array. How many there are without them
    differs between versions of Python: the same count of an array that is known to be alone tells. Where
    variables are looked at through a view, it may have noted the array.
    """
    if view() is None and _references(variable) <= _ALONE:
        array = variable._current
        if array.flags.owndata and array.flags.writeable:
            return array
    return variable._value.copy()


# -- rows ----------------------------------------------------------------------------------------------------


def _summed(values: Array, indices: Array) -> tuple[Array, Array]:
    """The rows that slices hold, in order, each once, and the sums of their values."""
    rows, places = np.unique(indices, return_inverse=True)
    return rows, add_blocks(len(rows), places, values)


def _at(rows: Array | None, value: Array) -> Array:
    """These rows of a value, or all."""
    return value if rows is None else value[rows]


def _change_rows(
    new: Callable[..., Sequence[Array]],
    arrays: list[Array],
    rows: Array,
    gradient: Array,
    rate: float,
    step: float,
) -> None:
    """Changes these rows of a value and its state in place."""
    value, *state = [x[rows] for x in arrays]
    for x, part in zip(arrays, new(raw, value, gradient, rate, step, *state), strict=True):
        x[rows] = part


def _sum_repeated(values: Array, indices: Array) -> Array:
    """The values of slices, with the sum of those of equal index for the first, and zeros for the others."""
    _, first = np.unique(indices, return_index=True)
    found = np.zeros_like(values)
    found[first] = _summed(values, indices)[1]
    return found


def _rows_updated(value: Array, gradient: Array, indices: Array, rate: Array, step: Array, *rest: Any) -> Any:
    """Copies of a value and its state, changed in some rows; gradient: as `_sum_repeated` gives it."""
    *state, new = rest
    arrays = [x.copy() for x in (value, *state)]
    rows, first = np.unique(indices, return_index=True)
    _change_rows(new, arrays, rows, gradient[first], float(rate), float(step))
    return arrays if state else arrays[0]


def _opaque(name: str, forward: Callable[..., Any], operands: int, statics: int) -> Op:
    """An op without derivatives that only a function that is being recorded hears of."""
    op = Op(name, forward, (), "", primitive=False)
    op.operands, op.statics = operands, statics
    return op


_SUM_REPEATED = _opaque("sum_repeated", _sum_repeated, 2, 0)


@functools.cache
def _step_of(name: str) -> Op:
    """What a checker of numbers hears of a step: an op of a variable's value and its gradient."""
    return _opaque(f"a step of {name}", lambda value, gradient: value, 2, 0)


@functools.cache
def _update_rows(operands: int) -> Op:
    return _opaque("update_rows", _rows_updated, operands, 1)


def _noted(op: Op, operands: Sequence[Tensor], *statics: Any) -> list[Tensor]:
    """The results of an opaque op, told to who listens."""
    values = [x._value for x in operands]
    out = op.forward(*values, *statics)
    outs = out if isinstance(out, list) else [out]
    results = [Tensor(x) for x in outs]
    keys = [x._key for x in operands] + [0] * len(statics)
    for recorder in listening():
        recorder.record(op, (*keys, tuple(x._key for x in results)), (*values, *statics, outs), False)
    return results


# -- the formulas --------------------------------------------------------------------------------------------


def _weak(xp: Namespace, number: Any, like: Any) -> Any:
    """A number to compute with in the dtype of an array, as Python's floats are anyway."""
    return number if xp is raw else xp.cast(number, like.dtype)


def _moved(average: Any, distance: Any, part: float) -> Any:
    """An average, moved by part of a distance, which nobody else has."""
    distance *= part
    average += distance
    return average


def _over(x: Any, y: Any) -> Any:
    """x / y, of bare arrays in the memory of y, which nobody else has."""
    return np.divide(x, y, y) if isinstance(y, np.ndarray) else x / y


class SGD(Optimizer):
    """Gradient descent: w -= rate g; with momentum, m = momentum m - rate g, then w += m.

    nesterov: w += momentum m - rate g instead. weight_decay: first w -= rate weight_decay w.

    >>> v = gt.Variable(1.0)
    >>> optimizer = gt.optimizers.SGD(learning_rate=0.1, momentum=0.5)
    >>> for _ in range(2):
    ...     optimizer.apply_gradients([(2.0, v)])
    >>> print(f"{v:.4f}")
    0.5000
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "SGD",
    ) -> None:
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, name)
        self.momentum = _within_one("SGD: momentum", momentum, closed=True)
        self.nesterov = nesterov

    def _slots(self) -> Sequence[str]:
        return ("momentum",) if self.momentum else ()

    def _update(
        self, xp: Namespace, value: Any, gradient: Any, rate: Any, step: Any, *state: Any
    ) -> Sequence[Any]:
        change = gradient * _weak(xp, -rate, value)
        if not state:
            change += value
            return (change,)
        (velocity,) = state
        velocity *= self.momentum
        velocity += change
        if self.nesterov:
            change += value
            change += velocity * self.momentum
            return change, velocity
        del change  # so that the new value takes its memory
        return value + velocity, velocity


class Adam(Optimizer):
    """Adam, by Kingma and Ba, 2015, in the form before their section 2.1, as in Keras.

    m += (1 - beta_1) (g - m); v += (1 - beta_2) (g^2 - v); w -= alpha m / (sqrt(v) + epsilon), where at step
    t alpha = rate sqrt(1 - beta_2^t) / (1 - beta_1^t). amsgrad: the greatest v so far stands for v (Reddi et
    al., 2018). weight_decay: first w -= rate weight_decay w. Variables must be real.

    >>> v = gt.Variable(1.0)
    >>> optimizer = gt.optimizers.Adam(learning_rate=0.1)
    >>> for _ in range(3):
    ...     with gt.GradientTape() as tape:
    ...         loss = v ** 2.0
    ...     optimizer.apply_gradients([(tape.gradient(loss, v), v)])
    >>> print(f"{v:.4f}")
    0.7016
    """

    _kinds = "f"

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "Adam",
    ) -> None:
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, name)
        self.beta_1 = _within_one("Adam: beta_1", beta_1)
        self.beta_2 = _within_one("Adam: beta_2", beta_2)
        self.epsilon = number("Adam: epsilon", epsilon)
        self.amsgrad = amsgrad

    def _slots(self) -> Sequence[str]:
        return ("mean", "square", "greatest") if self.amsgrad else ("mean", "square")

    def _update(
        self, xp: Namespace, value: Any, gradient: Any, rate: Any, step: Any, *state: Any
    ) -> Sequence[Any]:
        mean, square, *greatest = state
        mean = _moved(mean, gradient - mean, 1 - self.beta_1)
        square = _moved(square, gradient * gradient - square, 1 - self.beta_2)
        if greatest:
            greatest = [xp.maximum(greatest[0], square)]
        size = xp.sqrt(greatest[0] if greatest else square)
        size += self.epsilon
        new = _over(mean, size)
        alpha = rate * (1 - self.beta_2**step) ** 0.5 / (1 - self.beta_1**step)
        new *= _weak(xp, -alpha, value)
        new += value
        return new, mean, square, *greatest
