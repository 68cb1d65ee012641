"""Published cells of DARTS' space and of NAS-Bench-201, in their text notations."""

from __future__ import annotations

from darts_space.genotype import write_genotype
from zcpt.errors import SpaceError, describe_unknown_name

_SHORT = {
    "s3": "sep_conv_3x3", "s5": "sep_conv_5x5", "d3": "dil_conv_3x3", "d5": "dil_conv_5x5",
    "sk": "skip_connect", "ap": "avg_pool_3x3", "mp": "max_pool_3x3",
}  # fmt: skip
# Operation and input of all edges of the normal and the reduction cell, two for each node.
_GENOTYPES = {
    # Liu et al., DARTS, ICLR 2019: first and second order.
    "darts_v1": ("s3@1 s3@0 sk@0 s3@1 sk@0 s3@1 s3@0 sk@2", "mp@0 mp@1 sk@2 mp@0 mp@0 sk@2 sk@2 ap@0"),
    "darts_v2": ("s3@0 s3@1 s3@0 s3@1 s3@1 sk@0 sk@0 d3@2", "mp@0 mp@1 sk@2 mp@1 mp@0 sk@2 sk@2 mp@1"),
    # Xie et al., SNAS, ICLR 2019: the cell with the mild constraint.
    "snas": ("s3@0 s3@1 sk@0 d3@1 sk@0 sk@1 sk@0 s3@1", "mp@0 mp@1 sk@2 mp@1 mp@1 sk@2 d5@2 mp@0"),
    # Chen et al., P-DARTS, ICCV 2019.
    "pdarts": ("sk@0 d3@1 sk@0 s3@1 s3@1 s3@3 s3@0 d5@4", "ap@0 s5@1 s3@0 d5@2 mp@0 d3@1 d3@1 d5@3"),
    # Xu et al., PC-DARTS, ICLR 2020: found on CIFAR-10 and on ImageNet.
    "pcdarts": ("s3@1 sk@0 s3@0 d3@1 s5@0 s3@1 ap@0 d3@1", "s5@1 mp@0 s5@1 s5@2 s3@0 s3@3 s3@1 s3@2"),
    "pcdarts_imagenet": ("sk@1 s3@0 s3@0 sk@1 s3@1 s3@3 s3@1 d5@4", "s3@0 sk@1 d5@2 mp@1 s3@2 s3@1 s5@0 s3@3"),
    # Chen et al., DrNAS, ICLR 2021: found on CIFAR-10 and on ImageNet.
    "drnas": ("s3@0 s5@1 s3@1 s3@2 sk@0 s3@1 s3@2 d5@3", "mp@0 s5@1 d5@2 s5@1 s5@1 d5@3 sk@4 s5@1"),
    "drnas_imagenet": ("s3@1 s3@0 s3@0 s3@1 s3@0 d3@3 sk@0 s3@1", "mp@0 s3@1 s3@0 sk@2 s3@0 s3@2 s3@3 s3@1"),
    # Chen et al., TE-NAS, ICLR 2021: found on CIFAR-10 and on ImageNet.
    "tenas": ("d3@0 s5@1 s3@0 s3@2 sk@0 d5@1 s3@1 s5@3", "s5@0 s5@1 s5@1 s5@2 s3@1 s3@3 s5@2 s3@4"),
    "tenas_imagenet": ("s3@0 sk@1 d5@1 s3@2 s3@0 d5@3 s3@0 d3@4", "d3@0 s5@1 d3@0 s3@2 s3@0 d3@1 s3@0 s5@4"),
    # Xiang et al., Zero-Cost-PT, AAAI 2023 (N = 10, V = 100): four seeds on CIFAR-10, four on ImageNet.
    "zcpt_c10_0": ("s5@0 s5@1 s3@1 s5@2 s3@0 s3@2 s5@2 s3@4", "s5@0 s3@1 s5@0 s3@1 s5@1 s3@3 s3@0 s5@1"),
    "zcpt_c10_1": ("sk@0 s5@1 s3@1 s5@2 s5@1 s5@2 s3@0 s5@4", "s3@0 s5@1 sk@0 s5@1 s3@0 s5@1 s5@0 s3@1"),
    "zcpt_c10_2": ("sk@0 s5@1 s5@0 s5@2 s5@0 s5@2 s3@0 s5@3", "s5@0 s3@1 s3@0 sk@1 s5@0 s5@2 s3@0 s5@1"),
    "zcpt_c10_3": ("sk@0 s5@1 s3@0 s5@1 s3@0 s5@3 s3@0 s3@1", "s5@0 s5@1 s3@0 s5@1 s5@0 s3@1 s3@0 s5@1"),
    "zcpt_imagenet_0": ("s5@0 s5@1 s3@1 s3@2 s5@2 s5@3 s3@0 s5@3", "s3@0 s5@1 s5@0 d5@1 s3@0 s5@1 sk@0 s5@1"),
    "zcpt_imagenet_1": ("sk@0 s3@1 s5@0 s5@1 s5@0 s3@3 s3@3 s5@4", "ap@0 s3@1 s5@0 s5@1 s5@0 s3@1 s5@0 s5@1"),
    "zcpt_imagenet_2": ("s3@0 s5@1 s3@0 s5@1 s3@0 s3@3 s3@3 s5@4", "s5@0 s5@1 s5@0 s5@1 sk@0 d5@1 s3@0 s5@1"),
    "zcpt_imagenet_3": ("s5@0 s3@1 s5@0 s3@2 s5@2 s3@3 s5@0 s5@3", "d3@0 sk@1 s5@0 s5@1 s5@0 s5@1 s5@0 s3@1"),
}
DARTS_CELLS = tuple(_GENOTYPES)
"""Names of published cells of DARTS' space."""
NASBENCH201_CELLS = {
    # Dong and Yang, NAS-Bench-201, ICLR 2020: the most accurate cell on each data set (mean over seeds, test images).
    "best_c10": "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|",
    "best_c100": "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
    "best_in16": "|nor_conv_1x1~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
}
"""Published cells of NAS-Bench-201."""


def get_genotype(name: str) -> str:
    """Return a published cell as DARTS writes it, ``Genotype(...)``; SpaceError for an unknown name."""
    if name not in _GENOTYPES:
        raise SpaceError(describe_unknown_name("cell", name, _GENOTYPES))
    normal, reduce = (tuple((_SHORT[pair[:2]], int(pair[3:])) for pair in edges.split()) for edges in _GENOTYPES[name])
    return write_genotype({"normal": normal, "reduce": reduce})
