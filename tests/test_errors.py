"""What goes wrong is said: the op, what it got, the remedy; and nothing is left half-recorded."""

import inspect
import math
import traceback

import numpy as np
import pytest

import gradtape as gt
import gradtape.numpy as gnp
from gradtape.errors import (
    ArgumentError,
    AxisError,
    DTypeError,
    NotATensorError,
    ShapeError,
    StructureError,
    UnsupportedFunctionError,
)
from gradtape.extending import Array, TensorLike
from gradtape.ops import op as declaring
from gradtape.optimizers import SGD, Adam


def ones(*shape, dtype="float32"):
    return gt.ones(shape, dtype)


@pytest.fixture
def mystery():
    """An op without a derivative rule, for the length of a test."""

    def mystery(x: "gt.Tensor") -> "gt.Tensor":
        return np.negative(x)

    mystery.__annotations__ = {"x": "TensorLike", "return": "Array"}
    yield declaring.op(samples=[declaring.Sample((2,))])(mystery)
    del declaring.REGISTRY["mystery"]


# -- the types -----------------------------------------------------------------------------------------------


def test_every_error_is_one_of_pythons_kinds_and_documented():
    found = [
        e for _, e in inspect.getmembers(gt.errors, inspect.isclass) if e.__module__ == gt.errors.__name__
    ]
    assert len(found) >= 5
    for error in found:
        assert issubclass(error, (ValueError, TypeError, LookupError, RuntimeError, ArithmeticError)), error
        assert error.__doc__
        assert error.__name__.endswith("Error")


# -- shapes --------------------------------------------------------------------------------------------------

MISFITS = {
    "add": (lambda: gt.add(ones(2), ones(3)), ["(2,)", "(3,)", "float32"]),
    "multiply": (lambda: ones(2, 3) * np.ones((2, 2)), ["(2, 3)", "(2, 2)", "float32", "float64"]),
    "divide": (lambda: np.ones((4, 2)) / ones(3), ["(4, 2)", "(3,)"]),
    "pow": (lambda: ones(2) ** [1.0, 2.0, 3.0], ["(2,)", "(3,)"]),
    "maximum": (lambda: gt.maximum(ones(2), ones(5)), ["(2,)", "(5,)"]),
    "less": (lambda: ones(2) < ones(3), ["(2,)", "(3,)"]),
    "where": (lambda: gt.where(ones(2) > 0.0, ones(3), 0.0), ["(2,)", "(3,)"]),
    "matmul": (lambda: ones(2, 3) @ ones(2, 3), ["(2, 3)", "float32"]),
    "matvec": (lambda: gt.linalg.matvec(ones(2, 3), ones(2)), ["(2, 3)", "(2,)"]),
    "tensordot": (lambda: gt.tensordot(ones(2, 3), ones(2, 3), 1), ["(2, 3)"]),
    "einsum": (lambda: gt.einsum("ij,jk->ik", ones(2, 3), ones(2, 3)), ["(2, 3)"]),
    "concat": (lambda: gt.concat([ones(2, 3), ones(2, 2)], 0), ["(2, 3)", "(2, 2)"]),
    "stack": (lambda: gt.stack([ones(2), ones(3)]), ["(2,)", "(3,)"]),
    "reshape": (lambda: gt.reshape(ones(2, 3), (4, 2)), ["(2, 3)", "(4, 2)"]),
    "broadcast_to": (lambda: gt.broadcast_to(ones(2, 3), (3, 3)), ["(2, 3)", "(3, 3)"]),
    "split": (lambda: gt.split(ones(5), 2), ["(5,)"]),
    "squeeze": (lambda: gt.squeeze(ones(2, 3), 0), ["(2, 3)"]),
    "pad": (lambda: gt.pad(ones(2, 3), [[1, 1]]), ["(2, 2)", "((1, 1),)"]),
    "solve": (lambda: gt.linalg.solve(ones(2, 3), ones(2, 1)), ["(2, 3)"]),
    "inv": (lambda: gt.linalg.inv(ones(2, 3)), ["(2, 3)"]),
    "cholesky": (lambda: gt.linalg.cholesky(ones(3)), ["(3,)"]),
    "bias_add": (lambda: gt.nn.bias_add(ones(2, 3), ones(2)), ["(2, 3)", "(2,)"]),
    "sparse_softmax_cross_entropy_with_logits": (
        lambda: gt.nn.sparse_softmax_cross_entropy_with_logits(labels=[0, 1, 2], logits=ones(2, 3)),
        ["(2, 3)", "(3,)"],
    ),
    "boolean_mask": (lambda: gt.boolean_mask(ones(3), [True, False]), ["(3,)", "(2,)"]),
    "setitem": (lambda: ones(3).__setitem__(slice(0, 2), [1.0, 2.0, 3.0]), ["(3,)"]),
}


@pytest.mark.parametrize(("name", "call", "parts"), [(k, *v) for k, v in MISFITS.items()], ids=MISFITS.keys())
def test_shapes_that_do_not_fit_are_named_with_the_op(name, call, parts):
    with pytest.raises(ValueError, match=name) as caught:
        call()
    assert type(caught.value).__module__ == "gradtape.errors"
    message = str(caught.value)
    for part in parts:
        assert part.replace(" ", "") in message.replace(" ", ""), message


# -- axes ----------------------------------------------------------------------------------------------------

