"""gradtape.numpy against NumPy, name by name, and NumPy's own functions called on tensors, table by table."""

import inspect
import types

import numpy as np
import pytest

import gradtape as gt
import gradtape.numpy as gnp
from gradtape.numpy.protocols import FUNCTIONS, UFUNCS
from gradtape.tensor import Value

A = np.array([[0.5, 1.5, -0.25], [2.0, -1.0, 0.75]])
B = np.array([[1.25, -0.5, 3.0], [0.4, 2.5, -1.75]])
SMALL = A / 4
POSITIVE = np.abs(A) + 0.3
SQUARE = np.array([[2.0, 0.5, 0.1], [-1.0, 3.0, 0.2], [0.3, 0.7, 1.5]])
STACK = np.stack([SQUARE, SQUARE @ SQUARE])
DEFINITE = SQUARE @ SQUARE.T
CUBE = np.arange(24.0).reshape(2, 3, 4) / 7 - 1.1
COMPLEX = A + 1j * B
I = np.array([[1, -2, 3], [4, 5, -6]])  # noqa: E741
J = np.array([[2, 3, -1], [7, 2, 4]])
TRUTH = np.array([[True, False, True], [False, False, True]])
WITH_NAN = np.array([1.0, np.nan, np.inf, -np.inf])
H = 1e-6


def bare(x):
    """The result as arrays: tuples and lists stay what they are."""
    if isinstance(x, (list, tuple)):
        return [bare(part) for part in x]
    return x.numpy() if isinstance(x, Value) else np.asarray(x)


def assert_same(got, want):
    """Equal dtypes and shapes, and equal values but for rounding; of structures, part by part."""
    got, want = bare(got), bare(want)
    if isinstance(want, list):
        assert len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            assert_same(g, w)
        return
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


def leaves(x):
    return [leaf for part in x for leaf in leaves(part)] if isinstance(x, (list, tuple)) else [x]


def weighted(result):
    """A number that depends on every real element of the result, each with a weight of its own."""
    total = 0.0
    for i, part in enumerate(leaves(result)):
        part = part.numpy() if isinstance(part, Value) else np.asarray(part)
        if part.dtype.kind == "f":
            total += np.sum(part * weights(part.shape, i))
    return float(total)


def weights(shape, i):
    return np.random.default_rng(i).uniform(0.5, 1.5, shape)


def operands_in(args):
    """Where float arrays stand in the arguments: alone, or in a list."""
    for i, x in enumerate(args):
        if isinstance(x, np.ndarray) and x.dtype == np.float64:
            yield (i,)
        elif isinstance(x, list):
            for j, y in enumerate(x):
                if isinstance(y, np.ndarray) and y.dtype == np.float64:
                    yield (i, j)


def replaced(args, where, value):
    i, *rest = where
    return [
        replaced(x, rest, value) if k == i and rest else value if k == i else x for k, x in enumerate(args)
    ]


def at(args, where):
    for i in where:
        args = args[i]
    return args


def by_differences(f, args, where):
    x = at(args, where)
    g = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = H
        up, down = (weighted(f(*replaced(args, where, x + s * step))) for s in (1, -1))
        g[i] = (up - down) / (2 * H)
    return g


def check_gradients(called, reference, args):
    """By every float operand alone: the derivative is that of the reference, by central differences."""
    places = list(operands_in(args))
    assert places, "no operand to differentiate by"
    for where in places:
        for make in (gt.constant, gt.Variable):
            t = make(at(args, where))
            with gt.GradientTape() as tape:
                tape.watch(t)
                result = called(*replaced(args, where, t))
            parts = [p for p in leaves(result) if isinstance(p, Value) and p.dtype.kind == "f"]
            assert parts, "no tensor came out"
            numbers = [i for i, p in enumerate(leaves(result)) if any(p is q for q in parts)]
            cotangents = [weights(p.shape, i) for i, p in zip(numbers, parts, strict=True)]
            got = tape.gradient(parts, t, cotangents)
            assert got is not None, f"no derivative by operand {where}"
            np.testing.assert_allclose(
                got.numpy(), by_differences(reference, args, where), rtol=1e-6, atol=1e-7
            )


def check_no_gradient(called, args):
    for where in operands_in(args):
        t = gt.constant(at(args, where))
        with gt.GradientTape() as tape:
            tape.watch(t)
            parts = leaves(called(*replaced(args, where, t)))
        parts = [p for p in parts if isinstance(p, Value) and p.dtype.kind == "f"]
        if parts:
            g = tape.gradient(parts, t)
            assert g is None or not g.numpy().any()


# -- gradtape.numpy, name by name ----------------------------------------------------------------------------
# Name: calls, each the arguments, the keywords, and how to call NumPy if not by that name and those keywords.


class Call:
    def __init__(self, *args, numpy=None, **keywords):
        self.args, self.keywords, self.numpy = args, keywords, numpy


