"""Compiled functions that tell how often they ran in Python."""

import functools
from collections.abc import Callable
from typing import Any

import gradtape as gt


def counting(f: Callable[..., Any], **options: Any) -> Any:
    """`function` of f that counts, in `.runs`, how often f ran in Python."""
    runs = []

    @functools.wraps(f)
    def body(*args: Any, **keywords: Any) -> Any:
        runs.append(1)
        return f(*args, **keywords)

    made: Any = gt.function(body, **options)
    made.runs = runs
    return made
