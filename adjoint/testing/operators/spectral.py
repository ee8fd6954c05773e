"""Records of Fourier transforms; complex operands and results are taken apart as in `complex_numbers`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from adjoint.testing.operators.complex_numbers import _parts_of, _real_result
from adjoint.testing.operators.record import Draw, OpRecord, Sample, fails, sample

LINE: tuple[dict[str, Any], ...] = ({}, {"n": 2}, {"n": 5, "norm": "ortho"}, {"dim": 0, "norm": "forward"})
PLANE: tuple[dict[str, Any], ...] = ({}, {"s": (1, 4), "norm": "ortho"}, {"s": (-1, 3), "dim": (1, 0), "norm": "forward"})


def _line(operands: int) -> Callable[[Draw], Iterator[Sample]]:
    return lambda draw: (sample(*[draw(2, 3) for _ in range(operands)], **options) for options in LINE)


def _plane(operands: int) -> Callable[[Draw], Iterator[Sample]]:
    return lambda draw: (sample(*[draw(2, 3) for _ in range(operands)], **options) for options in PLANE)


def _of_complex(name: str, samples: Any, reference: Callable | None, **more: Any) -> OpRecord:
    def call(torch: Any, a: Any, b: Any, **options: Any) -> Any:
        return _real_result(torch, getattr(torch.fft, name)(torch.complex(a, b), **options))

    numpy = None if reference is None else lambda a, b, **options: _parts_of(reference(a + 1j * b, **_numpys(options)))
    return OpRecord(f"fft.{name}", samples(2), numpy, call, rtol=(1e-5, 1e-13), any_layout=False, halves=False, **more)


def _of_real(name: str, samples: Any, reference: Callable | None, **more: Any) -> OpRecord:
    def call(torch: Any, a: Any, **options: Any) -> Any:
        return _real_result(torch, getattr(torch.fft, name)(a, **options))

    numpy = None if reference is None else lambda a, **options: _parts_of(reference(a, **_numpys(options)))
    return OpRecord(f"fft.{name}", samples(1), numpy, call, rtol=(1e-5, 1e-13), halves=False, **more)


def _numpys(options: dict[str, Any]) -> dict[str, Any]:
    """NumPy's names: an axis of length 2 is the -1 that stays (of `PLANE`, where that axis is 1)."""
    out = {{"dim": "axes" if isinstance(v, tuple) else "axis"}.get(k, k): v for k, v in options.items()}
    if "s" in out:
        out["s"] = tuple(3 if n == -1 else n for n in out["s"])
        out.setdefault("axes", (-2, -1))
    return out