def by(name, **renamed):
    """NumPy's function of another name, or with arguments of other names."""
    f = np
    for part in name.split("."):
        f = getattr(f, part)
    return lambda *args, **keywords: f(*args, **{renamed.get(k, k): v for k, v in keywords.items()})


def cholesky_of_the_symmetric_part(x):
    return np.linalg.cholesky((x + np.swapaxes(x, -1, -2)) / 2)


UNARY = [Call(A), Call(np.float64(0.5)), Call(np.zeros((0, 2)))]
INSIDE = [Call(SMALL), Call(np.float64(0.25))]
LOGIC = [Call(TRUTH, ~TRUTH), Call(TRUTH, True)]
COMPARED = [Call(A, B), Call(A, A), Call(A, 0.5), Call(0.5, A), Call(I, J)]
BINARY = [Call(A, B), Call(A, B[0]), Call(A[:, :1], 2.0), Call(2.0, B)]
REDUCED = [
    Call(A),
    Call(A, 0),
    Call(A, axis=1),
    Call(CUBE, axis=(0, 2)),
    Call(CUBE, axis=-1, keepdims=True),
    Call(A, keepdims=True),
]
ORDERED = [Call(A), Call(A, 0), Call(A, axis=-2)]

SMOOTH = {
    "abs": UNARY,
    "acos": INSIDE,
    "acosh": [Call(POSITIVE + 1)],
    "add": BINARY,
    "asin": INSIDE,
    "asinh": UNARY,
    "astype": [Call(A, np.float64), Call(A, np.dtype("float64"))],
    "atan": UNARY,
    "atan2": BINARY,
    "atanh": INSIDE,
    "broadcast_arrays": [Call(A, B[0]), Call(A[:, :1], B, np.array(2.0))],
    "broadcast_to": [Call(A, (4, 2, 3)), Call(A[:, :1], (2, 3)), Call(np.float64(2.0), shape=(2,))],
    "clip": [
        Call(A, -0.5, 1.0),
        Call(A, min=0.1),
        Call(A, max=0.1),
        Call(A, B - 1, B + 1),
        Call(A, None, 0.6),
        Call(A, min=-0.5, max=B),
    ],
    "concat": [
        Call([A, B]),
        Call([A, B], axis=1),
        Call([A, B[0]], axis=None),
        Call([A, B], axis=-2),
        Call([A]),
    ],
    "conj": UNARY,
    "cos": UNARY,
    "cosh": UNARY,
    "cumulative_prod": [Call(A, axis=0), Call(A, axis=-1), Call(A[0])],
    "cumulative_sum": [Call(A, axis=0), Call(A, axis=-1), Call(A[0])],
    "divide": BINARY,
    "einsum": [
        Call("ij,kj->ik", A, B),
        Call("ij->ji", A),
        Call("ii", SQUARE),
        Call("bij,bjk->bik", STACK, STACK),
        Call("...j,j", A, B[0]),
    ],
    "exp": UNARY,
    "expand_dims": [Call(A, axis=0), Call(A, axis=-1), Call(A, axis=1)],
    "expm1": UNARY,
    "flip": [Call(A), Call(A, axis=0), Call(CUBE, axis=(0, -1))],
    "full": [Call(3, np.float64(2.5)), Call((2, 2), np.float64(2.5), dtype="float64")],
    "full_like": [Call(np.ones((2, 3), "int64"), np.float64(1.5), dtype="float64")],
    "linspace": [
        Call(np.float64(1.0), np.float64(2.0), 5),
        Call(0.0, np.float64(1.0), num=4, endpoint=False),
        Call(np.float64(0.0), 1.0, 1),
    ],
    "log": [Call(POSITIVE)],
    "log1p": [Call(POSITIVE)],
    "matmul": [Call(A, SQUARE), Call(STACK, SQUARE), Call(A, B[0]), Call(A[0], SQUARE), Call(A[0], A[1])],
    "matrix_transpose": [Call(A), Call(CUBE)],
    "max": REDUCED,
    "maximum": [Call(A, B), Call(A, 0.3), Call(0.3, A)],
    "mean": REDUCED,
    "min": REDUCED,
    "minimum": [Call(A, B), Call(A, 0.3), Call(0.3, A)],
    "moveaxis": [
        Call(CUBE, 0, -1),
        Call(CUBE, [0, 1], [-1, 0]),
        Call(CUBE, source=(2, 0), destination=(0, 1)),
    ],
    "multiply": BINARY,
    "negative": UNARY,
    "permute_dims": [Call(A), Call(CUBE, (1, 2, 0)), Call(CUBE, axes=(-1, 0, 1))],
    "positive": UNARY,
    "pow": [Call(POSITIVE, B), Call(A, 2), Call(A, 3.0), Call(2.0, A), Call(POSITIVE, B[0])],
    "prod": REDUCED,
    "real": UNARY,
    "reciprocal": [Call(POSITIVE)],
    "remainder": [Call(A, B + 0.01), Call(A, 0.7)],
    "repeat": [Call(A, 2), Call(A, 2, axis=0), Call(A, [1, 0, 2], axis=1), Call(A, repeats=3, axis=-1)],
    "reshape": [Call(A, (3, 2)), Call(A, -1), Call(A, 6), Call(A, shape=(1, 3, -1))],
    "roll": [Call(A, 1), Call(A, 1, axis=1), Call(A, shift=(1, -1), axis=(0, 1)), Call(A, -4)],
    "sin": UNARY,
    "sinh": UNARY,
    "sort": [
        *ORDERED,
        Call(A, descending=True, numpy=lambda x, descending: -np.sort(-x)),
        Call(A, stable=True),
    ],
    "sqrt": [Call(POSITIVE)],
    "square": UNARY,
    "squeeze": [Call(A[None]), Call(A[None, :, None], axis=0), Call(A[None, :, None], axis=(0, 2))],
    "stack": [Call([A, B]), Call([A, B], axis=1), Call([A, B], axis=-1)],
    "std": [*REDUCED, Call(A, axis=1, correction=1), Call(A, correction=0.5)],
    "subtract": BINARY,
    "sum": [*REDUCED, Call(A, dtype="float64")],
    "swapaxes": [Call(CUBE, 0, 2), Call(CUBE, -1, 1), Call(CUBE, axis1=1, axis2=0)],
    "take": [
        Call(A, np.array([2, 0, -1]), axis=1),
        Call(A, np.array([[0, 5], [3, 3]])),
        Call(A, np.array(1), axis=0),
        Call(A, indices=np.array([1]), axis=-2),
    ],
    "tan": UNARY,
    "tanh": UNARY,
    "tensordot": [
        Call(A, SQUARE, 1),
        Call(A, SQUARE, axes=1),
        Call(A, B, axes=2),
        Call(A, B, axes=((0, 1), (0, 1))),
        Call(A, CUBE, axes=([1, 0], [1, 0])),
        Call(A, B, axes=0),
    ],
    "tile": [
        Call(A, 2),
        Call(A, (2, 1)),
        Call(A, (2, 1, 3)),
        Call(CUBE, repetitions=(2,), numpy=by("tile", repetitions="reps")),
    ],
    "unstack": [Call(A), Call(A, axis=1), Call(CUBE, axis=-1)],
    "var": [*REDUCED, Call(A, axis=1, correction=1), Call(CUBE, axis=(0, 2), correction=1, keepdims=True)],
    "vecdot": [Call(A, B), Call(A, B, axis=0), Call(A, B[0])],
    "where": [Call(TRUTH, A, B), Call(TRUTH, A, 0.0), Call(TRUTH[0], A[0], B), Call(True, A, 1.0)],
}

