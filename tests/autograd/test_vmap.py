"""`vmap`: every operator over a batch against the loop over its samples, derivatives through it, what it falls back from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.batch import vmap as mapping
from adjoint.batch.rules import RULES
from adjoint.ir.prims import PRIMS
from adjoint.testing.operators import RECORDS, OpRecord
from adjoint.testing.operators.record import Sample, flat

pytestmark = pytest.mark.usefixtures("little_effort")

func = torch.func
compiled = pytest.mark.skipif(torch.is_eager(), reason="reference mode computes sample by sample")
ALL = [pytest.param(r, id=r.name) for r in RECORDS.values()]
SIZE = 3
# Operators whose Python looks at values, draws random numbers or shares memory with the outside: computed one by one.
LOOKS = set(
    "quantile quantile_between nanquantile unique unique_consecutive unique_slices bincount histc histogram histogramdd masked_select masked_scatter nonzero "
    "where_indices argwhere isin gcd lcm linalg.matrix_exp linalg.cholesky_ex tensor istft".split()
)


@pytest.fixture
def at_once() -> Any:
    """Fails if anything was computed sample by sample (in compiled mode)."""
    before = mapping.loops
    yield
    assert torch.is_eager() or mapping.loops == before, "computed one sample after the other"


def arrays_of(value: Any) -> list[np.ndarray]:
    return [t.detach().numpy().copy() for t in flat(value)]


def batch_of(array: np.ndarray, definite: bool = False) -> np.ndarray:
    """Three samples that differ and stay in the domain: the elements moved around, and for integers left alone."""
    if array.dtype.kind not in "fc" or array.ndim == 0:
        return np.stack([array] * SIZE)
    if definite:
        return np.stack([array * (1 + k) for k in range(SIZE)]).astype(array.dtype)
    return np.stack([np.roll(array, k, -1) for k in range(SIZE)])


def place(value: Any, chosen: set[int], parts: Any, count: list[int]) -> Any:
    """Arguments with the chosen arrays, by number, taken from `parts`, and the others as tensors."""
    if isinstance(value, np.ndarray):
        count[0] += 1
        return next(parts) if count[0] - 1 in chosen else torch.tensor(value)
    if isinstance(value, (list, tuple)):
        return type(value)(place(v, chosen, parts, count) for v in value)
    return value


def call_of(record: OpRecord, s: Sample, chosen: set[int]) -> Any:
    def call(*parts: Any) -> tuple:
        rest, count = iter(parts), [0]
        args = place(s.args, chosen, rest, count)
        options = {k: place(v, chosen, rest, count) for k, v in s.options.items()}
        return tuple(flat(record.run(torch, *args, **options)))

    return call


def choices(s: Sample) -> list[set[int]]:
    """Which arrays are mapped: all of them, and each alone."""
    count = len(s.arrays())
    return [set(range(count)), *([{k} for k in range(count)] if count > 1 else [])]


def assert_like(record: OpRecord, got: np.ndarray, want: np.ndarray, what: str) -> None:
    assert got.shape == want.shape and got.dtype == want.dtype, what
    if got.dtype.kind not in "fc":
        np.testing.assert_array_equal(got, want, err_msg=what)
        return
    size = np.abs(want[np.isfinite(want)]).max(initial=0.0)
    rtol = record.rtol[0] if got.dtype in (np.float32, np.complex64, np.float16) else record.rtol[1]
    np.testing.assert_allclose(got, want, rtol=4 * rtol, atol=4 * rtol * float(size), err_msg=what)


def samples_of(record: OpRecord, dtype: str) -> list[Sample]:
    drawn = record.draw(dtype)
    return [s for s in drawn if s.arrays()][:6]


def by_samples(call: Any, stacked: list[np.ndarray]) -> list[list[np.ndarray]]:
    """The results for each sample, in reference mode: that compiled code computes the same, other tests ask."""
    with torch.eager():
        return [arrays_of(call(*[torch.tensor(b[k]) for b in stacked])) for k in range(SIZE)]


@pytest.mark.parametrize("record", ALL)
def test_a_batch_of_every_operator_is_the_loop(record: OpRecord) -> None:
    dtype = "float32" if "float32" in record.dtypes else record.dtypes[-1]
    made: list[tuple] = []
    before = mapping.loops
    for s in samples_of(record, dtype):
        for chosen in choices(s):
            call = call_of(record, s, chosen)
            stacked = [batch_of(a, "cholesky" in record.name) for k, a in enumerate(s.arrays()) if k in chosen]
            ats = [k % (a.ndim + 1) for k, a in enumerate(s.arrays()) if k in chosen]
            what = f"{record.name}{s.describe()} over {sorted(chosen)}"
            batch = [torch.tensor(np.ascontiguousarray(np.moveaxis(b, 0, at))) for b, at in zip(stacked, ats, strict=True)]
            got = func.vmap(call, in_dims=tuple(ats), randomness="same")(*batch)
            made.append((what, got, by_samples(call, stacked)))
    assert torch.is_eager() or (mapping.loops > before) == (record.name in LOOKS)
    for what, got, rows in made:
        want = [np.stack(column) for column in zip(*rows, strict=True)]
        for g, w in zip(arrays_of(got), want, strict=True):
            assert_like(record, g, w, what)


@pytest.mark.parametrize("record", [p for p in ALL if p.values[0].differentiable])
def test_gradients_through_a_batch_of_every_operator(record: OpRecord) -> None:
    """The gradient of a weighted sum of the results, by the whole batch and by one sample after the other in reference mode."""
    made: list[tuple] = []
    for s in [s for s in record.draw("float64") if s.is_small() and all(a.dtype.kind == "f" for a in s.arrays())][-2:]:
        chosen = set(range(len(s.arrays())))
        call = call_of(record, s, chosen)
        stacked = [batch_of(a, "cholesky" in record.name) for a in s.arrays()]

        def slopes(run: Any, stacked: list[np.ndarray] = stacked) -> list[torch.Tensor]:
            leaves = [torch.tensor(b, requires_grad=True) for b in stacked]
            outs = [o for o in run(*leaves) if o.is_floating_point()]
            total = sum([(o * torch.linspace(0.5, 1.5, o.numel(), dtype=o.dtype).reshape(o.shape)).sum() for o in outs], start=torch.tensor(0.0))
            if not total.requires_grad:
                return []
            return list(torch.autograd.grad(total, leaves, materialize_grads=True))

        got = slopes(func.vmap(call, randomness="same"))
        with torch.eager():
            want = slopes(lambda *b, call=call: [torch.stack(list(c)) for c in zip(*[call(*[x[k] for x in b]) for k in range(SIZE)], strict=True)])
            made.append((s, got, arrays_of(want)))
    for s, got, want in made:
        assert len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            np.testing.assert_allclose(g.numpy(), w, rtol=1e-8, atol=1e-8, err_msg=f"{record.name}{s.describe()}")


def test_every_primitive_has_a_rule() -> None:
    ruled = set(RULES) | {name for name, p in PRIMS.items() if p.kind == "pointwise"}
    assert set(PRIMS) - ruled == {"input", "scalar", "const", "iota"}  # which depend on nothing


def near(got: Any, want: Any) -> None:
    np.testing.assert_allclose(got.detach().numpy(), want.detach().numpy(), rtol=2e-5, atol=2e-6)


def stacked(function: Any, *batches: Any) -> Any:
    return torch.stack([function(*[b[k] for b in batches]) for k in range(batches[0].shape[0])])


def normal(*shape: int, seed: int = 0) -> Any:
    return torch.tensor(np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32))


def mlp(w: Any, x: Any, y: Any) -> Any:
    scores = torch.nn.functional.linear(torch.tanh(torch.nn.functional.linear(x, w["a"], w["b"])), w["c"])
    return torch.nn.functional.cross_entropy(scores.unsqueeze(0), y.unsqueeze(0))


def convolutions(w: Any, x: Any, y: Any) -> Any:
    x = torch.relu(torch.nn.functional.conv2d(x.unsqueeze(0), w["k"], w["b"], padding=1))
    x = torch.nn.functional.max_pool2d(torch.nn.functional.conv2d(x, w["l"], stride=2), 2)
    return torch.nn.functional.cross_entropy(x.flatten(1) @ w["c"], y.unsqueeze(0))


def attention(w: Any, x: Any, y: Any) -> Any:
    q, k, v = (torch.nn.functional.layer_norm(x, (4,)) @ w["a"]).chunk(3, -1)
    seen = torch.ones(5, 5, dtype=torch.bool).tril()
    mixed = x + torch.softmax((q @ k.T).masked_fill(~seen, float("-inf")) / 2, -1) @ v
    return -torch.log_softmax(mixed @ w["c"], -1)[2, y]


MODELS = {
    "mlp": (mlp, {"a": (6, 4), "b": (6,), "c": (3, 6)}, (4,)),
    "conv": (convolutions, {"k": (2, 3, 3, 3), "b": (2,), "l": (2, 2, 2, 2), "c": (8, 3)}, (3, 8, 8)),
    "attention": (attention, {"a": (4, 12), "c": (4, 3)}, (5, 4)),
}


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_every_sample(name: str, at_once: Any) -> None:
    loss, shapes, image = MODELS[name]
    w = {key: normal(*shape) for key, shape in shapes.items()}
    x, y = normal(5, *image, seed=1), torch.tensor([0, 2, 1, 1, 0])
    for _ in range(2):  # recorded, and known
        got = func.vmap(func.grad(loss), in_dims=(None, 0, 0))(w, x, y)
        for key, g in got.items():
            near(g, torch.stack([func.grad(loss)(w, x[k], y[k])[key] for k in range(5)]))
    many = {key: torch.stack([v * (1 + k / 8) for k in range(5)], 1) for key, v in w.items()}  # an ensemble
    got = func.vmap(func.grad(loss), in_dims=(1, 0, 0), out_dims=1)(many, x, y)
    for key, g in got.items():
        near(g, torch.stack([func.grad(loss)({n: v[:, k] for n, v in many.items()}, x[k], y[k])[key] for k in range(5)], 1))


def test_transforms_nest(at_once: Any) -> None:
    x, w = normal(4, 3), normal(3, seed=2)

    def f(u: Any) -> Any:
        return (u * w).sin().sum() * u[0]

    near(func.vmap(func.hessian(f))(x), stacked(func.hessian(f), x))
    near(func.vmap(func.jacrev(torch.tanh))(x), stacked(func.jacrev(torch.tanh), x))
    near(func.hessian(lambda u: func.vmap(f)(u).sum())(x)[1, :, 1], func.hessian(f)(x[1]))
    near(func.vmap(func.vmap(lambda u, v: (u * v).exp(), (0, None)), (None, 0))(x[0], x[:, 0]), torch.exp(torch.outer(x[:, 0], x[0])))
    near(func.grad(lambda v: func.vmap(func.grad(lambda u: (u * v).exp().sum()))(x).sum())(w), ((1 + x * w) * (x * w).exp()).sum(0))
    near(func.jvp(func.vmap(f), (x,), (torch.ones(4, 3),))[1], stacked(lambda u: func.jvp(f, (u,), (torch.ones(3),))[1], x))
    leaf = w.clone().requires_grad_()
    func.vmap(func.grad(lambda u: (u * leaf).exp().sum()))(x).sum().backward()
    near(leaf.grad, ((1 + x * w) * (x * w).exp()).sum(0))


def test_starts_that_differ_between_samples(at_once: Any) -> None:
    """A sample's own index moves a part along an axis: a slice of one or more, its gradient, and a write."""
    x, at = normal(4, 5, 6), torch.tensor([0, 3, 1, 2])
    near(func.vmap(lambda u, i: u[:, i])(x, at), stacked(lambda u, i: u[:, i.item()], x, at))
    near(func.vmap(lambda i: x[0][i])(at), x[0][at])
    near(func.vmap(func.grad(lambda u, i: (u[i] ** 2).sum()))(x, at), stacked(lambda u, i: func.grad(lambda v: (v[i.item()] ** 2).sum())(u), x, at))

    def write(u: Any, i: Any) -> Any:
        u = u.clone()
        u[1:4, i] = u[0, i] * 2
        return u

    near(func.vmap(write)(x, at), stacked(lambda u, i: write(u, i.item()), x, at))


