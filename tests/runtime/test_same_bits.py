"""The same bits whatever the number of threads, the process, and the place of the operands in memory.

Work is cut by shapes alone, so the number of threads can only decide who computes a block, never what a block is. The
cases of `LARGE` are big enough to be cut, which each of them checks; the operator records go through as they are.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import adjoint as torch
import adjoint.nn.functional as F
from adjoint.runtime import jit, pool
from adjoint.testing.operators import RECORDS, OpRecord
from adjoint.testing.operators.record import flat, tensors
from adjoint.trace import bounds, state

COUNTS = (1, 2, 4)
compiled_only = pytest.mark.skipif(torch.is_eager(), reason="reference mode has no threads of its own")


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def normal(*shape: int, seed: int = 1) -> Any:
    """Numbers of very different size, so that any other order of a sum shows."""
    random = np.random.default_rng(seed)
    return torch.tensor((random.standard_normal(shape) * 10.0 ** random.integers(-3, 4, shape)).astype(np.float32))


def integers(high: int, *shape: int) -> Any:
    return torch.tensor(np.random.default_rng(2).integers(0, high, shape))


def gradients(function: Callable[..., Any], *operands: Any) -> list[Any]:
    """The value of a function and the gradient of the sum of its square."""
    leaves = [x.requires_grad_() if x.dtype.is_floating_point else x for x in operands]
    out = function(*leaves)
    (out * out).sum().backward()
    return [out, *(x.grad for x in leaves if x.requires_grad)]


def drawn(draw: Callable[[], Any]) -> Any:
    torch.manual_seed(9)
    return draw()


# Sizes appear nowhere else in the tests, so that each case compiles its programs here, where they are looked at.
LARGE: dict[str, Callable[[], Any]] = {
    "pointwise": lambda: gradients(lambda x: torch.tanh(x) * torch.sin(x) / (1 + x * x), normal(501, 1003)),
    "sum of all": lambda: normal(1009, 2011).sum(),
    "sum of rows": lambda: normal(1013, 1511).sum(1),
    "sum of columns": lambda: normal(1019, 1511).sum(0),
    "sum of few long rows": lambda: normal(3, 700_001).sum(1),
    "mean and variance": lambda: torch.var_mean(normal(997, 1009), dim=0),
    "product": lambda: (1 + normal(2, 800_003) * 1e-6).prod(1),
    "largest": lambda: normal(503, 2003).amax(1),
    "place of the largest": lambda: normal(509, 2003).argmax(1),
    "norm": lambda: normal(1021, 1031).norm(),
    "logsumexp": lambda: gradients(lambda x: x.logsumexp(1), normal(499, 1511)),
    "softmax": lambda: gradients(lambda x: x.softmax(-1), normal(487, 1511)),
    "softmax of columns": lambda: gradients(lambda x: x.softmax(0), normal(1511, 487)),
    "layer norm": lambda: gradients(lambda x, w, b: F.layer_norm(x, (769,), w, b), normal(611, 769), normal(769), normal(769)),
    "cumulative sum": lambda: gradients(lambda x: x.cumsum(1), normal(479, 1013)),
    "cumulative sum of columns": lambda: normal(1013, 479).cumsum(0),
    "matmul": lambda: gradients(torch.matmul, normal(301, 257), normal(257, 403)),
    "matmul, long inner axis": lambda: normal(67, 9001) @ normal(9001, 71),
    "matmul, transposed": lambda: normal(311, 307).t() @ normal(311, 293),
    "matrix times vector": lambda: normal(1201, 1301) @ normal(1301),
    "vector times matrix": lambda: normal(1201) @ normal(1201, 1303),
    "dot": lambda: torch.dot(normal(1_500_007), normal(1_500_007, seed=5)),
    "batched matmul": lambda: gradients(torch.matmul, normal(17, 101, 67), normal(17, 67, 103)),
    "matmul in float64": lambda: normal(211, 503).double() @ normal(503, 223).double(),
    "linear and relu": lambda: gradients(lambda x, w, b: F.relu(F.linear(x, w, b)), normal(307, 401), normal(203, 401), normal(203)),
    "conv2d": lambda: gradients(lambda x, w: F.conv2d(x, w, padding=1), normal(7, 5, 41, 43), normal(11, 5, 3, 3)),
    "conv2d with fewer products": lambda: gradients(lambda x, w: F.conv2d(x, w, padding=1), normal(3, 64, 23, 29), normal(35, 64, 3, 3)),
    "max pool": lambda: gradients(lambda x: F.max_pool2d(x, 2), normal(7, 11, 82, 86)),
    "batch norm": lambda: gradients(lambda x: F.batch_norm(x, None, None, training=True), normal(13, 11, 61, 59)),
    "attention": lambda: gradients(F.scaled_dot_product_attention, normal(3, 5, 97, 33), normal(3, 5, 97, 33, seed=3), normal(3, 5, 97, 33, seed=4)),
    "causal attention": lambda: gradients(lambda *x: F.scaled_dot_product_attention(*x, is_causal=True), normal(2, 2, 403, 17), normal(2, 2, 407, 17, seed=3), normal(2, 2, 407, 19, seed=4)),
    "cross entropy": lambda: gradients(F.cross_entropy, normal(601, 1511), integers(1511, 601)),
    "gather": lambda: gradients(lambda x, i: x.gather(1, i), normal(601, 1013), integers(1013, 601, 907)),
    "scatter_add": lambda: torch.zeros(601, 97).scatter_add(1, integers(97, 601, 1013), normal(601, 1013)),
    "index_add": lambda: torch.zeros(53, 1013).index_add(0, integers(53, 907), normal(907, 1013)),
    "embedding": lambda: gradients(lambda w, i: F.embedding(i, w), normal(97, 607), integers(97, 1501)),
    "sort": lambda: normal(307, 1013).sort(1).values,
    "rand": lambda: drawn(lambda: torch.rand(1021, 1033)),
    "randn": lambda: drawn(lambda: torch.randn(523, 1033)),
    "randint": lambda: drawn(lambda: torch.randint(0, 1000, (1021, 547))),
    "multinomial": lambda: drawn(lambda: torch.multinomial(torch.ones(701, 203), 7)),
    "dropout": lambda: drawn(lambda: gradients(lambda x: F.dropout(x, 0.3), normal(701, 1033))),
}  # fmt: skip
NOT_CUT = {"product", "scatter_add", "index_add"}  # one block each: their order of writing is the result


def bits(result: Any) -> list[bytes]:
    return [t.detach().numpy().tobytes() for t in flat(result)]


@compiled_only
@pytest.mark.parametrize("name", LARGE)
def test_any_number_of_threads_gives_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = []
    made = pool.RecordTable.__init__

    def watch(table: Any, records: Any) -> None:
        made(table, records)
        shared.append(table.parallel)

    monkeypatch.setattr(pool.RecordTable, "__init__", watch)
    seen = []
    for count in COUNTS:
        torch.set_num_threads(count)
        seen.append([bits(LARGE[name]()) for _ in range(2)])
    assert name in NOT_CUT or any(shared), "too small to be shared between threads, so this shows nothing"
    for count, runs in zip(COUNTS, seen, strict=True):
        for run in runs:
            assert run == seen[0][0], f"{name}: other bits with {count} threads"


@compiled_only
@pytest.mark.parametrize("name", LARGE)
def test_kernels_that_read_all_their_sizes_compute_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers in a kernel's text may as well come from its table, which is how one kernel serves many sizes."""
    texts: list[str] = []
    compile_kernels = jit.compile_kernels
    monkeypatch.setattr(jit, "compile_kernels", lambda new: texts.extend([text for _, text, _ in new]) or compile_kernels(new))
    monkeypatch.setenv("ADJOINT_CACHE", "0")
    seen = []
    for setting in ("0", "2"):
        monkeypatch.setenv("ADJOINT_SHARED_SIZES", setting)
        texts.clear()
        bounds.forget_below(state.roots())
        seen.append(bits(LARGE[name]()))
        assert any(["%size0" in text for text in texts]) == (setting == "2")
    assert seen[0] == seen[1]


