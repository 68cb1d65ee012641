"""Settings of a search."""

from __future__ import annotations

import re
from typing import Any

import pytest

import zcpt
from zcpt import ConfigError, ProxyError
from zcpt.proxies import Naswot
from zcpt.search import SearchConfig, configure


def test_the_defaults_are_those_of_the_method() -> None:
    config = configure(zcpt.get_space("darts"))
    assert (config.proposals, config.validation_batches, config.validation_inits) == (10, 100, 10)
    assert (config.proxy, config.order, config.channels, config.layers) == ("naswot", "random", 16, 8)
    assert configure(zcpt.get_space("nasbench201")).layers == 5


@pytest.mark.parametrize(
    ("space", "batch_sizes", "noise"),
    [
        ("darts", (64, 64), 1e-3),
        ("nasbench1shot1-1", (128, 128), 1e-3),
        ("nasbench201", (256, 256), 1e-3),
        ("nasbench-macro", (256, 256), 0.0),
        ("proxyless", (64, 256), 1e-3),
    ],
)
def test_the_paper_preset_is_the_published_procedure(space: str, batch_sizes: Any, noise: float) -> None:
    config = configure(zcpt.get_space(space), "paper")
    assert (config.proxy, config.order) == ("naswot-official", "random")
    assert (config.batch_size, config.validation_batch_size) == batch_sizes
    assert (config.proposals, config.validation_batches, config.validation_inits) == (10, 100, 1)
    assert (config.supernet_weights, config.scoring_batch, config.removed_inputs) == ("run", "step", "present")
    assert (config.non_finite, config.alpha_noise) == ("compare", noise)


def test_options_win_over_a_preset() -> None:
    config = configure(zcpt.get_space("darts"), "paper", proposals=1, order="fixed")
    assert (config.proposals, config.order, config.proxy) == (1, "fixed", "naswot-official")


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        ({"order": "radnom"}, ConfigError, "did you mean 'random'"),
        ({"proxy": "naswott"}, ProxyError, "did you mean 'naswot'"),
        ({"proposal": 3}, ConfigError, "unknown option of search 'proposal': did you mean 'proposals'"),
        ({"batch_size": 1}, ConfigError, "--batch-size 1 is too small: .* at least 2"),
        ({"validation_batch_size": 1}, ConfigError, "--validation-batch-size 1 is too small"),
        ({"proposals": 0}, ConfigError, "--proposals 0 is too small"),
        ({"proposals": 2.5}, ConfigError, "--proposals takes a value of type int, not 2.5"),
        ({"seed": -1}, ConfigError, "must not be negative"),
        ({"scoring_batch": "steps"}, ConfigError, "unknown value of --scoring-batch 'steps': did you mean 'step'"),
    ],
)
def test_invalid_settings_are_refused(options: Any, error: Any, complaint: str) -> None:
    with pytest.raises(error, match=complaint):
        configure(zcpt.get_space("darts"), **options)


class Unregistered(Naswot):
    name = "mine"


GIVEN = [
    (Unregistered(), "not Unregistered: register its class by zcpt.register_proxy(Unregistered), and give its name"),
    (Unregistered, "not class Unregistered: register its class by zcpt.register_proxy(Unregistered), and give its"),
    (zcpt.get_proxy("naswot"), "not Naswot: give its name 'naswot'."),
    (Naswot, "not class Naswot: give its name 'naswot'."),
    (zcpt.get_aggregate("log_rank:naswot+snip"), "not LogRank: give its name 'log_rank:naswot+snip'."),
    (None, "not None: give 'naswot', for example"),
    (["naswot"], "not list: give 'naswot', for example"),
    (len, "not builtin_function_or_method: give 'naswot', for example"),
]


@pytest.mark.parametrize("option", ["proxy", "validation_proxy"])
@pytest.mark.parametrize(("given", "complaint"), GIVEN)
def test_a_proxy_is_given_by_its_name(option: str, given: Any, complaint: str) -> None:
    with pytest.raises(ProxyError, match=re.escape(complaint)):
        configure(zcpt.get_space("nasbench201"), **{option: given})


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown preset 'papre': did you mean 'paper'"):
        configure(zcpt.get_space("darts"), "papre")


def test_options_win_over_a_whole_configuration() -> None:
    space = zcpt.get_space("nasbench201")
    base = configure(space, proposals=3, seed=5)
    assert configure(space, base=base) == base
    assert configure(space, base=base, seed=6) == configure(space, proposals=3, seed=6)
    with pytest.raises(ConfigError, match="preset 'paper' and a whole configuration are given"):
        configure(space, "paper", base=base)


@pytest.mark.parametrize("given", [{"proposals": 1}, "paper"])
def test_a_configuration_must_be_one(given: Any) -> None:
    with pytest.raises(ConfigError, match="config must be a zcpt.SearchConfig, not .*: give options by name"):
        zcpt.search("nasbench201", None, given)


def test_every_option_is_documented() -> None:
    assert all(len(field.metadata["help"]) > 10 for field in SearchConfig.__dataclass_fields__.values())
