"""Results with names: what they print is PyTorch's text, and tools for trees of tensors keep their classes."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import adjoint as torch

CALLS = {
    "max": lambda t, x: x.max(0),
    "min": lambda t, x: x.min(-1),
    "median": lambda t, x: x.median(0),
    "nanmedian": lambda t, x: x.nanmedian(0),
    "mode": lambda t, x: x.mode(0),
    "sort": lambda t, x: x.sort(),
    "topk": lambda t, x: x.topk(1),
    "kthvalue": lambda t, x: x.kthvalue(2),
    "cummax": lambda t, x: x.cummax(0),
    "cummin": lambda t, x: t.cummin(x, 0),
    "aminmax": lambda t, x: x.aminmax(),
    "frexp": lambda t, x: t.frexp(x),
    "histogram": lambda t, x: t.histogram(x, 2),
    "histogramdd": lambda t, x: t.histogramdd(x, [2, 2]),
    "slogdet": lambda t, x: t.slogdet(x),
    "lu_unpack": lambda t, x: t.lu_unpack(*t.linalg.lu_factor(x)),
    "linalg_cholesky_ex": lambda t, x: t.linalg.cholesky_ex(x @ x.T),
    "linalg_eig": lambda t, x: t.linalg.eig(t.diag(t.tensor([3.0, 5.0]))),
    "linalg_eigh": lambda t, x: t.linalg.eigh(t.diag(t.tensor([3.0, 5.0]))),
    "linalg_inv_ex": lambda t, x: t.linalg.inv_ex(x),
    "linalg_lu": lambda t, x: t.linalg.lu(x),
    "linalg_lu_factor": lambda t, x: t.linalg.lu_factor(x),
    "linalg_lu_factor_ex": lambda t, x: t.linalg.lu_factor_ex(x),
    "linalg_solve_ex": lambda t, x: t.linalg.solve_ex(x, x),
    "linalg_slogdet": lambda t, x: t.linalg.slogdet(x),
}


def matrix(library: Any) -> Any:
    return library.tensor([[4.0, 1.0], [2.0, 5.0]])


@pytest.mark.parametrize("name", CALLS)
def test_prints_as_in_pytorch(name: str) -> None:
    theirs = pytest.importorskip("torch")
    got = CALLS[name](torch, matrix(torch))
    assert type(got) is getattr(torch.return_types, name)
    assert repr(got) == str(got) == repr(CALLS[name](theirs, matrix(theirs)))


def test_every_class_has_the_fields_of_pytorch() -> None:
    theirs = pytest.importorskip("torch").return_types
    for kind in torch.return_types.all_return_types:
        other = getattr(theirs, kind.__name__)
        assert kind.__match_args__ == other.__match_args__
        assert (kind.n_fields, kind.n_unnamed_fields) == (other.n_fields, other.n_unnamed_fields)


def test_is_a_tuple() -> None:
    values, indices = out = matrix(torch).max(0)
    assert out.values is values is out[0]
    assert out.indices is indices is out[-1]
    assert type(out[:1]) is tuple
    match out:
        case torch.return_types.max(first, second):
            assert first is values
            assert second is indices
    with pytest.raises(AttributeError):
        out.values = values  # type: ignore[misc]
    with pytest.raises(TypeError, match="takes a 2-sequence \\(1-sequence given\\)"):
        torch.return_types.max((values,))
    with pytest.raises(AttributeError, match="topk"):
        torch.return_types.topkk  # noqa: B018


def test_copies_keep_the_class() -> None:
    out = matrix(torch).sort()
    for other in (copy.copy(out), copy.deepcopy(out), pickle.loads(pickle.dumps(out))):
        assert type(other) is torch.return_types.sort
        assert other.indices.tolist() == [[1, 0], [0, 1]]


def test_trees_keep_the_class() -> None:
    x = matrix(torch)
    mapped = torch.vmap(lambda row: row.max(0))(x)
    assert type(mapped) is torch.return_types.max
    assert mapped.indices.tolist() == [0, 1]
    compiled = torch.compile(lambda x: (x * 2).max(0))
    for _ in range(3):
        assert type(compiled(x)) is torch.return_types.max


def test_hooks_keep_the_class() -> None:
    class Largest(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x.max(0)

    layer = Largest()
    layer.register_full_backward_hook(lambda module, inner, outer: None)
    out = layer(matrix(torch).requires_grad_())
    assert type(out) is torch.return_types.max
