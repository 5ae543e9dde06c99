"""`function`: a Python function that is recorded when it is called first, and compiled for the calls
after.
"""

import functools
import os
import sys
import types
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

from gradtape.announce import name_of
from gradtape.compile.derived import run_and_told, told
from gradtape.compile.direct import FAILED
from gradtape.compile.explain import explained, graphs, title
from gradtape.compile.kinds import (
    Given,
    TensorSpec,
    as_given,
    given,
    kept_alive,
    own_arrays,
    quick,
    require_specs,
    with_signature,
)
from gradtape.compile.paths import Diverged, Paths
from gradtape.compile.record import run_recorded
from gradtape.errors import ArgumentError, FunctionError
from gradtape.recorders import HearsEachOp, listening, tracer

__all__ = ["Function", "function"]

F = TypeVar("F", bound=Callable[..., Any])
_MOST_PATHS = 64
_MANY_KINDS = 64
_OFF = os.environ.get("GRADTAPE_COMPILE", "").lower() in ("off", "0", "false")


@overload
def function(func: F) -> F: ...
@overload
def function(
    func: None = None,
    input_signature: Sequence[TensorSpec] | None = None,
    jit_compile: bool | None = None,
    reduce_retracing: bool = False,
) -> Callable[[F], F]: ...
def function(
    func: Any = None,
    input_signature: Sequence[TensorSpec] | None = None,
    jit_compile: bool | None = None,
    reduce_retracing: bool = False,
) -> Any:
    """`func`, recorded when it is called with new kinds of arguments, and compiled for later calls.

    The kind of arguments is their structure, the shape and dtype of tensors and NumPy arrays, the value of
    Python's numbers, strings and flags, and which object anything else is. Where `func` asks a tensor for a
    plain value (`if`, `while`, `int()`, an index ...), the program has a guard: a call that gives another
    answer there is run in Python and recorded too, and both paths stay. Variables may be assigned, and made
    at the first call only. Derivatives flow through, and are compiled as well. See docs/function.md.

    input_signature: a TensorSpec, or a structure of them, for each argument, which are converted;
    ArgumentError says where one does not fit. jit_compile: True for native code by LLVM, False for NumPy
    calls, None for the former where llvmlite is installed. reduce_retracing: Python's numbers are taken for
    tensors, so that another number is no other kind.

    Raises FunctionError, with its line, where `func` reads a whole array that is not constant, or makes a
    variable at a later call. With GRADTAPE_COMPILE=off in the environment everything runs in Python.

    >>> @gt.function
    ... def power(x, n):
    ...     y = gt.ones_like(x)
    ...     while n > 0:
    ...         y, n = y * x, n - 1
    ...     return y
    >>> [float(power(gt.constant(2.0), gt.constant(n))) for n in (3, 3, 5)]
    [8.0, 8.0, 32.0]
    """

    def decorate(f: Any) -> Any:
        return Function(f, input_signature, jit_compile, reduce_retracing)

    return decorate if func is None else decorate(func)


class _Learned:
    """What a function has learned: its paths by kind of arguments."""

    def __init__(self) -> None:
        self.paths: dict[Any, Paths] = {}
        self.kept: dict[Any, list[Any]] = {}  # what keeps the objects of a kind from being taken for others
        self.in_python: set[Any] = set()  # kinds with too many paths
        self.has_run = False  # so that no more variables may be made

    def forget(self, key: Any) -> None:
        self.paths.pop(key, None)
        self.kept.pop(key, None)
        self.in_python.discard(key)


class _OfOwner(dict[int, _Learned]):
    """What the functions of a class have learned for one object; copies of that begin anew."""

    def __reduce__(self) -> Any:
        return _OfOwner, ()


def _has_llvm() -> bool:
    from gradtape.compile.native import llvm  # loaded with the first function

    return llvm.available()


def _forget(learned: "weakref.ref[_Learned]", key: Any) -> None:
    there = learned()
    if there is not None:
        there.forget(key)


