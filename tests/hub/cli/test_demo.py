"""The demo: what it reports and draws."""

import warnings

import numpy as np
from PIL import Image

from tests.conftest import Published
from tests.hub.cli.test_cli import run  # noqa: F401  (a fixture)
from usbackbones.cli import demo


def test_demo(run, tmp_path):  # noqa: F811
    out = tmp_path / "demo.png"
    code, told, err = run("demo", "-o", out, "--model", Published.vit)
    assert (code, err) == (0, "")
    assert f"usbackbones/{Published.vit}: features [144, 192], float32" in told
    assert told.count("nearest to patient") == 3
    assert told.count("  cos ") == 15
    assert told.splitlines()[-1] == f"image: {out}"
    with Image.open(out) as image:
        assert image.size == (1530, 740)
        colors = {color for _, color in image.getcolors(2**20)}
    assert set(demo._COLORS) <= colors
    assert [path.name for path in tmp_path.iterdir()] == ["demo.png"]


def test_nearest_takes_one_frame_of_each_clip_and_none_of_the_querys_own_moment():
    """Against the slow form: all frames sorted by the cosine, then taken one by one."""
    rng = np.random.default_rng(0)
    where = [(patient, clip, 2 * i) for patient in range(4) for clip in range(2) for i in range(8)]
    frames = [demo.Frame(np.zeros((2, 2), np.uint8), patient, clip, number, "") for patient, clip, number in where]
    features = rng.normal(size=(len(frames), 6)) + 5
    similarity = demo.cosine(features)
    centered = features - features.mean(0)
    for query in (0, 11, 63):
        score = [a @ centered[query] / np.linalg.norm(a) / np.linalg.norm(centered[query]) for a in centered]
        np.testing.assert_allclose(similarity[query], score, atol=1e-12)
        expected, clips = [], set()
        for index in sorted(range(len(frames)), key=lambda i: -score[i]):
            patient, clip, number = where[index]
            near = (patient, clip) == where[query][:2] and abs(number - where[query][2]) < demo.TOO_NEAR
            if not near and (patient, clip) not in clips:
                expected.append(index)
                clips.add((patient, clip))
        assert demo.nearest(query, frames, similarity[query]) == expected[: demo.NEIGHBORS]


def test_the_image_of_features_that_are_all_equal(tmp_path):
    """A dead network must not stop the demo with a division by zero."""
    frames = [demo.Frame(np.zeros((160, 160), np.uint8), patient, 0, 0, "x") for patient in range(6)]
    with warnings.catch_warnings(action="error"):
        assert demo.draw("title", frames, np.ones((6, 4)), {0: [1, 2]}).size == (1530, 740)
