"""Ops in terms of those that the compiler knows, by what their declarations say as `lower`.

A `lower` is called with symbols in place of arrays, and with a namespace whose ops write nodes.
"""

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeAlias

import numpy as np

from gradtape.compile.graph import Graph, Node, Spec
from gradtape.ops.batching import OF_SHAPE
from gradtape.ops.layout import static
from gradtape.ops.op import REGISTRY, Op
from gradtape.ops.operands import PYTHON, REAL

__all__ = ["lowered"]


def lowered(graph: Graph) -> Graph:
    """The same with every op that has a `lower` put in terms of others, down to those that have none.

    Asked are only ops all of whose operands are float32, float64 or real Python numbers: at other dtypes
    intermediate results may be of a dtype that the op's own forward avoids, and NumPy runs them anyway. Ops
    that ask for no more than a shape become constants. Raises TypeError if what `lower` gives is not of the
    shape and dtype of the op's own result.
    """
    writer = _Writer(graph)
    same: dict[int, int] = {}
    for node in graph.nodes:
        operands = tuple([same.get(x, x) for x in node.operands])
        writer.line = node.line
        found = writer.results(node.op, list(map(writer.value, operands)), node.statics)
        if found is NotImplemented:
            writer.nodes.append(node._replace(operands=operands))
            continue
        results = found if isinstance(found, (list, tuple)) else [found]
        for out, result in zip(node.outs, results, strict=True):
            same[out] = writer.number(result)
            given, wanted = writer.specs.get(same[out]), graph.specs[out]
            if given != wanted:
                raise TypeError(f"{node.op.name}: its `lower` gives {given}, its forward {wanted}")
    outputs = [same.get(x, x) for x in graph.outputs]
    return graph.with_nodes(writer.nodes, outputs, constants=writer.constants, specs=writer.specs)


# -- symbols -------------------------------------------------------------------------------------------------


class _Symbol:
    """A value that will be: its number, what is known of it, and who writes down what is done to it."""

    __array_ufunc__ = None  # so that NumPy's scalars leave operators to it

    def __init__(self, writer: "_Writer", number: int, spec: Spec) -> None:
        self.writer = writer
        self.number = number
        self.shape, self.dtype = spec
        self.ndim = len(spec.shape)
        self.size = math.prod(spec.shape)

    def __getitem__(self, index: Any) -> Any:
        index = index if isinstance(index, tuple) else (index,)
        return self.writer.apply(REGISTRY["read_at"], [self], (index,))

    def __bool__(self) -> NoReturn:
        raise TypeError("a lowering cannot choose its way by a value, only by shapes and dtypes: use where")


_UNARY = {"neg": "negative", "abs": "abs"}
_BINARY = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "pow"}
_COMPARISONS = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}


def _install() -> None:
    """Gives symbols Python's operators."""

    def method(op: str) -> Callable[..., Any]:
        return lambda *operands: operands[0].writer.apply(REGISTRY[op], operands)

    def turned(op: str) -> Callable[..., Any]:
        return lambda self, other: self.writer.apply(REGISTRY[op], (other, self))

    for name, op in {**_UNARY, **_BINARY, **_COMPARISONS}.items():
        setattr(_Symbol, f"__{name}__", method(op))
    for name, op in _BINARY.items():
        setattr(_Symbol, f"__r{name}__", turned(op))


_install()


class _Namespace:
    """What a lowering calls: the ops by name, which write nodes."""

    def __init__(self, writer: "_Writer") -> None:
        self._writer = writer

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in REGISTRY:
            raise AttributeError(f"no op is called {name}")
        op = REGISTRY[name]
        if not op.primitive:
            return functools.partial(op.forward, self)

        def call(*args: Any, **keywords: Any) -> Any:
            bound = _signature(op).bind(*args, **keywords)
            bound.apply_defaults()
            operands = list(bound.args[: op.operands])
            statics = tuple(map(static, bound.args[op.operands :]))
            return self._writer.apply(op, operands[0] if op.variadic else operands, statics)

        return call


@functools.cache
def _signature(op: Op) -> inspect.Signature:
    return inspect.signature(op.call)