WRONG_AXES = {
    "reduce_sum": lambda x: gt.reduce_sum(x, axis=7),
    "reduce_mean": lambda x: gt.reduce_mean(x, axis=-7),
    "reduce_max": lambda x: gt.reduce_max(x, axis=[0, 7]),
    "reduce_prod": lambda x: gt.reduce_prod(x, axis=7),
    "reduce_logsumexp": lambda x: gt.reduce_logsumexp(x, axis=7),
    "reduce_any": lambda x: gt.reduce_any(x > 0.0, axis=7),
    "cumsum": lambda x: gt.cumsum(x, axis=7),
    "argmax": lambda x: gt.argmax(x, axis=7),
    "concat": lambda x: gt.concat([x, x], axis=7),
    "stack": lambda x: gt.stack([x, x], axis=7),
    "unstack": lambda x: gt.unstack(x, axis=7),
    "split": lambda x: gt.split(x, 2, axis=7),
    "expand_dims": lambda x: gt.expand_dims(x, 7),
    "squeeze": lambda x: gt.squeeze(x, 7),
    "reverse": lambda x: gt.reverse(x, [7]),
    "roll": lambda x: gt.roll(x, 1, 7),
    "repeat": lambda x: gt.repeat(x, 2, axis=7),
    "gather": lambda x: gt.gather(x, [0], axis=7),
    "sort": lambda x: gt.sort(x, axis=7),
    "softmax": lambda x: gt.nn.softmax(x, axis=7),
    "log_softmax": lambda x: gt.nn.log_softmax(x, axis=7),
    "transpose": lambda x: gt.transpose(x, [0, 7]),
}


@pytest.mark.parametrize(("name", "call"), WRONG_AXES.items(), ids=WRONG_AXES.keys())
def test_a_wrong_axis_is_named_with_the_op(name, call):
    with pytest.raises(ValueError, match=rf"\b{name}\b") as caught:
        call(ones(2, 4))
    assert type(caught.value).__module__ == "gradtape.errors"
    message = str(caught.value)
    assert "7" in message, message
    assert "(2, 4)" in message, message


@pytest.mark.parametrize("name", ["reduce_sum", "reduce_max", "argmax", "expand_dims"])
def test_a_wrong_axis_is_an_axis_error(name):
    with pytest.raises(gt.errors.AxisError):
        WRONG_AXES[name](ones(2, 4))


# -- indices -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t[5],
        lambda t: t[-6],
        lambda t: t[0, 0],
        lambda t: t[[0, 9]],
        lambda t: t[np.array([True, False])],
        lambda t: gt.gather(t, [0, 9]),
        lambda t: gt.gather_nd(t, [[9]]),
    ],
    ids=["t[5]", "t[-6]", "t[0, 0]", "t[[0, 9]]", "t[mask]", "gather", "gather_nd"],
)
def test_an_index_outside_is_an_index_error_that_names_the_length(call):
    with pytest.raises(IndexError, match=r"\(5,\)|length 5") as caught:
        call(ones(5))
    assert type(caught.value).__module__ == "gradtape.errors"
    with pytest.raises(IndexError):
        call(gt.Variable(np.ones(5)))


@pytest.mark.parametrize("index", ["a", 1.5, {}, gt.constant(1.0)], ids=repr)
def test_what_is_no_index_is_refused(index):
    with pytest.raises((IndexError, TypeError)) as caught:
        ones(5)[index]
    assert type(caught.value).__module__ == "gradtape.errors"


# -- dtypes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda: gt.constant(1.0, dtype="float33"),
        lambda: gt.cast(ones(2), "float33"),
        lambda: gt.zeros((2,), "float33"),
        lambda: gt.ones((2,), dtype="float33"),
        lambda: gt.Variable(1.0, dtype="float33"),
        lambda: gt.convert_to_tensor(1.0, dtype="float33"),
        lambda: gt.eye(2, dtype="float33"),
        lambda: gt.random.normal((2,), dtype="float33"),
    ],
    ids=["constant", "cast", "zeros", "ones", "Variable", "convert_to_tensor", "eye", "normal"],
)
def test_an_unknown_dtype_is_named(call):
    with pytest.raises(TypeError, match="float33") as caught:
        call()
    assert type(caught.value).__module__ == "gradtape.errors"


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("floor", lambda: gt.floor(gt.constant(1j))),
        ("negative", lambda: -gt.constant(True)),
        ("subtract", lambda: gt.constant([True]) - gt.constant([False])),
        ("lgamma", lambda: gt.math.lgamma(gt.constant(1j))),
        ("mod", lambda: gt.constant(1j) % 2.0),
    ],
)
def test_a_dtype_that_an_op_cannot_take_is_named_with_the_op(name, call):
    with pytest.raises(TypeError, match=name) as caught:
        call()
    assert type(caught.value).__module__ == "gradtape.errors"
    assert "complex128" in str(caught.value) or "bool" in str(caught.value)


@pytest.mark.parametrize("stranger", ["a", None, object(), {"a": 1}], ids=repr)
def test_operands_that_are_no_numbers_are_type_errors(stranger):
    for call in (gt.add, gt.matmul, gt.maximum):
        with pytest.raises(TypeError):
            call(ones(2), stranger)
    for call in (gt.exp, gt.reduce_sum, gt.transpose):
        with pytest.raises(TypeError):
            call(stranger)


# -- numbers that do not work out ----------------------------------------------------------------------------


def test_matrices_that_cannot_be_decomposed():
    for name, call in [
        ("inv", lambda: gt.linalg.inv(gt.zeros((2, 2)))),
        ("solve", lambda: gt.linalg.solve(gt.zeros((2, 2)), ones(2, 1))),
        ("cholesky", lambda: gt.linalg.cholesky(-gt.eye(2))),
    ]:
        with pytest.raises(ValueError, match=name) as caught:
            call()
        assert type(caught.value) is gt.errors.LinearAlgebraError
        assert "(2, 2)" in str(caught.value)