@compiled_only
def test_four_threads_are_four() -> None:
    torch.set_num_threads(4)
    normal(1021, 1531).exp().sum().item()
    working = [t for t in threading.enumerate() if t.name.startswith("adjoint-worker")]
    assert len(working) == 3 and torch.get_num_threads() == 4


@compiled_only
@pytest.mark.usefixtures("little_effort")  # who computes which block is decided before
@pytest.mark.parametrize("record", [pytest.param(r, id=r.name) for r in RECORDS.values()])
def test_every_operator_with_any_number_of_threads(record: OpRecord) -> None:
    seen = []
    for count in COUNTS:
        torch.set_num_threads(count)
        torch.manual_seed(4)
        drawn = [s for dtype in record.dtypes for s in record.draw(dtype)]
        # read after all have been recorded: one program
        found = [record.run(torch, *tensors(torch, s.args), **tensors(torch, s.options)) for s in drawn]
        seen.append([b for result in found for b in bits(result)])
    assert seen[0] == seen[1] == seen[2]


# --- training runs ------------------------------------------------------------------------------------------------------

TRAINING = """
    import hashlib
    import adjoint as torch
    from adjoint import nn
    from adjoint.nn import functional as F
    from adjoint.utils.data import DataLoader, TensorDataset

    def train(steps):
        torch.manual_seed(3)
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(0.1), nn.Flatten(), nn.Linear(8 * 13 * 13, 96),
            nn.LayerNorm(96), nn.GELU(), nn.Dropout(0.3), nn.Linear(96, 10),
        )
        adam = torch.optim.Adam(model.parameters(), lr=1e-3)
        data = TensorDataset(torch.randn(256, 1, 28, 28), torch.randint(0, 10, (256,)))
        done = 0
        while done < steps:
            for x, y in DataLoader(data, batch_size=64, shuffle=True):
                loss = F.cross_entropy(model(x), y)
                adam.zero_grad()
                loss.backward()
                adam.step()
                done += 1
                if done % 7 == 0:
                    loss.item()
        digest = hashlib.sha256()
        for p in model.parameters():
            digest.update(p.detach().numpy().tobytes())
        return digest.hexdigest()
"""


