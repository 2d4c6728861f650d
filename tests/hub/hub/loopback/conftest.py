"""A Hub on this machine, and clients of it in processes of their own, one for each version of huggingface_hub."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import IO, Any

import pytest
import safetensors.torch

from tests.conftest import REPOSITORY, random_tensors, write_weight
from tests.hub_server.server import LoopbackHub
from tests.overlay import CLIENTS, overlay
from usbackbones.hub.zoo import FILE

MEMBER, GUEST = "hf_member", "hf_guest"
# The installed one; and, with -m slow, the oldest that we allow. "middle" is huggingface_hub 1.
CHOSEN = [
    name if name == "installed" else pytest.param(name, marks=pytest.mark.slow)
    for name in os.environ.get("USBACKBONES_TEST_CLIENTS", "installed,oldest").split(",")
]


@pytest.fixture(scope="session")
def running_hub(tmp_path_factory):
    with LoopbackHub(tmp_path_factory.mktemp("hub"), frozenset({MEMBER}), frozenset({GUEST})) as hub:
        yield hub


@pytest.fixture
def hub(running_hub):
    """The Hub without faults and with an empty log."""
    running_hub.faults.clear()
    running_hub.log.clear()
    yield running_hub
    running_hub.faults.clear()


@dataclass
class Client:
    """A process that has one version of huggingface_hub and timm, and the answers that it gives."""

    process: subprocess.Popen
    stdin: IO[str]
    stdout: IO[str]

    def __call__(self, do: str, **order: Any) -> dict[str, Any]:
        self.stdin.write(json.dumps({"do": do, **order}, default=str) + "\n")
        self.stdin.flush()
        line = self.stdout.readline()
        assert line, "the client died"
        return json.loads(line)


@pytest.fixture(scope="session", params=CHOSEN)
def environment(request, running_hub, tmp_path_factory):
    """The environment of a process with one version of huggingface_hub and timm that knows our Hub only."""
    path = [*overlay(CLIENTS[request.param]), REPOSITORY]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "HF_ENDPOINT": running_hub.url,
        "HF_HOME": str(tmp_path_factory.mktemp("home")),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_ETAG_TIMEOUT": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "1",
    }


@pytest.fixture(scope="session")
def client(environment):
    with subprocess.Popen(
        [sys.executable, "-m", "tests.hub.hub.loopback.client"],
        env=environment,
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Client(process, process.stdin, process.stdout)
        process.stdin.close()


@dataclass(frozen=True)
class Remote:
    """A weight on the Hub: its zoo entry, pinned to its commit, and its bytes."""

    name: str
    entry: dict[str, Any]
    content: bytes

    @property
    def zoo(self):
        return {"default": None, "weights": {self.name: self.entry}}

    @property
    def blob(self):
        return f"/blob/{self.entry['sha256']}"

    def of(self, log, method="*"):
        """The paths of the requests for its file and nothing else."""
        return [one for one in log if method in ("*", one.method) and one.path in (self.blob, self.resolve)]

    @property
    def resolve(self):
        return f"/{self.entry['hub_id']}/resolve/{self.entry['revision']}/{FILE}"


@pytest.fixture(scope="session")
def tiny_tensors():
    return random_tensors("test_resnet", 0)


@pytest.fixture
def put(hub, tmp_path, tiny_tensors):
    """`put("tag")`: a tiny weight on the Hub; `content` and `files` replace and join what is in its repository."""

    def put(tag, tensors=None, content=None, files=None, private=False, gated=False, arch="test_resnet"):
        name, store = f"{arch}.{tag}", hub.state.store
        entry = write_weight(tmp_path / "made", name, tiny_tensors if tensors is None else tensors)
        released = (tmp_path / "made" / name / FILE).read_bytes()
        repo_id = f"org/{name}-{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:8]}"
        repository = store.create(repo_id, private)
        repository.gated = gated
        changes = {FILE: store.put(released if content is None else content, large=True)}
        changes |= {path: store.put(held, large=path.endswith(".bin")) for path, held in (files or {}).items()}
        commit = store.commit(repo_id, "main", "release", changes)
        return Remote(name, entry | {"hub_id": repo_id, "revision": commit.oid}, released)

    return put


@pytest.fixture
def weight(client, put):
    """A tiny weight, on the Hub and known to the client."""
    weight = put("open1")
    client("register", zoo=weight.zoo)
    return weight


@pytest.fixture
def load(client, tmp_path):
    """`load(weight)`: through the client, with a cache of this test's own."""

    def load(weight, token=None, **kwargs):
        cache = kwargs.pop("cache_dir", tmp_path / "cache")
        return client("load", name=f"usbackbones/{weight.name}", cache_dir=cache, token=token, **kwargs)

    return load


@pytest.fixture(scope="session")
def good(tiny_tensors):
    """What the client answers for the tiny weight, from a network that was filled by hand."""
    import timm

    from tests.hub.hub.loopback.client import digest

    model = timm.create_model("test_resnet", num_classes=0)
    stored = safetensors.torch.load(safetensors.torch.save(tiny_tensors))
    model.load_state_dict({key: value.to(model.state_dict()[key].dtype) for key, value in stored.items()})
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, 64, 64)}
    return digest(model)