# -- how ops are called --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("reduce_sum", lambda: gt.reduce_sum(ones(2), axes=0)),
        ("reduce_sum", lambda: gt.reduce_sum()),
        ("transpose", lambda: gt.transpose(ones(2), [0], False, "name", 5)),
        ("matmul", lambda: gt.matmul(ones(2, 2))),
        ("reshape", lambda: gt.reshape(ones(2), (2,), shape=(2,))),
        ("add", lambda: gt.add(ones(2))),
        ("concat", lambda: gt.concat()),
    ],
)
def test_arguments_that_do_not_fit_are_type_errors_that_name_the_op(name, call):
    with pytest.raises(TypeError, match=name):
        call()


def test_every_op_takes_a_name():
    x = gt.constant([1.0, 4.0])
    for y in (
        gt.sqrt(x, name="s"),
        gt.add(x, x, name="s"),
        gt.reduce_sum(x, name="s"),
        gt.concat([x], 0, name="s"),
    ):
        assert isinstance(y, gt.Tensor)


# -- what is asked of functions ------------------------------------------------------------------------------


def square(x):
    return gt.reduce_sum(x * x)


def with_a_rule(f):
    ruled = gt.custom_jvp(f)
    ruled.defjvp(lambda primals, tangents: (primals[0], tangents[0]))
    return ruled


def one_result(returned):
    return gt.numpy_function(lambda x: returned, [ones(2)], "float32")