def test_results_that_do_not_depend_on_the_sample(at_once: Any) -> None:
    x, c = normal(3, 2), normal(2, seed=3)
    got = func.vmap(lambda u: (u, c, c * 2, u.sum()), out_dims=(1, 0, -1, None))(x)
    assert [tuple(t.shape) for t in got] == [(2, 3), (3, 2), (2, 3), ()]
    near(got[2], torch.stack([c * 2] * 3, 1))
    near(got[3], x[0].sum())
    got[1].add_(1)  # it is a tensor of its own
    near(got[1], torch.stack([c + 1] * 3))


def test_promotion_is_that_of_one_sample(at_once: Any) -> None:
    point, row = normal(3).double(), normal(3, 2)
    assert func.vmap(lambda p, r: p * r)(point, row).dtype is torch.float32  # 0-d gives way
    assert func.vmap(lambda p, h: p * h)(point.float(), row.half()).dtype is torch.float16
    assert func.vmap(lambda p: p * torch.tensor(2.0))(point).dtype is torch.float64


@compiled
@pytest.mark.parametrize("case", ["branch", "item", "captured", "argument", "kept", "grad", "custom", "hook"])
def test_what_is_computed_sample_by_sample(case: str) -> None:
    x, total, kept = normal(4, 3), torch.zeros(3), []
    leaf = torch.ones(3, requires_grad=True)

    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, u: Any) -> Any:
            return u * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 3

    def hooked(u: Any) -> Any:
        out = u * leaf
        out.register_hook(lambda g: g * 5)
        return out * 1

    cases: dict[str, Any] = {
        "branch": lambda u: u * 2 if u.sum() > 0 else u,
        "item": lambda u: u * u[0].item(),
        "captured": lambda u: total.add_(u) * 1,
        "argument": lambda u: u.mul_(2) + 1,
        "kept": lambda u: kept.append(u + 1) or u,
        "grad": lambda u: (u * leaf).sum().backward() or u,
        "custom": lambda u: Twice.apply(u * leaf),
        "hook": hooked,
    }
    before, start = mapping.loops, x.clone()
    got = func.vmap(cases[case])(x)
    assert mapping.loops == before + 1
    want = {
        "branch": lambda: stacked(cases["branch"], x),
        "item": lambda: x * x[:, :1],
        "captured": lambda: x.cumsum(0),
        "argument": lambda: start * 2 + 1,
    }.get(case, lambda: got)()
    near(got, want)
    if case == "argument":
        near(x, start * 2)
    if case == "kept":
        near(torch.stack(kept), x + 1)
    if case == "grad":
        near(leaf.grad, x.sum(0))
    if case in ("custom", "hook"):
        got.sum().backward()
        near(leaf.grad, x.sum(0) * (3 if case == "custom" else 5))


