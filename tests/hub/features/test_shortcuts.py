"""Features that are no medicine, of real files."""

import av
import numpy as np
import pytest
from PIL import Image

from usbackbones.clips.read import read_clip
from usbackbones.features.shortcuts import (
    RING,
    SIDE,
    border,
    container,
    encoded,
    geometry,
    histogram,
    inner,
    reduced,
    thumbnail,
)


@pytest.fixture(scope="module")
def frame():
    return np.random.default_rng(0).integers(0, 256, (96, 128), dtype=np.uint8)


def write_video(file, frame, codec, rate, count):
    with av.open(str(file), "w") as out:
        stream = out.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frame.shape, "yuv420p"
        for _ in range(count):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "gray").reformat(format="yuv420p")))
        out.mux(stream.encode())
    return file


def facts_of(file):
    return container(file, read_clip(file))


def test_a_container_tells_itself(tmp_path, frame):
    one = facts_of(write_video(tmp_path / "one.mp4", frame, "mpeg4", 20, 6))
    two = facts_of(write_video(tmp_path / "two.avi", frame, "mpeg4", 10, 4))
    assert (one["format"], one["codec"], one["frames"]) == ("mov", "mpeg4", 6)
    assert one["rate"] == pytest.approx(20)
    assert (two["format"], two["rate"], two["frames"]) == ("avi", pytest.approx(10), 4)
    assert two["bit rate"] == pytest.approx((tmp_path / "two.avi").stat().st_size * 8 / 0.4, rel=0.01)


def test_the_tables_of_a_jpeg_and_the_mode_of_a_png(tmp_path, frame):
    image = Image.fromarray(frame)
    for quality in (50, 90):
        image.save(tmp_path / f"{quality}.jpg", quality=quality)
    image.save(tmp_path / "again.jpg", quality=90)
    image.convert("RGB").save(tmp_path / "a.png")
    tables = {name: facts_of(tmp_path / f"{name}.jpg")["tables"] for name in ("50", "90", "again")}
    assert tables["90"] == tables["again"] != tables["50"]
    assert facts_of(tmp_path / "a.png") == {"frames": 1, "format": "PNG", "pixels": "RGB"}
    assert geometry(read_clip(tmp_path / "a.png")) == {"height": 96, "width": 128, "aspect": 128 / 96}
    assert container(tmp_path, read_clip(tmp_path))["format"] == "folder"


def test_facts_become_numbers_without_a_gap():
    facts = [{"a": "x", "n": 1.0}, {"a": "x", "n": 4.0}, {"a": "y"}, {"a": "z", "n": 2.0}]
    told = encoded(facts).T.tolist()
    assert told[0] == [0, 0, 1, 1]  # y and z are rare: other
    assert told[1] == [1, 1, 0, 0]
    assert told[2] == [1, 4, 2, 2]
    assert told[3] == pytest.approx(np.log([1, 4, 2, 2]))
    assert told[4] == [1, 1, 0, 1]
    assert encoded([{"a": "x"}, {"a": "x"}]).tolist() == [[0], [0]]


def test_border_and_inner_pixels(frame):
    small = reduced(frame)
    cells = frame.reshape(8, 12, 8, 16).mean((1, 3))
    assert thumbnail(frame) == pytest.approx(cells.ravel(), abs=1e-3)
    assert reduced(np.repeat(frame[:64, :64], 2, 0), 64) == pytest.approx(frame[:64, :64], abs=1e-3)
    assert thumbnail(np.full((80, 50), 7, np.uint8)).tolist() == [7] * 64
    assert len(border(small)) == len(inner(small)) == SIDE**2 - (SIDE - 2 * RING) ** 2
    painted = small.copy()
    painted[RING:-RING, RING:-RING] = 0
    assert (border(painted) == border(small)).all()
    assert (inner(painted) == 0).all()
    assert histogram(frame).sum() == pytest.approx(1)
    assert histogram(frame)[3] == pytest.approx(((frame >= 24) & (frame < 32)).mean())
