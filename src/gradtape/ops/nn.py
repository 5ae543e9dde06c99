"""What networks are made of besides activations: softmax, cross-entropies, dropout, biases, embeddings."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradtape.arguments import brief, listed, number, whole
from gradtape.batched import Batched
from gradtape.errors import ArgumentError, AxisError, DTypeError, OutOfRangeError, ShapeError
from gradtape.ops import comparison
from gradtape.ops.activations import real_only
from gradtape.ops.batching import behind, size_of, spread
from gradtape.ops.op import LINEAR, Namespace, Sample, composite, elementwise, op, raw
from gradtape.ops.random import uniform
from gradtape.recorders import tracer
from gradtape.tensor import Array, Tensor, TensorLike, Value, convert_to_array

__all__ = [
    "bias_add",
    "dropout",
    "embedding_lookup",
    "l2_loss",
    "log_softmax",
    "moments",
    "sigmoid_cross_entropy_with_logits",
    "softmax",
    "softmax_cross_entropy_with_logits",
    "sparse_softmax_cross_entropy_with_logits",
]


def _shape(x: TensorLike) -> tuple[int, ...]:
    """The shape of anything that an op takes."""
    return x.shape if isinstance(x, (Value, np.ndarray)) else convert_to_array(x).shape


# -- softmax -------------------------------------------------------------------------------------------------


def _last(axis: int | None) -> int:
    return -1 if axis is None else axis


def _shifted(name: str, logits: Array, axis: int) -> Array:
    """The logits, of which the greatest along `axis` is made 0, in a new array."""
    if logits.dtype.kind != "f":
        raise DTypeError(f"{name}: wanted logits of a floating dtype, got {logits.dtype}; cast them")
    if type(axis) is not int:
        raise AxisError(f"{name}: wanted one integer for axis, got {axis!r}")
    if not logits.ndim:
        raise ShapeError(f"{name}: wanted logits with at least one axis, got shape (); reshape them")
    return logits - np.maximum.reduce(logits, axis, keepdims=True) if logits.size else logits.copy()


_AXES = [
    Sample((3, 4)),
    Sample((4,)),
    Sample((2, 3, 4), axis=1),
    Sample((3, 2), axis=-2),
    Sample((2, 3), axis=None),
    Sample((0, 2)),
    Sample((2, 0)),
]


def _softmax_lower(xp: Namespace, logits: Any, axis: int | None) -> Any:
    powers = xp.exp(logits - xp.reduce_max(logits, _last(axis), True))
    return powers / xp.reduce_sum(powers, _last(axis), True)


@op(
    vjp=lambda xp, g, out, axis: (g - xp.reduce_sum(g * out, _last(axis), True)) * out,
    jvp=lambda xp, t, out, axis: (t - xp.reduce_sum(t * out, _last(axis), True)) * out,
    batch=lambda xp, x, axis: xp.softmax(x, behind(_last(axis), x.ndim - 1)),
    samples=_AXES,
    dtypes="efd",
    lower=_softmax_lower,
)
def softmax(logits: TensorLike, axis: int | None = None) -> Array:
    """exp(x) / sum(exp(x)) along `axis`, the last by default, without overflow for any finite logits.

    Raises ShapeError for a scalar, DTypeError unless the logits are of a floating dtype.

    >>> gt.nn.softmax([1.0, 1.0, 1e4]).numpy()
    array([0., 0., 1.], dtype=float32)
    """
    axis = _last(axis)
    out = _shifted("softmax", logits, axis)
    np.exp(out, out)
    out /= np.add.reduce(out, axis, keepdims=True)
    return out


def _log_softmax_lower(xp: Namespace, logits: Any, axis: int | None) -> Any:
    shifted = logits - xp.reduce_max(logits, _last(axis), True)
    return shifted - xp.log(xp.reduce_sum(xp.exp(shifted), _last(axis), True))


@op(
    vjp=lambda xp, g, out, axis: g - xp.exp(out) * xp.reduce_sum(g, _last(axis), True),
    jvp=lambda xp, t, out, axis: t - xp.reduce_sum(xp.exp(out) * t, _last(axis), True),
    batch=lambda xp, x, axis: xp.log_softmax(x, behind(_last(axis), x.ndim - 1)),
    samples=_AXES,
    dtypes="efd",
    lower=_log_softmax_lower,
)
def log_softmax(logits: TensorLike, axis: int | None = None) -> Array:
    """x - log(sum(exp(x))) along `axis`, the last by default, without overflow for any finite logits.

    Raises ShapeError for a scalar, DTypeError unless the logits are of a floating dtype.

    >>> gt.nn.log_softmax([0.0, 0.0, 1e4]).numpy()
    array([-10000., -10000.,      0.], dtype=float32)
    """
    axis = _last(axis)
    out = _shifted("log_softmax", logits, axis)
    if out.size:
        total = np.add.reduce(np.exp(out), axis, keepdims=True)
        out -= np.log(total, total)
    return out


# -- cross-entropies -----------------------------------------------------------------------------------------


@composite(
    samples=[
        Sample((3, 4), (3, 4)),
        Sample((4,), (4,)),
        Sample((2, 3, 2), (2, 3, 2), axis=1),
        Sample((1, 4), (3, 4)),
        Sample((0, 2), (0, 2)),
    ],
    dtypes="efd",
)
def softmax_cross_entropy_with_logits(
    xp: Namespace, labels: TensorLike, logits: TensorLike, axis: int = -1
) -> Tensor:
    """-sum(labels log_softmax(logits)) along `axis`, which the result has not; differentiable in both.

    labels: the probability of each class, of the logits' shape (or of length 1 along other axes); cast to the
    logits' dtype. If they do not sum to 1, the derivative is still that of this formula. Raises ShapeError.

    >>> gt.nn.softmax_cross_entropy_with_logits([[0.0, 1.0]], [[1.0, 3.0]]).numpy()
    array([0.1269...], dtype=float32)
    """
    name = "softmax_cross_entropy_with_logits"
    axis = _last(axis)
    log_probabilities = xp.log_softmax(logits, axis)
    of_labels, of_logits = _shape(labels), log_probabilities.shape
    if len(of_labels) != len(of_logits) or of_labels[axis] != of_logits[axis]:
        raise ShapeError(
            f"{name}: labels of shape {of_labels} for logits of shape {of_logits}; wanted a probability for "
            "each class, in the logits' shape; for class numbers use sparse_softmax_cross_entropy_with_logits"
        )
    convert = xp.convert_to_tensor if isinstance(labels, (list, tuple)) else xp.cast
    labels = convert(labels, log_probabilities.dtype)
    return -xp.reduce_sum(labels * log_probabilities, axis)  # type: ignore[no-any-return]


def _sparse_vjp(xp: Namespace, g: Array, labels: Array, logits: Array) -> Array:
    hits = xp.equal(xp.expand_dims(labels, -1), np.arange(logits.shape[-1]))
    return xp.expand_dims(g, -1) * (xp.softmax(logits, -1) - xp.cast(hits, logits.dtype))


def _sparse_behind(xp: Namespace, labels: Array, logits: Array) -> Array:
    size = size_of([labels, logits])
    labels, logits = spread(xp, labels, size), spread(xp, logits, size)
    return xp.sparse_softmax_cross_entropy_with_logits(labels, logits)


@op(
    vjp=(None, _sparse_vjp),
    batch=_sparse_behind,
    samples=[
        Sample(np.array([1, 0, 3]), (3, 4)),
        Sample(np.int32(2), (3,)),
        Sample(np.array([[1, 0, 1], [0, 0, 1]]), (2, 3, 2)),
        Sample(np.zeros((0,), "i8"), (0, 2)),
    ],
    dtypes="efd",
)
def sparse_softmax_cross_entropy_with_logits(labels: TensorLike, logits: TensorLike) -> Array:
    """-log_softmax(logits)[label] for each row along the last axis; differentiable in the logits.

    labels: class numbers, integers of shape `logits.shape[:-1]`, which is the result's shape too. Raises
    ShapeError, DTypeError for labels that are no integers, OutOfRangeError for a label that is no class.

    >>> gt.nn.sparse_softmax_cross_entropy_with_logits([1], [[1.0, 3.0]]).numpy()
    array([0.1269...], dtype=float32)
    """
    name = "sparse_softmax_cross_entropy_with_logits"
    z = _shifted(name, logits, -1)
    classes = z.shape[-1]
    if labels.shape != z.shape[:-1]:
        raise ShapeError(
            f"{name}: labels of shape {labels.shape} for logits of shape {z.shape}; wanted one class number "
            f"for each row, shape {z.shape[:-1]}; for probabilities use softmax_cross_entropy_with_logits"
        )
    if labels.dtype.kind not in "iu":
        raise DTypeError(f"{name}: wanted integer labels, got {labels.dtype}; cast them")
    if not labels.size:
        return np.zeros(labels.shape, z.dtype)
    if labels.min() < 0 or labels.max() >= classes:
        wrong = labels[(labels < 0) | (labels >= classes)].flat[0]
        raise OutOfRangeError(
            f"{name}: label {wrong}, but the logits {z.shape} have classes 0 to {classes - 1}"
        )
    hit = z.reshape(-1, classes)[np.arange(labels.size), np.ravel(labels)].reshape(labels.shape)
    return np.log(np.add.reduce(np.exp(z), -1)) - hit


def _sigmoid_cross_entropy(xp: Namespace, labels: Any, logits: Any) -> Any:
    x = logits if hasattr(logits, "dtype") else np.asarray(logits, np.result_type(labels.dtype, logits))[()]
    return (
        xp.maximum(real_only("sigmoid_cross_entropy_with_logits", x), 0)
        - x * labels
        + xp.log1p(xp.exp(-abs(x)))
    )


@elementwise(
    functools.partial(_sigmoid_cross_entropy, raw),
    lambda xp, logits: -logits,
    lambda xp, labels, logits: xp.sigmoid(logits) - labels,
    lower=_sigmoid_cross_entropy,
)
def sigmoid_cross_entropy_with_logits(labels: TensorLike, logits: TensorLike) -> Tensor:
    """-z log(p) - (1 - z) log(1 - p) with p = sigmoid(x), for labels z and logits x, elementwise.

    Computed as max(x, 0) - x z + log(1 + exp(-|x|)), which cannot overflow. Differentiable in both.

    >>> gt.nn.sigmoid_cross_entropy_with_logits([0.0, 1.0], [1e4, 1e4]).numpy()
    array([10000.,     0.], dtype=float32)
    """


# -- layers' parts -------------------------------------------------------------------------------------------


# At this rate nothing is ever dropped, so that what is checked does not depend on the draw.
_HARDLY = 1e-12


@composite(
    samples=[
        Sample((3, 4), 0.0),
        Sample((3, 4), _HARDLY),
        Sample((3, 4), np.float32(_HARDLY), noise_shape=[None, 1]),
        Sample((), _HARDLY),
        Sample((0, 2), _HARDLY),
    ],
    dtypes="efd",
)
def dropout(
    xp: Namespace,
    x: TensorLike,
    rate: TensorLike,
    noise_shape: Sequence[int | None] | None = None,
    seed: int | None = None,
) -> Tensor:
    """Each element with probability `rate` made 0, the others divided by 1 - rate, so that the mean stays.

    rate: in [0, 1), else ArgumentError; 0 changes nothing. noise_shape: broadcast to x's shape, one draw for
    all elements along an axis of length 1; None in it stands for x's length. seed: as in `random.uniform`.
    Raises DTypeError unless x is of a floating dtype.

    >>> gt.nn.dropout([1.0, 2.0], rate=0.0).numpy()
    array([1., 2.], dtype=float32)
    """
    x = xp.asarray(x)
    if x.dtype.kind != "f":
        raise DTypeError(
            f"dropout: wanted a floating dtype, since what is kept is scaled, got {x.dtype}; cast it"
        )
    if isinstance(rate, (list, tuple)) or getattr(rate, "shape", None) not in (None, ()):
        raise ShapeError(f"dropout: wanted one number for rate, got {brief(rate)}")
    share = number("dropout: rate", rate)
    if not 0 <= share < 1:
        raise ArgumentError(f"dropout: wanted a rate of at least 0 and less than 1, got {share}")
    if not share and not isinstance(rate, Value):
        return xp.identity(x)  # type: ignore[no-any-return]
    given = x.shape if noise_shape is None else listed("dropout: noise_shape", noise_shape, "lengths")
    if len(given) != x.ndim:
        raise ShapeError(f"dropout: noise_shape {given} for a tensor of shape {x.shape}; wanted as many axes")
    shape = [
        n if wanted is None else whole("dropout: noise_shape", wanted)
        for n, wanted in zip(x.shape, given, strict=True)
    ]
    kept = comparison.greater_equal(uniform(shape, seed=seed), share)
    if not isinstance(kept, Batched) and tracer() is None:
        kept = kept.numpy()  # which ops take at less cost
    scale = 1.0 / (1.0 - (xp.cast(rate, x.dtype) if isinstance(rate, Value) else share))
    return xp.where(kept, x * scale, 0.0)  # type: ignore[no-any-return]


@composite(
    samples=[Sample((3, 4), axes=axes, keepdims=k) for axes in ([0], [0, 1], -1) for k in (False, True)],
    dtypes="efd",
)
def moments(
    xp: Namespace,
    x: TensorLike,
    axes: int | Sequence[int],
    shift: TensorLike = None,
    keepdims: bool = False,
) -> tuple[Tensor, Tensor]:
    """The mean of x over `axes`, and its variance: the mean of (x - mean)^2.

    Each without those axes, or with length 1 along them if `keepdims`. float16 is summed up in float32.
    shift changes nothing, here as in TensorFlow.

    >>> mean, variance = gt.nn.moments([[1.0, 2.0], [3.0, 6.0]], axes=[0])
    >>> mean.numpy(), variance.numpy()
    (array([2., 4.], dtype=float32), array([1., 4.], dtype=float32))
    """
    x = xp.asarray(x)
    over = np.asarray(axes).tolist()
    axis = tuple(over) if isinstance(over, list) else over
    wide = xp.cast(x, np.dtype("float32")) if x.dtype == np.float16 else x
    mean = xp.reduce_mean(wide, axis, True)
    variance = xp.reduce_mean(xp.square(wide - mean), axis, keepdims)
    mean = mean if keepdims else xp.reshape(mean, variance.shape)
    return (mean, variance) if wide is x else (xp.cast(mean, x.dtype), xp.cast(variance, x.dtype))


@op(
    vjp=lambda xp, g, t: g * t,
    jvp=lambda xp, tangent, t: xp.reduce_sum(tangent * t),
    batch=lambda xp, t: xp.reduce_sum(xp.square(real_only("l2_loss", t)), behind(None, t.ndim - 1)) / 2,
    samples=[Sample((3, 4)), Sample(()), Sample((0, 2))],
    dtypes="efd",
    lower=lambda xp, t: xp.reduce_sum(t * t) / 2,
)
def l2_loss(t: TensorLike) -> Array:
    """sum(t^2) / 2 over all elements, a scalar.

    >>> gt.nn.l2_loss([3.0, 4.0]).numpy()
    np.float32(12.5)
    """
    return np.add.reduce(np.square(real_only("l2_loss", t)), None) / 2


def _channel(data_format: str | None, ndim: int) -> int:
    """The axis that the biases lie along."""
    form = str(data_format or "N...C")
    if form.startswith("NC"):
        return 1
    if form.startswith("N") and form.endswith("C"):
        return ndim - 1
    raise ArgumentError(f"bias_add: unknown data_format {data_format!r}; wanted 'N...C' or 'NC...'")


def _bias_vjp(xp: Namespace, g: Array, data_format: str | None) -> Array:
    channel = _channel(data_format, g.ndim)
    return xp.reduce_sum(g, tuple(axis for axis in range(g.ndim) if axis != channel))


def _biased_behind(xp: Namespace, value: Array, bias: Array, data_format: str | None) -> Array:
    ndim = value.ndim - 1
    channel = _channel(data_format, ndim)
    if ndim < 2 or bias.ndim != 2 or bias.shape[1] != value.shape[1 + channel]:
        return NotImplemented  # it does not fit, as the op will say
    size, channels = bias.shape
    return value + xp.reshape(bias, (size, *(1,) * channel, channels, *(1,) * (ndim - 1 - channel)))


def _bias_add_lower(xp: Namespace, value: Any, bias: Any, data_format: str | None) -> Any:
    behind_channels = value.ndim - 1 - _channel(data_format, value.ndim)
    return value + xp.reshape(bias, (*bias.shape, *(1,) * behind_channels))


@op(
    promote=("value", "bias"),
    vjp=(lambda xp, g: g, _bias_vjp),
    jvp=LINEAR,
    batch=_biased_behind,
    samples=[
        Sample((3, 4), (4,)),
        Sample((2, 3, 4), (4,), data_format="NHWC"),
        Sample((2, 3, 4), (3,), data_format="NC..."),
        Sample((0, 2), (2,)),
    ],
    dtypes="efdFD",
    lower=_bias_add_lower,
)
def bias_add(value: TensorLike, bias: TensorLike, data_format: str | None = None) -> Array:
    """value + bias, where the bias has one element for each channel.

    value: at least two axes, of which the channels are the last, or the second if `data_format` is "NC..."
    (or "NCHW" and the like). Raises ShapeError unless the bias has one axis, as long as that one.

    >>> gt.nn.bias_add([[1.0, 2.0], [3.0, 4.0]], [10.0, 20.0]).numpy()
    array([[11., 22.],
           [13., 24.]], dtype=float32)
    """
    channel = _channel(data_format, value.ndim)
    if value.ndim < 2 or bias.shape != (value.shape[channel],):
        raise ShapeError(
            f"bias_add: value of shape {value.shape}, bias of {bias.shape}, data_format {data_format!r}; "
            "wanted a value of at least two axes, and a bias of one axis, as long as the value's channels"
        )
    return operator.add(value, bias.reshape(-1, *(1,) * (value.ndim - 1 - channel)))


@composite(
    samples=[
        Sample((4, 3), np.array([1, 0, 1])),
        Sample((4, 3), np.array([[1, 2]]), max_norm=0.5),
        Sample((4, 3), np.int64(2)),
        Sample((4, 3), np.zeros((0,), "i8")),
    ]
)
def embedding_lookup(
    xp: Namespace, params: TensorLike, ids: TensorLike, max_norm: float | None = None
) -> Tensor:
    """params[ids]: for each id its row, so that the shape is that of the ids and then of a row.

    max_norm: rows longer than that are scaled down to it. The gradient by a variable or a watched tensor is
    an `IndexedSlices`, whose cost is that of the rows. Raises OutOfRangeError for an id that is no row.

    >>> gt.nn.embedding_lookup([[1.0, 2.0], [3.0, 4.0]], [1, 0]).numpy()
    array([[3., 4.],
           [1., 2.]], dtype=float32)
    """
    rows = xp.gather(params, ids)
    if max_norm is None:
        return rows  # type: ignore[no-any-return]
    return xp.clip_by_norm(rows, max_norm, tuple(range(len(_shape(ids)), rows.ndim)))  # type: ignore[no-any-return]
