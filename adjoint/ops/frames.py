"""Signals cut into overlapping frames: short-time Fourier transforms, their inverse, and the windows that weigh frames.

`stft` gathers frames straight from the signal, padding included; `istft` adds them up where they lie. Read `_places`.
Windows are computed in float64 and rounded once. The module is loaded when one of its names is first used.
"""

from __future__ import annotations

import math
from typing import Any

from adjoint import dtypes
from adjoint.ops import create, spectral
from adjoint.ops import elementwise as ew
from adjoint.ops.elementwise import absolute, cast, where
from adjoint.ops.special import i0
from adjoint.trace.arguments import checked
from adjoint.trace.handle import Tensor
from adjoint.trace.recorder import local, record

TINY = 1e-11  # the least sum of squared windows that `istft` divides by, as PyTorch's


# --- short-time transforms ----------------------------------------------------------------------------------------------


def stft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
) -> Tensor:
    """Fourier transforms of overlapping frames of a signal: (L) gives (F, T), (B, L) gives (B, F, T).

    n_fft: samples in a frame. hop_length: from one frame to the next, by default n_fft // 4. window: weights of the
    win_length (by default n_fft) samples in the middle of a frame, ones by default. center: frame t is centred at sample
    t hop_length of the signal, padded by n_fft // 2 on both sides in one of the modes of `pad`. normalized: whether to
    divide by sqrt(n_fft). onesided: F is n_fft // 2 + 1 and not n_fft, by default where input and window are real.
    return_complex: must be given for a real input; False gives real and imaginary parts on a last axis.

    RuntimeError for sizes that do not fit, integers and halves.

    >>> import adjoint as torch
    >>> torch.stft(torch.ones(8), 4, window=torch.hann_window(4), return_complex=True)[:, 0].real
    tensor([ 2., -1.,  0.])
    """
    given = f"stft(input of shape {list(input._aval.shape)}, n_fft={n_fft}, hop_length={hop_length}, win_length={win_length})"
    is_complex = input._aval.dtype.is_complex or (window is not None and window._aval.dtype.is_complex)
    if return_complex is None and not is_complex:
        raise RuntimeError("stft requires the return_complex parameter be given for real inputs: use return_complex=True")
    hop = n_fft // 4 if hop_length is None else hop_length
    width = n_fft if win_length is None else win_length
    rank, dtype = len(input._aval.shape), input._aval.dtype
    if dtype.category < 2:
        raise RuntimeError(f"{given}: expected a tensor of floating point or complex values, not {dtype.name}")
    if rank not in (1, 2):
        raise RuntimeError(f"{given}: expected a 1D or 2D tensor")
    length = input._aval.shape[-1]
    side = n_fft // 2 if center else 0
    if not 0 < n_fft <= length + 2 * side:
        raise RuntimeError(f"{given}: expected 0 < n_fft <= {length + 2 * side}, but got n_fft={n_fft}")
    if hop <= 0:
        raise RuntimeError(f"{given}: expected hop_length > 0, but got hop_length={hop}")
    weights = _weights(given, n_fft, width, window)
    if onesided and is_complex:
        raise RuntimeError("Cannot have onesided output if window or input is complex: use onesided=False")
    one = not is_complex if onesided is None else onesided
    frames = _frames(given, input, n_fft, hop, side, pad_mode)
    if weights is not None:
        frames = frames * weights
    out = (spectral.rfft if one else spectral.fft)(frames, norm="ortho" if normalized else None).transpose(-1, -2)
    return out if return_complex or (return_complex is None and is_complex) else record("as_real", (out,))