MISUSES = {
    "sort": (lambda: gt.sort(ones(2), direction="up"), ArgumentError, ["sort", "'up'", "'ASCENDING'"]),
    "pad, mode": (
        lambda: gt.pad(ones(2), [[1, 1]], mode="EDGE"),
        ArgumentError,
        ["pad", "'EDGE'", "'REFLECT'"],
    ),
    "pad, no mode": (lambda: gt.pad(ones(2), [[1, 1]], mode=None), ArgumentError, ["pad", "None"]),
    "bias_add": (
        lambda: gt.nn.bias_add(ones(2, 3), ones(3), data_format=3),
        ArgumentError,
        ["bias_add", "3", "'N...C'"],
    ),
    "where": (lambda: gt.where([True], 1.0), ArgumentError, ["where", "both"]),
    "boolean_mask": (
        lambda: gt.boolean_mask(ones(2), [True, False], axis="a"),
        ArgumentError,
        ["boolean_mask: axis", "'a'", "integer"],
    ),
    "norm, ord": (lambda: gt.norm(ones(2), ord="l2"), ArgumentError, ["norm", "'l2'", "'euclidean'"]),
    "norm, no ord": (lambda: gt.norm(ones(2), ord=None), ArgumentError, ["norm: ord", "None"]),
    "norm, axis": (lambda: gt.norm(ones(2), axis=0.5), AxisError, ["norm", "axis", "0.5"]),
    "clip_by_norm": (lambda: gt.clip_by_norm(ones(2), 1.0, axes=0.5), AxisError, ["clip_by_norm"]),
    "global_norm": (
        lambda: gt.linalg.global_norm(ones()),
        ArgumentError,
        ["global_norm", "list", "float32()"],
    ),
    "clip_by_global_norm": (
        lambda: gt.clip_by_global_norm(None, 1.0),
        ArgumentError,
        ["clip_by_global_norm", "list", "None"],
    ),
    "dropout, rate": (lambda: gt.nn.dropout(ones(2), 1.5), ArgumentError, ["dropout", "1.5", "less than 1"]),
    "dropout, text": (lambda: gt.nn.dropout(ones(2), "a"), ArgumentError, ["dropout: rate", "'a'"]),
    "dropout, shape": (
        lambda: gt.nn.dropout(ones(2), 0.5, noise_shape=2),
        ArgumentError,
        ["noise_shape", "2"],
    ),
    "dropout, lengths": (
        lambda: gt.nn.dropout(ones(2), 0.5, noise_shape=["a"]),
        ArgumentError,
        ["dropout: noise_shape", "'a'"],
    ),
    "dropout, seed": (
        lambda: gt.nn.dropout(ones(2), 0.5, seed="a"),
        ArgumentError,
        ["random", "seed", "'a'"],
    ),
    "einsum": (lambda: gt.einsum(ones(2), "i->i"), ArgumentError, ["einsum", "'ij,jk->ik'", "Tensor"]),
    "einsum, optimize": (
        lambda: gt.einsum("i->i", ones(2), optimize=[1]),
        ArgumentError,
        ["einsum", "optimize=[1]", "'greedy'"],
    ),
    "gather": (lambda: gt.gather(ones(3), None), DTypeError, ["gather", "not None", "float32(3,), None"]),
    "segment_sum": (lambda: gt.math.segment_sum(ones(3), None), DTypeError, ["segment_sum", "not None"]),
    "stack, one": (lambda: gt.stack(ones()), NotATensorError, ["stack", "list", "shape ()"]),
    "stack, shapes": (lambda: gt.stack([ones(2), ones(3)]), ShapeError, ["stack", "(2,)", "(3,)", "pad"]),
    "squeeze": (lambda: gt.squeeze(ones(2, 1), 0), ShapeError, ["squeeze", "(2, 1), axis=0", "length 1"]),
    "broadcast_to": (
        lambda: gt.broadcast_to(ones(3), (2, 2)),
        ShapeError,
        ["broadcast_to", "does not broadcast", "float32(3,), shape=(2, 2)"],
    ),
    "transpose": (lambda: gt.transpose(ones(2, 3), [0, 0]), AxisError, ["transpose", "perm=(0, 0)", "once"]),
    "reduce_sum": (
        lambda: gt.reduce_sum(ones(2, 3), [0, 0]),
        AxisError,
        ["reduce_sum", "axis=(0, 0)", "once"],
    ),
    "argmax": (lambda: gt.argmax(ones(2), axis="a"), DTypeError, ["argmax", "axis='a'", "integers"]),
    "cast": (lambda: gt.cast(ones(2), "real"), DTypeError, ["cast", "'real'", "'float32'"]),
    "bitwise": (lambda: ~ones(2), DTypeError, ["bitwise_invert", "not defined", "float32(2,)"]),
    "index": (lambda: ones(2)["a"], DTypeError, ["getitem", "str", "'a'", "slices"]),
    "setitem": (lambda: gt.ones(2).__setitem__(0, "a"), DTypeError, ["setitem: ", "'a'"]),
    "softmax": (
        lambda: gt.nn.softmax_cross_entropy_with_logits([[1.0], [1.0, 0.0]], ones(2, 2)),
        ShapeError,
        ["softmax_cross_entropy_with_logits", "equal length"],
    ),
    "diag": (lambda: gt.linalg.diag(ones(2), padding_value=None), DTypeError, ["diag: ", "None"]),
    "random, shape": (lambda: gt.random.normal([-1]), ShapeError, ["random", "[-1]"]),
    "random, mean": (lambda: gt.random.normal([2], mean="a"), DTypeError, ["random", "'a'"]),
    "random, None": (lambda: gt.random.uniform([2], None), DTypeError, ["random", "None"]),
    "random, seed": (
        lambda: gt.random.uniform([2], seed=0.5),
        ArgumentError,
        ["random.uniform: seed", "0.5"],
    ),
    "random, integers": (
        lambda: gt.random.uniform([2], dtype="int32"),
        ArgumentError,
        ["random.uniform", "maxval", "int32"],
    ),
    "random, bounds": (
        lambda: gt.random.uniform([2], [0, 0, 0], 9, dtype="int32"),
        ShapeError,
        ["random", "(2,)", "(3,)"],
    ),
    "set_seed": (lambda: gt.random.set_seed("a"), ArgumentError, ["random.set_seed", "'a'"]),
    "numpy_function": (
        lambda: gt.numpy_function(np.sin, 1.0, "float32"),
        ArgumentError,
        ["numpy_function: inp", "list", "1.0"],
    ),
    "numpy_function, result": (lambda: one_result("a"), DTypeError, ["numpy_function", "returned", "'a'"]),
    "vectorized_map": (
        lambda: gt.vectorized_map(ones(2), square),
        ArgumentError,
        ["vectorized_map", "function"],
    ),
    "vectorized_map, result": (
        lambda: gt.vectorized_map(lambda x: "a", ones(2)),
        DTypeError,
        ["vectorized_map", "'a'"],
    ),
    "TensorSpec": (lambda: gt.TensorSpec(3), ArgumentError, ["TensorSpec: shape", "3", "lengths"]),
    "TensorSpec, no tensor": (
        lambda: gt.TensorSpec([2]).is_compatible_with([1.0, 2.0]),
        NotATensorError,
        ["is_compatible_with", "[1.0, 2.0]"],
    ),
    "TensorSpec, lengths": (lambda: gt.TensorSpec(["a"]), ArgumentError, ["TensorSpec: shape", "'a'"]),
    "IndexedSlices": (
        lambda: gt.IndexedSlices(ones(1, 2), [0], [1.5, 2]),
        ArgumentError,
        ["IndexedSlices: dense_shape", "1.5"],
    ),
    "Module": (lambda: gt.Module(3), ArgumentError, ["Module", "3"]),
    "threads": (lambda: setattr(gt.config, "threads", "a"), ArgumentError, ["config.threads", "'a'"]),
    "threads, none": (
        lambda: setattr(gt.config, "threads", 0),
        ArgumentError,
        ["config.threads", "0", "1024"],
    ),
    "accumulator": (
        lambda: gt.autodiff.ForwardAccumulator([v := ones(2), v], [v, v]),
        ArgumentError,
        ["ForwardAccumulator", "twice"],
    ),
    "defjvp": (lambda: gt.custom_jvp(square).defjvp(None), ArgumentError, ["custom_jvp: square", "rule"]),
    "check_gradients, f": (
        lambda: gt.testing.check_gradients([1.0], square),
        ArgumentError,
        ["check_gradients", "function", "[1.0]"],
    ),
    "check_gradients, args": (
        lambda: gt.testing.check_gradients(square, ones(2)),
        ArgumentError,
        ["check_gradients", "Tensor", "[x]"],
    ),
    "check_gradients, order": (
        lambda: gt.testing.check_gradients(square, [1.0], order="a"),
        ArgumentError,
        ["check_gradients: order", "'a'"],
    ),
    "check_gradients, modes": (
        lambda: gt.testing.check_gradients(square, [1.0], modes=["both"]),
        ArgumentError,
        ["check_gradients", "'both'", "'reverse'"],
    ),
    "check_op": (
        lambda: gt.testing.check_op(square),
        ArgumentError,
        ["check_op", "square", "check_gradients"],
    ),
}

