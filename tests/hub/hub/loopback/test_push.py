"""From model_cards/ to a Hub and back: what arrives is what was released, and what must not go does not."""

import hashlib
import inspect
import json
import shutil
import subprocess
import sys

import pytest
import timm
from safetensors.torch import load_file, save_file

from tests.conftest import REPOSITORY, copy_package
from tests.hub.hub.loopback.client import digest
from tests.hub.hub.loopback.conftest import GUEST, MEMBER
from tests.hub_server.faults import Fault
from training.data.fingerprints import FILE as LEDGER
from training.release.card import render_card
from training.release.checks import FILES, ReleaseError, refuse_folder
from training.release.commands import main
from training.release.records import CARDS, ZOO, read_weights, write_weights
from usbackbones.hub.zoo import FILE

NAME = "resnet18.awcl_nc2"


class Release:
    """A copy of a real release that a test may change, and the pushing of it."""

    def __init__(self, folder, client):
        self.zoo, self.cards, self.org, self.client = folder / "zoo.json", folder / "cards", folder.name, client
        self.entry = read_weights()["weights"][NAME]
        shutil.copytree(CARDS / NAME, self.cards / NAME)
        self.write()

    def write(self):
        content = {"organisation": "x", "default": None, "weights": {NAME: self.entry}}
        write_weights(content, self.zoo, self.cards)
        (self.cards / NAME / "README.md").write_text(render_card(NAME, self.entry))

    def push(self, token=MEMBER, **order):
        answer = self.client("push", name=NAME, org=self.org, zoo=self.zoo, cards=self.cards, token=token, **order)
        self.entry = read_weights(self.zoo, self.cards)["weights"][NAME]
        return answer

    @property
    def repo_id(self):
        return f"{self.org}/{NAME}"


@pytest.fixture
def release(hub, tmp_path, client):
    """A release under an organisation of this test's own, none of whose bytes the Hub has yet."""
    hub.state.store.blob(json.loads(ZOO.read_text())["weights"][NAME]["sha256"]).unlink(missing_ok=True)
    folder = tmp_path / f"org-{tmp_path.name.rpartition('_')[2]}"
    folder.mkdir()
    return Release(folder, client)


# The same sum in a process that must not import this package for it.
DIGEST = inspect.getsource(digest)


def test_push_then_load_with_and_without_this_package(hub, release, environment, tmp_path):
    dry = release.push(dry_run=True)
    added = [line.split()[1] for line in dry["told"] if line.startswith("  + ")]
    assert "(new)" in dry["told"][0] and sorted(added) == sorted([*FILES, LEDGER]), dry
    assert release.repo_id not in hub.state.store.repositories and release.entry["revision"] is None

    told = release.push()["told"]
    repository = hub.state.store.get(release.repo_id)
    head = repository.at("main")
    assert release.entry["hub_id"] == release.repo_id and release.entry["revision"] == head.oid
    assert repository.tags == {f"pinned-{head.oid[:12]}": head.oid}
    assert head.oid in told[-1] and release.entry["sha256"] in told[-1]
    for file in FILES:
        stored = hub.state.store.blob(head.files[file].sha256).read_bytes()
        assert stored == (release.cards / NAME / file).read_bytes()
    tokens = {one.path.split("/")[1]: one.authorization for one in hub.log}
    assert tokens["upload"] is None and tokens["blob"] is None

    expected = digest(timm.create_model(f"local-dir:{CARDS / NAME}", pretrained=True, num_classes=0))
    copy_package(tmp_path / "copy", {NAME: release.entry})
    code = f"""
import hashlib, sys, timm, torch
{DIGEST}
model = timm.create_model("hf-hub:{release.repo_id}", pretrained=True, num_classes=0)
assert "usbackbones" not in sys.modules
print(digest(model))
import usbackbones
assert usbackbones.__file__.startswith({str(tmp_path)!r})
model = timm.create_model("usbackbones/{NAME}", pretrained=True, cache_dir={str(tmp_path / "empty")!r})
assert model.pretrained_cfg["file"].startswith({str(tmp_path / "empty")!r})
print(digest(model))
"""
    path = environment["PYTHONPATH"].replace(str(REPOSITORY), str(tmp_path / "copy"))
    home = {"HF_HOME": str(tmp_path / "home"), "PYTHONPATH": path}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment | home, cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [expected, expected]


def test_a_push_whose_zoo_cannot_be_written_says_that_it_arrived(hub, release):
    usual, release.zoo = release.zoo, release.zoo.with_name(f"{'z' * 245}.json")  # no room for a name beside it
    usual.rename(release.zoo)
    told = release.push()
    head = hub.state.store.get(release.repo_id).at("main").oid
    assert told["error"] == "PushError" and f"is on the Hub at commit {head}, but" in told["message"]
    assert release.entry["revision"] is None
    release.zoo = release.zoo.rename(usual)
    assert "  no change" in release.push()["told"] and release.entry["revision"] == head


