"""One look at all images and masks of a set before anything is trained: frames, sizes, values, what does not fit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from usbackbones._words import plural
from usbackbones.clips.files import shortened
from usbackbones.clips.read import ClipError
from usbackbones.clips.region import Box, region_of
from usbackbones.clips.stored import run_alike
from usbackbones.data.item import DataError, Note
from usbackbones.segmentation.mask_meaning import decide
from usbackbones.segmentation.mask_values import Seen, only_alpha, values_of
from usbackbones.segmentation.masked import Masked, clip_of, mask_frames

_MOST = 20
"""Masks that a refusal names one by one."""


@dataclass(frozen=True)
class Answers:
    """What a person says of masks that do not speak for themselves.

    Attributes:
        foreground: values that are one foreground, as "1,2".
        classes: names with a value each, as "nerve=1,artery=2".
        resize_masks: "nearest" brings masks to the size of their images.
    """

    foreground: str = ""
    classes: str = ""
    resize_masks: Literal["", "nearest"] = ""


def look_at(items: Sequence[Masked], answers: Answers, note: Note, progress: bool = False) -> list[Masked]:
    """The items, one a file, frame by frame, with the meaning of their masks.

    `note` gets lines to show: frames, the meaning of the masks, what cannot be read.

    Raises:
        DataError: if masks do not fit their images, or nobody can know what they mean.
    """
    from tqdm import tqdm

    seen, found, broken, turned = Seen(), list[Masked](), list[str](), list[str]()
    frames, sizes = list[str](), list[str]()
    for item in tqdm(items, "looking", unit="file", disable=not progress):
        try:
            shape, count = clip_of(item.path).frames.shape[1:], len(clip_of(item.path).frames)
            turned += [f"{file.name} of {item.path.name}" for file in item.masks if not run_alike(item.path, file)]
            box = _count_values(item, shape, count, seen, (frames, sizes))
        except ClipError as error:
            broken.append(str(error))
            continue
        found.append(replace(item, frames=count, box=box, resize=bool(answers.resize_masks)))
    if turned:
        raise DataError(
            f"{plural(len(turned), 'mask')} whose axes run another way in space than those of their image: "
            f"{_listed(turned)}; save the mask on the grid of its image, with its affine or TransformMatrix"
        )
    if frames:
        raise DataError(f"{plural(len(frames), 'mask')} without one frame for each of their image: {_listed(frames)}")
    if sizes and not answers.resize_masks:
        raise DataError(
            f"{plural(len(sizes), 'mask')} of another size than their image: {_listed(sizes)}; draw them on the image, "
            "or --resize-masks nearest brings them to its size"
        )
    if not found:
        raise DataError(f"none of {plural(len(items), 'image')} could be read with its masks; the first: {broken[0]}")
    if seen.alpha:  # then transparency is the mask in every file, also where a file alone would not show it
        seen = Seen(alpha=True)
        for item in found:
            for stored in (stored for file in item.masks for stored in mask_frames(file)):
                seen.look(values_of(stored, alpha=True), stored.lossy, stored.palette)
    meaning, told = decide(seen, answers.foreground, answers.classes)
    whole = [replace(item, meaning=meaning, frame=frame) for item in found for frame in range(item.frames)]
    if len(whole) > len(found):
        note(f"{plural(len(whole), 'frame')} of {plural(len(found), 'file')}")
    note(told)
    if sizes:
        note(
            f"{plural(len(sizes), 'mask')} brought to the size of their image by nearest neighbors: {shortened(sizes)}"
        )
    if broken:
        note(f"left out {plural(len(broken), 'image')} that could not be read with their masks: {shortened(broken)}")
    return whole


def _count_values(
    item: Masked, shape: tuple[int, ...], count: int, seen: Seen, faults: tuple[list[str], list[str]]
) -> Box | None:
    """Look at the masks of an image of a shape and a number of frames; the region of the screen that it is, if any."""
    box = None
    for file in item.masks:
        stored = mask_frames(file)
        if len(stored) != count:
            faults[0].append(f"{item.path.name} has {count}, {file.name} {len(stored)}")
            continue
        for one in stored:
            try:
                values = values_of(one)
                seen.look(values, one.lossy, one.palette)
            except DataError as error:
                raise DataError(f"{file}: {error}") from error
            seen.alpha = seen.alpha or only_alpha(one)
        if values.shape != shape:
            region = region_of(item.path)
            if region and region[0] == values.shape:
                box = region[1]
            else:
                faults[1].append(f"{file.name} {_size(values.shape)}, image {_size(shape)}")
    return box


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}x{shape[1]}"


def _listed(faults: Sequence[str]) -> str:
    return "; ".join(faults[:_MOST]) + f" and {len(faults) - _MOST} more" * (len(faults) > _MOST)