OPTIMIZERS = {
    "momentum": (lambda: SGD(momentum=2.0), ArgumentError, ["SGD: momentum", "2.0", "[0, 1]"]),
    "momentum, text": (lambda: SGD(momentum="a"), ArgumentError, ["SGD: momentum", "'a'"]),
    "beta_1": (lambda: Adam(beta_1=1.0), ArgumentError, ["Adam: beta_1", "1.0", "[0, 1)"]),
    "beta_2": (lambda: Adam(beta_2=None), ArgumentError, ["Adam: beta_2", "None"]),
    "epsilon": (lambda: Adam(epsilon="a"), ArgumentError, ["Adam: epsilon", "'a'"]),
    "clipnorm": (lambda: SGD(clipnorm=-1.0), ArgumentError, ["SGD: clipnorm", "-1.0", "at least 0"]),
    "clipvalue": (lambda: SGD(clipvalue=[1.0]), ArgumentError, ["SGD: clipvalue", "[1.0]"]),
    "weight_decay": (lambda: Adam(weight_decay="a"), ArgumentError, ["Adam: weight_decay", "'a'"]),
    "two": (lambda: SGD(clipnorm=1.0, clipvalue=1.0), ArgumentError, ["SGD", "one of clipnorm"]),
    "rate": (lambda: SGD("fast"), ArgumentError, ["learning_rate", "'fast'", "number"]),
    "schedule": (
        lambda: SGD(lambda step: None).apply_gradients([(ones(2), gt.Variable(ones(2)))]),
        ArgumentError,
        ["learning_rate", "None"],
    ),
    "no list": (lambda: SGD().apply_gradients(None), ArgumentError, ["apply_gradients", "pairs", "None"]),
    "no pairs": (lambda: SGD().apply_gradients([]), ArgumentError, ["apply_gradients", "empty"]),
    "not zipped": (
        lambda: SGD().apply_gradients([ones(2)]),
        StructureError,
        ["apply_gradients", "zip", "Tensor"],
    ),
    "other way": (
        lambda: SGD().apply_gradients([(gt.Variable(1.0), ones())]),
        NotATensorError,
        ["apply_gradients", "Tensor", "gradient comes first"],
    ),
    "other order": (
        lambda: SGD().apply_gradients([(ones(3), gt.Variable(ones(2)))]),
        ShapeError,
        ["apply_gradients", "(2,)", "(3,)", "order"],
    ),
    "no gradient": (
        lambda: SGD().apply_gradients([(None, gt.Variable(1.0))]),
        ArgumentError,
        ["apply_gradients", "Variable:0", "depends on none"],
    ),
}

ARRAY_API = {
    "eye": (lambda: gnp.eye(-1), ShapeError, ["eye", "-1"]),
    "eye, text": (lambda: gnp.eye("a"), ArgumentError, ["eye: n_rows", "'a'"]),
    "arange": (lambda: gnp.arange(None), DTypeError, ["arange", "None"]),
    "linspace": (lambda: gnp.linspace(0.0, 1.0, -1), ArgumentError, ["linspace", "-1"]),
    "full": (lambda: gnp.full(1.5, 0.0), ArgumentError, ["full: shape", "1.5"]),
    "reshape": (lambda: gnp.reshape(ones(2), 1.5), ArgumentError, ["reshape: shape", "1.5"]),
    "asarray": (lambda: gnp.asarray([[1.0], [1.0, 2.0]]), ShapeError, ["equal length"]),
    "moveaxis": (lambda: gnp.moveaxis(ones(2, 3), 0, 7), AxisError, ["moveaxis", "[7]", "(2, 3)"]),
    "moveaxis, count": (lambda: gnp.moveaxis(ones(2, 3), [0, 1], 0), AxisError, ["moveaxis", "2", "1"]),
    "swapaxes": (lambda: gnp.swapaxes(ones(2, 3), 0, "a"), ArgumentError, ["swapaxes: axis", "'a'"]),
    "flip": (lambda: gnp.flip(ones(2), 1.5), ArgumentError, ["flip: axis", "1.5"]),
    "tile": (lambda: gnp.tile(ones(2), None), ArgumentError, ["tile: repetitions", "None"]),
    "concat": (lambda: gnp.concat(ones(), None), ArgumentError, ["concat", "list", "float32()"]),
    "broadcast_arrays": (
        lambda: gnp.broadcast_arrays(ones(2), ones(3)),
        ShapeError,
        ["broadcast_arrays", "float32(2,)", "float32(3,)"],
    ),
    "var": (lambda: gnp.var(ones(2), correction="a"), ArgumentError, ["var: correction", "'a'"]),
    "numpy.outer": (lambda: np.outer(ones(2), None), DTypeError, ["numpy.outer", "None"]),
    "numpy.sort": (
        lambda: np.sort(ones(2), kind="stable"),
        UnsupportedFunctionError,
        ["numpy.sort with a tensor: got an unexpected keyword argument 'kind'"],
    ),
}


@pytest.mark.parametrize(
    ("call", "error", "parts"),
    [
        pytest.param(*row, id=name)
        for table in (MISUSES, OPTIMIZERS, ARRAY_API)
        for name, row in table.items()
    ],
)
def test_a_misuse_is_told_with_the_name_and_what_came(call, error, parts):
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    message = str(caught.value)
    for part in parts:
        assert part in message, message


def test_labels_may_be_plain_integers():
    given = gt.nn.sigmoid_cross_entropy_with_logits(labels=ones(2), logits=1)
    np.testing.assert_allclose(given, np.log1p(np.exp(-1.0)), rtol=1e-6)
    named = gt.nn.softmax_cross_entropy_with_logits(labels=[[0.0, 1.0]], logits=ones(1, 2), axis=None)
    np.testing.assert_allclose(named, np.log(2.0), rtol=1e-6)


