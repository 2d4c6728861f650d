"""The frames of a manifest's row: of the clip that its path names, or of several stills that it joins by "|"."""

from dataclasses import replace

import numpy as np

from usbackbones.clips.read import Clip, ClipError, read_clip


def read_path(path: str, max_frames: int | None = None) -> Clip:
    """As `usbackbones.read_clip`, and stills joined by "|" are the frames of one clip that has no clock.

    Raises:
        ClipError: if a file cannot be read, or the stills differ in size.
    """
    first, *others = (read_clip(file, max_frames=max_frames) for file in path.split("|"))
    if not others:
        return first
    clips = [first, *others]
    if len({clip.frames.shape[1:] for clip in clips}) > 1:
        told = ", ".join(f"{clip.frames.shape[2]}x{clip.frames.shape[1]}" for clip in clips)
        raise ClipError(f"{path}: the stills of a clip have one size, and not {told}")
    warnings = tuple(line for clip in clips for line in clip.warnings)
    return replace(
        first, frames=np.concatenate([clip.frames for clip in clips]), seconds_per_frame=None, warnings=warnings
    )
