"""What runs a graph: a flat Python function of NumPy calls and native kernels, with buffers used again."""

import operator
import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from gradtape.compile.graph import Graph, Node, Spec
from gradtape.compile.passes import form, optimized
from gradtape.errors import PlanError
from gradtape.ops.effects import Raised
from gradtape.ops.op import Op
from gradtape.tensor import Array

if TYPE_CHECKING:
    from gradtape.compile.native.fusion import Kernel

__all__ = ["Plan", "planned"]

Step: TypeAlias = "Node | list[Kernel]"

_UFUNCS: dict[Any, Any] = {
    operator.add: np.add,
    operator.sub: np.subtract,
    operator.mul: np.multiply,
    operator.truediv: np.divide,
    operator.neg: np.negative,
    operator.abs: np.absolute,
}
_LISTS = frozenset({"unstack", "split"})  # whose forward gives a list even of one
_PRODUCTS = frozenset({"matmul", "matvec"})  # whose result is no view of an operand
_WORTHWHILE = 4096  # bytes from which a buffer is used again


class Plan(NamedTuple):
    """A graph that can run.

    run(log, *inputs): the outputs, in order; what effects gave is appended to log. inputs, outputs: their
    numbers in the graph that the plan was made of; graph: what is left of that after the passes; left: how
    many ops each pass left; source: of `run`; kernels: what was compiled; by_numpy: the names of the ops that
    were not; is_fresh: whether all outputs are scalars, or arrays that nothing else can see; seconds: how
    long it took in all.
    """

    run: Callable[..., tuple[Any, ...]]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    graph: Graph
    left: list[tuple[str, int]]
    source: str
    kernels: "list[Kernel]"
    by_numpy: list[str]
    is_fresh: bool
    seconds: float


def planned(graph: Graph, native: bool) -> Plan:
    """A plan of the graph, by native kernels where they can be, if `native`."""
    if native:
        try:
            return _planned(graph, True)
        except Exception as problem:  # the compiler's own, whatever it is: NumPy's way is right as well
            warnings.warn(
                f"native code of a function was not to be had, and NumPy runs it: {problem}", stacklevel=2
            )
    return _planned(graph, False)


def _planned(graph: Graph, native: bool) -> Plan:
    start = time.perf_counter()
    outputs = graph.outputs
    graph, left = optimized(graph, native)
    steps: list[Step] = _with_kernels(graph) if native else list(graph.nodes)
    writer = _Writer(graph, steps)
    source, names = writer.written()
    exec(compile(source, f"<compiled by gradtape: {len(graph.nodes)} ops>", "exec"), names)
    kernels = [kernel for step in steps if isinstance(step, list) for kernel in step]
    by_numpy = [step.op.name for step in steps if isinstance(step, Node)]
    is_fresh = all(writer.owned.get(x) or not graph.specs[x].shape for x in graph.outputs)
    seconds = time.perf_counter() - start
    return Plan(
        names.pop("run"), graph.inputs, outputs, graph, left, source, kernels, by_numpy, is_fresh, seconds
    )


def _with_kernels(graph: Graph) -> list[Step]:
    """The graph's ops, fused into kernels where they can be, each run of kernels as one step."""
    from gradtape.compile.native.fusion import fused, updates_apart  # which, with LLVM, is loaded late

    steps: list[Step] = []
    apart = False  # whether the last kernels are to stay by themselves
    for step in fused(graph):
        if isinstance(step, Node):
            steps.append(step)
            apart = False
            continue
        rest, updates = updates_apart(step)
        if rest is not None:
            if steps and isinstance(steps[-1], list) and not apart:
                steps[-1].append(rest)
            else:
                steps.append([rest])
        steps += [[update] for update in updates]
        apart = bool(updates)
    return steps