@pytest.mark.parametrize("operand", [None, "a", {"a": 1}, object(), [[1.0], [1.0, 2.0]]], ids=type)
def test_operands_that_are_no_numbers_are_told_with_the_op(operand):
    calls = {
        "add": lambda: ones(2) + operand,
        "exp": lambda: gt.exp(operand),
        "relu": lambda: gt.nn.relu(operand),
        "reduce_sum": lambda: gt.reduce_sum(operand),
        "matmul": lambda: gt.matmul(ones(2), operand),
        "stack": lambda: gt.stack([ones(2), operand]),
        "clip_by_value": lambda: gt.clip_by_value(ones(2), operand, 1.0),
        "numpy.dot": lambda: np.dot(ones(2), operand),
    }
    for name, call in calls.items():
        with pytest.raises((DTypeError, ShapeError), match=rf"^{name}: "):
            call()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: gt.identity(), r"identity.*'input'"),
        (lambda: gt.nn.relu(1.0, 2.0, 3.0), r"relu.*features"),
        (lambda: gt.nn.relu(x=1.0), r"relu.*features"),
        (lambda: gt.norm(), r"norm\(\) missing"),
        (lambda: gt.vjp(square)(1.0)[1](), "pullback of square"),
        (lambda: gt.function(square, input_signature=[gt.TensorSpec([])])(y=1.0), "^square: .*'x'"),
        (lambda: with_a_rule(square)(y=1.0), "custom_jvp: square: .*'x'"),
    ],
)
def test_arguments_that_do_not_fit_the_signature_are_type_errors_by_the_public_name(call, words):
    with pytest.raises(TypeError, match=words) as caught:
        call()
    assert type(caught.value) is TypeError


# What an operand or an attribute may be by mistake.
WRONG = [
    *(None, "a", b"a", {"a": 1.0}, {1}, object(), [object()], [None], np.array([None]), np.array(["a"])),
    *(
        1.5,
        -3,
        7,
        True,
        1j,
        math.nan,
        math.inf,
        10**30,
        (),
        [],
        [1.5],
        [7],
        [0, 0],
        [-5, 2],
        [[1, 2], [3, 4]],
    ),
    *([[1.0], [1.0, 2.0]], float, len, slice(0, 2), ..., np.datetime64("2020-01-01"), np.zeros((3, 0))),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name, op in declaring.REGISTRY.items() if op.samples])
def test_no_exception_from_inside_is_shown_for_what_an_op_cannot_take(name):
    op = declaring.REGISTRY[name]
    if not op.call.__module__.startswith("gradtape."):
        pytest.skip("an op of another test")
    rng = np.random.default_rng(0)
    for sample in op.samples[:3]:
        operands = sample.filled([gt.constant(x) for x in sample.draw(rng, op.dtypes[0])])
        parameters = list(inspect.signature(op.call).parameters.values())
        optional = [p.name for p in parameters[len(operands) :] if p.kind is not p.VAR_POSITIONAL]
        for wrong in WRONG:
            for i in range(len(operands)):
                assert not stray(op.call, [*operands[:i], wrong, *operands[i + 1 :]], sample.attributes)
            for attribute in optional:
                assert not stray(op.call, operands, {**sample.attributes, attribute: wrong})


def stray(call, args, keywords):
    """The exception that it raises, if that is none of this package's."""
    try:
        call(*args, **keywords)
    except Exception as problem:
        return None if type(problem).__module__ == "gradtape.errors" else traceback.format_exception(problem)
    return None


# -- what arrays have, and tensors have not ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("sum", "numpy.sum(t, ...)"),
        ("reshape", "numpy.reshape(t, ...)"),
        ("conj", "numpy.conj(t, ...)"),
        ("astype", "gradtape.cast(t, dtype)"),
        ("item", "t.numpy().item()"),
        ("tobytes", "t.numpy().tobytes"),
    ],
)
def test_methods_of_arrays_are_told_with_the_function_to_call(name, remedy):
    for x in (ones(2), gt.Variable([1.0, 2.0])):
        with pytest.raises(AttributeError, match=name) as caught:
            getattr(x, name)
        assert remedy in str(caught.value)
        assert type(x).__name__ in str(caught.value)
        assert not hasattr(x, name)
        assert name not in dir(x)
    assert {"numpy", "shape", "ndim"} <= set(dir(ones(2)))


def test_other_attributes_are_missing_as_python_says():
    with pytest.raises(AttributeError, match=r"^'Tensor' object has no attribute 'gradient'$"):
        ones(2).gradient  # noqa: B018


# -- ops of one's own ----------------------------------------------------------------------------------------


def identity_op(**declaration):
    def own(x: TensorLike) -> Array:
        return x.copy()

    return gt.extending.op(**{"vjp": lambda xp, g: g, **declaration})(own)


def bare(decorator):
    def own(x: TensorLike) -> Array:
        return x.copy()

    return decorator(own)


def declared_twice():
    identity_op()
    identity_op()


@pytest.mark.usefixtures("scratch_registry")
@pytest.mark.parametrize(
    ("declare", "parts"),
    [
        (lambda: identity_op(vjp=3), ["own", "vjp is 3", "tuple of rules"]),
        (lambda: identity_op(vjp=(lambda xp, g: g,) * 2), ["own", "2 rules", "1 parameters"]),
        (lambda: identity_op(vjp=lambda g: g), ["own", "(g)", "(xp, g, ...)"]),
        (lambda: identity_op(vjp=np.sin), ["def or lambda", "sin"]),
        (lambda: identity_op(vjp=lambda xp, g, z: g), ["own", "'z'", "x and out"]),
        (lambda: identity_op(jvp="Linear"), ["own", "jvp is 'Linear'", "LINEAR"]),
        (lambda: identity_op(batch="rows"), ["batch is 'rows'", "LEADING"]),
        (lambda: identity_op(promote=["z"]), ["own", "promote", "'z'", "x"]),
        (lambda: identity_op(rows=3), ["own", "rows is 3", "dict"]),
        (lambda: identity_op(rows={"z": lambda xp, d: d}), ["own", "'z'", "in vjp"]),
        (lambda: bare(gt.extending.op), ["own", "@op(...)", "parentheses"]),
        (lambda: bare(gt.extending.elementwise), ["own", "@elementwise(...)", "forward"]),
        (lambda: bare(gt.extending.composite), ["own", "@composite(...)", "parentheses"]),
        (lambda: gt.extending.elementwise(np.sin, 1.0, 2.0)(lambda x: None), ["2 partial", "operands x"]),
        (lambda: gt.extending.op()(lambda x: x), ["annotated TensorLike"]),
        (lambda: gt.extending.op()(lambda: 1), ["annotated TensorLike"]),
        (declared_twice, ["own", "declared already", "another name"]),
    ],
)
def test_a_declaration_that_does_not_fit_is_refused(declare, parts):
    with pytest.raises(ArgumentError) as caught:
        declare()
    for part in parts:
        assert part in str(caught.value), str(caught.value)


