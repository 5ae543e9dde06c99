"""What a tape holds and where its time goes, as a table."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

from gradtape.callers import Site, place
from gradtape.explain.held import Held
from gradtape.explain.journal import Journal
from gradtape.explain.profile import Profile, Times, clock_cost
from gradtape.explain.ways import ops

__all__ = ["Line", "Row", "Summary", "summed_up"]

_WIDTH = 100
_MOST_LINES = 5


class Row(NamedTuple):
    """All runs of one op.

    records: how many the tape has recorded; kept: the bytes that their records keep; forward, sweep: their
    times, as far as they were profiled; share: of all the time in the sweep, from 0 to 1, None if there was
    none.
    """

    op: str
    records: int
    kept: int
    forward: Times
    sweep: Times
    share: float | None


class Line(NamedTuple):
    """A line of the user's code, the bytes that the ops it ran keep, and how it is shown."""

    filename: str
    line: int
    kept: int
    shown: str


@dataclass(frozen=True, repr=False)
class Summary:
    """What a tape holds; `str` is a table, and notebooks show one.

    rows: by op, the largest first, or that which took longest; total: of all; of_variables: bytes that are
    not counted there, since variables hold them anyway; lines: those that keep most, of a tape made with
    `explain=True`; sweeps: how many were timed; notes: what else there is to say.
    """

    rows: tuple[Row, ...]
    total: Row
    of_variables: int
    lines: tuple[Line, ...]
    sweeps: int
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        parts = [[note] for note in self.notes]
        if self.rows:
            parts.insert(0, _text(_columns(self), [*self.rows, self.total]))
        if self.lines:
            width = max(len(_bytes(line.kept)) for line in self.lines)
            shown = [f"  {_bytes(line.kept):>{width}}  {line.shown}" for line in self.lines]
            parts.insert(1, ["The lines that keep most:", *(_cut(line, _WIDTH) for line in shown)])
        return "\n".join(line for part in parts for line in part)

    def _repr_html_(self) -> str:
        parts = [f"<p>{escape(note)}</p>" for note in self.notes]
        if self.rows:
            parts.insert(0, _html(_columns(self), self.rows, self.total))
        if self.lines:
            items = [
                f'<tr><td style="{_RIGHT}">{_bytes(line.kept)}</td>'
                f'<td style="{_LEFT}"><code>{escape(line.shown)}</code></td></tr>'
                for line in self.lines
            ]
            parts.insert(1, f"<p>The lines that keep most:</p><table>{''.join(items)}</table>")
        return f"<div>{''.join(parts)}</div>"


# -- making it -----------------------------------------------------------------------------------------------


def summed_up(
    records: Sequence[Held] | None, is_used: bool, profile: Profile | None, journal: Journal | None
) -> Summary:
    """The summary of these records.

    records: what the tape holds, or, if it has answered and is_used, what it held then, None if it does not
    know that any more.
    """
    count: Counter[str] = Counter(record.op for record in records or ())
    kept: Counter[str] = Counter()
    for record in records or ():
        kept[record.op] += record.kept
    forward: Mapping[str, Times] = profile.forward if profile else {}
    sweep: Mapping[str, Times] = profile.sweep if profile else {}
    whole = _added(sweep.values())
    rows = [
        Row(
            op,
            count[op],
            kept[op],
            forward.get(op, Times()),
            sweep.get(op, Times()),
            _share(sweep.get(op, Times()), whole),
        )
        for op in dict.fromkeys([*count, *forward, *sweep])
    ]
    rows.sort(key=_rank_by_time if forward or sweep else _rank_by_bytes)
    total = Row("total", count.total(), kept.total(), _added(forward.values()), whole, _share(whole, whole))
    of_variables = sum(record.of_variables for record in records or ())
    return Summary(
        tuple(rows),
        total,
        of_variables,
        tuple(_lines(records or (), journal)),
        profile.sweeps if profile else 0,
        tuple(_notes(records, is_used, of_variables, profile, journal)),
    )


def _rank_by_time(row: Row) -> Any:
    return -(row.forward.seconds + row.sweep.seconds), -row.kept, row.op


def _rank_by_bytes(row: Row) -> Any:
    return -row.kept, -row.records, row.op


def _added(times: Any) -> Times:
    """All together; what they have in common is time, and no operations."""
    total = Times()
    for one in times:
        total = total.plus(one.seconds, one.runs)
    return total


def _share(times: Times, whole: Times) -> float | None:
    return times.seconds / whole.seconds if whole.seconds else None


def _lines(records: Sequence[Held], journal: Journal | None) -> list[Line]:
    """The lines whose ops keep most."""
    if journal is None:
        return []
    sites: dict[Any, Site] = {op.keys[-1]: op.site for op in ops(journal)}
    kept: defaultdict[tuple[str, int], int] = defaultdict(int)
    shown: dict[tuple[str, int], str] = {}
    for record in records:
        site = sites.get(record.key)
        if site is not None and record.kept:
            where = site.filename, site.line
            kept[where] += record.kept
            shown[where] = shown.get(where) or place(site)
    most = sorted(kept, key=lambda where: (-kept[where], where))[:_MOST_LINES]
    return [Line(*where, kept[where], shown[where]) for where in most]


