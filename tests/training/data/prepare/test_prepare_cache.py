"""A cache that is open: views, damage, hashes; and the compact form that travels."""

import io
import json
import pickle
import shutil
import zipfile
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import run_module
from tests.phantoms import phantom_clip
from training.data import cache as module
from training.data import compact
from training.data.cache import open_cache, verify
from training.data.compact import pack, unpack
from training.data.errors import CorpusError
from training.data.manifest import Row
from training.data.prepare.run import prepare


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Six phantom clips of 4 to 9 frames in three shards, and a broken one."""
    folder = tmp_path_factory.mktemp("phantom")
    rows = []
    for number in range(6):
        np.save(folder / f"{number}.npy", phantom_clip(number, frames=4 + number, size=64))
        rows.append(Row(str(folder / f"{number}.npy"), f"clip{number}", f"g{number}", label="ab"[number % 2]))
    (folder / "broken.mp4").write_text("not a video")
    rows.insert(2, Row(str(folder / "broken.mp4"), "broken", "g9"))
    prepare(rows, folder / "cache", 48, jobs=1, progress=False, shard_clips=3)
    return folder / "cache"


@pytest.fixture
def folder(made, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(made, tmp_path / "cache")


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_finished_folder_holds_nothing_else(made):
    shards = {f"frames-{number:05d}.u8" for number in range(3)}
    assert set(content(made)) == shards | {"index.json", "report.json"}


def test_clips_are_views_of_the_shards(made):
    cache = open_cache(made)
    raw = np.concatenate([np.fromfile(file, np.uint8) for file in sorted(made.glob("*.u8"))]).reshape(-1, 48, 48)
    assert len(cache.frames) == len(raw) == sum(range(4, 10)) and cache.classes == ["a", "b"] and cache.size == 48
    for number, entry in enumerate(cache.clips):
        clip = cache.clip(number)
        np.testing.assert_array_equal(clip, raw[entry.start : entry.start + entry.count])
        assert np.shares_memory(clip, cache.clip(number)) and not clip.flags.writeable and type(clip) is np.ndarray


def test_few_shards_are_mapped_at_a_time(made, monkeypatch):
    monkeypatch.setattr(module, "_OPEN", 1)
    cache, other = open_cache(made), open_cache(made)
    kept = [cache.clip(number) for number in (0, 5, 0, 3)]
    assert len(cache.frames._maps) == 1
    for number, clip in zip((0, 5, 0, 3), kept, strict=True):  # views outlive the map that they were taken from
        np.testing.assert_array_equal(clip, other.clip(number))


def test_a_cache_travels_to_a_worker_without_its_pixels(made):
    cache = open_cache(made)
    cache.clip(0)
    sent = pickle.dumps(cache)
    assert len(sent) < 4000 < cache.clip(0).nbytes
    np.testing.assert_array_equal(pickle.loads(sent).clip(5), cache.clip(5))


def test_missing_and_short_shards_are_named(folder):
    (folder / "frames-00001.u8").unlink()
    (folder / "frames-00002.u8").write_bytes(b"few")
    with pytest.raises(CorpusError, match=r"00001.u8 is missing; frames-00002.u8 has 3 bytes, not .*--fresh"):
        open_cache(folder)


def test_altered_frames_are_found_by_their_hash(folder, capsys):
    verify(open_cache(folder), progress=False)
    module.main(folder)
    assert "unaltered" in capsys.readouterr().out
    shard = folder / "frames-00001.u8"
    altered = bytearray(shard.read_bytes())
    altered[1000] ^= 1
    shard.write_bytes(altered)
    with pytest.raises(CorpusError, match=r"frames-00001.u8 was altered"):
        verify(open_cache(folder), progress=False)
    with pytest.raises(SystemExit, match=r"^error: .*frames-00001.u8 was altered"):
        module.main(folder)


def test_an_altered_index_is_found(folder):
    file = folder / "index.json"
    index = json.loads(file.read_text())
    file.write_text(json.dumps(index | {"sha256": "0" * 64}))
    with pytest.raises(CorpusError, match=r"index.json was altered"):
        verify(open_cache(folder), progress=False)
    file.write_text(file.read_text()[:-100])
    with pytest.raises(CorpusError, match=r"index.json is broken"):
        open_cache(folder)


def test_png_carries_the_cache_byte_for_byte(made, tmp_path):
    pack(made, tmp_path / "cache.zip", "png")
    pack(made, tmp_path / "again.zip", "png")
    assert (tmp_path / "cache.zip").read_bytes() == (tmp_path / "again.zip").read_bytes()
    unpack(tmp_path / "cache.zip", tmp_path / "cache")
    assert content(tmp_path / "cache") == content(made)


def test_jpeg_carries_it_smaller_and_nearly(made, tmp_path):
    sizes, losses = [], []
    for quality in (80, 95):
        file, out = tmp_path / f"{quality}.zip", tmp_path / f"{quality}"
        pack(made, file, quality=quality)
        unpack(file, out)
        before, after = open_cache(made), open_cache(out)
        verify(after, progress=False)
        assert after.clips == before.clips and after.skipped == before.skipped and after.sha256 != before.sha256
        sizes.append(file.stat().st_size)
        losses.append(np.mean([np.abs(after.clip(n).astype(int) - before.clip(n)).mean() for n in range(6)]))
        with zipfile.ZipFile(file) as archive:
            frame = cv2.imdecode(np.frombuffer(archive.read("frames/000003/00002.jpg"), np.uint8), 0)
        np.testing.assert_array_equal(frame, after.clip(3)[2])
    assert sizes[0] < sizes[1] < len(before.frames) * 48**2 and losses[1] < losses[0] and losses[1] < 3


def test_an_unpacked_jpeg_cache_is_never_taken_for_the_cache(made, tmp_path):
    pack(made, tmp_path / "cache.zip")
    unpack(tmp_path / "cache.zip", tmp_path / "cache")
    rows = [clip.row for clip in open_cache(made).clips]
    rows.insert(2, Row(str(made.parent / "broken.mp4"), "broken", "g9"))
    with pytest.raises(CorpusError, match="unpacked from a compact one"):
        prepare(rows, tmp_path / "cache", 48, jobs=1, progress=False, shard_clips=3)
    with pytest.raises(CorpusError, match="holds a cache already"):
        unpack(tmp_path / "cache.zip", tmp_path / "cache")


def test_a_damaged_file_leaves_no_cache(made, tmp_path):
    file = tmp_path / "cache.zip"
    pack(made, file, "png")
    whole = file.read_bytes()
    place = whole.index(b"IDAT", len(whole) // 2) + 50
    for damaged in (
        whole[:-100],
        whole[: len(whole) // 2],
        whole[:place] + b"\x00\xff" + whole[place + 2 :],
        b"",
        b"x",
    ):
        file.write_bytes(damaged)
        with pytest.raises(CorpusError, match="is not a packed cache, or damaged"):
            unpack(file, tmp_path / "cache")
        assert not (tmp_path / "cache" / "index.json").exists()
    with pytest.raises(CorpusError, match="No such file"):
        unpack(tmp_path / "absent.zip", tmp_path / "cache")
    with pytest.raises(CorpusError, match="--quality 0"):
        pack(made, file, quality=0)


def test_the_commands_pack_and_unpack(made, tmp_path, capsys):
    pack(made, tmp_path / "cache.zip")
    unpack(tmp_path / "cache.zip", tmp_path / "cache")
    assert "39 frames" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_no_damage_of_the_packed_file(made, tmp_path, monkeypatch):
    pack(made, tmp_path / "cache.zip")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        unpack(tmp_path / "cache.zip", tmp_path / "file" / "cache")

    @contextmanager
    def full(file):
        yield io.BufferedWriter(io.FileIO("/dev/full", "wb"), 1)

    if Path("/dev/full").exists():
        monkeypatch.setattr(compact, "atomic_write", full)
        with pytest.raises(OSError, match="No space left") as error:
            unpack(tmp_path / "cache.zip", tmp_path / "cache")
        assert not isinstance(error.value, CorpusError)


def test_a_packed_file_with_too_few_frames_is_refused(made, tmp_path):
    pack(made, tmp_path / "cache.zip")
    with zipfile.ZipFile(tmp_path / "cache.zip") as whole, zipfile.ZipFile(tmp_path / "few.zip", "w") as few:
        for name in whole.namelist()[:-1]:
            few.writestr(name, whole.read(name))
    with pytest.raises(CorpusError, match=r"damaged .38 frames, not as many as promised"):
        unpack(tmp_path / "few.zip", tmp_path / "cache")


@pytest.mark.parametrize("command", ["pack", "unpack"])
def test_the_commands_end_with_one_line_and_code_2(made, tmp_path, command):
    (tmp_path / "file").touch()
    pack(made, tmp_path / "cache.zip")
    source, out = {"pack": (made, "file/x.zip"), "unpack": (tmp_path / "cache.zip", "file/x")}[command]
    done = run_module("training.data.compact", command, source, tmp_path / out)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2 and "Traceback" not in done.stderr and "damaged" not in last
    assert last.startswith(f"error: {tmp_path / 'file'}") and "cannot be read or written" in last
