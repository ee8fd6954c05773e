"""Every function that makes a view: layout, writes both ways, and gradients through in-place changes.

Generated from two tables, the views and the changes, and compared with NumPy slopes always and with PyTorch, its values,
strides and gradients, where it is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as torch

pytestmark = pytest.mark.usefixtures("little_effort")

try:
    import torch as theirs
except ImportError:
    theirs = None

Make = Callable[[Any, Any], Any]

VIEWS: dict[str, tuple[tuple[int, ...], Make]] = {
    "view": ((2, 6), lambda t, x: x.view(3, 4)),
    "view -1": ((2, 3), lambda t, x: x.view(-1)),
    "view_as": ((2, 3), lambda t, x: x.view_as(t.zeros(3, 2))),
    "reshape": ((2, 3), lambda t, x: x.reshape(3, 2)),
    "reshape_as": ((2, 3), lambda t, x: x.reshape_as(t.zeros(6))),
    "flatten": ((2, 3, 2), lambda t, x: x.flatten(1)),
    "unflatten": ((6, 2), lambda t, x: x.unflatten(0, (2, 3))),
    "ravel": ((2, 3), lambda t, x: x.ravel()),
    "squeeze": ((1, 3, 1), lambda t, x: x.squeeze()),
    "squeeze dim": ((1, 3, 1), lambda t, x: x.squeeze(0)),
    "unsqueeze": ((3, 2), lambda t, x: x.unsqueeze(1)),
    "transpose": ((2, 3), lambda t, x: x.transpose(0, 1)),
    "swapaxes": ((2, 3, 2), lambda t, x: x.swapaxes(0, 2)),
    "permute": ((2, 3, 2), lambda t, x: x.permute(2, 0, 1)),
    "movedim": ((2, 3, 2), lambda t, x: x.movedim(0, -1)),
    "t": ((2, 3), lambda t, x: x.t()),
    "T": ((2, 3), lambda t, x: x.T),
    "mT": ((2, 2, 3), lambda t, x: x.mT),
    "mH": ((2, 2, 3), lambda t, x: x.mH),
    "adjoint": ((2, 2, 3), lambda t, x: x.adjoint()),
    "select": ((3, 4), lambda t, x: x.select(1, 2)),
    "narrow": ((5, 2), lambda t, x: x.narrow(0, 1, 3)),
    "split": ((5, 2), lambda t, x: x.split(2)[1]),
    "split sizes": ((5, 2), lambda t, x: x.split([1, 4])[1]),
    "chunk": ((5, 2), lambda t, x: x.chunk(2)[1]),
    "unbind": ((3, 2), lambda t, x: x.unbind(1)[0]),
    "tensor_split": ((5, 2), lambda t, x: x.tensor_split(3)[1]),
    "tensor_split at": ((5, 2), lambda t, x: t.tensor_split(x, (1, 3))[1]),
    "hsplit": ((2, 4), lambda t, x: x.hsplit(2)[1]),
    "vsplit": ((4, 2), lambda t, x: x.vsplit(2)[1]),
    "dsplit": ((2, 2, 4), lambda t, x: x.dsplit(2)[0]),
    "diagonal": ((3, 4), lambda t, x: x.diagonal()),
    "diagonal above": ((3, 4), lambda t, x: x.diagonal(1)),
    "diagonal below": ((2, 4, 3), lambda t, x: x.diagonal(-1, 1, 2)),
    "diagonal of axes": ((3, 2, 3), lambda t, x: x.diagonal(0, 2, 0)),
    "unfold": ((6, 2), lambda t, x: x.unfold(0, 2, 2)),
    "as_strided": ((12,), lambda t, x: x.as_strided((2, 3), (6, 2), 1)),
    "as_strided turned": ((3, 4), lambda t, x: t.as_strided(x, (4, 3), (1, 4))),
    "as_strided block": ((12,), lambda t, x: x.as_strided((2, 3), (3, 1), 2)),
    "expand of nothing": ((2, 3), lambda t, x: x.expand(2, 3)),
    "expand new axis": ((2, 3), lambda t, x: x.expand(1, 2, 3)),
    "broadcast_to": ((2, 3), lambda t, x: t.broadcast_to(x, (1, 2, 3))),
    "int": ((3, 2), lambda t, x: x[1]),
    "slice": ((5, 2), lambda t, x: x[1:4]),
    "step": ((7,), lambda t, x: x[1::3]),
    "two": ((4, 5), lambda t, x: x[::2, 1:4]),
    "dots": ((2, 3), lambda t, x: x[...]),
    "new axis": ((3,), lambda t, x: x[None]),
    "element": ((3, 2), lambda t, x: x[2, 1]),
    "0-d tensor": ((4, 2), lambda t, x: x[t.tensor(2)]),
    "two 0-d tensors": ((4, 2), lambda t, x: x[t.tensor(-1), t.tensor(0)]),
    "detach": ((2, 3), lambda t, x: x.detach()),
    "data": ((2, 3), lambda t, x: x.data),
    "view of a view": ((4, 6), lambda t, x: x[1:].t()[::2]),
    "view of a diagonal": ((4, 4), lambda t, x: x.diagonal()[1:3]),
    "diagonal of a view": ((5, 4), lambda t, x: x.t()[:, 1:].diagonal(1)),
    "unfold of a view": ((4, 6), lambda t, x: x.t()[1:].unfold(1, 2, 2)),
    "as_strided of a view": ((3, 4), lambda t, x: x[1:].as_strided((2, 2), (4, 1))),
    "as_strided back": ((3, 4), lambda t, x: x[2].as_strided((2, 4), (4, 1), 0)),
    "reshape of a view": ((4, 6), lambda t, x: x[:, :3].reshape(2, 2, 3)),
    "unfold of an unfold": ((9,), lambda t, x: x.unfold(0, 3, 3).unfold(1, 1, 2)),
}  # fmt: skip
LEAVE_THE_GRAPH = {"detach", "data"}
BEYOND = {"as_strided back"}  # PyTorch gives no gradient to elements outside the view that it was called on

CHANGES: dict[str, Callable[[Any, Any], Any]] = {
    "add_": lambda t, v: v.add_(1.5),
    "mul_ tensor": lambda t, v: v.mul_(t.arange(1, v.numel() + 1).reshape(v.shape).double()),
    "iadd": lambda t, v: v.__iadd__(2),
    "sin_": lambda t, v: v.sin_(),
    "zero_": lambda t, v: v.zero_(),
    "fill_": lambda t, v: v.fill_(3),
    "copy_": lambda t, v: v.copy_(t.ones(()).double() * 4),
    "setitem": lambda t, v: v.__setitem__(Ellipsis, 5.0),
    "set a part": lambda t, v: v.reshape(-1)[:1].mul_(7) if v.is_contiguous() else v.add_(7),
    "masked_fill_": lambda t, v: v.masked_fill_(v > 3.03, 0.5),
    "itself": lambda t, v: v.add_(v),
}  # fmt: skip


def values(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(1.0, np.prod(shape) + 1).reshape(shape)


@pytest.mark.parametrize("name", VIEWS)
def test_layout(name: str) -> None:
    shape, make = VIEWS[name]
    x = torch.tensor(values(shape))
    v = make(torch, x)
    assert v._base is x
    assert v.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    assert v.untyped_storage() == x.untyped_storage()
    assert v.data_ptr() - x.data_ptr() == v.storage_offset() * 8
    assert v._is_view() is (name not in LEAVE_THE_GRAPH)
    memory = x.numpy().reshape(-1)
    strided = np.lib.stride_tricks.as_strided(
        memory[v.storage_offset() :], v.shape, [8 * s for s in v.stride()]
    )
    np.testing.assert_array_equal(v.numpy(), strided, "strides and offset say where the elements lie")
    if theirs is None:
        return
    y = theirs.tensor(values(shape))
    w = make(theirs, y)
    np.testing.assert_array_equal(v.numpy(), w.numpy())
    assert tuple(v.shape) == tuple(w.shape)
    long = [d for d, n in enumerate(w.shape) if n > 1]
    assert [v.stride(d) for d in long] == [w.stride(d) for d in long]
    assert v.storage_offset() == w.storage_offset()
    assert v.is_contiguous() == w.is_contiguous()
    assert v._is_view() == w._is_view()
    assert v.reshape(-1)._is_view() == w.reshape(-1)._is_view()


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize(("change", "read"), [("mul_ tensor", False), ("setitem", False), ("set a part", False), ("add_", True), ("copy_", True)])
def test_writes_go_both_ways(name: str, change: str, read: bool) -> None:
    """The same statements on NumPy memory (through the tensor's own array) and, if there, in PyTorch."""
    shape, make = VIEWS[name]
    results = []
    for library in [torch] + ([theirs] if theirs is not None else []):
        x = library.tensor(values(shape))
        flat, v, again = x.view(-1), make(library, x), make(library, x)
        if read:  # otherwise everything is one program
            v.tolist()
        CHANGES[change](library, v)
        seen = [s.numpy().copy() for s in (x, v, again, flat)] if read else []
        x += 0.25
        flat[0] = 99.0
        results.append([*seen, *(s.numpy().copy() for s in (x, v, again, flat))])
        assert v.tolist() == make(library, x).tolist(), "the view shows its base"
    for other in results[1:]:
        for ours, expected in zip(results[0], other, strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-14)


# --- gradients ------------------------------------------------------------------------------------


def use_before(t: Any, make: Make, change: Callable, a: Any) -> Any:
    b = a * 1.25
    v = make(t, b)
    before = (v * 3).sum()
    change(t, v)
    return (b * b).sum() + before


def use_after(t: Any, make: Make, change: Callable, a: Any) -> Any:
    b = a * 1.25
    v = make(t, b)
    change(t, v)
    w = make(t, b)
    return (v * w * b.sum()).sum()


def change_base(t: Any, make: Make, change: Callable, a: Any) -> Any:
    b = a * 1.25
    v = make(t, b)
    change(t, b)
    return (v * v).sum() + b.sin().sum()


def change_twice(t: Any, make: Make, change: Callable, a: Any) -> Any:
    b = a * 1.25
    v, w = make(t, b), make(t, b)
    change(t, v)
    b.mul_(a)
    change(t, w)
    return (v * v).sum() + (b * b).sum()


def fill_a_buffer(t: Any, make: Make, change: Callable, a: Any) -> Any:
    """The base is no result: it becomes part of the graph by being written to."""
    b = t.zeros(*a.shape).double()
    v = make(t, b)
    v += make(t, a) * 2
    change(t, v)
    return (b * b * a).sum()


PROGRAMS = (use_before, use_after, change_base, change_twice, fill_a_buffer)


def derivative(library: Any, program: Callable, name: str, change: str) -> tuple[Any, Any]:
    """The result of a program and its gradient, still to be read."""
    shape, make = VIEWS[name]
    a = library.tensor(values(shape) / 4, requires_grad=True)
    out = program(library, make, CHANGES[change], a)
    out.backward()
    return out, a.grad


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("change", CHANGES)
def test_gradients_of_changes_through_views(change: str, program: Callable) -> None:
    third = (list(CHANGES).index(change) + PROGRAMS.index(program)) % 3  # of the views: compiling all takes minutes
    names = [name for name in [*VIEWS][third::3] if name not in LEAVE_THE_GRAPH]
    made = [derivative(torch, program, name, change) for name in names]  # all of them are one program
    for name, (out, gradient) in zip(names, made, strict=True):
        shape, make = VIEWS[name]
        value, got = out.item(), gradient.numpy()
        label = f"{name}, {change}, {program.__name__}"
        expected = None
        if theirs is not None and name not in BEYOND:
            try:
                expected = derivative(theirs, program, name, change)
            except RuntimeError as error:  # what PyTorch refuses is computed here
                assert "inplace" in str(error) or "in-place" in str(error), label
        if expected is not None:
            assert value == pytest.approx(expected[0].item(), rel=1e-12), label
            np.testing.assert_allclose(got, expected[1].numpy(), rtol=1e-10, atol=1e-12, err_msg=label)
        else:
            found = slopes(program, make, change, shape)
            rounding = 16 * np.finfo(float).eps * abs(value) / STEP  # of the sums whose differences the slopes are
            np.testing.assert_allclose(got, found, rtol=1e-4, atol=1e-5 + rounding, err_msg=label)


STEP = 1e-4


def slopes(program: Callable, make: Make, change: str, shape: tuple[int, ...]) -> np.ndarray:
    """Difference quotients; away from where masks switch."""
    point = values(shape) / 4
    out = np.zeros(point.size)
    with torch.no_grad():
        for k in range(point.size):
            ends = []
            for sign in (1, -1):
                moved = point.reshape(-1).copy()
                moved[k] += sign * STEP
                ends.append(program(torch, make, CHANGES[change], torch.tensor(moved.reshape(shape))).item())
            out[k] = (ends[0] - ends[1]) / (2 * STEP)
    return out.reshape(shape)


@pytest.mark.parametrize("name", sorted(set(VIEWS) - LEAVE_THE_GRAPH))
def test_gradients_are_the_slopes(name: str) -> None:
    shape, make = VIEWS[name]
    made = [derivative(torch, program, name, "sin_") for program in PROGRAMS]
    for program, (_, got) in zip(PROGRAMS, made, strict=True):
        np.testing.assert_allclose(got.numpy(), slopes(program, make, "sin_", shape), rtol=1e-5, atol=1e-5, err_msg=program.__name__)


# --- overlapping views ----------------------------------------------------------------------------


def test_overlapping_windows() -> None:
    x = torch.arange(6.0)
    w = x.unfold(0, 3, 1)
    assert w.stride() == (1, 1)
    assert w.tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]
    x[2] = 9
    assert w[:, 0].tolist() == [0, 1, 9, 3]
    w.fill_(7)
    assert x.tolist() == [7] * 6
    w[1] = torch.tensor([1.0, 2.0, 3.0])
    assert x.tolist() == [7, 1, 2, 3, 7, 7]
    for refused in (x.as_strided((3, 2), (0, 1)), x[:1].expand(4), torch.broadcast_to(x, (2, 6))):
        with pytest.raises(RuntimeError, match="more than one element"):
            refused.add_(1)