FLAT = {
    "all": [Call(TRUTH), Call(TRUTH, axis=0), Call(A, axis=(0, 1)), Call(TRUTH, 1, keepdims=True)],
    "any": [Call(TRUTH), Call(TRUTH, axis=0), Call(A * 0), Call(TRUTH, 1, keepdims=True)],
    "arange": [
        Call(3),
        Call(1, 7, 2),
        Call(0.0, 1.0, 0.25),
        Call(5, step=2),
        Call(3, dtype="float32"),
        Call(1, stop=4),
        Call(3, 0, -1),
    ],
    "argmax": [Call(A), Call(A, axis=0), Call(A, axis=1, keepdims=True), Call(A, keepdims=True)],
    "argmin": [Call(A), Call(A, axis=0), Call(A, axis=1, keepdims=True), Call(A, keepdims=True)],
    "argsort": [
        *ORDERED,
        Call(A, descending=True, numpy=lambda x, descending: np.argsort(-x)),
        Call(A, stable=True),
    ],
    "asarray": [
        Call(A),
        Call([1.0, 2.0]),
        Call([1, 2]),
        Call(2),
        Call(2.5),
        Call(True),
        Call([[True], [False]]),
        Call([1, 2], dtype="float32"),
        Call(np.float32(1.5)),
    ],
    "bitwise_and": [Call(I, J), Call(TRUTH, ~TRUTH), Call(I, 3)],
    "bitwise_invert": [Call(I), Call(TRUTH)],
    "bitwise_or": [Call(I, J), Call(TRUTH, ~TRUTH), Call(3, J)],
    "bitwise_xor": [Call(I, J), Call(TRUTH, TRUTH)],
    "ceil": UNARY,
    "equal": COMPARED,
    "eye": [
        Call(3),
        Call(2, 3),
        Call(3, k=1),
        Call(2, 3, k=-1, dtype="int32"),
        Call(2, n_cols=4, numpy=by("eye", n_cols="M")),
    ],
    "floor": UNARY,
    "floor_divide": [Call(A, B), Call(I, J), Call(A, 0.7)],
    "greater": COMPARED,
    "greater_equal": COMPARED,
    "imag": [Call(A), Call(COMPLEX)],
    "isfinite": [Call(WITH_NAN), Call(A)],
    "isinf": [Call(WITH_NAN), Call(A)],
    "isnan": [Call(WITH_NAN), Call(A)],
    "less": COMPARED,
    "less_equal": COMPARED,
    "logical_and": LOGIC,
    "logical_not": [Call(TRUTH)],
    "logical_or": LOGIC,
    "logical_xor": LOGIC,
    "nonzero": [Call(A - 0.5), Call(TRUTH), Call(I[0])],
    "not_equal": COMPARED,
    "ones": [Call(3), Call((2, 3)), Call([2], dtype="int64"), Call(())],
    "ones_like": [Call(A), Call(I), Call(A, dtype="float32")],
    "round": [Call(A), Call(np.array([0.5, 1.5, 2.5, -0.5]))],
    "sign": UNARY,
    "zeros": [Call(3), Call((2, 3)), Call([2], dtype="int64"), Call(())],
    "zeros_like": [Call(A), Call(I), Call(A, dtype="float32")],
}

