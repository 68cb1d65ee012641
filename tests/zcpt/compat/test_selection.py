"""zcpt.select on stand-ins of three code bases."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset

import zcpt
from darts_space.darts import Darts
from tests.zcpt.compat.conftest import THREE_OPERATIONS, capture_state, disturb, make_standin
from tests.zcpt.compat.standins import darts
from tests.zcpt.compat.standins.operations import OPS
from tests.zcpt.search.conftest import Decisions, Diary
from zcpt import Architecture, ConfigError, Mixture, Proxy
from zcpt.compat.darts import Genotype
from zcpt.compat.inspection import inspect_network
from zcpt.errors import CallbackError
from zcpt.monitor import Progress
from zcpt.search.decision import Decision
from zcpt.snapshot import preserve
from zcpt.space import NetworkConfig


class BrokenError(Exception):
    pass


@zcpt.register_proxy
class Vandal(Proxy):
    """Proxy that changes everything it can reach, and raises after some calls."""

    name = "vandal"
    higher_is_better = True
    min_batch = 1
    left: ClassVar[int] = 10**9

    def score(self, net: Any, batch: zcpt.Batch, mixture: Mixture | None) -> NoReturn:
        Vandal.left -= 1
        model = net.network
        model.stem[0].weight.register_hook(lambda gradient: gradient * 0)
        model.stem[0].weight._backward_hooks.popitem(last=False)
        model.classifier.weight.register_hook(lambda gradient: gradient * 0)
        model.stem[1].bias.register_post_accumulate_grad_hook(print)
        with torch.no_grad():
            net(batch.images + torch.randn_like(batch.images), mixture)
            for number, p in enumerate(model.parameters()):
                p.add_(1.0)
                p.requires_grad_(False)
                p.grad = torch.ones_like(p)
                if number % 3 == 0:
                    p.data = torch.zeros_like(p)
            for b in model.buffers():
                b.add_(1)
            model.alphas_normal.mul_(0)
            model.zeros.neg_()
        model.cells[0].double()
        model.cells[1].half()
        model.stem[1].weight.data = torch.ones(5)
        model.alphas_reduce.grad = None
        nn.utils.parametrizations.weight_norm(model.cells[2].preprocess1.get_submodule("op.1"))
        model.counts += 1
        model.diary["losses"].append(1)
        model.diary["calls"]["forward"] += 1
        model.diary["recent"].append(3)
        model.seen["labels"].add(2)
        model.seen["images"].add(3)
        model.train()
        model.register_forward_hook(lambda *_: None)
        model.cells[1]._forward_hooks.clear()
        model.cells[1]._ops[0].forward = lambda x, weights: x
        model._arch_parameters.append(None)
        del model.cells[0]._ops[0]._ops[0]
        model.classifier = None
        if Vandal.left <= 0:
            raise BrokenError
        raise KeyboardInterrupt


def test_the_model_is_restored(model: Any, pictures: TensorDataset) -> None:
    before = capture_state(disturb(model))
    assert isinstance(zcpt.select(model, pictures, batch_size=4), Genotype)
    assert capture_state(model) == before


@pytest.mark.parametrize("error", [BrokenError, KeyboardInterrupt])
def test_the_model_is_restored_after_a_proxy_that_changes_it_and_fails(
    model: Any, error: type[BaseException], pictures: TensorDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Vandal, "left", 1 if error is BrokenError else 9)
    before = capture_state(disturb(model))
    with pytest.raises((zcpt.ProxyError, error)) as raised:
        zcpt.select(model, pictures, proxy="vandal", batch_size=4)
    assert isinstance(raised.value.__cause__ or raised.value, error)
    assert capture_state(model) == before


def test_a_part_that_cannot_be_restored_does_not_stop_the_others(three_operations: None) -> None:
    class Stubborn(list):
        def clear(self) -> None:
            raise BrokenError

    model = disturb(make_standin("darts"))
    before = capture_state(model)
    model.stem.obstinate = Stubborn([1])

    def change() -> None:
        with preserve(model):
            model.stem.obstinate.append(2)
            model.classifier.bias.data += 1
            model.zeros.neg_()
            model.eval()

    with pytest.raises(RuntimeError, match=r"could not be restored \(1 part") as error:
        change()
    assert isinstance(error.value.__cause__, BrokenError)
    del model.stem.obstinate
    assert capture_state(model) == before


def test_a_loss_from_before_can_be_backpropagated_afterwards(three_operations: None, pictures: TensorDataset) -> None:
    model = make_standin("darts")
    loss = model._criterion(model(pictures.tensors[0][:4]), torch.arange(4))
    zcpt.select(model, pictures, proxy="hashed", batch_size=4)
    loss.backward()


@pytest.mark.parametrize("part", [lambda m: [m], lambda m: [*m.cells, *m.cells[1]._ops]], ids=["all", "parts"])
def test_compilation_in_place_does_not_change_the_selection(
    part: Callable[[Any], list[nn.Module]], three_operations: None, pictures: TensorDataset
) -> None:
    model = make_standin("darts")
    options: dict[str, Any] = {"proxy": "squared_logits", "batch_size": 4}
    expected = zcpt.select(model, pictures, **options)
    for module in part(model):
        module.compile(backend="eager")
    before = capture_state(model)
    assert zcpt.select(model, pictures, **options) == expected
    assert capture_state(model) == before


@pytest.mark.parametrize(("passes", "raised"), [(1, ConfigError), (4, zcpt.ProxyError)])
def test_the_model_is_restored_after_its_forward_pass_failed(
    model: Any, passes: int, raised: type[Exception], pictures: TensorDataset
) -> None:
    disturb(model)
    calls = []

    def fail(module: nn.Module, given: object) -> None:
        calls.append(module)
        if len(calls) == passes:
            raise BrokenError

    model.cells[2]._ops[1]._ops[-1].register_forward_pre_hook(fail)
    before = capture_state(model)
    with pytest.raises(raised):
        zcpt.select(model, pictures, batch_size=4, engine="plain")
    assert capture_state(model) == before


def test_a_trained_network_is_scored_with_its_own_weights_statistics_and_alpha(
    three_operations: None, pictures: TensorDataset
) -> None:
    class RaiseAtFirstDecision(zcpt.Callback):
        def on_decision(self, proposal: int, decision: Decision, replayed: bool) -> None:
            raise BrokenError(decision.scores)

    def scores(model: Any, **options: Any) -> tuple[float, ...]:
        with pytest.raises(CallbackError) as broken:
            zcpt.select(model, pictures, batch_size=6, callbacks=[RaiseAtFirstDecision()], **options)
        assert isinstance(broken.value.__cause__, BrokenError)
        scores: tuple[float, ...] = broken.value.__cause__.args[0]
        return scores

    model = disturb(make_standin("darts"))
    trained = scores(model)
    assert scores(model) == trained
    assert scores(model, shares="alpha") != trained
    with torch.no_grad():
        model.alphas_normal.mul_(2)
    assert scores(model) == trained
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    assert scores(model) != trained
    with torch.no_grad():
        model.alphas_normal.zero_()
        model.alphas_reduce.zero_()
    assert scores(model, shares="alpha") == pytest.approx(scores(model))


def test_none_has_a_share_of_the_weights_and_is_not_kept(
    three_operations: None, pictures: TensorDataset, diary: type[Diary], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diary, "value", staticmethod(lambda mixture: 0.0))
    callback = Decisions()
    genotype = zcpt.select(make_standin("darts"), pictures, proxy="diary", batch_size=4, callbacks=[callback])
    assert {name for name, _ in genotype.normal + genotype.reduce} == {"skip_connect"}  # the first one of equals
    assert all("none" not in decision.candidates for _, decision in callback.all)
    first = diary.shown[0][2]
    assert first.weights["normal/node3/edge2"] == (1 / 3,) * 3
    assert genotype == Genotype(
        [("skip_connect", 0), ("skip_connect", 1)] * 2, range(2, 4), [("skip_connect", 0), ("skip_connect", 1)] * 2,
        range(2, 4),
    )  # fmt: skip


def test_several_proposals_are_validated_as_discrete_networks(
    pictures: TensorDataset, monkeypatch: pytest.MonkeyPatch, three_operations: None
) -> None:
    options: dict[str, Any] = {"proposals": 3, "batch_size": 4, "validation_batches": 2, "validation_inits": 1}
    model = darts.Network(num_classes=7)
    built: list[NetworkConfig] = []
    build = Darts.build_network

    def record(self: Darts, architecture: Architecture, config: NetworkConfig, **options: Any) -> nn.Module:
        built.append(config)
        return build(self, architecture, config, **options)

    monkeypatch.setattr(Darts, "build_network", record)
    genotype = zcpt.select(model, pictures, proxy="hashed", validation_batch_size=8, **options)
    assert {(s.channels, s.layers, s.num_classes, s.image_size) for s in built} == {(4, 3, 7, (8, 8))}
    zcpt.get_space("darts").parse(repr(genotype))
    monkeypatch.setattr(darts, "PRIMITIVES", ["none", "skip_connect", "sep_conv_9x9"])
    monkeypatch.setitem(OPS, "sep_conv_9x9", OPS["sep_conv_3x3"])
    model = darts.Network()
    with pytest.raises(ConfigError, match=r"cannot build these cells \(it has no operation 'sep_conv_9x9'\): use prop"):
        zcpt.select(model, pictures, **options)
    with pytest.raises(
        ConfigError, match=r"max_macs is a limit for .*no operation 'sep_conv_9x9'\): leave max_macs out"
    ):
        zcpt.select(model, pictures, max_macs=1e9)
    with pytest.raises(ConfigError, match=r"concatenate 4 nodes, and these concatenate 2 of 2"):
        zcpt.select(make_standin("darts"), pictures, primitives=THREE_OPERATIONS, **options)
    assert "sep_conv_9x9" in repr(zcpt.select(model, pictures, proxy="hashed", batch_size=4))


def test_wrapped_networks_samplers_and_names_are_accepted(
    three_operations: None, pictures: TensorDataset, diary: type[Diary]
) -> None:
    model = make_standin("darts")
    plain = zcpt.select(model, pictures, proxy="hashed", batch_size=4)
    assert zcpt.select(nn.DataParallel(model), pictures, proxy="hashed", batch_size=4) == plain
    images, _ = pictures.tensors
    seen = DataLoader(pictures, sampler=SubsetRandomSampler(list(range(0, 40, 4))))
    zcpt.select(model, seen, proxy="diary", batch_size=10)
    assert sorted(diary.shown[0][1]) == sorted(images[::4, 0, 0, 0].tolist())
    renamed = [name.upper() for name in THREE_OPERATIONS]
    genotype = zcpt.select(model, pictures, proxy="hashed", batch_size=4, primitives=renamed)
    assert {name for name, _ in genotype.normal} <= set(renamed)
    by_edge = {"normal": [renamed] * 5, "reduce": [THREE_OPERATIONS] * 5}
    genotype = zcpt.select(model, pictures, proxy="hashed", batch_size=4, primitives=by_edge)
    assert {name for name, _ in genotype.reduce} <= set(THREE_OPERATIONS)
    assert {name for name, _ in genotype.normal} <= set(renamed)


def test_names_are_found_where_code_bases_keep_them(three_operations: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_standin("darts_pt")
    normal, reduce = ("noise", "skip_connect", "sep_conv_3x3"), ("skip_connect", "sep_conv_3x3")
    assert inspect_network(model).candidates == {"normal": (normal,) * 5, "reduce": (reduce,) * 5}
    # DARTS-PT sets them on nn.Module itself, where they are those of the network that was made last.
    monkeypatch.setattr(nn.Module, "PRIMITIVES", {"primitives_normal": [["a", "b", "c"]] * 5}, raising=False)
    assert inspect_network(model).candidates["normal"] == (normal,) * 5
    del model.op_names
    monkeypatch.setattr(nn.Module, "PRIMITIVES", {"primitives_normal": [normal] * 5, "primitives_reduct": [reduce] * 5})
    assert inspect_network(model).candidates == {"normal": (normal,) * 5, "reduce": (reduce,) * 5}


def make_changed(change: Callable[[Any], object]) -> Any:
    model = make_standin("darts")
    change(model)
    return model


def remove_mixed_operations(model: Any) -> None:
    model.cells[1]._ops = nn.ModuleList(mixed._ops[2] for mixed in model.cells[1]._ops)


def drop_weights_argument(model: Any) -> None:
    model.cells[0]._ops[1] = nn.Sequential(nn.Identity())
    model.cells[0]._ops[1]._ops = model.cells[0]._ops[0]._ops


UNSUPPORTED = {
    r"an object of type int was given, which is not a torch module": lambda: 3,
    r"Sequential has no list 'cells' of modules": lambda: nn.Sequential(nn.Linear(2, 2)),
    r"cells\.1 \(Cell\) has no 'reduction'": lambda: make_changed(lambda m: delattr(m.cells[1], "reduction")),
    r"cells\.1\._ops\.0 \(Layers\) has no list '_ops'": lambda: make_changed(remove_mixed_operations),
    r"the forward of cells\.0\._ops\.1 \(Sequential\) takes no weights": lambda: make_changed(drop_weights_argument),
    r"cells\.0 has 4 edges, while": lambda: make_changed(
        lambda m: [cell._ops.__delitem__(0) for cell in m.cells],
    ),
    r"cells\.2 has other edges or operations": lambda: make_changed(
        lambda m: m.cells[2]._ops.__delitem__(slice(2, None))
    ),
    r"the 1 cells of Network are all of kind 'reduce'": lambda: darts.Network(layers=1),
    r"cells\.1\._ops\.0 and cells\.1\._ops\.3 are one and the same mixed operation": lambda: make_changed(
        lambda m: m.cells[1]._ops.__setitem__(3, m.cells[1]._ops[0])
    ),
    r"cells\.1 was replaced by torch\.compile\(cells\.1\), where cells\.1\.compile\(\) would do": lambda: make_changed(
        lambda m: m.cells.__setitem__(1, torch.compile(m.cells[1], backend="eager"))
    ),
}


@pytest.mark.parametrize("sentence", list(UNSUPPORTED))
def test_networks_of_another_form_are_refused_in_one_sentence(
    sentence: str, three_operations: None, pictures: TensorDataset
) -> None:
    with pytest.raises(
        ConfigError, match=rf"takes search networks of DARTS' form or of NAS-Bench-201's.*; {sentence}.*Pass the net"
    ):
        zcpt.select(UNSUPPORTED[sentence](), pictures)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"channels": 16}, "channels is not an option of zcpt.select"),
        ({"proposal": 1}, "did you mean 'proposals'"),
        ({"shares": "alfa"}, "did you mean 'alpha'"),
        ({"shares": "alpha", "alpha_noise": 1e-3}, "give alpha_noise=0"),
        ({"shares": "alpha", "preset": "paper"}, "give alpha_noise=0"),
        ({"preset": "papre"}, "did you mean 'paper'"),
        ({"preset": "paper"}, "proposals=10 are compared as .* concatenate 2 of 2.* use proposals=1"),
        ({"space": "darts"}, "unknown option of search 'space'"),
        ({"max_params": 3e6}, "max_params is a limit for .* concatenate 2 of 2.*: leave max_params out"),
        ({"valid_only": True}, "valid_only is not an option of zcpt.select"),
        ({"train_layers": 14}, "train_layers describes the networks that budgets apply to, and no budget is given"),
        ({"validation_batches": 7}, "validation_batches applies to the validation of several proposals"),
        ({"primitives": ["a", "b"]}, r"names of the 3 operations of cells\.0\._ops\.0, and primitives=\['a', 'b'\]"),
        ({"order": "randm"}, "did you mean 'random'"),
    ],
)
def test_options_that_cannot_be_used_are_refused(
    options: dict[str, Any], sentence: str, three_operations: None, pictures: TensorDataset
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        zcpt.select(make_standin("darts"), pictures, **options)


class Warm(darts.Network):
    def forward(self, input: Tensor, temperature: float) -> Tensor:  # type: ignore[override]  # the mistake
        return super().forward(input / temperature)


def test_networks_and_data_that_do_not_fit_are_refused_in_one_sentence(
    three_operations: None, pictures: TensorDataset
) -> None:
    images, labels = pictures.tensors
    with pytest.raises(
        ConfigError, match=r"Warm\(images\) .*, failed \(TypeError: .*'temperature'\): pass a network that"
    ):
        zcpt.select(Warm(steps=2), pictures, batch_size=4)
    with pytest.raises(ConfigError, match=r"images \[2, 1, 8, 8\], failed .* to have 3 channels, but got 1 channels"):
        zcpt.select(make_standin("darts"), (images[:, :1], labels), batch_size=4)


def test_the_published_procedure(three_operations: None, pictures: TensorDataset) -> None:
    sizes: dict[str, Any] = {"batch_size": 4, "validation_batch_size": 4, "validation_batches": 1}
    callback = Decisions()
    genotype = zcpt.select(
        darts.Network(), pictures, preset="paper", proposals=2, proxy="hashed", callbacks=[callback], **sizes
    )
    assert callback.config.supernet_weights == "run"
    assert callback.config.removed_inputs == "present"
    assert len(callback.architectures) == 2
    zcpt.get_space("darts").parse(repr(genotype))


def test_callbacks_get_architectures_with_the_nodes_that_cells_concatenate(
    three_operations: None, pictures: TensorDataset
) -> None:
    model: Any = darts.Network(steps=3)  # Any: its classifier is replaced by one of another class
    model._multiplier = 2
    model.classifier, model.global_pooling = nn.Flatten(), nn.AdaptiveAvgPool2d(1)
    callback = Decisions()
    genotype = zcpt.select(model, pictures, proxy="hashed", batch_size=4, callbacks=[callback])
    (architecture,), space = callback.architectures, callback.space
    assert genotype.normal_concat == genotype.reduce_concat == range(3, 5)
    assert space.format(architecture) == repr(genotype)
    for cell in space.cells(architecture):
        assert [source for source, target, _ in cell.arrows if target == "c_{k}"] == ["1", "2"]
    assert architecture.space == "Network"


def test_missing_names_and_alpha_are_requested(
    three_operations: None, pictures: TensorDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_standin("darts")
    model.alphas_reduce = model.alphas_reduce[:4]
    with pytest.raises(ConfigError, match=r"alphas_reduce is \[4, 3\] where 5 rows of 3 are needed"):
        zcpt.select(model, pictures, shares="alpha")
    monkeypatch.delattr(darts, "PRIMITIVES")
    with pytest.raises(ConfigError, match=r"no list PRIMITIVES fits them: pass primitives="):
        zcpt.select(model, pictures)


@pytest.mark.parametrize("is_shown", [True, False])
def test_progress_goes_to_the_log_where_there_is_no_terminal(
    is_shown: bool, pictures: TensorDataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("zcpt.progress._SECONDS", 0.0)
    monkeypatch.setattr("zcpt.progress._SHARE", 0.0)
    options: dict[str, Any] = {} if is_shown else {"progress": False}
    with caplog.at_level(logging.INFO, "zcpt.progress"):
        zcpt.select(darts.Network(steps=2), pictures, proxy="hashed", batch_size=4, **options)
    shown = [line for line in caplog.messages if line.startswith("proposals: ")]
    assert (len(shown) > 5) == is_shown
    with caplog.at_level(logging.INFO, "zcpt.progress"):  # a bar of the caller's own takes its place
        caplog.clear()
        zcpt.select(darts.Network(steps=2), pictures, proxy="hashed", batch_size=4, callbacks=[Progress()])
    assert len([line for line in caplog.messages if "reduce/node3/edge1" in line]) == 1


@pytest.mark.parametrize("callbacks", [None, 3, Progress(), [Progress], [print], [[]]])
def test_callbacks_of_other_kinds_are_refused(callbacks: Any, three_operations: None, pictures: TensorDataset) -> None:
    with pytest.raises(ConfigError, match=r"callbacks? must be"):
        zcpt.select(make_standin("darts"), pictures, callbacks=callbacks)


class FailingGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> NoReturn:
        raise BrokenError("no gradient")


class Activation(nn.Module):
    """An activation of a user that fails in a proxy, and not in the trial forward pass."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.calls = 0

    def forward(self, value: Tensor) -> Tensor:
        self.calls += 1
        if self.kind == "forward" and self.calls > 3:
            raise BrokenError("no activation")
        if self.kind == "backward":
            return FailingGradient.apply(value)
        # The gradient of exp needs its result, which is changed in place.
        return value.exp().mul_(2) if self.kind == "in place" else value


@pytest.mark.parametrize(
    ("kind", "proxy", "reason"),
    [
        ("forward", "meco", "BrokenError: no activation"),
        ("forward", "snip", "BrokenError: no activation"),
        ("backward", "snip", "BrokenError: no gradient"),
        ("in place", "grad_norm", "RuntimeError: one of the variables needed for gradient computation"),
    ],
)
def test_an_error_of_the_network_is_named_as_its_own(kind: str, proxy: str, reason: str, pictures: Any) -> None:
    model = make_standin("darts")
    model.stem.append(Activation(kind))
    with pytest.raises(
        zcpt.ProxyError, match=f"^network Network failed while proxy '{proxy}' scored it: {reason}"
    ) as e:
        zcpt.select(model, pictures, proxy=proxy, batch_size=4)
    assert e.value.__cause__ is not None
