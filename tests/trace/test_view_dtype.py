"""`view(dtype)`: the bytes of a tensor read and written as numbers of another dtype, and what PyTorch refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjoint as torch

try:
    import torch as theirs
except ImportError:
    theirs = None

X = "torch.arange(8.).reshape(2, 4)"
SHOWN = [
    f"{X}.view(torch.int32)", f"{X}.view(torch.uint8)", f"{X}.view(torch.float64)", f"{X}.view(torch.complex64)", f"{X}.view(torch.float16)",
    f"{X}.T.view(torch.int32)", f"{X}[:, :2].view(torch.float64)", f"{X}[1].view(torch.int16)[3:]", f"{X}[0, 1].view(torch.int32)",
    f"{X}.view(torch.uint8)[:, 2::4].view(torch.int8)", f"({X} + 1).view(torch.float32)", "torch.tensor([1., -2.5, 3e38]).bfloat16().view(torch.int16)",
    "torch.tensor([0x3f80, -16352], dtype=torch.int16).view(torch.bfloat16)", "torch.tensor([True, False]).view(torch.uint8)",
    "torch.tensor([2, 0], dtype=torch.uint8).view(torch.bool)", "torch.tensor([1, 2]).view(dtype=torch.int32)", "torch.tensor([1 + 2j]).view(torch.float32)",
    "torch.zeros(0).view(torch.uint8)", "torch.tensor([1., 2.]).view(int)", f"{X}.view(size=(4, 2))", "torch.from_numpy(np.arange(4.)).view(torch.int32)",
]  # fmt: skip
REFUSED = [
    "torch.tensor(1.).view(torch.uint8)", f"{X}.T.view(torch.uint8)", "torch.zeros(2, 3).view(torch.float64)", "torch.zeros(2, 3)[:, :2].view(torch.float64)",
    f"{X}[:, 1:3].view(torch.float64)", f"{X}[:, ::2].view(torch.float64)",
]  # fmt: skip


def value(library: Any, text: str) -> Any:
    return eval(text, {"torch": library, "np": np})


@pytest.mark.parametrize("text", SHOWN)
def test_shows_what_pytorch_shows(text: str) -> None:
    got = value(torch, text)
    assert got._base is not None
    assert not got.requires_grad
    if theirs is not None:
        want = value(theirs, text)
        assert (str(got.dtype), tuple(got.shape), got.stride()) == (str(want.dtype), tuple(want.shape), want.stride())
        assert got.tolist() == want.tolist()


@pytest.mark.parametrize("text", REFUSED)
def test_refused_as_in_pytorch(text: str) -> None:
    with pytest.raises(RuntimeError, match="different element sizes") as caught:
        value(torch, text)
    if theirs is not None:
        with pytest.raises(RuntimeError) as expected:
            value(theirs, text)
        assert str(caught.value).startswith(str(expected.value))


@pytest.mark.parametrize("shared", [False, True])
def test_writes_go_both_ways(shared: bool) -> None:
    a = torch.from_numpy(np.zeros(4, np.float32)) if shared else torch.zeros(4)
    bits, low = a.view(torch.int32), a[:2].view(torch.uint8)
    bits[0] = 0x3F800000
    assert a.tolist() == [1, 0, 0, 0]
    assert low.tolist() == [0, 0, 128, 63, 0, 0, 0, 0]
    a[1] = -2
    assert bits.tolist() == [0x3F800000, -0x40000000, 0, 0]
    low[7] = 64
    assert a.tolist() == [1, 2, 0, 0]
    assert bits[1:].view(torch.float32).tolist() == [2, 0, 0]


def test_has_no_derivative() -> None:
    x = torch.ones(2, requires_grad=True)
    bits = (x * 2).view(torch.int32)
    assert not bits.requires_grad
    (x * bits.view(torch.float32)).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2, 2]


def test_maps_over_rows() -> None:
    x = torch.arange(4.0).reshape(2, 2)
    assert torch.vmap(lambda row: row.view(torch.int16))(x).tolist() == x.view(torch.int16).tolist()
