"""Properties of every space, every order and every proxy that comes with zcpt."""

from __future__ import annotations

import json
import math
import zlib
from collections import Counter
from collections.abc import Callable
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import TensorDataset
from torch.utils.flop_counter import FlopCounterMode

import zcpt
from tests.conftest import LAYERS, MORE, ONE_SHOT, ROBUST, THREE_BY_THREE, random_architecture, tiny_network_config
from zcpt.cost import compute_output_size
from zcpt.search import ORDERS, PRESETS
from zcpt.search.propose import Proposer
from zcpt.space import SearchSpace

SETTINGS = {"batch_size": 6, "validation_batch_size": 6, "validation_batches": 3, "validation_inits": 2, "channels": 4}


SLOW = ("darts", "proxyless")
"""Spaces whose supernet is so large that a proposal with a real proxy takes seconds."""
OTHER_PRESETS = [pytest.param(preset, marks=pytest.mark.few_spaces) for preset in PRESETS]
"""The presets: the settings without any are tried on spaces of every class, those of a preset on one of each kind."""


def search_and_resume(space: SearchSpace, pictures: TensorDataset, folder: Path, **options: Any) -> Any:
    """Search; then remove the last two decisions of the last proposal and the validation, and resume."""
    options = {**SETTINGS, "layers": LAYERS[space.name], "num_classes": 10, "run_dir": folder, **options}
    result = zcpt.search(space, pictures, **options)
    space.check(result.architecture)
    last = folder / "journal" / f"proposal_{options['proposals'] - 1:03d}.jsonl"
    before = last.read_text().splitlines(keepends=True)
    last.write_text("".join(before[:-2]))
    (folder / "journal" / "validation.jsonl").unlink(missing_ok=True)
    assert zcpt.search(space, pictures, resume=True, **options) == result
    lines = zip(before, last.read_text().splitlines(), strict=True)
    assert all({**json.loads(old), "seconds": 0} == {**json.loads(new), "seconds": 0} for old, new in lines)
    return result


def check_choice(result: Any) -> None:
    assert sorted(n for c in result.candidates for n in c.proposals) == [0, 1]
    if len(result.candidates) == 2:
        means = [candidate.mean for candidate in result.candidates]
        assert result.architecture == result.candidates[means.index(max(means))].architecture


@pytest.mark.few_spaces
@pytest.mark.parametrize("order", list(ORDERS))
def test_two_proposals_validation_and_resume(
    space: SearchSpace, order: str, pictures: TensorDataset, tmp_path: Path
) -> None:
    """Run each step of the method, with a cheap proxy, because orders do not depend on the proxy."""
    check_choice(search_and_resume(space, pictures, tmp_path / "run", proposals=2, order=order, proxy="hashed"))


@pytest.mark.parametrize("preset", [pytest.param(None, marks=pytest.mark.few_spaces(*MORE)), *OTHER_PRESETS])
def test_a_proposal_and_its_resume_with_the_proxy_of_a_preset(
    space: SearchSpace, preset: str | None, pictures: TensorDataset, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"proxy": "hashed"} if space.name in SLOW else {}
    search_and_resume(space, pictures, tmp_path / "run", proposals=1, preset=preset, **options)


@pytest.mark.slow
@pytest.mark.parametrize("space", SLOW, indirect=True)
@pytest.mark.parametrize("preset", [None, *PRESETS])
def test_a_proposal_of_a_large_supernet_with_a_real_proxy(
    space: SearchSpace, preset: str | None, pictures: TensorDataset, tmp_path: Path
) -> None:
    search_and_resume(space, pictures, tmp_path / "run", proposals=1, preset=preset)


@pytest.mark.parametrize("preset", [pytest.param(None, marks=pytest.mark.few_spaces(*MORE)), *OTHER_PRESETS])
def test_validation_with_the_proxy_of_a_preset(
    space: SearchSpace, preset: str | None, pictures: TensorDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Proposer, "propose", lambda self, number: random_architecture(self.context.space, number))
    options: dict[str, Any] = {
        **SETTINGS,
        "layers": LAYERS[space.name],
        "num_classes": 10,
        "proposals": 2,
        "preset": preset,
    }
    result = zcpt.search(space, pictures, **options)
    assert [len(candidate.scores) for candidate in result.candidates] == [3, 3]
    check_choice(result)