def test_random_numbers() -> None:
    x = torch.zeros(4, 3)
    with pytest.raises(RuntimeError, match="randomness error mode"):
        func.vmap(lambda u: u + torch.rand(3))(x)
    with pytest.raises(RuntimeError, match="Only allowed values"):
        func.vmap(lambda u: u, randomness="none")
    same = func.vmap(lambda u: u + torch.rand(3), randomness="same")(x)
    assert all(row.tolist() == same[0].tolist() for row in same)
    looked = func.vmap(lambda u: (u + torch.rand(3)) * (1 + 0 * u.sum().item()), randomness="same", chunk_size=3)(x)
    assert all(row.tolist() == looked[0].tolist() for row in looked)
    different = func.vmap(lambda u: u + torch.rand(3), randomness="different")(x)
    assert len({tuple(row.tolist()) for row in different}) == 4
    assert torch.rand(3).tolist() not in [same[0].tolist(), *different.tolist()]


@pytest.mark.parametrize("randomness", ["same", "different"])
@pytest.mark.parametrize("kind", ["seed", "generator", "state", "between"])
def test_a_function_may_set_where_random_numbers_come_from(kind: str, randomness: str) -> None:
    """Within a sample the seed decides; "different" samples still draw different numbers, the "same" ones equal ones."""

    def draw(u: torch.Tensor) -> tuple:
        g = torch.Generator() if kind == "generator" else torch.random.default_generator
        before = u * 0 + torch.rand(3, generator=g) if kind == "between" else u
        if kind == "state":
            g.set_state(torch.Generator().manual_seed(5).get_state())
        elif kind != "generator":
            torch.manual_seed(5)
        return before, u * 0 + torch.rand(3, generator=g)

    rows = func.vmap(draw, randomness=randomness)(torch.arange(12.0).reshape(4, 3))
    for drawn in rows[kind != "between" :]:
        assert len({tuple(row.tolist()) for row in drawn}) == (1 if randomness == "same" else 4)
    torch.manual_seed(5)
    first = torch.rand(3) if kind != "generator" else torch.rand(3, generator=torch.Generator())
    assert rows[1][0].tolist() == first.tolist()


