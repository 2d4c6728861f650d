"""The report of an evaluation: metrics, rates or agreement, subgroups, and of a segmenter its structures."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from usbackbones._words import plural, with_interval
from usbackbones.metrics.levels import distinct
from usbackbones.metrics.operating_point import RATES, roc
from usbackbones.predicting.trained import Trained
from usbackbones.report import Predictions, Section, picture_section, table_section, write_report
from usbackbones.report.agreement import agreement_sections
from usbackbones.report.markup import element
from usbackbones.report.plots import Axes, curves
from usbackbones.report.runs import resampled

if TYPE_CHECKING:
    from usbackbones.predicting.evaluate import Asked, Evaluated


def write_evaluation_report(
    done: "Evaluated",
    trained: Trained,
    asked: "Asked",
    facts: Mapping[str, str],
    sections: Sequence[Section],
    predictions: Predictions | None = None,
) -> None:
    """Write report.html into the folder of an evaluation.

    `facts` are for its head, besides model, license and data; `sections` are those of the kind of model.
    """
    lost = {"could not be read": plural(len(done.skipped), "file")} if done.skipped else {}
    about = {"model": Path(trained.name).name, "license of the weights": trained.license or "not stated"}
    notes = element("ul", *(element("li", note) for note in done.notes))
    by = [
        table_section(
            f"By {column}",
            [column, *(key for key in next(iter(values.values())) if key not in ("value", "low", "high")), _name(done)],
            [[value, *_counts(of), told(of)] for value, of in values.items()],
        )
        for column, values in done.subgroups.items()
    ]
    write_report(
        done.folder / "report.html",
        f"Evaluation on {asked.data.name}",
        facts=about | {"data": asked.data.name} | dict(facts) | lost,
        metrics={done.unit if level == "patient" else level: done.metrics[level] for level in distinct(done.metrics)},
        predictions=predictions,
        sections=[*sections, *by, Section("Notes", notes)],
        pictures=asked.pictures,
        unit=done.unit or "file",
    )


def class_sections(done: "Evaluated", classes: Sequence[str], y: np.ndarray, probability: np.ndarray) -> list[Section]:
    """Rates at the threshold, and ROC curves, by clip, of true classes int [N] and probabilities [N, C]."""
    shown = list(range(len(classes))) if len(classes) > 2 else [1]
    lines = {classes[c]: roc(probability[:, c], y == c) for c in shown if 0 < (y == c).sum() < len(y)}
    axes = Axes((0, 1), (0, 1), "1 - specificity", "sensitivity")
    sections = [
        table_section(
            "Sensitivity, specificity, PPV, NPV",
            ["class", *RATES],
            [[name, *(told(of[rate]) for rate in RATES)] for name, of in done.rates.items()],
            f"By clip. {resampled(done.unit or 'file')}",
        )
    ]
    if lines:
        drawn = element("figure", curves(lines, "ROC curves by clip", axes, guide=True))
        sections.append(Section("ROC", drawn, "By clip. On the dashed line a model knows nothing."))
    return sections


def mask_sections(
    done: "Evaluated", areas: Mapping[str, tuple[np.ndarray, np.ndarray]], unit: str, sheet: np.ndarray
) -> list[Section]:
    """The structures, the agreement of their areas, and images from the worst to the best, a sheet uint8 [H, W, 3].

    `areas` are {structure: (true, predicted)}, float [N] each, in `unit`.
    """
    names = list(next(iter(done.structures.values())))
    sections = [
        table_section(
            "Structures",
            ["structure", *(name.replace("_", " ") for name in names)],
            [[name, *(told(of[metric]) for metric in names)] for name, of in done.structures.items()],
            f"By image; areas in {unit}, predicted less true. {resampled(done.unit or 'file')}",
        )
    ]
    for name, (truth, predicted) in areas.items():
        for section in agreement_sections(truth, predicted, np.arange(len(truth))):
            note = section.note.replace("A point a clip", "A point an image").replace("By clip", "By image")
            sections.append(replace(section, heading=f"{section.heading}: area of {name}, {unit}", note=note))
    note = "True outlines green, found ones red, the Dice in the corner, from the worst image to the best."
    return [*sections, picture_section("Images", [("true green, found red", sheet)], note)]


def told(of: Mapping[str, float]) -> str:
    """A value with its interval."""
    return with_interval(of, 3 if abs(of["value"]) < 100 else 1)


def _counts(of: Mapping[str, float]) -> list[str]:
    return [str(value) for key, value in of.items() if key not in ("value", "low", "high")]


def _name(done: "Evaluated") -> str:
    return "MAE" if done.headline == "mae" else done.headline.replace("_", " ")