LINALG = {
    "cholesky": [
        Call(DEFINITE, numpy=cholesky_of_the_symmetric_part),
        Call(np.stack([DEFINITE, 2 * DEFINITE]), numpy=cholesky_of_the_symmetric_part),
    ],
    "det": [Call(SQUARE), Call(STACK)],
    "diagonal": [Call(SQUARE), Call(STACK), Call(A), Call(SQUARE, offset=1), Call(A, offset=-1)],
    "inv": [Call(SQUARE), Call(STACK)],
    "matmul": SMOOTH["matmul"],
    "matrix_norm": [
        Call(A),
        Call(STACK, keepdims=True),
        Call(A, ord=1),
        Call(A, ord=np.inf),
        Call(STACK, ord="fro"),
    ],
    "matrix_transpose": SMOOTH["matrix_transpose"],
    "outer": [Call(A[0], B[1])],
    "slogdet": [Call(SQUARE), Call(STACK)],
    "solve": [Call(SQUARE, A.T), Call(STACK, STACK), Call(SQUARE, A[0])],
    "tensordot": SMOOTH["tensordot"][1:],
    "trace": [Call(SQUARE), Call(STACK), Call(SQUARE, offset=1), Call(STACK, offset=-1)],
    "vector_norm": [
        Call(A),
        Call(A, axis=1),
        Call(A, axis=0, keepdims=True),
        Call(A, ord=1),
        Call(A, axis=1, ord=np.inf),
        Call(POSITIVE, ord=3),
        Call(CUBE, axis=(0, 2)),
        Call(CUBE, axis=(0, -1), ord=1, keepdims=True),
        Call(CUBE, axis=(2, 1, 0), ord=np.inf),
    ],
    "vecdot": [Call(A, B), Call(A, B, axis=0)],
}

CONSTANTS = """
    bool complex64 complex128 e float16 float32 float64 inf int8 int16 int32 int64 nan newaxis pi uint8 uint16
    uint32 uint64
""".split()  # noqa: SIM905
ALL_CALLS = {**SMOOTH, **FLAT}


def calls(table, prefix=""):
    return [
        pytest.param(prefix + name, call, id=f"{prefix}{name}-{i}")
        for name, list_of_calls in table.items()
        for i, call in enumerate(list_of_calls)
    ]


def lookup(module, name):
    for part in name.split("."):
        module = getattr(module, part)
    return module


def both(name, call):
    """Our function and NumPy's, with the call's keywords."""
    ours, theirs = lookup(gnp, name), call.numpy or lookup(np, name)
    return (
        lambda *args: ours(*args, **call.keywords),
        lambda *args: theirs(*args, **call.keywords),
    )


EVERY = calls(ALL_CALLS) + calls(LINALG, "linalg.")


def test_every_name_is_called_here():
    public = {
        name for name in gnp.__all__ if callable(x := getattr(gnp, name)) and not isinstance(x, np.dtype)
    }
    assert public == set(ALL_CALLS)
    assert set(gnp.linalg.__all__) == set(LINALG)
    rest = set(gnp.__all__) - public - {"linalg"}
    assert rest == set(CONSTANTS)
    assert isinstance(gnp.linalg, types.ModuleType)
    assert len(gnp.__all__) == len(set(gnp.__all__))


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_and_dtypes(name):
    ours, theirs = getattr(gnp, name), getattr(np, name)
    if isinstance(ours, np.dtype):
        assert ours == np.dtype(theirs)
        assert gnp.asarray([1], dtype=ours).dtype == theirs
    else:
        assert ours is theirs or ours == theirs or (np.isnan(ours) and np.isnan(theirs))


@pytest.mark.parametrize(("name", "call"), EVERY)
def test_the_value_is_numpys(name, call):
    ours, theirs = both(name, call)
    want = theirs(*call.args)
    got = ours(*call.args)
    assert all(isinstance(part, gt.Tensor) for part in leaves(got))
    assert_same(got, want)


@pytest.mark.parametrize(
    ("name", "call"),
    [case for case in calls(SMOOTH) + calls(LINALG, "linalg.") if list(operands_in(case.values[1].args))],
)
def test_the_derivative_flows(name, call):
    check_gradients(*both(name, call), list(call.args))


