"""The slope of the rates against autograd through the virtual step, in float64, and against a finite difference."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch.func import functional_call

from usbackbones.finetuning.metalr import MetaLR, groups_of_layers, learn_rates, rate_gradients


@pytest.fixture(params=["resnet18", "vit_tiny_patch16_224"])
def setting(request):
    """A model in eval mode in float64, two batches, and a rate a group."""
    torch.manual_seed(0)
    size = {"img_size": 32} if "vit" in request.param else {}
    model = timm.create_model(request.param, num_classes=3, in_chans=1, **size).double().eval()
    images, labels = torch.randn(2, 4, 1, 32, 32, dtype=torch.float64), torch.randint(3, (2, 4))
    groups = groups_of_layers(model)
    rates = torch.linspace(1e-3, 1e-2, len(groups), dtype=torch.float64)
    return model, groups, rates, images, labels


def test_slopes_are_autograds(setting):
    model, groups, rates, images, labels = setting
    slopes, gradients = rate_gradients(
        groups,
        rates.tolist(),
        lambda: F.cross_entropy(model(images[0]), labels[0]),
        lambda: F.cross_entropy(model(images[1]), labels[1]),
    )
    # The slow form: the virtual step is a function of the rates, and autograd goes through it.
    named = {parameter: name for name, parameter in model.named_parameters()}
    learned = rates.clone().requires_grad_()
    stepped = {
        named[parameter]: parameter.detach() - learned[j] * gradient
        for j, (group, own) in enumerate(zip(groups, gradients, strict=True))
        for parameter, gradient in zip(group, own, strict=True)
    }
    F.cross_entropy(functional_call(model, stepped, (images[1],)), labels[1]).backward()
    wanted = learned.grad
    assert (torch.tensor(slopes, dtype=torch.float64) - wanted).abs().max() <= 1e-10 * wanted.abs().max()


def test_parameters_are_put_back_to_the_bit(setting):
    model, groups, rates, images, labels = setting
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def loss():
        return F.cross_entropy(model(images[0]), labels[0])

    rate_gradients(groups, rates.tolist(), loss, loss)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_every_parameter_is_in_one_group_from_stem_to_head(setting):
    model, groups, *_ = setting
    flat = [parameter for group in groups for parameter in group]
    assert len(flat) == len(set(flat)) == len(list(model.parameters()))
    named = {parameter: name for name, parameter in model.named_parameters()}
    assert {named[p].split(".")[0] for p in groups[-1]} <= {"fc", "head", "norm"}
    assert {named[p].split(".")[0] for p in groups[0]} <= {"conv1", "bn1", "patch_embed", "pos_embed", "cls_token"}


def test_a_frozen_layer_has_no_rate(setting):
    model, groups, *_ = setting
    for parameter in groups[0]:
        parameter.requires_grad = False
    assert len(groups_of_layers(model)) == len(groups) - 1


def test_rates_descend_within_bounds():
    """A group whose step helps the other batch (a negative slope) steps further from now on."""
    spec = MetaLR(eta=0.1, lowest=1e-6, highest=1e-2)
    assert learn_rates([1e-3, 1e-3, 1e-3], [-0.01, 1.0, -1.0], spec) == [2e-3, 1e-6, 1e-2]
