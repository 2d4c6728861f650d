"""An audit: labelled clips -> audit.json, files.csv, report.html and repair files in a folder."""

import csv
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn

from usbackbones._files import atomic_write
from usbackbones.auditing import files, privacy, rows, source
from usbackbones.auditing.association import associations
from usbackbones.auditing.estimate import Target
from usbackbones.auditing.findings import accepted, read_baseline, write_junit
from usbackbones.auditing.inputs import Inputs, read_inputs
from usbackbones.auditing.look import Looked, look
from usbackbones.auditing.report import write_audit_report
from usbackbones.auditing.result import Audited, as_json
from usbackbones.data.item import DataError
from usbackbones.data.patients import told_patients
from usbackbones.data.splits import SplitError
from usbackbones.data.targets import decide_target
from usbackbones.features.extract import embed

DRAWS = 999


def audit(
    data: Path | str,
    out: Path | str = "audit",
    *,
    group_from: str = "",
    columns: Sequence[str] = (),
    source_from: str = "",
    expected: Sequence[str] = (),
    target: Literal["auto", "class", "number"] = "auto",
    unlabelled: bool = False,
    backbone: tuple[str, nn.Module] | None = None,
    baseline: Path | None = None,
    junit: Path | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    pictures: bool = False,
    progress: bool = True,
    note: Callable[[str], object] = lambda line: None,
) -> Audited:
    """Audit a data set before a network is trained on it.

        from usbackbones import audit
        found = audit("data", "audit")
        print(found.serious)

    Args:
        data: a folder of class folders or a CSV, read as by probes and fine-tuning.
        out: the folder to write.
        group_from: a regular expression that finds the patient in a file's name.
        columns: of the CSV, each of which becomes a no-tissue row of its own.
        source_from: a column of the CSV, or a regular expression, that tells the source.
        expected: no-tissue rows that deployment will have too, so that they do not alarm.
        target: labels are classes or numbers; "auto" decides, see `usbackbones.data.targets`.
        unlabelled: audit files, twins and privacy only; DATA may then be any folder of clips.
        backbone: name and headless timm model, for the rows of frozen features; None leaves them out.
        baseline: an audit.json with accepted findings.
        junit: JUnit XML to write as well.
        draws: permutations, 999 at least.
        seed: of folds, permutations and resamples.
        pictures: show pairs of twins and their names in the report.
        progress: show bars.
        note: gets the lines of the readers.

    Raises:
        DataError: for data that cannot be audited; nothing is then written.
    """
    out, data = Path(out), Path(data)
    known = files.check_folder(out, data)
    reasons = (read_baseline(out / "audit.json") if known else {}) | (read_baseline(baseline) if baseline else {})
    notes: list[str] = []

    def heard(line: str) -> None:
        notes.append(line)
        note(line)

    inputs = read_inputs(data, group_from, columns, source_from, unlabelled, heard)
    kind = None if unlabelled else decide_target(inputs.items, target, heard)
    with tempfile.TemporaryDirectory(prefix="usbackbones-audit") as scratch:
        looked = look(inputs.items, Path(scratch) / "frames.u8", progress)
        inputs = inputs.only(looked.items)
        twins = files.find_twins(looked, progress)
        done = Audited(out, _counts(looked), notes=notes)
        done.findings = files.file_findings(looked, twins, kind == "class")
        _private(done, looked)
        if kind:
            done.target = rows.target_of(looked.items, kind)
            try:
                _tell(done, looked, twins, inputs, done.target, expected, backbone, draws, seed)
            except SplitError as error:
                raise DataError(f"{error}; or give --unlabelled, which needs no folds") from error
            except ValueError as error:
                raise DataError(str(error)) from error
        done.findings = sorted(accepted(done.findings, reasons), key=lambda one: not one.serious)
        out.mkdir(parents=True, exist_ok=True)
        done.written = ["audit.json", "files.csv", "report.html"]
        if kind:
            done.written += files.write_repairs(out, looked, twins, seed)
        _write_files(out / "files.csv", looked, files.remarks(looked, twins))
        write_audit_report(out / "report.html", done, looked, twins, pictures)
        if junit:
            write_junit(
                junit, done.findings, [*files.CHECKS, *(f"tells:{row.name}" for row in done.rows if row.tested)]
            )
        settings = {"seed": seed, "draws": draws, "group_from": group_from, "expected": list(expected)}
        with atomic_write(out / "audit.json", "w", encoding="utf-8") as stream:
            json.dump(as_json(done, data, settings), stream, indent=1, ensure_ascii=False)
    return done


