"""The user's own module is cut in place, proven, or left as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_modules import CASES, Case, assert_same, leaves

import prunec


def pruned(case: Case, module: nn.Module, options: str = "ratio=50% round-to=1") -> prunec.Result:
    captured = prunec.trace(module, case.inputs(), dynamic_shapes=case.dynamic)
    return prunec.run(captured, f"prune-channels{{{options}}}", verify=False)


@pytest.mark.parametrize(
    "name", ["residual", "shuffle", "encoder", "perceptron", "transformer", "decoder", "recurrent"]
)
def test_the_module_computes_what_the_program_computes(name: str) -> None:
    case = CASES[name]
    module = case.made().eval()
    result = pruned(case, module)
    result.apply_to(module)
    inputs = case.inputs()
    assert_same(module(*inputs), result.to_torch()(*inputs))
    numbers = {n: p.shape for n, p in result.to_torch().named_parameters()}
    assert {n: p.shape for n, p in module.named_parameters(remove_duplicate=False) if n in numbers} == numbers


def test_attributes_follow() -> None:
    case = CASES["residual"]
    module = case.made()
    pruned(case, module).apply_to(module)
    assert (module.stem.out_channels, module.norm.num_features, module.branch.in_channels) == (8, 8, 8)
    assert (module.depthwise.groups, module.depthwise.in_channels) == (8, 8)
    assert module.head.in_features == 64
    decoder = CASES["decoder"].made()
    pruned(CASES["decoder"], decoder).apply_to(decoder)
    layer = decoder.layers[0]
    assert (layer.heads, layer.keys, layer.head_size) == (2, 1, 8)
    assert layer.before_gate.normalized_shape == (16,)
    assert decoder.head.weight is decoder.embedding.weight


def test_the_mode_and_frozen_parameters_stay() -> None:
    case = CASES["residual"]
    module = case.made().train()
    module.stem.requires_grad_(False)
    pruned(case, module).apply_to(module)
    assert module.training and module.norm.training
    assert not module.stem.weight.requires_grad and module.branch.weight.requires_grad


class HardCoded(nn.Module):
    """A size in the code that no attribute holds."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(10, 16)
        self.last = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).view(-1, 16))


def test_a_size_in_the_code_is_named_and_nothing_is_changed() -> None:
    case = Case(build=HardCoded, inputs=lambda: (torch.randn(3, 10),))
    module = case.made()
    before, sizes = copy.deepcopy(module.state_dict()), module.first.out_features
    with pytest.raises(prunec.UserError) as caught:
        pruned(case, module).apply_to(module)
    text = caught.value.render()
    assert "`HardCoded` cannot be cut in place" in text
    assert "test_writeback.py:" in text and "`view` has 16, needs 8" in text
    assert module.first.out_features == sizes == 16
    assert all(torch.equal(a, b) for a, b in zip(before.values(), module.state_dict().values(), strict=True))
    module(*case.inputs())


def test_torchs_own_attention_cannot_lose_heads_alone() -> None:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    case = Case(build=lambda: layer, inputs=lambda: (torch.randn(2, 7, 32),))
    with pytest.raises(prunec.UserError, match="cannot be cut in place"):
        pruned(case, layer).apply_to(layer)
    assert layer.self_attn.num_heads == 4 and layer.linear1.out_features == 64


def test_another_module_is_refused() -> None:
    case = CASES["residual"]
    result = pruned(case, case.made())
    with pytest.raises(prunec.UserError, match=r"`stem.weight` is missing in `Linear`"):
        result.apply_to(nn.Linear(2, 2))
    module = case.made()
    result.apply_to(module)
    with pytest.raises(prunec.UserError, match="give the module that was captured, before any cut"):
        result.apply_to(module)


