"""The part of a data set that each of several processes reads."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import numpy as np

from adjoint.utils.data.sampler import Sampler

__all__ = ["DistributedSampler"]


class DistributedSampler(Sampler[int]):
    """The part of a data set that one of `num_replicas` processes reads: every num_replicas-th index, from `rank` on.

    All parts have the same length: the last indices are left out with `drop_last`, else the first ones come again. With
    `shuffle` the order is that of `seed` and the epoch, the same in every process; call `set_epoch` before each epoch for
    another one. There is one process here unless told otherwise (num_replicas=1, rank=0).

    Raises ValueError for a rank that is none of the replicas'.

    >>> import adjoint as torch
    >>> Sampler = torch.utils.data.DistributedSampler
    >>> [list(Sampler(range(5), num_replicas=2, rank=rank, shuffle=False)) for rank in range(2)]
    [[0, 2, 4], [1, 3, 0]]
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        num_replicas, rank = 1 if num_replicas is None else num_replicas, 0 if rank is None else rank
        if not 0 <= rank < num_replicas:
            raise ValueError(f"Invalid rank {rank}, rank should be in the interval [0, {num_replicas - 1}]")
        self.dataset = dataset
        self.num_replicas = num_replicas
        self.rank = rank
        self.epoch = 0
        self.drop_last = drop_last
        self.shuffle = shuffle
        self.seed = seed

    @property
    def num_samples(self) -> int:
        n = len(self.dataset)
        return n // self.num_replicas if self.drop_last else -(-n // self.num_replicas)

    @property
    def total_size(self) -> int:
        return self.num_samples * self.num_replicas

    def order(self) -> np.ndarray:
        n = len(self.dataset)
        places = np.random.default_rng((self.seed, self.epoch)).permutation(n) if self.shuffle else np.arange(n)
        return np.resize(places, self.total_size)[self.rank :: self.num_replicas]

    def __iter__(self) -> Iterator[int]:
        return iter(self.order().tolist())

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Another epoch, and with `shuffle` another order."""
        self.epoch = epoch
