"""What a tape says that it holds, and where its time goes, against what is known by hand."""

import functools
import gc
import re
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numerics import Case, case_id, cases, tensors

import gradtape as gt
from gradtape.explain.profile import call_again
from gradtape.explain.summary import Row, Summary, _bytes, _time
from gradtape.ops.op import REGISTRY, Op
from gradtape.recorders import listening, pop, push, unheard
from gradtape.tensor import Tensor

N = 1000
BYTES = 8 * N


def vector(n: int = N) -> Tensor:
    return gt.constant(np.linspace(0.5, 1.5, n))


def kept(f: Callable[..., Any], *xs: Any) -> dict[str, int]:
    """The bytes that a tape keeps for each op of f, of which it watches the arguments."""
    with gt.GradientTape() as tape:
        tape.watch(xs)
        f(*xs)
    return {row.op: row.kept for row in tape.summary().rows}


def row(summary: Summary, op: str) -> Row:
    return next(row for row in summary.rows if row.op == op)


# -- bytes ---------------------------------------------------------------------------------------------------


def test_an_op_keeps_what_its_rule_needs_and_nothing_else() -> None:
    x = vector()
    assert kept(gt.sin, x) == {"sin": BYTES}
    assert kept(gt.exp, x) == {"exp": BYTES}  # its result
    assert kept(lambda x: x + x, x) == {"add": 0}
    assert kept(lambda x: x * 2.0, x) == {"multiply": 0}
    assert kept(gt.reduce_sum, x) == {"reduce_sum": 0}
    assert kept(lambda x: gt.where(x.numpy() > 1.0, x, 0.0), x) == {"where": N}  # a boolean for each


def test_an_array_counts_once_for_the_op_that_keeps_it_first() -> None:
    x = vector()
    assert kept(lambda x: x * x, x) == {"multiply": BYTES}
    assert kept(lambda x: gt.sin(x) + gt.cos(x), x) == {"sin": BYTES, "cos": 0, "add": 0}
    assert kept(lambda x: gt.square(gt.exp(x)), x) == {"exp": BYTES, "square": 0}


def test_a_product_keeps_both_its_operands() -> None:
    a, b = gt.constant(np.ones((10, 20), "f4")), gt.constant(np.ones((20, 30), "f4"))
    assert kept(gt.matmul, a, b) == {"matmul": 4 * (200 + 600)}
    assert kept(lambda a: a @ b.numpy(), a) == {"matmul": 4 * 600}


def test_a_view_keeps_all_of_its_base() -> None:
    assert kept(lambda x: gt.sin(x[:10]), vector()) == {"getitem": 0, "sin": BYTES}
    windows = np.lib.stride_tricks.sliding_window_view(np.ones(N), 10)
    x = gt.constant(1.0, "float64")
    with gt.GradientTape() as tape:
        tape.watch(x)
        x * Tensor(windows)
    assert tape.summary().total.kept == BYTES


def test_what_a_variable_holds_is_told_apart_until_it_is_assigned() -> None:
    v = gt.Variable(np.ones(N))
    with gt.GradientTape() as tape:
        y = gt.sin(v) * v
    before = tape.summary()
    assert (before.total.kept, before.of_variables) == (BYTES, BYTES)
    assert "Variables hold 7.81 KiB more" in str(before)
    v.assign_add(np.ones(N))
    after = tape.summary()
    assert (after.total.kept, after.of_variables) == (2 * BYTES, 0)
    assert "Variables" not in str(after)
    del y


def test_indices_of_a_lookup_count() -> None:
    table = gt.Variable(np.ones((N, 4), "f4"))
    with gt.GradientTape() as tape:
        gt.nn.embedding_lookup(table, np.array([1, 2, 3]))
    assert (tape.summary().total.kept, tape.summary().of_variables) == (24, 0)


def test_many_examples_count_all_together() -> None:
    tapes = []

    def f(x: Tensor) -> Tensor:
        with gt.GradientTape() as tape:
            tape.watch(x)
            y = gt.sin(x)
        tapes.append(tape.summary())
        return y

    gt.vectorized_map(f, gt.constant(np.ones((7, N))))
    assert tapes[0].total.kept == 7 * BYTES


def a_custom_gradient(x: Tensor) -> Tensor:
    @gt.custom_gradient
    def f(x: Tensor) -> Any:
        root = gt.sqrt(x)
        return root, lambda g: g / (2.0 * root)

    return gt.exp(f(x))


