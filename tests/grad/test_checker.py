"""The checkers catch wrong rules: planted errors in each table, of each kind, are found and named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.grad import explicit, partials, transposes
from adjoint.trace.handle import Tensor

GradcheckError = torch.autograd.GradcheckError


@pytest.fixture(autouse=True)
def fresh() -> Any:
    """Reference mode: a planted rule must not meet a derivative the trie remembers, nor leave one behind."""
    with torch.eager():
        yield


def variable(*shape: int) -> Any:
    values = np.random.default_rng(3).uniform(0.3, 1.5, shape)
    return torch.tensor(values, requires_grad=True)


def wrong_partial(name: str, *rules: Callable) -> Callable:
    return lambda patch: patch.setitem(partials.PARTIALS, name, rules)


PLANTED: dict[str, tuple[Callable, Callable, tuple]] = {
    "a wrong factor": (wrong_partial("tanh", lambda out, x: 1 - out), lambda x: x.tanh(), (3,)),
    "a wrong sign": (wrong_partial("cos", lambda out, x: x.sin()), lambda x: x.cos(), (2, 2)),
    "a slightly wrong factor": (
        wrong_partial("exp", lambda out, x: out * 1.01),
        lambda x: x.exp(),
        (3,),
    ),
    "a lost operand": (
        wrong_partial("mul", lambda out, x, y: y, lambda out, x, y: 0),
        lambda x: x * x,
        (3,),
    ),
    "a mask too many": (wrong_partial("relu", lambda out, x: out > 1), lambda x: x.relu(), (4,)),
    "a NaN": (wrong_partial("sqrt", lambda out, x: out * float("nan")), lambda x: x.sqrt(), (2,)),
    "a transpose of another shape's order": (
        lambda patch: patch.setitem(
            transposes.TRANSPOSES, "permute", lambda g, args, perm: (g.reshape(args[0].shape),)
        ),
        lambda x: x.t() * torch.arange(6.0, dtype=torch.float64).reshape(3, 2),
        (2, 3),
    ),
    "a cumulative sum the wrong way": (
        lambda patch: patch.setitem(
            transposes.TRANSPOSES, "cumsum", lambda g, args, axis: (g.cumsum(axis),)
        ),
        lambda x: x.cumsum(0),
        (4,),
    ),
    "a reverse rule without a minus": (
        lambda patch: patch.setitem(
            explicit.REVERSE, "inv", lambda g, out, args, attrs: (out.mT @ g @ out.mT,)
        ),
        lambda x: torch.linalg.inv(x + 2 * torch.eye(2, dtype=torch.float64)),
        (2, 2),
    ),
}


@pytest.mark.parametrize("what", PLANTED)
def test_gradcheck_finds(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, function, shape = PLANTED[what]
    assert torch.autograd.gradcheck(function, (variable(*shape),)), (
        "right before the rule is changed"
    )
    plant(monkeypatch)
    with pytest.raises(
        GradcheckError, match="Jacobian mismatch for output 0 with respect to input 0"
    ):
        torch.autograd.gradcheck(function, (variable(*shape),))
    assert torch.autograd.gradcheck(function, (variable(*shape),), raise_exception=False) is False


def test_forward_rule_alone_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    right = explicit.FORWARD["det"]
    monkeypatch.setitem(explicit.FORWARD, "det", lambda *a: right(*a) * 2)
    x = variable(2, 2)
    assert torch.autograd.gradcheck(torch.linalg.det, (x,)), "reverse mode does not use it"
    with pytest.raises(GradcheckError, match="forward mode"):
        torch.autograd.gradcheck(torch.linalg.det, (x,), check_forward_ad=True)


def test_second_order_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first derivative that is right, but constant to the rules: only the second order shows it."""
    monkeypatch.setitem(partials.PARTIALS, "tanh", (lambda out, x: (1 - out * out).detach(),))
    x = variable(3)
    assert torch.autograd.gradcheck(torch.tanh, (x,))
    with pytest.raises(GradcheckError):
        torch.autograd.gradgradcheck(torch.tanh, (x,))


def test_a_gradient_that_never_arrives_is_found() -> None:
    x = variable(3)
    with pytest.raises(GradcheckError):
        torch.autograd.gradcheck(lambda v: v * v.detach(), (x,))


def test_nothing_to_check_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one input"):
        torch.autograd.gradcheck(torch.tanh, (torch.ones(2, dtype=torch.float64),))


def test_several_inputs_and_outputs() -> None:
    x, y = variable(2), variable(2)

    def function(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return a * b, (a / b).sum()

    assert torch.autograd.gradcheck(function, (x, y), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, (x, y))
