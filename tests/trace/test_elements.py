"""Elements of concrete tensors, read and written in memory: nobody who holds an older value may notice."""

from __future__ import annotations

import subprocess
import sys

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


@pytest.mark.parametrize("number", [lambda k: k * 0.5, lambda k: k, lambda k: np.float32(k + 0.25)], ids=["floats", "ints", "of NumPy"])
def test_a_new_tensor_filled_in_a_loop_is_no_program_of_as_many_steps(number):
    """Nor is any other number of elements one more program."""
    for n in (150, 160, 161, 170):
        before = dict(counters)
        x = torch.zeros(n)
        y = x + 1
        for k in range(n):
            x[k] = number(k)
        assert x.tolist() == [float(number(k)) for k in range(n)] and y.tolist() == [1.0] * n
        assert x._version == n
        if not torch.is_eager():
            assert counters["operations"] - before["operations"] < 64, "most numbers were written without a step"
    if not torch.is_eager():
        assert counters["programs"] - before["programs"] <= 1  # of `zeros` and `ones` of this size


def test_numbers_written_between_other_steps_stay_in_one_trace():
    """A matrix filled with results and numbers, as a rotation is."""
    angle = torch.tensor(0.5)
    for _ in range(3):
        before = dict(counters)
        r = torch.zeros(4, 4)
        for i in range(4):
            r[i, i] = 1.0
            r[i, (i + 1) % 4] = angle.sin() if i % 2 else angle
            r[i, (i + 2) % 4] = -1.0
        total = r.sum()
        if not torch.is_eager():
            assert counters["flushes"] == before["flushes"]
        assert abs(total.item() - 2 * (np.sin(0.5) + 0.5)) < 1e-6


KINDS = ("float32", "float64", "bool", "uint8", "int8", "int16", "int32", "int64")


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("pending", [False, True], ids=["in memory", "pending"])
def test_numbers_written_have_the_value_of_a_tensor_of_them(dtype: str, pending: bool):
    """Of any kind, next to the limits of the dtype and beyond them, where the recorded step answers."""
    kind = getattr(torch, dtype)
    numbers = [True, False, 0, 1, -1, 2.75, -0.0, np.float64(1.5), np.int16(7), np.bool_(True)]
    if dtype not in ("float32", "float64", "bool"):
        least, most = (0, 255) if dtype == "uint8" else (-(1 << (int(dtype[3:]) - 1)), (1 << (int(dtype[3:]) - 1)) - 1)
        numbers += [least, most]
        for beyond in (least - 256, most + 1):
            x = torch.zeros(2, dtype=kind)
            with pytest.raises((RuntimeError, OverflowError)):
                x[0] = beyond
            assert x.tolist() == [0, 0]
    elif dtype != "bool":
        numbers += [float("inf"), -float("inf"), 1 << 53, (1 << 53) - 1, (1 << 24) + 1, 3.4e38, 1e-42]
    for first in range(0, 3 * len(numbers), len(numbers)):
        x = torch.zeros(first + len(numbers), dtype=kind)
        if not pending:
            x.tolist()
        for k in range(first):
            x[k] = 1
        for k, number in enumerate(numbers):
            x[first + k] = number
        wanted = [bool(n) if dtype == "bool" else torch.tensor(np.array(n)).to(kind).item() for n in numbers]
        assert x.tolist() == [1] * first + wanted


def test_a_loop_over_a_tensor_reads_one_element_after_the_other():
    x = concrete(300)
    before = dict(counters)
    found = []
    for k, v in enumerate(x):
        found.append(float(v))
        x[-1] = k * 2.0  # the last is a view like the others
    assert found == [*map(float, range(299)), 596.0]
    if not torch.is_eager():
        assert counters["flushes"] == before["flushes"] and counters["operations"] == before["operations"]
    a, b, c = x[:3]
    assert (a + b + c).item() == 3
    with pytest.raises(ValueError, match="too many values"):
        a, b = x
    with pytest.raises(TypeError, match="0-d"):
        iter(x[0])


def test_reading_many_elements_becomes_native_code():
    code = """if True:
        import adjoint as torch
        from adjoint.trace import elements, native
        x = torch.arange(10.0)
        x.tolist()
        read = [v.item() for _ in range(elements.REPEATING // 10 + 5) for v in x]
        assert read[-20:] == [*range(10)] * 2
        print(native.installed)
    """
    if torch.is_eager():
        pytest.skip("reference mode records in Python")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def filled(table, cost):
    """The cheapest way to each place of a table, written element by element."""
    for i in range(1, table.shape[0]):
        for j in range(1, table.shape[1]):
            table[i, j] = cost[i - 1, j - 1] + torch.min(torch.min(table[i - 1, j], table[i, -table.shape[1] + j - 1]), table[i - 1, j - 1])
    return table


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_a_table_is_filled_with_tensors(dtype: str) -> None:
    rng, kind = np.random.default_rng(0), getattr(torch, dtype)
    for _ in range(3):
        costs = rng.integers(0, 9, (4, 6))
        want = np.zeros((5, 7), costs.dtype)
        for i in range(1, 5):
            for j in range(1, 7):
                want[i, j] = costs[i - 1, j - 1] + min(want[i - 1, j], want[i, j - 1], want[i - 1, j - 1])
        assert filled(torch.zeros(5, 7, dtype=kind), torch.tensor(costs, dtype=kind)).tolist() == want.tolist()


def test_the_gradient_of_a_table_that_was_filled_with_tensors() -> None:
    def last(cost: torch.Tensor) -> torch.Tensor:
        return filled(torch.zeros(4, 5, dtype=torch.float64), cost.exp())[3, 4]

    cost = torch.tensor(np.random.default_rng(0).normal(size=(3, 4)), requires_grad=True)
    assert torch.autograd.gradcheck(last, cost)


def test_whoever_sees_the_memory_sees_a_tensor_written_to_a_place() -> None:
    for x, others in ((concrete(3, 4), True), (torch.zeros(3, 4), True), (concrete(3, 4) * 2, False)):
        row, turned, place, value = x[1], x.t(), x[1, 2], torch.tensor(2.5) * 2
        array = x.numpy() if others else None
        for index, number in (((1, 2), 5.0), ((-2, -2), 6.0)):
            x[index] = value + (number - 5)
            assert (x[1, 2].item(), row[2].item(), turned[2, 1].item(), place.item()) == (number,) * 4
            assert array is None or array[1, 2] == number
        row[0] = value
        assert x[1, 0].item() == 5 and x._version == 3
        x[0, 0] = x[1, 2]
        x[1, 2] = x[0, 1]
        assert x[0, 0].item() == 6 and place.item() == x[0, 1].item()


def test_a_tensor_written_to_a_place_has_to_fit() -> None:
    leaf, x = torch.zeros(2, 2, requires_grad=True), torch.zeros(2, 2)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        leaf[0, 1] = torch.tensor(1.0)
    with torch.no_grad():
        leaf[0, 1] = torch.tensor(1.0) + 1
    assert leaf.tolist() == [[0, 2], [0, 0]] and leaf.is_leaf and leaf.requires_grad
    with pytest.raises(IndexError, match="out of bounds"):
        x[0, 2] = torch.tensor(1.0)
    x[0, 1] = torch.tensor(3)  # of another dtype
    x[1, 0] = torch.tensor([4.0])
    with pytest.raises(RuntimeError):
        x[1, 1] = torch.tensor([4.0, 5.0])
    assert x.tolist() == [[0, 3], [4, 0]]
