"""usbackbones finetune: labelled clips -> a classifier or regressor, evaluated on groups that it never saw."""

from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from usbackbones._words import intervals_over, plural
from usbackbones.cli.options import (
    AsJson,
    Count,
    Label,
    LicenseName,
    Model,
    Number,
    OptionalOut,
    Sheet,
    check_cleaning,
    write_preview,
)
from usbackbones.cli.terminal import CommandError, listed, noted, say, say_counts, say_json, tell, tell_run


def finetune_command(
    data: Positional[Path],
    out: OptionalOut = None,
    model: Model = None,
    target: Literal["auto", "class", "number"] = "auto",
    label: Label = "label",
    label_unit: Annotated[str, arg(name="unit", metavar="UNIT")] = "",
    size: Count = None,
    group_from: str = "",
    license_name: LicenseName = "",
    test: float = 0.2,
    validation: float = 0.2,
    epochs: Count = None,
    lr: Number = None,
    batch: Count = None,
    margin: Number = None,
    rates: Literal["decay", "metalr"] | None = None,
    clean: bool = False,
    preview: Sheet = None,
    seed: int = 0,
    pictures: bool = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a backbone on a folder of class folders or a CSV with path, label, group and, if you like, split.

    The head starts from the linear probe on frozen features, whose metrics are printed beside the fine-tuned ones. The
    output is a timm folder, with metrics, predictions and a report. The same command again continues a run that was
    stopped.

    Args:
        data: the folder or the table; no patient is divided whom a column, DICOM header or --group-from tells.
        out: the folder to write.
        model: to start from; any timm model, or random:ARCH.
        target: what labels are; "auto" decides and says it.
        label: the column of the CSV that is the label.
        label_unit: of a number, as mm.
        size: side of the input in pixels, if not the model's own; for a ViT a multiple of its patch.
        group_from: finds the group in a file's name, as '^([0-9]+)_'.
        license_name: of the weights, if nobody states one.
        test: share of the groups to evaluate on.
        validation: share of the other groups for early stopping and all choices.
        epochs: maximum number of passes over the data.
        lr: peak learning rate; else the best of three.
        batch: items in a batch.
        margin: standard errors by which fine-tuning must beat the probe on the validation part, else the probe is kept.
        rates: of lower layers: slower by a factor, or learned.
        clean: cut to the sector, text and calipers black.
        preview: write an image of clips before and after --clean, and stop.
        seed: of the split, the classifier and the views.
        pictures: show frames in report.html: patient data.
        as_json: print the metrics as JSON.
    """
    from usbackbones.data.dataset import read_items
    from usbackbones.finetuning.run import defaults_for, finetune
    from usbackbones.hub.backbone import full_name
    from usbackbones.metrics.levels import distinct

    if preview:
        write_preview(lambda: [item.path for item in read_items(data, group_from, noted, label)], preview)
        return
    if out is None:
        raise CommandError("name the folder with -o, or give --preview")
    check_cleaning(clean)
    name = full_name(model)
    given: dict[str, Any] = {
        "epochs": epochs,
        "lr": lr,
        "batch": batch,
        "margin": margin,
        "rates": rates,
        "seed": seed,
        "clean": clean,
    }
    if lr is not None:
        given["search"] = False
    spec = replace(defaults_for(name), **{key: value for key, value in given.items() if value is not None})
    begun = monotonic()
    done = finetune(
        data,
        name,
        out,
        spec,
        target=target,
        label=label,
        label_unit=label_unit,
        size=size,
        group_from=group_from,
        license_name=license_name,
        test=test,
        validation=validation,
        pictures=pictures,
        note=noted,
    )
    tell_run(done, out, monotonic() - begun)
    if done.below_frozen:
        tell(f"warning: {done.below_frozen}")
    if as_json:
        say_json(asdict(done))
        return
    say_counts(done)
    tuned = {} if done.probe_kept else done.metrics
    for title, numbers in (("frozen probe", done.frozen), ("fine-tuned", tuned)):
        for level in distinct(numbers):
            say(f"test, {title}, by {done.unit if level == 'patient' else level}: {listed(numbers[level])}")
    if done.probe_kept:
        say("the folder holds the linear probe: fine-tuning was not shown to be better")
    say(f"learning rate {done.lr:.2g}, {plural(done.epochs, 'epoch')}")
    over = intervals_over(done.counts["test"]["groups"], done.unit, joined=bool(done.joined))
    say(f"{over}. Not a medical device.")
    say(f"license of the weights: {done.license}")
    say(f'load it: timm.create_model("local-dir:{out}", pretrained=True)')
