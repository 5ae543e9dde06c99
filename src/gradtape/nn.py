"""TensorFlow's `tf.nn`: the ops of neural networks, by name."""

from gradtape.ops.activations import elu, gelu, leaky_relu, relu, relu6, selu, silu
from gradtape.ops.activations import silu as swish
from gradtape.ops.indexing import top_k
from gradtape.ops.nn import (
    bias_add,
    dropout,
    embedding_lookup,
    l2_loss,
    log_softmax,
    moments,
    sigmoid_cross_entropy_with_logits,
    softmax,
    softmax_cross_entropy_with_logits,
    sparse_softmax_cross_entropy_with_logits,
)
from gradtape.ops.transcendental import sigmoid, softplus, tanh

__all__ = [
    "bias_add",
    "dropout",
    "elu",
    "embedding_lookup",
    "gelu",
    "l2_loss",
    "leaky_relu",
    "log_softmax",
    "moments",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "sigmoid_cross_entropy_with_logits",
    "silu",
    "softmax",
    "softmax_cross_entropy_with_logits",
    "softplus",
    "sparse_softmax_cross_entropy_with_logits",
    "swish",
    "tanh",
    "top_k",
]
