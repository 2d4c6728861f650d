"""HTML and SVG built from elements, so that text from outside is escaped in one place and cannot be forgotten."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from html import escape

_EMPTY = frozenset(("br", "hr", "img", "input", "meta", "link", "wbr"))
"""HTML elements without an end tag."""


class Markup(str):
    """Text that is markup already; any other text is escaped by `element`."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: str | float | bool | None) -> Markup:
    """One element.

    Args:
        name: its tag.
        children: text, which is escaped, or `Markup`, which is taken as it is.
        attributes: a trailing _ is dropped and any other _ is a hyphen, as `class_` and `aria_label`; True gives a bare
            attribute, False and None give none.
    """
    told = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _EMPTY:
        return Markup(f"<{name}{told}>")
    return Markup(f"<{name}{told}>{joined(children)}</{name}>")


def joined(children: Iterable[str], between: str = "") -> Markup:
    """Several pieces as one; what is no `Markup` is escaped."""
    return Markup(escaped(between).join(map(escaped, children)))


def escaped(text: str) -> Markup:
    """The text as markup: unchanged if it is `Markup`."""
    return text if isinstance(text, Markup) else Markup(escape(str(text)))


def table(header: Sequence[str], rows: Iterable[Sequence[str]], label: str, classes: Sequence[str] = ()) -> Markup:
    """A table in a region of its own that scrolls sideways where it is wider than the screen, by keyboard too.

    The first cell of a row is its header; `label` says what the table is to those who hear the page, `classes` are the
    CSS class of each row.
    """
    head = element("tr", *(element("th", cell, scope="col") for cell in header))
    body = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            *(element("td", *_unbroken(cell)) for cell in row[1:]),
            class_=classes[number] or None if classes else None,
        )
        for number, row in enumerate(rows)
    ]
    inner = element("table", element("thead", head), element("tbody", *body))
    return element("div", inner, class_="wide", role="region", aria_label=label, tabindex="0")


def _unbroken(cell: str) -> list[str]:
    """A cell in pieces; an interval in brackets stays on one line, and may stand below its value."""
    value, bracket, interval = cell.partition(" [")
    if isinstance(cell, Markup) or not bracket:
        return [cell]
    return [f"{value} ", element("span", f"[{interval}", class_="interval")]


def link(text: str, address: str) -> Markup:
    """A link to a web page; mere text if the address is of another kind, such as javascript:."""
    if not address.startswith(("https://", "http://")):
        return escaped(text)
    return element("a", text, href=address, rel="noopener noreferrer")


def fingerprint(code: str) -> str:
    """What a Content-Security-Policy calls a style or a script that it allows."""
    return f"'sha256-{b64encode(sha256(code.encode()).digest()).decode()}'"


def page(title: str, body: Sequence[str], style: str, script: str = "") -> str:
    """A whole page that may load nothing: only this style, this script and pictures inside the file."""
    policy = f"default-src 'none'; style-src {fingerprint(style)}; img-src data:; base-uri 'none'; form-action 'none'"
    if script:
        policy += f"; script-src {fingerprint(script)}"
    head = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("link", rel="icon", href="data:,"),
        element("style", Markup(style)),
    ]
    scripts = [element("script", Markup(script))] if script else []
    whole = element("html", "\n", element("head", *head), "\n", element("body", *body, *scripts), "\n", lang="en")
    return f"<!doctype html>\n{whole}\n"


def _attribute(key: str, value: str | float | bool | None) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
