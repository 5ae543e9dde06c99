"""What broadcasting did, undone."""

from typing import Any

from gradtape.ops.namespace import Namespace

__all__ = ["unbroadcast"]


def unbroadcast(xp: Namespace, g: Any, shape: tuple[int, ...]) -> Any:
    """g summed over the axes that broadcasting `shape` to its own has added or stretched; in that shape.

    It is the adjoint of `broadcast_to`. Where `shape` is the longer, its leading ones are put back.
    """
    if g.shape == shape:
        return g
    core = shape[max(0, len(shape) - g.ndim) :]
    added = g.ndim - len(core)
    stretched = [i + added for i, n in enumerate(core) if n == 1 and g.shape[i + added] != 1]
    if added or stretched:
        g = xp.reduce_sum(g, (*range(added), *stretched))
    return g if g.shape == shape else xp.reshape(g, shape)
