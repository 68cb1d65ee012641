"""Hints for unknown commands and flags: the names of other programs come before similar spelling."""

from __future__ import annotations

import re

import pytest

from zcpt.cli._flag_names import _FLAGS, _WITHOUT_COUNTERPART, COMMANDS, describe_unknown_flag
from zcpt.cli._parser import _list_flags_of_commands, list_commands, parse
from zcpt.errors import ConfigError, describe_unknown_name


def complain(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(words)
    return str(caught.value)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("search --epochs 3", "unknown flag '--epochs': it is a flag of 'zcpt train'"),
        ("search --learning_rate 0.1", "unknown flag '--learning-rate': it is --lr of 'zcpt train'"),
        ("train --learning_rate 0.1", "unknown flag '--learning-rate': here it is '--lr'"),
        ("train --learning_rate_min 0", "here it is '--min-lr'"),
        ("search --save runs", "here it is '--out'"),
        ("train --opt sgd", "here it is '--optimizer'"),
        ("train --init_channels 36", "here it is '--channels'"),
        ("train --drop_path_prob 0.2", "here it is '--drop-path'"),
        ("train --cutout_length 16", "here it is '--cutout'"),
        ("train --grad_clip 5", "here it is '--clip-grad'"),
        ("train --auxiliary", "here it is '--auxiliary-weight 0.4'"),
        ("train --num_workers 4", "here it is '--workers'"),
        ("train --sched cosine", "here it is '--schedule'"),
        ("train -j 4", "here it is '--workers'"),
        ("train -b 64", "here it is '--batch-size'"),
        ("search --gpu 0", "here it is '--device cuda:0'"),
        ("search --set cifar10", "here it is '--dataset'"),
        ("search --data /data", "here it is '--dataset' or '--data-dir'"),
        ("search --edge_decision random", "here it is '--order'"),
        ("search --validate_rounds 100", "here it is '--validation-batches'"),
        ("search --pool_size 10", "here it is '--proposals'"),
        ("search --proj_crit_normal comb", "here it is '--proxy'"),
        ("search --unrolled", "zcpt trains no supernet, so leave it out"),
        ("search --report_freq 50", "progress is always reported"),
        ("search --nnodes 2", "use 'torchrun --nnodes'"),
        ("train --vflip", "the recipes flip from left to right only, by --flip"),
        ("train --reprob 0.2", "here it is '--random-erase'"),
        ("train --initial-checkpoint RUN", "here it is '--from'"),
        ("search --mixup 0.2", "it is a flag of 'zcpt train'"),
        ("train --proposals 3", "it is a flag of 'zcpt search' or 'zcpt benchmark search'"),
        ("train --max_flops 600M", "here it is '--max-macs'"),
        ("train --max_latency 5", "it is a flag of 'zcpt search'"),
        ("benchmark search --out x --table t --space darts --trials 3", "here it is '--proposals'"),
        ("search --Proposals 3", "flags are written in small letters, '--proposals'"),
        ("search -proposals 3", "flags have two dashes, '--proposals'"),
        ("search -channels 3", "flags have two dashes, '--channels'"),
        ("search -cutout=3 -batch_size=4", "flags have two dashes, '--batch-size'"),
        ("search \u2014proposals 3", "type '--proposals'"),
        ("search \u2013\u2013proposals 3", "type '--proposals'"),
        ("search --propsals 3", "did you mean '--proposals'?"),
        ("search darts", "such as --space NAME or --dataset NAME"),
        ("train a.json", "every value follows its flag, such as --arch FILE"),
        ("search --joint=yes", "--joint or --no-joint stands alone, without '=' and a value"),
        ("search --seed 1e3", "argument --seed: '1e3' is no whole number"),
        ("train --lr 0,1", "argument --lr: '0,1' is no number"),
        ("evaluate RUN --batch_size many", "argument --batch-size: 'many' is no whole number"),
        ("search --seed " + "9" * 5000, "is no whole number"),
    ],
)
def test_an_unknown_flag_is_answered_by_the_name_that_it_has_here(words: str, hint: str) -> None:
    complaint = complain(*words.split(" "))
    assert hint in complaint
    assert len(complaint) < 300


@pytest.mark.parametrize("flag", ["--xyzzy", "--foo", "--sve", "--temperature", "--kl-weight"])
def test_a_flag_unlike_any_other_gets_no_guess(flag: str) -> None:
    assert complain("search", flag) == f"unknown flag '{flag}' ('zcpt search --help' shows all flags)."


@pytest.mark.parametrize("name", sorted({*_FLAGS, *_WITHOUT_COUNTERPART}))
def test_every_name_of_another_program_has_an_answer_that_is_true(name: str) -> None:
    """What an answer names must exist: the flags in the command that it is about."""
    flags = _list_flags_of_commands()
    for command in ("search", "train", "benchmark proxies"):
        if name in flags[command]:
            continue
        hint = describe_unknown_flag(name, command, flags)
        assert hint, "a name of the table must not be answered by spelling or silence"
        assert "did you mean" not in hint
        if hint.startswith("here it is"):
            assert {flag.split()[0] for flag in re.findall(r"'(.*?)'", hint)} <= set(flags[command])
        owners = re.findall(r"'zcpt (.*?)'", hint)
        if owners and hint.startswith("it is"):
            named = re.match(r"it is (--?[\w-]+)", hint)
            assert all((named[1] if named else name) in flags[owner] for owner in owners)


def test_every_name_of_another_program_is_normalised() -> None:
    assert all(name == name.lower() and "_" not in name for name in {*_FLAGS, *_WITHOUT_COUNTERPART})
    assert not set(_FLAGS) & set(_WITHOUT_COUNTERPART)


@pytest.mark.parametrize("word", sorted(COMMANDS))
def test_the_name_of_another_programs_command_is_answered_by_one_of_ours(word: str) -> None:
    assert f"use 'zcpt {COMMANDS[word]}'" in complain(word)
    ours = COMMANDS[word].split()
    assert ours[0] in {name.split()[0] for name in list_commands()}
    assert word not in {name.split()[0] for name in list_commands()}


@pytest.mark.parametrize(
    ("given", "known", "expected"),
    [
        ("DARTS", ["darts", "proxyless"], "did you mean 'darts'?"),
        ("NASWOT", ["naswot", "snip"], "did you mean 'naswot'?"),
        ("grad-norm", ["grad_norm", "snip"], "did you mean 'grad_norm'?"),
        ("NAS-Bench-201", ["nasbench201", "darts"], "did you mean 'nasbench201'?"),
        ("CIFAR10", ["cifar10", "cifar100"], "did you mean 'cifar10'?"),
        ("Global_Op_Once", ["global-op-once", "fixed"], "did you mean 'global-op-once'?"),
        ("x", [f"name{i:02}" for i in range(30)], "name19 and others."),
    ],
)
def test_the_case_and_the_dashes_of_a_name_do_not_hide_it(given: str, known: list[str], expected: str) -> None:
    assert describe_unknown_name("name", given, known).endswith(expected)
