"""Contractions over labelled axes: tensordot and einsum."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gradtape.errors import ArgumentError, AxisError, ShapeError
from gradtape.ops.batching import alone
from gradtape.ops.op import LINEAR, MULTILINEAR, Namespace, Sample, composite, op
from gradtape.ops.operands import weakened
from gradtape.tensor import Array, Tensor, TensorLike

__all__ = ["einsum", "tensordot"]


# -- labelled axes: a label is one character -----------------------------------------------------------------

_FIRST = 0xE000  # of the characters that are nobody's letters; they label axes that have none


def _labels(n: int) -> list[str]:
    return [chr(_FIRST + i) for i in range(n)]


def _collapse_vjp(xp: Namespace, g: Any, x_shape: tuple[int, ...], labels: str, to: str) -> Any:
    """g laid along the first axis of each label of x, spread over summed ones, and kept to the diagonals."""
    firsts = [label for label in dict.fromkeys(labels) if label in to]
    if firsts != list(to):
        g = xp.transpose(g, tuple(map(to.index, firsts)))
    lone = [
        n if label in to and label not in labels[:i] else 1
        for i, (label, n) in enumerate(zip(labels, x_shape, strict=True))
    ]
    g = xp.reshape(g, tuple(lone))
    if len(set(labels)) < len(labels):
        places = np.ogrid[tuple(map(slice, x_shape))]
        on = [places[labels.index(label)] == place for label, place in zip(labels, places, strict=True)]
        g = xp.where(functools.reduce(np.logical_and, on), g, 0.0)
    return xp.broadcast_to(g, x_shape)


def _examples(*labels: str) -> str:
    """The label of the axis of examples: none of these, which maps around this one may have put there."""
    used = "".join(labels)
    return next(c for c in map(chr, range(0xF8FF, _FIRST, -1)) if c not in used)


def _collapsed_behind(xp: Namespace, x: Any, labels: str, to: str) -> Any:
    e = _examples(labels)
    return xp._collapse(x, e + labels, e + to)


def _collapse_lower(xp: Namespace, x: Any, labels: str, to: str) -> Any:
    if len(set(labels)) < len(labels):
        return NotImplemented
    summed = tuple(i for i, label in enumerate(labels) if label not in to)
    kept = [label for label in labels if label in to]
    return xp.transpose(xp.reduce_sum(x, summed) if summed else x, tuple(map(kept.index, to)))


@op(
    title="einsum",
    vjp=_collapse_vjp,
    dtypes="efdFD",
    jvp=LINEAR,
    batch=_collapsed_behind,
    samples=[
        Sample((3, 4), labels="ij", to="ji"),
        Sample((2, 3, 4), labels="ijk", to="k"),
        Sample((2, 3, 4), labels="ijk", to="ki"),
        Sample((3, 3), labels="ii", to="i"),
        Sample((3, 3), labels="ii", to=""),
        Sample((3, 2, 3, 2, 3), labels="ijiji", to="ji"),
        Sample((3, 2, 3, 4), labels="ijik", to="ki"),
        Sample((), labels="", to=""),
        Sample((0, 2), labels="ij", to="j"),
        Sample((0, 0), labels="ii", to="i"),
    ],
    lower=_collapse_lower,
)
def _collapse(x: TensorLike, labels: str, to: str) -> Array:
    """One operand of an einsum: diagonals of repeated labels, sums over those not in `to`, in its order."""
    unique = "".join(dict.fromkeys(labels))
    if len(unique) < len(labels):
        x = np.einsum(x, [unique.index(label) for label in labels], list(range(len(unique))))
    summed = tuple(i for i, label in enumerate(unique) if label not in to)
    if summed:
        x = x.sum(summed, dtype=x.dtype)
        unique = "".join(label for label in unique if label in to)
    return x if unique == to else x.transpose([unique.index(label) for label in to])


class _Pair(NamedTuple):
    """How two labelled operands become matrices: the order of their axes, and how many are of each kind."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    out: tuple[int, ...]
    batch: int
    left_free: int
    summed: int


