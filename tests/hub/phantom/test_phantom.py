"""The simulator: seeds, geometry, speckle, motion, what tells patients apart, and the archive."""

import csv

import numpy as np
import pytest
from PIL import Image

from usbackbones.clips.read import read_clip
from usbackbones.phantom.simulator import FRAMES_PER_SECOND, KINDS, kind_of, label_of, phantom_archive, phantom_clip


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


@pytest.fixture(scope="module")
def clips():
    """Two clips of each of six patients, keyed (patient, clip)."""
    return {(patient, clip): phantom_clip(patient, clip=clip, frames=12) for patient in range(6) for clip in range(2)}


def test_the_same_arguments_give_the_same_bytes(clips):
    assert phantom_clip(3, clip=1, frames=12).tobytes() == clips[3, 1].tobytes()


def test_the_first_frames_do_not_depend_on_how_many_there_are(clips):
    assert np.array_equal(phantom_clip(2, frames=5), clips[2, 0][:5])


@pytest.mark.parametrize("other", [{"patient": 1}, {"clip": 1}, {"seed": 1}, {"kind": "lung"}])
def test_anything_else_gives_another_clip(clips, other):
    changed = phantom_clip(other.get("patient", 0), frames=1, **{k: v for k, v in other.items() if k != "patient"})
    assert not np.array_equal(changed, clips[0, 0][:1])


def test_shape_type_and_range(clips):
    for clip in clips.values():
        assert clip.shape == (12, 160, 160)
        assert clip.dtype == np.uint8
        assert clip.min() == 0
        assert clip.max() > 200
    assert phantom_clip(0, frames=1, size=97).shape == (1, 97, 97)


def test_it_is_dark_outside_a_sector(clips):
    """The corners are black in every frame, the middle column is not, and the left half mirrors the right."""
    for clip in clips.values():
        lit = clip.max(0) > 0
        assert not clip[:, :10, :10].any()
        assert not clip[:, -8:, :8].any()
        assert lit[10:90, 75:85].mean() > 0.9
        assert 0.25 < lit.mean() < 0.7
        edges = np.array([[np.flatnonzero(row)[0], 159 - np.flatnonzero(row)[-1]] for row in lit[5:100]])
        assert np.abs(edges[:, 0] - edges[:, 1]).max() <= 6


def test_speckle_is_speckle():
    """Before compression, fully developed speckle has a magnitude whose mean is 1.91 times its deviation (Rayleigh).

    Measured in patches of parenchyma with the dynamic range taken back; texture and noise lower the ratio a little.
    """
    ratios = []
    for seed in range(4):
        clip = phantom_clip(0, frames=1, size=320, seed=seed)[0].astype(float)
        for y in range(100, 200, 20):
            patch = clip[y : y + 20, 140:180]
            if patch.min() > 0 and patch.max() < 255:
                magnitude = 10 ** (patch / 255 * 56 / 20)
                ratios.append(magnitude.mean() / magnitude.std())
    assert len(ratios) >= 5
    assert 1.2 < np.median(ratios) < 2.4


def test_consecutive_frames_are_more_alike_than_any_two_patients(clips):
    within = [correlation(clip[i], clip[i + 1]) for clip in clips.values() for i in range(11)]
    across = [correlation(clips[p, 0][0], clips[q, 0][0]) for p in range(6) for q in range(p)]
    assert min(within) > max(across) + 0.1


def test_another_clip_of_a_patient_is_more_alike_than_other_patients_on_the_whole(clips):
    same = [correlation(clips[p, 0][0], clips[p, 1][0]) for p in range(6)]
    across = [correlation(clips[p, 0][0], clips[q, 1][0]) for p in range(6) for q in range(6) if p != q]
    assert np.mean(same) > np.mean(across) + 0.2


def test_tissue_moves(clips):
    """In every clip some frame is less like the first than its neighbour is; which one, the breath and beat say."""
    for clip in clips.values():
        assert min(correlation(clip[0], frame) for frame in clip) < correlation(clip[0], clip[1]) - 0.005


def test_kinds_and_labels_take_turns_so_that_every_kind_has_every_label():
    assert {(kind_of(patient), label_of(patient)) for patient in range(6)} == {
        (kind, label) for kind in KINDS for label in ("plain", "lesion")
    }


@pytest.mark.parametrize("form", ["mp4", "png"])
def test_archive(tmp_path, form):
    manifest = phantom_archive(tmp_path, patients=2, clips_per_patient=2, frames=4, size=96, seed=5, form=form)
    with manifest.open(newline="") as stream:
        reader = csv.DictReader(stream)
        assert reader.fieldnames == ["path", "clip", "group", "label", "organ", "licence", "source"]
        rows = list(reader)
    assert [row["group"] for row in rows] == ["patient00"] * 2 + ["patient01"] * 2
    assert len({row["clip"] for row in rows}) == 4
    assert [row["label"] for row in rows] == ["plain", "plain", "lesion", "lesion"]
    assert {row["licence"] for row in rows} == {"CC0-1.0"}
    for position, row in enumerate(rows):
        clip = read_clip(tmp_path / row["path"])
        expected = phantom_clip(position // 2, clip=position % 2, frames=4, size=96, seed=5)
        assert clip.warnings == ()
        if form == "png":
            assert np.array_equal(clip.frames, expected)
        else:
            assert clip.seconds_per_frame == pytest.approx(1 / FRAMES_PER_SECOND)
            assert np.abs(clip.frames.astype(int) - expected).mean() < 4
    leftovers = [path for path in tmp_path.rglob("*") if path.suffix == ".part"]
    assert not leftovers
    if form == "png":
        assert Image.open(tmp_path / "patient00_clip0" / "frame000.png").mode == "L"


def test_an_archive_of_one_kind(tmp_path):
    manifest = phantom_archive(tmp_path, patients=2, clips_per_patient=1, frames=1, size=64, kind="heart", form="png")
    assert manifest.read_text().count(",heart,") == 2
    picture = read_clip(tmp_path / "patient00_clip0").frames
    assert np.array_equal(picture, phantom_clip(0, frames=1, size=64, kind="heart"))
