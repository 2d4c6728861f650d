"""From a run to a published folder, and what is refused."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from tests.conftest import run_module
from tests.phantoms import phantom_clip
from training.benchmark.markdown import interval_cell
from training.data.corpora.muscle import dl_track
from training.data.errors import CorpusError
from training.data.fingerprints import FILE as LEDGER
from training.data.fingerprints import KEPT, decoded, make_ledger, read_ledger, write_ledger
from training.data.locked_splits import locked_split
from training.data.overlap.verdicts import corpus_ledger
from training.pretrain import Run, pretrain
from training.recipes import RECIPES
from training.release.checks import ReleaseError, refuse_start
from training.release.commands import add, labels_told, metrics, overlap
from training.release.records import read_weights
from training.release.render import page, render_figure, render_results, weights_table
from training.release.succession import embed, retire
from training.release.weights_file import PYRAMID
from usbackbones.hub.pretraining_run import RunError, backbone_of_run, input_side

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module", params=["test_resnet", "test_vit"])
def run(request, cache, tmp_path_factory):
    recipe = RECIPES["smoke"][1]
    recipe = replace(recipe, arch=request.param, steps=3, batch=6, augment=replace(recipe.augment, size=64))
    folder = pretrain(
        Run(recipe=recipe, data=cache, out=tmp_path_factory.mktemp("run")), "smoke", "the command", progress=False
    )
    write_ledger(corpus_ledger(str(cache), folder), folder / LEDGER)
    return folder


@pytest.fixture
def places(tmp_path):
    zoo = tmp_path / "zoo.json"
    zoo.write_text(json.dumps({"organisation": "usbackbones", "default": None, "weights": {}}))
    return {"zoo": zoo, "cards": tmp_path / "cards"}


def change(run, tmp_path, **changes):
    """A copy of a run whose files are changed by functions."""
    copy = tmp_path / "changed"
    copy.mkdir()
    for file in run.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    for name, function in changes.items():
        if name == "checkpoint":
            state = torch.load(copy / "checkpoint.pt", weights_only=True)
            function(state["method"])
            torch.save(state, copy / "checkpoint.pt")
        else:
            content = json.loads((copy / f"{name}.json").read_text())
            function(content)
            (copy / f"{name}.json").write_text(json.dumps(content))
    return copy


@pytest.mark.parametrize("run", ["test_resnet"], indirect=True)
def test_a_network_may_be_given_larger_frames_than_its_views(run, places, tmp_path):
    add(change(run, tmp_path, recipe=lambda recipe: recipe.update(input_size=80)), "uscl_open1", **places)
    ((name, entry),) = read_weights(**places)["weights"].items()
    assert entry["training"]["recipe"]["augment"]["size"] < entry["input"]["size"] == 80
    config = json.loads((places["cards"] / name / "config.json").read_text())
    assert config["pretrained_cfg"]["input_size"] == [3, 80, 80]


def test_the_card_tells_which_labels_a_method_was_given():
    classes = ["a", "b"]
    weak = labels_told({"label_weight": 0.2}, classes)
    assert weak.startswith("Weak clip labels entered the loss with weight 0.2. So a few-")
    assert (
        labels_told({"label_weight": 0.0}, classes) == labels_told({"name": "simclr"}, classes) == "No label was used."
    )
    assert labels_told({"label_weight": 0.2}, []) == "No label was used."
    anatomy = {"granularity": "fine", "anatomy_ratio": 1.0}
    told = labels_told(anatomy, [])
    assert told.startswith("Anatomy labels (fine) chose which frames attract one another. So a few-")
    assert "of 25% of the clips" in labels_told(anatomy | {"anatomy_ratio": 0.25}, [])
    assert labels_told(anatomy | {"anatomy_ratio": 0.0}, classes) == "No label was used."


def test_a_run_that_began_at_a_weight_of_unknown_or_closed_data_is_refused(run, places, tmp_path):
    start = "usbackbones/test_resnet.uscl_nc9"
    weights = {f"test_resnet.uscl_{tier}9": {"tier": tier} for tier in ("nc", "open")}
    for init, told in [
        ("resnet18.tv_in1k", "is not recorded here"),
        (start, "on open data, but began at .* which is nc"),
    ]:
        with pytest.raises(ReleaseError, match=told):
            refuse_start(init, "open", weights)
        place = tmp_path / init.rpartition(".")[2]
        place.mkdir()
        begun = change(run, place, recipe=lambda recipe, init=init: recipe.update(init=init))
        with pytest.raises(ReleaseError, match="began at"):
            add(begun, "uscl_open1", **places)
    refuse_start(start.replace("nc9", "open9"), "open", weights)
    refuse_start("", "open", {})


def test_a_pyramid_that_was_learned_is_released_with_its_backbone(cache, places, tmp_path):
    recipe = RECIPES["hico"][1]
    recipe = replace(recipe, arch="test_resnet", steps=2, batch=6, augment=replace(recipe.augment, size=64))
    run = pretrain(Run(recipe=recipe, data=cache, out=tmp_path / "run"), "hico", progress=False)
    add(run, "hico_open1", **places)
    ((name, entry),) = read_weights(**places)["weights"].items()
    folder, state = places["cards"] / name, torch.load(run / "checkpoint.pt", weights_only=True)["method"]
    trained = recipe.method.build(backbone_of_run(run)[0], 2)
    trained.load_state_dict(state)
    tensors = load_file(folder / PYRAMID)
    assert {key: list(value.shape) for key, value in tensors.items()} == entry["training"]["pyramid"]
    images = torch.rand(2, 1, 64, 64)
    expected = trained.pyramid(trained.eval().maps(trained.backbone, images)[1])
    again = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0, in_chans=1).eval()
    trained.pyramid.load_state_dict({key: value.float() for key, value in tensors.items()})
    for ours, theirs in zip(trained.pyramid(trained.maps(again, images)[1]), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.01)
    assert "`pyramid.safetensors` holds the feature pyramid" in (folder / "README.md").read_text()


def test_the_folder_loads_with_timm_alone_and_gives_the_runs_features(run, places):
    add(run, "uscl_open1", **places)
    zoo = json.loads(places["zoo"].read_text())
    (name,) = zoo["weights"]
    folder = places["cards"] / name
    backbone, recipe = backbone_of_run(run)
    size = input_side(recipe)
    gray = torch.randn(2, 1, size, size)
    script = (
        "import sys, timm, torch\n"
        "gray = torch.load(sys.argv[1], weights_only=True)\n"
        "model = timm.create_model('local-dir:' + sys.argv[2], pretrained=True, num_classes=0).eval()\n"
        "assert not any(name.startswith('usbackbones') for name in sys.modules)\n"
        "torch.save(model(gray.expand(-1, 3, -1, -1)).detach(), sys.argv[1])\n"
    )
    exchanged = places["zoo"].with_name("exchange.pt")
    torch.save(gray, exchanged)
    subprocess.run([sys.executable, "-c", script, exchanged, folder], check=True, cwd=places["zoo"].parent)
    with torch.inference_mode():
        expected = backbone(gray)
    got = torch.load(exchanged, weights_only=True)
    assert (got - expected).abs().max() < 0.01 * expected.abs().max()
    config = timm.create_model(f"local-dir:{folder}").pretrained_cfg
    assert tuple(config["input_size"]) == (3, size, size) and tuple(config["mean"]) == (0.5, 0.5, 0.5)
    assert config["license"] == "Apache-2.0" and "a1_in1k" not in json.dumps(config, default=str)


def test_norms_and_the_first_layer_stay_float32_and_the_rest_is_half(run, places):
    add(run, "uscl_open1", **places)
    (folder,) = places["cards"].iterdir()
    kinds = {key: value.dtype for key, value in load_file(folder / "model.safetensors").items()}
    backbone, _ = backbone_of_run(run)
    layers = dict(backbone.named_modules())
    for key, kind in kinds.items():
        layer = layers[key.rpartition(".")[0]]
        wide = isinstance(layer, torch.nn.BatchNorm2d | torch.nn.LayerNorm) or key in (
            "conv1.0.weight",
            "patch_embed.proj.weight",
        )
        counter = key.endswith("num_batches_tracked")
        assert kind == (torch.int64 if counter else torch.float32 if wide else torch.float16), key


def test_a_locked_test_group_is_refused(run, places, tmp_path):
    test_group = locked_split("pocus_lung")["test"][0]

    def sees_it(corpus):
        corpus["sources"], corpus["groups"] = ["pocus_lung"], [test_group]
        corpus["patients"] = {"pocus_lung": [test_group]}

    with pytest.raises(ReleaseError, match=test_group):
        add(change(run, tmp_path, corpus=sees_it), "uscl_open1", **places)
    assert not places["cards"].exists() and json.loads(places["zoo"].read_text())["weights"] == {}


def test_a_run_on_a_set_that_is_for_judging_alone_or_on_groups_locked_by_rule_is_refused(run, places, tmp_path):
    with pytest.raises(ReleaseError, match="never pretrained on: busi"):
        add(change(run, tmp_path, corpus=lambda corpus: corpus["sources"].append("busi")), "uscl_open1", **places)
    copy = tmp_path / "changed"
    corpus = json.loads((run / "corpus.json").read_text()) | {"locked_groups": ["bus_bra/7"]}
    (copy / "corpus.json").write_text(json.dumps(corpus))
    with pytest.raises(ReleaseError, match="locked test groups bus_bra/7"):
        add(copy, "uscl_open1", **places)


def lung_folder(root, locked, patient):
    """A folder of the lung collection with one clip, of a simulated patient under a locked group's name."""
    folder = root / "pocus_lung"
    folder.mkdir(parents=True)
    first, *others = (Image.fromarray(frame) for frame in phantom_clip(patient, frames=6, size=48)[..., ::-1])
    first.save(folder / "clip.gif", save_all=True, append_images=others)
    (folder / "groups.csv").write_text(
        f"path,kind,label,label_uncertain,licence,group\nclip.gif,video,covid,0,CC BY 4.0,{locked}\n"
    )
    return root


