"""A report: one HTML file with the numbers and pictures of a run, which opens anywhere and loads nothing.

    from usbackbones.report import Features, Predictions, write_report
    write_report(Path("report.html"), "Fine-tuning", facts={"model": "resnet18"}, predictions=..., features=...)

What is not given is left out. Reports get shared, so by default a report shows no frame of anybody and no name of a
file or a group; `pictures=True` shows them, and the report then says so at its head.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from usbackbones._files import atomic_write
from usbackbones.report.kinds import Features, Heat, Predictions, Section, picture_section, table_section

__all__ = ["Features", "Heat", "Predictions", "Section", "picture_section", "table_section", "write_report"]


def write_report(
    file: Path,
    title: str,
    *,
    facts: Mapping[str, str],
    metrics: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
    predictions: Predictions | None = None,
    features: Features | None = None,
    history: Sequence[Mapping[str, object]] = (),
    heat: Sequence[Heat] = (),
    sections: Sequence[Section] = (),
    pictures: bool = False,
    unit: str = "group",
) -> None:
    """Write a report; it appears whole or not at all.

    Args:
        file: the HTML file.
        title: of the report.
        facts: what a reader must know first, in order: model, data, parts, command.
        metrics: {level: {metric: {"value", "low", "high"}}}, as fine-tuning and probes tell them.
        predictions: gives confusion matrices, a table of classes with intervals, and reliability curves.
        features: gives maps of the features by class and by group, and nearest neighbours.
        history: one mapping an epoch, with "epoch" and numbers; each number becomes a curve.
        heat: frames with what the network looked at, see `usbackbones.features.saliency`; shown only with `pictures`.
        sections: more, of the caller's own, in order.
        pictures: show frames, and the names of files and groups. They may be patients'; say True only where everyone
            who may read the report may see them.
        unit: what a group is, "patient" or "group"; "file" where nobody tells patients apart.

    Raises:
        ValueError: if lengths of what belongs together differ.
    """
    from usbackbones.report import features as of_features
    from usbackbones.report import pages, runs
    from usbackbones.report import predictions as of_predictions

    parts = [*([runs.metrics_section(metrics, unit)] if metrics else [])]
    if predictions is not None:
        parts += of_predictions.sections(predictions)
    if history:
        parts.append(runs.history_section(history))
    if features is not None:
        parts += of_features.sections(features, pictures)
    if heat:
        parts.append(runs.heat_section(heat))
    text = pages.report_page(title, facts, [*parts, *sections], pictures)
    with atomic_write(file, "w", encoding="utf-8") as stream:
        stream.write(text)