# -- nodes ---------------------------------------------------------------------------------------------------


class _Writer:
    """The nodes, constants and specs so far; new values get numbers above all that there are."""

    def __init__(self, graph: Graph) -> None:
        self.nodes: list[Node] = []
        self.constants = dict(graph.constants)
        self.specs = dict(graph.specs)
        self.line = ""
        self.last = max([*graph.inputs, *self.constants, *self.specs], default=0)

    def results(self, op: Op, operands: Sequence[Any], statics: tuple[Any, ...]) -> Any:
        """What the op's `lower` makes of operands, or NotImplemented if it has none, or none for these."""
        if op.batch == OF_SHAPE and op.pure:
            arrays = [np.broadcast_to(np.zeros((), x.dtype), x.shape) for x in operands]
            return op.forward(*arrays, *statics)
        if op.lower is None or not all(map(_is_real, operands)):
            return NotImplemented
        given = [operands] if op.variadic else operands
        return op.lower(_Namespace(self), *given, *statics)

    def apply(self, op: Op, operands: Sequence[Any], statics: tuple[Any, ...] = ()) -> Any:
        """What a lowering gets for calling an op: a symbol, or a list of them."""
        found = self.results(op, operands, statics)
        if found is not NotImplemented:
            return found
        numbers = tuple(map(self.number, operands))
        kinds = [self.specs.get(number, x) for number, x in zip(numbers, operands, strict=True)]
        specs = _specs(op, kinds, statics)
        outs = tuple([self.new(spec) for spec in specs])
        self.nodes.append(Node(op, numbers, statics, outs, self.line))
        symbols = [_Symbol(self, x, spec) for x, spec in zip(outs, specs, strict=True)]
        return symbols if op.name in _LISTS else symbols[0]

    def value(self, x: int) -> Any:
        """What stands for a value in a lowering: its symbol, or the Python number or None that it is."""
        return _Symbol(self, x, self.specs[x]) if x in self.specs else self.constants[x]

    def number(self, value: Any) -> int:
        """The number of a symbol, or of a constant that a lowering uses."""
        if isinstance(value, _Symbol):
            return value.number
        weak = type(value) in PYTHON or value is None
        constant = value if weak or isinstance(value, np.generic) else np.asarray(value)
        x = self.new(None if weak else Spec(constant.shape, constant.dtype))
        self.constants[x] = constant
        return x

    def new(self, spec: Spec | None) -> int:
        self.last += 1
        if spec is not None:
            self.specs[self.last] = spec
        return self.last


def _is_real(operand: Any) -> bool:
    if operand is None or type(operand) in REAL:
        return True
    return getattr(operand, "dtype", None) in (np.float32, np.float64)


# -- shapes and dtypes ---------------------------------------------------------------------------------------

_Kind: TypeAlias = Any  # of an operand: its Spec, or the Python number that it is
_LISTS = {"split", "unstack"}

# Ops that show the elements of their operand in another arrangement, and copy none.
_VIEWS = {
    *("broadcast_to", "expand_dims", "matrix_transpose", "read_at", "reshape", "reverse", "squeeze"),
    *("split", "transpose", "unstack"),
}


def _specs(op: Op, kinds: Sequence[_Kind], statics: tuple[Any, ...]) -> list[Spec]:
    """The shapes and dtypes of an op's results; no array of any size is computed for it."""
    if op.broadcasts:
        shapes = {kind.shape for kind in kinds if isinstance(kind, Spec)}
        return [Spec(np.broadcast_shapes(*shapes), _dtype(op, tuple(map(_key, kinds))))]
    if op.name in _VIEWS:
        found = op.forward(np.broadcast_to(np.int8(0), kinds[0].shape), *statics)
        return [Spec(x.shape, kinds[0].dtype) for x in (found if op.name in _LISTS else [found])]
    if op.name in _REDUCTIONS:
        return [Spec(_reduced(kinds[0].shape, *statics), _dtype(op, (kinds[0].dtype,)))]
    if op.name not in _RULES:
        raise TypeError(
            f"{op.name}: a lowering cannot use this op: what shape its result has is not known beforehand"
        )
    given = [kinds] if op.variadic else kinds
    return [_RULES[op.name](*given, *statics)]


