"""Writes HTML from elements, so that every text and attribute is escaped: a name of a customer is never markup.

Charts are elements that code makes, so a template language would only add a package to each cold start.
"""

import re
from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element, tostring

from shared.reports.style import POLICY, STYLE

Child = str | Element | None
# Browsers show them as boxes, or not at all.
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def tag(name: str, /, *children: Child, **attributes: str | float) -> Element:
    """Returns an element. ``class_`` is the attribute ``class``, and ``stroke_width`` is ``stroke-width``."""
    named = {key.rstrip("_").replace("_", "-"): _clean(str(value)) for key, value in attributes.items()}
    element = Element(name, named)
    for child in children:
        if isinstance(child, Element):
            element.append(child)
        elif child:
            _add_text(element, _clean(child))
    return element


def table(head: Sequence[str], rows: Iterable[Sequence[Child]], numbers_from: int = 1) -> Element:
    """Returns a table. Columns from ``numbers_from`` on are numbers."""

    def row(kind: str, cells: Sequence[Child]) -> Element:
        styled = [{"class_": "number"} if index >= numbers_from else {} for index in range(len(cells))]
        return tag("tr", *(tag(kind, cell, **style) for cell, style in zip(cells, styled, strict=True)))

    body = tag("tbody", *(row("td", cells) for cells in rows))
    return tag("table", tag("thead", row("th", head)) if head else None, body)


def bullets(texts: Iterable[str]) -> Element:
    return tag("ul", *(tag("li", text) for text in texts))


def document(title: str, *content: Child) -> str:
    """Returns a whole page that needs nothing else."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("title", title),
        tag("style", STYLE),
    )
    page = tag("html", head, tag("body", *content), lang="en")
    return "<!doctype html>\n" + tostring(page, encoding="unicode", method="html")


def _add_text(element: Element, text: str) -> None:
    if len(element):
        element[-1].tail = (element[-1].tail or "") + text
    else:
        element.text = (element.text or "") + text


def _clean(text: str) -> str:
    return _CONTROLS.sub("\ufffd", text).encode(errors="replace").decode()
