"""usbackbones segment: images with masks -> a segmenter, evaluated on groups that it never saw."""

from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from usbackbones._words import intervals_over, rounded
from usbackbones.cli.options import AsJson, Classes, Count, Foreground, LicenseName, Model, Number, Out, ResizeMasks
from usbackbones.cli.terminal import CommandError, listed, noted, say, say_counts, say_json, tell_run

_N = arg(metavar="N")


def segment_command(
    data: Positional[Path],
    out: Out,
    model: Model = None,
    preset: Literal["default", "udiat"] = "default",
    head: Annotated[Literal["unet", "mask_rcnn"] | None, arg(metavar="HEAD")] = None,
    size: Count = None,
    in_chans: Annotated[Literal[1, 3] | None, _N] = None,
    epochs: Count = None,
    batch: Count = None,
    lr: Number = None,
    layer_decay: Number = None,
    frozen: Annotated[int | Literal["all"] | None, _N] = None,
    regions: Count = None,
    group_from: str = "",
    foreground: Foreground = "",
    classes: Classes = "",
    license_name: LicenseName = "",
    resize_masks: ResizeMasks = "",
    test: float = 0.2,
    validation: float = 0.2,
    at_most: int = 0,
    seed: int = 0,
    pictures: bool = False,
    as_json: AsJson = False,
) -> None:
    """Train a U-Net or a Mask R-CNN on images/ and masks/, a folder laid out as BUSI, or a CSV with image, mask, group.

    The output folder gets the weights, the metrics, the predicted masks, a report, and overlay.png, which is worth a
    look. The same command again continues a run that was stopped.

    Args:
        data: the folder or the table; near-duplicates are kept together.
        out: the folder to write.
        model: ARCH.TAG, a timm name, local-dir:FOLDER or random:ARCH; by default ours.
        preset: "udiat" is how USCL and Meta-USCL were evaluated on UDIAT-B.
        head: "unet", or "mask_rcnn".
        size: side of the input, pixels, a multiple of 32.
        in_chans: 1 for gray, 3 for gray three times.
        epochs: maximum passes over the data.
        batch: images in a batch.
        lr: peak learning rate of the head.
        layer_decay: factor of the learning rate from a layer to the one below; 1 is off.
        frozen: stages besides the stem; -1 for none, or all.
        regions: of an image, for a Mask R-CNN.
        group_from: a regular expression that finds the group in a file's name, as '^([0-9]+)_'.
        foreground: values of the masks that are foreground, as 1,2.
        classes: values told apart, as nerve=1,artery=2, a Dice each.
        license_name: of the weights, if nobody states one.
        resize_masks: bring masks to the size of their image.
        test: share of the groups to evaluate on.
        validation: share of the rest, to stop early.
        at_most: use no more images than this; 0 is all.
        seed: of the split, the head and the flips.
        pictures: show patient images in report.html.
        as_json: print the metrics as JSON.
    """
    try:
        from usbackbones.hub.backbone import full_name
        from usbackbones.segmentation.config import UDIAT, Segment
        from usbackbones.segmentation.look import Answers
        from usbackbones.segmentation.run import segment
    except ModuleNotFoundError as error:
        raise CommandError(f"segment needs {error.name}: pip install 'usbackbones[dense]'") from error
    given: dict[str, Any] = {
        "head": head, "size": size, "in_chans": in_chans, "epochs": epochs, "batch": batch, "lr": lr,
        "layer_decay": layer_decay, "frozen": frozen, "regions": regions, "seed": seed,
    }  # fmt: skip
    name = full_name(model)
    base = UDIAT if preset == "udiat" else Segment()
    spec = replace(base, **{key: value for key, value in given.items() if value is not None})
    begun = monotonic()
    done = segment(
        data,
        name,
        out,
        spec,
        test=test,
        validation=validation,
        at_most=at_most,
        pictures=pictures,
        group_from=group_from,
        license_name=license_name,
        answers=Answers(foreground, classes, resize_masks),
        note=noted,
    )
    tell_run(done, out, monotonic() - begun)
    if as_json:
        say_json(asdict(done))
        return
    say_counts(done)
    say(f"validation Dice: {done.learned}")
    say(f"test, by image: {listed(done.metrics)}")
    if done.coco:
        say(f"test, COCO: {listed(done.coco, rounded)}")
    over = intervals_over(done.counts["test"]["groups"], done.unit, joined=bool(done.joined))
    say(f"{over}. Not a medical device.")
    say(f"license of the weights: {done.license}")
    say(f"look at it: {out / 'overlay.png'}")
