"""A graph of ops as a picture: SVG text, PNG bytes, and what `GradientTape.draw` returns."""

import importlib.util
import os
import re
import unicodedata
from collections.abc import Hashable, Iterable, Sequence
from html import escape
from math import hypot
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from gradtape.errors import ArgumentError
from gradtape.explain.layout import Point, layout

__all__ = ["Link", "Node", "Picture"]

Kind: TypeAlias = Literal["source", "op", "constant", "target", "fold"]


class Node(NamedTuple):
    """A box and its text, of which the first line is its name; ops: how many it stands for."""

    key: Hashable
    kind: Kind
    lines: tuple[str, ...]
    ops: int = 1


class Link(NamedTuple):
    """From the key of an operand to that of a result; broken: derivatives do not flow through it."""

    start: Hashable
    end: Hashable
    broken: bool = False
    note: str = ""


class Picture(NamedTuple):
    """A graph of ops: the nodes in the order in which they were computed; path: the keys of a chosen way.

    >>> from gradtape.explain.picture import Link, Node, Picture
    >>> x = Node("x", "source", ("x", "float32 ()"))
    >>> picture = Picture([x, Node(1, "op", ("sin", "float32 ()"))], [Link("x", 1)])
    >>> picture
    <picture of 1 op; .save('tape.svg')>
    >>> picture.svg()[:4]
    '<svg'
    """

    nodes: Sequence[Node]
    links: Sequence[Link]
    path: Sequence[Hashable] = ()

    def svg(self) -> str:
        """The picture as the text of an SVG image, which notebooks show by themselves."""
        return _svg(self)

    def _repr_svg_(self) -> str:
        return self.svg()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the file, an image of the kind that its name says: `.svg` or `.png`."""
        match Path(path).suffix.lower():
            case ".svg":
                Path(path).write_text(self.svg(), encoding="utf-8")
            case ".png":
                Path(path).write_bytes(_png(self.svg()))
            case other:
                raise ArgumentError(
                    f"save: {other or 'no suffix'!r} of {os.fspath(path)!r} is neither .svg nor .png"
                )

    def __repr__(self) -> str:
        count = sum(node.ops for node in self.nodes if node.kind in ("op", "fold"))
        return f"<picture of {count} op{'' if count == 1 else 's'}; .save('tape.svg')>"


# -- boxes ---------------------------------------------------------------------------------------------------


class _Style(NamedTuple):
    """How a kind of box looks; the colours are Okabe and Ito's, or tints of them."""

    fill: str
    stroke: str
    thickness: float
    rounding: float


_STYLES = {
    "source": _Style("#fdf3dc", "#e69f00", 1.6, 16),
    "op": _Style("#ffffff", "#555555", 1.2, 5),
    "constant": _Style("#eeeeee", "#999999", 0.8, 0),
    "target": _Style("#dcf3ec", "#009e73", 1.6, 5),
    "fold": _Style("#ffffff", "#555555", 1.2, 5),
}
_CHOSEN, _BROKEN, _LINE, _TEXT, _SMALL_TEXT = "#0072b2", "#d55e00", "#555555", "#000000", "#444444"
_THICK = 3.5  # pixels, of what is on the chosen path

_FONT = "DejaVu Sans Mono, Menlo, Consolas, monospace"
_FONT_SIZE, _LINE_HEIGHT = 13, 18  # pixels
_CELL = 7.83  # pixels, the width of a letter in the widest of those fonts
_LONGEST = 42  # letters of a line
_BESIDE, _ABOVE = 12, 6  # pixels between a box and its text
_SHEET = 4  # pixels of a stack's lower sheets that are seen below and beside the upper ones
_CROSS = 12  # pixels that the cross in a broken line is wide and high


class _Box(NamedTuple):
    kind: str
    lines: tuple[str, ...]
    chosen: bool = False

    @property
    def size(self) -> Point:
        cells = max([_cells(_cut(line)) for line in self.lines], default=0)
        width, height = cells * _CELL + 2 * _BESIDE, len(self.lines) * _LINE_HEIGHT + 2 * _ABOVE
        match self.kind:
            case "fold":
                return width + 2 * _SHEET, height + 2 * _SHEET
            case "break" | "note":
                cross = _CROSS if self.kind == "break" else 0
                return max(cells * _CELL, _CROSS), cross + len(self.lines) * _LINE_HEIGHT
        return width, height