def test_change_through_overlapping_windows_uses_old_values() -> None:
    """Each element is computed from the memory as it was, then written; the last one written to a place stays. PyTorch
    applies the change as often as a place is shown."""
    x = torch.arange(4.0)
    x.unfold(0, 2, 1).add_(1)
    assert x.tolist() == [1, 2, 3, 4]
    a = torch.arange(4.0, requires_grad=True)
    b = a * 1
    b.unfold(0, 2, 1).mul_(torch.tensor([2.0, 3.0]))
    b.sum().backward()
    assert b.tolist() == [0, 2, 4, 9]  # of each pair the second is written first by the pair before
    assert a.grad.tolist() == [2, 2, 2, 3]


def test_gradients_of_overlapping_reads() -> None:
    x = torch.arange(1.0, 7.0, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: t.unfold(0, 3, 1).sin(), (x,))
    assert torch.autograd.gradcheck(lambda t: t.as_strided((3, 3), (1, 1), 1).sin(), (x,))
    assert torch.autograd.gradgradcheck(lambda t: t.as_strided((2, 2), (0, 2)).sin(), (x,))


def test_as_strided_refuses() -> None:
    x = torch.arange(5.0)
    for size, stride, offset, words in (
        ((3, 3), (2, 1), 0, "out of bounds for storage"),
        ((2,), (1,), 4, "out of bounds"),
        ((3,), (-1,), 0, "Negative strides"),
        ((3,), (1, 1), 0, "mismatch in length"),
        ((-1,), (1,), 0, "negative"),
    ):
        with pytest.raises(RuntimeError, match=words):
            x.as_strided(size, stride, offset)
    assert x.as_strided((0, 3), (9, 9), 2).shape == (0, 3)
    assert x.as_strided((), (), 3).item() == 3


