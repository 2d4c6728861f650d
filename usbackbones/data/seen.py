"""The clips that a model was trained on, as sums of files and fingerprints of frames, to know them again."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from usbackbones._files import atomic_write
from usbackbones.data.near_duplicates import fingerprint, near_duplicates_between

FILE = "seen.safetensors"


class Seen:
    """What a model has seen in training and validation.

    Attributes:
        sums: sha256 of its files, 32 bytes each.
        prints: fingerprints of its frames, uint64 [N, 19, 4]; no image can be made of them.
    """

    def __init__(self, sums: Iterable[bytes], prints: np.ndarray) -> None:
        self.sums, self.prints = set(sums), prints

    def has(self, path: Path, frame: np.ndarray) -> bool:
        """Whether a clip was seen: its file to the byte, or a near-duplicate of one of its frames, uint8 [H, W]."""
        if path.is_file() and _sum_of(path) in self.sums:
            return True
        return len(self.prints) > 0 and len(near_duplicates_between(fingerprint(frame[None]), self.prints).first) > 0


def write_seen(folder: Path, files: Iterable[Path], frames: Iterable[np.ndarray]) -> None:
    """Write what was trained on into a model's folder: clips of the training and validation parts, and their frames.

    Folders of stills count by their frames, uint8 [H, W] each, alone.
    """
    sums = sorted({_sum_of(file) for file in files if file.is_file()})
    prints = [fingerprint(frame[None]) for frame in frames]
    content = {
        "sums": np.frombuffer(b"".join(sums), np.uint8).reshape(-1, 32),
        "prints": np.concatenate(prints) if prints else np.zeros((0, 19, 4), np.uint64),
    }
    with atomic_write(folder / FILE) as stream:
        stream.write(save(content))


def read_seen(folder: Path) -> Seen | None:
    """What the model of a folder was trained on; None where the folder does not say."""
    if not (folder / FILE).is_file():
        return None
    content = load_file(folder / FILE)
    return Seen((row.tobytes() for row in content["sums"]), content["prints"])


def _sum_of(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
