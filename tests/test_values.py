# ruff: noqa: E501 - what TensorFlow prints stays on one line
"""Tensors and variables: making, printing, promotion, conversions, operators, pickling, in-place assignment."""

import copy
import math
import operator
import pickle

import numpy as np
import pytest

import gradtape as gt


def check(tensor, want, dtype="float32", rtol=1e-6):
    """A tensor of this dtype, of the shape of `want`, and close to it."""
    assert isinstance(tensor, gt.Tensor), tensor
    assert tensor.dtype == np.dtype(dtype)
    assert tensor.shape == np.shape(want)
    np.testing.assert_allclose(tensor.numpy(), want, rtol=rtol, atol=rtol)


# -- printing: TensorFlow 2's own answers --------------------------------------------------------------------

PRINTED = [
    (lambda: gt.constant(8.0), '<tf.Tensor: shape=(), dtype=float32, numpy=8.0>', 'tf.Tensor(8.0, shape=(), dtype=float32)'),
    (lambda: gt.constant(3), '<tf.Tensor: shape=(), dtype=int32, numpy=3>', 'tf.Tensor(3, shape=(), dtype=int32)'),
    (lambda: gt.constant(True), '<tf.Tensor: shape=(), dtype=bool, numpy=True>', 'tf.Tensor(True, shape=(), dtype=bool)'),
    (lambda: gt.constant(1j), '<tf.Tensor: shape=(), dtype=complex128, numpy=1j>', 'tf.Tensor(1j, shape=(), dtype=complex128)'),
    (lambda: gt.constant(3+4j), '<tf.Tensor: shape=(), dtype=complex128, numpy=(3+4j)>', 'tf.Tensor((3+4j), shape=(), dtype=complex128)'),
    (lambda: gt.constant(-0.0), '<tf.Tensor: shape=(), dtype=float32, numpy=-0.0>', 'tf.Tensor(-0.0, shape=(), dtype=float32)'),
    (lambda: gt.constant(0.1), '<tf.Tensor: shape=(), dtype=float32, numpy=0.10000000149011612>', 'tf.Tensor(0.1, shape=(), dtype=float32)'),
    (lambda: gt.constant(1e20), '<tf.Tensor: shape=(), dtype=float32, numpy=1.0000000200408773e+20>', 'tf.Tensor(1e+20, shape=(), dtype=float32)'),
    (lambda: gt.constant(1e-8), '<tf.Tensor: shape=(), dtype=float32, numpy=9.99999993922529e-09>', 'tf.Tensor(1e-08, shape=(), dtype=float32)'),
    (lambda: gt.constant(np.inf), '<tf.Tensor: shape=(), dtype=float32, numpy=inf>', 'tf.Tensor(inf, shape=(), dtype=float32)'),
    (lambda: gt.constant(np.nan), '<tf.Tensor: shape=(), dtype=float32, numpy=nan>', 'tf.Tensor(nan, shape=(), dtype=float32)'),
    (lambda: gt.constant(np.float16(0.1)), '<tf.Tensor: shape=(), dtype=float16, numpy=0.0999755859375>', 'tf.Tensor(0.1, shape=(), dtype=float16)'),
    (lambda: gt.constant(np.float64(0.1)), '<tf.Tensor: shape=(), dtype=float64, numpy=0.1>', 'tf.Tensor(0.1, shape=(), dtype=float64)'),
    (lambda: gt.constant(np.int64(7)), '<tf.Tensor: shape=(), dtype=int64, numpy=7>', 'tf.Tensor(7, shape=(), dtype=int64)'),
    (lambda: gt.constant(np.uint8(7)), '<tf.Tensor: shape=(), dtype=uint8, numpy=7>', 'tf.Tensor(7, shape=(), dtype=uint8)'),
    (lambda: gt.constant(np.complex64(1+2j)), '<tf.Tensor: shape=(), dtype=complex64, numpy=(1+2j)>', 'tf.Tensor((1+2j), shape=(), dtype=complex64)'),
    (lambda: gt.constant(2**40), '<tf.Tensor: shape=(), dtype=int64, numpy=1099511627776>', 'tf.Tensor(1099511627776, shape=(), dtype=int64)'),
    (lambda: gt.constant([1.0, 2.0]), '<tf.Tensor: shape=(2,), dtype=float32, numpy=array([1., 2.], dtype=float32)>', 'tf.Tensor([1. 2.], shape=(2,), dtype=float32)'),
    (lambda: gt.constant([1, 2]), '<tf.Tensor: shape=(2,), dtype=int32, numpy=array([1, 2], dtype=int32)>', 'tf.Tensor([1 2], shape=(2,), dtype=int32)'),
    (lambda: gt.constant([True, False]), '<tf.Tensor: shape=(2,), dtype=bool, numpy=array([ True, False])>', 'tf.Tensor([ True False], shape=(2,), dtype=bool)'),
    (lambda: gt.constant([[1.0, 2.0], [3.0, 4.0]]), '<tf.Tensor: shape=(2, 2), dtype=float32, numpy=\narray([[1., 2.],\n       [3., 4.]], dtype=float32)>', 'tf.Tensor(\n[[1. 2.]\n [3. 4.]], shape=(2, 2), dtype=float32)'),
    (lambda: gt.constant([]), '<tf.Tensor: shape=(0,), dtype=float32, numpy=array([], dtype=float32)>', 'tf.Tensor([], shape=(0,), dtype=float32)'),
    (lambda: gt.constant([[]]), '<tf.Tensor: shape=(1, 0), dtype=float32, numpy=array([], shape=(1, 0), dtype=float32)>', 'tf.Tensor([], shape=(1, 0), dtype=float32)'),
    (lambda: gt.constant([[1.0]]), '<tf.Tensor: shape=(1, 1), dtype=float32, numpy=array([[1.]], dtype=float32)>', 'tf.Tensor([[1.]], shape=(1, 1), dtype=float32)'),
    (lambda: gt.constant([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]), '<tf.Tensor: shape=(2, 2, 2), dtype=float32, numpy=\narray([[[1., 2.],\n        [3., 4.]],\n\n       [[5., 6.],\n        [7., 8.]]], dtype=float32)>', 'tf.Tensor(\n[[[1. 2.]\n  [3. 4.]]\n\n [[5. 6.]\n  [7. 8.]]], shape=(2, 2, 2), dtype=float32)'),
    (lambda: gt.constant([1e-8, 1.0]), '<tf.Tensor: shape=(2,), dtype=float32, numpy=array([1.e-08, 1.e+00], dtype=float32)>', 'tf.Tensor([1.e-08 1.e+00], shape=(2,), dtype=float32)'),
    (lambda: gt.constant([np.nan, np.inf, -np.inf]), '<tf.Tensor: shape=(3,), dtype=float32, numpy=array([ nan,  inf, -inf], dtype=float32)>', 'tf.Tensor([ nan  inf -inf], shape=(3,), dtype=float32)'),
    (lambda: gt.constant(np.array([0.1, 0.2])), '<tf.Tensor: shape=(2,), dtype=float64, numpy=array([0.1, 0.2])>', 'tf.Tensor([0.1 0.2], shape=(2,), dtype=float64)'),
    (lambda: gt.constant(np.array([1+2j, 3.5-1j])), '<tf.Tensor: shape=(2,), dtype=complex128, numpy=array([1. +2.j, 3.5-1.j])>', 'tf.Tensor([1. +2.j 3.5-1.j], shape=(2,), dtype=complex128)'),
    (lambda: gt.constant(np.array([1+2j], np.complex64)), '<tf.Tensor: shape=(1,), dtype=complex64, numpy=array([1.+2.j], dtype=complex64)>', 'tf.Tensor([1.+2.j], shape=(1,), dtype=complex64)'),
    (lambda: gt.constant(np.array([1, 2], np.int64)), '<tf.Tensor: shape=(2,), dtype=int64, numpy=array([1, 2])>', 'tf.Tensor([1 2], shape=(2,), dtype=int64)'),
    (lambda: gt.constant(np.array([1, 2], np.uint8)), '<tf.Tensor: shape=(2,), dtype=uint8, numpy=array([1, 2], dtype=uint8)>', 'tf.Tensor([1 2], shape=(2,), dtype=uint8)'),
    (lambda: gt.constant(np.array([1.5, 2], np.float16)), '<tf.Tensor: shape=(2,), dtype=float16, numpy=array([1.5, 2. ], dtype=float16)>', 'tf.Tensor([1.5 2. ], shape=(2,), dtype=float16)'),
    (lambda: gt.constant(np.arange(30, dtype=np.float32)), '<tf.Tensor: shape=(30,), dtype=float32, numpy=\narray([ 0.,  1.,  2.,  3.,  4.,  5.,  6.,  7.,  8.,  9., 10., 11., 12.,\n       13., 14., 15., 16., 17., 18., 19., 20., 21., 22., 23., 24., 25.,\n       26., 27., 28., 29.], dtype=float32)>', 'tf.Tensor(\n[ 0.  1.  2.  3.  4.  5.  6.  7.  8.  9. 10. 11. 12. 13. 14. 15. 16. 17.\n 18. 19. 20. 21. 22. 23. 24. 25. 26. 27. 28. 29.], shape=(30,), dtype=float32)'),
    (lambda: gt.ones((0, 3)), '<tf.Tensor: shape=(0, 3), dtype=float32, numpy=array([], shape=(0, 3), dtype=float32)>', 'tf.Tensor([], shape=(0, 3), dtype=float32)'),
    (lambda: gt.constant([1, 2.5]), '<tf.Tensor: shape=(2,), dtype=float32, numpy=array([1. , 2.5], dtype=float32)>', 'tf.Tensor([1.  2.5], shape=(2,), dtype=float32)'),
    (lambda: gt.constant(3, shape=(2, 2)), '<tf.Tensor: shape=(2, 2), dtype=int32, numpy=\narray([[3, 3],\n       [3, 3]], dtype=int32)>', 'tf.Tensor(\n[[3 3]\n [3 3]], shape=(2, 2), dtype=int32)'),
    (lambda: gt.constant([1, 2, 3, 4.0], shape=(2, 2), dtype="float64"), '<tf.Tensor: shape=(2, 2), dtype=float64, numpy=\narray([[1., 2.],\n       [3., 4.]])>', 'tf.Tensor(\n[[1. 2.]\n [3. 4.]], shape=(2, 2), dtype=float64)'),
    (lambda: gt.constant(1, dtype="float32"), '<tf.Tensor: shape=(), dtype=float32, numpy=1.0>', 'tf.Tensor(1.0, shape=(), dtype=float32)'),
    (lambda: gt.constant(True, dtype="int32"), '<tf.Tensor: shape=(), dtype=int32, numpy=1>', 'tf.Tensor(1, shape=(), dtype=int32)'),
]  # fmt: skip