# --- results are no views -------------------------------------------------------------------------


def test_results_lie_in_order() -> None:
    """Also those that PyTorch would leave in the order of their operands (docs/conventions.md)."""
    x = torch.ones(2, 3, 4)
    for y in (x[:, torch.tensor([0, 1])], x.mT + 1, x.mT.clone(), torch.ones(1).repeat(3), x.mT.contiguous(),
              x.expand(2, 2, 3, 4).clone(), x.index_add(1, torch.tensor([0]), torch.ones(2, 1, 4))):  # fmt: skip
        assert y._base is None
        assert y.is_contiguous()
        assert y.view(-1)._is_view()
    w = torch.randn(3, 4, requires_grad=True)
    (w.T @ torch.randn(3, 2)).sum().backward()
    assert w.grad.stride() == (4, 1)
    assert w.grad.view(-1).shape == (12,)
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        x.mT.view(-1)


# --- the same tensor in another form --------------------------------------------------------------

RESHAPED: dict[str, Callable[[Any], Any]] = {
    "t_": lambda x: x.t_(),
    "transpose_": lambda x: x.transpose_(0, 1),
    "swapaxes_": lambda x: x.swapaxes_(0, 1),
    "unsqueeze_": lambda x: x.unsqueeze_(1),
    "squeeze_": lambda x: x.squeeze_(),
    "as_strided_": lambda x: x.as_strided_((2,), (4,), 1),
    "resize_": lambda x: x.resize_(2, 2),
}


