"""What asks about a tensor, converts it to Python, or sets how new ones are made."""

from __future__ import annotations

import copy
import os
import pickle

import numpy as np
import pytest

import adjoint as torch
from adjoint.ops.copies import FUNCTIONS


def test_shape_and_layout() -> None:
    x = torch.zeros(2, 3, dtype=torch.float64)
    assert x.shape == x.size() == torch.Size([2, 3]) == (2, 3)
    assert repr(x.shape) == "torch.Size([2, 3])"
    assert (x.size(1), x.size(-2), x.dim(), x.ndimension(), x.ndim) == (3, 2, 2, 2, 2)
    assert (x.numel(), x.nelement(), torch.numel(x), len(x), x.shape.numel()) == (6, 6, 6, 2, 6)
    assert (x.element_size(), x.itemsize, x.nbytes) == (8, 8, 48)
    assert x.stride() == (3, 1)
    assert x.t().stride() == (1, 3)
    assert x.stride(0) == 3
    assert x.is_contiguous()
    assert not x.t().is_contiguous()
    assert x.t().contiguous().is_contiguous()
    assert x.is_same_size(torch.ones(2, 3))
    assert x[1].data_ptr() != 0
    with pytest.raises(TypeError, match="0-d"):
        len(torch.tensor(1))
    with pytest.raises(IndexError):
        x.size(2)


def test_kind() -> None:
    x = torch.zeros(2)
    assert (x.dtype, str(x.device), x.layout) == (torch.float32, "cpu", torch.strided)
    assert x.is_floating_point()
    assert torch.is_floating_point(x)
    assert not x.is_complex()
    assert not x.is_cuda
    assert not x.is_sparse
    with torch.inference_mode():
        assert not torch.is_inference(torch.ones(2)) and not x.is_inference()
    with pytest.raises(TypeError, match="must be Tensor, not float"):
        torch.is_inference(1.0)  # type: ignore[arg-type]
    assert torch.is_tensor(x)
    assert not torch.is_tensor([1])
    assert (x.type(), x.get_device(), x.names, x.output_nr) == ("torch.FloatTensor", -1, (None,), 0)
    assert x.cpu() is x
    assert x.real is x
    assert x.device == torch.device("cpu")
    with pytest.raises(RuntimeError, match="cuda"):
        torch.zeros(2, device="cuda")


def test_where_a_tensor_is() -> None:
    x = torch.zeros(2, 3)
    assert x.is_cpu and not any([x.is_meta, x.is_quantized, x.is_mkldnn, x.is_nested, x.is_xla, x.is_mps, x.is_sparse_csr])
    assert torch.get_device(x) == -1 and torch.is_same_size(x, x + 1) and not torch.is_same_size(x, x.t())
    assert x.pin_memory() is x and not x.is_pinned() and not x.is_distributed()
    assert x.dim_order() == (0, 1) and x.t().dim_order() == (1, 0)
    assert x.new(2, 1).shape == (2, 1) and x.double().new([1, 2]).dtype is torch.float64 and x.new().shape == (0,) and x.new(x.shape).shape == (2, 3)
    assert (x.new_empty_strided((2, 3), (1, 2)).stride(), x.const_data_ptr() == x.data_ptr()) == ((1, 2), True)
    with pytest.raises(TypeError, match="must be Tensor, not int"):
        torch.is_same_size(x, 1)
    with pytest.raises(TypeError, match="must be Tensor, not list"):
        torch.get_device([1])