@pytest.mark.parametrize(("make", "as_repr", "as_str"), PRINTED, ids=[str(i) for i in range(len(PRINTED))])
def test_tensors_print_as_in_tensorflow(make, as_repr, as_str):
    assert repr(make()) == as_repr
    assert str(make()) == as_str


PRINTED_VARIABLES = [
    (lambda: gt.Variable(1.0), "<tf.Variable 'Variable:0' shape=() dtype=float32, numpy=1.0>"),
    (lambda: gt.Variable(3), "<tf.Variable 'Variable:0' shape=() dtype=int32, numpy=3>"),
    (lambda: gt.Variable([1.0, 2.0]), "<tf.Variable 'Variable:0' shape=(2,) dtype=float32, numpy=array([1., 2.], dtype=float32)>"),
    (lambda: gt.Variable([[1.0, 2.0], [3.0, 4.0]]), "<tf.Variable 'Variable:0' shape=(2, 2) dtype=float32, numpy=\narray([[1., 2.],\n       [3., 4.]], dtype=float32)>"),
    (lambda: gt.Variable(True), "<tf.Variable 'Variable:0' shape=() dtype=bool, numpy=True>"),
    (lambda: gt.Variable(1.0, name="w"), "<tf.Variable 'w:0' shape=() dtype=float32, numpy=1.0>"),
    (lambda: gt.Variable(1.0, dtype="float64"), "<tf.Variable 'Variable:0' shape=() dtype=float64, numpy=1.0>"),
    (lambda: gt.Variable(np.float64(0.1)), "<tf.Variable 'Variable:0' shape=() dtype=float64, numpy=0.1>"),
    (lambda: gt.Variable(1 + 2j), "<tf.Variable 'Variable:0' shape=() dtype=complex128, numpy=(1+2j)>"),
    (lambda: gt.Variable(np.zeros((0, 2), np.float32)), "<tf.Variable 'Variable:0' shape=(0, 2) dtype=float32, numpy=array([], shape=(0, 2), dtype=float32)>"),
    (lambda: gt.Variable(np.arange(6).reshape(2, 3), name="deep/er"), "<tf.Variable 'deep/er:0' shape=(2, 3) dtype=int64, numpy=\narray([[0, 1, 2],\n       [3, 4, 5]])>"),
    (lambda: gt.Variable(1.0, trainable=False), "<tf.Variable 'Variable:0' shape=() dtype=float32, numpy=1.0>"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "text"), PRINTED_VARIABLES)
def test_variables_print_as_in_tensorflow(make, text):
    assert repr(make()) == text
    assert str(make()) == text
    assert f"{make()}" == text


def test_formatting_as_in_tensorflow():
    assert f"{gt.constant(1.5):.3f}" == "1.500"
    assert f"{gt.constant(7):05d}" == "00007"
    assert f"{gt.constant(1.5)}" == "1.5"
    assert f"{gt.constant([1.0, 2.0])}" == "[1. 2.]"
    with pytest.raises(TypeError):
        f"{gt.constant([1.0, 2.0]):.3f}"


def test_results_of_ops_print_like_any_tensor():
    assert repr(gt.constant(2.0) * 3.0) == "<tf.Tensor: shape=(), dtype=float32, numpy=6.0>"
    assert str(gt.constant([1.0, 2.0]) > 1.0) == "tf.Tensor([False  True], shape=(2,), dtype=bool)"
    assert repr(gt.constant([1.0, 2.0])[1]) == "<tf.Tensor: shape=(), dtype=float32, numpy=2.0>"
    assert str(gt.reduce_sum(gt.ones((2, 2)))) == "tf.Tensor(4.0, shape=(), dtype=float32)"


