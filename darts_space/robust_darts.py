"""The spaces S1 to S4 of RobustDARTS: DARTS' cells with few operations (Zela et al., ICLR 2020).

DARTS fails on them: it fills its cells with skip connections, or with noise.
"""

from __future__ import annotations

from darts_space.darts import Darts, darts_choices

_SHORT = {
    "skip": "skip_connect",
    "max": "max_pool_3x3",
    "avg": "avg_pool_3x3",
    "sep3": "sep_conv_3x3",
    "dil3": "dil_conv_3x3",
    "dil5": "dil_conv_5x5",
}
# The two operations of each edge, in the order of darts.edges_into.
_S1 = {
    "normal": (
        "skip dil3", "skip dil5", "skip dil5", "skip sep3", "skip dil3", "max skip", "skip sep3",
        "skip sep3", "skip dil3", "skip sep3", "max skip", "skip dil3", "dil3 dil5", "dil3 dil5",
    ),
    "reduce": (
        "max avg", "max dil3", "max avg", "max avg", "skip dil5", "max avg", "max sep3",
        "skip dil3", "skip dil5", "max avg", "max avg", "skip dil5", "skip dil5", "skip dil5",
    ),
}  # fmt: skip


def _s1(kind: str, edge: int) -> tuple[str, ...]:
    return tuple(_SHORT[word] for word in _S1[kind][edge].split())


class DartsS1(Darts):
    """Two operations an edge, those that DARTS ranked highest there."""

    name = "darts-s1"
    summary = "RobustDARTS' S1: DARTS' cells with the two operations an edge that DARTS liked best"
    choices = tuple(darts_choices(_s1))


class DartsS2(Darts):
    """A skip connection or a separable convolution."""

    name = "darts-s2"
    summary = "RobustDARTS' S2: skip_connect or sep_conv_3x3 on every edge"
    choices = tuple(darts_choices(lambda kind, edge: ("skip_connect", "sep_conv_3x3")))


class DartsS3(Darts):
    """S2 with 'none', which takes its third of the mixture and is never kept: it has no place in a genotype."""

    name = "darts-s3"
    summary = "RobustDARTS' S3: none, skip_connect or sep_conv_3x3 on every edge"
    choices = tuple(darts_choices(lambda kind, edge: ("none", "skip_connect", "sep_conv_3x3"), ("none",)))


class DartsS4(Darts):
    """Noise, which ignores its input, or a separable convolution."""

    name = "darts-s4"
    summary = "RobustDARTS' S4: noise or sep_conv_3x3 on every edge"
    choices = tuple(darts_choices(lambda kind, edge: ("noise", "sep_conv_3x3")))
