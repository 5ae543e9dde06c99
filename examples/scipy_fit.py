"""Finds El Niño with SciPy's optimizers, in a plain NumPy model whose derivatives gradtape takes.

The data are 168 monthly means of the difference in air pressure between Easter Island and Darwin, which
drives the trade winds: the set ENSO of NIST's Statistical Reference Datasets (from Kahaner, Moler and Nash,
1989), whose fit NIST certifies to eleven digits. Run it with `python examples/scipy_fit.py`; it takes a few
seconds, and leaves `scipy_fit.png` in the current directory.
"""

import argparse
import functools
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.figure
import numpy as np
from scipy.optimize import least_squares, minimize

import gradtape as gt

TABLE = """
12.9 11.3 10.6 11.2 10.9  7.5  7.7 11.7 12.9 14.3 10.9 13.7
17.1 14.0 15.3  8.5  5.7  5.5  7.6  8.6  7.3  7.6 12.7 11.0
12.7 12.9 13.0 10.9 10.4 10.2  8.0 10.9 13.6 10.5  9.2 12.4
12.7 13.3 10.1  7.8  4.8  3.0  2.5  6.3  9.7 11.6  8.6 12.4
10.5 13.3 10.4  8.1  3.7 10.7  5.1 10.4 10.9 11.7 11.4 13.7
14.1 14.0 12.5  6.3  9.6 11.7  5.0 10.8 12.7 10.8 11.8 12.6
15.7 12.6 14.8  7.8  7.1 11.2  8.1  6.4  5.2 12.0 10.2 12.7
10.2 14.7 12.2  7.1  5.7  6.7  3.9  8.5  8.3 10.8 16.7 12.6
12.5 12.5  9.8  7.2  4.1 10.6 10.1 10.1 11.9 13.6 16.3 17.6
15.5 16.0 15.2 11.2 14.3 14.5  8.5 12.0 12.7 11.3 14.5 15.1
10.4 11.5 13.4  7.5  0.6  0.3  5.5  5.0  4.6  8.2  9.9  9.2
12.5 10.9  9.9  8.9  7.6  9.5  8.4 10.7 13.6 13.7 13.7 16.5
16.8 17.1 15.4  9.5  6.1 10.1  9.3  5.3 11.2 16.6 15.6 12.0
11.5  8.6 13.8  8.7  8.6  8.6  8.7 12.8 13.2 14.0 13.4 14.8
"""  # a row a year
PRESSURE = np.loadtxt(io.StringIO(TABLE)).ravel()
MONTH = np.arange(1.0, 169.0)

# NIST's first start, and its certified answer: the mean, two periods, three cosines, three sines.
START = np.array([11.0, 40.0, 25.0, 3.0, -0.7, -0.3, 0.5, -1.3, 1.4])
CERTIFIED = np.array(
    """
    10.510749193 44.311088700 26.887614440 3.0762128085 -1.6231428586 0.21232288488
    0.53280138227 0.52554493756 1.4966870418
    """.split(),  # noqa: SIM905
    dtype=float,
)
CERTIFIED_SQUARES = 788.53978668
BLUE, RED, GREY = "#1f4e8c", "#c0272d", "#8a97aa"


# -- the models, in NumPy ------------------------------------------------------------------------------------


def angles(periods, month):
    """The phase in each month of three waves, of a year and of two periods: (months, 3)."""
    return 2 * np.pi * month[:, None] / np.concatenate([[12.0], periods])


def waves(p, month=MONTH):
    """A mean and three waves."""
    angle = angles(p[1:3], month)
    return p[0] + np.cos(angle) @ p[3:6] + np.sin(angle) @ p[6:9]


def residuals(p):
    return waves(p) - PRESSURE


