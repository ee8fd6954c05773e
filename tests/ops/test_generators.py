"""Generators: PyTorch's protocol, states, named streams, and `generator=` wherever numbers are drawn."""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.utils import data

DRAWS: dict[str, Callable[[Any], Any]] = {
    "rand": lambda g: torch.rand(5, generator=g),
    "randn": lambda g: torch.randn(5, generator=g),
    "rand_like": lambda g: torch.rand_like(torch.zeros(5), generator=g),
    "randn_like": lambda g: torch.randn_like(torch.zeros(5), generator=g),
    "randint": lambda g: torch.randint(0, 1000, (5,), generator=g),
    "randint, wide": lambda g: torch.randint(-(2**61), 2**61, (5,), generator=g),
    "randint_like": lambda g: torch.randint_like(torch.zeros(5), 1000, generator=g),
    "randperm": lambda g: torch.randperm(50, generator=g),
    "normal": lambda g: torch.normal(0.0, 1.0, (5,), generator=g),
    "normal of tensors": lambda g: torch.normal(torch.zeros(5), torch.ones(5), generator=g),
    "bernoulli": lambda g: torch.bernoulli(torch.full((60,), 0.5), generator=g),
    "multinomial": lambda g: torch.multinomial(torch.ones(50), 20, generator=g),
    "multinomial with replacement": lambda g: torch.multinomial(torch.ones(50), 20, True, generator=g),
    "poisson": lambda g: torch.poisson(torch.full((9,), 50.0), generator=g),
    "uniform_": lambda g: torch.zeros(5).uniform_(-1, 1, generator=g),
    "normal_": lambda g: torch.zeros(5).normal_(1, 2, generator=g),
    "bernoulli_": lambda g: torch.zeros(60).bernoulli_(0.3, generator=g),
    "exponential_": lambda g: torch.zeros(5).exponential_(2.0, generator=g),
    "cauchy_": lambda g: torch.zeros(5).cauchy_(generator=g),
    "geometric_": lambda g: torch.zeros(60).geometric_(0.2, generator=g),
    "log_normal_": lambda g: torch.zeros(5).log_normal_(generator=g),
    "binomial": lambda g: torch.binomial(torch.full((60,), 9.0), torch.full((60,), 0.5), generator=g),
    "random_": lambda g: torch.zeros(5, dtype=torch.int64).random_(generator=g),
    "Tensor.bernoulli": lambda g: torch.full((60,), 0.5).bernoulli(generator=g),
    "Tensor.multinomial": lambda g: torch.ones(50).multinomial(20, generator=g),
    "nn.init.normal_": lambda g: torch.nn.init.normal_(torch.zeros(5), generator=g),
    "nn.init.kaiming_uniform_": lambda g: torch.nn.init.kaiming_uniform_(torch.zeros(5, 2), generator=g),
    "DataLoader": lambda g: torch.cat([x for (x,) in data.DataLoader(data.TensorDataset(torch.arange(50)), 7, shuffle=True, generator=g)]),
    "RandomSampler": lambda g: torch.tensor(list(data.RandomSampler(range(50), generator=g))),
    "SubsetRandomSampler": lambda g: torch.tensor(list(data.SubsetRandomSampler(range(50), generator=g))),
    "WeightedRandomSampler": lambda g: torch.tensor(list(data.WeightedRandomSampler([1.0] * 50, 20, generator=g))),
    "random_split": lambda g: torch.tensor(data.random_split(range(50), [20, 30], generator=g)[0].indices),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWS)
def test_a_generator_is_obeyed_and_is_the_only_one_moved(name: str) -> None:
    draw = DRAWS[name]
    outside = torch.get_rng_state()
    first = torch.Generator().manual_seed(6)
    second = torch.Generator().manual_seed(6)
    values = [draw(first).tolist() for _ in range(2)]
    torch.rand(3, generator=torch.Generator())
    assert [draw(second).tolist() for _ in range(2)] == values
    assert values[0] != values[1]
    assert draw(torch.Generator().manual_seed(7)).tolist() != values[0]
    assert first.get_state().tolist() == second.get_state().tolist()
    assert torch.get_rng_state().tolist() == outside.tolist(), "the default generator was used, too"


