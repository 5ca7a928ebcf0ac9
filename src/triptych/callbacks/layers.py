"""Find the layers of a network that own weights, for the callbacks that measure them."""

from torch import nn


def weights_of(layer: nn.Module) -> list[nn.Parameter]:
    """The layer's own matrices and kernels, which L1 and weight decay apply to, without biases and norms."""
    named = layer.named_parameters(recurse=False)
    return [parameter for name, parameter in named if parameter.ndim > 1 and not name.endswith("bias")]


def layers_with_weights(network: nn.Module) -> dict[str, nn.Module]:
    """All layers that own weights, by their path in the network (``hidden.0``)."""
    return {name or "network": layer for name, layer in network.named_modules() if weights_of(layer)}
