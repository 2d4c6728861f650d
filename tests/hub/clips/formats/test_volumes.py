"""Volumes whose headers mean something else than they seem to: flags, header sizes, axes."""

import numpy as np
import pytest

from tests.hub.clips.test_volume import write_meta
from usbackbones.clips import ClipError, read_clip

FRAMES = np.random.default_rng(0).integers(0, 256, (2, 6, 9), dtype=np.uint8)


@pytest.mark.parametrize("flag", ["True", "true", "T", "1"])
def test_flags_are_spelled_as_metaio_has_it(tmp_path, flag):
    path = write_meta(tmp_path / "a.mha", FRAMES.astype(np.int16) * 30, big=True, BinaryDataByteOrderMSB=flag)
    plain = write_meta(tmp_path / "b.mha", FRAMES.astype(np.int16) * 30)
    assert np.array_equal(read_clip(path).frames, read_clip(plain).frames)
    path = write_meta(tmp_path / "c.mha", FRAMES, compress=True, CompressedData=flag)
    assert np.array_equal(read_clip(path).frames, FRAMES)


def test_of_two_byte_orders_that_of_the_binary_data_counts(tmp_path):
    stored = FRAMES.astype(np.int16) * 30
    both = write_meta(tmp_path / "a.mha", stored, BinaryDataByteOrderMSB="False", ElementByteOrderMSB="True")
    assert np.array_equal(read_clip(both).frames, read_clip(write_meta(tmp_path / "b.mha", stored)).frames)


def test_header_size_in_one_file_is_a_place_in_it(tmp_path):
    path = write_meta(tmp_path / "a.mha", FRAMES, HeaderSize="0000")
    content = path.read_bytes()
    place = len(content) - FRAMES.size
    path.write_bytes(content.replace(b"HeaderSize = 0000", f"HeaderSize = {place:04}".encode()))
    assert np.array_equal(read_clip(path).frames, FRAMES)
    path.write_bytes(content.replace(b"HeaderSize = 0000", b"HeaderSize = 0004"))
    with pytest.raises(ClipError, match="HeaderSize = 4 lies within its header; export it again"):
        read_clip(path)


def test_axes_that_are_not_promised_are_refused(tmp_path):
    with pytest.raises(ClipError, match="NDims and DimSize differ; export it again"):
        read_clip(write_meta(tmp_path / "a.mha", FRAMES, NDims=2))


def test_three_planes_that_may_be_colors_are_told(tmp_path):
    for count, told in ((2, False), (3, True), (4, False)):
        np.save(tmp_path / "a.npy", np.zeros((count, 6, 9), np.uint8))
        clip = read_clip(tmp_path / "a.npy")
        assert clip.frames.shape == (count, 6, 9)
        assert ["read as three gray frames" in warning for warning in clip.warnings] == [True] * told
