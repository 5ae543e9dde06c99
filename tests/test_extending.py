"""Ops that somebody else declares, with nothing but what `gradtape.extending` offers."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from scipy import special

import gradtape as gt
from gradtape.extending import (
    ALONG_AXIS,
    LINEAR,
    MULTILINEAR,
    Array,
    Sample,
    Tensor,
    TensorLike,
    Uniform,
    composite,
    elementwise,
    op,
)
from gradtape.ops.op import REGISTRY
from gradtape.testing import GradientCheckError, check_op

pytestmark = pytest.mark.usefixtures("scratch_registry")

# -- a package of somebody's own, in a process of its own ----------------------------------------------------

PACKAGE = '''
{future}
from scipy import special

import gradtape
from gradtape import extending
from gradtape.extending import LEADING, MULTILINEAR, Array, Sample, Tensor, TensorLike, Uniform


@extending.elementwise(
    special.ive,
    None,
    lambda xp, v, x, out: (xp.scaled_bessel(v - 1, x) + xp.scaled_bessel(v + 1, x)) * 0.5 - out,
    dtypes="fd",
    samples=[Sample(1.0, Uniform((2, 3), 0.5, 3.0)), Sample(2.5, Uniform((), 0.5, 3.0))],
)
def scaled_bessel(v: TensorLike, x: TensorLike) -> Tensor:
    """The modified Bessel function I_v(x), times exp(-x), for x > 0."""


@extending.op(
    vjp=(
        lambda xp, g, b: xp.triple_product(b, g),
        lambda xp, g, a: xp.triple_product(g, a),
    ),
    jvp=MULTILINEAR,
    batch=LEADING,
    promote=("a", "b"),
    samples=[Sample((3,), (3,)), Sample((2, 3), (2, 3))],
)
def triple_product(a: {annotation}, b: {annotation}) -> Array:
    """The cross product of vectors of three numbers."""
    import numpy as np

    return np.cross(a, b)
'''

USE = """
import numpy as np
import theirs
import gradtape as gt
from gradtape.testing import check_op
from scipy import special

