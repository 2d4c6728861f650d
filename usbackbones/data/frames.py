"""Frames of labelled clips, decoded once into a file."""

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from usbackbones._evenly import evenly
from usbackbones._words import plural
from usbackbones.clips.cleaned import cleaned, why_not
from usbackbones.clips.read import Clip, ClipError, read_clip
from usbackbones.data.item import DataError, Item


class FrameFile:
    """Frames of many sizes in one file, so that memory follows the batch and not the data."""

    def __init__(self, file: Path, longest: int) -> None:
        """Begin a file of frames none of whose sides is longer than `longest` pixels; read them after `close`."""
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._longest = file, longest
        self._places: list[tuple[int, int, int]] = []  # where a frame begins, and its height and width
        self._stream = file.open("wb")

    def add(self, frame: np.ndarray) -> None:
        """Append a frame uint8 [H, W]."""
        small = _within(frame, self._longest)
        self._places.append((self._stream.tell(), *small.shape))
        self._stream.write(small.tobytes())

    def close(self) -> None:
        """No more frames come."""
        self._stream.close()
        self._bytes = np.memmap(self._file, np.uint8, "r") if self._places else np.empty(0, np.uint8)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, row: int) -> np.ndarray:
        """A frame, uint8 [H, W]."""
        start, height, width = self._places[row]
        return self._bytes[start : start + height * width].reshape(height, width)


class Frames:
    """A few frames of every item, decoded once into a file, so that memory follows the batch and not the data.

    Frames keep their size, so that a network sees what its own transform makes of them; only a side beyond `longest` is
    reduced, to bound the file.

    Attributes:
        item: int [N], the item that a frame is of.
        skipped: what could not be read, one line each.
        warned: warnings of clips that were read, one line each.
    """

    def __init__(
        self,
        items: Sequence[Item],
        file: Path,
        per_clip: int,
        longest: int = 512,
        progress: bool = True,
        seen: Callable[[int, Clip], object] | None = None,
        clean: bool = False,
    ) -> None:
        """Read the items.

        Args:
            items: to read, in order.
            file: that the frames are written to.
            per_clip: frames of each, evenly spread.
            longest: side in pixels that none is longer than.
            progress: show a bar.
            seen: gets the number of each item that was read and its whole clip, for whoever needs more than its frames.
            clean: cut each clip to its sector and black text and calipers out, see `clips.cleaned`.

        Raises:
            DataError: if nothing can be read, or nothing be cleaned here.
        """
        from tqdm import tqdm

        if clean and (reason := why_not()):
            raise DataError(reason)
        self.skipped: list[str] = []
        self.warned: list[str] = []
        owners: list[int] = []
        self._kept = FrameFile(file, longest)
        with closing(self._kept):
            for number, item in enumerate(tqdm(items, "reading", unit="clip", disable=not progress)):
                try:
                    clip = read_clip(item.path)
                except ClipError as error:
                    self.skipped.append(str(error))
                    continue
                frames = cleaned(clip.frames) if clean else clip.frames
                if seen:
                    seen(number, clip)
                for warning in clip.warnings[:1]:
                    self.warned.append(warning if str(item.path) in warning else f"{item.path}: {warning}")
                for frame in frames[evenly(len(frames), per_clip)]:
                    self._kept.add(frame)
                    owners.append(number)
        if not owners:
            raise DataError(f"none of {plural(len(items), 'clip')} could be read; the first: {self.skipped[0]}")
        self.item = np.array(owners)

    def told_warnings(self) -> str:
        """A line about clips that were read with a warning; "" where there are none."""
        clips = plural(len(self.warned), "clip")
        return f"{clips} read with a warning, as {self.warned[0]}" if self.warned else ""

    def __getitem__(self, row: int) -> np.ndarray:
        """A frame, uint8 [H, W]."""
        return self._kept[row]


def _within(frame: np.ndarray, longest: int) -> np.ndarray:
    """The frame [H, W], reduced if a side is longer than `longest`."""
    from PIL import Image

    scale = longest / max(frame.shape)
    if scale >= 1:
        return frame
    height, width = (max(1, round(side * scale)) for side in frame.shape)
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))