@functools.lru_cache(1024)
def _pair(left: str, right: str, out: str) -> _Pair:
    batch = [label for label in left if label in right and label in out]
    summed = [label for label in left if label in right and label not in out]
    left_free = [label for label in left if label not in right]
    right_free = [label for label in right if label not in left]
    product = batch + left_free + right_free
    return _Pair(
        tuple(map(left.index, batch + left_free + summed)),
        tuple(map(right.index, batch + summed + right_free)),
        tuple(map(product.index, out)),
        len(batch),
        len(left_free),
        len(summed),
    )


def _permuted(x: Array, axes: tuple[int, ...]) -> Array:
    return x if axes == tuple(range(len(axes))) else x.transpose(axes)


def _contract_as_matrices(a: Array, b: Array, pair: _Pair) -> Array:
    """The contraction as a matrix product, over batches of matrices if labels are shared and kept."""
    a, b = _permuted(a, pair.left), _permuted(b, pair.right)
    cut, end = pair.batch + pair.left_free, pair.batch + pair.summed
    batch, rows, columns = a.shape[: pair.batch], a.shape[pair.batch : cut], b.shape[end:]
    k = math.prod(a.shape[cut:])
    one = (1,) if batch else ()
    c = np.matmul(
        a.reshape(*batch, *((math.prod(rows),) if rows else one), k),
        b.reshape(*batch, k, *((math.prod(columns),) if columns else one)),
    )
    return _permuted(c.reshape(batch + rows + columns), pair.out)


def _contract_behind(xp: Namespace, a: Any, b: Any, left: str, right: str, to: str) -> Any:
    e = _examples(left, right)
    if a.shape[0] != b.shape[0]:
        if a.shape[0] == 1:
            return xp._contract(alone(xp, a), b, left, e + right, e + to)
        return xp._contract(a, alone(xp, b), e + left, right, e + to)
    return xp._contract(a, b, e + left, e + right, e + to)


def _contract_lower(xp: Namespace, a: Any, b: Any, left: str, right: str, to: str) -> Any:
    pair = _pair(left, right, to)
    if not pair.summed:
        return _laid(xp, a, left, to) * _laid(xp, b, right, to)
    a, b = xp.transpose(a, pair.left), xp.transpose(b, pair.right)
    cut, end = pair.batch + pair.left_free, pair.batch + pair.summed
    batch, rows, columns = a.shape[: pair.batch], a.shape[pair.batch : cut], b.shape[end:]
    k = math.prod(a.shape[cut:])
    a = xp.reshape(a, (*batch, math.prod(rows), k) if rows or batch else (k,))
    b = xp.reshape(b, (*batch, k, math.prod(columns)) if columns or batch else (k,))
    return xp.transpose(xp.reshape(xp.matmul(a, b), batch + rows + columns), pair.out)


def _laid(xp: Namespace, x: Any, labels: str, to: str) -> Any:
    """x with its axes in the order of `to`, and of length 1 for labels that it lacks."""
    turned = xp.transpose(x, tuple(labels.index(label) for label in to if label in labels))
    return xp.reshape(turned, tuple(x.shape[labels.index(label)] if label in labels else 1 for label in to))


@op(
    title="einsum",
    promote=("a", "b"),
    vjp=(
        lambda xp, g, b, left, right, to: xp._contract(g, xp.conj(b), to, right, left),
        lambda xp, g, a, left, right, to: xp._contract(xp.conj(a), g, left, to, right),
    ),
    dtypes="efdFD",
    jvp=MULTILINEAR,
    batch=_contract_behind,
    samples=[
        Sample((2, 3), (3, 4), left="ij", right="jk", to="ik"),
        Sample((2, 3), (4, 3), left="ij", right="kj", to="ki"),
        Sample((2, 3, 4), (4, 3), left="ijk", right="kj", to="i"),
        Sample((2, 3, 4), (4, 2, 3), left="bij", right="jbk", to="kbi"),
        Sample((2, 3), (2, 3), left="bi", right="bi", to="b"),
        Sample((2, 3), (3, 2), left="bi", right="ib", to=""),
        Sample((2, 3), (2,), left="bi", right="b", to="ib"),
        Sample((2,), (3,), left="i", right="j", to="ji"),
        Sample((), (3,), left="", right="j", to="j"),
        Sample((0, 3), (3, 2), left="ij", right="jk", to="ik"),
        Sample((2, 0), (0, 2), left="ij", right="jk", to="ik"),
    ],
    lower=_contract_lower,
)
def _contract(a: TensorLike, b: TensorLike, left: str, right: str, to: str) -> Array:
    """Two operands of an einsum, no label twice in one of them, each in the other or in `to`.

    Such contractions are closed under differentiation: each cotangent is one more, of g and the other
    operand.
    """
    pair = _pair(left, right, to)
    if pair.summed:
        return _contract_as_matrices(a, b, pair)
    a = a.transpose([left.index(label) for label in to if label in left])
    b = b.transpose([right.index(label) for label in to if label in right])
    whole, new = slice(None), None
    a = a[tuple(whole if label in left else new for label in to)]
    return a * b[tuple(whole if label in right else new for label in to)]