@pytest.mark.parametrize(("name", "call"), calls(FLAT))
def test_no_derivative_flows_where_there_is_none(name, call):
    if name == "asarray" and isinstance(call.args[0], np.ndarray):
        check_gradients(*both(name, call), list(call.args))
    else:
        check_no_gradient(both(name, call)[0], list(call.args))


# The standard's own names of arguments, as far as they can be given by name.
STANDARD = {
    "all": "x axis keepdims",
    "any": "x axis keepdims",
    "arange": "start stop step dtype",
    "argmax": "x axis keepdims",
    "argmin": "x axis keepdims",
    "argsort": "x axis descending stable",
    "asarray": "obj dtype copy",
    "astype": "x dtype",
    "broadcast_to": "x shape",
    "clip": "x min max",
    "concat": "arrays axis",
    "cumulative_prod": "x axis",
    "cumulative_sum": "x axis",
    "expand_dims": "x axis",
    "eye": "n_rows n_cols k dtype",
    "flip": "x axis",
    "full": "shape fill_value dtype",
    "full_like": "x fill_value dtype",
    "linspace": "start stop num dtype endpoint",
    "matmul": "x1 x2",
    "max": "x axis keepdims",
    "mean": "x axis keepdims",
    "min": "x axis keepdims",
    "moveaxis": "x source destination",
    "ones": "shape dtype",
    "ones_like": "x dtype",
    "permute_dims": "x axes",
    "prod": "x axis dtype keepdims",
    "repeat": "x repeats axis",
    "reshape": "x shape",
    "roll": "x shift axis",
    "sort": "x axis descending stable",
    "squeeze": "x axis",
    "stack": "arrays axis",
    "std": "x axis correction keepdims",
    "sum": "x axis dtype keepdims",
    "take": "x indices axis",
    "tensordot": "x1 x2 axes",
    "tile": "x repetitions",
    "unstack": "x axis",
    "var": "x axis correction keepdims",
    "vecdot": "x1 x2 axis",
    "where": "condition x1 x2",
    "zeros": "shape dtype",
    "zeros_like": "x dtype",
    "linalg.matrix_norm": "x keepdims ord",
    "linalg.vector_norm": "x axis keepdims ord",
    "linalg.diagonal": "x offset",
    "linalg.trace": "x offset",
}
# These arguments are positional only in the standard, so that their names are anybody's.
POSITIONAL_ONLY = {"x", "x1", "x2", "start", "n_rows", "arrays", "obj", "condition", "source", "destination"}


@pytest.mark.parametrize("name", STANDARD)
def test_arguments_have_the_standards_names(name):
    parameters = set(inspect.signature(lookup(gnp, name)).parameters)
    assert set(STANDARD[name].split()) - POSITIONAL_ONLY <= parameters


@pytest.mark.parametrize(
    "make",
    [
        lambda: gnp.asarray([0.0]) + gt.Variable([1.5], dtype="float64"),
        lambda: gnp.asarray([gt.constant(1.5), gt.constant(2.5)]),
        lambda: gnp.asarray(gt.Variable([1.5])),
    ],
)
def test_asarray_keeps_the_tape(make):
    with gt.GradientTape() as tape:
        x = gt.constant(2.0)
        tape.watch(x)
        y = gnp.asarray([x, 3.0 * x])
    assert float(tape.gradient(y, x)) == 4.0
    assert isinstance(make(), gt.Tensor)


def test_errors_are_specific():
    with pytest.raises(ValueError, match="axis"):
        gnp.cumulative_sum(A)
    with pytest.raises(gt.errors.AxisError):
        gnp.sum(A, axis=2)
    with pytest.raises(ValueError, match="axis"):
        gnp.moveaxis(A, 0, 5)
    with pytest.raises((gt.errors.AxisError, gt.errors.ShapeError)):
        gnp.swapaxes(A, 0, 2)


# -- NumPy's own functions, called on tensors ----------------------------------------------------------------

