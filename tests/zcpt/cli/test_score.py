"""``zcpt score``: one network, several proxies."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import zcpt
from tests.zcpt.cli.conftest import run
from zcpt.proxies import list_proxies

SMALL = ["--channels", "2", "--layers", "1", "--batch-size", "8", "--device", "cpu"]
TEXT = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"


def test_every_proxy_has_a_score_or_a_reason(
    run_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["snip", "naswot", "grasp", "params", "synflow", "near", "fisher"]
    assert set(names) < set(list_proxies())
    monkeypatch.setattr("zcpt.cli.score.list_proxies", lambda: names)
    code, out, err = run(capsys, "score", "--arch", run_folder, "--proxies", "all", *SMALL)
    assert code == 0, err
    network, batch, *lines = out.splitlines()
    assert (run_folder / "genotype.txt").read_text().strip() in network
    assert batch == "mini-batch    8 images of digits (1x8x8)"
    assert [line.split()[0] for line in lines] == names
    for line in lines:
        assert re.search(r" failed: \S|  [-\d.e+naif]+ +(higher|lower) is better, ", line), line


def test_a_score_does_not_depend_on_the_other_proxies(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["score", "--arch", TEXT, "--space", "nasbench201", *SMALL]
    together, alone = (
        {line.split()[0]: line.split()[1] for line in run(capsys, *words, "--proxies", names)[1].splitlines()}
        for names in ("snip,naswot,synflow", "naswot")
    )
    assert together["naswot"] == alone["naswot"]
    other = run(capsys, *words, "--seed", "1")[1]
    assert f"naswot              {alone['naswot']} " not in other


def test_a_network_of_timm(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "score", "--model", "resnet10t", "--proxies", "params", "--batch-size", "2")
    assert code == 0, err
    assert out.startswith("network       resnet10t of timm, ")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("", "no architecture is given"),
        ("--arch none.json", "none.json is missing"),
        ("--model resnet1", "unknown model of timm 'resnet1': did you mean 'resnet"),
        ("--model vit_tiny_patch16_224", "vit_tiny_patch16_224 of timm cannot process images of 1x8x8: "),
        ("--model resnet10t --channels 3", "--model names a network of timm: leave out --channels"),
        ("--model resnet10t --arch x", "leave out --arch"),
        ("--model resnet10t --proxies az_nas", "'az_nas' ranks several networks among each other"),
        ("--model resnet10t --proxies log_rank:snip+near", "ranks several networks among each other"),
        ("--model resnet10t --proxies naswt", "unknown proxy 'naswt': did you mean 'naswot'?"),
        ("--model resnet10t --proxies snip,snip", "--proxies must name different proxies"),
        ("--model resnet10t --proxies ,", "--proxies must name different proxies"),
        ("--model resnet10t --batch-size 0", "--batch-size 0 is too small"),
        ("--model resnet10t --batch-size 99999", "is more than the 719 images to draw from, one half of the training"),
        ("--model resnet10t --seed -1", "--seed -1 is too small"),
        ("--model resnet10t --batch-size 1", "no proxy can score this network on these images"),
        ("--model resnet10t --dataset mnst", "unknown data set 'mnst'"),
        ("--model resnet10t --device gpu9", "--device gpu9 cannot be used"),
    ],
)
def test_a_mistake_gets_one_sentence(words: str, complaint: str, cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "score", *words.split())
    assert code == 2
    assert err.count("\n") == 1
    assert complaint in err
    assert not list(cwd.iterdir())


def test_a_failure_of_one_proxy_leaves_the_others(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object, *_: object) -> float:
        raise zcpt.ProxyError("not this network.")

    monkeypatch.setattr(type(zcpt.get_proxy("snip")), "score", fail)
    words = ["score", "--arch", TEXT, "--space", "nasbench201", "--proxies", "snip,naswot", *SMALL]
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert "snip                failed: not this network." in out
    assert re.search(r"^naswot +\d", out, re.M)