def test_every_random_function_takes_a_generator() -> None:
    from adjoint.ops import random

    public = "rand randn rand_like randn_like randint randint_like randperm normal bernoulli multinomial poisson binomial"
    in_place = "uniform_ normal_ bernoulli_ exponential_ random_ cauchy_ geometric_ log_normal_"
    for name in (*public.split(), *in_place.split()):
        assert "generator" in inspect.signature(getattr(random, name)).parameters, name
    assert {n for n in vars(random) if n.endswith("_") and not n.startswith("_")} == set(in_place.split())


# --- PyTorch's protocol -------------------------------------------------------------------------------------------------


def test_seeds_are_those_of_pytorch() -> None:
    g = torch.Generator()
    assert g.initial_seed() == 67280421310721
    assert g.manual_seed(5) is g and g.initial_seed() == 5
    assert g.manual_seed(-1).initial_seed() == 2**64 - 1
    fresh = g.seed()
    assert 0 <= fresh < 2**64 and g.initial_seed() == fresh
    assert torch.manual_seed(1.7).initial_seed() == 1 and torch.initial_seed() == 1
    assert g.device == torch.device("cpu")
    with pytest.raises(RuntimeError, match="not available"):
        torch.Generator("cuda")
    for wrong in (2**64, -(2**63) - 1):
        with pytest.raises(ValueError, match="Overflow"):
            g.manual_seed(wrong)
    with pytest.raises(RuntimeError, match="expected a long"):
        g.manual_seed(1.5)  # type: ignore[arg-type]


def test_all_64_bits_of_a_seed_count() -> None:
    draws = {torch.rand(1, dtype=torch.float64, generator=torch.Generator().manual_seed(s)).item() for s in (-1, 2**63 - 1, 2**63, 0, 2**32)}
    assert len(draws) == 5


def test_a_negative_seed_draws_the_same_in_both_modes() -> None:
    got = torch.randint(0, 1000, (9,), generator=torch.Generator().manual_seed(-12345)).tolist()
    with torch.eager():
        assert torch.randint(0, 1000, (9,), generator=torch.Generator().manual_seed(-12345)).tolist() == got


def test_states_are_byte_tensors_that_restore() -> None:
    g = torch.Generator().manual_seed(2)
    torch.rand(3, generator=g)
    state = g.get_state()
    assert state.dtype is torch.uint8 and state.dim() == 1
    want = torch.rand(3, generator=g).tolist()
    assert torch.rand(3, generator=torch.Generator().set_state(state)).tolist() == want
    assert torch.rand(3, generator=g.set_state(state.clone())).tolist() == want
    for twin in (g.clone_state(), copy.deepcopy(g), pickle.loads(pickle.dumps(g))):
        assert twin is not g and twin.get_state().tolist() == g.get_state().tolist()
    with pytest.raises(TypeError, match="ByteTensor"):
        g.set_state((1, 2))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="ByteTensor"):
        g.set_state(torch.zeros(3))
    for wrong in (torch.zeros(3, dtype=torch.uint8), torch.tensor(list(b"[1]"), dtype=torch.uint8)):
        with pytest.raises(RuntimeError, match="no state of a generator"):
            g.set_state(wrong)


def test_a_state_can_be_saved_with_a_checkpoint(tmp_path: Any) -> None:
    torch.manual_seed(3)
    torch.rand(4)
    torch.save({"rng": torch.get_rng_state()}, tmp_path / "checkpoint.pt")
    want = torch.rand(4).tolist()
    torch.manual_seed(99)
    torch.set_rng_state(torch.load(tmp_path / "checkpoint.pt")["rng"])
    assert torch.rand(4).tolist() == want


def test_fork_rng_leaves_no_trace() -> None:
    torch.manual_seed(3)
    want = torch.rand(4).tolist()
    torch.manual_seed(3)
    with torch.random.fork_rng():
        torch.manual_seed(77)
        torch.rand(9)
        torch.rand(9, generator=torch.random.stream("inside"))
    assert torch.rand(4).tolist() == want
    torch.manual_seed(3)
    with pytest.raises(KeyError), torch.random.fork_rng():
        torch.rand(9)
        raise KeyError
    assert torch.rand(4).tolist() == want
    torch.manual_seed(3)
    with torch.random.fork_rng(enabled=False):
        torch.rand(9)
    assert torch.rand(4).tolist() != want
    assert torch.random.manual_seed(4) is torch.default_generator and torch.random.initial_seed() == 4


# --- named streams ------------------------------------------------------------------------------------------------------


def take(stream: Any, n: int = 3) -> list[float]:
    return torch.rand(n, generator=stream).tolist()


