"""A thousand damaged releases: an error that says so, or exactly the network that was released."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY


# Of each kind: weights, weights released as damaged, cards and configurations, zoo files.
@pytest.mark.parametrize("trials", [25, pytest.param(250, marks=pytest.mark.slow)])
def test_a_damaged_release_is_an_error_or_the_released_network(tmp_path, trials):
    run = subprocess.run(
        [sys.executable, "-m", "tests.hub.hub.release_damage", str(tmp_path), "0", str(trials)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    outcomes = json.loads(run.stdout)
    assert sum(count for what, count in outcomes.items() if "command line" not in what) == 4 * trials
    assert outcomes.keys() <= {
        "weights: WeightsCorrupt",
        "weights, by chance the same: loaded",
        "released weights: WeightsCorrupt",
        "released weights: loaded",
        "config.json: loaded",
        "README.md: loaded",
        "zoo: ZooError",
        "zoo: WeightsCorrupt",
        "zoo: WeightsNotFound",
        "zoo: loaded",
        "command line: as it should",
    }
    # Every kind of damage was met both where it matters and where it does not.
    for seen in ("weights: WeightsCorrupt", "released weights: loaded", "zoo: ZooError", "config.json: loaded"):
        assert outcomes[seen] >= trials // 25
