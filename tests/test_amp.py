"""`torch.autocast` and `GradScaler`: which functions run in which dtype, where the mode begins and ends, and what is learned in it."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as torch

SINGLE, HALF = "torch.float32", "torch.bfloat16"


def cases(lib: Any) -> dict[str, tuple[Callable[[], Any], str]]:
    """Calls with their results' dtypes inside of `autocast`; x, w, v, a, im are float32, h and hi bfloat16."""
    F, nn = lib.nn.functional, lib.nn
    x, w, v, a, im = lib.ones(4, 5), lib.ones(3, 5), lib.ones(5), lib.ones(2, 4, 5), lib.ones(2, 3, 8, 8)
    h, hi, three = x.bfloat16(), im.bfloat16(), lib.ones(3)
    classes, square = lib.tensor([0, 1, 2, 3]), lib.eye(4).bfloat16()
    return {
        "matmul": (lambda: lib.matmul(x, w.T), HALF), "@": (lambda: x @ w.T, HALF), "method": (lambda: x.matmul(w.T), HALF),
        "vectors": (lambda: v @ v, HALF), "mm": (lambda: x.mm(w.T), HALF), "bmm": (lambda: lib.bmm(a, a.mT), HALF),
        "mv": (lambda: lib.mv(x, v), SINGLE), "dot": (lambda: lib.dot(v, v), SINGLE), "addmv": (lambda: lib.addmv(lib.ones(4), x, v), SINGLE),
        "addmm": (lambda: lib.addmm(three, x, w.T), HALF), "baddbmm": (lambda: lib.baddbmm(lib.ones(2, 4, 4), a, a.mT), HALF),
        "linear": (lambda: F.linear(x, w, three), HALF), "Linear": (lambda: nn.Linear(5, 2)(x), HALF),
        "einsum": (lambda: lib.einsum("ij,kj->ik", x, w), HALF), "outer einsum": (lambda: lib.einsum("i,j->ij", v, three), SINGLE),
        "outer": (lambda: lib.outer(v, v), SINGLE), "tensordot": (lambda: lib.tensordot(x, w.T, 1), HALF),
        "multi_dot": (lambda: lib.linalg.multi_dot([x, w.T, w]), HALF), "vecdot": (lambda: lib.linalg.vecdot(x, x), HALF),
        "conv1d": (lambda: F.conv1d(a.mT, lib.ones(2, 5, 3)), HALF), "conv2d": (lambda: F.conv2d(im, lib.ones(2, 3, 3, 3), lib.ones(2)), HALF),
        "conv_transpose2d": (lambda: F.conv_transpose2d(im, lib.ones(3, 2, 3, 3)), HALF),
        "attention": (lambda: F.scaled_dot_product_attention(a, a, a), HALF), "MultiheadAttention": (lambda: nn.MultiheadAttention(5, 1)(a, a, a)[0], HALF),
        "prelu": (lambda: F.prelu(x, lib.ones(1)), HALF), "GRU": (lambda: nn.GRU(5, 6)(a)[0], SINGLE),
        "Transformer": (lambda: nn.TransformerEncoderLayer(6, 2)(lib.ones(3, 2, 6)), SINGLE),
        "mixed": (lambda: h @ x.T, HALF), "float64": (lambda: x.double() @ x.double().T, "torch.float64"),
        "integers": (lambda: classes @ classes, "torch.int64"), "exp": (lambda: x.exp(), SINGLE), "exp of halves": (lambda: h.exp(), HALF),
        "softmax": (lambda: h.softmax(1), HALF), "sum": (lambda: h.sum(), HALF), "add": (lambda: h + x, SINGLE), "cat": (lambda: lib.cat([h, x]), SINGLE),
        "cross_entropy": (lambda: F.cross_entropy(h, classes), SINGLE), "CrossEntropyLoss": (lambda: nn.CrossEntropyLoss()(h, classes), SINGLE),
        "mse_loss": (lambda: F.mse_loss(h, h), SINGLE), "nll_loss": (lambda: F.nll_loss(h, classes), SINGLE), "huber_loss": (lambda: F.huber_loss(h, h), SINGLE),
        "bce": (lambda: F.binary_cross_entropy_with_logits(h, h), SINGLE), "kl_div": (lambda: F.kl_div(h, h), SINGLE), "l1_loss": (lambda: F.l1_loss(h, h), SINGLE),
        "prod": (lambda: h.prod(), SINGLE), "cdist": (lambda: lib.cdist(h, h), SINGLE), "trace": (lambda: square.trace(), SINGLE),
        "inv": (lambda: lib.linalg.inv(square), SINGLE), "solve": (lambda: lib.linalg.solve(square, square), SINGLE),
        "fft": (lambda: lib.fft.fft(h), "torch.complex64"), "grid_sample": (lambda: F.grid_sample(hi, lib.zeros(2, 2, 2, 2)), SINGLE),
        "avg_pool2d": (lambda: F.avg_pool2d(hi, 2), HALF), "cosine_similarity": (lambda: F.cosine_similarity(h, h), HALF),
        "layer_norm": (lambda: F.layer_norm(h, (5,), v, v), HALF), "BatchNorm2d": (lambda: nn.BatchNorm2d(3)(hi), HALF),
        "GroupNorm": (lambda: nn.GroupNorm(3, 3)(hi), HALF), "RMSNorm": (lambda: nn.RMSNorm(5)(h), HALF), "InstanceNorm": (lambda: F.instance_norm(hi, None, None, three, three), HALF),
    }  # fmt: skip