# -- making --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [gt.constant, gt.convert_to_tensor, gt.Variable])
@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1.0, "float32"),
        (1, "int32"),
        (2**31 - 1, "int32"),
        (2**31, "int64"),
        (-(2**31), "int32"),
        (-(2**31) - 1, "int64"),
        (True, "bool"),
        (1j, "complex128"),
        ([1.0], "float32"),
        ([1], "int32"),
        ([2**40], "int64"),
        ([True], "bool"),
        ([1j], "complex128"),
        ([1, 2.0], "float32"),
        ([[1, 2], [3, 4]], "int32"),
        ((1.0, 2.0), "float32"),
        ([], "float32"),
        (np.array([1.0]), "float64"),
        (np.array([1]), "int64"),
        (np.array(1.0), "float64"),
        (np.float16(1.0), "float16"),
        (np.float64(1.0), "float64"),
        (np.int8(1), "int8"),
        (np.bool_(True), "bool"),
        (np.complex64(1j), "complex64"),
        (range(3), "int32"),
    ],
)
def test_dtypes_of_python_and_numpy_values(make, value, dtype):
    made = make(value)
    assert made.dtype == np.dtype(dtype)
    assert isinstance(made.dtype, np.dtype)
    assert made.shape == np.shape(value)
    np.testing.assert_array_equal(made.numpy(), np.asarray(value, dtype))


@pytest.mark.parametrize("make", [gt.constant, gt.convert_to_tensor, gt.Variable])
@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "complex64", np.float64, np.dtype("f8"), float]
)
def test_a_dtype_can_be_asked_for(make, dtype):
    for value in [1, 1.5, [1, 2], [[1.5]], np.array([1, 2]), np.float32(0.5), True]:
        made = make(value, dtype=dtype)
        assert made.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(made.numpy(), value)


@pytest.mark.parametrize("make", [gt.constant, gt.convert_to_tensor, gt.Variable])
@pytest.mark.parametrize(
    ("value", "dtype"), [(1.5, "int32"), ([1.5], "int64"), (1j, "float32"), ([1, 2j], "int32")]
)
def test_python_numbers_are_not_cut_down_to_a_narrower_kind(make, value, dtype):
    with pytest.raises(TypeError, match=dtype):
        make(value, dtype=dtype)


@pytest.mark.parametrize("make", [gt.constant, gt.convert_to_tensor, gt.Variable])
@pytest.mark.parametrize("value", [None, "a", object(), [1.0, None], ["a"], {}, {1: 2.0}, b"a"])
def test_what_is_no_number_is_refused(make, value):
    with pytest.raises((TypeError, ValueError)) as caught:
        make(value)
    assert type(caught.value).__module__ == "gradtape.errors"


@pytest.mark.parametrize("make", [gt.constant, gt.convert_to_tensor, gt.Variable])
def test_ragged_lists_are_refused(make):
    with pytest.raises(ValueError, match="equal length") as caught:
        make([[1, 2], [3]])
    assert "[[1, 2], [3]]" in str(caught.value)


@pytest.mark.parametrize("dtype", ["nope", "object", "str", "datetime64[s]", int.__add__, "U3"])
def test_unknown_dtypes_are_refused(dtype):
    for make in (gt.constant, gt.convert_to_tensor, gt.Variable):
        with pytest.raises(TypeError, match="dtype"):
            make(1.0, dtype=dtype)


def test_shape_fills_and_reshapes():
    check(gt.constant(3, shape=(2, 2)), [[3, 3], [3, 3]], "int32")
    check(gt.constant(3, shape=[2, 2]), [[3, 3], [3, 3]], "int32")
    check(gt.constant(0.5, shape=()), 0.5)
    check(gt.constant([1, 2, 3, 4], shape=(2, 2)), [[1, 2], [3, 4]], "int32")
    check(gt.constant([[1, 2], [3, 4]], dtype="float64", shape=(4,)), [1, 2, 3, 4], "float64")
    with pytest.raises((TypeError, ValueError)) as caught:
        gt.constant([1, 2, 3], shape=(2, 2))
    assert "(2, 2)" in str(caught.value)
    assert "3" in str(caught.value)


def test_constant_copies_its_input():
    a = np.array([1.0, 2.0])
    made = [gt.constant(a), gt.convert_to_tensor(a), gt.Variable(a), gt.constant(a, dtype="float64")]
    v = gt.Variable([0.0, 0.0], dtype="float64").assign(a)
    a[:] = 9.0
    for x in [*made, v]:
        np.testing.assert_array_equal(x.numpy(), [1.0, 2.0])


def test_convert_to_tensor_of_tensors_and_variables():
    t, v = gt.constant([1.0]), gt.Variable([2.0])
    check(gt.convert_to_tensor(t), [1.0])
    check(gt.convert_to_tensor(v), [2.0])
    check(gt.constant(t), [1.0])
    check(gt.convert_to_tensor([t[0], v[0], 3.0]), [1.0, 2.0, 3.0])
    with pytest.raises((TypeError, ValueError), match=r"(?s)(?=.*float64)(?=.*float32)"):
        gt.convert_to_tensor(t, dtype="float64")
    with gt.GradientTape() as tape:
        tape.watch(t)
        y = gt.reduce_sum(gt.convert_to_tensor([t * t, gt.convert_to_tensor(v) * t]))
    dt, dv = tape.gradient(y, [t, v])
    check(dt, [4.0])
    check(dv, [1.0])


# -- attributes and conversions ------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [gt.constant, gt.Variable])
def test_attributes(make):
    x = make(np.arange(6.0).reshape(2, 3))
    assert x.shape == (2, 3)
    assert type(x.shape) is tuple
    assert x.dtype is np.dtype("float64")
    assert (x.ndim, x.size, len(x)) == (2, 6, 2)
    check(x.T, np.arange(6.0).reshape(2, 3).T, "float64")
    scalar = make(1.0)
    assert (scalar.shape, scalar.ndim, scalar.size) == ((), 0, 1)
    check(scalar.T, 1.0)


def test_tensors_have_no_attributes_to_set():
    t = gt.constant([1.0, 2.0])
    for name in ("shape", "dtype", "ndim", "size", "T", "other"):
        with pytest.raises(AttributeError):
            setattr(t, name, 3)


@pytest.mark.parametrize("make", [gt.constant, gt.Variable])
def test_numpy_is_a_read_only_view_and_a_scalar_for_rank_0(make):
    x = make(np.array([[1.0, 2.0]]))
    view = x.numpy()
    assert type(view) is np.ndarray
    assert not view.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0] = 5.0
    assert np.shares_memory(view, x.numpy())
    assert type(make(1.5).numpy()) is np.float32
    assert type(make(np.float16(1.5)).numpy()) is np.float16
    assert type(gt.reduce_sum(x).numpy()) is np.float64
    assert type(x[0, 0].numpy()) is np.float64


def test_results_are_read_only_too():
    t = gt.constant([[1.0, 2.0], [3.0, 4.0]])
    for result in [
        t + 1.0,
        t[0],
        t.T,
        gt.reshape(t, (4,)),
        gt.identity(t),
        gt.exp(t),
        t @ t,
        gt.zeros((2,)),
        gt.eye(2),
    ]:
        for array in (result.numpy(), np.asarray(result)):
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0.0


def test_len_iteration_and_membership():
    t = gt.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert len(t) == 3
    rows = list(t)
    assert all(isinstance(row, gt.Tensor) for row in rows)
    np.testing.assert_array_equal([row.numpy() for row in rows], t.numpy())
    _, b, _ = t
    check(b, [3.0, 4.0])
    assert [float(x) for x in gt.Variable([1.0, 2.0])] == [1.0, 2.0]
    assert gt.constant(1.0) in [gt.constant(1.0)]
    assert list(gt.constant([])) == []
    for scalar in (gt.constant(1.0), gt.Variable(1.0)):
        with pytest.raises(TypeError):
            len(scalar)
        with pytest.raises(TypeError):
            iter(scalar)


