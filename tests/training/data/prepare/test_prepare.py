"""Preparing a corpus: what is kept of a clip, the same bytes whoever makes them, and what is refused."""

import hashlib
import json
import multiprocessing
import re
import shutil
import tracemalloc
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from tests.hub.clips.cleaning.screens import screen
from training.data.cache import open_cache
from training.data.errors import CorpusError
from training.data.manifest import Row, write_manifest
from training.data.prepare.decode import pick
from training.data.prepare.run import main, part_of, prepare, prepare_part
from training.data.prepare.shards import jobs_of, make_shard, plan_of
from usbackbones._evenly import evenly
from usbackbones.clips.cleaning.clean import Cleaning, clean
from usbackbones.clips.read import read_clip


def write_video(file, count, size=64, seed=0):
    """Blurred noise, another in every frame."""
    noise = np.random.default_rng(seed).integers(0, 256, (count, size, size), dtype=np.uint8)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=20, width=size, height=size, pix_fmt="yuv420p")
        for frame in noise:
            blurred = cv2.GaussianBlur(frame, None, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(blurred, format="gray")))
        container.mux(stream.encode())
    return file


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Seven clips: videos of 5 to 30 frames, one of them cut short, a still, and a file that is no clip."""
    folder = tmp_path_factory.mktemp("corpus")
    files = [write_video(folder / f"{number}.avi", 5 + 5 * number, seed=number) for number in range(5)]
    whole = write_video(folder / "whole.mp4", 30).read_bytes()
    (folder / "short.avi").write_bytes((long := files[4].read_bytes())[: len(long) * 3 // 4])
    (folder / "broken.mp4").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.arange(0, 240, 4, dtype=np.uint8).reshape(6, 10)).save(folder / "still.png")
    files[4] = folder / "short.avi"
    files += [folder / "broken.mp4", folder / "still.png"]
    return [Row(str(file), file.stem, f"g{n // 2}", "lung", "ab"[n % 2], "CC0", "made") for n, file in enumerate(files)]


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def made(rows, out, jobs=1, **options):
    return prepare(rows, out, 32, 12, jobs, False, **options)


@pytest.fixture(scope="module")
def whole(rows, tmp_path_factory):
    """The cache of all clips, made by one process in one go, two clips a shard."""
    out = tmp_path_factory.mktemp("whole") / "cache"
    made(rows, out, shard_clips=2)
    return out


def test_the_cache_is_what_the_slow_way_makes(rows, whole):
    cache, number = open_cache(whole), 0
    digest = hashlib.sha256()
    for row in rows:
        if row.clip == "broken":
            continue
        clip = read_clip(row.path)
        total = len(clip.frames)
        keep = [round(place * (total - 1) / max(min(12, total) - 1, 1)) for place in range(min(12, total))]
        slow = np.stack([cv2.resize(clip.frames[i], (32, 32), interpolation=cv2.INTER_AREA) for i in keep])
        np.testing.assert_array_equal(cache.clip(number), slow)
        digest.update(slow.tobytes())
        entry = cache.clips[number]
        assert entry.row == row and entry.count == len(keep)
        if total > 1:
            assert entry.seconds_per_frame == pytest.approx(0.05 * (total - 1) / (len(keep) - 1))
        else:
            assert entry.seconds_per_frame is None
        number += 1
    assert number == len(cache.clips) == 6 and cache.sha256 == digest.hexdigest()
    report = json.loads((whole / "report.json").read_text())
    assert [entry["clip"] for entry in report["skipped"]] == ["broken"] == [entry["clip"] for entry in cache.skipped]
    assert "broken.mp4" in cache.skipped[0]["reason"] and report["kept"] == 6
    notes = {entry["clip"]: entry["notes"] for entry in report["notes"]}
    assert list(notes) == ["2", "3", "short"] and "cut short" in notes["short"][0]
    assert notes["2"] == ["12 of 15 frames kept, evenly spaced: --max-frames 12"]
    totals = [len(read_clip(row.path).frames) for row in rows if row.clip != "broken"]
    assert report["frames_left_out"] == sum(totals) - len(cache.frames) > 0


def test_the_number_of_processes_changes_no_byte(rows, whole, tmp_path):
    # In a process that has not decoded a video yet, as the command's: it forks.
    own = multiprocessing.get_context("spawn").Process(
        target=made, args=(rows, tmp_path / "cache"), kwargs={"jobs": 3, "shard_clips": 2}
    )
    own.start()
    own.join()
    assert own.exitcode == 0
    assert content(tmp_path / "cache") == content(whole)


def test_shards_of_another_length_hold_the_same_frames(rows, whole, tmp_path):
    other, cache = made(rows, tmp_path / "cache", shard_clips=5), open_cache(whole)
    assert other.sha256 == cache.sha256 and len(other.frames.shards) == 2 and len(cache.frames.shards) == 4
    assert all((other.clip(n) == cache.clip(n)).all() for n in range(6))


def test_machines_make_their_parts_and_one_call_joins_them(rows, whole, tmp_path):
    out, plan = tmp_path / "cache", plan_of(rows, 32, 12, None, 2)
    assert [prepare_part(rows, out, (part, 3), plan, None, 1) for part in (3, 1, 2)] == [1, 2, 1]
    with pytest.raises(CorpusError, match="not a prepared cache"):
        open_cache(out)
    times = {file: file.stat().st_mtime_ns for file in out.glob("*.u8")}
    made(rows, out, shard_clips=2)
    assert content(out) == content(whole) and times == {file: file.stat().st_mtime_ns for file in out.glob("*.u8")}


def test_what_killed_processes_left_is_used_or_removed(rows, whole, tmp_path):
    out, plan = tmp_path / "cache", plan_of(rows, 32, 12, None, 2)
    work = jobs_of(rows, out, plan, None)
    for job in work[:3]:
        make_shard(job)
    (out / ".frames-00003.u8.4711.part").write_bytes(b"half a")  # killed while it decoded
    (out / ".frames-00002.json.4711.part").write_bytes(b"{")
    work[1].file.write_bytes(work[1].file.read_bytes()[:-1])  # copied from another machine, and not to its end
    work[2].record_file.unlink()  # killed between the frames and their record
    (out / ".index.json.4711.part").write_bytes(b"{")
    made(rows, out, shard_clips=2)
    assert content(out) == content(whole)
    make_shard(replace(work[0], out=tmp_path / "again"))  # killed after the index, before the records were removed
    shutil.copy(tmp_path / "again" / "frames-00000.json", out)
    made(rows, out, shard_clips=2)
    assert content(out) == content(whole)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"size": 24}, "size 32, not 24"),
        ({"max_frames": 11}, "max_frames 12, not 11"),
        ({"shard_clips": 3}, "shard_clips 2, not 3"),
        ({"cleaning": Cleaning()}, "cleaned otherwise"),
        ({"rows": slice(0, 6)}, "of other clips or files"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_another_cache_in_the_folder_is_refused(rows, whole, tmp_path, change, named, finished):
    shutil.copytree(whole, tmp_path / "cache")
    if not finished:
        (tmp_path / "cache" / "index.json").unlink()
        make_shard(jobs_of(rows, tmp_path / "cache", plan_of(rows, 32, 12, None, 2), None)[3])
    before = content(tmp_path / "cache")
    wanted = {"size": 32, "max_frames": 12, "shard_clips": 2} | change
    with pytest.raises(CorpusError, match=rf"holds another cache \({named}\): .*--fresh"):
        prepare(rows[wanted.pop("rows", slice(None))], tmp_path / "cache", jobs=1, progress=False, **wanted)
    assert content(tmp_path / "cache") == before


def test_an_earlier_format_is_refused(rows, tmp_path):
    (tmp_path / "index.json").write_text('{"size": 32, "sha256": "", "clips": []}')
    with pytest.raises(CorpusError, match="format 1, this version writes 2"):
        made(rows, tmp_path)
    with pytest.raises(CorpusError, match="format 1, this version reads 2"):
        open_cache(tmp_path)


def test_new_labels_need_no_decoding(rows, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "cache")
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").glob("*.u8")}
    cache = made([replace(row, label="new", group=row.clip) for row in rows], tmp_path / "cache", shard_clips=2)
    assert cache.classes == ["new"] and cache.clips[0].row.group == "0"
    assert times == {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").glob("*.u8")}
    made(rows, tmp_path / "cache", shard_clips=2)
    assert content(tmp_path / "cache") == content(whole)


@pytest.mark.parametrize("most", [1, 2, 7, 29, 30, 50])
@pytest.mark.parametrize("held", [2, 29, 30, 31])
def test_a_long_clip_is_picked_as_a_short_one_is(tmp_path, most, held):
    file = write_video(tmp_path / "clip.avi", 30)
    clip, picked = read_clip(file), pick(str(file), most, held)
    np.testing.assert_array_equal(picked.frames, clip.frames[evenly(30, most)])
    steps = len(picked.frames) - 1
    assert picked.seconds_per_frame == (pytest.approx(0.05 * 29 / steps) if steps else None)


def test_the_memory_that_a_long_clip_takes_has_a_bound(tmp_path):
    file = write_video(tmp_path / "long.avi", 600, size=96)
    assert len(pick(str(file), 10, held=20).frames) == 10  # what is loaded at the first call is not the clip's
    tracemalloc.start()
    pick(str(file), 10, held=20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * 96 * 96  # of 600


def test_numbers_that_cannot_be_are_named(rows, tmp_path):
    for change in ({"size": 0}, {"max_frames": 0}, {"jobs": 0}, {"shard_clips": 0}):
        with pytest.raises(CorpusError, match=f"{next(iter(change))} is 0"):
            prepare(rows, tmp_path / "cache", progress=False, **change)
    assert part_of("2/3") == (2, 3)
    for text in ("3/2", "0/2", "1", "a/b", "1/2/3"):
        with pytest.raises(CorpusError, match="give i/n"):
            part_of(text)


def test_cleaned_frames_are_the_cleaning_s_and_dropped_clips_are_told(rows, whole, tmp_path):
    black = np.zeros((4, 20, 20), np.uint8)
    np.save(tmp_path / "black.npy", black)
    bars = np.pad(read_clip(rows[1].path).frames, ((0, 0), (20, 20), (0, 0)))
    np.save(tmp_path / "bars.npy", bars)
    two = [Row(str(tmp_path / f"{name}.npy"), name, name) for name in ("black", "bars")]
    cache = made(two, tmp_path / "cache", cleaning=Cleaning(report=False))
    assert "dropped by the cleaning, black" in cache.skipped[0]["reason"] and len(cache.clips) == 1
    cleaned = clean(bars, Cleaning(report=False))
    assert cleaned.frames.shape[1] < 80
    slow = [cv2.resize(frame, (32, 32), interpolation=cv2.INTER_AREA) for frame in cleaned.frames]
    np.testing.assert_array_equal(cache.clip(0), slow)
    told = json.loads((tmp_path / "cache" / "report.json").read_text())["notes"]
    assert told == [{"clip": "bars", "notes": list(cleaned.notes)}] and "letterbox" in cleaned.notes[0]
    assert json.loads((tmp_path / "cache" / "index.json").read_text())["plan"]["cleaning"]["letterbox"]


def test_the_command_prepares_estimates_and_begins_anew(rows, whole, tmp_path, capsys):
    write_manifest(rows, tmp_path / "manifest.csv")
    manifest, out = tmp_path / "manifest.csv", tmp_path / "cache"
    main(manifest, size=32, max_frames=12, dry_run=True)
    told = capsys.readouterr().out
    assert f"about {len(open_cache(whole).frames)} frames" in told
    assert "7 clips of 4 groups" in told and "would be skipped" in told and "broken.mp4" in told
    main(manifest, preview_sheet=tmp_path / "sheet.png", preview_clips=3)
    assert Image.open(tmp_path / "sheet.png").size[0] > 400 and "3 clips" in capsys.readouterr().out
    with pytest.raises(CorpusError, match="-o"):
        main(manifest)
    main(manifest, out, size=24, jobs=1)
    with pytest.raises(CorpusError, match="holds another cache"):
        main(manifest, out, size=32, max_frames=12, jobs=1, shard_clips=2)
    with pytest.raises(CorpusError, match="other machines"):
        main(manifest, out, shard="1/2", fresh=True)
    main(manifest, out, size=32, max_frames=12, jobs=1, shard_clips=2, fresh=True, compact=tmp_path / "cache.zip")
    told = capsys.readouterr().out
    assert "skipped broken: " in told and "6 of 7 clips" in told and (tmp_path / "cache.zip").stat().st_size
    assert re.search(r"^\d+ frames left out, beyond --max-frames 12 of a clip$", told, re.MULTILINE)
    assert content(out) == content(whole)


def test_frames_with_writing_are_numbered_in_the_report(tmp_path):
    shown = screen(1, 6)
    for frame in shown.frames[2:5]:
        cv2.putText(frame, "ROE JANE 1970", (40, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1, cv2.LINE_AA)
    np.save(tmp_path / "clip.npy", shown.frames)
    rows = [Row(str(tmp_path / "clip.npy"), "clip", "g")]
    prepare(rows, tmp_path / "cache", 64, 6, 1, False, Cleaning())
    (entry,) = json.loads((tmp_path / "cache" / "report.json").read_text())["notes"]
    assert entry["text_frames"] == [2, 3, 4] == list(clean(shown.frames, Cleaning()).text_frames)
    assert any("in 3 of 6 frames" in note for note in entry["notes"])
    assert "text_frames" not in (tmp_path / "cache" / "index.json").read_text()
