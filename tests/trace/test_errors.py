"""Errors: PyTorch's type at the call where the data is not needed, with the recording line where it
is; and everything goes on afterwards."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.trace import recorder

X = torch.arange(6.0).reshape(2, 3)

AT_THE_CALL = [
    ("shapes", lambda: X + torch.ones(4), RuntimeError, "4"),
    ("matmul", lambda: X @ torch.ones(2, 3), RuntimeError, "2x3"),
    ("reshape", lambda: X.reshape(4, 2), RuntimeError, "shape"),
    ("axis", lambda: X.sum(2), IndexError, "range"),
    ("index", lambda: X[2], IndexError, "out of bounds"),
    ("too many indices", lambda: X[0, 0, 0], IndexError, "too many"),
    ("dtype", lambda: X & X, RuntimeError, "bitwise"),
    ("float index", lambda: X[torch.ones(2)], IndexError, "indices"),
    ("where", lambda: torch.where(X, X, X), RuntimeError, "bool"),
    ("cat", lambda: torch.cat([X, torch.ones(5)]), RuntimeError, "dimension"),
    ("expand", lambda: X.expand(3, 3), RuntimeError, "expand"),
    ("in place shape", lambda: X.clone().add_(torch.ones(2, 2, 3)), RuntimeError, "output with"),
    ("in place dtype", lambda: torch.arange(3).add_(0.5), RuntimeError, "can't be cast"),
    ("expanded", lambda: torch.ones(1).expand(3).add_(1), RuntimeError, "single memory location"),
    ("no gradient", lambda: X.sum().backward(), RuntimeError, "does not require grad"),
    ("integer leaf", lambda: torch.arange(3).requires_grad_(), RuntimeError, "floating point"),
    ("item", lambda: X.item(), RuntimeError, "6 elements"),
    ("bool", lambda: bool(X > 1), RuntimeError, "ambiguous"),
    ("numpy", lambda: torch.ones(2, requires_grad=True).numpy(), RuntimeError, "detach"),
    ("string", lambda: X + "1", TypeError, "str"),
]  # fmt: skip


@pytest.mark.parametrize(
    "call, error, fragment", [row[1:] for row in AT_THE_CALL], ids=[row[0] for row in AT_THE_CALL]
)
def test_error_at_the_call(call, error: type, fragment: str) -> None:
    pending = torch.ones(3) * 2
    with pytest.raises(error, match=fragment) as caught:
        call()
    assert caught.traceback[1].path.name == "test_errors.py"  # the user's line is in the traceback
    assert pending.tolist() == [2, 2, 2]
    assert X.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_backward_of_a_vector() -> None:
    w = torch.ones(3, requires_grad=True)
    y = w * 2
    with pytest.raises(RuntimeError, match="scalar"):
        y.backward()
    y.sum().backward()
    assert w.grad.tolist() == [2, 2, 2]


@pytest.mark.parametrize("read", [False, True])
def test_second_backward(read: bool) -> None:
    w = torch.ones(3, requires_grad=True)
    loss = (w * w).sum()
    if read:
        loss.item()
    loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()
    assert w.grad.tolist() == [2, 2, 2]
    (w * w).sum().backward()
    assert w.grad.tolist() == [4, 4, 4]


CHANGES = {
    "add": lambda w: w.add_(1),
    "view": lambda w: w[0].zero_(),
    "setitem": lambda w: w.__setitem__(0, 1.0),
    "imul": lambda w: w.__imul__(2),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_in_place_on_a_leaf(change) -> None:
    w = torch.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf"):
        change(w)
    assert w.tolist() == [1, 1, 1]
    (w * w).sum().backward()
    assert w.grad.tolist() == [2, 2, 2]


def test_index_out_of_range_names_the_line() -> None:
    x, index = torch.arange(4.0), torch.tensor([0, 9])
    before = x + 1
    other = before * 2
    with pytest.raises(IndexError) as caught:
        y = x[index]  # recorded here
        y.tolist()
    line = test_index_out_of_range_names_the_line.__code__.co_firstlineno + 5
    if not torch.is_eager():
        assert f"test_errors.py:{line}" in str(caught.value)
    assert before.tolist() == [1, 2, 3, 4]
    assert other.tolist() == [2, 4, 6, 8]
    assert x[torch.tensor([0, 3])].tolist() == [0, 3]


def test_failed_tensor_keeps_its_error_and_others_their_values() -> None:
    if torch.is_eager():
        pytest.skip("raised at the call in reference mode")
    x, index = torch.arange(4.0), torch.tensor([7])
    good = x * 2
    bad = x[index]
    worse = bad + 1
    with pytest.raises(IndexError):
        worse.tolist()
    with pytest.raises(IndexError):
        bad.tolist()
    with pytest.raises(IndexError):
        (worse * 2).tolist()
    assert good.tolist() == [0, 2, 4, 6]


def test_singular_matrix() -> None:
    a = torch.zeros(2, 2)
    fine = torch.eye(2) * 2
    with pytest.raises(Exception, match="singular|Singular") as caught:
        torch.linalg.inv(a).tolist()
    assert isinstance(caught.value, RuntimeError | np.linalg.LinAlgError)
    assert torch.linalg.inv(fine).tolist() == [[0.5, 0], [0, 0.5]]


def test_failed_update_leaves_the_old_value() -> None:
    x = torch.tensor([1.0, 1.0, 1.0])
    index = torch.tensor([5])
    with pytest.raises(IndexError):
        x[index] = 2.0
        x.tolist()
    assert x.tolist() == [1, 1, 1]


@pytest.mark.parametrize("made", ["given", "changed", "computed", "through a view"])
@pytest.mark.parametrize("change", ["put", "copy", "add"])
def test_failed_update_leaves_what_came_before_it(made: str, change: str) -> None:
    bad, source = torch.tensor([5, 6, 7]), torch.tensor([7.0, 8.0, 9.0])
    x = torch.tensor([1.0, 2.0, 3.0])
    if made == "changed":
        x.add_(1)
    elif made == "computed":
        x = x + 1
    elif made == "through a view":
        part = x[1:]
        part.mul_(2)
    before = [1.0, 4.0, 6.0] if made == "through a view" else [1.0, 2.0, 3.0] if made == "given" else [2.0, 3.0, 4.0]
    with pytest.raises(IndexError):
        if change == "put":
            x[bad] = 2.0
        elif change == "copy":
            x.copy_(source[bad])
        else:
            x += source[bad]
        x.tolist()
    assert x.tolist() == before
    x[0] = 5
    assert x.tolist() == [5.0, *before[1:]]
    if made == "through a view":
        assert part.tolist() == before[1:]


def test_same_mistake_many_times() -> None:
    """A failing path is not remembered as a good one."""
    for _ in range(3):
        with pytest.raises(RuntimeError):
            torch.ones(2) * 3 + torch.ones(5)
    for bad in (False, True, False, True):
        x, index = torch.arange(4.0), torch.tensor([9 if bad else 2])
        if bad:
            with pytest.raises(IndexError):
                (x[index] * 2).tolist()
        else:
            assert (x[index] * 2).tolist() == [4]


def test_exception_in_the_users_code_inside_a_mode() -> None:
    w = torch.ones(2, requires_grad=True)
    with pytest.raises(KeyError), torch.no_grad():
        (w * 2).sum()
        raise KeyError("x")
    assert (w * 2).requires_grad


def test_exception_in_a_hook() -> None:
    w = torch.ones(2, requires_grad=True)

    def hook(g: torch.Tensor) -> None:
        raise ValueError("from the hook")

    y = w * 2
    y.register_hook(hook)
    with pytest.raises(ValueError, match="from the hook"):
        y.sum().backward()
    v = torch.ones(2, requires_grad=True)
    (v * 3).sum().backward()
    assert v.grad.tolist() == [3, 3]
    assert torch.is_grad_enabled()


def test_exception_in_a_custom_function() -> None:
    class Bad(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            raise ValueError("from backward")

    w = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match="from backward"):
        Bad.apply(w).sum().backward()
    (w * w).sum().backward()
    assert w.grad.tolist() == [2, 2]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_interrupt_at_any_moment() -> None:
    """Ctrl-C while recording, differentiating, compiling or running: afterwards new work is right,
    and what was pending has its value or an error."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals arrive in the main thread")
    armed = [False]

    def interrupt(number: int, frame: object) -> None:
        if armed[0]:
            armed[0] = False
            raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    caught = 0
    try:
        for k in range(40):
            size = 3 + k
            w = torch.full((size,), 0.5, requires_grad=True)
            x, count = torch.zeros(size), 0
            try:
                armed[0] = True
                signal.setitimer(signal.ITIMER_REAL, 0.0005 + 0.0007 * k)
                for i in range(2000):
                    y = (w * (i + 1)).tanh().sum()
                    y.backward()
                    x = x + 1.0
                    count += 1
                    if i % 3 == 0:
                        y.item()
                    w.grad = None
                armed[0] = False
            except KeyboardInterrupt:
                caught += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            try:
                assert x.tolist() in ([count] * size, [count + 1] * size)
            except RuntimeError as error:
                assert "interrupted" in str(error)
            v = torch.full((3,), 2.0, requires_grad=True)
            (v * v).sum().backward()
            assert v.grad.tolist() == [4, 4, 4]
            assert torch.is_grad_enabled()
    finally:
        signal.signal(signal.SIGALRM, old)
    assert caught > 10
    recorder.flush(recorder.current())
    assert (torch.ones(3) + 1).tolist() == [2, 2, 2]


