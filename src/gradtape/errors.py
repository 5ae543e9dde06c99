"""What can go wrong, as types: each message names the op, what came, what was wanted and the remedy."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradtape.explain.explanation import Explanation

__all__ = [
    "ArgumentError",
    "AxisError",
    "DTypeError",
    "FunctionError",
    "InPlaceError",
    "LeavesTapeError",
    "LinearAlgebraError",
    "NoGradientError",
    "NotATensorError",
    "NotScalarError",
    "NumericsError",
    "OutOfRangeError",
    "PerExampleError",
    "PlanError",
    "RecomputationError",
    "ShapeError",
    "StructureError",
    "TapeStateError",
    "TapeUsedError",
    "UnconnectedError",
    "UnsupportedFunctionError",
]


class ShapeError(ValueError):
    """Shapes that do not fit each other, or do not fit the op."""


class ArgumentError(TypeError, ValueError):
    """An argument that the function cannot take: an option that it has not, a number or list that is none."""


class AxisError(ValueError, IndexError):
    """An axis that the array has not."""


class OutOfRangeError(IndexError):
    """An index outside the axis it reads."""


class LinearAlgebraError(ValueError):
    """A matrix that the decomposition cannot take: singular, or not positive definite."""


class DTypeError(TypeError):
    """A dtype that is unknown, or that the op cannot work on."""


class NotATensorError(TypeError, ValueError):
    """Something that is neither a tensor nor a variable where one is needed."""


class UnsupportedFunctionError(TypeError):
    """A NumPy function, or an option of one, that has no op here."""


class LeavesTapeError(TypeError, ValueError):
    """A value that a tape follows was about to be stored where no tape can follow it."""


class InPlaceError(RuntimeError, TypeError):
    """A change in place that is not to be had: of a tensor that a tape watches, or of a variable."""


class NoGradientError(LookupError):
    """An op without a derivative lies on the path from a source to the target."""


class PerExampleError(RuntimeError):
    """A value that differs from example to example was asked for one plain value, or outside its mapping."""


class NotScalarError(ShapeError):
    """A result of several elements where the derivative of one number is asked for."""


class NumericsError(ArithmeticError):
    """A result has a NaN or an infinity that no input had, where `check_numerics` asks for a look.

    op: its name, "" for a sum of cotangents of a value that no op made; direction: "forward", or "sweep" for
    a derivative; filename, line: of the code that ran the op, also in a sweep; None if that is not known;
    kind: "nan" or "inf".
    """

    def __init__(
        self,
        message: str,
        op: str = "",
        direction: str = "forward",
        filename: str | None = None,
        line: int | None = None,
        kind: str = "nan",
    ) -> None:
        super().__init__(message)
        self.op = op
        self.direction = direction
        self.filename = filename
        self.line = line
        self.kind = kind

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.op, self.direction, self.filename, self.line, self.kind)


class StructureError(ValueError, TypeError):
    """Not as many parts as wanted, or not in the structure wanted."""


class RecomputationError(RuntimeError):
    """A function that is run again for its derivative does not do what it did the first time."""


class TapeUsedError(RuntimeError):
    """A tape that is not persistent was asked for a second set of gradients."""


class UnconnectedError(ValueError):
    """A source has no gradient where `unconnected_gradients="raise"` asks for one.

    explanation: why, as from `GradientTape.explain`; None where no tape can tell.
    """

    def __init__(self, message: str, explanation: "Explanation | None" = None) -> None:
        super().__init__(message)
        self.explanation = explanation

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.explanation)


class TapeStateError(ValueError):
    """A tape was entered, stopped or reset while in a state that does not allow it."""


class FunctionError(RuntimeError, TypeError, ValueError):
    """What a function does cannot be compiled: it reads a whole array, or makes variables at a later call."""


class PlanError(RuntimeError):
    """A compiled run gives up; the call is run in Python instead. Never seen by users."""
