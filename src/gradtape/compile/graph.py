"""The program that was recorded, in single-assignment form: values by number, and the ops between them."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradtape.tensor import Array

if TYPE_CHECKING:
    from gradtape.ops.op import Op

__all__ = ["Graph", "Node", "Spec", "hashable", "is_scalar", "run"]


class Spec(NamedTuple):
    """What is known of a value before there is one; the shape is (-1,) where it depends on values."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"

    def fits(self, value: Array) -> bool:
        """Whether the value is what this says."""
        return value.dtype == self.dtype and self.shape in (value.shape, (-1,))

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=int))

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


class Node(NamedTuple):
    """One op that ran: the numbers of its operands, its static attributes, and the numbers of its results.

    line: where the user's code called it, as "file.py:12", or "" where that is not known; round: 0, or which
    recomputation it belongs to, whose ops are to run again though they ran before.
    """

    op: "Op"
    operands: tuple[int, ...]
    statics: tuple[Any, ...]
    outs: tuple[int, ...]
    line: str = ""
    round: int = 0

    def evaluate(self, operands: Sequence[Array]) -> Sequence[Array]:
        """The results for bare operands, as NumPy computes them."""
        op = self.op
        found = op.forward(operands, *self.statics) if op.variadic else op.forward(*operands, *self.statics)
        return found if isinstance(found, (list, tuple)) else (found,)


class Graph(NamedTuple):
    """Nodes in an order in which they can run, from inputs and constants to outputs.

    constants: bare arrays, NumPy scalars, Python numbers (which are weak: they take the dtype of the other
    operand), or None for an optional operand that is not there; specs: of every value but those that are
    Python numbers or None. An output may be an input or a constant, and may be there twice.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[int, Any] = MappingProxyType({})
    specs: Mapping[int, Spec] = MappingProxyType({})

    def with_nodes(
        self, nodes: Iterable[Node], outputs: Sequence[int] | None = None, **changes: Any
    ) -> "Graph":
        """The same with other nodes, and, if given, outputs; constants that nothing reads are let go."""
        kept = tuple(nodes)
        outs = self.outputs if outputs is None else tuple(outputs)
        read = {x for node in kept for x in node.operands} | set(outs)
        constants = changes.pop("constants", self.constants)
        return self._replace(
            nodes=kept,
            outputs=outs,
            constants={x: value for x, value in constants.items() if x in read},
            **changes,
        )

    def __str__(self) -> str:
        lines = [f"inputs {', '.join(f'%{x}: {self.specs[x]}' for x in self.inputs)}"]
        lines += [f"  {self.line(node)}" for node in self.nodes]
        return "\n".join([*lines, f"outputs {', '.join(map(self.name, self.outputs))}"])

    def line(self, node: Node) -> str:
        """One node as text: `%3: float32[4] = multiply(%1, 2.0)`."""
        outs = ", ".join(f"%{x}: {self.specs[x]}" for x in node.outs)
        given = [*map(self.name, node.operands), *map(_brief, node.statics)]
        return f"{outs} = {node.op.name}({', '.join(given)})" + (f"    # {node.line}" if node.line else "")

    def name(self, x: int) -> str:
        """A value as text: its number, or what it is if it is a small constant."""
        if x not in self.constants:
            return f"%{x}"
        value = self.constants[x]
        return _brief(value.item() if is_scalar(value) and hasattr(value, "item") else value)


def is_scalar(value: Any) -> bool:
    """Whether a constant is a Python number, a NumPy scalar or an array without axes."""
    return isinstance(value, (bool, int, float, complex)) or getattr(value, "shape", None) == ()


def hashable(static: Any) -> Any:
    """A static attribute as a key that is equal for the same attribute: arrays and slices have none, nan is
    unlike itself, and 1, 1.0 and True are not the same.
    """
    if isinstance(static, slice):
        return "slice", hashable((static.start, static.stop, static.step))
    if isinstance(static, (tuple, list)):
        return type(static), tuple(map(hashable, static))
    if isinstance(static, (np.ndarray, np.generic)):
        return static.dtype, static.shape, static.tobytes()
    return (type(static), repr(static)) if isinstance(static, (int, float, complex)) else static


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"constant {Spec(value.shape, value.dtype)}"
    text = f"<{value.__name__}>" if callable(value) and hasattr(value, "__name__") else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def run(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """What the graph computes, node by node, for bare inputs: what every faster way must agree with."""
    values: dict[int, Any] = {**graph.constants, **dict(zip(graph.inputs, inputs, strict=True))}
    for node in graph.nodes:
        values.update(zip(node.outs, node.evaluate([values[x] for x in node.operands]), strict=True))
    return [values[x] for x in graph.outputs]
