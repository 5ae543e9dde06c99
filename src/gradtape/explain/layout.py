"""Where the boxes of a graph go, row by row from top to bottom, and how lines bend: as Graphviz says."""

import shutil
from collections.abc import Collection, Sequence
from typing import NamedTuple, TypeAlias

__all__ = ["Layout", "Link", "Point", "layout"]

Point: TypeAlias = tuple[float, float]
Link: TypeAlias = tuple[int, int]


class Layout(NamedTuple):
    """Pixels from the upper left corner; a line is its start and three points more for each Bézier curve."""

    width: float
    height: float
    centres: list[Point]
    lines: list[list[Point]]


_BESIDE = 20.0  # pixels between two boxes of a row
_BETWEEN = 34.0  # pixels between two rows, at least
_STRAIGHT = 10  # how much more it matters that a line is straight if it comes from what was made, not given
_INCH = 72.0  # pixels


def layout(
    sizes: Sequence[Point],
    links: Sequence[Link],
    top: Collection[int] = (),
    bottom: Collection[int] = (),
    narrow: Collection[int] = (),
) -> Layout:
    """Places for boxes of these widths and heights; links are pairs of their numbers.

    There is no way from a box back to itself, and no two links are the same. The boxes of `top` that no link
    ends at come into the first row, those of `bottom` that no link starts at into the last; lines meet those
    of `narrow` in the middle above and below. Raises ImportError if there is no Graphviz.
    """
    if not sizes:
        return Layout(0.0, 0.0, [], [])
    top = sorted(set(top) - {end for _, end in links})
    bottom = sorted(set(bottom) - {start for start, _ in links})
    return _read(_placed(_written(sizes, links, top, bottom, set(narrow))), links)


def _placed(text: str) -> str:
    """What Graphviz makes of a graph in its language, in its format `plain`."""
    if shutil.which("dot"):
        try:
            import graphviz
        except ImportError:
            pass
        else:
            return str(graphviz.Source(text).pipe("plain", encoding="utf-8"))
    try:
        from pygraphviz import AGraph
    except ImportError:
        raise ImportError(
            "drawing needs Graphviz: pip install pygraphviz, which brings it along (or gradtape[draw]), or "
            "install Graphviz and pip install graphviz"
        ) from None
    return str(AGraph(text).draw(format="plain", prog="dot"), encoding="utf-8")


def _written(
    sizes: Sequence[Point],
    links: Sequence[Link],
    top: Sequence[int],
    bottom: Sequence[int],
    narrow: Collection[int],
) -> str:
    """The graph in Graphviz's language."""
    made = {end for _, end in links}
    lines = [
        f"graph [nodesep={_BESIDE / _INCH:.4f}, ranksep={_BETWEEN / _INCH:.4f}]",
        'node [shape=box, fixedsize=true, label=""]',
        "edge [arrowhead=none]",
    ]
    for i, (width, height) in enumerate(sizes):
        lines.append(f"{i} [width={width / _INCH:.4f}, height={height / _INCH:.4f}]")
    for start, end in links:
        weight = f"weight={_STRAIGHT if start in made else 1}"
        ports = (", tailport=s" if start in narrow else "") + (", headport=n" if end in narrow else "")
        lines.append(f"{start} -> {end} [{weight}{ports}]")
    for rank, row in (("min", top), ("max", bottom)):
        if row:
            lines.append(f"{{rank={rank}; {' '.join(map(str, row))}}}")
    return "digraph {\n" + "\n".join(lines) + "\n}\n"


def _read(text: str, links: Sequence[Link]) -> Layout:
    """What Graphviz says in its format `plain`: inches from the lower left corner."""
    width = height = 0.0
    centres: dict[int, Point] = {}
    lines: dict[Link, list[Point]] = {}

    def points(words: Sequence[str]) -> list[Point]:
        numbers = [float(word) * _INCH for word in words]
        return [(x, height - y) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]

    for kind, *words in map(str.split, text.splitlines()):
        if kind == "graph":
            width, height = (float(word) * _INCH for word in words[1:3])
        elif kind == "node":
            (centres[int(words[0])],) = points(words[1:3])
        elif kind == "edge":
            lines[int(words[0]), int(words[1])] = points(words[3 : 3 + 2 * int(words[2])])
    return Layout(width, height, [centres[i] for i in range(len(centres))], [lines[link] for link in links])
