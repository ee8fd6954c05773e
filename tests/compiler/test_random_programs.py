"""Small random functions and random changes of what they read: plain and compiled twins must agree to the bit."""

from __future__ import annotations

import random
from typing import Any

import pytest

import adjoint as torch

pytestmark = pytest.mark.usefixtures("little_effort")

PROGRAMS, CALLS = 10, 28  # per seed; calls of one program, most of them after a change


class Holder:
    rate = 0.5


class World:
    """What a program reads, and may change: the same for both twins if made from the same seed."""

    def __init__(self, seed: int) -> None:
        r = self.random = random.Random(seed)
        self.w = values(1.0).requires_grad_()
        self.b = values(2.0).requires_grad_(r.random() < 0.5)
        self.total = torch.zeros(3)
        self.part = self.total[1:]
        self.holder, self.table, self.items = Holder(), {"a": 2.0, "b": self.b}, [1.0, self.w]
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = r.choice([torch.optim.SGD, torch.optim.Adam])([self.w], lr=0.1)
        self.function = lambda x: x * 2
        self.program = self.new_program()

    def new_program(self) -> Any:
        """A function made of a few statements, chosen once."""
        lines = [self.random.choice(STATEMENTS) for _ in range(self.random.randint(1, 4))]
        ending = self.random.choice(ENDINGS)

        def program(x: Any, y: Any, n: Any) -> Any:
            z = x
            for line in lines:
                z = line(self, z, y, n)
            return ending(self, x, y, z)

        return program

    def seen(self) -> Any:
        state = [t for s in self.optimizer.state.values() for t in s.values()]
        return shown([self.w, self.b, self.w.grad, self.b.grad, self.total, self.part, self.generator._calls, state])


def values(k: float, n: int = 3) -> torch.Tensor:
    return torch.arange(n).float() * 0.37 - 0.5 + k


def added_in_place(s: World, z: Any, y: Any, n: Any) -> Any:
    with torch.no_grad():
        s.total.add_(z.detach())
    return z


def stepped(s: World, z: Any, y: Any, n: Any) -> Any:
    s.optimizer.zero_grad()
    (z * s.w).sum().backward(retain_graph=True)
    s.optimizer.step()
    return z.detach()


def written(s: World, z: Any, y: Any, n: Any) -> Any:
    with torch.no_grad():
        y.mul_(1.5)
    return z + y


def graded(s: World, z: Any, y: Any, n: Any) -> Any:
    return z if s.w.grad is None else z + s.w.grad


STATEMENTS = [
    lambda s, z, y, n: z * s.w,
    lambda s, z, y, n: z + s.table["b"] * s.table["a"],
    lambda s, z, y, n: torch.tanh(z) * s.holder.rate,
    lambda s, z, y, n: z * n,
    lambda s, z, y, n: s.function(z),
    lambda s, z, y, n: z + y,
    lambda s, z, y, n: z * s.items[0] + s.items[-1],
    lambda s, z, y, n: z + torch.rand(3, generator=s.generator),
    lambda s, z, y, n: z + s.part.sum(),
    lambda s, z, y, n: z * 3 if s.b.requires_grad else z,
    lambda s, z, y, n: z[1:].sum() + z,
    added_in_place, stepped, written, graded,
]  # fmt: skip
ENDINGS = [
    lambda s, x, y, z: z, lambda s, x, y, z: (z, z * 2, x), lambda s, x, y, z: {"z": z, "w": s.w, "sum": z.sum()},
    lambda s, x, y, z: [z.detach(), z.view(3)], lambda s, x, y, z: (z[:2], y),
]  # fmt: skip
CHANGES = [
    lambda s: setattr(s.holder, "rate", s.random.random()),
    lambda s: setattr(Holder, "rate", s.random.choice([0.5, 0.25])),
    lambda s: s.holder.__dict__.clear(),
    lambda s: s.table.update(a=s.random.random()),
    lambda s: s.table.update(b=values(s.random.random())),
    lambda s: s.items.__setitem__(0, s.random.random()),
    lambda s: s.items.append(values(4.0)),
    lambda s: setattr(s, "function", s.random.choice([lambda x: x + 1, lambda x: x * x])),
    lambda s: setattr(s.function, "__code__", (lambda x: x - 3).__code__),
    lambda s: s.w.requires_grad_(not s.w.requires_grad),
    lambda s: s.b.requires_grad_(not s.b.requires_grad),
    lambda s: setattr(s.w, "grad", None),
    lambda s: setattr(s.w, "grad", values(0.3)),
    lambda s: setattr(s.w, "grad", s.total),
    lambda s: setattr(s.w, "grad", values(0.1, 6)[3:]),
    lambda s: setattr(s.w, "data", values(s.random.random())),
    lambda s: setattr(s.w, "data", s.b.detach()),
    lambda s: s.total.zero_(),
    lambda s: s.part.fill_(2.0),
    lambda s: setattr(s, "part", s.total[:2]),
    lambda s: s.generator.manual_seed(7),
    lambda s: s.optimizer.param_groups[0].update(lr=s.random.random()),
    lambda s: s.optimizer.load_state_dict(s.optimizer.state_dict()),
    lambda s: torch.set_grad_enabled(not torch.is_grad_enabled()),
]  # fmt: skip


def shown(o: Any) -> Any:
    if isinstance(o, torch.Tensor):
        return str(o.dtype), tuple(o.shape), o.requires_grad, o.is_leaf, repr(o.detach().tolist())
    if isinstance(o, (list, tuple)):
        return [shown(x) for x in o]
    if isinstance(o, dict):
        return [(k, shown(v)) for k, v in o.items()]
    return o


def told(seed: int, compiled: bool) -> tuple[list, int]:
    """What one program shows along its calls and changes, and how many of its calls were known."""
    Holder.rate = 0.5
    s = World(seed)
    f = torch.compile(s.program) if compiled else s.program
    log: list = []
    given, numbers = [values(0.1), values(0.2), values(0.0, 9).reshape(3, 3)[1], s.total], [2, 2.0, True, 0.5]
    read = s.random.random() < 0.7
    kept = []
    try:
        for k in range(CALLS):
            if k > 6 and k % 3 == 0:
                s.random.choice(CHANGES)(s)
            x = values(k / 8) if s.random.random() < 0.6 else s.random.choice(given)
            y = values(k / 4) if s.random.random() < 0.6 else s.random.choice(given)
            try:
                out = f(x, y, numbers[0] if k < 8 else s.random.choice(numbers))
                kept.append(out)
                if read:
                    log.append(shown(out))
                if k % 5 == 0:
                    first = next(iter(out.values())) if isinstance(out, dict) else out[0] if isinstance(out, (list, tuple)) else out
                    if first.requires_grad:
                        first.sum().backward()
            except Exception as error:
                log.append((type(error).__name__, str(error)))
            log.append(s.seen() if read else None)
        return [*log, shown(kept), s.seen()], f.replays if compiled else 0
    finally:
        torch.set_grad_enabled(True)


@pytest.mark.skipif(torch.is_eager(), reason="nothing is remembered in reference mode")
@pytest.mark.parametrize("seed", range(7))
def test_random_programs_show_the_same(seed: int) -> None:
    known = 0
    for k in range(seed * PROGRAMS, (seed + 1) * PROGRAMS):
        wanted, _ = told(k, False)
        found, replays = told(k, True)
        assert found == wanted, f"program {k}"
        known += replays
    assert known > PROGRAMS
