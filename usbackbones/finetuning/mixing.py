"""Mix of the weights before and after fine-tuning: between them lie networks that are more robust than either.

Wortsman et al., "Robust fine-tuning of zero-shot models" (WiSE-FT, CVPR 2022): (1 - alpha) start + alpha tuned for
each weight, where alpha is the mixing coefficient. Their start is a zero-shot classifier, here it is the linear probe.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn


def mixed(start: Mapping[str, Tensor], tuned: Mapping[str, Tensor], coefficient: float) -> dict[str, Tensor]:
    """Weights (1 - coefficient) start + coefficient tuned; what does not differ, and whole numbers, are as in `tuned`.

    Args:
        start: the state before fine-tuning.
        tuned: after it, with the same keys and shapes.
        coefficient: from 0, which gives the start to the bit, to 1, which gives the tuned weights to the bit.
    """
    if start.keys() != tuned.keys():
        raise ValueError(f"weights of different networks cannot be mixed: {sorted(start.keys() ^ tuned.keys())[:3]}")
    return {
        name: torch.lerp(start[name], value, coefficient) if value.is_floating_point() else value.clone()
        for name, value in tuned.items()
    }


def mix_into(
    model: nn.Module, start: Mapping[str, Tensor], coefficient: float, batches: Iterable[Tensor], device: torch.device
) -> None:
    """Give a tuned network the mix of its own weights and those it began from.

    Statistics of batch norms do not mix: those of a network between two are not between theirs. Where fine-tuning has
    moved them, they are computed again on the training images.

    Args:
        model: after fine-tuning, on `device`.
        start: its state before.
        coefficient: of `mixed`; 0 and 1 leave nothing to compute again.
        batches: training images [N, C, S, S], read only where statistics have moved.
        device: of the model.
    """
    tuned = {name: value.detach().clone() for name, value in model.state_dict().items()}
    model.load_state_dict(start if coefficient == 0 else mixed(start, tuned, coefficient))
    if 0 < coefficient < 1 and any(not torch.equal(tuned[name], start[name]) for name in _statistics(model)):
        update_bn(batches, model, device)


def _statistics(model: nn.Module) -> list[str]:
    """Names of the running means and variances of batch norms."""
    norms = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    tracked = [name for name, module in norms.items() if module.track_running_stats]
    return [f"{name}.{kind}" for name in tracked for kind in ("running_mean", "running_var")]
