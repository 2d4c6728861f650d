"""Fine-tuning run: split labelled data, tune, evaluate once on the test part, write a timm folder.

The folder holds config.json and model.safetensors, which `timm.create_model("local-dir:...")` loads, metrics.json,
predictions.csv, history.json, report.html, and run.json, which says of which run the folder is.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch

from usbackbones._files import write_json
from usbackbones._run_folder import apart, claim, finish, finished
from usbackbones._words import plural
from usbackbones.data.content import digest_of
from usbackbones.data.dataset import read_items, split_items
from usbackbones.data.frames import Frames
from usbackbones.data.item import PARTS, DataError, Item, Note
from usbackbones.data.leakage import copies_among, together, told
from usbackbones.data.patients import Notes, counted, levels, silent, told_patients, unit
from usbackbones.data.seen import write_seen
from usbackbones.data.targets import as_one_class, decide_target
from usbackbones.finetuning.config import FineTune
from usbackbones.finetuning.folder import folder_config, write_folder, write_predictions
from usbackbones.finetuning.report import write_finetune_report
from usbackbones.finetuning.start import choose_learning_rate, start_from_probe
from usbackbones.finetuning.target import ClassTarget, Numbers, NumberTarget
from usbackbones.finetuning.tuner import Tuner, parts_of
from usbackbones.hub import registry
from usbackbones.hub.backbone import RANDOM, build_backbone
from usbackbones.hub.licensing import license_for
from usbackbones.hub.torch_checkpoint import sum_of
from usbackbones.metrics.levels import distinct
from usbackbones.probing.null_rows import NullRows, division_of


@dataclass(frozen=True)
class FineTuned:
    """Result of a fine-tuning run.

    Attributes:
        folder: the timm folder.
        classes: names, in the order of the logits; "number" for a number.
        metrics: {level: {metric: {"value", "low", "high"}}} on the test part, 95 % intervals over groups.
        frozen: the same of the linear probe on the frozen features; empty if the head started at random.
        probe_kept: the folder holds the probe, whose metrics both are, see `FineTune.margin`.
        counts: items that were read, and their groups, of each part.
        epochs: that were run.
        lr: the learning rate of the run, chosen on the validation part if `FineTune.search`.
        skipped: clips that could not be read.
        joined: near-duplicates of different groups that were kept together, in a line; empty where there are none.
        task: "classes" or "number".
        patients: how many there are and who tells them apart.
        unit: what a group is, "patient" or "group"; "" where nobody tells patients apart, and no metric is by patient.
        notes: what was noted about the data, patients and files that were passed over among it.
        was_finished: the folder held this very run, finished, and nothing was done.
        license: of the weights, with where it comes from.
    """

    folder: Path
    classes: tuple[str, ...]
    metrics: Numbers
    counts: dict[str, dict[str, int]]
    epochs: int
    lr: float
    skipped: tuple[str, ...]
    joined: str = ""
    frozen: Numbers = field(default_factory=dict)
    task: Literal["classes", "number"] = "classes"
    patients: str = ""
    unit: str = ""
    notes: tuple[str, ...] = ()
    was_finished: bool = False
    license: str = ""
    probe_kept: bool = False

    @property
    def below_frozen(self) -> str:
        """A warning if the headline metric by clip is below the frozen probe's; else empty."""
        metric = "balanced_accuracy" if self.task == "classes" else "r2"
        if not self.frozen:
            return ""
        tuned, frozen = (numbers["clip"][metric]["value"] for numbers in (self.metrics, self.frozen))
        if not tuned < frozen:
            return ""
        return (
            f"fine-tuned {metric.replace('_', ' ')} {tuned:.3f} is below the {frozen:.3f} of its own frozen probe: "
            "the probe is the better model on these test groups, or they are too few to tell"
        )


