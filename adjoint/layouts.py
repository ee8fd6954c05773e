"""Names for how tensors lie in memory: `torch.strided`, and what `memory_format` takes.

A tensor's own memory is in row-major order, and views have strides: other formats are accepted and change no order. The names
exist because programs pass them on, compare them and annotate with their types.
"""

from __future__ import annotations


class _Named:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"torch.{self._name}"

    def __reduce__(self) -> str:
        return self._name


class layout(_Named):
    """The type of `torch.strided`, the layout of every tensor.

    >>> import adjoint as torch
    >>> torch.zeros(2).layout is torch.strided, isinstance(torch.strided, torch.layout)
    (True, True)
    """


class memory_format(_Named):
    """The type of `torch.contiguous_format`, which copies have in any case, `preserve_format`, `channels_last` and `channels_last_3d`.

    >>> import adjoint as torch
    >>> torch.zeros(2).clone(memory_format=torch.preserve_format)
    tensor([0., 0.])
    >>> torch.contiguous_format
    torch.contiguous_format
    """


strided = layout("strided")
# Names that programs compare layouts with; no tensor has one of these.
sparse_coo, sparse_csr, sparse_csc, sparse_bsr, sparse_bsc = map(layout, "sparse_coo sparse_csr sparse_csc sparse_bsr sparse_bsc".split())
jagged = layout("jagged")
contiguous_format = legacy_contiguous_format = memory_format("contiguous_format")
preserve_format = memory_format("preserve_format")
channels_last, channels_last_3d = memory_format("channels_last"), memory_format("channels_last_3d")
