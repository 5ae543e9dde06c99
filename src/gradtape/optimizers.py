"""What changes variables by their gradients: SGD and Adam, with Keras's arguments and formulas."""

import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np

from gradtape.errors import DTypeError, NotATensorError, ShapeError, StructureError
from gradtape.ops.scatter import add_blocks
from gradtape.replay import view
from gradtape.slices import IndexedSlices
from gradtape.tensor import Array, Tensor, TensorLike, Variable, as_array, convert_to_array

__all__ = ["SGD", "Adam", "Optimizer"]

# A fixed rate, or a function of how many steps were made.
LearningRate: TypeAlias = float | Callable[[int], float]
# What to change: a variable, the rows of it (None: all), and the gradient, of those rows.
Change: TypeAlias = tuple[Variable, Array | None, Array]


class Optimizer:
    """What SGD and Adam share: the learning rate, the count of steps, and the state kept for each variable.

    clipnorm: each gradient is shortened to this length; clipvalue: its elements are brought into
    [-clipvalue, clipvalue]; global_clipnorm: all gradients are scaled so that their common length is at most
    this. A subclass says what it keeps for a variable (`_start`) and how it makes the new value (`_update`).

    A gradient that is an `IndexedSlices` changes just its rows, those of equal index added up first, and
    reads and writes no others, neither the variable's nor the state's. So, unlike in a step by the dense
    gradient, a row that is not looked up does not move: its momentum and Adam's moments do not decay, nor
    does weight decay shrink it. The array is changed in place if nobody else sees it, else copied first;
    another thread must not read the variable meanwhile.

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
        if [clipnorm, clipvalue, global_clipnorm].count(None) < 2:
            raise ValueError(f"{name}: give one of clipnorm, clipvalue and global_clipnorm, not several")
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clipnorm = clipnorm
        self.clipvalue = clipvalue
        self.global_clipnorm = global_clipnorm
        self.name = name
        self.iterations = Variable(0, trainable=False, name="iterations", dtype="int64")
        self._states: dict[Variable, tuple[Any, ...]] = {}

    @property
    def learning_rate(self) -> float:
        """The rate of the next step. Set it to a number, or to a function of `iterations`, as an int.

        >>> optimizer = gt.optimizers.SGD(lambda step: 0.1 / (step + 1))
        >>> optimizer.iterations.assign_add(1).numpy(), optimizer.learning_rate
        (np.int64(1), 0.05)
        """
        rate = self._learning_rate
        return float(rate(int(self.iterations)) if callable(rate) else rate)

    @learning_rate.setter
    def learning_rate(self, rate: LearningRate) -> None:
        if not callable(rate) and not isinstance(rate, (int, float, np.number)):
            raise TypeError(f"learning_rate: wanted a number, or a function of the step, got {rate!r}")
        self._learning_rate = rate if callable(rate) else float(rate)

    def apply_gradients(self, grads_and_vars: Iterable[tuple[TensorLike, Variable]]) -> None:
        """Makes one step: changes each variable by its gradient, and adds 1 to `iterations`.

        Variables whose gradient is None stay as they are, with one warning that names them. Raises ValueError
        if all are, StructureError for what are no pairs, NotATensorError for what is no variable, ShapeError
        or DTypeError for a gradient unlike its variable; nothing is changed then.

        >>> v = gt.Variable([1.0, 2.0])
        >>> gt.optimizers.SGD(0.5).apply_gradients([(gt.constant([2.0, 2.0]), v)])
        >>> v.numpy()
        array([0., 1.], dtype=float32)
        """
        pairs = list(grads_and_vars)
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
                    f"apply_gradients: wanted (gradient, Variable) pairs, got a {kind} to change"
                )
        without = [variable.name for gradient, variable in pairs if gradient is None]
        if len(without) == len(pairs):
            raise ValueError(
                f"apply_gradients: no gradient for any of {without}; the loss depends on none of them, "
                "or was not computed within the tape's block"
            )
        ready = self._clipped([(v, *self._gradient(g, v)) for g, v in pairs if g is not None])
        if without:
            warnings.warn(f"apply_gradients: no gradient for {without}, which stay as they are", stacklevel=2)
        rate = self.learning_rate
        step = int(self.iterations) + 1
        for variable, rows, gradient in ready:
            if variable not in self._states:
                self._states[variable] = self._start(variable._value)
            state = self._states[variable]
            if rows is None:
                new = self._new(variable._value, gradient, rate, step, state)
                variable.assign(Tensor(new if new.ndim else new[()]))
                continue
            if not _unshared(variable):
                variable._value = variable._value.copy()
            parts = [kept[rows] for kept in state]
            variable._value[rows] = self._new(variable._value[rows], gradient, rate, step, parts)
            for kept, part in zip(state, parts, strict=True):
                kept[rows] = part
        self.iterations.assign_add(1)

    def _gradient(self, gradient: TensorLike, variable: Variable) -> tuple[Array | None, Array]:
        """The rows and their gradient, or None and the gradient, as bare arrays, if it fits the variable."""
        found: Any = gradient
        if not isinstance(gradient, IndexedSlices):
            plain = isinstance(gradient, (float, int, list, tuple))
            found = as_array(gradient, variable.dtype) if plain else convert_to_array(gradient)
        what = f"apply_gradients: variable {variable.name} of"
        if found.shape != variable.shape:
            raise ShapeError(f"{what} shape {variable.shape} got a gradient of shape {found.shape}")
        if found.dtype != variable.dtype:
            raise DTypeError(f"{what} dtype {variable.dtype} got a gradient of {found.dtype}; cast it")
        if found.dtype.kind not in self._kinds:
            raise DTypeError(
                f"{what} dtype {found.dtype} is not what {type(self).__name__} can change; cast it"
            )
        return _summed(found) if isinstance(found, IndexedSlices) else (None, found)

    def _clipped(self, ready: list[Change]) -> list[Change]:
        """The gradients, each or all together cut to the length asked for, or to values within the bound."""
        if self.clipvalue is not None:
            return [(v, rows, np.clip(g, -self.clipvalue, self.clipvalue)) for v, rows, g in ready]
        if self.clipnorm is not None:
            return [(v, rows, _shortened(g, float(np.linalg.norm(g)), self.clipnorm)) for v, rows, g in ready]
        if self.global_clipnorm is not None:
            length = float(np.sqrt(sum(np.linalg.norm(g) ** 2 for *_, g in ready)))
            return [(v, rows, _shortened(g, length, self.global_clipnorm)) for v, rows, g in ready]
        return ready

    def _new(self, value: Array, gradient: Array, rate: float, step: int, state: Iterable[Any]) -> Array:
        """The new value, with what weight decay takes away."""
        if self.weight_decay:
            value = value * (1.0 - self.weight_decay * rate)
        return self._update(value, gradient, rate, step, *state)

    def _start(self, value: Array) -> tuple[Any, ...]:
        raise NotImplementedError

    def _update(self, value: Array, gradient: Array, rate: float, step: int, *state: Any) -> Array:
        """The new value, elementwise, since it may be of some rows only, and in a new array, since a tape may
        hold the old one. The state changes in place.
        """
        raise NotImplementedError


def _zeros(value: Array) -> Array:
    """Zeros like the value, in memory that is not touched before it is needed, as zeros_like would."""
    return np.zeros(value.shape, value.dtype, order="F" if value.flags.fnc else "C")


def _references(variable: Variable) -> int:
    return sys.getrefcount(variable._current)


def _unshared(variable: Variable) -> bool:
    """Whether nobody but the variable sees its array, so that a change of it in place changes no other value.

    Views, tensors and what tapes keep all hold references to the array. How many there are without them
    differs between versions of Python: the same count of an array that is known to be alone tells. Where
    variables are looked at through a view, it may have noted the array.
    """
    owned = variable._current.flags.owndata and variable._current.flags.writeable
    return view() is None and owned and _references(variable) <= _references(Variable([0.0]))


def _summed(slices: IndexedSlices) -> tuple[Array, Array]:
    """The rows that slices hold, in order, each once, and the sums of their values."""
    rows, places = np.unique(slices.indices._value, return_inverse=True)
    return rows, add_blocks(len(rows), places, slices.values._value)


def _shortened(gradient: Array, length: float, most: float) -> Array:
    """The gradient, scaled by most / length if the length is more than that."""
    return gradient * gradient.dtype.type(most / length) if length > most else gradient


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
        if not 0 <= momentum <= 1:
            raise ValueError(f"SGD: momentum must lie in [0, 1], not {momentum!r}")
        self.momentum = momentum
        self.nesterov = nesterov

    def _start(self, value: Array) -> tuple[Any, ...]:
        return (_zeros(value),) if self.momentum else ()

    def _update(self, value: Array, gradient: Array, rate: float, step: int, *state: Any) -> Array:
        new = np.multiply(gradient, rate, np.empty_like(value))
        if not state:
            return np.subtract(value, new, new)
        (velocity,) = state
        velocity *= self.momentum
        velocity -= new
        if not self.nesterov:
            return np.add(value, velocity, new)
        np.subtract(value, new, new)
        new += velocity * self.momentum
        return new


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
        for what, beta in (("beta_1", beta_1), ("beta_2", beta_2)):
            if not 0 <= beta < 1:
                raise ValueError(f"Adam: {what} must lie in [0, 1), not {beta!r}")
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.amsgrad = amsgrad

    def _start(self, value: Array) -> tuple[Any, ...]:
        return tuple(_zeros(value) for _ in range(3 if self.amsgrad else 2))

    def _update(self, value: Array, gradient: Array, rate: float, step: int, *state: Any) -> Array:
        mean, square, *greatest = state
        new = np.subtract(gradient, mean, np.empty_like(value))
        new *= 1 - self.beta_1
        mean += new
        np.multiply(gradient, gradient, new)
        new -= square
        new *= 1 - self.beta_2
        square += new
        if greatest:
            square = np.maximum(greatest[0], square, out=greatest[0])
        np.sqrt(square, new)
        new += self.epsilon
        np.divide(mean, new, new)
        new *= rate * (1 - self.beta_2**step) ** 0.5 / (1 - self.beta_1**step)
        return np.subtract(value, new, new)
