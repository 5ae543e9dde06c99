"""LLVM as an engine: text to machine code, and that as a builtin function of Python."""

import ctypes
import functools
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

__all__ = ["Engine", "available", "engine", "made"]

_TYPE, _DATA, _FLAGS = 8, 16, 64  # in an object: its type; its data, or of a scalar its value; its flags
_ISAS = (("avx512f", "e", 64), ("avx2", "d", 32), ("sse2", "b", 16), ("neon", "n", 16))


class Engine:
    """The machine that code is made for. bytes: of its vectors; x86: whether it is one of these."""

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        if llvm.llvm_version_info < (16,):
            raise ImportError("native code needs LLVM 16, which llvmlite has from 0.45 on")
        self.llvm = llvm
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        features = llvm.get_host_cpu_features()
        target = llvm.Target.from_default_triple()
        self.triple = llvm.get_process_triple()
        self.target: Callable[[], Any] = lambda: target.create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=features.flatten(), opt=2
        )
        self.x86 = self.triple.startswith(("x86_64", "i686", "amd64"))
        known = [(isa, n) for name, isa, n in _ISAS if features.get(name)]
        self.bytes = known[0][1] if known else 16
        self.isas = [isa for isa, _ in known]
        self.has_vectors = _load("libmvec.so.1", llvm)
        self.symbol = functools.cache(lambda name: llvm.address_of_symbol(name))
        for name in ("PyEval_SaveThread", "PyEval_RestoreThread"):
            llvm.add_symbol(name, ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value)

    def vectors(self, name: str, kind: str, operands: int) -> Mapping[int, str]:
        """The vector functions of glibc's libmvec for a C function, by their number of lanes."""
        found: dict[int, str] = {}
        if not self.has_vectors:
            return found
        for isa in self.isas:
            lanes = {"e": 64, "d": 32}.get(isa, 16) // (4 if kind == "float" else 8)
            symbol = f"_ZGV{isa}N{lanes}{'v' * operands}_{name}{'f' if kind == 'float' else ''}"
            if self.symbol(symbol):
                found.setdefault(lanes, symbol)
        return found

    def compiled(self, text: str) -> Any:
        """The module's machine code, for as long as the object that is returned lives."""
        llvm: Any = self.llvm
        module = llvm.parse_assembly(text)
        machine = self.target()
        module.triple, module.data_layout = self.triple, str(machine.target_data)
        builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=1))
        passes = llvm.create_new_module_pass_manager()
        passes.add_sroa_pass()  # what else there is to gain, the text has already
        passes.run(module, builder)
        code = llvm.create_mcjit_compiler(module, machine)
        code.finalize_object()
        return code


@functools.cache
def engine() -> Engine:
    return Engine()


def _load(library: str, llvm: Any) -> bool:
    try:
        llvm.load_library_permanently(library)
    except RuntimeError:
        return False
    return True


@functools.cache
def available() -> bool:
    """Whether functions can be compiled: there is llvmlite, and CPython with objects as expected."""
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return False
    try:
        engine()
    except (ImportError, OSError, RuntimeError):
        return False
    return _as_expected()


def _as_expected() -> bool:
    arrays = [np.arange(6.0).reshape(2, 3), np.arange(6.0)[::2], np.zeros((), np.float32)]
    for array in arrays:
        data = ctypes.c_int64.from_address(id(array) + _DATA).value
        flags = ctypes.c_int32.from_address(id(array) + _FLAGS).value
        if data != array.ctypes.data or flags != array.flags.num:
            return False
    scalars: list[tuple[Any, Any]] = [
        (np.float64(2.5), ctypes.c_double),
        (np.int32(7), ctypes.c_int32),
        (np.bool_(True), ctypes.c_bool),
    ]
    return all(
        kind.from_address(id(x) + _DATA).value == x.item()
        and ctypes.c_int64.from_address(id(x) + _TYPE).value == id(type(x))
        for x, kind in scalars
    )


# -- machine code as a builtin -------------------------------------------------------------------------------


class _Definition(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


class _Owner:
    """What a builtin's code and constants live as long as: it is the builtin's `self`."""

    def __init__(self, code: Any, definition: _Definition, constants: Any) -> None:
        self.code, self.definition, self.constants = code, definition, constants


_FASTCALL = 0x80


def made(text: str, constants: Any) -> tuple[Any, float]:
    """The builtin function that the module's `call` is, and the seconds it took to make it."""
    start = time.perf_counter()
    code = engine().compiled(text)
    definition = _Definition(b"native", code.get_function_address("call"), _FASTCALL, None)
    new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    builtin = new(("PyCFunction_NewEx", ctypes.pythonapi))
    call = builtin(ctypes.addressof(definition), _Owner(code, definition, constants), None)
    return call, time.perf_counter() - start
