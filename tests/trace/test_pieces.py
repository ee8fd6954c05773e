"""Iterations that differ every time: what is computed is what reference mode computes, and soon nothing is compiled any more."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator

import numpy as np
import pytest

import adjoint as torch
from adjoint import nn, optim
from adjoint.autograd import engine
from adjoint.nn import functional as F
from adjoint.trace import bounds, pieces, recorder, state
from adjoint.trace.trie import Step

compiled_only = pytest.mark.skipif(torch.is_eager(), reason="nothing is cut where nothing is compiled")
Values = list[np.ndarray]
Program = Callable[[int], Generator[float, None, Values]]


@pytest.fixture(autouse=True)
def nothing_seen() -> Generator[None, None, None]:
    """Neither families nor programs of tests before, among which are the same functions."""
    forget()
    yield
    forget()


@pytest.fixture(params=["0", "64"], ids=["compiled", "tried"])
def trials(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled at once, or run through NumPy first."""
    monkeypatch.setenv("ADJOINT_TRIALS", request.param)


def forget() -> None:
    for root in state.roots():
        if root.family:
            state.drop_roots(root.family)
    pieces.families.clear()
    pieces.apart.clear()
    pieces._seen.clear()
    pieces._walks.clear()
    bounds.forget_below(state.roots())


def drawn(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.tensor(rng.standard_normal(shape).astype(np.float32))


def filled(module: nn.Module) -> nn.Module:
    rng = np.random.default_rng(4)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(0.3 * drawn(rng, *p.shape))
    return module


def values_of(*modules: nn.Module) -> Values:
    return [p.detach().numpy().copy() for m in modules for p in m.parameters()]


def decoder(iterations: int, grad: bool = True) -> Generator[float, None, Values]:
    """Fed the right word or its own, by chance."""
    choice, rng = random.Random(3), np.random.default_rng(0)
    words, cell, out = filled(nn.Embedding(7, 6)), filled(nn.GRUCell(6, 6)), filled(nn.Linear(6, 7))
    opt = optim.Adam([*words.parameters(), *cell.parameters(), *out.parameters()], lr=1e-2)
    for _ in range(iterations):
        y = torch.tensor(rng.integers(0, 7, (4, 12)))
        h, word, loss = torch.zeros(4, 6), torch.zeros(4, dtype=torch.int64), 0.0
        with torch.set_grad_enabled(grad):
            for t in range(12):
                h = cell(words(word), h)
                o = out(h)
                loss = loss + F.cross_entropy(o, y[:, t])
                word = y[:, t] if choice.random() < 0.5 else o.argmax(1)
        if grad:
            opt.zero_grad()
            loss.backward()
            opt.step()
        yield loss.item()
    return values_of(words, cell, out)


def decoder_without_gradient(iterations: int) -> Generator[float, None, Values]:
    return (yield from decoder(iterations, grad=False))


def dropped_layers(iterations: int) -> Generator[float, None, Values]:
    """Each layer is left out by chance, and then gets no update."""
    choice, rng = random.Random(5), np.random.default_rng(1)
    layers = [filled(nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5))) for _ in range(12)]
    opt = optim.AdamW([p for layer in layers for p in layer.parameters()], lr=1e-2)
    for _ in range(iterations):
        x = drawn(rng, 3, 5)
        for layer in layers:
            if choice.random() < 0.7:
                x = x + layer(x)
        loss = (x * x).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        yield loss.item()
    return values_of(*layers)


def trees(iterations: int) -> Generator[float, None, Values]:
    """A network applied along ever other trees."""
    choice = random.Random(7)
    leaf, join, out = filled(nn.Embedding(9, 6)), filled(nn.Linear(12, 6)), filled(nn.Linear(6, 2))
    opt = optim.SGD([*leaf.parameters(), *join.parameters(), *out.parameters()], lr=0.05, momentum=0.9)

    def grown(n: int) -> object:
        k = choice.randint(1, n - 1) if n > 1 else 0
        return (grown(k), grown(n - k)) if n > 1 else choice.randrange(9)

    def value(tree: object) -> torch.Tensor:
        if isinstance(tree, tuple):
            return torch.tanh(join(torch.cat([value(tree[0]), value(tree[1])])))
        return leaf(torch.tensor(tree))

    for _ in range(iterations):
        loss = F.cross_entropy(out(value(grown(choice.randint(10, 16))))[None], torch.tensor([choice.randrange(2)]))
        opt.zero_grad()
        loss.backward()
        opt.step()
        yield loss.item()
    return values_of(leaf, join, out)


