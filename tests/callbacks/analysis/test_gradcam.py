"""Grad-CAM: the layer chosen, and what the maps show."""

import pytest
import torch
from tests.tiny import classifier
from torch import Tensor, nn

from triptych.callbacks.analysis.gradcam import grad_cam, last_convolutional_block

NETWORKS = ["cnn.Cnn", "resnet.SmallResNet", "resnet.ResNet18"]


@pytest.mark.parametrize("network", NETWORKS)
def test_the_last_convolutional_block_is_found(network: str):
    model = classifier({"_target_": f"triptych.networks.{network}"}).eval()
    images = torch.rand(1, 1, 64, 64)
    block = last_convolutional_block(model.network, lambda: model(images))
    assert block is not None
    shapes: list[torch.Size] = []
    block.register_forward_hook(lambda _, inputs, output: shapes.append(output.shape))
    pools = [part for part in model.network.modules() if isinstance(part, nn.AdaptiveAvgPool2d)]
    pools[-1].register_forward_hook(lambda _, inputs, output: shapes.append(inputs[0].shape))
    model(images)
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("network", NETWORKS)
def test_maps_before_global_average_pooling_sum_to_the_logit(network: str):
    """For such a network Grad-CAM equals CAM (Zhou et al. 2016), whose contributions sum to the logit without bias."""
    torch.manual_seed(0)
    model = classifier({"_target_": f"triptych.networks.{network}"}).eval()
    images = torch.rand(3, 1, 64, 64)
    with torch.inference_mode():  # as during trainer.test
        maps = grad_cam(model.logits, model.members, images.clone())
    assert maps is not None
    assert maps.shape == (3, 64, 64)
    pool = next(part for part in model.network.modules() if isinstance(part, nn.AdaptiveAvgPool2d))
    places: list[int] = []
    pool.register_forward_hook(lambda _, inputs, output: places.append(inputs[0][0, 0].numel()))
    linear = next(part for part in reversed(list(model.network.modules())) if isinstance(part, nn.Linear))
    expected = (model.logits(images) - linear.bias).tolist()
    # Upsampling by a whole factor keeps the mean of the maps.
    assert (maps.mean(dim=(1, 2)) * places[0]).tolist() == pytest.approx(expected, rel=1e-3)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_map_of_an_ensemble_is_the_mean_of_its_members():
    model = classifier(members=3, standardize=False).eval()
    images = torch.rand(2, 1, 16, 16)
    maps = grad_cam(model.logits, model.members, images)
    assert maps is not None
    parts = [grad_cam(nn.Sequential(member, nn.Flatten(0)), [member], images) for member in model.members]
    torch.testing.assert_close(maps, torch.stack([part for part in parts if part is not None]).mean(0))
    assert len(parts) == 3


class BrightAgainstDark(nn.Module):
    """Bright pixels speak for the positive class and dark ones against it, relative to 0.5."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1, bias=False)
        self.conv.weight.data[:] = torch.tensor([1.0, -1.0])[:, None, None, None]

    def forward(self, x: Tensor) -> Tensor:
        maps = torch.relu(self.conv(x - 0.5))
        return maps.mean(dim=(2, 3)) @ torch.tensor([1.0, -1.0])


def test_evidence_for_the_positive_class_is_above_zero():
    images = torch.full((1, 1, 8, 8), 0.5)
    images[..., :4], images[..., 4:] = 0.9, 0.1
    network = BrightAgainstDark()
    maps = grad_cam(network, [network], images)
    assert maps is not None
    assert (maps[0, :, :3] > 0).all()
    assert (maps[0, :, 5:] < 0).all()


def test_a_network_without_convolutions_has_no_map():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0))
    assert grad_cam(network, [network], torch.rand(2, 1, 8, 8)) is None
