"""Where in an image a network finds what it says: Grad-CAM (Selvaraju et al. 2017), by captum."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


def last_convolutional_block(network: nn.Module, run: Callable[[], Any]) -> nn.Module | None:
    """The part of a network that holds convolutions and is the last to give maps (N, channels, height, width).

    In a residual network it is the last stage with its shortcuts. None where no part gives maps.

    Args:
        network: whose parts are looked at, by what they do, not by their names.
        run: sends an image through the network.
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
    """What each place of the images adds to the logit, in the last maps of the networks, enlarged to the images' size.

    The maps of the last convolutional block are summed, each weighed by the mean of its gradient. Where the paper
    keeps what is positive, here the sign stays: below 0 lies what speaks for the other class. What biases add, those of
    the last layer and of the calibration, is in no place of it: the sum of a map may have another sign than the answer.

    Args:
        model: from images to logits (N,), in evaluation mode; gradients may be off around this call.
        networks: the parts of it with the convolutions, side by side; what the maps of all of them add is summed.
        images: float32 (N, channels, height, width), on the model's device.

    Returns:
        float32 (N, height, width), on the CPU; None where no network has a convolutional block.
    """
    # Here, for it takes its time, and nothing else needs it.
    from captum.attr import LayerAttribution, LayerGradCam

    with torch.inference_mode(False), torch.enable_grad():
        images = images.clone()  # one made in inference mode takes part in no gradient
        blocks = [last_convolutional_block(network, lambda: model(images[:1])) for network in networks]
        layers = [LayerGradCam(model, block) for block in blocks if block is not None]
        if not layers:
            return None
        # One by one: with all that a gradient needs, large images take as much memory as training on them.
        found = torch.cat([sum(layer.attribute(image) for layer in layers) for image in images.split(1)])
        enlarged = LayerAttribution.interpolate(found, tuple(images.shape[-2:]), "bilinear")
        return enlarged[:, 0].detach().float().cpu()
