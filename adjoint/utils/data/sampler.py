"""In which order a data set is read: samplers yield indices, `BatchSampler` yields lists of them.

`Sampler.order()` is this file's one addition to PyTorch's protocol: a sampler that knows its whole
epoch in advance returns it as one integer array, and the loader then cuts batches out of that array
instead of collecting Python integers. Read `RandomSampler`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar

import numpy as np

from adjoint.utils.host_random import host_generator

T_co = TypeVar("T_co", covariant=True)


class Sampler(Generic[T_co]):
    """Base class: subclasses define `__iter__`, and `__len__` where the number is known."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__()")


class SequentialSampler(Sampler[int]):
    """0, 1, 2, ... in order."""

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def order(self) -> np.ndarray:
        return np.arange(len(self.data_source))

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """Indices in random order; with `replacement` each drawn independently.

    num_samples: how many (default: all; without replacement, further ones come from new shuffles).
    generator: an `adjoint.Generator`; default the stream that `manual_seed` sets.

    >>> import adjoint as torch
    >>> _ = torch.manual_seed(0)
    >>> sorted(torch.utils.data.RandomSampler(range(5)))
    [0, 1, 2, 3, 4]
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Any = None,
    ) -> None:
        if not isinstance(replacement, bool):
            raise TypeError(f"RandomSampler: replacement must be a bool, got {replacement!r}")
        if num_samples is not None and (
            isinstance(num_samples, bool) or not isinstance(num_samples, int) or num_samples <= 0
        ):
            raise ValueError(
                f"RandomSampler: num_samples must be a positive integer, got {num_samples!r}"
            )
        self.data_source = data_source
        self.replacement = replacement
        self.generator = generator
        self._num_samples = num_samples

    @property
    def num_samples(self) -> int:
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def order(self) -> np.ndarray:
        n, wanted = len(self.data_source), self.num_samples
        rng = host_generator(self.generator)
        if self.replacement:
            return rng.integers(0, n, wanted)
        if n == 0:
            return np.arange(0)
        rounds = -(-wanted // n)
        return np.concatenate([rng.permutation(n) for _ in range(rounds)])[:wanted]

    def __iter__(self) -> Iterator[int]:
        return iter(self.order().tolist())

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler[int]):
    """The given indices in random order."""

    def __init__(self, indices: Sequence[int], generator: Any = None) -> None:
        self.indices = indices
        self.generator = generator

    def order(self) -> np.ndarray:
        return host_generator(self.generator).permutation(np.asarray(self.indices, dtype=np.int64))

    def __iter__(self) -> Iterator[int]:
        return iter(self.order().tolist())

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """`num_samples` indices, index i with probability proportional to `weights[i]`.

    Raises ValueError for negative or all-zero weights, or when more samples are wanted without
    replacement than there are positive weights.

    >>> import adjoint as torch
    >>> _ = torch.manual_seed(0)
    >>> set(torch.utils.data.WeightedRandomSampler([0.0, 1.0, 3.0], 50)) == {1, 2}
    True
    """

    def __init__(
        self,
        weights: Sequence[float],
        num_samples: int,
        replacement: bool = True,
        generator: Any = None,
    ) -> None:
        if isinstance(num_samples, bool) or not isinstance(num_samples, int) or num_samples <= 0:
            raise ValueError(f"num_samples must be a positive integer, got {num_samples!r}")
        values = weights.tolist() if hasattr(weights, "tolist") else list(weights)
        self.weights = np.asarray(values, dtype=np.float64)
        if self.weights.ndim != 1:
            raise ValueError(
                f"WeightedRandomSampler: weights must have one dimension, got {self.weights.shape}"
            )
        if not np.all(np.isfinite(self.weights)) or (self.weights < 0).any():
            raise ValueError("WeightedRandomSampler: weights must be finite and not negative")
        if not self.weights.sum() > 0:
            raise ValueError("WeightedRandomSampler: at least one weight must be positive")
        positive = int((self.weights > 0).sum())
        if not replacement and num_samples > positive:
            raise ValueError(
                f"WeightedRandomSampler: {num_samples} samples without replacement, "
                f"but only {positive} weights are positive"
            )
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = generator

    def order(self) -> np.ndarray:
        chance = self.weights / self.weights.sum()
        rng = host_generator(self.generator)
        return rng.choice(len(chance), self.num_samples, replace=self.replacement, p=chance)

    def __iter__(self) -> Iterator[int]:
        return iter(self.order().tolist())

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list]):
    """Lists of `batch_size` indices from `sampler`; a shorter last one is kept unless `drop_last`.

    >>> import adjoint as torch
    >>> batches = torch.utils.data.BatchSampler(range(5), 2, drop_last=False)
    >>> list(batches), len(batches)
    ([[0, 1], [2, 3], [4]], 3)
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size <= 0:
            raise ValueError(f"batch_size must be a positive integer, got {batch_size!r}")
        if not isinstance(drop_last, bool):
            raise ValueError(f"drop_last must be a bool, got {drop_last!r}")
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list]:
        batch: list = []
        for index in self.sampler:
            batch.append(index)
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch and not self.drop_last:
            yield batch

    def __len__(self) -> int:
        n = len(self.sampler)  # type: ignore[arg-type]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)
