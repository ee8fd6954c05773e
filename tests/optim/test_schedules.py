"""Learning-rate schedules: against closed formulas, and against PyTorch epoch by epoch."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import adjoint

RATE = 0.8
S = Callable[..., Any]

# How to make a schedule in library T on optimizer o, and the rate of epoch t where it has a short formula.
ROWS: dict[str, tuple[S, Callable[[int], float] | None]] = {
    "StepLR": (lambda T, o: T.StepLR(o, 3, 0.5), lambda t: RATE * 0.5 ** (t // 3)),
    "MultiStepLR": (
        lambda T, o: T.MultiStepLR(o, [2, 5, 5], 0.5),
        lambda t: RATE * 0.5 ** ((t >= 2) + 2 * (t >= 5)),
    ),
    "ConstantLR": (lambda T, o: T.ConstantLR(o, 0.25, 4), lambda t: RATE * (0.25 if t < 4 else 1)),
    "LinearLR": (
        lambda T, o: T.LinearLR(o, 0.2, 0.9, 5),
        lambda t: RATE * (0.2 + 0.7 * min(t, 5) / 5),
    ),
    "ExponentialLR": (lambda T, o: T.ExponentialLR(o, 0.9), lambda t: RATE * 0.9**t),
    "PolynomialLR": (
        lambda T, o: T.PolynomialLR(o, 6, 2.0),
        lambda t: RATE * (1 - min(t, 6) / 6) ** 2,
    ),
    "LambdaLR": (lambda T, o: T.LambdaLR(o, lambda t: 1 / (1 + t)), lambda t: RATE / (1 + t)),
    "MultiplicativeLR": (
        lambda T, o: T.MultiplicativeLR(o, lambda t: 0.9),
        lambda t: RATE * 0.9**t,
    ),
    "CosineAnnealingLR": (
        lambda T, o: T.CosineAnnealingLR(o, 5, 0.1),
        lambda t: 0.1 + 0.7 * (1 + math.cos(math.pi * t / 5)) / 2,
    ),
    "CosineAnnealingWarmRestarts": (
        lambda T, o: T.CosineAnnealingWarmRestarts(o, 4, 1, 0.1),
        lambda t: 0.1 + 0.7 * (1 + math.cos(math.pi * (t % 4) / 4)) / 2,
    ),
    "CosineAnnealingWarmRestarts(2)": (lambda T, o: T.CosineAnnealingWarmRestarts(o, 3, 2), None),
    "OneCycleLR": (lambda T, o: T.OneCycleLR(o, 1.0, total_steps=16), None),
    "OneCycleLR(linear,3)": (
        lambda T, o: T.OneCycleLR(
            o, 1.0, epochs=4, steps_per_epoch=4, anneal_strategy="linear", three_phase=True
        ),
        None,
    ),
    "CyclicLR": (lambda T, o: T.CyclicLR(o, 0.1, 1.0, 4), None),
    "CyclicLR(triangular2)": (lambda T, o: T.CyclicLR(o, 0.1, 1.0, 2, 3, mode="triangular2"), None),
    "CyclicLR(exp_range)": (
        lambda T, o: T.CyclicLR(o, 0.1, 1.0, 2, 3, mode="exp_range", gamma=0.9),
        None,
    ),
    "SequentialLR": (
        lambda T, o: T.SequentialLR(
            o, [T.LinearLR(o, 0.1, 1.0, 4), T.ExponentialLR(o, 0.8), T.StepLR(o, 2)], [4, 9]
        ),
        None,
    ),
    "SequentialLR(cosine)": (
        lambda T, o: T.SequentialLR(o, [T.ConstantLR(o, 0.1, 3), T.CosineAnnealingLR(o, 6)], [3]),
        None,
    ),
    "ChainedScheduler": (
        lambda T, o: T.ChainedScheduler([T.ConstantLR(o, 0.1, 3), T.ExponentialLR(o, 0.9)]),
        None,
    ),
}


def rates(lib: Any, name: str, epochs: int = 15) -> list[tuple[float, ...]]:
    w = lib.zeros(1, requires_grad=True)
    opt = lib.optim.SGD([w], lr=RATE, momentum=0.5)
    schedule = ROWS[name][0](lib.optim.lr_scheduler, opt)
    out = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(epochs):
            group = opt.param_groups[0]
            assert schedule.get_last_lr() == [group["lr"]]
            out.append((group["lr"], group["momentum"]))
            opt.step()
            schedule.step()
    return out


@pytest.mark.parametrize("name", ROWS)
def test_same_as_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    for got, want in zip(rates(adjoint, name), rates(torch, name), strict=True):
        assert got == pytest.approx(want, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row[1] is not None])
def test_same_as_formula(name: str) -> None:
    formula = ROWS[name][1]
    assert [r for r, _ in rates(adjoint, name)] == pytest.approx(
        [formula(t) for t in range(15)], rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize("name", ROWS)
def test_state_dict_continues(name: str) -> None:
    expected = [r for r, _ in rates(adjoint, name)]
    schedules = adjoint.optim.lr_scheduler
    opt = adjoint.optim.SGD([adjoint.zeros(1, requires_grad=True)], lr=RATE, momentum=0.5)
    schedule = ROWS[name][0](schedules, opt)
    for epoch in range(1, 15):
        if epoch == 7:
            assert "optimizer" not in schedule.state_dict()
            file = io.BytesIO()
            adjoint.save((schedule.state_dict(), opt.state_dict()), file)
            file.seek(0)
            saved, groups = adjoint.load(file)
            opt = adjoint.optim.SGD([adjoint.zeros(1, requires_grad=True)], lr=RATE, momentum=0.5)
            schedule = ROWS[name][0](schedules, opt)
            schedule.load_state_dict(saved)
            opt.load_state_dict(groups)
        opt.step()
        schedule.step()
        assert opt.param_groups[0]["lr"] == pytest.approx(expected[epoch], rel=1e-9, abs=1e-12)


PLATEAUS = [
    {},
    {"patience": 1, "factor": 0.5},
    {"mode": "max", "patience": 0, "cooldown": 2, "factor": 0.5, "min_lr": 0.2},
    {"threshold_mode": "abs", "threshold": 0.05, "patience": 1},
    {"mode": "max", "threshold": 0.2, "patience": 1},
]
METRICS = [1.0, 0.9, 0.9, 0.89, 0.95, 0.5, 0.49, 0.49, 0.7, 0.49, 0.8, 0.2, 0.2, 0.2, 0.2]


@pytest.mark.parametrize("kwargs", PLATEAUS)
def test_plateau_same_as_pytorch(kwargs: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    histories = []
    for lib in (adjoint, torch):
        opt = lib.optim.SGD([lib.zeros(1, requires_grad=True)], lr=RATE)
        schedule = lib.optim.lr_scheduler.ReduceLROnPlateau(opt, **kwargs)
        history = []
        for metric in METRICS:
            schedule.step(lib.tensor(metric))
            history.append(opt.param_groups[0]["lr"])
        histories.append(history)
    assert histories[0] == pytest.approx(histories[1], rel=1e-12)


def test_plateau() -> None:
    opt = adjoint.optim.SGD([adjoint.zeros(1, requires_grad=True)], lr=1.0)
    schedule = adjoint.optim.lr_scheduler.ReduceLROnPlateau(opt, patience=1, factor=0.5)
    seen = []
    for metric in [1.0, 1.0, 1.0, 0.5, 0.6, 0.6]:
        schedule.step(metric)
        seen.append(opt.param_groups[0]["lr"])
    assert seen == [1.0, 1.0, 0.5, 0.5, 0.5, 0.25]


def test_several_groups() -> None:
    a, b = adjoint.zeros(1, requires_grad=True), adjoint.zeros(1, requires_grad=True)
    opt = adjoint.optim.SGD([{"params": [a]}, {"params": [b], "lr": 0.2}], lr=1.0)
    schedule = adjoint.optim.lr_scheduler.LambdaLR(opt, [lambda t: 0.5**t, lambda t: 1 + t])
    opt.step()
    schedule.step()
    assert schedule.get_last_lr() == pytest.approx([0.5, 0.4]) and schedule.base_lrs == [1.0, 0.2]


def test_wrong_order_warns() -> None:
    opt = adjoint.optim.SGD([adjoint.zeros(1, requires_grad=True)], lr=1.0)
    schedule = adjoint.optim.lr_scheduler.StepLR(opt, 2)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        schedule.step()


def test_optimizers_of_the_users_own_need_not_count() -> None:
    class Descent(adjoint.optim.Optimizer):
        def step(self, closure: Any = None) -> None:
            with adjoint.no_grad():
                for param in self.param_groups[0]["params"]:
                    param.sub_(self.param_groups[0]["lr"])

    w = adjoint.zeros(1, requires_grad=True)
    opt = Descent([w], {"lr": 1.0})
    schedule = adjoint.optim.lr_scheduler.ExponentialLR(opt, 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            opt.step()
            schedule.step()
    assert w.item() == -1.75


def test_errors() -> None:
    schedules = adjoint.optim.lr_scheduler
    opt = adjoint.optim.Adagrad([adjoint.zeros(1, requires_grad=True)], lr=1.0)
    for call, kind, message in [
        (lambda: schedules.StepLR(3, 2), TypeError, "int is not an Optimizer"),
        (lambda: schedules.StepLR(opt, 2, last_epoch=3), KeyError, "initial_lr"),
        (
            lambda: schedules.LambdaLR(opt, [len, len]),
            ValueError,
            "Expected 1 lr_lambdas, but got 2",
        ),
        (lambda: schedules.ConstantLR(opt, 2.0), ValueError, "between 0 and 1"),
        (lambda: schedules.OneCycleLR(opt, 1.0), ValueError, "total_steps OR"),
        (
            lambda: schedules.OneCycleLR(opt, 1.0, total_steps=3),
            ValueError,
            "must support momentum",
        ),
        (lambda: schedules.ReduceLROnPlateau(opt, factor=1.0), ValueError, "< 1.0"),
        (lambda: schedules.SequentialLR(opt, [], []), ValueError, "at least one"),
        (lambda: schedules.CosineAnnealingWarmRestarts(opt, 0), ValueError, "positive integer T_0"),
    ]:
        with pytest.raises(kind, match=message):
            call()
    schedule = schedules.OneCycleLR(opt, 1.0, total_steps=2, cycle_momentum=False)
    opt.step()
    schedule.step()
    schedule.step()
    with pytest.raises(ValueError, match="total steps is 2"):
        schedule.step()
