"""All that is rendered from zoo.json: cards, the lists of the README, results, their picture, the page, the study."""

from pathlib import Path

from training.release.card import between, render_card, render_figure, render_readme, render_results
from training.release.page import render_page
from training.study.table import study_table
from usbackbones._files import atomic_write
from usbackbones.hub.pretraining_run import read_json

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "usbackbones" / "zoo.json"
CARDS = ROOT / "model_cards"
README = ROOT / "README.md"
STUDY = ROOT / "training" / "STUDY.md"
RESULTS = ROOT / "docs" / "results.md"
FIGURE = ROOT / "docs" / "results.svg"


def render(zoo: Path = ZOO, cards: Path = CARDS) -> None:
    """Write every card anew from the zoo, and for the project's own zoo all else that is rendered from it."""
    content = read_json(zoo)
    for name, entry in content["weights"].items():
        _write(cards / name / "README.md", render_card(name, entry))
    if zoo == ZOO:
        _write(README, render_readme(README.read_text(encoding="utf-8"), content))
        _write(STUDY, between(STUDY.read_text(encoding="utf-8"), "study", study_table()))
        _write(RESULTS, render_results(content))
        _write(FIGURE, render_figure(content))
        page(zoo, cards)


def page(zoo: Path = ZOO, cards: Path = CARDS) -> None:
    """Write the page of all weights, index.html beside their cards, anew from the zoo."""
    _write(cards / "index.html", render_page(read_json(zoo)))


def _write(file: Path, text: str) -> None:
    with atomic_write(file, "w", encoding="utf-8") as stream:
        stream.write(text)
