"""Measures a flower with SciPy's optimizers, in plain NumPy models whose derivatives gradtape takes.

The photograph of a dahlia comes with scikit-learn. Three fits to the brightness of its pixels find where the
flower is, how large and how sharp, to a fraction of a pixel, and the petals along its outline. Run it with
`python examples/scipy_fit.py`; it takes a few seconds, and leaves `scipy_fit.png` in the current directory.
"""

import argparse
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.figure
import numpy as np
import sklearn.datasets
from scipy.optimize import least_squares, minimize
from threadpoolctl import threadpool_limits

import gradtape as gt

PHOTO = sklearn.datasets.load_sample_image("flower.jpg") / 255.0
ROWS = 362


class Pixels(NamedTuple):
    """Where some pixels of the photograph are, and how bright in red, from 0 to 1."""

    column: np.ndarray
    row: np.ndarray
    red: np.ndarray

    def distance(self, x, y):
        """From (x, y), in pixels, rounded off at 0, where a distance has no derivative."""
        return np.sqrt((self.column - x) ** 2 + (self.row - y) ** 2 + 1e-6)

    def between(self, centre, nearest, farthest):
        """Those in a ring."""
        distance = self.distance(*centre)
        return Pixels(*(of[(distance > nearest) & (distance < farthest)] for of in self))


def every(step):
    """Each step-th pixel of each step-th row, above a second flower."""
    row, column = np.mgrid[0:ROWS:step, 0:640:step].reshape(2, -1)
    return Pixels(column.astype(float), row.astype(float), PHOTO[row, column, 0])


GRID = every(5)
START = np.array([330.0, 180.0, 100.0, 20.0, 0.1, 0.8])
CORNERS = (560.0, 320.0), (80.0, 60.0)

# The outline is its distance from here in each of many directions, told by the pixels of a ring.
DIRECTIONS = 180
CENTRE = (307.0, 221.0)
NEAREST, FARTHEST = 108, 166
RING = every(2).between(CENTRE, NEAREST, FARTHEST)
DISTANCE = RING.distance(*CENTRE)
ANGLE = np.arctan2(RING.row - CENTRE[1], RING.column - CENTRE[0])
SECTOR = np.rint(ANGLE / (2 * np.pi) * DIRECTIONS).astype(int)

BLUE, RED, CYAN, WHITE = "#0050c8", "#c0272d", "#00e5ff", "#ffffff"
LEGEND: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncols": 3}


# -- the models, in NumPy ------------------------------------------------------------------------------------


def edge(inside, blur):
    """From 0 to 1 across an edge `blur` wide, `inside` pixels within it (less than 0: without)."""
    return 0.5 + 0.5 * np.tanh(inside / blur)


def residuals(p):
    """What is left when a bright disk on a dark ground is told; p: centre, radius, blur, brightnesses."""
    x, y, radius, blur, dark, bright = p
    return dark + (bright - dark) * edge(radius - GRID.distance(x, y), blur) - GRID.red


def mismatch(centre):
    """1 less the correlation of the photograph with a disk, so soft that it feels the flower from afar."""
    disk = edge(138 - GRID.distance(*centre), 60)
    disk, red = disk - np.mean(disk), GRID.red - np.mean(GRID.red)
    return 1 - disk @ red / np.sqrt(disk @ disk * (red @ red))


def outline(radii):
    """How badly a radius for each direction fits, spots forgiven; and how much the outline bends."""
    off = 0.02 + 0.8 * edge(radii[SECTOR] - DISTANCE, 4) - RING.red
    bend = radii - (np.roll(radii, 1) + np.roll(radii, -1)) / 2
    return 100 * np.mean(np.sqrt(1 + (off / 0.1) ** 2) - 1) + 0.001 * np.sum(bend**2)


# -- fitting them --------------------------------------------------------------------------------------------


class Problem(NamedTuple):
    """What to fit, by which derivatives, and how far the answers may be from each other."""

    title: str
    f: Callable[..., Any]
    fits: dict[str, Callable[..., Any]]
    tolerance: float


class Run(NamedTuple):
    """What was found, in how many calls of the function, and in how many milliseconds."""

    found: Any
    calls: int
    ms: float


def lm(jac):
    return lambda f: least_squares(f, START, jac=jac(f), method="lm", xtol=1e-12, ftol=1e-12, gtol=1e-12)


