"""Derivatives held against numeric ones: central differences in float64, and the complex step.

Every function that is checked here is taken as one of a vector of real numbers, with a vector of real numbers
for its result: complex numbers count as pairs. By the convention that a gradient is dL/dx + i dL/dy, the
gradient is then the transposed Jacobian times the cotangent, and a tangent the Jacobian times the direction.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from gradtape.arguments import brief, number, whole
from gradtape.differences import (
    EXACT,
    ROUNDING,
    TOLERANCE,
    Function,
    Run,
    Slopes,
    Vector,
    complex_steps,
    count,
    largest,
    packed,
    random,
    tensors,
    unpacked,
    where,
)
from gradtape.errors import ArgumentError, DTypeError, NotATensorError
from gradtape.forward import ForwardAccumulator
from gradtape.ops.op import Op
from gradtape.structure import unflattened
from gradtape.tape import GradientTape
from gradtape.tensor import Array, Tensor, Value

__all__ = ["GradientCheckError", "check_gradients", "check_op"]

MODES = ("forward", "reverse")


class GradientCheckError(AssertionError):
    """A derivative that is not the one that finite differences find."""


def check_gradients(
    f: Callable[..., Any],
    args: Sequence[Any],
    order: int = 2,
    modes: Sequence[str] = MODES,
    *,
    tolerance: float = TOLERANCE,
    analytic: bool | None = None,
) -> None:
    """Compares the derivatives of `f(*args)`, up to `order`, with finite differences.

    args: a list or tuple of tensors, arrays, Python numbers, or structures of them. f gets the floating ones
    as float64 tensors and the complex ones as complex128, and is differentiated by each of their elements;
    all else it gets as it is. It returns a tensor, array or number, or a structure of them, of which the
    floating and complex ones count. modes: "reverse" (GradientTape), "forward" (ForwardAccumulator) or both;
    each order is taken in each mode of the order below, so that order 2 means four kinds of Hessian.
    tolerance: how far a derivative may lie off, over the magnitudes it is the sum of. analytic: whether f
    takes complex numbers in place of the real ones and is analytic there, so that the complex step, which is
    exact but for rounding, serves as well; found out by trying if None, demanded if True.

    Raises GradientCheckError, an AssertionError, which names the order and modes, the argument, the element
    and both numbers; NotATensorError if there is nothing to differentiate; DTypeError if f computes in less
    than float64; ArgumentError for an unknown mode or order. What f itself raises passes through.

    >>> def f(x, n):
    ...     return gt.sin(x["angle"]) ** n
    >>> gt.testing.check_gradients(f, [{"angle": np.array([0.5, 1.0])}, 3])
    """
    if not callable(f):
        raise ArgumentError(f"check_gradients: wanted a function first, got {brief(f)}")
    if not isinstance(args, (list, tuple)):
        raise ArgumentError(
            f"check_gradients: wanted a list of f's arguments, got {type(args).__name__}; "
            "write check_gradients(f, [x])"
        )
    if not isinstance(modes, (list, tuple)) or not modes:
        raise ArgumentError(
            f"check_gradients: wanted a list of modes, got {brief(modes)}; write modes=['reverse']"
        )
    if unknown := [mode for mode in modes if mode not in MODES]:
        raise ArgumentError(f"check_gradients: unknown mode {unknown[0]!r}; wanted 'forward' or 'reverse'")
    if whole("check_gradients: order", order) < 1:
        raise ArgumentError(f"check_gradients: wanted an order of 1 or more, got {order}")
    tolerance = number("check_gradients: tolerance", tolerance)
    function = _function(f, args)
    _check(function, order, tuple(modes), tolerance, analytic, np.random.default_rng(0))


def check_op(op: Callable[..., Any], order: int = 2, modes: Sequence[str] = MODES) -> None:
    """Checks the derivatives of a declared op by all of its samples, in float64 and, if it takes them,
    complex numbers.

    Random operands are drawn alike on every call. A sample without any, or without a floating or complex
    result, checks nothing. An op that reads one triangle of symmetric matrices has no derivative by single
    elements: give check_gradients its composition with the symmetric part, 0.5 * (x + transpose(x)).

    Raises GradientCheckError, which names the sample; NotATensorError if no sample checks anything;
    ArgumentError for what is not a declared op.

    >>> gt.testing.check_op(gt.math.xlogy)
    """
    declared = getattr(op, "op", None)
    if not isinstance(declared, Op):
        raise ArgumentError(f"check_op: wanted a declared op, got {brief(op)}; use check_gradients")
    checked = [
        check_sample(declared, number, dtype, order, modes)
        for dtype in ("d", "D")
        if dtype in declared.dtypes
        for number in range(len(declared.samples))
    ]
    if not any(checked):
        raise NotATensorError(
            f"check_op: no sample of {declared.name} has a random operand and a floating or complex result"
        )


def check_sample(
    op: Op, number: int, dtype: str, order: int, modes: Sequence[str], analytic: bool | None = None
) -> bool:
    """Checks one sample of an op; False if it has nothing to check."""
    sample, operands = op.samples[number], drawn(op, number, dtype)

    def f(*operands: Any) -> Any:
        return op.call(*sample.filled(operands), **sample.attributes)

    if not operands or not any(map(_differentiable, unflattened(f(*operands))[0])):
        return False
    try:
        check_gradients(f, operands, order, modes, analytic=analytic)
    except GradientCheckError as problem:
        raise GradientCheckError(f"{op.name}({sample!r}) in {np.dtype(dtype)}: {problem}") from None
    return True


def drawn(op: Op, number: int, dtype: str) -> list[Array]:
    """The random operands of a sample of an op, the same on every call."""
    seed = zlib.crc32(f"{op.name} {number}".encode())
    return op.samples[number].draw(np.random.default_rng(seed), dtype)


# -- functions of a list of tensors --------------------------------------------------------------------------


def _function(f: Callable[..., Any], args: Sequence[Any]) -> Function:
    """`f` as a function of those leaves of its arguments that can be differentiated."""
    leaves, rebuild = unflattened(args)
    places = [i for i, leaf in enumerate(leaves) if _differentiable(leaf)]
    if not places:
        raise NotATensorError(
            "check_gradients: nothing to differentiate: none of args is floating or complex; "
            "give floats, or arrays or tensors of a floating dtype"
        )

    def call(tensors: Sequence[Tensor]) -> Any:
        full = list(leaves)
        for place, tensor in zip(places, tensors, strict=True):
            full[place] = tensor
        return f(*rebuild(full))

    def run(tensors: Sequence[Tensor]) -> list[Value | None]:
        return [_as_result(y) for y in unflattened(call(tensors))[0] if _differentiable(y)]

    point = [_double(leaves[place]) for place in places]
    found = call(tensors(point))
    results = unflattened(found)[0]
    if not any(map(_differentiable, results)):
        got = "nothing" if all(y is None for y in results) else "neither floating nor complex values"
        raise NotATensorError(f"check_gradients: f returned {got}; return what is to be differentiated")
    arguments, names = _names(args, "args", leaves), _names(found, "result", results)
    return Function(run, point, [False] * len(point), arguments, names, ())


def _differentiable(leaf: Any) -> bool:
    if isinstance(leaf, (Value, np.ndarray, np.generic)):
        return leaf.dtype.kind in "fc"
    return isinstance(leaf, (float, complex))


def _double(leaf: Any) -> Array:
    array = np.asarray(leaf.numpy() if isinstance(leaf, Value) else leaf)
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _as_result(y: Any) -> Value:
    result: Value = y if isinstance(y, Value) else Tensor(_double(y)[()])
    if result.dtype not in (np.float64, np.complex128):
        raise DTypeError(
            f"check_gradients: f returned {result.dtype}, too coarse for finite differences; let it compute "
            "in the float64 or complex128 of its arguments"
        )
    return result


def _names(structure: Any, root: str, leaves: Sequence[Any]) -> list[str]:
    """What Python calls each leaf that can be differentiated, in a structure of this name."""
    import optree

    paths = optree.tree_accessors(structure, none_is_leaf=True)
    return [p.codify(root) for p, leaf in zip(paths, leaves, strict=True) if _differentiable(leaf)]


# -- the derivative functions --------------------------------------------------------------------------------


def _pull(
    run: Run, places: Sequence[int], xs: Sequence[Tensor], cotangents: Sequence[Tensor]
) -> tuple[list[Value | None], list[Value | None]]:
    """All results, recorded, and the gradients of those at `places`."""
    with GradientTape() as tape:
        tape.watch(list(xs))
        ys = run(xs)
    reached = [(ys[p], c) for p, c in zip(places, cotangents, strict=True) if ys[p] is not None]
    return ys, tape.gradient([y for y, _ in reached], list(xs), [c for _, c in reached])


def _push(
    run: Run, places: Sequence[int], xs: Sequence[Tensor], tangents: dict[int, Tensor]
) -> tuple[list[Value | None], list[Value | None]]:
    """All results, recorded, and the tangents of those at `places`, given those of some of the arguments."""
    with ForwardAccumulator([xs[i] for i in tangents], list(tangents.values())) as acc:
        ys = run(xs)
        return ys, [None if ys[p] is None else acc.jvp(ys[p]) for p in places]


def _derivative(f: Function, mode: str, places: Sequence[int], vectors: list[Array]) -> Function:
    """The gradient as a function of arguments and cotangents, or the tangents, of arguments and tangents."""
    n = len(f.point)

    def reverse(tensors: Sequence[Tensor]) -> list[Value | None]:
        return _pull(f.run, places, tensors[:n], tensors[n:])[1]

    def forward(tensors: Sequence[Tensor]) -> list[Value | None]:
        return _push(f.run, places, tensors[:n], dict(enumerate(tensors[n:])))[1]

    live = [f.results[p] for p in places]
    if mode == "reverse":
        run, given = reverse, [f"the cotangent of {name}" for name in live]
        results = [f"the gradient by {name}" for name in f.arguments]
    else:
        run, given = forward, [f"the tangent of {name}" for name in f.arguments]
        results = [f"the tangent of {name}" for name in live]
    linear = [*f.linear, *[True] * len(vectors)]
    return Function(run, [*f.point, *vectors], linear, [*f.arguments, *given], results, (mode, *f.chain))


# -- the comparison ------------------------------------------------------------------------------------------


class _Claim(NamedTuple):
    """What a mode says of the Jacobian: `found` is rows @ Jacobian @ columns, where None stands for unity."""

    label: str
    found: Vector
    rows: Vector | None
    columns: Vector | None

    def expected(self, values: Vector, allowed: Vector) -> tuple[Vector, Vector]:
        """The same product of a Jacobian, and how far it may lie off if an entry may by `allowed`."""
        if self.rows is not None:
            values, allowed = self.rows @ values, np.abs(self.rows) @ allowed
        if self.columns is not None:
            values, allowed = values @ self.columns, allowed @ np.abs(self.columns)
        return values, allowed


def _check(
    f: Function,
    order: int,
    modes: tuple[str, ...],
    tolerance: float,
    analytic: bool | None,
    rng: np.random.Generator,
) -> None:
    """Checks the first derivative of f in all modes, then, if order is more, those of the derivatives."""
    xs = tensors(f.point)
    ys = f.run(xs)
    places = [i for i, y in enumerate(ys) if y is not None]
    like = [np.asarray(y._value) for y in ys if y is not None]
    vectors = {"reverse": random(like, rng), "forward": random(f.point, rng)}
    claims = [c for mode in modes for c in _claims(f, mode, ys, places, xs, vectors[mode])]
    if not places:
        return
    if any(map(count, f.point)):
        _require_finite(f, places, like)
        slopes = Slopes(f, places, like, tolerance)
        for claim in claims:
            _compare(claim, slopes)
        if not f.chain and analytic is not False:
            _compare_with_complex_steps(claims, slopes, bool(analytic))
    if order > 1:
        for mode in modes:
            _check(_derivative(f, mode, places, vectors[mode]), order - 1, modes, tolerance, analytic, rng)


def _claims(
    f: Function,
    mode: str,
    ys: list[Value | None],
    places: list[int],
    xs: list[Tensor],
    vectors: list[Array],
) -> list[_Claim]:
    """What a mode says of the first derivative of f, in the shapes and dtypes that it must have."""
    label = f"order {len(f.chain) + 1}, {' over '.join((mode, *f.chain))}"
    if mode == "reverse":
        again, grads = _pull(f.run, places, xs, tensors(vectors))
        _require_same(f, label, ys, again)
        found = _answers([f"{label}: the gradient by {name}" for name in f.arguments], grads, f.point)
        return [_Claim(label, found[:, None], None, packed(vectors)[:, None])]
    again, tangents = _push(f.run, places, xs, dict(enumerate(tensors(vectors))))
    _require_same(f, label, ys, again)
    names = [f"{label}: the tangent of {f.results[p]}" for p in places]
    like = [y._value for y in ys if y is not None]
    mixed = _answers(names, tangents, like)
    if not places:
        return []
    units = [_push(f.run, places, xs, {i: unit})[1] for i, unit in _units(f.point)]
    found = np.reshape([_answers(names, unit, like) for unit in units], (len(units), mixed.size))
    return [_Claim(label, found, None, None), _Claim(label, mixed[None], packed(vectors)[None], None)]


def _units(point: Sequence[Array]) -> Iterator[tuple[int, Tensor]]:
    """Every unit direction of every argument, and the place of that argument."""
    for i, a in enumerate(point):
        for unit in np.eye(count(a)):
            yield i, tensors(unpacked(unit, [a]))[0]


def _answers(names: Sequence[str], found: Sequence[Value | None], like: Sequence[Array]) -> Vector:
    """Derivatives as one vector, zero where they are None; GradientCheckError for a wrong shape or dtype."""
    for name, d, x in zip(names, found, like, strict=True):
        if d is not None and (d.shape, d.dtype) != (x.shape, x.dtype):
            raise GradientCheckError(
                f"{name} is of shape {d.shape} and dtype {d.dtype}; wanted {x.shape} and {x.dtype}"
            )
    return packed([np.zeros_like(x) if d is None else d._value for d, x in zip(found, like, strict=True)])


def _require_finite(f: Function, places: Sequence[int], like: Sequence[Array]) -> None:
    values = packed(like)
    for k in np.flatnonzero(~np.isfinite(values)):
        what = where(int(k), like, [f.results[p] for p in places])
        raise GradientCheckError(
            f"order {len(f.chain) + 1}: {what} is {values[k]}, and has no derivative; "
            "choose args where it is finite"
        )


def _require_same(f: Function, label: str, ys: Sequence[Value | None], again: Sequence[Value | None]) -> None:
    """Raises GradientCheckError unless the results are the same whether they are recorded or not."""
    for name, y, z in zip(f.results, ys, again, strict=True):
        if (y is None) != (z is None):
            raise GradientCheckError(
                f"{label}: {name} is None only when it is {'recorded' if z is None else 'not recorded'}"
            )
        if y is None or z is None:
            continue
        if (y.shape, y.dtype) != (z.shape, z.dtype):
            raise GradientCheckError(
                f"{label}: {name} is of shape {z.shape} and dtype {z.dtype} when it is recorded, else of "
                f"{y.shape} and {y.dtype}"
            )
        a, b = packed([y._value]), packed([z._value])
        size = np.max(np.abs(a), initial=0.0, where=np.isfinite(a))
        if not np.allclose(a, b, rtol=0.0, atol=EXACT * size, equal_nan=True):
            k = int(np.argmax(np.abs(a - b)))
            raise GradientCheckError(
                f"{label}: {where(k, [np.asarray(y._value)], [name])} is {b[k]} when it is recorded, else "
                f"{a[k]}; the function must give the same on every call"
            )


def _compare(claim: _Claim, slopes: Slopes) -> None:
    """Raises GradientCheckError if a claim is not what the differences say, the best that are to be had."""
    while True:
        with np.errstate(all="ignore"):
            wanted, allowed = claim.expected(slopes.values, slopes.allowed())
            bad = np.argwhere(~(np.abs(claim.found - wanted) <= allowed))
        if not len(bad):
            return
        j, k = map(int, bad[0])
        if claim.rows is not None or not slopes.refine(j):
            break
    _report(claim, slopes, j, k, wanted[j, k], allowed[j, k], "by finite differences")


def _compare_with_complex_steps(claims: Sequence[_Claim], slopes: Slopes, demanded: bool) -> None:
    """Holds the claims to the complex step, by every argument by which f is analytic: where it agrees with
    the differences. An entry of which they are unsure says nothing of that, and is held to them alone.

    Raises GradientCheckError also if it is demanded that f is analytic, and f is not.
    """
    steps = complex_steps(slopes.f, slopes.places, slopes.like)
    agrees = np.zeros(len(slopes.x), bool)
    if steps is not None:
        agrees = np.all(np.abs(steps - slopes.values) <= slopes.allowed(), axis=1)
    if demanded and not agrees.all():
        what = where(int(np.argmin(agrees)), slopes.f.point, slopes.f.arguments)
        raise GradientCheckError(
            f"order 1: f is not analytic by {what}, or takes no complex numbers there; "
            "leave analytic=True out"
        )
    if steps is None or not agrees.any():
        return
    sizes = np.reshape([largest(column, slopes.f.point) for column in steps.T], steps.T.shape).T
    exact = EXACT * sizes + ROUNDING
    if not demanded:
        unsure = slopes.error > 1e-3 * np.abs(slopes.values)
        exact = np.where(unsure, np.maximum(exact, slopes.allowed()), exact)
    for claim in claims:
        if claim.rows is None:
            wanted, allowed = claim.expected(steps, exact)
            bad = np.argwhere(~(np.abs(claim.found - wanted) <= allowed) & agrees[:, None])
            if len(bad):
                j, k = map(int, bad[0])
                _report(claim, slopes, j, k, wanted[j, k], allowed[j, k], "by the complex step")


def _report(
    claim: _Claim, slopes: Slopes, j: int, k: int, wanted: float, allowed: float, how: str
) -> NoReturn:
    """Raises the GradientCheckError of a claim that is not what is wanted."""
    f = slopes.f
    by = where(j, f.point, f.arguments) if claim.rows is None else "a random direction"
    what = f"the gradient by {by}"
    if claim.columns is None:
        what = f"the tangent of {where(k, slopes.like, [f.results[p] for p in slopes.places])}, along {by},"
    got = claim.found[j, k]
    if np.isnan(wanted):
        raise GradientCheckError(
            f"{claim.label}: {what} is {got}, but {how} it does not settle; choose args where f is smooth"
        )
    raise GradientCheckError(
        f"{claim.label}: {what} is {got}, {how} {wanted}; they differ by {abs(got - wanted):.2e}, and the "
        f"tolerance is {allowed:.2e}"
    )
