"""What is committed: zoo.json is small, and cards, lists and tables are what the records say."""

import json
import re

import pytest

from training.benchmark.dense.task import DENSE_TASKS
from training.benchmark.markdown import between
from training.benchmark.tasks import TASKS
from training.data.fingerprints import FILE as LEDGER
from training.data.fingerprints import read_ledger
from training.data.locked_splits import has_locked_part, locked_groups
from training.data.records import CARDS, RECORD, ZOO, read_json, readable
from training.release.card import render_card, verdict
from training.release.checks import refuse_seen
from training.release.records import LOADING, all_reports, headline, put_report, read_weights, row_key, write_weights
from training.release.render import (
    FIGURE,
    LEADERBOARD,
    PLANNED,
    README,
    RESULTS,
    render_figure,
    render_readme,
    render_results,
    weights_table,
)
from training.release.succession import EMBEDDED


def test_the_committed_cards_are_rendered_from_the_records_and_fit_a_screen():
    zoo = read_weights()
    assert {path.name for path in CARDS.iterdir() if path.is_dir()} == set(zoo["weights"])
    for name, entry in zoo["weights"].items():
        text = (CARDS / name / "README.md").read_text(encoding="utf-8")
        assert text == render_card(name, entry)
        assert len(text.split("---\n", 2)[2].splitlines()) < 60


def test_the_zoo_is_small_and_holds_what_loading_needs_and_the_headlines():
    zoo, whole = json.loads(ZOO.read_text(encoding="utf-8")), read_weights()["weights"]
    assert len(ZOO.read_bytes()) < 20_000
    for name, entry in zoo["weights"].items():
        assert set(entry) == {*LOADING, "headline"}
        assert entry["headline"] == headline(whole[name]["metrics"] or {})
    lines = ZOO.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 30 * len(zoo["weights"]) + 10


def test_what_is_read_is_written_again_to_the_byte(tmp_path):
    content = read_weights()
    write_weights(content, tmp_path / "zoo.json", tmp_path)
    assert (tmp_path / "zoo.json").read_bytes() == ZOO.read_bytes()
    for file in ["controls.json", *(f"{name}/{RECORD}" for name in content["weights"])]:
        assert (tmp_path / file).read_bytes() == (CARDS / file).read_bytes(), file
    assert read_weights(tmp_path / "zoo.json", tmp_path) == content


def test_a_control_stands_once_and_a_table_of_other_counts_is_refused(tmp_path):
    content = read_weights()
    first, second, *_ = content["weights"]
    report = json.loads(json.dumps(content["weights"][first]["metrics"]["busi"]))
    null = next(row for row in report["rows"] if row["model"] == "random:resnet18")
    null["results"]["linear"]["clip"]["balanced_accuracy"]["value"] = 0.25
    assert put_report(content, first, report) == ["random:resnet18, 128 px"]
    for name in (first, second):
        assert headline(content["weights"][name]["metrics"])["busi"]["random"] == 0.25
    assert put_report(content, first, report) == []
    write_weights(content, tmp_path / "zoo.json", tmp_path)
    rows = read_json(tmp_path / "controls.json")["busi"]["rows"]
    assert (
        rows["random:resnet18, 128 px"] == null
        and rows.keys() == read_json(CARDS / "controls.json")["busi"]["rows"].keys()
    )
    put_report(content, first, report | {"counts": {"pretrain": {"clips": 1}}})
    with pytest.raises(ValueError, match=r"busi: counts is .* evaluate every weight of the zoo again"):
        write_weights(content, tmp_path / "zoo.json", tmp_path)


def test_a_cue_stands_on_the_card_and_not_among_the_headlines(tmp_path):
    content = read_weights()
    name = next(name for name, entry in content["weights"].items() if "busi" in (entry["metrics"] or {}))
    report = json.loads(json.dumps(content["weights"][name]["metrics"]["busi"]))
    assert "| border of the frame | not run |" in render_card(name, content["weights"][name])
    value = {"value": 0.48, "low": 0.44, "high": 0.52, "members": [0.48]}
    results = {"linear": {"clip": {"balanced_accuracy": value}}}
    row = {"model": "cue:border", "arch": "", "networks": 0, "penalties": [], "results": results}
    before = headline({"busi": report})
    report["rows"].append(row)
    put_report(content, name, report)
    entry = content["weights"][name]
    text = render_card(name, {**entry, "metrics": {"busi": entry["metrics"]["busi"]}})
    assert "| border of the frame | 0.48 [0.44, 0.52] |" in text
    assert "| container of the file | not run |" in text and report["command"] in text.split("container of the file")[2]
    assert headline({"busi": report}) == before
    write_weights(content, tmp_path / "zoo.json", tmp_path)
    assert "cue:border" in read_json(tmp_path / "controls.json")["busi"]["rows"]
    assert read_weights(tmp_path / "zoo.json", tmp_path) == content


def test_readable_json_is_the_same_json_in_lines_of_a_width():
    value = {"a": list(range(60)), "b": {"c": "x" * 100, "d": [{"é": None}, "y" * 60]}, "e": [], "f": {}}
    text = readable(value)
    assert json.loads(text) == value
    assert all(len(line) <= 160 for line in text.splitlines()) and ' "e": [],' in text.splitlines()


def test_the_embedded_weight_is_the_default_and_the_same_bytes():
    zoo = read_weights()
    assert [file.name for file in EMBEDDED.glob("*.safetensors")] == [f"{zoo['default']}.safetensors"]
    published = CARDS / zoo["default"] / "model.safetensors"
    assert published.read_bytes() == (EMBEDDED / f"{zoo['default']}.safetensors").read_bytes()