HUGE: dict[str, Callable[[Any, int], Any]] = {
    "add": lambda x, n: x + n, "sub from": lambda x, n: n - x, "mul": lambda x, n: x * n, "add in place": lambda x, n: x.add_(n), "iadd": lambda x, n: x.__iadd__(n),
    "fill": lambda x, n: x.fill_(n), "element": lambda x, n: x.__setitem__(1, n), "part": lambda x, n: x.__setitem__(slice(1, 3), n),
    "compared": lambda x, n: x < n, "where": lambda x, n: torch.where(x > 1, x, n), "alpha": lambda x, n: torch.add(x, x, alpha=n),
    "full": lambda x, n: torch.full((2,), n), "clamp": lambda x, n: x.clamp(max=n),
}  # fmt: skip


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 2**200, -(2**3000)], ids=["2**64", "-2**63 - 1", "2**200", "-2**3000"])
@pytest.mark.parametrize("name", HUGE)
def test_an_int_of_more_than_64_bits_is_refused_where_it_is_used(name: str, number: int) -> None:
    """Also where the operation is well known with smaller ones; what is pending then is not lost."""
    for dtype in (torch.int64, torch.int32, torch.float32):
        x = torch.arange(3).to(dtype)
        x.tolist()
        for _ in range(70):
            HUGE[name](x.clone(), 3)
        pending, known = x * 2 + 1, HUGE[name](x.clone(), 4)
        for _ in range(2):
            with pytest.raises(OverflowError, match=r"int too big to convert.*64 bits"):
                HUGE[name](x, number)
        assert pending.tolist() == [1, 3, 5] and x.tolist() == [0, 1, 2]
        assert known is None or known.tolist() == HUGE[name](x.clone(), 4).tolist()


@pytest.mark.parametrize(
    "call",
    [
        lambda: torch.nn.functional.kl_div(X, X),
        lambda: torch.nn.MSELoss()(torch.ones(2, 1), torch.ones(2)),
        lambda: torch.nn.functional.softmax(X),
        lambda: torch.autocast("cuda"),
        lambda: torch.from_numpy(np.broadcast_to(np.ones(1), 3)),
    ],
)
def test_warnings_point_to_the_line_of_the_caller(call: Callable) -> None:
    with pytest.warns(UserWarning) as seen:
        call()
    (found,) = seen
    assert found.filename == __file__ and found.lineno == call.__code__.co_firstlineno
