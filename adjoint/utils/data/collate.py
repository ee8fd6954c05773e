"""How a list of samples becomes one batch. Read `default_collate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import adjoint as torch


def default_convert(sample: Any) -> Any:
    """NumPy arrays inside `sample` become tensors; the rest stays (for loading without batches)."""
    if isinstance(sample, np.ndarray) and sample.dtype.kind in "biuf":
        return torch.tensor(sample)
    if isinstance(sample, Mapping):
        return {key: default_convert(value) for key, value in sample.items()}
    if isinstance(sample, tuple) and hasattr(sample, "_fields"):
        return type(sample)(*(default_convert(value) for value in sample))
    if isinstance(sample, tuple):
        return [default_convert(value) for value in sample]
    if isinstance(sample, Sequence) and not isinstance(sample, (str, bytes)):
        return [default_convert(value) for value in sample]
    return sample


def default_collate(batch: Sequence[Any]) -> Any:
    """Join samples: tensors and arrays along a new dimension 0, Python numbers into one tensor.

    Python floats give float64, ints int64, bools bool; strings stay as they are; tuples, lists,
    named tuples and mappings are joined element by element. Raises TypeError for anything else and
    RuntimeError for samples whose containers differ in length.

    >>> import adjoint as torch
    >>> torch.utils.data.default_collate([(1, "a"), (2, "b")])
    [tensor([1, 2]), ('a', 'b')]
    >>> torch.utils.data.default_collate([{"x": torch.zeros(2)}, {"x": torch.ones(2)}])["x"].shape
    torch.Size([2, 2])
    """
    if len(batch) == 0:
        raise IndexError("default_collate got an empty batch")
    first = batch[0]
    if isinstance(first, torch.Tensor):
        return torch.stack(list(batch), 0)
    if isinstance(first, (np.ndarray, np.generic)):
        if np.asarray(first).dtype.kind not in "biuf":
            raise TypeError(
                f"default_collate cannot join NumPy values of dtype {np.asarray(first).dtype}"
            )
        return torch.tensor(np.stack([np.asarray(item) for item in batch]))
    if isinstance(first, bool):
        return torch.tensor(list(batch))
    if isinstance(first, float):
        return torch.tensor(list(batch), dtype=torch.float64)
    if isinstance(first, int):
        return torch.tensor(list(batch))
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Mapping):
        return {key: default_collate([sample[key] for sample in batch]) for key in first}
    if isinstance(first, Sequence):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError(
                "default_collate: every sample needs the same number of elements, got "
                f"{sorted({len(sample) for sample in batch})}"
            )
        columns = list(zip(*batch, strict=True))
        if isinstance(first, tuple) and hasattr(first, "_fields"):
            return type(first)(*(default_collate(column) for column in columns))
        return [default_collate(column) for column in columns]
    raise TypeError(
        "default_collate joins tensors, NumPy arrays, numbers, strings, mappings and sequences; "
        f"got {type(first).__name__}. Pass collate_fn= to say how such samples become a batch"
    )
