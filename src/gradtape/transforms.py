"""Plain functions, NumPy in and NumPy out: grad, value_and_grad, vjp, jvp, jacobian, hessian, hvp.

Each takes a function and returns one. `argnums` says which positional arguments to differentiate by: a
number, or several, which make tuples. Arguments and results may be structures (lists, tuples, dicts); the
function gets copies of those it is differentiated by, and may assign to them. Called without tensors they
return NumPy arrays and Python numbers, unless a tape or accumulator around the call follows the result;
called with tensors, tensors.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from gradtape.batched import Batched, Mapping, chunks, mapped
from gradtape.calls import Argnums, Call, Function, call_with_tangents, face
from gradtape.errors import ArgumentError
from gradtape.forward import ForwardAccumulator
from gradtape.ops.op import recorded
from gradtape.replay import Noting, Replaying
from gradtape.tape import GradientTape
from gradtape.tensor import Tensor, Value

__all__ = ["grad", "hessian", "hvp", "jacobian", "jvp", "value_and_grad", "vjp"]


# -- gradients -----------------------------------------------------------------------------------------------


def grad(f: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """The function that gives the gradient of `f`, which returns one real number: one sweep.

    has_aux: `f` returns a pair, of which the second part is passed on: (gradient, aux). Raises NotScalarError
    for a result that is not one number, DTypeError for arguments that are not real or complex,
    ArgumentError for argnums that are no arguments, LeavesTapeError for a result that is no tensor.

    >>> gt.grad(np.sin)(0.0)
    1.0
    >>> gt.grad(lambda x, y: np.sum(x * x * y), argnums=(0, 1))(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    (array([ 6., 16.]), array([1., 4.]))
    """

    def transformed(*args: Any, **keywords: Any) -> Any:
        call = Call("grad", f, argnums, has_aux, args, keywords)
        _, gradients = call.gradients()
        return call.answer(call.like_arguments(gradients))

    return face("grad", f, argnums, transformed)


def value_and_grad(f: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """The function that gives (value, gradient) of `f`, as SciPy's `minimize` takes it with jac=True.

    Arguments and errors as in `grad`; with has_aux, ((value, aux), gradient).

    >>> gt.value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    (5.0, array([2., 4.]))
    """

    def transformed(*args: Any, **keywords: Any) -> Any:
        call = Call("value_and_grad", f, argnums, has_aux, args, keywords)
        y, gradients = call.gradients()
        return call.answer(call.like_value([y])), call.like_arguments(gradients)

    return face("value_and_grad", f, argnums, transformed)


# -- products ------------------------------------------------------------------------------------------------


def vjp(f: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """The function that gives (value, pullback[, aux]) of `f`; pullback(cotangent) is the vector-Jacobian
    product, in the structure of the arguments: one sweep for each call.

    The cotangent has the structure and shapes of the value, else StructureError or ShapeError. Other errors
    as in `grad`.

    >>> value, pullback = gt.vjp(lambda x: x**2)(np.array([1.0, 2.0]))
    >>> pullback(np.array([1.0, 10.0]))
    array([ 2., 40.])
    """

    def transformed(*args: Any, **keywords: Any) -> Any:
        call = Call("vjp", f, argnums, has_aux, args, keywords)
        with GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(call.primals)
            ys = call.run()

        def pullback(cotangent: Any) -> Any:
            seeds = call.fitted("cotangent", "value", cotangent, call.in_value(ys), ys)
            targets = [i for i, y in enumerate(ys) if y.dtype.kind in "fc"]
            found = tape.gradient(
                [ys[i] for i in targets],
                call.primals,
                [seeds[i] for i in targets],
                unconnected_gradients="zero",
            )
            return call.like_arguments(found)

        pullback.__qualname__ = f"pullback of {call.of}"
        return call.answer(call.like_value(ys), pullback)

    return face("vjp", f, argnums, transformed)


def jvp(f: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """The function that gives (value, tangent[, aux]) of `f`; the tangent is the Jacobian-vector product.

    One forward pass. It takes the tangent of the argument right behind that argument (behind the last, as a
    tuple, for several argnums), in the same structure and shapes, else StructureError or ShapeError. Other
    errors as in `grad`.

    >>> gt.jvp(lambda x, a: a * x**2)(np.array([1.0, 2.0]), np.array([1.0, 0.0]), 5.0)
    (array([ 5., 20.]), array([10.,  0.]))
    """

    def transformed(*args: Any, **keywords: Any) -> Any:
        call, tangents = call_with_tangents("jvp", f, argnums, has_aux, args, keywords)
        with ForwardAccumulator(call.primals, tangents) as accumulator:
            ys = call.run()
        found = accumulator.jvp(ys, unconnected_gradients="zero")
        return call.answer(call.like_value(ys), call.like_value(found))

    return face("jvp", f, argnums, transformed)


def hvp(f: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """The function that gives the Hessian of `f` times a vector, as SciPy's `hessp` takes it: hvp(f)(x, v).

    Forward over reverse: a forward pass and a sweep, with a tangent each, whatever the size. The vector
    stands where `jvp` has the tangent. Arguments and errors as in `grad` and `jvp`.

    >>> gt.hvp(lambda x: np.sum(x**3))(np.array([1.0, 2.0]), np.array([1.0, 0.0]))
    array([6., 0.])
    """

    def transformed(*args: Any, **keywords: Any) -> Any:
        call, tangents = call_with_tangents("hvp", f, argnums, has_aux, args, keywords)
        with ForwardAccumulator(call.primals, tangents) as accumulator:
            _, gradients = call.gradients()
        found = accumulator.jvp(gradients, unconnected_gradients="zero")
        return call.answer(call.like_arguments(found))

    return face("hvp", f, argnums, transformed)


# -- whole matrices ------------------------------------------------------------------------------------------


def jacobian(
    f: Function,
    argnums: Argnums = 0,
    mode: str = "auto",
    has_aux: bool = False,
    chunk_size: int | None = None,
) -> Function:
    """The function that gives the Jacobian of `f`, of shape value.shape + argument.shape and argument.dtype.

    mode: "reverse" carries the cotangents of all elements of the value in one sweep, "forward" the tangents
    of all elements of the argument in one forward pass; "auto" takes the smaller side, at the price of
    running `f` once more if that is forward. chunk_size: how many at a time at most. Where `f` runs several
    times, it sees variables as at first, draws the same random numbers, and assigns once. For structures, the
    Jacobian has the structure of the value, whose leaves have that of the argument. Raises DTypeError for
    complex numbers, whose Jacobian is a matter of convention; other errors as in `grad`.

    >>> gt.jacobian(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    if mode not in ("auto", "forward", "reverse"):
        raise ArgumentError(f"jacobian: unknown mode {mode!r}; wanted 'auto', 'forward' or 'reverse'")

    def transformed(*args: Any, **keywords: Any) -> Any:
        call = Call("jacobian", f, argnums, has_aux, args, keywords)

        def run() -> list[Tensor]:
            ys = call.run()
            call.require_real([*call.primals, *ys])
            return ys

        again = _repeatable(run)
        found = None if mode == "forward" else _swept(again, call.primals, mode == "auto", chunk_size)
        if found is None:
            found = _pushed("jacobian", again, call.primals, chunk_size)
        return call.answer(call.in_value([call.like_arguments(of_y) for of_y in found]))

    return face("jacobian", f, argnums, transformed)


def hessian(
    f: Function, argnums: Argnums = 0, has_aux: bool = False, chunk_size: int | None = None
) -> Function:
    """The function that gives the Hessian of `f`, of shape argument.shape + argument.shape.

    Forward over reverse: a forward pass and a sweep that carry the tangents of all elements of the argument
    at once; chunk_size: so many at a time at most. For structures and several argnums, a structure of
    structures. Arguments and errors as in `grad` and `jacobian`.

    >>> gt.hessian(lambda x: np.sum(x**3))(np.array([1.0, 2.0]))
    array([[ 6.,  0.],
           [ 0., 12.]])
    """

    def transformed(*args: Any, **keywords: Any) -> Any:
        call = Call("hessian", f, argnums, has_aux, args, keywords)

        def run() -> list[Tensor]:
            y, gradients = call.gradients()
            call.require_real([*call.primals, y])
            return gradients

        found = _pushed("hessian", _repeatable(run), call.primals, chunk_size)
        return call.answer(call.in_arguments([call.like_arguments(of_x) for of_x in found]))

    return face("hessian", f, argnums, transformed)


def _repeatable(run: Callable[[], list[Tensor]]) -> Callable[[], list[Tensor]]:
    """`run`, which from its second call on sees the variables and random numbers of its first, and assigns
    none, so that all parts of a matrix are of one function.
    """
    notes: Noting | None = None

    def again() -> list[Tensor]:
        nonlocal notes
        if notes is not None:
            with Replaying(notes.first, notes.states):
                return run()
        with Noting() as notes:
            return run()

    return again


def _swept(
    run: Callable[[], list[Tensor]], primals: list[Tensor], unless_wide: bool, chunk_size: int | None
) -> list[list[Tensor]] | None:
    """For each result of `run` its Jacobians by the primals, from the cotangents of all their elements.

    unless_wide: None if the results have more elements than the primals.
    """
    with GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(primals)
        ys = run()
        row = recorded.concat([recorded.reshape(y, (-1,)) for y in ys], 0)
    if unless_wide and sum(x.size for x in primals) < row.size:
        return None
    columns = [_parts(whole, ys) for whole in tape.jacobian(row, primals, "zero", chunk_size=chunk_size)]
    return [
        [recorded.reshape(of_x[i], y.shape + x.shape) for of_x, x in zip(columns, primals, strict=True)]
        for i, y in enumerate(ys)
    ]


def _pushed(
    name: str, run: Callable[[], list[Tensor]], primals: list[Tensor], chunk_size: int | None
) -> list[list[Tensor]]:
    """For each result of `run` its Jacobians by the primals, from the tangents of all their elements."""
    results: list[Tensor] = []

    def push(mapping: Mapping, start: int, stop: int, last: bool) -> list[Any]:
        nonlocal results
        tangents = [Batched(t, mapping) for t in _basis(primals, start, stop)]
        with ForwardAccumulator(primals, tangents) as accumulator:
            results = run()
        return accumulator.jvp(results, unconnected_gradients="zero")  # type: ignore[no-any-return]

    columns = mapped(chunks(name, sum(x.size for x in primals), chunk_size, False), push)
    return [
        [
            recorded.cast(recorded.reshape(_last(part), y.shape + x.shape), x.dtype)
            for part, x in zip(_parts(cast(Tensor, whole), primals), primals, strict=True)
        ]
        for whole, y in zip(columns, results, strict=True)
    ]


def _basis(primals: list[Tensor], start: int, stop: int) -> list[Tensor]:
    """Rows start to stop of the identity matrix over all elements of the primals, cut up into these."""
    found, first = [], 0
    for x in primals:
        rows = np.zeros((stop - start, x.size), x.dtype)
        own = np.arange(max(start, first), min(stop, first + x.size))
        rows[own - start, own - first] = 1
        found.append(Tensor(rows.reshape(stop - start, *x.shape)))
        first += x.size
    return found


def _parts(whole: Tensor, like: Sequence[Value]) -> list[Tensor]:
    """A first axis that runs over all elements of some values, cut up into these."""
    return recorded.split(whole, [x.size for x in like], 0)  # type: ignore[no-any-return]


def _last(x: Tensor) -> Tensor:
    """x with its first axis made the last."""
    return recorded.transpose(x, (*range(1, x.ndim), 0))  # type: ignore[no-any-return]