@pytest.mark.usefixtures("scratch_registry")
@pytest.mark.parametrize("returned", [None, 1.5, "a", [1.0], [np.ones(2), None]], ids=repr)
def test_an_own_op_that_returns_no_array_is_told(returned):
    def own(x: TensorLike) -> Array:
        return returned

    declared = gt.extending.op(vjp=lambda xp, g: g)(own)
    with pytest.raises(NotATensorError, match=r"own: its forward returned .*np\.asarray"):
        declared(ones(2))


@pytest.mark.usefixtures("scratch_registry")
def test_what_an_own_op_raises_stays_to_be_seen():
    def own(x: TensorLike, shape: tuple[int, ...]) -> Array:
        return x.reshape(shape)

    declared = gt.extending.op(vjp=lambda xp, g: g)(own)
    with pytest.raises(ShapeError, match=r"^own: cannot reshape.*float32\(2,\), \(3,\)") as caught:
        declared(ones(2), shape=(3,))
    assert "return x.reshape(shape)" in "".join(traceback.format_exception(caught.value))
    with pytest.raises(ShapeError) as caught:  # where it is one of this package's ops, NumPy's is hidden
        gt.reshape(ones(2), (3,))
    assert "np.reshape" not in "".join(traceback.format_exception(caught.value))


# -- gradient ------------------------------------------------------------------------------------------------


def recorded():
    x = gt.constant([1.0, 2.0])
    tape = gt.GradientTape()
    with tape:
        tape.watch(x)
        y = x * x
    return tape, x, y


@pytest.mark.parametrize(
    "thing", [3.0, 3, np.ones(2), np.float32(1), "a", object(), None, [3.0], {"a": None}], ids=repr
)
def test_a_target_that_is_no_tensor(thing):
    tape, x, y = recorded()
    with pytest.raises(TypeError, match="target") as caught:
        tape.gradient(thing, x)
    assert type(caught.value).__module__ == "gradtape.errors"
    with pytest.raises(TypeError, match="target"):
        tape.gradient([y, thing], x)
    np.testing.assert_array_equal(tape.gradient(y, x).numpy(), [2.0, 4.0])


@pytest.mark.parametrize(
    "thing", [3.0, 3, np.ones(2), np.float32(1), "a", object(), None, [3.0], {"a": None}], ids=repr
)
def test_a_source_that_is_no_tensor(thing):
    tape, x, y = recorded()
    with pytest.raises(TypeError, match="source") as caught:
        tape.gradient(y, thing)
    assert type(caught.value).__module__ == "gradtape.errors"
    with pytest.raises(TypeError, match="source"):
        tape.gradient(y, [x, thing])
    np.testing.assert_array_equal(tape.gradient(y, x).numpy(), [2.0, 4.0])


@pytest.mark.parametrize("given", [[[1.0, 2.0, 3.0]], [2.0], [[[1.0], [2.0]]], gt.ones((3,))], ids=repr)
def test_output_gradients_of_another_shape(given):
    tape, x, y = recorded()
    given = given if isinstance(given, gt.Tensor) else gt.constant(given[0])
    with pytest.raises(ValueError, match="output_gradients") as caught:
        tape.gradient(y, x, output_gradients=given)
    assert "(2,)" in str(caught.value)
    assert str(given.shape) in str(caught.value)
    np.testing.assert_array_equal(tape.gradient(y, x).numpy(), [2.0, 4.0])


def test_output_gradients_of_another_dtype():
    tape, x, y = recorded()
    with pytest.raises(TypeError, match=r"output_gradients.*float64.*float32"):
        tape.gradient(y, x, output_gradients=gt.ones((2,), "float64"))
    np.testing.assert_array_equal(tape.gradient(y, x).numpy(), [2.0, 4.0])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_or_too_many_output_gradients(count):
    tape, x, y = recorded()
    with pytest.raises(ValueError, match="output_gradients") as caught:
        tape.gradient([y, y], x, output_gradients=[gt.ones((2,))] * count)
    assert "2" in str(caught.value)
    assert str(count) in str(caught.value)
    np.testing.assert_array_equal(tape.gradient(y, x).numpy(), [2.0, 4.0])


@pytest.mark.parametrize("given", ["a", [object()], [["a"]]], ids=str)
def test_output_gradients_that_are_no_numbers(given):
    tape, x, y = recorded()
    with pytest.raises((TypeError, ValueError)) as caught:
        tape.gradient(y, x, output_gradients=given)
    assert type(caught.value).__module__ == "gradtape.errors"
    np.testing.assert_array_equal(tape.gradient(y, x).numpy(), [2.0, 4.0])