def squares(periods):
    """The least sum of squares for these periods: all else in `waves` is linear, and solved for."""
    angle = angles(periods, MONTH)
    matrix = np.concatenate([np.ones((len(MONTH), 1)), np.cos(angle), np.sin(angle)], axis=1)
    p = np.linalg.solve(matrix.T @ matrix, matrix.T @ PRESSURE)
    return np.sum((matrix @ p - PRESSURE) ** 2)


def robust(p):
    """How badly a level for each month and a wave of a year fit, outliers forgiven; and how that bends."""
    level, cosine, sine = p[:-2], p[-2], p[-1]
    year = 2 * np.pi * MONTH / 12
    off = level + cosine * np.cos(year) + sine * np.sin(year) - PRESSURE
    bend = level[2:] - 2 * level[1:-1] + level[:-2]
    return np.sum(np.sqrt(1 + off**2) - 1) + 2 * np.sum(bend**2)


# -- fitting them --------------------------------------------------------------------------------------------


class Problem(NamedTuple):
    """What to fit, by which derivatives, and the answer if it is known, and how far off it may be."""

    title: str
    f: Callable[..., Any]
    fits: dict[str, Callable[..., Any]]
    answer: np.ndarray | None
    tolerance: float


class Run(NamedTuple):
    """What was found, in how many calls of the function, and in how many milliseconds."""

    found: Any
    calls: int
    ms: float


def lm(jac):
    return lambda f: least_squares(f, START, jac=jac(f), method="lm", xtol=1e-14, ftol=1e-14, gtol=1e-14)


def bfgs(jac):
    return lambda f: minimize(f, START[1:3], jac=jac, method="BFGS")


def lbfgs(f, jac):
    options = {"ftol": 1e-14, "gtol": 1e-6, "maxfun": 10**6}
    return minimize(f, np.zeros(170), jac=jac, method="L-BFGS-B", options=options)


def trust_ncg(f, start, callback=None):
    options = {"gtol": 1e-6}
    jac, hessp = gt.grad(f), gt.hvp(f)
    return minimize(f, start, jac=jac, hessp=hessp, method="trust-ncg", options=options, callback=callback)


