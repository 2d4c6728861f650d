"""An exported program on a machine that has ONNX Runtime and NumPy, but neither torch nor timm nor this package."""

import json
import subprocess
import sys

import numpy as np
import pytest
import timm

import usbackbones
from usbackbones.exporting.export import export

pytest.importorskip("onnxruntime", reason="the export extra is not installed")
pytest.importorskip("onnxscript", reason="the export extra is not installed")

ELSEWHERE = """
import json, sys
import numpy as np, onnxruntime
frames = np.load(sys.argv[2])
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
inputs, outputs = session.get_inputs(), session.get_outputs()
features = session.run([outputs[0].name], {inputs[0].name: frames})[0]
np.save(sys.argv[3], features)
there = {"torch", "timm", "usbackbones"} & set(sys.modules)
print(json.dumps({"type": inputs[0].type, "rank": len(inputs[0].shape), "there": sorted(there)}))
"""


def test_features_without_torch(stills, tmp_path):
    model = timm.create_model("usbackbones/resnet18", pretrained=True, in_chans=1)
    done = export(model, tmp_path / "backbone.onnx", preprocess=True)
    np.save(tmp_path / "frames.npy", stills.frames[:5])
    files = [done.file, tmp_path / "frames.npy", tmp_path / "features.npy"]
    run = subprocess.run([sys.executable, "-c", ELSEWHERE, *files], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {"type": "tensor(uint8)", "rank": 3, "there": []}
    features, wanted = np.load(files[2]), usbackbones.embed(model, stills.frames[:5])
    assert features.shape == wanted.shape
    assert np.abs(features - wanted).max() < 0.02 * np.abs(wanted).max()
