"""Whose code is running: the line, outside of this package, that an op or a question came from."""

import functools
import linecache
import os
import sys
from types import CodeType, FrameType
from typing import NamedTuple

__all__ = ["PACKAGE", "Site", "frame_of_caller", "line_of_caller", "place", "short", "site_of"]

PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


class Site(NamedTuple):
    """A place in running code, kept as cheaply as it can be: which code, and how far into its bytes."""

    code: CodeType
    offset: int

    @property
    def filename(self) -> str:
        return self.code.co_filename

    @property
    def line(self) -> int:
        """The line's number, counted from 1."""
        return _line(self.code, self.offset)

    @property
    def text(self) -> str:
        """The line itself, stripped; "" where there is no source to read."""
        return linecache.getline(self.filename, self.line).strip()

    def __str__(self) -> str:
        return f"{self.filename}:{self.line}"


@functools.lru_cache(1000)
def _line(code: CodeType, offset: int) -> int:
    for start, stop, line in code.co_lines():
        if line is not None and start <= offset < stop:
            return line
    return code.co_firstlineno


class _Ours(dict[str, bool]):
    """Whether a file is of this package, by its name."""

    def __missing__(self, filename: str) -> bool:
        self[filename] = is_ours = filename.startswith(PACKAGE)
        return is_ours


_ours = _Ours()


def frame_of_caller() -> FrameType:
    """The innermost frame that is not this package's; asked by a function that is."""
    frame = sys._getframe(2)
    while _ours[frame.f_code.co_filename] and frame.f_back is not None:
        frame = frame.f_back
    return frame


def site_of(frame: FrameType) -> Site:
    return Site(frame.f_code, frame.f_lasti)


def line_of_caller() -> str:
    """Where the innermost code that is not this package's stands, as "/path/file.py:12"."""
    frame = frame_of_caller()
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def place(site: Site) -> str:
    """A line of the user's code, as it is shown: where it stands, and what it says."""
    text = site.text
    where = f"{short(site.filename)}:{site.line}"
    return f"{where}: {text}" if text else where


def short(filename: str) -> str:
    """A file's path as seen from here, if that is shorter."""
    try:
        seen = os.path.relpath(filename)
    except (ValueError, OSError):  # on another drive; from a folder that is gone
        return filename
    return filename if filename.startswith("<") or seen.startswith("..") else seen
