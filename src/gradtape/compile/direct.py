"""A path without guards and effects as one Python function, for calls that cost microseconds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from gradtape.compile.plan import Plan
from gradtape.compile.trace import Capture, End
from gradtape.tensor import Array, Tensor, Variable

__all__ = ["FAILED", "Direct", "direct"]

FAILED: Any = object()  # what a direct call returns if it cannot be had; the long way tells why
Direct: TypeAlias = Callable[[Sequence[Array]], Any]


def direct(
    plan: Plan,
    end: End,
    arguments: int,
    variables: Mapping[int, Variable],
    captures: Mapping[int, Capture],
    constants: Mapping[int, Any],
) -> Direct:
    """A function from the bare arguments to the result, which assigns variables too.

    Its source is written for the path: `(v7,) = run(None, arrays[0], x3._value)`, `return
    rebuild([Tensor(v7)])`.
    """
    names: dict[str, Any] = {"run": plan.run, "Tensor": Tensor, "rebuild": end.rebuild, "FAILED": FAILED}

    def source(x: int) -> str:
        if x in plan.outputs:
            return f"v{x}"
        if x < arguments:
            return f"arrays[{x}]"
        if x in variables:
            names[f"x{x}"] = variables[x]
            return f"x{x}._value"
        names[f"c{x}"] = captures[x].value if x in captures else constants[x]
        return f"c{x}"

    given = ", ".join(["None", *(source(x) for x in plan.inputs)])
    outs = "".join(f"v{x}, " for x in plan.outputs)
    leaves = []
    for i, (kind, leaf) in enumerate(end.leaves):
        names[f"leaf{i}"] = leaf
        leaves.append(f"Tensor({source(leaf)})" if kind == "tensor" else f"leaf{i}")
    lines = ["def direct(arrays):", "    try:", f"        {f'{outs}= ' if outs else ''}run({given})"]
    lines += ["    except Exception:", "        return FAILED", f"    leaves = [{', '.join(leaves)}]"]
    news = []
    for i, (variable, x) in enumerate(end.assigned):
        names[f"assigned{i}"] = variable
        news.append(f"new{i} = {source(x)}")  # before any is assigned, since one may be another's old value
    lines += [f"    {line}" for line in news]
    lines += [f"    assigned{i}._value = new{i}" for i in range(len(news))]
    exec("\n".join([*lines, "    return rebuild(leaves)"]), names)
    made: Direct = names.pop("direct")  # which, among its own globals, would be a cycle
    return made
