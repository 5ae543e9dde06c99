"""Every op of the registry, by its samples: its value and dtype against NumPy, SciPy or a few plain lines.

REFERENCES is written from the definitions, in float64 and without a look at the ops. An op whose forward is
itself a function of NumPy, SciPy or `operator` needs none: there only the wrapping can be wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
from numerics import TOLERANCE, Case, assert_close, case_id, cases, flat, tensors

import gradtape as gt
from gradtape.ops.op import REGISTRY, Op

Reference = Callable[..., Any]


# -- references that take more than a line -------------------------------------------------------------------


def axes_of(x: np.ndarray, axis: Any) -> tuple[int, ...]:
    """The axes meant, from 0 up; all for None."""
    if axis is None:
        return tuple(range(x.ndim))
    return tuple(a % x.ndim for a in np.atleast_1d(np.asarray(axis, int)))


def reducing(function: Reference) -> Reference:
    def reference(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return function(x, axis=axes_of(np.asarray(x), axis), keepdims=keepdims)

    return reference


def over_nothing(function: Reference, nothing: float) -> Reference:
    """A reduction that NumPy refuses for empty slices, with what it gives for them."""

    def reference(x: np.ndarray, axis: Any, keepdims: bool) -> Any:
        if x.size or not np.sum(np.ones(x.shape), axis=axis).size:
            return function(x, axis=axis, keepdims=keepdims)
        return np.sum(x if function is np.mean else x.real, axis=axis, keepdims=keepdims) + nothing

    return reducing(reference)


def logsumexp(x: np.ndarray, axis: Any, keepdims: bool) -> np.ndarray:
    peak = np.max(x, axis=axis, keepdims=True)
    found = peak + np.log(np.sum(np.exp(x - peak), axis=axis, keepdims=True))
    return found if keepdims else np.squeeze(found, axis)


def scan(function: Reference, neutral: float) -> Reference:
    """cumsum and cumprod, one slice after another."""

    def reference(x: np.ndarray, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> np.ndarray:
        slices = list(np.moveaxis(x, axis, 0))
        if reverse:
            slices.reverse()
        so_far, found = np.full_like(slices[0], neutral) if slices else None, []
        for part in slices:
            after = function(so_far, part)
            found.append(so_far if exclusive else after)
            so_far = after
        if reverse:
            found.reverse()
        return np.stack(found, axis) if slices else x

    return reference


def arg(function: Reference) -> Reference:
    def reference(x: np.ndarray, axis: Any = None, output_type: Any = "int64") -> np.ndarray:
        return np.asarray(function(x, axis=0 if axis is None else axis)).astype(output_type)

    return reference


def norm(x: np.ndarray, ord: Any = "euclidean", axis: Any = None, keepdims: bool = False) -> np.ndarray:
    """By TensorFlow's rules: flat vectors unless two axes are named; Frobenius for 'euclidean' and 'fro'."""
    if ord in ("euclidean", "fro"):
        return np.sqrt(np.sum(np.abs(x) ** 2, axis=axes_of(x, axis), keepdims=bool(keepdims)))
    if axis is None:
        found = np.linalg.norm(x.ravel(), ord)
        return np.reshape(found, (1,) * x.ndim) if keepdims else found
    return np.linalg.norm(
        x, ord, axis=tuple(axis) if isinstance(axis, (list, tuple)) else axis, keepdims=bool(keepdims)
    )


def clip_by_norm(t: np.ndarray, clip_norm: Any, axes: Any = None) -> np.ndarray:
    length = np.sqrt(np.sum(np.abs(t) ** 2, axis=axes_of(t, axes), keepdims=True))
    return np.where(length > clip_norm, t * clip_norm / np.where(length > 0, length, 1), t)


def clip_by_global_norm(t_list: Any, clip_norm: Any, use_norm: Any = None) -> Any:
    length = global_norm(t_list) if use_norm is None else use_norm
    return [None if t is None else t * clip_norm / max(length, clip_norm) for t in t_list], length


