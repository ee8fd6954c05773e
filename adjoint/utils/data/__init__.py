"""Data sets, samplers and the loader that turns them into batches, under PyTorch's names.

`dataset.py` says what a data set is, `sampler.py` in which order it is read, `collate.py` how
samples become a batch, `dataloader.py` puts the three together: read `DataLoader.__iter__` there first.
"""

from __future__ import annotations

from adjoint.utils.data.collate import default_collate, default_convert
from adjoint.utils.data.dataloader import DataLoader, get_worker_info
from adjoint.utils.data.dataset import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from adjoint.utils.data.distributed import DistributedSampler
from adjoint.utils.data.sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

__all__ = [
    "BatchSampler",
    "ChainDataset",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "DistributedSampler",
    "IterableDataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "StackDataset",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "WeightedRandomSampler",
    "default_collate",
    "default_convert",
    "get_worker_info",
    "random_split",
]


def __getattr__(name: str) -> object:
    from adjoint.absent import absent

    raise absent(__name__, name, globals())
