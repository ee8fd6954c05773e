"""Sequences of different lengths in one tensor: `torch.nn.utils.rnn`.

>>> import adjoint as torch
>>> torch.nn.utils.rnn.pad_sequence([torch.tensor([1, 2]), torch.tensor([3])], batch_first=True)
tensor([[1, 2],
        [3, 0]])
"""

from __future__ import annotations

from collections.abc import Sequence

import adjoint as torch
from adjoint.methods import Tensor


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


__all__ = ["pad_sequence", "unpad_sequence"]