# -- tensordot and einsum ------------------------------------------------------------------------------------


def _axes_pair(axes: Any, a_ndim: int, b_ndim: int) -> tuple[list[int], list[int]]:
    """The axes of a and of b that tensordot sums over, none negative."""
    if isinstance(axes, (int, np.integer)):
        if not 0 <= axes <= min(a_ndim, b_ndim):
            raise AxisError(
                f"tensordot: axes={axes}, with operands of {a_ndim} and {b_ndim} axes; wanted 0 to the lesser"
            )
        return list(range(a_ndim - axes, a_ndim)), list(range(axes))
    try:
        left, right = ([int(i) for i in np.atleast_1d(side)] for side in axes)
    except (TypeError, ValueError):
        raise ShapeError(
            f"tensordot: axes={axes!r}; wanted a number, or a pair of axes or of lists of axes"
        ) from None
    for side, n in ((left, a_ndim), (right, b_ndim)):
        if any(not -n <= i < n for i in side):
            raise AxisError(
                f"tensordot: axes {side} of an operand of {n} axes; they run from {-n} to {n - 1}"
            )
        side[:] = [i % n for i in side]
        if len(set(side)) < len(side):
            raise ShapeError(f"tensordot: axes {side} name an axis twice; name each once")
    if len(left) != len(right):
        raise ShapeError(f"tensordot: {len(left)} axes of a, but {len(right)} of b; name as many of each")
    return left, right


@composite(
    dtypes="efdFD",
    samples=[
        Sample((2, 3), (3, 4), axes=1),
        Sample((2, 3), (3,), axes=0),
        Sample((2, 3, 4), (3, 4, 2), axes=2),
        Sample((2, 3, 4), (4, 3), axes=[[1, 2], [1, 0]]),
        Sample((2, 3, 4), (2, 3), axes=(-2, -1)),
        Sample((2, 3), (2, 3), axes=[[1, 0], [1, 0]]),
        Sample((0, 3), (3, 2), axes=1),
    ],
)
def tensordot(xp: Namespace, a: TensorLike, b: TensorLike, axes: int | Sequence[Any]) -> Tensor:
    """The sum of products over axes of a paired with axes of b; the other axes of a, then those of b, remain.

    axes: a number n pairs the last n of a with the first n of b in order; otherwise a pair, of an axis or
    a list of axes for each. Raises ShapeError if paired axes differ in length, AxisError for one that is
    not there.

    >>> gt.linalg.tensordot([[1.0, 2.0], [3.0, 4.0]], [[1.0, 0.0], [0.0, 1.0]], 2)
    <tf.Tensor: shape=(), dtype=float32, numpy=5.0>
    """
    a, b = weakened([a, b])
    axes = axes.numpy() if isinstance(axes, Tensor) else axes
    summed_a, summed_b = _axes_pair(axes, a.ndim, b.ndim)
    labels = _labels(a.ndim + b.ndim)
    left, right = labels[: a.ndim], labels[a.ndim :]
    for i, j in zip(summed_a, summed_b, strict=True):
        right[j] = left[i]
        if a.shape[i] != b.shape[j]:
            raise ShapeError(
                f"tensordot: axis {i} of a, {a.shape}, is paired with axis {j} of b, {b.shape}; "
                "they must be of the same length"
            )
    out = [label for label in left + right if (label in left) != (label in right)]
    return xp._contract(a, b, "".join(left), "".join(right), "".join(out))  # type: ignore[no-any-return]


