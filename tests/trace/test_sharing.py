"""Views, in-place writes, memory shared with NumPy: what is written in one place is seen in all."""

from __future__ import annotations

from copy import copy as copied
from copy import deepcopy

import numpy as np
import pytest

import adjoint as torch
from adjoint.trace import state

# --- views ----------------------------------------------------------------------------------------


def test_write_through_a_view_is_seen_in_the_base_and_its_other_views() -> None:
    x = torch.zeros(3, 4)
    row, column, turned, whole = x[1], x[:, 2], x.T, x.view(-1)
    row += 1
    column *= 10
    assert x.tolist() == [[0, 0, 0, 0], [1, 1, 10, 1], [0, 0, 0, 0]]
    turned[0] = 5
    whole[-1] = 7
    assert row.tolist() == [5, 1, 10, 1]
    assert column.tolist() == [0, 10, 0]
    assert x[2].tolist() == [5, 0, 0, 7]


def test_write_to_the_base_between_reads_of_a_view() -> None:
    x = torch.arange(6.0)
    view = x[2:5]
    assert view.tolist() == [2, 3, 4]
    x += 1
    assert view.tolist() == [3, 4, 5]
    deeper = view[::2]
    x.fill_(9)
    assert deeper.tolist() == [9, 9]
    deeper.zero_()
    assert x.tolist() == [9, 9, 0, 9, 0, 9]


def test_small_view_that_a_trace_kept_does_not_go_stale() -> None:
    """A view written over before its trace ran must not come back with the old value."""
    x = torch.zeros(4)
    view = x[1:]
    x.fill_(2.0)
    assert (x * 1).sum().item() == 8
    assert view.tolist() == [2, 2, 2]


def test_copies_are_not_views() -> None:
    x = torch.ones(1, 3)
    for copy in (
        x.clone(),
        x.roll(1, 0),
        x.roll(3, 1),
        x.flip(0),
        x.repeat(1, 1),
        torch.cat([x]),
        x[[0]],
        x.to(torch.float64),
    ):
        copy += 1
        assert x.tolist() == [[1, 1, 1]]
    same = (
        x.t().contiguous()
    )  # a column of one row lies as before: PyTorch copies nothing here either
    same += 1
    assert x.tolist() == [[2, 2, 2]]


def test_gradients_through_writes() -> None:
    w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = w * 2
    y[0] = 5.0
    y[1:] *= w[1:]
    (y * y).sum().backward()
    # y = [5, 2 w1^2, 2 w2^2]
    assert w.grad.tolist() == [0.0, 16 * 2.0**3, 16 * 3.0**3]


def test_value_used_before_a_write_keeps_its_gradient() -> None:
    """PyTorch refuses this one; recorded values never change, so the derivative is that of what was
    computed."""
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    y = w * 3
    z = y * y
    y.zero_()
    z.sum().backward()
    assert w.grad.tolist() == [18.0, 36.0]
    assert y.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "change", [lambda y: y.detach().add_(5), lambda y: _no_grad(y)], ids=["detach", "no_grad"]
)
def test_change_that_autograd_does_not_see(change) -> None:
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    y = w * 2
    change(y)
    assert y.requires_grad and y.tolist() == [7.0, 9.0]
    assert type(y.grad_fn).__name__ == "MulBackward0"
    (y * y).sum().backward()
    assert w.grad.tolist() == [28.0, 36.0]


def _no_grad(y: torch.Tensor) -> None:
    with torch.no_grad():
        y += 5


def test_what_is_copied_under_no_grad_brings_no_gradient() -> None:
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    x = torch.zeros(2)
    with torch.no_grad():
        x.copy_(w * 2)
        x += w
    (x * w).sum().backward()
    assert not x.requires_grad
    assert w.grad.tolist() == [3.0, 6.0]


WIPES = {
    "zero": lambda y: y.zero_(),
    "fill": lambda y: y.fill_(3),
    "view": lambda y: y.view(-1).zero_(),
    "copy": lambda y: y.copy_(torch.ones(2)),
    "copy of a result": lambda y: y.copy_(torch.ones(2, requires_grad=True) * 2),
}


@pytest.mark.parametrize("wipe", WIPES.values(), ids=WIPES)
def test_overwritten_result_passes_on_zeros(wipe) -> None:
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    y = w * 2
    wipe(y)
    assert y.requires_grad
    y.sum().backward()
    assert w.grad.tolist() == [0.0, 0.0]


