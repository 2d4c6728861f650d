"""Names of patients as people and programs write them: words for none, and one form for all ways of writing a name."""

import re
import unicodedata

_NONE = ("", "nan", "<na>", "none", "null", "n/a")
"""Words that programs write where nothing is known; no patient is called so."""


def told_name(value: object) -> str:
    """The name in a cell or an element, accents as one character; "" where a program wrote a word for none."""
    text = unicodedata.normalize("NFC", str(value or "").strip())
    return "" if text.casefold() in _NONE else text


def one_form(name: str) -> str:
    """The same for a name written in several ways, as 1, 01 and 1.0, P1 and p1, or with more spaces."""
    number = re.fullmatch(r"0*(\d+)(\.0*)?", name)
    return number[1] if number else " ".join(unicodedata.normalize("NFC", name).casefold().split())
