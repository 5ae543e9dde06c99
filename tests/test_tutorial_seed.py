"""The tutorial that gradtape starts from, in Python: every result to the character."""

import gradtape as gt


def test_the_derivative_with_respect_to_the_input():
    x = gt.ones((2, 2))
    with gt.GradientTape() as t:
        t.watch(x)
        y = gt.reduce_sum(x)
        z = gt.multiply(y, y)
    dz_dx = t.gradient(z, x)
    assert str(dz_dx) == "tf.Tensor(\n[[8. 8.]\n [8. 8.]], shape=(2, 2), dtype=float32)"


def test_the_derivative_with_respect_to_an_intermediate_value():
    x = gt.ones((2, 2))
    with gt.GradientTape() as t:
        t.watch(x)
        y = gt.reduce_sum(x)
        z = gt.multiply(y, y)
    dz_dy = t.gradient(z, y)
    assert str(dz_dy) == "tf.Tensor(8.0, shape=(), dtype=float32)"


def test_a_persistent_tape():
    x = gt.constant(3.0)
    with gt.GradientTape(persistent=True) as t:
        t.watch(x)
        y = x * x
        z = y * y
    dz_dx = t.gradient(z, x)
    assert str(dz_dx) == "tf.Tensor(108.0, shape=(), dtype=float32)"
    dy_dx = t.gradient(y, x)
    assert str(dy_dx) == "tf.Tensor(6.0, shape=(), dtype=float32)"
    del t


def test_control_flow():
    def f(x, y):
        output = 1.0
        for i in range(1, y + 1):
            if i > 2 and i <= 5:
                output = gt.multiply(output, x)
        return output

    def grad(x, y):
        with gt.GradientTape() as t:
            t.watch(x)
            out = f(x, y)
        return t.gradient(out, x)

    x = gt.constant(2.0)
    assert str(grad(x, 6)) == "tf.Tensor(12.0, shape=(), dtype=float32)"
    assert str(grad(x, 5)) == "tf.Tensor(12.0, shape=(), dtype=float32)"
    assert str(grad(x, 4)) == "tf.Tensor(4.0, shape=(), dtype=float32)"


def test_higher_order_gradients():
    x = gt.Variable(1.0)
    with gt.GradientTape() as t:
        with gt.GradientTape() as t2:
            y = x * x * x
        dy_dx = t2.gradient(y, x)
    d2y_dx = t.gradient(dy_dx, x)
    assert str(dy_dx) == "tf.Tensor(3.0, shape=(), dtype=float32)"
    assert str(d2y_dx) == "tf.Tensor(6.0, shape=(), dtype=float32)"
