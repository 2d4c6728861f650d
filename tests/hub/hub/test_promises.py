"""What is promised of the package: the size and content of its wheel, and the cost of loading the embedded weight."""

import json
import subprocess
import sys
import zipfile

import pytest

from tests.conftest import REPOSITORY, python
from tests.pages import copy_clone

pytest.importorskip("setuptools", minversion="77", reason="a wheel is built with setuptools 77 or newer")


def test_the_wheel_is_small_and_holds_the_package_alone(tmp_path):
    source = tmp_path / "source"
    copy_clone(source)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), "."]
    run = subprocess.run(build, cwd=source, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 40_000_000
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = [name for name in names if name.endswith("METADATA")]
        assert "License-Expression: Apache-2.0" in archive.read(metadata).decode()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"usbackbones"}
    assert {"usbackbones/py.typed", "usbackbones/zoo.json"} <= set(names)
    modules = {file.relative_to(source).as_posix() for file in (source / "usbackbones").rglob("*.py")}
    assert modules <= set(names)
    weights = [name for name in names if name.endswith(".safetensors")]
    zoo = json.loads((REPOSITORY / "usbackbones" / "zoo.json").read_text())
    assert weights == [f"usbackbones/weights/{zoo['default']}.safetensors"]
    # An Apache-2.0 wheel carries an open weight alone.
    entry = zoo["weights"][zoo["default"]]
    assert entry["tier"] == "open" and entry["licences"]["weights"] == "Apache-2.0"
    assert not any("NC" in licence for licence in entry["licences"]["data"])


def test_the_embedded_weight_loads_offline_and_at_little_cost(tmp_path):
    """It imports hardly anything more, and reads the file at most twice: to check it, and to load it."""
    told = python(
        """
import json, sys
import timm, usbackbones
before, opened = set(sys.modules), []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
model = timm.create_model("usbackbones/resnet18", pretrained=True, in_chans=1)
new = sorted(set(sys.modules) - before)
print(json.dumps([model.pretrained_cfg["file"], new, [file for file in opened if file.endswith(".safetensors")]]))
""",
        HF_HUB_OFFLINE="1",
        HF_HOME=str(tmp_path),
    )
    file, new, opened = json.loads(told)
    assert "usbackbones/weights/" in file
    assert len(new) < 30 and not [name for name in new if name.split(".")[0] in ("av", "sklearn", "scipy", "pydicom")]
    assert len(opened) <= 2
