"""Gradients in gradtape, its peers and NumPy by hand: `python benchmarks/speed.py [workload ...]`.

Each library runs each workload in a process of its own, in turns, several rounds; a figure is the least of
the rounds' medians. A library's gradient is first compared with the one written by hand in NumPy and run in
float64. All is eager: nobody's compiler takes part. Peers that are not installed are left out.
"""

import argparse
import importlib
import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from common import PEERS, machine, peers, print_table, turn, yes_no

# -- the workloads: each a loss against a library's namespace, and its gradient by hand --------------------

STEPS = 100
BATCH = 128
INTEREST = 0.03
ROOT_HALF = 0.5**0.5


def chain_data(rng: np.random.Generator) -> list[np.ndarray]:
    """Small, since larger ones come to the chain's limit in 100 steps: pi, where every gradient is 0."""
    return [np.array([0.01, 0.02, 0.03, 0.04], np.float32)]


def chain(m: Any, x: Any) -> Any:
    y = x
    for _ in range(STEPS):
        y = m.sin(y) * x + y
    return m.sum(y)


def chain_by_hand(x: np.ndarray) -> list[np.ndarray]:
    y, steps = x, []
    for _ in range(STEPS):
        s = np.sin(y)
        steps.append((y, s))
        y = s * x + y
    dy, dx = np.ones_like(x), np.zeros_like(x)
    for y, s in reversed(steps):
        dx = dx + dy * s
        dy = dy + dy * x * np.cos(y)
    return [dx + dy]


def mlp_data(rng: np.random.Generator) -> list[np.ndarray]:
    images = rng.standard_normal((BATCH, 784))
    labels = np.eye(10)[rng.integers(0, 10, BATCH)]
    weights = [0.05 * rng.standard_normal(shape) for shape in ((784, 256), 256, (256, 10), 10)]
    return [array.astype(np.float32) for array in (images, labels, *weights)]


