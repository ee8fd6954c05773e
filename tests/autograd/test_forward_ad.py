"""Dual tensors: tangents that travel along, as in `func.jvp`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.autograd import forward_ad as fw

PROGRAMS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "pointwise": lambda t, x, y: (x.sin() * y + x / y).exp(),
    "one of two": lambda t, x, y: x * x.sum() + 1,
    "product": lambda t, x, y: x.reshape(2, 1) @ y.reshape(1, 2),
    "composite": lambda t, x, y: (x * y).log_softmax(0),
    "view and in place": lambda t, x, y: t.cat([x, y])[1:3].clone().mul_(x).add_(y),
    "read in between": lambda t, x, y: x * y * (x * y).detach().sum().item(),
}


def values(t: Any) -> tuple[Any, ...]:
    return tuple(t.tensor(v, dtype=t.float64) for v in ([0.5, 2.0], [1.5, 1.0], [1.0, -1.0], [0.25, 3.0]))


def pushed(t: Any, fw: Any, program: Callable[[Any, Any, Any], Any]) -> list[Any]:
    x, y, dx, dy = values(t)
    with fw.dual_level():
        return [part.tolist() for part in fw.unpack_dual(program(t, fw.make_dual(x, dx), fw.make_dual(y, dy)))]


@pytest.mark.parametrize("name", PROGRAMS)
def test_tangents_are_those_of_jvp_and_of_pytorch(name: str) -> None:
    program = PROGRAMS[name]
    x, y, dx, dy = values(torch)
    known = [part.tolist() for part in torch.func.jvp(lambda x, y: program(torch, x, y), (x, y), (dx, dy))]
    for _ in range(2):
        got = pushed(torch, fw, program)
        for mine, theirs in zip(got, known, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-13)
    reference = pytest.importorskip("torch")
    from torch.autograd import forward_ad as reference_fw

    for mine, theirs in zip(got, pushed(reference, reference_fw, program), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-13)


def test_a_tangent_is_differentiated_in_reverse() -> None:
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    v = torch.tensor([1.0, 3.0], requires_grad=True)
    with fw.dual_level():
        primal, tangent = fw.unpack_dual(fw.make_dual(w, v) ** 3)
        assert primal.requires_grad
        tangent.sum().backward()
    assert w.grad.tolist() == [6.0, 36.0]  # d(3 w^2 v) / dw
    assert v.grad.tolist() == [3.0, 12.0]


def test_parameters_of_a_module_are_made_dual() -> None:
    net = torch.nn.Linear(2, 1)
    x = torch.tensor([[1.0, 2.0]])
    along = {name: torch.ones_like(p) for name, p in net.named_parameters()}
    with fw.dual_level():
        for name, p in list(net.named_parameters()):
            delattr(net, name)
            setattr(net, name, fw.make_dual(p, along[name]))
        assert fw.unpack_dual(net(x)).tangent.tolist() == [[4.0]]


def test_where_there_is_no_tangent() -> None:
    x, t = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.5])
    with fw.dual_level() as number:
        assert number == 0
        d = fw.make_dual(x, t, level=number)
        assert fw.unpack_dual(x) == (x, None)
        assert fw.unpack_dual(d.detach() * 2).tangent is None
        w = torch.ones(2, requires_grad=True) * 2
        assert fw.unpack_dual(w).tangent is None
        primal, tangent = fw.unpack_dual(d, level=0)
        assert tangent.tolist() == [1.0, 0.5] and not primal.requires_grad and not tangent.requires_grad
        y = d * 2
    assert fw.unpack_dual(y).tangent is None, "the level is over"
    fw.enter_dual_level()
    assert fw.unpack_dual(y).tangent is None, "this one is another"
    fw.exit_dual_level()


def test_bad_calls() -> None:
    x, t = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.5])
    with pytest.raises(RuntimeError, match="no level exists"):
        fw.make_dual(x, t)
    with pytest.raises(RuntimeError, match="Dual level must be"):
        fw.exit_dual_level()
    with fw.dual_level():
        d = fw.make_dual(x, t)
        for call, error, words in (
            (lambda: fw.enter_dual_level(), RuntimeError, "Nested forward mode AD"),
            (lambda: fw.exit_dual_level(level=1), RuntimeError, "not the last one"),
            (lambda: fw.make_dual(x, t, level=1), RuntimeError, "Invalid level"),
            (lambda: fw.make_dual(d * 2, t), RuntimeError, "already has a forward gradient"),
            (lambda: fw.make_dual(x, torch.ones(3)), RuntimeError, r"\[2\].*\[3\]"),
            (lambda: fw.make_dual(x.long(), t), ValueError, "floating point or complex"),
            (lambda: fw.make_dual(x, t.long()), ValueError, "Expected tangent"),
            (lambda: fw.make_dual(x, 1.0), AttributeError, "got float"),
            (lambda: fw.unpack_dual(3), TypeError, "must be Tensor, not int"),
        ):
            with pytest.raises(error, match=words):
                call()