PROGRAMS: list[Callable[[Tensor], Tensor]] = [
    lambda x: gt.sin(gt.exp(gt.sin(x))),
    lambda x: gt.reduce_sum(
        gt.square(gt.reshape(x, (10, -1)) @ gt.transpose(gt.reshape(gt.exp(x), (10, -1))))
    ),
    lambda x: gt.concat([gt.sin(x[: len(x) // 2]), gt.exp(x[len(x) // 2 :])], 0),
    lambda x: gt.nn.relu(gt.where(x > 1.0, gt.sqrt(x), x * x)),
    lambda x: gt.reduce_sum(gt.gather(gt.exp(x), np.arange(5))),
    lambda x: gt.recompute_grad(lambda x: gt.sin(gt.sin(x)))(gt.exp(x)),
    a_custom_gradient,
    gt.function(lambda x: gt.sin(x) * gt.exp(x), jit_compile=False),
]


def test_what_a_rule_holds_may_lie_deep() -> None:
    held: Any = np.ones(N)
    for _ in range(5000):
        held = [held]
    doubled = gt.custom_gradient(lambda x: (x * 2.0, lambda g, held=held: g * 2.0))
    v = gt.Variable(1.0)
    with gt.GradientTape(explain=True) as tape:
        y = doubled(v)
    assert tape.summary().total.kept == BYTES
    assert tape.gradient(y, v).numpy() == 2.0


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_total_is_what_is_freed_with_the_tape(program: Callable[[Tensor], Tensor]) -> None:
    n = 100_000
    program(vector(n))  # a function is compiled
    gc.collect()
    tracemalloc.start()
    try:
        start = tracemalloc.get_traced_memory()[0]
        x = gt.constant(np.linspace(0.5, 1.5, n))
        with gt.GradientTape() as tape:
            tape.watch(x)
            y = program(x)
        total = tape.summary().total.kept
        del x, y
        held = tracemalloc.get_traced_memory()[0] - start
        del tape
        freed = held - (tracemalloc.get_traced_memory()[0] - start)
    finally:
        tracemalloc.stop()
    assert total == pytest.approx(freed, abs=100_000)
    assert total > 0


# -- rows ----------------------------------------------------------------------------------------------------


def test_rows_count_records_and_the_largest_come_first() -> None:
    x = vector()
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = x
        for _ in range(3):
            y = gt.sin(y)
        y = gt.exp(y + 1.0)
        gt.cos(vector())  # of nothing that the tape follows
    summary = tape.summary()
    assert [(r.op, r.records, r.kept) for r in summary.rows] == [
        ("sin", 3, 3 * BYTES),
        ("exp", 1, BYTES),
        ("add", 1, 0),
    ]
    assert (summary.total.records, summary.total.kept) == (5, 4 * BYTES)


def test_a_tape_that_has_answered_holds_nothing() -> None:
    x = vector()
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = gt.sin(x)
    tape.gradient(y, x)
    assert tape.summary().rows == ()
    assert tape.summary().total.kept == 0
    assert str(tape.summary()).startswith("The tape has answered, and holds nothing;")


def test_a_tape_with_a_memory_tells_what_it_held_when_its_sweep_began() -> None:
    x = vector()
    with gt.GradientTape(explain=True) as tape:
        tape.watch(x)
        y = gt.sin(x)
    tape.gradient(y, x)
    summary = tape.summary()
    assert (summary.total.records, summary.total.kept) == (1, BYTES)
    assert [line.kept for line in summary.lines] == [BYTES]
    assert "holds nothing now; this it held when its sweep began" in str(summary)
    with tape:
        pass
    assert tape.summary().rows == ()


def test_a_persistent_tape_holds_on() -> None:
    x = vector()
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = gt.sin(x)
    before = str(tape.summary())
    tape.gradient(y, x)
    assert str(tape.summary()) == before


def test_an_empty_tape_says_so() -> None:
    assert str(gt.GradientTape().summary()).startswith("The tape holds nothing: no op")


def test_lines_are_those_that_keep_most() -> None:
    x = vector()
    with gt.GradientTape(explain=True) as tape:
        tape.watch(x)
        a = gt.exp(x)
        for _ in range(3):
            a = gt.sin(a)  # of which the first keeps what exp does
        gt.sin(a[:1] + 0.0), gt.sin(a[:2] + 0.0)
        gt.sin(a[:1] + 0.0)
        gt.sin(a[:4] + 0.0)
        gt.sin(a[:5] + 0.0)
    lines = tape.summary().lines
    assert [line.kept for line in lines] == [2 * BYTES, BYTES, 40, 32, 24]
    text = f"tests/test_summary.py:{lines[0].line}: a = gt.sin(a)  # of which the first keeps what exp does"
    assert lines[0].shown.endswith(text)
    assert f"  {_bytes(2 * BYTES)}  {lines[0].shown}" in str(tape.summary()).splitlines()
    assert "explain=True" not in str(tape.summary())


# -- how it looks --------------------------------------------------------------------------------------------


def profiled() -> Summary:
    w = gt.Variable(np.ones((30, 30)))
    with gt.GradientTape(explain=True) as tape, tape.profile():
        y = w
        for _ in range(3):
            y = gt.tanh(y @ w)
        y = gt.reduce_sum(
            a_function_with_a_name_that_is_longer_than_the_column_for_names_of_ops_can_be_made(y)
        )
    tape.gradient(y, w)
    return tape.summary()


@gt.custom_gradient
def a_function_with_a_name_that_is_longer_than_the_column_for_names_of_ops_can_be_made(x: Tensor) -> Any:
    return x * 1.0, lambda g: g


def test_columns_of_the_text_are_aligned() -> None:
    text = str(profiled()).split("The lines")[0].splitlines()
    groups, titles, rule, *rows, _, total = text
    assert {len(line) for line in [groups, titles, rule, *rows, total]} == {len(rule)}
    assert len(rule) <= 100
    ends = [m.end() for m in re.finditer(r"\S+", titles)][1:]
    for line in [*rows, total]:
        cells = [m.end() for m in re.finditer(r"\S+( (B|KiB|us|ms))?(?=  |$)", line)]
        assert set(ends) <= set(cells)
    assert sum(line.startswith("a_function") for line in rows) == 1
    assert "forward" in groups
    assert "sweep" in groups


def test_html_escapes_what_others_named() -> None:
    @gt.custom_gradient
    def f(x: Tensor) -> Any:
        return x * 1.0, lambda g: g

    f.__name__ = f.__wrapped__.__name__ = "<script>"
    x = vector()
    with gt.GradientTape(explain=True) as tape:
        tape.watch(x)
        gt.sin(f(x)) if 1 < 2 & 3 else None
    summary = tape.summary()
    html = summary._repr_html_()
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    assert "if 1 &lt; 2 &amp; 3 else" in html
    assert html.count("<tr>") == html.count("</tr>") == 2 + len(summary.rows) + len(summary.lines)
    assert "color:" not in html.replace("currentColor", "")


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (10_239, "10.0 KiB"),
        (1_000_000, "977 KiB"),
        (2**20 - 1, "1.00 MiB"),
        (3 * 2**29, "1.50 GiB"),
        (5 * 2**40, "5.00 TiB"),
    ],
)
def test_bytes_have_three_figures_and_their_unit(n: int, text: str) -> None:
    assert _bytes(n) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0.00 us"),
        (1.234e-6, "1.23 us"),
        (999.6e-6, "1.00 ms"),
        (0.0123, "12.3 ms"),
        (2.0, "2.00 s"),
    ],
)
def test_seconds_have_three_figures_and_their_unit(seconds: float | None, text: str) -> None:
    assert _time(seconds) == text