def _key(kind: _Kind) -> Any:
    return kind.dtype if isinstance(kind, Spec) else (type(kind), kind)


@functools.lru_cache(4096)
def _dtype(op: Op, keys: tuple[Any, ...]) -> np.dtype[Any]:
    """The dtype of the op's result for operands of these dtypes, or Python numbers."""
    operands = [np.ones(1, key) if isinstance(key, np.dtype) else key[1] for key in keys]
    with np.errstate(all="ignore"):
        dtype: np.dtype[Any] = op.forward(*operands).dtype
    return dtype


_REDUCTIONS = {"reduce_all", "reduce_any", "reduce_max", "reduce_min", "reduce_prod", "reduce_sum"}


def _reduced(shape: tuple[int, ...], axis: Any, keepdims: bool) -> tuple[int, ...]:
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    gone = {a % len(shape) for a in axes} if shape else set()
    return tuple([1 if i in gone else n for i, n in enumerate(shape) if keepdims or i not in gone])


def _gathered(x: Spec, indices: Spec, axis: int, batch: int) -> Spec:
    axis %= len(x.shape)
    return Spec(x.shape[:axis] + indices.shape[batch:] + x.shape[axis + 1 :], x.dtype)


def _gather(x: Spec, indices: Spec, validate: Any, axis: int | None, batch_dims: int) -> Spec:
    batch = batch_dims + len(indices.shape) if batch_dims < 0 else batch_dims
    return _gathered(x, indices, batch if axis is None else axis, batch)


def _matmul(a: Spec, b: Spec, *flags: bool) -> Spec:
    transpose_a, transpose_b, adjoint_a, adjoint_b = flags
    left = _turned(a.shape, transpose_a or adjoint_a)
    right = _turned(b.shape, transpose_b or adjoint_b)
    batch = np.broadcast_shapes(left[:-2], right[:-2])
    columns = right[-1:] if len(right) > 1 else ()
    return Spec((*batch, *left[-2:-1], *columns), np.result_type(a.dtype, b.dtype))


def _matvec(a: Spec, b: Spec, transpose_a: bool, adjoint_a: bool) -> Spec:
    left = _turned(a.shape, transpose_a or adjoint_a)
    batch = np.broadcast_shapes(left[:-2], b.shape[:-1])
    return Spec((*batch, left[-2]), np.result_type(a.dtype, b.dtype))


def _turned(shape: tuple[int, ...], turned: bool) -> tuple[int, ...]:
    return (*shape[:-2], shape[-1], shape[-2]) if turned else shape


def _concat(xs: Sequence[Spec], axis: int) -> Spec:
    shape = list(xs[0].shape)
    shape[axis] = sum(x.shape[axis] for x in xs)
    return Spec(tuple(shape), np.result_type(*(x.dtype for x in xs)))


def _stack(xs: Sequence[Spec], axis: int) -> Spec:
    shape = list(xs[0].shape)
    shape.insert(axis % (len(shape) + 1), len(xs))
    return Spec(tuple(shape), np.result_type(*(x.dtype for x in xs)))


def _pad(x: Spec, paddings: Sequence[Sequence[int]], mode: str, value: Any) -> Spec:
    return Spec(tuple(n + sum(margins) for n, margins in zip(x.shape, paddings, strict=True)), x.dtype)


_RULES: dict[str, Callable[..., Spec]] = {
    "concat": _concat,
    "discrete_cast": lambda x, dtype: Spec(x.shape, np.dtype(dtype)),
    "gather": _gather,
    "matmul": _matmul,
    "matvec": _matvec,
    "pad": _pad,
    "scatter_at": lambda x, index, shape: Spec(tuple(shape), x.dtype),
    "sign": lambda x: x,
    "smooth_cast": lambda x, dtype: Spec(x.shape, np.dtype(dtype)),
    "stack": _stack,
    "take": lambda x, indices, axis: _gathered(x, indices, axis or 0, 0),
}
