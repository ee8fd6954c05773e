"""One operation for every tensor of a list: the same as the tensors' own methods, as PyTorch's, and in derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint import foreach

SHAPES = (3,), (2, 2), ()


def lists(library: Any, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [library.tensor(rng.uniform(0.1, 0.9, shape).astype(np.float32)) for shape in SHAPES]


def arguments(library: Any, name: str) -> list[tuple]:
    """Calls of one function."""
    plain = name.removeprefix("_foreach_").removesuffix("_")
    x, y, z = (lists(library, seed) for seed in range(3))
    if plain in foreach.BINARY:
        return [(x, 0.5), (x, [0.5, 2.0, 1.0]), (x, y)]
    if plain == "lerp":
        return [(x, y, 0.25), (x, y, z)]
    if plain in foreach.TERNARY:
        return [(x, y, z), (x, y, z, 0.5), (x, y, z, [0.5, 2.0, 1.0])]
    if plain == "copy":
        return [(x, y)]
    if plain == "mm":
        return [([t.reshape(1, -1) for t in x], [t.reshape(-1, 1) for t in y])]
    return [(x,)]


def values(made: Any) -> list[Any]:
    return [np.asarray(t.detach()) for t in made]


@pytest.mark.parametrize("name", foreach.names())
def test_every_tensor_of_a_list(name: str) -> None:
    method = name.removeprefix("_foreach_")
    for call in range(len(arguments(torch, name))):
        given, again = arguments(torch, name)[call], arguments(torch, name)[call]
        before = [values(a) for a in given if isinstance(a, list) and isinstance(a[0], torch.Tensor)]
        made = getattr(torch, name)(*given)
        assert (made is given[0]) == method.endswith("_") and (type(made) is tuple) != method.endswith("_")
        for k, x in enumerate(again[0]):
            rest = [a[k] if isinstance(a, list) else a for a in again[1:]]
            if method.rstrip("_") in ("maximum", "minimum"):
                wanted = getattr(torch, method.rstrip("_"))(x, torch.as_tensor(rest[0]))
            elif method == "norm":
                wanted = torch.linalg.vector_norm(x)
            elif len(rest) == 3:
                wanted = getattr(x, method)(*rest[:2], value=rest[2])
            else:
                wanted = getattr(x, method)(*rest)
            np.testing.assert_array_equal(values([made[k]])[0], values([wanted])[0])
        for k, was in enumerate(before[method.endswith("_") :]):
            for found, old in zip(values(given[k + method.endswith("_")]), was, strict=True):
                np.testing.assert_array_equal(found, old)


@pytest.mark.parametrize("name", foreach.names())
def test_as_in_pytorch(name: str) -> None:
    other = pytest.importorskip("torch")
    if not hasattr(other, name):
        pytest.skip("this PyTorch does not have it")
    for mine, theirs in zip(arguments(torch, name), arguments(other, name), strict=True):
        found, wanted = getattr(torch, name)(*mine), getattr(other, name)(*theirs)
        for a, b in zip(values(found), values(wanted if wanted is not None else theirs[0]), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_further_arguments() -> None:
    x, y = lists(torch), lists(torch, 1)
    for found, a, b in zip(torch._foreach_add(x, y, alpha=2), x, y, strict=True):
        np.testing.assert_allclose(found.numpy(), a.numpy() + 2 * b.numpy(), rtol=1e-6)
    for found, a in zip(torch._foreach_pow(2.0, x), x, strict=True):
        np.testing.assert_allclose(found.numpy(), 2 ** a.numpy(), rtol=1e-6)
    for found, a in zip(torch._foreach_norm(x, 1), x, strict=True):
        np.testing.assert_allclose(found.numpy(), np.abs(a.numpy()).sum(), rtol=1e-6)
    for found, a in zip(torch._foreach_mul(x, torch.tensor(3.0)), x, strict=True):
        np.testing.assert_allclose(found.numpy(), a.numpy() * 3, rtol=1e-6)
    made = torch._foreach_addcmul(x, y, y, torch.tensor([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(made[1].numpy(), x[1].numpy() + 2 * y[1].numpy() ** 2, rtol=1e-6)


def test_derivatives_and_an_optimizer_of_ones_own() -> None:
    w = [t.requires_grad_() for t in lists(torch)]
    sum(t.sum() for t in torch._foreach_mul(torch._foreach_exp(w), 2.0)).backward()
    for t in w:
        assert t.grad is not None
        np.testing.assert_allclose(t.grad.numpy(), 2 * np.exp(t.detach().numpy()), rtol=1e-5)
    momentum, before = [torch.zeros_like(t) for t in w], [t.detach().clone() for t in w]
    with torch.no_grad():
        for _ in range(3):
            grads = [t.grad for t in w]
            torch._foreach_lerp_(momentum, grads, 0.1)
            torch._foreach_add_(w, torch._foreach_sign(momentum), alpha=-0.01)
    for t, old in zip(w, before, strict=True):
        np.testing.assert_allclose(t.detach().numpy(), old.numpy() - 0.03, rtol=1e-5)


@pytest.mark.parametrize("library", ["adjoint", "torch"])
def test_wrong_lists(library: str) -> None:
    t = pytest.importorskip(library)
    x = lists(t)
    for kind, call, said in (
        (RuntimeError, lambda: t._foreach_sqrt([]), "at least one tensor"),
        (RuntimeError, lambda: t._foreach_add(x, x[:2]), "same number of tensors, got 3 and 2"),
        (RuntimeError, lambda: t._foreach_add(x, [1.0]), "same number of elements as scalar list"),
        (TypeError, lambda: t._foreach_sqrt(x[0]), "must be tuple of Tensors|must be a tuple of Tensors"),
        (TypeError, lambda: t._foreach_sqrt([1.0]), ""),
        (AttributeError, lambda: t._foreach_conquer(x), "_foreach_conquer"),
    ):
        with pytest.raises(kind, match=said):
            call()
    assert values(t._foreach_neg(x))[0].shape == (3,)