@pytest.mark.parametrize("name", cases(torch))
def test_dtypes(name: str) -> None:
    call, want = cases(torch)[name]
    with torch.autocast("cpu"):
        for _ in range(2):
            assert str(call().dtype) == want


@pytest.mark.parametrize("name", cases(torch))
def test_dtypes_are_those_of_pytorch(name: str) -> None:
    theirs = pytest.importorskip("torch")
    call, want = cases(theirs)[name]
    with warnings.catch_warnings(), theirs.autocast("cpu"):
        warnings.simplefilter("ignore")
        assert str(call().dtype) == want


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_a_product_is_that_of_rounded_operands() -> None:
    x, w, b = (torch.tensor(values(*s)) for s in ((20, 40), (30, 40), (30,)))
    with torch.autocast("cpu"):
        product, layer = x @ w.T, torch.nn.functional.linear(x, w, b)
    x, w, b = (t.bfloat16().double().numpy() for t in (x, w, b))
    for got, want in ((product, x @ w.T), (layer, x @ w.T + b)):
        size = np.abs(x) @ np.abs(w).T + 1
        assert (np.abs(got.double().numpy() - want) <= 2**-8 * np.abs(want) + 2**-20 * size).all()  # rounded once


def test_parameters_have_gradients_of_their_own_dtype() -> None:
    """Against float32: what is lost are the last digits of bfloat16. Of other weights, ones near a kink or whose gradients
    nearly cancel, it may be more."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.LayerNorm(16), torch.nn.Linear(16, 3))
    x, y = torch.tensor(values(32, 6)), torch.arange(32) % 3

    def gradients(enabled: bool) -> list[torch.Tensor]:
        with torch.autocast("cpu", enabled=enabled):
            loss = torch.nn.functional.cross_entropy(net(x), y)
        return list(torch.autograd.grad(loss, list(net.parameters())))

    for _ in range(3):
        for exact, g in zip(gradients(False), gradients(True), strict=True):
            assert g.dtype is torch.float32
            assert 0 < float((g - exact).norm()) < 0.02 * float(exact.norm())


def test_the_mode_begins_and_ends() -> None:
    x = torch.ones(2, 2)
    assert not torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is torch.bfloat16
    context = torch.autocast("cpu", dtype=torch.float16)
    for _ in range(2):
        assert (x @ x).dtype is torch.float32
        with context:
            assert torch.is_autocast_enabled("cpu") and (x @ x).dtype is torch.float16 is torch.get_autocast_dtype("cpu")
            with torch.autocast("cpu", enabled=False):
                assert not torch.is_autocast_enabled("cpu") and (x @ x).dtype is torch.float32
            with context, torch.autocast("cpu"):
                assert (x @ x).dtype is torch.bfloat16
            assert (x @ x).dtype is torch.float16
    with pytest.raises(ZeroDivisionError), torch.autocast("cpu"):
        _ = 1 / 0
    assert (x @ x).dtype is torch.float32 and not torch.is_autocast_enabled("cpu")

    @torch.autocast("cpu")
    def product(x: torch.Tensor) -> torch.Tensor:
        return x @ x

    assert product(x).dtype is torch.bfloat16 and product.__name__ == "product" and (x @ x).dtype is torch.float32


def test_the_mode_is_the_threads_own() -> None:
    x, found = torch.ones(2, 2), []
    with torch.autocast("cpu"):
        thread = threading.Thread(target=lambda: found.append((x @ x).dtype))
        thread.start()
        thread.join()
    assert found == [torch.float32]


def test_set_without_a_context() -> None:
    x = torch.ones(2, 2)
    torch.set_autocast_dtype("cpu", torch.float16)
    torch.set_autocast_enabled("cpu", True)
    try:
        assert (x @ x).dtype is torch.float16
    finally:
        torch.set_autocast_enabled("cpu", False)
        torch.set_autocast_dtype("cpu", torch.bfloat16)
    assert (x @ x).dtype is torch.float32


@pytest.mark.parametrize("read", [False, True])
def test_the_same_lines_in_and_out_of_the_mode(read: bool) -> None:
    """One path in the trie leads to one dtype, whether the mode changes in its middle or before it."""
    layer, attend = torch.nn.Linear(4, 4), torch.nn.functional.scaled_dot_product_attention

    def lines(x: torch.Tensor) -> list[torch.Tensor]:
        out = [layer(x), x @ x, attend(x, x, x), (x.float() @ x.float()).exp()]
        if read:
            _ = out[0].sum().item()
        return out

    for _ in range(3):
        for enabled in (True, False, True, True, False):
            with torch.autocast("cpu", enabled=enabled):
                found = {t.dtype for t in lines(torch.ones(4, 4))}
            assert found == {torch.bfloat16 if enabled else torch.float32}


def test_halves_within_composites_are_computed_in_float32() -> None:
    """Inside of what is rounded once, nothing is rounded by the mode."""
    q = torch.tensor(3 * values(2, 8, 4)).bfloat16()
    outside = torch.nn.functional.scaled_dot_product_attention(q, q, q)
    with torch.autocast("cpu"):
        inside = torch.nn.functional.scaled_dot_product_attention(q, q, q)
        again = q.float()
        assert (again @ again.mT).dtype is torch.bfloat16
    assert torch.equal(outside, inside)


def test_what_such_functions_are_made_of_does_not_heed_the_mode() -> None:
    x, y = torch.tensor(values(30, 5)), torch.tensor(values(40, 5)) + 1
    far, tau = torch.tril(torch.tensor(values(6, 4)), -1), torch.tensor(values(4))
    b, left, right = (torch.tensor(values(*s)) for s in ((8, 6), (8, 40), (40, 6)))
    outside = torch.cdist(x, y), torch.linalg.householder_product(far, tau), torch.addmm(*[t.bfloat16() for t in (b, left, right)])
    with torch.autocast("cpu"):
        inside = torch.cdist(x, y), torch.linalg.householder_product(far, tau), torch.addmm(b, left, right)
    for a, c in zip(outside, inside, strict=True):
        assert torch.equal(a, c)


def test_compiled_functions_heed_the_mode() -> None:
    layer = torch.nn.Linear(3, 3)

    @torch.compile
    def around(x: torch.Tensor) -> torch.Tensor:
        return layer(x)

    @torch.compile
    def within(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu"):
            y = layer(x)
        return y.float() + layer(x)

    x = torch.ones(2, 3)
    for _ in range(4):
        assert around(x).dtype is torch.float32 and within(x).dtype is torch.float32
        with torch.autocast("cpu"):
            assert around(x).dtype is torch.bfloat16


def test_checkpoints_compute_again_in_the_mode() -> None:
    from adjoint.utils.checkpoint import checkpoint

    layer, x, seen = torch.nn.Linear(3, 3), torch.tensor(values(5, 3), requires_grad=True), []

    def piece(x: torch.Tensor) -> torch.Tensor:
        y = layer(x)
        seen.append(y.dtype)
        return y * y

    with torch.autocast("cpu"):
        plain, kept = piece(x), checkpoint(piece, x, use_reentrant=False)
    (want,) = torch.autograd.grad(plain.float().sum(), x)
    (got,) = torch.autograd.grad(kept.float().sum(), x)
    assert len(seen) == 3 and set(seen) == {torch.bfloat16}
    assert torch.equal(got, want)


def test_functions_of_ones_own() -> None:
    class Square(torch.autograd.Function):
        @staticmethod
        @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            assert not torch.is_autocast_enabled("cpu")
            ctx.save_for_backward(x)
            return x @ x

        @staticmethod
        @torch.amp.custom_bwd(device_type="cpu")
        def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
            (x,) = ctx.saved_tensors
            return g @ x.mT + x.mT @ g

    x = torch.tensor(values(3, 3)).bfloat16().requires_grad_()
    with torch.autocast("cpu"):
        y = Square.apply(x)
    assert y.dtype is torch.float32
    y.sum().backward()
    assert x.grad is not None and x.grad.dtype is torch.bfloat16


def test_devices_and_dtypes_that_are_not_there() -> None:
    x = torch.ones(2, 2)
    for make in (lambda: torch.autocast("cuda"), lambda: torch.autocast("cpu", torch.float32), lambda: torch.cuda.amp.autocast()):
        with pytest.warns(UserWarning, match="Disabling"):
            context = make()
        with context:
            assert (x @ x).dtype is torch.float32
    with torch.autocast("cpu"), torch.autocast("cuda", enabled=False):
        assert (x @ x).dtype is torch.bfloat16
    with pytest.raises(RuntimeError, match="unsupported autocast device_type 'tpu'"):
        torch.autocast("tpu")
    with pytest.raises(ValueError, match="Expected `device_type` of type `str`"):
        torch.autocast(torch.bfloat16)
    assert torch.amp.is_autocast_available("cpu") and not torch.amp.is_autocast_available("cuda")


# --- GradScaler -----------------------------------------------------------------------------------------------------------


def losses(lib: Any, scaler: Any) -> list[tuple[float, float]]:
    """The scale and the weight after each of some steps, of which the third and the fourth overflow."""
    w = lib.nn.Parameter(lib.tensor([1.0, -2.0]))
    optimizer = lib.optim.SGD([w], lr=0.1, momentum=0.5)
    found = []
    for factor in (1.0, 2.0, 1e35, float("inf"), 1.0, 1.0, 3.0):
        optimizer.zero_grad()
        scaler.scale((w * w).sum() * factor).backward()
        scaler.unscale_(optimizer)
        lib.nn.utils.clip_grad_norm_([w], 1.0)
        scaler.step(optimizer)
        scaler.update()
        found.append((scaler.get_scale(), w.detach().tolist()))
    return found


def test_scaler_is_that_of_pytorch() -> None:
    theirs = pytest.importorskip("torch")
    options = dict(init_scale=2.0**16, growth_interval=2)
    for (scale, w), (their_scale, their_w) in zip(
        losses(torch, torch.amp.GradScaler("cpu", **options)), losses(theirs, theirs.amp.GradScaler("cpu", **options)), strict=True
    ):
        assert scale == their_scale
        np.testing.assert_allclose(w, their_w, rtol=1e-6)


def test_steps_that_overflow_are_left_out() -> None:
    found = losses(torch, torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=2))
    assert [scale for scale, _ in found] == [2.0**16, 2.0**17, 2.0**16, 2.0**15, 2.0**15, 2.0**16, 2.0**16]
    weights = [w for _, w in found]
    assert weights[1] == weights[2] == weights[3] != weights[4]


def test_scaler_says_what_is_wrong() -> None:
    w = torch.nn.Parameter(torch.ones(1))
    optimizer, scaler = torch.optim.SGD([w], lr=0.1), torch.amp.GradScaler("cpu")
    with pytest.raises(AssertionError, match="No inf checks were recorded"):
        scaler.step(optimizer)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(w.sum()).backward()
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="already been called on this optimizer"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="step\\(\\) has already been called"):
        scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="after step"):
        scaler.unscale_(optimizer)
    half = torch.nn.Parameter(torch.ones(1, dtype=torch.float16))
    half.grad = torch.ones(1, dtype=torch.float16)
    with pytest.raises(ValueError, match="FP16 gradients"):
        scaler.unscale_(torch.optim.SGD([half], lr=0.1))
    with pytest.raises(AssertionError, match="growth factor must be > 1.0"):
        torch.amp.GradScaler("cpu", growth_factor=1.0)
    with pytest.raises(RuntimeError, match="source state dict is empty"):
        scaler.load_state_dict({})


def test_scaler_that_is_not_enabled_passes_everything_through() -> None:
    w = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([w], lr=0.5)
    with pytest.warns(UserWarning, match="Disabling"):
        elsewhere = torch.amp.GradScaler()
    for scaler in (elsewhere, torch.amp.GradScaler("cpu", enabled=False)):
        loss = w.sum()
        assert scaler.scale(loss) is loss and scaler.get_scale() == 1.0 and scaler.state_dict() == {} and not scaler.is_enabled()
        optimizer.zero_grad()
        loss.backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
    assert w.item() == 0.0


def test_scaler_goes_on_where_another_one_was() -> None:
    one, other = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3), torch.amp.GradScaler("cpu")
    losses(torch, one)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    assert losses(torch, one) == losses(torch, other)
    assert [float(x) for x in one.scale([torch.tensor(2.0), torch.tensor(0.5)])] == [2 * one.get_scale(), one.get_scale() / 2]