def looked_at(iterations: int) -> Generator[float, None, Values]:
    """Gradients looked at in hooks, kept for a second backward, clipped, and differentiated once more."""
    choice, rng = random.Random(11), np.random.default_rng(2)
    cell = filled(nn.RNNCell(4, 5))
    seen: list[float] = []
    cell.weight_hh.register_hook(lambda g: 0.5 * g)
    opt = optim.SGD(cell.parameters(), lr=0.05)
    for _ in range(iterations):
        h = torch.zeros(2, 5)
        for _ in range(24):
            h = cell(drawn(rng, 2, 4), h)
            if choice.random() < 0.5:
                h = h * h.sigmoid()
                h.register_hook(lambda g: seen.append(float(g.abs().sum())))
        loss = (h * h).sum()
        (first,) = torch.autograd.grad(loss, [cell.bias_hh], create_graph=True)
        opt.zero_grad()
        loss.backward(retain_graph=True)
        (loss + 0.1 * (first * first).sum()).backward()
        nn.utils.clip_grad_norm_(cell.parameters(), 1.0)
        opt.step()
        yield loss.item()
    return [*values_of(cell), np.array(seen, np.float32)]


def experts(iterations: int) -> Generator[float, None, Values]:
    """Each layer's router sends every row to one of three networks, as many rows to each as it may be."""
    rng = np.random.default_rng(8)
    layers = [[filled(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 6))) for _ in range(3)] for _ in range(4)]
    routers, out = [filled(nn.Linear(6, 3)) for _ in range(4)], filled(nn.Linear(6, 2))
    modules = [*[network for layer in layers for network in layer], *routers, out]
    opt = optim.AdamW([p for module in modules for p in module.parameters()], lr=1e-2)
    for _ in range(iterations):
        x, y = drawn(rng, 7, 6), torch.tensor(rng.integers(0, 2, 7))
        for router, layer in zip(routers, layers, strict=True):
            shares = router(x).softmax(-1)
            chosen, total = shares.argmax(-1), torch.zeros_like(x)
            for k, network in enumerate(layer):
                (rows,) = torch.where(chosen == k)
                if rows.numel():
                    total = total.index_add(0, rows, network(x[rows]) * shares[rows, k, None])
            x = x + total
        loss = F.cross_entropy(out(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        yield loss.item()
    return values_of(*modules)


PROGRAMS: list[Program] = [decoder, decoder_without_gradient, dropped_layers, trees, looked_at, experts]


def run(program: Program, iterations: int) -> tuple[list[float], list[int], Values]:
    """What it yields, how many steps had been recorded for the first time after each iteration, and its result."""
    steps, losses, counts = program(iterations), [], []
    before = state.counters["nodes"]
    while True:
        try:
            losses.append(next(steps))
        except StopIteration as stop:
            return losses, counts, stop.value
        counts.append(state.counters["nodes"] - before)


@compiled_only
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_the_same_is_computed(program: Program, trials: None) -> None:
    iterations = 8
    losses, _, values = run(program, iterations)
    assert pieces.families or pieces.apart, "nothing was cut"
    with torch.eager():
        expected, _, others = run(program, iterations)
    np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-5)
    for value, other in zip(values, others, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-3, atol=1e-4)


@compiled_only
@pytest.mark.parametrize("program", [decoder, dropped_layers, trees, experts], ids=lambda p: p.__name__)
def test_soon_hardly_anything_is_new(program: Program) -> None:
    _, counts, _ = run(program, 60)
    assert counts[-1] - counts[-11] < 0.2 * 10 * counts[0], counts


@compiled_only
def test_what_is_the_same_every_time_is_left_whole() -> None:
    """Also if it was something else a few times before."""
    cell = filled(nn.GRUCell(4, 4))
    opt = optim.SGD(cell.parameters(), lr=0.1)

    def step(length: int) -> float:
        h = torch.zeros(2, 4)
        for _ in range(length):
            h = cell(torch.ones(2, 4), h)
        loss = h.sum()
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss.item()

    for length in range(11, 11 + pieces.TRIES - 3):
        step(length)
    for _ in range(2 * pieces.TRIES):
        step(13)
        step(14)
    for length in range(15, 15 + pieces.TRIES - 2):
        step(length)
    before = torch.stats()["programs"]
    step(13)
    step(14)
    assert torch.stats()["programs"] == before
    assert not pieces.families


@compiled_only
def test_derivatives_of_several_traces_stay_together_where_they_recur() -> None:
    """A value is read at every step, which ends a trace, and the path is the same in every iteration but the first ones."""
    cell = filled(nn.RNNCell(3, 3))
    opt = optim.SGD(cell.parameters(), lr=0.1)

    def step(length: int) -> None:
        h, choice = torch.ones(2, 3), random.Random(length)  # no program of a derivative is met twice in it
        for _ in range(length):
            for _ in range(14):
                h = choice.choice((torch.sin, torch.tanh, torch.sigmoid, torch.cos, torch.atan))(cell(h, h))
            assert h.sum().item() < 100
        opt.zero_grad()
        (h * h).sum().backward()
        opt.step()

    step(24)
    assert len(pieces._walks) == 1 and not pieces.apart
    for length in (3, 4, 5, 6):
        step(length)
        programs = torch.stats()["programs"]
        step(length)
        assert torch.stats()["programs"] == programs, "what was done once is known"
    assert not pieces.apart


@compiled_only
def test_what_is_mapped_or_compiled_is_not_cut() -> None:
    """`vmap` would have to loop over the samples."""
    choice = random.Random(0)
    cell = filled(nn.RNNCell(3, 3))

    def varied(x: torch.Tensor) -> torch.Tensor:
        h = torch.zeros(1, 3)
        for _ in range(40):
            h = cell(x[None], h)
            if choice.random() < 0.5:
                h = h * h.sigmoid()
        return h.sum()

    for _ in range(2 * pieces.TRIES):
        varied(torch.ones(3)).item()
    assert pieces.families
    xs = drawn(np.random.default_rng(0), 5, 3)
    drawn_so_far = choice.getstate()
    operations = torch.stats()["operations"]
    together = torch.func.vmap(varied)(xs).detach().numpy()
    assert torch.stats()["operations"] - operations < 2000  # a loop over five samples takes more
    for x, value in zip(xs, together, strict=True):
        choice.setstate(drawn_so_far)
        np.testing.assert_allclose(varied(x).item(), value, rtol=1e-5)


@compiled_only
def test_forgetting_keeps_count() -> None:
    run(decoder, 10)
    assert pieces.families
    before = bounds.living_nodes()
    root = next(root for root in state.roots() if root.family and root.kids)
    bounds.forget_below([root])
    assert not root.kids
    assert bounds.living_nodes() < before
    assert bounds.living_nodes() == len(bounds._all_steps())
    run(decoder, 3)


@compiled_only
def test_families_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "FAMILIES", 2)
    for program in (decoder, dropped_layers, trees):
        run(program, 8)
    assert len(pieces.families) <= 2
    assert len({root.family for root in state.roots() if root.family} - set(pieces.families.values())) <= 1
    run(decoder, 3)  # whose marks may still be there


