"""Everything that people read runs: the examples of docstrings, and the code blocks of the README and docs/.

In those files a ```python block that a ```text block follows directly must print just that text, in which ...
stands for anything. The blocks of one file share a namespace and run in order.
"""

import contextlib
import doctest
import importlib
import inspect
import io
import pkgutil
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradtape as gt

ROOT = Path(__file__).parents[1]
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if page.exists()]
PUBLIC = [
    "gradtape",
    "gradtape.math",
    "gradtape.nn",
    "gradtape.linalg",
    "gradtape.random",
    "gradtape.optimizers",
    "gradtape.autodiff",
    "gradtape.extending",
    "gradtape.debugging",
    "gradtape.testing",
]
BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\n\s*^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)


# -- docstrings ----------------------------------------------------------------------------------------------


def modules() -> list[types.ModuleType]:
    found = pkgutil.walk_packages(gt.__path__, "gradtape.")
    return [gt, *(importlib.import_module(module.name) for module in found)]


def documented(owner: Any, name: str) -> Iterator[tuple[str, Any]]:
    """A module or class and everything defined in it that can have a docstring, each with its dotted name."""
    yield name, owner
    home = owner.__name__ if inspect.ismodule(owner) else owner.__module__
    for part, value in vars(owner).items():
        value = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
        if inspect.isclass(value):
            if value.__module__ == home and value is not owner:
                yield from documented(value, f"{name}.{part}")
        elif isinstance(value, property) or (callable(value) and getattr(value, "__module__", None) == home):
            yield f"{name}.{part}", value


def examples() -> dict[str, doctest.DocTest]:
    """The docstrings that hold examples, by the dotted name of what they document.

    `gt`, `np` and `gnp` are there; what is not public is called by its own name.
    """
    parser = doctest.DocTestParser()
    public = {id(value) for module in PUBLIC for value in vars(importlib.import_module(module)).values()}
    found = {}
    for module in modules():
        for name, value in documented(module, module.__name__):
            text = inspect.cleandoc(value.__doc__ or "")
            if ">>>" in text:
                names = {"gt": gt, "np": np, "gnp": importlib.import_module("gradtape.numpy")}
                if id(value) not in public:
                    names[name.rpartition(".")[2]] = value
                found[name] = parser.get_doctest(text, names, name, None, None)
    return found


@pytest.mark.usefixtures("scratch_registry")
@pytest.mark.parametrize("example", [pytest.param(test, id=name) for name, test in examples().items()])
def test_docstring(example: doctest.DocTest) -> None:
    report = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.REPORT_NDIFF)
    if runner.run(example, out=report.write, clear_globs=False).failed:
        pytest.fail(report.getvalue(), pytrace=False)


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_has_an_example(module: str) -> None:
    public = importlib.import_module(module)
    bare = [
        name
        for name in public.__all__
        if needs_example(getattr(public, name)) and ">>>" not in (getattr(public, name).__doc__ or "")
    ]
    assert not bare, f"{module}: public, but without an example in the docstring"


def needs_example(value: Any) -> bool:
    """Whether it is a function or a class of this package's own; exceptions are shown by what raises them."""
    own = callable(value) and (getattr(value, "__module__", None) or "").startswith("gradtape")
    return own and not (inspect.isclass(value) and issubclass(value, BaseException))


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_exist_and_are_sorted_once(module: str) -> None:
    public = importlib.import_module(module)
    assert [name for name in public.__all__ if not hasattr(public, name)] == []
    assert len(set(public.__all__)) == len(public.__all__)


# -- pages ---------------------------------------------------------------------------------------------------


def blocks(page: str) -> Iterator[tuple[int, str, str | None]]:
    """The Python blocks of a page: the line each starts at, its code, and the text that it must print."""
    for match in BLOCK.finditer(page):
        yield page[: match.start(1)].count("\n"), match[1], match[2]


def run_page(page: str, name: str) -> int:
    """Runs all blocks, compares what they print, and says how many there were."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    count = 0
    for line, code, wanted in blocks(page):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * line + code, name, "exec"), namespace)
        if wanted is not None:
            got = printed.getvalue().strip() + "\n"
            alike = doctest.OutputChecker().check_output(wanted.strip() + "\n", got, doctest.ELLIPSIS)
            assert alike or got == wanted.strip() + "\n", f"{name}, line {line + 1}"
        count += 1
    return count


@pytest.mark.usefixtures("scratch_registry")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(page.read_text(encoding="utf-8"), str(page))


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_page_exists_and_shows_code_with_its_output(page: str) -> None:
    assert [text for _, _, text in blocks((ROOT / page).read_text(encoding="utf-8")) if text]


# One that users never see, and two that have pages of their own, why-none.md and why-nan.md.
NOT_ON_THE_PAGE = {"PlanError"}


def test_the_page_of_errors_provokes_every_one() -> None:
    page = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    told = "".join(text for _, _, text in blocks(page) if text)
    shown = set(re.findall(r"^(\w+Error): ", told, re.MULTILINE))
    assert not set(gt.errors.__all__) - shown - NOT_ON_THE_PAGE


PAGE = """Words.

```python
x = 2
print(x)
```

```text
2
```

```python
print(x + 1)
```
More words.

```text
0
```
"""


def test_blocks_share_a_namespace_and_only_text_that_follows_directly_is_compared() -> None:
    assert run_page(PAGE, "page") == 2


def test_a_block_that_prints_something_else_is_found() -> None:
    with pytest.raises(AssertionError, match="page, line 4"):
        run_page(PAGE.replace("x = 2", "x = 3"), "page")