# --- NumPy ----------------------------------------------------------------------------------------


def test_numpy_shares_memory_both_ways() -> None:
    x = torch.ones(3)
    a = x.numpy()
    a[0] = 5
    assert x.tolist() == [5, 1, 1]
    x += 1
    assert a.tolist() == [6, 2, 2]
    y = x * 2
    a[:] = 0
    assert y.tolist() == [12, 4, 4]  # computed before the write, though perhaps run after it
    assert (x + 1).tolist() == [1, 1, 1]


def test_from_numpy_sees_outside_writes() -> None:
    a = np.arange(6.0).reshape(2, 3)
    x = torch.from_numpy(a)
    view = x[1]
    assert view.sum().item() == 12
    a *= 2
    assert view.sum().item() == 24
    assert x.tolist() == a.tolist()
    view.zero_()
    assert a[1].tolist() == [0, 0, 0]


def test_handed_out_memory_leaves_earlier_results_alone() -> None:
    w = torch.tensor([2.0, 2.0], requires_grad=True)
    x = torch.ones(2)
    y = x + 1
    z = (x.tanh() * w * w).sum()
    twin = x.clone()
    x.numpy()[:] = 7
    assert y.tolist() == [2, 2]
    assert twin.tolist() == [1, 1]
    z.backward()
    assert w.grad.tolist() == pytest.approx([4 * np.tanh(1.0)] * 2)


def test_views_of_shared_memory_are_read_anew() -> None:
    x = torch.zeros(4)
    a = x.numpy()
    view, alias = x[1:3], x.detach()
    first = view + 1
    a[:] = 5
    assert first.tolist() == [1, 1]
    assert (view + 1).tolist() == [6, 6]
    assert alias.tolist() == [5, 5, 5, 5]
    view.zero_()
    assert a.tolist() == [5, 0, 0, 5]


def test_large_shared_memory() -> None:
    a = np.zeros(50_000)
    x = torch.from_numpy(a)
    view = x[:3]
    before = x + 1
    a += 1
    assert before.sum().item() == 50_000
    assert x.sum().item() == 50_000
    view += 1
    assert a[:4].tolist() == [2, 2, 2, 1]
    x *= 3
    assert a[:4].tolist() == [6, 6, 6, 3] and view.tolist() == [6, 6, 6]


def test_loop_over_shared_memory_compiles_once() -> None:
    if torch.is_eager():
        pytest.skip("counts programs")
    a = np.zeros(8, dtype=np.float32)
    x = torch.from_numpy(a)
    seen = []
    for i in range(6):
        a[:] = i
        x += 1
        seen.append((x * 2).sum().item())
        if i == 2:
            before = torch.stats()["programs"]
    assert seen == [16 * (i + 1) for i in range(6)]
    assert torch.stats()["programs"] == before


def test_gradient_of_one_leaf_is_the_gradient_of_another() -> None:
    v, w = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    for _ in range(3):
        v.grad = w.grad = torch.zeros(2)
        (v * 2 + w * 3).sum().backward()
        assert v.grad is w.grad
        assert v.grad.tolist() == [5, 5]


def test_one_of_two_gradients_is_kept() -> None:
    """Which leaf accumulates changes from call to call, on one path."""
    v, w = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    for kept, other in ((v, w), (w, v), (v, w)):
        v.grad = w.grad = None
        (v * 2 + w * 3).sum().backward()
        other.grad = None
        (v * 2 + w * 3).sum().backward()
        one = {id(v): 2.0, id(w): 3.0}
        assert kept.grad.tolist() == [2 * one[id(kept)]] * 2
        assert other.grad.tolist() == [one[id(other)]] * 2


@pytest.mark.parametrize("columns", [1, 3, 8, 17])
def test_a_part_written_over_and_a_maximum_of_the_whole_in_one_loop(columns: int) -> None:
    """What the second pass wants of the first is the same in every column here."""
    x = torch.zeros(4, columns, dtype=torch.float64)
    expected = np.zeros((4, columns))
    part, flat, other = x.narrow(0, 1, 2), x.reshape(-1), x.detach()
    for k in range(3):
        top = flat.max()
        with torch.no_grad():
            other -= top.sin() - 1
        part /= 2
        expected -= np.sin(expected.max()) - 1
        expected[1:3] /= 2
    assert np.allclose(x.numpy(), expected, rtol=1e-12)