def test_iteration_is_recorded():
    x = gt.constant([1.0, 2.0, 3.0])
    with gt.GradientTape() as tape:
        tape.watch(x)
        a, b, c = x
        y = a * b + c
    check(tape.gradient(y, x), [2.0, 1.0, 1.0])


@pytest.mark.parametrize("make", [gt.constant, gt.Variable])
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x], lambda x: [[x]]])
def test_python_numbers_of_one_element(make, wrap):
    assert float(make(wrap(2.5))) == 2.5
    assert type(float(make(wrap(2.5)))) is float
    assert int(make(wrap(3.7))) == 3
    assert type(int(make(wrap(3)))) is int
    assert complex(make(wrap(1 + 2j))) == 1 + 2j
    assert complex(make(wrap(2.5))) == 2.5 + 0j
    assert bool(make(wrap(1.0))) is True
    assert bool(make(wrap(0))) is False
    assert ["a", "b", "c"][make(wrap(1))] == "b"
    assert list(range(make(wrap(3)))) == [0, 1, 2]
    assert operator.index(make(wrap(5))) == 5
    assert math.sqrt(make(wrap(16.0))) == 4.0


@pytest.mark.parametrize("convert", [float, int, complex, operator.index])
@pytest.mark.parametrize("value", [[1, 2], [], [[1, 2], [3, 4]]])
def test_several_elements_are_no_python_number(convert, value):
    with pytest.raises(TypeError):
        convert(gt.constant(value, dtype="int32"))


def test_only_integers_are_indices():
    for value in (1.0, 1j):
        with pytest.raises(TypeError, match="cast"):
            operator.index(gt.constant(value))
    with pytest.raises(TypeError):
        range(gt.constant([1, 2]))


@pytest.mark.parametrize("value", [[1.0, 2.0], [True, True], [[0]] * 2])
def test_the_truth_of_many_is_ambiguous(value):
    for make in (gt.constant, gt.Variable):
        with pytest.raises(ValueError, match=r"ambiguous.*reduce_any.*reduce_all"):
            bool(make(value))
    with pytest.raises(ValueError, match="ambiguous"):
        assert gt.constant([1.0, 2.0]) > 0.0


# -- equality and hashing ------------------------------------------------------------------------------------


def test_equality_is_elementwise():
    t = gt.constant([1, 2])
    check(t == gt.constant([1, 3]), [True, False], "bool")
    check(t == [1, 3], [True, False], "bool")
    check(t == np.array([1, 3]), [True, False], "bool")
    check(np.array([1, 3]) == t, [True, False], "bool")
    check([1, 3] == t, [True, False], "bool")  # noqa: SIM300
    check(t != 1, [False, True], "bool")
    check(gt.Variable([1, 2]) == t, [True, True], "bool")
    check(gt.constant([[1], [2]]) == t, [[True, False], [False, True]], "bool")
    check(gt.constant(np.nan) == gt.constant(np.nan), False, "bool")


def test_values_of_shapes_that_do_not_fit_are_not_equal_as_in_tensorflow():
    check(gt.constant([1, 2]) == gt.constant([1, 2, 3]), False, "bool")
    check(gt.constant([1, 2]) != gt.constant([1, 2, 3]), True, "bool")


def test_nothing_equals_none():
    for x in (gt.constant([1, 2]), gt.constant(1.0), gt.Variable([1.0])):
        assert (x == None) is False  # noqa: E711
        assert (None == x) is False  # noqa: E711, SIM300
        assert (x != None) is True  # noqa: E711
        assert (None != x) is True  # noqa: E711, SIM300


@pytest.mark.parametrize("make", [gt.constant, gt.Variable])
def test_values_hash_by_identity(make):
    a, b = make(1.0), make(1.0)
    assert hash(a) == hash(a)
    named = {a: "a", b: "b"}
    assert (named[a], named[b]) == ("a", "b")
    assert len({a, b, a}) == 2
    many = [make([1.0, 2.0]) for _ in range(50)]
    assert len(set(many)) == 50
    assert all({t: i for i, t in enumerate(many)}[t] == i for i, t in enumerate(many))


def test_a_variable_keeps_its_hash_when_assigned():
    v = gt.Variable(1.0)
    table = {v: "v"}
    v.assign(2.0)
    assert table[v] == "v"


def test_is_tensor():
    assert gt.is_tensor(gt.constant(1.0))
    assert gt.is_tensor(gt.Variable(1.0))
    for other in (1.0, np.ones(2), [gt.constant(1.0)], None):
        assert not gt.is_tensor(other)


# -- pickling and copying ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [1.5, [1, 2], [[True]], np.array([[1 + 2j]]), np.zeros((0, 3)), np.float16(2)]
)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling(value, protocol):
    t = gt.constant(value)
    again = pickle.loads(pickle.dumps(t, protocol))
    assert repr(again) == repr(t)
    assert type(again) is gt.Tensor
    assert hash(again) == hash(again) != hash(t)
    v = gt.Variable(value, trainable=False, name="w")
    again = pickle.loads(pickle.dumps(v, protocol))
    assert repr(again) == repr(v)
    assert type(again) is gt.Variable
    assert again.name == "w:0"
    assert again.trainable is False
    assert pickle.loads(pickle.dumps(gt.Variable(1.0), protocol)).trainable is True


def test_a_pickled_rank_0_tensor_still_computes():
    t = pickle.loads(pickle.dumps(gt.constant(1.5)))
    with gt.GradientTape() as tape:
        tape.watch(t)
        y = t * t
    check(tape.gradient(y, t), 3.0)
    assert type(t.numpy()) is np.float32


def test_pickling_keeps_shared_variables_shared():
    v = gt.Variable([1.0, 2.0])
    a, b = pickle.loads(pickle.dumps([v, v]))
    assert a is b
    a.assign([3.0, 4.0])
    np.testing.assert_array_equal(v.numpy(), [1.0, 2.0])


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_tensor_keeps_its_derivative_and_is_assigned_apart(copied):
    t = gt.constant([1.0, 2.0])
    with gt.GradientTape() as tape:
        tape.watch(t)
        square = t * t
        other = copied(square)
        y = other * 3.0
    check(tape.gradient(y, t), [6.0, 12.0])
    other[0] = 9.0
    np.testing.assert_array_equal(square.numpy(), [1.0, 4.0])


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_variable_is_a_variable_of_its_own(copied):
    v = gt.Variable([1.0, 2.0], name="v", trainable=False)
    other = copied(v)
    assert repr(other) == repr(v)
    assert other.trainable is False
    v.assign([5.0, 5.0])
    np.testing.assert_array_equal(other.numpy(), [1.0, 2.0])
    other[...]
    assert other is not v


def test_deepcopy_of_a_structure():
    v = gt.Variable(1.0)
    model = {"a": [v], "b": v, "t": gt.constant(2.0)}
    other = copy.deepcopy(model)
    assert other["a"][0] is other["b"]
    assert other["b"] is not v
    other["b"].assign(9.0)
    assert float(v) == 1.0


# -- operators -----------------------------------------------------------------------------------------------

