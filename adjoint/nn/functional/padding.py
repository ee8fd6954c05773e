"""`pad`: constant, reflecting, replicating and circular borders.

The constant mode is the primitive `_pad` (plus a `where` for other values than zero); the others
join slices of the input itself, so their gradients are those of slicing and `cat`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.nn.functional.convolution import whole_numbers
from adjoint.ops.composite import composite
from adjoint.ops.conversion import stored

__all__ = ["pad"]


@composite("ConstantPadNdBackward0")
def _constant(x: Tensor, lo: tuple[int, ...], hi: tuple[int, ...], value: float) -> Tensor:
    # A negative amount crops; cropping first leaves only non-negative amounts to pad.
    for dim in range(x.dim()):
        front, back = max(-lo[dim], 0), max(-hi[dim], 0)
        if front or back:
            x = x.narrow(dim, front, x.shape[dim] - front - back)
    lo, hi = tuple(max(n, 0) for n in lo), tuple(max(n, 0) for n in hi)
    if not any(lo) and not any(hi):
        return x.clone()
    zeros = (0,) * x.dim()
    out = torch._pad(x, lo, hi, zeros)
    if value == 0 and math.copysign(1.0, value) > 0:
        return out
    inside = torch._pad(torch.ones(x.shape, dtype=torch.bool), lo, hi, zeros)
    return torch.where(inside, out, value)


def _border(x: Tensor, dim: int, front: int, back: int, mode: str) -> Tensor:
    """x with `front` and `back` positions of its own values added along one dimension."""
    size = x.shape[dim]
    if front < 0 or back < 0:
        x = x.narrow(dim, max(-front, 0), size - max(-front, 0) - max(-back, 0))
        size, front, back = x.shape[dim], max(front, 0), max(back, 0)
    parts = [x]
    if mode == "reflect":
        if max(front, back) >= size:
            raise RuntimeError(
                f"Padding size should be less than the corresponding input dimension, but got: padding "
                f"({front}, {back}) at dimension {dim} of input {list(x.shape)}"
            )
        first, last = (
            x.narrow(dim, 1, front).flip(dim),
            x.narrow(dim, size - 1 - back, back).flip(dim),
        )
    elif mode == "circular":
        if max(front, back) > size:
            raise RuntimeError(
                "Padding value causes wrapping around more than once: padding "
                f"({front}, {back}) at dimension {dim} of input {list(x.shape)}"
            )
        first, last = x.narrow(dim, size - front, front), x.narrow(dim, 0, back)
    else:
        if size == 0:
            raise RuntimeError(
                f"cannot replicate the border of an empty dimension, input {list(x.shape)}"
            )
        before, after = list(x.shape), list(x.shape)
        before[dim], after[dim] = front, back
        first, last = x.narrow(dim, 0, 1).expand(before), x.narrow(dim, size - 1, 1).expand(after)
    if front:
        parts.insert(0, first)
    if back:
        parts.append(last)
    return torch.cat(parts, dim) if len(parts) > 1 else x


@composite("PadBackward0")
def _borders(x: Tensor, amounts: tuple[tuple[int, int], ...], mode: str) -> Tensor:
    for i, (front, back) in enumerate(amounts):
        if front or back:
            x = _border(x, x.dim() - 1 - i, front, back, mode)
    return x


def pad(
    input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """Borders around the last dimensions: `pad` is (front, back) of the last, then of the one before, ...

    Modes: "constant" (with `value`, default 0; negative amounts crop), "reflect" (mirror without the
    edge), "replicate" (repeat the edge), "circular". Raises RuntimeError for amounts that do not fit,
    NotImplementedError for an unknown mode.

    >>> import adjoint as torch
    >>> torch.nn.functional.pad(torch.tensor([1.0, 2.0, 3.0]), (1, 2), value=9.0)
    tensor([9., 1., 2., 3., 9., 9.])
    >>> torch.nn.functional.pad(torch.tensor([[1.0, 2.0, 3.0]]), (2, 1), mode="reflect")
    tensor([[3., 2., 1., 2., 3., 2.]])
    """
    if isinstance(value, complex):
        raise TypeError("pad(): argument 'value' (position 4) must be float, not complex")
    amounts = whole_numbers(pad, "pad")
    if len(amounts) % 2:
        raise RuntimeError(f"Padding length must be divisible by 2, got pad={list(amounts)}")
    if len(amounts) > 2 * input.dim():
        raise RuntimeError(
            f"Padding length should be less than or equal to two times the input dimension but got padding length "
            f"{len(amounts)} and input of dimension {input.dim()}"
        )
    pairs = tuple(zip(amounts[::2], amounts[1::2], strict=True))
    if mode == "constant":
        untouched = (0,) * (input.dim() - len(pairs))
        lo = untouched + tuple(front for front, _ in reversed(pairs))
        hi = untouched + tuple(back for _, back in reversed(pairs))
        if any(size + a + b < 0 for size, a, b in zip(input.shape, lo, hi, strict=True)):
            raise RuntimeError(
                f"pad(): padding {list(amounts)} of an input of shape {list(input.shape)} would leave a negative size"
            )
        return _constant(input, lo, hi, stored("pad()", 0 if value is None else value, input.dtype))
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if value is not None and value != 0:
        raise ValueError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if len(pairs) >= input.dim():
        raise NotImplementedError(
            f"pad(): mode '{mode}' needs at least one dimension more than it pads; got {len(pairs)} padded dimensions "
            f"of an input of shape {list(input.shape)}"
        )
    return _borders(input, pairs, mode)