def test_text_round_trip(space: SearchSpace) -> None:
    for seed in range(20):
        architecture = random_architecture(space, seed)
        assert space.parse(space.format(architecture)) == architecture


@pytest.mark.parametrize(
    "size",
    [(9, 7), *(pytest.param(s, marks=pytest.mark.few_spaces) for s in ((1, 1), (8, 8), (32, 32), (33, 47), (5, 5)))],
)
@pytest.mark.parametrize("auxiliary", [False, True])
def test_networks_train_and_classify_at_any_image_size(space: SearchSpace, size: Any, auxiliary: bool) -> None:
    shape = tiny_network_config(space, image_size=size, in_channels=1, num_classes=7)
    network: Any = space.build_network(random_architecture(space, 1), shape, auxiliary=auxiliary)
    network.set_drop_path(0.5)
    images = torch.randn(3, 1, *size)
    result: Any = network.train()(images)
    outputs = result if auxiliary else (result,)
    assert [output.shape for output in outputs] == [(3, 7)] * (1 + auxiliary)
    torch.stack([output.sum() for output in outputs]).sum().backward()
    assert all(
        p.grad is not None for name, p in network.named_parameters() if "auxiliary" in name or "classifier" in name
    )
    assert network.eval()(images).shape == (3, 7)
    if not auxiliary:  # which supernets never have
        assert space.build_supernet(shape).eval()(images).shape == (3, 7)


@pytest.mark.parametrize(
    "shape",
    [
        {"image_size": (9, 20), "in_channels": 1},
        pytest.param({}, marks=pytest.mark.few_spaces),
        pytest.param({"image_size": (32, 32), "channels": 16}, marks=pytest.mark.few_spaces),
    ],
)
def test_analytic_cost_is_that_of_the_network(space: SearchSpace, shape: Any) -> None:
    shape = tiny_network_config(space, **shape)
    for seed in range(3):
        architecture = random_architecture(space, seed)
        network = space.build_network(architecture, shape).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.randn(1, shape.in_channels, *shape.image_size))
        cost = space.cost(architecture, shape)
        assert cost.params == sum(parameter.numel() for parameter in network.parameters())
        assert 2 * cost.macs == counter.get_total_flops()


@pytest.mark.parametrize(
    "size", [(9, 20), *(pytest.param(s, marks=pytest.mark.few_spaces) for s in ((8, 8), (128, 130)))]
)
def test_every_block_has_its_declared_shape_and_cost(space: SearchSpace, size: Any) -> None:
    blocks = set(space.all_blocks(tiny_network_config(space, image_size=size)))
    assert len({block.key for block in blocks}) == len(blocks)
    for block in blocks:
        module = block.build().eval()
        with FlopCounterMode(display=False) as counter:
            output = module(*(torch.randn(1, block.in_channels, *block.input_size) for _ in range(block.inputs)))
        assert output.shape[1] == block.out_channels
        assert output.ndim == 2 or output.shape[2:] == compute_output_size(block.input_size, block.stride)
        assert block.cost.params == sum(parameter.numel() for parameter in module.parameters())
        assert 2 * block.cost.macs == counter.get_total_flops()
    for seed in range(3):
        assert (
            set(space.blocks(random_architecture(space, seed), tiny_network_config(space, image_size=size))) <= blocks
        )


def count_calls(function: Callable[..., Any], *images: torch.Tensor) -> Counter[str]:
    """Return how often each of torch's operations that take time runs."""
    calls: Counter[str] = Counter()

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            calls[func.name()] += 1
            return func(*args, **(kwargs or {}))

    with torch.inference_mode(), Count():
        function(*images)
    free = ("aten::slice", "aten::alias", "aten::view", "aten::dropout")  # nothing is dropped in evaluation mode
    return Counter({name: count for name, count in calls.items() if not name.startswith(free)})