def _notes(
    records: Sequence[Held] | None,
    is_used: bool,
    of_variables: int,
    profile: Profile | None,
    journal: Journal | None,
) -> list[str]:
    notes = []
    if records is None:
        notes.append("The tape has answered, and holds nothing; what it held is told by one that is profiled")
        notes.append("or made with GradientTape(explain=True).")
    elif is_used:
        notes.append("The tape has answered, and holds nothing now; this it held when its sweep began.")
    elif not records:
        notes.append("The tape holds nothing: no op that it has recorded depends on what it watches.")
    if of_variables:
        notes.append(f"Variables hold {_bytes(of_variables)} more that the tape needs, with it or without.")
    if records and journal is None:
        notes.append("GradientTape(explain=True) would tell the lines of your code that keep most.")
    if profile:
        sweeps = "1 sweep was" if profile.sweeps == 1 else f"{profile.sweeps} sweeps were"
        timed = f"{sweeps} timed, rule by rule; each" if profile.sweeps else "Each"
        notes.append(f"{timed} time includes {_time(clock_cost())} of the clock's own.")
    return notes


# -- showing it ----------------------------------------------------------------------------------------------


class _Column(NamedTuple):
    """group: what several columns have in common; cell: what it says of a row."""

    group: str
    title: str
    cell: Callable[[Row], str]


def _columns(summary: Summary) -> list[_Column]:
    """Those that have something to say."""
    rows = summary.rows

    def of_times(group: str, times: Callable[[Row], Times], more: Sequence[_Column]) -> list[_Column]:
        if not any(times(row).runs for row in rows):
            return []
        found = [
            _Column(group, "each", lambda row: _time(times(row).each)),
            _Column(group, "total", lambda row: _time(times(row).seconds if times(row).runs else None)),
            *more,
        ]
        if any(times(row).gflops for row in rows):
            found.append(_Column(group, "GFLOP/s", lambda row: _figures(times(row).gflops)))
        return found

    return [
        _Column("", "op", lambda row: row.op),
        _Column("", "count", lambda row: str(row.records)),
        _Column("", "kept", lambda row: _bytes(row.kept)),
        *of_times("forward", lambda row: row.forward, []),
        *of_times("sweep", lambda row: row.sweep, [_Column("sweep", "share", _percent)]),
    ]


def _text(columns: Sequence[_Column], rows: Sequence[Row]) -> list[str]:
    """The table's lines; the last row is set off from the others."""
    cells = [[column.title, *(column.cell(row) for row in rows)] for column in columns]
    widths = [max(map(len, column)) for column in cells]
    widths[0] = min(widths[0], _WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1))

    def line(parts: Sequence[str]) -> str:
        first, *others = parts
        shown = [f"{_cut(first, widths[0]):<{widths[0]}}"]
        shown += [f"{part:>{width}}" for part, width in zip(others, widths[1:], strict=True)]
        return "  ".join(shown).rstrip()

    lines = [line(parts) for parts in zip(*cells, strict=True)]
    rule = "-" * max(map(len, lines))
    lines = [lines[0], rule, *lines[1:-1], rule, lines[-1]]
    groups = _groups(columns)
    if len(groups) > 1:
        place, heads = 0, []
        for name, n in groups:
            width = sum(widths[place : place + n]) + 2 * (n - 1)
            heads.append(f" {name} ".center(width, "-") if name else " " * width)
            place += n
        lines.insert(0, "  ".join(heads))
    return lines


def _groups(columns: Sequence[_Column]) -> list[tuple[str, int]]:
    """Each group of columns and how many they are."""
    return list(Counter(column.group for column in columns).items())


# No colours but those of the text around it, so that it can be read on light and dark pages.
_RIGHT = "text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap"
_LEFT = "text-align: left"
_ABOVE = "border-top: 1px solid currentColor"


def _html(columns: Sequence[_Column], rows: Sequence[Row], total: Row) -> str:
    def cells(tag: str, texts: Sequence[str], style: str = "") -> str:
        shown = [
            f'<{tag} style="{_RIGHT if i else _LEFT}{style}">{escape(text)}</{tag}>'
            for i, text in enumerate(texts)
        ]
        return f"<tr>{''.join(shown)}</tr>"

    groups = _groups(columns)
    heads = [f'<th colspan="{n}" style="text-align: center">{escape(name)}</th>' for name, n in groups]
    lines = [f"<tr>{''.join(heads)}</tr>"] if len(groups) > 1 else []
    lines.append(cells("th", [column.title for column in columns]))
    body = [cells("td", [column.cell(row) for column in columns]) for row in rows]
    foot = cells("td", [column.cell(total) for column in columns], f"; {_ABOVE}")
    return (
        '<table style="border-collapse: collapse">'
        f"<thead>{''.join(lines)}</thead><tbody>{''.join(body)}</tbody><tfoot>{foot}</tfoot></table>"
    )


# -- numbers -------------------------------------------------------------------------------------------------


def _figures(x: float | None) -> str:
    """Three figures."""
    if x is None:
        return "-"
    return f"{x:.0f}" if x >= 99.95 else f"{x:.1f}" if x >= 9.995 else f"{x:.2f}"


def _bytes(n: int) -> str:
    if n < 1024:
        return f"{n} B"
    x = float(n)
    for unit in ("KiB", "MiB", "GiB"):
        x /= 1024
        if x < 1023.5:
            return f"{_figures(x)} {unit}"
    return f"{_figures(x / 1024)} TiB"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 999.5e-6:
        return f"{_figures(seconds * 1e6)} us"
    return f"{_figures(seconds * 1e3)} ms" if seconds < 0.9995 else f"{_figures(seconds)} s"


def _percent(row: Row) -> str:
    return f"{100 * row.share:.1f}%" if row.share is not None and row.sweep.runs else "-"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."
