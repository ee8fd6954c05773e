"""`numpy()` shares memory: nothing is copied unless something pending still counts on the value."""

from __future__ import annotations

import numpy as np

import adjoint as torch
from adjoint.runtime.memory import Buffer


def test_handing_out_a_result_copies_nothing(monkeypatch) -> None:
    x = torch.ones(1000, requires_grad=True)
    (x * 3).sum().backward()
    fresh = torch.arange(1000.0) + 1
    assert x.grad.sum().item() == 3000 and fresh[0].item() == 1
    copies = []
    copy = Buffer.from_array
    monkeypatch.setattr(Buffer, "from_array", staticmethod(lambda a: copies.append(a.nbytes) or copy(a)))
    arrays = x.grad.numpy(), fresh.numpy()
    assert not copies
    assert all(np.shares_memory(a, t.numpy()) for a, t in zip(arrays, (x.grad, fresh), strict=True))


def test_a_value_that_a_derivative_needs_is_copied_first() -> None:
    w = torch.ones(3, requires_grad=True)
    h = torch.arange(3.0) + 1
    loss = (w * h).sum()
    loss.item()
    h.numpy()[:] = 100.0
    loss.backward()
    assert w.grad.tolist() == [1.0, 2.0, 3.0]
