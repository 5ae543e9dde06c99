"""What a declaration of an op must be, and the errors that say so to its author."""

from collections.abc import Callable, Mapping, Sequence
from types import NoneType
from typing import Any

from gradtape.errors import ArgumentError
from gradtape.ops.batching import ALONG_AXIS, LEADING, MATRICES, OF_SHAPE, VECTORS
from gradtape.ops.layout import Layout, spelt
from gradtape.ops.rule import parameters

__all__ = ["is_own", "refuse_bare", "require_batch", "require_partials", "require_rows", "require_rules"]

Rules = Sequence[Callable[..., Any] | None]


def is_own(template: Callable[..., Any]) -> bool:
    """Whether the op is one of this package."""
    return (template.__module__ or "").startswith("gradtape.")


def refuse_bare(decorator: str, given: Any, wanted: str) -> None:
    """Raises for a decorator without parentheses, which gets the function that it stands above."""
    annotations = getattr(given, "__annotations__", {}) if callable(given) else {}
    if any("TensorLike" in spelt(a) for a in annotations.values()):
        raise ArgumentError(
            f"{given.__name__}: wanted @{decorator}(...), with parentheses and {wanted}, got "
            f"@{decorator} alone"
        )


def require_batch(batch: Any) -> None:
    known = (LEADING, VECTORS, MATRICES, ALONG_AXIS, OF_SHAPE)
    if batch is not None and not callable(batch) and batch not in known:
        raise ArgumentError(
            f"op: batch is {batch!r}; wanted LEADING, VECTORS, MATRICES, ALONG_AXIS, a rule or None"
        )


def require_partials(name: str, partials: Sequence[Any], operands: Sequence[str]) -> None:
    if partials and len(partials) != len(operands):
        raise ArgumentError(
            f"{name}: {len(partials)} partial derivatives for its operands {', '.join(operands)}; give one "
            "for each, None where there is none"
        )


def require_rules(name: str, layout: Layout, rules: Any, promote: Sequence[str]) -> None:
    """rules: what stands for the rules in vjp; promote: names of operands."""
    if not isinstance(rules, (list, tuple, NoneType)):
        raise ArgumentError(f"{name}: vjp is {rules!r}; wanted a rule, or a tuple of rules")
    if rules is not None and not layout.variadic and len(rules) > layout.operands:
        raise ArgumentError(
            f"{name}: {len(rules)} rules in vjp for {layout.operands} parameters annotated TensorLike; give "
            "one for each, None where there is none"
        )
    operands = layout.names[: layout.operands]
    if not set(promote) <= set(operands):
        raise ArgumentError(
            f"{name}: promote is {promote!r}; wanted names of its operands, {', '.join(operands)}"
        )


def require_rows(name: str, layout: Layout, rules: Rules, rows: Mapping[str, Any]) -> None:
    """Each rule of rows must have the parameters of that operand's rule in vjp."""
    if not isinstance(rows, Mapping):
        raise ArgumentError(f"{name}: rows is {rows!r}; wanted a dict of rules by the names of operands")
    asked = {x: parameters(rule)[2:] for x, rule in zip(layout.names, rules, strict=False) if rule}
    for operand, stacked in rows.items():
        if asked.get(operand) != parameters(stacked)[2:]:
            raise ArgumentError(
                f"{name}: rows has a rule for {operand!r} that takes ({', '.join(parameters(stacked))}); "
                "wanted an operand with a rule in vjp, and, after (xp, d), the parameters of that rule"
            )
