"""Images that a proxy makes: parts of the batch, and random ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from textwrap import shorten

import torch
from torch import Tensor, nn

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.proxies._registry import Proxy


def split_batch(batch: Batch, count: int) -> list[Batch]:
    """Split a batch into ``count`` batches of equal size, in order; images that are left over are dropped."""
    size = len(batch.images) // count
    return [
        Batch(batch.images[i * size : (i + 1) * size], batch.labels[i * size : (i + 1) * size], batch.seed)
        for i in range(count)
    ]


def draw_normal(shape: Sequence[int], like: Tensor, seed: int) -> Tensor:
    """Draw standard normal numbers, of the type and on the device of ``like``; the same numbers on all devices."""
    # The device is named, because torch.set_default_device would otherwise ask for another one than the generator's.
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32, device="cpu").to(like)


@contextmanager
def explain_image_size(
    proxy: Proxy, net: nn.Module, images: Tensor, remedy: str = "use another proxy"
) -> Iterator[None]:
    """Turn the errors of a network on images of the proxy's own size into a ProxyError that names that size.

    Args:
        proxy: The proxy that made the images.
        net: The network that is run on them.
        images: The images [B, C, H, W].
        remedy: What to do; ends the message.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, AssertionError, ProxyError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        # Without the remedy of an inner ProxyError, which this message replaces by its own.
        reason = shorten(first.partition(": use ")[0], 200).rstrip(".")
        raise ProxyError(
            f"proxy '{proxy.name}' scores networks on images of {'x'.join(map(str, images.shape[1:]))}, and "
            f"{type(net).__name__} cannot be run on them ({reason}): {remedy}."
        ) from error