def test_the_blocks_of_a_network_do_all_that_it_does(space: SearchSpace) -> None:
    config = tiny_network_config(space, image_size=(32, 32))
    for seed in range(3):
        architecture = random_architecture(space, seed)
        network = count_calls(space.build_network(architecture, config).eval(), torch.randn(1, 3, 32, 32))
        blocks: Counter[str] = Counter()
        for block in space.blocks(architecture, config):
            maps = (torch.randn(1, block.in_channels, *block.input_size) for _ in range(block.inputs))
            blocks += count_calls(block.build().eval(), *maps)
        assert blocks == network


def partly_decided(space: SearchSpace, generator: Any, most: int = 1500) -> Any:
    """Return the candidates that random decisions leave: few enough architectures to try them all."""
    allowed = {choice.name: choice.selectable for choice in space.choices}
    order = [space.choices[i] for i in torch.randperm(len(space.choices), generator=generator).tolist()]
    for choice in order:
        count = math.prod(math.comb(len(allowed[c.name]), c.keep) for c in space.choices)
        if count > most:
            drawn = torch.randperm(len(choice.selectable), generator=generator).tolist()
            left = choice.keep + int(torch.randint(2, (), generator=generator)) * (count < 100 * most)
            allowed[choice.name] = tuple(c for i, c in enumerate(choice.selectable) if i in drawn[:left])
    return allowed


def test_the_cheapest_is_the_cheapest_of_all(space: SearchSpace) -> None:
    shape, generator = tiny_network_config(space), torch.Generator().manual_seed(0)
    for seed in range(3):

        def price(block: Any, seed: Any = seed) -> Any:
            return zlib.crc32(f"{seed} {block.key}".encode()) % 1000

        complete, allowed = space.build_cheapest_finder(shape, price), partly_decided(space, generator)
        rows = product(*(combinations(allowed[choice.name], choice.keep) for choice in space.choices))
        names = [choice.name for choice in space.choices]
        every = {space.architecture(dict(zip(names, row, strict=True))) for row in rows}
        totals = {architecture: sum(map(price, space.blocks(architecture, shape))) for architecture in every}
        found = complete(allowed)
        assert found is not None
        space.check(found)
        assert found in totals
        assert totals[found] == min(totals.values())


@pytest.mark.parametrize(
    "name", [pytest.param("nasbench201", marks=pytest.mark.slow), "nasbench-macro", "nasbench1shot1-1"]
)
def test_the_cheapest_of_a_whole_space(name: str) -> None:
    space = zcpt.get_space(name)
    shape, generator = tiny_network_config(space, channels=8), torch.Generator().manual_seed(1)

    def price(block: Any) -> Any:
        return zlib.crc32(block.key.encode()) % 1000

    names, complete = [choice.name for choice in space.choices], space.build_cheapest_finder(shape, price)
    rows = product(*(combinations(choice.candidates, choice.keep) for choice in space.choices))
    every = {space.architecture(dict(zip(names, row, strict=True))) for row in rows}
    totals = {architecture: sum(map(price, space.blocks(architecture, shape))) for architecture in every}
    assert len(totals) == space.count()
    for most in (10**9, 5000, 500, 100, 50, 10, 5, 1):
        allowed = partly_decided(space, generator, most)
        left = [a for a in every if all(set(kept) <= {*allowed[n]} for n, kept in a.kept.items())]
        found = complete(allowed)
        assert found is not None
        assert totals[found] == min(totals[architecture] for architecture in left)


def test_a_canonical_architecture_stands_for_itself_and_costs_the_same(space: SearchSpace) -> None:
    for seed in range(5):
        architecture = random_architecture(space, seed)
        canonical = space.canonicalize(architecture)
        assert space.canonicalize(canonical) == canonical
        assert space.cost(canonical, tiny_network_config(space)) == space.cost(architecture, tiny_network_config(space))


