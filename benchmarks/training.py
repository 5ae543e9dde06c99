"""What memory a compiled training step takes, in gradtape and in JAX: `python benchmarks/training.py`.

A step is loss and gradients of a classifier, and one move of gradient descent. Each runs in a process of its
own, whose pages Linux counts; its weights are compared with those by hand afterwards. JAX takes part twice:
as most write it, and "donating" the old weights, so that the new ones may be written over them.
"""

import argparse
import ctypes
import importlib.util
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import print_table, tell, turn, yes_no
from libraries import LIBRARIES
from workloads import softmax

BATCH = 512
RATE = 0.01
STEPS = 3  # before measuring, and again as many while measuring
NETWORKS = {"784-256-10": (784, 256, 10), "2048-4096-4096-10": (2048, 4096, 4096, 10)}
AT_MOST = 1.0

Arrays = list[np.ndarray]


class Training(NamedTuple):
    """step(): one step; weights(): as they are now."""

    step: Callable[[], object]
    weights: Callable[[], Sequence[Any]]


def data(sizes: Sequence[int]) -> tuple[Arrays, np.ndarray, np.ndarray]:
    """The first weights, matrix and offset in turn, and a batch of inputs and one-hot rows, in float32."""
    rng = np.random.default_rng(0)
    weights = []
    for n, m in itertools.pairwise(sizes):
        weights += [rng.standard_normal((n, m), np.float32) / np.float32(n) ** 0.5, np.zeros(m, np.float32)]
    labels = np.eye(sizes[-1], dtype=np.float32)[rng.integers(0, sizes[-1], BATCH)]
    return weights, rng.standard_normal((BATCH, sizes[0]), np.float32), labels


def loss(m: Any, weights: Sequence[Any], inputs: Any, labels: Any) -> Any:
    """The mean cross-entropy of the batch, in a library's functions."""
    y = inputs
    for i in range(0, len(weights), 2):
        y = m.matmul(m.relu(y) if i else y, weights[i]) + weights[i + 1]
    return m.sum(labels * m.log_softmax(y)) * (-1.0 / BATCH)


def with_gradtape(weights: Arrays, inputs: np.ndarray, labels: np.ndarray) -> Training:
    import gradtape as gt

    m = LIBRARIES["gradtape"]()
    variables = [gt.Variable(w) for w in weights]
    optimizer = gt.optimizers.SGD(RATE)
    batch = gt.constant(inputs), gt.constant(labels)

    @gt.function
    def step(x: gt.Tensor, y: gt.Tensor) -> gt.Tensor:
        with gt.GradientTape() as tape:
            found = loss(m, variables, x, y)
        optimizer.apply_gradients(zip(tape.gradient(found, variables), variables, strict=True))
        return found

    return Training(lambda: float(step(*batch)), lambda: variables)


def with_jax(weights: Arrays, inputs: np.ndarray, labels: np.ndarray, **options: Any) -> Training:
    import jax
    import jax.numpy as jnp

    m = LIBRARIES["jax"]()
    state = [jnp.array(w) for w in weights]
    batch = jnp.array(inputs), jnp.array(labels)

    def moved(state: list[Any], x: Any, y: Any) -> tuple[Any, list[Any]]:
        found, gradients = jax.value_and_grad(lambda ws: loss(m, ws, x, y))(state)
        return found, [w - RATE * g for w, g in zip(state, gradients, strict=True)]

    program = jax.jit(moved, **options)

    def step() -> float:
        found, state[:] = jax.block_until_ready(program(state, *batch))
        return float(found)

    return Training(step, lambda: state)


LEARNERS: dict[str, Callable[..., Training]] = {
    "gradtape.function": with_gradtape,
    "jax.jit": with_jax,
    "jax.jit, donating": partial(with_jax, donate_argnums=0),
}


def by_hand(weights: Arrays, inputs: np.ndarray, labels: np.ndarray) -> None:
    """One step in NumPy, on the weights in place."""
    values = [inputs]
    for i in range(0, len(weights), 2):
        values.append((np.maximum(values[-1], 0) if i else inputs) @ weights[i] + weights[i + 1])
    g = (softmax(values.pop()) - labels) / BATCH
    for i in range(len(weights) - 2, -1, -2):
        y = values.pop()
        by_matrix, by_offset = (np.maximum(y, 0) if i else y).T @ g, g.sum(axis=0)
        g = (g @ weights[i].T) * (y > 0)
        weights[i] -= RATE * by_matrix
        weights[i + 1] -= RATE * by_offset


