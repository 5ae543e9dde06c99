"""One gradient at sizes from 10 to 10,000,000 elements, as a picture: `python benchmarks/sweep.py`.

The gradient of sum(tanh(x) sin(x) + x exp(-x x)), in float64: by hand in NumPy, by gradtape, eager and
compiled, and by the peers' compilers where they are installed. As in speed.py, each figure is of a process of
its own, and answers are compared first. The picture shows nanoseconds for each element.
"""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import speed
from common import machine, print_table, turn
from workloads import Arrays, Workload

SIZES = [10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000]
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "sweep.svg"

# Label and colour of each line (Okabe and Ito's, which the colour-blind can tell apart), and how wide it is.
LINES = {
    speed.BY_HAND: ("NumPy by hand", "#000000", 1.5),
    "gradtape": ("gradtape, eager", "#E69F00", 1.5),
    "gradtape.function": ("gradtape.function", "#D55E00", 3.0),
    "torch.compile": ("torch.compile", "#CC79A7", 1.5),
    "jax.jit": ("jax.jit", "#0072B2", 1.5),
    "tf.function": ("tf.function", "#009E73", 1.5),
}


def bumps(m: Any, x: Any) -> Any:
    return m.sum(m.tanh(x) * m.sin(x) + x * m.exp(-x * x))


def bumps_by_hand(x: np.ndarray) -> Arrays:
    y, square = np.tanh(x), x * x
    return [(1 - y * y) * np.sin(x) + y * np.cos(x) + (1 - 2 * square) * np.exp(-square)]


def workload(size: int) -> Workload:
    """The gradient, of so many elements."""
    return Workload(lambda rng: ([rng.standard_normal(size)], [], []), bumps, bumps_by_hand)


def measured(rounds: int, seconds: float) -> dict[str, dict[int, Any]]:
    """By contestant and size, the least of the rounds' medians in seconds, or why there is none."""
    contestants = [c for c in LINES if c in (*speed.EAGER.contestants(), *speed.COMPILED.contestants())]
    found: dict[str, dict[int, Any]] = {c: {size: {} for size in SIZES} for c in contestants}
    for size in SIZES:
        for _ in range(rounds):
            for contestant, results in found.items():
                if "error" not in results[size]:
                    command = [__file__, "--turn", contestant, "--size", str(size), "--seconds", str(seconds)]
                    results[size] = speed.best([results[size], turn(command)])
    return found


def show(found: dict[str, dict[int, Any]]) -> None:
    """Prints the table."""
    rows = []
    for size in SIZES:
        results = [by_size[size] for by_size in found.values()]
        rows.append((f"{size:,}", *(speed.cell(r, "seconds", 1e9 / size) for r in results)))
    header = ("elements", *(LINES[c][0] for c in found))
    print_table("A gradient of elementwise functions, nanoseconds for each element", header, rows)


def spread(heights: Sequence[float], apart: float) -> list[float]:
    """The rising heights, moved as little as lets each be so far from the next.

    Those that are too near become a group around their mean, and groups that are too near become one.
    """
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while (
            len(groups) > 1
            and fmean(groups[-1]) - fmean(groups[-2]) < apart * len(groups[-2] + groups[-1]) / 2
        ):
            groups[-2:] = [groups[-2] + groups[-1]]
    return [fmean(group) + apart * (k - (len(group) - 1) / 2) for group in groups for k in range(len(group))]


def draw(found: dict[str, dict[int, Any]], path: Path) -> None:
    """Draws the lines on logarithmic axes, each labelled at its right end."""
    import matplotlib
    from matplotlib import pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "sweep"  # the same figures give the same file
    plt.switch_backend("Agg")
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    ends = []
    for contestant, results in found.items():
        _, colour, width = LINES[contestant]
        points = [(n, r["seconds"] * 1e9 / n) for n, r in results.items() if "seconds" in r]
        if points:
            axes.loglog(*zip(*points, strict=True), color=colour, linewidth=width, solid_capstyle="round")
            ends.append((points[-1][1], contestant))
    axes.set_xlim(SIZES[0], SIZES[-1])
    axes.grid(which="major", color="#DDDDDD", linewidth=0.8)
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("elements")
    axes.set_title("One gradient: nanoseconds for each element", loc="left", fontsize=13)
    low, high = map(math.log10, axes.get_ylim())
    at = spread([(math.log10(end) - low) / (high - low) for end, _ in sorted(ends)], 0.055)
    for height, (_, contestant) in zip(at, sorted(ends), strict=True):
        label, colour, width = LINES[contestant]
        weight = "bold" if width > 2 else "normal"
        axes.annotate(
            label,
            (1, height),
            (6, 0),
            "axes fraction",
            "offset points",
            color=colour,
            va="center",
            weight=weight,
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def main() -> None:
    """Measures, prints and draws."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2, help="turns of each (2)")
    parser.add_argument("--seconds", type=float, default=0.3, help="timed seconds of one turn (0.3)")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where to write it: .svg or .png")
    parser.add_argument("--json", action="store_true", help="print the figures, in seconds, as JSON too")
    parser.add_argument("--turn", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turn:
        print(json.dumps(speed.one_turn(options.turn, workload(options.size), options.seconds)))
        return
    import matplotlib  # noqa: F401  (missed before measuring, rather than after)

    found = measured(options.rounds, options.seconds)
    if options.json:
        print(json.dumps({"machine": machine(), "figures": found}, indent=2))
    else:
        print(machine())
        show(found)
    draw(found, options.picture)


if __name__ == "__main__":
    main()