def test_a_function_may_step_an_optimizer() -> None:
    """Sample after sample, as a loop would."""
    x = torch.arange(6.0).reshape(2, 3)
    results = []
    for run in (func.vmap, lambda f: lambda batch: torch.stack([f(u) for u in batch])):
        w = torch.ones(3, requires_grad=True)
        optimizer = torch.optim.Adam([w], lr=0.1)

        def step(u: torch.Tensor, w: torch.Tensor = w, optimizer: Any = optimizer) -> torch.Tensor:
            optimizer.zero_grad()
            (w * u).sum().backward()
            optimizer.step()
            return w.detach().clone()

        results.append((run(step)(x).tolist(), optimizer.steps_taken))
    assert results[0] == results[1]


def test_chunks_are_parts_of_the_batch(at_once: Any) -> None:
    x, w = normal(2, 7), normal(2)
    got = func.vmap(lambda u, v: {"a": u * v, "b": v}, in_dims=(1, None), out_dims={"a": 1, "b": None}, chunk_size=3)(x, w)
    near(got["a"], x * w[:, None])
    near(got["b"], w)
    with pytest.raises(ValueError, match="chunk_size"):
        func.vmap(torch.sin, chunk_size=0)


@compiled
def test_memory_shared_with_arrays_is_mapped_at_once(at_once: Any) -> None:
    array = np.arange(6, dtype=np.float32).reshape(3, 2)
    x = torch.from_numpy(array)
    for _ in range(2):
        np.testing.assert_array_equal(func.vmap(lambda u: u * 2)(x).numpy(), array * 2)
        array += 1


