"""Records of convolutions. More of them, with layers around, are in tests/nn; kernels by themselves in tests/codegen."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from adjoint.testing.operators.record import Draw, OpRecord, fails, sample


def windows(x: Any, w: Any, bias: Any = None, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1) -> np.ndarray:
    """The definition, tap by tap."""
    axes = w.ndim - 2
    padded: Any = np.pad(x, [(0, 0), (0, 0), *[(padding, padding)] * axes])
    n = [(size - dilation * (k - 1) - 1) // stride + 1 for size, k in zip(padded.shape[2:], w.shape[2:], strict=True)]
    x = padded.reshape(len(x), groups, x.shape[1] // groups, *padded.shape[2:])
    w = w.reshape(groups, -1, *w.shape[1:])
    out: Any = 0
    for taps in itertools.product(*map(range, w.shape[3:])):
        part = tuple(slice(k * dilation, k * dilation + (m - 1) * stride + 1, stride) for k, m in zip(taps, n, strict=True))
        out = out + np.einsum("ngc...,goc->ngo...", x[(..., *part)], w[(..., *taps)])
    out = out.reshape(len(x), w.shape[0] * w.shape[1], *n)
    return out if bias is None else out + bias.reshape(-1, *(1,) * axes)


def transposed(x: Any, w: Any, bias: Any = None, stride: int = 1, padding: int = 0) -> np.ndarray:
    """Each element of x adds a copy of the kernel; what padding covers is cut off."""
    full = [(n - 1) * stride + k for n, k in zip(x.shape[2:], w.shape[2:], strict=True)]
    out: Any = np.zeros((len(x), w.shape[1], *full), x.dtype)
    for at in itertools.product(*map(range, x.shape[2:])):
        part = tuple(slice(i * stride, i * stride + k) for i, k in zip(at, w.shape[2:], strict=True))
        out[(..., *part)] += np.einsum("nc,co...->no...", x[(..., *at)], w)
    out = out[(..., *(slice(padding, n - padding) for n in full))]
    return out if bias is None else out + bias.reshape(-1, *(1,) * (x.ndim - 2))


def _lines(draw: Draw) -> Any:
    yield sample(draw(1, 2, 3), draw(1, 2, 2), draw(1))
    yield sample(draw(1, 1, 5), draw(1, 1, 2), stride=2, padding=1)
    yield sample(draw(1, 1, 5), draw(2, 1, 2), draw(2), dilation=3)
    yield sample(draw(2, 7, 67), draw(18, 7, 3), draw(18), padding=1)


def _planes(draw: Draw) -> Any:
    yield sample(draw(1, 1, 2, 3), draw(1, 1, 2, 2), draw(1))
    yield sample(draw(1, 2, 1, 2), draw(2, 2, 1, 1))
    yield sample(draw(1, 2, 2, 2), draw(2, 1, 1, 2), groups=2, padding=1)
    yield sample(draw(0, 1, 3, 3), draw(2, 1, 2, 2), draw(2))
    yield sample(draw(3, 5, 9, 17), draw(19, 5, 3, 3), draw(19), padding=1)
    yield sample(draw(2, 8, 12, 11), draw(6, 4, 3, 2), groups=2, stride=2)


def _volumes(draw: Draw) -> Any:
    yield sample(draw(1, 1, 2, 2, 2), draw(1, 1, 2, 1, 2))
    yield sample(draw(2, 3, 5, 6, 7), draw(17, 3, 2, 3, 2), draw(17), padding=1, stride=2)


def _spread(draw: Draw) -> Any:
    yield sample(draw(1, 1, 2, 2), draw(1, 1, 2, 2), draw(1), stride=2)
    yield sample(draw(1, 1, 1, 2), draw(1, 1, 3, 2), padding=1)
    yield sample(draw(2, 6, 7, 9), draw(6, 17, 3, 4), draw(17), stride=3, padding=1)


def _functional(name: str) -> Any:
    return lambda torch, *args, **options: getattr(torch.nn.functional, name)(*args, **options)


CHANNELS = fails(RuntimeError, "channels", np.ones((1, 2, 4, 4)), np.ones((1, 1, 2, 2)))
BIAS = fails(RuntimeError, "bias", np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 2)), np.ones(3))
TYPES = fails(RuntimeError, "same", np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 2), "float32"))

RECORDS = (
    OpRecord("conv1d", _lines, windows, _functional("conv1d"), rtol=(1e-5, 1e-13)),
    OpRecord("conv2d", _planes, windows, _functional("conv2d"), rtol=(1e-5, 1e-13), errors=(CHANNELS, BIAS, TYPES), covers=("convolve",)),
    OpRecord("conv3d", _volumes, windows, _functional("conv3d"), rtol=(1e-5, 1e-13)),
    OpRecord("conv_transpose2d", _spread, transposed, _functional("conv_transpose2d"), rtol=(1e-5, 1e-13)),
)  # fmt: skip
