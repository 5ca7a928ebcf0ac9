"""Grad-CAM (Selvaraju et al. 2017) with captum: which places of an image contribute to the prediction."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


def last_convolutional_block(network: nn.Module, run: Callable[[], Any]) -> nn.Module | None:
    """The last submodule with convolutions that returns maps (N, channels, height, width); None if there is none.

    In a residual network it is the last stage with its shortcuts. It is found by running the network, not by names.

    Args:
        network: the network to search.
        run: passes an image through the network.
    """
    finished: list[nn.Module] = []

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            finished.append(module)

    convolutional = [
        part
        for part in network.modules()
        if part is not network and any(isinstance(inner, nn.Conv2d) for inner in part.modules())
    ]
    hooks = [part.register_forward_hook(note) for part in convolutional]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return finished[-1] if finished else None


def grad_cam(model: Callable[[Tensor], Tensor], networks: Iterable[nn.Module], images: Tensor) -> Tensor | None:
    """Contribution of each place to the logit in the last maps of the networks, resized to the size of the images.

    The maps of the last convolutional block are summed, each weighted by the mean of its gradient. Unlike in the paper,
    which keeps positive values only, the sign is kept: negative values speak for the other class. The biases of the
    last layer and of the calibration belong to no place: the sum of a map may differ in sign from the prediction.

    Args:
        model: maps images to logits (N,), in evaluation mode; gradients may be disabled around this call.
        networks: the convolutional parts of the model, such as the members of an ensemble; their maps are added up.
        images: float32 (N, channels, height, width), on the model's device.

    Returns:
        float32 (N, height, width), on the CPU; None if no network has a convolutional block.
    """
    # Imported here, because it is slow and nothing else needs it.
    from captum.attr import LayerAttribution, LayerGradCam

    with torch.inference_mode(False), torch.enable_grad():
        images = images.clone()  # inference tensors cannot take part in autograd
        blocks = [last_convolutional_block(network, lambda: model(images[:1])) for network in networks]
        layers = [LayerGradCam(model, block) for block in blocks if block is not None]
        if not layers:
            return None
        # One image at a time: with gradients, large images need as much memory as in training.
        found = torch.cat([sum(layer.attribute(image) for layer in layers) for image in images.split(1)])
        enlarged = LayerAttribution.interpolate(found, tuple(images.shape[-2:]), "bilinear")
        return enlarged[:, 0].detach().float().cpu()
