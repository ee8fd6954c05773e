"""Arguments by the other names that PyTorch's functions take, lists as indices, and types such as `torch.LongTensor`."""

from __future__ import annotations

import io

import numpy as np
import pytest

import adjoint as torch

X = np.arange(6.0, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize(
    "call, expected",
    [
        (lambda x: torch.flip(x, dims=[0]), X[::-1]),
        (lambda x: x.flip(dims=(1,)), X[:, ::-1]),
        (lambda x: torch.flip(input=x, dims=[0, 1]), X[::-1, ::-1]),
        (lambda x: torch.permute(x, dims=(1, 0)), X.T),
        (lambda x: x.repeat(repeats=(2, 1)), np.tile(X, (2, 1))),
        (lambda x: x.tile(dims=(2,)), np.tile(X, 2)),
        (lambda x: x.expand(size=(2, 2, 3)), np.broadcast_to(X, (2, 2, 3))),
        (lambda x: x.reshape(shape=(3, 2)), X.reshape(3, 2)),
        (lambda x: torch.zeros(size=(2, 3)), 0 * X),
        (lambda x: x.new_ones(size=(2, 3)), 0 * X + 1),
        (lambda x: x.new_full((2,), fill_value=3, device="cpu"), np.full(2, 3.0)),
        (lambda x: torch.stack([x, x], axis=-1), np.stack([X, X], -1)),
        (lambda x: x.amax(axis=0, keepdims=True), X.max(0, keepdims=True)),
        (lambda x: torch.logsumexp(x, axis=1), np.log(np.exp(X).sum(1))),
        (lambda x: x.unsqueeze(axis=1), X[:, None]),
        (lambda x: torch.swapaxes(x, axis0=0, axis1=1), X.T),
        (lambda x: torch.cat(x.split(torch.tensor(1))), X),
        (lambda x: x.narrow(1, torch.tensor(1), torch.tensor(2)), X[:, 1:]),
    ],
)
def test_other_names(call, expected):
    np.testing.assert_allclose(call(torch.tensor(X)).numpy(), expected, rtol=1e-6)


def test_gradient_by_another_name():
    x = torch.tensor(X, requires_grad=True)
    (torch.flip(x, dims=[0]) * torch.tensor(X)).sum(axis=(0, 1)).backward()
    np.testing.assert_array_equal(x.grad.numpy(), X[::-1])


def test_names_that_nothing_has():
    with pytest.raises(TypeError, match="flip"):
        torch.flip(torch.ones(2), dim=0)
    with pytest.raises(TypeError, match="zeros"):
        torch.zeros(2, size=(3,))
    with pytest.raises(IndexError):
        torch.ones(2).sum(axis=3)


def test_randint_by_names():
    assert set(torch.randint(high=2, size=(50,)).tolist()) == {0, 1}
    assert torch.randint(5, size=(3,)).shape == (3,)
    with pytest.raises(TypeError, match="size"):
        torch.randint(3)


@pytest.mark.parametrize(
    "index",
    [
        lambda i: [slice(None), None],
        lambda i: [0, slice(1)],
        lambda i: [Ellipsis, 0],
        lambda i: [i([0, 1]), i([2, 0])],
        lambda i: [[0, 1], [2, 0]],
        lambda i: [i([1, 0])],
        lambda i: [i(1), i(2)],
    ],
)
def test_a_list_of_indices_is_a_tuple(index):
    """An index for each axis; only a list of plain numbers is one index of the first axis."""
    x = torch.tensor(X)
    with pytest.warns(UserWarning, match="non-tuple sequence"):
        got = x[index(torch.tensor)]
    np.testing.assert_array_equal(got.numpy(), X[tuple(index(np.array))])
    with pytest.warns(UserWarning, match="non-tuple sequence"):
        x[index(torch.tensor)] = -1.0
    expected = X.copy()
    expected[tuple(index(np.array))] = -1
    np.testing.assert_array_equal(x.numpy(), expected)
    np.testing.assert_array_equal(torch.tensor(X)[[1, 0]].numpy(), X[[1, 0]])


def test_types_of_tensors():
    assert torch.LongTensor([1, 2]).dtype is torch.int64 and torch.LongTensor([1.5]).tolist() == [1]
    assert torch.FloatTensor(2, 3).shape == (2, 3) and torch.DoubleTensor().dtype is torch.float64
    assert torch.BoolTensor([2, 0]).tolist() == [True, False]
    assert isinstance(torch.ones(1), torch.FloatTensor) and not isinstance(torch.ones(1), torch.LongTensor)
    assert isinstance(torch.nn.Parameter(torch.ones(1)), torch.FloatTensor)
    assert torch.ones(2).type(torch.LongTensor).dtype is torch.int64
    assert torch.Tensor(torch.Size((2, 3))).shape == (2, 3)
    with pytest.raises(TypeError, match="int64"):
        torch.FloatTensor(torch.tensor([1]))
    with pytest.raises(TypeError, match="sequence"):
        torch.LongTensor(3.0)
    with pytest.raises(AttributeError):
        torch.NoTensor  # noqa: B018


def test_default_tensor_type():
    try:
        torch.set_default_tensor_type(torch.DoubleTensor)
        assert torch.zeros(1).dtype is torch.float64
        torch.set_default_tensor_type("torch.FloatTensor")
        assert torch.zeros(1).dtype is torch.float32
        for wrong in (torch.LongTensor, "torch.NoTensor", 3):
            with pytest.raises(TypeError):
                torch.set_default_tensor_type(wrong)
    finally:
        torch.set_default_dtype(torch.float32)


def test_what_a_tensor_is():
    x = torch.ones(2)
    assert x.to_dense() is x and x._cdata == x._cdata != torch.ones(2)._cdata


def test_arguments_that_only_pickles_have():
    file = io.BytesIO()
    torch.save({"x": torch.ones(2)}, file, pickle_protocol=4)
    file.seek(0)
    assert torch.load(file)["x"].tolist() == [1.0, 1.0]


def test_processes_by_pytorchs_name():
    assert torch.multiprocessing.get_context("fork").Queue and torch.multiprocessing.get_sharing_strategy() in torch.multiprocessing.get_all_sharing_strategies()
    with pytest.raises(ValueError, match="no_strategy"):
        torch.multiprocessing.set_sharing_strategy("no_strategy")
    with pytest.raises(AttributeError, match="no_name"):
        torch.multiprocessing.no_name  # noqa: B018
