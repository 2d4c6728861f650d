"""A run becomes a private timm folder that computes what the run does; licenses follow the weights."""

import json
import re

import pytest
import timm
import torch

from tests.conftest import Published
from usbackbones.cli import main as cli
from usbackbones.exporting.pack import PackError, pack
from usbackbones.hub import licensing
from usbackbones.hub.backbone import build_backbone
from usbackbones.hub.licensing import License, LicenseError, is_noncommercial, license_for, license_of
from usbackbones.hub.pretraining_run import RunError
from usbackbones.hub.timm_folder import timm_config, write_timm_folder

SECRET = "patient-0815"


@pytest.fixture(params=["test_resnet", "test_vit"])
def run(request, tmp_path):
    """A finished run."""
    return write_run(tmp_path / "run", request.param)


def write_run(place, arch="test_resnet"):
    """The files of a finished run that packing reads."""
    args = {"img_size": 32, "global_pool": "avg"} if "vit" in arch else {}
    place.mkdir()
    torch.manual_seed(6)
    network = timm.create_model(arch, num_classes=0, in_chans=1, **args)
    recipe = {"arch": arch, "model_args": args, "mean": 0.2, "std": 0.25, "input_size": 48, "init": "", "steps": 10}
    corpus = {"groups": [SECRET, "b"], "clips": [f"/home/{SECRET}.mp4"], "sources": ["mine"], "licences": ["CC BY 4.0"]}
    for name, content in (
        ("recipe", recipe | {"augment": {"size": 32}, "method": {"name": "uscl"}}),
        ("corpus", corpus),
        ("summary", {}),
    ):
        (place / f"{name}.json").write_text(json.dumps(content))
    state = {f"backbone.{key}": value for key, value in network.state_dict().items()}
    torch.save({"method": state}, place / "checkpoint.pt")
    return place


def test_a_packed_run_loads_in_timm_alone_and_tells_no_patient(run, tmp_path, capsys):
    out = tmp_path / "mine"
    cli.main(["pack", str(run), "-o", str(out)])
    told = capsys.readouterr().out
    assert "license of the weights: private" in told and f"local-dir:{out}" in told
    assert sorted(file.name for file in out.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    card = (out / "README.md").read_text()
    assert "**Private" in card and "2 groups" in card and "CC BY 4.0" in card
    assert not any(SECRET in file.read_bytes().decode(errors="ignore") for file in out.iterdir())
    images = torch.rand(2, 1, 48, 48)
    names = (f"run:{run}", f"local-dir:{out}")
    with torch.inference_mode():
        wanted, found = (build_backbone(name).eval()(images) for name in names)
        alone = timm.create_model(f"local-dir:{out}", pretrained=True, num_classes=0).eval()(
            images.expand(-1, 3, -1, -1)
        )
    assert (found - wanted).abs().max() < 0.01 * wanted.abs().max()
    assert (alone - wanted).abs().max() < 0.01 * wanted.abs().max()
    again = license_of(f"local-dir:{out}")
    assert (again.weights, again.data, again.noncommercial) == ("private", ("CC BY 4.0",), False)
    with pytest.raises(PackError, match="is there already"):
        pack(run, out)


def test_what_cannot_be_packed_leaves_nothing(run, tmp_path):
    out = tmp_path / "mine"
    corpus = json.loads((run / "corpus.json").read_text())
    (run / "corpus.json").write_text(json.dumps(corpus | {"licences": ["CC BY-NC-SA 4.0"]}))
    assert license_for(f"run:{run}").noncommercial
    with pytest.raises(LicenseError, match=r"--license MIT: .* stays non-commercial"):
        pack(run, out, "MIT")
    state = torch.load(run / "checkpoint.pt")
    next(iter(state["method"].values())).view(-1)[0] = float("nan")
    torch.save(state, run / "checkpoint.pt")
    with pytest.raises(PackError, match="the run diverged"):
        pack(run, out)
    (run / "summary.json").unlink()
    with pytest.raises(RunError, match="no finished run"):
        pack(run, out)
    assert not out.exists()


def test_a_license_is_inherited_through_folders_or_asked_for(published, tmp_path, monkeypatch):
    ours = license_of(Published.resnet)
    assert ours == License("CC-BY-4.0", f"usbackbones/{Published.resnet}", ("CC BY 4.0",), False)
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=0)
    given = {"arch": "test_resnet", "model_args": {}, "tag": "x", "size": 32, "mean": (0.5,) * 3, "std": (0.2,) * 3}
    given |= {"interpolation": "bilinear", "origin_url": "", "description": ""}
    for name, stated in (("silent", "unknown"), ("stated", "cc-by-nc-4.0")):
        write_timm_folder(tmp_path / name, network.state_dict(), timm_config(network, licence=stated, **given))
    silent, stated = (f"local-dir:{tmp_path / name}" for name in ("silent", "stated"))
    with pytest.raises(LicenseError, match=re.escape(f"{silent} states no license of its weights: give it with --lic")):
        license_for(silent)
    assert license_for(silent, "MIT").weights == "MIT"
    inherited = license_for(stated)
    assert inherited.noncommercial and inherited.source == "local-dir:stated"
    config = timm_config(network, licence=inherited.weights, **given) | {"usbackbones": {"license": inherited.block()}}
    write_timm_folder(tmp_path / "tuned", network.state_dict(), config)
    assert license_of(f"local-dir:{tmp_path / 'tuned'}") == inherited  # a second tuning still tells the first source
    with pytest.raises(LicenseError, match="stays non-commercial"):
        license_for(f"local-dir:{tmp_path / 'tuned'}", "Apache-2.0")
    assert license_for("random:test_resnet").weights == licensing.NONE


@pytest.mark.parametrize(
    ("name", "closed"),
    [
        ("CC-BY-NC-SA-4.0", True),
        ("cc_by_nc_4.0", True),
        ("COVID-19 emergency license", True),
        ("fair-noncommercial-research-license", True),
        ("CC BY-SA 4.0", False),
        ("Apache-2.0", False),
        ("BSD-3-Clause-Clear", False),
        ("private", False),
    ],
)
def test_non_commercial_licenses_are_known_by_their_names(name, closed):
    assert is_noncommercial([name]) == closed
