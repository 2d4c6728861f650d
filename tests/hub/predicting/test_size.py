"""--size in predict: a ViT takes any multiple of its patch, its folder's own size by default."""

import pytest
import timm
import torch

from usbackbones.hub.timm_folder import timm_config, write_timm_folder
from usbackbones.predicting.trained import PredictError, load_trained


def test_sizes_of_a_vit(tmp_path):
    torch.manual_seed(0)
    args = {"img_size": 32, "dynamic_img_size": True}
    network = timm.create_model("test_vit", num_classes=2, **args)
    config = timm_config(
        network, arch="test_vit", model_args=args, tag="finetuned", size=32, mean=[0.3] * 3, std=[0.25] * 3,
        interpolation="bilinear", licence="CC0-1.0", origin_url="", description="untrained", num_classes=2,
    )  # fmt: skip
    config["label_names"] = ["a", "b"]
    write_timm_folder(tmp_path, network.state_dict(), config)
    own, images = load_trained(tmp_path), torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        device = next(own.model.parameters()).device
        torch.testing.assert_close(own.model(images.to(device)).cpu(), network.eval()(images))
        larger = load_trained(tmp_path, 48)
        assert (own.size, larger.size) == (32, 48)
        wanted = network(torch.ones(1, 3, 48, 48))
        torch.testing.assert_close(larger.model(torch.ones(1, 3, 48, 48, device=device)).cpu(), wanted)
    for size, told in ((50, "multiple of 16"), (0, "size is 0"), (-16, "size is -16")):
        with pytest.raises(PredictError, match=told):
            load_trained(tmp_path, size)
