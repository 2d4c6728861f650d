"""Stills that Pillow opens and does not show rightly: transparency, stand-ins of animations, masks of odd layouts."""

import numpy as np
import pytest
from PIL import Image

from tests.hub.clips.formats.stills_cells import TIFFS
from tests.hub.clips.formats.stills_files import write_tiff
from usbackbones.clips import ClipError, read_clip
from usbackbones.clips.formats.upright import TURNS, upright
from usbackbones.clips.stored import stored_frames

GRAY = np.random.default_rng(0).integers(0, 256, (2, 6, 9), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_transparency_is_told_once_and_only_where_there_is_some(tmp_path, mode):
    clear = np.full(GRAY.shape[1:], 255, np.uint8)
    for clear[0, 0], told in ((255, False), (254, True)):
        image = Image.fromarray(np.stack([GRAY[0], GRAY[0], GRAY[0], clear], -1), "RGBA")
        if mode == "P":
            image = Image.fromarray(GRAY[0]).convert("P")
            image.info["transparency"] = bytes(clear.ravel().tolist()[:1]) + bytes([255] * 255)
            image.putpixel((0, 0), 0)
        for name in ("a", "b"):
            (tmp_path / f"{told}").mkdir(exist_ok=True)
            image.convert(mode).save(tmp_path / f"{told}" / f"{name}.png")
        clip = read_clip(tmp_path / f"{told}")
        assert ["transparent" in warning for warning in clip.warnings] == [True] * told
        assert np.array_equal(clip.frames[0][1:], GRAY[0][1:])


def test_the_stand_in_of_an_animated_png_is_no_frame(tmp_path):
    frames = [Image.fromarray(frame) for frame in GRAY]
    stand_in = Image.fromarray(np.zeros((6, 9), np.uint8))
    stand_in.save(tmp_path / "a.png", save_all=True, append_images=frames, default_image=True, duration=40)
    clip = read_clip(tmp_path / "a.png")
    assert np.array_equal(clip.frames, GRAY) and clip.seconds_per_frame == pytest.approx(0.04)
    assert np.array_equal(read_clip(tmp_path / "a.png", stride=2).frames, GRAY[:1])
    stand_in.save(tmp_path / "b.png", save_all=True, append_images=frames)
    assert np.array_equal(read_clip(tmp_path / "b.png").frames[1:], GRAY)


@pytest.mark.parametrize("orientation", TURNS)
def test_a_mask_stands_upright_whatever_its_image_is(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for suffix in ("tif", "png"):
        Image.fromarray(GRAY[0]).save(tmp_path / f"a.{suffix}", exif=exif)
        (frame,) = stored_frames(tmp_path / f"a.{suffix}")
        assert np.array_equal(frame.values, upright(GRAY[0], orientation))


def tiff(path, layout, content):
    photometric, form, bits, extra, planes = TIFFS[layout]
    tags = {256: [9], 257: [6], 258: bits, 259: [1], 262: [photometric], 277: [len(bits)], 278: [6], 284: [1 + planes]}
    tags |= {339: [form] * len(bits)} | ({338: extra} if extra else {})
    return write_tiff(path, [(content, {tag: ("H", values) for tag, values in tags.items()})])


def test_masks_of_layouts_that_pillow_shows_wrongly(tmp_path):
    mask = (GRAY[0] > 127).astype(np.uint16) * 65535
    (frame,) = stored_frames(tiff(tmp_path / "a.tif", "WhiteIsZero 16", (65535 - mask).tobytes()))
    assert np.array_equal(frame.values, mask)
    (frame,) = stored_frames(tiff(tmp_path / "b.tif", "BlackIsZero 32 signed", mask.astype(np.int32).tobytes()))
    assert np.array_equal(frame.values, mask)
    with pytest.raises(ClipError, match=r"not read here .RGB 16 in planes.; save"):
        next(stored_frames(tiff(tmp_path / "c.tif", "RGB 16 in planes", (mask.tobytes(),) * 3)))
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "d.avif")
    with pytest.raises(ClipError, match="HEIC or AVIF, not read here; save"):
        next(stored_frames(tmp_path / "d.avif"))


def test_of_a_jpeg_of_several_pictures_the_first_is_read(tmp_path):
    """A phone's JPEG holds a depth map or a gain map too, for which Pillow has another name."""
    gray = Image.fromarray(np.full((16, 24), 90, np.uint8))
    gray.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[Image.new("L", (24, 16))])
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "MPO"
    clip = read_clip(tmp_path / "a.jpg")
    assert clip.frames.shape == (1, 16, 24) and clip.warnings == ()
    assert np.abs(clip.frames[0].astype(int) - 90).max() <= 1
    (mask,) = stored_frames(tmp_path / "a.jpg")
    assert mask.values.shape == (16, 24)