def wrong_by(found: Sequence[Any], sizes: Sequence[int]) -> str | None:
    """What is the matter with the weights after all steps: how far they moved, beside the move by hand."""
    start, (wanted, inputs, labels) = data(sizes)[0], data(sizes)
    for _ in range(2 * STEPS):
        by_hand(wanted, inputs, labels)
    for was, got, want in zip(start, map(np.asarray, found), wanted, strict=True):
        error = np.linalg.norm(got - want) / np.linalg.norm(want - was)
        if not error <= 1e-2:
            return f"wrong by {error:.0e}"
    return None


# -- the pages of this process -------------------------------------------------------------------------------


def pages(what: str) -> float:
    """Megabytes of this process in memory: now ("VmRSS"), or at most so far ("VmHWM")."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1000


def forget_peak() -> None:
    """Gives freed memory back to the system, and lets VmHWM begin anew from what is left."""
    time.sleep(0.2)  # JAX frees some in threads of its own
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def one_turn(learner: str, network: str) -> dict[str, Any]:
    """One turn, in this process: the megabytes that a step adds, those between steps, and the whole peak."""
    sizes = NETWORKS[network]
    training = LEARNERS[learner](*data(sizes))
    for _ in range(STEPS):
        training.step()
    whole = pages("VmHWM")
    forget_peak()
    resting = pages("VmRSS")
    for _ in range(STEPS):
        training.step()
    peak = pages("VmHWM")
    found = {"step": peak - resting, "resting": resting, "whole": max(whole, peak)}
    problem = wrong_by(training.weights(), sizes)
    return {"error": problem} if problem else found


def measured(rounds: int) -> dict[str, dict[str, Any]]:
    """By network and learner, the medians of the rounds; empty where pages are not counted so."""
    if sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"):
        return {}
    present = [name for name in LEARNERS if importlib.util.find_spec(name.split(".")[0])]
    found: dict[str, dict[str, Any]] = {}
    for network in NETWORKS:
        turns = [{name: one_process(name, network) for name in present} for _ in range(rounds)]
        found[network] = {name: median([results[name] for results in turns]) for name in present}
    return found


def one_process(learner: str, network: str) -> dict[str, Any]:
    """A turn in a process of its own, whose malloc gives back at once what is freed: that does not count."""
    return turn([__file__, network, "--turn", learner], MALLOC_MMAP_THRESHOLD_="65536")


def median(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The median of each figure, or the first error."""
    failed = [result for result in results if "error" in result]
    figures = results[0]
    return failed[0] if failed else {f: statistics.median(r[f] for r in results) for f in figures}


def ratios(results: dict[str, Any]) -> dict[str, float]:
    """What gradtape's step adds over what others' add."""
    added = {name: result["step"] for name, result in results.items() if "step" in result}
    ours = added.pop("gradtape.function", None)
    return {} if ours is None else {name: ours / theirs for name, theirs in added.items()}


def show(found: dict[str, dict[str, Any]]) -> None:
    """Prints the table."""
    if not found:
        print("\nMemory of a training step: it is measured on Linux with glibc")
        return
    rows = []
    for network, results in found.items():
        over = ratios(results)
        for learner, result in results.items():
            figures = [f"{result[f]:.1f}" if f in result else "" for f in ("step", "resting", "whole")]
            ratio = f"{over[learner]:.2f}" if learner in over else result.get("error", "")
            bound = learner == "jax.jit" and learner in over
            wanted = [f"{AT_MOST:.2f}", yes_no(over[learner] <= AT_MOST)] if bound else ["", ""]
            rows.append((network, learner, *figures, ratio, *wanted))
    header = (
        "network",
        "",
        "step adds",
        "between steps",
        "whole peak",
        "gradtape over it",
        "at most",
        "holds",
    )
    print_table(f"Memory of a compiled training step, batch of {BATCH}, MB of the process", header, rows)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("network", nargs="?", choices=NETWORKS, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (3)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--turn", choices=LEARNERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turn:
        print(json.dumps(one_turn(options.turn, options.network)))
        return
    tell(measured(options.rounds), show, options.json)


if __name__ == "__main__":
    main()
