"""TensorFlow's `tf.autodiff`: forward mode."""

from gradtape.forward import ForwardAccumulator

__all__ = ["ForwardAccumulator"]
