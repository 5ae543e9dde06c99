"""What every test starts from and must leave behind: fixed seeds, and no tape on the stack."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from counted import counting
from hypothesis import HealthCheck, settings

import gradtape as gt
from gradtape.ops.op import REGISTRY, raw, recorded
from gradtape.recorders import listening, pop

settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    max_examples=40,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def seeds() -> None:
    np.random.seed(0)  # noqa: NPY002 - for code that uses NumPy's global generator
    gt.random.set_seed(0)


@pytest.fixture(autouse=True)
def no_recorder_left() -> Iterator[None]:
    """A test that leaves a recorder on this thread's stack fails, and the next one starts clean."""
    yield
    left = listening()
    for recorder in left:
        pop(recorder)
    assert not left, f"left on the stack of recorders: {left}"


@pytest.fixture(params=[False, None], ids=["numpy", "default"])
def compiled(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`function` that counts how often it runs in Python, by NumPy and by what there is."""
    return functools.partial(counting, jit_compile=request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def scratch_registry() -> Iterator[None]:
    """Ops declared in a test are gone after it."""
    known = set(REGISTRY)
    yield
    for name in set(REGISTRY) - known:
        del REGISTRY[name]
        for namespace in (raw, recorded):
            delattr(namespace, name)
