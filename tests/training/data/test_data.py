"""Corpus, cache and sampling."""

import csv
import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from training.data.batches.sampling import StepBatches, batches, clips_of_step, weighted_clips_of_step
from training.data.cache import open_cache
from training.data.corpora import CORPORA
from training.data.corpus.known import in_tier, without_locked_test
from training.data.errors import CorpusError
from training.data.licenses import tier_of, tier_of_all
from training.data.locked_splits import joined, locked_groups, locked_split
from training.data.manifest import Row, read_manifest, write_manifest
from training.data.prepare.run import prepare
from training.data.views.augment import Augment
from training.methods.uscl import USCL


def write_clip(folder, frames):
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"frame{number}.png")


@pytest.fixture
def corpus(tmp_path):
    """Six clips of three groups as folders of PNG, one of them broken, and their manifest."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(6):
        write_clip(tmp_path / f"clip{number}", rng.integers(0, 256, (3 + number, 30, 50), dtype=np.uint8))
        rows.append(
            Row(f"clip{number}", f"clip{number}", f"group{number // 2}", "lung", "ab"[number % 2], "CC0", "made")
        )
    (tmp_path / "broken.mp4").write_text("not a video")
    rows.append(Row("broken.mp4", "broken", "group9", licence="CC0"))
    write_manifest(rows, tmp_path / "manifest.csv")
    return tmp_path / "manifest.csv"


def dataset(cache, **changes):
    settings = {"batch": 4, "seed": 0, "mean": 0.5, "std": 0.25, "steps": 6} | changes
    return StepBatches(cache, np.arange(len(cache.clips)), USCL(), Augment(size=16), **settings)


@pytest.mark.parametrize(
    ("licence", "tier"),
    [
        ("CC0-1.0", "open"),
        ("CC BY 4.0", "open"),
        ("CC BY 2.0", "open"),
        ("MIT", "open"),
        ("CC BY-NC 4.0", "nc"),
        ("CC BY-NC -SA 4.0", "nc"),
        ("COVID-19 emergency license", "nc"),
        ("CC BY-NC-ND 4.0", None),
        ("CC BY-NC -ND 4.0", None),
        ("CC BY-ND 4.0", None),
        ("CC BY-SA 4.0", None),
        ("cc-by-4.0", "open"),
        ("CC BY", "open"),
        ("CC-BY-NC-SA-4.0", "nc"),
        ("CC BY-NC-SA 4.0", "nc"),
        ("mit Einwilligung, nur Forschung", None),
        ("Mitglieder only", None),
        ("MIT-BIH restricted", None),
        ("CC BY 4.0-ND", None),
        ("CC BY 4.0 NonCommercial", None),
        ("CC BY 4.0, no machine learning", None),
        ("CC BY-NC 4.0 ND", None),
        ("CC BY-NC 4.0-ND", None),
        ("CC BY-NC-SA-ND", None),
        ("CC BY-NC 4.0 / no derivatives", None),
        ("CC0 but for images", None),
        ("None", None),
        ("", None),
    ],
)
def test_tiers(licence, tier):
    assert tier_of(licence) == tier
    row = Row("p", "c", "g", licence=licence)
    assert bool(in_tier([row], "open")) == (tier == "open")
    assert bool(in_tier([row], "nc")) == (tier is not None)


def test_a_licence_that_is_not_known_is_named_with_those_that_are():
    assert tier_of_all(["CC0", "CC BY-NC -SA 4.0"]) == "nc" and tier_of_all(["CC0-1.0", "MIT"]) == "open"
    with pytest.raises(
        CorpusError, match=r"under: \(none stated\), CC BY-SA 4\.0\. Leave.* one of: CC0, .*CC BY-NC-SA 4"
    ):
        tier_of_all(["CC0", "", "CC BY-SA 4.0"])


def test_locked_groups_are_dropped():
    locked = locked_split("pocus_lung")
    rows = [Row("p", group, group, source="pocus_lung") for part in locked.values() for group in part]
    tied = {group for group, leader in joined("pocus_lung").items() if leader in locked["test"]}
    assert tied and {row.group for row in without_locked_test(rows)} == set(locked["pretrain"]) - tied


def test_groups_that_a_hash_locks_are_dropped():
    rows = [Row("p", str(number), f"patient{number}", source="camus") for number in range(80)]
    kept = {row.group for row in without_locked_test(rows)}
    assert kept == {row.group for row in rows} - locked_groups("camus", {row.group for row in rows})
    assert 40 < len(kept) < 80


def test_a_manifest_survives_the_round_trip(corpus):
    rows = read_manifest(corpus)
    assert [row.clip for row in rows] == [f"clip{n}" for n in range(6)] + ["broken"]
    assert rows[0].path == str(corpus.parent / "clip0") and rows[0].group == "group0"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("path,clip\na,b\n", "group"),
        ("path,clip,group\na,b,\n", "line 2"),
        ("path,clip,group\na,b,c\nd,b,c\n", "line 3.*twice"),
        ("path,clip,group\n", "no rows"),
    ],
)
def test_a_bad_manifest_is_named(tmp_path, text, complaint):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(CorpusError, match=complaint):
        read_manifest(tmp_path / "bad.csv")
    with pytest.raises(CorpusError, match="not a file"):
        read_manifest(tmp_path / "absent.csv")


def test_the_cache_holds_every_frame_and_lists_what_it_skipped(corpus, tmp_path):
    cache = prepare(read_manifest(corpus), tmp_path / "cache", size=24, jobs=2, progress=False)
    assert [len(cache.clip(n)) for n in range(6)] == [3, 4, 5, 6, 7, 8] and cache.clip(0).shape[1:] == (24, 24)
    assert [entry["clip"] for entry in cache.skipped] == ["broken"] and "broken.mp4" in cache.skipped[0]["reason"]
    assert cache.classes == ["a", "b"]
    again = prepare(read_manifest(corpus), tmp_path / "again", size=24, jobs=1, progress=False)
    assert again.sha256 == cache.sha256 and all((again.clip(n) == cache.clip(n)).all() for n in range(6))


def test_long_clips_are_thinned_evenly(corpus, tmp_path):
    cache = prepare(read_manifest(corpus), tmp_path / "cache", size=24, max_frames=3, jobs=1, progress=False)
    full = prepare(read_manifest(corpus), tmp_path / "full", size=24, jobs=1, progress=False)
    assert [clip.count for clip in cache.clips] == [3] * 6
    np.testing.assert_array_equal(cache.clip(5), full.clip(5)[[0, 4, 7]])


def test_a_damaged_cache_is_refused(corpus, tmp_path):
    folder = tmp_path / "cache"
    prepare(read_manifest(corpus), folder, size=24, jobs=1, progress=False)
    shard = folder / "frames-00000.u8"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(CorpusError, match=r"frames-00000.u8 has .* bytes.*prepare it again"):
        open_cache(folder)
    with pytest.raises(CorpusError, match="not a prepared cache"):
        open_cache(tmp_path)


def test_a_corpus_of_broken_files_makes_no_cache(tmp_path):
    (tmp_path / "x.mp4").write_text("no")
    with pytest.raises(CorpusError, match="not one of 1"):
        prepare([Row(str(tmp_path / "x.mp4"), "x", "g")], tmp_path / "cache", jobs=1, progress=False)
    assert not (tmp_path / "cache" / "index.json").exists() and not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize(("count", "batch"), [(10, 4), (7, 7), (5, 8), (100, 48)])
def test_a_pass_shows_each_clip_at_most_once_and_batches_never_repeat_one(count, batch):
    per_pass = count // min(batch, count)
    for number in range(3):
        drawn = [clips_of_step(count, batch, 0, number * per_pass + place) for place in range(per_pass)]
        flat = np.concatenate(drawn)
        assert len(set(flat)) == len(flat) == per_pass * min(batch, count)
    assert len({tuple(clips_of_step(count, batch, seed, 0)) for seed in range(20)}) > 1


def test_batches_are_the_same_for_any_number_of_workers_and_from_any_step(corpus, tmp_path):
    cache = prepare(read_manifest(corpus), tmp_path / "cache", size=24, jobs=1, progress=False)
    whole = list(batches(dataset(cache), 0, 0))
    for workers in (1, 2):
        for one, other in zip(whole, batches(dataset(cache), 0, workers), strict=True):
            assert one.views.equal(other.views) and one.clips.equal(other.clips)
    for one, other in zip(whole[4:], batches(dataset(cache), 4, 0), strict=True):
        assert one.views.equal(other.views) and one.labels.equal(other.labels)
    assert not whole[0].views.equal(next(batches(dataset(cache, seed=1), 0, 0)).views)
    assert whole[0].views.shape == (2, 4, 1, 16, 16)


def test_validation_views_are_fixed_and_cover_every_clip(corpus, tmp_path):
    cache = prepare(read_manifest(corpus), tmp_path / "cache", size=24, jobs=1, progress=False)
    first, second = (list(batches(dataset(cache, frozen=True, steps=2), 0, 0)) for _ in range(2))
    assert all(a.views.equal(b.views) for a, b in zip(first, second, strict=True))
    assert [int(c) for batch in first for c in batch.clips] == list(range(6))


def test_unlabelled_clips_have_label_minus_one(corpus, tmp_path):
    rows = [replace(row, label="" if row.clip == "clip3" else row.label) for row in read_manifest(corpus)]
    cache = prepare(rows, tmp_path / "cache", size=24, jobs=1, progress=False)
    for batch in batches(dataset(cache), 0, 0):
        for clip, label in zip(batch.clips, batch.labels, strict=True):
            assert int(label) == (-1 if clip == 3 else clip % 2)


def test_real_lung_videos_become_a_cache(shared_data, tmp_path):
    rows = CORPORA["pocus_lung"].rows(shared_data / "pocus_lung")
    with (shared_data / "pocus_lung" / "groups.csv").open(newline="") as stream:
        assert len(rows) == sum(record["kind"] == "video" for record in csv.DictReader(stream))
    kept = without_locked_test(rows)
    assert not {row.group for row in kept} & set(locked_split("pocus_lung")["test"])
    cache = prepare(kept[:4], tmp_path / "cache", size=64, max_frames=5, jobs=1, progress=False)
    assert len(cache.clips) == 4 and 20 < cache.clip(0).mean() < 120
    assert json.loads((tmp_path / "cache" / "index.json").read_text())["plan"]["size"] == 64


def test_heavy_clips_are_drawn_as_often_as_one_after_the_other():
    weights, batch, draws = np.array([1.0, 2.0, 4.0, 8.0]), 2, 4000
    drawn = np.array([weighted_clips_of_step(weights, batch, 0, step) for step in range(draws)])
    assert drawn.shape == (draws, batch) and all(len({*pair}) == batch for pair in drawn.tolist())
    slow = np.zeros((4, 4))
    for first, second in itertools.permutations(range(4), 2):
        left = weights.sum() - weights[first]
        slow[first, second] = weights[first] / weights.sum() * weights[second] / left
    found = np.zeros((4, 4))
    np.add.at(found, tuple(drawn.T), 1 / draws)
    assert np.abs(found - slow).max() < 4 * (slow.max() / draws) ** 0.5


def test_clips_of_many_frames_come_more_often_only_where_that_is_asked_for(corpus, tmp_path):
    cache = prepare(read_manifest(corpus), tmp_path / "cache", size=24, jobs=1, progress=False)
    even, heavy = dataset(cache, steps=40), dataset(cache, steps=40, draw="frames")
    counts = np.array([clip.count for clip in cache.clips])
    assert len({*counts}) > 1, "clips of one length say nothing"
    mean = {data.draw: np.mean([counts[data[step].clips].mean() for step in range(40)]) for data in (even, heavy)}
    assert mean["frames"] > mean["even"] + 0.1
