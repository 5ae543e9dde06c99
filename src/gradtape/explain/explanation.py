"""What an explanation of a gradient says: for each kind of cause a headline and a remedy."""

from dataclasses import dataclass
from typing import NamedTuple

from gradtape.callers import short

__all__ = ["KINDS", "Explanation", "Step", "Words"]


class Words(NamedTuple):
    """What is said of one kind of cause; {target}, {source}, {op}, {what} are filled in."""

    headline: str
    remedy: str


KINDS = {
    "connected": Words("is there", ""),
    "unwatched": Words(
        "is None: {source} was never watched",
        "call tape.watch({name}) before its first use, or make it a gradtape.Variable",
    ),
    "watched_late": Words(
        "is None: {source} was watched only after it had been used",
        "call tape.watch({name}) before that line",
    ),
    "replaced": Words(
        "is None: {name} is no longer the variable but a new tensor, which no tape watches",
        "keep the variable and change its value: {name}.assign(...), assign_add or assign_sub",
    ),
    "stop_recording": Words(
        "is None: the tape was not recording when {op} ran",
        "compute this outside of the stop_recording block",
    ),
    "before": Words(
        "is None: {what} was made before the tape's block",
        "compute it from {source} within the block",
    ),
    "after": Words(
        "is None: {what} was made after the tape had stopped recording",
        "compute it within the tape's block, before the tape is asked for a gradient",
    ),
    "never_began": Words(
        "is None: the tape has recorded nothing, since its block was never entered",
        "compute {target} in the block, which `with tape:` enters",
    ),
    "reset": Words(
        "is None: the tape was reset after {source} had been watched or used",
        "call reset before what is to be differentiated, and watch tensors again after it",
    ),
    "unrelated": Words(
        "is None: {target} does not depend on {source}",
        "use {source} in what you differentiate, or ask for the gradient with respect to what it depends on",
    ),
    "not_recorded": Words(
        "is None: nothing that the tape recorded leads from {source} to {target}",
        "make the tape with GradientTape(explain=True), which tells where the way breaks, if there is one",
    ),
    "no_derivative": Words(
        "is None: {op} lets no derivative through",
        "use ops with a derivative from {source} on; rounding, comparing, argmax, numpy_function have none",
    ),
    "integer_cast": Words(
        "is None: it goes through {what}, and derivatives end at integers and booleans",
        "stay in a floating dtype there",
    ),
    "stop_gradient": Words(
        "is None: stop_gradient cuts it off",
        "leave stop_gradient out where the derivative is to flow",
    ),
    "numpy": Words(
        "is None: it seems to go through a plain array or number ({what}), which no tape can follow",
        "call gradtape's or NumPy's functions on the tensor itself (np.sin(x), not np.sin(x.numpy()))",
    ),
    "assigned": Words(
        "is None: it goes through the value of {what}, and assigning cuts it off",
        "use the tensor itself where you assign it to the variable",
    ),
    "own_rule": Words(
        "is None: the derivative rule of {op} gives None for it",
        "return a gradient there; in a gradtape.function, GradientTape(explain=True) looks inside",
    ),
    "raises": Words(
        "is not to be had: asking for it raises {what}",
        "see what that error says",
    ),
    "integer_source": Words(
        "is None: {source} has dtype {what}, and there are no derivatives by integers and booleans",
        "make it a floating one, with gradtape.cast or a dtype, before the tape's block",
    ),
    "integer_target": Words(
        "is None: {target} has dtype {what}, and integers and booleans have no derivative",
        "differentiate a floating value from which it was made",
    ),
    "forgotten": Words(
        "cannot be explained: the tape has answered already, and keeps nothing",
        "make the tape with GradientTape(explain=True), which remembers what happened",
    ),
}


class Step(NamedTuple):
    """One op on the way from the source; filename and line are None where the tape did not note them."""

    op: str
    filename: str | None
    line: int | None

    def __str__(self) -> str:
        return self.op if self.filename is None else f"{self.op} ({short(self.filename)}:{self.line})"


@dataclass(frozen=True, repr=False)
class Explanation:
    """Why the gradient of a target by a source is None, or how the two are connected.

    kind: a key of KINDS; op, filename, line: of the op and of the user's code where the connection broke,
    None where there is none; path: the ops from the source to there, or to the target; `str` says it all.
    """

    kind: str
    headline: str
    details: tuple[str, ...] = ()
    remedy: str = ""
    op: str | None = None
    filename: str | None = None
    line: int | None = None
    path: tuple[Step, ...] = ()

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        lines = [self.headline + ".", *(f"  {detail}" for detail in self.details)]
        if self.path:
            lines.append(f"  On the way: {_way(self.path)}.")
        if self.remedy:
            lines.append(f"Remedy: {self.remedy}.")
        return "\n".join(lines)


def _way(path: tuple[Step, ...]) -> str:
    steps = [str(step) for step in path]
    if len(steps) > 8:
        steps = [*steps[:4], f"... {len(steps) - 7} more ...", *steps[-3:]]
    return ", ".join(steps)
