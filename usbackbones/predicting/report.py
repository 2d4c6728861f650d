"""The report of an evaluation: metrics, rates, ROC and calibration, subgroups."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from usbackbones.metrics.levels import by_clip
from usbackbones.metrics.operating_point import RATES, roc
from usbackbones.report import Predictions, Section, table_section, write_report
from usbackbones.report.markup import element
from usbackbones.report.plots import Axes, curves

if TYPE_CHECKING:
    from usbackbones.predicting.evaluate import Evaluated


def write_evaluation_report(
    done: "Evaluated",
    facts: Mapping[str, str],
    classes: Sequence[str],
    y: np.ndarray,
    probability: np.ndarray,
    clips: np.ndarray,
    groups: np.ndarray,
    pictures: bool,
) -> None:
    """Write report.html into the folder of an evaluation.

    Args:
        done: the evaluation.
        facts: for the head of the report.
        classes: names in the order of the probabilities.
        y: int [N], the true class of each frame.
        probability: float [N, C].
        clips: int [N], the clip of each frame.
        groups: [N], its patient or group.
        pictures: name files and groups.
    """
    clip_y, clip_p, _ = by_clip(y, probability, clips, groups)
    shown = list(range(len(classes))) if len(classes) > 2 else [1]
    lines = {classes[c]: roc(clip_p[:, c], clip_y == c) for c in shown if 0 < (clip_y == c).sum() < len(clip_y)}
    axes = Axes((0, 1), (0, 1), "1 - specificity", "sensitivity")
    sections = [
        table_section(
            "Sensitivity, specificity, PPV, NPV",
            ["class", *RATES],
            [[name, *(_told(of[rate]) for rate in RATES)] for name, of in done.rates.items()],
            "By clip, with 95 % intervals from resampling whole groups. " + "".join(f"{note}. " for note in done.notes),
        )
    ]
    if lines:
        sections.append(
            Section(
                "ROC",
                element("figure", curves(lines, "ROC curves by clip", axes, guide=True)),
                "By clip. On the dashed line a model knows nothing.",
            )
        )
    for column, values in done.subgroups.items():
        rows = [[value, str(of["clips"]), str(of["groups"]), _told(of)] for value, of in values.items()]
        sections.append(table_section(f"By {column}", [column, "clips", "groups", "balanced accuracy"], rows))
    write_report(
        done.folder / "report.html",
        f"Evaluation on {facts['data']}",
        facts=facts,
        metrics={done.unit if level == "patient" else level: of for level, of in done.metrics.items()},
        predictions=Predictions(classes, y, probability, clips, groups),
        sections=sections,
        pictures=pictures,
    )


def _told(of: Mapping[str, float]) -> str:
    if not np.isfinite(of["value"]):
        return "nothing to count"
    return f"{of['value']:.3f} [{of['low']:.3f}, {of['high']:.3f}]"
