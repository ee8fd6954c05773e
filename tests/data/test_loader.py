"""Data sets, samplers and the loader: orders, batches, determinism, refusals."""

from __future__ import annotations

import itertools
from collections import Counter, namedtuple

import numpy as np
import pytest

import adjoint as torch
from adjoint.utils.data import (
    BatchSampler,
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    default_convert,
    random_split,
)


def pairs(n: int = 10) -> TensorDataset:
    """Sample i is (row [2i, 2i+1], label 100 + i): labels identify rows."""
    return TensorDataset(torch.arange(2.0 * n).reshape(n, 2), torch.arange(n) + 100)


class Slow(Dataset):
    """The same samples as `pairs`, but read one by one, so there is no short road."""

    def __init__(self, n: int = 10) -> None:
        self.n = n

    def __getitem__(self, i):
        if not 0 <= i < self.n:
            raise IndexError(i)
        return torch.tensor([2.0 * i, 2.0 * i + 1]), 100 + i

    def __len__(self):
        return self.n


class Stream(IterableDataset):
    def __init__(self, n: int) -> None:
        self.n = n

    def __iter__(self):
        return iter(range(self.n))


def labels(loader) -> list[list[int]]:
    return [y.tolist() for _, y in loader]


@pytest.mark.parametrize("data", [pairs(), Slow(), Subset(pairs(), list(range(10)))], ids=["tensors", "slow", "subset"])
@pytest.mark.parametrize("drop_last, sizes", [(False, [4, 4, 2]), (True, [4, 4])])
def test_sequential_batches(data, drop_last, sizes):
    loader = DataLoader(data, batch_size=4, drop_last=drop_last)
    assert len(loader) == len(sizes)
    batches = list(loader)
    assert [len(y) for _, y in batches] == sizes
    flat = [v for _, y in batches for v in y.tolist()]
    assert flat == list(range(100, 100 + sum(sizes)))
    for x, y in batches:
        rows = y.numpy() - 100
        np.testing.assert_array_equal(x.numpy(), np.stack([2 * rows, 2 * rows + 1], 1))
        assert x.dtype == torch.float32 and y.dtype == torch.int64


@pytest.mark.parametrize("make", [pairs, Slow])
def test_shuffle_is_a_new_permutation_each_epoch_and_repeats_with_the_seed(make):
    loader = DataLoader(make(40), batch_size=7, shuffle=True)
    torch.manual_seed(5)
    first, second = labels(loader), labels(loader)
    torch.manual_seed(5)
    again = labels(loader)
    assert first == again and first != second
    for epoch in (first, second):
        assert sorted(itertools.chain.from_iterable(epoch)) == list(range(100, 140))


def test_both_roads_give_the_same_batches():
    torch.manual_seed(1)
    quick = labels(DataLoader(pairs(23), batch_size=5, shuffle=True))
    torch.manual_seed(1)
    assert quick == labels(DataLoader(Slow(23), batch_size=5, shuffle=True))


def test_a_generator_of_its_own_decides_the_order():
    def epoch(seed):
        g = torch.Generator()
        g.manual_seed(seed)
        return labels(DataLoader(pairs(30), batch_size=30, shuffle=True, generator=g))

    assert epoch(3) == epoch(3) != epoch(4)


def test_writing_into_a_batch_leaves_the_data_set_alone():
    for shuffle in (False, True):
        data = pairs()
        before = data.tensors[0].clone()
        for x, _ in DataLoader(data, batch_size=4, shuffle=shuffle):
            x.zero_()
        assert (data.tensors[0] == before).all()


def test_subsets_of_subsets_read_the_right_rows():
    inner = Subset(pairs(10), [9, 3, 5, 7])
    outer = Subset(inner, [2, 0, -1])
    assert labels(DataLoader(outer, batch_size=2)) == [[105, 109], [107]]
    assert [outer[i][1].item() for i in range(3)] == [105, 109, 107]


def test_a_subclass_that_overrides_getitem_is_asked():
    class Doubled(TensorDataset):
        def __getitem__(self, i):
            return tuple(2 * t[i] for t in self.tensors)

    assert labels(DataLoader(Doubled(torch.zeros(3), torch.arange(3)), batch_size=3)) == [[0, 2, 4]]


