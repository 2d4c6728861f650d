"""An audit: labelled clips -> audit.json, files.csv, report.html and repair files in a folder."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn
from tqdm import tqdm

from usbackbones._files import write_csv, write_json
from usbackbones._words import plural
from usbackbones.auditing import files, privacy, rows, screens, source
from usbackbones.auditing.association import associations
from usbackbones.auditing.estimate import Target, one_thread
from usbackbones.auditing.findings import accepted, read_baseline, write_junit
from usbackbones.auditing.inputs import Asked, Inputs, read_inputs
from usbackbones.auditing.look import Looked, look
from usbackbones.auditing.report import write_audit_report
from usbackbones.auditing.result import Audited, as_json
from usbackbones.data.item import DataError
from usbackbones.data.patients import told_patients, unit
from usbackbones.data.splits import SplitError
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
    foreground: str = "",
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
        data: a folder of class folders or a CSV, read as by probes and fine-tuning; or images with masks, as a folder
            with images/ and masks/ or a CSV with the columns image and mask, read as by segmentation.
        out: the folder to write.
        group_from: a regular expression that finds the patient in a file's name.
        columns: of the CSV, each of which becomes a no-tissue row of its own.
        source_from: a column of the CSV, or a regular expression, that tells the source.
        expected: no-tissue rows that deployment will have too, so that they do not alarm.
        target: labels are classes or numbers; "auto" decides, see `usbackbones.data.targets`. Of masks the number is
            the share of the image that they mark, which "auto" takes, and the classes are "marked" and "empty".
        foreground: values in the masks that mark something, as "1,2", where they do not say so themselves.
        unlabelled: audit files, near-duplicates and privacy only; DATA may then be any folder of clips.
        backbone: name and headless timm model, for the rows of frozen features; None leaves them out.
        baseline: an audit.json with accepted findings.
        junit: JUnit XML to write as well.
        draws: permutations, 999 at least.
        seed: of folds, permutations and resamples.
        pictures: show pairs of near-duplicates and their names in the report.
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

    asked = Asked(group_from, tuple(columns), source_from, unlabelled, target, foreground, progress)
    inputs = read_inputs(data, asked, heard)
    kind = inputs.kind
    with tempfile.TemporaryDirectory(prefix="usbackbones-audit") as scratch:
        looked = look(inputs.items, data if data.is_dir() else data.parent, Path(scratch), progress)
        inputs = inputs.only(looked.items)
        with one_thread():
            twins = files.find_twins(looked, progress)
        done = Audited(out, _counts(looked), notes=notes)
        done.findings = files.file_findings(looked, twins, kind == "class")
        _private(done, looked, inputs)
        if kind:
            done.target = rows.target_of(looked.items, kind)
            done.counts |= _of_classes(looked) if done.target.classes else {}
            try:
                with one_thread():
                    _tell(done, looked, twins, inputs, done.target, expected, backbone, draws, seed, progress)
            except SplitError as error:
                raise DataError(f"{error}; or give --unlabelled, which needs no folds") from error
            except ValueError as error:
                raise DataError(str(error)) from error
        done.findings = sorted(accepted(done.findings, reasons), key=lambda one: not one.serious)
        out.mkdir(parents=True, exist_ok=True)
        done.written = ["audit.json", "files.csv", "report.html"]
        if kind:
            done.written += files.write_repairs(out, looked, twins, kind == "class", inputs.masks, seed)
        noticed = [*zip(looked.items, map("; ".join, files.remarks(looked, twins)), strict=True)]
        noticed += [(item, "cannot be read") for item in looked.lost]
        cells = ((item.path, item.label, item.group, item.part, what) for item, what in noticed)
        write_csv(out / "files.csv", ["path", "label", "group", "part", "noticed"], cells)
        write_audit_report(out / "report.html", done, looked, twins, pictures)
        if junit:
            write_junit(
                junit, done.findings, [*files.CHECKS, *(f"tells:{row.name}" for row in done.rows if row.tested)]
            )
        settings = {"seed": seed, "draws": draws, "group_from": group_from, "expected": list(expected)}
        write_json(out / "audit.json", as_json(done, data, settings))
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
    progress: bool,
) -> None:
    """The rows, the associations and the sources."""
    groups = rows.groupings(looked.items, twins.joined)
    no_tissue, missing = rows.no_tissue(looked.seen, inputs.columns)
    done.rows, done.how = rows.tested(no_tissue, target, groups, expected, draws, seed, progress)
    done.findings += rows.row_findings(done.rows, target)
    done.missing += missing
    strictest = dict([list(groups.items())[-1]])
    plain, clean = rows.cheap([s.plain for s in looked.seen]), {}
    if looked.clean is None:
        done.missing.append(f"rows on clean frames: not run, {screens.MISSING}")
    else:
        clean = {f"{name}, clean": of for name, of in rows.cheap([s.clean for s in looked.seen if s.clean]).items()}
    for name, (x, beside) in tqdm((plain | clean).items(), "scoring", unit="row", disable=not progress):
        done.rows.append(rows.scored(name, x, target, strictest if name in clean else groups, True, beside))
    if target.classes:
        facts = {"container": [s.container for s in looked.seen], "geometry": [s.geometry for s in looked.seen]}
        facts["scanner"] = rows.coded([s.scanner for s in looked.seen])
        done.associations = associations(facts, looked.items)
    if backbone is None:
        done.missing += ["backbone: not run, no model was given", "source held out: not run, it needs the backbone"]
        return
    name, model = backbone
    frames, item = looked.frames, looked.frames.item
    x = _embedded(model, (frames[row] for row in range(len(item))), len(item), name, progress)
    row = rows.scored(name, _of_items(x, item), target, groups, True)
    done.rows.append(row)
    if looked.clean is not None:
        clean_x = x.copy()  # of the frames that cleaning leaves alone
        if changed := len(looked.clean):
            after = (looked.clean[place] for place in range(changed))
            clean_x[looked.changed] = _embedded(model, after, changed, f"{name}, clean", progress)
        done.rows.append(rows.scored(f"{name}, clean", _of_items(clean_x, item), target, strictest, True))
    of = inputs.sources or source.clusters(looked.seen)
    held = source.source_held_out(_of_items(x, item), target, row, next(iter(strictest.values())), of)
    if held is None:
        done.missing.append(f"source held out: not run, fewer than {source.LEAST} sources that share no patient")
    else:
        done.sources = asdict(held) | {"told by": "--source-from" if inputs.sources else "container, size and scanner"}
    if target.classes:
        cue = max((one for one in done.rows if one.tested), key=lambda one: one.score.value)
        done.sources |= {"where": source.where_cue_is_right(row, cue, target)}


def _embedded(model: nn.Module, frames: Iterable[np.ndarray], count: int, name: str, progress: bool) -> np.ndarray:
    """Features of frames, float32 [M, D], with a bar."""
    return embed(model, tqdm(frames, f"embedding, {name}", count, unit="frame", disable=not progress))


def _of_items(x: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Mean features of the frames of each item, float64 [N, D]; `item` int [M] numbers the frames."""
    total = np.zeros((item.max() + 1, x.shape[1]))
    np.add.at(total, item, x)
    return total / np.bincount(item)[:, None]