# -- times ---------------------------------------------------------------------------------------------------

FORWARD, BACKWARD = 0.02, 0.04


@pytest.fixture
def slow(scratch_registry: None) -> Callable[..., Tensor]:
    def vjp(xp: Any, g: Any) -> Any:
        time.sleep(BACKWARD)
        return g

    def slow(x: gt.extending.TensorLike) -> gt.extending.Array:
        time.sleep(FORWARD)
        return x * 1.0

    return gt.extending.op(vjp=vjp)(slow)


def test_times_are_those_of_the_op_and_of_its_rule(slow: Callable[..., Tensor]) -> None:
    x = vector()
    with gt.GradientTape() as tape, tape.profile():
        tape.watch(x)
        y = gt.sin(slow(slow(x)))
    tape.gradient(y, x)
    summary = tape.summary()
    assert [r.op for r in summary.rows] == ["slow", "sin"]  # by time, not by bytes
    top, other = summary.rows
    assert (top.forward.runs, top.sweep.runs) == (2, 2)
    assert FORWARD <= top.forward.each < BACKWARD <= top.sweep.each < 2 * BACKWARD
    assert other.forward.each < FORWARD / 2
    assert other.sweep.each < FORWARD / 2
    assert top.share > 0.8
    assert top.share + other.share == pytest.approx(1.0)
    assert summary.total.sweep.seconds == pytest.approx(top.sweep.seconds + other.sweep.seconds)
    assert summary.sweeps == 1