check_op(theirs.scaled_bessel)
check_op(theirs.triple_product)
x = np.array([0.5, 1.5])
first = gt.grad(lambda x: np.sum(theirs.scaled_bessel(1.0, x)))(x)
wanted = special.ivp(1.0, x) * np.exp(-x) - special.ive(1.0, x)
np.testing.assert_allclose(first, wanted, rtol=1e-13)
assert theirs.scaled_bessel(1.0, x.astype("f")).dtype == np.float32
a, b = np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, -1.0])
np.testing.assert_allclose(gt.jvp(theirs.triple_product)(a, b, b)[1], np.cross(b, b))
many = gt.vectorized_map(lambda a: theirs.triple_product(a, b), np.stack([a, b]))
np.testing.assert_allclose(many, np.cross(np.stack([a, b]), b))
print("done")
"""


@pytest.mark.parametrize(
    ("future", "annotation"),
    [
        ("from __future__ import annotations", "TensorLike"),
        ("from __future__ import annotations", "extending.TensorLike"),
        ("from __future__ import annotations", "gradtape.extending.TensorLike"),
        ("", "TensorLike"),
        ("", "extending.TensorLike"),
    ],
)
def test_a_package_from_outside(tmp_path: Path, future: str, annotation: str) -> None:
    text = PACKAGE.replace("{future}", future).replace("{annotation}", annotation)
    (tmp_path / "theirs.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", USE],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == "done", done.stderr


# -- in this process -----------------------------------------------------------------------------------------


def test_a_wrong_rule_is_found_in_either_mode() -> None:
    @op(vjp=lambda xp, g: 3.0 * g, jvp=LINEAR, samples=[Sample((3,))])
    def doubled(x: TensorLike) -> Array:
        return 2.0 * x

    with pytest.raises(GradientCheckError, match="doubled"):
        check_op(doubled, modes=["reverse"])
    check_op(doubled, order=1, modes=["forward"])

    @op(vjp=lambda xp, g: 2.0 * g, jvp=lambda xp, t: 3.0 * t, samples=[Sample((3,))])
    def twice(x: TensorLike) -> Array:
        return 2.0 * x

    with pytest.raises(GradientCheckError, match="forward"):
        check_op(twice, modes=["forward"])
    check_op(twice, order=1, modes=["reverse"])


def test_without_a_forward_rule_the_reverse_one_is_transposed() -> None:
    @op(
        vjp=(lambda xp, g, b: xp.matmul(g, b), lambda xp, g, a: xp.matmul(g, a, True)),
        promote=("a", "b"),
        samples=[Sample((2, 3), (4, 3))],
    )
    def gram(a: TensorLike, b: TensorLike) -> Array:
        return a @ b.T

    check_op(gram)
    a, b = np.arange(6.0).reshape(2, 3), np.ones((4, 3))
    np.testing.assert_allclose(gt.jvp(gram, (0, 1))(a, b, (b[:2], b))[1], b[:2] @ b.T + a @ b.T)


def test_an_op_with_several_results() -> None:
    @op(
        vjp=lambda xp, g: sum(part for part in g if part is not None),
        jvp=lambda xp, t: [t, t],
        batch=lambda xp, x: xp.twin(x),
        samples=[Sample((3,)), Sample(())],
    )
    def twin(x: TensorLike) -> Array:
        return [x * 1.0, x * 1.0]

    check_op(twin)
    first, second = gt.vectorized_map(twin, np.arange(3.0))
    np.testing.assert_array_equal(first, np.arange(3.0))
    np.testing.assert_array_equal(second, np.arange(3.0))


def test_an_attribute_named_axis_counts_one_more_for_many_examples() -> None:
    @op(
        vjp=lambda xp, g, x_shape, axis: xp.repeat(xp.expand_dims(g, axis), x_shape[axis], axis),
        jvp=LINEAR,
        batch=ALONG_AXIS,
        samples=[Sample((2, 3), axis=0), Sample((2, 3), axis=-1)],
    )
    def total(x: TensorLike, axis: int) -> Array:
        return np.sum(x, axis)

    check_op(total)
    x = np.arange(24.0).reshape(4, 2, 3)
    np.testing.assert_array_equal(gt.vectorized_map(lambda row: total(row, 0), x), x.sum(1))
    np.testing.assert_array_equal(gt.vectorized_map(lambda row: total(row, axis=-1), x), x.sum(2))
    with pytest.raises(gt.errors.AxisError, match="total"):
        gt.vectorized_map(lambda row: total(row, 2), x)


def test_a_composite_of_ones_own() -> None:
    @composite(samples=[Sample(Uniform((2, 3), 0.5, 2.0))])
    def entropy(xp, p: TensorLike) -> Tensor:
        return -xp.reduce_sum(xp.xlogy(p, p))

    check_op(entropy)
    assert gt.grad(entropy)(np.array([0.5, 0.5])) == pytest.approx(-np.log(0.5) - 1.0)


def test_names_are_shared_and_a_taken_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sin is declared already, in gradtape\.ops\.transcendental"):

        @elementwise(np.sin, 1.0)
        def sin(x: TensorLike) -> Tensor: ...

    assert gt.sin.op is REGISTRY["sin"]
    assert float(gt.grad(gt.sin)(0.0)) == 1.0


def test_in_a_notebook_ones_own_op_may_be_declared_again() -> None:
    code = textwrap.dedent("""
        @elementwise(lambda x: {k} * x, {k})
        def scaled(x: TensorLike) -> Tensor: ...
    """)
    namespace = {
        "__name__": "__main__",
        "elementwise": elementwise,
        "TensorLike": TensorLike,
        "Tensor": Tensor,
    }
    for k in (2.0, 3.0):
        exec(code.format(k=k), namespace)
        assert gt.grad(namespace["scaled"])(1.0) == k
    with pytest.raises(ValueError, match="declared already, in __main__"):

        @elementwise(lambda x: x, 1.0)
        def scaled(x: TensorLike) -> Tensor: ...


def test_an_op_without_operands_is_refused() -> None:
    with pytest.raises(TypeError, match="annotated TensorLike"):

        @op(samples=[Sample(1)])
        def nothing(x: int) -> Array:
            return x


def test_op_without_parentheses_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^bare: wanted @op\(\.\.\.\), with parentheses"):

        @op  # type: ignore[arg-type]
        def bare(x: TensorLike) -> Array:
            return x


@pytest.mark.parametrize(
    "rows",
    [{"y": lambda xp, d, x: d}, {"x": lambda xp, d: d}, {"x": lambda xp, d, out: d}],
    ids=["no such operand", "fewer values", "another value"],
)
def test_rows_that_do_not_fit_the_rule_beside_them_are_refused(rows) -> None:
    with pytest.raises(
        TypeError, match=r"^squared: rows has a rule for '[xy]' .* the parameters of that rule"
    ):

        @op(vjp=lambda xp, g, x: 2 * g * x, rows=rows)
        def squared(x: TensorLike) -> Array:
            return x * x


@pytest.mark.parametrize(
    ("vjp", "says"),
    [
        (lambda g: g, r"takes \(g\); wanted \(xp, g, \.\.\.\)"),
        (lambda xp, g, y: g, "a rule asks for 'y'; .* may ask for x, axis and out"),
        (lambda xp, g, x_size: g, "a rule asks for 'x_size'"),
        ((None, lambda xp, g: g), "2 rules in vjp for 1 parameters annotated TensorLike"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_where_it_is_declared(vjp, says) -> None:
    with pytest.raises(TypeError, match=f"^ruled: .*{says}"):

        @op(vjp=vjp)
        def ruled(x: TensorLike, axis: int = 0) -> Array:
            return x


@pytest.mark.parametrize(
    ("partials", "says"),
    [
        ((1.0,), "1 partial derivatives for its operands a, b; give one for each"),
        ((1.0, "c"), "a rule asks for 'c'"),
        ((1.0, lambda xp, c: c), "a rule asks for 'c'"),
    ],
)
def test_partial_derivatives_that_cannot_be_are_refused(partials, says) -> None:
    with pytest.raises(TypeError, match=f"^partial: {says}"):

        @elementwise(np.add, *partials)
        def partial(a: TensorLike, b: TensorLike) -> Tensor: ...


def test_products_of_a_multilinear_op_add_up() -> None:
    @op(
        vjp=(lambda xp, g, b: g * b, lambda xp, g, a: g * a),
        jvp=MULTILINEAR,
        samples=[Sample((3,), (3,))],
    )
    def product(a: TensorLike, b: TensorLike) -> Array:
        return a * b

    check_op(product)
    assert gt.jvp(product, (0, 1))(2.0, 3.0, (1.0, 10.0)) == (6.0, 23.0)


def test_special_functions_of_scipy_stay_scipys() -> None:
    @elementwise(special.jv, None, lambda xp, v, x: (xp.j(v - 1, x) - xp.j(v + 1, x)) * 0.5, dtypes="d")
    def j(v: TensorLike, x: TensorLike) -> Tensor: ...

    assert gt.grad(lambda x: j(0.0, x))(1.0) == pytest.approx(-special.jv(1, 1.0))