def test_an_op_without_a_derivative_on_the_path(mystery):
    x = gt.constant([1.0, 2.0])
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = mystery(x * x)
        z = x**3
    np.testing.assert_array_equal(y.numpy(), [-1.0, -4.0])
    with pytest.raises(LookupError, match=r"mystery.*stop_gradient") as caught:
        tape.gradient(y, x)
    assert type(caught.value) is gt.errors.NoGradientError
    np.testing.assert_array_equal(tape.gradient(z, x).numpy(), [3.0, 12.0])
    with pytest.raises(LookupError, match="mystery"):
        tape.gradient([z, y], x)


def test_an_op_without_a_derivative_off_the_path_is_no_error(mystery):
    x = gt.constant([1.0, 2.0])
    with gt.GradientTape() as tape:
        tape.watch(x)
        mystery(x)
        y = gt.stop_gradient(mystery(x)) * x
    np.testing.assert_array_equal(tape.gradient(y, x).numpy(), [-1.0, -2.0])


def test_an_op_without_a_derivative_is_no_error_where_no_source_lies_behind_it(mystery):
    x, v = gt.constant([1.0, 2.0]), gt.Variable([3.0, 4.0])
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = mystery(x)
        z = y * v
    np.testing.assert_array_equal(tape.gradient(z, v).numpy(), [-1.0, -2.0])
    np.testing.assert_array_equal(tape.gradient(z, y).numpy(), [3.0, 4.0])
    np.testing.assert_array_equal(tape.gradient(y, y).numpy(), [1.0, 1.0])


def test_an_outer_tape_is_unharmed_by_an_error_in_an_inner_gradient(mystery):
    x = gt.constant([1.0, 2.0])
    with gt.GradientTape() as outer:
        outer.watch(x)
        with gt.GradientTape() as inner:
            inner.watch(x)
            y = mystery(x) * x
        with pytest.raises(LookupError, match="mystery"):
            inner.gradient(y, x)
        z = x**3
    np.testing.assert_array_equal(outer.gradient(z, x).numpy(), [3.0, 12.0])


# -- nothing is left half-recorded ---------------------------------------------------------------------------

FAILURES = {
    "add": lambda x, v: gt.add(x, ones(5)),
    "matmul": lambda x, v: gt.matmul(x, ones(5, 5)),
    "reduce_sum": lambda x, v: gt.reduce_sum(x * v, axis=5),
    "concat": lambda x, v: gt.concat([x, v, ones(3, 3)], 0),
    "getitem": lambda x, v: x[9],
    "reshape": lambda x, v: gt.reshape(v, (7,)),
    "cast": lambda x, v: gt.cast(x, "nope"),
    "split": lambda x, v: gt.split(x, 3),
    "numpy": lambda x, v: np.median(x),
    "operand": lambda x, v: x + "a",
    "assign": lambda x, v: v.assign([1.0, 2.0, 3.0]),
    "assign_add": lambda x, v: v.assign_add(gt.ones((2,), "float64")),
    "setitem": lambda x, v: (x * v).__setitem__(5, 1.0),
    "watched setitem": lambda x, v: x.__setitem__(0, 1.0),
    "composite": lambda x, v: gt.nn.softmax_cross_entropy_with_logits(x, ones(5)),
    "stack": lambda x, v: x * [v, 1.0, v],
    "watch": lambda x, v: gt.GradientTape().watch(3.0),
}


@pytest.mark.parametrize("fail", FAILURES.values(), ids=FAILURES.keys())
def test_after_an_error_in_the_block_the_tape_gives_the_right_gradients(fail):
    x, v = gt.constant([1.0, 2.0]), gt.Variable([3.0, 4.0])
    with gt.GradientTape() as outer:
        outer.watch(x)
        with gt.GradientTape() as inner:
            inner.watch(x)
            y = x * x * v
            with pytest.raises((ValueError, TypeError, LookupError, RuntimeError)):
                fail(x, v)
            z = gt.reduce_sum(y * v)  # x^2 v^2
        dx, dv = inner.gradient(z, [x, v])
    np.testing.assert_array_equal(x.numpy(), [1.0, 2.0])
    np.testing.assert_array_equal(v.numpy(), [3.0, 4.0])
    np.testing.assert_allclose(dx.numpy(), [18.0, 64.0])
    np.testing.assert_allclose(dv.numpy(), [6.0, 32.0])
    hx, hv = outer.gradient([dx, dv], [x, v])  # of 2 x v^2 + 2 x^2 v
    np.testing.assert_allclose(hx.numpy(), [2 * 9 + 4 * 3, 2 * 16 + 4 * 2 * 4])
    np.testing.assert_allclose(hv.numpy(), [4 * 3 + 2, 4 * 2 * 4 + 2 * 4])


def _run(tape, x, v, fail, kept):
    with tape:
        tape.watch(x)
        kept.append(x * v)
        fail(x, v)


@pytest.mark.parametrize("fail", FAILURES.values(), ids=FAILURES.keys())
def test_an_error_that_leaves_the_block_leaves_the_tape_usable(fail):
    x, v = gt.constant([1.0, 2.0]), gt.Variable([3.0, 4.0])
    tape = gt.GradientTape()
    kept = []
    with pytest.raises((ValueError, TypeError, LookupError, RuntimeError)):
        _run(tape, x, v, fail, kept)
    y = kept[0]
    late = y * x
    with tape:
        z = y * v
    dx, dlate = tape.gradient(z, [x, late])
    np.testing.assert_allclose(dx.numpy(), [9.0, 16.0])
    assert dlate is None


def test_errors_point_at_the_callers_line():
    with pytest.raises(ValueError, match="add") as caught:
        gt.add(ones(2), ones(3))
    assert caught.value.__suppress_context__ or caught.value.__cause__ is not None
    assert caught.traceback[0].path.name == "test_errors.py"