THROUGH_UFUNCS = {
    np.absolute: [(A,)],
    np.add: [(A, B), (A, B[0])],
    np.arccos: [(SMALL,)],
    np.arccosh: [(POSITIVE + 1,)],
    np.arcsin: [(SMALL,)],
    np.arcsinh: [(A,)],
    np.arctan: [(A,)],
    np.arctan2: [(A, B)],
    np.arctanh: [(SMALL,)],
    np.conjugate: [(A,)],
    np.cos: [(A,)],
    np.cosh: [(A,)],
    np.divide: [(A, B), (A, 2.0)],
    np.exp: [(A,)],
    np.expm1: [(A,)],
    np.fabs: [(A,)],
    np.float_power: [(POSITIVE, B), (POSITIVE, 2)],
    np.log: [(POSITIVE,)],
    np.log1p: [(POSITIVE,)],
    np.matmul: [(A, SQUARE), (STACK, STACK)],
    np.maximum: [(A, B), (A, 0.2)],
    np.minimum: [(A, B), (A, 0.2)],
    np.multiply: [(A, B)],
    np.negative: [(A,)],
    np.positive: [(A,)],
    np.power: [(POSITIVE, B), (A, 2), (A, 3)],
    np.reciprocal: [(POSITIVE,)],
    np.remainder: [(A, B + 0.01)],
    np.sin: [(A,)],
    np.sinh: [(A,)],
    np.sqrt: [(POSITIVE,)],
    np.square: [(A,)],
    np.subtract: [(A, B), (1.0, A)],
    np.tan: [(A,)],
    np.tanh: [(A,)],
    np.vecdot: [(A, B)],
}
FLAT_UFUNCS = {
    np.bitwise_and: [(I, J)],
    np.bitwise_or: [(I, J)],
    np.bitwise_xor: [(I, J)],
    np.invert: [(I,), (TRUTH,)],
    np.ceil: [(A,)],
    np.equal: [(A, B), (A, A)],
    np.floor: [(A,)],
    np.floor_divide: [(A, B)],
    np.greater: [(A, B)],
    np.greater_equal: [(A, A)],
    np.isfinite: [(WITH_NAN,)],
    np.isinf: [(WITH_NAN,)],
    np.isnan: [(WITH_NAN,)],
    np.less: [(A, B)],
    np.less_equal: [(A, A)],
    np.logical_and: [(TRUTH, ~TRUTH)],
    np.logical_not: [(TRUTH,)],
    np.logical_or: [(TRUTH, ~TRUTH)],
    np.logical_xor: [(TRUTH, ~TRUTH)],
    np.not_equal: [(A, B)],
    np.rint: [(A,)],
    np.sign: [(A,)],
}

