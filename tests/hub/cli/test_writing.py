"""Every command that writes: twice, into the place of another run, over a file, on a full disk, on a read-only one.

A refusal is one short line and exit code 2; what was there before stays as it was, and nothing half-written is left.
"""

import contextlib
import functools
import resource
import shutil

import numpy as np
import pytest
import timm
from PIL import Image
from safetensors.torch import save_file

from tests.conftest import closed_folder
from tests.hub.data.trees import noise, write_image
from tests.hub.exporting.test_pack import write_run
from tests.hub.predicting.conftest import classifier  # noqa: F401
from usbackbones.cli import demo
from usbackbones.cli import main as cli

MODEL = ["--model", "random:test_resnet"]
TRAIN = [*MODEL, "--size", "32", "--epochs", "1"]
WRITES_NOTHING = {"list", "info", "doctor", "fetch"}  # fetch fills the Hub's own cache, see tests/hub/hub/loopback
COMMANDS = {
    "embed": (["embed", "clips", *MODEL], ["--stride", "2"], "out.npz"),
    "audit": (["audit", "cls", "--model", "none", "--draws", "999"], ["--seed", "1"], "out"),
    "probe": (["probe", "cls", *MODEL, "--size", "32", "--folds", "2"], ["--seed", "1"], "out"),
    "finetune": (["finetune", "cls", *TRAIN, "--lr", "0.01"], ["--seed", "1"], "out"),
    "segment": (["segment", "seg", *TRAIN], ["--seed", "1"], "out"),
    "predict": (["predict", "tuned", "clips"], ["--stride", "2"], "out.csv"),
    "evaluate": (["evaluate", "tuned", "cls"], ["--seed", "1"], "out"),
    "convert": (["convert", "foreign.safetensors", "--mean", "0.2", "--std", "0.2"], ["--mean", "0.3"], "out"),
    "pack": (["pack", "run"], ["--license", "CC0-1.0"], "out"),
    "export": (["export", "random:test_resnet"], ["--channels", "3"], "out.pt2"),
    "demo": (["demo", *MODEL], ["--json"], "out.png"),
}
REPLACED = {"embed", "export", "demo"}  # -o names one file, which is replaced whole, as a compiler's


@pytest.fixture(scope="module")
def place(tmp_path_factory, classifier):  # noqa: F811
    """Inputs of all commands in one folder."""
    folder = tmp_path_factory.mktemp("writing")
    for number in range(20):
        write_image(folder / "cls" / ("abdomen", "heart")[number % 2] / f"p{number:02d}.png", noise(number, (48, 48)))
        write_image(folder / "seg" / "images" / f"a{number:02d}.png", noise(number, (32, 32)))
        mask = np.hypot(*(np.indices((32, 32)) - 10 - number % 9)) < 8
        (folder / "seg" / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(folder / "seg" / "masks" / f"a{number:02d}.png")
    write_image(folder / "clips" / "x.png", noise(0, (48, 48)))
    (folder / "tuned").symlink_to(classifier)
    save_file(timm.create_model("test_resnet").state_dict(), folder / "foreign.safetensors")
    write_run(folder / "run")
    with pytest.MonkeyPatch.context() as patch:  # a small demo, whose clips are kept once they could be written
        patch.setattr(demo, "PATIENTS", demo.QUERIES)
        patch.setattr(demo, "CLIPS", 1)
        patch.setattr(demo, "make_frames", functools.cache(demo.make_frames))
        yield folder


def run(capsys, place, words, out):
    """Exit code and stderr of a command whose inputs are in `place`."""
    code = 0
    with contextlib.chdir(place):
        try:
            cli.main([*words, "-o", str(out)])
        except SystemExit as stop:
            code = stop.code
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    return code, told.err


def refused(ended, *parts):
    """One short line, the last one, that says why."""
    code, err = ended
    line = [line for line in err.splitlines() if line.startswith("usbackbones: ") and "note: " not in line][-1]
    assert code == 2 and len(line) < 300 and all(part in line for part in parts), err


def state(folder):
    """The content of all files, and the names of all folders."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


@contextlib.contextmanager
def full_disk(room):
    """No file of this process may grow beyond some bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_every_command_has_a_row():
    assert set(COMMANDS) | WRITES_NOTHING == set(cli.COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_full_disks_files_in_the_way_and_other_runs(name, place, tmp_path, capsys):
    words, other, called = COMMANDS[name]
    (tmp_path / "file").write_text("precious")
    refused(run(capsys, place, words, tmp_path / "file" / called))
    if "." not in called:
        refused(run(capsys, place, words, tmp_path / "file"), "file")
    assert state(tmp_path) == {"file": b"precious"}
    out = tmp_path / "new" / called
    for room in (0, 3000, 100_000):
        with full_disk(room):
            ended = run(capsys, place, words, out)
        if ended[0] == 0 and room:  # there was room enough
            shutil.rmtree(out.parent)
            break
        refused(ended, "File too large")
        left = [path for path in out.parent.rglob("*") if path.is_file()]
        assert all(path.stat().st_size and not path.name.startswith(".") for path in left), left
    code, err = run(capsys, place, words, out)
    assert code == 0, err
    before = state(tmp_path)
    free = resource.RLIM_INFINITY
    for again, room in ((words, 100), ([*words, *other], 100), (words, free), ([*words, *other], free)):
        with full_disk(room):
            ended = run(capsys, place, again, out)
        if name in REPLACED and room == free:
            assert ended[0] == 0 and [path.name for path in out.parent.iterdir()] == [called]
            continue
        assert state(tmp_path) == before, (again, ended)
        if again != words or ended[0]:
            refused(ended)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_read_only_folder_is_a_line(name, place, tmp_path, capsys):
    closed = closed_folder(tmp_path)
    words, _, called = COMMANDS[name]
    refused(run(capsys, place, words, closed / called), str(closed), "cannot be written", "choose another -o")