def split(value: np.ndarray, num_or_size_splits: Any, axis: int = 0, num: Any = None) -> list[np.ndarray]:
    sizes = np.asarray(num_or_size_splits)
    if not sizes.ndim:
        return np.split(value, int(sizes), axis)
    sizes = np.where(sizes < 0, value.shape[axis] - sizes[sizes >= 0].sum(), sizes)
    return np.split(value, np.cumsum(sizes)[:-1], axis)


def pad(tensor: np.ndarray, paddings: Any, mode: str = "CONSTANT", constant_values: Any = 0) -> np.ndarray:
    more = {"constant_values": constant_values} if mode.upper() == "CONSTANT" else {}
    return (
        np.pad(tensor, np.reshape(np.asarray(paddings, int), (-1, 2)), mode.lower(), **more)
        if paddings
        else tensor
    )


def gather(
    params: np.ndarray, indices: Any, validate_indices: Any = None, axis: Any = None, batch_dims: int = 0
) -> np.ndarray:
    indices = np.asarray(indices, int)
    batch_dims += indices.ndim if batch_dims < 0 else 0
    axis = batch_dims if axis is None else axis % params.ndim
    if not batch_dims:
        return np.take(params, indices, axis)
    parts = [
        gather(p, i, axis=axis - 1, batch_dims=batch_dims - 1) for p, i in zip(params, indices, strict=True)
    ]
    return np.stack(parts)


def gather_nd(params: np.ndarray, indices: Any, batch_dims: int = 0) -> np.ndarray:
    indices = np.asarray(indices, int)
    if batch_dims:
        return np.stack([gather_nd(p, i, batch_dims - 1) for p, i in zip(params, indices, strict=True)])
    found = np.empty((*indices.shape[:-1], *params.shape[indices.shape[-1] :]), params.dtype)
    for where in np.ndindex(indices.shape[:-1]):
        found[where] = params[tuple(indices[where])]
    return found


def boolean_mask(tensor: np.ndarray, mask: Any, axis: Any = None) -> np.ndarray:
    mask = np.asarray(mask, bool)
    axis = 0 if axis is None else axis % tensor.ndim
    return tensor[(slice(None),) * axis + (mask,)]


def scattered(start: np.ndarray, indices: Any, updates: np.ndarray, add: bool) -> np.ndarray:
    found, indices = start.copy(), np.asarray(indices, int)
    for where in np.ndindex(indices.shape[:-1]):
        place = tuple(indices[where])
        found[place] = found[place] + updates[where] if add else updates[where]
    return found


def setitem(x: np.ndarray, value: Any, index: Any) -> np.ndarray:
    found = x.copy()
    found[index] = value
    return found


def sort(values: np.ndarray, axis: int = -1, direction: str = "ASCENDING") -> np.ndarray:
    found = np.sort(values, axis)
    return found if direction == "ASCENDING" else np.flip(found, axis)


def argsort(
    values: np.ndarray, axis: int = -1, direction: str = "ASCENDING", stable: bool = False
) -> np.ndarray:
    return np.argsort(values if direction == "ASCENDING" else -values, axis, kind="stable").astype("int32")


def top_k(input: np.ndarray, k: int = 1, sorted: bool = True, index_type: Any = "int32") -> Any:
    order = np.argsort(-input, axis=-1, kind="stable")[..., :k]
    return np.take_along_axis(input, order, -1), order.astype(index_type)


def segments(data: np.ndarray, segment_ids: Any, num_segments: int) -> np.ndarray:
    ids = np.asarray(segment_ids, int)
    found = np.zeros((num_segments, *data.shape[ids.ndim :]), data.dtype)
    for where in np.ndindex(ids.shape):
        if ids[where] >= 0:
            found[ids[where]] += data[where]
    return found


def adjoint_of(reading: Reference, updates: np.ndarray, shape: Any) -> np.ndarray:
    """The sum of unit arrays of `shape`, each by what it has in common with the updates once read."""
    found = np.zeros(shape, updates.dtype)
    for where in np.ndindex(found.shape):
        unit = np.zeros(shape)
        unit[where] = 1
        found[where] = np.sum(reading(unit) * updates)
    return found


