"""Weights of DARTS' discrete networks, both ways."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor

import zcpt
from darts_space.genotype import read_genotype
from tests.zcpt.compat.standins.darts_model import Network
from zcpt import ConfigError
from zcpt.compat.weights import convert_from_darts, convert_to_darts, read_darts_weights
from zcpt.layers import remove_auxiliary_norm
from zcpt.space import DiscreteNetwork

GENOTYPE = (
    "Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 0), ('max_pool_3x3', 0), ('dil_conv_3x3', 1), "
    "('sep_conv_5x5', 3), ('avg_pool_3x3', 1), ('dil_conv_5x5', 4), ('sep_conv_3x3', 0)], normal_concat=range(2, 6), "
    "reduce=[('skip_connect', 1), ('sep_conv_3x3', 0), ('max_pool_3x3', 0), ('skip_connect', 2), ('sep_conv_3x3', 3), "
    "('dil_conv_5x5', 1), ('sep_conv_3x3', 0), ('skip_connect', 1)], reduce_concat=range(2, 6))"
)


def build_networks(imagenet: bool) -> tuple[Network, DiscreteNetwork, Tensor]:
    """Return the network of DARTS and ours, with other weights, and images."""
    side, space = 224 if imagenet else 32, zcpt.get_space("darts")
    theirs = Network(dict(read_genotype(GENOTYPE)), 4, 3, 7, imagenet)
    ours = space.network(
        space.parse(GENOTYPE), channels=4, layers=3, num_classes=7, image_size=(side, side), auxiliary=True
    )
    if imagenet:
        remove_auxiliary_norm(ours)
    images = torch.randn(2, 3, side, side)
    theirs.train()
    theirs(images)  # running statistics other than those of a new network
    return theirs, ours, images


@pytest.mark.parametrize("imagenet", [False, True])
def test_networks_of_darts_give_the_same_logits_here_and_back(imagenet: bool, tmp_path: Path) -> None:
    theirs, ours, images = build_networks(imagenet)
    state = {f"module.{name}": value for name, value in theirs.state_dict().items()}  # of DataParallel
    torch.save({"epoch": 1, "state_dict": state} if imagenet else state, tmp_path / "weights.pt")
    read = read_darts_weights(tmp_path / "weights.pt")
    ours.load_state_dict(convert_from_darts(read, GENOTYPE))
    for mode in (True, False):
        logits, auxiliary = theirs.train(mode)(images)
        found = ours.train(mode)(images)
        torch.testing.assert_close(found[0] if mode else found, logits, rtol=0, atol=1e-5)
        if mode:
            torch.testing.assert_close(found[1], auxiliary, rtol=0, atol=1e-5)
    back = convert_to_darts(convert_from_darts(read, GENOTYPE), GENOTYPE)
    assert back.keys() == read.keys()
    assert all(torch.equal(back[name], value) for name, value in read.items())


def test_other_files_are_refused_and_no_code_is_run(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps(print))
    with pytest.raises(ConfigError, match="cannot be read as weights"):
        read_darts_weights(path)
    torch.save({"epoch": 1}, path)
    with pytest.raises(ConfigError, match="holds no state dict"):
        read_darts_weights(path)
    with pytest.raises(ConfigError, match="'fc.weight' is no weight of a discrete network of DARTS"):
        convert_from_darts({"fc.weight": torch.zeros(1)}, GENOTYPE)
    with pytest.raises(ConfigError, match="'fc.weight' is no weight of a network of the space"):
        convert_to_darts({"fc.weight": torch.zeros(1)}, GENOTYPE)
