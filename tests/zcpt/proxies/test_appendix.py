"""The network that values are compared on is the one that they were measured on."""

import pytest
from torch.nn import functional as F

from tests.zcpt.proxies import appendix


def test_network_and_batch_are_the_ones_of_the_measurement():
    net, batch = appendix.network(), appendix.batch()
    weight = net.get_submodule(appendix.CONV1).weight.flatten()[:4]
    assert weight.tolist() == pytest.approx([0.099335, 0.498747, 0.167494, -0.409139], abs=1e-6)
    assert batch.images.flatten()[:4].tolist() == pytest.approx([1, 0.937827, 0.749468, 0.461159], abs=1e-6)
    assert sum(p.numel() for p in net.parameters()) == 385
    assert sum(net.get_submodule(layer).weight.numel() for layer in appendix.LAYERS) == 354
    assert F.cross_entropy(net(batch.images), batch.labels).item() == pytest.approx(1.673104, abs=1e-6)