def last_update(indices: Any, shape: Any) -> np.ndarray:
    points = [tuple(p) for p in np.asarray(indices, int)]
    last = [p not in points[i + 1 :] for i, p in enumerate(points)]
    return np.reshape(last, (-1,) + (1,) * (len(shape) - len(points[0])))


def read_segments(x: np.ndarray, segment_ids: Any) -> np.ndarray:
    ids = np.asarray(segment_ids, int)
    found = np.zeros((*ids.shape, *x.shape[1:]), x.dtype)
    for where in np.ndindex(ids.shape):
        if ids[where] >= 0:
            found[where] = x[ids[where]]
    return found


def matmul(
    a: Any,
    b: Any,
    transpose_a: bool = False,
    transpose_b: bool = False,
    adjoint_a: bool = False,
    adjoint_b: bool = False,
) -> Any:
    a = np.swapaxes(a, -1, -2) if transpose_a else np.conj(np.swapaxes(a, -1, -2)) if adjoint_a else a
    b = np.swapaxes(b, -1, -2) if transpose_b else np.conj(np.swapaxes(b, -1, -2)) if adjoint_b else b
    return np.matmul(a, b)


def tensordot(a: np.ndarray, b: np.ndarray, axes: Any) -> np.ndarray:
    return np.tensordot(a, b, axes)


def hermitian(x: np.ndarray, adjoint: bool) -> np.ndarray:
    return np.conj(np.swapaxes(x, -1, -2)) if adjoint else x


def cofactors(a: np.ndarray) -> np.ndarray:
    found = np.zeros_like(a)
    for i, j in np.ndindex(a.shape[-2:]):
        minor = np.delete(np.delete(a, i, -2), j, -1)
        found[..., i, j] = (-1) ** (i + j) * np.linalg.det(minor)
    return found


def solve(matrix: np.ndarray, rhs: np.ndarray, adjoint: bool = False) -> np.ndarray:
    return np.linalg.inv(hermitian(matrix, adjoint)) @ rhs


def diag(
    diagonal: np.ndarray, k: int = 0, num_rows: int = -1, num_cols: int = -1, padding_value: float = 0
) -> np.ndarray:
    """As large as it must be, where no size is asked for; square if none is."""
    n = diagonal.shape[-1]
    least = (n + abs(k),) * 2 if num_rows == num_cols == -1 else (n + max(-k, 0), n + max(k, 0))
    rows, columns = (
        most if asked == -1 else asked for asked, most in zip((num_rows, num_cols), least, strict=True)
    )
    found = np.full((*diagonal.shape[:-1], rows, columns), padding_value, diagonal.dtype)
    for i in range(n):
        found[..., i + max(-k, 0), i + max(k, 0)] = diagonal[..., i]
    return found


def softmax(logits: np.ndarray, axis: int | None = None) -> np.ndarray:
    axis = -1 if axis is None else axis
    weights = np.exp(logits)
    return weights / np.sum(weights, axis, keepdims=True)


def softmax_cross_entropy(labels: np.ndarray, logits: np.ndarray, axis: int = -1) -> np.ndarray:
    return -np.sum(labels * scipy.special.log_softmax(logits, axis), axis)


def sparse_cross_entropy(labels: Any, logits: np.ndarray) -> np.ndarray:
    labels = np.asarray(labels, int)[..., None]
    return -np.take_along_axis(scipy.special.log_softmax(logits, -1), labels, -1)[..., 0]


