"""What gets recorded, when, and by whom: GradientTape."""

import contextlib
import enum
import warnings
from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from gradtape import recorders
from gradtape.errors import DTypeError, NotATensorError, ShapeError, TapeStateError, TapeUsedError
from gradtape.ops.op import Op, Rule, raw, recorded
from gradtape.recorders import access, listening, local
from gradtape.slices import IndexedSlices, Rows, densified
from gradtape.structure import flatten, unflattened
from gradtape.sweep import Edge, sweep
from gradtape.tensor import Tensor, TensorLike, Value, Variable, as_array, require_value, with_key

__all__ = ["GradientTape", "UnconnectedGradients"]


class UnconnectedGradients(enum.Enum):
    """What the gradient of a source is that the target does not depend on.

    >>> gt.UnconnectedGradients("zero")
    <UnconnectedGradients.ZERO: 'zero'>
    """

    NONE = "none"
    ZERO = "zero"


class GradientTape:
    """Records the ops that run in its block and touch a watched value, and differentiates them.

    persistent: whether `gradient` may be called more than once; watch_accessed_variables: whether trainable
    variables are watched as soon as an op reads them. Tapes nest, and belong to the thread that entered them.

    >>> x = gt.constant(3.0)
    >>> with gt.GradientTape() as tape:
    ...     tape.watch(x)
    ...     y = x * x
    >>> tape.gradient(y, x)
    <tf.Tensor: shape=(), dtype=float32, numpy=6.0>
    """

    __slots__ = (
        "__weakref__",
        "_edges",
        "_leaves",
        "_live",
        "_persistent",
        "_recording",
        "_used",
        "_variables",
        "_watch_accessed",
        "_watched",
    )

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True) -> None:
        self._persistent = persistent
        self._watch_accessed = watch_accessed_variables
        self._recording = False
        self._variables: dict[int, Variable] = {}
        self._clear()

    def _clear(self) -> None:
        self._edges: list[Edge] = []
        self._live: set[int] = set()
        self._watched: set[int] = set()
        self._leaves: set[int] = set()  # tensors that were watched, and not made by an op that was recorded
        self._used = False

    # -- the block -------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._recording:
            raise TapeStateError("this tape is recording already; leave its block before entering it again")
        if self._used:
            self._clear()
            self._variables = {}
        self._start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._stop()

    def _start(self) -> None:
        self._recording = True
        recorders.push(self)

    def _stop(self) -> None:
        self._recording = False
        recorders.pop(self)

    @contextlib.contextmanager
    def stop_recording(self) -> Iterator[None]:
        """A block in which this tape does not record.

        Raises TapeStateError if it is not recording.

        >>> x = gt.Variable(3.0)
        >>> with gt.GradientTape() as tape:
        ...     y = x * x
        ...     with tape.stop_recording():
        ...         z = y * y
        >>> print(tape.gradient(z, x))
        None
        """
        if not self._recording:
            raise TapeStateError(
                "stop_recording: this tape is not recording; call it within the tape's block"
            )
        self._stop()
        try:
            yield
        finally:
            if not self._recording:
                self._start()

    def reset(self) -> None:
        """Forgets everything recorded and watched so far, and goes on recording.

        Raises TapeStateError if it is not recording.

        >>> x = gt.Variable(3.0)
        >>> with gt.GradientTape() as tape:
        ...     y = x * x
        ...     tape.reset()
        ...     z = x + 1.0
        >>> print(tape.gradient(z, x))
        tf.Tensor(1.0, shape=(), dtype=float32)
        """
        if not self._recording:
            raise TapeStateError("reset: this tape is not recording; call it within the tape's block")
        self._clear()
        self._variables = {}

    # -- watching --------------------------------------------------------------------------------------------

    def watch(self, tensor: Any) -> None:
        """Follows a tensor, a variable, or all of a nested structure of them, from now on.

        Raises NotATensorError (a ValueError) for anything else, a NumPy array included, and then watches
        nothing of the structure. An integer or boolean value cannot be differentiated: it warns, and the
        gradient is None.

        >>> x = gt.constant([1.0, 2.0])
        >>> with gt.GradientTape() as tape:
        ...     tape.watch({"x": x})
        ...     y = gt.reduce_sum(x * x)
        >>> print(tape.gradient(y, x))
        tf.Tensor([2. 4.], shape=(2,), dtype=float32)
        """
        values = flatten(tensor)
        for x in values:
            if not isinstance(x, (Tensor, Variable)):
                raise NotATensorError(
                    f"watch: wanted a Tensor or a Variable, got {type(x).__name__}; "
                    "make it one with gradtape.constant"
                )
        for x in values:
            if x._value.dtype.kind not in "fc":
                warnings.warn(
                    f"watch: {x.dtype} values cannot be differentiated; cast to a floating dtype first",
                    stacklevel=2,
                )
            else:
                if isinstance(x, Variable):
                    self._variables[x._key] = x
                else:
                    if x._key not in self._live:
                        self._leaves.add(x._key)
                    self._watched.add(x._key)
                    local.watching.add(self)
                self._live.add(x._key)

    def watched_variables(self) -> tuple[Variable, ...]:
        """The variables that this tape watches, in order of their creation; kept after `gradient`.

        >>> a, b = gt.Variable(1.0, name="a"), gt.Variable(2.0, name="b")
        >>> with gt.GradientTape() as tape:
        ...     y = b * a
        >>> [v.name for v in tape.watched_variables()]
        ['a:0', 'b:0']
        """
        return tuple(self._variables[key] for key in sorted(self._variables))

    # -- what ops tell it ------------------------------------------------------------------------------------

    def record(self, op: Op, keys: tuple[Any, ...], values: tuple[Any, ...], uniform: bool) -> None:
        """Keeps an edge for each operand that is followed and has a derivative (see `recorders.Recorder`)."""
        live = self._live
        key = keys[-1]
        for rule in op.rules:
            source = keys[rule.index]
            if source in live:
                if uniform:
                    live.add(key)
                    place = rule.place
                    saved = values[place] if place is not None else rule.take and rule.take(values)
                    self._edges.append((key, source, rule, saved, keys, None))
                else:
                    self._record_irregular(rule, keys, values)

    def _record_irregular(self, rule: Rule, keys: tuple[Any, ...], values: tuple[Any, ...]) -> None:
        """Keeps an edge whose values may be complex, several, or of different shapes or dtypes."""
        key, out, operand, source = keys[-1], values[-1], values[rule.index], keys[rule.index]
        fit = None
        if type(key) is tuple:
            self._live.update(k for k, part in zip(key, out, strict=True) if part.dtype.kind in "fc")
        else:
            self._live.add(key)
            if operand.dtype is not out.dtype or (rule.op.broadcasts and operand.shape != out.shape):
                fit = operand.shape, operand.dtype
            if out.dtype.kind == "c" or operand.dtype.kind == "c":
                rule = rule.conjugate
        if rule.sparse is not None and (source in self._variables or source in self._leaves):
            rule, fit = rule.sparse, None
        self._edges.append((key, source, rule, rule.take and rule.take(values), keys, fit))

    def accessed(self, variable: Variable) -> None:
        """Watches a trainable variable that an op is about to read."""
        key = variable._key
        if self._watch_accessed and variable.trainable and key not in self._variables:
            self._variables[key] = variable
            if variable.dtype.kind in "fc":
                self._live.add(key)

    def follows(self, key: int) -> bool:
        """Whether derivatives flow through the value of this key."""
        return key in self._live

    def watches(self, key: int) -> bool:
        """Whether the tensor of this key was given to `watch`."""
        return key in self._watched

    # -- gradients -------------------------------------------------------------------------------------------

    def gradient(
        self,
        target: Any,
        sources: Any,
        output_gradients: Any = None,
        unconnected_gradients: UnconnectedGradients | str = UnconnectedGradients.NONE,
    ) -> Any:
        """The derivative of the sum of `target` with respect to each of `sources`, in the structure of
        `sources`.

        target: a tensor of any shape, or a structure of them, which are summed. sources: tensors or
        variables, intermediate values included. output_gradients: the cotangent of each target (None or none:
        ones), of the target's shape. unconnected_gradients: what a source has that the target does not depend
        on: "none" gives None, "zero" zeros. By a variable or a watched tensor of which only rows are looked
        up (`gather`, `nn.embedding_lookup`), the result is an `IndexedSlices`. For complex values it is
        dL/dx + i dL/dy, TensorFlow's convention.

        Raises TapeUsedError on the second call, unless the tape is persistent; NotATensorError for a target
        or source that is no tensor; ShapeError for output gradients that do not fit; NoGradientError if an op
        without a derivative lies on the path. Whatever it raises for its arguments leaves the tape as it was.

        >>> x = gt.constant([1.0, 2.0])
        >>> with gt.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = x ** 3.0
        >>> tape.gradient(y, [x])
        [<tf.Tensor: shape=(2,), dtype=float32, numpy=array([ 3., 12.], dtype=float32)>]
        """
        if self._used:
            raise TapeUsedError(
                "gradient: a tape that is not persistent gives one set of gradients; make it with "
                "GradientTape(persistent=True) to ask again"
            )
        unconnected = _unconnected(unconnected_gradients)
        targets = _values(target, "gradient: target")
        seeds = _seeds(targets, output_gradients)
        flat, rebuild = unflattened(sources)
        for source in flat:
            if isinstance(source, IndexedSlices):
                raise NotATensorError(
                    "gradient: source: wanted a Tensor or a Variable, got IndexedSlices; take its .values"
                )
            require_value(source, "gradient: source")
        if self._recording and not self._persistent:
            self._stop()
        bare = not listening()
        cotangents = _summed(targets, seeds, bare)
        del seeds  # the sweep frees each cotangent as soon as it has been passed on, these too
        edges = self._edges.copy() if self._persistent else self._give_up()
        found = sweep(raw if bare else recorded, edges, cotangents, {source._key for source in flat})
        return rebuild([_answer(found.get(source._key), source, unconnected) for source in flat])

    def _give_up(self) -> list[Edge]:
        """The edges, which the tape then holds no more, nor anything else."""
        edges = self._edges
        self._clear()
        self._used = True
        return edges


