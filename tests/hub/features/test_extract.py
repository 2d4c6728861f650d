"""Features of every kind against their slow form; folding; tables and the cache on disk."""

import io

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from tests.hub.probing.test_probes import small_resnet
from usbackbones.clips import read_clip
from usbackbones.features.cache import FeatureCache, clip_sum
from usbackbones.features.extract import BF16_TOLERANCE, FOLDED_TOLERANCE, Extractor, embed
from usbackbones.features.fold_batchnorm import fold_batchnorm
from usbackbones.features.table import Ids, require, write_features
from usbackbones.features.transforms import transforms


def small_vit():
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0)
    model.pretrained_cfg = model.pretrained_cfg | {"input_size": (3, 32, 32)}
    return model


def lively(model):
    """Running statistics and scales that are not those of a fresh norm, for which folding would be nothing."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.running_var, module.weight.data, module.bias.data):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return model


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(0, 256, (5, 40, 50), dtype=np.uint8)


@pytest.mark.parametrize("make", [small_resnet, small_vit])
def test_pooled_is_what_embed_gives(make, frames):
    model = make()
    extractor = Extractor(model, batch_size=2)
    rows = list(extractor.rows(iter(frames)))
    assert [len(part) for part in rows] == [2, 2, 1]
    assert extractor.shapes == {"features": (extractor.width,)}
    np.testing.assert_allclose(np.concatenate(rows), embed(model, frames), atol=1e-5)


def test_levels_and_tokens_of_a_resnet(frames):
    model = small_resnet(num_classes=0).eval()
    images = torch.stack([transforms(model)(frame) for frame in frames])
    with torch.no_grad():
        x = model.maxpool(model.act1(model.bn1(model.conv1(images))))
        maps = [x := stage(x) for stage in (model.layer1, model.layer2, model.layer3, model.layer4)]
    levels, tokens = Extractor(model, "levels"), Extractor(model, "tokens")
    assert levels.shapes == {"level1": (64,), "level2": (128,), "level3": (256,), "level4": (512,)}
    expected = np.concatenate([found.mean((2, 3)).numpy() for found in maps], 1)
    np.testing.assert_allclose(next(levels.rows(frames)), expected, atol=1e-5)
    assert tokens.shapes == {"tokens": (512, 1, 1)}
    np.testing.assert_allclose(next(tokens.rows(frames)), maps[-1].flatten(1).numpy(), atol=1e-5)


def test_levels_and_tokens_of_a_vit(frames):
    model = small_vit().eval()
    images = torch.stack([transforms(model)(frame) for frame in frames])
    with torch.no_grad():
        patches = model.forward_features(images)[:, 1:]
        x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))
        blocks = [x := block(x) for block in model.blocks]
    tokens = Extractor(model, "tokens")
    assert tokens.shapes == {"tokens": (192, 2, 2)}
    found = next(tokens.rows(frames)).reshape(5, 192, 2, 2)
    for place in range(4):  # row by row
        np.testing.assert_allclose(found[:, :, place // 2, place % 2], patches[:, place], atol=1e-5)
    quarters = np.concatenate([blocks[n][:, 1:].mean(1).numpy() for n in (2, 5, 8, 11)], 1)
    np.testing.assert_allclose(next(Extractor(model, "levels").rows(frames)), quarters, atol=1e-5)


def test_folding_is_exact_in_float64_and_leaves_the_model_alone():
    model = lively(small_resnet(num_classes=0)).double().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded, count = fold_batchnorm(model)
    assert count == 20
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(folded(images), model(images), rtol=1e-10, atol=1e-10)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert fold_batchnorm(small_vit())[1] == 0


def test_folding_follows_the_graph_and_not_the_names():
    """Pre-activation, a convolution with two users, and one that is called twice: nothing of these may be folded."""

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn1, self.conv1 = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)
            self.conv2, self.bn2 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
            self.conv3, self.bn3 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x):
            x = self.conv1(self.bn1(x))
            y = self.conv2(x)
            x = self.bn2(y) + y
            return self.bn3(self.conv3(self.conv3(x)))

    model = lively(Odd()).eval()
    folded, count = fold_batchnorm(model)
    images = torch.randn(1, 3, 8, 8)
    assert count == 0
    assert torch.equal(folded(images), model(images))


@pytest.mark.parametrize("bf16", [False, True])
def test_the_fast_path_keeps_its_tolerance(frames, monkeypatch, bf16):
    monkeypatch.setattr("usbackbones.features.extract.computes_in_bf16", lambda device: bf16)
    model = lively(small_resnet(num_classes=0))
    exact, fast = Extractor(model), Extractor(model, fast=True)
    assert (exact.computed, fast.computed) == ("fp32", "bf16" if bf16 else "fp32 folded")
    one, other = next(exact.rows(frames)), next(fast.rows(frames))
    if bf16:
        assert 0 < np.linalg.norm(other - one) <= BF16_TOLERANCE * np.linalg.norm(one)
    else:
        assert np.abs(other - one).max() <= FOLDED_TOLERANCE * np.abs(one).max()


def test_an_unknown_level_is_refused():
    with pytest.raises(ValueError, match="'tiles' is none of pooled, levels, tokens"):
        Extractor(small_resnet(), "tiles")


@pytest.fixture
def table(tmp_path):
    """2,500 rows, more than are converted at a time, of an array of numbers and one of maps."""
    rows = np.random.default_rng(0).normal(size=(2500, 3 + 2 * 2 * 2)).astype(np.float32)
    spool = (tmp_path / "spool").open("w+b")
    spool.write(rows.tobytes())
    seconds = [float("nan") if n % 7 == 0 else n / 10 for n in range(2500)]
    ids = Ids([f"clip{n // 100}" for n in range(2500)], [n % 100 for n in range(2500)], seconds)
    ids.name = [f"{n}.png" if n % 3 else "" for n in range(2500)]
    with spool:
        yield rows, spool, {"a": (3,), "b": (2, 2, 2)}, ids


def test_npz(table, tmp_path):
    rows, spool, shapes, ids = table
    write_features(tmp_path / "t.npz", spool, shapes, ids, {"model": "m"})
    with np.load(tmp_path / "t.npz", allow_pickle=False) as saved:
        assert set(saved.files) == {"a", "b", "frame", "name", "seconds", "source", "model"}
        assert saved["name"].tolist() == ids.name
        np.testing.assert_array_equal(saved["a"], rows[:, :3])
        np.testing.assert_array_equal(saved["b"], rows[:, 3:].reshape(-1, 2, 2, 2))
        assert saved["source"].tolist() == ids.source and saved["frame"].tolist() == ids.frame
        np.testing.assert_array_equal(saved["seconds"], ids.seconds)


def test_parquet(table, tmp_path):
    from pyarrow import parquet

    rows, spool, shapes, ids = table
    write_features(tmp_path / "t.parquet", spool, shapes, ids, {"model": "m"})
    saved = parquet.read_table(tmp_path / "t.parquet")
    assert saved.schema.metadata[b"model"] == b"m" and saved.schema.metadata[b"shape of b"] == b"2x2x2"
    np.testing.assert_array_equal(np.array(saved["a"].to_pylist(), np.float32), rows[:, :3])
    np.testing.assert_array_equal(np.array(saved["b"].to_pylist(), np.float32), rows[:, 3:])
    assert saved["name"].to_pylist() == ids.name
    assert saved["source"].to_pylist() == ids.source and saved["frame"].to_pylist() == ids.frame
    assert saved["seconds"].to_pylist()[:2] == [None, 0.1]


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"end it in \.npz or \.parquet"):
        require(tmp_path / "a.csv")


# The cache


def test_an_entry_is_read_back_and_a_damaged_one_heals(tmp_path):
    """Every byte of an entry matters: flipped, cut or lengthened it is found out, removed, and written again."""
    rows, seconds, names = np.arange(12, dtype=np.float32), [0.0, float("nan"), 0.5], ["a.png", "b.png", ""]
    cache = FeatureCache(tmp_path, "weight", level="pooled")
    assert cache.read("clip", 4, io.BytesIO()) is None
    cache.write("clip", (seconds, names), iter([rows.tobytes()[:20], rows.tobytes()[20:]]))
    (file,) = tmp_path.rglob("*.features")
    sound = file.read_bytes()
    damaged = [sound[:at] + bytes([sound[at] ^ 4]) + sound[at + 1 :] for at in range(len(sound))]
    damaged += [b"", sound[:10], sound[:-1], sound + b"x"]
    for bad in damaged:
        file.write_bytes(bad)
        assert cache.read("clip", 4, io.BytesIO()) is None
        assert not file.exists()
    assert (cache.hits, cache.misses, cache.mended) == (0, len(damaged) + 1, len(damaged))
    cache.write("clip", (seconds, names), iter([rows.tobytes()]))
    sink = io.BytesIO()
    read = cache.read("clip", 4, sink)
    np.testing.assert_array_equal(read[0], seconds)
    assert read[1] == names
    assert sink.getvalue() == rows.tobytes()
    assert cache.hits == 1


def test_an_entry_belongs_to_one_weight_one_clip_and_one_way(tmp_path):
    FeatureCache(tmp_path, "weight", level="pooled").write("clip", ([0.0], [""]), iter([bytes(4)]))
    for weight, clip, level in (
        ("other", "clip", "pooled"),
        ("weight", "other", "pooled"),
        ("weight", "clip", "levels"),
    ):
        assert FeatureCache(tmp_path, weight, level=level).read(clip, 1, io.BytesIO()) is None
    assert FeatureCache(tmp_path, "weight", level="pooled").read("clip", 1, io.BytesIO()) == ([0.0], [""])


def test_the_sum_of_a_clip_is_of_its_content(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(b"one")
    assert clip_sum(tmp_path / "a") == clip_sum(tmp_path / "b")
    assert clip_sum(tmp_path / "a" / "0.png") == clip_sum(tmp_path / "b" / "0.png")
    (tmp_path / "b" / "1.png").write_bytes(b"two")
    assert clip_sum(tmp_path / "a") != clip_sum(tmp_path / "b")
    (tmp_path / "c.mhd").write_text("ObjectType = Image\nNDims = 3\nElementDataFile = c.raw\n")
    assert clip_sum(tmp_path / "c.mhd") is None


def test_one_image_is_one_row_and_color_becomes_gray_as_the_readers_do(tmp_path):
    model = small_resnet()
    rgb = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "image.png")
    read = embed(model, read_clip(tmp_path / "image.png").frames)
    tensor = torch.from_numpy(rgb).permute(2, 0, 1)
    for image in (rgb, rgb[None], [rgb], Image.fromarray(rgb), [Image.fromarray(rgb)], [tensor], tensor[None]):
        np.testing.assert_array_equal(embed(model, image), read)
    gray = rgb[..., 0]
    np.testing.assert_array_equal(embed(model, gray), embed(model, gray[None]))


def test_pil_images_are_upright_and_sixteen_bits_are_not_clipped(tmp_path):
    model = small_resnet()
    gray = np.random.default_rng(1).integers(0, 256, (40, 50), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(gray).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        np.testing.assert_array_equal(embed(model, image), embed(model, np.rot90(gray, -1)))
        np.testing.assert_array_equal(embed(model, [image]), embed(model, read_clip(tmp_path / "turned.png").frames))
    deep = Image.fromarray(gray.astype(np.uint16) * 257)
    for frames in (deep, [deep], [deep.convert("F")]):
        with pytest.raises(TypeError, match="no 8-bit pixels: read it with"):
            embed(model, frames)


def test_three_gray_frames_are_told_from_one_of_color():
    model, frames = small_resnet(), np.zeros((3, 40, 50), np.uint8)
    with pytest.warns(UserWarning, match=r"\[3, 40, 50\] was read as three gray frames; if it is RGB"):
        assert len(embed(model, frames)) == 3


@pytest.mark.parametrize("shape", [(40, 50, 4), (40, 50, 1), (5, 3, 40, 50), (5, 40, 50, 4), (50,)])
def test_an_array_that_could_be_read_in_two_ways_is_refused(shape):
    with pytest.raises(TypeError, match="more than one way"):
        embed(small_resnet(), np.zeros(shape, np.uint8))
    with pytest.raises(TypeError, match="float64, not uint8"):
        embed(small_resnet(), np.zeros((1, 40, 50)))
    with pytest.raises(ValueError, match="no frames"):
        embed(small_resnet(), np.zeros((0, 40, 50), np.uint8))
