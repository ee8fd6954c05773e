"""In-place methods as functions of `torch`."""

from __future__ import annotations

import numpy as np
import pytest

import adjoint as torch
from adjoint.ops.in_place import FUNCTIONS

CALLS = [(f"{name}_", *example) for names, example in FUNCTIONS.items() for name in names.split()]


@pytest.mark.parametrize(("name", "tensor", "others"), CALLS, ids=[c[0] for c in CALLS])
@pytest.mark.parametrize("library", ["adjoint", "torch"])
def test_functions_change_the_tensor_and_return_it(name: str, tensor: str, others: str, library: str) -> None:
    """As the method does here; and in PyTorch, so that no other names are offered."""
    theirs = pytest.importorskip(library)
    x, y = eval(f"torch.tensor({tensor})"), eval(f"torch.tensor({tensor})", {"torch": theirs})
    assert eval(f"torch.{name}(x, {others})") is x
    expected = eval(f"y.{name}({others})" if library == "adjoint" else f"torch.{name}(y, {others})", {"torch": theirs, "y": y})
    assert str(x.dtype) == str(expected.dtype) and tuple(x.shape) == tuple(expected.shape)
    if name != "resize_as_":
        np.testing.assert_allclose(x.numpy(), expected.numpy(), rtol=1e-6, atol=1e-7)


def test_slopes_go_through() -> None:
    x = torch.tensor([0.5, 1.0], dtype=torch.float64, requires_grad=True)
    torch.exp_(torch.square_(x * 1)).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * x.detach().numpy() * np.exp(x.detach().numpy() ** 2))
    assert torch.clamp_(x.detach().clone(), max=0.7).tolist() == [0.5, 0.7]
    assert torch.neg_(input=torch.ones(1)).item() == -1


def test_wrong_calls() -> None:
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="a leaf"):
        torch.exp_(x)
    with pytest.raises(TypeError, match=r"exp_\(\): argument 'input' .position 1. must be Tensor, not float"):
        torch.exp_(1.0)
    with pytest.raises(TypeError, match="exp_"):
        torch.exp_()
    with pytest.raises(RuntimeError, match="can't be cast"):
        torch.exp_(torch.tensor([1]))
