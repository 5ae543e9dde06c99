"""gradtape: TensorFlow's GradientTape for the NumPy world.

Record ordinary array code on a tape, and differentiate it exactly, to any order:

>>> x = gt.Variable(3.0)
>>> with gt.GradientTape() as tape:
...     y = x**2
>>> tape.gradient(y, x)
<tf.Tensor: shape=(), dtype=float32, numpy=6.0>
"""

import numpy as _numpy

import gradtape.numpy.protocols
import gradtape.operators
from gradtape import (
    autodiff,
    config,
    debugging,
    errors,
    extending,
    linalg,
    math,
    nn,
    optimizers,
    random,
    testing,
)
from gradtape.allocation import use_the_heap as _use_the_heap
from gradtape.asking import UnconnectedGradients
from gradtape.batching import vectorized_map
from gradtape.compile.function import function
from gradtape.compile.kinds import TensorSpec
from gradtape.custom import custom_gradient, custom_jvp
from gradtape.module import Module
from gradtape.ops.accumulation import cumsum
from gradtape.ops.arithmetic import (
    abs,
    add,
    clip_by_value,
    divide,
    floor,
    floordiv,
    maximum,
    minimum,
    multiply,
    negative,
    pow,
    round,
    sign,
    square,
    subtract,
)
from gradtape.ops.arithmetic import divide as truediv
from gradtape.ops.comparison import (
    equal,
    greater,
    greater_equal,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    not_equal,
)
from gradtape.ops.contraction import matmul
from gradtape.ops.effects import numpy_function, print
from gradtape.ops.einsum import einsum, tensordot
from gradtape.ops.indexing import (
    argsort,
    boolean_mask,
    gather,
    gather_nd,
    scatter_nd,
    sort,
    tensor_scatter_nd_add,
    tensor_scatter_nd_update,
    where,
)
from gradtape.ops.joining import concat, split, stack, unstack
from gradtape.ops.making import (
    cast,
    constant,
    convert_to_tensor,
    eye,
    fill,
    identity,
    linspace,
    one_hot,
    ones,
    ones_like,
    range,
    stop_gradient,
    zeros,
    zeros_like,
)
from gradtape.ops.norms import clip_by_global_norm, clip_by_norm, norm
from gradtape.ops.reduction import (
    argmax,
    argmin,
    reduce_all,
    reduce_any,
    reduce_logsumexp,
    reduce_max,
    reduce_mean,
    reduce_min,
    reduce_prod,
    reduce_sum,
)
from gradtape.ops.shaping import (
    broadcast_to,
    expand_dims,
    pad,
    rank,
    repeat,
    reshape,
    reverse,
    roll,
    shape,
    size,
    squeeze,
    tile,
    transpose,
)
from gradtape.ops.transcendental import (
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    cos,
    cosh,
    exp,
    sigmoid,
    sin,
    sinh,
    sqrt,
    tan,
    tanh,
)
from gradtape.recompute import recompute_grad
from gradtape.slices import IndexedSlices
from gradtape.tape import GradientTape
from gradtape.tensor import Tensor, Variable, is_tensor
from gradtape.transforms import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp

__version__ = "0.1.0"

_use_the_heap()

newaxis = None
float16, float32, float64 = (_numpy.dtype(name) for name in ("float16", "float32", "float64"))
complex64, complex128 = (_numpy.dtype(name) for name in ("complex64", "complex128"))
int8, int16, int32, int64 = (_numpy.dtype(name) for name in ("int8", "int16", "int32", "int64"))
uint8, uint16, uint32, uint64 = (_numpy.dtype(name) for name in ("uint8", "uint16", "uint32", "uint64"))
bool = _numpy.dtype("bool")


def __getattr__(name: str) -> object:
    """Says where a name is that was looked for here."""
    for part in (math, nn, linalg, gradtape.numpy):
        if name in part.__all__:
            raise AttributeError(f"module 'gradtape' has no attribute {name!r}; it is {part.__name__}.{name}")
    raise AttributeError(f"module 'gradtape' has no attribute {name!r}")


__all__ = [
    "GradientTape",
    "IndexedSlices",
    "Module",
    "Tensor",
    "TensorSpec",
    "UnconnectedGradients",
    "Variable",
    "abs",
    "acos",
    "acosh",
    "add",
    "argmax",
    "argmin",
    "argsort",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "autodiff",
    "bool",
    "boolean_mask",
    "broadcast_to",
    "cast",
    "clip_by_global_norm",
    "clip_by_norm",
    "clip_by_value",
    "complex64",
    "complex128",
    "concat",
    "config",
    "constant",
    "convert_to_tensor",
    "cos",
    "cosh",
    "cumsum",
    "custom_gradient",
    "custom_jvp",
    "debugging",
    "divide",
    "einsum",
    "equal",
    "errors",
    "exp",
    "expand_dims",
    "extending",
    "eye",
    "fill",
    "float16",
    "float32",
    "float64",
    "floor",
    "floordiv",
    "function",
    "gather",
    "gather_nd",
    "grad",
    "greater",
    "greater_equal",
    "hessian",
    "hvp",
    "identity",
    "int8",
    "int16",
    "int32",
    "int64",
    "is_tensor",
    "jacobian",
    "jvp",
    "less",
    "less_equal",
    "linalg",
    "linspace",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "math",
    "matmul",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "newaxis",
    "nn",
    "norm",
    "not_equal",
    "numpy_function",
    "one_hot",
    "ones",
    "ones_like",
    "optimizers",
    "pad",
    "pow",
    "print",
    "random",
    "range",
    "rank",
    "recompute_grad",
    "reduce_all",
    "reduce_any",
    "reduce_logsumexp",
    "reduce_max",
    "reduce_mean",
    "reduce_min",
    "reduce_prod",
    "reduce_sum",
    "repeat",
    "reshape",
    "reverse",
    "roll",
    "round",
    "scatter_nd",
    "shape",
    "sigmoid",
    "sign",
    "sin",
    "sinh",
    "size",
    "sort",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "stop_gradient",
    "subtract",
    "tan",
    "tanh",
    "tensor_scatter_nd_add",
    "tensor_scatter_nd_update",
    "tensordot",
    "testing",
    "tile",
    "transpose",
    "truediv",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "unstack",
    "value_and_grad",
    "vectorized_map",
    "vjp",
    "where",
    "zeros",
    "zeros_like",
]