def test_only_the_block_is_timed_but_every_sweep(slow: Callable[..., Tensor]) -> None:
    x = vector()
    with gt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = gt.exp(x)
        with tape.profile():
            y = slow(y)
            with tape.stop_recording():
                slow(x)
            y = gt.sin(y)
        with tape.stop_recording():
            pass
        y = slow(y)
    with tape.profile():
        slow(y)  # after the tape's block
        tape.gradient(y, x)
    tape.gradient(y, x)
    summary = tape.summary()
    assert {r.op: (r.forward.runs, r.sweep.runs) for r in summary.rows} == {
        "slow": (1, 4),
        "sin": (1, 2),
        "exp": (0, 2),
    }
    assert summary.sweeps == 2


def test_an_op_of_two_operands_counts_once_in_the_sweep_and_so_does_a_lone_one_in_each() -> None:
    x = gt.constant(np.ones(3))
    with gt.GradientTape(persistent=True) as tape, tape.profile():
        tape.watch(x)
        y = x * x
    tape.gradient(y, x)
    assert row(tape.summary(), "multiply").sweep.runs == 1
    tape.jacobian(y, x, experimental_use_pfor=False)
    assert row(tape.summary(), "multiply").sweep.runs == 4


def test_a_sweep_within_the_profile_is_not_heard_as_forward() -> None:
    x = vector()
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = gt.sin(x)
        with tape.profile():
            tape.gradient(y, x)
            assert not listening()
            gt.cos(x)
    summary = tape.summary()
    assert [(r.op, r.forward.runs, r.sweep.runs) for r in summary.rows] == [("sin", 0, 1)]


def test_a_tape_that_is_entered_anew_begins_anew() -> None:
    x = vector()
    tape = gt.GradientTape()
    with tape.profile():
        for f in (gt.sin, gt.exp):
            with tape:
                tape.watch(x)
                y = f(x)
            tape.gradient(y, x)
    assert [(r.op, r.forward.runs, r.sweep.runs) for r in tape.summary().rows] == [("exp", 1, 1)]


def test_nested_tapes_do_not_time_each_others_reruns(slow: Callable[..., Tensor]) -> None:
    x = vector()
    with gt.GradientTape() as outer, outer.profile():
        outer.watch(x)
        with gt.GradientTape() as inner, inner.profile():
            inner.watch(x)
            y = gt.sin(slow(x))
        g = inner.gradient(y, x)
    outer.gradient(g, x)
    assert row(inner.summary(), "slow").sweep.each < 2 * BACKWARD
    heard = {r.op: r.forward.runs for r in outer.summary().rows if r.forward.runs}
    assert heard == {"slow": 1, "sin": 1, "cos": 1, "multiply": 1}
    # the rule of sin runs cos, which the outer profile runs again within the time of that rule
    assert row(inner.summary(), "sin").sweep.each < FORWARD / 2


def test_what_an_outer_profile_runs_again_is_not_in_the_time_of_a_rule(slow: Callable[..., Tensor]) -> None:
    def with_slow_rule(x: gt.extending.TensorLike) -> gt.extending.Array:
        return x * 1.0

    f = gt.extending.op(vjp=lambda xp, g: xp.slow(g))(with_slow_rule)
    x = vector()
    with gt.GradientTape() as outer, outer.profile():
        outer.watch(x)
        with gt.GradientTape() as inner, inner.profile():
            inner.watch(x)
            y = f(x)
        inner.gradient(y, x)
    assert row(outer.summary(), "slow").forward.each >= FORWARD
    assert FORWARD <= row(inner.summary(), "with_slow_rule").sweep.each < 2 * FORWARD


def test_a_compiled_function_is_timed_as_it_runs() -> None:
    @gt.function
    def f(x: Tensor) -> Tensor:
        return gt.reduce_sum(gt.sin(x @ x))

    x = gt.constant(np.ones((200, 200)))
    for runs in (0, 1):  # the first call is recorded, in Python
        with gt.GradientTape() as tape, tape.profile():
            tape.watch(x)
            y = f(x)
        tape.gradient(y, x)
        r = row(tape.summary(), "f")
        assert (r.records, r.forward.runs, r.sweep.runs) == (1, runs, 1)
    assert 1e-5 < r.forward.each < 1.0


