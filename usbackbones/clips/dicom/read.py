"""DICOM ultrasound, single- and multi-frame, of every photometric interpretation that the standard allows it.

The steps, a file each: `header` reads up to the pixels, `regions` finds the B-mode part of the screen, `frames` cuts
the pixel data into frames, `decode` undoes their compression, `samples` puts these together, `header_faults` mends what
the header got wrong, and `gray` shows them.
"""

from contextlib import closing

import numpy as np

from usbackbones.clips.dicom.gray import Shade
from usbackbones.clips.dicom.header import Header, read_clock, read_header
from usbackbones.clips.dicom.identity import identify
from usbackbones.clips.dicom.pixels import read_picture
from usbackbones.clips.dicom.regions import pixel_spacing, read_layout
from usbackbones.clips.dicom.samples import Sampled, sampled_frames
from usbackbones.clips.formats.base import ClipError, Facts, Frames, Reading, Request
from usbackbones.clips.formats.watch import Watch


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
            yield view.show(frame), clock(index)
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
    """What is shown of every frame of a file, settled at its first one."""

    def __init__(self, request: Request, header: Header, facts: Facts, first: Sampled) -> None:
        self._watch, path = Watch(request, facts), request.path
        layout = read_layout(header.dataset, first.samples.shape[:2])
        for note in layout.notes:
            request.warn(f"{path}: {note}")
        try:
            self._shade = Shade(header.dataset, first.picture, header.little)
        except ValueError as error:
            raise ClipError(f"{path}: {error}; export it again") from None
        top, left, bottom, right = layout.tissue.box if layout.tissue else (0, 0, *first.samples.shape[:2])
        self._region = (slice(top, bottom), slice(left, right))
        self._crop = request.crop
        self._stored = request.stored and first.picture.photometric == "MONOCHROME2"
        facts.spacing_mm = (layout.tissue and layout.tissue.spacing_mm) or pixel_spacing(header.dataset)
        if layout.color:
            self._watch.tell_color("color Doppler (the header names a region of color flow)")

    def show(self, frame: Sampled) -> np.ndarray:
        """The frame in gray, uint8 [H, W], or in its numbers; cut to the B-mode region where that is wanted."""
        region = frame.samples[self._region]
        if self._stored:
            return self._shade.numbers(region if self._crop else frame.samples)
        if not self._watch.facts.color and self._shade.is_color(region, frame.luminance):
            self._watch.tell_color("color Doppler (its pixels are vivid)")
        return self._shade.gray(region if self._crop else frame.samples, frame.luminance)
