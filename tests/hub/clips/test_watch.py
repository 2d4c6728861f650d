"""What gray frames hide is told, whatever reads them: color Doppler, and 16-bit pixels that hold fewer bits."""

import shutil

import numpy as np
import pytest
from PIL import Image

from tests.hub.clips.dicom.dicom_files import doppler, speckle
from tests.hub.clips.test_read import write_gif, write_video
from usbackbones.clips.read import read_clip


def test_16_bit_pixels_that_use_little_of_their_range_are_told_once(tmp_path):
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    for number, deep in enumerate((ramp, ramp, ramp * 16, ramp * 0)):
        Image.fromarray(deep).save(tmp_path / f"{number}.png")
    clip = read_clip(tmp_path)
    assert clip.frames[0].max() == 15 and clip.frames[2].max() == 255
    assert len(clip.warnings) == 1 and "0.png: its 16-bit pixels reach only 4095 of 65535" in clip.warnings[0]
    assert read_clip(tmp_path / "2.png").warnings == read_clip(tmp_path / "3.png").warnings == ()


def write_picture(folder, kind, pictures):
    """RGB pictures uint8 [T, H, W, 3] as one clip of a kind."""
    path = folder / f"clip.{kind}"
    if kind in ("folder", "zip"):
        path = folder / "stills" if kind == "folder" else path
        (folder / "stills").mkdir()
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / "stills" / f"{number}.png")
        if kind == "zip":
            shutil.make_archive(str(path.with_suffix("")), "zip", folder / "stills")
    elif kind == "npy":
        np.save(path, pictures)
    elif kind in ("gif", "tif"):
        write_gif(path, pictures)
    else:
        codec, layout = {"mp4": ("libx264", "yuv420p"), "mkv": ("ffv1", "bgr0"), "avi": ("mjpeg", "yuvj420p")}[kind]
        write_video(path, pictures, codec, layout)
    return path


@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi", "gif", "tif", "folder", "zip", "npy"])
def test_color_doppler_is_told_by_every_reader(tmp_path, kind):
    """The rule of DICOM's: vivid pixels are color, a tint and a small mark are not; only frames returned count."""
    gray = np.repeat(speckle(6)[..., None], 3, -1)
    tinted = (gray * np.array([1, 0.88, 0.72])).astype(np.uint8)
    tinted[:, :3, :4] = (0, 255, 0)
    late = np.concatenate([gray[:3], doppler(3)])
    for name, pictures, color in (("gray", gray, False), ("tinted", tinted, False), ("late", late, True)):
        (tmp_path / name).mkdir()
        path = write_picture(tmp_path / name, kind, pictures)
        clip = read_clip(path)
        assert clip.color is color and len(clip.warnings) == color, name
        assert not color or f"{path}: holds color Doppler, or other color" in clip.warnings[0]
        assert read_clip(path, max_frames=3).color is False
