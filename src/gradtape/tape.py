"""What gets recorded, when, and by whom: GradientTape."""

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from gradtape import recorders
from gradtape.asking import (
    Absent,
    Insisting,
    UnconnectedGradients,
    answer,
    nothing,
    seed_of,
    seeds_of,
    summed,
    unconnected_choice,
    values_of,
    zeros,
)
from gradtape.batched import chunks, only_mappings
from gradtape.errors import (
    FunctionError,
    NotATensorError,
    StructureError,
    TapeStateError,
    TapeUsedError,
)
from gradtape.jacobians import Seeds, by_example, matrix, one_batch, one_by_one, together
from gradtape.ops.op import Op, raw, recorded
from gradtape.ops.rule import Rule
from gradtape.recorders import listening, local, tracer, who_can
from gradtape.slices import require_dense
from gradtape.structure import flatten, unflattened
from gradtape.sweep import Cuts, Edge, sweep
from gradtape.tensor import Tensor, TensorLike, Value, Variable, require_value

if TYPE_CHECKING:
    from gradtape.explain.explanation import Explanation
    from gradtape.explain.held import Held
    from gradtape.explain.journal import Journal
    from gradtape.explain.numerics import Checker
    from gradtape.explain.picture import Picture
    from gradtape.explain.profile import Profile
    from gradtape.explain.summary import Summary
    from gradtape.explain.ways import Memory

__all__ = ["GradientTape"]