def bfgs(jac):
    return lambda f: minimize(f, CORNERS[0], jac=jac, method="BFGS", options={"gtol": 1e-7})


def lbfgs(f, jac):
    options = {"ftol": 1e-13, "gtol": 1e-7, "maxfun": 10**6}
    return minimize(f, np.full(DIRECTIONS, 138.0), jac=jac, method="L-BFGS-B", options=options)


def trust_ncg(f, start, callback=None):
    options = {"gtol": 1e-7, "initial_trust_radius": 20}
    jac, hessp = gt.grad(f), gt.hvp(f)
    return minimize(f, start, jac=jac, hessp=hessp, method="trust-ncg", options=options, callback=callback)


PROBLEMS = [
    Problem(
        "a disk: 6 unknowns, least_squares",
        residuals,
        {
            "2-point": lm(lambda f: "2-point"),
            "3-point": lm(lambda f: "3-point"),
            "gt.jacobian": lm(functools.partial(gt.jacobian, mode="forward")),
        },
        1e-4,
    ),
    Problem(
        "where it matches best: 2 unknowns, minimize",
        mismatch,
        {
            "2-point (BFGS)": bfgs("2-point"),
            "3-point (BFGS)": bfgs("3-point"),
            "gt.grad, gt.hvp (trust-ncg)": lambda f: trust_ncg(f, CORNERS[0]),
        },
        1e-2,
    ),
    Problem(
        f"the outline, every {360 // DIRECTIONS} degrees: {DIRECTIONS} unknowns, minimize",
        outline,
        {
            "2-point (L-BFGS-B)": lambda f: lbfgs(f, "2-point"),
            "gt.value_and_grad (L-BFGS-B)": lambda f: lbfgs(gt.value_and_grad(f), True),
            "gt.grad, gt.hvp (trust-ncg)": lambda f: trust_ncg(f, np.full(DIRECTIONS, 138.0)),
        },
        1e-3,
    ),
]


def measured(fit, f):
    """One fit, the fastest of as many as take 0.2 s."""

    @functools.wraps(f)
    def counting(p):
        nonlocal calls
        calls += 1
        return f(p)

    times = []
    while sum(times) < 0.2:
        calls = 0
        start = time.perf_counter()
        found = fit(counting)
        times.append(time.perf_counter() - start)
    return Run(found, calls, 1000 * min(times))


def check(problem, runs):
    """Raises unless all fits found the same answer."""
    wanted = list(runs.values())[-1].found.x
    for name, run in runs.items():
        where = f"{problem.title}: {name}"
        np.testing.assert_allclose(run.found.x, wanted, rtol=0, atol=problem.tolerance, err_msg=where)


def report(problem, runs, width=30):
    """Prints what each fit took."""
    print(f"\n{problem.title}\n{'':<{width}}{'calls':>7}{'ms':>9}")
    for name, run in runs.items():
        print(f"  {name:<{width - 2}}{run.calls:>7}{run.ms:>9.1f}")


def report_flower(fit, radii):
    """Prints what was measured, with standard errors by the Jacobian."""
    variance = 2 * fit.cost / (len(GRID.red) - len(fit.x))
    errors = np.sqrt(variance * np.diag(np.linalg.inv(fit.jac.T @ fit.jac)))
    print(f"\n{'pixels':<24}{'found':>8}{'standard error':>18}")
    names = ("column of the centre", "row of the centre", "radius", "blur of the edge")
    for name, x, error in zip(names, fit.x, errors, strict=False):
        print(f"{name:<24}{x:>8.2f}{error:>18.2f}")
    print(f"{'outline, shortest':<24}{min(radii):>8.2f}\n{'outline, longest':<24}{max(radii):>8.2f}")


# -- the picture ---------------------------------------------------------------------------------------------


def around(x, y, radii, count=1440):
    """A closed line about (x, y): columns and rows."""
    angle = np.linspace(0, 2 * np.pi, count + 1)
    radius = np.interp(angle, np.linspace(0, 2 * np.pi, len(radii) + 1), np.append(radii, radii[0]))
    return x + radius * np.cos(angle), y + radius * np.sin(angle)