class _Plan(NamedTuple):
    """An einsum, lowered.

    operands: for each, its shape without broadcast axes, its labels, and those to keep; steps: the places
    of the two operands that are contracted next and then put last as one, and the labels of both and of
    the result.
    """

    operands: tuple[tuple[tuple[int, ...], str, str], ...]
    steps: tuple[tuple[int, int, str, str, str], ...]


def _terms(equation: str, shapes: tuple[tuple[int, ...], ...]) -> tuple[list[str], str]:
    """The label of each axis of each operand, and those of the result, ellipses and arrow spelt out."""

    def wrong(what: str) -> ShapeError:
        return ShapeError(f"einsum: equation {equation!r} for operands of shapes {list(shapes)}: {what}")

    ins, arrow, out = equation.replace(" ", "").partition("->")
    terms = ins.split(",")
    if len(terms) != len(shapes):
        raise wrong(
            f"it has {len(terms)} terms for {len(shapes)} operands; give one for each, with commas between"
        )
    for term in [*terms, out]:
        if term.count("...") > 1 or not all("a" <= c.lower() <= "z" for c in term.replace("...", "", 1)):
            raise wrong(f"cannot read {term!r}; wanted letters, and at most one '...'")
    extra = [len(shape) - len(term.replace("...", "")) for term, shape in zip(terms, shapes, strict=True)]
    for term, n in zip(terms, extra, strict=True):
        if n < 0 or (n and "..." not in term):
            raise wrong(f"{term!r} does not label as many axes as its operand has")
    widest = _labels(max(extra))
    named = [
        term.replace("...", "".join(widest[len(widest) - n :])) for term, n in zip(terms, extra, strict=True)
    ]
    if arrow:
        if widest and "..." not in out:
            raise wrong("the result needs '...' for the axes that '...' stands for; sum them with reduce_sum")
        out = out.replace("...", "".join(widest))
    else:
        letters = "".join(terms).replace(".", "")
        out = "".join(widest + sorted(c for c in set(letters) if letters.count(c) == 1))
    if len(set(out)) < len(out):
        raise wrong("a label stands twice in the result; each may stand once")
    if set(out) - set("".join(named)):
        raise wrong("the result has a label that no operand has")
    return named, out


@functools.lru_cache(1024)
def _plan(equation: str, shapes: tuple[tuple[int, ...], ...], optimize: Any) -> _Plan:
    named, out = _terms(equation, shapes)
    sizes: dict[str, int] = {}
    for term, shape in zip(named, shapes, strict=True):
        own: dict[str, int] = {}
        for label, n in zip(term, shape, strict=True):
            known = sizes.get(label, 1)
            if own.setdefault(label, n) != n or (n != 1 and known not in (1, n)):
                raise ShapeError(
                    f"einsum: equation {equation!r} for operands of shapes {list(shapes)}: axes of one label "
                    f"must be of one length, not {own[label] if own[label] != n else known} and {n}"
                )
            sizes[label] = n if known == 1 else known
    operands = []
    for i, (term, shape) in enumerate(zip(named, shapes, strict=True)):
        kept = [(label, n) for label, n in zip(term, shape, strict=True) if n == sizes[label]]
        named[i] = "".join(label for label, _ in kept)
        operands.append((tuple(n for _, n in kept), named[i]))
    wanted = [
        out if len(named) == 1 else _needed(term, named[:i] + named[i + 1 :], out)
        for i, term in enumerate(named)
    ]
    return _Plan(
        tuple((shape, term, keep) for (shape, term), keep in zip(operands, wanted, strict=True)),
        tuple(_steps(wanted, out, sizes, optimize)),
    )


def _needed(term: str, others: Sequence[str], out: str) -> str:
    """The labels of one operand, each once, that the result or another operand has."""
    return "".join(
        label for label in dict.fromkeys(term) if label in out or any(label in other for other in others)
    )


def _steps(
    terms: list[str], out: str, sizes: dict[str, int], optimize: Any
) -> list[tuple[int, int, str, str, str]]:
    """Two operands at a time, in the order that NumPy finds cheapest."""
    steps = []
    left = list(terms)
    for places in _path(terms, out, sizes, optimize) if len(terms) > 2 else [tuple(range(len(terms)))]:
        group = sorted(places)
        while len(group) > 1:
            i, j = group[:2]
            a, b = left[i], left[j]
            rest = [term for k, term in enumerate(left) if k not in (i, j)]
            both = _needed(a + b, rest, out) if rest else out
            steps.append((i, j, a, b, both))
            left = [*rest, both]
            group = [*(k - 2 for k in group[2:]), len(rest)]
    return steps


