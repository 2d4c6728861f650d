"""The command of the legacy table, on a task and on the seeds' pickles, which are read without running them."""

import json
import pickle

import numpy as np
import pytest

from training.benchmark.legacy.pickles import read_folds
from training.benchmark.legacy.run import accuracies, legacy_table, main
from training.benchmark.legacy.trained_head import ARMS
from training.benchmark.models import Entry
from training.data.errors import CorpusError

PAGE = "# Legacy\n\n<!-- legacy: made by a command -->\n\nstale\n\n<!-- end -->\n\nEnd.\n"


@pytest.fixture
def small(network, monkeypatch):
    """The command's model is the small network of these tests, whatever it is called."""
    monkeypatch.setattr(
        "training.benchmark.legacy.run.entries",
        lambda names, size, seeds: [Entry(n, "resnet18", [network]) for n in names],
    )


@pytest.fixture
def folds(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(1, 6):
        label = np.arange(30) % 3
        frames = rng.integers(0, 60, (30, 1, 36, 36)) + 60 * label[:, None, None, None]
        x = np.repeat(frames, 3, axis=1).astype(np.uint8)
        content = (x[:24], label[:24], x[24:], label[24:])
        (tmp_path / f"covid_data{number}.pkl").write_bytes(pickle.dumps(content))
    return tmp_path


@pytest.mark.parametrize(("train", "models"), [("head", ("one", "two")), ("block", ("one",))])
def test_the_table_of_a_task_goes_into_the_page(small, mini, tmp_path, capsys, train, models):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    main(models, mini, train=train, epochs=2, seeds=2, cache=tmp_path, page=page, json_file=tmp_path / "l.json")
    report = json.loads((tmp_path / "l.json").read_text())
    arms = report["rows"][0]["arms"]
    assert list(arms) == list(ARMS) and all(len(scores) == 2 for scores in arms.values())
    text = page.read_text()
    assert legacy_table(report) in text and "stale" not in text and text.endswith("End.\n")
    assert legacy_table(report) in capsys.readouterr().out
    gap = [100 * (a["accuracy"] - b["accuracy"]) for a, b in zip(arms[ARMS[0]], arms[ARMS[-1]], strict=True)]
    line = next(line for line in text.splitlines() if line.startswith("| one | accuracy"))
    assert line.endswith(f"| {np.mean(gap):.1f} ± {np.std(gap):.1f} |") and line.count("|") == 8
    assert ("last block" in text) == (train == "block")


def test_the_seeds_folds_are_judged_at_the_best_and_the_last_epoch(small, folds, tmp_path):
    main(("one",), pickles=folds, epochs=3, seeds=1, json_file=tmp_path / "l.json")
    report = json.loads((tmp_path / "l.json").read_text())
    arms = report["rows"][0]["arms"]
    assert list(arms) == list(ARMS[:2]) and report["on"] == "The seeds' own folds"
    assert arms[ARMS[0]][0]["accuracy"] >= arms[ARMS[1]][0]["accuracy"]


def test_a_fold_is_read_as_gray_frames(folds):
    first = read_folds(folds)[0]
    assert first.train.shape == (24, 36, 36) and first.train.dtype == np.uint8
    assert first.test_label.tolist() == [0, 1, 2] * 2
    content = pickle.loads((folds / "covid_data1.pkl").read_bytes())
    np.testing.assert_array_equal(first.train, content[0][:, 0])


class Evil:
    def __reduce__(self):
        return (print, ("this ran",))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (Evil(), "only numpy arrays are read"),
        ((np.zeros(3),), "no fold"),
        ((np.zeros((2, 1, 4, 4)), [0, 1], np.zeros((2, 1, 4, 4)), [0, 1]), r"not \[N, 3, H, W\]"),
        ((np.full((2, 3, 4, 4), 0.5), [0, 1], np.full((2, 3, 4, 4), 0.5), [0, 1]), "not from 0 to 255"),
        ((np.full((2, 3, 4, 4), 99), [0, 7], np.full((2, 3, 4, 4), 99), [0, 1]), "labels are"),
    ],
)
def test_what_is_no_fold_is_refused_and_never_run(folds, capsys, content, complaint):
    (folds / "covid_data3.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(CorpusError, match=complaint):
        read_folds(folds)
    assert "this ran" not in capsys.readouterr().out


def test_damaged_and_missing_folds_are_named(folds):
    whole = (folds / "covid_data2.pkl").read_bytes()
    for damage in (b"", whole[: len(whole) // 2], b"no pickle"):
        (folds / "covid_data2.pkl").write_bytes(damage)
        with pytest.raises(CorpusError, match="covid_data2"):
            read_folds(folds)
    (folds / "covid_data2.pkl").unlink()
    with pytest.raises(CorpusError, match=r"covid_data2\.pkl is missing"):
        read_folds(folds)


def test_accuracies():
    found = accuracies(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]))
    assert found == {"accuracy": 0.75, "balanced accuracy": pytest.approx((2 / 3 + 1) / 2)}


def test_a_task_without_classes_is_refused(small, tmp_path, shared_data, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(("one",), shared_data, task="hc18", cache=tmp_path)
    assert "hc18 has no classes" in capsys.readouterr().err
