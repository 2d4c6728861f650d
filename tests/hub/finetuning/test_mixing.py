"""Mix of the weights before and after fine-tuning against its slow form, and in a run with all that is kept."""

import copy
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.hub.finetuning.test_finetune import QUICK, backbones, data, run  # noqa: F401
from usbackbones.finetuning.config import FineTune
from usbackbones.finetuning.mixing import mix_into, mixed
from usbackbones.finetuning.run import defaults_for


def two_states(dtype=torch.float64):
    torch.manual_seed(0)
    first = {"w": torch.randn(3, 4, dtype=dtype), "same": torch.randn(5, dtype=dtype), "count": torch.tensor(3)}
    return first, {"w": torch.randn(3, 4, dtype=dtype), "same": first["same"].clone(), "count": torch.tensor(9)}


@pytest.mark.parametrize("coefficient", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_the_mix_is_the_slow_form(coefficient):
    start, tuned = two_states()
    found = mixed(start, tuned, coefficient)
    for i in range(3):
        for j in range(4):
            wanted = (1 - coefficient) * float(start["w"][i, j]) + coefficient * float(tuned["w"][i, j])
            assert float(found["w"][i, j]) == pytest.approx(wanted, rel=1e-14, abs=1e-14)
    assert int(found["count"]) == 9


def test_ends_and_what_did_not_move_are_exact():
    start, tuned = two_states(torch.float32)
    assert torch.equal(mixed(start, tuned, 0.0)["w"], start["w"])
    assert torch.equal(mixed(start, tuned, 1.0)["w"], tuned["w"])
    assert torch.equal(mixed(start, tuned, 0.3)["same"], start["same"])
    with pytest.raises(ValueError, match="other"):
        mixed(start | {"other": start["w"]}, tuned, 0.5)


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).double()


def test_statistics_of_norms_that_moved_are_those_of_the_mixed_network():
    """Slow form: mean and unbiased variance of what enters the norm, averaged over the batches."""
    start, tuned = network(0), network(1)
    nn.init.constant_(tuned[1].running_mean, 7.0)
    batches = [torch.randn(5, 1, 8, 8, dtype=torch.float64) for _ in range(3)]
    mix_into(tuned, before := copy.deepcopy(start.state_dict()), 0.5, batches, torch.device("cpu"))
    weight = (start[0].weight + network(1)[0].weight) / 2
    torch.testing.assert_close(tuned[0].weight, weight, rtol=0, atol=1e-15)
    with torch.no_grad():
        entering = [tuned[0](batch).transpose(0, 1).flatten(1) for batch in batches]
    for found, statistic in ((tuned[1].running_mean, torch.mean), (tuned[1].running_var, torch.var)):
        torch.testing.assert_close(found, torch.stack([statistic(one, 1) for one in entering]).mean(0))
    assert tuned[1].momentum == 0.1 and all(torch.equal(before[key], start.state_dict()[key]) for key in before)


def test_frozen_norms_and_both_ends_read_no_image():
    def never():
        raise AssertionError("an image was read")
        yield

    start, tuned = network(0), network(1)
    mix_into(tuned, start.state_dict(), 0.5, never(), torch.device("cpu"))
    assert torch.equal(tuned[1].running_mean, start[1].running_mean)
    for coefficient, wanted in ((0.0, start), (1.0, network(1))):
        ours = network(1)
        nn.init.constant_(ours[1].running_mean, 7.0)
        nn.init.constant_(wanted[1].running_mean, 7.0 * coefficient)
        mix_into(ours, start.state_dict(), coefficient, never(), torch.device("cpu"))
        of = wanted.state_dict()
        assert all(torch.equal(value, of[key]) for key, value in ours.state_dict().items())


def test_a_run_keeps_the_mix_and_with_none_of_the_tuned_weights_its_probe(run, tmp_path):  # noqa: F811
    spec = replace(QUICK, start="probe", lr=1e-6, epochs=2, margin=0)
    done, kept = {}, {}
    for share in (0.0, 0.5, 1.0):
        out = tmp_path / str(share)
        done[share] = run(out, replace(spec, mixing=share))
        kept[share] = load_file(out / "model.safetensors")
    assert done[0.0].metrics == done[0.0].frozen == done[1.0].frozen
    moved = [key for key, value in kept[0.0].items() if not torch.equal(value, kept[1.0][key])]
    assert {"conv1.0.weight", "fc.weight"} <= set(moved)
    for key in moved:
        torch.testing.assert_close(kept[0.5][key], (kept[0.0][key] + kept[1.0][key]) / 2, rtol=1e-6, atol=1e-7)


def test_a_random_classifier_is_not_mixed(run, tmp_path):  # noqa: F811
    for share in (0.5, 1.0):
        run(tmp_path / str(share), replace(QUICK, mixing=share, epochs=1))
    whole, half = (load_file(tmp_path / str(share) / "model.safetensors") for share in (1.0, 0.5))
    assert all(torch.equal(value, half[key]) for key, value in whole.items())
    assert defaults_for("random:resnet18").mixing == 1.0 and FineTune().mixing == 0.5
