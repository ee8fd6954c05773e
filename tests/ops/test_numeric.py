"""Neighbours and parts of floating numbers at all scales, and divisors at the ends of the integers, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import adjoint as torch

FLOATS = [np.float16, np.float32, np.float64]


def all_scales(dtype: type) -> np.ndarray:
    """Zeros, what is not finite, every power of two with its neighbours, and numbers in between, of either sign."""
    info = np.finfo(dtype)
    exponents = np.arange(info.minexp - info.nmant, info.maxexp)
    powers = np.ldexp(np.ones(1, dtype), exponents).astype(dtype)
    between = powers * np.random.default_rng(0).uniform(1, 2, powers.size).astype(dtype)
    sizes = np.concatenate([[0, np.inf, info.max], powers, np.nextafter(powers, dtype(np.inf)), np.nextafter(powers, dtype(0)), between])
    return np.concatenate([sizes, -sizes, [np.nan]]).astype(dtype)


def assert_same_bits(got: torch.Tensor, want: np.ndarray) -> None:
    assert got.numpy().dtype == want.dtype
    np.testing.assert_array_equal(got.numpy(), want)
    numbers = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got.numpy())[numbers], np.signbit(want)[numbers])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("towards", [np.inf, -np.inf, 0.0, np.nan])
def test_neighbours(dtype: type, towards: float) -> None:
    x = all_scales(dtype)
    if towards == 0:
        x = x[x != 0]  # NumPy is of two minds about the sign of a zero that goes to zero
    with np.errstate(all="ignore"):
        wanted = np.nextafter(x, dtype(towards))
    assert_same_bits(torch.nextafter(torch.tensor(x), torch.tensor(towards, dtype=torch.tensor(x).dtype)), wanted)


def test_neighbours_of_a_bfloat16() -> None:
    x = torch.tensor([1.0, -1.0, 256.0, 0.0]).bfloat16()
    up = torch.nextafter(x, torch.full((), torch.inf).bfloat16())
    assert up.dtype is torch.bfloat16
    assert (up - x).float().tolist() == [2.0**-7, 2.0**-8, 2.0, 2.0**-133]


def test_a_neighbour_has_no_derivative() -> None:
    x = torch.ones(2, requires_grad=True)
    assert not torch.nextafter(x, x * 2).requires_grad
    assert torch.ones(1).nextafter_(torch.zeros(1)).item() == 1 - 2.0**-24


@pytest.mark.parametrize("dtype", FLOATS)
def test_parts(dtype: type) -> None:
    x = all_scales(dtype)
    mantissa, exponent = torch.frexp(torch.tensor(x))
    wanted, power = np.frexp(x)
    assert_same_bits(mantissa, wanted)
    assert exponent.dtype is torch.int32
    finite = np.isfinite(x)
    np.testing.assert_array_equal(exponent.numpy()[finite], power[finite])
    assert not exponent.numpy()[~finite].any()


def test_the_derivative_of_a_mantissa() -> None:
    x = torch.tensor([3.0, -0.1, 0.0, 5e-3, torch.inf], requires_grad=True)
    torch.frexp(x).mantissa.sum().backward()
    assert x.grad.tolist() == [0.25, 8.0, 1.0, 128.0, 1.0]
    y = torch.tensor([3.0, -0.2, 1e-8], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda y: torch.frexp(y * y).mantissa, (y,), eps=1e-12, atol=1e-2)


def test_divisors_at_the_ends() -> None:
    least = -(2**63)
    a, b = torch.tensor([least, least, 2**62, 0]), torch.tensor([3, 2, 6, 0])
    assert torch.gcd(a, b).tolist() == [1, 2, 2, 0]
    assert torch.lcm(a, b).tolist()[3] == 0
    assert torch.gcd(torch.tensor([4], dtype=torch.int8), torch.tensor([6], dtype=torch.uint8)).dtype is torch.int16
    assert torch.gcd(torch.tensor([[4], [9]]), torch.tensor(6)).tolist() == [[2], [3]]
    with pytest.raises(RuntimeError, match="must match the size"):
        torch.gcd(torch.ones(2).long(), torch.ones(3).long())
    with pytest.raises(RuntimeError, match="shape"):
        torch.tensor([4]).gcd_(torch.tensor([[2], [3]]))


def test_in_place_powers_keep_the_precision_of_their_results() -> None:
    x = torch.tensor([2.0, 3.0], dtype=torch.float64, requires_grad=True)
    y = x.clone().float_power_(3)
    y.sum().backward()
    assert y.tolist() == [8.0, 27.0] and x.grad.tolist() == [12.0, 27.0]
    with pytest.raises(RuntimeError, match="float_power_ has dtype Float but the operation's result requires dtype Double"):
        torch.ones(2).float_power_(2)


def test_conjugates_in_place() -> None:
    z = torch.tensor([1 + 2j, 3j])
    assert z.conj_physical_() is z and z.tolist() == [1 - 2j, -3j]
    with pytest.raises(RuntimeError, match="In-place abs is not supported for complex"):
        z.absolute_()


def test_other_names_of_operations_in_place_tell_their_own() -> None:
    with pytest.raises(RuntimeError, match="greater_ cannot change the shape"):
        torch.ones(2).greater_(torch.ones(2, 2))
    x = torch.tensor([1.0, -2.0])
    assert x.subtract_(torch.ones(2), alpha=2).clip_(-3, 0).negative_().tolist() == [1.0, 3.0]
    assert x.greater_(2).tolist() == [0.0, 1.0] and x.dtype is torch.float32


@pytest.mark.parametrize("library", ["adjoint", "torch"])
def test_shifts(library: str) -> None:
    t = pytest.importorskip(library)
    x = t.tensor([1, -8, 5])
    seen = x
    x <<= 2
    x >>= t.tensor([0, 1, 2])
    assert x is seen and seen.tolist() == [4, -16, 5]
    assert (1 << t.arange(3)).tolist() == [1, 2, 4] and (-16 >> t.arange(3)).tolist() == [-16, -8, -4]
    assert t.bitwise_left_shift(x, 1).tolist() == [8, -32, 10] and x.bitwise_right_shift_(1) is x and x.tolist() == [2, -8, 2]


@pytest.mark.parametrize("library", ["adjoint", "torch"])
def test_logaddexp_at_infinity(library: str) -> None:
    t = pytest.importorskip(library)
    inf = float("inf")
    x, y = (t.tensor(v, dtype=t.float64, requires_grad=True) for v in ([inf, 1.0, -inf, 1e3], [2.0, inf, 0.0, -1e300]))
    for function in (t.logaddexp, t.logaddexp2):
        out = function(x, y)
        gx, gy = t.autograd.grad(out.sum(), (x, y))
        assert out.tolist() == pytest.approx([inf, inf, 0, 1e3]) and gx.tolist() == [1, 0, 0, 1] and gy.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("library", ["adjoint", "torch"])
def test_whether_a_tensor_contains(library: str) -> None:
    t = pytest.importorskip(library)
    assert 2 in t.tensor([1, 2]) and t.tensor(3) not in t.tensor([1, 2])
    for what in (None, "a", [1]):
        with pytest.raises(RuntimeError, match="only supports Tensor or scalar"):
            what in t.tensor([1, 2])  # noqa: B015
    assert t.is_nonzero(t.tensor([2.0])) and t.tensor(1).is_signed() and t.scalar_tensor(3).dtype is t.float32