def test_storage_counts_elements_or_bytes() -> None:
    x = torch.arange(6).reshape(2, 3)
    stored = x[1].storage()
    assert (stored.size(), len(stored), stored.nbytes(), stored.element_size(), stored.dtype) == (6, 6, 48, 8, torch.int64)
    assert stored.tolist() == [0, 1, 2, 3, 4, 5] and stored[2] == 2 and stored.data_ptr() == x.data_ptr() and stored == x.storage()
    assert stored.untyped().nbytes() == 48 and stored.untyped() == x.untyped_storage()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_processes_share_memory() -> None:
    x, plain = torch.ones(3), torch.ones(3)
    w = torch.nn.Parameter(torch.ones(2))
    assert x.share_memory_() is x and x.is_shared() and x[1:].is_shared() and not plain.is_shared()
    assert w.share_memory_() is w and w.is_shared() and w.requires_grad and w.is_leaf
    child = os.fork()
    if child == 0:
        try:
            with torch.eager(), torch.no_grad():  # the threads of the parent are not here
                for t in (x, plain, w):
                    t.add_(1)
                    t.tolist()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert (x.tolist(), plain.tolist(), w.tolist()) == ([2.0] * 3, [1.0] * 3, [2.0] * 2)
    x.mul_(3)
    (w * w).sum().backward()
    assert x.tolist() == [6.0] * 3 and x.is_shared() and w.grad.tolist() == [4.0, 4.0] and w.is_shared()


def test_python_functions_of_elements() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert x.apply_(lambda a: a * 2) is x and x.tolist() == [[2, 4], [6, 8]]
    assert x.map_(torch.tensor([1.0, 2.0]), lambda a, b: a - b).tolist() == [[1, 2], [5, 6]]
    assert x[0].map2_(torch.tensor(1.0), torch.tensor([2.0]), lambda a, b, c: a + b * c).tolist() == [3, 4]
    assert x.tolist() == [[3, 4], [5, 6]] and torch.tensor([1.5]).bfloat16().apply_(lambda a: a + 1).tolist() == [2.5]
    with pytest.raises(RuntimeError, match="requires grad"):
        torch.ones(2, requires_grad=True).apply_(abs)
    with pytest.raises(TypeError, match="not callable"):
        x.apply_(1)
    with pytest.raises(RuntimeError, match="dtypes float32 and int64"):
        x.map_(torch.tensor([1]), max)


def test_copies_do_not_share_memory() -> None:
    for names, (tensor, others) in FUNCTIONS.items():
        for name in names.split():
            x = eval(f"torch.tensor({tensor})")
            before = x.tolist()
            copied = eval(f"torch.{name}_copy(x, {others})")
            for part in copied if isinstance(copied, tuple) else (copied,):
                part.zero_()
            assert x.tolist() == before, name


def test_values_in_python() -> None:
    x = torch.tensor([[1, 2], [3, 4]])
    assert x.tolist() == [[1, 2], [3, 4]]
    assert [row.tolist() for row in x] == [[1, 2], [3, 4]]
    assert x[1, 1].item() == 4
    assert int(x[0, 0]) == 1
    assert float(torch.tensor(2.5)) == 2.5
    assert bool(torch.tensor(True))
    assert not torch.tensor(0.0)
    assert [10, 20, 30][torch.tensor(1)] == 20
    assert 3 in x
    assert 9 not in x
    assert f"{torch.tensor(1.23456):.2f}" == "1.23"
    assert (+x) is x
    for wrong in (lambda: x.item(), lambda: bool(x), lambda: float(x)):
        with pytest.raises((RuntimeError, ValueError)):
            wrong()
    with pytest.raises(TypeError):
        _ = [1, 2][torch.tensor(0.5)]
    with pytest.raises(TypeError, match="0-d"):
        iter(torch.tensor(1))


def test_numpy_shares_memory_both_ways() -> None:
    x = torch.zeros(3)
    a = x.numpy()
    a[0] = 5
    assert x.tolist() == [5.0, 0.0, 0.0]
    x[1] = 7
    assert a.tolist() == [5.0, 7.0, 0.0]
    assert np.asarray(x).dtype == np.float32
    assert np.sum(torch.ones(3).numpy()) == 3
    with pytest.raises(RuntimeError, match="requires grad"):
        torch.ones(1, requires_grad=True).numpy()


def test_equality() -> None:
    x = torch.tensor([1.0, 2.0])
    assert torch.equal(x, x.clone())
    assert not torch.equal(x, torch.tensor([1.0, 2.0, 3.0]))
    assert x.equal(torch.tensor([1.0, 2.0]))
    assert torch.allclose(x, x + 1e-9)
    assert not x.allclose(x + 1e-3)
    assert torch.allclose(
        torch.tensor([float("nan")]), torch.tensor([float("nan")]), equal_nan=True
    )
    assert x != [1]
    assert len({x, x, x.clone()}) == 2, "tensors hash by identity"


