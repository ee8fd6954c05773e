"""A call that reads a number out of a tensor is not remembered, wherever the tensor comes from and however it is read.

The memory may be there already: then reading ends no trace, and the number is none that the trace knows of.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint import nn

# Each takes x, a 0-d S, a 1-d V and a 1-d mask M; what they hold changes between the calls.
READS: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "item": lambda x, S, V, M: x * S.item(),
    "float": lambda x, S, V, M: x * float(S),
    "int": lambda x, S, V, M: x * int(S),
    "truth": lambda x, S, V, M: x * 2 if S - 2 else x,
    "truth of what is there": lambda x, S, V, M: x * 2 if M[0] else x,
    "compared": lambda x, S, V, M: x * 2 if S > 2.5 else x,
    "compared as a number": lambda x, S, V, M: x * 2 if S.item() > 2.5 else x,
    "list": lambda x, S, V, M: x * S.tolist() + V.tolist()[1],
    "list of numbers": lambda x, S, V, M: x * sum(v.item() for v in V),
    "text": lambda x, S, V, M: x * float(f"{S:.2f}"),
    "repr": lambda x, S, V, M: x * len(repr(S)) * float(repr(S)[7:-1]),
    "range": lambda x, S, V, M: sum([x * k for k in range(int(S))], x),
    "math": lambda x, S, V, M: x * math.exp(S),
    "slice": lambda x, S, V, M: x[: int(S)],
    "slice by a tensor": lambda x, S, V, M: x[: S.long()],
    "roll": lambda x, S, V, M: x.roll(int(S)),
    "arange": lambda x, S, V, M: x[0] * torch.arange(int(S)),
    "alpha": lambda x, S, V, M: torch.add(x, x, alpha=S.item()),
    "numpy": lambda x, S, V, M: x * float(S.numpy()),
    "part of an array": lambda x, S, V, M: x * float(V.numpy()[1]),
    "array": lambda x, S, V, M: x * float(np.asarray(S)),
    "element": lambda x, S, V, M: x * V[1].item(),
    "element from the end": lambda x, S, V, M: x * V[-1].item(),
    "element of a view": lambda x, S, V, M: x * V.view(3, 1)[1, 0].item(),
    "part": lambda x, S, V, M: x * V[1:].tolist()[0],
    "detached": lambda x, S, V, M: x * S.detach().item(),
    "data": lambda x, S, V, M: x * S.data.item(),
    "computed": lambda x, S, V, M: x * (S + 0).item(),
    "mask": lambda x, S, V, M: x[M],
    "nonzero": lambda x, S, V, M: x[torch.nonzero(M)[:, 0]],
    "selected": lambda x, S, V, M: torch.masked_select(x, M),
    "repeated": lambda x, S, V, M: torch.repeat_interleave(x[:3], V.long()),
    "counted": lambda x, S, V, M: x[0] * torch.bincount(V.long()),
    "distinct": lambda x, S, V, M: x[0] * torch.unique(V),
    "equal": lambda x, S, V, M: x * 2 if torch.equal(V, V.flip(0)) else x,
    "close": lambda x, S, V, M: x * 2 if torch.allclose(V, S) else x,
    "any": lambda x, S, V, M: x * 2 if (V > 3).any() else x,
    "contained": lambda x, S, V, M: x * 2 if 3.0 in V else x,
    "as an index": lambda x, S, V, M: x * [1.0, 2.0, 3.0, 4.0, 5.0, 6.0][S.long()],
    "size": lambda x, S, V, M: x[0] * torch.ones(int(S)),
    "copied": lambda x, S, V, M: x * copy.deepcopy(S).item(),
    "clamp": lambda x, S, V, M: x.clamp(max=float(S) / 4),
}


class Held(nn.Module):
    def __init__(self, read: Callable[..., Any], S: Any, V: Any, M: Any) -> None:
        super().__init__()
        self.read = read
        self.register_buffer("S", S)
        self.register_buffer("V", V)
        self.register_buffer("M", M)

    def forward(self, x: Any) -> Any:
        return self.read(x, self.S, self.V, self.M)


def seen(read: Callable[..., Any], place: str, wrap: Callable, quiet: bool) -> list:
    S, V, M = torch.tensor(2.0), torch.tensor([1.0, 2.0, 1.0]), torch.tensor([True, False, True, True])
    if place == "arguments":
        known = wrap(read)
        call = lambda x: known(x, S, V, M)  # noqa: E731
    elif place == "captured":
        call = wrap(lambda x: read(x, S, V, M))
    else:
        call = wrap(Held(read, S, V, M))
    out: list = []
    for k in range(24):
        if k % 8 == 6:
            S.add_(1)
            V[1] += 1
            M.logical_not_()
            if not quiet:
                S.tolist(), V.tolist(), M.tolist()
        y = call(torch.arange(1.0, 5.0))
        out.append((tuple(y.shape), y.tolist()))
    return out


@pytest.mark.parametrize("place", ["arguments", "captured", "module"])
@pytest.mark.parametrize("name", READS)
def test_a_number_that_was_read_is_not_kept(name: str, place: str) -> None:
    for quiet in (False, True):
        assert seen(READS[name], place, torch.compile, quiet) == seen(READS[name], place, lambda f: f, quiet)


def test_a_training_step_that_reads_a_scale() -> None:
    """Nor does reading it undo the recording of a tensor that the watched call was given."""
    out = []
    for wrap in (torch.compile, lambda f: f):
        w, scale = torch.ones(3, requires_grad=True), torch.tensor([1.0, 2.0])
        optimizer = torch.optim.SGD([w], lr=0.1)

        def step(x: Any, scale: Any, w: Any = w, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = (w * x * scale[0].item()).sum()
            loss.backward()
            optimizer.step()
            return loss.detach()

        call = wrap(step)
        losses = []
        for k in range(20):
            if k == 10:
                scale.mul_(2).tolist()
            losses.append(call(torch.arange(3.0), scale).item())
        out.append((losses, w.tolist()))
    assert out[0] == out[1]


OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {}), "SGD with momentum": ("SGD", {"momentum": 0.9}), "Adam": ("Adam", {}), "AdamW": ("AdamW", {}), "RMSprop": ("RMSprop", {}),
    "centered RMSprop": ("RMSprop", {"momentum": 0.5, "centered": True}), "Adagrad": ("Adagrad", {}), "Adadelta": ("Adadelta", {}),
    "Adamax": ("Adamax", {}), "NAdam": ("NAdam", {}), "RAdam": ("RAdam", {}), "Rprop": ("Rprop", {}),
}  # fmt: skip


def options(kind: str, given: dict[str, Any]) -> dict[str, Any]:
    """Another value for each option of an optimizer."""
    group = getattr(torch.optim, kind)([torch.ones(1, requires_grad=True)], lr=0.01, **given).param_groups[0]
    found: dict[str, Any] = {}
    for name, value in group.items():
        if isinstance(value, bool):
            found[name] = not value
        elif isinstance(value, float):
            found[name] = 0.0 if value in (0.5, 0.9) else 0.5
        elif isinstance(value, int):
            found[name] = 0.5
        elif isinstance(value, tuple) and name != "params":
            found[name] = tuple([v * 0.75 for v in value])
    return found


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_options_of_an_optimizer_that_change_between_steps(name: str) -> None:
    kind, given = OPTIMIZERS[name]
    changes = options(kind, given)
    assert len(changes) > 3
    for option, other in changes.items():
        out = []
        for wrap in (torch.compile, lambda f: f):
            w = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
            optimizer = getattr(torch.optim, kind)([w], lr=0.01, **given)

            def step(w: Any = w, optimizer: Any = optimizer) -> Any:
                optimizer.zero_grad()
                loss = (w * w).sum()
                loss.backward()
                optimizer.step()
                return loss.detach()

            call, first, path = wrap(step), optimizer.param_groups[0][option], []
            for k in range(18):
                optimizer.param_groups[0][option] = other if 7 <= k < 13 else first
                try:
                    path.append((call().item(), w.tolist(), sorted(optimizer.state[w])))
                except (ValueError, ZeroDivisionError, OverflowError) as error:
                    path.append(type(error))
            out.append(repr(path))
        assert out[0] == out[1], option
