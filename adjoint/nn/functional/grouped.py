"""Products of matrices with a matrix of its own for every group of rows, as routed experts have them: `grouped_mm`.

How many rows a group has is known only when the program runs. Rows are put into tiles that belong to one group each, at most one of
which is not full for every group, so that all sizes are known before and one program serves every division.
"""

from __future__ import annotations

from typing import Any

import adjoint as torch
from adjoint.methods import Tensor

__all__ = ["grouped_mm"]

MOST_ROWS = 64  # of a tile


def grouped_mm(mat_a: Tensor, mat_b: Tensor, *, offs: Tensor | None = None, bias: Tensor | None = None, out_dtype: Any = None) -> Tensor:
    """A product for each of G groups. offs: int32, where every group ends, (G,).

    (N, K) with (G, K, M): rows of the first belong to groups; (N, M). What comes after the last group is zero.
    (G, N, K) with (K, M): columns of the second do; (N, M). (N, K) with (K, M): the terms of the sums do; (G, N, M).
    (G, N, K) with (G, K, M): `torch.bmm`, without offs. out_dtype: of the result, that of the operands unless given. bias: (M,), added.
    RuntimeError for other shapes, dtypes that differ, and offs that are not needed or are needed and missing.

    >>> import adjoint as torch
    >>> rows, weights = torch.ones(3, 2), torch.arange(8.0).reshape(2, 2, 2)
    >>> torch.nn.functional.grouped_mm(rows, weights, offs=torch.tensor([1, 3], dtype=torch.int32))
    tensor([[ 2.,  4.],
            [10., 12.],
            [10., 12.]])
    """
    a, b = mat_a, mat_b
    called = f"grouped_mm(mat_a of {tuple(a.shape)}, mat_b of {tuple(b.shape)}, offs={None if offs is None else tuple(offs.shape)})"
    if a.dim() not in (2, 3) or b.dim() not in (2, 3):
        raise RuntimeError(f"{called}: mat_a and mat_b have to be 2 or 3 dimensional")
    if a.shape[-1] != b.shape[-2]:
        raise RuntimeError(f"{called}: contraction dimension of mat_a and mat_b must match")
    if a.dtype is not b.dtype or not a.is_floating_point():
        raise RuntimeError(f"{called}: mat_a and mat_b must be of one floating point dtype, got {a.dtype} and {b.dtype}")
    if (a.dim() == 3 and b.dim() == 3) != (offs is None):
        raise RuntimeError(f"{called}: Have to provide offsets if there is a 2d matrix, or no offset if both matrices are 3d")
    if offs is None:
        if a.shape[0] != b.shape[0]:
            raise RuntimeError(f"{called}: batched dimension has to match")
        out = torch.bmm(a, b)
    else:
        if offs.dim() != 1 or offs.dtype is not torch.int32:
            raise RuntimeError(f"{called}: Offsets have to be 1d and int32, got {offs.dtype}; use offs.to(torch.int32)")
        groups = offs.shape[0]
        if any(x.dim() == 3 and x.shape[0] != groups for x in (a, b)):
            raise RuntimeError(f"{called}: there must be an offset for each of the matrices")
        if a.dim() == b.dim():
            out = _sums(a, b, offs)
        elif a.dim() == 2:
            out = _rows(a, b, offs)
        else:
            out = _rows(b.t(), a.transpose(1, 2), offs).t()
    if bias is not None:
        out = out + bias
    return out if out_dtype is None else out.to(out_dtype)


def _tiles(total: int, offs: Tensor) -> tuple[int, Tensor, Tensor, Tensor, Tensor]:
    """How many rows a tile has; the group of each tile; which rows it has, (tiles, rows), and whether they are its own; before
    which tile each group begins."""
    groups = offs.shape[0]
    size = MOST_ROWS
    while size > 4 and size * groups > 2 * total:
        size //= 2
    ends = offs.long()
    begins = torch.cat([ends.new_zeros(1), ends[:-1]])
    counts = (ends - begins + size - 1).div(size, rounding_mode="floor")
    last = counts.cumsum(0)
    tile = torch.arange(total // size + min(groups, total))
    group = torch.searchsorted(last, tile, right=True).clamp(max=groups - 1)
    first = begins[group] + (tile - (last - counts)[group]) * size
    rows = first[:, None] + torch.arange(size)
    return size, group, rows.clamp(0, total - 1), (rows < ends[group][:, None]) & (rows >= 0), last - counts


def _rows(a: Tensor, b: Tensor, offs: Tensor) -> Tensor:
    total = a.shape[0]
    if total == 0 or b.shape[0] == 0:
        return a.new_zeros(total, b.shape[2])
    size, group, rows, own, before = _tiles(total, offs)
    found = torch.bmm(a[rows] * own[..., None].to(a.dtype), b[group])
    ends = offs.long()
    place = torch.arange(total)
    mine = torch.searchsorted(ends, place, right=True)
    known = mine < offs.shape[0]
    mine = mine.clamp(max=offs.shape[0] - 1)
    within = place - torch.where(mine > 0, ends[mine - 1], 0)
    tile = before[mine] + within.div(size, rounding_mode="floor")
    flat = found.reshape(-1, b.shape[2])
    return torch.where(known[:, None], flat[(tile * size + within % size).clamp(0, flat.shape[0] - 1)], 0.0).to(a.dtype)


def _sums(a: Tensor, b: Tensor, offs: Tensor) -> Tensor:
    total, groups = a.shape[1], offs.shape[0]
    out = a.new_zeros(groups, a.shape[0], b.shape[1])
    if total == 0 or groups == 0:
        return out
    _, group, rows, own, _ = _tiles(total, offs)
    return out.index_add(0, group, torch.bmm((a.t()[rows] * own[..., None].to(a.dtype)).transpose(1, 2), b[rows]))