PROBLEMS = [
    Problem(
        "three waves: 9 unknowns, least_squares",
        residuals,
        {
            "2-point": lm(lambda f: "2-point"),
            "3-point": lm(lambda f: "3-point"),
            "gt.jacobian": lm(functools.partial(gt.jacobian, mode="forward")),
        },
        CERTIFIED,
        1e-5,
    ),
    Problem(
        "two periods, the rest solved for: 2 unknowns, minimize",
        squares,
        {
            "2-point (BFGS)": bfgs("2-point"),
            "3-point (BFGS)": bfgs("3-point"),
            "gt.grad, gt.hvp (trust-ncg)": lambda f: trust_ncg(f, START[1:3]),
        },
        CERTIFIED[1:3],
        1e-5,
    ),
    Problem(
        "a level a month, robust: 170 unknowns, minimize",
        robust,
        {
            "2-point (L-BFGS-B)": lambda f: lbfgs(f, "2-point"),
            "gt.value_and_grad (L-BFGS-B)": lambda f: lbfgs(gt.value_and_grad(f), True),
            "gt.grad, gt.hvp (trust-ncg)": lambda f: trust_ncg(f, np.zeros(170)),
        },
        None,
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
    """Raises unless all fits found the same answer, and the one that is known."""
    answers = [run.found.x for run in runs.values()]
    wanted = answers[-1] if problem.answer is None else problem.answer
    for name, x in zip(runs, answers, strict=True):
        np.testing.assert_allclose(x, wanted, atol=problem.tolerance, err_msg=f"{problem.title}: {name}")


def report(problem, runs, width=30):
    """Prints what each fit took."""
    print(f"\n{problem.title}\n{'':<{width}}{'calls':>7}{'ms':>9}")
    for name, run in runs.items():
        print(f"  {name:<{width - 2}}{run.calls:>7}{run.ms:>9.1f}")


def report_waves(fit):
    """Prints squares and periods beside what NIST certifies, and standard errors, by the Jacobian."""
    variance = 2 * fit.cost / (len(MONTH) - len(fit.x))
    errors = np.sqrt(variance * np.diag(np.linalg.inv(fit.jac.T @ fit.jac)))
    print(f"\n{'':<16}{'found':>12}{'certified':>14}{'standard error':>18}")
    print(f"{'sum of squares':<16}{2 * fit.cost:>12.6f}{CERTIFIED_SQUARES:>14.6f}")
    for i, name in ((1, "El Niño, months"), (2, "and, months")):
        print(f"{name:<16}{fit.x[i]:>12.6f}{CERTIFIED[i]:>14.6f}{errors[i]:>18.6f}")


# -- the picture ---------------------------------------------------------------------------------------------


def draw_fit(axes, p, level):
    """The data, the waves through them, and the level that assumes none."""
    months = np.linspace(1, 168, 1500)
    axes.plot(MONTH / 12, PRESSURE, ".", color=GREY, markersize=5, label="monthly means")
    axes.plot(months / 12, waves(p, months), color=BLUE, linewidth=1.5, label="three waves")
    axes.plot(MONTH / 12, level, color=RED, linewidth=2, label="smooth, no waves")
    axes.set_title(f"Waves of 12, {p[1]:.1f} and {p[2]:.1f} months in the trade winds", fontsize=13)
    axes.set(xlabel="year", ylabel="pressure, Easter Island less Darwin", xlim=(0, 14), ylim=(0, 20.5))
    axes.set_xticks(range(0, 15, 2))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper center", ncols=3, fontsize=10)


def draw_search(axes, starts):
    """The sum of squares by the two periods, and the ways of trust-ncg through it; returns the contours."""
    first, second = np.linspace(35, 65, 80), np.linspace(17, 33, 70)
    grid = np.stack(np.meshgrid(first, second), axis=-1)
    heights = gt.vectorized_map(squares, grid.reshape(-1, 2), chunk_size=560).numpy()
    contours = axes.contourf(first, second, heights.reshape(grid.shape[:2]), 24, cmap="Blues_r")
    for start, color in starts.items():
        steps = [np.array(start)]
        trust_ncg(squares, steps[0], lambda x, steps=steps: steps.append(x.copy()))
        label = f"from {start[0]:.0f} and {start[1]:.0f}: {len(steps) - 1} steps"
        axes.plot(*np.transpose(steps), ".-", color=color, linewidth=1.6, markersize=8, label=label)
    star = {"color": "white", "markeredgecolor": "black", "markersize": 14, "linestyle": ""}
    axes.plot(*CERTIFIED[1:3], "*", **star, label="certified by NIST")
    axes.set_title("How trust-ncg finds the periods", fontsize=13)
    axes.set(xlabel="one period, months", ylabel="the other, months")
    axes.legend(loc="lower right", fontsize=10)
    return contours


def draw(path, p, level):
    """One picture of both."""
    figure = matplotlib.figure.Figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.3, 1])
    draw_fit(left, p, level)
    contours = draw_search(right, {(40.0, 25.0): "#f5b301", (60.0, 30.0): "#ff6f59"})
    figure.colorbar(contours, ax=right, label="sum of squares", ticks=range(800, 1200, 50))
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description="Fit waves to air pressure, with SciPy and gradtape.")
    parser.add_argument(
        "--picture", type=Path, default=Path("scipy_fit.png"), help="where to write the picture"
    )
    options = parser.parse_args()

    answers = []
    for problem in PROBLEMS:
        runs = {name: measured(fit, problem.f) for name, fit in problem.fits.items()}
        check(problem, runs)
        report(problem, runs)
        answers.append(list(runs.values())[-1].found)
    fit, _, levels = answers
    report_waves(fit)
    draw(options.picture, fit.x, levels.x[:-2])
    print(f"picture: {options.picture}")


if __name__ == "__main__":
    main()
