"""Nested structures: tuples, lists, dicts and named tuples of values, by way of optree."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gradtape.tensor import Value

__all__ = ["flatten", "outline", "unflattened"]

_LEAVES = (Value, np.ndarray, np.generic, float)
_PLAIN = (*_LEAVES, int, str, type(None))


def flatten(structure: Any) -> list[Any]:
    """The leaves in order (dicts by sorted key), None among them."""
    return unflattened(structure)[0]


def unflattened(structure: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """The leaves, and the function that puts as many new ones in their places."""
    if isinstance(structure, _LEAVES):
        return [structure], lambda new: new[0]
    kind = type(structure)
    if kind in (list, tuple) and all(isinstance(x, _PLAIN) for x in structure):
        return list(structure), kind
    import optree  # what most calls need not pay for

    found, shape = optree.tree_flatten(structure, none_is_leaf=True)
    return found, lambda new: optree.tree_unflatten(shape, new)


def outline(structure: Any) -> str:
    """What it is like without its leaves, each of which is a star: `{'a': *, 'b': [*, *]}`."""
    if isinstance(structure, _LEAVES):
        return "*"
    import optree

    shape = optree.tree_structure(structure, none_is_leaf=True)
    return str(shape).removeprefix("PyTreeSpec(").removesuffix(", NoneIsLeaf)")
