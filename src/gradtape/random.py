"""TensorFlow's `tf.random`: random tensors, by name."""

from gradtape.ops.random import Generator, normal, set_seed, shuffle, truncated_normal, uniform

__all__ = [
    "Generator",
    "normal",
    "set_seed",
    "shuffle",
    "truncated_normal",
    "uniform",
]
