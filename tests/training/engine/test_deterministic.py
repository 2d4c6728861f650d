"""The same bits twice: by themselves on a CPU, by `--deterministic` on a GPU; resumed to the bit under it."""

from dataclasses import replace

import pytest
import torch

from training.engine.checkpoint import load
from training.engine.process import same_bits
from training.errors import TrainingError
from training.pretrain import Run, pretrain
from training.recipes import RECIPES

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def trained(cache, folder, deterministic, resume="never", **changes):
    """The state of a short run on the default device after its last step; one of its third step is kept."""
    recipe = RECIPES["smoke"][1]
    recipe = replace(recipe, arch="test_resnet", batch=4, steps=6, augment=replace(recipe.augment, size=32), **changes)
    run = Run(recipe, cache, folder, checkpoint_every=3, resume=resume, deterministic=deterministic)
    pretrain(run, "smoke", progress=False)
    return load(folder / "checkpoint.pt", CPU)["method"]


def whole_and_resumed(cache, folder, deterministic):
    """The state of an unbroken run, and of one that went on from its third step."""
    whole = trained(cache, folder / "whole", deterministic)
    half = folder / "whole" / "checkpoint-1.pt"
    assert load(half, CPU)["step"] == 3
    return whole, trained(cache, folder / "half", deterministic, resume=half)


def equal(first, second):
    return first.keys() == second.keys() and all(value.equal(second[key]) for key, value in first.items())


def test_the_settings_hold_within_the_block_and_on_a_gpu_alone():
    """The flags can be set without a GPU; what they do there, the tests below show on one."""
    for device, on, held in ((GPU, True, True), (GPU, False, False), (CPU, True, False)):
        with same_bits(device, on):
            assert torch.are_deterministic_algorithms_enabled() is held
            assert torch.backends.cudnn.deterministic is held
            assert torch.backends.cuda.mem_efficient_sdp_enabled() is not held
        assert not torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.deterministic
        assert torch.backends.cuda.mem_efficient_sdp_enabled()


def test_an_operator_without_a_deterministic_form_is_named():
    told = r"^--deterministic: put_ .*; leave --deterministic out$"
    with pytest.raises(TrainingError, match=told), same_bits(GPU, on=True):
        torch.zeros(3).put_(torch.tensor([0]), torch.ones(1))
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(RuntimeError, match="something else"), same_bits(GPU, on=True):
        raise RuntimeError("something else")


def test_a_run_goes_on_to_the_bit(cache, tmp_path):
    """With the flag, which costs a CPU nothing."""
    assert equal(*whole_and_resumed(cache, tmp_path, deterministic=True))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", ["smoke", "hico", "ivpp"])
def test_a_gpu_gives_the_same_bits_twice(cache, tmp_path, gpu, precision, method):
    changes = {"precision": precision, "method": RECIPES[method][1].method}
    first, second = (trained(cache, tmp_path / name, True, **changes) for name in ("first", "second"))
    assert equal(first, second)


@pytest.mark.gpu
def test_a_gpu_goes_on_to_the_bit_and_without_the_flag_to_a_tolerance(cache, tmp_path, gpu):
    assert equal(*whole_and_resumed(cache, tmp_path / "exact", deterministic=True))
    whole, ended = whole_and_resumed(cache, tmp_path / "near", deterministic=False)
    for key, value in ended.items():
        # AdamW moves a weight by about the rate (1e-3) a step, whatever its gradient: three steps may differ.
        assert torch.allclose(value.float(), whole[key].float(), rtol=0.02, atol=6e-3), key
