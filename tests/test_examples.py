"""The examples, run as a person runs them: what they print, what they write, and how well they learn."""

import importlib.util
import re
import struct
import sys
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
