"""timm's registry knows our models, by both names, on every timm that we support."""

import importlib
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import timm
import torch

import usbackbones
from tests.conftest import REPOSITORY, copy_package, python, write_weight
from tests.overlay import OLDEST, overlay
from usbackbones.hub import registry
from usbackbones.hub.entrypoints import ARCHITECTURES


def test_timm_lists_our_models(published):
    ours = [f"us{arch}" for arch in ARCHITECTURES]
    assert sorted(timm.list_models(module="usbackbones")) == sorted(ours)
    assert set(ours) <= set(timm.list_models("us*"))
    tagged = {f"us{published.resnet}", f"us{published.vit}"}
    assert tagged <= set(timm.list_models("us*", pretrained=True))
    assert tagged <= set(timm.list_pretrained("us*"))
    assert timm.is_model_pretrained(f"us{published.resnet}")
    assert timm.is_model(f"us{published.vit}")
    # timm's own names stay timm's.
    assert not [name for name in timm.list_models("resnet18*", pretrained=True) if "synthetic" in name]


def test_cfg_describes_the_release(published):
    cfg = timm.models.get_pretrained_cfg(f"us{published.vit}")
    assert (cfg.input_size, cfg.mean, cfg.std) == ((3, 96, 96), (0.2,) * 3, (0.25,) * 3)
    assert (cfg.first_conv, cfg.classifier, cfg.num_classes) == ("patch_embed.proj", "head", 0)
    assert cfg.fixed_input_size and not cfg.custom_load
    assert cfg.hf_hub_id == "usbackbones/vit_tiny_patch16_224.synthetic_open1"
    assert cfg.license == "CC-BY-4.0"
    assert timm.models.get_pretrained_cfg(f"us{published.resnet}").pool_size == (2, 2)


def test_entrypoints_are_attributes_of_the_package():
    for arch in ARCHITECTURES:
        assert getattr(usbackbones, f"us{arch}") is timm.model_entrypoint(f"us{arch}")


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_builds_without_weights_as_timm_builds_it(arch):
    # global_pool is given because a registered default weight may set another one for its architecture.
    built = timm.create_model(f"usbackbones/{arch}", num_classes=4, in_chans=1, global_pool="avg")
    same = timm.create_model(arch, num_classes=4, in_chans=1, global_pool="avg")
    built_shapes = {key: value.shape for key, value in built.state_dict().items()}
    assert built_shapes.keys() == same.state_dict().keys()
    assert all(built_shapes[key] == value.shape for key, value in same.state_dict().items() if key != "pos_embed")
    assert built.pretrained_cfg["architecture"] == arch


def test_the_slash_name_is_the_plain_name(published):
    assert usbackbones.alias_installed
    name = published.resnet
    slash, plain = (
        timm.create_model(f"{prefix}{name}", pretrained=True).state_dict() for prefix in ("usbackbones/", "us")
    )
    assert all(torch.equal(slash[key], plain[key]) for key in slash)
    assert timm.models.safe_model_name(f"usbackbones/{name}") == "usresnet18_synthetic_open1"


@pytest.mark.parametrize("name", ["someone/resnet18", "usbackbones2/resnet18", "timm/resnet18.a1_in1k"])
def test_other_owners_stay_refused(name):
    with pytest.raises(ValueError, match="has no source prefix"):
        timm.create_model(name)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("resnet18.synthetic_open2", "resnet18.synthetic_open1"),
        ("resnet18.SYNTHETIC", "resnet18"),
        ("resnet19", "resnet18"),
        ("vit_tiny_patch16.synthetic_open1", "vit_tiny_patch16_224.synthetic_open1"),
    ],
)
def test_an_unknown_name_gets_a_suggestion_and_the_list(published, wrong, meant):
    with pytest.raises(registry.UnknownModel) as caught:
        timm.create_model(f"usbackbones/{wrong}", pretrained=True)
    message = str(caught.value)
    assert f"'usbackbones/{wrong}'" in message and f"Did you mean 'usbackbones/{meant}" in message
    assert published.vit in message and "resnet50" in message
    assert isinstance(caught.value, RuntimeError)  # what timm itself raises for an unknown name


def test_an_unknown_tag_of_a_plain_name_is_told_alike(published):
    with pytest.raises(registry.UnknownModel, match=r"Did you mean 'usbackbones/resnet18.synthetic_open1'"):
        timm.create_model("usresnet18.synthetic_open7", pretrained=True)


@pytest.mark.parametrize(
    ("removed", "successor"),
    [("resnet18.uscl_nc1", "resnet18.uscl_open3"), ("resnet18.hico_nc2", "resnet18.hico_open3")],
)
def test_a_removed_name_fails_with_its_successor(removed, successor):
    for ask in (registry.get_weight, lambda name: timm.create_model(f"usbackbones/{name}", pretrained=True)):
        told = f"'usbackbones/{removed}' was removed; 'usbackbones/{successor}' takes its place"
        with pytest.raises(registry.UnknownModel, match=told):
            ask(removed)


@pytest.mark.parametrize("successors", [[], {"resnet18.old1": "resnet18.nowhere1"}])
def test_a_successor_that_is_no_weight_is_refused(successors):
    with pytest.raises(usbackbones.ZooError, match="successors"):
        usbackbones.register({"default": None, "weights": {}, "successors": successors})


