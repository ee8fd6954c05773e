"""Discrete Fourier transforms, computed by NumPy's: the functions of `torch.fft`.

Three primitives do the work: `fft` of complex numbers, `rfft` of real numbers and its inverse `irfft`. Each divides by a
power of the number of elements, which is what `norm` chooses; everything else is cutting, padding with zeros and
conjugation. Read `_complex`, `_from_real` and `_to_real`; the functions of several axes show the order of the steps.

The derivative of a transform is a transform in the other direction with the same divisor. Gradients of complex numbers
are those of `complex_numbers`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from adjoint import dtypes
from adjoint.ops import create
from adjoint.ops.complex_numbers import conj
from adjoint.ops.elementwise import cast, to_default_float, where
from adjoint.ops.rearrange import roll
from adjoint.ops.shape import axis_of
from adjoint.trace.handle import Tensor
from adjoint.trace.recorder import record

FORWARD = {None: 0.0, "backward": 0.0, "ortho": 0.5, "forward": 1.0}  # norm: the power of N that divides the result
INVERSE = {None: 1.0, "backward": 1.0, "ortho": 0.5, "forward": 0.0}


# --- steps --------------------------------------------------------------------------------------------------------------


def _power(norm: str | None, inverse: bool) -> float:
    if norm not in FORWARD:
        raise RuntimeError(f'Invalid normalization mode: "{norm}"; use "forward", "backward" or "ortho"')
    return (INVERSE if inverse else FORWARD)[norm]


def _floating(x: Tensor) -> Tensor:
    """Integers in the default dtype; RuntimeError for halves."""
    x = to_default_float(x)
    if x._aval.dtype.is_half:
        raise RuntimeError(f"Unsupported dtype {dtypes.LEGACY[x._aval.dtype]}: transforms take float32 or float64; convert with .float() first")
    return x


def _complex_of(x: Tensor) -> Tensor:
    return x if x._aval.dtype.is_complex else cast(x, x._aval.dtype.to_complex())


def _real_of(name: str, x: Tensor, kind: str = "real") -> Tensor:
    if x._aval.dtype.is_complex:
        raise RuntimeError(f"{name} expects a {kind} input tensor, but got {dtypes.LEGACY[x._aval.dtype]}; use fft, or take .real")
    return x


def _axis(x: Tensor, dim: int) -> int:
    if not x._aval.shape:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions: a transform needs an axis")
    return axis_of(dim, len(x._aval.shape))


def _length(n: int | None, default: int) -> int:
    n = default if n is None else operator.index(n)
    if n < 1:
        raise RuntimeError(f"Invalid number of data points ({n}) specified: a transform needs at least one")
    return n


def resized(x: Tensor, axis: int, n: int) -> Tensor:
    """An axis cut to n elements, or filled up with zeros."""
    shape = tuple(x._aval.shape)
    if n == shape[axis]:
        return x
    rank = len(shape)
    new = (*shape[:axis], n, *shape[axis + 1 :])
    if n < shape[axis]:
        return record("slice", (x,), ((0,) * rank, new, (1,) * rank))
    return record("place", (x,), (new, (0,) * rank, (1,) * rank))


def _padded(x: Tensor, axes: list[int], sizes: list[int]) -> Tensor:
    for axis, n in zip(axes, sizes, strict=True):
        x = resized(x, axis, n)
    return x


def _plan(name: str, x: Tensor, s: Any, dim: Any, half: bool = False) -> tuple[list[int], list[int]]:
    """The axes of a transform, in the order given, and their lengths.

    half: whether the last axis of the operand has the first n // 2 + 1 of n elements.
    """
    shape = x._aval.shape
    rank = len(shape)
    sizes, dims = (None if v is None else list(v) if isinstance(v, (list, tuple)) else [v] for v in (s, dim))
    if dims is None:
        if sizes is not None and len(sizes) > rank:
            raise RuntimeError(f"Got shape with {len(sizes)} values but input tensor only has {rank} dimensions.")
        axes = list(range(0 if sizes is None else rank - len(sizes), rank))
    else:
        axes = [axis_of(d, rank) for d in dims]
        if len(set(axes)) != len(axes):
            raise RuntimeError(f"FFT dims must be unique, but {name} was given dim={dims}")
        if sizes is not None and len(sizes) != len(axes):
            raise RuntimeError(f"When given, dim and shape arguments must have the same length: {name} was given s={sizes} and dim={dims}")
    given = [-1] * len(axes) if sizes is None else [operator.index(n) for n in sizes]
    natural = [shape[a] for a in axes]
    if half and natural:
        natural[-1] = 2 * (natural[-1] - 1)
    return axes, [_length(None if n == -1 else n, m) for n, m in zip(given, natural, strict=True)]


def _some(name: str, axes: list[int]) -> None:
    if not axes:
        raise RuntimeError(f"{name} must transform at least one axis")


def _complex(x: Tensor, axes: list[int], sizes: list[int], inverse: bool, power: float) -> Tensor:
    """The transform of complex numbers along some axes of these lengths."""
    x = _padded(_complex_of(x), axes, sizes)
    return record("fft", (x,), (tuple(sorted(axes)), inverse, power)) if axes else x


def _from_real(x: Tensor, axis: int, n: int, power: float) -> Tensor:
    """The frequencies 0 to n // 2 of n real numbers."""
    return record("rfft", (resized(x, axis, n),), (axis, power))


