"""What a data set is: something with `__getitem__` and `__len__`, or something to iterate over.

Owns the data set classes and `random_split`. `whole_tensors` is the loader's way in: it answers
whether a data set is nothing but tensors read by rows, so that a batch can be taken by one
indexing. Read `Dataset`, then `whole_tensors`.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

import adjoint as torch
from adjoint.utils.host_random import host_generator

T_co = TypeVar("T_co", covariant=True)


class Dataset(Generic[T_co]):
    """A data set read by index. Subclasses define `__getitem__`, and `__len__` for most samplers.

    >>> import adjoint as torch
    >>> class Squares(torch.utils.data.Dataset):
    ...     def __getitem__(self, i):
    ...         return i * i
    ...     def __len__(self):
    ...         return 4
    >>> list((Squares() + Squares())[i] for i in (1, 6))
    [1, 4]
    """

    def __getitem__(self, index: Any) -> T_co:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__(index)")

    def __add__(self, other: Dataset[T_co]) -> ConcatDataset[T_co]:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co]):
    """A data set that can only be read in its own order. Subclasses define `__iter__`."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__()")

    def __add__(self, other: Dataset[T_co]) -> ChainDataset:  # type: ignore[override]
        return ChainDataset([self, other])


class TensorDataset(Dataset[tuple]):
    """Tensors of equal length along dimension 0; sample i is the tuple of their rows i.

    Raises ValueError when the lengths differ.

    >>> import adjoint as torch
    >>> data = torch.utils.data.TensorDataset(torch.arange(3), torch.arange(6).reshape(3, 2))
    >>> len(data), data[1]
    (3, (tensor(1), tensor([2, 3])))
    """

    tensors: tuple[Any, ...]

    def __init__(self, *tensors: Any) -> None:
        if not tensors:
            raise ValueError("TensorDataset() needs at least one tensor")
        lengths = [len(t) for t in tensors]
        if any(n != lengths[0] for n in lengths):
            shapes = ", ".join(str(tuple(t.shape)) for t in tensors)
            raise ValueError(
                f"TensorDataset: all tensors need the same size in dimension 0, got shapes {shapes}"
            )
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple:
        return tuple(t[index] for t in self.tensors)

    def __len__(self) -> int:
        return len(self.tensors[0])


class StackDataset(Dataset):
    """Data sets side by side: sample i is the tuple, or by keyword the dict, of their samples i."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if bool(args) == bool(kwargs):
            raise ValueError(
                "StackDataset takes data sets either by position or by keyword, one or more"
            )
        parts = list(args) or list(kwargs.values())
        if any(len(p) != len(parts[0]) for p in parts):
            raise ValueError(f"StackDataset: lengths differ: {[len(p) for p in parts]}")
        self.datasets: Any = args or kwargs
        self._length = len(parts[0])

    def __getitem__(self, index: int) -> Any:
        if isinstance(self.datasets, dict):
            return {key: part[index] for key, part in self.datasets.items()}
        return tuple(part[index] for part in self.datasets)

    def __len__(self) -> int:
        return self._length


class ConcatDataset(Dataset[T_co]):
    """Data sets one after the other. Negative indices count from the end.

    >>> import adjoint as torch
    >>> both = torch.utils.data.ConcatDataset([[10, 11], [20, 21, 22]])
    >>> both[1], both[2], both[-1], both.cumulative_sizes
    (11, 20, 22, [2, 5])
    """

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset needs at least one data set, got an empty iterable")
        for part in self.datasets:
            if isinstance(part, IterableDataset):
                raise TypeError(
                    f"ConcatDataset reads by index, but {type(part).__name__} is an "
                    "IterableDataset; join those with ChainDataset"
                )
        self.cumulative_sizes = list(itertools.accumulate(len(part) for part in self.datasets))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> T_co:
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(
                f"index {index} is out of range for a ConcatDataset of length {len(self)}"
            )
        part = bisect.bisect_right(self.cumulative_sizes, place)
        start = self.cumulative_sizes[part - 1] if part else 0
        return self.datasets[part][place - start]


class ChainDataset(IterableDataset):
    """Iterable data sets one after the other."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)

    def __iter__(self) -> Iterator[Any]:
        return itertools.chain.from_iterable(self.datasets)

    def __len__(self) -> int:
        return sum(len(part) for part in self.datasets)


class Subset(Dataset[T_co]):
    """The samples of `dataset` at `indices`, in that order."""

    def __init__(self, dataset: Dataset[T_co], indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> T_co:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)


def random_split(
    dataset: Dataset[T_co], lengths: Sequence[int | float], generator: Any = None
) -> list[Subset[T_co]]:
    """Cut a data set at random into subsets of the given lengths, or fractions that sum to 1.

    Fractions are rounded down and the samples left over go to the first parts in turn.
    Raises ValueError when the lengths do not sum to `len(dataset)`.

    >>> import adjoint as torch
    >>> a, b = torch.utils.data.random_split(range(10), [0.75, 0.25])
    >>> len(a), len(b), sorted([*a, *b]) == list(range(10))
    (8, 2, True)
    """
    n = len(dataset)  # type: ignore[arg-type]
    if math.isclose(sum(lengths), 1):
        if any(not 0 <= f <= 1 for f in lengths):
            raise ValueError(
                f"random_split: fractions must lie between 0 and 1, got {list(lengths)}"
            )
        sizes = [math.floor(n * f) for f in lengths]
        for i in range(n - sum(sizes)):
            sizes[i % len(sizes)] += 1
    else:
        sizes = [int(s) for s in lengths]
    if sum(sizes) != n:
        raise ValueError(f"random_split: lengths {list(lengths)} do not sum to the data set's {n}")
    order = host_generator(generator).permutation(n).tolist()
    ends = list(itertools.accumulate(sizes))
    return [Subset(dataset, order[end - size : end]) for end, size in zip(ends, sizes, strict=True)]


def whole_tensors(dataset: Any) -> tuple[tuple[Any, ...], np.ndarray | None] | None:
    """`(tensors, rows)` when sample i is exactly row `rows[i]` (None: i) of tensors, else None.

    A subclass that overrides `__getitem__` may do anything there, so it does not qualify.
    """
    if type(dataset).__getitem__ is TensorDataset.__getitem__:
        if all(isinstance(t, torch.Tensor) for t in dataset.tensors):
            return dataset.tensors, None
        return None
    if type(dataset) is Subset:
        inner = whole_tensors(dataset.dataset)
        if inner is None:
            return None
        tensors, rows = inner
        chosen = np.asarray(dataset.indices, dtype=np.int64)
        length = len(tensors[0]) if rows is None else len(rows)
        # Negative indices count from the end of what the subset was taken from.
        chosen = np.where(chosen < 0, chosen + length, chosen)
        return tensors, chosen if rows is None else rows[chosen]
    return None