def test_a_weight_is_found_by_name_or_by_architecture(published):
    assert registry.get_weight(published.vit).name == published.vit
    default = registry.get_weight("vit_tiny_patch16_224")
    assert default.tag == timm.models.get_pretrained_cfg("usvit_tiny_patch16_224").tag
    assert published.vit in usbackbones.list_weights("vit*")
    assert published.vit not in usbackbones.list_weights("resnet*")
    assert usbackbones.list_weights() == sorted(usbackbones.list_weights())


def test_registering_again_changes_nothing(published):
    before = timm.list_models("us*", pretrained=True), registry.default_name(), usbackbones.list_weights()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert usbackbones.register(published.folder / "zoo.json") == [published.resnet, published.vit]
    assert before == (timm.list_models("us*", pretrained=True), registry.default_name(), usbackbones.list_weights())


def test_a_second_weight_of_an_architecture_joins_the_first(published, tmp_path):
    name = "resnet18.joined_open1"
    entry = write_weight(tmp_path, name, published.tensors[published.resnet])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        usbackbones.register({"default": None, "weights": {name: entry}})
    assert {f"us{name}", f"us{published.resnet}"} <= set(timm.list_models("usresnet18*", pretrained=True))
    assert timm.models.get_pretrained_cfg("usresnet18").tag == registry.get_weight("resnet18").tag


def test_reloading_the_package_changes_nothing(published):
    before = timm.list_models("us*", pretrained=True), timm.list_models(module="usbackbones")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.reload(usbackbones)
        importlib.reload(usbackbones)
    assert before == (timm.list_models("us*", pretrained=True), timm.list_models(module="usbackbones"))
    assert usbackbones.alias_installed
    # The alias holds timm's own parser, not an earlier alias.
    assert not hasattr(timm.models._factory.parse_model_name.original, "original")
    assert timm.create_model(f"usbackbones/{published.resnet}", pretrained=True).num_features == 512


def test_importing_anew_is_silent_but_a_stranger_under_our_name_is_not():
    printed = python("""
import sys, types, warnings
import timm
from timm import create_model  # taken before the alias is there
stranger = types.ModuleType("stranger")
sys.modules["stranger"] = stranger
def usresnet18(pretrained=False, **kwargs): ...
usresnet18.__module__ = "stranger"
timm.models.register_model(usresnet18)
for _ in range(2):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import usbackbones
    print([str(warning.message).split(".")[0] for warning in caught])
    for name in [name for name in sys.modules if name.startswith("usbackbones")]:
        del sys.modules[name]
print(create_model("usbackbones/resnet18").num_features)
""").splitlines()
    assert printed == ["['Overwriting usresnet18 in registry with usbackbones']", "[]", "512"]


def test_a_zoo_without_weights_is_sensible(tmp_path):
    copy_package(tmp_path, {})
    printed = python(
        """
import timm, usbackbones
from usbackbones.hub import registry
assert usbackbones.alias_installed
print(usbackbones.list_weights(), registry.default_name(), timm.list_models("us*", pretrained=True))
for name in ("usbackbones/resnet18", "usvit_tiny_patch16_224"):
    print(timm.create_model(name, in_chans=1).num_features)
    try:
        timm.create_model(name, pretrained=True)
    except usbackbones.hub.locate.WeightsNotFound as error:
        print(error)
try:
    registry.get_weight("resnet34")
except registry.UnknownModel as error:
    print(error)
""",
        tmp_path,
    ).splitlines()
    assert printed[0] == "[] None []"
    assert printed.pop().startswith("No weights are published for resnet34. Weights: none. Architectures: resnet18,")
    assert printed[1::2] == ["512", "192"]
    assert all("No weights are published for" in line and "pretrained=False" in line for line in printed[2::2])


@pytest.mark.slow
def test_a_timm_without_the_parser_keeps_the_plain_names(tmp_path):
    theirs = Path(timm.__file__).parent
    shutil.copytree(theirs, tmp_path / "timm", ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("_factory.py", "__init__.py"):
        source = tmp_path / "timm" / "models" / file
        source.write_text(source.read_text().replace("parse_model_name", "parse_the_name"))
    printed = python(
        """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import timm, usbackbones
print(usbackbones.alias_installed, timm.create_model("usresnet18").num_features)
print(*[warning.message for warning in caught if "usbackbones" in str(warning.message)])
""",
        tmp_path,
    ).splitlines()
    assert printed[0] == "False 512"
    assert "timm.create_model('us<arch>.<tag>')" in printed[1]


@pytest.mark.slow
@pytest.mark.skipif(f"timm=={timm.__version__}" in OLDEST, reason="this run is on the oldest timm already")
def test_everything_holds_on_the_oldest_dependencies():
    """Runs these tests once more, but for slow ones that do not depend on a version."""
    path = overlay(OLDEST)
    tests = [str(Path(__file__).with_name(f"test_{name}.py")) for name in ("registry", "entrypoints", "locate")]
    code = f"""
import sys, pytest, timm, huggingface_hub
versions = {{f"timm=={{timm.__version__}}", f"huggingface_hub=={{huggingface_hub.__version__}}"}}
assert versions <= set({OLDEST!r}), versions
left_out = "not zoo_without and not timm_without and not copied_checkout"
sys.exit(pytest.main(["-p", "no:cacheprovider", "-k", left_out, "--rootdir", {str(REPOSITORY)!r}, *{tests!r}]))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*path, REPOSITORY]))}
    run = subprocess.run([sys.executable, "-c", code], env=environment, cwd=REPOSITORY, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
