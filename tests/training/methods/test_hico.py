"""HiCo's levels, pyramid, softened labels and loss: against slow forms, and as the released code has them."""

from dataclasses import replace

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from tests.training.small import slow_nt_xent, small_backbone, small_batch
from training.methods.hico import HiCo, soft_cross_entropy, soft_targets
from training.nn.feature_pyramid import Maps, Pyramid

RELEASED = HiCo(
    lam="shared",
    cross_views="within",
    medium="p3",
    top="p5",
    classify="gap",
    soften="hico_batch",
    heads="flatten",
    pyramid_width=256,
)
ARCHS = ["resnet18", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto", "efficientnet_lite0"]


def slow_maps(net, images):
    """C2 .. c5 of a timm ResNet and p2' .. p5' of the pyramid, written out."""
    f = net.backbone
    c2 = f.layer1(f.maxpool(f.act1(f.bn1(f.conv1(images)))))
    c3 = f.layer2(c2)
    c4 = f.layer3(c3)
    c5 = f.layer4(c4)
    lateral = net.pyramid.lateral

    def up(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    p5 = lateral["p5"](c5)
    p4 = up(p5) + lateral["p4"](c4)
    p3 = up(p4) + lateral["p3"](c3)
    p2 = up(p3) + lateral["p2"](c2)
    return c5, {"p2": p2, "p3": p3, "p4": p4, "p5": p5}


def mlp(linears, x):
    return linears[1](torch.relu(linears[0](x)))


def slow_embeddings(net, images, spec):
    """Local, medium, global embedding and logits of the formulas in methods/hico.py's docstring, on a ResNet."""
    c5, p = slow_maps(net, images)
    read = [net.pyramid.smooth["p2"](p["p2"]), net.pyramid.smooth[spec.medium](p[spec.medium])]
    read += {"p5": [p["p5"]], "p5_smooth": [net.pyramid.smooth["p5"](p["p5"])] if spec.top == "p5_smooth" else []}.get(
        spec.top, []
    )
    z = []
    for head, level in zip(net.projectors, read, strict=False):
        linears = [module for module in head if isinstance(module, nn.Linear)]
        if spec.heads == "flatten":
            z.append(mlp(linears, level.reshape(len(level), -1)))
        else:
            norm = next(module for module in head if isinstance(module, nn.LayerNorm))
            mean = level.clamp(min=0).sum(dim=(2, 3)) / level[0, 0].numel()
            z.append(mlp(linears, norm(mean)))
    representation = c5.mean(dim=(2, 3))
    if spec.top == "representation":
        z.append(mlp([module for module in net.projectors[2] if isinstance(module, nn.Linear)], representation))
    if spec.classify == "global":
        return z, net.classifier(z[2])
    return z, mlp([net.classifier[0], net.classifier[2]], representation)


def slow_label_term(logits, labels, spec):
    labels = labels.tolist()
    known = [i for i, label in enumerate(labels) if label >= 0]
    classes = logits.shape[1]
    total = 0.0
    for i in known:
        for c in range(classes):
            alpha = 0.0 if spec.soften == "none" else spec.alpha
            shared = 1 / classes if spec.soften == "label_smoothing" else 1 / (len(known) - 1)
            target = (1 - alpha) * (c == labels[i]) + alpha * shared
            total = total - target * torch.log_softmax(logits[i], 0)[c]
    return total / len(known)


@pytest.mark.parametrize(
    "spec",
    [
        HiCo(),
        HiCo(top="p5_smooth", medium="p3", soften="none", peer=0.3, cross=0.8),
        replace(RELEASED, pyramid_width=8, flatten_size=64),
    ],
    ids=["default", "figure", "released"],
)
def test_the_loss_is_the_formula(spec):
    net = spec.build(small_backbone(), classes=3).double()
    batch = small_batch(dtype=torch.float64)
    losses = net.losses(batch)
    (l1, m1, g1), o1 = slow_embeddings(net, batch.views[0], spec)
    (l2, m2, g2), o2 = slow_embeddings(net, batch.views[1], spec)
    peer = sum(slow_nt_xent(a, b, 0.5).mean() for a, b in ((l1, l2), (m1, m2), (g1, g2)))
    across = ((g1, m2), (g2, m1), (g1, l2), (g2, l1))
    within = ((g1, m1), (g2, m2), (g1, l1), (g2, l2))
    cross = sum(slow_nt_xent(a, b, 0.5).mean() for a, b in (across if spec.cross_views == "across" else within))
    label = slow_label_term(o1, batch.labels, spec) + slow_label_term(o2, batch.labels, spec)
    for name, slow in (("peer", peer), ("cross", cross), ("label", label)):
        torch.testing.assert_close(losses[name], slow, rtol=1e-10, atol=0)
    torch.testing.assert_close(losses["loss"], spec.peer * peer + spec.cross * cross + 0.2 * label, rtol=1e-10, atol=0)


def test_the_ladder_reads_pooled_blocks_and_the_representation():
    net = HiCo().build(small_backbone("vit_tiny_patch16_224"), classes=3).double()
    images = small_batch(dtype=torch.float64).views[0]
    tokens = []
    for block in net.backbone.blocks:
        block.register_forward_hook(lambda module, args, output: tokens.append(output.detach()))
    representation, embeddings = net.embed(images)
    for place, block in enumerate((1, 3)):  # a third and two thirds of six blocks
        pooled = tokens[block][:, net.backbone.num_prefix_tokens :].mean(dim=1)
        torch.testing.assert_close(embeddings[place], net.projectors[place][2:](pooled), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(embeddings[2], net.projectors[2](representation))


def test_a_vit_of_twelve_blocks_is_read_at_3_7_and_its_end():
    with torch.device("meta"):
        maps = Maps(timm.create_model("vit_small_patch16_224", num_classes=0))
    assert not maps.pyramid and maps.indices == [3, 7] and maps.channels == [384, 384]


@pytest.mark.parametrize("arch", ARCHS)
def test_the_representation_is_the_backbones_output(arch):
    backbone = small_backbone(arch).eval()
    images = small_batch().views[0]
    maps = Maps(backbone)
    representation, levels = maps(backbone, images)
    assert representation.equal(backbone(images))
    assert [level.shape[1] for level in levels] == maps.channels
    assert [64 // level.shape[2] for level in levels] == maps.reductions
    assert maps.reductions == ([16, 16] if arch.startswith("vit") else [4, 8, 16, 32])


@pytest.mark.parametrize(("labeled", "total"), [(32, 0.877), (16, 0.96), (9, 1.1), (4, 1.6), (2, 3.2), (1, 3.2)])
def test_released_targets_sum_to_what_the_batch_makes_of_them(labeled, total):
    released = soft_targets(torch.arange(labeled) % 12, 12, 0.2, "hico_batch", labeled)
    sums = released.sum(dim=1)
    torch.testing.assert_close(sums, torch.full_like(sums, 0.8 + 12 * 0.2 / max(labeled - 1, 1)))
    assert abs(float(sums[0]) - total) < 5e-4
    ours = soft_targets(torch.arange(labeled) % 12, 12, 0.2, "label_smoothing", labeled)
    torch.testing.assert_close(ours.sum(dim=1), torch.ones(labeled, dtype=torch.float64))


def test_softened_cross_entropy_is_torchs_label_smoothing():
    logits, labels = torch.randn(6, 5, dtype=torch.float64), torch.tensor([0, -1, 4, 2, -1, 2])
    for soften, alpha in (("label_smoothing", 0.2), ("none", 0.0)):
        theirs = F.cross_entropy(logits, labels, ignore_index=-1, label_smoothing=alpha)
        ours = soft_cross_entropy(logits, labels, 0.2, soften)
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=0)


@pytest.mark.parametrize("soften", ["label_smoothing", "hico_batch", "none"])
def test_without_labels_there_is_no_label_term(soften):
    logits = torch.randn(4, 3, requires_grad=True)
    term = soft_cross_entropy(logits, torch.full((4,), -1), 0.2, soften)
    assert term == 0 and not term.requires_grad


def test_the_released_network_has_the_released_size_without_its_dead_parameters():
    with torch.device("meta"):
        net = RELEASED.build(timm.create_model("resnet18", num_classes=0, in_chans=3), classes=12)
    count = sum(p.numel() for p in net.parameters())
    fourth_level, smooth_of_p4, imagenet_head = 50176 * 256 + 256, 256 * 256 * 9 + 256, 513 * 1000
    assert count == 286_996_788 - fourth_level - smooth_of_p4 - imagenet_head
    assert [head[1].in_features for head in net.projectors] == [802_816, 200_704, 12_544]


def test_no_preset_has_a_parameter_that_does_not_learn():
    for spec in (replace(RELEASED, pyramid_width=16, flatten_size=64), HiCo(top="p5_smooth"), HiCo(levels="ladder")):
        net = spec.build(small_backbone(), classes=3)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.ones_(module.weight)
        net.losses(small_batch())["loss"].backward()
        assert not [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().any()]


def test_the_heads_are_small():
    with torch.device("meta"):
        net = HiCo().build(timm.create_model("resnet18", num_classes=0, in_chans=1), classes=12)
    backbone = sum(p.numel() for p in net.backbone.parameters())
    assert sum(p.numel() for p in net.parameters()) <= 1.25 * backbone


def test_the_pyramid_outlives_the_pretraining():
    net = HiCo().build(small_backbone(), classes=3).eval()
    state = net.state_dict()
    again = Pyramid([64, 128, 256, 512], net.spec.pyramid_width, ["p2", "p4"])
    again.load_state_dict({k.removeprefix("pyramid."): v for k, v in state.items() if k.startswith("pyramid.")})
    plain = timm.create_model("resnet18", features_only=True, in_chans=1, out_indices=(1, 2, 3, 4)).eval()
    plain.load_state_dict({k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")})
    images = small_batch().views[0]
    for ours, theirs in zip(again(plain(images)), net.pyramid(net.maps(net.backbone, images)[1]), strict=True):
        assert ours.equal(theirs)


def test_a_pyramid_has_only_the_layers_that_its_levels_need():
    pyramid = Pyramid([8, 16, 32, 64], 4, ["p4", "p5"], smooth=["p4"])
    assert sorted(pyramid.lateral) == ["p4", "p5"] and sorted(pyramid.smooth) == ["p4"]
    maps = [torch.randn(1, c, s, s) for c, s in ((8, 16), (16, 8), (32, 4), (64, 2))]
    assert [tuple(level.shape) for level in pyramid(maps)] == [(1, 4, 4, 4), (1, 4, 2, 2)]


def test_concatenated_views_give_the_same_loss_without_batch_statistics():
    batch, net = small_batch(), HiCo().build(small_backbone(), classes=3).eval()
    separate = net.losses(batch)["loss"]
    net.forward_views = "concat"
    torch.testing.assert_close(net.losses(batch)["loss"], separate, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_built_is_named():
    with pytest.raises(ValueError, match=r"maps of 1 resolution.*levels ladder"):
        HiCo(levels="pyramid").build(small_backbone("vit_tiny_patch16_224"), 0)
    with pytest.raises(ValueError, match="Sequential has no forward_intermediates"):
        Maps(nn.Sequential())
    net = replace(RELEASED, pyramid_width=8, flatten_size=96).build(small_backbone(), 0)
    with pytest.raises(ValueError, match=r"96 px.*64 px.*--method.flatten-size 64"):
        net.losses(small_batch())
