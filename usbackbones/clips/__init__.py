"""From a path to gray frames: videos, DICOM, volumes, arrays, stills, and folders or zips of stills."""

from usbackbones.clips.find import find_clips
from usbackbones.clips.formats.base import ClipError
from usbackbones.clips.read import Clip, iter_frames, read_clip

__all__ = ["Clip", "ClipError", "find_clips", "iter_frames", "read_clip"]