class Function:
    """What `function` makes of a Python function; called like it."""

    def __init__(
        self,
        python_function: Callable[..., Any],
        input_signature: Sequence[TensorSpec] | None = None,
        jit_compile: bool | None = None,
        reduce_retracing: bool = False,
    ) -> None:
        if not callable(python_function):
            raise ArgumentError(f"function: wanted a function, got {type(python_function).__name__}")
        if jit_compile not in (None, True, False):
            raise ArgumentError(f"function: jit_compile is {jit_compile!r}; wanted None, True or False")
        if input_signature is not None:
            require_specs(input_signature)
        self._native = jit_compile is not False and _has_llvm()
        if jit_compile and not self._native:
            raise ImportError("function: jit_compile=True needs llvmlite; pip install gradtape[jit]")
        functools.update_wrapper(self, python_function)
        self.python_function = python_function
        self.input_signature = input_signature
        self._reduce_retracing = reduce_retracing
        self._made_by = python_function, input_signature, jit_compile, reduce_retracing
        self._is_plain = input_signature is None and not reduce_retracing
        self._learned = _Learned()
        self._takes_arrays = getattr(python_function, "takes_arrays", False)
        self._of_owners: dict[int, tuple[Any, _Learned]] = {}  # which have no attributes of their own

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        """The function as a method of `owner`; what it learns goes with the owner."""
        if owner is None:
            return self
        if isinstance(getattr(owner, "__dict__", None), dict):
            learned = owner.__dict__.setdefault("_learned_by_functions", _OfOwner()).setdefault(
                id(self), _Learned()
            )
        else:
            learned = self._of_slotted(owner)
        bound = Function.__new__(Function)
        bound.__dict__.update(self.__dict__)
        bound.python_function = types.MethodType(self.python_function, owner)
        bound._learned = learned
        return bound

    def _of_slotted(self, owner: Any) -> "_Learned":
        key, owners = id(owner), self._of_owners
        if key not in owners:
            try:
                owners[key] = weakref.ref(owner, lambda _: owners.pop(key, None)), _Learned()
            except TypeError:
                owners[key] = owner, _Learned()
        return owners[key][1]

    # -- calling it ------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if not keywords and self._is_plain and not listening():
            found = quick(args)
            paths = None if found is None else self._learned.paths.get(found[0])
            direct = paths and paths.direct
            if found and paths and direct and (paths.is_fresh or not found[2]):
                result = direct(found[1])
                if result is not FAILED:
                    return result if not self._takes_arrays else as_given(result, args)
        result = self._called(args, keywords)
        return result if not self._takes_arrays else as_given(result, (args, keywords))

    def _called(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """The same without haste."""
        if self.input_signature is not None:
            args = with_signature(self.python_function, self._name, self.input_signature, args, keywords)
            keywords = {}
        stack = listening()
        if _OFF or tracer() is not None or any(isinstance(r, HearsEachOp) for r in stack):
            return self.python_function(*args, **keywords)
        call = given(args, keywords, self._reduce_retracing)
        learned = self._learned
        if call is None or call.key in learned.in_python:
            return self.python_function(*args, **keywords)
        if stack:
            call, args, keywords = own_arrays(call, args, keywords, self._reduce_retracing)
        paths = learned.paths.get(call.key)
        outcomes: Sequence[Any] = ()
        if paths is None or paths.is_stale:
            learned.paths.pop(call.key, None)
        else:
            try:
                if stack:
                    return run_and_told(paths, self.python_function, call, args, keywords)
                return paths.finished(paths.run(call.arrays, False), call)
            except Diverged as problem:
                outcomes = problem.outcomes
        # outside of the handler, so that what Python raises has no cause that its user does not know
        return self._record(call, args, keywords, outcomes)

    @property
    def _name(self) -> str:
        return name_of(self.python_function)

    def _record(
        self, call: Given, args: tuple[Any, ...], keywords: dict[str, Any], outcomes: Sequence[Any]
    ) -> Any:
        """Runs the call in Python, and keeps the path that it takes."""
        learned, key = self._learned, call.key
        found = run_recorded(
            self.python_function,
            self._name,
            args,
            keywords,
            self._reduce_retracing,
            outcomes,
            may_make=not learned.has_run,
        )
        learned.has_run = True
        paths = self._paths_for(key, args, keywords, call) if found.is_kept and not found.made else None
        if paths is None and listening():
            paths = Paths("", False, len(call.arrays))  # for this call only
        if paths is None:
            return found.result
        ran = paths.add(found.recording, found.derivative, found.values)
        if not listening():
            return found.result
        try:
            return told(paths, ran, self.python_function, call, args, keywords)
        except Diverged:
            raise FunctionError(
                f"function {self._name}: a tape outside began, within the function, to watch what that had "
                "read already; watch it before the call"
            ) from None

    def _paths_for(
        self, key: Any, args: tuple[Any, ...], keywords: dict[str, Any], call: Given
    ) -> Paths | None:
        """Where to keep a path of this kind; None if there are too many, which is told once."""
        learned = self._learned
        if key not in learned.paths:
            self._count_kinds(len(learned.paths))
            learned.paths.setdefault(key, Paths(title(args, keywords), self._native, len(call.arrays)))
            learned.kept[key] = kept_alive(
                call.objects, functools.partial(_forget, weakref.ref(learned), key)
            )
        paths = learned.paths[key]
        if paths.count < _MOST_PATHS:
            return paths
        learned.in_python.add(key)
        del learned.paths[key]
        lines: Counter[str] = Counter()
        for guard, ways in paths.guards():
            lines[guard.line] += ways - 1
        most = lines.most_common(1)
        where = (
            f"most branch at {most[0][0]}: choose there with gradtape.where, or loop over what is no tensor"
            if most
            else "it does something else, or gives another shape, from call to call"
        )
        warnings.warn(
            f"function {self._name} has taken {_MOST_PATHS} paths for one kind of arguments, and runs in "
            f"Python from now on for these; {where}",
            stacklevel=5,
        )
        return None

    def _count_kinds(self, n: int) -> None:
        if n == _MANY_KINDS:
            warnings.warn(
                f"function {self._name} has been recorded for {n} kinds of arguments, and keeps a program "
                "for each; give Python's numbers that differ from call to call as tensors, or use "
                "function(reduce_retracing=True)",
                stacklevel=6,
            )

    def __reduce__(self) -> Any:
        """By name, if it stands in a module under its own; else as a copy, which has learned nothing yet."""
        if isinstance(self.python_function, types.MethodType):
            return getattr, (self.python_function.__self__, self.python_function.__name__)
        found: Any = sys.modules.get(self.__module__)
        for part in getattr(self, "__qualname__", "").split("."):
            found = getattr(found, part, None)
        return self.__qualname__ if found is self else (Function, self._made_by)

    # -- showing it ------------------------------------------------------------------------------------------

    def explain(self) -> None:
        """Prints what was compiled: for each kind of arguments the segments between guards, the ops that each
        pass left, what was fused into which kernel, which way each answer leads, what a derivative keeps, and
        the time.

        >>> square = gt.function(lambda x: x * x)
        >>> float(square(gt.constant(3.0)))
        9.0
        >>> square.explain()  # doctest: +ELLIPSIS
        <lambda>: 1 kind of arguments, 1 path
        ...
        """
        print(explained(self._name, list(self._learned.paths.values())))

    def graph(self, *args: Any, **keywords: Any) -> str:
        """The compiled graph for such arguments as text; recorded by calling the function, if it was not yet.

        >>> print(gt.function(lambda x: x * x).graph(gt.constant(3.0)))  # doctest: +ELLIPSIS
        segment 1
        inputs %0: float32[]
          ...multiply(%0, %0)...
        outputs ...
        """
        if self.input_signature is not None:
            args, keywords = (
                with_signature(self.python_function, self._name, self.input_signature, args, keywords),
                {},
            )
        call = given(args, keywords, self._reduce_retracing)
        for _ in range(2):  # a first call that makes variables is not recorded
            paths = None if call is None else self._learned.paths.get(call.key)
            if paths is None:
                self(*args, **keywords)
        paths = None if call is None else self._learned.paths.get(call.key)
        return "runs in Python" if paths is None else graphs(paths)

    def __repr__(self) -> str:
        return f"<gradtape.function {self._name}>"