def test_the_auxiliary_head_is_not_part_of_the_cost(space: SearchSpace) -> None:
    architecture, shape = random_architecture(space, 0), tiny_network_config(space)
    network = space.build_network(architecture, shape, auxiliary=True)
    own = sum(p.numel() for name, p in network.named_parameters() if not name.startswith("auxiliary."))
    assert own == space.cost(architecture, shape).params


def without_dropout(network: Any) -> Any:
    """Return the network without dropout of its features, whose outputs in training mode then repeat."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


def test_drop_path_drops_images_in_training_only(space: SearchSpace) -> None:
    small = {c.name: [n for n in c.candidates if THREE_BY_THREE.search(n)] for c in space.choices}
    kept = {c.name: tuple(small[c.name] or c.candidates)[: c.keep] for c in space.choices}
    network = without_dropout(space.build_network(space.architecture(kept), tiny_network_config(space)))
    images = torch.randn(4, 3, 8, 8)
    plain = network.eval()(images)
    network.set_drop_path(0.3)
    assert torch.equal(network.eval()(images), plain)
    network.train()
    assert not torch.equal(network(images), network(images))
    network.set_drop_path(0.0)
    torch.testing.assert_close(network(images), network(images))


@pytest.mark.few_spaces
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")
def test_networks_are_compiled_by_torchscript_and_traced_by_fx(space: SearchSpace) -> None:
    config = tiny_network_config(space, image_size=(16, 16))
    network = space.build_network(random_architecture(space, 0, "noise"), config, auxiliary=True)
    network.set_drop_path(0.3)
    for training in (True, False):
        network.train(training)
        compiled: list[Any] = [torch.fx.symbolic_trace(network)]
        if space.name != "toy":  # TorchScript needs the source of all operations, and that of 'toy' is in no file
            compiled.append(torch.jit.script(network))
        for size in (16, 15):  # a traced branch on odd sides would be that of one size
            images = torch.randn(3, 3, size, size)
            outputs = []
            for function in (network, *compiled):
                torch.manual_seed(0)
                outputs.append(function(images))
            torch.testing.assert_close(outputs[1:], outputs[:1] * len(compiled), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_features_are_extracted_by_torchvision_and_networks_quantised_by_torch() -> None:
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
    from torchvision.models.feature_extraction import create_feature_extractor

    space, images = zcpt.get_space("nasbench201"), torch.randn(16, 3, 16, 16)
    config = tiny_network_config(space, image_size=(16, 16))
    network: Any = space.build_network(random_architecture(space, 0), config, auxiliary=True)
    assert create_feature_extractor(network, ["blocks.0"])(images)["blocks.0"].shape == (16, 4, 16, 16)
    prepared = prepare_fx(network.eval(), get_default_qconfig_mapping(), (images,))
    prepared(images)
    logits = network(images)
    assert (convert_fx(prepared)(images) - logits).abs().max() < 0.1 * logits.abs().max()


def test_networks_do_not_share_state(space: SearchSpace) -> None:
    one, other = (space.build_network(random_architecture(space, s), tiny_network_config(space)) for s in (0, 1))
    without_dropout(other)
    torch.manual_seed(0)  # some operations are noise
    before = other(torch.ones(2, 3, 8, 8))
    one.set_drop_path(0.9)
    torch.manual_seed(0)
    torch.testing.assert_close(other(torch.ones(2, 3, 8, 8)), before)


def test_cells_can_be_drawn(space: SearchSpace) -> None:
    for cell in space.cells(random_architecture(space, 4)):
        assert all(source in cell.nodes and target in cell.nodes for source, target, _ in cell.arrows)
        assert all(cell.nodes.index(source) < cell.nodes.index(target) for source, target, _ in cell.arrows)


def test_the_space_counts_itself(space: SearchSpace) -> None:
    counts = {
        "darts": 1_037_664_180**2,
        **dict.fromkeys(ROBUST, 2_123_366_400),
        "nasbench-macro": 6_561,
        "nasbench201": 15_625,
        "proxyless": 221_502_229_807_900_608,
        "toy": 3**3,
        **dict(zip(ONE_SHOT, (3_702, 12_474, 135_900), strict=True)),
    }
    assert space.count() == counts[space.name]
