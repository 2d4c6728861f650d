"""Saliency: gradient times input for any network, attention rollout for a ViT.

Both tell where a network looked, not whether it is right, and neither is evidence of how it reasons.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def gradient_times_input(model: nn.Module, images: Tensor, score: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """|sum over channels of x dS/dx| at every pixel, where S is what the network says of an image.

    Args:
        model: any network; left as it was, gradients of its weights included.
        images: float [N, C, H, W], as the model takes them.
        score: from the model's output [N, K] to S [N]; by default its largest value, the logit of the predicted class.

    Returns:
        float [N, H, W], not negative.
    """
    with _evaluation_mode(model), torch.enable_grad():
        x = images.detach().clone().requires_grad_()
        output = model(x)
        said = output.amax(dim=1) if score is None else score(output)
        # Images do not meet in eval mode, so the gradient of the sum is that of each.
        (slope,) = torch.autograd.grad(said.sum(), x)
    return (x.detach() * slope).sum(dim=1).abs()


def attention_rollout(model: nn.Module, images: Tensor) -> Tensor:
    """How much each patch of a ViT flows into its output, through all layers (Abnar & Zuidema, ACL 2020).

    A layer passes on (A + 1) / 2, where A [T, T] is its attention averaged over heads and the 1 is the residual; the
    layers are multiplied, and the row of what is pooled is taken: the class token's, or the mean over patches.

    Args:
        model: a ViT of timm, with `blocks`, `patch_embed` and `num_prefix_tokens`.
        images: float [N, C, H, W].

    Returns:
        float [N, h, w], the patches' shares; with the prefix tokens' they add up to 1.

    Raises:
        TypeError: if the model is no such ViT.
    """
    vit: Any = model
    if not all(hasattr(model, name) for name in ("blocks", "patch_embed", "num_prefix_tokens", "global_pool")):
        raise TypeError(f"{type(model).__name__} is no ViT of timm: use gradient_times_input")
    attentions = [block.attn for block in vit.blocks]
    seen: list[Tensor] = []
    hooks = [
        attention.attn_drop.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        for attention in attentions
    ]
    fused = [attention.fused_attn for attention in attentions]
    try:
        for attention in attentions:
            attention.fused_attn = False  # the fused kernel never has the matrix
        with _evaluation_mode(model), torch.no_grad():
            vit.forward_features(images)
    finally:
        for hook, attention, was in zip(hooks, attentions, fused, strict=True):
            hook.remove()
            attention.fused_attn = was
    tokens = seen[0].shape[-1]
    flow = torch.eye(tokens, dtype=seen[0].dtype, device=seen[0].device)
    for matrix in seen:
        flow = (matrix.mean(dim=1) + torch.eye(tokens, dtype=matrix.dtype, device=matrix.device)) / 2 @ flow
    first = vit.num_prefix_tokens
    pooled = flow[:, 0] if vit.global_pool == "token" else flow[:, first:].mean(dim=1)
    size = vit.patch_embed.patch_size
    height, width = images.shape[-2] // size[0], images.shape[-1] // size[1]
    return pooled[:, first:].unflatten(1, (height, width))


class _evaluation_mode:
    """A block in which a model is in eval mode and its weights take no gradient; afterwards all is as before."""

    def __init__(self, model: nn.Module) -> None:
        self.training = [module for module in model.modules() if module.training]
        self.learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.model = model

    def __enter__(self) -> None:
        self.model.eval()
        for parameter in self.learning:
            parameter.requires_grad_(False)

    def __exit__(self, *_: object) -> None:
        for module in self.training:
            module.training = True
        for parameter in self.learning:
            parameter.requires_grad_(True)
