"""Render cards, README, results, their figure, the page and the study from zoo.json, records and controls."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.benchmark.markdown import between, compact, markdown
from training.data.records import CARDS, ROOT, ZOO
from training.release.card import render_card, verdict
from training.release.figure import figure, panel_of
from training.release.page import render_page
from training.release.records import all_reports, read_weights
from training.study.table import study_table
from usbackbones._files import atomic_write

README = ROOT / "README.md"
STUDY = ROOT / "training" / "STUDY.md"
RESULTS = ROOT / "docs" / "results.md"
FIGURE = ROOT / "docs" / "results.svg"


def render(zoo: Path = ZOO, cards: Path = CARDS) -> None:
    """Write every card again, and for the project's own zoo all else that is rendered from it."""
    content = read_weights(zoo, cards)
    for name, entry in content["weights"].items():
        _write(cards / name / "README.md", render_card(name, entry))
    if zoo == ZOO:
        _write(README, render_readme(README.read_text(encoding="utf-8"), content))
        _write(STUDY, between(STUDY.read_text(encoding="utf-8"), "study", study_table()))
        _write(RESULTS, render_results(content))
        _write(FIGURE, render_figure(content))
        page(zoo, cards)


def page(zoo: Path = ZOO, cards: Path = CARDS) -> None:
    """Write the page of all weights, index.html beside their cards, again."""
    _write(cards / "index.html", render_page(read_weights(zoo, cards)))


def render_readme(text: str, content: Mapping[str, Any]) -> str:
    """The project's README with its list of weights and its table rendered again between their markers."""
    entries = content["weights"]
    weights = ["| name | method | input | features | license of the weights | MB |", "|---|---|---|---|---|---|"]
    for name, entry in entries.items():
        weights.append(
            f"| [`{name}`](model_cards/{name}/README.md) | {entry['paper']['title']} | {entry['input']['size']} px "
            f"| {entry['num_features']} | {entry['licences']['weights']} | {entry['bytes'] / 1e6:.1f} |"
        )
    text = between(text, "weights", "\n".join(weights))
    default = content["default"]
    verdicts = [f"**{default}**: {verdict(entries[default]['metrics'], default)}"] if default else []
    return between(text, "table", "\n\n".join([*verdicts, compact(all_reports(content))]))


def render_results(content: Mapping[str, Any]) -> str:
    """docs/results.md: the whole table of every task."""
    tables = [f"## {task}\n\n{markdown(report)}" for task, report in all_reports(content).items()]
    about = "Rendered from the records of `model_cards/` by `python -m training.release render`; never edited by hand."
    return "\n\n".join(["# All results", about, *tables, ""])


def render_figure(content: Mapping[str, Any]) -> str:
    """docs/results.svg: one number a task of every row, with its interval."""
    return figure([panel_of(task, report) for task, report in all_reports(content).items()])


def _write(file: Path, text: str) -> None:
    with atomic_write(file, "w", encoding="utf-8") as stream:
        stream.write(text)
