"""Draws charts as SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from shared.reports.elements import tag

Point = tuple[float, float]
_WIDTH, _HEIGHT, _ROW = 360, 270, 16
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 12, 42
_NAME_CHARACTERS = 45
_TICKS = 5
_FONT: dict[str, str | float] = {"font_size": 11, "fill": "#5a6676", "font_family": "system-ui, sans-serif"}
# They differ in lightness, too, so that a print in black and white shows them.
_COLOURS = ("#1f5fbf", "#d98324", "#2f6b2a", "#9b6fc4", "#3b3b3b", "#b8b03a")


@dataclass(frozen=True)
class Line:
    """A named line. ``is_dashed`` is for one to compare with, and ``has_marks`` also shows the points."""

    name: str
    points: Sequence[Point]
    is_dashed: bool = False
    has_marks: bool = False


def chart(
    title: str, caption: str, axes: tuple[str, str], lines: Sequence[Line], spans: Sequence[Point] = ()
) -> Element | None:
    """Returns a figure of lines; ``None`` if none has two points.

    ``axes`` are the names of the axis to the right and of the axis up. ``spans`` are the lowest and the highest value
    at each point of the first line.
    """
    drawn = [line for line in lines if len(line.points) > 1][: len(_COLOURS)]
    if not drawn:
        return None
    points = [point for line in drawn for point in line.points]
    across, up = _ticks([x for x, _ in points]), _ticks([*(y for _, y in points), *(y for span in spans for y in span)])

    def place(x: float, y: float) -> Point:
        right = _LEFT + (x - across[0]) / (across[-1] - across[0]) * (_WIDTH - _LEFT - _RIGHT)
        down = _HEIGHT - _BOTTOM - (y - up[0]) / (up[-1] - up[0]) * (_HEIGHT - _TOP - _BOTTOM)
        return round(right, 1), round(down, 1)

    parts: list[Element] = []
    for tick in across:
        (x, bottom), (_, top) = place(tick, up[0]), place(tick, up[-1])
        parts += [_stroke((x, top), (x, bottom), "#e6eaef"), _text(f"{tick:g}", x, bottom + 15, "middle")]
    for tick in up:
        (left, y), (right, _) = place(across[0], tick), place(across[-1], tick)
        parts += [_stroke((left, y), (right, y), "#e6eaef"), _text(f"{tick:g}", left - 6, y + 4, "end")]
    parts.append(_text(axes[0], (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, "middle"))
    turned = f"translate(12 {(_TOP + _HEIGHT - _BOTTOM) / 2}) rotate(-90)"
    parts.append(tag("text", axes[1], transform=turned, text_anchor="middle", **_FONT))
    for (x, _), (low, high) in zip(drawn[0].points, spans, strict=False):
        parts.append(_stroke(place(x, low), place(x, high), _COLOURS[0]))
    for row, (line, colour) in enumerate(zip(drawn, _COLOURS, strict=False)):
        parts += _drawn(line, [place(*point) for point in line.points], colour)
        if len(drawn) > 1:
            parts += _entry(line, row, colour)
    height = _HEIGHT + (_ROW * len(drawn) if len(drawn) > 1 else 0)
    view = tag("svg", tag("title", title), *parts, viewBox=f"0 0 {_WIDTH} {height}", role="img")
    return tag("figure", tag("strong", title), view, tag("figcaption", caption))


def _drawn(line: Line, places: Sequence[Point], colour: str) -> list[Element]:
    path = " ".join(f"{x},{y}" for x, y in places)
    parts = [tag("polyline", points=path, fill="none", stroke=colour, stroke_width=1.8, **_dashes(line))]
    if line.has_marks:
        parts += [tag("circle", cx=x, cy=y, r=3, fill=colour) for x, y in places]
    return parts


def _entry(line: Line, row: int, colour: str) -> list[Element]:
    """Returns a line's row of the legend."""
    y = _HEIGHT + _ROW * row + 6
    return [
        _stroke((_LEFT, y), (_LEFT + 24, y), colour, **_dashes(line)),
        _text(line.name[:_NAME_CHARACTERS], _LEFT + 30, y + 4, "start"),
    ]


def _dashes(line: Line) -> dict[str, str]:
    return {"stroke_dasharray": "4 4"} if line.is_dashed else {}


def _stroke(start: Point, end: Point, colour: str, **more: str) -> Element:
    return tag("line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], stroke=colour, stroke_width=1.5, **more)


def _text(text: str, x: float, y: float, anchor: str) -> Element:
    return tag("text", text, x=x, y=y, text_anchor=anchor, **_FONT)


def _ticks(values: Sequence[float]) -> list[float]:
    """Returns round numbers from the lowest value or below to the highest or above, about five steps."""
    low, high = min(values), max(values)
    span = (high - low) or abs(high) or 1.0
    size = 10 ** math.floor(math.log10(span / _TICKS))
    step = next(size * each for each in (1, 2, 5, 10) if span / (size * each) <= _TICKS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, max(last, first + 1) + 1)]
