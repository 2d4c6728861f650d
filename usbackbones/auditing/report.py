"""The report of an audit: one page without names or images, unless they are asked for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from usbackbones._words import plural, rounded
from usbackbones.auditing.files import Twins
from usbackbones.auditing.look import Looked
from usbackbones.auditing.privacy import KINDS
from usbackbones.auditing.result import Audited
from usbackbones.auditing.rows import ALPHA, MARGIN, Row
from usbackbones.auditing.screens import DETECTED, MEASURED
from usbackbones.report import Section, picture_section, table_section, write_report
from usbackbones.report.markup import element, joined
from usbackbones.report.plots import whiskers

MOST_PAIRS = 12
"""Pairs of twins that are shown."""
ADVICE = (
    "A row that tells the target is a result that a network can reach without the tissue: report it beside yours. "
    "Cropping removes the cue, not its cause."
)


def write_audit_report(file: Path, done: Audited, looked: Looked, twins: Twins, pictures: bool) -> None:
    """Write the report of an audit whose frames are still there; pairs of twins only with `pictures`."""
    counts = done.counts
    facts = {
        "files": f"{counts['files']} read, {counts['unreadable']} that cannot be",
        "patients": counts["told by"],
        "serious": plural(len(done.serious), "finding"),
        "permutations": done.how or "none: no labels",
    }
    sections = [_findings(done), *_rows(done), _classes(done), *_sources(done), *_associations(done), _privacy(done)]
    sections += _detectors(done)
    if done.missing:
        sections.append(table_section("Not run", ["part", "why"], _missing(done.missing)))
    if twins.pairs:
        first = {int(item): row for row, item in reversed(list(enumerate(looked.frames.item)))}
        shown = [number for pair in twins.pairs[:MOST_PAIRS] for number in pair]
        of_items = [(f"{looked.items[n].path.name}, {looked.items[n].label}", looked.frames[first[n]]) for n in shown]
        sections.append(picture_section("Near-duplicates", of_items, "Each two images in a row are one pair."))
    write_report(file, "Audit of a data set", facts=facts, sections=sections, pictures=pictures)


def _missing(lines: Sequence[str]) -> list[list[str]]:
    """Part and reason of each line, as "scanner: not run, no DICOM header names one"."""
    return [[part, why.removeprefix("not run, ")] for part, _, why in (line.partition(": ") for line in lines)]


def _findings(done: Audited) -> Section:
    rows = [
        ["accepted" if one.accepted else "serious" if one.serious else "context", one.text, one.accepted]
        for one in done.findings
    ]
    heading = "Findings"
    if not rows:
        return Section(heading, element("p", "Nothing was found. This is not a proof that there is nothing."))
    note = (
        f"Serious is a proven fact, or a no-tissue row with an adjusted p of at most {ALPHA:g} that is at least "
        f"{MARGIN:g} above chance. All else is context."
    )
    items = [
        element("li", element("strong", f"{kind}: "), text, f" ({why})" if why else "") for kind, text, why in rows
    ]
    return Section(heading, element("ul", *items), note)


def _rows(done: Audited) -> list[Section]:
    if done.target is None:
        return []
    unit = "balanced accuracy by file" if done.target.classes else "R²"
    lines = {row.name: {"value": row.score.value, "low": row.score.low, "high": row.score.high} for row in done.rows}
    body = joined([whiskers(lines, unit)])
    over = f"a line is a 95 % interval over {_unit(done)}s, near-duplicates joined"
    note = f"{unit}, chance {done.target.chance:.2f}; {over}."
    groupings = list(done.rows[0].scores)
    header = ["row", "verdict", *groupings, "inner pixels", "ridge", "adjusted p", "smallest"]
    table = table_section(
        "All rows", header, [_cells(row, done.target.chance, groupings) for row in done.rows],
        "No-tissue rows have an adjusted p, of a ridge regression; the others are context, beside as many random "
        "inner pixels. A row that cannot tell is not clean: 'smallest' is the least score of the ridge regression that "
        "this number of patients could have shown. Where every file counts as a patient of its own, patients and "
        "near-duplicates are on both sides.",
    )  # fmt: skip
    return [Section("What tells the target", body, f"{note} {ADVICE}"), table]


def _cells(row: Row, chance: float, groupings: list[str]) -> list[str]:
    verdict = "context"
    if row.tested:
        verdict = "expected" if row.expected else "tells" if row.alarms(chance) else "cannot tell"
        if verdict == "cannot tell" and row.tested.adjusted <= ALPHA:
            verdict = "tells little"
    given = [row.scores.get(name) for name in groupings]
    scores = [f"{s.value:.3f} [{s.low:.3f}, {s.high:.3f}]" if s else "" for s in given]
    if row.score.error is not None:
        scores[-1] += f", error {row.score.error:.3g} of {row.score.level:.3g}"
    beside = f"{row.beside.value:.3f}" if row.beside else ""
    numbers = (row.tested.statistic, row.tested.adjusted, row.tested.smallest) if row.tested else ()
    test = [rounded(number) for number in numbers] or ["", "", ""]
    return [row.name, verdict, *scores, beside, *test]


def _classes(done: Audited) -> Section:
    counts = done.counts
    if done.target is None or not done.target.classes:
        rows = [["all", str(counts["files"]), str(counts["patients"])]]
    else:
        of = counts["patients of"]
        rows = [[name, str(n), str(of.get(name))] for name, n in counts["files of"].items()]
    if counts["patients"] is None:
        return table_section("Files", ["class", "files"], [row[:2] for row in rows])
    what = f"{_unit(done)}s"
    return table_section(f"Files and {what}", ["class", "files", what], rows)


def _unit(done: Audited) -> str:
    """What a group is; "file" where nobody tells patients apart."""
    return done.counts["unit"] or "file"


def _sources(done: Audited) -> list[Section]:
    found = []
    if "by_source" in done.sources:
        of = done.sources
        scores = [(name, of[key]) for name, key in ((f"{_unit(done)}s", "by_patient"), ("sources", "by_source"))]
        rows = [[name, f"{s['value']:.3f} [{s['low']:.3f}, {s['high']:.3f}]"] for name, s in scores]
        rows.append(["difference", f"{of['difference']:.3f} [{of['low']:.3f}, {of['high']:.3f}]"])
        note = f"The frozen backbone; {of['sources']} sources, told by {of['told by']}. Differences are paired."
        found.append(table_section("Sources held out", ["held out", "score"], rows, note))
    if where := done.sources.get("where"):
        rows = [
            [name, f"{of['share of files']:.2f}", "" if of["accuracy"] is None else f"{of['accuracy']:.2f}"]
            for name, of in where.items()
            if name != "cue"
        ]
        note = f"Accuracy of the backbone on files that the row {where['cue']} gets right, and on the others."
        found.append(table_section("Where the cue is right", ["files", "share", "accuracy"], rows, note))
    return found


def _associations(done: Audited) -> list[Section]:
    if not done.associations:
        return []
    rows = [[f"{a['family']}: {a['fact']}", str(a["values"]), f"{a['v']:.2f}"] for a in done.associations]
    over = f"counted over {_unit(done)}s"
    note = f"Cramér's V with Bergsma's correction, {over}; 0 is none, 1 is complete. Context, no test."
    return [table_section("Single facts and the class", ["fact", "values", "V"], rows, note)]


def _privacy(done: Audited) -> Section:
    files = done.counts["files"]
    rows = [[KINDS[key], f"{count} of {files}"] for key, count in done.privacy.items()]
    if done.detectors:
        rows += [[f"{key} on the screen", f"{done.detectors[key]} of {files}"] for key in DETECTED]
    note = "Counts only. Text and calipers are detected, not read, and faint ones are missed: look before you share."
    return table_section("Privacy", ["noticed", "files"], rows, note)


def _detectors(done: Audited) -> list[Section]:
    """Sensitivity and specificity on this set, as far as it is labelled, and where they were measured before."""
    if not done.detectors:
        return []
    here = [
        ("this set", key, done.detectors[f"{key} checked"]) for key in DETECTED if f"{key} checked" in done.detectors
    ]
    rows = [
        [where, key, *(_rate(of, rate, count) for rate, count in (("sensitivity", "with"), ("specificity", "without")))]
        for where, key, of in [*here, *MEASURED]
    ]
    note = "Columns has_text and has_calipers of the table, 1 or 0, say what there is; docs/audit.md has the commands."
    return [table_section("Detectors", ["on", "of", "sensitivity", "specificity"], rows, note)]


def _rate(of: Mapping[str, Any], rate: str, count: str) -> str:
    return "no such file" if of[rate] is None else f"{of[rate]:.2f} ({plural(of[count], 'file')})"