def draw_flower(axes, disk, radii):
    """The photograph, the disk and the outline."""
    axes.imshow(PHOTO)
    axes.plot(*around(*disk[:2], disk[2:3]), "--", color=WHITE, linewidth=1.3, label="disk, 6 unknowns")
    axes.plot(*around(*CENTRE, radii), color=CYAN, linewidth=1.6, label=f"outline, {DIRECTIONS} unknowns")
    axes.set_title("The flower, measured", fontsize=13)
    axes.set(xlim=(130, 485), ylim=(372, 75), xlabel="column, pixels", ylabel="row, pixels")
    axes.legend(**LEGEND, facecolor="#123b40", labelcolor=WHITE, framealpha=1)


def draw_search(axes, centre):
    """The mismatch by the disk's centre, and the ways of trust-ncg through it; returns the contours."""
    columns, rows = np.linspace(0, 639, 48), np.linspace(0, 426, 32)
    grid = np.stack(np.meshgrid(columns, rows), axis=-1)
    heights = gt.vectorized_map(mismatch, grid.reshape(-1, 2), chunk_size=60).numpy()
    axes.imshow(PHOTO, alpha=0.35)
    contours = axes.contour(columns, rows, heights.reshape(grid.shape[:2]), 16, cmap="viridis")
    for start, color in zip(CORNERS, (BLUE, RED), strict=True):
        steps = [np.array(start)]
        trust_ncg(mismatch, steps[0], lambda x, steps=steps: steps.append(x.copy()))
        label = f"from ({start[0]:.0f}, {start[1]:.0f}): {len(steps) - 1} steps"
        axes.plot(*np.transpose(steps), ".-", color=color, linewidth=2, markersize=9, label=label)
    star = {"color": WHITE, "markeredgecolor": "black", "markersize": 15, "linestyle": ""}
    axes.plot(*centre, "*", **star, label="found")
    axes.set_title("How trust-ncg finds its centre", fontsize=13)
    axes.set(xlabel="column of the disk's centre", ylabel="row of the disk's centre")
    axes.legend(**LEGEND, frameon=False)
    return contours


def draw_unrolled(axes, disk, radii):
    """The ring of pixels about the outline, cut open and laid flat."""
    degrees = np.linspace(0, 360, 1441)
    radius = np.linspace(NEAREST, FARTHEST, 233)[:, None]
    columns = np.rint(CENTRE[0] + radius * np.cos(np.radians(degrees))).astype(int)
    rows = np.rint(CENTRE[1] + radius * np.sin(np.radians(degrees))).astype(int)
    ring = PHOTO[rows, columns]
    axes.imshow(ring, extent=(0, 360, NEAREST, FARTHEST), origin="lower", aspect="auto")
    x, y = around(*disk[:2], disk[2:3])
    x, y = x - CENTRE[0], y - CENTRE[1]
    axes.plot(np.degrees(np.unwrap(np.arctan2(y, x))), np.hypot(x, y), "--", color=WHITE, linewidth=1.3)
    axes.plot(degrees, np.hypot(*around(0, 0, radii)), color=CYAN, linewidth=1.6)
    axes.set_title("The same two lines with the flower unrolled: its scallops are petals", fontsize=13)
    axes.set(xlabel="direction from the centre, degrees clockwise from the right", ylabel="distance, pixels")
    axes.set(xlim=(0, 360), xticks=range(0, 361, 30))


def draw(path, disk, centre, radii):
    """One picture of all three fits."""
    figure = matplotlib.figure.Figure(figsize=(12, 8), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1.6, 1])
    left, right = above.subplots(1, 2, width_ratios=[1, 1.25])
    draw_flower(left, disk, radii)
    contours = draw_search(right, centre)
    above.colorbar(contours, ax=right, label="1 - correlation with the photograph", shrink=0.7)
    draw_unrolled(below.subplots(), disk, radii)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description="Measure a flower, with SciPy and gradtape.")
    parser.add_argument(
        "--picture", type=Path, default=Path("scipy_fit.png"), help="where to write the picture"
    )
    options = parser.parse_args()

    answers = []
    with threadpool_limits(1):  # for arrays as small as these, BLAS's other threads only stand in the way
        for problem in PROBLEMS:
            runs = {name: measured(fit, problem.f) for name, fit in problem.fits.items()}
            check(problem, runs)
            report(problem, runs)
            answers.append(list(runs.values())[-1].found)
        disk, match, petals = answers
        report_flower(disk, petals.x)
        draw(options.picture, disk.x, match.x, petals.x)
    print(f"picture: {options.picture}")


if __name__ == "__main__":
    main()
