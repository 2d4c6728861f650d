"""Folders: stills as the frames of a clip, and finding the clips below a folder."""

import sys

import numpy as np
import pytest
from PIL import Image

from tests.hub.clips.test_read import moving, one_line_about, write_gif, write_kind
from usbackbones.clips import ClipError, find_clips, read_clip


def save_stills(folder, names, frames):
    folder.mkdir(exist_ok=True)
    for name, frame in zip(names, frames, strict=True):
        Image.fromarray(frame).save(folder / name)


def test_a_folder_of_stills_is_in_natural_order(tmp_path):
    frames = moving(12)
    order = [10, 2, 0, 1, 11, 3, 9, 4, 8, 5, 7, 6]
    save_stills(tmp_path / "clip", [f"Frame{i}.png" for i in order], frames[order])
    clip = read_clip(tmp_path / "clip")
    assert np.array_equal(clip.frames, frames)
    assert clip.warnings == ()
    assert clip.seconds_per_frame is None


def test_natural_order_of_names_that_mix_letters_and_digits(tmp_path):
    names = ["1.png", "2a.png", "10.png", "a.png", "A1b2.png", "a1b10.png", "a2.png", "b٣.png"]
    save_stills(tmp_path / "clip", names[::-1], moving(len(names)))
    assert np.array_equal(read_clip(tmp_path / "clip").frames, moving(len(names))[::-1])


def test_stride_in_a_folder_counts_files(tmp_path):
    frames = moving(7)
    save_stills(tmp_path / "clip", [f"{i}.png" for i in range(7)], frames)
    assert np.array_equal(read_clip(tmp_path / "clip", stride=3).frames, frames[::3])


def test_a_folder_with_other_things_warns_and_goes_on(tmp_path):
    frames = moving(4)
    folder = tmp_path / "clip"
    save_stills(folder, ["0.png", "1.png", "2.jpg", "3.png"], frames)
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:200])
    (folder / "notes.txt").write_text("a note")
    (folder / ".hidden").write_text("not looked at")
    clip = read_clip(folder)
    assert clip.frames.shape == (3, 96, 112)
    assert len(clip.warnings) == 2
    assert "1.png" in clip.warnings[0]
    assert "notes.txt" in clip.warnings[1]


def test_frames_of_different_sizes_are_refused(tmp_path):
    folder = tmp_path / "clip"
    save_stills(folder, ["0.png", "1.png"], [np.zeros((20, 30), np.uint8), np.zeros((21, 30), np.uint8)])
    with pytest.raises(ClipError) as error:
        read_clip(folder)
    assert one_line_about(error, folder, "30x20", "30x21", "one by one")


@pytest.mark.parametrize("content", ["nothing", "text", "broken image", "video"])
def test_a_folder_without_images(tmp_path, content):
    folder = tmp_path / "clip"
    folder.mkdir()
    if content == "text":
        (folder / "notes.txt").write_text("a note")
    elif content == "broken image":
        (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    elif content == "video":
        write_kind(folder, "mp4", moving(3))
    with pytest.raises(ClipError) as error:
        read_clip(folder)
    names = {"nothing": "nothing", "text": "notes.txt", "broken image": "broken", "video": "clip.mp4"}
    assert one_line_about(error, folder, "without readable images", names[content])


def test_find_clips(tmp_path):
    frames = moving(3)
    save_stills(tmp_path / "a10", ["0.png", "1.png"], frames[:2])
    save_stills(tmp_path / "a9", ["0.png", "1.png"], frames[:2])
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    video = write_kind(tmp_path / "deep" / "deeper", "mp4", frames)
    gif = write_gif(tmp_path / "deep" / "b.gif", frames)
    disguised = tmp_path / "video without a suffix"
    disguised.write_bytes(video.read_bytes())
    liar = tmp_path / "liar.mp4"
    liar.write_text("no video")
    (tmp_path / "groups.csv").write_text("passed,over\n")
    expected = [tmp_path / "a9", tmp_path / "a10", gif, video, liar, disguised]
    assert find_clips(tmp_path) == expected
    assert find_clips(video) == [video]
    (tmp_path / "void").mkdir()
    with pytest.raises(ClipError, match="a folder without clips"):
        find_clips(tmp_path / "void")


def test_arrays_below_a_folder_are_named(tmp_path):
    for name in ("a.npy", "deep/b.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.save(tmp_path / name, moving(3)[0])
    with pytest.raises(ClipError, match=r"without clips but 2 NumPy files, .*: give by name a\.npy, deep/b\.npy"):
        find_clips(tmp_path)
    video, notes = write_kind(tmp_path / "deep", "mp4", moving(3)), []
    assert find_clips(tmp_path, notes.append) == [video]
    assert len(notes) == 1 and notes[0].startswith("passed over 2 NumPy files in ") and "a.npy, deep/b.npy" in notes[0]
    assert find_clips(tmp_path / "a.npy", notes.append) == [tmp_path / "a.npy"] and len(notes) == 1


def test_masks_and_other_files_below_a_folder_are_counted_and_named(tmp_path):
    save_stills(tmp_path / "a", ["x.png", "x_mask.png"], moving(2))
    video = write_kind(tmp_path, "mp4", moving(3))
    (tmp_path / "c.mhd").write_text("ObjectType = Image\nNDims = 3\nElementDataFile = c.raw\n")
    for litter in ("c.raw", ".hidden", "Thumbs.db"):
        (tmp_path / litter).write_bytes(b"\0" * 9)
    (tmp_path / "notes.txt").write_text("of the clinic")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "labels.csv").write_text("path,label\n")
    notes = []
    assert set(find_clips(tmp_path, notes.append)) == {tmp_path / "a", video, tmp_path / "c.mhd"}
    assert notes == [
        f"passed over 1 file in {tmp_path}, masks of their neighbors: a/x_mask.png",
        f"passed over 2 files in {tmp_path}, no clips: deep/labels.csv, notes.txt",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="only there is a file that not even root can read")
def test_a_file_that_cannot_be_opened_is_found_so_that_its_fault_is_told(tmp_path):
    (tmp_path / "notes").write_text("passed over")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "scan").symlink_to("/proc/self/mem")
    assert find_clips(tmp_path) == [tmp_path / "scan"]
    with pytest.raises(ClipError, match="scan: cannot be opened"):
        read_clip(tmp_path / "scan")