def test_committed_weights_saw_no_locked_group():
    for name, entry in read_weights()["weights"].items():
        refuse_seen(name, entry["corpus"], entry["overlap"])
        patients = set(zip(*_groups_of(name), strict=True))
        for source in {source for source, _ in patients if has_locked_part(source)}:
            groups = {group for one, group in patients if one == source}
            assert not locked_groups(source, groups), name


def _groups_of(name):
    """Sources and groups of the clips in a weight's ledger."""
    ledger = read_ledger(CARDS / name / LEDGER)
    return ledger.sources, ledger.groups


def test_the_readme_is_rendered_from_the_zoo_and_names_only_what_exists():
    zoo = read_weights()
    text = README.read_text(encoding="utf-8")
    assert render_readme(text, zoo) == text
    assert RESULTS.read_text(encoding="utf-8") == render_results(zoo)
    assert FIGURE.read_text(encoding="utf-8") == render_figure(zoo)
    named = set(re.findall(r"\b(?:resnet|vit_)\w*\.\w+_(?:open|nc)\d+", text))
    assert zoo["default"] in named and named <= set(zoo["weights"])


def test_a_weight_keeps_its_own_rows_and_a_table_of_all_has_each_once():
    def report(*models, side=64):
        ran = {"input": {"input_size": [3, side, side]}, "results": {}}
        rows = [{"model": model, **({} if model.startswith("SimCLR") else ran)} for model in models]
        return {"task": "lung", "command": "evaluate", "rows": rows}

    zoo = {"weights": {name: {"metrics": None} for name in ("a", "b", "c", "d")}}
    for name in ("a", "b"):
        put_report(zoo, name, report("usbackbones/a", "usbackbones/b", "random:r", "SimCLR r"))
    with pytest.raises(ValueError, match="lung has no row usbackbones/c, only usbackbones/a"):
        put_report(zoo, "c", report("usbackbones/a"))
    rows = [row["model"] for row in zoo["weights"]["b"]["metrics"]["lung"]["rows"]]
    assert rows == ["usbackbones/b", "random:r", "SimCLR r"]
    assert [row["model"] for row in all_reports(zoo)["lung"]["rows"]] == ["usbackbones/a", "usbackbones/b", *rows[1:]]
    # Random weights that were given larger frames are another control, and its name then tells the size.
    put_report(zoo, "d", report("usbackbones/d", "random:r", side=96))
    rows = all_reports(zoo)["lung"]["rows"]
    assert [row["model"] for row in rows][3:] == ["random:r at 64 px", "SimCLR r", "random:r at 96 px"]
    assert row_key(rows[-2]) == "SimCLR r"


def report_of(task, to_random, to_imagenet):
    """A report of one task in which usbackbones/a differs so, with its interval, from random weights and ImageNet."""
    told = {"value": 0.7, "low": 0.6, "high": 0.8}
    for name, (low, high) in {"difference": to_random, "to_imagenet": to_imagenet}.items():
        told[name] = {"value": (low + high) / 2, "low": low, "high": high}
    numbers = {"linear": {"clip": {"balanced_accuracy": told}}}
    plain = {"linear": {"clip": {"balanced_accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}}}}
    rows = [
        {"model": "usbackbones/a", "results": numbers},
        {"model": "imagenet:lite0", "results": plain},
        {"model": "SimCLR r", "not_run": "none", "command": "train it"},
        {"model": "resnet18.a1_in1k", "not_run": "no network", "command": "the same"},
    ]
    return {"task": task, "rows": rows, "command": "evaluate", "protocol": {"part": "test"}}


def test_a_card_says_where_imagenet_is_better_and_begins_with_random_weights_that_are_not_beaten():
    won, lost, level = (0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1)
    metrics = {
        task: report_of(task, *apart)
        for task, apart in {"one": (won, won), "two": (won, lost), "three": (won, level), "four": (level, lost)}.items()
    }
    told = verdict(metrics, "a")
    assert told.endswith(
        "Beside ImageNet weights (`imagenet:lite0`), beyond the interval: better on one; **worse** on two, four; "
        "not told apart on three."
    )
    name, entry = next(iter(read_weights()["weights"].items()))
    body = render_card(name, entry | {"metrics": json.loads(json.dumps(metrics).replace("/a", f"/{name}"))})
    first = body.split(f"# {name}\n\n")[1]
    assert first.startswith("Frozen, **it does not beat random weights** beyond the 95 % interval on four. A ")
    assert "| ImageNet | 0.50 [0.40, 0.60] |" in body  # of two ImageNet rows the one that was run
    metrics["four"] = report_of("four", won, level)
    body = render_card(name, entry | {"metrics": json.loads(json.dumps(metrics).replace("/a", f"/{name}"))})
    assert body.split(f"# {name}\n\n")[1].startswith("A ")


def test_the_table_of_weights_has_every_weight_and_names_what_was_run_nowhere():
    content = read_weights()
    lines = weights_table(content).splitlines()
    assert sum(line.startswith("|[`") for line in lines) == len(content["weights"])
    rows = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1 and not any("[0." in line for line in rows)
    assert lines[-1].startswith("Not run: ") and "SimCLR resnet18" in lines[-1]
    assert not any(line.startswith("|SimCLR resnet18|") for line in rows)


def test_results_name_what_the_default_was_not_run_on_with_commands_that_are_understood():
    content = read_weights()
    done = content["weights"][content["default"]]["metrics"]
    text = render_results(content)
    for name, (command, options) in PLANNED.items():
        assert (f"\n- {name}: `{command} " in text) == (name not in done)
        assert options.split()[1] in (TASKS if command == LEADERBOARD else DENSE_TASKS)


def test_a_readme_without_its_markers_is_refused():
    with pytest.raises(ValueError, match="lost its marker <!-- weights"):
        between("# no markers", "weights", "")