@pytest.mark.parametrize("name", RESHAPED)
def test_changes_of_form_keep_the_memory(name: str) -> None:
    found = []
    for library in [torch] + ([theirs] if theirs is not None else []):
        x = library.tensor(values((2, 3)))
        row = x[0]
        assert RESHAPED[name](x) is x
        x.mul_(10)
        row[1] += 0.5
        found.append((tuple(x.shape), x.stride(), x.tolist(), row.tolist()))
        y = library.tensor(values((2, 3)), requires_grad=True)
        if name != "resize_":
            with pytest.raises(RuntimeError, match="leaf"):
                RESHAPED[name](y)
            z = y * 2
            RESHAPED[name](z)
            z.mul_(3)
            (z * z).sum().backward()
            found[-1] += (y.grad.tolist(),)
    for other in found[1:]:
        assert found[0] == other


def test_resize() -> None:
    x = torch.arange(6.0)
    half = x[:3]
    assert x.resize_(2).tolist() == [0, 1]
    assert x.resize_(2, 3).tolist() == [[0, 1, 2], [3, 4, 5]], "the memory is still there"
    assert half.resize_(5).tolist() == [0, 1, 2, 3, 4]
    half[4] = 9
    assert x[1, 1].item() == 9
    lone = torch.ones(2)
    assert lone.resize_(3).tolist() == [1, 1, 0]
    with pytest.raises(RuntimeError, match="require grad"):
        torch.ones(2, requires_grad=True).resize_(3)
    with pytest.raises(RuntimeError, match="not resizable"):
        torch.from_numpy(array := np.ones(2)).resize_(3)
    assert array.tolist() == [1, 1]
    with pytest.raises(RuntimeError, match="share it"):
        half.resize_(99)
    assert torch.ones(4).resize_as_(torch.zeros(2, 2)).shape == (2, 2)