def _unconnected(choice: UnconnectedGradients | str) -> UnconnectedGradients:
    try:
        return UnconnectedGradients(choice)
    except ValueError:
        raise ValueError(f"unconnected_gradients: wanted 'none' or 'zero', got {choice!r}") from None


def _values(structure: Any, what: str) -> list[Value]:
    """The values of a structure; variables count as read."""
    values = [require_value(x, what) for x in flatten(structure)]
    for x in values:
        if isinstance(x, Variable):
            access(x)
        if x.dtype.kind not in "fc":
            warnings.warn(
                f"{what}: {x.dtype} values have no gradient; cast to a floating dtype first", stacklevel=3
            )
    return values


def _seeds(targets: list[Value], output_gradients: Any) -> list[Tensor]:
    """The cotangent of each target: ones where none is given."""
    given = [None] * len(targets) if output_gradients is None else flatten(output_gradients)
    if len(targets) == 1 and len(given) > 1:
        given = [output_gradients]  # the one cotangent, as a nested list
    if len(given) != len(targets):
        raise ShapeError(
            f"gradient: {len(targets)} targets, but {len(given)} output_gradients; give one for each"
        )
    return [_seed(x, g) for x, g in zip(targets, given, strict=True)]


def _summed(targets: list[Value], seeds: list[Tensor], bare: bool) -> dict[int, Any]:
    """The cotangents to start from, by key, as bare arrays or as tensors."""
    cotangents: dict[int, Any] = {}
    for x, seed in zip(targets, seeds, strict=True):
        if x.dtype.kind in "fc":
            g = seed._value if bare else seed
            cotangents[x._key] = cotangents[x._key] + g if x._key in cotangents else g
    return cotangents


