"""Known traps: from the op that made a NaN or an infinity, and what it got there, to the cause and the
remedy.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

__all__ = ["FORWARD", "OF_SUM", "OWN_RULE", "Origin", "Scene", "Trap", "in_sweep", "sprung"]


class Origin(NamedTuple):
    """An op that a value came from, and how it is told, with its line; underflowed: whether it gave a 0 that
    should be none.
    """

    op: str
    told: str
    underflowed: bool


@dataclass(frozen=True)
class Scene:
    """What there was when an op, or its derivative, gave the first NaN or infinity.

    kind: "nan" or "inf"; dtype: of the result; at: what each input was there, by name, for ops that work
    element by element; inputs: which of "nan" and "inf" the inputs had; empty: whether one of them has no
    elements; origins: the ops that an input came from, nearest first.
    """

    kind: str
    dtype: np.dtype[Any]
    at: Mapping[str, Any]
    inputs: set[str]
    empty: bool
    origins: Callable[[str], list[Origin]]

    def __getitem__(self, name: str) -> float:
        """What this input was there; NaN, with which no comparison holds, if that is unknown or not real."""
        z = complex(self.at.get(name, math.nan))
        return math.nan if z.imag else z.real

    def came(self, name: str, op: str) -> bool:
        """Whether this input came from such an op."""
        return any(origin.op == op for origin in self.origins(name))

    def underflow(self, name: str, op: str = "") -> str:
        """The op (any, or of this name) and line that this input came from and that underflowed; "" if none
        is known to have.
        """
        return next((o.told for o in self.origins(name) if o.underflowed and op in ("", o.op)), "")

    @property
    def overflows(self) -> bool:
        """Whether a finite number came out infinite."""
        return self.kind == "inf" and "inf" not in self.inputs


class Trap(NamedTuple):
    """when: whether it is this one; a string that it gives fills {} in `says`."""

    when: Callable[[Scene], Any]
    says: str
    remedy: str


def sprung(traps: tuple[Trap, ...], scene: Scene) -> tuple[str, str] | None:
    """The cause and the remedy by the first trap that fits; None if none does."""
    for trap in traps:
        found = trap.when(scene)
        if found:
            most = f"{scene.dtype}, which ends at {np.finfo(scene.dtype).max:.5g}"
            return trap.says.replace("{}", str(found)).replace("{dtype}", most), trap.remedy
    return None


# -- what several ops share ----------------------------------------------------------------------------------

_INSIDE = "log(where(x > 0, x, 1.0)); a where that comes after the op does not keep NaN out of the derivative"
_LOGITS = (
    "use gradtape.nn.log_softmax(logits), or gradtape.nn.softmax_cross_entropy_with_logits(labels, logits) "
    "for the loss"
)
_BINARY = (
    "use gradtape.nn.sigmoid_cross_entropy_with_logits(labels, logits) for the loss; log(sigmoid(x)) is "
    "-gradtape.nn.softplus(-x)"
)
_DIVISOR = (
    "use gradtape.math.divide_no_nan(x, y), which gives 0 there, or make the divisor safe before the "
    "division: x / where(y == 0, 1.0, y)"
)
_UNDERFLOWED = (
    "compute with logarithms (gradtape.nn.log_softmax, gradtape.reduce_logsumexp), take a wider dtype, or "
    "add a small epsilon to the divisor"
)
_SUBTRACT_MOST = (
    "subtract the largest before exp, or let gradtape.nn.softmax, gradtape.nn.log_softmax or "
    "gradtape.reduce_logsumexp do it"
)
_SMALLER = "scale the operands down, or compute in a wider dtype"
_WITHIN = "gradtape.clip_by_value(x, -1.0, 1.0) before it: rounding alone can carry a cosine beyond 1"
_NOT_AT_THE_END = "keep x away from there: gradtape.clip_by_value(x, -1.0 + epsilon, 1.0 - epsilon)"

_OVERFLOW = Trap(lambda s: s.overflows, "A result is beyond {dtype}", _SMALLER)
_FROM_INFINITY = Trap(
    lambda s: s.kind == "nan" and "inf" in s.inputs,
    "An infinite input makes NaN: inf - inf, 0 * inf and inf / inf are no numbers",
    "find out where the infinity comes from; if it is wanted, choose with where before this op",
)
_SUMS = (_OVERFLOW, _FROM_INFINITY)
_SUMMING = (
    *("add", "subtract", "multiply", "square", "l2_loss", "linear_recurrence", "det", "inv", "solve"),
    *("matmul", "matvec", "_contract", "_collapse", "reduce_sum", "reduce_mean", "reduce_prod"),
    *("reduce_variance", "cumsum", "cumprod", "segment_sum", "unsorted_segment_sum"),
)
_OF_NOTHING = Trap(
    lambda s: s.empty,
    "The input is empty: the mean of nothing is NaN, its maximum -inf and its minimum inf",
    "leave out what is empty: gradtape.size(x) tells",
)
_EXPONENTIAL = (
    Trap(
        lambda s: s.overflows,
        "The exponential is beyond {dtype}",
        _SUBTRACT_MOST,
    ),
)


def _divisor(name: str) -> tuple[Trap, ...]:
    return (
        Trap(
            lambda s: s[name] == 0 and s.underflow(name),
            f"{name} is 0 there, and what it was made of underflowed, in {{}}",
            _UNDERFLOWED,
        ),
        Trap(lambda s: s[name] == 0 and s.kind == "nan", "0 / 0 is NaN", _DIVISOR),
        Trap(lambda s: s[name] == 0, f"{name} is 0 there, and a division by 0 is infinite", _DIVISOR),
        Trap(
            lambda s: s.overflows,
            f"{name} is so small there that the quotient is beyond {{dtype}}",
            _UNDERFLOWED,
        ),
        _FROM_INFINITY,
    )


# -- forward -------------------------------------------------------------------------------------------------

_LOG = (
    Trap(
        lambda s: s["x"] == 0 and s.underflow("x", "softmax"),
        "x is 0 there, and was made of probabilities that underflowed, in {}; the logarithm of 0 is -inf",
        _LOGITS,
    ),
    Trap(
        lambda s: s["x"] == 0 and s.came("x", "sigmoid"),
        "x is 0 there, and was made of probabilities from sigmoid, which rounds to 0 and 1 where logits are "
        "large; the logarithm of 0 is -inf",
        _BINARY,
    ),
    Trap(
        lambda s: s["x"] == 0 and s.underflow("x"),
        "x is 0 there, and what it was made of underflowed, in {}; the logarithm of 0 is -inf",
        "keep logarithms instead: log(exp(x)) is x, and the logarithm of a sum is "
        "gradtape.reduce_logsumexp(x)",
    ),
    Trap(
        lambda s: s["x"] == 0,
        "The logarithm of 0 is -inf",
        f"add a small epsilon, or make the operand safe: {_INSIDE}",
    ),
    Trap(
        lambda s: s["x"] < 0,
        "The logarithm of a negative number is NaN",
        f"make the operand safe: {_INSIDE}",
    ),
)
_REMAINDER = (
    Trap(
        lambda s: s["y"] == 0,
        "y is 0 there, and nothing has a remainder or a whole quotient by 0",
        "make the divisor safe before: mod(x, where(y == 0, 1.0, y))",
    ),
)
_OUT_OF_DOMAIN = Trap(lambda s: abs(s["x"]) > 1, "x is outside of [-1, 1], where it is defined", _WITHIN)
_NEGATIVE_ROOT = Trap(
    lambda s: s["x"] < 0,
    "The root of a negative number is NaN",
    "use gradtape.maximum(x, 0.0) if rounding made it negative; else make the operand safe: "
    "sqrt(where(x > 0, x, 1.0)), with a where outside, too, that chooses",
)
_AT_ZERO = Trap(
    lambda s: s["x"] == 0, "x is 0 there", "add a small epsilon to x: rsqrt(x + 1e-7), 1 / (x + 1e-7)"
)

FORWARD: dict[str, tuple[Trap, ...]] = {
    "log": _LOG,
    "log1p": (
        Trap(
            lambda s: s["x"] == -1 and s.came("x", "sigmoid"),
            "x is -1 there, and was made of probabilities from sigmoid, which rounds to 1 where logits are "
            "large; log1p of -1 is -inf",
            _BINARY,
        ),
        Trap(
            lambda s: s["x"] <= -1,
            "log1p is defined for x above -1 only",
            f"make the operand safe before the op, as in {_INSIDE}",
        ),
    ),
    "xlogy": (
        Trap(
            lambda s: s["y"] == 0 and s.underflow("y", "softmax"),
            "y is 0 there, and was made of probabilities that underflowed, in {}; the logarithm of 0 is -inf",
            _LOGITS,
        ),
        Trap(
            lambda s: s["y"] <= 0,
            "The logarithm of 0 is -inf, and that of a negative number NaN",
            "add a small epsilon to y, or use gradtape.clip_by_value(y, epsilon, 1.0)",
        ),
    ),
    "sqrt": (_NEGATIVE_ROOT,),
    "rsqrt": (_NEGATIVE_ROOT, _AT_ZERO),
    "reciprocal": _divisor("x"),
    "divide": _divisor("y"),
    "xdivy": _divisor("y"),
    "mod": _REMAINDER,
    "floordiv": _REMAINDER,
    "exp": _EXPONENTIAL,
    "expm1": _EXPONENTIAL,
    "sinh": _EXPONENTIAL,
    "cosh": _EXPONENTIAL,
    "pow": (
        Trap(
            lambda s: s["x"] == 0 and s["y"] < 0,
            "0 to a negative power is infinite",
            "add a small epsilon to x, or make it safe before: where(x == 0, 1.0, x) ** y",
        ),
        Trap(
            lambda s: s["x"] < 0 and s.kind == "nan",
            "A negative number has no real power of an exponent that is not whole",
            "use gradtape.abs(x) ** y, or gradtape.sign(x) * gradtape.abs(x) ** y, or cast x to complex",
        ),
        _OVERFLOW,
    ),
    "asin": (_OUT_OF_DOMAIN,),
    "acos": (_OUT_OF_DOMAIN,),
    "acosh": (
        Trap(lambda s: s["x"] < 1, "acosh is defined for x of 1 or more", "use gradtape.maximum(x, 1.0)"),
    ),
    "atanh": (
        Trap(lambda s: abs(s["x"]) == 1, "atanh of 1 and -1 is infinite", _NOT_AT_THE_END),
        _OUT_OF_DOMAIN,
    ),
    "lgamma": (
        Trap(
            lambda s: s["x"] <= 0,
            "lgamma is infinite at 0 and the negative whole numbers",
            "keep x positive: gradtape.maximum(x, epsilon)",
        ),
    ),
    "smooth_cast": (
        Trap(
            lambda s: s.overflows,
            "A number is beyond {dtype}",
            "stay in the wider dtype there, or scale the values down before the cast",
        ),
    ),
    "slogdet": (
        Trap(
            lambda s: s.kind == "inf",
            "The matrix is singular, and the logarithm of its determinant -inf",
            "add a small multiple of the identity: a + epsilon * gradtape.eye(n)",
        ),
    ),
    "softmax": (
        Trap(
            lambda s: "inf" in s.inputs,
            "A row has inf among its logits, or nothing but -inf",
            "mask with a large finite number, such as -1e9, and see that no row is masked whole",
        ),
    ),
} | dict.fromkeys(_SUMMING, _SUMS)
FORWARD |= {
    name: (_OF_NOTHING, *FORWARD.get(name, ()))
    for name in ("reduce_mean", "reduce_max", "reduce_min", "reduce_logsumexp", "reduce_variance")
}
FORWARD["log_softmax"] = FORWARD["sparse_softmax_cross_entropy_with_logits"] = FORWARD["softmax"]


# -- in a sweep ----------------------------------------------------------------------------------------------

_COTANGENT_OF_0 = Trap(
    lambda s: s.kind == "nan" and s["cotangent"] == 0,
    "The cotangent is 0 there (a where that chose the other branch, or the square of a 0?), but the "
    "derivative of the op is not finite there, and 0 * inf is NaN",
    "make the operand safe before the op and keep the where after it: where(ok, f(where(ok, x, 1.0)), 0.0)",
)
_ENDS = Trap(lambda s: abs(s["x"]) == 1, "The slope is infinite at 1 and -1", _NOT_AT_THE_END)
_SMALL_DIVISOR = "The divisor is so small there that the derivative is beyond {dtype}"
_BY_QUOTIENT = (Trap(lambda s: s.overflows, _SMALL_DIVISOR, "add a small epsilon to it, or scale"),)

_IN_SWEEP: dict[str, tuple[Trap, ...]] = {
    "sqrt": (
        Trap(
            lambda s: s["out"] == 0,
            "The slope of sqrt at 0 is infinite; so the euclidean norm of a zero vector, a distance of 0 and "
            "a standard deviation of 0 have no derivative",
            "add a small epsilon below the root, gradtape.sqrt(gradtape.reduce_sum(x * x) + 1e-12), or mask: "
            "where(ok, sqrt(where(ok, x, 1.0)), 0.0)",
        ),
    ),
    "pow": (
        Trap(
            lambda s: s["x"] == 0 and s["y"] < 1,
            "The slope of x ** y at 0 is infinite for exponents below 1",
            "add a small epsilon to x, or mask: where(ok, where(ok, x, 1.0) ** y, 0.0)",
        ),
        _OVERFLOW,
    ),
    "asin": (_ENDS,),
    "acos": (_ENDS,),
    "atanh": (_ENDS,),
    "acosh": (Trap(lambda s: s["x"] == 1, "The slope of acosh at 1 is infinite", "keep x above 1"),),
    "atan2": (
        Trap(
            lambda s: s["x"] == 0 and s["y"] == 0,
            "The angle of the point (0, 0) has no derivative",
            "mask: give atan2 where(ok, x, 1.0), with ok = x * x + y * y > 0, and choose with where after it",
        ),
    ),
    **dict.fromkeys((*_SUMMING, "exp", "expm1", "sinh", "cosh", "tan"), _SUMS),
    **dict.fromkeys(
        ("cholesky", "slogdet", "log", "log1p", "divide", "reciprocal", "rsqrt", "xlogy"), _BY_QUOTIENT
    ),
}

OWN_RULE = Trap(
    lambda s: True,
    "That derivative is a function of its own, which is looked at as a whole",
    "see what it makes of this cotangent",
)
OF_SUM = Trap(
    lambda s: True,
    "Each of the cotangents is finite, but together, or in the dtype wanted, they are not",
    "scale the loss down, or compute in a wider dtype",
)


def in_sweep(op: str) -> tuple[Trap, ...]:
    """The traps of an op's derivative."""
    return _COTANGENT_OF_0, *_IN_SWEEP.get(op, ())
