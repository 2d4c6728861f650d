"""Fixtures that several test files share: the real data, and synthetic weights released in the real layout."""

import contextlib
import hashlib
import io
import json
import os
import runpy
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Two processes run the tests side by side; each with all cores would be slower than with one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before huggingface_hub is imported, which reads it once: no test asks the network for a weight.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.pop("USBACKBONES_HUB", None)
# Before cuBLAS is first used, or no test of the process could ask it for the same bits every time.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import pytest
import timm
import torch
from safetensors.torch import save_file

import usbackbones
from tests.optional import pytest_pycollect_makemodule, pytest_runtest_call, pytest_runtest_setup  # noqa: F401

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def gpu() -> torch.device:
    """The GPU of this machine; tests that need one carry the marker `gpu` and skip without."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device, and torch finds none")
    return torch.device("cuda")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real data sets: $USBACKBONES_DATA, or shared/data beside the checkout."""
    folder = Path(os.environ.get("USBACKBONES_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set USBACKBONES_DATA to their folder")
    return folder


def write_weight(folder: Path, name: str, tensors: dict[str, torch.Tensor] | bytes, **fields: Any) -> dict[str, Any]:
    """Write `<folder>/<name>/model.safetensors` and return the zoo entry for it; `fields` replace its fields.

    Bytes are written as they are: a released file that is no safetensors file.
    """
    file = folder / name / "model.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(tensors, bytes):
        file.write_bytes(tensors)
    else:
        save_file(tensors, file)
    arch, tag = name.split(".")
    entry = {
        "arch": arch,
        "tag": tag,
        "method": "synthetic",
        "tier": "open",
        "hub_id": f"usbackbones/{name}",
        "revision": None,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "bytes": file.stat().st_size,
        "num_features": 512,
        "model_args": {},
        "input": {
            "size": 64,
            "mean": 0.2,
            "std": 0.25,
            "interpolation": "bilinear",
            "crop_mode": "squash",
            "crop_pct": 1.0,
        },
        "licences": {"code": "Apache-2.0", "weights": "CC-BY-4.0", "data": ["CC BY 4.0"]},
        "corpus": {},
        "training": {},
        "metrics": None,
        "overlap": {},
        "paper": {"title": "None", "url": "https://example.org"},
    }
    return entry | fields


def random_tensors(arch: str, seed: int, **model_args: Any) -> dict[str, torch.Tensor]:
    """Tensors of an untrained headless network as they are stored: fp16, norms fp32, running statistics not trivial."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tensors = timm.create_model(arch, num_classes=0, **model_args).state_dict()
        for name, tensor in tensors.items():
            if name.endswith(("running_mean", "running_var")):
                tensors[name] = torch.rand_like(tensor) + 0.5
    norms = ("bn", "norm", "downsample.1")
    return {
        name: tensor.half() if tensor.is_floating_point() and not any(norm in name for norm in norms) else tensor
        for name, tensor in tensors.items()
    }


@dataclass(frozen=True)
class Published:
    """Two synthetic weights, registered: a ResNet at 64 px, and a ViT at 96 px that pools by the average."""

    folder: Path
    zoo: dict[str, Any]
    tensors: dict[str, dict[str, torch.Tensor]]
    resnet: str = "resnet18.synthetic_open1"
    vit: str = "vit_tiny_patch16_224.synthetic_open1"


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """A folder of releases with its zoo.json, known to timm for the rest of the session."""
    folder = tmp_path_factory.mktemp("published")
    vit_args = {"global_pool": "avg"}
    tensors = {
        Published.resnet: random_tensors("resnet18", 0),
        Published.vit: random_tensors("vit_tiny_patch16_224", 1, img_size=96, **vit_args),
    }
    entries = {name: write_weight(folder, name, content) for name, content in tensors.items()}
    entries[Published.vit] |= {"num_features": 192, "model_args": vit_args}
    entries[Published.vit]["input"]["size"] = 96
    # No default: the package's own stays what it is for every other test of the session.
    zoo = {"organisation": "usbackbones", "default": None, "weights": entries}
    (folder / "zoo.json").write_text(json.dumps(zoo))
    usbackbones.register(folder / "zoo.json")
    return Published(folder, zoo, tensors)


def python(code: str, *paths: Path, **environment: str) -> str:
    """Run code in a new interpreter with these folders and then the checkout on its path; return what it prints."""
    path = os.pathsep.join(map(str, [*paths, REPOSITORY]))
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment, "PYTHONPATH": path},
        cwd=paths[0] if paths else REPOSITORY,  # the first entry of the path of `python -c`
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def run_module(module: str, *arguments: Any, folder: Path = REPOSITORY) -> Ended:
    """`python -m module arguments` in this interpreter, which has imported torch and timm already.

    The exit code of an exception that `python` would show as a traceback is not made up: the exception is raised here.
    """
    if module == "training.data.prepare":  # it forks, which a process that has decoded videos does not survive
        own = [sys.executable, "-m", module, *map(str, arguments)]
        found = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        ended = subprocess.run(own, cwd=folder, capture_output=True, text=True, env=found)
        return Ended(ended.returncode, ended.stdout, ended.stderr)
    out, err, argv, threads, code = io.StringIO(), io.StringIO(), sys.argv, torch.get_num_threads(), 0
    sys.argv = [module, *map(str, arguments)]
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            contextlib.chdir(folder),
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", message=".*found in sys.modules")
            try:
                runpy.run_module(module, run_name="__main__", alter_sys=True)
            except SystemExit as stop:
                if isinstance(stop.code, str):
                    print(stop.code, file=sys.stderr)
                code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.argv = argv
        torch.set_num_threads(threads)
    return Ended(code, out.getvalue(), err.getvalue())


def copy_package(folder: Path, weights: dict[str, Any]) -> None:
    """Copy the package into a folder: these entries are its zoo, the last is its default, nothing is embedded."""
    ignore = shutil.ignore_patterns("__pycache__", "*.safetensors")
    shutil.copytree(REPOSITORY / "usbackbones", folder / "usbackbones", ignore=ignore)
    zoo = {"organisation": "usbackbones", "default": next(reversed(weights), None), "weights": weights}
    (folder / "usbackbones" / "zoo.json").write_text(json.dumps(zoo))


def closed_folder(place: Path) -> Path:
    """A folder into which this user cannot write; the test skips where there is none."""
    closed = place / "closed"
    closed.mkdir(mode=0o500)
    if not os.access(closed, os.W_OK):
        return closed
    kernel = Path("/sys/kernel")  # root may write anywhere but into the kernel's own files
    if not kernel.is_dir():
        pytest.skip("no folder here is closed to this user")
    return kernel