class _Writer:
    """Writes the Python function of a graph's steps: `v3 = f1(v0, s1)`, `k0(v4, v5, v3)` and so on."""

    def __init__(self, graph: Graph, steps: Sequence[Step]) -> None:
        self.graph = graph
        self.steps = steps
        self.names: dict[str, Any] = {
            "empty": np.empty,
            "again": _again,
            "checked": _checked,
            "Raised": Raised,
            "PlanError": PlanError,
        }
        self.lines: list[str] = []
        self.compiled: dict[Any, Any] = {}  # native code by what it does
        self.last = self._last_uses()
        self.scalars: set[int] = set()  # values without axes that are sure to be NumPy scalars
        self.owned: dict[int, bool] = {}  # arrays that the function made, and nothing else can see

    def written(self) -> tuple[str, dict[str, Any]]:
        """The source, and what its names mean."""
        inputs = ", ".join(["log", *(f"v{x}" for x in self.graph.inputs)])
        for x, value in self.graph.constants.items():
            self.names[f"v{x}"] = value
        for place, step in enumerate(self.steps):
            if isinstance(step, Node):
                self._numpy(place, step)
            else:
                self._native(place, step)
            self._let_go(place)
        results = "".join(f"{self._out(x)}, " for x in self.graph.outputs)
        body = "\n".join(f"    {line}" for line in [*self.lines, f"return ({results})"])
        return f"def run({inputs}):\n{body}\n", self.names

    def _last_uses(self) -> dict[int, int]:
        last: dict[int, int] = {}
        for place, step in enumerate(self.steps):
            for x in _reads(step):
                last[x] = place
        last.update(dict.fromkeys(self.graph.outputs, len(self.steps)))
        return last

    def _named(self, prefix: str, value: Any) -> str:
        name = f"{prefix}{len(self.names)}"
        self.names[name] = value
        return name

    def _out(self, x: int) -> str:
        scalar = x in self.graph.specs and not self.graph.specs[x].shape and x not in self.scalars
        return f"v{x}[()]" if scalar and x not in self.graph.constants else f"v{x}"

    # -- by NumPy --------------------------------------------------------------------------------------------

    def _numpy(self, place: int, node: Node) -> None:
        outs = "".join(f"v{x}, " for x in node.outs)
        given = [f"v{x}" for x in node.operands]
        if not node.op.pure:
            effect = self._named("effect", *node.statics)
            self.lines.append(f"log.append({effect}({', '.join(given)}))")
            self.lines.append("if type(log[-1]) is Raised:")
            self.lines.append('    raise PlanError("an effect raised")')
            if outs:
                self.lines.append(f"{outs}= log[-1]")
            return
        statics = [self._named("s", s) for s in node.statics]
        if node.op.variadic:
            given = [f"[{', '.join(given)}]"]
        ufunc = self._ufunc(node)
        if ufunc is not None:
            out = node.outs[0]
            name = self._named("f", ufunc)
            buffer = self._free_buffer(place, node.operands, self.graph.specs[out])
            self.lines.append(
                f"v{out} = {name}({', '.join(given + ([f'out=v{buffer}'] if buffer is not None else []))})"
            )
            self.owned[out] = True
            if buffer is not None:
                self.owned[buffer] = False
            return
        if node.op.name in _PRODUCTS:
            self.owned[node.outs[0]] = True
        else:
            self.owned.update(dict.fromkeys(node.operands, False))  # of which the result may be a view
        call = f"{self._named('f', node.op.forward)}({', '.join([*given, *statics])})"
        if not getattr(node.op.call, "__module__", "gradtape").startswith("gradtape"):
            specs = self._named("specs", [self.graph.specs[x] for x in node.outs])
            self.lines.append(f"{outs}= checked({self._named('op', node.op)}, {call}, {specs})")
        elif len(node.outs) > 1 or node.op.name in _LISTS:
            self.lines.append(f"{outs}= {call}")
        else:
            self.lines.append(f"v{node.outs[0]} = {call}")

    def _ufunc(self, node: Node) -> Any:
        """The ufunc that the op's forward is, if its result is an array; it can be given a buffer."""
        spec = self.graph.specs[node.outs[0]]
        if not node.op.broadcasts or not spec.shape:
            return None
        forward = node.op.forward
        return forward if isinstance(forward, np.ufunc) else _UFUNCS.get(forward)

    def _free_buffer(self, place: int, operands: Sequence[int], spec: Spec) -> int | None:
        """One of the operands that is a large array of this kind, and that nobody reads after this step."""
        if spec.nbytes < _WORTHWHILE:
            return None
        for x in operands:
            if self.owned.get(x) and self.last[x] == place and self.graph.specs[x] == spec:
                return x
        return None

    # -- natively --------------------------------------------------------------------------------------------

    def _native(self, place: int, kernels: "list[Kernel]") -> None:
        from gradtape.compile.native import llvm

        made = {x for kernel in kernels for x in kernel.graph.outputs}
        inputs = list(dict.fromkeys(x for kernel in kernels for x in kernel.graph.inputs if x not in made))
        outputs = [x for x in made if self.last.get(x, -1) > place]
        whole = Graph(
            tuple(inputs),
            tuple(outputs),
            tuple([node for kernel in kernels for node in kernel.graph.nodes]),
            {x: value for kernel in kernels for x, value in kernel.graph.constants.items()},
            self.graph.specs,
        )
        key = form(whole), tuple([len(kernel.graph.nodes) for kernel in kernels])
        if key not in self.compiled:  # as it is in the next round of a loop
            self.compiled[key] = llvm.compiled(kernels, inputs, outputs)
        compiled = self.compiled[key]
        dead = self._dead_input(place, kernels[0], outputs) if len(kernels) == 1 else None
        made_anew = []
        for x in outputs:
            spec = self.graph.specs[x]
            made_anew.append(f"v{x} = empty({spec.shape}, {self._named('d', spec.dtype)})")
            self.owned[x] = bool(spec.shape)
        self.lines += made_anew if dead is None else [f"v{outputs[0]} = v{dead}"]
        kernel = self._named("k", compiled.call)
        outs, given = ", ".join(f"v{x}" for x in outputs), ", ".join(self._out(x) for x in inputs)
        self.lines.append(f"if {kernel}({outs}, {given}) is None:")
        self.lines += [f"    {line}" for line in made_anew if dead is not None]
        self.lines.append(f"    again({kernel}, ({outs},), ({given},))")
        for x in outputs:
            if not self.graph.specs[x].shape:
                self.lines.append(f"v{x} = v{x}[()]")
                self.scalars.add(x)

    def _dead_input(self, place: int, kernel: "Kernel", outputs: Sequence[int]) -> int | None:
        """An input whose memory the one result can have, since it is read at the result's own places only."""
        from gradtape.compile.native.fusion import is_elementwise

        if len(outputs) != 1 or not is_elementwise(kernel.graph.nodes, self.graph.specs):
            return None
        return self._free_buffer(place, kernel.graph.inputs, self.graph.specs[outputs[0]])

    def _let_go(self, place: int) -> None:
        """Frees the large values that no later step reads."""
        step = self.steps[place]
        made = step.outs if isinstance(step, Node) else ()
        done = [
            x
            for x in dict.fromkeys([*_reads(step), *made])
            if self.last.get(x, place) == place
            and x in self.graph.specs
            and x not in self.graph.constants
            and self.graph.specs[x].nbytes >= _WORTHWHILE
        ]
        if done:
            self.lines.append(f"del {', '.join(f'v{x}' for x in done)}")


def _again(kernel: Callable[..., Any], outputs: Sequence[Array], inputs: Sequence[Array]) -> None:
    """Runs a kernel that refused its inputs on them as it wants them: with their elements in a row."""
    simple = [np.require(x, requirements=["C", "A"]) if x.shape else x for x in inputs]
    if kernel(*outputs, *simple) is None:
        raise PlanError("a kernel refused its inputs")


def _checked(op: Op, found: Any, specs: Sequence[Spec]) -> Sequence[Array]:
    """What an op from elsewhere gives, if it is of the shape and dtype that it had when it was recorded; else
    recordings look at its shape from now on.
    """
    results: Sequence[Array] = found if isinstance(found, (list, tuple)) else [found]
    if len(results) != len(specs) or not all(map(Spec.fits, specs, results)):
        op.varies = True
        raise PlanError(f"{op.name} gives another shape or dtype than when it was recorded")
    return results


def _reads(step: Step) -> Sequence[int]:
    if isinstance(step, Node):
        return step.operands
    return [x for kernel in step for x in kernel.graph.inputs]
