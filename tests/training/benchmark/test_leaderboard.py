"""From the command to the tables: the rows, the columns, the refusals, and what Markdown shows."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from timm.models import save_for_hf

from tests.conftest import run_module
from tests.training.benchmark.conftest import SMALL
from training.benchmark.compact import compact
from training.benchmark.evaluate import Columns, noise_floor, overlap, task_report
from training.benchmark.headline import compared, gain
from training.benchmark.leaderboard import command_line, main
from training.benchmark.markdown import interval_cell, markdown
from training.benchmark.models import Entry, random_networks
from training.benchmark.protocol import Protocol, compare, predict
from training.data.locked_splits import locked_split


def saved(network, folder):
    save_for_hf(network, folder, model_config={"pretrained_cfg": {}}, safe_serialization="both")
    (folder / "pytorch_model.bin").unlink()
    return f"local-dir:{folder}"


@pytest.fixture(scope="module")
def board(mini, tmp_path_factory):
    """A leaderboard of one network, which is none of its random rows, by its command; and what it wrote."""
    place = tmp_path_factory.mktemp("board")
    here = saved(random_networks("resnet18", 3, **SMALL)[-1], place / "weight")
    options = ("--tasks", "lung", "--data", mini, "--cache", place / "cache", "--seeds", 2, "--size", 32)
    extra = ("--shots", "1", "2", "--legacy-epochs", 2, "--json", place / "summary.json")
    run = run_module("training.benchmark.leaderboard", here, *options, *extra)
    assert run.returncode == 0, run.stderr
    return here, run.stdout, json.loads((place / "summary.json").read_text()), place


def test_the_rows_that_keep_it_honest_are_there(board):
    here, printed, found, _ = board
    report = found["tasks"]["pocus_lung"]
    assert [row["model"] for row in report["rows"]] == [
        *(here, "SimCLR resnet18", "resnet18.a1_in1k", "random:resnet18"),
        *("cue:container", "cue:geometry", "cue:border"),
    ]
    assert "not_run" in report["rows"][1] and "training.pretrain simclr" in report["rows"][1]["command"]
    assert "not_run" in report["rows"][2] and report["rows"][2]["command"] == report["command"] == found["command"]
    assert "--json" not in report["command"] and "summary.json" not in report["command"]
    assert report["protocol"]["part"] == "test" and report["reference"] == "random:resnet18"
    assert report["counts"]["test"] == {"groups": 6, "clips": 6, "frames": 42}
    assert [row["overlap"] for row in report["rows"]] == ["unknown"] * 3 + ["none"] * 4
    lines = printed.splitlines()
    assert lines[0] == "### pocus_lung" and lines[-1] == f"`{report['command']}`"
    assert "scanners" in printed


def test_every_row_of_the_table_has_every_column(board):
    here, printed, found, _ = board
    table = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 2 + 1 + 1 + 2 + 3 * 2 and len({line.count("|") for line in table}) == 1
    header = [cell.strip() for cell in table[0].split("|")]
    for column in ("overlap", "clip bal. acc.", "clip bal. acc. − random", "1 a class", "2 a class", "legacy; honest"):
        assert column in header
    row = found["tasks"]["pocus_lung"]["rows"][0]
    few = row["few_shot"]["knn"]["2"]
    assert f"{few['value']:.3f} ± {few['sd']:.3f}" in table[2] and len(few["members"]) == 2
    assert f"{row['legacy']['legacy']:.3f}; {row['legacy']['honest']:.3f}" in table[3]
    value = row["results"]["knn"]["frame"]["balanced_accuracy"]
    assert f"| {here} | unknown | knn | {value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]" in table[2]


def test_features_are_computed_once(board, mini, capsys):
    here, _, found, place = board
    kept = sorted((place / "cache").glob("features-*.npz"))
    assert len(kept) == 3 * 2  # one network and two random ones, two parts
    for file in kept:
        file.touch()
    stamps = [file.stat().st_mtime_ns for file in kept]
    again = place / "again.json"
    main((here,), mini, size=32, seeds=2, shots=(), legacy_epochs=0, json_file=again, cache=place / "cache")
    assert [file.stat().st_mtime_ns for file in sorted((place / "cache").glob("features-*.npz"))] == stamps
    report, before = (told["tasks"]["pocus_lung"] for told in (json.loads(again.read_text()), found))
    assert report["rows"][0]["results"] == before["rows"][0]["results"]
    printed = capsys.readouterr().out
    table = [line for line in printed.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {10}
    assert "evaluated on the locked 6 clips of 6 groups (42 frames)" in printed
    # The table of the README shows one number a task, with the same words for what was not run.
    short = compact({"lung": report})
    value = report["rows"][0]["results"]["linear"]["clip"]["balanced_accuracy"]
    assert f"| {here} | " in short and f"{value['value']:.2f}" in short and "[" not in short
    assert "| SimCLR resnet18 | not run |" in short


def test_the_noise_floor_is_the_spread_of_random_networks(task):
    protocol = Protocol(folds=2, repeats=2, resamples=10)
    null = compare(predict(random_networks("resnet18", 3, **SMALL), task, protocol), task, protocol)
    floor = noise_floor(null, 3)
    members = null["knn"]["clip"]["balanced_accuracy"]["members"]
    means = [np.mean(members[start : start + 2]) for start in (0, 2, 4)]
    assert floor["knn"]["clip"]["balanced_accuracy"] == pytest.approx(max(means) - min(means))


def test_a_difference_inside_the_noise_is_in_italics(board):
    report = json.loads(json.dumps(board[2]["tasks"]["pocus_lung"]))
    row = report["rows"][0]
    for level, noise in (("frame", 0.2), ("clip", 0.05)):
        row["results"]["knn"][level]["balanced_accuracy"]["difference"] = {"value": -0.1, "low": -0.2, "high": 0.3}
        row["noise"]["knn"][level]["balanced_accuracy"] = noise
    line = next(line for line in markdown(report).splitlines() if "| knn |" in line)
    assert "| *-0.100 [-0.200, 0.300]* | -0.100 [-0.200, 0.300] |" in line
    assert "*Italics*" in markdown(report)


def test_rows_are_compared_with_simclr_of_their_architecture_and_with_imagenet(task, network, tmp_path):
    recipe = {"method": {"name": "simclr"}}
    for file, content in {"corpus": {"sources": [], "groups": []}, "summary": {}, "recipe": recipe}.items():
        (tmp_path / f"{file}.json").write_text(json.dumps(content))
    random, control = random_networks("resnet18", 1, **SMALL), random_networks("resnet18", 2, **SMALL)[1:]
    rows = [
        Entry("ours", "resnet18", [network]),
        Entry(f"run:{tmp_path}", "resnet18", control),
        Entry("random:resnet18", "resnet18", random),
        Entry("other", "resnet10t", [network]),
    ]
    photos = f"local-dir:{tmp_path / 'photos'}"
    (tmp_path / "photos").mkdir()
    config = {"architecture": "tf_efficientnet_lite0", "pretrained_cfg": {"tag": "imagenet"}}
    (tmp_path / "photos" / "config.json").write_text(json.dumps(config))
    rows.append(Entry(photos, "tf_efficientnet_lite0", random_networks("resnet18", 3, **SMALL)[2:]))
    report = task_report(task, rows, Protocol(part="test", resamples=20), Columns(), "", None)
    ours, simclr, null, other, imagenet = (
        row["results"]["linear"]["clip"]["balanced_accuracy"] for row in report["rows"]
    )
    assert ours["to_simclr"]["value"] == pytest.approx(ours["value"] - simclr["value"], abs=1e-12)
    assert simclr["difference"]["value"] == pytest.approx(simclr["value"] - null["value"], abs=1e-12)
    assert not any("to_simclr" in one for one in (simclr, null, other, imagenet))
    assert report["rows"][-1]["model"] == "imagenet:lite0"
    for one in (ours, simclr, other):
        assert one["to_imagenet"]["value"] == pytest.approx(one["value"] - imagenet["value"], abs=1e-12)
    assert "to_imagenet" not in null and "to_imagenet" not in imagenet
    head, _, first, *_ = markdown(report).splitlines()
    assert head.endswith("| clip bal. acc. − SimCLR | clip bal. acc. − ImageNet |")
    told = report["rows"][0]["results"]["knn"]["clip"]["balanced_accuracy"]
    assert f"{interval_cell(told['to_simclr'])} | {interval_cell(told['to_imagenet'])}" in first


@pytest.mark.parametrize(
    ("difference", "noise", "kind", "cell"),
    [
        ((0.2, 0.1, 0.3), 0.1, "spread", "**0.70**"),
        ((0.2, 0.1, 0.3), 0.2, "interval", "*0.70*"),
        ((0.2, -0.1, 0.3), 0.1, "", "0.70"),
        ((-0.2, -0.3, -0.1), 0.1, "", "0.70"),
    ],
)
def test_a_gain_inside_the_spread_of_random_networks_is_marked_as_such(difference, noise, kind, cell):
    told = {"value": 0.7, "low": 0.6, "high": 0.8}
    told["difference"] = dict(zip(("value", "low", "high"), difference, strict=True))
    floor = {"linear": {"clip": {"balanced_accuracy": noise}}}
    row = {"model": "m", "results": {"linear": {"clip": {"balanced_accuracy": told}}}, "noise": floor}
    assert gain(row, "linear", "clip", "balanced_accuracy") == kind
    assert f"| m | {cell} |" in compact({"lung": {"rows": [row], "command": "c"}})


def test_the_few_shot_column_is_the_mean_gain_over_random_weights_of_the_architecture():
    def report(ours, null):
        rows = [("m", "a", ours), ("random:a", "a", null), ("random:b", "b", 0.9)]
        few = [{"model": m, "arch": a, "few_shot": {"linear": {"5": {"value": v}}}} for m, a, v in rows]
        return {"rows": [row | {"not_run": ""} for row in few], "command": "c"}

    reports = {"one": report(0.5, 0.4), "two": report(0.8, 0.5), "mm": {"kind": "number", "rows": [], "command": "c"}}
    lines = compact(reports).splitlines()
    assert lines[0] == "| model | one | two | mm, mm | 5 groups a class, less random |"
    assert lines[2] == f"| m | not run | not run | not run | {(10 + 30) / 2:+.1f} |"
    assert lines[3].endswith("| not run |  |")  # random weights are their own null
    reports["three"] = {"rows": [], "command": "c"}
    assert "groups a class" not in compact(reports)  # a mean over other tasks would be another number


def test_the_few_shot_column_is_over_tasks_that_all_our_weights_were_evaluated_on():
    def report(**values):
        rows = [(f"usbackbones/{name}", value) for name, value in values.items()] + [("random:a", 0.4)]
        few = [{"model": m, "arch": "a", "few_shot": {"linear": {"5": {"value": v}}}} for m, v in rows]
        return {"rows": [row | {"not_run": ""} for row in few], "command": "c"}

    lines = compact({"both": report(old=0.5, new=0.6), "late": report(new=0.9)}).splitlines()
    assert lines[0].endswith("| 5 groups a class, less random (both) |")
    assert [line.split("|")[-2].strip() for line in lines[2:]] == ["+10.0", "+20.0", ""]


@pytest.mark.parametrize(
    ("metric", "low", "high", "verdict"),
    [
        ("balanced_accuracy", 0.1, 0.2, "better"),
        ("balanced_accuracy", -0.2, -0.1, "worse"),
        ("balanced_accuracy", -0.1, 0.2, ""),
        ("mae", -2.0, -1.0, "better"),
        ("mae", 1.0, 2.0, "worse"),
    ],
)
def test_a_control_is_beaten_beyond_the_interval_alone(metric, low, high, verdict):
    told = {"value": 0.7, "to_imagenet": {"value": (low + high) / 2, "low": low, "high": high}}
    row = {"results": {"p": {"clip": {metric: told}}}}
    assert compared(row, "to_imagenet", "p", "clip", metric) == verdict
    assert compared(row, "to_simclr", "p", "clip", metric) == ""


def test_a_run_that_saw_locked_groups_is_refused(task, network, tmp_path):
    seen = [*locked_split("pocus_lung")["pretrain"][:2], locked_split("pocus_lung")["test"][0]]
    for file, content in {"corpus": {"sources": ["pocus_lung"], "groups": seen}, "summary": {}}.items():
        (tmp_path / f"{file}.json").write_text(json.dumps(content))
    entry = Entry(f"run:{tmp_path}", "resnet18", [network])
    with pytest.raises(ValueError, match=f"pretrained on 1 locked groups of pocus_lung .{seen[2]}"):
        task_report(task, [entry], Protocol(part="test"), Columns(), "", None)
    assert overlap(entry, task, Protocol(part="inner")) == "2 of 12 groups"
    (tmp_path / "corpus.json").write_text(json.dumps({"sources": ["hc18"], "groups": seen}))
    assert overlap(entry, task, Protocol(part="test")) == "0 of 6 groups"


def test_the_overlap_of_a_weight_is_that_of_its_entry(task, network):
    import usbackbones

    name = usbackbones.list_weights("resnet18.uscl*")[0]
    entry = Entry(f"usbackbones/{name}", "resnet18", [network])
    assert overlap(entry, task, Protocol(part="test")).startswith("0 of 6 groups")
    told = overlap(entry, replace(task, name="other"), Protocol(part="inner"))
    assert " of 12 groups" in told and "by frames" not in told  # the ledger was compared with the locked part alone


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("local-dir:/nowhere", "error: .*/nowhere"),
        ("resnet18.nosuch", "error: .*nosuch"),
        ("usbackbones/resnet18.nosuch", "error: .*nosuch"),
    ],
)
def test_a_model_that_cannot_be_built_is_named(mini, tmp_path, capsys, model, message):
    with pytest.raises(SystemExit, match="2"):
        main((model,), mini, part="inner", cache=tmp_path)
    assert re.match(message, capsys.readouterr().err.splitlines()[-1])


def test_data_and_tasks_that_are_not_there_are_named(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(("random:resnet18",), tmp_path, part="inner", cache=tmp_path)
    assert re.match(r"error: .*pocus_lung is not there", capsys.readouterr().err)
    with pytest.raises(SystemExit, match="2"):
        main(("random:resnet18",), tmp_path, tasks=("liver",), cache=tmp_path)
    assert "error: no task named 'liver'" in capsys.readouterr().err


def test_the_command_does_not_tell_where_its_numbers_went():
    given = ["a model", "--json", "/home/somebody/x.json", "--seeds", "2", "--cache=/tmp/c", "--page", "p.md"]
    assert command_line("training.x", given) == "python -m training.x 'a model' --seeds 2"


def test_the_command_does_not_tell_whose_home_it_was_run_in(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    given = ["local-dir:/home/somebody/net", "--data=/home/somebody/data", "--data", "../shared/data"]
    told = command_line("training.x", given)
    assert "somebody" not in told and "local-dir:~/net" in told and told.endswith("--data ../shared/data")
