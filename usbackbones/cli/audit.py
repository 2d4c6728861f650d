"""usbackbones audit: what a data set gives away before a network has looked at the tissue."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from usbackbones._run_folder import refuse_taken
from usbackbones.cli.options import AsJson, Out
from usbackbones.cli.terminal import CommandError, network, noted, say

if TYPE_CHECKING:
    from usbackbones.auditing.result import Audited

Names = Annotated[str, arg(metavar="NAME,NAME")]
_LINES = 10


def audit_command(
    data: Positional[Path],
    out: Out = Path("audit"),
    group_from: str = "",
    columns: Names = "",
    source_from: str = "",
    expected: Names = "",
    target: Literal["auto", "class", "number"] = "auto",
    foreground: str = "",
    unlabelled: bool = False,
    model: str = "",
    baseline: Path | None = None,
    junit: Path | None = None,
    strict: bool = False,
    draws: int = 999,
    seed: int = 0,
    pictures: bool = False,
    as_json: AsJson = False,
) -> int:
    """Look for cues that are no medicine: container, frame size, scanner, border, near-duplicates, divided patients.

    DATA is a folder of class folders or a CSV, as for probe and finetune, or images with masks, as for segment. The
    output is a folder with audit.json, files.csv, report.html and the repair files groups.csv, split.csv and drop.csv.

    Args:
        data: a group is a patient and never divided.
        out: the folder to write.
        group_from: finds the group in a file's name, as '^([0-9]+)_'.
        columns: of the CSV; each becomes a no-tissue row, as scanner or pixel_mm.
        source_from: a column of the CSV, or a regular expression for names, that tells the clinic or scanner.
        expected: rows that deployment will have too; they are shown and do not alarm.
        target: labels are classes or a number; auto decides. Of masks: empty or marked, or the share they mark (auto).
        foreground: values in the masks that mark something, as for segment.
        unlabelled: only what needs no label; DATA may be any folder of clips.
        model: of the frozen backbone, as for probe; the default weight if empty, none to leave it out.
        baseline: an audit.json with reasons under "accepted".
        junit: write JUnit XML as well.
        strict: exit with 1 where something serious was found that the baseline does not accept.
        draws: permutations of patients.
        seed: of folds, permutations and resamples.
        pictures: show near-duplicates in report.html: patient data.
        as_json: print audit.json.
    """
    from importlib.util import find_spec

    refuse_taken(out)
    if draws < 999:
        raise CommandError(f"--draws {draws}: at least 999")
    if find_spec("sklearn") is None:
        raise CommandError("the audit needs scikit-learn: pip install 'usbackbones[bench]'")
    from usbackbones.auditing.run import audit
    from usbackbones.hub.backbone import full_name

    backbone = None
    if not unlabelled and model != "none":
        name = full_name(model or None)
        backbone = (name, network(name))
    done = audit(
        data,
        out,
        group_from=group_from,
        columns=_split(columns),
        source_from=source_from,
        expected=_split(expected),
        target=target,
        foreground=foreground,
        unlabelled=unlabelled,
        backbone=backbone,
        baseline=baseline,
        junit=junit,
        draws=draws,
        seed=seed,
        pictures=pictures,
        note=noted,
    )
    if as_json:
        say((out / "audit.json").read_text(encoding="utf-8"))
    else:
        for line in lines(done):
            say(line)
    return int(strict and bool(done.serious))


def lines(done: "Audited") -> list[str]:
    """The audit in ten lines at most; the report has the rest."""
    from usbackbones._words import plural
    from usbackbones.auditing.rows import shown

    counts = done.counts
    found = [f"{plural(counts['files'], 'file')} read, {counts['unreadable']} that cannot be; {counts['told by']}"]
    found += [f"SERIOUS: {one.text}" for one in done.serious]
    shown_rows = {one.key.removeprefix("tells:") for one in done.serious}
    if done.target:
        ranked = sorted(done.rows, key=lambda row: (row.tested is None, -row.score.value))
        found += [f"{row.name}: {shown(row.score, done.target)}" for row in ranked if row.name not in shown_rows]
    found += [one.text for one in done.findings if not one.serious]
    rest = len(found) - (_LINES - 1)
    kept = found[: _LINES - 1]
    more = f" ({rest} more lines in the report)" if rest > 0 else ""
    accepted = sum(bool(one.accepted) for one in done.findings)
    verdict = f"{len(done.serious)} serious, {accepted} accepted"
    return [*kept, f"{done.folder}: {', '.join(done.written)}: {verdict}{more}. Not a medical device."]


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
