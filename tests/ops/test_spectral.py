"""Fourier transforms and frames where the records do not look: empty batches, dtypes, round trips, PyTorch's options."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjoint as torch


def test_a_batch_without_elements_has_an_empty_transform() -> None:
    x = torch.ones(0, 3, requires_grad=True)
    y = torch.fft.rfft(x)
    assert y.shape == (0, 2) and y.dtype is torch.complex64
    y.real.sum().backward()
    assert x.grad.shape == (0, 3)


def test_precision_is_kept_and_integers_take_the_default() -> None:
    for given, result in ((torch.float32, torch.complex64), (torch.float64, torch.complex128), (torch.int64, torch.complex64), (torch.bool, torch.complex64)):
        assert torch.fft.fft(torch.ones(4).to(given)).dtype is result
        assert torch.fft.rfft(torch.ones(4).to(given)).dtype is result
        assert torch.fft.irfft(torch.ones(4).to(given)).dtype is result.to_real()


def test_odd_lengths_return_when_they_are_given() -> None:
    x = torch.randn(3, 5, dtype=torch.float64)
    assert torch.allclose(torch.fft.irfft(torch.fft.rfft(x), 5), x)
    assert torch.allclose(torch.fft.irfftn(torch.fft.rfftn(x), x.shape), x)
    assert torch.allclose(torch.fft.hfftn(torch.fft.ihfftn(x), x.shape), x)


def test_signals_return_from_their_frames() -> None:
    x, window = torch.randn(2, 30, dtype=torch.float64), torch.hann_window(8, dtype=torch.float64)
    z = torch.stft(x, 8, window=window, return_complex=True)
    assert z.shape == (2, 5, 16)
    assert torch.allclose(torch.istft(z, 8, window=window), x)
    with pytest.raises(RuntimeError, match="overlap add"):
        torch.istft(z, 8, window=window, center=False)


CALLS = [
    ({}, {}),
    ({"hop_length": 3, "normalized": True}, {"hop_length": 3, "normalized": True, "length": 25}),
    ({"center": False, "onesided": False}, {"center": False, "onesided": False}),
    ({"pad_mode": "replicate"}, {"length": 15}),
    ({"pad_mode": "circular"}, {}),
    ({"pad_mode": "constant", "win_length": 6}, {"win_length": 6}),
]


@pytest.mark.parametrize("forward, back", CALLS)
@pytest.mark.filterwarnings("ignore:The length of signal")
def test_frames_are_those_of_pytorch(forward: dict[str, Any], back: dict[str, Any]) -> None:
    theirs = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    signal, weights = rng.normal(size=(2, 20)), rng.uniform(0.5, 1, forward.get("win_length", 8))
    found = []
    for library in (torch, theirs):
        x, w = (library.tensor(a, requires_grad=True) for a in (signal, weights))
        z = library.stft(x, 8, window=w, return_complex=True, **forward)
        y = library.istft(z, 8, window=w, **back)
        gradients = library.autograd.grad((z * z * (1 + 2j)).real.sum() + (y**3).sum(), [x, w])
        found.append([t.detach().numpy() for t in (z, y, *gradients)])
    for ours, other in zip(*found, strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-10, atol=1e-10)


def test_complex_signals_have_all_frequencies() -> None:
    x = torch.complex(torch.arange(12.0), torch.ones(12))
    window = torch.hann_window(4)
    z = torch.stft(x, 4, window=window)
    assert z.shape == (4, 13) and z.dtype is torch.complex64
    back = torch.istft(z, 4, window=window, return_complex=True)
    assert abs(back - x).max().item() < 1e-5