def test_a_frame_of_a_locked_test_part_is_refused_whatever_its_name(run, places, tmp_path):
    root = lung_folder(tmp_path / "data", locked_split("pocus_lung")["test"][0], patient=3)
    with pytest.raises(ReleaseError, match=r"1 locked test clip of pocus_lung, as .*clip\.gif: .*of clip3"):
        add(run, "uscl_open1", root=root, **places)
    assert not places["cards"].exists() and json.loads(places["zoo"].read_text())["weights"] == {}


@pytest.mark.parametrize("run", ["test_resnet"], indirect=True)
def test_the_pictures_of_dl_track_that_stand_in_locked_clips_are_refused(run, places, tmp_path, shared_data):
    """They are put back into the ledger of a run, whose own record names no locked group."""
    pictures = {f"apo_img_000{number}" for number in (15, 17, 19, 30, 31)}
    back = [row for row in dl_track(shared_data / "dl_track", left_out=()) if row.clip in pictures]
    seen = {"sources": ["dl_track"], "groups": sorted({row.group for row in back})}
    copy = change(run, tmp_path, corpus=lambda corpus: corpus.update(seen))
    write_ledger(make_ledger(decoded(back, progress=False), KEPT), copy / LEDGER)
    root = tmp_path / "data"
    root.mkdir()
    (root / "timtrack_muscle").symlink_to(shared_data / "timtrack_muscle")
    with pytest.raises(ReleaseError, match=r"it saw 5 locked test clips of timtrack_muscle, as ") as refusal:
        add(copy, "uscl_open1", root=root, **places)
    assert all(name in str(refusal.value) for name in pictures)
    assert not places["cards"].exists() and json.loads(places["zoo"].read_text())["weights"] == {}


