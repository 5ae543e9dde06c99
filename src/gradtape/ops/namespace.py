"""What the names of ops mean, for one kind of array: `raw` is bare arrays, `recorded` is tensors."""

from typing import TYPE_CHECKING, Any

__all__ = ["Namespace", "raw", "recorded"]


class Namespace:
    """Ops by name, as attributes; derivative rules are written against one.

    >>> from gradtape.ops.namespace import raw, recorded
    >>> raw.cos(np.float64(0.0)), recorded.cos(0.0)
    (np.float64(1.0), <tf.Tensor: shape=(), dtype=float32, numpy=1.0>)
    """

    def __init__(self, title: str) -> None:
        self._title = title

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __repr__(self) -> str:
        return f"<namespace {self._title}>"


raw = Namespace("raw")
recorded = Namespace("recorded")