FLOAT_OPERATORS = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.pow,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
    operator.eq,
    operator.ne,
]
KINDS = {
    "tensor": gt.constant,
    "variable": gt.Variable,
    "ndarray": lambda a: a,
    "list": lambda a: a.tolist(),
    "tuple": lambda a: tuple(a.tolist()),
}


@pytest.mark.parametrize("op", FLOAT_OPERATORS, ids=lambda op: op.__name__)
@pytest.mark.parametrize("make", [gt.constant, gt.Variable])
@pytest.mark.parametrize("other", KINDS.values(), ids=KINDS.keys())
def test_operators_both_ways_round(op, make, other):
    a, b = np.array([1.5, 2.0, 3.0], np.float32), np.array([2.0, 2.0, 0.5], np.float32)
    want = op(a, b)
    check(op(make(a), other(b)), want, want.dtype)
    check(op(other(a), make(b)), want, want.dtype)


@pytest.mark.parametrize("op", FLOAT_OPERATORS, ids=lambda op: op.__name__)
@pytest.mark.parametrize(
    "scalar", [2, 2.0, True, np.float32(2), np.int32(2), np.float64(2), np.array(2.0)], ids=repr
)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "uint8"])
def test_operators_with_scalars_promote_as_numpy_does(op, scalar, dtype):
    a = np.array([1, 2, 3], dtype)
    for x in (gt.constant(a), gt.Variable(a)):
        want = op(a, scalar)
        check(op(x, scalar), want, want.dtype, 1e-3 if dtype == "float16" else 1e-6)
        want = op(scalar, a)
        check(op(scalar, x), want, want.dtype, 1e-3 if dtype == "float16" else 1e-6)


@pytest.mark.parametrize(
    "left", ["bool", "uint8", "int32", "int64", "float16", "float32", "float64", "complex64", "complex128"]
)
@pytest.mark.parametrize(
    "right", ["bool", "int8", "int32", "uint64", "float16", "float32", "float64", "complex64"]
)
def test_promotion_is_numpys(left, right):
    a, b = np.ones((2,), left), np.ones((2,), right)
    for op in (operator.add, operator.mul, operator.truediv):
        want = op(a, b)
        check(op(gt.constant(a), gt.constant(b)), want, want.dtype)
        check(op(gt.constant(a), b), want, want.dtype)
        check(op(a, gt.constant(b)), want, want.dtype)
        check(op(gt.constant(a[0]), gt.constant(b[0])), op(a[0], b[0]), want.dtype)


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "complex64", "complex128", "int8", "int64"]
)
@pytest.mark.parametrize("scalar", [3, 0.1, 2j, True])
def test_python_scalars_are_weak(dtype, scalar):
    a = np.array([1, 2], dtype)
    for want, got in [
        (a + scalar, gt.constant(a) + scalar),
        (scalar * a, scalar * gt.constant(a)),
        (a[0] + scalar, gt.constant(a[0]) + scalar),
        (scalar - a, gt.subtract(scalar, a)) if scalar is not True else (a + True, gt.add(a, True)),
    ]:
        check(got, want, want.dtype, 1e-3 if want.dtype == np.float16 else 1e-6)


@pytest.mark.parametrize(
    ("dtype", "numbers", "want"),
    [
        ("float16", [0.1], "float16"),
        ("float32", [0.1], "float32"),
        ("float64", [0.1], "float64"),
        ("float64", [1], "float64"),
        ("float16", [1], "float16"),
        ("complex64", [1j], "complex64"),
        ("complex64", [0.5], "complex64"),
        ("float32", [1j], "complex64"),
        ("int8", [1], "int8"),
        ("int64", [1], "int64"),
        ("int32", [1.5], "float64"),
        ("uint8", [True], "uint8"),
        ("float32", [[1, 2.5]], "float32"),
        ("float32", (0.1,), "float32"),
    ],
)
def test_lists_of_python_numbers_are_weak_like_the_numbers(dtype, numbers, want):
    a = np.array([2], dtype)
    rtol = 1e-3 if want == "float16" else 1e-15 if want == "float64" else 1e-6
    exact = a.astype("complex128" if "complex" in want else "float64") + np.asarray(numbers)
    check(gt.constant(a) + numbers, exact, want, rtol)
    check(numbers + gt.constant(a), exact, want, rtol)


def test_a_python_integer_that_does_not_fit_is_never_wrapped():
    with pytest.raises((OverflowError, ValueError, TypeError)):
        gt.constant(np.int8(1)) + 1000
    with pytest.raises((OverflowError, ValueError, TypeError)):
        gt.constant(1) + 2**40


def test_integer_division_and_signs_as_in_python():
    five, minus = gt.constant(5), gt.constant(-5)
    check(five // 2, 2, "int32")
    check(minus // 2, -3, "int32")
    check(minus % 3, 1, "int32")
    check(gt.constant(-5.0) % 3.0, 1.0)
    check(7 // gt.constant(2), 3, "int32")
    check(7 % gt.constant(4), 3, "int32")
    check(five / 2, 2.5, "float64")
    check(2 ** gt.constant(3), 8, "int32")
    check(gt.constant(2) ** 3, 8, "int32")
    check(10 - gt.constant(4.0), 6.0)
    check(1 / gt.constant(4.0), 0.25)


def test_unary_operators():
    for make in (gt.constant, gt.Variable):
        x = make([1.0, -2.0])
        check(-x, [-1.0, 2.0])
        check(+x, [1.0, -2.0])
        check(abs(x), [1.0, 2.0])
        check(abs(make(3 + 4j)), 5.0, "float64")
        check(~make([True, False]), [False, True], "bool")


@pytest.mark.parametrize("op", [operator.and_, operator.or_, operator.xor])
def test_logic_of_booleans(op):
    a, b = np.array([True, True, False]), np.array([True, False, False])
    for x, y in [
        (gt.constant(a), gt.constant(b)),
        (gt.constant(a), b),
        (a, gt.constant(b)),
        (gt.constant(a), b.tolist()),
    ]:
        check(op(x, y), op(a, b), "bool")
    check(op(gt.constant(a), True), op(a, True), "bool")
    check(op(False, gt.constant(a)), op(False, a), "bool")


@pytest.mark.parametrize("op", [operator.and_, operator.or_, operator.xor])
def test_bits_of_integers_as_in_tensorflow(op):
    check(op(gt.constant([12, 5]), gt.constant([10, 3])), op(np.array([12, 5]), np.array([10, 3])), "int32")
    check(op(gt.constant([12, 5]), 3), op(np.array([12, 5]), 3), "int32")


def test_matmul_operator_with_everything():
    a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.5], [-1.0, 2.0]])
    for x, y in [
        (gt.constant(a), gt.constant(b)),
        (gt.constant(a), b),
        (a, gt.constant(b)),
        (gt.Variable(a), gt.Variable(b)),
        (gt.constant(a), b.tolist()),
        (a.tolist(), gt.constant(b)),
    ]:
        check(x @ y, a @ b, "float64")


def test_operators_with_strangers_are_type_errors():
    t = gt.constant([1.0, 2.0])
    for stranger in ("a", None, object(), {}, {1, 2}):
        for op in (operator.add, operator.mul, operator.sub, operator.truediv, operator.pow, operator.lt):
            with pytest.raises(TypeError):
                op(t, stranger)
            with pytest.raises(TypeError):
                op(stranger, t)