def test_the_ledger_goes_with_the_weight_and_the_card_tells_what_was_seen(run, places, tmp_path):
    root = lung_folder(tmp_path / "data", locked_split("pocus_lung")["test"][0], patient=30)
    add(run, "uscl_open1", root=root, **places)
    ((name, entry),) = read_weights(**places)["weights"].items()
    assert read_ledger(places["cards"] / name / LEDGER).clips == tuple(sorted(entry["corpus"]["clips"]))
    found = {name: found["verdict"] for name, found in entry["overlap"]["benchmarks"].items()}
    assert found["pocus_lung"] == "clean" and found["hc18"] == found["timtrack_muscle"] == "unknown"
    assert "pocus_lung clean" in (places["cards"] / name / "README.md").read_text()
    (root / "pocus_lung").rename(root / "elsewhere")
    lung_folder(root, locked_split("pocus_lung")["test"][0], patient=5)
    overlap(name, root, **places)
    card = (places["cards"] / name / "README.md").read_text()
    assert "pocus_lung overlap 1 clip (pocus_lung/clip.gif)" in card and "hc18 unknown" in card


def test_a_run_without_a_ledger_is_unknown_and_never_clean(run, places, tmp_path):
    bare = change(run, tmp_path)
    (bare / LEDGER).unlink()
    add(
        bare,
        "uscl_open1",
        root=lung_folder(tmp_path / "data", locked_split("pocus_lung")["test"][0], patient=3),
        **places,
    )
    (entry,) = read_weights(**places)["weights"].values()
    assert {found["verdict"] for found in entry["overlap"]["benchmarks"].values()} == {"unknown"}


