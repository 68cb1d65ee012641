"""The loss of a batch, and gradients."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from zcpt.errors import ProxyError
from zcpt.proxies._registry import Proxy


def compute_loss(proxy: Proxy, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy, the mean over the batch.

    Args:
        proxy: The proxy, for error messages.
        logits: Logits [B, classes].
        labels: Labels [B], integers from 0.

    Raises:
        ProxyError: The labels do not fit the logits.
    """
    if logits.ndim != 2 or labels.is_floating_point() or labels.ndim != 1:
        raise ProxyError(
            f"proxy '{proxy.name}' needs logits [B, classes] and integer labels [B], not "
            f"{list(logits.shape)} and {labels.dtype} {list(labels.shape)}: give a classifier and its labels."
        )
    if int(labels.min()) < 0 or int(labels.max()) >= logits.shape[1]:
        raise ProxyError(
            f"the labels range from {int(labels.min())} to {int(labels.max())}, and the network has "
            f"{logits.shape[1]} classes, counted from 0: build it with as many classes as the data have."
        )
    return F.cross_entropy(logits, labels.long())


def compute_gradients(value: Tensor, tensors: Mapping[str, Tensor], create_graph: bool = False) -> dict[str, Tensor]:
    """Return the gradients of a scalar with respect to tensors, by name; zeros where it does not depend on one.

    Args:
        value: Scalar.
        tensors: Tensors that require gradients.
        create_graph: Whether the gradients can be differentiated again.
    """
    if not value.requires_grad or not tensors:
        return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    gradients = torch.autograd.grad(value, list(tensors.values()), create_graph=create_graph, materialize_grads=True)
    return dict(zip(tensors, gradients, strict=True))