def test_every_attribute_that_was_changed_is_told() -> None:
    case = CASES["residual"]
    module = case.made()
    result = prunec.run(prunec.trace(module, case.inputs()), "prune-channels{only=stem.weight round-to=1}")
    before = {path: dict(vars(part)) for path, part in module.named_modules()}
    result.apply_to(module)
    told = [str(r) for r in result.remarks if r.origin == "apply_to"]
    assert "remark[passed]: apply_to: stem.out_channels 16 -> 8" in told
    assert "remark[passed]: apply_to: depthwise.groups 16 -> 8" in told
    changed = [
        f"remark[passed]: apply_to: {path}.{name} {old} -> {vars(module.get_submodule(path))[name]}"
        for path, held in before.items()
        for name, old in held.items()
        if isinstance(old, int | tuple) and old != vars(module.get_submodule(path))[name]
    ]
    assert told == changed


OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "AdamW": ("exp_avg", {}),
    "SGD": ("momentum_buffer", {"momentum": 0.9}),
    "RMSprop": ("square_avg", {}),
    "Adagrad": ("sum", {}),
    "Adadelta": ("square_avg", {}),
    "Adam": ("max_exp_avg_sq", {"amsgrad": True}),
    "Adamax": ("exp_inf", {}),
    "NAdam": ("exp_avg", {}),
    "RAdam": ("exp_avg", {}),
    "Rprop": ("prev", {}),
    "ASGD": ("ax", {}),
    "Adafactor": ("row_var", {}),
    "Muon": ("momentum_buffer", {}),  # of matrices alone
}


@pytest.mark.parametrize(
    ("name", "kind"), [("decoder", "AdamW"), *(("residual", kind) for kind in OPTIMIZERS)]
)
def test_the_optimizer_goes_along(name: str, kind: str) -> None:
    case = CASES[name]
    module = case.made().train()
    key, options = OPTIMIZERS[kind]
    trained = [p for p in module.parameters() if kind != "Muon" or p.ndim == 2]
    optimizer = getattr(torch.optim, kind)(trained, lr=1e-3, **options)

    def step() -> None:
        optimizer.zero_grad()
        leaves(module(*case.inputs()))[0].square().mean().backward()
        optimizer.step()

    step()
    result = pruned(case, module)
    before = {n: optimizer.state[p].get(key, torch.empty(0)).clone() for n, p in module.named_parameters()}
    result.apply_to(module)
    result.apply_to_optimizer(optimizer, module)
    for p in module.parameters():
        for held in (h for h in optimizer.state[p].values() if isinstance(h, Tensor) and h.numel() > 1):
            assert all(a in (1, b) for a, b in zip(held.shape, p.shape, strict=True))
    removed = result.plan.removed()
    cut, axis = next(
        (name, axis)
        for name, held in before.items()
        for axis in removed.get(name, ())
        if len(removed[name]) == 1 and axis < held.ndim and held.shape[axis] > 1
    )
    kept = [i for i in range(before[cut].shape[axis]) if i not in set(removed[cut][axis])]
    expected = before[cut].index_select(axis, torch.tensor(kept))
    assert torch.equal(optimizer.state[module.get_parameter(cut)][key], expected)
    step()


def test_reordered_channels_leave_optimizers_behind() -> None:
    case = CASES["decoder"]
    module = case.made()
    result = prunec.run(prunec.trace(module, case.inputs()), "permute-channels", verify=False)
    result.apply_to(module)
    with pytest.raises(prunec.UserError, match="channels that were reordered"):
        result.apply_to_optimizer(torch.optim.AdamW(module.parameters()), module)