def mlp(m: Any, images: Any, labels: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    hidden = m.relu(m.matmul(images, w1) + b1)
    return m.sum(labels * m.log_softmax(m.matmul(hidden, w2) + b2)) * (-1.0 / BATCH)


def mlp_by_hand(
    images: np.ndarray, labels: np.ndarray, w1: np.ndarray, b1: np.ndarray, w2: np.ndarray, b2: np.ndarray
) -> list[np.ndarray]:
    hidden = np.maximum(images @ w1 + b1, 0)
    logits = hidden @ w2 + b2
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    d_logits = (odds / odds.sum(axis=1, keepdims=True) - labels) / BATCH
    d_hidden = (d_logits @ w2.T) * (hidden > 0)
    return [images.T @ d_hidden, d_hidden.sum(axis=0), hidden.T @ d_logits, d_logits.sum(axis=0)]


def rosenbrock_data(rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.standard_normal(1_000_000)]


def rosenbrock(m: Any, x: Any) -> Any:
    a, b = x[:-1], x[1:]
    valley, slope = b - a * a, 1.0 - a
    return m.sum(100.0 * (valley * valley) + slope * slope)


def rosenbrock_by_hand(x: np.ndarray) -> list[np.ndarray]:
    a = x[:-1]
    pull = 200.0 * (x[1:] - a * a)
    gradient = np.zeros_like(x)
    gradient[1:] = pull
    gradient[:-1] -= 2.0 * (pull * a + (1.0 - a))
    return [gradient]


def logistic_data(rng: np.random.Generator) -> list[np.ndarray]:
    features = rng.standard_normal((100_000, 50))
    labels = rng.integers(0, 2, 100_000).astype(np.float64)
    return [features, labels, 0.1 * rng.standard_normal(50)]


def logistic(m: Any, features: Any, labels: Any, w: Any) -> Any:
    z = m.matvec(features, w)
    return m.mean(m.softplus(z) - labels * z)


def logistic_by_hand(features: np.ndarray, labels: np.ndarray, w: np.ndarray) -> list[np.ndarray]:
    probability = 1.0 / (1.0 + np.exp(-(features @ w)))
    return [(probability - labels) @ features / len(labels)]


def greeks_data(rng: np.random.Generator) -> list[np.ndarray]:
    ranges = ((50, 150), (50, 150), (0.1, 2.0), (0.1, 0.5))
    return [rng.uniform(low, high, 1_000_000) for low, high in ranges]


def greeks(m: Any, spot: Any, strike: Any, years: Any, volatility: Any) -> Any:
    """The Black-Scholes price of calls, summed; its gradient holds delta, vega and minus theta of each."""
    spread = volatility * m.sqrt(years)
    d1 = (m.log(spot / strike) + (INTEREST + 0.5 * volatility * volatility) * years) / spread
    d2 = d1 - spread
    reach = 0.5 + 0.5 * m.erf(d1 * ROOT_HALF)
    pay = 0.5 + 0.5 * m.erf(d2 * ROOT_HALF)
    return m.sum(spot * reach - strike * m.exp(-INTEREST * years) * pay)


def greeks_by_hand(
    spot: np.ndarray, strike: np.ndarray, years: np.ndarray, volatility: np.ndarray
) -> list[np.ndarray]:
    from scipy.special import ndtr

    root = np.sqrt(years)
    spread = volatility * root
    d1 = (np.log(spot / strike) + (INTEREST + 0.5 * volatility * volatility) * years) / spread
    discounted = np.exp(-INTEREST * years) * ndtr(d1 - spread)
    vega = spot * root * (np.exp(-0.5 * d1 * d1) * (0.5 / np.pi) ** 0.5)
    by_years = vega * volatility / (2.0 * years) + INTEREST * strike * discounted
    return [ndtr(d1), -discounted, by_years, vega]


class Workload(NamedTuple):
    """What to differentiate: arrays, a loss of them, with respect to which, and the answer by hand."""

    data: Callable[[np.random.Generator], list[np.ndarray]]
    loss: Callable[..., Any]
    sources: Sequence[int]
    by_hand: Callable[..., list[np.ndarray]]
    unit: str = "ms"
    scale: float = 1e3
    best_peer: float | None = None  # the target: gradtape over the best peer is at most this
    autograd: float | None = None  # the same, over HIPS autograd


WORKLOADS = {
    "chain": Workload(chain_data, chain, [0], chain_by_hand, "us per op", 1e6 / (3 * STEPS), best_peer=0.45),
    "mlp": Workload(mlp_data, mlp, [2, 3, 4, 5], mlp_by_hand, best_peer=1.0),
    "rosenbrock": Workload(rosenbrock_data, rosenbrock, [0], rosenbrock_by_hand, autograd=0.9),
    "logistic": Workload(logistic_data, logistic, [2], logistic_by_hand, autograd=0.9),
    "greeks": Workload(greeks_data, greeks, [0, 1, 2, 3], greeks_by_hand, autograd=0.9),
}


# -- the libraries: each a namespace of what the losses use, and how it takes arrays and gradients ---------


def tensorflow_like(name: str) -> SimpleNamespace:
    tf = importlib.import_module(name)

    def gradient(loss: Callable[..., Any], values: list[Any], sources: list[int]) -> Callable[[], Any]:
        watched = [values[i] for i in sources]

        def run() -> Any:
            with tf.GradientTape() as tape:
                tape.watch(watched)
                y = loss(*values)
            return tape.gradient(y, watched)

        return run

    return SimpleNamespace(
        gradient=gradient,
        array=tf.constant,
        sin=tf.sin,
        exp=tf.exp,
        log=tf.math.log,
        sqrt=tf.sqrt,
        erf=tf.math.erf,
        relu=tf.nn.relu,
        softplus=tf.nn.softplus,
        log_softmax=tf.nn.log_softmax,
        sum=tf.reduce_sum,
        mean=tf.reduce_mean,
        matmul=tf.matmul,
        matvec=tf.linalg.matvec,
    )


def pytorch() -> SimpleNamespace:
    import torch

    def gradient(loss: Callable[..., Any], values: list[Any], sources: list[int]) -> Callable[[], Any]:
        leaves = [values[i].requires_grad_() for i in sources]
        return lambda: torch.autograd.grad(loss(*values), leaves)

    return SimpleNamespace(
        gradient=gradient,
        array=torch.tensor,
        sin=torch.sin,
        exp=torch.exp,
        log=torch.log,
        sqrt=torch.sqrt,
        erf=torch.erf,
        relu=torch.relu,
        softplus=torch.nn.functional.softplus,
        log_softmax=partial(torch.log_softmax, dim=-1),
        sum=torch.sum,
        mean=torch.mean,
        matmul=torch.matmul,
        matvec=torch.mv,
    )


def jax_eager() -> SimpleNamespace:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def gradient(loss: Callable[..., Any], values: list[Any], sources: list[int]) -> Callable[[], Any]:
        transformed = jax.grad(loss, argnums=tuple(sources))
        return lambda: jax.block_until_ready(transformed(*values))

    return SimpleNamespace(
        gradient=gradient,
        array=jnp.asarray,
        sin=jnp.sin,
        exp=jnp.exp,
        log=jnp.log,
        sqrt=jnp.sqrt,
        erf=jax.scipy.special.erf,
        relu=jax.nn.relu,
        softplus=jax.nn.softplus,
        log_softmax=jax.nn.log_softmax,
        sum=jnp.sum,
        mean=jnp.mean,
        matmul=jnp.matmul,
        matvec=jnp.matmul,
    )


def hips_autograd() -> SimpleNamespace:
    import autograd
    import autograd.numpy as anp
    import autograd.scipy.special as special

    def gradient(loss: Callable[..., Any], values: list[Any], sources: list[int]) -> Callable[[], Any]:
        return partial(autograd.grad(loss, sources), *values)

    def log_softmax(x: Any) -> Any:
        shifted = x - anp.max(x, axis=-1, keepdims=True)
        return shifted - anp.log(anp.sum(anp.exp(shifted), axis=-1, keepdims=True))

    return SimpleNamespace(
        gradient=gradient,
        array=np.asarray,
        sin=anp.sin,
        exp=anp.exp,
        log=anp.log,
        sqrt=anp.sqrt,
        erf=special.erf,
        relu=lambda x: anp.maximum(x, 0),
        softplus=lambda x: anp.logaddexp(0.0, x),
        log_softmax=log_softmax,
        sum=anp.sum,
        mean=anp.mean,
        matmul=anp.matmul,
        matvec=anp.matmul,
    )


LIBRARIES: dict[str, Callable[[], SimpleNamespace]] = {
    "gradtape": partial(tensorflow_like, "gradtape"),
    "torch": pytorch,
    "jax": jax_eager,
    "tensorflow": partial(tensorflow_like, "tensorflow"),
    "autograd": hips_autograd,
}
BY_HAND = "by hand"


# -- measuring ---------------------------------------------------------------------------------------------


def runner(library: str, workload: Workload, arrays: list[np.ndarray]) -> Callable[[], Sequence[Any]]:
    """What is timed: a function without arguments that gives the gradients."""
    if library == BY_HAND:
        return partial(workload.by_hand, *arrays)
    m = LIBRARIES[library]()
    run: Callable[[], Sequence[Any]] = m.gradient(
        partial(workload.loss, m), [m.array(array) for array in arrays], list(workload.sources)
    )
    return run


def wrong_by(gradients: Sequence[Any], workload: Workload, arrays: list[np.ndarray]) -> str | None:
    """What is the matter with a library's answer, beside the one by hand in float64; None: nothing.

    The error counts relative to the largest element: 1e-3 is forgiven in float32, 1e-9 in float64.
    """
    wanted = workload.by_hand(*(array.astype(np.float64) for array in arrays))
    forgiven = 1e-3 if arrays[0].dtype == np.float32 else 1e-9
    for found, want in zip(map(np.asarray, gradients), wanted, strict=True):
        if found.shape != want.shape:
            return f"wrong shape {found.shape}"
        error = np.max(np.abs(found - want)) / np.max(np.abs(want))
        if not error <= forgiven:
            return f"wrong by {error:.0e}"
    return None


def one_turn(library: str, name: str, seconds: float) -> dict[str, Any]:
    """One library's turn, in this process: {"seconds": the median time} or {"error": what is the matter}."""
    workload = WORKLOADS[name]
    arrays = workload.data(np.random.default_rng(0))
    run = runner(library, workload, arrays)
    problem = wrong_by(run(), workload, arrays)
    if problem:
        return {"error": problem}
    run()
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(times) < 5:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return {"seconds": statistics.median(times)}


def measured(names: Sequence[str], rounds: int, seconds: float) -> dict[str, dict[str, Any]]:
    """By workload and library, the least of the rounds' medians; a library that fails has no further turn."""
    libraries = [BY_HAND, "gradtape", *peers()]
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        results: dict[str, Any] = {}
        for _ in range(rounds):
            for library in libraries:
                best = results.get(library)
                if best is None or "seconds" in best:
                    new = turn([__file__, name, "--turn", library, "--seconds", str(seconds)])
                    if best is None or new.get("seconds", 0.0) < best["seconds"]:
                        results[library] = new
        found[name] = results
    return found


def ratios(results: dict[str, Any]) -> dict[str, float]:
    """gradtape's time over that of the best peer, of autograd and of NumPy by hand, as far as known."""
    times = {library: result["seconds"] for library, result in results.items() if "seconds" in result}
    ours = times.pop("gradtape", None)
    if ours is None:
        return {}
    others = {"autograd": times.get("autograd"), BY_HAND: times.pop(BY_HAND, None)}
    others["best peer"] = min(times.values(), default=None)
    return {name: ours / other for name, other in others.items() if other is not None}


def targets(names: Sequence[str], found: dict[str, dict[str, float]]) -> list[tuple[str, str, str, str]]:
    """The rows of the targets: which ratio, what it is, what it may be, whether it holds."""
    rows = []
    for name in names:
        for other, at_most in (
            ("best peer", WORKLOADS[name].best_peer),
            ("autograd", WORKLOADS[name].autograd),
        ):
            if at_most is not None and other in found[name]:
                ratio = found[name][other]
                rows.append((f"{name} / {other}", f"{ratio:.2f}", f"{at_most:.2f}", yes_no(ratio <= at_most)))
    return rows


def failure(error: str) -> str:
    """What stands in place of a time: how wrong the answer was, or that there was none."""
    return error if error.startswith("wrong") else "failed"


def show(found: dict[str, dict[str, Any]]) -> None:
    """Prints the figures, and what became of the targets."""
    libraries = list(next(iter(found.values()))) if found else []
    compared = {name: ratios(results) for name, results in found.items()}
    over = [
        other
        for other in ("best peer", "autograd", BY_HAND)
        if any(other in row for row in compared.values())
    ]
    rows = []
    for name, results in found.items():
        workload = WORKLOADS[name]
        cells = [
            f"{r['seconds'] * workload.scale:.2f}" if "seconds" in r else failure(r["error"])
            for r in results.values()
        ]
        rows.append(
            (
                name,
                workload.unit,
                *cells,
                *(f"{compared[name][other]:.2f}" if other in compared[name] else "" for other in over),
            )
        )
    header = (
        "workload",
        "unit",
        *(PEERS.get(library, library) for library in libraries),
        *(f"/ {o}" for o in over),
    )
    print_table("Speed: one gradient, eager; the last columns are gradtape's time over others'", header, rows)
    for name, results in found.items():
        for library, r in results.items():
            if "error" in r and failure(r["error"]) != r["error"]:
                print(f"{name}, {PEERS.get(library, library)}: {r['error']}")
    wanted = targets(list(found), compared)
    if wanted:
        print_table("Speed: the targets", ("gradtape's time over", "is", "at most", "holds"), wanted)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "workloads", nargs="*", metavar="workload", help=f"of {', '.join(WORKLOADS)}; else all"
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each library (3)")
    parser.add_argument("--seconds", type=float, default=0.5, help="timed seconds of one turn (0.5)")
    parser.add_argument("--json", action="store_true", help="print the figures, in seconds, as JSON")
    parser.add_argument("--turn", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.workloads or list(WORKLOADS)
    unknown = [name for name in names if name not in WORKLOADS]
    if unknown:
        parser.error(f"no workload {unknown[0]!r}; there are {', '.join(WORKLOADS)}")
    if options.turn:
        print(json.dumps(one_turn(options.turn, names[0], options.seconds)))
        return
    found = measured(names, options.rounds, options.seconds)
    if options.json:
        compared = {name: ratios(results) for name, results in found.items()}
        print(json.dumps({"machine": machine(), "figures": found, "ratios": compared}, indent=2))
    else:
        show(found)


if __name__ == "__main__":
    main()
