"""Render cards, README, results, their figure, the page and the study from zoo.json, records and controls."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.benchmark.compact import compact, headline_cell
from training.benchmark.headline import task_head
from training.benchmark.markdown import between, markdown
from training.data.records import CARDS, ROOT, ZOO, write_all
from training.release.card import CONTROLS, render_card, verdict
from training.release.figure import figure, panel_of
from training.release.page import render_page
from training.release.records import OWNER, all_reports, files_of, kind_of, read_weights, shown_order, side_of
from training.study.table import study_table

README = ROOT / "README.md"
STUDY = ROOT / "training" / "STUDY.md"
RESULTS = ROOT / "docs" / "results.md"
FIGURE = ROOT / "docs" / "results.svg"
LEADERBOARD, DENSE = "python -m training.benchmark.leaderboard", "python -m training.benchmark.dense"
_DENSE = "--part test --size 128 --epochs 10 --seeds 3 --most 300"
PLANNED = {
    "pocus_lung": (LEADERBOARD, "--tasks lung --bf16"),
    "pocus_lung_unseen": (LEADERBOARD, "--tasks lung --part unseen --bf16"),
    "busi": (LEADERBOARD, "--tasks busi --bf16"),
    "gallbladder_ba": (LEADERBOARD, "--tasks gallbladder --bf16"),
    "organ": (LEADERBOARD, "--tasks organ --bf16"),
    "hc18": (LEADERBOARD, "--tasks hc18 --bf16"),
    "bus_uclm": (LEADERBOARD, "--tasks bus_uclm --bf16"),
    "camus": (LEADERBOARD, "--tasks camus --bf16"),
    "busi_lesion": (DENSE, f"--tasks busi_lesion {_DENSE}"),
    "camus_structures": (DENSE, f"--tasks camus_structures {_DENSE}"),
}
"""The evaluations that the default weight is to have: command and options, by task."""
NOT_RUN = "–"
"""A cell of the README's table, where many words would hide the numbers."""


def render(zoo: Path = ZOO, cards: Path = CARDS) -> None:
    """Write every card again, and for the project's own zoo all else that is rendered from it."""
    write_all(rendered(read_weights(zoo, cards), zoo, cards))


def page(zoo: Path = ZOO, cards: Path = CARDS) -> None:
    """Write the page of all weights, index.html beside their cards, again."""
    write_all({cards / "index.html": render_page(read_weights(zoo, cards))})


def publish(content: Mapping[str, Any], zoo: Path, cards: Path, more: Mapping[Path, bytes | str] | None = None) -> None:
    """Write what `read_weights` returned, all that is rendered from it, and `more`: all of it or nothing."""
    files = files_of(content, zoo, cards)
    write_all({**files, **rendered(read_weights(zoo, cards, files), zoo, cards), **(more or {})})


def rendered(content: Mapping[str, Any], zoo: Path, cards: Path) -> dict[Path, str]:
    """The text of every card, and for the project's own zoo of all else that is rendered from it."""
    files = {cards / name / "README.md": render_card(name, entry) for name, entry in content["weights"].items()}
    if zoo == ZOO:
        files |= {
            README: render_readme(README.read_text(encoding="utf-8"), content),
            STUDY: render_study(STUDY.read_text(encoding="utf-8")),
            RESULTS: render_results(content),
            FIGURE: render_figure(content),
            cards / "index.html": render_page(content),
        }
    return files


def render_study(text: str) -> str:
    """The text of the study with the table of its log rendered again between its markers."""
    return between(text, "study", study_table())


def render_readme(text: str, content: Mapping[str, Any]) -> str:
    """The project's README with its table of weights rendered again between its markers."""
    default = content["default"]
    told = verdict(content["weights"][default]["metrics"], default) if default else ""
    lines = [f"**{default}**, the default: {told}"] if told else []
    return between(text, "weights", "\n\n".join([*lines, weights_table(content)]))


def weights_table(content: Mapping[str, Any]) -> str:
    """What each weight is, and one number a task beside the controls; a row that was run nowhere is named below."""
    reports = all_reports(content)
    rows: dict[str, dict[str, Any]] = {}
    for task, report in reports.items():
        for row in report["rows"]:
            rows.setdefault(row["model"], {})[task] = row
    heads = [task_head(task, report) for task, report in reports.items()]
    header = ["name", "method", "input", "license", "MB", *heads]
    lines = [f"|{'|'.join(header)}|", "|" + "---|" * len(header)]  # tight: three minutes to read, by `wc -w` too
    for name in shown_order(content):
        entry = content["weights"][name]
        method = entry["paper"]["title"].partition(" (")[0]
        what = [f"[`{name}`](model_cards/{name}/README.md)", method, f"{entry['input']['size']} px"]
        what += [entry["licences"]["weights"], f"{entry['bytes'] / 1e6:.1f}"]
        found = rows.get(f"{OWNER}{name}", {})
        lines.append(f"|{'|'.join([*what, *(_cell(found.get(task), reports[task]) for task in reports)])}|")
    controls = {model: found for model, found in rows.items() if kind_of(model) in CONTROLS and OWNER not in model}
    run = {model for model, found in controls.items() if any("results" in row for row in found.values())}
    for model in sorted(run, key=lambda model: (kind_of(model), model)):
        found = controls[model]
        side = next(side_of(row) for row in found.values() if "results" in row)
        what = [model, CONTROLS[kind_of(model)], f"{side} px", "", ""]
        lines.append(f"|{'|'.join([*what, *(_cell(found.get(task), reports[task]) for task in reports)])}|")
    if absent := sorted(controls.keys() - run):
        where = "[docs/results.md](docs/results.md)"
        lines += ["", f"Not run: cells with {NOT_RUN}; {', '.join(absent)}. Their commands stand in {where}."]
    return "\n".join(lines)


def _cell(row: Mapping[str, Any] | None, report: Mapping[str, Any]) -> str:
    """One number of a row, or a sign, which the line below the table explains."""
    return headline_cell(row, report) if row and "results" in row else NOT_RUN


def render_results(content: Mapping[str, Any]) -> str:
    """docs/results.md: one number a task of every row, the whole table of every task, and what was not run."""
    tables = [f"## {task}\n\n{markdown(report)}" for task, report in all_reports(content).items()]
    about = "Rendered from the records of `model_cards/` by `python -m training.release render`; never edited by hand."
    return "\n\n".join(["# All results", about, compact(all_reports(content)), *tables, *_not_run(content), ""])


def _not_run(content: Mapping[str, Any]) -> list[str]:
    """The evaluations of the default weight that have no numbers yet, each with its command."""
    default = content["default"]
    done = content["weights"][default]["metrics"] or {} if default else PLANNED
    left = {name: options for name, options in PLANNED.items() if name not in done}
    if not left:
        return []
    models = f"usbackbones/{default} local-dir:imagenet/lite0"
    lines = [f"- {name}: `{command} {models} {options} --data FOLDER`" for name, (command, options) in left.items()]
    about = "What was not run for the default weight; each command runs it."
    return ["## Not run", about, "\n".join(lines)]


def render_figure(content: Mapping[str, Any]) -> str:
    """docs/results.svg: one number a task of every row, with its interval."""
    return figure([panel_of(task, report) for task, report in all_reports(content).items()])