def defaults_for(model: str) -> FineTune:
    """The settings that zoo.json recommends for a weight under "finetune"; the general ones for other models.

    An untrained network has nothing that frozen norms or slower lower layers would protect.
    """
    if model.startswith(RANDOM):
        return FineTune(head_epochs=0, layer_decay=1.0, freeze_norm=False)
    name = model.removeprefix(registry.OWNER)
    recommended = registry.get_weight(name).entry.get("finetune", {}) if name in registry.list_weights() else {}
    return FineTune(**{field.name: recommended[field.name] for field in fields(FineTune) if field.name in recommended})


def finetune(
    data: Path,
    model: str,
    out: Path,
    spec: FineTune | None = None,
    *,
    target: Literal["auto", "class", "number"] = "auto",
    size: int | None = None,
    group_from: str = "",
    license_name: str = "",
    label: str = "label",
    label_unit: str = "",
    test: float = 0.2,
    validation: float = 0.2,
    progress: bool = True,
    pictures: bool = False,
    note: Note = silent,
) -> FineTuned:
    """Fine-tune a backbone on labelled clips or stills and evaluate it on groups that it never saw.

    Args:
        data: a folder of class folders, or a CSV with path, label and, if known, group and split.
        model: `usbackbones/<arch>.<tag>`, any timm name, `local-dir:FOLDER`, or `random:ARCH` as a control.
        out: the folder to write; new, empty, or of this very run, which goes on.
        spec: how; by default what zoo.json recommends for the weight.
        target: labels are classes or numbers; "auto" decides, see `usbackbones.data.targets`.
        size: side of the input in pixels, if it is to differ from the model's.
        group_from: a regular expression that finds the group in a name, see `dataset.read_items`.
        license_name: of the weights, where the model's source states none; never less strict than the source's.
        label: the column of the CSV that is the label; it names the number in predictions.
        label_unit: of a number, as "mm" or "%".
        test: share of each class's groups for the test part, if the data have no split.
        validation: share of the other groups for early stopping and every other choice.
        progress: show bars.
        pictures: show frames and names of files and groups in report.html, which is then not to be passed on.
        note: gets each line about the data at once, besides `FineTuned.notes`.

    Raises:
        DataError: if the data cannot be split without a leak (of a group, or through near-duplicates), or read, or a
            class is missing from a part, or timm would make another network of the folder.
        FolderTaken: if the folder holds another run or something else.
        UnknownModel, WeightsError, BackboneError: if the model could not be loaded.
        LicenseError: if nobody states the license of the weights, or `license_name` allows what their source does not.
    """
    spec = spec or defaults_for(model)
    apart(out, data)
    license_ = license_for(model, license_name)
    notes = Notes(note)
    given = read_items(data, group_from, notes, label)
    kind = decide_target(given, target, notes)
    if label_unit and kind == "class":
        raise DataError(
            f"--unit {label_unit}: the labels are classes, which have none; --target number makes them numbers"
        )
    named = {"label": label} if label != "label" else {}
    named |= {"unit": label_unit} if label_unit else {}
    strata = given if kind == "class" else as_one_class(given)
    split_items(strata, test, validation, spec.seed)  # what is wrong with it is reported before anything is decoded
    torch.manual_seed(spec.seed)
    outputs = len({item.label for item in strata})
    network: Any = build_backbone(model, in_chans=3, num_classes=outputs, seed=spec.seed, size=size)
    settings = {
        "model": model,
        "weights": sum_of(network.state_dict()),
        "spec": asdict(spec),
        "target": kind,
        "size": size,
        "items": digest_of(given),
        "parts": [test, validation],
        "pictures": pictures,
        "license": str(license_),
    }
    if claim(out, "finetune", settings | named):
        return finished(FineTuned, out)
    nulls = NullRows(item.path for item in given)
    frames = Frames(given, out / "frames.u8", spec.frames, progress=progress, seen=nulls.seen, clean=spec.clean)
    notes(frames.told_warnings())
    pairs = copies_among(given, frames, progress)
    divided = split_items(together(strata, pairs), test, validation, spec.seed)
    items = [replace(item, label=own.label) for item, own in zip(divided, given, strict=True)]
    of = parts_of(items, frames, by_class=kind == "class")
    goal = (ClassTarget if kind == "class" else NumberTarget)(items, of["train"])
    if spec.start == "probe" and not start_from_probe(network, frames, goal, of["train"], of["validation"], progress):
        spec = replace(spec, start="random")
    initial = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def make(spec: FineTune, title: str = "") -> Tuner:
        network.load_state_dict(initial)
        folder = out / "trials" / f"{spec.lr:.3g}" if title else out
        return Tuner(network, model, items, goal, spec, frames, folder, progress, title)

    probe = make(spec)
    frozen = probe.metrics("test") if spec.start == "probe" else {}
    notes(probe.cannot_tell)  # before a search that can be in vain
    tuner = make(replace(spec, lr=choose_learning_rate(make, spec)) if spec.search else spec)
    tuner.run()
    notes("" if tuner.cannot_tell else tuner.probe_kept)
    metrics = tuner.metrics("test")
    config = folder_config(tuner, model, data.name, license_)
    config["usbackbones"] |= named if kind == "number" else {}
    write_predictions(out / "predictions.csv", tuner)
    rows, prediction = tuner.predict("test")
    if kind == "class":
        notes(nulls.line(model, items, frames.item[rows], prediction, [division_of(items)], spec.seed))
    goal.write_units_into(network.get_classifier())
    write_folder(out, network, config, torch.stack([tuner.plain(frames[row]) for row in rows[:4]]))
    trained = [row for row, owner in enumerate(frames.item) if items[owner].part != "test"]
    write_seen(out, dict.fromkeys(items[frames.item[row]].path for row in trained), (frames[row] for row in trained))
    done = FineTuned(
        out, tuple(goal.classes), metrics, _counts(tuner, given), tuner.epoch, tuner.spec.lr, tuple(frames.skipped),
        told(given, pairs), frozen, goal.task, told_patients(given), unit(given), tuple(notes.lines),
        license=str(license_), probe_kept=bool(tuner.probe_kept),
    )  # fmt: skip
    numbers = asdict(done) | {"folder": str(out), "model": model, "spec": asdict(spec), "best validation": tuner.best}
    numbers |= {"gain on validation": asdict(tuner.gain)} if tuner.gain else {}
    write_json(out / "metrics.json", numbers)
    write_json(out / "history.json", tuner.history)
    facts = {"model": Path(model).name if model.startswith("local-dir:") else model, "data": data.name}
    facts |= {"epochs": str(done.epochs), "learning rate": f"{done.lr:.2g}", "patients": done.patients}
    facts |= {"license of the weights": done.license}
    facts |= {part: counted(count, done.unit) for part, count in done.counts.items()}
    facts |= {"could not be read": plural(len(done.skipped), "file")} if done.skipped else {}
    names, worth = levels(given), distinct(metrics)
    facts |= {"kept": "the linear probe"} if done.probe_kept else {}
    own = {} if done.probe_kept else {"fine-tuned": metrics}
    shown = {
        f"{name}, {what}": of[level] for what, of in own.items() for level, name in names.items() if level in worth
    }
    shown |= {f"{name}, frozen probe": frozen[level] for level, name in names.items() if frozen and level in worth}
    write_finetune_report(out, tuner, facts, shown, rows, prediction, pictures, done.unit or "file")
    finish(out)
    tuner.remove_checkpoint()
    shutil.rmtree(out / "trials", ignore_errors=True)
    (out / "frames.u8").unlink()
    return done


def _counts(tuner: Tuner, given: Sequence[Item]) -> dict[str, dict[str, int]]:
    """Items and groups of each part; two groups that near-duplicates join are still two."""
    groups = {part: [given[number].group for number in tuner.of[part]] for part in PARTS}
    return {part: {"items": len(members), "groups": len(set(members))} for part, members in groups.items()}