def test_a_name_that_is_taken_keeps_its_weight(run, places):
    add(run, "uscl_open1", **places)
    before = {file: file.read_bytes() for file in places["zoo"].parent.rglob("*") if file.is_file()}
    with pytest.raises(ReleaseError, match=r"is released already, .* take another --tag, as uscl_open2"):
        add(run, "uscl_open1", **places)
    assert before == {file: file.read_bytes() for file in places["zoo"].parent.rglob("*") if file.is_file()}
    content = json.loads(places["zoo"].read_text())
    (name,) = content["weights"]
    places["zoo"].write_text(json.dumps(content | {"successors": {name.replace("open1", "open2"): name}}))
    with pytest.raises(ReleaseError, match="take another --tag, as uscl_open3"):
        add(run, "uscl_open2", **places)


def test_data_without_a_licence_are_refused(run, places, tmp_path):
    bad = change(run, tmp_path, corpus=lambda corpus: corpus.update(licences=["CC0", ""]))
    with pytest.raises(CorpusError, match="none stated"):
        add(bad, "uscl_open1", **places)


def test_a_tag_that_hides_the_tier_is_refused(run, places, tmp_path):
    nc = change(run, tmp_path, corpus=lambda corpus: corpus.update(licences=["CC BY-NC 4.0"]))
    with pytest.raises(ReleaseError, match="uscl_nc"):
        add(nc, "uscl_open1", **places)


@pytest.mark.parametrize(("value", "complaint"), [(float("nan"), "NaN"), (1e6, "beyond fp16")])
def test_numbers_that_cannot_be_published_are_refused(run, places, tmp_path, value, complaint):
    def spoil(method):
        key = [key for key in method if key.startswith("backbone.") and method[key].dim() > 1][-1]
        method[key].view(-1)[0] = value

    with pytest.raises(ValueError, match=complaint):
        add(change(run, tmp_path, checkpoint=spoil), "uscl_open1", **places)
    assert json.loads(places["zoo"].read_text())["weights"] == {}


def test_an_unfinished_run_is_named(places, tmp_path):
    with pytest.raises(RunError, match=r"recipe\.json is missing"):
        add(tmp_path, "uscl_open1", **places)


