"""One transform for every model as built, and the same pixels whatever they come in."""

import warnings

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import usbackbones
from usbackbones.features.transforms import Transform


@pytest.fixture
def model(published):
    """`model(1)`: the synthetic ResNet at 64 px, mean 0.2, std 0.25, with so many channels."""
    return lambda channels: timm.create_model(f"usbackbones/{published.resnet}", pretrained=True, in_chans=channels)


@pytest.fixture
def frame():
    """A smooth gray picture, uint8 [90, 140]."""
    y, x = np.mgrid[:90, :140]
    return (127 + 60 * np.sin(y / 9) + 60 * np.cos(x / 13)).astype(np.uint8)


def test_the_public_name_is_the_function_whatever_is_imported_first():
    import usbackbones.probing.probes  # it imports the submodule of the same name

    assert usbackbones.transforms.__name__ == "transforms"
    assert callable(usbackbones.transforms)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_form_of_a_gray_frame_gives_the_same_tensor(model, frame, channels):
    transform = usbackbones.transforms(model(channels))
    expected = transform(frame)
    assert expected.shape == (channels, 64, 64) and expected.dtype == torch.float32
    rgb = np.repeat(frame[..., None], 3, axis=2)
    for form in (
        Image.fromarray(frame),
        torch.from_numpy(frame)[None],
        torch.from_numpy(frame)[None, None],
        np.asfortranarray(frame),
        Image.fromarray(rgb),
        rgb,
        torch.from_numpy(rgb).permute(2, 0, 1),
    ):
        got = transform(form)
        # Luma of a gray pixel may round to its neighbour: 1 of 255, divided by the std.
        assert (got - expected).abs().max() <= (1 / 255 / 0.25 + 1e-6), type(form)
    assert all(torch.equal(expected[0], channel) for channel in expected)


def test_a_clip_becomes_a_batch_of_its_frames(model, frame):
    clip = np.stack([frame, frame[::-1], frame[:, ::-1]])
    for channels in (1, 3):
        transform = usbackbones.transforms(model(channels))
        batch = transform.clip_batch(clip)
        assert batch.shape == (3, channels, 64, 64)
        assert all(torch.equal(batch[t], transform(clip[t])) for t in range(3))
        model(channels)(batch)


def test_read_only_frames_are_taken_without_a_warning(model, frame):
    frame.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        usbackbones.transforms(model(1)).clip_batch(frame[None])


# timm's own keep the aspect ratio and crop the center, bilinear or bicubic, and describe RGB only.
@pytest.mark.parametrize(
    ("name", "mode"), [("ours", "L"), ("ours", "RGB"), ("resnet18", "RGB"), ("vit_tiny_patch16_224", "RGB")]
)
def test_it_is_timms_own_eval_transform(model, frame, name, mode):
    built = model(len(mode)) if name == "ours" else timm.create_model(name)
    image = Image.fromarray(frame).convert(mode)
    config = timm.data.resolve_model_data_config(built)
    theirs = timm.data.create_transform(**config)(image)
    ours = usbackbones.transforms(built)(image)
    assert ours.shape == theirs.shape
    # PIL and torchvision round differently: at most 2 of 255.
    assert (ours - theirs).abs().max() <= 2 / 255 / min(config["std"]) + 1e-6


def test_values_are_normalised_by_the_released_mean_and_std(model):
    white = usbackbones.transforms(model(3))(np.full((10, 10), 255, np.uint8))
    torch.testing.assert_close(white, torch.full((3, 64, 64), (1 - 0.2) / 0.25))


def test_it_follows_the_size_as_built(published, frame):
    vit = timm.create_model(f"usbackbones/{published.vit}", pretrained=True, img_size=128, in_chans=1)
    assert usbackbones.transforms(vit)(frame).shape == (1, 128, 128)


@pytest.mark.parametrize("channels", [1, 3])
def test_training_draws_views_that_a_seed_repeats(model, frame, channels):
    transform = usbackbones.transforms(model(channels), train=True)
    torch.manual_seed(0)
    first, second = transform(frame), transform(frame)
    assert first.shape == (channels, 64, 64)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(first, transform(frame))
    assert all(torch.equal(first[0], channel) for channel in first)


def test_training_keeps_at_least_sixty_percent_of_the_area_and_changes_it_mildly(model):
    ramp = np.tile(np.linspace(0, 255, 200).astype(np.uint8), (200, 1))
    transform = usbackbones.transforms(model(1), train=True)
    torch.manual_seed(0)
    flipped = 0
    for _ in range(50):
        row = transform(ramp)[0, 32] * 0.25 + 0.2
        # Of a horizontal ramp the range of values that is left is the width of the crop, times the contrast.
        width = (row.max() - row.min()).item()
        assert 0.6**0.5 * (3 / 4) ** 0.5 * 0.8 * 0.8 - 0.05 < width <= 1
        flipped += int(row[0] > row[-1])
    assert 10 < flipped < 40


def test_the_frames_of_a_clip_share_one_draw(model, frame):
    batch = usbackbones.transforms(model(1), train=True).clip_batch(np.stack([frame] * 4))
    assert all(torch.equal(batch[0], other) for other in batch)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (np.zeros((4, 4), np.float32), "float32, not uint8"),
        (np.zeros((4, 4, 2), np.uint8), r"\[H, W\] or \[H, W, 3\], not \[4, 4, 2\]; a clip goes to clip_batch"),
        (torch.zeros(4, 4, dtype=torch.uint8), r"not \[4, 4\]"),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), r"not \[2, 4, 4\]"),
        (Image.new("RGBA", (4, 4)), "mode RGBA is not supported: call image.convert"),
        ("frame.png", "str is not a PIL image"),
    ],
)
def test_anything_else_is_refused_with_what_it_was(model, wrong, complaint):
    with pytest.raises(TypeError, match=complaint):
        usbackbones.transforms(model(1))(wrong)


def test_a_clip_has_three_dimensions(model):
    with pytest.raises(TypeError, match=r"\[T, H, W\], not uint8 \[4, 4\]"):
        usbackbones.transforms(model(1)).clip_batch(np.zeros((4, 4), np.uint8))


def test_a_model_that_timm_did_not_make_is_refused():
    with pytest.raises(TypeError, match="Linear has no pretrained_cfg"):
        usbackbones.transforms(torch.nn.Linear(1, 1))


def test_a_crop_mode_that_is_not_known_is_refused(model):
    cfg = model(1).pretrained_cfg | {"crop_mode": "border"}
    with pytest.raises(ValueError, match="crop_mode 'border' to 64x64 is not supported"):
        Transform(cfg, train=False)
