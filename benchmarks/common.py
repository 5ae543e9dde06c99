"""What the benchmarks share: who takes part, a turn in a process of its own, and how a table is printed."""

import contextlib
import functools
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

# Module name: the name people use. The order is that of the columns.
PEERS = {"torch": "PyTorch", "jax": "JAX", "tensorflow": "TensorFlow", "autograd": "autograd"}


@functools.cache
def peers() -> list[str]:
    """The peers that this environment has, by module name."""
    return [name for name in PEERS if importlib.util.find_spec(name)]


def turn(command: Sequence[str], limit: float = 90.0, **variables: str) -> dict[str, Any]:
    """The JSON object that a fresh Python running `command` prints last, or {"error": why there is none}.

    variables: of its environment, beside this process's own.
    Nothing is left of it: neither processes that it started, nor what PyTorch's compiler puts aside on disk.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        environment = (
            os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "TORCHINDUCTOR_CACHE_DIR": folder} | variables
        )
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # else each import would compile what pip did not
        said, complained = Path(folder, "stdout"), Path(folder, "stderr")
        with said.open("w") as out, complained.open("w") as err:
            process = subprocess.Popen(
                [sys.executable, *command], stdout=out, stderr=err, env=environment, start_new_session=True
            )
            try:
                failed = process.wait(limit)
            except subprocess.TimeoutExpired:
                return {"error": f"no answer in {limit:.0f} s"}
            finally:
                _end(process)
        lines = (complained if failed else said).read_text(errors="replace").strip().splitlines()
    if failed or not lines:
        return {"error": lines[-1] if lines else f"ended with {failed}"}
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and all that it started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def machine() -> str:
    """One line on what the figures were measured on, and how busy it was."""
    import numpy as np

    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}, NumPy {np.__version__}"
    )


def yes_no(holds: bool) -> str:
    """A verdict, for people."""
    return "yes" if holds else "NO"


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table, the first column to the left and the others to the right."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print(f"\n{title}\n")
    for i, line in enumerate(lines):
        cells = [
            cell.ljust(width) if j == 0 else cell.rjust(width)
            for j, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
        if i == 0:
            print("  ".join("-" * width for width in widths))
    sys.stdout.flush()


def tell(found: Any, show: Callable[[Any], None], as_json: bool) -> None:
    """Prints what was measured: as JSON, or as its tables."""
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        show(found)
