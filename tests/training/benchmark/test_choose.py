"""The choice among weights by inner folds, and cross-validation on what no weight saw."""

import json
from functools import partial

import pytest
from timm.models import save_for_hf

from tests.training.benchmark.conftest import SMALL
from training.benchmark import choose
from training.benchmark.choose import choice, doubts, main
from training.benchmark.evaluate import Columns, seen_groups, task_report
from training.benchmark.markdown import markdown
from training.benchmark.models import Entry, random_networks
from training.benchmark.protocol import Protocol, evaluate_backbone
from training.data.errors import CorpusError


def test_the_highest_mean_is_chosen_and_of_equal_ones_the_first():
    assert choice({"a": {"x": 0.5, "y": 0.5}, "b": {"x": 0.2, "y": 0.9}}) == "b"
    assert choice({"a": {"x": 0.5, "y": 0.5}, "b": {"x": 0.25, "y": 0.75}}) == "a"


def test_a_choice_says_what_stands_against_it():
    scores = {"a": {"x": 0.50}, "b": {"x": 0.60}, "c": {"x": 0.60}, "d": {"x": 0.59}, "e": {"x": 0.55}}
    divisions = {"a": [0.4, 0.6], "b": [0.6, 0.6], "c": [0.5, 0.7], "d": [0.56, 0.62], "e": [0.54, 0.56]}
    told = list(doubts("b", scores, divisions))
    assert told == [
        "the margin over a is 0.100 and was 0.000 to 0.200 in 2 divisions: other folds could choose otherwise",
        "c has the same mean as b; of equal weights the one named first is chosen",
        "the margin over d is 0.010 and was -0.020 to 0.040 in 2 divisions: other folds could choose otherwise",
    ]
    one = {name: values[:1] for name, values in divisions.items()}
    assert "of equal" in next(doubts("b", {"b": {"x": 0.6}, "c": {"x": 0.6}}, one))
    assert "its spread is not known" in next(doubts("b", {"b": {"x": 0.6}, "a": {"x": 0.5}}, one))
    with pytest.raises(CorpusError, match="of b on x is not a number"):
        choice({"a": {"x": 0.5}, "b": {"x": float("nan")}})


def test_the_choice_opens_no_locked_clip_and_prints_what_it_stands_on(mini, task, tmp_path, capsys, monkeypatch):
    quick = {"folds": 2, "resamples": 50}
    monkeypatch.setattr(choose, "Protocol", partial(Protocol, **quick))
    networks = random_networks("resnet18", 2, **SMALL)
    names = []
    for number, network in enumerate(networks):
        save_for_hf(network, tmp_path / f"w{number}", model_config={"pretrained_cfg": {}}, safe_serialization=True)
        names.append(f"local-dir:{tmp_path / f'w{number}'}")
    main(tuple(names), mini, tasks=("lung",), repeats=1, cache=tmp_path / "cache")
    printed = capsys.readouterr().out
    values = [
        evaluate_backbone(network, task, "inner", repeats=1, **quick)["linear"]["clip"]["balanced_accuracy"]["value"]
        for network in networks
    ]
    for name, value in zip(names, values, strict=True):
        assert f"| {name} | {value:.3f} | {value:.3f} |" in printed
    assert printed.endswith(f"chosen: {names[values.index(max(values))]}\n")
    for name in names:
        assert f"note: what {name} was pretrained on is not recorded: it may have seen clips of lung" in printed
    assert printed.count("note: ") == 3  # besides, that the two are equal, or that one division tells no spread
    assert len(list((tmp_path / "cache").glob("pocus_lung-*.npz"))) == 1  # the part for choices alone was decoded
    with pytest.raises(CorpusError, match="two weights or more"):
        main((names[0],), mini, tasks=("lung",))


def test_a_weight_is_not_chosen_on_groups_that_it_saw(mini):
    names = ("usbackbones/resnet18.hico_open3", "usbackbones/vit_tiny_patch16_224.uscl_open2")
    with pytest.raises(CorpusError, match=r"resnet18.hico_open3 was pretrained on \d+ groups of lung: choose on"):
        main(names, mini, tasks=("lung",))


def test_unseen_is_all_that_no_weight_was_pretrained_on(task, network, tmp_path):
    known = sorted({row.group for row in task.rows})[:2]
    for file, content in {"corpus": {"sources": ["pocus_lung"], "groups": known}, "summary": {}}.items():
        (tmp_path / f"{file}.json").write_text(json.dumps(content))
    (tmp_path / "recipe.json").write_text(json.dumps({"method": {"name": "uscl"}}))
    rows = [
        Entry(f"run:{tmp_path}", "resnet18", [network]),
        Entry("random:resnet18", "resnet18", random_networks("resnet18", 2, **SMALL)),
    ]
    seen = set().union(*map(seen_groups, rows))
    unseen = task.unseen(seen)
    everything = {row.group for row in (*task.rows, *task.test_rows)}
    assert {row.group for row in unseen.rows} == everything - set(known) and unseen.test_rows == ()
    assert unseen.name == "pocus_lung_unseen"
    report = task_report(
        unseen, rows, Protocol(part="unseen", folds=2, repeats=2, resamples=9), Columns(True), "c", None
    )
    assert [row["overlap"] for row in report["rows"]] == [f"0 of {len(everything) - 2} groups", "none"]
    text = markdown(report)
    first, second = report["rows"][0]["results"]["linear"]["clip"]["balanced_accuracy"]["members"]
    assert f"| {min(first, second):.3f} to {max(first, second):.3f} |" in text
    of_random = report["rows"][1]["results"]["linear"]["clip"]["balanced_accuracy"]["members"]
    means = [(of_random[0] + of_random[2]) / 2, (of_random[1] + of_random[3]) / 2]
    assert f"| {min(means):.3f} to {max(means):.3f} |" in text
    assert "2 times 2 folds of all that no weight of the table was pretrained on, locked groups among them" in text
    with pytest.raises(ValueError, match="every group of pocus_lung was pretrained on"):
        task.unseen({("pocus_lung", group) for group in everything})