def _seed(x: Value, given: TensorLike) -> Tensor:
    if given is None:
        return Tensor(np.ones_like(x.values._value if isinstance(x, IndexedSlices) else x._value)[()])
    if isinstance(given, IndexedSlices):
        given = densified(given)
    if not isinstance(given, Value):
        given = Tensor(as_array(given, x.dtype))
    if given.shape != x.shape:
        raise ShapeError(f"gradient: output_gradients of shape {given.shape} for a target of shape {x.shape}")
    if given.dtype != x.dtype:
        raise DTypeError(
            f"gradient: output_gradients of dtype {given.dtype} for a target of {x.dtype}; cast it"
        )
    if isinstance(given, Variable):
        access(given)
    if isinstance(x, IndexedSlices):  # known by its values, each of which is added into the row of its index
        given = recorded.gather(given, x.indices)
    return with_key(given._value, given._key)


def _answer(g: Any, source: Value, unconnected: UnconnectedGradients) -> Tensor | IndexedSlices | None:
    if g is None:
        return Tensor(np.zeros_like(source._value)[()]) if unconnected is UnconnectedGradients.ZERO else None
    if isinstance(g, (Rows, IndexedSlices)):
        return g.slices() if isinstance(g, Rows) else g
    return with_key(g._value, g._key) if isinstance(g, Tensor) else Tensor(g)