class GradientTape:
    """Records the ops that run in its block and touch a watched value, and differentiates them.

    persistent: whether `gradient` may be called more than once; watch_accessed_variables: whether trainable
    variables are watched as soon as an op reads them; explain: whether it notes all that happens in its
    block, so that `explain`, `summary` and `draw` can tell lines of your code; check_numerics: whether the
    first op in its block, or derivative in its sweeps, that makes a NaN or an infinity of finite numbers
    raises NumericsError (see `debugging.check_numerics`). Tapes nest, and belong to the thread that entered
    them.

    >>> x = gt.constant(3.0)
    >>> with gt.GradientTape() as tape:
    ...     tape.watch(x)
    ...     y = x * x
    >>> tape.gradient(y, x)
    <tf.Tensor: shape=(), dtype=float32, numpy=6.0>
    """

    __slots__ = (
        "__weakref__",
        "_checker",
        "_edges",
        "_ended",
        "_held",
        "_journal",
        "_leaves",
        "_live",
        "_persistent",
        "_profile",
        "_recording",
        "_started",
        "_told",
        "_used",
        "_variables",
        "_watch_accessed",
        "_watched",
        "home",
    )

    def __init__(
        self,
        persistent: bool = False,
        watch_accessed_variables: bool = True,
        *,
        explain: bool = False,
        check_numerics: bool = False,
    ) -> None:
        self._persistent = persistent
        self._watch_accessed = watch_accessed_variables
        self._journal: Journal | None = None
        self._checker: Checker | None = None
        self._profile: Profile | None = None
        if explain:  # imported when they are asked for, so that a tape without them pays nothing
            from gradtape.explain import journal

            self._journal = journal.Journal()
        if check_numerics:
            from gradtape.explain import numerics

            self._checker = numerics.Checker()
        self._started = self._ended = 0  # keys below and above which are the values from before and after it
        self._recording = False
        self._variables: dict[int, Variable] = {}
        traced = tracer()
        self.home = 0 if traced is None else traced.start  # the function being recorded that it is made in
        self._clear()

    def _clear(self) -> None:
        self._edges: list[Edge] = []
        self._live: set[int] = set()
        self._watched: set[int] = set()
        self._told = self._watched  # the same, kept when the tape has answered
        self._leaves: set[int] = set()  # tensors that were watched, and not made by an op that was recorded
        self._used = False
        self._held: list[Held] | None = None  # what it held when it answered, if that is to be told

    # -- the block -------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._refuse_elsewhere("entering a tape")
        if self._recording:
            raise TapeStateError("this tape is recording already; leave its block before entering it again")
        if self._used:
            self._clear()
            self._variables = {}
            self._started = 0
            if self._journal is not None:
                self._journal.clear()
            if self._profile is not None:
                self._profile.clear()
        self._started, self._ended = self._started or recorders.new_key(), 0
        if self._journal is not None:
            self._journal.begins()
        if self._checker is not None:
            self._checker.__enter__()
        self._start()
        return self

    def __exit__(self, *problem: object) -> None:
        if self._recording:
            self._leave()
        if self._checker is not None:
            self._checker.__exit__()

    def _leave(self) -> None:
        """Records no more in this block, which is over, or in which the tape has answered."""
        self._stop()
        self._ended = recorders.new_key()
        if self._journal is not None:
            self._journal.ends()

    def _start(self, place: int | None = None) -> None:
        self._recording = True
        recorders.push(self, place)
        if self._profile is not None:
            self._profile.joins(self)

    def _stop(self) -> None:
        self._recording = False
        recorders.pop(self)
        if self._profile is not None:
            self._profile.leaves()

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
        stack = listening()
        place = stack.index(self) if self in stack else None  # None in another thread than its own
        self._stop()
        if self._journal is not None:
            self._journal.pauses()
        try:
            yield
        finally:
            if self._journal is not None:
                self._journal.goes_on()
            if self._used:  # it has answered meanwhile
                self._leave()
            elif not self._recording:
                self._start(place)

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
        if self._journal is not None:
            self._journal.resets()

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
            if x.dtype.kind not in "fc":
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
                if self._journal is not None:
                    self._journal.watches(x)

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
        on: "none" gives None, "zero" zeros, "raise" raises UnconnectedError, which carries the explanation
        (see `explain`). By a variable or a watched tensor of which only rows are looked up (`gather`,
        `nn.embedding_lookup`), the result is an `IndexedSlices`. For complex values it is dL/dx + i dL/dy,
        TensorFlow's convention.

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
        self._refuse_if_used("gradient")
        unconnected = unconnected_choice(unconnected_gradients)
        targets = values_of(target, "gradient: target")
        seeds = seeds_of(targets, output_gradients)
        flat, rebuild = unflattened(sources)
        for source in flat:
            require_dense(source, "gradient: source")
        absent = self._absent(unconnected, targets, flat)
        edges = self._taken(zip(targets, seeds, strict=True))
        bare = not listening()
        cotangents = summed(targets, seeds, bare)
        del seeds  # the sweep frees each cotangent as soon as it has been passed on, these too
        wanted = {source._key for source in flat}
        found = sweep(raw if bare else recorded, edges, cotangents, wanted, self._cuts(absent))
        return rebuild([answer(found.get(source._key), source, absent) for source in flat])

    def explain(self, target: Any, sources: Any) -> "Explanation | Any":
        """Why the gradient of `target` by each of `sources` is None, or by which ops they are connected; in
        their structure.

        target, sources: as for `gradient`. A tape made with `explain=True` remembers what happened, also
        after it has answered, and tells in which line of your code the connection broke; any other tells what
        can be told without. Raises NotATensorError for what is no tensor.

        >>> x = gt.constant(3.0)
        >>> with gt.GradientTape(explain=True) as tape:
        ...     y = x * x
        >>> print(tape.explain(y, x))  # doctest: +ELLIPSIS
        The gradient of y by x is None: x was never watched.
          it is a tensor, and unasked a tape follows only variables
          ...
        Remedy: call tape.watch(x) before its first use, or make it a gradtape.Variable.
        """
        from gradtape.explain.causes import explained

        targets = [require_value(x, "explain: target") for x in flatten(target)]
        if not targets:
            raise StructureError("explain: wanted a target, got an empty structure")
        flat, rebuild = unflattened(sources)
        memory = self._swept(targets, [require_dense(source, "explain: source") for source in flat])
        return rebuild([explained(memory, targets, source) for source in flat])

    def draw(self, target: Any = (), source: TensorLike | None = None) -> "Picture":
        """What was recorded as a picture: sources at the top, targets at the bottom, ops between.

        target: a tensor or a structure of them, to draw only what they were made of; source: the way from it
        to the first target is highlighted. Connections without a derivative are drawn broken. A tape made
        with `explain=True` shows shapes, what it did not follow, and also what it has answered. In a notebook
        the picture shows itself; `.save("tape.svg")` or `.save("tape.png")` writes it. The layout comes from
        Graphviz, PNG from resvg-py: `pip install 'gradtape[draw]'`.

        Raises NotATensorError for what is no tensor, TapeStateError if the tape keeps nothing any more,
        ArgumentError if there are more than 1500 boxes.

        >>> x = gt.Variable(3.0)
        >>> with gt.GradientTape() as tape:
        ...     y = gt.sin(x) * x
        >>> tape.draw(y, x)
        <picture of 2 ops; .save('tape.svg')>
        """
        targets = [require_value(x, "draw: target") for x in flatten(target)]
        by = None if source is None else require_dense(source, "draw: source")
        if self._used and self._journal is None:
            raise TapeStateError(
                "draw: this tape has answered, and keeps nothing; draw before gradient, or make it with "
                "GradientTape(explain=True) or GradientTape(persistent=True)"
            )
        from gradtape.explain.draw import drawn

        memory = self._memory() if by is None else self._swept(targets, [by])
        return drawn(memory, targets, by)

    def _swept(self, targets: list[Value], sources: list[Value]) -> "Memory":
        """What this tape still knows, and what a sweep that it can still make tells besides: where rules give
        None, or raise.
        """
        if self._used:
            return self._memory()
        memory = self._memory()._replace(cuts=set())
        with only_mappings(), np.errstate(all="ignore"):
            bare = not listening()
            seeds = [seed_of(x, None) for x in targets]
            try:
                cotangents, wanted = summed(targets, seeds, bare), {source._key for source in sources}
                sweep(raw if bare else recorded, self._edges.copy(), cotangents, wanted, memory.cuts)
            except Exception as problem:  # the user's own, or that there is no rule
                return memory._replace(problem=problem.with_traceback(None))
        return memory

    def _memory(self) -> "Memory":
        """What this tape still knows."""
        from gradtape.explain.ways import Memory, Recorded

        return Memory(
            None if self._used else [Recorded(e[0], e[1], e[2].index, e[2].op.title) for e in self._edges],
            frozenset(self._live),
            self._variables,
            self._told,
            self._watch_accessed,
            self._started,
            self._ended,
            self._journal,
            set() if self._journal is None or self._persistent else self._journal.cuts,
        )

    # -- what it holds, and where time goes ------------------------------------------------------------------

    def summary(self) -> "Summary":
        """What this tape holds, by op: how many it recorded, and the bytes of arrays that it keeps for them.

        If it was profiled (see `profile`), also where the time goes; if it was made with `explain=True`, also
        the lines of your code that keep most. `print` it; notebooks show a table. An array counts once, for
        the op that keeps it first, a view for all that it is a view of, and what is the value of a variable
        that the tape watches not at all.

        >>> x = gt.Variable(np.ones(1000), name="x")
        >>> with gt.GradientTape() as tape:
        ...     y = gt.reduce_sum(gt.sin(x) * x)
        >>> print(tape.summary())
        op          count      kept
        ---------------------------
        multiply        1  7.81 KiB
        reduce_sum      1       0 B
        sin             1       0 B
        ---------------------------
        total           3  7.81 KiB
        Variables hold 7.81 KiB more that the tape needs, with it or without.
        GradientTape(explain=True) would tell the lines of your code that keep most.
        """
        from gradtape.explain.summary import summed_up

        records = self._held if self._used else self._holds()
        return summed_up(records, self._used, self._profile, self._journal)

    @contextlib.contextmanager
    def profile(self) -> Iterator[None]:
        """A block in which every op that runs while the tape records is timed; so are, from then on, its
        sweeps.

        To be timed, each op is run once more, by itself; what a compiled function takes is timed as it runs,
        and what draws random numbers, prints, or has a custom derivative is not. `summary` shows it.

        >>> w = gt.Variable(np.ones((100, 100)))
        >>> with gt.GradientTape() as tape, tape.profile():
        ...     y = gt.reduce_sum(gt.tanh(w @ w))
        >>> gradient = tape.gradient(y, w)
        >>> row = next(row for row in tape.summary().rows if row.op == "matmul")
        >>> row.records, row.forward.runs, row.forward.flops, row.sweep.flops
        (1, 1, 2000000.0, 4000000.0)
        """
        from gradtape.explain.profile import Profile

        profile = self._profile = self._profile or Profile()
        was_on, profile.is_on = profile.is_on, True
        if self._recording:
            profile.joins(self)
        try:
            yield
        finally:
            profile.is_on = was_on
            if not was_on:
                profile.leaves()

    # -- Jacobians -------------------------------------------------------------------------------------------

    def jacobian(
        self,
        target: TensorLike,
        sources: Any,
        unconnected_gradients: UnconnectedGradients | str = UnconnectedGradients.NONE,
        parallel_iterations: int | None = None,
        experimental_use_pfor: bool = True,
        *,
        chunk_size: int | None = None,
        progress: bool = False,
    ) -> Any:
        """The derivative of each element of `target` by each of `sources`, in the structure of `sources`.

        target: a tensor; each Jacobian has shape target.shape + source.shape. One sweep carries the
        cotangents of all elements at once; chunk_size: of at most so many, which bounds its memory; progress:
        shows a bar over the chunks. experimental_use_pfor=False: one sweep for each element, for which the
        tape must be persistent. parallel_iterations is ignored.

        Raises NotATensorError, TapeUsedError, ShapeError; see `gradient`.

        >>> x = gt.constant([1.0, 2.0])
        >>> with gt.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = x * x
        >>> tape.jacobian(y, x)
        <tf.Tensor: shape=(2, 2), dtype=float32, numpy=
        array([[2., 0.],
               [0., 4.]], dtype=float32)>
        """
        choice = unconnected_choice(unconnected_gradients)
        x = self._one_target("jacobian", target, experimental_use_pfor)
        flat, rebuild = unflattened(sources)
        for source in flat:
            require_dense(source, "jacobian: source")
        absent = self._absent(choice, [x], flat)
        rows = self._rows(
            "jacobian", x, flat, x.size, None, experimental_use_pfor, chunk_size, progress, absent
        )
        by_source = zip(rows, flat, strict=True)
        return rebuild([matrix(g, (*x.shape, *source.shape), source, absent) for g, source in by_source])

    def batch_jacobian(
        self,
        target: TensorLike,
        source: TensorLike,
        unconnected_gradients: UnconnectedGradients | str = UnconnectedGradients.NONE,
        parallel_iterations: int | None = None,
        experimental_use_pfor: bool = True,
        *,
        chunk_size: int | None = None,
        progress: bool = False,
    ) -> Tensor | None:
        """For each row of a batch the Jacobian of target[i] by source[i], which no other row may bear upon.

        target: (b, ...), source: (b, ...); the result (b, ...target's, ...source's), at the cost of one row's
        Jacobian of them all. Other arguments and errors as in `jacobian`; ShapeError if either has less than
        two axes, or their first lengths differ.

        >>> x = gt.constant([[1.0, 2.0], [3.0, 4.0]])
        >>> with gt.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = x * x
        >>> tape.batch_jacobian(y, x).numpy()[1]
        array([[6., 0.],
               [0., 8.]], dtype=float32)
        """
        choice = unconnected_choice(unconnected_gradients)
        x = self._one_target("batch_jacobian", target, experimental_use_pfor)
        by = require_dense(source, "batch_jacobian: source")
        n, seeds = one_batch(x, by)
        absent = self._absent(choice, [x], [by])
        (g,) = self._rows(
            "batch_jacobian", x, [by], n, seeds, experimental_use_pfor, chunk_size, progress, absent
        )
        return by_example(g, x, by, absent)

    def _one_target(self, name: str, target: TensorLike, at_once: bool) -> Value:
        """The target, if the tape may be asked for its Jacobian."""
        self._refuse_if_used(name)
        if not (at_once or self._persistent):
            raise TapeUsedError(
                f"{name}: one sweep for each element needs a tape that can be swept again; make it with "
                "GradientTape(persistent=True), or leave experimental_use_pfor as it is"
            )
        require_dense(target, f"{name}: target")
        return values_of(target, f"{name}: target")[0]

    def _rows(
        self,
        name: str,
        target: Value,
        sources: list[Value],
        n: int,
        seeds: Seeds | None,
        at_once: bool,
        chunk_size: int | None,
        progress: bool,
        absent: Absent,
    ) -> list[Tensor | None]:
        """The cotangents of the sources for n of the target, with an axis in front that counts them."""
        at_once = at_once or not n
        spans = chunks(name, n, chunk_size if at_once else 1, progress)
        edges = self._taken()
        if target.dtype.kind not in "fc":
            return [None] * len(sources)
        swept = together if at_once else one_by_one
        return swept(edges, target, sources, seeds, spans, self._cuts(absent))

    def _refuse_elsewhere(self, what: str) -> None:
        """Raises within a function that is being recorded, if the tape was made outside of it."""
        traced = tracer()
        if traced is not None and traced.start != self.home:
            raise FunctionError(
                f"{what} inside function {traced.name} that was made outside: it would not know the "
                "function's values; make the tape inside, or ask it outside"
            )

    def _refuse_if_used(self, name: str) -> None:
        self._refuse_elsewhere(f"{name} of a tape")
        if self._used:
            raise TapeUsedError(
                f"{name}: a tape that is not persistent gives one set of gradients; make it with "
                "GradientTape(persistent=True) to ask again"
            )

    def _absent(self, choice: UnconnectedGradients, targets: list[Value], sources: list[Value]) -> Absent:
        """What a source without a gradient gets; raises already if one of the sources cannot have any."""
        if choice is not UnconnectedGradients.RAISE:
            return zeros if choice is UnconnectedGradients.ZERO else nothing
        from gradtape.explain.sweeps import made_of

        absent = Insisting(self._memory(), targets)
        reached = made_of(self._edges, [x._key for x in targets if x.dtype.kind in "fc"])
        for source in sources:
            if source._key not in reached:
                absent(source, source.shape)
        return absent

    def _cuts(self, absent: Absent) -> Cuts | None:
        """Where a sweep takes down which rules give None, if that is to be explained."""
        if isinstance(absent, Insisting):
            return absent.memory.cuts
        return None if self._journal is None or self._persistent else self._journal.cuts

    def _taken(self, seeds: Iterable[tuple[Value, Tensor]] = ()) -> list[Edge]:
        """The edges to sweep, which a tape that is not persistent then holds no more, nor anything else.

        seeds: the targets, and the cotangents that the user gave for them.
        """
        edges = self._edges.copy() if self._persistent else self._edges
        kept = None
        if not self._persistent and (self._journal is not None or self._profile is not None):
            kept = self._holds()
        if self._profile is not None:
            edges = self._profile.timed(edges)
        checkers = [c for c in dict.fromkeys((self._checker, *who_can("checked"))) if c is not None]
        if checkers:
            edges = checkers[0].checked(edges, checkers[1:], seeds)
        if not self._persistent:
            if self._recording:
                self._leave()
            told = self._told
            self._clear()
            self._told, self._used, self._held = told, True, kept
        return edges

    def _holds(self) -> "list[Held]":
        """What this tape keeps alive, by record."""
        from gradtape.explain.held import held

        return held(self._edges, self._variables.values())
