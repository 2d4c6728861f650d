"""What an operating system leaves behind is nobody's clip."""

import zipfile

import pytest
from PIL import Image

from usbackbones.clips import find_clips, read_clip
from usbackbones.clips.formats.names import is_litter

LITTER = (".DS_Store", "._a.png", "__MACOSX", "Thumbs.db", "thumbs.db", "desktop.ini", ".hidden.png", "@eaDir")


@pytest.mark.parametrize("name", LITTER)
def test_litter_is_neither_listed_nor_warned_of(tmp_path, name):
    """As a file, as a folder with an image in it, and in a zip."""
    assert is_litter(name) and not is_litter("a.png") and not is_litter("macosx") and not is_litter("Thumbs.dbx")
    clip = tmp_path / "clip"
    clip.mkdir()
    Image.new("L", (8, 6), 90).save(clip / "a.png")
    other = tmp_path / "other"
    (other / name).mkdir(parents=True)
    Image.new("L", (8, 6), 90).save(other / name / "b.png")
    Image.new("L", (8, 6), 90).save(other / "a.png")
    (clip / name).write_bytes(b"\x00\x05\x16\x07")
    assert find_clips(clip) == [clip] and find_clips(other) == [other]
    assert read_clip(clip).warnings == () and len(read_clip(clip).frames) == 1
    with zipfile.ZipFile(tmp_path / "clip.zip", "w") as archive:
        for file in (clip / "a.png", clip / name):
            archive.write(file, f"clip/{file.name}")
        archive.write(other / name / "b.png", f"clip/{name}/b.png")
    assert read_clip(tmp_path / "clip.zip").warnings == ()
