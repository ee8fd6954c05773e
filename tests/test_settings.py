"""Settings that programs make: kept, asked for again, and refused where they make no sense."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator

import pytest

import adjoint as torch


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision("highest")
    torch.set_warn_always(False)


def test_determinism() -> None:
    assert not torch.are_deterministic_algorithms_enabled() and torch.get_deterministic_debug_mode() == 0
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.get_deterministic_debug_mode() == 1
    for mode, number in (("error", 2), ("default", 0), (1, 1), ("warn", 1)):
        torch.set_deterministic_debug_mode(mode)
        assert torch.get_deterministic_debug_mode() == number
    torch.use_deterministic_algorithms(True)
    assert torch.get_deterministic_debug_mode() == 2 and not torch.is_deterministic_algorithms_warn_only_enabled()


@pytest.mark.parametrize("library", ["adjoint", "torch"])
def test_wrong_settings(library: str) -> None:
    t = pytest.importorskip(library)
    for kind, call in (
        (TypeError, lambda: t.use_deterministic_algorithms(1)),
        (TypeError, lambda: t.use_deterministic_algorithms(True, True)),
        (RuntimeError, lambda: t.set_deterministic_debug_mode("loud")),
        (RuntimeError, lambda: t.set_deterministic_debug_mode(5)),
        (TypeError, lambda: t.set_deterministic_debug_mode(1.5)),
        (RuntimeError, lambda: t.set_float32_matmul_precision(1)),
        (RuntimeError, lambda: t.set_num_interop_threads(0)),
        (RuntimeError, lambda: t.set_num_interop_threads("a")),
        (RuntimeError, lambda: t.set_warn_always(1)),
    ):
        with pytest.raises(kind):
            call()
    with pytest.warns(UserWarning, match="is not one of"):
        t.set_float32_matmul_precision("extreme")
    assert t.get_float32_matmul_precision() == "highest"


def test_precision_changes_nothing() -> None:
    x = torch.rand(40, 40)
    before = (x @ x).tolist()
    torch.set_float32_matmul_precision("medium")
    assert torch.get_float32_matmul_precision() == "medium" and (x @ x).tolist() == before
    torch.set_warn_always(True)
    assert torch.is_warn_always_enabled()


def test_devices() -> None:
    for device in ("cpu", torch.device("cpu"), None):
        torch.set_default_device(device)
        assert torch.get_default_device() == torch.device("cpu") == torch.zeros(1).device
    for device in ("cuda", "meta", torch.device("cuda", 1)):
        with pytest.raises(RuntimeError, match="is not available.*use device='cpu'"):
            torch.set_default_device(device)
    with pytest.raises(TypeError, match="must be str, not int"):
        torch.set_default_device(5)


def test_threads_between_operations() -> None:
    torch.set_num_interop_threads(3)
    assert torch.get_num_interop_threads() == 3


def test_inference_mode_is_known_inside() -> None:
    seen = []

    @torch.inference_mode()
    def asked() -> tuple[bool, bool]:
        return torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    @torch.inference_mode
    def steps() -> Iterator[bool]:
        for _ in range(2):
            yield torch.is_inference_mode_enabled()

    assert asked() == (True, False) and asked.__name__ == "asked"
    for inside in steps():
        seen.append((inside, torch.is_inference_mode_enabled(), torch.is_grad_enabled()))
    assert seen == [(True, False, True)] * 2
    with torch.inference_mode():
        with torch.inference_mode(False):
            assert not torch.is_inference_mode_enabled()
        assert torch.is_inference_mode_enabled()
        thread = threading.Thread(target=lambda: seen.append(torch.is_inference_mode_enabled()))
        thread.start()
        thread.join()
        with pytest.raises(ZeroDivisionError):
            torch.inference_mode()(lambda: 1 / 0)()
        assert torch.is_inference_mode_enabled()
    with torch.no_grad():
        assert not torch.is_inference_mode_enabled()
    assert seen[-1] is False and not torch.is_inference_mode_enabled() and torch.is_grad_enabled()


def test_names_of_layouts() -> None:
    x = torch.zeros(2, 3)
    assert x.layout is torch.strided and isinstance(torch.strided, torch.layout) and str(torch.strided) == "torch.strided"
    assert isinstance(torch.contiguous_format, torch.memory_format) and torch.contiguous_format != torch.preserve_format
    assert pickle.loads(pickle.dumps(torch.preserve_format)) is torch.preserve_format
    assert torch.clone(x, memory_format=torch.contiguous_format).shape == x.contiguous(memory_format=torch.contiguous_format).shape
    assert torch.zeros_like(x, memory_format=torch.preserve_format).is_contiguous(memory_format=torch.contiguous_format)
    assert torch.typename(x) == "torch.FloatTensor" and torch.typename([]) == "list"
