"""What can be set for the whole process: `gradtape.config.threads`."""

import ctypes
import os
import sys
from types import ModuleType

from gradtape.arguments import whole
from gradtape.errors import ArgumentError

__all__ = ["threads"]

threads: int  # how many threads a compiled function uses at most; by default as many as there are processors

_threads = ctypes.c_int64()


class _Config(ModuleType):
    @property
    def threads(self) -> int:
        return _threads.value

    @threads.setter
    def threads(self, n: int) -> None:
        count = whole("gradtape.config.threads", n)
        if not 1 <= count <= 1024:
            raise ArgumentError(f"gradtape.config.threads: wanted a number from 1 to 1024, got {count}")
        _threads.value = count


def threads_address() -> int:
    """Where native code reads the number of threads."""
    return ctypes.addressof(_threads)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_threads.value = min(_processors(), 1024)
sys.modules[__name__].__class__ = _Config
