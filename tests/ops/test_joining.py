"""`cat` and `stack` of many tensors that lie in memory, which are joined there and then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.ops.joining import MANY, SMALL
from adjoint.trace.state import counters

Makes = Callable[[np.ndarray], Any]

# What a part may be: each makes a tensor with the numbers it is given.
PARTS: dict[str, Makes] = {
    "in memory": lambda a: torch.tensor(a),
    "shared with NumPy": lambda a: torch.from_numpy(a),
    "a view": lambda a: torch.tensor(a[None])[0],
    "a part": lambda a: torch.tensor(np.concatenate([a, a + 1]))[: len(a)],
    "turned": lambda a: torch.tensor(a.T.copy()).T,
    "expanded": lambda a: torch.tensor(a[:1, :1]).expand(*a.shape) * 0 + torch.tensor(a),
    "pending": lambda a: torch.tensor(a - 1) + 1,
    "half as wide": lambda a: torch.tensor(a.astype("f4")),
    "detached": lambda a: torch.tensor(a, requires_grad=True).detach(),
    "changed in place": lambda a: torch.tensor(a * 2).mul_(0.5),
}


@pytest.mark.parametrize("kind", PARTS)
@pytest.mark.parametrize("axis", (0, 1, -1, -2))
def test_values(kind: str, axis: int) -> None:
    arrays = [np.arange(k, k + 6.0).reshape(2, 3) for k in range(MANY + 1)]
    for make in (PARTS["in memory"], PARTS[kind]):
        parts = [make(a) for a in arrays[:-1]] + [PARTS[kind](arrays[-1])]
        assert np.array_equal(torch.stack(parts, axis).numpy(), np.stack(arrays, axis))
        assert np.array_equal(torch.cat(parts, axis).numpy(), np.concatenate(arrays, axis))


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16, torch.bool, torch.int64, torch.complex64))
def test_dtypes(dtype: Any) -> None:
    parts = [torch.tensor([k, 0.5], dtype=dtype) for k in range(MANY)]
    out = torch.stack(parts)
    assert out.dtype is dtype
    assert torch.equal(out, torch.tensor([[k, 0.5] for k in range(MANY)], dtype=dtype))
    assert torch.cat(parts).dtype is dtype
    assert torch.cat([*parts, torch.zeros(1, dtype=torch.complex128)]).dtype is torch.complex128


def test_result_has_memory_of_its_own() -> None:
    parts = [torch.tensor([float(k)]) for k in range(MANY)]
    out = torch.cat(parts)
    parts[0].fill_(9)
    out[1] = -1
    assert out.tolist() == [0, -1, *range(2, MANY)]
    assert parts[1].item() == 1


def test_what_is_changed_before() -> None:
    parts = [torch.tensor([float(k)]) for k in range(MANY)]
    views = [p.view(1, 1) for p in parts]
    parts[2].add_(10)
    views[3].mul_(2)
    want = [0.0, 1.0, 12.0, 6.0, *range(4, MANY)]
    assert torch.cat(parts).tolist() == want
    assert torch.cat(views).flatten().tolist() == want


def test_derivatives() -> None:
    parts = [torch.tensor([float(k)], requires_grad=k == 3) for k in range(MANY)]
    (torch.cat(parts) * torch.arange(MANY)).sum().backward()
    assert parts[3].grad.tolist() == [3.0]
    (torch.stack(parts) ** 2).sum().backward()
    assert parts[3].grad.tolist() == [9.0]
    columns = torch.func.vmap(lambda x: torch.stack([x, *parts[:3], *parts[4:], x]))(torch.tensor([[5.0], [6.0]]))
    assert columns[:, -1].flatten().tolist() == [5.0, 6.0]


def test_compiled_function() -> None:
    parts = [torch.tensor([float(k)]) for k in range(MANY)]
    f = torch.compile(lambda x: torch.cat(parts) + x)
    for k in range(8):
        parts[k % 3].fill_(10.0 * k)
        assert torch.equal(f(torch.tensor(1.0)), torch.tensor([p.item() + 1 for p in parts]))


def test_batches_of_a_replay_buffer_are_one_program() -> None:
    draw = np.random.default_rng(0)
    states = [torch.tensor([[float(k), 1.0]]) for k in range(40)]
    actions = [torch.tensor([k % 2]).view(1, 1) if k % 3 else torch.tensor([[k % 2]]) for k in range(39)]
    weight = torch.zeros(2, 2)
    compiled = []
    for _ in range(12):
        before = counters["programs"]
        batch = [int(k) for k in draw.choice(39, 2 * MANY, replace=False)]
        now, later = torch.cat([states[k] for k in batch]), torch.cat([states[k + 1] for k in batch])
        chosen = torch.cat([actions[k] for k in batch])
        value = ((now @ weight).gather(1, chosen) + later.sum(1, keepdim=True)).sum()
        assert value.item() == sum(k + 2 for k in batch)
        compiled.append(counters["programs"] - before)
    assert sum(compiled[4:]) == 0


def test_large_parts_are_recorded() -> None:
    parts = [torch.zeros(SMALL // 4 // MANY + 1) for _ in range(MANY)]
    assert parts[0].sum().item() == 0
    assert (torch.cat(parts)._data is None) is not torch.is_eager()
    assert torch.cat([p[:1] for p in parts])._data is not None
