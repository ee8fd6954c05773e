"""Derivatives through traces that have ended: hooks, saved values, results that need no past."""

from __future__ import annotations

import pytest

import adjoint as torch


@pytest.mark.parametrize("view", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
def test_hook_on_a_result_that_outlives_its_trace(view: bool, when: str) -> None:
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    y = w.reshape(2, 1) if view else w * 1.0
    seen = []

    def halve(g: torch.Tensor) -> torch.Tensor:
        seen.append(g.tolist())
        return g * 0.5

    if when == "before":
        y.register_hook(halve)
    (w * 3).sum().item()  # ends the trace
    if when == "after":
        y.register_hook(halve)
    (y * y).sum().backward()
    assert len(seen) == 1
    assert w.grad.tolist() == [1.0, 2.0]


def test_rule_that_uses_a_hooked_result_passes_through_the_hook() -> None:
    """The second derivative of exp reaches the leaf through exp's result, and so through its hook."""

    def gradient(read: bool) -> list[float]:
        w = torch.tensor([0.5, 1.0], requires_grad=True)
        y = w.exp()
        if read:
            (w * 2).sum().item()
        y.register_hook(lambda g: g * 0.5)
        (first,) = torch.autograd.grad(y.sum(), w, create_graph=True)
        first.sum().backward()
        return w.grad.tolist()

    assert gradient(True) == gradient(False)


def test_retained_gradient_after_a_read() -> None:
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    y = (w * 2).tanh()
    y.sum().item()
    y.retain_grad()
    (y * y).sum().backward()
    assert y.grad.tolist() == (y * 2).tolist()


def test_results_of_function_transforms_need_no_past() -> None:
    """A gradient by `func.grad` requires grad only if it depends on something of the caller's that does."""
    x = torch.tensor([1.0, 2.0])
    w = torch.tensor([3.0, 4.0], requires_grad=True)
    assert not torch.func.grad(lambda u: (u * u * x).sum())(x).requires_grad
    assert not torch.func.vjp(torch.sin, x)[1](x)[0].requires_grad
    assert not torch.func.jvp(torch.sin, (x,), (x,))[1].requires_grad
    assert not torch.func.hessian(lambda u: (u**3).sum())(x).requires_grad
    outer = torch.func.grad(lambda u: (u * u * w).sum())(x)
    outer.sum().backward()
    assert w.grad.tolist() == [2.0, 4.0]


@pytest.mark.parametrize("step", [torch.sign, torch.floor, torch.ceil, torch.round, torch.trunc])
def test_steps_pass_zeros(step) -> None:
    w = torch.tensor([0.3, -1.7], requires_grad=True)
    y = step(w)
    assert y.requires_grad
    (y * w).sum().backward()
    assert w.grad.tolist() == y.tolist()
    w.grad = None
    step(w).sum().backward()
    assert w.grad.tolist() == [0.0, 0.0]


def test_a_list_of_losses_keeps_only_the_losses() -> None:
    """After backward a loss, detached or not, holds no batch, no activation and no old parameter."""
    w = torch.zeros(64, 64, requires_grad=True)
    log, sizes = [], []
    for i in range(60):
        batch = torch.full((128, 64), i / 60)
        loss = (torch.tanh(batch @ w) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            w -= 0.1 * w.grad
            w.grad = None
        log.append(loss.detach() if i % 2 else loss)
        if i in (20, 59):
            loss.item()
            sizes.append(torch.stats()["memory"]["live_bytes"])
    if not torch.is_eager():
        assert sizes[1] - sizes[0] < 8 * batch.nbytes  # 39 iterations would keep at least 39 of them
    assert log[-2].grad_fn.next_functions[0][0].name() == "PowBackward0"
    with pytest.raises(RuntimeError, match="second time"):
        log[-2].backward()
    assert all(x.item() == 0 for x in log[:2])


def held_by(keep, read: bool) -> int:
    """Bytes in use after twenty losses of which `keep` keeps something, and which nobody differentiates."""
    from adjoint.runtime import memory

    w = torch.ones(128, 128, requires_grad=True)
    kept = []
    for _ in range(20):
        loss = ((w @ w).tanh() @ w).sum()
        if read:
            loss.item()
        kept.append(keep(loss))
    del loss
    for _ in range(5):
        torch.zeros(3).add(1).tolist()
    assert len(kept) == 20
    return memory.stats()["live_bytes"]


@pytest.mark.parametrize("read", [True, False])
def test_a_detached_loss_does_not_keep_the_past(read: bool) -> None:
    if torch.is_eager():
        pytest.skip("counts buffers")
    plain = held_by(lambda loss: loss.item(), read)
    detached = held_by(lambda loss: loss.detach(), read)
    assert detached < plain + 4 * 128 * 128 * 4
    assert held_by(lambda loss: loss, read) > plain + 10 * 128 * 128 * 4, "the measure sees a past that is kept"


def test_a_detached_view_does_not_cut_off_a_result_in_use() -> None:
    w = torch.ones(4, requires_grad=True)
    y = w * 3
    d, part = y.detach(), y[1:]
    for _ in range(3):
        torch.zeros(3).add(1).tolist()
    del y
    for _ in range(3):
        torch.zeros(3).add(1).tolist()
    (part * part).sum().backward()
    assert w.grad.tolist() == [0, 18, 18, 18]
    d += 1
    assert part.tolist() == [4, 4, 4]
    del part
    for _ in range(3):
        torch.zeros(3).add(1).tolist()
    e = d[:2]
    e += 1
    assert d.tolist() == [5, 5, 4, 4] and not d.requires_grad


def test_what_numpy_shares_keeps_the_past_of_several_iterations() -> None:
    """An update of a leaf ends an iteration, also in reference mode; what is left of two leads back to the first."""
    w, other = (torch.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))

    def iteration_ends() -> None:
        (other * 2).sum().backward()
        with torch.no_grad():
            other.sub_(other.grad)

    first = w * 2
    iteration_ends()
    second = first * 3
    array = second.detach().numpy()
    iteration_ends()
    third = second * second
    iteration_ends()
    assert array.tolist() == [6.0, 12.0]
    third.sum().backward()
    assert w.grad.tolist() == [72.0, 144.0]
