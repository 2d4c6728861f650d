"""What was seen is found by patient and by frame, under any name; what was not is clean; without a ledger, unknown."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from tests.conftest import run_module
from tests.phantoms import phantom_clip
from training.data.corpora import CORPORA
from training.data.corpora.muscle import dl_track
from training.data.fingerprints import (
    KEPT,
    Ledger,
    LedgerError,
    Overlap,
    compare,
    compare_names,
    decoded,
    make_ledger,
    read_ledger,
    write_ledger,
)
from training.data.locked_splits import locked_groups, locked_split
from training.data.manifest import Row, read_manifest, write_manifest
from training.data.overlap.neighbors import find_neighbors, join
from training.data.overlap.verdicts import corpus_ledger, main, weight_overlap
from training.data.prepare.run import prepare
from training.data.records import ZOO, patients_of, read_record
from training.release.checks import ReleaseError, refuse_seen

ROOT = Path(__file__).parents[3]


def gif(file, frames):
    """Write frames uint8 [T, H, W] as an animated GIF, which keeps them as they are."""
    file.parent.mkdir(parents=True, exist_ok=True)
    first, *others = map(Image.fromarray, frames)
    first.save(file, save_all=True, append_images=others, duration=40)
    return file


@pytest.fixture(scope="module")
def clips():
    """Clips of four patients, uint8 [20, 96, 96]."""
    return [phantom_clip(patient, frames=20, size=96) for patient in range(4)]


def row(name, group, source="ours", path=""):
    return Row(str(path), name, group, source=source)


@pytest.fixture(scope="module")
def seen(clips):
    return make_ledger([(row("a", "p0"), clips[0]), (row("b", "p1"), clips[1])], KEPT)


def test_a_copy_under_another_name_is_found_by_its_frames(seen, clips):
    copy = clips[1][6:15, 2:94, ::-1]  # the middle of the clip, mirrored, a border cut off
    found = compare(seen, make_ledger([(row("x", "q0", "theirs"), clips[2]), (row("y", "q1", "theirs"), copy)], 16))
    assert (
        found.verdict == "overlap" and list(found.clips) == ["y"] and "signs of 255 from one of b" in found.clips["y"]
    )
    assert str(found) == "overlap 1 clip (y)"
    assert str(compare(seen, make_ledger([(row("x", "q0", "theirs"), clips[2])], 16))) == "clean"


def test_another_clip_of_the_same_patient_is_found_by_name_within_one_dataset_only(seen, clips):
    asked = make_ledger([(row("x", "p0"), clips[2]), (row("y", "p1", "theirs"), clips[3])], 16)
    assert compare(seen, asked).clips == {"x": "group p0 of ours"}
    nameless = make_ledger([(row("a", "p0", ""), clips[0])], KEPT)
    assert compare(nameless, make_ledger([(row("x", "p0", ""), clips[2])], 16)).verdict == "clean"


def test_without_fingerprints_names_prove_an_overlap_and_never_that_there_is_none(clips):
    asked = make_ledger([(row("x", "p0"), clips[2]), (row("y", "p3"), clips[3])], 16)
    assert compare_names({("ours", "p3")}, asked) == Overlap("overlap", {"y": "group p3 of ours"})
    assert compare_names({("ours", "p9")}, asked) == Overlap("unknown", {})


def test_a_group_is_a_pair_of_source_and_name(clips):
    """Two sources that both call a patient p3: only the one that was trained on counts, also for locked groups."""
    asked = make_ledger([(row("x", "p3", "theirs"), clips[2]), (row("y", "p3"), clips[3])], 16)
    corpus = {"sources": ["ours", "theirs"], "groups": ["p3", "p4"]}
    told = corpus | {"patients": {"ours": ["p3"], "theirs": ["p4"]}}
    assert patients_of(told) == {("ours", "p3"), ("theirs", "p4")} and len(patients_of(corpus)) == 4
    assert weight_overlap(Path("no ledger"), told, asked).clips == {"y": "group p3 of ours"}
    assert set(weight_overlap(Path("no ledger"), corpus, asked).clips) == {"x", "y"}  # nobody says, so both may be
    locked = min(locked_split("pocus_lung")["test"])
    seen = {"sources": ["hc18", "pocus_lung"], "groups": ["a", locked]}
    overlaps = {"locked_test_groups": 0}
    refuse_seen("x", seen | {"patients": {"hc18": [locked], "pocus_lung": ["a"]}}, overlaps)
    for corpus in (seen, seen | {"patients": {"hc18": ["a"], "pocus_lung": [locked]}}):
        with pytest.raises(ReleaseError, match=f"trained on the locked test groups {locked}"):
            refuse_seen("x", corpus, overlaps)


def test_black_frames_prove_nothing(seen):
    black = np.zeros((5, 96, 96), np.uint8)
    dark = make_ledger([(row("c", "p5"), black)], KEPT)
    assert compare(dark, make_ledger([(row("z", "q", "theirs"), black)], 16)).verdict == "clean"


def test_a_file_gives_back_its_ledger_and_holds_no_more_than_names_and_signs(seen, tmp_path):
    file = tmp_path / "fingerprints.safetensors"
    write_ledger(seen, file)
    again = read_ledger(file)
    assert (again.clips, again.groups, again.sources) == (seen.clips, seen.groups, seen.sources)
    assert (again.prints == seen.prints).all() and (again.clip_of == seen.clip_of).all()
    assert {name: value.shape for name, value in load_file(file).items()} == {"prints": (8, 19, 4), "clip_of": (8,)}
    assert file.stat().st_size < 8 * 612 + 600


def test_what_is_no_ledger_is_refused_by_name(seen, tmp_path):
    file = tmp_path / "fingerprints.safetensors"
    write_ledger(seen, file)
    good = file.read_bytes()
    for content in (b"", b"nonsense", good[:-7], good[:100]):
        file.write_bytes(content)
        with pytest.raises(LedgerError, match=r"fingerprints\.safetensors is no ledger"):
            read_ledger(file)
    wrong = (
        Ledger(("a",), seen.groups, seen.sources, seen.prints, seen.clip_of),
        replace(seen, clip_of=seen.clip_of + 1),
        replace(seen, prints=seen.prints[:, :3]),
        replace(seen, prints=seen.prints.astype(np.int64)),
    )
    for ledger in wrong:
        write_ledger(ledger, file)
        with pytest.raises(LedgerError, match="do not fit"):
            read_ledger(file)
    save_file({"prints": seen.prints}, file)
    with pytest.raises(LedgerError, match="is no ledger"):
        read_ledger(file)
    with pytest.raises(LedgerError, match="is no ledger"):
        read_ledger(tmp_path / "missing.safetensors")


def test_a_weight_is_judged_by_its_ledger_or_else_by_its_record(seen, clips, tmp_path):
    file, record = tmp_path / "fingerprints.safetensors", {"sources": ["ours"], "groups": ["p2"]}
    asked = make_ledger([(row("x", "q", "theirs"), clips[0]), (row("y", "p2"), clips[2])], 16)
    assert list(weight_overlap(file, record, asked).clips) == ["y"]
    write_ledger(seen, file)
    assert list(weight_overlap(file, record, asked).clips) == ["x"]


@pytest.fixture
def corpus(clips, tmp_path):
    """A manifest of the first two patients, and one of the last two with a mirrored copy of the first among them."""
    manifests = []
    for name, members in (("train", (0, 1)), ("judge", (2, 3))):
        rows = [row(f"{name}{i}", f"{name}{i}", name, gif(tmp_path / name / f"{i}.gif", clips[i])) for i in members]
        if name == "judge":
            rows.append(row("judge0", "judge0", name, gif(tmp_path / name / "copy.gif", clips[0][..., ::-1])))
        write_manifest(rows, tmp_path / f"{name}.csv")
        manifests.append(tmp_path / f"{name}.csv")
    return manifests


def test_the_command_line_says_clean_and_overlap(corpus, capsys):
    train, judge = map(str, corpus)
    main([train, judge, train, "--reasons"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{train} | {judge} | overlap 1 clip (judge0)"
    assert lines[1].strip().startswith("judge0: a frame is") and lines[1].endswith("from one of train0")
    assert lines[2] == f"{train} | {train} | overlap 2 clips (train0, train1)"
    main([train, str(corpus[0].parent / "judge")])  # a folder of one's own
    assert "| overlap 1 clip (" in capsys.readouterr().out


def test_a_ledger_is_written_from_a_manifest_and_from_a_cache(corpus, cache, tmp_path, capsys):
    out = tmp_path / "made.safetensors"
    main(["ledger", str(corpus[0]), "-o", str(out)])
    assert read_ledger(out).clips == ("train0", "train1")
    assert f"2 clips, 8 frames, {out.stat().st_size:,} bytes" in capsys.readouterr().out
    made = corpus_ledger(str(cache), Path())
    assert len(made.clips) == 8 and made.patients == {("phantom", f"patient{number}") for number in range(8)}
    assert compare(made, made).verdict == "overlap"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["weights", "no-such-thing"], "no file, no folder and none of the known datasets"),
        (["weights", "busi", "--root", "nowhere"], "is not there"),
        (["weights"], "name at least one benchmark"),
    ],
)
def test_a_refusal_is_one_line(arguments, complaint, capsys):
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    error = capsys.readouterr().err
    assert exit.value.code == 2 and error.startswith("error: ") and complaint in error and error.count("\n") == 1


def test_duplicates_are_listed_joined_and_drawn(corpus, tmp_path, capsys):
    rows = [*read_manifest(corpus[0]), *read_manifest(corpus[1])]
    write_manifest(rows, tmp_path / "all.csv")
    pairs, sheet, joined = tmp_path / "pairs.csv", tmp_path / "sheet.png", tmp_path / "joined.csv"
    files = ["-o", str(pairs), "--sheet", str(sheet), "--joined", str(joined)]
    main(["duplicates", str(tmp_path / "all.csv"), *files])
    assert "1 pair among 2 of 5 clips, 0 of them across labels; 5 groups, 4 when joined" in capsys.readouterr().out
    with pairs.open() as stream:
        (record,) = csv.DictReader(stream)
    assert (record["first_clip"], record["second_clip"]) == ("train0", "judge0") and int(record["distance"]) <= 2
    groups = {row.clip: row.group for row in read_manifest(joined)}
    assert groups["train0"] == groups["judge0"] == "judge0" and len(set(groups.values())) == 4
    with Image.open(sheet) as picture:
        assert picture.size[1] > 160 and np.asarray(picture).std() > 10


def test_frames_of_one_clip_are_no_duplicates(corpus):
    rows = read_manifest(corpus[0])
    clips = list(decoded(rows, progress=False))
    assert len(clips) == 2 and find_neighbors(clips, 48, 16, progress=False) == [] and join(rows, []) == rows


def test_broken_clips_are_skipped_and_told(corpus, tmp_path, capsys):
    (tmp_path / "broken.mp4").write_text("not a video")
    rows = [row("broken", "p", path=tmp_path / "broken.mp4"), *read_manifest(corpus[0]), *read_manifest(corpus[1])]
    write_manifest(rows, tmp_path / "all.csv")
    main(["duplicates", str(tmp_path / "all.csv"), "-o", str(tmp_path / "pairs.csv")])
    told = capsys.readouterr()
    assert "1 pair among 2 of 5 clips" in told.out and "train0" in (tmp_path / "pairs.csv").read_text()
    assert f"skipped broken: {tmp_path / 'broken.mp4'}" in told.err
    with pytest.raises(SystemExit, match="2"):  # a ledger without it would be of another corpus
        main(["ledger", str(tmp_path / "all.csv"), "-o", str(tmp_path / "x.safetensors")])


def test_duplicates_are_found_in_a_cache_without_its_clips(corpus, tmp_path, capsys):
    prepare([*read_manifest(corpus[0]), *read_manifest(corpus[1])], tmp_path / "cache", 96, jobs=1, progress=False)
    for file in tmp_path.rglob("*.gif"):
        file.unlink()
    sheet = tmp_path / "sheet.png"
    main(["duplicates", str(tmp_path / "cache"), "-o", str(tmp_path / "pairs.csv"), "--sheet", str(sheet)])
    assert "1 pair among 2 of 5 clips" in capsys.readouterr().out and sheet.is_file()


def test_outputs_that_cannot_be_written_are_named(corpus, tmp_path, capsys):
    (tmp_path / "file").touch()
    for command in ("ledger", "duplicates"):
        with pytest.raises(SystemExit, match="2"):
            main([command, str(corpus[0]), "-o", str(tmp_path / "file" / "out")])
        assert f"error: {tmp_path / 'file'} cannot be read or written (" in capsys.readouterr().err


@pytest.mark.slow
def test_busi_pairs_across_classes_are_found(shared_data, tmp_path):
    options = ("--root", shared_data, "-o", "pairs.csv")
    done = run_module("training.data.overlap", "duplicates", "busi", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    documented = (ROOT / "docs" / "busi-duplicates.md").read_text(encoding="utf-8")
    assert done.stdout.splitlines()[0] in documented
    with (tmp_path / "pairs.csv").open() as stream:
        pairs = list(csv.DictReader(stream))
    across = {
        tuple(pair[f"{side}_clip"].removeprefix("busi/") for side in ("first", "second")): int(pair["distance"])
        for pair in pairs
        if pair["first_label"] != pair["second_label"]
    }
    table = re.findall(r"^\| (\d+) \| (\w+ \(\d+\)) \| (\w+ \(\d+\)) \|$", documented, re.MULTILINE)
    assert len(table) == 10 and {(one, other) for _, one, other in table} == set(across)
    # A sign whose frequency is next to nothing may turn with the order in which a machine adds.
    assert all(abs(across[one, other] - int(distance)) <= 2 for distance, one, other in table)


def test_the_committed_entries_tell_what_their_ledgers_hold():
    """The zoo, the ledger beside the card and the card are of one mind."""
    for name in json.loads(ZOO.read_text())["weights"]:
        entry = read_record(name)
        file = ROOT / "model_cards" / name / "fingerprints.safetensors"
        if file.is_file():
            ledger = read_ledger(file)
            assert sorted(ledger.clips) == sorted(entry["corpus"]["clips"]), name
            assert set(ledger.groups) == set(entry["corpus"]["groups"]), name
            assert {found["verdict"] for found in entry["overlap"]["benchmarks"].values()} <= {"clean", "overlap"}


def test_the_ledger_names_the_pictures_of_dl_track_that_stand_in_locked_clips(shared_data):
    """The reader leaves them out; put back, they are found and the run is refused."""
    read = {row.clip for row in dl_track(shared_data / "dl_track")}
    wanted = {f"apo_img_000{number}" for number in (15, 17, 19, 30, 31)}
    back = [row for row in dl_track(shared_data / "dl_track", left_out=()) if row.clip in wanted]
    assert len(back) == 5 and not wanted & read
    locked = {"GM_T_6", "GM_T_8", "GM_T_10", "GM_P_5", "GM_P_6"}
    rows = [row for row in CORPORA["timtrack_muscle"].rows(shared_data / "timtrack_muscle") if row.group in locked]
    found = compare(make_ledger(decoded(back, progress=False), 1), make_ledger(decoded(rows, progress=False), 1))
    corpus = {"sources": ["dl_track"], "groups": sorted({row.group for row in back})}
    overlaps = {"locked_test_groups": 0, "benchmarks": {"timtrack_muscle": {"clips": found.clips}}}
    with pytest.raises(ReleaseError) as refusal:
        refuse_seen("x", corpus, overlaps)
    assert all(name in str(refusal.value) for name in (*wanted, *locked))
    assert locked_groups("timtrack_muscle", locked) == locked
