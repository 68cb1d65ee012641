"""The spaces S1 to S4 of RobustDARTS: DARTS' cells with few operations (Zela et al., ICLR 2020).

DARTS fails on them: it selects mostly skip connections, or noise.
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
# The two operations of each edge, in the order of darts.list_edges.
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


def _list_s1_operations(kind: str, edge: int) -> tuple[str, ...]:
    return tuple(_SHORT[word] for word in _S1[kind][edge].split())


class DartsS1(Darts):
    """S1: on each edge the two operations that DARTS ranked highest there."""

    name = "darts-s1"
    summary = "RobustDARTS' S1: DARTS' cells with the two operations an edge that DARTS ranked highest"
    choices = tuple(darts_choices(_list_s1_operations))


class DartsS2(Darts):
    """S2: a skip connection or a separable convolution on every edge."""

    name = "darts-s2"
    summary = "RobustDARTS' S2: skip_connect or sep_conv_3x3 on every edge"
    choices = tuple(darts_choices(lambda kind, edge: ("skip_connect", "sep_conv_3x3")))


class DartsS3(Darts):
    """S3: S2 with 'none', which has a third of the weight but is never kept: genotypes have no 'none'."""

    name = "darts-s3"
    summary = "RobustDARTS' S3: none, skip_connect or sep_conv_3x3 on every edge"
    choices = tuple(darts_choices(lambda kind, edge: ("none", "skip_connect", "sep_conv_3x3"), ("none",)))


class DartsS4(Darts):
    """S4: noise, which does not depend on its input, or a separable convolution on every edge."""

    name = "darts-s4"
    summary = "RobustDARTS' S4: noise or sep_conv_3x3 on every edge"
    choices = tuple(darts_choices(lambda kind, edge: ("noise", "sep_conv_3x3")))