def _private(done: Audited, looked: Looked, inputs: Inputs) -> None:
    """Counts of what tells about people, of text and calipers, and how good the detectors are where it is labelled."""
    counts = Counter(key for seen in looked.seen for key in seen.private)
    done.privacy = {key: counts[key] for key in privacy.KINDS}
    looks = [seen.screen for seen in looked.seen if seen.screen]
    if looks:
        found: dict[str, Any] = {name: sum(getattr(s, name) > 0 for s in looks) for name in screens.DETECTED}
        done.detectors = found | {"files": len(looks)}
        for name, cells in inputs.truth.items():
            done.detectors[f"{name} checked"] = screens.checked([getattr(s, name) > 0 for s in looks], cells)
    else:
        done.missing.append(f"text on screens: not run, {screens.MISSING}")
    if unknown := sum(not seen.known for seen in looked.seen):
        done.missing.append(
            f"headers and tags: not run on {plural(unknown, 'file')}, none of which is {privacy.LOOKED}"
        )


def _counts(looked: Looked) -> dict[str, Any]:
    items = looked.items
    return {
        "files": len(items),
        "unreadable": len(looked.lost),
        "unit": unit(items),
        "patients": len({item.group for item in items}) if unit(items) else None,  # nobody knows
        "told by": told_patients([*items, *looked.lost]),
    }


def _of_classes(looked: Looked) -> dict[str, Any]:
    return {
        "files of": dict(sorted(Counter(item.label for item in looked.items).items())),
        "patients of": files.patients_of(looked.items) if unit(looked.items) else {},
    }
