"""What goes wrong is said: the op, what it got, the remedy; and nothing is left half-recorded."""

import inspect

import numpy as np
import pytest

import gradtape as gt
from gradtape.ops import op as declaring


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
