"""What was compiled, told to people: the paths of a function, their guards, passes and kernels."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gradtape.compile.graph import Spec
from gradtape.compile.paths import Branch, Derivative, Paths
from gradtape.compile.plan import Plan
from gradtape.structure import unflattened
from gradtape.tensor import Value

__all__ = ["explained", "graphs", "title"]


def title(args: tuple[Any, ...], keywords: dict[str, Any]) -> str:
    """The arguments of a call as a kind: `(float32[4], n=3)`."""
    given = [_outlined(x) for x in args] + [f"{name}={_outlined(x)}" for name, x in keywords.items()]
    return f"({', '.join(given)})"


class _Leaf:
    def __init__(self, x: Any) -> None:
        if isinstance(x, (Value, np.ndarray, np.generic)):
            self.text = str(Spec(tuple(x.shape), x.dtype))
        elif isinstance(x, (bool, int, float, complex, str, bytes, type(None), slice, range)):
            self.text = repr(x) if len(repr(x)) <= 40 else f"{repr(x)[:37]}..."
        else:
            self.text = f"<{type(x).__name__}>"

    def __repr__(self) -> str:
        return self.text


def _outlined(x: Any) -> str:
    flat, rebuild = unflattened(x)
    return repr(rebuild([_Leaf(leaf) for leaf in flat]))


def explained(name: str, all_paths: Sequence[Paths]) -> str:
    """The text of `Function.explain`."""
    count = sum(paths.count for paths in all_paths)
    lines = [f"{name}: {_several(len(all_paths), 'kind')} of arguments, {_several(count, 'path')}"]
    for paths in all_paths:
        lines += ["", f"{name}{paths.title}", *_of_kind(paths)]
    return "\n".join(lines)


def _several(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _of_kind(paths: Paths) -> Iterator[str]:
    branches = list(_walked(paths))
    places = {id(branch): i + 1 for i, branch in enumerate(branches)}
    seconds = 0.0
    for branch in branches:
        plans = list({id(plan): plan for _, plan in branch.plans.values()}.values())
        seconds += sum(plan.seconds for plan in plans)
        yield f"  segment {places[id(branch)]}"
        if plans:
            yield from _of_plan(paths, plans[0])
        if branch.guard is not None:
            yield f"    guard at {_short(branch.guard.line)}, on {_asked(branch)}"
            for answer, child in branch.children.items():
                shown = answer if isinstance(answer, (bool, tuple)) else _read(paths, branch, answer)
                yield f"      {shown}: segment {places[id(child)]}"
        if branch.end is not None:
            assigned = ", ".join(variable.name for variable, _ in branch.end.assigned)
            yield f"    returns, having assigned {assigned}" if assigned else "    returns"
        for derivative in branch.derivatives:
            seconds += sum(plan.seconds for plan in derivative.plans.values())
            yield from _of_derivative(paths, derivative)
    yield f"  compiled in {seconds * 1e3:.0f} ms"


def _walked(paths: Paths) -> Iterator[Branch]:
    waiting = [paths.root]
    while waiting:
        branch = waiting.pop()
        if branch is not None:
            waiting += reversed(branch.children.values())
            yield branch


def _asked(branch: Branch) -> str:
    guard = branch.guard
    assert guard is not None
    kind = {"truth": "the truth", "value": "the value", "shape": "the shape"}[guard.kind]
    return f"{kind} of %{guard.number}"


def _read(paths: Paths, branch: Branch, answer: bytes) -> str:
    """A value that Python was told, from its bytes."""
    guard = branch.guard
    assert guard is not None
    spec = paths.specs[guard.number]
    return np.array2string(np.frombuffer(answer, spec.dtype).reshape(spec.shape), threshold=6)


def _short(line: str) -> str:
    return os.path.basename(line)


def _of_plan(paths: Paths, plan: Plan) -> Iterator[str]:
    yield f"    ops: {', '.join(f'{name} {n}' for name, n in plan.left)}"
    for i, kernel in enumerate(plan.kernels):
        outs = ", ".join(str(kernel.graph.specs[x]) for x in kernel.graph.outputs)
        yield f"    kernel {i + 1} makes {outs} of {_counted([n.op.name for n in kernel.graph.nodes])}"
    if plan.by_numpy:
        yield f"    NumPy runs {_counted(plan.by_numpy)}"


def _counted(names: Sequence[str]) -> str:
    return ", ".join(name if n == 1 else f"{name} x {n}" for name, n in Counter(names).items())


def _of_derivative(paths: Paths, derivative: Derivative) -> Iterator[str]:
    kept = sum(paths.specs[x].nbytes for x in derivative.needs if x in paths.specs)
    by = _several(len(derivative.wrt), "value")
    yield f"    derivative by {by}, which keeps {kept} bytes of the forward run"
    for plan in derivative.plans.values():
        yield from ("  " + line for line in _of_plan(paths, plan))


def graphs(paths: Paths) -> str:
    """The text of `Function.graph`: the graph of each segment, after all passes."""
    texts = []
    for i, branch in enumerate(_walked(paths)):
        for _, plan in list(branch.plans.values())[:1]:
            texts.append(f"segment {i + 1}\n{plan.graph}")
    return "\n\n".join(texts)