THROUGH_FUNCTIONS = {
    np.amax: [Call(A, axis=0)],
    np.amin: [Call(A, axis=0)],
    np.around: [],
    np.astype: [Call(A, np.float64)],
    np.broadcast_to: [Call(A, (4, 2, 3)), Call(A, shape=(1, 2, 3))],
    np.clip: [Call(A, -0.5, 1.0), Call(A, None, 0.7), Call(A, a_min=0.1, a_max=1.2), Call(A, min=0.1)],
    np.broadcast_arrays: [Call(A, B[0])],
    np.concatenate: [
        Call([A, B]),
        Call([A, B], 1),
        Call([A, B], axis=1),
        Call([A, B[0]], axis=None),
    ],
    np.cumulative_prod: [Call(A, axis=1), Call(A[0])],
    np.cumulative_sum: [Call(A, axis=1), Call(A[0])],
    np.linalg.outer: [Call(A[0], A[1])],
    np.linalg.vecdot: [Call(A, B), Call(A, B, axis=0)],
    np.cumprod: [Call(A), Call(A, 0), Call(A, axis=1)],
    np.cumsum: [Call(A), Call(A, 0), Call(A, axis=1)],
    np.diag: [Call(A[0]), Call(SQUARE), Call(SQUARE, 1), Call(A[0], k=-1), Call(A, k=1)],
    np.diagonal: [
        Call(SQUARE),
        Call(SQUARE, 1),
        Call(A, offset=-1),
        Call(CUBE),
        Call(CUBE, 1, axis1=2, axis2=0),
    ],
    np.dot: [
        Call(A, SQUARE),
        Call(A[0], A[1]),
        Call(A, B[0]),
        Call(A, 2.0),
        Call(CUBE, CUBE.transpose(0, 2, 1)),
        Call(np.float64(2.0), A),
    ],
    np.einsum: [Call("ij,kj->ik", A, B), Call("ij->j", A), Call("ij,ij", A, B, optimize=True)],
    np.atleast_1d: [Call(A), Call(A[0])],
    np.atleast_2d: [Call(A), Call(A[0])],
    np.atleast_3d: [Call(A), Call(A[0])],
    np.expand_dims: [Call(A, 1), Call(A, axis=(0, 2))],
    np.flip: [Call(A), Call(A, 0), Call(A, axis=(0, 1))],
    np.linalg.cholesky: [Call(DEFINITE)],
    np.linalg.det: [Call(SQUARE), Call(STACK)],
    np.linalg.diagonal: [Call(STACK)],
    np.linalg.inv: [Call(SQUARE)],
    np.linalg.matmul: [Call(A, SQUARE)],
    np.linalg.matrix_norm: [Call(A), Call(STACK, keepdims=True, ord=1)],
    np.linalg.matrix_transpose: [Call(A)],
    np.linalg.norm: [
        Call(A),
        Call(A[0]),
        Call(A, axis=1),
        Call(A, axis=1, keepdims=True),
        Call(A, 1),
        Call(A, np.inf),
        Call(A, "fro"),
        Call(A[0], 1),
        Call(A[0], 3),
        Call(A[0], np.inf),
        Call(STACK, axis=(1, 2)),
        Call(STACK, ord=1, axis=(0, 2)),
    ],
    np.linalg.slogdet: [Call(SQUARE), Call(STACK)],
    np.linalg.solve: [Call(SQUARE, A.T), Call(SQUARE, A[0])],
    np.linalg.tensordot: [Call(A, SQUARE, axes=1)],
    np.linalg.trace: [Call(STACK), Call(SQUARE, offset=1)],
    np.linalg.vector_norm: [Call(A, axis=1), Call(A, ord=1)],
    np.matrix_transpose: [Call(A)],
    np.max: [Call(A), Call(A, 1), Call(A, axis=0, keepdims=True)],
    np.mean: [
        Call(A),
        Call(A, 1),
        Call(A, axis=(0, 1)),
        Call(A, axis=0, keepdims=True),
        Call(A, dtype="float64"),
    ],
    np.min: [Call(A), Call(A, 1), Call(A, axis=0, keepdims=True)],
    np.moveaxis: [Call(CUBE, 0, -1), Call(CUBE, [0, 1], [1, 2])],
    np.outer: [Call(A[0], A[1]), Call(A, B[0])],
    np.pad: [
        Call(A, 1),
        Call(A, (1, 2)),
        Call(A, ((1, 0), (0, 2)), constant_values=3.0),
        Call(A, 1, mode="reflect"),
        Call(A, ((1, 1), (2, 0)), "symmetric"),
    ],
    np.prod: [Call(A), Call(A, 1), Call(A, axis=0, keepdims=True)],
    np.ravel: [Call(A), Call(CUBE)],
    np.real: [Call(A)],
    np.repeat: [Call(A, 2), Call(A, 2, 0), Call(A, repeats=[1, 2], axis=0)],
    np.reshape: [Call(A, (3, 2)), Call(A, -1), Call(A, shape=(6,))],
    np.roll: [Call(A, 1), Call(A, 1, 1), Call(A, (1, 2), axis=(0, 1))],
    np.sort: [Call(A), Call(A, 0), Call(A, axis=None), Call(A, stable=True)],
    np.split: [
        Call(A, 3, 1),
        Call(A, 2),
        Call(A, [1], axis=1),
        Call(A, [1, 2], axis=-1),
        Call(CUBE, (1, 3), axis=2),
    ],
    np.squeeze: [Call(A[None]), Call(A[None], 0), Call(A[None, :, None], axis=(0, 2))],
    np.stack: [Call([A, B]), Call([A, B], 1), Call([A, B], axis=-1)],
    np.std: [Call(A), Call(A, 1), Call(A, axis=0, ddof=1, keepdims=True), Call(A, correction=1)],
    np.sum: [
        Call(A),
        Call(A, 1),
        Call(A, axis=(0, 1)),
        Call(A, axis=0, keepdims=True),
        Call(A, dtype="float64"),
    ],
    np.swapaxes: [Call(CUBE, 0, 2)],
    np.take: [Call(A, np.array([2, 0]), 1), Call(A, np.array([5, -1])), Call(A, 1, axis=0)],
    np.tensordot: [Call(A, B), Call(A, SQUARE, 1), Call(A, B, axes=2), Call(A, CUBE, axes=([0, 1], [0, 1]))],
    np.tile: [Call(A, 2), Call(A, (2, 1)), Call(A, reps=(3, 1, 2))],
    np.trace: [
        Call(SQUARE),
        Call(SQUARE, 1),
        Call(SQUARE, offset=-1),
        Call(CUBE),
        Call(CUBE, axis1=1, axis2=2),
    ],
    np.transpose: [Call(A), Call(CUBE, (1, 2, 0)), Call(CUBE, axes=(2, 0, 1))],
    np.var: [Call(A), Call(A, 1), Call(A, axis=0, ddof=1, keepdims=True)],
    np.where: [Call(TRUTH, A, B), Call(TRUTH, A, 0.0)],
}
if hasattr(np, "unstack"):
    THROUGH_FUNCTIONS[np.unstack] = [Call(A), Call(A, axis=1)]
