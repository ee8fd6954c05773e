"""Backward through several traces by memory: rows of a Jacobian, loops that were cut, values read on the way."""

from __future__ import annotations

import numpy as np
import pytest

import adjoint as torch
from adjoint.autograd import segments
from adjoint.trace.state import counters

pytestmark = pytest.mark.usefixtures("little_effort")


def test_the_leaf_in_another_place_of_the_trace():
    # the steps recorded between the read and the backward are the same path, but its operands have changed places
    for turn in range(6):
        w = torch.tensor([1.0, 2.0], requires_grad=True)
        u = torch.tensor([5.0, 7.0], requires_grad=True)
        loss = (w * w * w).sum()
        loss.item()
        z = u * w if turn < 3 else w * u
        loss.backward()
        assert w.grad.tolist() == [3.0, 12.0]
        assert z.tolist() == [5.0, 14.0]


def test_the_second_backward_is_of_another_graph_of_the_same_path():
    for turn in range(6):
        w = torch.tensor([1.0, 0.5], requires_grad=True)
        v = torch.tensor([0.5, 0.25], requires_grad=True)
        a = (w * w * w).exp().sum()
        a.item()
        b = (v * v * v).exp().sum()
        b.item()
        a.backward(retain_graph=True)
        (a if turn < 3 else b).backward(retain_graph=True)
        times = 2 if turn < 3 else 1
        wanted = lambda x: 3 * x * x * np.exp(x**3)  # noqa: E731
        np.testing.assert_allclose(w.grad.numpy(), times * wanted(np.array([1.0, 0.5])), rtol=1e-5)
        if turn < 3:
            assert v.grad is None
        else:
            np.testing.assert_allclose(v.grad.numpy(), wanted(np.array([0.5, 0.25])), rtol=1e-5)


def recurrence(a, b, steps):
    h = b
    for _ in range(steps):
        h = torch.tanh(h * a + b)
        h = h - h * h * 0.25
    return h


def reference(a, b, steps):
    """Value and gradients of the sum of `recurrence`."""
    hs, ts, h = [], [], b
    for _ in range(steps):
        hs.append(h)
        t = np.tanh(h * a + b)
        ts.append(t)
        h = t - t * t * 0.25
    g, ga, gb = np.ones_like(b), np.zeros_like(a), np.zeros_like(b)
    for h0, t in zip(reversed(hs), reversed(ts), strict=True):
        s = g * (1 - 0.5 * t) * (1 - t * t)
        ga, gb, g = ga + s * h0, gb + s, s * a
    return h.sum(), ga, gb + g


@pytest.mark.parametrize("reads", [0, 97])
@pytest.mark.parametrize("steps", [40, 600])
def test_a_long_recurrence(steps, reads):
    rng = np.random.default_rng(steps)
    for turn in range(3):
        data = rng.uniform(0.1, 0.9, 4), rng.uniform(0.1, 0.9, 4)
        a, b = (torch.tensor(x, requires_grad=True) for x in data)
        before = dict(counters)
        h = b
        for k in range(steps):
            h = torch.tanh(h * a + b)
            h = h - h * h * 0.25
            if reads and k % reads == 0:
                assert h[0].item() < 1
        h.sum().backward()
        value, ga, gb = reference(*data, steps)
        np.testing.assert_allclose(h.sum().item(), value, rtol=1e-9)
        np.testing.assert_allclose(a.grad.numpy(), ga, rtol=1e-9)
        np.testing.assert_allclose(b.grad.numpy(), gb, rtol=1e-9)
        if turn and not torch.is_eager():
            assert counters["nodes"] == before["nodes"]  # nothing is recorded anew
            assert counters["programs"] == before["programs"]


def test_programs_of_a_loop_do_not_grow_with_its_length():
    if torch.is_eager():
        pytest.skip("reference mode has no programs")

    def programs(steps):
        a = torch.full((3,), 0.5, requires_grad=True)
        before = counters["programs"]
        h = torch.zeros(3)
        for _ in range(steps):
            h = torch.sin(h * a + 0.125) * 0.875
        h.sum().backward()
        a.grad.tolist()
        return counters["programs"] - before

    assert programs(2000) <= 8
    assert programs(5000) <= 3


def rows(y, x, keep_all=True):
    out = []
    for i in range(len(y)):
        x.grad = None
        y[i].backward(retain_graph=keep_all or i + 1 < len(y))
        out.append(x.grad.clone())
    return torch.stack(out)