def test_set() -> None:
    s = torch.arange(4.0)
    z = torch.zeros(2)
    old = z[:1]
    assert z.set_(s) is z
    s += 1
    assert z.tolist() == [1, 2, 3, 4]
    z[0] = 7
    assert s[0].item() == 7
    assert old.tolist() == [0], "a view made before keeps the old memory"
    part = torch.empty(0).set_(s.untyped_storage(), 1, (2,), (2,))
    assert part.tolist() == [2, 4]
    part.zero_()
    assert z.tolist() == [7, 0, 3, 0]
    assert z.is_set_to(s) and not part.is_set_to(s)
    assert torch.ones(3).set_().shape == (0,)
    with pytest.raises(RuntimeError, match="dtype"):
        z.set_(torch.ones(2, dtype=torch.int64))


# --- data -----------------------------------------------------------------------------------------


def test_data_is_shared() -> None:
    for library in [torch] + ([theirs] if theirs is not None else []):
        w = library.ones(2, 2, requires_grad=True)
        before = w.detach()[0]
        y = library.zeros(3)
        corner = y[:1]
        w.data = y
        y += 5
        assert w.tolist() == [5, 5, 5] and w.is_leaf and w.requires_grad
        corner += 1
        with library.no_grad():
            w[1] = 0
        assert y.tolist() == [6, 0, 5]
        assert before.tolist() == [1, 1], "a view made before keeps the old memory"
        (w * w).sum().backward()
        assert w.grad.tolist() == [12, 0, 10]
        w.data.mul_(2)
        assert corner.tolist() == [12]
        with pytest.raises(RuntimeError, match="floating"):
            w.data = library.ones(2, dtype=library.int64)
        with pytest.raises(TypeError):
            w.data = 3
        w.data = w.data * 2
        assert w.tolist() == [24, 0, 20]
        assert y.tolist() == [12, 0, 10]


