"""Saliency against its slow forms: a gradient by differences, a rollout by sums over paths."""

import itertools

import pytest
import timm
import torch

from usbackbones.features.saliency import attention_rollout, gradient_times_input


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def network(arch, **given):
    torch.manual_seed(1)
    return timm.create_model(arch, num_classes=3, **given).double()


@pytest.mark.parametrize("arch", ["test_resnet", "test_vit"])
def test_gradient_by_differences(arch, images):
    """x dS/dx at some pixels, by central differences of the largest logit, channel by channel."""
    model = network(arch, **({"img_size": 64} if "vit" in arch else {})).eval()
    found = gradient_times_input(model, images)
    assert found.shape == (2, 64, 64) and (found >= 0).all()
    predicted = model(images).argmax(1)
    for image, row, column in ((0, 5, 9), (1, 40, 33), (1, 63, 0)):
        slow = 0.0
        for channel in range(3):
            step = torch.zeros_like(images)
            step[image, channel, row, column] = 1e-5
            rise = model(images + step)[image, predicted[image]] - model(images - step)[image, predicted[image]]
            slow += float((images[image, channel, row, column] * rise).detach() / 2e-5)
        assert float(found[image, row, column]) == pytest.approx(abs(slow), rel=1e-4, abs=1e-9)


def test_another_score(images):
    model = network("test_resnet")
    of_one = gradient_times_input(model, images, lambda logits: logits[:, 1])
    assert torch.allclose(of_one, gradient_times_input(model, images, lambda logits: 2 * logits[:, 1]) / 2)
    assert not torch.allclose(of_one, gradient_times_input(model, images, lambda logits: logits[:, 2]))


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_rollout_as_a_sum_over_paths(images, pool):
    """The share of a patch is the sum, over all paths of tokens through the layers, of the products along the path."""
    model = network("test_vit", img_size=64, global_pool=pool).eval()
    model.blocks = model.blocks[:3]
    small = images[:, :, :32, :48]  # three layers and 2 x 3 patches: few enough paths to walk
    model.set_input_size((32, 48))
    layers = [_attention(model, small, number) for number in range(len(model.blocks))]
    tokens, first = layers[0].shape[-1], model.num_prefix_tokens
    identity = torch.eye(tokens, dtype=torch.float64)
    steps = [(matrix + identity) / 2 for matrix in layers]
    slow = torch.zeros(2, tokens, tokens, dtype=torch.float64)
    for path in itertools.product(range(tokens), repeat=len(steps) + 1):  # from the output down to the input
        weight = torch.ones(2, dtype=torch.float64)
        for step, to, origin in zip(reversed(steps), path, path[1:], strict=False):
            weight = weight * step[:, to, origin]
        slow[:, path[0], path[-1]] += weight
    expected = slow[:, 0, first:] if pool == "token" else slow[:, first:, first:].mean(1)
    found = attention_rollout(model, small)
    assert found.shape == (2, 2, 3)
    assert torch.allclose(found.flatten(1), expected, rtol=1e-10)
    assert all(block.attn.fused_attn for block in model.blocks)


def _attention(model, images, number):
    """Attention [N, T, T] of one block, averaged over heads, from its weights alone."""
    tokens = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))
    for block in model.blocks[:number]:
        tokens = block(tokens)
    block = model.blocks[number]
    attention = block.attn
    qkv = attention.qkv(block.norm1(tokens)).unflatten(2, (3, attention.num_heads, -1))  # [N, T, 3, heads, d]
    query, key = attention.q_norm(qkv[:, :, 0]), attention.k_norm(qkv[:, :, 1])
    scores = torch.einsum("nihd,njhd->nhij", query, key) / query.shape[-1] ** 0.5
    return scores.softmax(-1).mean(1).detach()


def test_the_model_is_left_as_it_was(images):
    model = network("test_vit", img_size=64).train()
    model.cls_token.requires_grad_(False)
    gradient_times_input(model, images)
    attention_rollout(model, images)
    assert model.training and all(module.training for module in model.modules())
    assert not model.cls_token.requires_grad and model.head.weight.requires_grad and model.head.weight.grad is None


def test_a_resnet_has_no_attention(images):
    with pytest.raises(TypeError, match="no ViT of timm: use gradient_times_input"):
        attention_rollout(network("test_resnet"), images)