def strange_state(module: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    optimizer.state[module.stem.weight]["row"] = torch.zeros(7)
    return optimizer


def with_history(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(module.parameters())


def of_another_module(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)


UNCUTTABLE = [
    (
        strange_state,
        r"state `row` of `stem.weight` has shape \[7\], its parameter has \[16, 3, 3, 3\] before the cut",
    ),
    (with_history, "the state of LBFGS cannot be cut: its history holds all parameters as one vector"),
    (of_another_module, "the optimizer trains no parameter of `Residual`"),
]


@pytest.mark.parametrize(("make", "words"), UNCUTTABLE)
def test_an_optimizer_that_cannot_be_cut_is_refused(
    make: Callable[[nn.Module], torch.optim.Optimizer], words: str
) -> None:
    case = CASES["residual"]
    module = case.made()
    optimizer = make(module)
    with pytest.raises(prunec.UserError, match=words):
        prunec.torch.schedule(module, case.inputs(), "prune-channels", optimizer=optimizer)
    result = pruned(case, module)
    result.apply_to(module)
    with pytest.raises(prunec.UserError, match=words) as caught:
        result.apply_to_optimizer(optimizer, module)
    assert "= help: " in caught.value.render()


def test_a_state_is_cut_behind_the_module_and_once() -> None:
    case = CASES["residual"]
    module = case.made()
    optimizer = torch.optim.AdamW(module.parameters())
    leaves(module(*case.inputs()))[0].mean().backward()
    optimizer.step()
    result = pruned(case, module)
    with pytest.raises(
        prunec.UserError, match=r"`stem.weight` .* has shape \[16, .* in the result .* \[8, "
    ) as early:
        result.apply_to_optimizer(optimizer, module)
    result.apply_to(module)
    result.apply_to_optimizer(optimizer, module)
    with pytest.raises(prunec.UserError) as twice:
        result.apply_to_optimizer(optimizer, module)
    assert "= help: cut the module first, with result.apply_to(module), and then" in early.value.render()
    assert "= help: it is cut already, which is done once" in twice.value.render()


class Coincidence(nn.Module):
    """Numbers that equal the width by chance, beside one that is the width."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 4)
        self.hidden = self.log_every = self.max_len = self.scale = 16

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).view(-1, self.hidden) / (self.scale if self.training else 1))


class Divided(Coincidence):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).view(-1, self.hidden) / self.scale)


@pytest.mark.parametrize("build", [Coincidence, Divided])
def test_numbers_that_equal_a_width_by_chance_stay(build: type[Coincidence]) -> None:
    case = Case(build=build, inputs=lambda: (torch.randn(3, 8),))
    module = case.made().eval()
    pruned(case, module).apply_to(module)
    assert (module.hidden, module.log_every, module.max_len, module.scale) == (8, 16, 16, 16)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 32), nn.Linear(32, 4)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(self.attention(x, x, x)[0])


def test_torchs_attention_loses_heads_with_its_width() -> None:
    case = Case(build=Attention, inputs=lambda: (torch.randn(2, 6, 8),))
    module = case.made()
    pruned(case, module).apply_to(module)
    layer = module.attention
    assert (layer.embed_dim, layer.kdim, layer.num_heads, layer.head_dim) == (16, 16, 2, 8)


class Plain(nn.Module):
    """Tensors in a plain attribute and in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 4)
        self.scale, self.shifts = torch.rand(16), [torch.rand(16)]

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * self.scale + self.shifts[0])


def test_plain_tensors_are_named_with_what_to_make_of_them() -> None:
    result = prunec.run(prunec.trace(module := Plain(), (torch.randn(2, 8),)), "prune-channels")
    with pytest.raises(
        prunec.UserError, match=r"tensor that is neither parameter nor buffer, `scale`"
    ) as caught:
        result.apply_to(module)
    assert caught.value.help[:2] == (
        "`scale` is a plain tensor that would have to be cut: make it self.register_buffer(name, tensor)",
        "the code holds a tensor that would have to be cut: make it self.register_buffer(name, tensor)",
    )
    assert result.to_torch()(torch.randn(2, 8)).shape == (2, 4)


def test_heads_of_a_pinned_embedding_are_named_with_what_to_ignore() -> None:
    x = torch.randn(2, 5, 32)
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    result = prunec.run(prunec.trace(encoder, (x,)), "prune-channels")
    with pytest.raises(prunec.UserError) as caught:
        result.apply_to(encoder)
    assert caught.value.help[0] == (
        "`layers.0.self_attn` and 1 more: an nn.MultiheadAttention cannot lose heads while its embedding is pinned; "
        "prune-channels{ignore=*self_attn.*} leaves it alone"
    )
    prunec.run(prunec.trace(encoder, (x,)), "prune-channels{ignore=*self_attn.*}").apply_to(encoder)
    assert encoder.layers[1].linear1.out_features == 32
    assert encoder.eval()(x).shape == x.shape