TURNED = {
    "transposed": (lambda x: x.t(), lambda a: a.T),
    "rows, transposed": (lambda x: x[10:290].t(), lambda a: a[10:290].T),
    "columns, transposed": (lambda x: x[:, 3:280].t(), lambda a: a[:, 3:280].T),
    "three axes": (lambda x: x.view(10, 30, 300).permute(2, 0, 1), lambda a: a.reshape(10, 30, 300).transpose(2, 0, 1)),
    "steps, transposed": (lambda x: x[::1, ::2].t(), lambda a: a[::1, ::2].T),
    "axis of one": (lambda x: x.view(300, 1, 300).permute(2, 1, 0), lambda a: a.reshape(300, 1, 300).transpose(2, 1, 0)),
    "repeated": (lambda x: x[:1].expand(300, 300).t(), lambda a: np.broadcast_to(a[:1], (300, 300)).T),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, np.complex64])
@pytest.mark.parametrize("kind", TURNED)
def test_large_views_of_shared_memory_are_read_anew(kind: str, dtype: type) -> None:
    """Views of an array of NumPy's with their axes in another order, large enough to be copied by a program."""
    of_tensor, of_array = TURNED[kind]
    array = (np.random.default_rng(0).random((300, 300)) * 200).astype(dtype)
    x = torch.from_numpy(array)
    for k in range(3):
        array[20, 5 + k] = k
        np.testing.assert_array_equal((of_tensor(x) + 0).numpy(), of_array(array))
        np.testing.assert_array_equal(of_tensor(x).clone().numpy(), of_array(array))
    of_tensor(x).mul_(2) if kind != "repeated" else x.mul_(2)
    np.testing.assert_array_equal((of_tensor(x) + 0).numpy(), of_array(array))


@pytest.mark.parametrize("rows", [2, 400])  # what is bound by a copy, and what is read where it lies
def test_a_value_taken_from_shared_memory_is_a_copy(rows: int) -> None:
    """Of a tensor whose memory NumPy sees: neither NumPy's later writes nor updates of the one reach the other."""
    ways = {
        "copy_": lambda a, b: a.copy_(b),
        "setitem": lambda a, b: a.__setitem__(slice(None), b),
        "data": lambda a, b: a.data.copy_(b),
        "detach": lambda a, b: a.detach().copy_(b),
    }
    for name, way in ways.items():
        for seen in (False, True):  # whether NumPy sees the memory that is written to, too
            b = torch.ones(rows, 300) * 5
            outside = b.numpy()
            a = torch.zeros(rows, 300) + 1
            mine = a.numpy() if seen else None
            way(a, b)
            outside[0, 0] = 99
            assert a[0, 0].item() == 5 and a[1, 1].item() == 5, (name, seen)
            a += 1
            outside[0, 1] = 98
            assert a[0].tolist()[:3] == [6, 6, 6] and b[0].tolist()[:3] == [99, 98, 5], (name, seen)
            assert [row.sum().item() for row in a][:2] == [1800, 1800], (name, seen)
            if mine is not None:
                assert mine[0, :3].tolist() == [6, 6, 6], (name, seen)
                mine[1, 1] = 7
                assert a[1, 1].item() == 7 and b[1, 1].item() == 5, (name, seen)


def test_parts_of_repeated_views_that_show_no_place_twice_are_written() -> None:
    a = torch.arange(6.0).reshape(2, 3) * 1
    v = a[1:2].expand(2, 3)
    v[1] = torch.ones(3)
    assert v.tolist() == [[1, 1, 1]] * 2 and a.tolist() == [[0, 1, 2], [1, 1, 1]]
    a = torch.arange(3.0) * 1
    v = a.expand(4, 3)
    v[2][1:] = 7
    assert a.tolist() == [0, 7, 7] and v.tolist() == [[0, 7, 7]] * 4
    a = torch.arange(3.0).reshape(3, 1) * 1
    a.expand(3, 5)[:, 2].add_(10)
    assert a.tolist() == [[10], [11], [12]]
    x = torch.arange(3.0, requires_grad=True)
    y = x * 2
    y.expand(2, 3)[0, 1] = 5.0
    (y * y).sum().backward()
    assert x.grad.tolist() == [0, 0, 16]
    with pytest.raises(RuntimeError, match="single memory location"):
        torch.arange(3.0).expand(2, 3).add_(1)