def trained_here(steps: int) -> str:
    names: dict[str, Any] = {}
    exec(textwrap.dedent(TRAINING), names)
    return names["train"](steps)


def trained_elsewhere(steps: int, threads: int, hash_seed: int) -> str:
    code = textwrap.dedent(TRAINING) + f"\nprint(train({steps}))"
    settings = {**os.environ, "ADJOINT_NUM_THREADS": str(threads), "PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=settings, check=True)
    return done.stdout.strip()


def test_training_gives_the_same_bits_with_any_number_of_threads_and_in_any_process() -> None:
    """Also whatever the order of sets and dictionaries, which differs from process to process."""
    steps = 4 if torch.is_eager() else 32
    seen = []
    for count in COUNTS if not torch.is_eager() else (1,):
        torch.set_num_threads(count)
        seen.append(trained_here(steps))
    seen += [trained_elsewhere(steps, 1, 1), trained_elsewhere(steps, 4, 2)]
    assert len(set(seen)) == 1, seen


# --- operands in other places -------------------------------------------------------------------------------------------

PLACED: dict[str, Callable[[Any], Any]] = {
    "pointwise": lambda x: torch.exp(-x * x) * torch.cos(x),
    "sum": lambda x: x.sum(),
    "sum of rows": lambda x: x.sum(1),
    "sum of columns": lambda x: x.sum(0),
    "softmax": lambda x: x.softmax(1),
    "variance": lambda x: x.var(0),
    "matmul": lambda x: x @ x.t(),
    "cumulative sum": lambda x: x.cumsum(1),
}


@pytest.mark.parametrize("shape", [(3, 5), (37, 129), (211, 1027)])
@pytest.mark.parametrize("name", PLACED)
def test_memory_at_odd_addresses_gives_the_same_bits(name: str, shape: tuple[int, int]) -> None:
    """Memory of NumPy's starts anywhere; registers are filled by position, never by address."""
    value = normal(*shape).numpy().copy()
    seen = set()
    for offset in (0, 4, 12, 60):
        room = np.zeros(value.nbytes + 128, np.uint8)
        start = -room.ctypes.data % 64 + offset
        placed = room[start : start + value.nbytes].view(np.float32).reshape(shape)
        placed[...] = value
        seen.add(hashlib.sha256(b"".join(bits(PLACED[name](torch.from_numpy(placed))))).hexdigest())
    seen.add(hashlib.sha256(b"".join(bits(PLACED[name](torch.tensor(value))))).hexdigest())
    assert len(seen) == 1


@pytest.mark.parametrize("shape", [(3, 5), (37, 129), (211, 1027)])
@pytest.mark.parametrize("name", PLACED)
def test_a_view_of_rows_gives_the_bits_of_its_copy(name: str, shape: tuple[int, int]) -> None:
    whole = normal(shape[0] + 3, shape[1])
    want = bits(PLACED[name](torch.tensor(whole.numpy()[2 : 2 + shape[0]].copy())))
    assert bits(PLACED[name](whole[2 : 2 + shape[0]])) == want
    for start in (0, 1, 2):  # the start is a run-time number
        part = torch.tensor(whole.numpy()[start : start + shape[0]].copy())
        assert bits(PLACED[name](whole[start : start + shape[0]])) == bits(PLACED[name](part))
