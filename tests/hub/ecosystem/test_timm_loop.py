"""A loop like timm's `train.py`: every part of it is timm's own, the model alone is ours."""

import timm
import torch
from timm.data import create_dataset, create_loader, resolve_model_data_config
from timm.data.mixup import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.models import load_checkpoint
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import CheckpointSaver, ModelEmaV3, accuracy

import usbackbones

EPOCHS = 4


def loader_of(stills, model, part):
    """timm's loader for gray stills, described by the model alone."""
    training = part == "train"
    config = resolve_model_data_config(model)
    dataset = create_dataset("", root=stills.folder, split=part, is_training=training, input_img_mode="L")
    return create_loader(
        dataset,
        batch_size=8,
        is_training=training,
        scale=(0.6, 1.0),
        color_jitter=0.2,
        num_workers=0,
        persistent_workers=False,
        use_prefetcher=False,
        device=torch.device("cpu"),
        **{key: config[key] for key in ("input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode")},
    )


@torch.inference_mode()
def validate(model, loader):
    """Top-1 in per cent."""
    model.eval()
    outputs, targets = zip(*((model(images), target) for images, target in loader), strict=True)
    return float(accuracy(torch.cat(outputs), torch.cat(targets))[0])


def test_a_loop_of_timms_own_parts_trains_our_model(stills, tmp_path):
    torch.manual_seed(0)
    small = {"input_size": (3, 96, 96)}  # of 160, which would take three times as long
    model = timm.create_model(
        "usbackbones/resnet18", pretrained=True, in_chans=1, num_classes=2, pretrained_cfg_overlay=small
    )
    train, val = (loader_of(stills, model, part) for part in ("train", "val"))
    images, _ = next(iter(val))
    assert images.shape[1:] == model.pretrained_cfg["input_size"]
    ours = usbackbones.transforms(model)(stills.frames[stills.patient == 9][0])
    assert torch.allclose(images[0], ours, atol=0.05)  # Pillow and torchvision round a resize differently

    mixup = Mixup(mixup_alpha=0.2, label_smoothing=0.1, num_classes=2)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05, layer_decay=0.7)
    scheduler, epochs = create_scheduler_v2(optimizer, sched="cosine", num_epochs=EPOCHS, warmup_epochs=1)
    ema = ModelEmaV3(model, decay=0.9, use_warmup=True)
    saver = CheckpointSaver(model, optimizer, model_ema=ema, checkpoint_dir=str(tmp_path), recovery_dir=str(tmp_path))
    criterion, losses = SoftTargetCrossEntropy(), []
    for epoch in range(epochs):
        model.train()
        for images, target in train:
            images, soft = mixup(images, target)
            loss = criterion(model(images), soft)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ema.update(model)
            losses.append(loss.item())
        top1 = validate(model, val)
        scheduler.step(epoch + 1, top1)
        saver.save_checkpoint(epoch, metric=top1)
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
    assert saver.best_metric >= 75

    again = timm.create_model("usbackbones/resnet18", in_chans=1, num_classes=2, pretrained_cfg_overlay=small)
    load_checkpoint(again, str(tmp_path / "last.pth.tar"), use_ema=False, weights_only=True)
    assert validate(again, val) == top1