def test_samplers_and_batch_samplers_of_ones_own():
    assert labels(DataLoader(pairs(), batch_size=2, sampler=[4, 0, 4])) == [[104, 100], [104]]
    in_order = BatchSampler(SequentialSampler(range(10)), 4, drop_last=True)
    assert labels(DataLoader(pairs(), batch_sampler=in_order)) == [
        [100, 101, 102, 103],
        [104, 105, 106, 107],
    ]
    mine = [[1], [2, 3], [9, 8, 7]]
    for data in (pairs(), Slow()):
        loader = DataLoader(data, batch_sampler=mine)
        assert len(loader) == 3
        assert labels(loader) == [[101], [102, 103], [109, 108, 107]]


def test_no_batching():
    samples = list(DataLoader(Slow(3), batch_size=None))
    assert [y for _, y in samples] == [100, 101, 102] and samples[0][0].shape == (2,)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_keep_the_order_and_pass_errors_on(threads):
    loader = DataLoader(
        Slow(23), batch_size=3, num_workers=threads, collate_fn=lambda b: [y for _, y in b]
    )
    assert list(itertools.chain.from_iterable(loader)) == list(range(100, 123))
    with pytest.raises(ZeroDivisionError):

        class Broken(Slow):
            def __getitem__(self, i):
                return 1 // (i - 4)

        list(DataLoader(Broken(9), batch_size=2, num_workers=threads))
    for _ in loader:  # leaving early must not hang
        break


def test_streams():
    assert [b.tolist() for b in DataLoader(Stream(5), batch_size=2)] == [[0, 1], [2, 3], [4]]
    assert [b.tolist() for b in DataLoader(Stream(5), batch_size=2, drop_last=True)] == [
        [0, 1],
        [2, 3],
    ]
    assert list(DataLoader(Stream(3), batch_size=None)) == [0, 1, 2]
    chain = Stream(2) + Stream(3)
    assert isinstance(chain, ChainDataset) and list(chain) == [0, 1, 0, 1, 2]
    with pytest.raises(TypeError):
        len(DataLoader(Stream(5)))


REFUSED = {
    "sampler and shuffle": {"shuffle": True, "sampler": [0]},
    "batch_sampler and batch_size": {"batch_sampler": [[0]], "batch_size": 2},
    "batch_size zero": {"batch_size": 0},
    "drop_last without batches": {"batch_size": None, "drop_last": True},
    "negative workers": {"num_workers": -1},
    "prefetch without workers": {"prefetch_factor": 2},
    "negative timeout": {"timeout": -1},
}


@pytest.mark.parametrize("arguments", REFUSED.values(), ids=REFUSED.keys())
def test_refusals(arguments):
    with pytest.raises(ValueError):
        DataLoader(pairs(), **arguments)


def test_more_refusals():
    with pytest.raises(ValueError, match="IterableDataset"):
        DataLoader(Stream(3), shuffle=True)
    with pytest.raises(ValueError, match=r"\(3,\).*\(4,\)"):
        TensorDataset(torch.zeros(3), torch.zeros(4))
    with pytest.raises(NotImplementedError):
        Dataset()[0]
    with pytest.raises(IndexError):
        ConcatDataset([[1, 2]])[2]
    with pytest.raises(TypeError, match="ChainDataset"):
        ConcatDataset([Stream(2)])
    with pytest.raises(TypeError, match="collate_fn"):
        default_collate([object()])
    with pytest.raises(RuntimeError):
        default_collate([[1, 2], [1]])


def test_concat_and_stack():
    both = pairs(3) + pairs(2)
    assert len(both) == 5 and both[-1][1].item() == 101 and both[3][1].item() == 100
    side = StackDataset(a=[1, 2], b=[3, 4])
    assert len(side) == 2 and side[1] == {"a": 2, "b": 4}
    assert StackDataset([1, 2], [3, 4])[0] == (1, 3)
    with pytest.raises(ValueError):
        StackDataset([1], [1, 2])