def test_parameters_in_one_flat_buffer() -> None:
    for library in [torch] + ([theirs] if theirs is not None else []):
        flat = library.zeros(6)
        layer = library.nn.Linear(2, 2)
        layer.weight.data = flat[:4].view(2, 2)
        layer.bias.data = flat[4:]
        flat += 1
        assert layer.weight.tolist() == [[1, 1], [1, 1]]
        layer(library.ones(1, 2)).sum().backward()
        with library.no_grad():
            for p in layer.parameters():
                p -= 0.5 * p.grad
        assert flat.tolist() == [0.5] * 6


def test_parameter_shares_memory() -> None:
    for library in [torch] + ([theirs] if theirs is not None else []):
        x = library.zeros(2)
        p = library.nn.Parameter(x)
        x += 1
        assert p.tolist() == [1, 1]
        library.optim.SGD([p], lr=1.0).zero_grad()
        (p * library.tensor([1.0, 2.0])).sum().backward()
        library.optim.SGD([p], lr=1.0).step()
        assert x.tolist() == [0, -1]
        a = np.zeros(2, dtype=np.float32)
        q = library.nn.Parameter(library.from_numpy(a))
        a += 3
        assert q.tolist() == [3, 3]
        with library.no_grad():
            q.mul_(2)
        assert a.tolist() == [6, 6]
        (q * q).sum().backward()
        assert q.grad.tolist() == [12, 12]


def test_parameter_from_a_view() -> None:
    """Sharing without cost where nobody else looks at the memory, and correctly where somebody does."""
    for library in [torch] + ([theirs] if theirs is not None else []):
        p = library.nn.Parameter(library.zeros(6).view(2, 3))
        q = library.nn.Parameter(library.arange(6.0)[2:4])
        if library is torch:
            assert p._escape is None and q._escape is None
        assert q.tolist() == [2, 3]
        x = library.zeros(6)
        head, whole = x[:2], x.view(3, 2)
        r = library.nn.Parameter(whole)
        head += 1
        x[5] = 7
        assert r.tolist() == whole.tolist() == [[1, 1], [0, 0], [0, 7]]
        with library.no_grad():
            r[1, 0] = 4
        assert x.tolist() == [1, 1, 4, 0, 0, 7]
        part = x[1:3]
        s = library.nn.Parameter(part)
        x *= 2
        assert s.tolist() == part.tolist() == [2, 8]
        with library.no_grad():
            s.zero_()
        assert r.tolist() == [[2, 0], [0, 0], [0, 14]]
        turned = library.arange(6.0).view(2, 3).t()
        u = library.nn.Parameter(turned)
        turned += 1
        assert u.tolist() == [[1, 4], [2, 5], [3, 6]]


