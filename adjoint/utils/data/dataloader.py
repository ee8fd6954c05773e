"""`DataLoader`: a data set, an order and a batch size become an iterator of batches.

Three roads, chosen once per epoch in `DataLoader.__iter__`, which is the function to read first:
whole batches cut out of tensors (`_tensor_batches`), samples fetched one by one and collated
(`_fetched_batches`), and streams (`_streamed_batches`).

The first road matters for the recorder: a training loop over a `TensorDataset` records one slice of
the epoch's order and one row gather per tensor, whatever the batch size.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import adjoint as torch
from adjoint.utils.data.collate import default_collate, default_convert
from adjoint.utils.data.dataset import IterableDataset, whole_tensors
from adjoint.utils.data.sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler

T_co = TypeVar("T_co", covariant=True)


def get_worker_info() -> None:
    """None: samples are fetched in this process, so no data set runs inside a worker process."""


class DataLoader(Generic[T_co]):
    """Iterate over a data set in batches.

    dataset: a `Dataset`, any object with `__getitem__` and `__len__`, or an `IterableDataset`.
    batch_size: samples per batch; None yields single samples, converted but not collated.
    shuffle: a new random order each epoch, from `generator` or the stream `manual_seed` sets.
    sampler, batch_sampler: an order of your own; they exclude `shuffle` and (the latter)
        `batch_size`.
    collate_fn: list of samples -> batch (default `default_collate`).
    drop_last: leave out a last batch that is shorter.
    num_workers: 0 fetches in the calling thread. Above 0, that many threads call
        `dataset[i]` ahead of time; batches come in the same order. There are no worker processes,
        so `worker_init_fn`, `pin_memory`, `timeout` and `persistent_workers` are accepted without
        effect.

    Raises ValueError for contradictory arguments, TypeError for `len()` of a stream without length.

    >>> import adjoint as torch
    >>> data = torch.utils.data.TensorDataset(torch.arange(5.0), torch.arange(5))
    >>> for x, y in torch.utils.data.DataLoader(data, batch_size=2):
    ...     print(x, y)
    tensor([0., 1.]) tensor([0, 1])
    tensor([2., 3.]) tensor([2, 3])
    tensor([4.]) tensor([4])
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Sampler | Iterable | None = None,
        batch_sampler: Sampler | Iterable | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: Any = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        if num_workers < 0:
            raise ValueError(f"num_workers must not be negative, got {num_workers}")
        if timeout < 0:
            raise ValueError(f"timeout must not be negative, got {timeout}")
        if prefetch_factor is not None and (num_workers == 0 or prefetch_factor <= 0):
            raise ValueError(
                f"prefetch_factor={prefetch_factor} needs num_workers > 0 and a positive value"
            )
        self._streamed = isinstance(dataset, IterableDataset)
        if self._streamed and (shuffle or sampler is not None or batch_sampler is not None):
            raise ValueError(
                "an IterableDataset is read in its own order: it takes no shuffle, sampler or "
                "batch_sampler"
            )
        if sampler is not None and shuffle:
            raise ValueError("sampler and shuffle=True exclude each other")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    "batch_sampler excludes batch_size, shuffle, sampler and drop_last"
                )
            batch_size = None
        elif batch_size is None and drop_last:
            raise ValueError("batch_size=None yields single samples, so drop_last has no meaning")

        if sampler is None and not self._streamed:
            if shuffle:
                sampler = RandomSampler(dataset, generator=generator)
            else:
                sampler = SequentialSampler(dataset)
        if batch_size is not None and batch_sampler is None:
            # For a stream the batch sampler only checks the arguments; nothing is sampled.
            batch_sampler = BatchSampler(
                sampler if sampler is not None else (), batch_size, bool(drop_last)
            )
        batched = batch_sampler is not None
        self.dataset = dataset
        self.batch_size = batch_size
        self.sampler: Any = sampler
        self.batch_sampler: Any = None if self._streamed else batch_sampler
        self.collate_fn = collate_fn or (default_collate if batched else default_convert)
        self.num_workers = num_workers
        self.prefetch_factor = 2 if prefetch_factor is None and num_workers > 0 else prefetch_factor
        self.pin_memory = pin_memory
        self.drop_last = drop_last
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.generator = generator
        self.persistent_workers = persistent_workers

    def __iter__(self) -> Iterator[Any]:
        if self._streamed:
            return self._streamed_batches()
        if self.batch_sampler is not None and self.collate_fn is default_collate:
            found = whole_tensors(self.dataset)
            if found is not None:
                return self._tensor_batches(*found)
        return self._fetched_batches()

    def __len__(self) -> int:
        if self._streamed:
            n = len(self.dataset)
            if self.batch_size is None:
                return n
            return n // self.batch_size if self.drop_last else -(-n // self.batch_size)
        order: Any = self.sampler if self.batch_sampler is None else self.batch_sampler
        return len(order)

    def _tensor_batches(self, tensors: tuple, rows: Any) -> Iterator[list]:
        """Batches cut out of whole tensors; `rows` maps a sample to its row (None: itself)."""
        batches = self.batch_sampler
        sampler: Any = batches.sampler if type(batches) is BatchSampler else None
        if type(sampler) is SequentialSampler and rows is None:
            n, size = len(sampler), batches.batch_size
            for start in range(0, n - n % size if batches.drop_last else n, size):
                # A copy: writing into a batch must not reach the data set.
                yield [t[start : start + size].clone() for t in tensors]
        elif hasattr(sampler, "order"):
            order = sampler.order() if rows is None else rows[sampler.order()]
            n, size = len(order), batches.batch_size
            order = torch.tensor(order)
            for start in range(0, n - n % size if batches.drop_last else n, size):
                batch = order[start : start + size]
                yield [t[batch] for t in tensors]
        else:
            for indices in batches:
                chosen = list(indices) if rows is None else rows[list(indices)]
                batch = torch.tensor(chosen, dtype=torch.int64)
                yield [t[batch] for t in tensors]

    def _fetched_batches(self) -> Iterator[Any]:
        """Samples by index, then `collate_fn`; with num_workers > 0 they are fetched ahead."""
        dataset, collate = self.dataset, self.collate_fn
        batched = self.batch_sampler is not None
        plan: Iterable[Any] = self.batch_sampler if batched else self.sampler

        def fetch(wanted: Any) -> Any:
            if not batched:
                return dataset[wanted]
            if hasattr(dataset, "__getitems__"):
                return dataset.__getitems__(wanted)
            return [dataset[i] for i in wanted]

        for samples in _ahead(fetch, plan, self.num_workers, self.prefetch_factor or 0):
            yield collate(samples)

    def _streamed_batches(self) -> Iterator[Any]:
        stream = iter(self.dataset)
        if self.batch_size is None:
            for sample in stream:
                yield self.collate_fn(sample)
            return
        while samples := list(itertools.islice(stream, self.batch_size)):
            if len(samples) < self.batch_size and self.drop_last:
                return
            yield self.collate_fn(samples)


def _ahead(
    fetch: Callable[[Any], Any], plan: Iterable[Any], threads: int, factor: int
) -> Iterator[Any]:
    """`map(fetch, plan)` in order, with up to `threads * factor` calls under way in threads."""
    if threads == 0:
        yield from map(fetch, plan)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="adjoint-data") as pool:
        wanted = iter(plan)
        pending = [pool.submit(fetch, w) for w in itertools.islice(wanted, threads * factor)]
        try:
            while pending:
                result = pending.pop(0).result()
                pending.extend(pool.submit(fetch, w) for w in itertools.islice(wanted, 1))
                yield result
        finally:
            # The loop was left early or a fetch failed: what has not started need not start.
            for future in pending:
                future.cancel()


__all__ = ["DataLoader", "get_worker_info"]
