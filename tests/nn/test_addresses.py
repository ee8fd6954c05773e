"""Names under the addresses that published programs import them from."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import adjoint as torch
from adjoint import nn


def test_families_have_the_layers_of_nn() -> None:
    from adjoint.nn.modules.batchnorm import BatchNorm2d, _BatchNorm
    from adjoint.nn.modules.conv import _ConvNd

    from adjoint.nn.modules.utils import _pair, _triple

    assert BatchNorm2d is nn.BatchNorm2d and issubclass(nn.SyncBatchNorm, _BatchNorm)
    assert isinstance(nn.Conv2d(1, 2, 3), _ConvNd) and isinstance(nn.ConvTranspose1d(1, 2, 3), _ConvNd)
    assert not isinstance(nn.Linear(1, 2), _ConvNd)
    assert _pair(3) == (3, 3) and _triple([1, 2, 4]) == (1, 2, 4)
    assert torch.nn.modules.module.Module is nn.Module and nn.modules.Linear is nn.Linear


def test_every_layer_of_pytorch_is_at_its_address() -> None:
    pytest.importorskip("torch")
    from torch.nn import modules

    for family in pkgutil.iter_modules(modules.__path__):
        if family.name == "linear_cross_entropy_options" or family.name.startswith("_"):
            continue
        theirs = importlib.import_module(f"torch.nn.modules.{family.name}")
        for name, value in vars(theirs).items():
            public = isinstance(value, type) and value.__module__ == theirs.__name__ and not name.startswith("_")
            if public and hasattr(nn, name):
                ours = importlib.import_module(f"adjoint.nn.modules.{family.name}")
                assert getattr(ours, name) is getattr(nn, name), f"{family.name}.{name}"


def test_prefixes_are_taken_off_what_data_parallel_saved() -> None:
    from adjoint.nn.modules.utils import consume_prefix_in_state_dict_if_present

    layer = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    state = nn.DataParallel(layer).state_dict()
    assert all(k.startswith("module.") for k in state)
    consume_prefix_in_state_dict_if_present(state, "module.")
    assert list(state) == list(layer.state_dict())
    assert layer.load_state_dict(state).missing_keys == []


def test_the_loader_at_its_address() -> None:
    from adjoint.utils.data.dataloader import DataLoader
    from adjoint.utils.data.distributed import DistributedSampler

    assert DataLoader is torch.utils.data.DataLoader and DistributedSampler is torch.utils.data.DistributedSampler


def test_attention_whatever_backend_is_asked_for() -> None:
    from adjoint.nn.attention import SDPBackend, sdpa_kernel

    q, k, v = torch.randn(3, 2, 5, 4)
    want = nn.functional.scaled_dot_product_attention(q, k, v)
    contexts = [sdpa_kernel(SDPBackend.MATH), sdpa_kernel([SDPBackend.FLASH_ATTENTION], set_priority=True)]
    for context in [*contexts, torch.backends.cuda.sdp_kernel(enable_flash=False), torch.backends.cudnn.flags(enabled=False)]:
        with context:
            assert torch.equal(nn.functional.scaled_dot_product_attention(q, k, v), want)
    with pytest.raises(AssertionError, match="SDPBackend"), sdpa_kernel(3):  # type: ignore[arg-type]
        pass
    torch.backends.cuda.enable_flash_sdp(False)
    try:
        assert not torch.backends.cuda.flash_sdp_enabled() and torch.backends.cuda.math_sdp_enabled()
    finally:
        torch.backends.cuda.enable_flash_sdp(True)


def test_decorators_of_other_compilers_leave_functions_alone() -> None:
    @torch.jit.script
    def scaled(x: torch.Tensor, by: float) -> torch.Tensor:
        return x * by

    @torch.compiler.allow_in_graph
    def more(x: torch.Tensor) -> torch.Tensor:
        return scaled(x, 3.0) + 1

    x = torch.ones(2, requires_grad=True)
    more(x).sum().backward()
    assert more(x).tolist() == [4.0, 4.0] and x.grad is not None and x.grad.tolist() == [3.0, 3.0]
    model = nn.Linear(2, 2)
    assert torch.jit.script(model) is model and torch.jit.ignore(scaled) is scaled and torch.jit.unused(scaled) is scaled
    assert not torch.jit.is_scripting() and not torch.jit.is_tracing() and torch.jit.annotate(int, 3) == 3
    assert not torch.compiler.is_dynamo_compiling() and not torch.compiler.is_exporting()
    with pytest.raises(AttributeError, match="no TorchScript"):
        _ = torch.jit.trace
    with pytest.raises(TypeError, match="int"):
        torch.compiler.allow_in_graph(3)
