"""Tapes are per thread: many at once get the right answers, and never each other's records."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import gradtape as gt

THREADS = 8


def together(work):
    """`work(i)` in THREADS threads that start at once; the results, or the first exception."""
    barrier = threading.Barrier(THREADS)

    def one(i):
        barrier.wait()
        return work(i)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(THREADS)))


@pytest.fixture(autouse=True)
def switch_often():
    import sys

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def nested(x):
    """x**4 and its first three derivatives, by three nested tapes."""
    with gt.GradientTape() as t3:
        t3.watch(x)
        with gt.GradientTape() as t2:
            t2.watch(x)
            with gt.GradientTape() as t1:
                t1.watch(x)
                y = x * x * x * x
            g1 = t1.gradient(y, x)
        g2 = t2.gradient(g1, x)
    g3 = t3.gradient(g2, x)
    return [float(v) for v in (y, g1, g2, g3)]


def test_eight_threads_with_nested_tapes_of_their_own():
    def work(i):
        a = 1.0 + i
        want = [a**4, 4 * a**3, 12 * a**2, 24 * a]
        for _ in range(100):
            np.testing.assert_allclose(nested(gt.constant(np.float64(a))), want)
        return i

    assert together(work) == list(range(THREADS))


def test_eight_threads_share_a_constant_and_a_variable():
    x, v = gt.constant(np.float64(3.0)), gt.Variable(np.float64(2.0))

    def work(i):
        for k in range(100):
            with gt.GradientTape() as outer:
                outer.watch(x)
                with gt.GradientTape() as inner:
                    inner.watch(x)
                    y = x**3 * v * float(i + k)
                g = inner.gradient(y, x)
            dx, dv = outer.gradient(g, [x, v])
            assert float(dx) == 6 * 3.0 * 2.0 * (i + k)
            assert float(dv) == 3 * 9.0 * (i + k)
            assert [w is v for w in outer.watched_variables()] == [True]
        return True

    assert all(together(work))


def test_a_variable_of_another_thread_is_not_watched_here():
    variables = [gt.Variable(float(i), name=f"v{i}") for i in range(THREADS)]

    def work(i):
        names = set()
        for _ in range(200):
            with gt.GradientTape() as tape:
                y = variables[i] * 2.0
            names.update(v.name for v in tape.watched_variables())
            assert float(tape.gradient(y, variables[i])) == 2.0
        return names

    assert together(work) == [{f"v{i}:0"} for i in range(THREADS)]


def test_persistent_tapes_arrays_and_matmuls_in_threads():
    def work(i):
        a = np.random.default_rng(i).normal(size=(6, 6))
        x = gt.constant(np.random.default_rng(i + 100).normal(size=(6,)))
        for _ in range(30):
            with gt.GradientTape(persistent=True) as tape:
                tape.watch(x)
                z = gt.linalg.matvec(a, x)
                y = gt.reduce_sum(z * z)
                w = gt.reduce_sum(gt.sin(z))
            np.testing.assert_allclose(tape.gradient(y, x).numpy(), 2 * a.T @ a @ x.numpy())
            np.testing.assert_allclose(tape.gradient(w, x).numpy(), a.T @ np.cos(a @ x.numpy()))
        return True

    assert all(together(work))


def test_ops_of_another_thread_are_not_recorded():
    x = gt.constant(3.0)
    with gt.GradientTape() as tape, ThreadPoolExecutor(1) as pool:
        tape.watch(x)
        foreign = pool.submit(lambda: x * x).result()
        own = x * foreign
    assert float(foreign) == 9.0
    dx, dforeign = tape.gradient(own, [x, foreign])
    assert float(dx) == 9.0
    assert dforeign is None


def test_a_tape_left_open_in_one_thread_is_not_seen_in_another():
    x = gt.constant(3.0)
    opened, done = threading.Event(), threading.Event()

    def opens():
        with gt.GradientTape() as tape:
            tape.watch(x)
            opened.set()
            assert done.wait(30)
            y = x * x
        return float(tape.gradient(y, x))

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(opens)
        assert opened.wait(30)
        array = np.zeros(1)
        array[0] = x  # no tape of this thread follows it
        with gt.GradientTape() as tape:
            y = x * x
        assert tape.gradient(y, x) is None
        done.set()
        assert future.result() == 6.0
    assert array[0] == 3.0


def test_a_finished_tape_can_be_asked_in_another_thread():
    x = gt.constant(3.0)
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = x**3
    with ThreadPoolExecutor(1) as pool:
        assert float(pool.submit(tape.gradient, y, x).result()) == 27.0


def test_an_exception_in_one_thread_leaves_the_others_alone():
    def work(i):
        x = gt.constant(np.float64(i))
        for _ in range(50):
            try:
                with gt.GradientTape() as tape:
                    tape.watch(x)
                    y = x * x
                    if i % 2:
                        gt.add(gt.ones((2,)), gt.ones((3,)))
            except ValueError:
                assert i % 2
            assert float(tape.gradient(y, x)) == 2.0 * i
        return True

    assert all(together(work))


def test_item_assignment_is_guarded_per_thread():
    def work(i):
        for _ in range(50):
            x = gt.constant([1.0, 2.0])
            with gt.GradientTape() as tape:
                tape.watch(x)
                with pytest.raises(RuntimeError, match="identity"):
                    x[0] = 1.0
                t = gt.identity(x)
                t[0] = float(i)
                y = gt.reduce_sum(t * t)
            np.testing.assert_array_equal(tape.gradient(y, x).numpy(), [0.0, 4.0])
        return True

    assert all(together(work))


def test_gradients_of_a_persistent_tape_asked_by_eight_threads():
    x = gt.constant(np.linspace(0.0, 1.0, 100))
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = gt.sin(x) * x + gt.exp(x) * x
    want = np.cos(x.numpy()) * x.numpy() + np.sin(x.numpy()) + np.exp(x.numpy()) * (1 + x.numpy())

    def work(_):
        for _ in range(30):
            np.testing.assert_allclose(tape.gradient(y, x).numpy(), want)
        return True

    assert all(together(work))


def test_asynchronous_tasks_have_their_own_tapes():
    """Two tasks of one thread, whose blocks take turns: each tape hears of its own task only."""

    async def gradient_of_cube(x, meet):
        with gt.GradientTape() as tape:
            tape.watch(x)
            y = x * x
            await meet.wait()
            y = y * x
        assert tape.watched_variables() == ()
        return tape.gradient(y, x)

    async def reads_a_variable(v, meet):
        with gt.GradientTape() as tape:
            await meet.wait()
            y = v * 2.0
        return tape.gradient(y, v)

    async def both():
        meet = asyncio.Barrier(2)
        return await asyncio.gather(
            gradient_of_cube(gt.constant(3.0), meet), reads_a_variable(gt.Variable(1.0), meet)
        )

    cube, twice = asyncio.run(both())
    assert float(cube) == 27.0
    assert float(twice) == 2.0