def _frames(a: Any, w: Any, hop: int, pad: bool = True, norm: Any = None) -> Any:
    """Frames of the length of the window, by slicing; the signal is mirrored at its ends unless not `pad`."""
    n = len(w)
    x = np.pad(a, n // 2, mode="reflect") if pad else a
    return np.fft.rfft(np.stack([x[t : t + n] * w for t in range(0, len(x) - n + 1, hop)], -1), axis=0, norm=norm)


def _stft(torch: Any, a: Any, w: Any, hop: int, center: bool = True, normalized: bool = False) -> Any:
    return torch.view_as_real(torch.stft(a, len(w), hop, window=w, center=center, normalized=normalized, return_complex=True))


def _istft(torch: Any, a: Any, b: Any, w: Any, hop: int) -> Any:
    return torch.istft(torch.complex(a, b), len(w), hop, window=w)


def _istft_reference(a: Any, b: Any, w: Any, hop: int) -> Any:
    n, frames = len(w), (a + 1j * b).T
    out, total = np.zeros((2, n + hop * (len(frames) - 1)))
    for t, frame in enumerate(frames):
        out[t * hop : t * hop + n] += np.fft.irfft(frame, n) * w
        total[t * hop : t * hop + n] += w * w
    return (out / total)[n // 2 : -(n // 2)]


def _made(name: str, reference: Any) -> OpRecord:
    return OpRecord(name, lambda draw: (sample(n, p) for n in (1, 4, 5) for p in (True, False)), lambda n, p: (reference(n + 1)[:-1] if p and n > 1 else reference(n)).astype("float32"),
                    dtypes=("float32",), differentiable=False, rtol=(1e-5, 1e-5), errors=(fails(RuntimeError, "non-negative", -1), fails(RuntimeError, "floating", 3, dtype=int)))  # fmt: skip


NORM = fails(RuntimeError, "Invalid normalization mode", np.ones(2), np.ones(2), norm="none")
POINTS = fails(RuntimeError, "number of data points", np.ones(2), np.ones(2), n=0)
SCALAR = fails(IndexError, "no dimensions", np.ones(()), np.ones(()))
TWICE = fails(RuntimeError, "unique", np.ones((2, 2)), np.ones((2, 2)), dim=(0, -2))
LENGTHS = fails(RuntimeError, "same length", np.ones((2, 2)), np.ones((2, 2)), s=(2,), dim=(0, 1))
MANY = fails(RuntimeError, "only has 1 dimensions", np.ones(2), np.ones(2), s=(2, 2))
NONE = fails(RuntimeError, "at least one axis", np.ones(2), dim=())
HALF = fails(RuntimeError, "Unsupported dtype Half", np.ones(2, "float16"))

RECORDS = (
    _of_complex("fft", _line, np.fft.fft, errors=(NORM, POINTS, SCALAR)),
    _of_complex("ifft", _line, np.fft.ifft, errors=(NORM,)),
    _of_real("rfft", _line, np.fft.rfft, errors=(HALF,)),
    _of_complex("irfft", _line, np.fft.irfft, errors=(fails(RuntimeError, "number of data points", np.ones(1), np.ones(1)),)),
    _of_complex("hfft", _line, np.fft.hfft),
    _of_real("ihfft", _line, np.fft.ihfft),
    _of_complex("fft2", _plane, np.fft.fft2),
    _of_complex("ifft2", _plane, np.fft.ifft2),
    _of_real("rfft2", _plane, np.fft.rfft2),
    _of_complex("irfft2", _plane, np.fft.irfft2),
    _of_complex("hfft2", _plane, None),
    _of_real("ihfft2", _plane, None),
    _of_complex("fftn", _plane, np.fft.fftn, errors=(TWICE, LENGTHS, MANY)),
    _of_complex("ifftn", _plane, np.fft.ifftn),
    _of_real("rfftn", _plane, np.fft.rfftn, errors=(NONE,)),
    _of_complex("irfftn", _plane, np.fft.irfftn),
    _of_complex("hfftn", _plane, None),
    _of_real("ihfftn", _plane, None, errors=(NONE,)),
    OpRecord("fft.of_real", lambda draw: (sample(draw(3)),), lambda a: _parts_of(np.fft.fft(a)), lambda torch, a: _real_result(torch, torch.fft.fft(a)), rtol=(1e-5, 1e-13), halves=False),
    OpRecord("stft", lambda draw: (sample(draw(5), draw(4), 2), sample(draw(6), draw(4), 1, False, True)),
             lambda a, w, hop, center=True, normalized=False: _parts_of(_frames(a, w, hop, center, "ortho" if normalized else None)), _stft, rtol=(1e-5, 1e-13), halves=False),
    OpRecord("istft", lambda draw: (sample(draw(2, 2), draw(2, 2), draw(2), 1), sample(draw(3, 2), draw(3, 2), draw(4), 2)), _istft_reference, _istft, domain=(0.5, 2.0), rtol=(1e-5, 1e-12), halves=False),
    _made("hann_window", np.hanning),
    _made("hamming_window", np.hamming),
    _made("blackman_window", np.blackman),
    _made("bartlett_window", np.bartlett),
    _made("kaiser_window", lambda n: np.kaiser(n, 12.0)),
    OpRecord("fft.fftshift", lambda draw: (sample(draw(5)), sample(draw(2, 3)), sample(draw(2, 3), dim=1)), lambda a, dim=None: np.fft.fftshift(a, dim), exact=True,
             errors=(fails(RuntimeError, "`shifts` required", np.ones(())),)),
    OpRecord("fft.ifftshift", lambda draw: (sample(draw(5)), sample(draw(2, 3)), sample(draw(2, 3), dim=(0, 1))), lambda a, dim=None: np.fft.ifftshift(a, dim), exact=True),
    OpRecord("fft.fftfreq", lambda draw: (sample(5), sample(4, 0.5), sample(1)), lambda n, d=1.0: np.fft.fftfreq(n, d).astype("float32"), dtypes=("float32",), differentiable=False,
             errors=(fails(RuntimeError, "negative dimension", -1),)),
    OpRecord("fft.rfftfreq", lambda draw: (sample(5), sample(4, 0.5), sample(1)), lambda n, d=1.0: np.fft.rfftfreq(n, d).astype("float32"), dtypes=("float32",), differentiable=False),
)  # fmt: skip