def test_python_sum_and_max_work():
    t = gt.constant([1.0, 3.0, 2.0])
    check(sum(t), 6.0)
    check(max(t), 3.0)
    assert sorted(float(x) for x in t) == [1.0, 2.0, 3.0]


# -- variables -----------------------------------------------------------------------------------------------


def test_variable_arguments():
    v = gt.Variable([1, 2], False, "w", "float64")
    assert (v.name, v.trainable, v.dtype, v.shape) == ("w:0", False, np.dtype("float64"), (2,))
    assert gt.Variable(initial_value=1.0, trainable=True, name=None, dtype=None).name == "Variable:0"
    source = gt.Variable([1.0])
    copied = gt.Variable(source)
    source.assign([2.0])
    np.testing.assert_array_equal(copied.numpy(), [1.0])
    np.testing.assert_array_equal(gt.Variable(gt.constant([3.0])).numpy(), [3.0])
    with pytest.raises((TypeError, ValueError), match=r"(?s)(?=.*float64)(?=.*float32)"):
        gt.Variable(gt.constant(1.0), dtype="float64")


def test_assign_and_friends_return_the_variable():
    v = gt.Variable([1.0, 2.0])
    assert v.assign([3.0, 4.0]) is v
    np.testing.assert_array_equal(v.numpy(), [3.0, 4.0])
    assert v.assign_add([1.0, 1.0]) is v
    np.testing.assert_array_equal(v.numpy(), [4.0, 5.0])
    assert v.assign_sub(gt.constant([0.5, 0.5])) is v
    np.testing.assert_array_equal(v.numpy(), [3.5, 4.5])
    v.assign(gt.Variable([7.0, 8.0]))
    np.testing.assert_array_equal(v.numpy(), [7.0, 8.0])
    v.assign(np.array([1.0, 1.0], np.float32))
    np.testing.assert_array_equal(v.numpy(), [1.0, 1.0])
    v.assign_add(v)
    np.testing.assert_array_equal(v.numpy(), [2.0, 2.0])
    v.assign([5, 6])
    np.testing.assert_array_equal(v.numpy(), [5.0, 6.0])
    assert v.dtype == np.float32
    scalar = gt.Variable(1.0)
    scalar.assign(3)
    scalar.assign_add(1)
    assert float(scalar) == 4.0
    assert scalar.dtype == np.float32
    assert repr(scalar) == "<tf.Variable 'Variable:0' shape=() dtype=float32, numpy=4.0>"


@pytest.mark.parametrize("verb", ["assign", "assign_add", "assign_sub"])
@pytest.mark.parametrize("value", [1.0, [1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]], np.float32(1)])
def test_assigning_another_shape_names_both(verb, value):
    v = gt.Variable([1.0, 2.0], name="w")
    with pytest.raises(ValueError, match=verb) as caught:
        getattr(v, verb)(value)
    message = str(caught.value)
    assert "(2,)" in message
    assert str(np.shape(value)) in message
    assert "w:0" in message
    np.testing.assert_array_equal(v.numpy(), [1.0, 2.0])


@pytest.mark.parametrize("verb", ["assign", "assign_add", "assign_sub"])
@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "complex64", "bool"])
def test_assigning_another_dtype_names_both(verb, dtype):
    v = gt.Variable([1.0, 2.0])
    for make in (gt.constant, gt.Variable, lambda a: a):
        with pytest.raises(TypeError, match=verb) as caught:
            getattr(v, verb)(make(np.ones(2, dtype)))
        assert "float32" in str(caught.value)
        assert dtype in str(caught.value)
    np.testing.assert_array_equal(v.numpy(), [1.0, 2.0])


def test_python_numbers_are_not_cut_down_to_an_integer_variable():
    n = gt.Variable([1, 2])
    for value in ([1.5, 2.5], [1.0, 2.0]):
        with pytest.raises(TypeError, match="int32"):
            n.assign(value)
    with pytest.raises(TypeError):
        gt.Variable(1).assign(3.5)
    np.testing.assert_array_equal(n.numpy(), [1, 2])


def test_arrays_seen_before_an_assignment_keep_their_values():
    v = gt.Variable([1.0, 2.0])
    seen, value, read, converted = v.numpy(), v.value(), v.read_value(), gt.convert_to_tensor(v)
    v.assign([9.0, 9.0])
    v.assign_add([1.0, 1.0])
    v.assign_sub([3.0, 1.0])
    np.testing.assert_array_equal(seen, [1.0, 2.0])
    for t in (value, read, converted):
        check(t, [1.0, 2.0])
    check(v.value(), [7.0, 9.0])
    check(v.read_value(), [7.0, 9.0])


@pytest.mark.parametrize("op", ["iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow"])
def test_augmented_operators_on_a_variable_say_to_assign(op):
    v = gt.Variable(3.0)
    with pytest.raises((RuntimeError, TypeError), match="assign"):
        getattr(operator, op)(v, 2.0)
    assert float(v) == 3.0


def test_variables_index_and_take_part_in_functions():
    v = gt.Variable([[1.0, 2.0], [3.0, 4.0]])
    check(v[0], [1.0, 2.0])
    check(v[..., 1], [2.0, 4.0])
    check(gt.reduce_sum(v), 10.0)
    check(gt.matmul(v, v), [[7.0, 10.0], [15.0, 22.0]])
    check(v.T, [[1.0, 3.0], [2.0, 4.0]])


def test_variables_refuse_item_assignment():
    v = gt.Variable([1.0, 2.0])
    with pytest.raises(TypeError):
        v[0] = 3.0
    np.testing.assert_array_equal(v.numpy(), [1.0, 2.0])


# -- in-place assignment -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (1, 9.0),
        (-1, [7.0, 8.0, 9.0]),
        ((0, 2), 9.0),
        (slice(1, 3), 9.0),
        (slice(None, None, 2), [[1.5] * 3, [2.5] * 3]),
        (slice(None, None, -1), [[1.5], [2.5], [3.5], [4.5]]),
        ((slice(None), 1), [5.0, 6.0, 7.0, 8.0]),
        ((..., 0), 3),
        (None, 2.0),
        (Ellipsis, [1.0, 2.0, 3.0]),
        ([0, 2], 4.0),
        (([0, 1], [2, 0]), [5.0, 6.0]),
        (np.array([True, False, True, False]), 4.0),
        (np.arange(12).reshape(4, 3) % 2 == 0, np.arange(6.0)),
        ([], 1.0),
        (slice(2, 2), 1.0),
        ((np.array([0, 1]), slice(1, None)), np.array([[1.0, 2.0], [3.0, 4.0]])),
    ],
    ids=repr,
)
def test_item_assignment_sets_what_numpy_sets(index, value):
    a = np.arange(12.0).reshape(4, 3)
    t, before = gt.constant(a), gt.constant(a)
    seen = t.numpy()
    t[index] = value
    a[index] = value
    check(t, a, "float64")
    check(before, np.arange(12.0).reshape(4, 3), "float64")
    np.testing.assert_array_equal(seen, np.arange(12.0).reshape(4, 3))


def test_item_assignment_by_tensors_variables_and_masks():
    t = gt.constant([1.0, 2.0, 3.0])
    t[0] = gt.constant(5.0)
    t[gt.constant([1])] = gt.Variable([6.0])
    check(t, [5.0, 6.0, 3.0])
    t[t > 5.5] = 0.0
    check(t, [5.0, 0.0, 3.0])
    t[gt.constant(2)] = np.float32(1.0)
    check(t, [5.0, 0.0, 1.0])