def test_metrics_and_embedding(run, places, tmp_path):
    add(run, "uscl_open1", **places)
    (name,) = json.loads(places["zoo"].read_text())["weights"]
    results = tmp_path / "results.json"
    committed = read_weights()
    report = committed["weights"][committed["default"]]["metrics"]["hc18"]
    results.write_text(json.dumps({"tasks": {"hc18": report}}))
    with pytest.raises(CorpusError, match=f"no row usbackbones/{name}"):
        metrics(name, results, **places)
    results.write_text(results.read_text().replace(committed["default"], name))
    metrics(name, results, **places)
    card = (places["cards"] / name / "README.md").read_text()
    assert report["command"].replace(committed["default"], name) in card and "Not evaluated yet" not in card
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "old.tag.safetensors").write_bytes(b"")
    embed(name, weights=tmp_path / "weights", **places)
    assert [file.name for file in (tmp_path / "weights").iterdir()] == [f"{name}.safetensors"]
    assert json.loads(places["zoo"].read_text())["default"] == name
    with pytest.raises(CorpusError, match="not in the zoo"):
        embed("resnet18.nope", weights=tmp_path / "weights", **places)
    closed = json.loads(places["zoo"].read_text())
    closed["weights"][name] |= {"tier": "nc"}
    places["zoo"].write_text(json.dumps(closed))
    with pytest.raises(ReleaseError, match=r"the package is Apache-2\.0: embed a weight of the open tier"):
        embed(name, weights=tmp_path / "weights", **places)


@pytest.mark.parametrize("run", ["test_resnet"], indirect=True)
def test_masks_stand_beside_the_other_tasks(run, places, tmp_path):
    add(run, "uscl_open1", **places)
    (name,) = json.loads(places["zoo"].read_text())["weights"]

    def interval(value):
        return {"value": value, "low": value - 0.1, "high": value + 0.1}

    def row(model, value, **beside):
        told = {"dice": interval(value) | {"members": [value]} | beside, "hd95": interval(30.25)}
        told["hd95"] |= {key: interval(-3) for key in beside}
        found = {"model": model, "overlap": "none", "arch": "a", "networks": 1, "results": {"unet": {"frame": told}}}
        return found | {"input": {"input_size": [1, 128, 128]}, "noise": {"unet": {"frame": {"dice": 0.1, "hd95": 1}}}}

    own = row(f"usbackbones/{name}", 0.8, difference=interval(0.2), to_imagenet=interval(-0.15))
    missing = {"model": "SimCLR test_resnet", "overlap": "unknown", "not_run": "no run", "command": "simclr"}
    report = {
        "task": "busi_lesion", "kind": "masks", "classes": ["foreground"], "about": "Stills.", "reference": "random:a",
        "protocol": {"part": "test", "encoder": "tuned", "size": 128, "epochs": 10, "seeds": 3},
        "counts": {side: {"clips": 300, "groups": 200, "frames": 300} for side in ("pretrain", "test")},
        "rows": [own, missing, row("imagenet:lite0", 0.95), row("random:a", 0.6)], "versions": {}, "command": "dense",
    }  # fmt: skip
    results = tmp_path / "results.json"
    results.write_text(json.dumps({"tasks": {"busi_lesion": report}}))
    metrics(name, results, **places)
    content = read_weights(**places)
    card = (places["cards"] / name / "README.md").read_text()
    assert "| | busi_lesion, Dice |" in card and "| this weight | 0.80 [0.70, 0.90] |" in card
    assert "for Dice a U-Net on the tuned weights" in card and "**worse** on busi_lesion" in card
    told = yaml.safe_load(card.split("---")[1])["model-index"][0]["results"][0]
    assert told["task"]["type"] == "image-segmentation" and "U-Net on tuned features" in told["task"]["name"]
    assert f"[`{name}`]" in weights_table(content) and "|**0.80**|" in weights_table(content)
    shown = render_results(content)
    assert (
        "| Dice | HD95, pixels | Dice − random | HD95, pixels − random | Dice − ImageNet | HD95, pixels − ImageNet |"
        in shown
    )
    assert "0.800 [0.700, 0.900] | 30.2 [30.1, 30.4] | 0.200 [0.100, 0.300] | -3.0 [-3.1, -2.9] | -0.150" in shown
    assert "evaluated on the locked 300 pictures of 200 groups. Mean of 3 U-Nets, encoder tuned, 10 epochs at" in shown
    assert ">Dice</text>" in render_figure(content)
    # Frozen features of the same models at another size: still one row a model.
    whole = interval(0.7) | {"members": [0.7]}
    rows = [
        row(model, 0)
        | {"input": {"input_size": [3, side, side]}, "results": {"linear": {"clip": {"balanced_accuracy": whole}}}}
        for model, side in ((f"usbackbones/{name}", 64), ("imagenet:lite0", 224))
    ]
    organ = report | {"task": "organ", "kind": "classes", "classes": ["a", "b"], "rows": rows}
    results.write_text(json.dumps({"tasks": {"organ": organ}}))
    metrics(name, results, **places)
    table = weights_table(read_weights(**places)).splitlines()
    (ours,) = [line for line in table if f"[`{name}`]" in line]
    (theirs,) = [line for line in table if line.startswith("|imagenet:lite0|")]
    assert "–" not in ours + theirs and "|0.70|" in theirs and "|0.95|" in theirs
    drawn = render_figure(read_weights(**places))
    assert drawn.count(f">{name}</text>") == drawn.count(">imagenet:lite0</text>") == 1 and " px</text>" not in drawn
    page(**places)
    assert "U-Net: beats random weights beyond the interval" in (places["cards"] / "index.html").read_text()


