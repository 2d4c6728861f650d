"""DICOM ultrasound, single- and multi-frame, of every photometric interpretation that the standard allows it.

The steps, a file each: `header` reads up to the pixels, `window` has what it keeps by frame, `regions` finds
the B-mode part of the screen, `frames` cuts the pixel data into frames, `decode` undoes their compression, `samples`
puts these together, `header_faults` mends what the header got wrong, and `gray` shows them.
"""

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from usbackbones.clips.dicom.gray import Shade
from usbackbones.clips.dicom.header import Header, read_clock, read_header
from usbackbones.clips.dicom.identity import identify
from usbackbones.clips.dicom.pixels import read_picture
from usbackbones.clips.dicom.regions import pixel_spacing, read_layout
from usbackbones.clips.dicom.samples import Sampled, sampled_frames
from usbackbones.clips.dicom.window import FunctionalGroups
from usbackbones.clips.formats.base import ClipError, Facts, Frames, Reading, Request
from usbackbones.clips.formats.watch import Watch

if TYPE_CHECKING:
    from pydicom import Dataset


def open_dicom(request: Request, form: str) -> Reading:
    """Open a DICOM file; `form` is "bare" for one without its preamble.

    Raises:
        ClipError: if it has no pixels, or its header cannot be followed to them.
    """
    header, facts = read_header(request.path, form == "bare"), Facts()
    if request.identify:
        identify(header.dataset, request, facts)
    return Reading(_frames(request, header, facts), facts)


def _frames(request: Request, header: Header, facts: Facts) -> Frames:
    path, picture = request.path, read_picture(header.dataset)
    clock, fault = read_clock(header.dataset)
    if fault:
        request.warn(f"{path}: {fault}")
    there = good = asked = 0
    view: _View | None = None
    with closing(sampled_frames(request, header, picture)) as frames:
        for index, frame in enumerate(frames):
            there, asked = index + 1, asked + (index % request.stride == 0)
            if frame is None:
                continue
            view = view or _View(request, header, facts, frame)
            good += 1
            yield view.show(frame, index), clock(index)
    promised = picture.frames or 1
    if not good:
        found = f"none of {there} frames can be decoded" if there else "its pixel data end before the first frame does"
        raise ClipError(f"{path}: a damaged DICOM file, {found}; export it again")
    if good < asked:
        request.warn(f"{path}: damaged, {asked - good} of {asked} frames cannot be decoded and were left out")
    if there < promised:
        request.warn(f"{path}: cut short, or the header is wrong: {there} frames are there, {promised} are promised")
    elif there > promised:
        request.warn(f"{path}: the header promises {promised} frames, {there} are there and were read")


class _View:
    """What is shown of every frame of a file, settled at its first one but for windows that each frame has."""

    def __init__(self, request: Request, header: Header, facts: Facts, first: Sampled) -> None:
        self._watch, self._path, self._little = Watch(request, facts), request.path, header.little
        self._picture, self._groups = first.picture, FunctionalGroups(header.dataset)
        self._shade: tuple[Dataset, Shade] | None = None
        layout, promised = read_layout(header.dataset, first.samples.shape[:2]), first.picture.frames or 1
        for note in layout.notes:
            request.warn(f"{self._path}: {note}")
        if self._groups.count not in (0, promised):
            request.warn(
                f"{self._path}: {self._groups.count} frames have functional groups, {promised} are promised; those "
                "without one have the window and the spacing that all frames share"
            )
        facts.spacing_mm = layout.tissue.spacing_mm if layout.tissue else None
        spacings = set() if facts.spacing_mm else self._groups.spacings(promised)
        facts.spacing_mm = facts.spacing_mm or pixel_spacing(spacings)
        if len(spacings) > 1:
            request.warn(f"{self._path}: the size of a pixel differs between frames, so that none is told")
        top, left, bottom, right = layout.tissue.box if layout.tissue else (0, 0, *first.samples.shape[:2])
        self._region = (slice(top, bottom), slice(left, right))
        self._crop = request.crop
        self._stored = request.stored and first.picture.photometric == "MONOCHROME2"
        if layout.color:
            self._watch.tell_color("color Doppler (the header names a region of color flow)")

    def show(self, frame: Sampled, index: int) -> np.ndarray:
        """The frame in gray, uint8 [H, W], or in its numbers; cut to the B-mode region where that is wanted."""
        shade, region = self._shade_of(index), frame.samples[self._region]
        taken = region if self._crop else frame.samples
        if self._stored:
            return shade.numbers(taken)
        if not self._watch.facts.color and shade.is_color(region, frame.luminance):
            self._watch.tell_color("color Doppler (its pixels are vivid)")
        gray = shade.gray(taken, frame.luminance)
        if shade.guessed:
            self._watch.measure_guess(*shade.values(taken), gray)
        return gray

    def _shade_of(self, index: int) -> Shade:
        """The shade of a frame, computed only where its window is another than that of the frame before."""
        header = self._groups.header(index)
        if self._shade and (header is self._shade[0] or self._shade[1].palette is not None):
            return self._shade[1]
        try:
            shade = Shade(header, self._picture, self._little)
        except ValueError as error:
            raise ClipError(f"{self._path}: {error}; export it again") from None
        self._shade = header, shade
        return shade