def test_defaults() -> None:
    assert torch.get_default_dtype() == torch.float32
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.zeros(1).dtype == torch.float64
        assert torch.tensor(0.5).dtype == torch.float64
        assert (torch.tensor([1]) / 2).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.zeros(1).dtype == torch.float32
    with pytest.raises(TypeError):
        torch.set_default_dtype(torch.int64)


def test_limits() -> None:
    assert torch.finfo(torch.float64).eps == np.finfo(np.float64).eps
    assert torch.finfo(torch.float32).max == float(np.finfo(np.float32).max)
    assert torch.iinfo(torch.int8).max == 127
    assert torch.iinfo(torch.uint8).min == 0
    with pytest.raises(TypeError):
        torch.finfo(torch.int64)
    with pytest.raises(TypeError):
        torch.iinfo(torch.float32)


def test_empty_has_shape_and_dtype() -> None:
    x = torch.empty(2, 3, dtype=torch.int32)
    assert (tuple(x.shape), x.dtype) == ((2, 3), torch.int32)


def test_copies() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    x.grad = torch.tensor([5.0, 6.0])
    y = copy.deepcopy(x)
    with torch.no_grad():
        y += 1
    assert x.tolist() == [1.0, 2.0]
    assert y.requires_grad
    assert y.grad.tolist() == [5.0, 6.0]
    z = pickle.loads(pickle.dumps(x))
    assert (z.tolist(), z.requires_grad) == ([1.0, 2.0], True)
    with pytest.raises(RuntimeError, match="graph leaves"):
        copy.deepcopy(x * 2)


def test_threads_can_be_set() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.get_num_threads() == 1
        assert torch.arange(10.0).sum().item() == 45.0
    finally:
        torch.set_num_threads(before)


def test_denormal_numbers_are_not_flushed() -> None:
    assert torch.set_flush_denormal(True) is torch.set_flush_denormal(False) is False
    assert (torch.tensor([1e-30]) * 1e-10).item() > 0
    with pytest.raises(TypeError, match="expects a bool, but got int"):
        torch.set_flush_denormal(1)


def test_statistics_count() -> None:
    before = torch.stats()["operations"]
    (torch.ones(3) + 1).tolist()
    assert torch.stats()["operations"] > before or torch.is_eager()


def test_printing_options() -> None:
    try:
        torch.set_printoptions(precision=2)
        assert repr(torch.tensor([0.12345])) == "tensor([0.12])"
    finally:
        torch.set_printoptions(profile="default")
    assert repr(torch.tensor([0.12345])) == "tensor([0.1235])"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([torch.inf, 1.0], "tensor([inf, 1.])"),
        ([torch.nan, -2.0, 10.0], "tensor([nan, -2., 10.])"),
        ([-torch.inf, 1.5], "tensor([  -inf, 1.5000])"),
    ],
)
def test_numbers_that_are_not_finite_do_not_widen_columns(values: list[float], text: str) -> None:
    assert repr(torch.tensor(values)) == text


def test_memory_formats() -> None:
    x = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    for order in (torch.channels_last, torch.contiguous_format, torch.preserve_format):
        assert isinstance(order, torch.memory_format) and pickle.loads(pickle.dumps(order)) is order
        for y in (x.to(memory_format=order), x.contiguous(memory_format=order), torch.clone(x, memory_format=order)):
            assert torch.equal(x, y) and y.is_contiguous() and not y.is_contiguous(memory_format=torch.channels_last)
    assert repr(torch.channels_last) == "torch.channels_last"
    last = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert last.is_contiguous(memory_format=torch.channels_last) and not last.is_contiguous()
    assert not x[0].is_contiguous(memory_format=torch.channels_last)
    net = torch.nn.Conv2d(3, 2, 3).to(memory_format=torch.channels_last)
    assert torch.allclose(net(last), net(x))
