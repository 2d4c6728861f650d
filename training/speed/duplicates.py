"""Time the search for near-duplicates among many frames, and count the hidden ones that are found.

    OMP_NUM_THREADS=1 python -m training.speed.duplicates

The frames are simulated fans in clips of 20, turned and mixed at random, as alike as those of one scanner are; every
hundredth comes back in a clip of its own, mirrored, cropped by up to a tenth and compressed. The time is that of
fingerprints and search together, in one process: on the wall clock, and of the processor.
"""

import time

import cv2
import numpy as np
import tyro
from tqdm import tqdm

from usbackbones.data.near_duplicates import fingerprint, near_duplicates
from usbackbones.phantom.simulator import phantom_clip

_CLIP = 20  # frames


def mixed(seeds: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """A clip uint8 [20, S, S]: two simulated frames, each turned and scaled, mixed, and the mixture moved on."""
    size = seeds[0].shape[-1]
    still = np.zeros((size, size))
    for pick in rng.choice(len(seeds), 2, replace=False):
        turn = cv2.getRotationMatrix2D((size / 2, size / 2), rng.uniform(-25, 25), rng.uniform(0.9, 1.3))
        still += np.asarray(cv2.warpAffine(seeds[pick], turn, (size, size)), float) / 2
    moves = [np.array([[1, 0, 0.2 * step], [0, 1, 0.1 * step]]) for step in range(_CLIP)]
    return np.stack([cv2.warpAffine(still, move, (size, size)) for move in moves]).astype(np.uint8)


def copied(frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A frame uint8 [S, S] mirrored, cropped by up to a tenth of each side, and through JPEG, at its size again."""
    size = len(frame)
    side = round(size * rng.uniform(0.9, 1))
    top, left = rng.integers(0, size - side + 1, 2)
    cut = cv2.resize(frame[top : top + side, left : left + side][:, ::-1], (size, size), interpolation=cv2.INTER_AREA)
    compressed = cv2.imencode(".jpg", cut, [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
    return np.asarray(cv2.imdecode(compressed, cv2.IMREAD_GRAYSCALE))


def main(frames: int = 20_000, size: int = 224, seed: int = 0) -> None:
    """Print what was found and how long it took.

    Args:
        frames: how many there are.
        size: of a frame, pixels.
        seed: of the frames.
    """
    cv2.setNumThreads(1)
    rng = np.random.default_rng(seed)
    seeds = [frame for patient in range(20) for frame in phantom_clip(patient, frames=12, size=size)[::4]]
    clips = [mixed(seeds, rng) for _ in tqdm(range(round(frames / 1.01 / _CLIP)), desc="frames", unit="clip")]
    originals = np.concatenate(clips)
    places = np.arange(0, len(originals), 100)
    whole = np.concatenate([originals, [copied(originals[place], rng) for place in places]])
    groups = np.concatenate([np.arange(len(originals)) // _CLIP, -1 - np.arange(len(places))])
    wall, processor = time.perf_counter(), time.process_time()
    prints = fingerprint(whole)
    hashed = time.process_time() - processor
    pairs = near_duplicates(prints, groups.tolist())
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    found = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    hidden = sum((place, len(originals) + number) in found for number, place in enumerate(places.tolist()))
    print(  # noqa: T201
        f"{len(whole):,} frames of {size} px: {wall:.1f} s, of the processor {processor:.1f} s ({hashed:.1f} s of it "
        f"fingerprints), {hidden} of {len(places)} hidden copies found"
    )


if __name__ == "__main__":
    tyro.cli(main)
