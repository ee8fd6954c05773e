"""Elements of concrete tensors, read and written in memory: nobody who holds an older value may notice."""

from __future__ import annotations

import numpy as np
import pytest

import adjoint as torch
from adjoint.trace.state import counters


def concrete(*shape, **kwargs):
    x = torch.arange(float(np.prod(shape)), **kwargs).reshape(*shape).clone()
    x.tolist()
    return x


def test_reading_and_writing_elements_ends_no_trace():
    x = concrete(3, 4)
    x[0, 0].item()
    before = dict(counters)
    assert [x[i, j].item() for i in range(3) for j in range(-4, 0)] == list(range(12))
    assert [x[i][j].item() for i in range(3) for j in range(4)] == list(range(12))
    for i in range(3):
        x[i, -1] = i + 0.5
    assert x.tolist() == [[0, 1, 2, 0.5], [4, 5, 6, 1.5], [8, 9, 10, 2.5]]
    if not torch.is_eager():
        assert counters["flushes"] == before["flushes"]
        assert counters["programs"] == before["programs"]


def test_reading_leaves_the_trace_as_it_was():
    x, y = concrete(5), concrete(5)
    found = []
    for turn in range(4):
        before = counters["programs"]
        z = y * 2.0 + 1.0
        for k in range(turn):
            assert x[k].item() == k
        found.append((z * 3.0).tolist())
        if turn and not torch.is_eager():
            assert counters["programs"] == before
    assert found == [[3.0, 9.0, 15.0, 21.0, 27.0]] * 4


def test_a_view_that_was_read_is_still_a_view():
    x = concrete(3, 4)
    e, row, column = x[1, 2], x[1], x[:, 2]
    assert e.item() == 6
    x[1, 2] = 70.0
    assert e.item() == 70 and row.tolist() == [4, 5, 70, 7] and column.tolist() == [2, 70, 10]
    assert (e * 2).item() == 140
    e.fill_(7.0)
    assert x[1, 2].item() == 7 and row[2].item() == 7
    row[2] = 8.0
    assert e.item() == 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64], ids=str)
def test_a_view_whose_steps_do_not_follow_one_another(dtype):
    """Between the views that lead to an element the same movements of another tensor were recorded, whose view is alive."""
    for turn in range(80):
        x, y = torch.tensor([6.0, -1.0, 4.0]), torch.tensor([7, 5], dtype=dtype)
        x.tolist(), y.tolist()
        first = x.view(-1) if turn % 2 else x[1:2]
        other = y[1] if turn % 2 else y[1:2]
        element = first[0] if turn % 2 else first.reshape(())
        held = y[0] if turn % 3 == 0 else None
        assert element.item() == (6 if turn % 2 else -1)
        product = other * 1
        x[2] = 1.5
        assert other.tolist() == (5 if turn % 2 else [5]) and product.tolist() == other.tolist() and y.tolist() == [7, 5]
        assert x.tolist() == [6, -1, 1.5] and (held is None or held.item() == 7) and first.tolist() == ([6, -1, 1.5] if turn % 2 else [-1])


def test_reshaped_tensors_in_loops_of_elements():
    x, y = torch.arange(3.0).double().reshape(3), torch.arange(5.0, 8.0).double().reshape(3)
    for turn in range(80):
        assert [x[i].item() for i in range(2)] == [0, 1]
        x[2] = float(turn)
        part = y[turn % 3]
        assert x[2].item() == turn and x.numpy()[2] == turn
        assert part.item() == 5 + turn % 3 and y.tolist() == [5, 6, 7]


def test_values_that_others_hold_do_not_change():
    x = concrete(4)
    later, copy, part = x * 2, x.clone(), x[1:3].clone()
    alias = x.detach()
    x[1] = 100.0
    assert later.tolist() == [0, 2, 4, 6] and copy.tolist() == [0, 1, 2, 3] and part.tolist() == [1, 2]
    assert alias.tolist() == [0, 100, 2, 3]
    alias[0] = -1.0
    assert x[0].item() == -1
    saved = concrete(3)
    w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    loss = (w * saved).sum()
    loss.item()
    saved[0] = 50.0  # PyTorch refuses the backward; here it uses the value that was used
    loss.backward()
    assert w.grad.tolist() == [0, 1, 2]


def test_two_handles_of_one_buffer():
    x = concrete(3)
    y = torch.zeros(3)
    y.copy_(x)
    z = x.data
    x[0] = 9.0
    assert y.tolist() == [0, 1, 2] and z.tolist() == [9, 1, 2]


def test_memory_shared_with_numpy():
    x = concrete(4)
    n = x.numpy()
    x[0] = 5.0
    assert n[0] == 5
    n[1] = 6.0
    assert x[1].item() == 6
    del n
    x[2] = 7.0
    assert x.tolist() == [5, 6, 7, 3]
    own = np.zeros(3)
    y = torch.from_numpy(own)
    y[1] = 2.0
    assert own.tolist() == [0, 2, 0]
    own[0] = 1.0
    assert y[0].item() == 1


def test_gradients_through_elements_of_leaves_and_results():
    w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    assert w[1].item() == 2
    with pytest.raises(RuntimeError, match="leaf"):
        w[0] = 1.0
    with torch.no_grad():
        w[0] = 4.0
    assert w.tolist() == [4, 2, 3]
    y = w * 2
    y[1] = 0.0
    y.tolist()
    y[0] = w[2] * w[2]
    y.sum().backward()
    assert w.grad.tolist() == [0, 0, 8]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int8", "int64", "bool", "complex64"])
def test_every_dtype(dtype):
    x = torch.zeros(3, dtype=getattr(torch, dtype))
    x.tolist()
    x[1] = 1
    x[-1] = True
    assert x.tolist() == [0, 1, 1] and x[1].item() == 1
    assert type(x[1].item()) is type(x.tolist()[1])


def test_numbers_that_do_not_fit_and_places_that_are_not_there():
    x = concrete(3)
    x[0], x[1] = float("inf"), float("nan")
    assert x[0].item() == float("inf") and x[1].item() != x[1].item()
    x[2] = np.float64(0.1)
    assert x[2].item() == np.float32(0.1)
    x[2] = torch.tensor(3, dtype=torch.int64)
    assert x[2].item() == 3
    with pytest.raises(IndexError, match="out of bounds"):
        x[3] = 1.0
    with pytest.raises(IndexError, match="out of bounds"):
        x[-4].item()
    with pytest.raises(IndexError, match="too many indices"):
        x[0, 0] = 1.0
    with pytest.raises(RuntimeError):
        x[0] = torch.tensor([1.0, 2.0])
    k = torch.zeros(2, dtype=torch.int64)
    k.tolist()
    k[0] = 2**62 + 1
    assert k[0].item() == 2**62 + 1
    version = x._version
    x[0] = 1.0
    assert x._version == version + 1


def test_an_element_of_a_part_that_is_used_afterwards() -> None:
    """Reading takes back the steps of the view that was read, but not those of a part that somebody holds."""
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    rows = []
    for k in range(3):
        row = x.select(0, k)
        rows.append(row * row[0].item())
    assert torch.stack(rows).tolist() == [[1, 2], [9, 12], [25, 30]]
