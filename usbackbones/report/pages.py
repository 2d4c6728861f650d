"""From sections to the text of a report."""

from collections.abc import Mapping, Sequence

from usbackbones._version import __version__
from usbackbones.report.kinds import Section
from usbackbones.report.markup import Markup, element, page
from usbackbones.report.style import STYLE

LEFT_OUT = (
    "Frames, and the names of files and groups, were left out so that this file can be shared. "
    "Patients can still be few enough to be guessed from numbers: think before you publish."
)
SHOWN = "This file shows frames and names of files or groups. They may be patients': do not pass it on carelessly."


def report_page(title: str, facts: Mapping[str, str], sections: Sequence[Section], pictures: bool) -> str:
    """The HTML of a report; sections that show patients are left out unless `pictures`."""
    kept = [section for section in sections if pictures or not section.shows_patients]
    links = [element("li", element("a", s.heading, href=f"#part{number}")) for number, s in enumerate(kept)]
    told = [text for name, value in facts.items() for text in (element("dt", name), element("dd", value))]
    body = [
        element(
            "header",
            element("h1", title),
            element("dl", *told, class_="facts"),
            element("p", SHOWN if pictures else LEFT_OUT, class_="warning" if pictures else "note"),
            element("nav", element("ul", *links), aria_label="Parts of the report"),
        ),
        element("main", *(_part(number, section) for number, section in enumerate(kept))),
        element(
            "footer",
            element("p", f"usbackbones {__version__}. Not a medical device: for research, never for diagnosis."),
            class_="soft",
        ),
    ]
    return page(title, body, STYLE)


def _part(number: int, section: Section) -> Markup:
    note = [element("p", section.note, class_="note")] if section.note else []
    return element("section", element("h2", section.heading), *note, section.body, id=f"part{number}")
