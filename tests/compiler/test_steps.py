"""Known calls that change tensors take one step (`compiler.steps`), as long as nothing it relies on has changed.

A training step is called until it takes steps; then something changes, and it is called on. All that can be seen must be
what the plain function shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import adjoint as torch
from adjoint.compiler import steps

pytestmark = pytest.mark.skipif(torch.is_eager(), reason="nothing is compiled")


class Training:
    """Parameters, a step that changes them, and what it was called with."""

    def __init__(self, wrap: Callable, plain_update: bool) -> None:
        self.w = torch.tensor([[0.3, -0.2], [0.5, 0.1]], requires_grad=True)
        self.b = torch.zeros(2, requires_grad=True)
        self.rate, self.other = 0.1, torch.ones(3, 2)
        self.optimizer = torch.optim.Adam([self.w, self.b], lr=0.05)

        def by_hand(x: Any, scale: Any) -> Any:
            loss = ((x @ self.w + self.b - self.other) ** 2).mean() * (scale or 1)
            loss.backward()
            with torch.no_grad():
                for p in (self.w, self.b):
                    p -= self.rate * p.grad
                    p.grad.zero_()
            return loss

        def by_optimizer(x: Any, scale: Any) -> Any:
            self.optimizer.zero_grad()
            loss = ((x @ self.w + self.b - self.other) ** 2).mean() * (scale or 1)
            loss.backward()
            self.optimizer.step()
            return loss

        self.step = wrap(by_hand if plain_update else by_optimizer)
        self.log: list = []
        self.kept: list = []

    def call(self, *args: Any) -> None:
        try:
            out = self.step(*args)
            self.log.append((out.item(), out.requires_grad, out.is_leaf))
        except (AttributeError, RuntimeError, TypeError) as error:
            self.log.append(type(error).__name__)
        for p in (self.w, self.b):
            self.log.append((p.tolist(), p.requires_grad, p._version, None if p.grad is None else p.grad.tolist()))


def x_of(k: int) -> Any:
    x = torch.arange(6).reshape(3, 2) / 7 - k / 5
    x.tolist()  # computed, so that the trace is at its beginning
    return x


def _set(t: Training, **values: Any) -> None:
    vars(t).update(values)


CHANGES: dict[str, Callable[[Training], Any]] = {
    "nothing": lambda t: None,
    "gradient missing": lambda t: setattr(t.w, "grad", None),
    "other gradient": lambda t: setattr(t.w, "grad", torch.full((2, 2), 0.25)),
    "gradient is a view": lambda t: setattr(t.w, "grad", torch.ones(4).view(2, 2)),
    "gradient is a transposed view": lambda t: setattr(t.w, "grad", torch.arange(4.0).reshape(2, 2).t()),
    "gradient is another tensor that is read": lambda t: setattr(t.w, "grad", t.w.detach()),
    "gradient pending": lambda t: setattr(t.w, "grad", torch.ones(2, 2) * 3),
    "both gradients one": lambda t: (setattr(t.b, "grad", torch.ones(2)), t.kept.append(t.b.grad)),
    "not trained": lambda t: t.b.requires_grad_(False),
    "other memory": lambda t: setattr(t.w, "data", torch.ones(2, 2)),
    "memory of a part": lambda t: setattr(t.w, "data", torch.ones(3, 2)[:2]),
    "a view is held": lambda t: t.kept.append(t.w.detach()[0]),
    "a view is changed": lambda t: (t.kept.append(t.w.detach()[0]), t.kept[-1].mul_(2)),
    "changed in place": lambda t: t.w.data.mul_(2),
    "other parameter": lambda t: _set(t, w=torch.ones(2, 2, requires_grad=True)),
    "other rate": lambda t: (_set(t, rate=0.3), t.optimizer.param_groups[0].update(lr=0.3)),
    "other constant": lambda t: _set(t, other=torch.zeros(3, 2)),
    "constant in place": lambda t: t.other.mul_(2),
    "constant is a parameter's row": lambda t: _set(t, other=t.w.detach()[0]),
    "hook": lambda t: t.w.register_hook(lambda g: g * 2),
    "state gone": lambda t: t.optimizer.state.clear(),
    "state in place": lambda t: [s["exp_avg"].mul_(2) for s in t.optimizer.state.values()],
    "pending work": lambda t: t.kept.append(torch.ones(3) + 1),
}


@pytest.mark.parametrize("plain_update", [True, False])
@pytest.mark.parametrize("name", CHANGES)
def test_a_step_sees_every_change(name: str, plain_update: bool) -> None:
    seen = []
    for wrap in (lambda f: f, torch.compile):
        t = Training(wrap, plain_update)
        for k in range(8):
            t.call(x_of(k), 2)
        for _ in range(2):
            CHANGES[name](t)
            for k in range(7):
                t.call(x_of(k), 2)
        t.log.append([v.tolist() for v in t.kept if v is not None])
        seen.append(t.log)
    assert seen[1] == seen[0]


ARGUMENTS: dict[str, Callable[[Training], tuple]] = {
    "numbers that are equal": lambda t: (x_of(1), 2.0),
    "true": lambda t: (x_of(1), True),
    "nought": lambda t: (x_of(1), 0),
    "minus nought": lambda t: (x_of(1), -0.0),
    "nothing": lambda t: (x_of(1), None),
    "text": lambda t: (x_of(1), ""),
    "list": lambda t: (x_of(1), []),
    "a tensor that is read": lambda t: (t.other, 2),
    "a parameter": lambda t: (t.w, 2),
    "detached parameter": lambda t: (t.w.detach(), 2),
    "a gradient": lambda t: (t.w.grad, 2),
    "a view": lambda t: (torch.ones(6, 2)[::2], 2),
    "transposed": lambda t: (torch.ones(2, 3).t(), 2),
    "a leaf": lambda t: (x_of(2).requires_grad_(), 2),
    "a result that requires grad": lambda t: (x_of(2).requires_grad_() * 2, 2),
    "with a gradient of its own": lambda t: ((lambda x: (setattr(x, "grad", torch.ones(3, 2)), x)[1])(x_of(2)), 2),
    "other dtype": lambda t: (x_of(1).double(), 2),
    "other shape": lambda t: (torch.ones(1, 2), 2),
    "nobody's": lambda t: (x_of(3) * 2, 2),
    "a number": lambda t: (1.5, 2),
}


@pytest.mark.parametrize("plain_update", [True, False])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_step_sees_what_its_arguments_are(name: str, plain_update: bool) -> None:
    seen = []
    for wrap in (lambda f: f, torch.compile):
        t = Training(wrap, plain_update)
        for k in range(8):
            t.call(x_of(k), 2)
        for k in range(6):
            t.call(*ARGUMENTS[name](t))
            t.call(x_of(k), 2)
        seen.append(t.log)
    assert seen[1] == seen[0]


@pytest.mark.parametrize("plain_update", [True, False])
def test_steps_are_taken(plain_update: bool, monkeypatch: Any) -> None:
    taken: list[bool] = []
    call = steps.Step.call
    monkeypatch.setattr(steps.Step, "call", lambda self, *rest: (lambda out: (taken.append(out is not None), out)[1])(call(self, *rest)))
    t = Training(torch.compile, plain_update)
    for k in range(20):
        t.call(x_of(k), 2)
    assert len(taken) > 10 and all(taken) and t.step.replays >= len(taken)
    for p in (t.w, t.b):
        p.grad = None
    t.call(x_of(0), 2)
    assert not taken[-1]  # known with gradients only


def test_a_step_that_fails_is_computed_as_without_compile() -> None:
    seen, replays = [], 0
    for wrap in (lambda f: f, torch.compile):
        found = {"total": torch.zeros(3)}

        @wrap
        def add(places: Any, table: Any, found: Any = found) -> Any:
            found["total"] += table[places]
            return found["total"].sum()

        log: list = []
        table = torch.arange(4.0)
        for k in range(14):
            places = torch.tensor([0, 1, 9 if k == 9 else 2])
            try:
                log.append(add(places, table).item())
            except IndexError as error:
                log.append(str(error))
            if k == 9:
                found["total"].zero_()
        seen.append(log)
        replays = getattr(add, "replays", 0)
    assert "9" in seen[0][9] and replays > 4
    assert seen[0] == seen[1]
