"""Lazy layers and what they hold before their first call: `nn.lazy`, `nn.parameter`."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint import nn

pytestmark = pytest.mark.usefixtures("little_effort")

# A lazy layer, the layer it becomes, the shape of an input.
LAZY = [
    ("nn.LazyLinear(3)", "nn.Linear(5, 3)", (2, 5)),
    ("nn.LazyLinear(3, bias=False)", "nn.Linear(5, 3, bias=False)", (2, 4, 5)),
    ("nn.LazyConv1d(4, 3)", "nn.Conv1d(6, 4, 3)", (2, 6, 7)),
    ("nn.LazyConv2d(4, 3, groups=2, padding=1)", "nn.Conv2d(6, 4, 3, groups=2, padding=1)", (6, 7, 7)),
    ("nn.LazyConv3d(4, 2, bias=False)", "nn.Conv3d(2, 4, 2, bias=False)", (1, 2, 3, 3, 3)),
    ("nn.LazyConvTranspose1d(4, 3, groups=2)", "nn.ConvTranspose1d(6, 4, 3, groups=2)", (2, 6, 7)),
    ("nn.LazyConvTranspose2d(4, 3, 2)", "nn.ConvTranspose2d(6, 4, 3, 2)", (2, 6, 3, 3)),
    ("nn.LazyConvTranspose3d(4, 2)", "nn.ConvTranspose3d(2, 4, 2)", (1, 2, 3, 3, 3)),
    ("nn.LazyBatchNorm1d()", "nn.BatchNorm1d(5)", (4, 5)),
    ("nn.LazyBatchNorm2d(affine=False)", "nn.BatchNorm2d(3, affine=False)", (4, 3, 2, 2)),
    ("nn.LazyBatchNorm3d(bias=False)", "nn.BatchNorm3d(2, bias=False)", (4, 2, 2, 2, 2)),
    ("nn.LazyInstanceNorm1d()", "nn.InstanceNorm1d(3, affine=True, track_running_stats=True)", (3, 5)),
    ("nn.LazyInstanceNorm2d(track_running_stats=False)", "nn.InstanceNorm2d(3, affine=True)", (2, 3, 4, 4)),
    ("nn.LazyInstanceNorm3d()", "nn.InstanceNorm3d(2, affine=True, track_running_stats=True)", (2, 2, 3, 3, 3)),
]
ROWS = pytest.mark.parametrize("text, becomes, shape", LAZY, ids=[row[0] for row in LAZY])


def made(text: str, T: Any = torch) -> Any:
    return eval(text, {"nn": T.nn})


@ROWS
def test_becomes_the_ordinary_layer(text: str, becomes: str, shape: tuple[int, ...]) -> None:
    layer, ordinary = made(text), made(becomes)
    members = [*layer.named_parameters(), *layer.named_buffers()]
    assert [name for name, _ in members] == [name for name, _ in (*ordinary.named_parameters(), *ordinary.named_buffers())]
    assert list(layer.state_dict()) == list(ordinary.state_dict())
    torch.manual_seed(0)
    x = torch.randn(shape, requires_grad=True)
    out = layer(x)
    assert type(layer) is type(ordinary) and repr(layer) == repr(ordinary)
    assert all(
        new is old for (_, new), (_, old) in zip([*layer.named_parameters(), *layer.named_buffers()], members, strict=True)
    )
    assert all(type(p) is nn.Parameter and p.requires_grad for p in layer.parameters())
    twin = made(becomes)
    twin.load_state_dict(layer.state_dict())
    if "running_mean" not in layer.state_dict():
        np.testing.assert_array_equal(out.detach().numpy(), twin(x).detach().numpy())
    out.sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in layer.parameters())


@ROWS
def test_prints_and_saves_as_in_pytorch(text: str, becomes: str, shape: tuple[int, ...]) -> None:
    other = pytest.importorskip("torch")
    assert repr(made(text)) == repr(made(text, other))
    assert repr(dict(made(text).state_dict())) == repr(dict(made(text, other).state_dict()))


@ROWS
def test_state_of_an_ordinary_layer_is_loaded(text: str, becomes: str, shape: tuple[int, ...]) -> None:
    lazy, ordinary = made(text), made(becomes)
    x = torch.randn(shape)
    ordinary(x)
    lazy.load_state_dict(ordinary.state_dict())
    assert not lazy.has_uninitialized_params()
    lazy.eval(), ordinary.eval()
    np.testing.assert_array_equal(lazy(x).detach().numpy(), ordinary(x).detach().numpy())
    assert repr(lazy) == repr(ordinary)


def test_states_without_shapes() -> None:
    state = nn.LazyLinear(3).state_dict()
    assert repr(nn.LazyLinear(3).load_state_dict(state)) == "<All keys matched successfully>"
    with pytest.raises(RuntimeError, match="Can't access the shape of an uninitialized"):
        nn.Linear(2, 3).load_state_dict(state)
    loaded = nn.LazyLinear(3)
    loaded.load_state_dict(nn.Linear(4, 3).state_dict())
    with pytest.raises(AssertionError, match="in_features=4"):
        loaded(torch.ones(2, 5))


@pytest.mark.parametrize(
    "use",
    [
        lambda p: p + 1, lambda p: 1 - p, lambda p: p.sum(), lambda p: torch.add(p, 1), lambda p: torch.cat([p, p]), lambda p: p.detach(),
        lambda p: p.numel(), lambda p: len(p), lambda p: p[0], lambda p: p == p, lambda p: nn.init.zeros_(p), lambda p: p.numpy(),
        lambda p: torch.exp(p), lambda p: p.T, lambda p: torch.where(torch.tensor(True), p, p), lambda p: p.backward(),
        lambda p: p.requires_grad_(False), lambda p: float(p),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [nn.UninitializedParameter, nn.UninitializedBuffer])
def test_uses_are_refused(kind: Any, use: Any) -> None:
    with pytest.raises(ValueError, match="Attempted to use an uninitialized parameter"):
        use(kind())


def test_uninitialized_members() -> None:
    p, b = nn.UninitializedParameter(dtype=torch.float64), nn.UninitializedBuffer(persistent=False)
    assert isinstance(p, nn.Parameter) and isinstance(b, nn.Buffer) and nn.parameter.is_lazy(p) and nn.parameter.is_lazy(b)
    assert p.dtype is torch.float64 and p.requires_grad and p.is_leaf and p.grad is None and not b.requires_grad
    with pytest.raises(RuntimeError, match="Can't access the shape"):
        p.shape  # noqa: B018
    for twin in (copy.deepcopy(p), pickle.loads(pickle.dumps(p))):
        assert twin is not p and type(twin) is type(p) and twin.dtype is torch.float64
    p.materialize((2, 3))
    assert type(p) is nn.Parameter and p.shape == (2, 3) and p.dtype is torch.float64 and (p * 0 + 1).sum().item() == 6


def test_lazy_models_are_copied_converted_and_trained() -> None:
    net = nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d(), nn.Tanh(), nn.LazyLinear(1)).double()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    optimizer.step()  # nobody has a gradient yet
    twin = pickle.loads(pickle.dumps(copy.deepcopy(net)))
    x = torch.randn(16, 3, dtype=torch.float64)
    y = x.sum(1, keepdim=True)
    assert twin(x).dtype is torch.float64 and twin[1].running_mean.dtype is torch.float64
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = ((net(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert repr(net[0]) == "Linear(in_features=3, out_features=4, bias=True)"


def test_mixin() -> None:
    class Half(nn.lazy.LazyModuleMixin, nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.UninitializedParameter(), nn.UninitializedParameter()

        def initialize_parameters(self, x: Any) -> None:
            self.a.materialize(x.shape)

    with pytest.raises(RuntimeError, match="has not been fully initialized"):
        Half()(torch.ones(2))

    class Nothing(nn.lazy.LazyModuleMixin, nn.Module):
        pass

    with pytest.raises(NotImplementedError, match="initialize_parameters is not implemented"):
        Nothing()(torch.ones(2))


def test_wrong_first_inputs() -> None:
    with pytest.raises(RuntimeError, match=r"Expected 3D \(unbatched\) or 4D \(batched\) input to LazyConv2d"):
        nn.LazyConv2d(4, 3)(torch.ones(7, 7))
    with pytest.raises(ValueError, match="in_channels must be divisible by groups"):
        nn.LazyConv1d(4, 3, groups=4)(torch.ones(2, 6, 7))
    with pytest.raises(ValueError, match="expected 4D input"):
        nn.LazyBatchNorm2d()(torch.ones(2, 3))


def test_buffers() -> None:
    net = nn.Module()
    net.kept, net.scratch = nn.Buffer(torch.ones(2)), nn.Buffer([1.0], persistent=False)
    assert [n for n, _ in net.named_buffers()] == ["kept", "scratch"] and list(net.state_dict()) == ["kept"]
    net.kept = torch.zeros(2)
    assert net.state_dict()["kept"].tolist() == [0, 0]
    net.kept = nn.Buffer(torch.ones(1), persistent=False)
    assert not net.state_dict() and not list(net.parameters())
    assert net.double().kept.dtype is torch.float64 and copy.deepcopy(net).scratch.tolist() == [1]

    class Late(nn.Module):
        def __init__(self) -> None:
            self.mean = nn.Buffer(torch.zeros(1))

    with pytest.raises(AttributeError, match="before Module.__init__"):
        Late()