def test_swap_of_values() -> None:
    a, b = torch.arange(3.0), torch.arange(3.0) * 10
    view = a[1:]
    a[:], b[:] = b.clone(), a.clone()
    assert (a.tolist(), b.tolist(), view.tolist()) == ([0, 10, 20], [0, 1, 2], [10, 20])
    x = torch.arange(4.0)
    x[:2], x[2:] = x[2:].clone(), x[:2].clone()
    assert x.tolist() == [2, 3, 0, 1]
    with torch.no_grad():
        a.data, b.data = b.data, a.data
    assert (a.tolist(), b.tolist(), view.tolist()) == ([0, 1, 2], [0, 10, 20], [10, 20])


def test_detached_view_in_place_is_refused() -> None:
    b = torch.ones(3, requires_grad=True) * 2
    with pytest.raises(RuntimeError, match="detach views in-place"):
        b[:2].detach_()
    assert not b.detach_().requires_grad


def test_versions_count() -> None:
    x = torch.zeros(3)
    x.add_(1)
    x[0] = 2
    x[1:].mul_(2)
    assert x._version == 3


def test_memory_of_a_loop_over_views_does_not_grow() -> None:
    """Views that are gone leave nothing with their base."""
    x = torch.zeros(100)
    for k in range(3000):
        x[k % 100] += 1
        x.detach()
        if k % 50 == 0:
            x[0].item()
    assert x.tolist() == [30.0] * 100
    assert x._views is None or len(x._views.fresh) + len(x._views.stale) < 500


@pytest.mark.parametrize("seen", [False, True])
def test_a_view_that_becomes_a_leaf_still_shares_its_memory(seen: bool) -> None:
    """What changes the base changes it, and the other way round; derivatives are its own."""
    base = torch.ones(4)
    row, rest, whole = base[:2], base[1:], base.detach()
    if seen:
        row.tolist(), rest.tolist()
    row.requires_grad_()
    base.mul_(3)
    assert row.requires_grad and row.is_leaf and row.tolist() == [3, 3]
    (row * row).sum().backward()
    with torch.no_grad():
        row -= row.grad
    assert base.tolist() == [-3, -3, 3, 3] and rest.tolist() == [-3, 3, 3] and whole.tolist() == base.tolist()

    w = torch.ones(3, requires_grad=True)
    twin = w.detach().requires_grad_()
    with torch.no_grad():
        w.mul_(2)
    (w * twin).sum().backward()
    assert twin.tolist() == [2, 2, 2] == w.grad.tolist() == twin.grad.tolist()


def test_a_view_with_other_memory_no_longer_follows_its_base() -> None:
    base = torch.zeros(2, 3)
    row, column = base[0], base[:, 0]
    row.data = torch.ones(3) * 2
    column.set_(torch.ones(2))
    base.add_(1)
    assert row.tolist() == [2, 2, 2] and column.tolist() == [1, 1] and base.tolist() == [[1, 1, 1]] * 2


@pytest.mark.parametrize("change", ["view", "base", "both"])
def test_a_view_requires_grad_after_its_leaf_does_not(change: str) -> None:
    """As in PyTorch it stays a result, of which the derivative leads nowhere."""
    w = torch.ones(3, requires_grad=True)
    part, rest = w[:1], w[1:]
    w.requires_grad_(False)
    with torch.no_grad():
        if change != "base":
            rest.mul_(2)
            part.add_(1)
        if change != "view":
            w.mul_(2)
    assert part.requires_grad and rest.requires_grad and part.grad_fn is not None and not w.requires_grad
    x = torch.ones(1, requires_grad=True)
    (part * x).sum().backward()
    assert w.grad is None and x.grad.tolist() == part.tolist() == [{"view": 2.0, "base": 2.0, "both": 4.0}[change]]
