"""What running code calls a value, and where it gave the name another one."""

import dis
import functools
import inspect
import sys
from collections.abc import Iterable, Iterator, Sequence
from types import CodeType, FrameType, FunctionType
from typing import Any, NamedTuple

from gradtape.callers import Site
from gradtape.tensor import Value, Variable

__all__ = ["Binding", "bindings", "called", "has_literal", "made_from", "name_of", "named_values"]


class Binding(NamedTuple):
    """One place where code gives a name a value.

    name: "w", "model.w" or "params[0]"; renews: whether it is made of what the name meant before, as in
    w = w - g; loads: the names that it is made of; passed: whether it stands before what is running now.
    """

    name: str
    site: Site
    renews: bool
    loads: frozenset[str]
    passed: bool


def _owners(frame: FrameType) -> Iterator[tuple[FrameType, str, Any]]:
    """Everything that the code of a frame, and of those that called it, has a name for, nearest first."""
    here: FrameType | None = frame
    while here is not None:
        for name, value in _locals(here).items():
            yield here, name, value
        here = here.f_back
    for name, value in list(frame.f_globals.items()):
        yield frame, name, value


_ALONE = 3  # references to a dict that nobody else has: the frame's, a name's, and that of who counts them


def _locals(frame: FrameType) -> dict[str, Any]:
    """The local names; what Python before 3.13 shows of a function's it keeps, and so their values alive.

    It is one dict for all who ask: where others have it, as from locals() or in a debugger, it is left alone,
    and so it is where somebody traces: what is missing there is taken from the function, too.
    """
    shown = frame.f_locals
    found = dict(shown)
    if sys.version_info < (3, 13) and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        if sys.getrefcount(shown) == _ALONE and sys.gettrace() is None:
            shown.clear()
    return found


def _named(frame: FrameType, value: Any) -> Iterator[tuple[FrameType, str]]:
    """The names of a value, `owner.attribute` for what is the attribute of an object with a name."""
    attributes: list[tuple[FrameType, str]] = []
    for where, name, found in _owners(frame):
        if found is value:
            yield where, name
        for part, held in _parts(found):
            if held is value:
                attributes.append((where, name + part))
    yield from attributes


_FEW = 1000  # items of a list or dict that are looked through


def _parts(x: Any) -> Iterator[tuple[str, Any]]:
    """What an object holds, each with how that is written behind the object's name."""
    if type(x) in (list, tuple) and len(x) <= _FEW:
        yield from ((f"[{i}]", item) for i, item in enumerate(x))
    elif type(x) is dict and len(x) <= _FEW:
        yield from ((f"[{key!r}]", item) for key, item in list(x.items()) if type(key) in (str, int))
    else:
        yield from ((f".{name}", held) for name, held in _attributes(x).items())


def _attributes(x: Any) -> dict[str, Any]:
    """What an object of a class in Python holds by name, without asking it: some raise whatever one asks."""
    if issubclass(type(x), type) or type(x).__module__ in ("builtins", "types"):
        return {}
    try:
        return dict(object.__getattribute__(x, "__dict__"))
    except Exception:  # it has none, or a class of its own makes of it what it likes
        return {}


def named_values(frame: FrameType) -> dict[int, tuple[str, Value]]:
    """The names that running code has for tensors and variables, and these, by key; the nearest name wins."""
    found: dict[int, tuple[str, Value]] = {}
    parts: list[tuple[str, Value]] = []
    for _, name, value in _owners(frame):
        if not name.isidentifier() or name.startswith("_"):
            continue
        if issubclass(type(value), Value):
            found.setdefault(value._key, (name, value))
        else:
            parts += [(name + part, held) for part, held in _parts(value) if issubclass(type(held), Value)]
    for name, value in parts:
        found.setdefault(value._key, (name, value))
    return found


def called(value: Value, name: str | None) -> str | None:
    """What the user named a variable when it was made; else its name in the code, if it has one."""
    if isinstance(value, Variable) and value.name != "Variable:0":
        return value.name.removesuffix(":0")
    return name


def name_of(frame: FrameType, value: Any) -> str | None:
    """What the code of a frame calls a value; None if it has no name there."""
    return next((name for _, name in _named(frame, value) if name[:1].isalpha()), None)


def bindings(frame: FrameType, value: Any) -> list[Binding]:
    """Where code that may have run gives the name of `value` a value: the code that is running, functions of
    its module for a global name, the methods of an object's class for an attribute.
    """
    for where, name in _named(frame, value):
        found = [b for code, now in _codes(where, name, value) for b in _stores(code, now, name)]
        if found:
            return found
    return []


