"""Parametrized tensors: registered, assigned, chained, cached, removed; weight norm and spectral norm."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import adjoint as torch
from adjoint import nn
from adjoint.nn.utils import parametrizations, parametrize


class Symmetric(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.triu() + x.triu(1).T

    def right_inverse(self, value: Any) -> Any:
        return value.triu()


class Exponential(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.exp()


def test_a_chain_is_registered_and_removed() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, 3)
    before = layer.weight.detach().clone()
    assert parametrize.register_parametrization(layer, "weight", Symmetric()) is layer
    assert type(layer).__name__ == "ParametrizedLinear" and isinstance(layer, nn.Linear)
    assert parametrize.is_parametrized(layer) and not parametrize.is_parametrized(layer, "bias")
    assert torch.equal(layer.weight, before.triu() + before.triu(1).T)
    parametrize.register_parametrization(layer, "weight", Exponential())
    parametrize.register_parametrization(layer, "bias", Exponential())
    symmetric = before.triu() + before.triu(1).T
    assert torch.allclose(layer.weight, symmetric.exp())
    layer(torch.ones(1, 3)).sum().backward()
    original = layer.parametrizations.weight.original
    upper = symmetric.exp() * (2 - torch.eye(3))
    assert torch.allclose(original.grad, upper.triu(), rtol=1e-5)
    assert sorted(layer.state_dict()) == ["parametrizations.bias.original", "parametrizations.weight.original"]
    twin = copy.deepcopy(layer)
    parametrize.remove_parametrizations(layer, "weight")
    parametrize.remove_parametrizations(layer, "bias", leave_parametrized=False)
    assert type(layer) is nn.Linear and list(dict(layer.named_parameters())) == ["weight", "bias"]
    assert torch.equal(layer.weight, twin.weight) and torch.allclose(layer.bias.exp(), twin.bias)
    assert parametrize.type_before_parametrizations(twin) is nn.Linear


def test_assignment_asks_the_right_inverse() -> None:
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Symmetric())
    value = torch.tensor([[1.0, 2.0], [2.0, 3.0]])
    layer.weight = value
    assert torch.equal(layer.weight, value)
    assert layer.parametrizations.weight.original.tolist() == [[1.0, 2.0], [0.0, 3.0]]
    parametrize.register_parametrization(layer, "bias", Exponential())
    with pytest.raises(RuntimeError, match="Exponential does not implement right_inverse"):
        layer.bias = torch.ones(2)


def test_buffers_training_mode_and_cache() -> None:
    calls: list[bool] = []

    class Noted(nn.Module):
        def forward(self, x: Any) -> Any:
            calls.append(self.training)
            return x * 2

    norm = nn.BatchNorm1d(2).eval()
    parametrize.register_parametrization(norm, "running_var", Noted())
    assert calls == [False] and norm.running_var.tolist() == [2.0, 2.0]
    assert "parametrizations.running_var.original" in dict(norm.named_buffers())
    calls.clear()
    with parametrize.cached():
        with parametrize.cached():
            first = norm.running_var
        assert norm.running_var is first and len(calls) == 1
    assert norm.running_var is not first and len(calls) == 2


def test_errors() -> None:
    class Wider(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.cat([x, x])

    class Halved(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.half()

    layer = nn.Linear(2, 3)
    with pytest.raises(ValueError, match="does not have a parameter, a buffer, or a parametrized element with name 'other'"):
        parametrize.register_parametrization(layer, "other", Exponential())
    for changed, what in ((Wider(), "shape"), (Halved(), "dtype")):
        with pytest.raises(ValueError, match=f"may not change the {what}"):
            parametrize.register_parametrization(layer, "weight", changed)
    assert type(layer) is nn.Linear and "weight" in layer._parameters
    parametrize.register_parametrization(layer, "weight", Wider(), unsafe=True)
    assert layer.weight.shape == (6, 2)
    with pytest.raises(ValueError, match="does not have a parametrization on bias"):
        parametrize.remove_parametrizations(layer, "bias")
    with pytest.raises(NotImplementedError, match="LSTM reads its weights at every step"):
        parametrizations.weight_norm(nn.LSTM(2, 2), "weight_hh_l0")
    normed = parametrizations.weight_norm(nn.Linear(2, 3))
    with pytest.raises(ValueError, match="sequence of tensors"):
        parametrize.remove_parametrizations(normed, "weight", leave_parametrized=False)
    with pytest.raises(IndexError, match="Dimension out of range"):
        parametrizations.weight_norm(nn.Linear(2, 3), dim=2)
    with pytest.raises(IndexError, match="Dimension out of range"):
        parametrizations.spectral_norm(nn.Linear(2, 3), dim=2)
    with pytest.raises(ValueError, match="n_power_iterations to be positive"):
        parametrizations.spectral_norm(nn.Linear(2, 3), n_power_iterations=0)
    for normed_by in (parametrizations.spectral_norm, parametrizations.orthogonal):
        with pytest.raises(ValueError, match="no parameter or buffer with name 'other'"):
            normed_by(nn.Linear(2, 3), "other")
    with pytest.raises(ValueError, match="matrix or batch of matrices"):
        parametrizations.orthogonal(nn.Linear(2, 3), "bias")
    with pytest.raises(ValueError, match="has to be one of"):
        parametrizations.orthogonal(nn.Linear(2, 3), orthogonal_map="exp")
    with pytest.raises(ValueError, match=r"of shape \(2, 2\)"):
        parametrizations.orthogonal(nn.Linear(2, 2)).weight = torch.ones(3, 3)
    with pytest.raises(NotImplementedError, match="use_trivialization=False"):
        parametrizations.orthogonal(nn.Linear(2, 2), use_trivialization=False).weight = torch.eye(2)


@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm(dim: int | None) -> None:
    """The weight stays when it is registered; gradients of length and direction are those of the formula."""
    torch.manual_seed(0)
    layer = nn.Conv1d(2, 3, 2).double()
    before = layer.weight.detach().clone()
    parametrizations.weight_norm(layer, dim=dim)
    chain = layer.parametrizations.weight
    assert torch.allclose(layer.weight, before, rtol=1e-12)
    shape = {0: (3, 1, 1), 1: (1, 2, 1), None: ()}[dim]
    assert tuple(chain.original0.shape) == shape
    with torch.no_grad():
        chain.original0.mul_(3)
    assert torch.allclose(layer.weight, 3 * before, rtol=1e-12)

    def formula(g: Any, v: Any) -> Any:
        axes = [d for d in range(3) if d != dim]
        return g * v / (v * v).sum(axes, keepdim=dim is not None).sqrt()

    x = torch.arange(8, dtype=torch.float64).reshape(1, 2, 4)
    (layer(x) ** 2).sum().backward()
    g, v = (t.detach().clone().requires_grad_() for t in (chain.original0, chain.original1))
    (nn.functional.conv1d(x, formula(g, v), layer.bias.detach()) ** 2).sum().backward()
    assert torch.allclose(chain.original0.grad, g.grad, rtol=1e-10) and torch.allclose(chain.original1.grad, v.grad, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("kind", [nn.Linear, nn.ConvTranspose1d])
def test_spectral_norm(kind: Any) -> None:
    torch.manual_seed(0)
    layer = parametrizations.spectral_norm(kind(3, 4, *([2] if kind is not nn.Linear else [])).double(), n_power_iterations=50)
    axis = 0 if kind is nn.Linear else 1
    weight = layer.weight
    assert abs(torch.linalg.matrix_norm(weight.detach().movedim(axis, 0).flatten(1), 2).item() - 1) < 1e-6
    chain = layer.parametrizations.weight
    u, v, original = chain[0]._u.clone(), chain[0]._v.clone(), chain.original
    weight.sum().backward()
    matrix = original.detach().movedim(axis, 0).flatten(1).clone().requires_grad_()
    (matrix / (u @ matrix @ v)).sum().backward()
    assert torch.allclose(original.grad.movedim(axis, 0).flatten(1), matrix.grad, rtol=1e-10)
    layer.eval()
    before = chain[0]._u.clone()
    assert torch.equal(layer.weight, layer.weight) and torch.equal(before, chain[0]._u)
    assert sorted(dict(layer.named_buffers())) == ["parametrizations.weight.0._u", "parametrizations.weight.0._v"]
    vector = parametrizations.spectral_norm(nn.LayerNorm(4))
    assert torch.allclose(vector.weight, torch.full((4,), 0.5))


def test_training_with_weight_norm_converges() -> None:
    torch.manual_seed(0)
    layer = parametrizations.weight_norm(nn.Linear(2, 1))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.2)
    x = torch.randn(32, 2)
    y = x @ torch.tensor([[1.0], [-2.0]]) + 0.5
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.mse_loss(layer(x), y).backward()
        optimizer.step()
    assert torch.allclose(layer.weight, torch.tensor([[1.0, -2.0]]), atol=1e-3)


@pytest.mark.parametrize("map_name", ["matrix_exp", "cayley", "householder"])
@pytest.mark.parametrize("shape", [(3, 3), (3, 2), (2, 3)])
def test_orthogonal(map_name: str, shape: tuple[int, int]) -> None:
    """Columns (rows) are orthonormal, also after a step; what is assigned comes back; gradients are those of differences."""
    torch.manual_seed(0)
    layer = parametrizations.orthogonal(nn.Linear(*reversed(shape)).double(), orthogonal_map=map_name)

    def is_orthonormal(w: Any) -> bool:
        product = w @ w.T if shape[0] < shape[1] else w.T @ w
        return torch.allclose(product, torch.eye(min(shape)).double(), atol=1e-10)

    assert is_orthonormal(layer.weight)
    wanted = torch.linalg.qr(torch.randn(3, 3).double())[0][: shape[0], : shape[1]]
    layer.weight = wanted
    assert torch.allclose(layer.weight, wanted, atol=1e-10)
    chain = layer.parametrizations.weight
    assert "base" in dict(chain[0].named_buffers())
    factor = torch.randn(shape).double()
    (layer.weight * factor).sum().backward()
    with torch.no_grad():
        chain.original.sub_(0.3 * chain.original.grad)
    assert is_orthonormal(layer.weight) and not torch.allclose(layer.weight, wanted, atol=1e-3)
    if shape == (3, 2):  # the signs that householder takes from the diagonal jump at -1
        start = chain.original.detach().tril(-1) - 1.5 * torch.eye(*shape).double()
        assert torch.autograd.gradcheck(lambda x: chain[0](x), (start.requires_grad_(),))


def test_orthogonal_without_a_base() -> None:
    torch.manual_seed(0)
    layer = parametrizations.orthogonal(nn.Linear(2, 4).double(), use_trivialization=False)
    wanted = torch.linalg.qr(torch.randn(4, 2).double())[0]
    layer.weight = wanted
    assert torch.allclose(layer.weight, wanted, atol=1e-12) and not list(layer.buffers())
