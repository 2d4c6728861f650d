"""The lung collection in miniature, and a network that is too small to wait for."""

import csv

import av
import numpy as np
import pytest
from PIL import Image

from training.benchmark.models import random_networks
from training.benchmark.tasks import lung_task
from training.data.locked_splits import locked_split

LABELS = ("covid", "bacterial_pneumonia", "regular")
SMALL = {"input_size": (3, 32, 32)}
QUICK = {"folds": 2, "repeats": 2, "resamples": 50}


def write_video(file, frames, rate):
    """A gif through Pillow, anything else through FFmpeg."""
    if file.suffix == ".gif":
        first, *rest = [Image.fromarray(frame) for frame in frames]
        first.save(file, save_all=True, append_images=rest, duration=1000 // rate)
        return
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width = frames[0].shape
        stream.pix_fmt, stream.bit_rate = "yuv420p", 2_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode())


def stripes(label, rng, count):
    """Noisy frames [count, 48, 64] whose stripes tell the class: lying, standing or none."""
    rows, columns = np.mgrid[:48, :64]
    pattern = (np.sin(rows), np.sin(columns), np.zeros((48, 64)))[label]
    return [(128 + 60 * pattern + 25 * rng.normal(size=(48, 64))).clip(0, 255).astype(np.uint8) for _ in range(count)]


def write_table(root, records):
    with (root / "pocus_lung" / "groups.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "kind", "label", "label_uncertain", "licence", "group"])
        writer.writerows(records)


@pytest.fixture(scope="session")
def mini(tmp_path_factory):
    """4 pretraining and 2 test groups a class, and rows that must be left out."""
    root = tmp_path_factory.mktemp("data")
    videos = root / "pocus_lung" / "pocus_videos"
    videos.mkdir(parents=True)
    split, rng, records = locked_split("pocus_lung"), np.random.default_rng(0), []

    def add(group, label, suffix, count, rate):
        file = videos / f"{len(records)}_{LABELS[label]}{suffix}"
        write_video(file, stripes(label, rng, count), rate)
        records.append([f"pocus_videos/{file.name}", "video", LABELS[label], "0", "CC BY 4.0", group])

    for number in range(12):
        add(split["pretrain"][number], number % 3, (".mp4", ".gif")[number % 2], 12, 5)
    for number in range(6):
        add(split["test"][number], number % 3, ".avi", 12, 5)
    add(split["pretrain"][0], 2, ".mp4", 55, 5)  # a group of two labels, a clip of 11 s
    records.append(["pocus_videos/absent.mp4", "video", "viral_pneumonia", "0", "CC BY 4.0", "g1"])
    records.append(["pocus_videos/absent.mp4", "video", "covid", "1", "CC BY 4.0", "g2"])
    records.append(["pocus_videos/absent.png", "image", "covid", "0", "CC BY 4.0", "g3"])
    write_table(root, records)
    return root


@pytest.fixture(scope="session")
def task(mini, tmp_path_factory):
    return lung_task(mini, tmp_path_factory.mktemp("frames"))


@pytest.fixture(scope="session")
def network():
    return random_networks("resnet18", 1, **SMALL)[0]
