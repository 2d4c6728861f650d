"""Zipped folders of stills: read in natural order, without extracting; bombs and tricks are refused."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.hub.clips.dicom.dicom_files import speckle
from usbackbones.clips import ClipError, find_clips, iter_frames, read_clip


def png(frame):
    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, "PNG")
    return stream.getvalue()


def write_zip(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("folder", ["", "clip/"])
def test_stills_in_natural_order(tmp_path, folder):
    frames = speckle(12)
    members = {f"{folder}Frame{i}.png": png(frames[i]) for i in (10, 2, 0, 1, 11, 3, 9, 4, 8, 5, 7, 6)}
    path = write_zip(tmp_path / "clip.zip", members)
    clip = read_clip(path)
    assert np.array_equal(clip.frames, frames)
    assert clip.warnings == ()
    assert np.array_equal(read_clip(path, stride=5, max_frames=2).frames, frames[[0, 5]])
    assert np.array_equal(np.stack(list(iter_frames(path))), frames)
    assert [entry.name for entry in tmp_path.iterdir()] == ["clip.zip"]  # nothing was extracted


def test_what_is_no_still_is_left_out_by_name(tmp_path):
    frames = speckle(3)
    members = {f"{i}.png": png(frames[i]) for i in range(3)}
    members |= {
        "notes.txt": b"a note",
        "__MACOSX/._0.png": b"Mac",
        ".DS_Store": b"x",
        "broken.png": png(frames[0])[:99],
    }
    clip = read_clip(write_zip(tmp_path / "clip.zip", members))
    assert np.array_equal(clip.frames, frames)
    assert len(clip.warnings) == 2
    assert "left out 1 file, not of stills: notes.txt" in clip.warnings[0]
    assert "broken.png" in clip.warnings[1]


def refused(path, *parts):
    with pytest.raises(ClipError) as error:
        read_clip(path)
    assert "\n" not in str(error.value)
    for part in (str(path), ";", *parts):
        assert part in str(error.value)


def test_what_is_refused(tmp_path):
    still = png(speckle(1)[0])
    refused(write_zip(tmp_path / "a.zip", {"a/0.png": still, "b/0.png": still}), "2 folders of one zip")
    refused(write_zip(tmp_path / "b.zip", {"notes.txt": b"a note"}), "without images", "notes.txt")
    refused(write_zip(tmp_path / "c.zip", {"a.png": still[:60]}), "without readable images")
    for number, name in enumerate(("../0.png", "a/../../0.png", "/0.png", "..\\0.png", "C:/0.png")):
        path = write_zip(tmp_path / f"trick{number}.zip", {"0.png": still, name: still})
        refused(path, "points outside")
    path = write_zip(tmp_path / "locked.zip", {"0.png": still})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    refused(path, "encrypted")
    path.write_bytes(path.read_bytes()[:100])
    refused(path, "broken zip")


def test_bombs_are_refused_before_they_inflate(tmp_path):
    bomb = write_zip(tmp_path / "bomb.zip", {"0.bmp": b"BM" + bytes(100_000_000)})
    assert bomb.stat().st_size < 200_000
    refused(bomb, "refused", "inflate", "95 MB")
    # One that promises a small size inflates no further than that.
    content = bytearray(bomb.read_bytes())
    for mark, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        place = content.index(mark) + offset
        content[place : place + 4] = (1000).to_bytes(4, "little")
    bomb.write_bytes(content)
    refused(bomb, "images")


def test_zips_of_stills_are_found_and_documents_are_not(tmp_path):
    still = png(speckle(1)[0])
    clip = write_zip(tmp_path / "clip without a suffix", {"0.png": still})
    write_zip(tmp_path / "slides.pptx", {"[Content_Types].xml": b"<x/>", "media/0.png": still})
    np.savez(tmp_path / "features.npz", features=np.zeros((3, 4)))
    assert find_clips(tmp_path) == [clip]


def test_a_zip_that_is_no_clip_is_found_so_that_its_fault_is_told(tmp_path):
    clip = write_zip(tmp_path / "clip.zip", {"0.png": png(speckle(1)[0])})
    cut, texts, zeros = (tmp_path / f"{name}.zip" for name in ("cut", "texts", "zeros"))
    cut.write_bytes(clip.read_bytes()[:-30])
    write_zip(texts, {"notes.txt": b"a note"})
    zeros.write_bytes(bytes(500))
    assert find_clips(tmp_path) == [clip, cut, texts, zeros]
    refused(cut, "broken zip")
    refused(texts, "without images", "notes.txt")
    refused(zeros, "no format that is known here")