def _codes(where: FrameType, name: str, value: Any) -> Iterator[tuple[CodeType, int | None]]:
    """Code that may give the name a value; and where it is now, None for what is not running."""
    yield where.f_code, where.f_lasti
    owner, _, attribute = name.partition(".")
    if attribute:
        kind = type(_locals(where).get(owner, where.f_globals.get(owner)))
        others: list[Iterable[Any]] = [vars(c).values() for c in kind.__mro__ if c.__module__ != "builtins"]
    else:
        is_global = "[" not in name and where.f_globals.get(name) is value
        others = [where.f_globals.values()] if is_global else []
    for values in others:
        for function in list(values):
            if type(function) is FunctionType and function.__code__ is not where.f_code:
                yield function.__code__, None


def made_from(frame: FrameType, value: Any, source: Any) -> Site | None:
    """Where running code that has names for both gave a name a value made of the source, out of which, as the
    names show, came `value`; None if there is no such place.
    """
    sources = {(where, name.rpartition(".")[2]) for where, name in _named(frame, source)}
    for where, name in _named(frame, value):
        waiting, seen = [] if "[" in name else [name], {name}
        while waiting:
            for binding in _stores(where.f_code, where.f_lasti, waiting.pop()):
                if any((where, loaded) in sources for loaded in binding.loads):
                    return binding.site
                waiting += binding.loads - seen
                seen |= binding.loads
    return None


def _stores(code: CodeType, now: int | None, full_name: str) -> Iterator[Binding]:
    """The places where code, which is at the instruction `now` if it is running, gives the name a value."""
    plain, _, item = full_name.partition("[")
    name, is_attribute = plain.rpartition(".")[2], "." in plain
    steps = list(dis.get_instructions(code))
    for i, step in enumerate(steps):
        is_items = bool(item) and step.opname == "STORE_SUBSCR"  # params[i] = ..., which names what it loads
        if not (is_items or _stores_name(step, name, is_attribute, now is not None)):
            continue
        loads = _loads(steps, i)
        is_renewed = (name, is_attribute) in loads
        passed = now is not None and step.offset < now
        if (is_renewed or not is_items) and (now is None or passed or _comes_round(steps, step.offset, now)):
            loaded = frozenset(loaded for loaded, _ in loads)
            yield Binding(full_name, Site(code, step.offset), is_renewed, loaded, passed)


def _stores_name(step: dis.Instruction, name: str, is_attribute: bool, is_running: bool) -> bool:
    """Whether an instruction gives the name a value; of code that is not running, whether others see it."""
    if not step.opname.startswith("STORE_") or (step.opname == "STORE_ATTR") != is_attribute:
        return False
    names = _names(step)[:1] if step.opname == "STORE_FAST_LOAD_FAST" else _names(step)
    return name in names and (is_running or is_attribute or step.opname == "STORE_GLOBAL")


def _loads(steps: Sequence[dis.Instruction], last: int) -> set[tuple[str, bool]]:
    """The names that a statement reads up to its last instruction, and which of them are attributes."""
    first_line, found = _line_of(steps[last]) or 0, set[tuple[str, bool]]()
    for step in reversed(steps[:last]):
        if (_line_of(step) or first_line) < first_line:
            break
        if step.opname.startswith("LOAD_"):
            is_attribute = step.opname in ("LOAD_ATTR", "LOAD_METHOD")
            found |= {(name, is_attribute) for name in _names(step)}
            if isinstance(step.argval, CodeType):  # of a comprehension, or the like
                found |= {(name, True) for name in step.argval.co_names}
    return found


def _line_of(step: dis.Instruction) -> int | None:
    return step.positions.lineno if step.positions else None


def _comes_round(steps: Sequence[dis.Instruction], offset: int, now: int) -> bool:
    """Whether a loop leads from this instruction, which stands below, back to the one that is running."""
    for i, step in enumerate(steps):
        is_handlers = any(before.opname == "POP_EXCEPT" for before in steps[max(i - 4, 0) : i])
        if "BACKWARD" in step.opname and step.offset > offset and step.argval <= now and not is_handlers:
            return True
    return False


def _names(step: dis.Instruction) -> list[str]:
    """The names that an instruction is about; some are about two."""
    argument = step.argval if isinstance(step.argval, tuple) else (step.argval,)
    return [name for name in argument if isinstance(name, str)]


@functools.lru_cache(1000)
def has_literal(site: Site) -> bool:
    """Whether a number with a decimal point is written in the line."""
    line = [(start, stop) for start, stop, number in site.code.co_lines() if number == site.line]
    return any(
        type(step.argval) in (float, complex) and any(a <= step.offset < b for a, b in line)
        for step in dis.get_instructions(site.code)
    )
