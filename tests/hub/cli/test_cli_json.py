"""Every command as a program's part: JSON alone on stdout, errors as JSON, exit codes; fetch and the doctor."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import save

from tests.conftest import REPOSITORY, Published
from tests.hub.cli.test_cli import archive, run  # noqa: F401  (fixtures)
from tests.phantoms import phantom_clip
from usbackbones.cli import doctor
from usbackbones.cli import main as cli
from usbackbones.hub import registry


def answer(result, code):
    """The one JSON object on stdout."""
    assert result[0] == code
    return json.loads(result[1])


def test_embed_answers_once_and_remembers(run, archive, tmp_path):  # noqa: F811
    """The second time nothing is computed; a damaged entry and a changed clip are computed again."""
    clips, cache = tmp_path / "clips", tmp_path / "cache"
    shutil.copytree(archive, clips)

    def embedded(name, *more):
        given = ("embed", clips, "-o", tmp_path / name, "--model", Published.resnet, "--cache", cache, "--json")
        told = answer(run(*given, *more), 0)
        with np.load(tmp_path / name) as saved:
            return told, saved[saved.files[0]]

    told, first = embedded("a.npz")
    assert told["arrays"] == {"features": [20, 512]} and told["clips"] == 4 and told["skipped"] == []
    assert told["cache"] == {"hits": 0, "misses": 4, "mended": 0}
    told, second = embedded("b.npz")
    assert told["cache"] == {"hits": 4, "misses": 0, "mended": 0}
    np.testing.assert_array_equal(first, second)
    entry = sorted(cache.rglob("*.features"))[0]
    entry.write_bytes(entry.read_bytes()[:-40] + bytes(40))
    told, third = embedded("c.npz")
    assert told["cache"] == {"hits": 3, "misses": 1, "mended": 1}
    np.testing.assert_array_equal(first, third)
    shutil.copy(clips / "patient00_clip0.mp4", clips / "patient01_clip1.mp4")
    told, fourth = embedded("d.npz")
    assert told["cache"]["hits"] == 4  # the same content under another name is known
    np.testing.assert_array_equal(fourth[15:], first[:5])
    assert embedded("e.npz", "--level", "levels")[0]["cache"]["misses"] == 3  # one of the four is a copy


def test_embed_writes_levels_tokens_times_and_parquet(run, archive, tmp_path):  # noqa: F811
    clip, model = archive / "patient00_clip0.mp4", ["--model", Published.resnet, "--json"]
    told = answer(run("embed", clip, "-o", tmp_path / "a.npz", "--level", "levels", "--stride", 2, *model), 0)
    assert told["arrays"] == {"level1": [3, 64], "level2": [3, 128], "level3": [3, 256], "level4": [3, 512]}
    with np.load(tmp_path / "a.npz") as saved:
        steps = np.diff(saved["seconds"])
        assert saved["seconds"][0] == 0 and steps.min() > 0
        np.testing.assert_allclose(steps, steps[0], rtol=0.05)
    told = answer(run("embed", clip, "-o", tmp_path / "a.parquet", "--level", "tokens", "--fast", *model), 0)
    assert told["arrays"] == {"tokens": [5, 512, 2, 2]}
    assert (tmp_path / "a.parquet").read_bytes()[:4] == b"PAR1"


def test_a_long_clip_is_computed_in_batches(run, tmp_path, monkeypatch):  # noqa: F811
    """No more frames than a batch are alive at a time, however long the clip is."""
    from usbackbones.features.extract import Extractor

    np.save(tmp_path / "long.npy", phantom_clip(0, frames=1, size=64).repeat(90, 0))
    sizes = []
    plain = Extractor._arrays
    monkeypatch.setattr(Extractor, "_arrays", lambda self, images: sizes.append(len(images)) or plain(self, images))
    told = run("embed", tmp_path / "long.npy", "-o", tmp_path / "a.npz", "--model", Published.resnet, "--batch", 8)
    assert told[0] == 0
    assert sorted(sizes) == [1, 2] + [8] * 11  # the one frame is the blank that tells the shapes


def test_every_refusal_is_json_and_one_line(run, tmp_path):  # noqa: F811
    (tmp_path / "note.mp4").write_text("no video")
    (tmp_path / "broken.csv").write_text("path,label\nabsent.png,a\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{")
    whole = save({"conv1.weight": torch.zeros(4)})
    for name, content in (("torn", whole[:-3]), ("other", whole)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text('{"architecture": "test_resnet", "num_classes": 0}')
        (tmp_path / name / "model.safetensors").write_bytes(content)
    (tmp_path / "sound.csv").write_text(
        "path,label,group\n" + "".join(f"note.mp4,{x},{x}{n}\n" for x in "ab" for n in range(6))
    )
    (tmp_path / "latin1.csv").write_bytes("path,label\nnote.mp4,Lähmung\n".encode("latin-1"))
    pyarrow.parquet.write_table(pyarrow.table({"path": ["note.mp4"], "label": ["a"]}), tmp_path / "table.parquet")
    kept = sorted(path.name for path in tmp_path.iterdir())
    tuned = ["-o", tmp_path / "tuned"]
    sound = ("finetune", tmp_path / "sound.csv", *tuned)
    damaged = [f"local-dir:{tmp_path / name}" for name in ("folder", "torn", "other")]
    out = ["-o", tmp_path / "out.npz"]
    for command in (
        ("embed", tmp_path / "absent.mp4", *out),
        ("embed", tmp_path / "note.mp4", *out, "--model", Published.resnet),
        ("embed", tmp_path / "note.mp4", *out, "--model", "nope"),
        ("probe", tmp_path / "absent"),
        ("probe", tmp_path / "broken.csv"),
        ("probe", tmp_path / "broken.csv", "--folds", 1),
        ("probe", tmp_path / "broken.csv", "--shots", "many"),
        ("finetune", tmp_path / "absent", *tuned),
        ("finetune", tmp_path / "latin1.csv", *tuned),
        ("finetune", tmp_path / "table.parquet", *tuned),
        *((*sound, *words) for words in (("--test", 1.5), ("--batch", 0), ("--epochs", 0), ("--lr", "nan"))),
        (*sound, "--model", "random:nothing"),
        *((*sound, "--model", model) for model in damaged),
        *(("probe", tmp_path / "sound.csv", "--model", model) for model in damaged),
        *(("segment", tmp_path / "sound.csv", *tuned, "--model", model) for model in damaged),
        *(("export", "-o", tmp_path / "a.onnx", model) for model in damaged),
        ("convert", tmp_path / "absent.pth", "--from", "hico", "-o", tmp_path / "converted"),
        ("export", "-o", tmp_path / "a.onnx", f"local-dir:{tmp_path / 'absent'}"),
        ("info", "nope"),
        ("fetch",),
        ("fetch", "nope"),
        ("demo", "-o", tmp_path / "a.txt"),
        ("list", "--nope"),
        ("nope",),
    ):
        result = run(*command, "--json")
        told = answer(result, cli.REFUSED)
        assert set(told) == {"error"} and told["error"] and "\n" not in told["error"], command
        assert result[2], command
    assert sorted(path.name for path in tmp_path.iterdir()) == kept


def test_an_interruption_is_told(run, monkeypatch):  # noqa: F811
    def interrupted(as_json: bool = False) -> None:
        """Stop."""
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, "list", interrupted)
    assert run("list")[0] == cli.INTERRUPTED


def test_fetch_proves_and_tells(run, published):  # noqa: F811
    told = answer(run("fetch", Published.resnet, f"usbackbones/{Published.vit}", "--json"), 0)
    assert told["failed"] == {}
    for name in (Published.resnet, Published.vit):
        assert told["weights"][name]["sha256"] == published.zoo["weights"][name]["sha256"]
        assert Path(told["weights"][name]["file"]).stat().st_size == told["weights"][name]["bytes"]
    code, out, _ = run("fetch", Published.resnet)
    assert code == 0 and published.zoo["weights"][Published.resnet]["sha256"] in out


def test_fetch_goes_on_after_a_weight_that_cannot_be_had(run, published, tmp_path, monkeypatch):  # noqa: F811
    """Another copy of the releases, one of them damaged and one that only the Hub has, which is not asked."""
    zoo = json.loads((published.folder / "zoo.json").read_text())
    zoo["weights"] = {
        name.replace("synthetic", "fetched"): entry | {"tag": "fetched_open1"} for name, entry in zoo["weights"].items()
    }
    names = list(zoo["weights"])
    zoo["weights"]["resnet18.faraway_open1"] = zoo["weights"][names[0]] | {"tag": "faraway_open1", "revision": "a" * 40}
    for old, new in zip((Published.resnet, Published.vit), names, strict=True):
        shutil.copytree(published.folder / old, tmp_path / new)
    (tmp_path / "zoo.json").write_text(json.dumps(zoo))
    monkeypatch.setattr(registry, "_weights", dict(registry._weights))
    registry._weights.update(registry.read_zoo(tmp_path / "zoo.json").weights)
    file = tmp_path / names[0] / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    result = run("fetch", *zoo["weights"], "--json")
    told = answer(result, 1)
    assert list(told["weights"]) == [names[1]]
    assert set(told["failed"]) == {names[0], "resnet18.faraway_open1"}
    assert "HF_HUB_OFFLINE" in told["failed"]["resnet18.faraway_open1"]
    assert len(result[2].splitlines()) == 2


# The doctor


def test_the_doctor_finds_all_well_without_a_network(run):  # noqa: F811
    told = answer(run("doctor", "--json"), 0)
    by_name = {finding["what"]: finding for finding in told["findings"]}
    assert {"versions", "timm alias", "default weight", "cache", "network", "device", "extra bench"} <= by_name.keys()
    assert by_name["default weight"]["told"].endswith("gives its stored output")
    assert all(finding["remedy"] for finding in told["findings"] if finding["status"] != "ok")


def test_the_doctor_knows_the_output_of_the_default_weight():
    """Or a new default was released: put the `summary` of its features of `pattern()` into `STORED`."""
    assert registry.get_weight(registry.default_name()).sha256 in doctor.STORED


def test_the_doctor_tells_a_wrong_output_and_a_missing_hub_folder(run, monkeypatch):  # noqa: F811
    weight = registry.get_weight(registry.default_name())
    monkeypatch.setitem(doctor.STORED, weight.sha256, (1.0, 1.0, 4.0, 1.0))
    code, out, _ = run("doctor")
    assert code == 1
    assert re.search(r"^fail  default weight: .* gives .*, stored is 1\.0000", out, re.MULTILINE)
    monkeypatch.setenv("USBACKBONES_HUB", "/no/such/folder")
    code, out, _ = run("doctor")
    assert code == 1 and "/no/such/folder" in out


def test_the_doctor_waits_for_no_network(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    (finding,) = doctor._network()
    assert finding.status == "warn" and "127.0.0.1:1" in finding.told and "HF_ENDPOINT" in finding.remedy


def test_the_doctor_knows_the_extras():
    """Each extra that a user may want is in setup.cfg under this name; what is missing is told with the remedy."""
    text = (REPOSITORY / "setup.cfg").read_text()
    assert all(f"\n{extra} =\n" in text for extra in doctor.EXTRAS)
    findings = list(doctor._extras(find=lambda module: None))
    assert [finding.status for finding in findings] == ["warn"] * len(doctor.EXTRAS)
    assert "usbackbones[dicom]" in {f.what: f for f in findings}["extra dicom"].remedy


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_commands(run, shell, tmp_path):  # noqa: F811
    assert not run("--tyro-write-completion", shell, tmp_path / "script")[0]
    script = (tmp_path / "script").read_text()
    assert all(name in script for name in cli.COMMANDS)