@compiled_only
def test_the_next_trace_is_none_of_the_family() -> None:
    """A value that is read, or the end of a backward, ends what was cut."""
    run(decoder, 10)
    assert pieces.families
    torch.ones(3).sum().item()
    assert state.local.trace.node.family is None


@compiled_only
@pytest.mark.parametrize("known", [False, True], ids=["walked", "remembered"])
def test_the_updates_of_others_stay_whole(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both where the next derivative is a walk, and where it is looked up."""
    walks: list[int] = []
    backward = engine.backward
    monkeypatch.setattr(engine, "backward", lambda *args: (walks.append(1), backward(*args)))
    net = filled(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    opt = optim.SGD(net.parameters(), lr=0.1)

    def step() -> None:
        opt.zero_grad()
        net(torch.ones(2, 3)).sum().backward()
        opt.step()
        net[0].bias.tolist()

    step()
    step()
    run(decoder, 10)
    assert pieces.families and state.local.trace.pieces
    if known:
        torch.ones(3).tolist()  # the next trace begins where the first did
        torch.ones(3).sum().item()
    before = torch.stats()["runs"]
    walks.clear()
    step()
    assert torch.stats()["runs"] == before + 1
    assert len(walks) == (not known)


@compiled_only
def test_a_finalizer_may_compute_while_marks_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    learn, computed = pieces.Family.learn, []

    def interrupted(family: pieces.Family, node: Step) -> bool:
        x = torch.ones(5)
        for k in range(30 + len(computed)):
            x = x * 1.5 if k % 2 else x.sin()
        computed.append(x.tolist())
        return learn(family, node)

    monkeypatch.setattr(pieces.Family, "learn", interrupted)
    run(decoder, 8)
    assert computed and pieces.families


@compiled_only
@pytest.mark.parametrize("prim", ["matmul", "add"])
def test_an_operation_that_raises_where_a_trace_is_cut(prim: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is cut again."""
    cuts = []

    def ends_here(tr: state.Trace, what: str) -> bool:
        if what == prim and tr.node.parent is not None:
            cuts.append(what)
            return True
        return False

    monkeypatch.setattr(pieces, "families", {(): pieces.Family()})
    monkeypatch.setattr(pieces, "ends_here", ends_here)
    x, y = torch.ones(2, 3) * 2, torch.ones(2, 4)
    with pytest.raises(RuntimeError):
        recorder.record(prim, (x, y))
    assert cuts and not state.local.trace.resumed
    assert (x + 1).tolist() == [[3.0] * 3] * 2


@compiled_only
def test_the_report_says_so() -> None:
    run(decoder, 8)
    assert any("goes on in ever other ways" in c.reason for c in torch.why(50))


# --- marks ---------------------------------------------------------------------------------------------------------------


def outline(text: str) -> pieces.Outline:
    """Of a trace whose operations are the letters of a text."""
    steps: list[Step] = []
    for letter in text:
        steps.append(Step(steps[-1] if steps else None, letter, letter))
    return pieces.Outline(steps)


def pair(text: str) -> tuple:
    return (text[0], None), (text[1], None)


def test_marks_are_where_the_variants_of_a_round_begin() -> None:
    choice = random.Random(1)
    rounds = [choice.choice(["abcdefghijklmnopqrstuvw", "abcdefghijklmnopxyzuv"]) + "ABCDEF" for _ in range(30)]
    price, marks, _ = outline("".join(rounds)).marks(set(), 24)
    assert marks == {pair("Fa")}
    assert price <= 30 * pieces.PRICE + 29 + 27


def test_straight_code_has_no_marks() -> None:
    assert outline("".join(chr(200 + k) for k in range(300))).marks(set(), 24)[1] == set()


def test_rounds_that_are_alike_make_long_pieces() -> None:
    drawing = outline("abcdefghijkl" * 100)
    assert min((drawing.marks(set(), least) for least in pieces.LEAST), key=lambda m: m[0])[2] > pieces.LEAST[0]


def test_updates_of_what_is_alike_come_together() -> None:
    big, small = [(torch.ones(2, 3),) for _ in range(11)], [(torch.ones(4),) for _ in range(3)]
    mixed = [*big[:5], *small, *big[5:]]
    got = pieces.together(mixed)
    assert [len(some) for some in got] == [pieces.TOGETHER, 11 - pieces.TOGETHER, 3]
    assert sorted(map(id, mixed)) == sorted(id(group) for some in got for group in some)
