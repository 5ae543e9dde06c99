"""What a tape draws: the graph behind the picture, of plain tapes and of those that explain."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradtape as gt
from gradtape.errors import NotATensorError, TapeStateError

pytest.importorskip("pygraphviz", reason="the layout: pip install 'gradtape[draw]'")


def named(picture: Any) -> dict[Any, str]:
    return {node.key: node.lines[0] for node in picture.nodes}


def arrows(picture: Any) -> set[str]:
    """Every link as "start -> end", or "start -/note/-> end" where it is broken."""
    names = named(picture)
    return {
        f"{names[a]} -/{note}/-> {names[b]}" if broken else f"{names[a]} -> {names[b]}"
        for a, b, broken, note in picture.links
    }


def kinds(picture: Any) -> dict[str, str]:
    return {node.lines[0]: node.kind for node in picture.nodes}


@pytest.mark.parametrize("explain", [False, True])
def test_sources_ops_and_the_target(explain: bool) -> None:
    v, w = gt.Variable([1.0, 2.0], name="v"), gt.Variable(3.0, name="w")
    with gt.GradientTape(explain=explain) as tape:
        y = gt.reduce_sum(gt.sin(v) * w)
        gt.exp(w)
    picture = tape.draw(y, v)
    assert arrows(picture) == {
        "v -> sin",
        "sin -> multiply",
        "w -> multiply",
        "multiply -> reduce_sum",
        "reduce_sum -> y",
    }
    assert kinds(picture)["v"] == kinds(picture)["w"] == "source"
    assert kinds(picture)["y"] == "target"
    assert [named(picture)[key] for key in picture.path] == ["v", "sin", "multiply", "reduce_sum", "y"]
    labels = {node.lines[0]: node.lines[1:] for node in picture.nodes}
    assert labels["v"] == ("float32 (2,)",)
    assert labels["y"] == ("float32 ()",)
    assert labels["multiply"] == (("float32 (2,)",) if explain else ())


@pytest.mark.parametrize("explain", [False, True])
def test_all_that_was_computed_if_no_target_is_given(explain: bool) -> None:
    v = gt.Variable([1.0, 2.0])
    with gt.GradientTape(explain=explain) as tape:
        y = gt.sin(v)
        gt.exp(v)
    picture = tape.draw()
    assert arrows(picture) == {"v -> sin", "sin -> y", "v -> exp"}
    assert kinds(picture) == {"v": "source", "sin": "op", "y": "target", "exp": "target"}
    assert picture.path == ()
    assert y is not None


def test_shapes_constants_and_arrays() -> None:
    v = gt.Variable(np.ones((3, 4)))
    c = gt.constant(np.ones(4))
    with gt.GradientTape(explain=True) as tape:
        y = (v * c + np.ones((3, 1))) * 2.0
        a, b = gt.split(y, 2, 1)
        parts = gt.split(y, 4, 1)
    picture = tape.draw([a, *parts])
    assert kinds(picture)["c"] == kinds(picture)["array"] == "constant"
    labels = {node.lines for node in picture.nodes}
    assert ("array", "float64 (3, 1)") in labels
    assert ("c", "float64 (4,)") in labels
    assert ("split", "float64 (3, 2)", "float64 (3, 2)") in labels
    assert ("split", "float64 (3, 1) and 3 more") in labels
    assert b is not None


BROKEN: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "round": (lambda x, tape: gt.round(x), "x -/no derivative/-> round"),
    "cast": (lambda x, tape: gt.cast(gt.cast(x, "int32"), "float32"), "x -/to integers/-> cast"),
    "stop_gradient": (lambda x, tape: gt.stop_gradient(x) * 2.0, "x -/cut off/-> stop_gradient"),
    "stop_recording": (lambda x, tape: within(tape, lambda: gt.exp(x)), "x -/not recorded/-> exp"),
    "numpy": (lambda x, tape: gt.sin(gt.constant(x.numpy())), "x -/left the tape/-> numpy()"),
    "state": (lambda x, tape: gt.exp(STATE.assign(gt.sin(x))), "sin -/assigned/-> assign"),
}
STATE = gt.Variable(0.0, name="state")


def within(tape: Any, f: Callable[[], Any]) -> Any:
    with tape.stop_recording():
        return f()


@pytest.mark.parametrize("case", BROKEN)
def test_broken_connections_are_drawn_broken_on_the_way(case: str) -> None:
    program, wanted = BROKEN[case]
    x = gt.Variable(1.4)
    with gt.GradientTape(explain=True) as tape:
        y = program(x, tape)
    picture = tape.draw(y, x)
    assert wanted in arrows(picture)
    names = [named(picture)[key] for key in picture.path]
    assert (names[0], names[-1]) == ("x", "y")
    assert "#d55e00" in picture.svg().lower()


def test_what_is_not_watched_is_broken_only_if_it_is_asked_about() -> None:
    x, v = gt.constant(1.4), gt.Variable(2.0)
    with gt.GradientTape(explain=True) as tape:
        y = x * v
    assert "x -/not watched/-> multiply" in arrows(tape.draw(y, x))
    assert "x -> multiply" in arrows(tape.draw(y, v))
    assert kinds(tape.draw(y, v))["x"] == "constant"


def test_no_way_at_all_leaves_two_parts() -> None:
    a, b = gt.Variable(1.0), gt.Variable(2.0)
    with gt.GradientTape(explain=True) as tape:
        y = gt.exp(a)
        gt.exp(b)
    picture = tape.draw(y, b)
    assert arrows(picture) == {"a -> exp", "exp -> y"}
    assert kinds(picture)["b"] == "source"
    assert picture.path == ()


def test_a_source_that_is_assigned_to_in_the_block_stays_the_source() -> None:
    w = gt.Variable(2.0, name="w")
    with gt.GradientTape(explain=True) as tape:
        y = gt.sin(w)
        w.assign_sub(y)
        z = gt.exp(w)
    assert arrows(tape.draw([y, z], w)) == {"w -> sin", "sin -> y", "w -> exp", "exp -> z"}


def test_what_is_added_to_a_variable_goes_where_the_next_sum_goes() -> None:
    x, total = gt.Variable(2.0, name="x"), gt.Variable(0.0, name="total")
    with gt.GradientTape(explain=True) as tape:
        total.assign_add(gt.sin(x))
        total.assign_add(gt.cos(x))
        y = gt.exp(total)
    picture = tape.draw(y, x)
    assert arrows(picture) >= {"sin -/assigned/-> assign", "cos -/assigned/-> assign", "assign -> assign"}
    assert not any("as a constant" in arrow for arrow in arrows(picture))


def test_an_op_with_a_derivative_of_its_own_hides_its_inside() -> None:
    @gt.custom_gradient
    def doubled(x):
        return x + x, lambda g: 2.0 * g

    x = gt.Variable(1.0)
    with gt.GradientTape(explain=True) as tape:
        y = doubled(x)
    assert arrows(tape.draw(y, x)) == {"x -> doubled", "doubled -> y"}


def test_a_long_chain_is_folded() -> None:
    x, c = gt.Variable(np.ones(4)), gt.constant(np.ones(4))
    with gt.GradientTape(explain=True) as tape:
        y = x
        for _ in range(100):
            y = gt.sin(y) * 0.9 + c
        z = gt.reduce_sum(y)
    picture = tape.draw(z, x)
    assert len(picture.nodes) <= 6
    assert any("100" in line for node in picture.nodes for line in node.lines)
    assert repr(picture) == "<picture of 301 ops; .save('tape.svg')>"


def test_the_way_begins_at_the_result_of_the_very_first_op() -> None:
    x = gt.Variable(1.0)
    with gt.GradientTape(explain=True) as tape:
        h = gt.sin(x)
        y = gt.exp(h)
    assert h is not None
    picture = tape.draw(y, h)
    assert arrows(picture) == {"x -> sin", "sin -> exp", "exp -> y"}
    assert [named(picture)[key] for key in picture.path] == ["sin", "exp", "y"]


@pytest.mark.parametrize("explain", [False, True])
def test_a_source_that_is_the_target(explain: bool) -> None:
    x = gt.Variable(1.0, name="x")
    with gt.GradientTape(explain=explain) as tape:
        pass
    assert arrows(tape.draw(x, x)) == {"x -> x"}


@pytest.mark.parametrize("explain", [False, True])
def test_two_results_of_one_op_connect_if_one_of_them_does(explain: bool) -> None:
    @gt.custom_gradient
    def first(a, b):
        return a + b, lambda g: (g, None)

    x = gt.Variable([1.0, 2.0])
    with gt.GradientTape(persistent=True, explain=explain) as tape:
        y = first(*gt.unstack(x))
        z = first(*gt.unstack(x)[::-1])
    for target in (y, z):
        assert tape.gradient(target, x) is not None
        assert "unstack -> first" in arrows(tape.draw(target, x))


def test_a_sweep_that_was_recorded() -> None:
    x = gt.Variable(2.0)
    with gt.GradientTape(explain=True) as outer:
        with gt.GradientTape() as inner:
            y = gt.sin(x * x)
        slope = inner.gradient(y, x)
    picture = outer.draw(slope, x)
    assert "cos" in named(picture).values()
    assert [named(picture)[key] for key in picture.path][:: len(picture.path) - 1] == ["x", "slope"]


def test_it_still_draws_when_it_has_answered_if_it_explains() -> None:
    x = gt.Variable(2.0)
    for explain in (True, False):
        with gt.GradientTape(explain=explain) as tape:
            y = x * x
        tape.gradient(y, x)
        if explain:
            assert arrows(tape.draw(y, x)) == {"x -> multiply", "multiply -> y"}
        else:
            with pytest.raises(TapeStateError, match=r"draw: this tape has answered.*explain=True"):
                tape.draw(y, x)


def test_it_is_saved_and_shown(tmp_path: Path) -> None:
    x = gt.Variable(2.0)
    with gt.GradientTape() as tape:
        y = x * x
    picture = tape.draw(y, x)
    picture.save(tmp_path / "tape.svg")
    picture.save(tmp_path / "tape.png")
    assert (tmp_path / "tape.svg").read_text(encoding="utf-8") == picture._repr_svg_()
    assert (tmp_path / "tape.png").read_bytes()[:4] == b"\x89PNG"


def test_what_goes_in_is_checked() -> None:
    with gt.GradientTape() as tape:
        pass
    with pytest.raises(NotATensorError, match="draw: target"):
        tape.draw(1.0)
    with pytest.raises(NotATensorError, match="draw: source"):
        tape.draw(gt.constant(1.0), np.ones(2))
    assert "0 ops" in repr(tape.draw())


def test_the_way_begins_at_what_the_source_was_then() -> None:
    v = gt.Variable(2.0)
    with gt.GradientTape(explain=True) as tape:
        h = v * v
        y = gt.sin(h)
        v.assign_add(1.0)
    assert arrows(tape.draw(y, v)) == {"v -> multiply", "multiply -> sin", "sin -> y"}
    assert arrows(tape.draw(y, h)) == {"v -> multiply", "multiply -> sin", "sin -> y"}
    assert [named(tape.draw(y, h))[key] for key in tape.draw(y, h).path] == ["multiply", "sin", "y"]


def test_a_value_by_itself() -> None:
    x = gt.Variable(2.0)
    with gt.GradientTape(explain=True) as tape:
        gt.sin(x)
    assert arrows(tape.draw(x, x)) == {"x -> x"}


def test_variables_have_the_names_that_explanations_give_them() -> None:
    w = gt.Variable(2.0, name="kernel")
    unnamed = [[gt.Variable(3.0)]]
    with gt.GradientTape() as tape:
        y = w * unnamed[0][0]
    assert arrows(tape.draw(y, w)) == {"kernel -> multiply", "variable -> multiply", "multiply -> y"}
    found = tape.explain(gt.round(y), w)
    assert str(found).startswith("The gradient of a float32 tensor of shape () by kernel is None")