@pytest.mark.parametrize("run", ["test_resnet"], indirect=True)
def test_a_retired_weight_leaves_its_numbers_and_the_name_of_its_successor(run, places, tmp_path):
    study = tmp_path / "STUDY.md"
    study.write_text("# What was tried\n")
    for tag in ("uscl_open1", "uscl_open2", "uscl_open3"):
        add(run, tag, **places)
    old, new, newest = (f"test_resnet.uscl_open{number}" for number in (1, 2, 3))
    committed = read_weights()
    report = json.dumps({"tasks": {"organ": committed["weights"][committed["default"]]["metrics"]["hc18"]}})
    (tmp_path / "results.json").write_text(report.replace(committed["default"], old))
    metrics(old, tmp_path / "results.json", **places)
    value = read_weights(**places)["weights"][old]["metrics"]["hc18"]["rows"][0]["results"]["ridge"]["frame"]
    for wrong, told in ((old, "cannot take the place"), ("resnet18.nope", "not in the zoo")):
        with pytest.raises((ReleaseError, CorpusError), match=told):
            retire(old, wrong, study=study, **places)
    retire(old, new, study=study, **places)
    retire(new, newest, study=study, **places)
    zoo = json.loads(places["zoo"].read_text())
    assert zoo["successors"] == {old: newest, new: newest} and list(zoo["weights"]) == [newest]
    assert [folder.name for folder in places["cards"].iterdir() if folder.is_dir()] == [newest]
    text = study.read_text()
    assert text.startswith("# What was tried\n") and text.count("## Retired weights") == 1
    assert f"### {old}, now {new}" in text and f"### {new}, now {newest}" in text
    assert f"| hc18, mm | {interval_cell(value['mae'], 1)} |" in text
    with pytest.raises(ReleaseError, match="is released already"):
        add(run, "uscl_open1", **places)
    zoo["default"] = newest
    places["zoo"].write_text(json.dumps(zoo))
    with pytest.raises(ReleaseError, match="the weight inside the package: embed another one first"):
        retire(newest, newest, study=study, **places)


def test_the_card_is_valid_and_says_what_it_must(run, places):
    add(run, "uscl_open1", **places)
    (folder,) = places["cards"].iterdir()
    _, head, body = (folder / "README.md").read_text().split("---\n", 2)
    data = yaml.safe_load(head)
    assert data["library_name"] == "timm" and data["license"] == "apache-2.0"
    assert "Not a medical device" in body and "the command" in body


def test_a_refusal_is_one_line(tmp_path):
    done = run_module("training.release", "add", tmp_path, "--tag", "x")
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
