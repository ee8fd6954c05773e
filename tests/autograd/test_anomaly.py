"""Anomaly mode: the function that gave NaN is named, with the line that recorded it, and nothing else changes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import adjoint as torch
from adjoint.autograd.anomaly import Bystander
from adjoint.trace.recorder import local

INF = float("inf")


@pytest.fixture(autouse=True)
def afterwards_it_is_off() -> Iterator[None]:
    yield
    assert not torch.is_anomaly_enabled() and torch.is_anomaly_check_nan_enabled()
    assert not isinstance(local.trace.watch, Bystander)


def leaf(torch: Any, *values: float) -> Any:
    return torch.tensor(values, dtype=torch.float32, requires_grad=True)


# A program with NaN on its way back, or None at the end, where there is none.
PROGRAMS: dict[str, Callable[[Any], Any]] = {
    "sqrt at 0": lambda t: (leaf(t, 0, 1).sqrt() * 0).sum(),
    "the second operand": lambda t: (lambda x: (x * 0) / (x * 0))(leaf(t, 1, 2)).sum(),
    "a sum of two infinities is no function": lambda t: (lambda x: x * INF - x * INF)(leaf(t, 1, 2)).sum(),
    "hidden by where": lambda t: (lambda x: t.where(x > 0, x.log() * 0, x))(leaf(t, 0, 1)).sum(),
    "where before the function": lambda t: (lambda x: t.where(x > 0, t.where(x > 0, x, 1.0).log(), x))(leaf(t, 0, 1)).sum(),
    "a composite": lambda t: leaf(t, -INF, -INF).softmax(0).sum(),
    "a composite that guards itself": lambda t: leaf(t, 0, 0).norm(3),
    "a norm": lambda t: t.nn.functional.layer_norm(leaf(t, INF, 1), (2,)).sum(),
    "several results": lambda t: t.linalg.svd(t.eye(2).requires_grad_())[0].sum(),
    "a power": lambda t: (leaf(t, 0, 1) ** -1 * 0).sum(),
    "none": lambda t: (leaf(t, 0, 1) * 2).exp().sum(),
}


def outcome(torch: Any, program: Callable[[Any], Any]) -> str | None:
    with torch.autograd.set_detect_anomaly(True):
        try:
            program(torch).backward()
        except RuntimeError as error:
            return str(error).partition(".")[0]
    return None


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_function_is_the_one_that_pytorch_names(name: str) -> None:
    reference = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert outcome(torch, PROGRAMS[name]) == outcome(reference, PROGRAMS[name])


def test_the_line_is_that_of_this_run() -> None:
    """Both functions record the same steps, which ordinarily share a place of the trie, and so a line."""

    def first(x: Any) -> Any:
        return x.sqrt() * 0

    def second(x: Any) -> Any:
        return x.sqrt() * 0

    for function in (first, second, first):
        with torch.autograd.set_detect_anomaly(True):
            for _ in range(2):
                with pytest.raises(RuntimeError, match=r"'SqrtBackward0' returned nan values in its 0th output.*test_anomaly.py") as caught:
                    function(leaf(torch, 0.0)).sum().backward()
                assert f"in {function.__name__}: return x.sqrt()" in str(caught.value)


def test_user_code_of_the_backward_pass_does_not_meet_the_nan() -> None:
    seen: list[Any] = []

    class Meet(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            seen.append(g)
            return g

    x = leaf(torch, 0.0)
    hooked = x * 1
    hooked.register_hook(seen.append)
    y = leaf(torch, 0.0)
    y.register_hook(seen.append)
    with torch.autograd.set_detect_anomaly(True):
        for program in (lambda: Meet.apply(x).sqrt() * 0, lambda: hooked.sqrt() * 0, lambda: y.sqrt() * 0):
            with pytest.raises(RuntimeError, match="SqrtBackward0"):
                program().sum().backward(retain_graph=True)
    assert seen == [] and x.grad is None and y.grad is None


def test_functions_of_the_user_are_named_by_their_class() -> None:
    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, k: int, y: Any) -> Any:
            return x * y

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g, None, g * float("nan")

    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            raise ValueError("of its own")

    x = leaf(torch, 1.0)
    with torch.autograd.set_detect_anomaly(True):
        with pytest.raises(RuntimeError, match="'ScaleBackward' returned nan values in its 1th output"):
            Scale.apply(x, 3, x * 2).sum().backward()
        with pytest.raises(ValueError, match="of its own"), pytest.warns(UserWarning, match="Error detected in FailsBackward.*test_anomaly.py"):
            Fails.apply(x).sum().backward()


def test_derivatives_of_derivatives_and_grad_are_examined() -> None:
    x = leaf(torch, 0.0)
    with torch.autograd.set_detect_anomaly(True):
        with pytest.raises(RuntimeError, match="SqrtBackward0"):
            torch.autograd.grad((x.sqrt() * 0).sum(), x)
        (g,) = torch.autograd.grad((x.abs() ** 1.5).sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="returned nan values"):
            g.sum().backward()
        (h,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
        h.sum().backward()
    assert x.grad.tolist() == [0.0]


def test_without_nan_the_results_are_the_same_and_nothing_is_left() -> None:
    x, y = torch.linspace(-1, 1, 8).reshape(4, 2), torch.tensor([[1.0], [0.0], [2.0], [1.0]])

    def train(under: bool, compiled: bool = False) -> list[float]:
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

        def step() -> Any:
            optimizer.zero_grad()
            loss = ((net(x) - y) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        run = torch.compile(step) if compiled else step
        if not under:
            return [run().item() for _ in range(4)]
        with torch.autograd.set_detect_anomaly(True):
            return [run().item() for _ in range(4)]

    plain = train(False)
    assert train(True) == pytest.approx(plain, rel=1e-6)
    assert train(True, compiled=True) == pytest.approx(plain, rel=1e-6)
    known = torch.stats()["programs"]
    assert train(False) == plain
    assert torch.stats()["programs"] == known, "what was known before the mode is known after it"


def test_contexts_restore_what_was_there() -> None:
    with pytest.warns(UserWarning, match="Anomaly Detection has been enabled"):
        outer = torch.autograd.detect_anomaly(check_nan=False)
    with outer:
        assert torch.is_anomaly_enabled() and not torch.is_anomaly_check_nan_enabled()
        (leaf(torch, 0.0).sqrt() * 0).sum().backward()
        with torch.autograd.set_detect_anomaly(True):
            assert torch.is_anomaly_check_nan_enabled()
            with torch.autograd.set_detect_anomaly(False):
                (leaf(torch, 0.0).sqrt() * 0).sum().backward()
            with pytest.raises(RuntimeError, match="SqrtBackward0"):
                (leaf(torch, 0.0).sqrt() * 0).sum().backward()
        assert torch.is_anomaly_enabled() and not torch.is_anomaly_check_nan_enabled()
    torch.autograd.set_detect_anomaly(True)
    torch.autograd.set_detect_anomaly(False)


def test_modes_are_bools() -> None:
    for call in (lambda: torch.autograd.set_detect_anomaly(1), lambda: torch.autograd.set_detect_anomaly(True, "yes")):
        with pytest.raises(TypeError, match="must be bool, not"):
            call()