def sigmoid_cross_entropy(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    p = scipy.special.expit(logits)
    return -labels * np.log(p) - (1 - labels) * np.log(1 - p)


def moments(x: np.ndarray, axes: Any, shift: Any = None, keepdims: bool = False) -> Any:
    axes = axes_of(x, axes)
    return np.mean(x, axes, keepdims=keepdims), np.var(x, axes, keepdims=keepdims)


def bias_add(value: np.ndarray, bias: np.ndarray, data_format: Any = None) -> np.ndarray:
    channel = 1 if (data_format or "").startswith("NC") else value.ndim - 1
    return value + bias.reshape([-1 if i == channel else 1 for i in range(value.ndim)])


def gelu(x: np.ndarray, approximate: bool = False) -> np.ndarray:
    if approximate:
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return x * scipy.special.ndtr(x)


def one_hot(
    indices: Any, depth: int, on_value: Any = None, off_value: Any = None, axis: Any = None, dtype: Any = None
) -> np.ndarray:
    indices = np.asarray(indices, int)
    on, off = 1 if on_value is None else on_value, 0 if off_value is None else off_value
    found = np.full(
        (*indices.shape, depth), off, dtype or np.result_type("f" if on_value is None else type(on))
    )
    for where in np.ndindex(indices.shape):
        if 0 <= indices[where] < depth:
            found[(*where, indices[where])] = on
    return np.moveaxis(found, -1, -1 if axis is None else axis)


def embedding(params: np.ndarray, ids: Any, max_norm: Any = None) -> np.ndarray:
    rows = np.asarray(params)[np.asarray(ids, int)]
    return rows if max_norm is None else clip_by_norm(rows, max_norm, tuple(range(np.ndim(ids), rows.ndim)))


def safe(function: Reference, zero: Reference) -> Reference:
    """function(x, y), but 0 where `zero` says so, even if NaN."""

    def reference(x: Any, y: Any) -> Any:
        with np.errstate(all="ignore"):
            return np.where(zero(*np.broadcast_arrays(x, y)), 0.0, function(x, y))

    return reference


SELU = 1.6732632423543772, 1.0507009873554805


def cast(x: np.ndarray, dtype: Any) -> np.ndarray:
    return (x if np.dtype(dtype).kind in "cb" else x.real).astype(dtype)


def global_norm(t_list: Any) -> np.ndarray:
    return np.sqrt(sum(np.sum(np.abs(t) ** 2) for t in t_list if t is not None))


def linear_recurrence(
    factors: np.ndarray, terms: np.ndarray, axis: int = 0, reverse: bool = False
) -> np.ndarray:
    pairs = np.moveaxis(np.stack([factors, terms]), axis + 1, 1)
    if reverse:
        pairs = pairs[:, ::-1]
    found = np.zeros_like(pairs[1])
    for i in range(found.shape[0]):
        found[i] = pairs[1, i] + (pairs[0, i] * found[i - 1] if i else 0)
    return np.moveaxis(found[::-1] if reverse else found, 0, axis)


REFERENCES: dict[str, Reference] = {
    # making
    "smooth_cast": cast,
    "discrete_cast": cast,
    "cast": cast,
    "identity": lambda x: x,
    "stop_gradient": lambda x: x,
    "ones_like": lambda x, dtype=None: np.ones_like(x, dtype),
    "zeros_like": lambda x, dtype=None: np.zeros_like(x, dtype),
    "fill": lambda dims, value: np.full(dims, value),
    "ones": lambda shape, dtype="f": np.ones(shape, dtype),
    "zeros": lambda shape, dtype="f": np.zeros(shape, dtype),
    "eye": lambda n, m=None, batch_shape=(), dtype="f": np.tile(
        np.eye(n, m, dtype=dtype), (*batch_shape, 1, 1)
    ),
    "linspace": lambda start, stop, num, axis=0: np.linspace(start, stop, num, axis=axis),
    "range": lambda start, *more, dtype=None: np.arange(start, *more, dtype=dtype),
    "one_hot": one_hot,
    # arithmetic
    "sign": lambda x: x / np.where(x == 0, 1, np.abs(x)),
    "reciprocal": lambda x: 1 / x,
    "squared_difference": lambda x, y: (x - y) * np.conj(x - y),
    "divide_no_nan": safe(lambda x, y: x / y, lambda x, y: y == 0),
    "multiply_no_nan": safe(lambda x, y: x * y, lambda x, y: y == 0),
    "where": lambda condition, x, y: np.where(np.asarray(condition, bool), x, y),
    "clip_by_value": np.clip,
    "pow": np.power,
    "mod": lambda x, y: x - np.floor(x / y) * y,
    "floordiv": lambda x, y: np.floor(x / y),
    "real": np.real,
    "imag": np.imag,
    "conj": np.conj,
    "angle": np.angle,
    "maximum": lambda x, y: np.where(x >= y, x, y),
    "minimum": lambda x, y: np.where(x <= y, x, y),
    "square": lambda x: x * x,
    "abs": np.abs,
    "negative": np.negative,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
    "logical_not": np.logical_not,
    "round": np.rint,
    # transcendental
    "rsqrt": lambda x: x**-0.5,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.log(1 + np.exp(x)),
    "erf": scipy.special.erf,
    "erfc": scipy.special.erfc,
    "lgamma": scipy.special.gammaln,
    "digamma": scipy.special.psi,
    "polygamma": lambda a, x: scipy.special.polygamma(np.asarray(a).astype(int), x),
    "xlogy": safe(lambda x, y: x * np.log(y), lambda x, y: x == 0),
    "xdivy": safe(lambda x, y: x / y, lambda x, y: x == 0),
    "zero_or_quotient": safe(lambda x, y: x / y, lambda x, y: x == 0),
    # reductions
    "reduce_sum": reducing(np.sum),
    "reduce_mean": over_nothing(np.mean, np.nan),
    "reduce_prod": reducing(np.prod),
    "reduce_max": over_nothing(np.max, -np.inf),
    "reduce_min": over_nothing(np.min, np.inf),
    "reduce_any": reducing(np.any),
    "reduce_all": reducing(np.all),
    "reduce_logsumexp": over_nothing(logsumexp, -np.inf),
    "reduce_variance": over_nothing(np.var, np.nan),
    "reduce_std": over_nothing(np.std, np.nan),
    "cumsum": scan(np.add, 0),
    "cumprod": scan(np.multiply, 1),
    "argmax": arg(np.argmax),
    "argmin": arg(np.argmin),
    "norm": norm,
    "global_norm": global_norm,
    "linear_recurrence": linear_recurrence,
    "clip_by_norm": clip_by_norm,
    "clip_by_global_norm": clip_by_global_norm,
    # shaping
    "reshape": lambda x, shape: np.reshape(x, shape),
    "transpose": lambda x, perm=None, conjugate=False: (
        np.conj(np.transpose(x, perm)) if conjugate else np.transpose(x, perm)
    ),
    "expand_dims": lambda x, axis: np.expand_dims(x, axis),
    "squeeze": lambda x, axis=None: np.squeeze(x, None if axis is None or axis == [] else axes_of(x, axis)),
    "concat": lambda values, axis: np.concatenate(values, axis),
    "stack": lambda values, axis=0: np.stack(values, axis),
    "unstack": lambda x, num=None, axis=0: list(np.moveaxis(x, axis, 0)),
    "split": split,
    "tile": lambda x, multiples: np.tile(x, multiples),
    "pad": pad,
    "reverse": lambda x, axis: np.flip(x, axes_of(x, axis)),
    "roll": lambda x, shift, axis: np.roll(x, shift, axis),
    "broadcast_to": lambda x, shape: np.broadcast_to(x, shape),
    "repeat": lambda x, repeats, axis=None: np.repeat(x, repeats, axis),
    "shape": lambda x, out_type="int32": np.asarray(np.shape(x), out_type),
    "size": lambda x, out_type="int32": np.asarray(np.size(x), out_type),
    "rank": lambda x: np.asarray(np.ndim(x), "int32"),
    # indexing
    "getitem": lambda x, index: x[index],
    "read_at": lambda x, index: x[index],
    "scatter_at": lambda updates, index, shape: adjoint_of(lambda x: x[index], updates, shape),
    "setitem": setitem,
    "write_at": setitem,
    "take": lambda x, indices, axis=None: np.take(x, np.asarray(indices), axis),
    "gather": gather,
    "ungather": lambda updates, indices, shape, axis=None, batch_dims=0: adjoint_of(
        lambda x: gather(x, indices, None, axis, batch_dims), updates, shape
    ),
    "gather_nd": gather_nd,
    "last_update": last_update,
    "read_segments": read_segments,
    "top_k_indices": lambda input, k=1: top_k(input, k)[1],
    "boolean_mask": boolean_mask,
    "true_places": lambda x: np.stack(np.nonzero(np.atleast_1d(x)), -1)[:, : np.ndim(x)],
    "scatter_nd": lambda indices, updates, shape: scattered(
        np.zeros(shape, updates.dtype), indices, updates, True
    ),
    "tensor_scatter_nd_update": lambda x, indices, updates: scattered(x, indices, updates, False),
    "tensor_scatter_nd_add": lambda x, indices, updates: scattered(x, indices, updates, True),
    "sort": sort,
    "argsort": argsort,
    "top_k": top_k,
    "segment_sum": lambda data, segment_ids: segments(
        data, segment_ids, int(np.max(segment_ids, initial=-1)) + 1
    ),
    "unsorted_segment_sum": segments,
    # contraction and linear algebra
    "matmul": matmul,
    "matvec": lambda a, b, transpose_a=False, adjoint_a=False: matmul(
        a, b[..., None], transpose_a, False, adjoint_a
    )[..., 0],
    "tensordot": tensordot,
    "_collapse": lambda x, labels, to: np.einsum(f"{labels}->{to}", x),
    "_contract": lambda a, b, left, right, to: np.einsum(f"{left},{right}->{to}", a, b),
    "einsum": lambda equation, *operands: np.einsum(equation, *operands),
    "inv": lambda x, adjoint=False: np.linalg.inv(hermitian(x, adjoint)),
    "solve": solve,
    "cholesky": np.linalg.cholesky,
    "_cholesky_of_hermitian_part": lambda x: np.linalg.cholesky((x + hermitian(x, True)) / 2),
    "det": np.linalg.det,
    "_cofactors": cofactors,
    "slogdet": np.linalg.slogdet,
    "diag": diag,
    "diag_part": lambda x, k=0, **_: np.diagonal(x, k, -2, -1),
    "trace": lambda x: np.trace(x, axis1=-2, axis2=-1),
    "matrix_transpose": lambda x, conjugate=False: hermitian(x if conjugate else np.conj(x), True),
    # neural networks
    "relu": lambda x: x * (x > 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x, alpha=0.2: np.where(x > 0, x, alpha * x),
    "elu": lambda x: np.where(x > 0, x, np.exp(x) - 1),
    "selu": lambda x: SELU[1] * np.where(x > 0, x, SELU[0] * (np.exp(x) - 1)),
    "gelu": gelu,
    "silu": lambda x, beta=1.0: x / (1 + np.exp(-beta * x)),
    "softmax": softmax,
    "log_softmax": lambda x, axis=None: np.log(softmax(x, axis)),
    "moments": moments,
    "dropout": lambda x, rate, **_: x,  # with a rate of 0; more in the tests of random numbers
    "l2_loss": lambda x: np.sum(x * x) / 2,
    "bias_add": bias_add,
    "embedding_lookup": embedding,
    "softmax_cross_entropy_with_logits": softmax_cross_entropy,
    "sparse_softmax_cross_entropy_with_logits": sparse_cross_entropy,
    "sigmoid_cross_entropy_with_logits": sigmoid_cross_entropy,
}


# -- the tests -----------------------------------------------------------------------------------------------


def is_borrowed(function: Any) -> bool:
    """Whether a forward is a function of NumPy, SciPy or `operator` itself."""
    home = getattr(function, "__module__", None) or ""
    return isinstance(function, np.ufunc) or home.split(".")[0] in (
        "numpy",
        "scipy",
        "_operator",
        "operator",
        "builtins",
    )


def reference_of(op: Op) -> Reference | None:
    return REFERENCES.get(op.name) or (op.forward if is_borrowed(op.forward) else None)


def without_reference(registry: dict[str, Op]) -> list[str]:
    return [name for name, op in registry.items() if reference_of(op) is None]


# Ops whose result has the dtype that was asked for, whatever the operand's.
HAS_ITS_OWN_DTYPE = {"cast", "smooth_cast", "discrete_cast"}


def wanted_dtype(case: Case, dtype: str, want: np.ndarray) -> np.dtype[Any]:
    """The dtype that a result should have: the reference's, but as narrow as the operands."""
    if case.op.name in HAS_ITS_OWN_DTYPE or want.dtype.kind not in "fc" or not case.draw(dtype):
        return want.dtype
    others = [x.dtype for x in case.sample.operands if isinstance(x, np.ndarray) and x.dtype.kind in "fc"]
    promoted = np.result_type(dtype, *others)
    return promoted if want.dtype.kind == promoted.kind else np.empty(0, promoted).real.dtype


def check_value(case: Case, dtype: str) -> None:
    reference = reference_of(case.op)
    assert reference is not None, f"{case.op.name}: write a reference for it"
    arrays = case.draw(dtype)
    wide = [a.astype("D" if a.dtype.kind == "c" else "d") for a in arrays]
    results = case.results(tensors(arrays))
    wanted = [np.asarray(w) for w in flat(reference(*case.sample.filled(wide), **case.sample.attributes))]
    assert len(results) == len(wanted)
    for got, want in zip(results, wanted, strict=True):
        expected = wanted_dtype(case, dtype, want)
        assert got.dtype == expected, f"{case!r} of {dtype!r}: dtype {got.dtype}, wanted {expected}"
        assert_close(got, want.astype(expected), TOLERANCE[dtype], f"{case!r} of {dtype!r}")


@pytest.mark.parametrize("case", cases(), ids=case_id)
def test_value(case: Case) -> None:
    for dtype in case.op.dtypes:
        check_value(case, dtype)


def test_every_op_has_a_reference() -> None:
    assert not without_reference(REGISTRY)


def test_an_op_without_a_reference_is_found() -> None:
    own = Op("no_such_op", lambda x: x, [], "d")
    assert without_reference({"no_such_op": own, "sin": Op("sin", np.sin, [], "d")}) == ["no_such_op"]


def test_no_reference_is_left_of_an_op_that_is_gone() -> None:
    assert {name for name in set(REFERENCES) - set(REGISTRY) if not hasattr(gt, name)} == set()


# -- what makes tensors, and is no op ------------------------------------------------------------------------

MADE: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("zeros", ((2, 3),), {}),
    ("zeros", ([0, 3], "int64"), {}),
    ("zeros", ((),), {"dtype": np.complex64}),
    ("ones", ([2],), {}),
    ("ones", ((2, 1), bool), {}),
    ("zeros_like", (np.ones((2, 3), "e"),), {}),
    ("zeros_like", (np.ones((2, 3)),), {"dtype": "int32"}),
    ("ones_like", (np.float64(3),), {}),
    ("ones_like", (np.zeros((0, 2), "F"),), {}),
    ("eye", (3,), {}),
    ("eye", (2, 3), {"dtype": "float64"}),
    ("eye", (2,), {"batch_shape": [2, 1]}),
    ("range", (5,), {"dtype": "int32"}),
    ("range", (np.float64(1), np.float64(2), np.float64(0.25)), {}),
    ("range", (5, 0, -2), {"dtype": "float32"}),
    ("one_hot", ([0, 2, -1, 5], 3), {}),
    ("one_hot", (np.array([[0, 1], [2, 0]]), 3), {"axis": 0, "dtype": "float64"}),
    ("one_hot", ([1, 0], 2), {"on_value": np.float64(5), "off_value": np.float64(-1), "axis": 1}),
    ("stop_gradient", (np.arange(3.0),), {}),
]


@pytest.mark.parametrize(("name", "args", "keywords"), MADE)
def test_made(name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    got, want = getattr(gt, name)(*args, **keywords), np.asarray(REFERENCES[name](*args, **keywords))
    assert isinstance(got, gt.Tensor)
    assert got.dtype == want.dtype
    assert_close(got, want, TOLERANCE["d"], name)