def test_random_split():
    torch.manual_seed(0)
    a, b, c = random_split(range(20), [12, 5, 3])
    assert (len(a), len(b), len(c)) == (12, 5, 3)
    assert sorted([*a, *b, *c]) == list(range(20)) and list(a) != list(range(12))
    torch.manual_seed(0)
    assert list(random_split(range(20), [12, 5, 3])[0]) == list(a)
    assert [len(p) for p in random_split(range(11), [0.5, 0.3, 0.2])] == [6, 3, 2]
    with pytest.raises(ValueError, match="sum"):
        random_split(range(5), [2, 2])


def test_samplers():
    assert list(SequentialSampler("abc")) == [0, 1, 2]
    torch.manual_seed(0)
    many = list(RandomSampler(range(4), num_samples=10))
    assert len(many) == 10 and set(Counter(many[:8]).values()) == {2}
    drawn = list(RandomSampler(range(3), replacement=True, num_samples=300))
    assert set(drawn) == {0, 1, 2} and all(70 < n < 130 for n in Counter(drawn).values())
    assert sorted(SubsetRandomSampler([5, 7, 9])) == [5, 7, 9]
    assert list(BatchSampler("abcde", 2, True)) == [["a", "b"], ["c", "d"]]
    with pytest.raises(ValueError):
        RandomSampler(range(3), num_samples=0)


def test_weighted_sampler():
    torch.manual_seed(0)
    drawn = Counter(WeightedRandomSampler([0.0, 1.0, 3.0], 4000))
    assert drawn[0] == 0 and abs(drawn[2] / 4000 - 0.75) < 0.03
    once = list(WeightedRandomSampler(torch.tensor([0.1, 5.0, 2.0]), 3, replacement=False))
    assert sorted(once) == [0, 1, 2]
    for weights, n, replacement in [
        ([1.0, -1.0], 1, True),
        ([0.0], 1, True),
        ([1.0, 0.0], 2, False),
    ]:
        with pytest.raises(ValueError):
            WeightedRandomSampler(weights, n, replacement)


def test_collate_forms():
    Point = namedtuple("Point", "x y")
    got = default_collate([Point(1, 2.5), Point(3, 4.5)])
    assert type(got) is Point and got.x.tolist() == [1, 3]
    assert got.y.dtype == torch.float64 and got.x.dtype == torch.int64
    nested = default_collate([{"a": [np.float32(1), True]}, {"a": [np.float32(2), False]}])
    assert nested["a"][0].dtype == torch.float32 and nested["a"][1].tolist() == [True, False]
    arrays = default_collate([np.zeros((2, 2)), np.ones((2, 2))])
    assert arrays.shape == (2, 2, 2) and arrays.dtype == torch.float64
    assert isinstance(default_convert(np.zeros(2)), torch.Tensor) and default_convert("s") == "s"


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("n, replicas", [(10, 3), (9, 3), (1, 3), (7, 1)])
def test_distributed_sampler_shares_the_data(n: int, replicas: int, drop_last: bool, shuffle: bool) -> None:
    samplers = [DistributedSampler(range(n), replicas, rank, shuffle, seed=3, drop_last=drop_last) for rank in range(replicas)]
    parts = [list(sampler) for sampler in samplers]
    size = n // replicas if drop_last else -(-n // replicas)
    assert [len(part) for part in parts] == [len(sampler) for sampler in samplers] == [size] * replicas
    read = [part[i] for i in range(size) for part in parts]
    assert len(set(read)) == min(n, size * replicas)
    if not shuffle:
        assert read == [i % n for i in range(size * replicas)]
    elif n > 3:
        assert [list(sampler) for sampler in samplers] == parts
        for sampler in samplers:
            sampler.set_epoch(1)
        assert [list(sampler) for sampler in samplers] != parts


def test_distributed_sampler_in_a_loader() -> None:
    assert sorted(DistributedSampler(range(4))) == [0, 1, 2, 3]
    loader = DataLoader(range(10), batch_size=2, sampler=DistributedSampler(range(10), 2, 1, shuffle=False))
    assert [batch.tolist() for batch in loader] == [[1, 3], [5, 7], [9]]
    with pytest.raises(ValueError, match=r"Invalid rank 3, rank should be in the interval \[0, 2\]"):
        DistributedSampler(range(10), 3, 3)
