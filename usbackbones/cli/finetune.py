"""usbackbones finetune: labelled clips -> a classifier, judged on groups that it never saw."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from usbackbones.cli.terminal import AsJson, CommandError, Out, noted, say, tell


def finetune_command(
    data: Positional[Path],
    out: Out,
    model: Annotated[str | None, arg(metavar="NAME")] = None,
    group_from: str = "",
    test: float = 0.2,
    validation: float = 0.2,
    epochs: int | None = None,
    lr: float | None = None,
    batch: int | None = None,
    rates: Literal["decay", "metalr"] | None = None,
    seed: int = 0,
    pictures: bool = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a backbone on a folder of class folders or a CSV with path, label, group and, if you like, split.

    The output is a timm folder with the classifier, beside it the metrics, the predictions and a report. The same
    command again continues a run that was stopped.

    Args:
        data: the folder or the table; no patient is divided whom a column, DICOM header or --group-from tells.
        out: the folder to write.
        model: the weight to start from; the default one if none is named. Any timm model works, and random:ARCH.
        group_from: a regular expression that finds the group in a file's name, as '^([0-9]+)_'.
        test: share of the groups to judge on.
        validation: share of the other groups to stop early on.
        epochs: most passes over the data.
        lr: peak rate of the classifier.
        batch: items in a batch.
        rates: "decay" slows lower layers by a fixed factor, "metalr" learns a rate for each.
        seed: of the split, the classifier and the views.
        pictures: show frames, clips and groups in report.html, which then holds patient data.
        as_json: print the metrics as JSON.
    """
    from usbackbones.data.item import DataError
    from usbackbones.data.patients import counted
    from usbackbones.finetuning.run import defaults_for, finetune, without_nan
    from usbackbones.hub.backbone import full_name

    name = full_name(model)
    given: dict[str, Any] = {"epochs": epochs, "lr": lr, "batch": batch, "rates": rates, "seed": seed}
    try:
        spec = replace(defaults_for(name), **{key: value for key, value in given.items() if value is not None})
        done = finetune(
            data,
            name,
            out,
            spec,
            group_from=group_from,
            test=test,
            validation=validation,
            pictures=pictures,
            note=noted,
        )
    except DataError as error:
        raise CommandError(str(error)) from error
    for fault in done.skipped:
        tell(f"skipped: {fault}")
    if done.joined:
        tell(f"note: {done.joined}")
    if as_json:
        say(json.dumps(without_nan(asdict(done) | {"folder": str(out)}), indent=2))
        return
    for part, count in done.counts.items():
        say(f"{part}: {counted(count, done.unit)}")
    for level, metrics in done.metrics.items():
        told = (
            f"{key.replace('_', ' ')} {m['value']:.3f} [{m['low']:.3f}, {m['high']:.3f}]" for key, m in metrics.items()
        )
        say(f"test, by {done.unit if level == 'patient' else level}: {', '.join(told)}")
    say(f"brackets: 95 % intervals over {done.unit or 'file'}s. Not a medical device.")
    say(f'load it: timm.create_model("local-dir:{out}", pretrained=True)')