def test_item_assignment_keeps_the_dtype_and_the_identity_of_the_object():
    t = gt.constant([1.0, 2.0])
    alias, table = t, {t: "t"}
    t[0] = np.float64(0.5)
    t[1] = 3
    assert t is alias
    assert table[t] == "t"
    check(alias, [0.5, 3.0])
    n = gt.constant([1, 2])
    n[0] = 7
    check(n, [7, 2], "int32")


def test_item_assignment_does_not_touch_views_taken_before():
    t = gt.constant([[1.0, 2.0], [3.0, 4.0]])
    others = [t[0], t.T, gt.reshape(t, (4,)), gt.identity(t), gt.convert_to_tensor(t[:, 1]), copy.deepcopy(t)]
    kept = [o.numpy().copy() for o in others]
    t[...] = 0.0
    for other, want in zip(others, kept, strict=True):
        check(other, want)


@pytest.mark.parametrize("part", [lambda t: t[0], lambda t: t[:, 1:], lambda t: t.T, lambda t: next(iter(t))])
def test_item_assignment_to_what_numpy_would_make_a_view_is_an_error(part):
    t = gt.constant([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(gt.errors.InPlaceError, match=r"no view as in NumPy.*write t\[i, j\] = v"):
        part(t)[0] = -1.0
    copied = gt.identity(part(t))
    copied[0] = -1.0
    check(t, [[1.0, 2.0], [3.0, 4.0]])
    picked = t[[0, 1], 0]
    picked[0] = -1.0
    check(picked, [-1.0, 3.0])


def test_item_assignment_to_views_does_not_touch_what_they_came_from():
    t = gt.constant([[1.0, 2.0], [3.0, 4.0]])
    v = gt.Variable([1.0, 2.0])
    for view in (
        gt.reshape(t, (4,)),
        gt.identity(t),
        v.value(),
        gt.identity(v),
        gt.broadcast_to(v, (2, 2)),
    ):
        view[0] = -1.0
        assert np.all(view.numpy()[0] == -1.0)
    check(t, [[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(v.numpy(), [1.0, 2.0])


def test_augmented_item_assignment():
    a = np.arange(6.0)
    t = gt.constant(a)
    t[1:3] += 10.0
    t[[0, 5]] *= [2.0, 3.0]
    t[t > 11.5] -= 1.0
    t[3] /= 2.0
    a[1:3] += 10.0
    a[[0, 5]] *= [2.0, 3.0]
    a[a > 11.5] -= 1.0
    a[3] /= 2.0
    check(t, a, "float64")


def test_plain_augmented_assignment_rebinds_the_name():
    t = gt.constant([1.0, 2.0])
    before = t
    t += 1.0
    t *= [2.0, 2.0]
    t -= gt.constant(1.0)
    t /= 2.0
    t **= 2
    check(t, [2.25, 6.25])
    check(before, [1.0, 2.0])


def central(f, x, h=1e-6):
    """The gradient of a scalar function of one float64 array, by central differences."""
    g = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += h
        down[i] -= h
        g[i] = (f(up) - f(down)) / (2 * h)
    return g


ASSIGNMENTS = {
    "t[1] = v": (1, (3,)),
    "t[1] = v, stretched": (1, ()),
    "t[1, 2] = v": ((1, 2), ()),
    "t[1:3] = v": (slice(1, 3), (2, 3)),
    "t[1:3] = v, stretched": (slice(1, 3), (3,)),
    "t[1:3] = v, stretched down": (slice(1, 3), (2, 1)),
    "t[::-2] = v": (slice(None, None, -2), (2, 3)),
    "t[:, 1] = v": ((slice(None), 1), (4,)),
    "t[..., None, 0] = v": ((..., None, 0), (4, 1)),
    "t[:] = v": (slice(None), (4, 3)),
    "t[[0, 2]] = v": ([0, 2], (2, 3)),
    "t[[0, -1], [1, 2]] = v": (([0, -1], [1, 2]), (2,)),
    "t[rows] = v": (np.array([True, False, False, True]), (2, 3)),
    "t[mask] = v": (np.arange(12).reshape(4, 3) % 5 == 0, (3,)),
    "t[mask] = v, stretched": (np.arange(12).reshape(4, 3) % 5 == 0, ()),
    "t[no mask] = v": (np.zeros((4, 3), bool), ()),
}


@pytest.mark.parametrize(("index", "shape"), ASSIGNMENTS.values(), ids=ASSIGNMENTS.keys())
def test_item_assignment_is_recorded(index, shape):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(4, 3)), rng.normal(size=shape)
    weight = rng.normal(size=(4, 3))

    def gradients(x, v):
        x, v = gt.constant(x), gt.constant(v)
        with gt.GradientTape() as outer:
            outer.watch([x, v])
            with gt.GradientTape() as inner:
                inner.watch([x, v])
                t = gt.sin(x)
                t[index] = v**3
                y = gt.reduce_sum(t**2 * weight)
            first = inner.gradient(y, [x, v])
            probe = gt.reduce_sum(first[0] * np.arange(12.0).reshape(4, 3)) + gt.reduce_sum(gt.exp(first[1]))
        return y, first, probe, outer.gradient(probe, [x, v], unconnected_gradients="zero")

    _, first, _, second = gradients(a, b)
    for order, got in ((0, first), (2, second)):
        want_x = central(lambda x, order=order: float(gradients(x, b)[order]), a)
        want_v = central(lambda v, order=order: float(gradients(a, v)[order]), b)
        check(got[0], want_x, "float64", 1e-5)
        check(got[1], want_v, "float64", 1e-5 * max(1.0, float(np.max(np.abs(want_v), initial=0))))


@pytest.mark.parametrize(("index", "shape"), ASSIGNMENTS.values(), ids=ASSIGNMENTS.keys())
def test_augmented_item_assignment_is_recorded(index, shape):
    rng = np.random.default_rng(2)
    a, b, weight = rng.normal(size=(4, 3)), rng.normal(size=shape), rng.normal(size=(4, 3))

    def forward(x, v):
        t = gt.sin(x)
        t[index] *= v
        t[index] += v * v
        return gt.reduce_sum(t * t * weight)

    x, v = gt.constant(a), gt.constant(b)
    with gt.GradientTape() as tape:
        tape.watch([x, v])
        y = forward(x, v)
    dx, dv = tape.gradient(y, [x, v])
    check(dx, central(lambda x: float(forward(gt.constant(x), b)), a), "float64", 1e-6)
    check(dv, central(lambda v: float(forward(gt.constant(a), gt.constant(v))), b), "float64", 1e-6)


def test_item_assignment_where_an_index_is_repeated():
    x, v = gt.constant(np.array([1.0, 2.0, 3.0])), gt.constant(np.array([5.0, 7.0]))
    with gt.GradientTape() as tape:
        tape.watch([x, v])
        t = x * 1.0
        t[[1, 1]] = v
        y = gt.reduce_sum(t * t)
    check(t, [1.0, 7.0, 3.0], "float64")  # the last one wins, as in NumPy
    dx, dv = tape.gradient(y, [x, v])
    check(dx, [2.0, 0.0, 6.0], "float64")
    check(dv, [0.0, 14.0], "float64")


def test_item_assignment_does_not_change_what_was_recorded_before():
    x = gt.constant([1.0, 2.0, 3.0])
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        t = x * 2.0
        early = t * x  # 2 x^2
        t[1] = 100.0
        late = t * x
    check(tape.gradient(early, x), [4.0, 8.0, 12.0])
    check(tape.gradient(late, x), [4.0, 100.0, 12.0])


def test_item_assignment_builds_a_result_step_by_step():
    x = gt.constant(np.float64(0.5))
    with gt.GradientTape() as tape:
        tape.watch(x)
        out = gt.zeros((5,), "float64")
        out[0] = x
        for i in range(1, 5):
            out[i] = out[i - 1] * x
        y = gt.reduce_sum(out)
    check(tape.gradient(y, x), sum(k * 0.5 ** (k - 1) for k in range(1, 6)), "float64", 1e-12)


def test_item_assignment_of_a_value_to_itself_swaps_and_shifts():
    x = gt.constant([1.0, 2.0, 3.0])
    with gt.GradientTape() as tape:
        tape.watch(x)
        t = x * x
        t[0], t[2] = t[2], t[0]
        t[1:] = t[:-1]
        y = gt.reduce_sum(t * [1.0, 10.0, 100.0])
    check(t, [9.0, 9.0, 4.0])
    check(tape.gradient(y, x), [0.0, 400.0, 11.0 * 6.0])


def test_the_updated_tensor_is_a_source():
    x, v = gt.constant([1.0, 2.0, 3.0]), gt.Variable(4.0)
    with gt.GradientTape() as tape:
        tape.watch(x)
        t = x * 2.0
        t[1] = v
        y = t * t
    dt, dx, dv = tape.gradient(y, [t, x, v])
    check(dt, [4.0, 8.0, 12.0])
    check(dx, [8.0, 0.0, 24.0])
    check(dv, 8.0)


def test_item_assignment_keeps_each_sides_dtype():
    x, v = gt.constant(np.array([1.0, 2.0], np.float32)), gt.constant(np.float64(3.0))
    with gt.GradientTape() as tape:
        tape.watch([x, v])
        t = x * 2.0
        t[0] = v
        y = t * t
    assert y.dtype == np.float32
    dx, dv = tape.gradient(y, [x, v])
    check(dx, [0.0, 16.0], "float32")
    check(dv, 6.0, "float64")


def test_item_assignment_of_complex_values():
    z, w = gt.constant(np.array([1 + 1j, 2.0])), gt.constant(3 - 1j)
    with gt.GradientTape() as tape:
        tape.watch([z, w])
        t = z * 1.0
        t[1] = w
        y = t * t
    dz, dw = tape.gradient(y, [z, w])
    check(dz, [2 - 2j, 0], "complex128")
    check(dw, 6 + 2j, "complex128")


def test_item_assignment_to_a_constant_begins_a_derivative():
    v = gt.Variable(2.0)
    t = gt.zeros((2,))
    with gt.GradientTape() as tape:
        t[1] = v * v
        y = gt.reduce_sum(t)
    check(tape.gradient(y, v), 4.0)


def test_item_assignment_to_a_watched_tensor_says_to_copy_first():
    x = gt.constant([1.0, 2.0])
    with gt.GradientTape() as tape:
        tape.watch({"x": [x]})
        with pytest.raises(RuntimeError, match="identity"):
            x[0] = 5.0
        with pytest.raises(RuntimeError, match="identity"):
            x[0] += 5.0
        check(x, [1.0, 2.0])
        t = gt.identity(x)
        t[0] = 5.0
        y = t * t
    with pytest.raises(RuntimeError, match="identity"):
        x[0] = 5.0
    check(tape.gradient(y, x), [0.0, 4.0])
    x[0] = 5.0  # nobody watches it any more
    check(x, [5.0, 2.0])


def test_item_assignment_to_what_an_outer_tape_watches_is_an_error_too():
    x = gt.constant([1.0, 2.0])
    with gt.GradientTape() as outer:
        outer.watch(x)
        with gt.GradientTape(), pytest.raises(RuntimeError, match="identity"):
            x[0] = 5.0
    check(x, [1.0, 2.0])
    del outer
    x[0] = 5.0
    check(x, [5.0, 2.0])


def test_item_assignment_to_an_intermediate_that_an_inner_tape_watches_is_an_error():
    x = gt.constant([1.0, 2.0])
    with gt.GradientTape() as outer:
        outer.watch(x)
        t = x * x
        with gt.GradientTape() as inner:
            inner.watch(t)
            with pytest.raises(RuntimeError, match="identity"):
                t[0] = 0.0
            y = t * t
    check(inner.gradient(y, t), [2.0, 8.0])


@pytest.mark.parametrize(
    ("index", "value", "kind"),
    [
        (5, 1.0, IndexError),
        (slice(0, 2), [1.0, 2.0, 3.0], ValueError),
        ((0, 0), 1.0, IndexError),
        (np.array([True, False]), 1.0, IndexError),
        (1.5, 1.0, (IndexError, TypeError)),
        (0, "a", (TypeError, ValueError)),
        (0, None, (TypeError, ValueError)),
    ],
    ids=repr,
)
def test_item_assignment_that_does_not_fit_leaves_the_tensor_and_the_tape_as_they_were(index, value, kind):
    x = gt.constant([1.0, 2.0, 3.0])
    with gt.GradientTape() as tape:
        tape.watch(x)
        t = x * x
        with pytest.raises(kind):
            t[index] = value
        check(t, [1.0, 4.0, 9.0])
        y = t * x
    check(tape.gradient(y, x), [3.0, 12.0, 27.0])


def test_python_numbers_and_lists_keep_the_precision_of_what_they_meet():
    z = gt.constant(np.zeros(3))
    z[0] = 0.1
    z[1:] = [0.2, 0.3]
    np.testing.assert_array_equal(z.numpy(), [0.1, 0.2, 0.3])
    ones = np.ones(1)
    for got in (
        gt.constant(ones) @ [0.1],
        gt.einsum("i,i->", ones, [0.1]),
        gt.tensordot(ones, [0.1], 1),
        np.dot(gt.constant(ones), [0.1]),
        np.outer(gt.constant(ones), [0.1])[0, 0],
        gt.tensor_scatter_nd_add(np.zeros(1), [[0]], [0.1])[0],
        gt.tensor_scatter_nd_update(np.zeros(1), [[0]], [0.1])[0],
        gt.nn.bias_add(np.zeros((1, 1)), [0.1])[0, 0],
    ):
        assert got.dtype == np.float64
        assert float(got) == 0.1


@pytest.mark.parametrize(
    "make",
    [
        lambda: gt.constant(300, dtype="uint8"),
        lambda: gt.constant([-1], dtype="uint8"),
        lambda: gt.constant(2**40, dtype="int32"),
        lambda: gt.constant(2**70),
        lambda: gt.Variable(1).assign(2**40),
        lambda: gt.add(gt.constant([1]), [2**40]),
        lambda: gt.constant([1], dtype="uint8") + 300,
    ],
)
def test_integers_that_do_not_fit_are_an_error(make):
    with pytest.raises(gt.errors.DTypeError, match=r"fit|out of bounds"):
        make()


def test_a_constant_of_a_tensor_is_assigned_apart():
    t = gt.constant([1.0, 2.0])
    for other in (gt.constant(t), gt.nn.dropout(t, 0.0)):
        other[0] = 9.0
    check(t, [1.0, 2.0])