def _path(terms: list[str], out: str, sizes: dict[str, int], optimize: Any) -> Sequence[tuple[int, ...]]:
    letter = {label: chr(ord("a") + i) if i < 26 else chr(ord("A") + i - 26) for i, label in enumerate(sizes)}
    text = ",".join("".join(letter[label] for label in term) for term in terms)
    text += "->" + "".join(letter[label] for label in out)
    dummies = [np.broadcast_to(np.float32(0), [sizes[label] for label in term]) for term in terms]
    return np.einsum_path(text, *dummies, optimize=optimize)[0][1:]


@composite(
    dtypes="efdFD",
    samples=[
        Sample("ij,jk->ik", (2, 3), (3, 4)),
        Sample("ij,jk", (2, 3), (3, 4)),
        Sample("ba", (2, 3)),
        Sample("ii", (3, 3)),
        Sample("ii->i", (3, 3)),
        Sample("ijk->", (2, 3, 2)),
        Sample("...ij->...ji", (2, 2, 3)),
        Sample("...ii->...i", (2, 3, 3)),
        Sample("...ij,...jk->...ik", (2, 1, 2, 3), (4, 3, 2)),
        Sample("...i,...i", (2, 3), (1, 3)),
        Sample("i...,j...->...ij", (2, 3), (2,)),
        Sample("i,j->ij", (2,), (3,)),
        Sample("ij,ij->ij", (2, 3), (2, 3)),
        Sample("ii,ij->j", (3, 3), (3, 2)),
        Sample("ij,k->k", (2, 3), (2,)),
        Sample("ij,jk->ik", (2, 1), (3, 2)),
        Sample("ij,jk,kl->il", (2, 3), (3, 4), (4, 2)),
        Sample("i,i,i->i", (3,), (3,), (3,)),
        Sample("bi,ij,bj->b", (2, 3), (3, 3), (2, 3)),
        Sample("a,b,c,ab->c", (2,), (3,), (2,), (2, 3)),
        Sample("bqhd,bkhd->bhqk", (2, 2, 2, 3), (2, 3, 2, 3)),
        Sample(",i->i", (), (3,)),
        Sample("ij,jk->ik", (0, 3), (3, 2)),
    ],
)
def einsum(xp: Namespace, equation: str, *inputs: TensorLike, optimize: str | bool = "greedy") -> Tensor:
    """The sum of products over labelled axes: `"ij,jk->ik"` is a matrix product, `"ii"` a trace, `"ij->ji"` a
    transpose.

    equation: the labels of each operand's axes, one letter for each, then `->` and those of the result;
    labels that the result lacks are summed over. `...` stands for any further axes, which broadcast.
    Without `->` the result has the axes of `...`, then in alphabetical order the labels that stand once.
    optimize: how `numpy.einsum_path` orders more than two operands; they are contracted two at a time, as
    matrix products. Raises ShapeError if the equation cannot be read, or does not fit the operands.

    >>> gt.einsum("ij,j->i", [[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0])
    <tf.Tensor: shape=(2,), dtype=float32, numpy=array([3., 7.], dtype=float32)>
    """
    if not isinstance(equation, str):
        raise ArgumentError(
            f"einsum: wanted an equation such as 'ij,jk->ik' first, got {type(equation).__name__}"
        )
    if not isinstance(optimize, (str, bool)):
        raise ArgumentError(f"einsum: optimize={optimize!r}; wanted 'greedy', 'optimal', True or False")
    values = weakened(inputs)
    plan = _plan(equation, tuple(x.shape for x in values), optimize)
    for i, (shape, labels, keep) in enumerate(plan.operands):
        if values[i].shape != shape:
            values[i] = xp.reshape(values[i], shape)
        if labels != keep or len(values) == 1:
            values[i] = xp._collapse(values[i], labels, keep)
    for i, j, left, right, out in plan.steps:
        both = xp._contract(values[i], values[j], left, right, out)
        values = [x for k, x in enumerate(values) if k not in (i, j)]
        values.append(both)
    return values[0]  # type: ignore[no-any-return]