@compiled
def test_a_known_batch_is_one_look_up(at_once: Any) -> None:
    """The second call makes no new places in the trie, and the program is the same."""
    from adjoint.trace.state import counters

    x, w = normal(4, 3), normal(3, seed=2)
    counts = []
    for _ in range(4):
        func.vmap(func.grad(lambda u: (u * w).exp().sum()))(x).numpy()
        counts.append((counters["nodes"], counters["programs"]))
    assert counts[2] == counts[3] == counts[1]


@pytest.mark.parametrize("chunk", [None, 3])
@pytest.mark.parametrize("looped", [False, True])
@pytest.mark.parametrize(("outer", "inner", "distinct"), [("same", "same", 1), ("same", "different", 5), ("different", "same", 4), ("different", "different", 20)])
def test_random_numbers_of_nested_maps(outer: str, inner: str, distinct: int, looped: bool, chunk: int | None) -> None:
    """Each of the two says which samples draw the same numbers, also where samples are mapped one after the other."""

    def noisy(u: Any) -> Any:
        if looped:
            u = u + u.sum().item()
        return u + torch.rand(3)

    for seed in range(3):
        torch.manual_seed(seed)
        got = func.vmap(func.vmap(noisy, randomness=inner), randomness=outer, chunk_size=chunk)(torch.zeros(4, 5, 3))
        assert len({tuple(row) for row in got.reshape(20, 3).tolist()}) == distinct


def test_the_structure_of_dims() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    assert func.vmap(lambda u: u * 2, out_dims=(1,))(x).tolist() == (x * 2).t().tolist()
    with pytest.raises(ValueError, match="in_dims"):
        func.vmap(lambda u: u, in_dims=((0, 1),))(x)
    with pytest.raises(ValueError, match="out_dims"):
        func.vmap(lambda u: u, out_dims=(0, 1))(x)


def test_axes_that_do_not_fit_the_arguments() -> None:
    pair, named = (torch.ones(2), torch.ones(2)), {"a": torch.ones(2)}
    for in_dims, argument in (([0], pair[0]), (0.0, pair[0]), (0, 2.0), (([0, 0],), pair), (((0, 0, 0),), pair), (({"b": 0},), named)):
        with pytest.raises(ValueError, match="vmap"):
            torch.vmap(lambda x: x, in_dims)(argument)
    for out_dims in ([0, 0], (0, 0, 0)):
        with pytest.raises(ValueError, match="vmap"):
            torch.vmap(lambda x: (x, x), out_dims=out_dims)(pair[0])
    assert torch.vmap(lambda x, c: x * c, (0, None))(pair[0], 2.0).tolist() == [2, 2]


def test_a_batch_of_none() -> None:
    x = torch.ones(0, 3, requires_grad=True)
    y, n = torch.vmap(lambda v: (v * 2, v.sum()), out_dims=(1, 0))(x)
    assert (y.shape, n.shape, y.dtype) == ((3, 0), (0,), torch.float32)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == (0, 3)
    assert torch.vmap(lambda v: v + 1)(torch.ones(0, 2, dtype=torch.int32)).dtype is torch.int32