def _weights(given: str, n_fft: int, width: int, window: Tensor | None) -> Tensor | None:
    """The window in the middle of n_fft zeros; None for ones everywhere."""
    if not 0 < width <= n_fft:
        raise RuntimeError(f"{given}: expected 0 < win_length <= n_fft, but got win_length={width}")
    if window is not None and tuple(window._aval.shape) != (width,):
        raise RuntimeError(f"{given}: expected a 1D window tensor of size equal to win_length={width}, but got window with size {list(window._aval.shape)}")
    if width == n_fft:
        return window
    if window is None:
        window = record("full", (1.0,), ((width,), local.trace.default_dtype))
    return record("place", (window,), ((n_fft,), ((n_fft - width) // 2,), (1,)))


def _places(count: int, n_fft: int, hop: int) -> Tensor:
    """Where in the signal the samples of each frame are: (count, n_fft)."""
    return record("reshape", (record("iota", (), count),), (count, 1)) * hop + record("iota", (), n_fft)


def _frames(given: str, x: Tensor, n_fft: int, hop: int, side: int, mode: str) -> Tensor:
    """(..., L) as (..., T, n_fft), as if padded by `side` on both ends."""
    length = x._aval.shape[-1]
    places = _places((length + 2 * side - n_fft) // hop + 1, n_fft, hop)
    if mode not in ("reflect", "constant", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}: use 'reflect', 'constant', 'replicate' or 'circular'")
    if side and mode == "constant":
        padded = (*x._aval.shape[:-1], length + 2 * side)
        x = record("place", (x,), (padded, (*(0,) * (len(padded) - 1), side), (1,) * len(padded)))
    elif side:
        if (mode == "reflect" and side >= length) or side > length:
            raise RuntimeError(f"{given}: Padding size should be less than the corresponding input dimension, but got {side} on both ends of {length}")
        places = _folded_back(places - side, length, mode)
    if len(x._aval.shape) == 1:
        return record("take", (x, places))
    return record("permute", (record("take", (record("permute", (x,), (1, 0)), places)),), (2, 0, 1))


def _folded_back(places: Tensor, length: int, mode: str) -> Tensor:
    """Places before and behind the signal as those of the samples that stand for them."""
    if mode == "circular":
        return places % length
    if mode == "replicate":
        return ew.clamp(places, 0, length - 1)
    mirrored = absolute(places)
    return where(mirrored < length, mirrored, 2 * (length - 1) - mirrored)


def istft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Tensor:
    """The signal of which `input`, (F, T) or (B, F, T), is the `stft` with these arguments: (L) or (B, L).

    Frames are weighed by the window once more, added up where they overlap, and divided by the sum of the squared windows
    there: the signal whose transform comes closest to `input` (D. W. Griffin and J. S. Lim, 1984). length: of the
    result, which is cut or filled up with zeros. The windows' sum is read, so what is pending runs.

    RuntimeError for a real input, sizes that do not fit, and windows whose sum is 0 somewhere.

    >>> import adjoint as torch
    >>> window = torch.hann_window(4)
    >>> torch.istft(torch.stft(torch.ones(6), 4, window=window, return_complex=True), 4, window=window)
    tensor([1., 1., 1., 1., 1., 1.])
    """
    shape = tuple(input._aval.shape)
    given = f"istft(input of shape {list(shape)}, n_fft={n_fft}, hop_length={hop_length}, win_length={win_length})"
    hop = n_fft // 4 if hop_length is None else hop_length
    width = n_fft if win_length is None else win_length
    if not input._aval.dtype.is_complex:
        raise RuntimeError("istft requires a complex-valued input tensor matching the output from stft with return_complex=True.")
    if len(shape) not in (2, 3):
        kind = RuntimeError if len(shape) > 3 else IndexError
        raise kind(f"{given}: expected frequencies and frames, or a batch of them: a tensor with 2 or 3 dimensions")
    if 0 in shape:
        raise RuntimeError(f"{given}: input tensor cannot be empty.")
    one = shape[-2] != n_fft if onesided is None else onesided
    if shape[-2] != (n_fft // 2 + 1 if one else n_fft):
        raise RuntimeError(f"{given}: expected {'n_fft / 2 + 1' if one else 'n_fft'} frequencies when onesided={one}, but got {shape[-2]}")
    if not 0 < hop <= width:
        raise RuntimeError(f"{given}: expected 0 < hop_length <= win_length")
    weights = _weights(given, n_fft, width, window)
    if return_complex and one:
        raise RuntimeError("Cannot have onesided output if window or input is complex: use onesided=False")
    if not return_complex and window is not None and window._aval.dtype.is_complex:
        raise RuntimeError("Complex windows are incompatible with return_complex=False")
    norm = "ortho" if normalized else None
    turned = input.transpose(-1, -2)
    if return_complex:
        frames = spectral.ifft(turned, norm=norm)
    else:
        frames = spectral.irfft(turned if one else turned[..., : n_fft // 2 + 1], n_fft, norm=norm)
    if weights is None:
        weights = record("full", (1.0,), ((n_fft,), frames._aval.dtype))
    weights = weights if weights._aval.dtype.category >= 2 else cast(weights, frames._aval.dtype.to_real())
    count = shape[-1]
    whole = n_fft + hop * (count - 1)
    first = n_fft // 2 if center else 0
    wanted = (whole - 2 * first if center else whole) if length is None else length
    last = min(first + wanted, whole)
    if last <= first:
        raise RuntimeError(f"{given}: a signal of length {wanted} has no elements")
    places = _places(count, n_fft, hop)
    signal = _added_up(frames * weights, places, whole)[..., first:last]
    total = _added_up(record("expand", (weights * weights,), (count, n_fft)), places, whole)[first:last]
    if bool((absolute(total.detach()) < TINY).any()):
        raise RuntimeError(f"{given}: window overlap add min is 0: the windows must not vanish together anywhere")
    out = signal / total
    missing = wanted - (last - first)
    return out if missing <= 0 else spectral.resized(out, len(shape) - 2, wanted)


def _added_up(frames: Tensor, places: Tensor, length: int) -> Tensor:
    """(..., T, n_fft) as (..., length), the inverse of `_frames` where these overlap nowhere."""
    if len(frames._aval.shape) == 2:
        return record("put_add", (places, frames), length)
    return record("permute", (record("put_add", (places, record("permute", (frames,), (1, 2, 0))), length),), (1, 0))


# --- windows ------------------------------------------------------------------------------------------------------------


def hann_window(window_length: int, periodic: bool = True, *, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Hann's window, `0.5 - 0.5 cos(2 pi k / N)`.

    periodic: N is the length, as for spectra (the window repeats without a seam); else the length less 1 (it is symmetric).
    RuntimeError for a negative length and a dtype that is not floating; so do all windows.

    >>> import adjoint as torch
    >>> torch.hann_window(4)
    tensor([0.0000, 0.5000, 1.0000, 0.5000])
    """
    return _window("hann_window", window_length, periodic, lambda k: _cosines(k, 0.5, 0.5), dtype, device, requires_grad)


def hamming_window(
    window_length: int, periodic: bool = True, alpha: float = 0.54, beta: float = 0.46, *, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False, pin_memory: bool = False,
) -> Tensor:  # fmt: skip
    """Hamming's window, `alpha - beta cos(2 pi k / N)`, with N as for `hann_window`.

    >>> import adjoint as torch
    >>> torch.hamming_window(4)
    tensor([0.0800, 0.5400, 1.0000, 0.5400])
    """
    return _window("hamming_window", window_length, periodic, lambda k: _cosines(k, float(alpha), float(beta)), dtype, device, requires_grad)


def blackman_window(window_length: int, periodic: bool = True, *, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Blackman's window, `0.42 - 0.5 cos(2 pi k / N) + 0.08 cos(4 pi k / N)`, with N as for `hann_window`.

    >>> import adjoint as torch
    >>> torch.blackman_window(4)[1:]
    tensor([0.3400, 1.0000, 0.3400])
    """
    return _window("blackman_window", window_length, periodic, lambda k: _cosines(k, 0.42, 0.5, 0.08), dtype, device, requires_grad)


def bartlett_window(window_length: int, periodic: bool = True, *, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """The triangular window of Bartlett, `1 - |2 k / N - 1|`, with N as for `hann_window`.

    >>> import adjoint as torch
    >>> torch.bartlett_window(4)
    tensor([0.0000, 0.5000, 1.0000, 0.5000])
    """
    return _window("bartlett_window", window_length, periodic, lambda k: 1 - absolute(2 * k - 1), dtype, device, requires_grad)


def kaiser_window(
    window_length: int, periodic: bool = True, beta: float = 12.0, *, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Kaiser's window, `i0(beta sqrt(1 - (2 k / N - 1)^2)) / i0(beta)`, with N as for `hann_window`.

    >>> import adjoint as torch
    >>> torch.kaiser_window(4, beta=2.0)
    tensor([0.4387, 0.8348, 1.0000, 0.8348])
    """
    shape = float(beta)

    def bell(k: Tensor) -> Tensor:
        inside = ew.clamp(1 - (2 * k - 1) ** 2, 0.0)
        return i0(ew.functions["sqrt"](inside) * shape) / i0(inside * 0 + shape)

    return _window("kaiser_window", window_length, periodic, bell, dtype, device, requires_grad)


def _cosines(k: Tensor, *weights: float) -> Tensor:
    """The sum of weights with alternating signs times cosines of 0, 1, 2, ... periods."""
    out: Any = weights[0]
    for n, weight in enumerate(weights[1:], 1):
        out = out + (-1) ** n * weight * ew.functions["cos"](k * (2 * math.pi * n))
    return out


def _window(name: str, length: int, periodic: bool, bell: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    """`bell` at k / N in [0, 1]."""
    chosen = create.check_real(name, dtype, device)
    if length < 0:
        raise RuntimeError(f"{name} requires non-negative window_length, got window_length={length}")
    steps = length if periodic else length - 1
    if length <= 1:
        out = record("full", (1.0,), ((length,), chosen))
    else:
        out = cast(bell(cast(record("iota", (), length), dtypes.float64) / steps), chosen)
    return create.require_leaf(out) if requires_grad else out


for _function in (stft, istft, hann_window, hamming_window, blackman_window, bartlett_window, kaiser_window):
    globals()[_function.__name__] = checked(_function)