def test_streams_do_not_move_each_other() -> None:
    def run(order: str) -> dict[str, list[float]]:
        torch.manual_seed(12)
        seen: dict[str, list[float]] = {}
        for letter in order:
            g = torch.default_generator if letter == "-" else torch.random.stream(letter)
            seen.setdefault(letter, []).extend(take(g))
        return seen

    want = run("-abc-abc")
    assert run("aabbcc--") == want
    assert run("c-b-a-cba")["c"] == want["c"]
    assert len({tuple(v) for v in want.values()}) == 4, "streams differ from each other and from their parent"


def test_streams_follow_the_seed_of_their_parent() -> None:
    g = torch.Generator().manual_seed(1)
    noise, deep = g.stream("noise"), g.stream("noise").stream(3)
    assert g.stream("noise") is noise
    want = take(noise), take(deep)
    assert want[0] != want[1]
    g.manual_seed(2)
    assert take(noise) != want[0] and take(deep) != want[1]
    g.manual_seed(1)
    assert (take(noise), take(deep)) == want
    other = torch.Generator().manual_seed(1)
    assert take(other.stream("noise").stream(3)) == want[1], "made later, the same numbers"
    names: tuple[Any, ...] = ("3", 3, "noise", "noises", "")
    assert len({torch.Generator().manual_seed(1).stream(n).initial_seed() for n in names}) == 5
    with pytest.raises(TypeError, match="name of a stream"):
        g.stream(1.5)  # type: ignore[arg-type]


def test_a_state_covers_the_streams() -> None:
    torch.manual_seed(5)
    a, b = torch.random.stream("a"), torch.random.stream("b").stream(1)
    take(a), take(b)
    state = torch.get_rng_state()
    want = take(a), take(b), take(torch.random.stream("made after the state")), torch.rand(2).tolist()
    torch.set_rng_state(state)
    assert (take(a), take(b), take(torch.random.stream("made after the state")), torch.rand(2).tolist()) == want


def test_streams_are_uncorrelated() -> None:
    """Of 40 pairs of streams none is correlated beyond 5 standard errors."""
    torch.manual_seed(0)
    n = 4000
    drawn = np.array([torch.randn(n, generator=torch.random.stream(k)).numpy() for k in range(9)] + [torch.randn(n).numpy()])
    off = np.corrcoef(drawn)[np.triu_indices(10, 1)]
    assert np.abs(off).max() < 5 / np.sqrt(n)


def test_streams_and_seeds_are_the_same_in_every_process() -> None:
    code = (
        "import adjoint as torch\n"
        "torch.manual_seed(21)\n"
        "print(torch.rand(3).tolist(), torch.randperm(9).tolist(), torch.rand(3, generator=torch.random.stream('x')).tolist(),"
        " torch.poisson(torch.full((4,), 9.0)).tolist())"
    )
    seen = set()
    for hash_seed in ("1", "2"):
        settings = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=settings, check=True)
        seen.add(done.stdout)
    assert len(seen) == 1


def test_threads_never_draw_the_same_numbers() -> None:
    g = torch.Generator().manual_seed(0)
    taken: list[tuple[int, int]] = []

    def work() -> None:
        taken.extend([g.next_call() for _ in range(2000)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(set(taken)) == len(taken) == 8000


def test_wide_ranges_are_filled() -> None:
    torch.manual_seed(0)
    wide = torch.randint(-(2**61), 2**61, (2000,)).numpy()
    assert (wide > 2**60).mean() > 0.2 and (wide < -(2**60)).mean() > 0.2
    middle = torch.randint(0, 3 * 2**51, (4000,)).numpy()  # a remainder of 53 bits would favour the lower third
    assert abs((middle < 2**51).mean() - 1 / 3) < 5 * np.sqrt(2 / 9 / 4000)
    whole = torch.zeros(2000, dtype=torch.int64).random_().numpy()
    assert whole.min() >= 0 and (whole > 2**62).mean() > 0.4
    assert set(torch.zeros(100, dtype=torch.bool).random_().tolist()) == {True, False}
    assert torch.zeros(2000, dtype=torch.uint8).random_().numpy().max() > 250
    with pytest.raises(RuntimeError, match=r"2\*\*63 - 1 numbers"):
        torch.randint(-(2**63), 2**63 - 1, (1,))
    with pytest.raises(RuntimeError, match="'from' to be less"):
        torch.zeros(2).random_(5, 5)