def test_within_a_function_and_within_a_map_it_times_and_changes_nothing() -> None:
    def f(x: Tensor) -> Tensor:
        with gt.GradientTape() as tape, tape.profile():
            tape.watch(x)
            y = gt.reduce_sum(gt.sin(x) * x)
        return tape.gradient(y, x)

    xs = gt.constant(np.linspace(-1, 1, 12).reshape(3, 4))
    want = np.sin(xs.numpy()) + xs.numpy() * np.cos(xs.numpy())
    compiled = gt.function(f)
    for got in (compiled(xs), compiled(xs), gt.vectorized_map(f, xs)):
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-14)


def test_around_a_map_it_hears_all_examples_even_if_the_tape_pauses_in_it() -> None:
    tape = gt.GradientTape()

    def f(x: Tensor) -> Tensor:
        with tape.stop_recording():
            pass
        return x @ np.ones((4, 5))

    x = gt.constant(np.ones((7, 3, 4)))
    with tape, tape.profile():
        tape.watch(x)
        y = gt.vectorized_map(f, x)
    tape.gradient(y, x)
    matmul = row(tape.summary(), "matmul")
    assert (matmul.forward.runs, matmul.forward.flops, matmul.sweep.flops) == (1, 840, 840)


def test_an_index_is_timed_as_users_write_it() -> None:
    class Calls(Again):
        def record(self, op: Op, keys: tuple[Any, ...], values: tuple[Any, ...], uniform: bool) -> None:
            called.append(call_again(op, keys, values))

    called: list[Any] = []
    calls = Calls()
    push(calls)
    vector()[2:5]
    pop(calls)
    assert [(call.func, call.args[1]) for call in called] == [(REGISTRY["getitem"].call, (slice(2, 5),))]


def program(x: Tensor, w: gt.Variable) -> Tensor:
    h = gt.nn.relu(gt.einsum("ij,jk->ik", x, w) + w[0])
    h = gt.concat([h, gt.nn.dropout(gt.tanh(h @ w), 0.5)], 1)
    first, second = gt.split(h, 2, 1)
    y = gt.where(first > 0.1, gt.sqrt(gt.abs(first) + 1.0), second) / gt.reduce_max(h)
    return gt.reduce_mean(gt.nn.softmax(y), 0)


@pytest.mark.parametrize("ask", ["gradient", "jacobian"])
def test_answers_are_the_same_to_the_bit(ask: str, rng: np.random.Generator) -> None:
    x, w = gt.constant(rng.normal(size=(5, 6))), gt.Variable(rng.normal(size=(6, 6)))
    found = []
    for profiled in (False, True):
        gt.random.set_seed(3)
        with gt.GradientTape() as tape:
            tape.watch(x)
            if profiled:
                with tape.profile():
                    y = program(x, w)
            else:
                y = program(x, w)
        found.append([y.numpy(), *(g.numpy() for g in getattr(tape, ask)(y, [x, w]))])
    for plain, timed in zip(*found, strict=True):
        np.testing.assert_array_equal(plain, timed)
    assert len(tape.summary().rows) > 10


class Again:
    """A recorder that runs each op again, and holds its result against the first."""

    def __init__(self) -> None:
        self.count = 0

    def record(self, op: Op, keys: tuple[Any, ...], values: tuple[Any, ...], uniform: bool) -> None:
        call = call_again(op, keys, values)
        assert call is not None, op.name
        with unheard():
            again = call()
        outs, once_more = [values[-1], again] if type(keys[-1]) is tuple else [[values[-1]], [again]]
        for out, other in zip(outs, once_more, strict=True):
            assert other.dtype == out.dtype
            np.testing.assert_array_equal(other.numpy(), out)
        self.count += 1

    def accessed(self, variable: gt.Variable) -> None: ...

    def follows(self, key: int) -> bool:
        return False


@pytest.mark.parametrize("case", cases(lambda op: op.primitive), ids=case_id)
def test_every_op_can_be_run_again_from_its_record(case: Case) -> None:
    xs = tensors(case.draw(case.op.dtypes[-1]))
    again = Again()
    push(again)
    try:
        case.results(xs)
    finally:
        pop(again)
    assert again.count


