"""The small Hub answers the official clients as the great one does, and keeps what it was given."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from functools import partial

import pytest

from tests.conftest import REPOSITORY
from tests.hub.hub.loopback.conftest import GUEST, MEMBER
from tests.hub_server.server import LoopbackHub
from tests.hub_server.store import Store

# Runs in a process of its own for every client version; prints what it saw as JSON.
USE = """
import io, json, os, sys
from huggingface_hub import CommitOperationDelete, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
api, repo = HfApi(), sys.argv[1]
seen = {}
api.create_repo(repo)
try:
    api.create_repo(repo)
except HfHubHTTPError as error:
    seen["twice"] = error.response.status_code
api.create_repo(repo, exist_ok=True)
card = b"---\\nlicense: mit\\nlibrary_name: timm\\ntags: [ultrasound]\\n---\\n# Card\\n"
api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=repo)
weights = bytes(range(256)) * 4000
first = api.upload_file(path_or_fileobj=io.BytesIO(weights), path_in_repo="model.safetensors", repo_id=repo)
api.create_tag(repo, tag="v1")
api.create_branch(repo, branch="try")
api.create_commit(repo, [CommitOperationDelete("README.md")], commit_message="without", revision="try")
info = api.model_info(repo, files_metadata=True)
seen["sha"], seen["library"], seen["license"] = info.sha, info.library_name, info.card_data.license
seen["files"] = {one.rfilename: one.size for one in info.siblings}
seen["tree"] = sorted(one.path for one in api.list_repo_tree(repo, recursive=True))
seen["try"] = sorted(api.list_repo_files(repo, revision="try"))
seen["info"] = [one.path for one in api.get_paths_info(repo, ["model.safetensors", "nothing"])]
refs = api.list_repo_refs(repo)
seen["refs"] = [[one.name for one in refs.branches], [one.name for one in refs.tags]]
seen["commits"] = [one.title for one in api.list_repo_commits(repo)]
seen["listed"] = [one.id for one in api.list_models(author=repo.split("/")[0])]
seen["found"] = [one.id for one in api.list_models(search=repo.split("/")[1], filter="ultrasound")]
seen["searched in vain"] = [one.id for one in api.list_models(search="nothing of this name")]
folder = snapshot_download(repo, revision="v1")
seen["equal"] = open(os.path.join(folder, "model.safetensors"), "rb").read() == weights
for name, call in {
    "revision": lambda: hf_hub_download(repo, "README.md", revision="0123456"),
    "repository": lambda: hf_hub_download("org/none-of-them", "README.md"),
}.items():
    try:
        call()
    except HfHubHTTPError as error:
        seen[name] = type(error).__name__
api.update_repo_settings(repo, gated="manual")
os.environ["HF_TOKEN"] = sys.argv[2]
try:
    hf_hub_download(repo, "README.md", revision="main")
except GatedRepoError as error:
    seen["gated"] = error.response.status_code
print(json.dumps(seen))
"""


def test_the_official_client_can_do_what_it_does_elsewhere(hub, environment, tmp_path):
    repo = f"org-{tmp_path.name}/demo"
    home = {"HF_HOME": str(tmp_path), "HF_TOKEN": MEMBER}
    command = [sys.executable, "-c", USE, repo, GUEST]
    run = subprocess.run(command, env=environment | home, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    seen = json.loads(run.stdout)
    stored = hub.state.store.get(repo)
    assert seen["twice"] == 409 and seen["sha"] == stored.branches["main"]
    assert (seen["library"], seen["license"]) == ("timm", "mit")
    assert seen["files"]["model.safetensors"] == 1_024_000
    assert seen["tree"] == [".gitattributes", "README.md", "model.safetensors"]
    assert seen["try"] == [".gitattributes", "model.safetensors"] and seen["info"] == ["model.safetensors"]
    assert [set(names) for names in seen["refs"]] == [{"main", "try"}, {"v1"}]
    assert len(seen["commits"]) == 3 and seen["commits"][-1] == "initial commit"
    assert seen["listed"] == [repo] and repo in seen["found"] and seen["searched in vain"] == []
    assert seen["equal"] and seen["revision"] == "RevisionNotFoundError"
    assert seen["repository"] == "RepositoryNotFoundError" and seen["gated"] == 403
    # What was written without a token, if anything, was not accepted.
    assert all(one.authorization for one in hub.log if one.method == "POST" and one.status == 200)


def test_the_folder_is_the_whole_truth(put, hub):
    weight = put("kept1")
    again = Store(hub.state.store.folder)
    repository = again.get(weight.entry["hub_id"])
    assert repository.commits == hub.state.store.get(weight.entry["hub_id"]).commits
    file = repository.at("main").files["model.safetensors"]
    assert again.blob(file.sha256).read_bytes() == weight.content


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [("bytes=2-5", 206, slice(2, 6)), ("bytes=-3", 206, slice(-3, None)), ("bytes=10-", 206, slice(10, None))],
)
def test_ranges(put, hub, asked, status, part):
    weight = put("ranged1")
    request = urllib.request.Request(f"{hub.url}{weight.resolve}", headers={"Range": asked})
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == status and answer.read() == weight.content[part]


def test_who_has_no_token_writes_nothing_and_an_unsigned_address_gives_nothing(put, hub):
    weight = put("guarded1")
    tries = [
        ("POST", "/api/repos/create", b'{"name": "x"}'),
        ("POST", f"/api/models/{weight.entry['hub_id']}/commit/main", b"{}"),
        ("PUT", f"/upload/{'0' * 64}", b"x"),
        ("GET", weight.blob, None),
        ("GET", "/../../etc/passwd", None),
    ]
    for method, path, body in tries:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(urllib.request.Request(f"{hub.url}{path}", body, method=method), timeout=5)
        assert caught.value.code in (401, 403, 404)
        caught.value.close()


def test_one_command_starts_it(tmp_path):
    command = [sys.executable, "-m", "tests.hub_server", "--folder", str(tmp_path / "hub"), "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    # A shell that starts the tests in the background has them ignore Ctrl-C, and their children with them.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, env=environment, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, preexec_fn=heed
    ) as process:
        line = process.stdout.readline()
        url = line.split("HF_ENDPOINT=")[1].split()[0]
        assert "HF_TOKEN=hf_loopback" in line and "HF_HUB_DISABLE_XET=1" in line
        with urllib.request.urlopen(f"{url}/api/models", timeout=5) as answer:
            assert json.loads(answer.read()) == []
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0


def test_a_stopped_hub_comes_back_at_the_same_address(tmp_path):
    with LoopbackHub(tmp_path) as hub:
        url = hub.url
        hub.stop()
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(f"{url}/api/models", timeout=5)
        hub.start()
        assert hub.url == url
        with urllib.request.urlopen(f"{url}/api/models", timeout=5) as answer:
            assert answer.status == 200
