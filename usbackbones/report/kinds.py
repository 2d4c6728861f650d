"""Inputs of a report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from usbackbones.metrics.resampling import Ids
from usbackbones.report.markup import Markup, element, table


@dataclass(frozen=True)
class Section:
    """A part of a report under a heading of its own.

    Attributes:
        heading: of the part.
        body: its markup; text from outside goes through `markup.element`, which escapes it.
        note: a sentence on how to read it.
        shows_patients: it holds frames, or names of files or groups, and is left out of a report without pictures.
    """

    heading: str
    body: Markup
    note: str = ""
    shows_patients: bool = False


@dataclass(frozen=True)
class Predictions:
    """Frames that were evaluated.

    Attributes:
        classes: names of the C classes.
        label: int [N], the true class of each frame.
        probability: float [N, C], rows sum to 1.
        clip: [N], name of the clip or item that a frame is of.
        group: [N], name of the patient, or whatever was never divided.
        unit: what a group is, "patient" or "group"; "file" where nobody tells patients apart.
    """

    classes: Sequence[str]
    label: np.ndarray
    probability: np.ndarray
    clip: Ids
    group: Ids
    unit: str = "group"

    def __post_init__(self) -> None:
        _same_length(label=self.label, probability=self.probability, clip=self.clip, group=self.group)


@dataclass(frozen=True)
class Features:
    """Features of frames.

    Attributes:
        x: float [N, D].
        label: [N], name of the class of each frame; "" where it is not known.
        clip: [N], name of the clip.
        group: [N], name of the patient, clinic, or whatever was never divided.
        frame: gives frame number n as uint8 [H, W], for the galleries; None for none.
        unit: what a group is, "patient" or "group"; "file" where nobody tells patients apart.
    """

    x: np.ndarray
    label: Ids
    clip: Ids
    group: Ids
    frame: Callable[[int], np.ndarray] | None = None
    unit: str = "group"

    def __post_init__(self) -> None:
        _same_length(x=self.x, label=self.label, clip=self.clip, group=self.group)


@dataclass(frozen=True)
class Heat:
    """A frame and what the network looked at in it.

    Attributes:
        caption: clip, true class, prediction.
        frame: uint8 [H, W].
        heat: float [h, w], not negative; any size, it is stretched over the frame.
        how: the method, as "gradient x input".
    """

    caption: str
    frame: np.ndarray
    heat: np.ndarray
    how: str


def table_section(heading: str, header: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> Section:
    """A section that is a table; the first cell of a row is its name."""
    return Section(heading, table(header, rows, heading), note)


def picture_section(heading: str, pictures: Sequence[tuple[str, np.ndarray]], note: str = "") -> Section:
    """A section of frames with captions, uint8 [H, W] or [H, W, 3] each; left out of a report without pictures."""
    from usbackbones.report.images import figure

    return Section(heading, element("div", *(figure(*one) for one in pictures), class_="gallery"), note, True)


def _same_length(**arrays: Ids) -> None:
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"a report needs one entry a frame in each of these: {told}")