def _cells(text: str) -> int:
    """How many letters wide the text is: some of Asia's letters are as wide as two, accents have no width."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _cut(text: str) -> str:
    """The text in one line, no longer than a line can be."""
    text = " ".join(text.split())
    if _cells(text) <= _LONGEST:
        return text
    while _cells(text) >= _LONGEST:
        text = text[:-1]
    return text + "…"


# -- SVG -----------------------------------------------------------------------------------------------------

_MARGIN = 16  # pixels


def _svg(picture: Picture) -> str:
    nodes = {node.key: node for node in picture.nodes}
    places = {key: i for i, key in enumerate(nodes)}
    on_way = set(picture.path)
    boxes = [_Box(node.kind, node.lines, node.key in on_way) for node in nodes.values()]
    chosen = set(zip(picture.path, picture.path[1:], strict=False))
    links: list[tuple[int, int]] = []
    styles: list[tuple[bool, bool, bool]] = []  # on the chosen path, broken, and whether an arrow ends it
    for link in _merged(picture.links):
        start, end = places[link.start], places[link.end]
        thick = (link.start, link.end) in chosen
        if link.broken or link.note:
            boxes.append(_Box("break" if link.broken else "note", (link.note,) if link.note else ()))
            links += [(start, len(boxes) - 1), (len(boxes) - 1, end)]
            styles += [(thick, link.broken, False), (thick, link.broken, True)]
        else:
            links.append((start, end))
            styles.append((thick, False, True))
    kinds = [box.kind for box in boxes]
    where = layout(
        [box.size for box in boxes],
        links,
        [i for i, kind in enumerate(kinds) if kind == "source"],
        [i for i, kind in enumerate(kinds) if kind == "target"],
        [i for i, kind in enumerate(kinds) if kind in ("break", "note")],
    )
    width, height = where.width + 2 * _MARGIN, where.height + 2 * _MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="{-_MARGIN} {-_MARGIN} {width:.1f} {height:.1f}" font-family="{_FONT}" '
            f'font-size="{_FONT_SIZE}" role="img">',
            f"<title>{escape(repr(picture).strip('<>').partition(';')[0])}</title>",
            f'<rect x="{-_MARGIN}" y="{-_MARGIN}" width="100%" height="100%" rx="8" fill="#ffffff"/>',
            *(_line(points, *style) for style, points in sorted(zip(styles, where.lines, strict=True))),
            *(_drawn(box, *centre) for box, centre in zip(boxes, where.centres, strict=True)),
            "</svg>\n",
        ]
    )


def _merged(links: Iterable[Link]) -> Iterable[Link]:
    """One link for all from one box to another, which is broken if they all are."""
    between: dict[tuple[Hashable, Hashable], Link] = {}
    for link in links:
        other = between.setdefault((link.start, link.end), link)
        notes = dict.fromkeys(note for note in (other.note, link.note) if note)
        between[link.start, link.end] = other._replace(
            broken=other.broken and link.broken, note=", ".join(notes)
        )
    return between.values()


_ARROW = 8.0  # pixels


def _line(points: Sequence[Point], chosen: bool, broken: bool, arrow: bool) -> str:
    colour = _BROKEN if broken else _CHOSEN if chosen else _LINE
    thickness = _THICK if chosen else 1.8 if broken else 1.2
    dash = ' stroke-dasharray="6 4"' if broken else ""
    head = ""
    if arrow:
        points, head = _headed(points, _ARROW + thickness, colour)
    first, *others = (f"{x:.1f},{y:.1f}" for x, y in points)
    looks = f'fill="none" stroke="{colour}" stroke-width="{thickness}"{dash}'
    return f'<path d="M{first} C{" ".join(others)}" {looks}/>{head}'


def _headed(points: Sequence[Point], length: float, colour: str) -> tuple[Sequence[Point], str]:
    """The curve shortened by the length of an arrowhead, and the arrowhead."""
    *others, (x0, y0), (x, y) = points
    far = hypot(x - x0, y - y0) or 1.0
    dx, dy = length * (x - x0) / far, length * (y - y0) / far
    corners = [(x, y), (x - dx - dy * 0.4, y - dy + dx * 0.4), (x - dx + dy * 0.4, y - dy - dx * 0.4)]
    shown = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    back = (x - dx * 0.9, y - dy * 0.9)
    return [*others, (x0 - dx * 0.9, y0 - dy * 0.9), back], f'<polygon points="{shown}" fill="{colour}"/>'


def _drawn(box: _Box, x: float, y: float) -> str:
    """The box around this centre; a fold is a stack of three sheets, a target has a double frame."""
    width, height = box.size
    left, upper = x - width / 2, y - height / 2
    shapes = [f"<title>{_clean(chr(10).join(box.lines))}</title>"] if box.lines else []
    if box.kind == "note":
        return _grouped(box, shapes, x, upper)
    if box.kind == "break":
        a, b, c, d = x - _CROSS / 2, x + _CROSS / 2, upper, upper + _CROSS
        cross = f"M{a:.1f},{c:.1f} L{b:.1f},{d:.1f} M{a:.1f},{d:.1f} L{b:.1f},{c:.1f}"
        shapes.append(f'<path d="{cross}" fill="none" stroke="{_BROKEN}" stroke-width="2.5"/>')
        return _grouped(box, shapes, x, upper + _CROSS)
    style = _STYLES[box.kind]
    colour, thickness = (_CHOSEN, _THICK) if box.chosen else (style.stroke, style.thickness)
    below = 2 if box.kind == "fold" else 0
    shapes.append(_rectangle(left, upper, width, height, style, colour, thickness))
    for _ in range(below):
        width, height = width - _SHEET, height - _SHEET
        shapes.append(_rectangle(left, upper, width, height, style, colour, thickness))
    if box.kind == "target":
        inner = style._replace(rounding=3)
        shapes.append(_rectangle(left + 3.5, upper + 3.5, width - 7, height - 7, inner, style.stroke, 0.8))
    return _grouped(box, shapes, left + width / 2, upper + _ABOVE)


def _rectangle(
    x: float, y: float, width: float, height: float, style: _Style, stroke: str, thickness: float
) -> str:
    rounding = min(style.rounding, height / 2)
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{rounding:.1f}" '
        f'fill="{style.fill}" stroke="{stroke}" stroke-width="{thickness}"/>'
    )


def _grouped(box: _Box, shapes: Sequence[str], x: float, y: float) -> str:
    """The shapes and the text below y, the first line of a node in bold."""
    texts = []
    for i, line in enumerate(box.lines):
        named = i == 0 and box.kind in ("source", "op", "target", "fold")
        looks = f'font-weight="bold" fill="{_TEXT}"' if named else f'fill="{_SMALL_TEXT}"'
        base = y + i * _LINE_HEIGHT + 0.75 * _LINE_HEIGHT
        texts.append(
            f'<text x="{x:.1f}" y="{base:.1f}" text-anchor="middle" {looks}>{_clean(_cut(line))}</text>'
        )
    return f'<g class="{box.kind}">{"".join(shapes)}{"".join(texts)}</g>'


_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _clean(text: str) -> str:
    """The text as XML can hold it."""
    return escape(_NOT_XML.sub("\ufffd", text))


# -- PNG -----------------------------------------------------------------------------------------------------

_LARGEST = 8_000  # pixels of a side, which take some seconds


def _png(svg: str) -> bytes:
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        raise ImportError("writing .png needs resvg-py: pip install resvg-py, or save it as .svg") from None
    fonts = [str(path) for path in _fonts()]

    def drawn(text: str, zoom: float) -> bytes:
        png = svg_to_bytes(svg_string=text, zoom=zoom, font_files=fonts, monospace_family="DejaVu Sans Mono")
        return bytes(png)

    empty = '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20">{}</svg>'
    letter = f'<text y="16" font-family="{_FONT}">x</text>'
    if drawn(empty.format(letter), 1.0) == drawn(empty.format(""), 1.0):
        raise ImportError(
            "writing .png needs a font, and this machine has none: pip install matplotlib, which brings one, "
            "or save it as .svg"
        )
    largest = max(float(side) for side in re.findall(r'(?:width|height)="([\d.]+)"', svg)[:2])
    return drawn(svg, min(2.0, _LARGEST / largest))


def _fonts() -> list[Path]:
    """Matplotlib's monospaced fonts, if it is installed; it is not imported."""
    spec = importlib.util.find_spec("matplotlib")
    places = spec.submodule_search_locations or [] if spec else []
    return [
        font for place in places for font in Path(place, "mpl-data/fonts/ttf").glob("DejaVuSansMono*.ttf")
    ]