def _tell(
    done: Audited,
    looked: Looked,
    twins: files.Twins,
    inputs: Inputs,
    target: Target,
    expected: Sequence[str],
    backbone: tuple[str, nn.Module] | None,
    draws: int,
    seed: int,
) -> None:
    """The rows, the associations and the sources."""
    groups = rows.groupings(looked.items, twins.joined)
    no_tissue, missing = rows.no_tissue(looked.seen, inputs.columns)
    done.rows, done.how = rows.tested(no_tissue, target, groups, expected, draws, seed)
    done.findings += rows.row_findings(done.rows, target)
    done.missing += missing
    for name, (x, beside) in rows.cheap(looked.seen).items():
        done.rows.append(rows.scored(name, x, target, groups, True, beside))
    if target.classes:
        facts = {"container": [s.container for s in looked.seen], "geometry": [s.geometry for s in looked.seen]}
        facts["scanner"] = rows.coded([s.scanner for s in looked.seen])
        done.associations = associations(facts, looked.items)
    if backbone is None:
        done.missing += ["backbone: not run, no model was given", "source held out: not run, it needs the backbone"]
        return
    name, model = backbone
    frames = looked.frames
    x = embed(model, (frames[row] for row in range(len(frames.item))))
    total = np.zeros((len(looked.items), x.shape[1]))
    np.add.at(total, frames.item, x)
    x = total / np.bincount(frames.item)[:, None]
    row = rows.scored(name, x, target, groups, True)
    done.rows.append(row)
    strictest = list(groups.values())[-1]
    held = source.source_held_out(x, target, row, strictest, inputs.sources or source.clusters(looked.seen))
    if held is None:
        done.missing.append(f"source held out: not run, fewer than {source.LEAST} sources that share no patient")
    else:
        done.sources = asdict(held) | {"told by": "--source-from" if inputs.sources else "container, size and scanner"}
    if target.classes:
        cue = max((one for one in done.rows if one.tested), key=lambda one: one.score.value)
        done.sources |= {"where": source.where_cue_is_right(row, cue, target)}


def _private(done: Audited, looked: Looked) -> None:
    """Counts of what tells about people, and of text and calipers."""
    counts = Counter(key for seen in looked.seen for key in seen.private)
    done.privacy = {key: counts[key] for key in privacy.KINDS}
    screens = [seen.screen for seen in looked.seen if seen.screen]
    if screens:
        found = {"text": sum(s.text > 0 for s in screens), "calipers": sum(s.calipers > 0 for s in screens)}
        done.detectors = found | {"files": len(screens)}
    else:
        done.missing.append("text on screens: not run, OpenCV is missing; pip install 'usbackbones[train]'")


def _counts(looked: Looked) -> dict[str, Any]:
    items = looked.items
    return {
        "files": len(items),
        "unreadable": len(looked.lost),
        "patients": len({item.group for item in items}),
        "told by": told_patients(items),
        "files of": dict(sorted(Counter(item.label for item in items).items())),
        "patients of": files.patients_of(items),
    }


def _write_files(file: Path, looked: Looked, remarks: Sequence[Sequence[str]]) -> None:
    with atomic_write(file, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["path", "label", "group", "part", "noticed"])
        for item, remark in zip(looked.items, remarks, strict=True):
            writer.writerow([item.path, item.label, item.group, item.part, "; ".join(remark)])
        for item in looked.lost:
            writer.writerow([item.path, item.label, item.group, item.part, "cannot be read"])
