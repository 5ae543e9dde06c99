"""The examples, run as a person runs them: what they print, what they write, and how well they learn."""

import importlib.util
import re
import struct
import sys
import types
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name):
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture
def run(digits, tmp_path, monkeypatch, capsys):
    """Runs digits with these options in an empty directory; gives what it printed."""

    def run(*options):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["digits.py", *options])
        digits.main()
        return capsys.readouterr()

    return run


def figure(printed, name):
    """The number that the table gives for a name."""
    (found,) = re.findall(rf"^{name} +([\d.]+)%?$", printed, re.MULTILINE)
    return float(found)


def size_of_png(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert data[-8:-4] == b"IEND"
    return struct.unpack(">II", data[16:24])


def test_digits_learns_to_97_percent_in_its_default_run(run, tmp_path):
    printed = run()
    assert figure(printed.out, "test accuracy") >= 97
    assert figure(printed.out, "training accuracy") >= 97
    assert figure(printed.out, "seconds") <= 20
    assert figure(printed.out, "steps") == 40 * 45
    assert "1438 to learn from, 359 held out" in printed.out
    assert [path.name for path in tmp_path.iterdir()] == ["digits.png"]
    width, height = size_of_png(tmp_path / "digits.png")
    assert 600 <= width <= 4000
    assert 300 <= height <= 3000
    assert (tmp_path / "digits.png").stat().st_size > 20_000


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_digits_learns_something_in_two_epochs(run, tmp_path, optimizer):
    printed = run("--epochs", "2", "--optimizer", optimizer, "--picture", "out.png", "--seed", "3")
    assert figure(printed.out, "test accuracy") > 75
    assert f"2 epochs of {optimizer}" in printed.out
    assert "picture: out.png" in printed.out
    assert re.search(r"training: +100%.*2/2.*loss=\d\.\d{4}", printed.err)
    assert size_of_png(tmp_path / "out.png")[0] > 600


def test_digits_gives_the_same_for_the_same_seed(run):
    outs = [run("--epochs", "1", "--seed", seed).out for seed in ("1", "1", "2")]
    one, again, other = ([figure(out, f"{of} accuracy") for of in ("training", "test")] for out in outs)
    assert one == again
    assert one != other


def test_digits_refuses_no_epochs(run, capsys):
    with pytest.raises(SystemExit):
        run("--epochs", "0")
    assert "at least 1" in capsys.readouterr().err


def test_twelve_digits_are_shown_the_wrong_ones_among_them(digits):
    labels = np.arange(40) % 10
    for mistakes in ([], [3], [3, 17, 20], list(range(9)), list(range(40))):
        said = labels.copy()
        said[mistakes] += 1
        chosen = digits.twelve(said, labels)
        assert len(chosen) == len(set(chosen.tolist())) == 12
        shown = set(chosen.tolist()) & set(mistakes)
        assert len(shown) >= min(len(mistakes), 6)


@pytest.fixture(scope="module")
def scipy_fit():
    return load("scipy_fit")


def test_scipy_fit_measures_the_flower_in_fewer_calls(scipy_fit, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["scipy_fit.py"])
    scipy_fit.main()
    printed = capsys.readouterr().out
    rows = re.findall(r"^  (\S.*?) +(\d+) +([\d.]+)$", printed, re.MULTILINE)
    assert [name for name, _, _ in rows] == [name for problem in scipy_fit.PROBLEMS for name in problem.fits]
    calls = [int(n) for _, n, _ in rows]
    assert 3 * calls[2] < calls[0] < calls[1]
    assert 2 * calls[5] < calls[3] < calls[4]
    assert 100 * calls[7] < calls[6]
    assert 30 * calls[8] < calls[6]
    ms = [float(n) for _, _, n in rows]
    assert 5 * ms[7] < ms[6], "with 180 unknowns, a sweep must be much faster than differences"
    for name, found, error in [
        ("column of the centre", 306.83, 0.08),
        ("row of the centre", 222.11, 0.08),
        ("radius", 137.15, 0.06),
        ("blur of the edge", 4.46, 0.11),
    ]:
        assert re.search(rf"^{name} +{found} +{error}$", printed, re.MULTILINE)
    assert figure(printed, "outline, shortest") == 127.33
    assert figure(printed, "outline, longest") == 142.5
    assert "picture: scipy_fit.png" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["scipy_fit.png"]
    width, height = size_of_png(tmp_path / "scipy_fit.png")
    assert 600 <= width <= 4000
    assert 300 <= height <= 3000
    assert (tmp_path / "scipy_fit.png").stat().st_size > 50_000


def test_scipy_fit_finds_a_disk_that_was_painted(scipy_fit, monkeypatch):
    true = np.array([320.25, 170.5, 90.75, 6.0, 0.05, 0.9])
    blank = scipy_fit.GRID._replace(red=np.zeros_like(scipy_fit.GRID.red))
    monkeypatch.setattr(scipy_fit, "GRID", blank)
    monkeypatch.setattr(scipy_fit, "GRID", blank._replace(red=scipy_fit.residuals(true)))
    for fit in scipy_fit.PROBLEMS[0].fits.values():
        np.testing.assert_allclose(fit(scipy_fit.residuals).x, true, rtol=1e-6)
    for aside in ([20, 0], [-20, 0], [0, 20], [0, -20]):
        assert scipy_fit.mismatch(true[:2]) < scipy_fit.mismatch(true[:2] + aside)


def test_scipy_fit_refuses_unequal_answers_and_counts_calls(scipy_fit):
    problem = scipy_fit.PROBLEMS[1]
    run = scipy_fit.measured(lambda f: [f(scipy_fit.CENTRE) for _ in range(5)], problem.f)
    assert run.calls == 5
    right = scipy_fit.measured(problem.fits["2-point (BFGS)"], problem.f)
    scipy_fit.check(problem, {"right": right})
    elsewhere = right._replace(found=types.SimpleNamespace(x=right.found.x + 0.1))
    with pytest.raises(AssertionError, match=r"where it matches best.*: wrong"):
        scipy_fit.check(problem, {"wrong": elsewhere, "right": right})


def test_the_tutorial_prints_tensorflows_strings_beside_its_code(capsys):
    load("tutorial").main()
    printed = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    answers = {
        "tape.gradient(z, y)": "tf.Tensor(8.0, shape=(), dtype=float32)",
        "tape.gradient(y, x)": "tf.Tensor(6.0, shape=(), dtype=float32)",
        "grad(x, 6)": "tf.Tensor(12.0, shape=(), dtype=float32)",
        "grad(x, 5)": "tf.Tensor(12.0, shape=(), dtype=float32)",
        "grad(x, 4)": "tf.Tensor(4.0, shape=(), dtype=float32)",
        "dy_dx": "tf.Tensor(3.0, shape=(), dtype=float32)",
        "d2y_dx2": "tf.Tensor(6.0, shape=(), dtype=float32)",
    }
    for code, answer in answers.items():
        assert any(re.fullmatch(rf"\s*{re.escape(code)}\s+{re.escape(answer)}", line) for line in printed), (
            code
        )
    first = next(i for i, line in enumerate(printed) if line.startswith("  tape.gradient(z, x)"))
    assert printed[first].endswith("  tf.Tensor(")
    assert printed[first + 1].strip() == "[[8. 8.]"
    assert printed[first + 2].strip() == "[8. 8.]], shape=(2, 2), dtype=float32)"
    assert sum("tf.Tensor(108.0, shape=(), dtype=float32)" in line for line in printed) == 1
    assert len([line for line in printed if re.match(r"\d\. ", line)]) == 5
