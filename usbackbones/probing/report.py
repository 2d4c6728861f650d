"""The report of a probing run: all numbers, and for each backbone where its linear probe errs and its features lie."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from usbackbones._evenly import evenly
from usbackbones._words import plural, with_interval
from usbackbones.data.frames import Frames
from usbackbones.data.item import Item
from usbackbones.data.patients import counted
from usbackbones.metrics import classification, regression
from usbackbones.metrics.levels import distinct
from usbackbones.probing.evaluate import Evaluation, Probed
from usbackbones.report import Features, Predictions, Section, table_section, write_report
from usbackbones.report.agreement import agreement_sections
from usbackbones.report.features import sections as feature_sections
from usbackbones.report.plots import whiskers
from usbackbones.report.predictions import sections as prediction_sections
from usbackbones.report.runs import NAMES, resampled

MOST_FRAMES = 2000
"""Frames whose features are mapped, spread evenly over all."""
_PICTURED = "linear"
"""The probe whose errors are shown."""


def write_probe_report(file: Path, items: Sequence[Item], frames: Frames, found: Evaluation, pictures: bool) -> None:
    """Write the report of a probing run whose frames are still there; frames and names only with `pictures`."""
    done = found.done
    facts = {"models": ", ".join(_shown(name) for name in done.metrics)}
    facts |= {"patients": done.patients}
    facts |= {label: counted(count, done.unit) for label, count in done.counts.items()}
    facts |= {"could not be read": plural(len(done.skipped), "file")} if done.skipped else {}
    facts |= {"near-duplicates": done.joined} if done.joined and pictures else {}
    sections = _numbers(done)
    for name in done.metrics:
        if done.classes:
            of_model = [*_errors(found, name), *_features(items, frames, found, name, pictures)]
        else:
            known = found.rows.label[found.order], found.predicted[name]["ridge"][0], found.rows.clip[found.order]
            of_model = agreement_sections(*known)
        several = len(done.metrics) > 1
        sections += [replace(one, heading=f"{_shown(name)}: {one.heading}") if several else one for one in of_model]
    title = f"Probes on {len(done.classes)} classes" if done.classes else "Ridge probes for a number"
    write_report(file, title, facts=facts, sections=sections, pictures=pictures)


def _shown(name: str) -> str:
    """A model's name without the folders that a local one is in."""
    return Path(name).name if name.startswith("local-dir:") else name


def _numbers(done: Probed) -> list[Section]:
    """Every number with its interval, for classes the headline as a plot, and the models' paired differences."""
    names, found = {"patient": done.unit}, []
    if done.classes:
        lines = {
            f"{_shown(name)}, {kind}": levels[done.level]["balanced_accuracy"]
            for name, of_probe in done.metrics.items()
            for kind, levels in of_probe.items()
        }
        title = f"balanced accuracy by {names.get(done.level, done.level)}"
        note = f"{title.capitalize()}; a line is a 95 % interval. Chance is {1 / len(done.classes):.3f}."
        found.append(Section("Results", whiskers(lines, title), note))
    keys = classification.METRICS if done.classes else regression.METRICS
    for heading, told_of in (("All numbers", done.metrics), ("Differences", done.differences)):
        rows = [
            [
                " - ".join(map(_shown, name.split(" - "))),
                f"{kind}, {names.get(level, level)}",
                *(with_interval(values[key]) for key in keys),
            ]
            for name, of_probe in told_of.items()
            for kind, levels in of_probe.items()
            for level, values in levels.items()
            if level in distinct(levels)
        ]
        if rows:
            header = ["model", "probe, by", *(NAMES.get(key, key.replace("_", " ")) for key in keys)]
            found.append(table_section(heading, header, rows, resampled(done.unit or "file")))
    return found


def _errors(found: Evaluation, name: str) -> list[Section]:
    """Confusion, classes and calibration of the linear probe."""
    rows, order = found.rows, found.order
    probability = found.predicted[name][_PICTURED][0]
    given = Predictions(
        rows.classes, rows.label[order], probability, rows.clip[order], rows.group[order], found.done.unit or "file"
    )
    return prediction_sections(given)


def _features(items: Sequence[Item], frames: Frames, found: Evaluation, name: str, pictures: bool) -> list[Section]:
    """Maps of the features and what their neighbors are."""
    rows, x = found.rows, found.features[name]
    kept = evenly(len(x), MOST_FRAMES)
    given = Features(
        x[kept],
        [rows.classes[label] for label in rows.label[kept]],
        [items[number].path.name for number in rows.clip[kept]],
        rows.group[kept],
        (lambda place: frames[kept[place]]) if pictures else None,
        found.done.unit or "file",
    )
    return feature_sections(given, pictures)
