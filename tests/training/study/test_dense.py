"""Variants of a U-Net's training on inner groups: each changes what it says alone; log and document agree."""

import shutil
from dataclasses import asdict, replace

import pytest
import torch

from tests.training.benchmark.test_dense import data  # noqa: F401
from training.benchmark.dense.task import load_dense_task
from training.benchmark.imagenet import MEAN, STD
from training.data.errors import CorpusError
from training.data.locked_splits import locked_split
from training.study import dense
from training.study.dense import VARIANTS, Measured, main, measure, read_log, segmenter, stages_from, table_of
from usbackbones.hub.backbone import build_backbone
from usbackbones.segmentation.models import pyramid_of

MODEL = "random:resnet10t"
ONE = Measured("busi_lesion", "imagenet:lite0", "base", 0, 30, 9, 0.5)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(dense, "BASE", replace(dense.BASE, size=32, epochs=1, batch=4))


def state(run):
    return {key: tensor.clone() for key, tensor in run.model.state_dict().items()}


@pytest.mark.parametrize(
    ("arch", "coarsest", "two"),
    [
        ("resnet18", ("layer4.",), ("layer3.", "layer4.")),
        ("tf_efficientnet_lite0", ("blocks.5.", "blocks.6."), ("blocks.3.", "blocks.4.", "blocks.5.", "blocks.6.")),
    ],
)
def test_stages_of_a_stride(arch, coarsest, two):
    """The first of them is the one that halves the map: asked of the network itself."""
    network = build_backbone(f"random:{arch}", 1)
    assert (stages_from(network, 32), stages_from(network, 16)) == (coarsest, two)
    sides, modules = {}, dict(network.named_modules())
    for stage in (coarsest[0], two[0]):
        name = stage.removesuffix(".")
        modules[name].register_forward_hook(
            lambda _, given, out, name=name: sides.update({name: (given[0].shape[-1], out.shape[-1])})
        )
    network(torch.rand(1, 1, 64, 64))
    assert [sides[stage.removesuffix(".")] for stage in (coarsest[0], two[0])] == [(4, 2), (8, 4)]


def test_a_network_without_stages_is_refused():
    with pytest.raises(CorpusError, match="VisionTransformer has no stages"):
        stages_from(build_backbone("random:vit_tiny_patch16_224", 1), 32)


def test_a_variant_changes_what_it_says_and_nothing_else(data, quick):  # noqa: F811
    task = load_dense_task("busi_lesion", data).inner()
    base = segmenter(MODEL, task, VARIANTS["base"], 3)
    for name, stages in (("top", ("layer4.",)), ("tops", ("layer3.", "layer4."))):
        made = segmenter(MODEL, task, VARIANTS[name], 3)
        assert all(torch.equal(tensor, state(base)[key]) for key, tensor in state(made).items())  # of the same seed
        dense.renew(pyramid_of(made.model).network, VARIANTS[name].renewed, 4)
        changed = {key for key, tensor in state(made).items() if not torch.equal(tensor, state(base)[key])}
        network = tuple(f"encoder.pyramid.network.{stage}" for stage in stages)
        assert {stage for stage in network if any(key.startswith(stage) for key in changed)} == {*network}
        assert all(key.startswith(network) for key in changed)
    photo: dict = segmenter(MODEL, task, VARIANTS["photo"], 3).model.pretrained_cfg
    assert (photo["mean"], photo["std"]) == ((MEAN,), (STD,)) != (base.model.pretrained_cfg["mean"], None)
    for name, field, value in (("low", "lr", 3e-4), ("long", "epochs", 12), ("frozen", "frozen", "all")):
        assert asdict(segmenter(MODEL, task, VARIANTS[name], 3).spec) == asdict(base.spec) | {field: value}


def test_still_batch_norms_keep_weights_and_statistics(data, quick):  # noqa: F811
    task = load_dense_task("busi_lesion", data).inner()
    for name in ("base", "still"):
        run = segmenter(MODEL, task, VARIANTS[name], 0)
        before = state(run)
        run.run()
        moved = {key for key, tensor in state(run).items() if not torch.equal(tensor, before[key])}
        norms = {key for key in moved if key.startswith("encoder.pyramid.network.") and ".bn" in f".{key}"}
        assert bool(norms) == (name == "base")
        assert any(key.startswith("encoder.pyramid.network.layer4.") for key in moved)


def test_no_locked_picture_is_opened(data, quick, tmp_path):  # noqa: F811
    """Nor its mask: they hold nothing that could be read."""
    shutil.copytree(data / "busi", tmp_path / "busi")
    broken = [file for group in locked_split("busi")["test"] for file in (tmp_path / "busi").rglob(f"{group}*.png")]
    for file in broken:
        file.write_bytes(b"locked")
    found = measure(load_dense_task("busi_lesion", tmp_path), MODEL, "base", 0, 4)
    assert broken and (found.learned, found.evaluated) == (4, 2) and 0 <= found.dice <= 1


def test_the_same_command_goes_on(data, quick, tmp_path, monkeypatch):  # noqa: F811
    log, page = tmp_path / "log.jsonl", tmp_path / "page.md"
    page.write_text("# Page\n\n<!-- dense: here -->\n<!-- end -->\n")
    given = {"data": data, "task": ("busi_lesion",), "log": log, "document": page}
    main(model=(MODEL,), variant=("base",), **given)
    first = log.read_text()
    main(model=(MODEL,), variant=("base", "frozen"), **given)
    assert log.read_text().startswith(first) and [one.variant for one in read_log(log)] == ["base", "frozen"]
    assert page.read_text().count(f"| {VARIANTS['base'].about} | {read_log(log)[0].dice:.3f} |") == 1
    monkeypatch.setattr(dense, "measure", None)
    main(model=(MODEL,), variant=("base", "frozen"), **given)
    with pytest.raises(CorpusError, match="no variant named 'none'; there is: base, frozen"):
        main(model=(MODEL,), variant=("none",), **given)
    page.write_text("# Page")
    with pytest.raises(ValueError, match="has lost its marker"):
        main(model=(MODEL,), variant=("still",), **given)


def test_table_has_a_column_for_each_task_and_model():
    found = [
        *(replace(ONE, draw=draw, dice=dice) for draw, dice in ((1, 0.7), (0, 0.4))),
        replace(ONE, task="camus_structures", variant="long", dice=0.25),
        replace(ONE, model="z", variant="long"),
    ]
    lines = table_of(found).splitlines()
    assert lines[0] == "| variant | busi_lesion: imagenet:lite0 | busi_lesion: z | camus_structures: imagenet:lite0 |"
    assert lines[2:] == [
        f"| {VARIANTS['base'].about} | 0.550 (0.400, 0.700) | not run | not run |",
        f"| {VARIANTS['long'].about} | not run | 0.500 | 0.250 |",
    ]