def test_parts_of_shared_memory_that_are_detached_lie_where_they_lie() -> None:
    """The recorded step of one part is not the description of another with as many elements."""
    parts = [lambda b: b[:1].expand(2, 6), lambda b: b[::2], lambda b: b[:2], lambda b: b[2:], lambda b: b.t()[:, 1:3].t(), lambda b: b[[0, 1]]]
    for order in (parts, parts[::-1]):
        for part in order:
            for detach in (lambda t: t.detach(), lambda t: t.data):
                array = np.arange(24.0).reshape(4, 6)
                b = torch.from_numpy(array)
                b.sum().item()
                wanted, w = part(b), detach(part(b))
                assert (w.stride(), w.is_contiguous(), w.tolist()) == (wanted.stride(), wanted.is_contiguous(), wanted.tolist())
                if 0 not in w.stride():
                    w.mul_(2.0)
                    assert w.tolist() == [[2 * x for x in row] for row in wanted.tolist()] or wanted.tolist() == w.tolist()
                else:
                    with pytest.raises(RuntimeError, match="more than one element"):
                        w.mul_(2.0)


def test_a_shallow_copy_shares_memory() -> None:
    for make in (lambda: torch.zeros(3, 2), lambda: torch.zeros(2, 4).t()[1:], lambda: torch.nn.Parameter(torch.zeros(3, 2))):
        x = make()
        x.label = "mine"
        y = copied(x)
        assert y is not x and type(y) is type(x) and y.label == "mine"
        assert (y.requires_grad, y.is_leaf, y.grad) == (x.requires_grad, True, None)
        assert (y.stride(), y.storage_offset()) == (x.stride(), x.storage_offset())
        with torch.no_grad():
            y[0, 0] = 7
            x[1, 1] = 5
        assert x[0, 0].item() == 7 and y[1, 1].item() == 5
        twin = deepcopy(x)
        with torch.no_grad():
            twin[0, 0] = 1
        assert twin.label == "mine" and x[0, 0].item() == 7


@pytest.mark.parametrize("held", [False, True])
def test_a_leaf_read_anew_and_another_leaf_are_different_paths(held: bool) -> None:
    """Memory that was handed out is read anew, so one leaf stands in a trace twice; gradients must not go to the first
    of two leaves where there are two."""
    old = torch.tensor([1.0, 2.0], requires_grad=True)
    new = torch.tensor([3.0, 4.0], requires_grad=True)
    for w in (old, old, new, old, new):
        array = old.detach().numpy()
        if not held:
            del array
        old.grad = new.grad = None
        (w * w).sum().backward()
        assert w.grad.tolist() == (2 * w).tolist()
        assert (new if w is old else old).grad is None
    for w in (old, new, old):
        array = old.detach().numpy()
        loss = (old * 3).sum()
        if not held:
            del array
        (g,) = torch.autograd.grad(loss, w, allow_unused=True)
        assert (g is None) is (w is new)
        assert loss.item() == 9


@pytest.mark.skipif(torch.is_eager(), reason="there is no trace")
def test_shared_memory_is_copied_once_for_each_use() -> None:
    array = np.arange(6.0, dtype=np.float32)
    two = torch.ones(2, 6)
    cases = {
        "exp": (lambda x: x.exp(), 1),
        "sum": (lambda x: x.sum(), 1),
        "+ 1": (lambda x: x + 1, 1),
        "1 -": (lambda x: 1 - x, 1),
        "torch.add": (lambda x: torch.add(x, 2.0), 1),
        "+ x": (lambda x: x + x, 2),
        "torch.mul": (lambda x: torch.mul(two, x), 2),
        "part": (lambda x: x[1:3] * 2, 1),
        "matmul": (lambda x: two @ x, 2),
    }
    for name, (function, inputs) in cases.items():
        wanted = function(torch.tensor(array)).tolist()
        for _ in range(3):
            shared = torch.from_numpy(array)
            result = function(shared)
            assert len(state.local.trace.inputs) == inputs, name
            array += 1  # seen by uses to come
            assert result.tolist() == wanted, name
            array -= 1
