"""`usbackbones info` of every kind of name beside our weights."""

import json

import pytest

from tests.hub.cli.test_cli import refused, run  # noqa: F401
from tests.hub.exporting.test_pack import write_run
from tests.hub.predicting.conftest import classifier, regressor, segmenter  # noqa: F401


def facts(text):
    return dict(line.strip().split(":", 1) for line in text.splitlines()[1:] if ":" in line)


def test_a_classifier_with_the_metrics_of_its_training(run, classifier, tmp_path):  # noqa: F811
    metrics = {
        level: {"auroc": {"value": v, "low": 0.5, "high": None}} for level, v in (("clip", 0.7), ("patient", 0.8))
    }
    told = {"metrics": metrics, "frozen": metrics, "unit": "patient"}
    for file in classifier.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "metrics.json").write_text(json.dumps(told))
    code, out, err = run("info", tmp_path)
    assert (code, err) == (0, "") and 10 <= len(out.splitlines()) <= 25
    assert out.startswith(f"local-dir:{tmp_path}\n") and "test_resnet, 1" not in out.splitlines()[0]
    shown = facts(out)
    assert shown["head"].strip() == "2 classes: abdomen, heart" and "CC-BY-NC-4.0" in shown["license of the weights"]
    assert shown["fine-tuned auroc"].strip() == "0.800 (no interval)" and len(shown["sha256"].strip()) == 64
    as_json = json.loads(run("info", f"local-dir:{tmp_path}", "--json")[1])
    assert as_json["metrics"] == metrics and as_json["head"] == shown["head"].strip()


def test_a_regressor_a_segmenter_and_a_run(run, regressor, segmenter, tmp_path):  # noqa: F811
    assert facts(run("info", regressor)[1])["head"].strip() == "a number: ef, %"
    shown = facts(run("info", segmenter)[1])
    assert (
        shown["architecture"].strip() == "U-Net on random:resnet10t" and shown["structures"].strip() == "nerve, artery"
    )
    write_run(tmp_path / "run")
    code, out, _ = run("info", f"run:{tmp_path / 'run'}")
    assert code == 0 and ", finished" in facts(out)["steps"] and "private" in facts(out)["license of the weights"]
    assert "usbackbones probe DATA --model run:" in out


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("resnet50.a1_in1k", "2048 features, 23.5 million parameters"),
        ("timm/resnet18", "apache-2.0"),
        ("random:test_vit", "random, by a seed"),
    ],
)
def test_names_of_timm_need_no_network(run, name, told):  # noqa: F811
    code, out, err = run("info", name)
    assert (code, err) == (0, "") and told in out and " px, " in out


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("hf-hub:X", "hf-hub:X names no repository: write hf-hub:OWNER/NAME"),
        ("hf-hub:nobody/nothing", "it is not on this machine, and HF_HUB_OFFLINE forbids to ask"),
        ("local-dir:X", "local-dir:X could not be loaded: there is no such folder"),
        ("run:X", "X/recipe.json is missing: X is not a finished run"),
        ("random:X", "timm has no architecture 'X'"),
        ("resnet18x", "no model of timm or of ours has this name (did you mean resnet18"),
    ],
)
def test_refusals_name_what_was_given(run, name, told):  # noqa: F811
    (line,) = refused(run("info", name), told)
    assert "usbackbones/" not in line
