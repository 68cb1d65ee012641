"""Published networks of chain spaces, with the widths that their authors gave them."""

from __future__ import annotations

from dataclasses import replace

from mobilenet_space.chain import Stage
from mobilenet_space.proxyless import STAGES, Proxyless
from zcpt.space import WidthDepth


def _widen(*channels: int) -> tuple[Stage, ...]:
    return tuple(replace(stage, channels=width) for stage, width in zip(STAGES, channels, strict=True))


class ProxylessCpu(Proxyless):
    """Proxyless space with the widths of ProxylessNAS' network for CPUs."""

    train_size = WidthDepth(40, 21)
    stem_channels, first_channels, head_channels = 40, 24, 1432
    stages = _widen(32, 48, 88, 104, 216, 360)


class ProxylessMobile(Proxyless):
    """Proxyless space with the widths of ProxylessNAS' network for phones."""

    train_size = WidthDepth(32, 21)
    stem_channels, first_channels, head_channels = 32, 16, 1280
    stages = _widen(32, 40, 80, 96, 192, 320)


class ProxylessMobile14(Proxyless):
    """Proxyless space with the widths of ProxylessNAS' network for phones, 1.4 times as wide."""

    train_size = WidthDepth(48, 21)
    stem_channels, first_channels, head_channels = 48, 24, 1792
    stages = _widen(40, 56, 112, 136, 256, 448)


_MOBILE = (
    "k5_e3 k3_e3 skip skip k7_e3 k3_e3 k5_e3 k5_e3 k7_e6 k5_e3 k5_e3 k5_e3 "
    "k5_e6 k5_e3 k5_e3 k5_e3 k7_e6 k7_e6 k7_e3 k7_e3 k7_e6"
)
PROXYLESS: dict[str, tuple[type[Proxyless], str]] = {
    # Cai et al., ProxylessNAS, ICLR 2019: space with the widths, and layers.
    "proxyless_gpu": (
        Proxyless,
        "k5_e3 skip skip skip k7_e3 skip skip k3_e3 k7_e6 skip skip k5_e3 "
        "k5_e6 skip k3_e3 k5_e3 k7_e6 k7_e6 k7_e6 k5_e6 k7_e6",
    ),
    "proxyless_cpu": (
        ProxylessCpu,
        "k3_e6 k3_e3 k3_e3 k3_e3 k3_e6 k3_e3 k3_e3 k5_e3 k3_e6 skip skip k3_e3 "
        "k5_e6 k3_e3 k3_e3 k3_e3 k5_e6 k5_e3 k5_e3 k3_e3 k5_e6",
    ),
    "proxyless_mobile": (ProxylessMobile, _MOBILE),
    "proxyless_mobile_14": (ProxylessMobile14, _MOBILE),
}
"""Published networks of the proxyless space."""
NASBENCH_MACRO = {"nasbench_macro_best_c10": "22212220"}  # Su et al., CVPR 2021: 93.13 %, as its duplicate 22212202
"""Published networks of NAS-Bench-Macro."""
