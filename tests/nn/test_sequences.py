"""Sequences padded to one length, and back."""

from __future__ import annotations

import pytest

import adjoint as torch
from adjoint.nn.utils.rnn import pad_sequence, unpad_sequence


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_that_of_pytorch(batch_first: bool, side: str) -> None:
    theirs = pytest.importorskip("torch")
    parts = [torch.randn(n, 2) for n in (3, 1, 4)]
    out = pad_sequence(parts, batch_first, 7.0, side)
    want = theirs.nn.utils.rnn.pad_sequence([theirs.tensor(p.tolist()) for p in parts], batch_first, 7.0, side)
    assert out.tolist() == want.tolist()


def test_padding_and_back_with_gradients() -> None:
    parts = [torch.randn(n, requires_grad=True) for n in (3, 1)]
    padded = pad_sequence(parts, batch_first=True)
    back = unpad_sequence(padded, torch.tensor([3, 1]), batch_first=True)
    assert [b.tolist() for b in back] == [p.tolist() for p in parts]
    (padded * torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])).sum().backward()
    assert parts[0].grad.tolist() == [1, 2, 3] and parts[1].grad.tolist() == [4]


def test_wrong_arguments() -> None:
    with pytest.raises(RuntimeError, match="empty"):
        pad_sequence([])
    with pytest.raises(ValueError, match="sideways"):
        pad_sequence([torch.ones(2)], padding_side="sideways")
