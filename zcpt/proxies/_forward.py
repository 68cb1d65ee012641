"""Forward passes for proxies: with or without a mixture, on the network's own tensors or on others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from zcpt.errors import ProxyError
from zcpt.mixture import Mixture

_CHECKPOINTS = "saves memory by gradient checkpointing, which proxies of gradients do not support"
_ONE_VALUE = "Expected more than 1 value per channel"
"""Part of the message of torch's error for a BatchNorm in training mode on a single value per channel."""


def run_network(
    net: nn.Module, images: Tensor, mixture: Mixture | None = None, tensors: Mapping[str, Tensor] | None = None
) -> Tensor:
    """Run a network and return its logits; the images are not changed.

    Args:
        net: A supernet, another search network that takes a mixture, or a discrete network.
        images: Images [B, C, H, W].
        mixture: Weights of the supernet's candidates; None calls the network on the images alone.
        tensors: Parameters and buffers to run on instead of the network's own, by name (see ``clone_tensors``).

    Returns:
        Logits [B, classes].

    Raises:
        ProxyError: The output is not one tensor; or, with ``tensors``, a BatchNorm takes statistics over a single
            value, or the network uses gradient checkpointing.
    """
    images = images.clone()  # the network may begin with an in-place operation
    arguments: tuple[Any, ...] = (images,) if mixture is None else (images, mixture)
    output = net(*arguments) if tensors is None else _run_on_tensors(net, tensors, arguments)
    if not isinstance(output, Tensor):
        raise ProxyError(
            f"{type(net).__name__} returns {type(output).__name__} instead of logits [B, classes]: "
            "wrap it in a module that returns the logits alone."
        )
    return output


def _run_on_tensors(net: nn.Module, tensors: Mapping[str, Tensor], arguments: tuple[Any, ...]) -> Any:
    try:
        # A checkpoint runs its part again in the backward pass, outside functional_call and so on the network's own
        # tensors: gradients with respect to ``tensors`` would be silently wrong. torch implements checkpoints by hooks
        # on saved tensors, so with these disabled it raises an error instead.
        with torch.autograd.graph.disable_saved_tensors_hooks(_CHECKPOINTS):
            return functional_call(net, dict(tensors), arguments)
    except RuntimeError as error:
        if _CHECKPOINTS not in str(error):
            raise
        raise ProxyError(
            f"{type(net).__name__} {_CHECKPOINTS}: turn that off, such as by net.set_grad_checkpointing(False) in timm "
            "or memory_efficient=False in torchvision."
        ) from error
    except ValueError as error:
        if _ONE_VALUE not in str(error):
            raise
        raise ProxyError(
            f"a BatchNorm of {type(net).__name__} would normalise by the statistics of a single value, on one image of "
            f"{list(arguments[0].shape[1:])}: use larger images, or a proxy whose norms are not 'batch'."
        ) from error
