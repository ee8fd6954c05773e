"""Sequences of different lengths in one tensor, padded or packed: `torch.nn.utils.rnn`. Read `PackedSequence` first.

>>> import adjoint as torch
>>> torch.nn.utils.rnn.pad_sequence([torch.tensor([1, 2]), torch.tensor([3])], batch_first=True)
tensor([[1, 2],
        [3, 0]])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np

import adjoint as torch
from adjoint.methods import Tensor


class _Packed(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None


class PackedSequence(_Packed):
    """Sequences of different lengths without the padding, as RNN, LSTM and GRU take them.

    data: (sum of lengths, *): first elements of all sequences, longest sequence first, then second elements, ...
    batch_sizes: int64 (longest length,), how many sequences have an element at each step.
    sorted_indices, unsorted_indices: the order of lengths in which they lie, and back; None if they were given so.

    >>> import adjoint as torch
    >>> rnn = torch.nn.utils.rnn
    >>> packed = rnn.pack_sequence([torch.tensor([1, 2, 3]), torch.tensor([4])])
    >>> packed.data, packed.batch_sizes
    (tensor([1, 4, 2, 3]), tensor([2, 1, 1]))
    """

    __slots__ = ()

    def __new__(
        cls,
        data: Tensor,
        batch_sizes: Tensor | None = None,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> Self:
        if batch_sizes is None:
            raise ValueError("batch_sizes should not be None: make a PackedSequence with pack_sequence or pack_padded_sequence")
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The same with `data.to(*args, **kwargs)`."""
        return self._replace(data=self.data.to(*args, **kwargs))

    def double(self) -> PackedSequence:
        return self.to(torch.float64)

    def float(self) -> PackedSequence:
        return self.to(torch.float32)

    def half(self) -> PackedSequence:
        return self.to(torch.float16)

    def long(self) -> PackedSequence:
        return self.to(torch.int64)

    def int(self) -> PackedSequence:
        return self.to(torch.int32)

    def cpu(self) -> PackedSequence:
        return self

    def pin_memory(self) -> PackedSequence:
        return self

    @property
    def is_cuda(self) -> bool:
        return False

    def is_pinned(self) -> bool:
        return False


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that undoes one; None for None.

    >>> import adjoint as torch
    >>> torch.nn.utils.rnn.invert_permutation(torch.tensor([2, 0, 1]))
    tensor([1, 2, 0])
    """
    return None if permutation is None else torch.argsort(permutation)


def places(batch_sizes: Tensor) -> tuple[Tensor, int, int]:
    """Where the elements of packed data lie in a padded (L, N): numbers t * N + n; and L and N."""
    sizes = batch_sizes.numpy()
    batch = int(sizes[0])
    steps, rows = np.nonzero(np.arange(batch) < sizes[:, None])
    return torch.from_numpy(steps * batch + rows), len(sizes), batch


def pack_padded_sequence(
    input: Tensor, lengths: Tensor | Sequence[int], batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """A padded tensor (L, N, *), or (N, L, *) with batch_first, without its padding; lengths are (N,).

    Raises RuntimeError for lengths below 1 or above L, another number of them than N, or, unless `enforce_sorted` is False,
    lengths that do not descend.

    >>> import adjoint as torch
    >>> rnn = torch.nn.utils.rnn
    >>> x = torch.tensor([[1, 2, 0], [3, 4, 5]])
    >>> rnn.pack_padded_sequence(x, [2, 3], batch_first=True, enforce_sorted=False).data
    tensor([3, 1, 4, 2, 5])
    """
    counts = lengths.detach().to(torch.int64) if isinstance(lengths, Tensor) else torch.tensor(list(lengths), dtype=torch.int64)
    steps = input.transpose(0, 1) if batch_first else input
    found = [int(n) for n in counts.tolist()]
    if len(found) != steps.shape[1]:
        raise RuntimeError(
            f"Expected `len(lengths)` to be equal to batch_size, but got {len(found)} (batch_size={steps.shape[1]})"
        )
    if not found or min(found) <= 0:
        raise RuntimeError("Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0")
    if max(found) > steps.shape[0]:
        raise RuntimeError(f"a length of {max(found)} is more than the {steps.shape[0]} steps of the padded input")
    order = None
    if not enforce_sorted:
        counts, order = torch.sort(counts, descending=True, stable=True)
        steps, found = steps.index_select(1, order), counts.tolist()
    elif found != sorted(found, reverse=True):
        raise RuntimeError(
            "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass "
            "`enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to sidestep this requirement"
        )
    sizes = torch.from_numpy((np.array(found) > np.arange(found[0])[:, None]).sum(1))
    at, length, batch = places(sizes)
    data = steps[:length].reshape(length * batch, *steps.shape[2:]).index_select(0, at)
    return PackedSequence(data, sizes, order)


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """The padded tensor (L, N, *), or (N, L, *), of a packed one, in the order it had before, and the lengths (N,).

    L is the longest length, or `total_length`, which must not be less (ValueError).

    >>> import adjoint as torch
    >>> rnn = torch.nn.utils.rnn
    >>> packed = rnn.pack_sequence([torch.tensor([1, 2]), torch.tensor([3])])
    >>> rnn.pad_packed_sequence(packed, batch_first=True, padding_value=-1)
    (tensor([[ 1,  2],
            [ 3, -1]]), tensor([2, 1]))
    """
    at, length, batch = places(sequence.batch_sizes)
    if total_length is not None:
        if total_length < length:
            raise ValueError(
                "Expected total_length to be at least the length of the longest sequence in input, but got "
                f"total_length={total_length} and max sequence length being {length}"
            )
        length = total_length
    data = sequence.data
    padded = data.new_full((length * batch, *data.shape[1:]), padding_value).index_copy(0, at, data)
    padded = padded.reshape(length, batch, *data.shape[1:])
    lengths = torch.from_numpy((np.arange(batch)[:, None] < sequence.batch_sizes.numpy()).sum(1))
    if sequence.unsorted_indices is not None:
        padded, lengths = padded.index_select(1, sequence.unsorted_indices), lengths[sequence.unsorted_indices]
    return (padded.transpose(0, 1) if batch_first else padded), lengths


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Sequences (L_i, *) packed; the longest first, unless `enforce_sorted` is False (RuntimeError).

    >>> import adjoint as torch
    >>> torch.nn.utils.rnn.pack_sequence([torch.tensor([1]), torch.tensor([2, 3])], enforce_sorted=False).data
    tensor([2, 1, 3])
    """
    return pack_padded_sequence(pad_sequence(sequences), [s.shape[0] for s in sequences], enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences of a packed tensor, as `pack_sequence` was given them.

    >>> import adjoint as torch
    >>> rnn = torch.nn.utils.rnn
    >>> rnn.unpack_sequence(rnn.pack_sequence([torch.tensor([1, 2]), torch.tensor([3])]))
    [tensor([1, 2]), tensor([3])]
    """
    return unpad_sequence(*pad_packed_sequence(packed_sequences))


def pad_sequence(
    sequences: Sequence[Tensor], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Sequences (L_i, *) in one tensor (L, N, *), or (N, L, *), the shorter ones filled up on one side.

    >>> import adjoint as torch
    >>> parts = [torch.tensor([1, 2]), torch.tensor([3])]
    >>> torch.nn.utils.rnn.pad_sequence(parts, padding_value=9, padding_side="left")
    tensor([[1, 9],
            [2, 3]])
    """
    if isinstance(sequences, Tensor):
        sequences = sequences.unbind(0)
    if not sequences:
        raise RuntimeError("received an empty list of sequences")
    if padding_side not in ("left", "right"):
        raise ValueError(f"padding_side should be one of {{'left', 'right'}}, got {padding_side!r}")
    longest = max(s.shape[0] for s in sequences)
    rows = []
    for s in sequences:
        rest = sequences[0].new_full((longest - s.shape[0], *s.shape[1:]), padding_value)
        rows.append(torch.cat([s, rest] if padding_side == "right" else [rest, s]))
    return torch.stack(rows, 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Tensor, lengths: Tensor, batch_first: bool = False) -> list[Tensor]:
    """The sequences of a tensor that `pad_sequence` made (filled up on the right), given their lengths.

    >>> import adjoint as torch
    >>> padded = torch.tensor([[1, 2], [3, 0]])
    >>> torch.nn.utils.rnn.unpad_sequence(padded, torch.tensor([2, 1]), batch_first=True)
    [tensor([1, 2]), tensor([3])]
    """
    rows = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [row[:length] for row, length in zip(rows.unbind(0), lengths.tolist(), strict=True)]


__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]