FLAT_FUNCTIONS = {
    np.all: [Call(A), Call(TRUTH, 0), Call(TRUTH, axis=1, keepdims=True)],
    np.allclose: [Call(A, A), Call(A, B), Call(A, A + 1e-3, atol=1e-2)],
    np.angle: [Call(A), Call(COMPLEX), Call(COMPLEX, deg=True)],
    np.any: [Call(A), Call(TRUTH, 0), Call(TRUTH, axis=1, keepdims=True)],
    np.argmax: [Call(A), Call(A, 1), Call(A, axis=0, keepdims=True)],
    np.argmin: [Call(A), Call(A, 1), Call(A, axis=0, keepdims=True)],
    np.argsort: [Call(A), Call(A, 0), Call(A, axis=None), Call(A, stable=True)],
    np.array2string: [Call(A), Call(A, precision=1)],
    np.array_equal: [Call(A, A), Call(A, B)],
    np.array_repr: [Call(A)],
    np.array_str: [Call(A)],
    np.can_cast: [],  # takes dtypes and Python numbers only
    np.full_like: [Call(A, 2.0), Call(I, 7), Call(A, 2, dtype="float32")],
    np.imag: [Call(A), Call(COMPLEX)],
    np.iscomplexobj: [Call(A), Call(COMPLEX)],
    np.isclose: [Call(A, A), Call(A, B)],
    np.isrealobj: [Call(A), Call(COMPLEX)],
    np.ndim: [Call(A)],
    np.nonzero: [Call(A - 0.5), Call(TRUTH)],
    np.ones_like: [Call(A), Call(A, dtype="float32"), Call(A, "int64")],
    np.result_type: [Call(A, np.float32(1.0)), Call(I, A)],
    np.round: [Call(A), Call(A * 10, 0), Call(A / 3, 1), Call(A / 3, decimals=2)],
    np.shape: [Call(A), Call(CUBE)],
    np.size: [Call(A), Call(A, 1)],
    np.zeros_like: [Call(A), Call(A, dtype="float32"), Call(A, "int64")],
}


def wrapped(args):
    """Every array of two or more numbers in the arguments as a tensor."""
    return [
        wrapped(x) if isinstance(x, list) and any(isinstance(y, np.ndarray) for y in x) else as_tensor(x)
        for x in args
    ]


def as_tensor(x):
    return gt.constant(x) if isinstance(x, (np.ndarray, np.float64)) and x.dtype.kind in "fbic" else x


def as_calls(table):
    found = {}
    for f, args in table.items():
        name = ("linalg." if "linalg" in (f.__module__ or "") else "") + f.__name__
        found[name] = f, [x if isinstance(x, Call) else Call(*x) for x in args]
    return [
        pytest.param(f, call, id=f"{name}-{i}")
        for name, (f, some) in found.items()
        for i, call in enumerate(some)
    ]


def test_every_entry_of_the_tables_is_called_here():
    assert set(UFUNCS) == {*THROUGH_UFUNCS, *FLAT_UFUNCS}
    missing = {f.__name__ for f in set(FUNCTIONS) - {*THROUGH_FUNCTIONS, *FLAT_FUNCTIONS}}
    assert not missing
    gone = {f.__name__ for f in {*THROUGH_FUNCTIONS, *FLAT_FUNCTIONS} - set(FUNCTIONS)}
    assert not gone


@pytest.mark.parametrize(
    ("f", "call"),
    as_calls(THROUGH_UFUNCS) + as_calls(FLAT_UFUNCS) + as_calls(THROUGH_FUNCTIONS) + as_calls(FLAT_FUNCTIONS),
)
def test_numpys_functions_give_what_they_give_on_arrays(f, call):
    want = f(*call.args, **call.keywords)
    got = f(*wrapped(call.args), **call.keywords)
    if isinstance(want, (str, np.dtype, bool)) or f is np.shape:
        assert got == want
    else:
        assert_same(got, want)
    if f in THROUGH_UFUNCS or f in THROUGH_FUNCTIONS:
        assert all(isinstance(part, gt.Tensor) for part in leaves(got))


@pytest.mark.parametrize(("f", "call"), as_calls(THROUGH_UFUNCS) + as_calls(THROUGH_FUNCTIONS))
def test_numpys_functions_are_recorded(f, call):
    def called(*args):
        return f(*args, **call.keywords)

    reference = cholesky_of_the_symmetric_part if f is np.linalg.cholesky else called
    check_gradients(called, reference, list(call.args))


@pytest.mark.parametrize(("f", "call"), as_calls(FLAT_UFUNCS) + as_calls(FLAT_FUNCTIONS))
def test_numpys_functions_without_a_derivative_give_none(f, call):
    check_no_gradient(lambda *args: f(*args, **call.keywords), list(call.args))


@pytest.mark.parametrize("f", [np.abs, np.conj, np.real, np.exp, np.sin, np.sqrt, np.square, np.linalg.norm])
def test_numpys_functions_take_complex_tensors(f):
    assert_same(f(gt.constant(COMPLEX)), f(COMPLEX))


@pytest.mark.parametrize("dtype", ["float16", "float32", "int64"])
@pytest.mark.parametrize(
    "f", [np.add, np.multiply, np.subtract, np.maximum, np.divide, np.sum, np.mean, np.abs]
)
def test_numpys_functions_keep_numpys_dtypes(f, dtype):
    x = np.array([1, 2, 3], dtype)
    args = (x,) if f in (np.sum, np.mean, np.abs) else (x, x)
    assert f(*wrapped(args)).dtype == f(*args).dtype


def test_where_of_a_condition_alone_finds_its_places():
    assert_same(np.where(gt.constant(TRUTH)), np.where(TRUTH))


def test_options_given_their_defaults_are_taken():
    t = gt.constant(A)
    assert_same(np.sum(t, axis=None, out=None), A.sum())
    assert_same(np.clip(t, 0.0, 1.0, out=None), A.clip(0, 1))
