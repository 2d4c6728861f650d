"""When each frame of a DICOM cine was taken, by its header."""

from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING

from usbackbones.clips.dicom.header import number, numbers

if TYPE_CHECKING:
    from pydicom import Dataset

Clock = Callable[[int], float | None]
"""The time of a frame in seconds, by its number; None where the header does not tell."""


def read_clock(dataset: "Dataset") -> tuple[Clock, str | None]:
    """The clock, and what is wrong with it.

    It is, in this order: Frame Time (0018,1063), milliseconds; Frame Time Vector (0018,1065), the milliseconds since
    the frame before; Cine Rate (0018,0040) and Recommended Display Frame Rate (0008,2144), frames a second.
    """
    step, vector = number(dataset, "FrameTime"), numbers(dataset, "FrameTimeVector")
    rate = number(dataset, "CineRate") or number(dataset, "RecommendedDisplayFrameRate")
    fault = None
    if step and rate and step > 0 and not 0.9 < step * rate / 1000 < 1.1:
        fault = f"frame times disagree, {step:g} ms a frame and {rate:g} frames a second; the first was taken"
    if step and step > 0:
        return lambda index: index * step / 1000, fault
    if len(vector) > 1 and min(vector) >= 0 and max(vector) > 0:
        times = list(accumulate(vector))
        return lambda index: times[index] / 1000 if index < len(times) else None, None
    if rate and rate > 0:
        return lambda index: index / rate, None
    return lambda index: None, None