@pytest.mark.parametrize("steps", [3, 40, 200])
@pytest.mark.parametrize("read", [False, True])
def test_rows_of_a_jacobian(steps, read):
    rng = np.random.default_rng(0)
    m = rng.uniform(-0.4, 0.4, (6, 6))
    for turn in range(3):
        start = rng.uniform(-1, 1, 6)
        x, w = torch.tensor(start, requires_grad=True), torch.tensor(m)
        before = dict(counters)
        y, value, jac = x, start, np.eye(6)
        for k in range(steps):
            c = (k % 7 + 1) * 0.125  # no short period
            y = torch.sin(y) * c + (w @ y if k % 50 == 0 else y * 0.5)
            step = np.diag(np.cos(value) * c) + (m if k % 50 == 0 else 0.5 * np.eye(6))
            value = np.sin(value) * c + (m @ value if k % 50 == 0 else value * 0.5)
            jac = step @ jac
        if read:
            np.testing.assert_allclose(y.tolist(), value, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(rows(y, x, turn != 1).numpy(), jac, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(y.tolist(), value, rtol=1e-8, atol=1e-12)
        if turn != 1:
            np.testing.assert_allclose(rows(y, x).numpy(), jac, rtol=1e-8, atol=1e-12)
        else:
            with pytest.raises(RuntimeError, match="second time"):
                y[0].backward()
        assert before["nodes"] <= counters["nodes"]


def test_accumulated_rows_and_two_leaves():
    for _ in range(3):
        x, w = torch.tensor([0.3, 0.7], requires_grad=True), torch.tensor([2.0, -1.0], requires_grad=True)
        y = x
        for k in range(400):
            y = y * 0.5 + torch.sin(w) * x if k % 3 else y * w.abs() * 0.25 + x
        y.tolist()
        for i in range(2):
            y[i].backward(retain_graph=True)
        together = x.grad.clone(), w.grad.clone()
        x.grad = w.grad = None
        y.sum().backward()
        np.testing.assert_allclose(together[0].numpy(), x.grad.numpy(), rtol=1e-5)
        np.testing.assert_allclose(together[1].numpy(), w.grad.numpy(), rtol=1e-5)


def test_a_leaf_changed_between_forward_and_backward():
    # the derivative is by the values that were used, whatever the leaf holds now
    for turn in range(4):
        w = torch.tensor([1.5, -0.5], requires_grad=True)
        x = torch.tensor([2.0, 3.0], requires_grad=True)
        h = w * x
        h.tolist()
        y = (h * w).sum()
        y.item()
        if turn % 2:
            with torch.no_grad():
                w.mul_(10.0)
        y.backward()
        np.testing.assert_allclose(x.grad.tolist(), [2.25, 0.25], rtol=1e-6)
        np.testing.assert_allclose(w.grad.tolist(), [6.0, -3.0], rtol=1e-6)


def test_second_derivatives_through_ended_traces():
    for _ in range(3):
        x = torch.tensor([0.5, 1.5], dtype=torch.float64, requires_grad=True)
        h = torch.exp(x)
        h.tolist()
        y = (h * x).sum()
        y.item()
        y.backward(create_graph=True)
        g = x.grad
        x.grad = None
        g.sum().backward()
        v = np.array([0.5, 1.5])
        np.testing.assert_allclose(x.grad.tolist(), np.exp(v) * (v + 2), rtol=1e-12)


def test_hooks_on_leaves_and_results():
    for _ in range(3):
        x = torch.tensor([0.5, 1.5], requires_grad=True)
        seen = []
        x.register_hook(lambda g, seen=seen: seen.append(g.tolist()))
        h = x * 2
        h.register_hook(lambda g: g * 10)
        h.tolist()
        y = (h * h).sum()
        y.item()
        y.backward(retain_graph=True)
        y.backward()
        assert x.grad.tolist() == [80.0, 240.0]
        assert seen == [[40.0, 120.0]] * 2


@pytest.mark.parametrize("changed", ["element", "row", "all"])
def test_a_state_that_is_changed_in_place_from_trace_to_trace(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its former values are brought back by memory, too, and need no second walk."""
    walks: list[int] = []
    walk = segments.first_time
    monkeypatch.setattr(segments, "first_time", lambda *given: [walks.append(len(walks)), walk(*given)][1])
    first = [0.5, -0.25, 0.75]

    def numbers(w: float) -> np.ndarray:
        s = np.array(first)
        for k in range(6):
            new = np.sin(w * s.sum() * s[k % 3]) + s[k % 3]
            s = np.where({"element": np.arange(3) == k % 3, "row": np.arange(3) > 0, "all": np.arange(3) >= 0}[changed], new * s[k % 3] + 0 * s, s)
        return s

    for turn in range(6):
        w = torch.tensor(0.5 + turn, dtype=torch.float64, requires_grad=True)
        s = torch.tensor(first, dtype=torch.float64) * 1
        for k in range(6):
            new = (torch.sin(w * s.sum() * s[k % 3]) + s[k % 3]) * s[k % 3]
            if changed == "element":
                s[k % 3] = new
            elif changed == "row":
                s[1:] = new.expand(2)
            else:
                s.copy_(new.expand(3))
            s[0].item()
        before = len(walks)
        s.sum().backward()
        step = 1e-6
        slope = (numbers(0.5 + turn + step).sum() - numbers(0.5 + turn - step).sum()) / (2 * step)
        np.testing.assert_allclose(s.detach().numpy(), numbers(0.5 + turn), rtol=1e-12)
        np.testing.assert_allclose(w.grad.item(), slope, rtol=1e-5, atol=1e-7)
    assert torch.is_eager() or (before > 0 and len(walks) == before)