def _to_real(x: Tensor, axis: int, n: int, power: float) -> Tensor:
    """The n real numbers of these frequencies."""
    return record("irfft", (resized(_complex_of(x), axis, n // 2 + 1),), (axis, n, power))


# --- one axis -----------------------------------------------------------------------------------------------------------


def fft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The discrete Fourier transform along an axis: y[k] = sum over j of x[j] exp(-2 pi i j k / n).

    n: the length, to which the axis is cut or filled up with zeros.  norm: "backward" (None) divides by 1, "ortho" by
    sqrt(n), "forward" by n. Real numbers give complex ones of the same precision, integers those of the default dtype.
    RuntimeError for halves, a length below 1 and any other norm.

    >>> import adjoint as torch
    >>> torch.fft.fft(torch.tensor([1., 2., 3., 4.]))
    tensor([10.+0.j, -2.+2.j, -2.+0.j, -2.-2.j])
    """
    x, power = _floating(input), _power(norm, False)
    axis = _axis(x, dim)
    return _complex(x, [axis], [_length(n, x._aval.shape[axis])], False, power)


def ifft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The inverse of `fft`: x[j] = 1/n times the sum over k of y[k] exp(2 pi i j k / n).

    norm: "backward" (None) divides by n, "ortho" by sqrt(n), "forward" by 1. Otherwise as `fft`.

    >>> import adjoint as torch
    >>> torch.fft.ifft(torch.tensor([10, -2 + 2j, -2, -2 - 2j]))
    tensor([1.+0.j, 2.+0.j, 3.+0.j, 4.+0.j])
    """
    x, power = _floating(input), _power(norm, True)
    axis = _axis(x, dim)
    return _complex(x, [axis], [_length(n, x._aval.shape[axis])], True, power)


def rfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The first n // 2 + 1 elements of `fft` of real numbers; the others are their conjugates. RuntimeError for complex ones.

    >>> import adjoint as torch
    >>> torch.fft.rfft(torch.tensor([1., 2., 3., 4.]))
    tensor([10.+0.j, -2.+2.j, -2.+0.j])
    """
    x, power = _floating(_real_of("rfft", input)), _power(norm, False)
    axis = _axis(x, dim)
    return _from_real(x, axis, _length(n, x._aval.shape[axis]), power)


def irfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The inverse of `rfft`: n real numbers from the first n // 2 + 1 frequencies.

    n: by default 2 (m - 1) for m frequencies, so an odd length must be given. Imaginary parts that real numbers cannot
    have, of frequency 0 and for an even n of n / 2, are not looked at.

    >>> import adjoint as torch
    >>> torch.fft.irfft(torch.tensor([10, -2 + 2j, -2]))
    tensor([1., 2., 3., 4.])
    """
    x, power = _floating(input), _power(norm, True)
    axis = _axis(x, dim)
    return _to_real(x, axis, _length(n, 2 * (x._aval.shape[axis] - 1)), power)


def hfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """`fft` of a signal whose second half mirrors the first, conjugated: given n // 2 + 1 elements, n real frequencies.

    >>> import adjoint as torch
    >>> torch.fft.hfft(torch.tensor([1., 2., 3.]))
    tensor([ 8., -2.,  0., -2.])
    """
    x, power = _floating(input), _power(norm, False)
    axis = _axis(x, dim)
    return _to_real(conj(x), axis, _length(n, 2 * (x._aval.shape[axis] - 1)), power)


def ihfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The inverse of `hfft`: the first n // 2 + 1 elements of `ifft` of real numbers. RuntimeError for complex ones.

    >>> import adjoint as torch
    >>> torch.fft.ihfft(torch.tensor([8., -2., 0., -2.]))
    tensor([1.-0.j, 2.-0.j, 3.-0.j])
    """
    x, power = _floating(_real_of("ihfft", input)), _power(norm, True)
    axis = _axis(x, dim)
    return conj(_from_real(x, axis, _length(n, x._aval.shape[axis]), power))


# --- several axes -------------------------------------------------------------------------------------------------------


def fftn(input: Tensor, s: int | Sequence[int] | None = None, dim: int | Sequence[int] | None = None, norm: str | None = None) -> Tensor:
    """`fft` along several axes.

    s: their lengths, -1 for one that stays.  dim: which, by default as many of the last as `s` has, or all.  norm: as in
    `fft`, with the product of the lengths. RuntimeError for axes given twice and for `s` and `dim` of different lengths.

    >>> import adjoint as torch
    >>> torch.fft.fftn(torch.tensor([[1., 2.], [3., 4.]]))
    tensor([[10.+0.j, -2.+0.j],
            [-4.+0.j,  0.+0.j]])
    """
    x, power = _floating(input), _power(norm, False)
    return _complex(x, *_plan("fftn", x, s, dim), False, power)


def ifftn(input: Tensor, s: int | Sequence[int] | None = None, dim: int | Sequence[int] | None = None, norm: str | None = None) -> Tensor:
    """The inverse of `fftn`.

    >>> import adjoint as torch
    >>> torch.fft.ifftn(torch.tensor([[10., -2.], [-4., 0.]])).real
    tensor([[1., 2.],
            [3., 4.]])
    """
    x, power = _floating(input), _power(norm, True)
    return _complex(x, *_plan("ifftn", x, s, dim), True, power)


def rfftn(input: Tensor, s: int | Sequence[int] | None = None, dim: int | Sequence[int] | None = None, norm: str | None = None) -> Tensor:
    """`fftn` of real numbers, the first half of the last of the axes: `rfft` along that one, `fft` along the others.

    >>> import adjoint as torch
    >>> torch.fft.rfftn(torch.ones(2, 4)).shape
    torch.Size([2, 3])
    """
    x, power = _floating(_real_of("rfftn", input, "real-valued")), _power(norm, False)
    axes, sizes = _plan("rfftn", x, s, dim)
    _some("rfftn", axes)
    x = _padded(x, axes, sizes)
    return _complex(_from_real(x, axes[-1], sizes[-1], power), axes[:-1], sizes[:-1], False, power)


def irfftn(input: Tensor, s: int | Sequence[int] | None = None, dim: int | Sequence[int] | None = None, norm: str | None = None) -> Tensor:
    """The inverse of `rfftn`; the last of the axes has 2 (m - 1) elements by default.

    >>> import adjoint as torch
    >>> torch.fft.irfftn(torch.fft.rfftn(torch.tensor([[1., 2.], [3., 4.]])))
    tensor([[1., 2.],
            [3., 4.]])
    """
    x, power = _floating(input), _power(norm, True)
    axes, sizes = _plan("irfftn", x, s, dim, half=True)
    _some("irfftn", axes)
    x = _complex(resized(x, axes[-1], sizes[-1] // 2 + 1), axes[:-1], sizes[:-1], True, power)
    return _to_real(x, axes[-1], sizes[-1], power)


def hfftn(input: Tensor, s: int | Sequence[int] | None = None, dim: int | Sequence[int] | None = None, norm: str | None = None) -> Tensor:
    """`hfft` along the last of the axes, `fft` along the others.

    >>> import adjoint as torch
    >>> torch.fft.hfftn(torch.tensor([[1., 2.], [3., 4.]]))
    tensor([[10., -2.],
            [-4.,  0.]])
    """
    x, power = _floating(input), _power(norm, False)
    axes, sizes = _plan("hfftn", x, s, dim, half=True)
    _some("hfftn", axes)
    x = _complex(resized(x, axes[-1], sizes[-1] // 2 + 1), axes[:-1], sizes[:-1], False, power)
    return _to_real(conj(x), axes[-1], sizes[-1], power)


def ihfftn(input: Tensor, s: int | Sequence[int] | None = None, dim: int | Sequence[int] | None = None, norm: str | None = None) -> Tensor:
    """The inverse of `hfftn`: `ihfft` along the last of the axes, `ifft` along the others. RuntimeError for complex numbers.

    >>> import adjoint as torch
    >>> torch.fft.ihfftn(torch.tensor([[10., -2.], [-4., 0.]])).real
    tensor([[1., 2.],
            [3., 4.]])
    """
    x, power = _floating(_real_of("ihfftn", input, "real-valued")), _power(norm, True)
    axes, sizes = _plan("ihfftn", x, s, dim)
    _some("ihfftn", axes)
    x = _padded(x, axes, sizes)
    return _complex(conj(_from_real(x, axes[-1], sizes[-1], power)), axes[:-1], sizes[:-1], True, power)


# --- two axes -----------------------------------------------------------------------------------------------------------

LAST_TWO = (-2, -1)


def _given(name: str, dim: Any) -> Any:
    if dim is None:
        raise TypeError(f"{name}(): argument 'dim' must be int or tuple of ints, not None; {name.replace('2', 'n')} transforms all axes")
    return dim


def fft2(input: Tensor, s: int | Sequence[int] | None = None, dim: int | Sequence[int] = LAST_TWO, norm: str | None = None) -> Tensor:
    """`fftn` along the last two axes, or along `dim`.

    >>> import adjoint as torch
    >>> torch.fft.fft2(torch.ones(2, 2))
    tensor([[4.+0.j, 0.+0.j],
            [0.+0.j, 0.+0.j]])
    """
    return fftn(input, s, _given("fft2", dim), norm)


def ifft2(input: Tensor, s: int | Sequence[int] | None = None, dim: int | Sequence[int] = LAST_TWO, norm: str | None = None) -> Tensor:
    """`ifftn` along the last two axes, or along `dim`.

    >>> import adjoint as torch
    >>> torch.fft.ifft2(torch.ones(2, 2))
    tensor([[1.+0.j, 0.+0.j],
            [0.+0.j, 0.+0.j]])
    """
    return ifftn(input, s, _given("ifft2", dim), norm)


def rfft2(input: Tensor, s: int | Sequence[int] | None = None, dim: int | Sequence[int] = LAST_TWO, norm: str | None = None) -> Tensor:
    """`rfftn` along the last two axes, or along `dim`.

    >>> import adjoint as torch
    >>> torch.fft.rfft2(torch.ones(2, 4)).shape
    torch.Size([2, 3])
    """
    return rfftn(input, s, _given("rfft2", dim), norm)


def irfft2(input: Tensor, s: int | Sequence[int] | None = None, dim: int | Sequence[int] = LAST_TWO, norm: str | None = None) -> Tensor:
    """`irfftn` along the last two axes, or along `dim`.

    >>> import adjoint as torch
    >>> torch.fft.irfft2(torch.ones(2, 3)).shape
    torch.Size([2, 4])
    """
    return irfftn(input, s, _given("irfft2", dim), norm)


def hfft2(input: Tensor, s: int | Sequence[int] | None = None, dim: int | Sequence[int] = LAST_TWO, norm: str | None = None) -> Tensor:
    """`hfftn` along the last two axes, or along `dim`.

    >>> import adjoint as torch
    >>> torch.fft.hfft2(torch.ones(2, 3)).shape
    torch.Size([2, 4])
    """
    return hfftn(input, s, _given("hfft2", dim), norm)


def ihfft2(input: Tensor, s: int | Sequence[int] | None = None, dim: int | Sequence[int] = LAST_TWO, norm: str | None = None) -> Tensor:
    """`ihfftn` along the last two axes, or along `dim`.

    >>> import adjoint as torch
    >>> torch.fft.ihfft2(torch.ones(2, 4)).shape
    torch.Size([2, 3])
    """
    return ihfftn(input, s, _given("ihfft2", dim), norm)


# --- frequencies and order ----------------------------------------------------------------------------------------------


def fftfreq(n: int, d: float = 1.0, *, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """The frequencies of `fft` of n samples that are d apart: 0, 1, ... and then the negative ones, over n d.

    >>> import adjoint as torch
    >>> torch.fft.fftfreq(4)
    tensor([ 0.0000,  0.2500, -0.5000, -0.2500])
    """
    return _frequencies("fftfreq", n, n, d, dtype, device, requires_grad)


def rfftfreq(n: int, d: float = 1.0, *, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """The frequencies of `rfft` of n samples that are d apart: 0, 1, ... n // 2 over n d.

    >>> import adjoint as torch
    >>> torch.fft.rfftfreq(4)
    tensor([0.0000, 0.2500, 0.5000])
    """
    return _frequencies("rfftfreq", n, None, d, dtype, device, requires_grad)


def _frequencies(name: str, n: int, count: int | None, d: float, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    """count: how many there are; None for those that are not negative."""
    if not isinstance(n, int):  # numbers that are equal are one key
        raise TypeError(f"fft_{name}(): argument 'n' (position 1) must be int, not {type(n).__name__}")
    count = n // 2 + 1 if count is None else count
    chosen = create.check_real(name, dtype, device)
    if count < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {count}: [{count}]")
    width = n * float(d)
    k = record("iota", (), count)
    if count == n:
        k = where(k < (n + 1) // 2, k, k - n)
    out = cast(k, chosen) * (1 / width if width else math.copysign(math.inf, width))
    return create.require_leaf(out) if requires_grad else out


def fftshift(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Frequencies in the order of `fft` with 0 moved to the middle, along all axes or some.

    >>> import adjoint as torch
    >>> torch.fft.fftshift(torch.fft.fftfreq(4))
    tensor([-0.5000, -0.2500,  0.0000,  0.2500])
    """
    return _shifted(input, dim, 0)


def ifftshift(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """The inverse of `fftshift`: the middle moved to the front.

    >>> import adjoint as torch
    >>> torch.fft.ifftshift(torch.tensor([-2, -1, 0, 1]))
    tensor([ 0,  1, -2, -1])
    """
    return _shifted(input, dim, 1)


def _shifted(x: Tensor, dim: Any, up: int) -> Tensor:
    rank = len(x._aval.shape)
    dims = range(rank) if dim is None else dim if isinstance(dim, (list, tuple)) else (dim,)
    axes = [_axis(x, d) for d in dims]
    if not axes:
        raise RuntimeError(f"`shifts` required: a shift needs an axis, but got a tensor of shape {list(x._aval.shape)} and dim={dim}")
    return roll(x, [(x._aval.shape[a] + up) // 2 for a in axes], axes)
