"""What declares an op of one's own: the same declarations that this package uses; see docs/extending.md."""

from gradtape.ops.op import (
    ALONG_AXIS,
    LEADING,
    LINEAR,
    MATRICES,
    MULTILINEAR,
    VECTORS,
    Namespace,
    Sample,
    Uniform,
    composite,
    elementwise,
    op,
)
from gradtape.tensor import Array, Tensor, TensorLike

__all__ = [
    "ALONG_AXIS",
    "LEADING",
    "LINEAR",
    "MATRICES",
    "MULTILINEAR",
    "VECTORS",
    "Array",
    "Namespace",
    "Sample",
    "Tensor",
    "TensorLike",
    "Uniform",
    "composite",
    "elementwise",
    "op",
]
