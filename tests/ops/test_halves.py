"""float16 and bfloat16: every operator gives what float32 gives, rounded, in both modes, and so do derivatives.

What float32 gives is computed in reference mode: that compiled code gives the same is shown by other tests.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.storage import decode, encode, round_to
from adjoint.testing.operators import RECORDS, OpRecord
from adjoint.testing.operators.record import flat, tensors

pytestmark = [pytest.mark.usefixtures("little_effort"), pytest.mark.by_record]

HALVES = (torch.float16, torch.bfloat16)
TAKEN = [pytest.param(r, id=r.name) for r in RECORDS.values() if r.halves and "float32" in r.dtypes]


def numbers(t: Any) -> np.ndarray:
    return np.array(t.detach().tolist())


def half(dtype: Any, grad: bool = False) -> Any:
    """A maker of tensors: floating arrays in a half dtype."""

    def make(library: Any, array: np.ndarray) -> Any:
        if array.dtype.kind != "f":
            return library.tensor(array)
        return library.tensor(round_to(array, dtype).astype("float32")).to(dtype).requires_grad_(grad)

    return make


def single(dtype: Any, grad: bool = False) -> Any:
    """The same numbers in float32."""

    def make(library: Any, array: np.ndarray) -> Any:
        if array.dtype.kind != "f":
            return library.tensor(array)
        return library.tensor(round_to(array, dtype).astype("float32"), requires_grad=grad)

    return make


def run(record: OpRecord, s: Any, make: Any) -> list[Any]:
    return flat(record.run(torch, *tensors(torch, s.args, make), **tensors(torch, s.options, make)))


def assert_close(got: np.ndarray, want: np.ndarray, eps: float, what: str) -> None:
    assert got.shape == want.shape
    size = np.abs(want[np.isfinite(want)]).max(initial=1.0) if want.dtype.kind == "f" else 1
    np.testing.assert_allclose(got, want, rtol=16 * eps, atol=16 * eps * size, err_msg=what)


@pytest.mark.parametrize("record", TAKEN)
def test_values_are_those_of_float32_rounded(record: OpRecord) -> None:
    for dtype in HALVES:
        eps = torch.finfo(dtype).eps
        for s in record.draw("float32"):
            got = run(record, s, half(dtype))
            with torch.eager():
                want = run(record, s, single(dtype))
            for g, w in zip(got, want, strict=True):
                if w.dtype == torch.float32:
                    assert g.dtype in (dtype, torch.float32), f"{record.name}: {g.dtype}"
                else:
                    assert g.dtype == w.dtype
                if w.is_floating_point():
                    assert_close(numbers(g), numbers(w), eps, f"{record.name}{s.describe()} as {dtype}")


@pytest.mark.skipif(torch.is_eager(), reason="compares compiled code with reference mode")
@pytest.mark.parametrize("record", [p for p in TAKEN if p.values[0].exact])
def test_compiled_is_reference_to_the_bit(record: OpRecord) -> None:
    """Of exact operations: rounded at the same places."""
    for dtype in HALVES:
        for s in record.draw("float32"):
            with torch.eager():
                want = [numbers(t) for t in run(record, s, half(dtype))]
            run(record, s, half(dtype))
            for g, w in zip(run(record, s, half(dtype)), want, strict=True):
                np.testing.assert_array_equal(numbers(g), w, err_msg=f"{record.name}{s.describe()} as {dtype}")


@pytest.mark.parametrize("record", [p for p in TAKEN if p.values[0].differentiable])
def test_gradients_are_those_of_float32_rounded(record: OpRecord) -> None:
    for dtype in HALVES:
        eps = torch.finfo(dtype).eps
        for s in [s for s in record.draw("float32") if s.is_small()]:
            gradients = []
            for make, eager in ((half(dtype, True), torch.is_eager()), (single(dtype, True), True)):
                with torch.eager(eager):
                    args = tensors(torch, s.args, make)
                    out = flat(record.run(torch, *args, **tensors(torch, s.options, make)))
                    live = [o for o in out if o.requires_grad]
                    if not live:
                        continue
                    sum(o.float().sum() for o in live).backward()
                    leaves = [t for t in flat([a for a in args if isinstance(a, (torch.Tensor, list, tuple))]) if t.requires_grad]
                    gradients.append([t.grad for t in leaves])
            for g, w in zip(*gradients, strict=True) if gradients else ():
                assert (g is None) == (w is None)
                if g is not None:
                    assert g.dtype == dtype
                    assert_close(numbers(g), numbers(w), eps, f"{record.name}{s.describe()} as {dtype}")


# --- bits ---------------------------------------------------------------------------------------------------------------


def special_numbers() -> np.ndarray:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 1 << 32, 20000, dtype=np.uint64).astype(np.uint32)
    ties = (np.arange(1 << 16, dtype=np.uint32) << 16) | np.uint32(0x8000)
    small = (rng.standard_normal(5000) * 2.0 ** rng.integers(-30, 20, 5000)).astype(np.float32)
    return np.concatenate([bits.view(np.float32), ties.view(np.float32), small, np.float32([0.0, -0.0, np.inf, -np.inf, np.nan])])


@pytest.mark.parametrize("dtype", HALVES)
def test_rounding_is_to_nearest_even(dtype: Any) -> None:
    x = special_numbers()
    rounded = round_to(x, dtype)
    got = torch.tensor(x).to(dtype)
    np.testing.assert_array_equal(numbers(got), rounded.astype("float64"))
    np.testing.assert_array_equal(numbers(got.float()), rounded.astype("float64"))
    if dtype is torch.float16:
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(rounded, x.astype(np.float16))
    else:
        foreign = pytest.importorskip("ml_dtypes").bfloat16
        np.testing.assert_array_equal(rounded, x.astype(foreign).astype(np.float32))
    np.testing.assert_array_equal(decode(encode(rounded, dtype), dtype), rounded)


@pytest.mark.parametrize("dtype", HALVES)
def test_every_pattern_survives(dtype: Any) -> None:
    memory = np.arange(1 << 16, dtype=np.uint16)
    values = decode(memory.view(np.float16) if dtype is torch.float16 else memory, dtype)
    t = torch.tensor(values.astype(np.float32)).to(dtype)
    np.testing.assert_array_equal(numbers(t), values.astype("float64"))
    np.testing.assert_array_equal(numbers(t.double().to(dtype)), values.astype("float64"))


@pytest.mark.parametrize("dtype", HALVES)
def test_fused_is_one_operation_at_a_time(dtype: Any) -> None:
    """A chain in one program gives the bits of the same chain with a look at every value."""
    rng = np.random.default_rng(1)
    x, y = (torch.tensor(rng.standard_normal(1000)).to(dtype) for _ in range(2))
    fused = ((x * y + x) * 0.3 - y / 7) * (x - 0.1)
    steps = x * y
    for step in (lambda t: t + x, lambda t: t * 0.3, lambda t: t - y / 7, lambda t: t * (x - 0.1)):
        steps.tolist()
        steps = step(steps)
    assert fused.tolist() == steps.tolist()


def test_numbers_keep_their_digits_in_products() -> None:
    """0.1 is no float16; PyTorch multiplies by the float32 next to it and adds the float16 next to it."""
    x = torch.tensor([3.0, 1000.0], dtype=torch.float16)
    a, b = np.float32([3, 1000]), np.float32(0.1)
    assert (x * 0.1).tolist() == (a * b).astype(np.float16).tolist()
    assert (x / 0.1).tolist() == (a / b).astype(np.float16).tolist()
    assert (x * torch.tensor(0.1)).tolist() == (a * b).astype(np.float16).tolist()
    assert (x + 0.1).tolist() == (a + np.float32(np.float16(0.1))).astype(np.float16).tolist()


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_arithmetic_is_pytorchs_to_the_bit(name: str) -> None:
    theirs = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    data = (rng.standard_normal((2, 3000)) * 3).astype(np.float32)
    chains = (
        lambda m, x, y: (x + y) * 0.3, lambda m, x, y: x / y - 0.7, lambda m, x, y: (x * y).sqrt().nan_to_num(), lambda m, x, y: x * m.tensor(0.1),
        lambda m, x, y: x.sum(), lambda m, x, y: x.reshape(30, 100).mean(1), lambda m, x, y: m.maximum(x, y).floor(), lambda m, x, y: x.cumsum(0),
        lambda m, x, y: m.where(x > y, x, y).abs(), lambda m, x, y: (x * 100).long().to(x.dtype), lambda m, x, y: (x.double() / 3).to(x.dtype),
        lambda m, x, y: x.sort()[0], lambda m, x, y: x.square().reciprocal(), lambda m, x, y: m.add(x, y, alpha=2),
        lambda m, x, y: m.sub(x[:2944], y[:2944], alpha=0.3),  # PyTorch rounds once more in what is left behind whole registers
        lambda m, x, y: m.addcmul(x, y, y, value=0.3), lambda m, x, y: m.addcdiv(x, y, x + 9, value=0.3),
        lambda m, x, y: m.sinc(x),
    )  # fmt: skip
    for k, chain in enumerate(chains):
        got, want = (
            np.array(chain(m, *(m.tensor(d).to(getattr(m, name)) for d in data)).tolist()) for m in (torch, theirs)
        )
        np.testing.assert_array_equal(got, want, err_msg=f"chain {k}")


@pytest.mark.parametrize("dtype", HALVES)
def test_what_is_made_of_several_operations_rounds_once(dtype: Any) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2, 64).to(dtype)
    a, b, u = torch.randn(64, 64).to(dtype), torch.randn(64, 64).to(dtype), torch.rand(64).to(dtype)
    for function, operands in (
        (torch.logit, (u,)),
        (torch.sinc, (x,)),
        (lambda x, y: torch.addcmul(x, x, y, value=0.3), (x, y)),
        (lambda a, b: torch.addmm(a, a, b, beta=0.3, alpha=0.7), (a, b)),
        (lambda x, a, y: torch.addmv(x, a, y, beta=0.3, alpha=0.7), (x, a, y)),
        (lambda x, y: torch.logaddexp(x, y), (x, y)),
        (lambda x, y: torch.hypot(x, y), (x, y)),
        (lambda x, y: torch.xlogy(x, y.abs()), (x, y)),
    ):
        want = function(*[t.float() for t in operands]).to(dtype)
        assert function(*operands).dtype is dtype
        assert function(*operands).tolist() == want.tolist()
    assert torch.hypot(torch.tensor(300.0, dtype=torch.float16), torch.tensor(400.0, dtype=torch.float16)).item() == 500


def test_rms_norm_of_halves_has_the_eps_of_float32() -> None:
    x = torch.tensor([1e-4, 2e-4], dtype=torch.float16)
    want = torch.nn.functional.rms_norm(x.float(), (2,))
    assert torch.nn.functional.rms_norm(x, (2,)).tolist() == want.half().tolist()


@pytest.mark.parametrize("dtype", HALVES)
def test_training_in_halves(dtype: Any) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.LayerNorm(16), torch.nn.Linear(16, 1)).to(dtype)
    x = torch.randn(64, 4, dtype=dtype)
    y = x[:, :1] * x[:, 1:2]
    for make in (torch.optim.SGD, torch.optim.Adam):
        optimizer = make(model.parameters(), lr=0.01)
        losses = []
        for _ in range(30):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]
    assert all(p.dtype == dtype and p.grad.dtype == dtype for p in model.parameters())


def test_numpy_has_no_bfloat16() -> None:
    with pytest.raises(TypeError, match="BFloat16"):
        torch.ones(2, dtype=torch.bfloat16).numpy()
    assert torch.ones(2, dtype=torch.float16).numpy().dtype == np.float16
    shared = np.ones(3, np.float16)
    t = torch.from_numpy(shared)
    t += 1
    assert shared.tolist() == [2.0, 2.0, 2.0]