# -- products ------------------------------------------------------------------------------------------------


def flops(f: Callable[..., Any], *shapes: tuple[int, ...], dtype: str = "d") -> tuple[float, float]:
    """Of one product, forward and in the sweep."""
    xs = [gt.constant(np.ones(shape, dtype)) for shape in shapes]
    with gt.GradientTape() as tape, tape.profile():
        tape.watch(xs)
        y = f(*xs)
    tape.gradient(y, xs)
    found = [r for r in tape.summary().rows if r.forward.flops]
    assert [r.forward.runs for r in found] == [1]
    return found[0].forward.flops, found[0].sweep.flops


@pytest.mark.parametrize(
    ("f", "shapes", "forward", "sweep"),
    [
        (gt.matmul, [(3, 4), (4, 5)], 2 * 60, 4 * 60),
        (functools.partial(gt.matmul, transpose_a=True, adjoint_b=True), [(4, 3), (5, 4)], 120, 240),
        (gt.matmul, [(4,), (4,)], 8, 4 + 4),
        (gt.matmul, [(3, 4), (4,)], 24, 12 + 24),  # an outer product adds nothing up
        (gt.matmul, [(4,), (4, 5)], 40, 40 + 20),
        (gt.matmul, [(3, 1), (1, 5)], 15, 30 + 30),
        (gt.matmul, [(7, 3, 4), (4, 5)], 7 * 120, 7 * 240),
        (gt.matmul, [(7, 3, 4), (7, 4, 5)], 7 * 120, 7 * 240),
        (gt.linalg.matvec, [(7, 3, 4), (4,)], 7 * 24, 7 * 12 + 7 * 24),
        (functools.partial(gt.linalg.matvec, transpose_a=True), [(4, 3), (4,)], 24, 12 + 24),
        (functools.partial(gt.einsum, "bij,bjk->bik"), [(7, 3, 4), (7, 4, 5)], 7 * 120, 7 * 240),
        (functools.partial(gt.einsum, "i,j->ij"), [(3,), (4,)], 12, 24 + 24),
        (functools.partial(gt.linalg.tensordot, axes=2), [(3, 4, 5), (4, 5, 6)], 2 * 360, 4 * 360),
    ],
)
def test_products_are_counted(f: Any, shapes: Any, forward: float, sweep: float) -> None:
    assert flops(f, *shapes) == (forward, sweep)


def test_a_complex_product_counts_four_times() -> None:
    assert flops(gt.matmul, (3, 4), (4, 5), dtype="D") == (4 * 120, 4 * 240)


def test_products_of_many_examples_count_for_all() -> None:
    found = []

    def f(x: Tensor) -> Tensor:
        with gt.GradientTape() as tape, tape.profile():
            tape.watch(x)
            y = gt.square(x @ np.ones((4, 5)))
        g = tape.gradient(y, x)
        found.append(row(tape.summary(), "matmul"))
        return g

    gt.vectorized_map(f, gt.constant(np.ones((7, 3, 4))))
    assert (found[0].forward.flops, found[0].sweep.flops) == (7 * 120, 7 * 120)


def test_a_jacobian_counts_a_product_for_each_element() -> None:
    x = gt.constant(np.ones((3, 4)))
    with gt.GradientTape() as tape, tape.profile():
        tape.watch(x)
        y = x @ np.ones((4, 5))
    tape.jacobian(y, x)
    assert row(tape.summary(), "matmul").sweep.flops == 15 * 120


def test_a_jacobian_that_is_written_down_needs_no_products() -> None:
    w, x = gt.constant(np.ones((3, 4))), gt.constant(np.ones(4))
    with gt.GradientTape() as tape, tape.profile():
        tape.watch(x)
        y = gt.sin(w @ x)
    tape.jacobian(y, x)
    assert row(tape.summary(), "matmul").sweep.flops == 12


def test_what_is_not_known_of_a_product_is_not_told() -> None:
    x = gt.constant(np.ones((30, 40)))
    with gt.GradientTape() as tape:
        tape.watch(x)
        y = x @ np.ones((40, 50))
        with tape.profile():
            z = y @ np.ones((50, 60))
    tape.gradient(z, x)
    matmul = row(tape.summary(), "matmul")
    assert matmul.forward.gflops > 0
    assert matmul.sweep.gflops is None
    assert matmul.sweep.each > 0