def test_pushing_again_changes_what_differs_and_nothing_else(hub, release):
    (release.cards / NAME / LEDGER).unlink()
    release.push()
    first = release.entry["revision"]
    assert "  no change" in release.push()["told"] and release.entry["revision"] == first
    hub.state.store.commit(release.repo_id, "main", "litter", {"pytorch_model.bin": hub.state.store.put(b"x", True)})
    release.entry["training"]["choice"] = "Chosen again."
    release.write()
    (release.cards / NAME / LEDGER).write_bytes(b"fingerprints")
    told = "\n".join(release.push()["told"])
    assert "  - pytorch_model.bin" in told and "Chosen again." in told and f"  + {LEDGER}" in told and FILE not in told
    repository = hub.state.store.get(release.repo_id)
    assert set(repository.at("main").files) == {*FILES, LEDGER, ".gitattributes"}
    assert release.entry["revision"] == repository.at("main").oid != first
    assert repository.at(f"pinned-{first[:12]}").oid == first


@pytest.mark.parametrize(
    ("token", "fault", "complaint"),
    [
        (GUEST, None, "HF_TOKEN"),
        (MEMBER, Fault("POST */commit/*", "status", status=400), "HF_TOKEN"),
        (MEMBER, Fault("PUT *", "status", status=400), "transfer failed"),
        (MEMBER, Fault("GET /blob/*", "corrupt"), "does not come back"),
        (MEMBER, Fault("* */resolve/*/README.md", "page"), ""),
    ],
)
def test_a_push_that_fails_leaves_the_zoo_as_it_was(hub, release, token, fault, complaint):
    hub.faults[:] = [fault] if fault else []
    before = release.zoo.read_text()
    answer = release.push(token=token)
    assert answer.get("error") == "PushError" and complaint in answer["message"], answer
    assert release.zoo.read_text() == before


def spoil_nan(release):
    file = release.cards / NAME / FILE
    tensors = load_file(file)
    tensors["layer1.0.conv1.weight"].view(-1)[3] = float("nan")
    rewrite(release, tensors)


def spoil_parity(release):
    file = release.cards / NAME / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_args": {"output_stride": 16}}))


def rewrite(release, tensors):
    file = release.cards / NAME / FILE
    save_file(tensors, file)
    release.entry |= {"sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "bytes": file.stat().st_size}
    release.write()


def edited(**fields):
    def spoil(release):
        for path, value in fields.items():
            place = release.entry
            *folders, last = path.split("__")
            for folder in folders:
                place = place[folder]
            place[last] = value
        release.write()

    return spoil


def appended(release):
    card = release.cards / NAME / "README.md"
    card.write_text(card.read_text() + "\nThe best of all.\n")


REFUSALS = {
    "NaN": (spoil_nan, "layer1.0.conv1.weight holds NaN"),
    "parity": (spoil_parity, "builds another network"),
    "an edited card": (appended, "not the one that its record renders"),
    "other bytes": (edited(sha256="0" * 64), "is not the released file"),
    "an overlap": (edited(overlap={"locked_test_groups": 2}), "counts 2 locked test groups"),
    "an overlap by frames": (
        edited(overlap__benchmarks={"pocus_lung": {"verdict": "seen", "clips": {"a.gif": "same frame"}}}),
        r"saw 1 locked test clip of pocus_lung",
    ),
    "an overlap that is not told": (lambda r: r.entry["corpus"]["groups"].append(locked()), "locked test groups"),
    "a licence of the weights": (edited(licences__weights=" "), "licence"),
    "a licence of the data": (edited(licences__data=["CC0", ""]), "licences of the data"),
    "another input": (edited(input__mean=0.4), "config.json says"),
    "a stray file": (lambda r: (r.cards / NAME / "pytorch_model.bin").write_bytes(b""), "not exactly"),
    "a missing file": (lambda r: (r.cards / NAME / "config.json").unlink(), "not exactly"),
    "a config that is no JSON": (lambda r: (r.cards / NAME / "config.json").write_text("{"), "not released"),
}


def locked():
    from training.data.locked_splits import locked_split

    return locked_split("pocus_lung")["test"][0]


@pytest.mark.parametrize("fault", REFUSALS)
def test_what_must_not_be_published_is_refused_before_anything_is_sent(hub, tmp_path, fault):
    spoil, complaint = REFUSALS[fault]
    release = Release(tmp_path, None)
    refuse_folder(NAME, release.entry, release.cards / NAME) if fault == "NaN" else None
    spoil(release)
    with pytest.raises(ReleaseError, match=complaint):
        refuse_folder(NAME, release.entry, release.cards / NAME)
    assert hub.log == []


def test_the_command_refuses_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["release", "push", "resnet18.nope", "--org", "x"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    known = ", ".join(json.loads(ZOO.read_text())["weights"])
    assert capsys.readouterr().err == f"error: resnet18.nope is not in the zoo; there is: {known}\n"
