"""`grad_fn` and `next_functions` under PyTorch's names, for the operations people look at most."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import adjoint as torch

LEAF = "AccumulateGrad"

# (name, next names) of the node of each expression in x (2 x 2), y (2) and an index i.
NODES: dict[str, tuple[Callable[[Any, Any, Any, Any], Any], str, tuple[str | None, ...]]] = {
    "x + y": (lambda lib, x, y, i: x + y, "AddBackward0", (LEAF, LEAF)),
    "x + 1": (lambda lib, x, y, i: x + 1, "AddBackward0", (LEAF, None)),
    "x - y": (lambda lib, x, y, i: x - y, "SubBackward0", (LEAF, LEAF)),
    "2 * x": (lambda lib, x, y, i: 2 * x, "MulBackward0", (LEAF, None)),
    "x / y": (lambda lib, x, y, i: x / y, "DivBackward0", (LEAF, LEAF)),
    "-x": (lambda lib, x, y, i: -x, "NegBackward0", (LEAF,)),
    "x ** 2": (lambda lib, x, y, i: x**2, "PowBackward0", (LEAF,)),
    "x ** 2.5": (lambda lib, x, y, i: x**2.5, "PowBackward0", (LEAF,)),
    "x ** y": (lambda lib, x, y, i: x**y, "PowBackward1", (LEAF, LEAF)),
    "exp": (lambda lib, x, y, i: x.exp(), "ExpBackward0", (LEAF,)),
    "log": (lambda lib, x, y, i: x.log(), "LogBackward0", (LEAF,)),
    "log1p": (lambda lib, x, y, i: x.log1p(), "Log1PBackward0", (LEAF,)),
    "sqrt": (lambda lib, x, y, i: x.sqrt(), "SqrtBackward0", (LEAF,)),
    "sin": (lambda lib, x, y, i: x.sin(), "SinBackward0", (LEAF,)),
    "tanh": (lambda lib, x, y, i: x.tanh(), "TanhBackward0", (LEAF,)),
    "sigmoid": (lambda lib, x, y, i: x.sigmoid(), "SigmoidBackward0", (LEAF,)),
    "relu": (lambda lib, x, y, i: x.relu(), "ReluBackward0", (LEAF,)),
    "abs": (lambda lib, x, y, i: x.abs(), "AbsBackward0", (LEAF,)),
    "sum": (lambda lib, x, y, i: x.sum(), "SumBackward0", (LEAF,)),
    "sum over an axis": (lambda lib, x, y, i: x.sum(1), "SumBackward1", (LEAF,)),
    "mean": (lambda lib, x, y, i: x.mean(), "MeanBackward0", (LEAF,)),
    "mean over an axis": (lambda lib, x, y, i: x.mean(1), "MeanBackward1", (LEAF,)),
    "prod": (lambda lib, x, y, i: x.prod(), "ProdBackward0", (LEAF,)),
    "amax": (lambda lib, x, y, i: x.amax(1), "AmaxBackward0", (LEAF,)),
    "max over an axis": (lambda lib, x, y, i: x.max(1).values, "MaxBackward0", (LEAF,)),
    "sort": (lambda lib, x, y, i: x.sort(1).values, "SortBackward0", (LEAF,)),
    "topk": (lambda lib, x, y, i: x.topk(1).values, "TopkBackward0", (LEAF,)),
    "var": (lambda lib, x, y, i: x.var(), "VarBackward0", (LEAF,)),
    "std": (lambda lib, x, y, i: x.std(), "StdBackward0", (LEAF,)),
    "norm": (lambda lib, x, y, i: x.norm(), "LinalgVectorNormBackward0", (LEAF,)),
    "logsumexp": (lambda lib, x, y, i: x.logsumexp(1), "LogsumexpBackward0", (LEAF,)),
    "softmax": (lambda lib, x, y, i: x.softmax(1), "SoftmaxBackward0", (LEAF,)),
    "log_softmax": (lambda lib, x, y, i: x.log_softmax(1), "LogSoftmaxBackward0", (LEAF,)),
    "cumsum": (lambda lib, x, y, i: x.cumsum(0), "CumsumBackward0", (LEAF,)),
    "cumprod": (lambda lib, x, y, i: x.cumprod(0), "CumprodBackward0", (LEAF,)),
    "view": (lambda lib, x, y, i: x.view(4), "ViewBackward0", (LEAF,)),
    "permute": (lambda lib, x, y, i: x.permute(1, 0), "PermuteBackward0", (LEAF,)),
    "expand": (lambda lib, x, y, i: y.expand(3, 2), "ExpandBackward0", (LEAF,)),
    "x[0]": (lambda lib, x, y, i: x[0], "SelectBackward0", (LEAF,)),
    "x[:, 0:1]": (lambda lib, x, y, i: x[:, 0:1], "SliceBackward0", (LEAF,)),
    "x[i]": (lambda lib, x, y, i: x[i], "IndexBackward0", (LEAF,)),
    "gather": (lambda lib, x, y, i: x.gather(0, i[None]), "GatherBackward0", (LEAF,)),
    "cat": (lambda lib, x, y, i: lib.cat([x, x * 2]), "CatBackward0", (LEAF, "MulBackward0")),
    "where": (lambda lib, x, y, i: lib.where(x > 1, x, 0.0), "WhereBackward0", (LEAF, None)),
    "flip": (lambda lib, x, y, i: x.flip(0), "FlipBackward0", (LEAF,)),
    "clone": (lambda lib, x, y, i: x.clone(), "CloneBackward0", (LEAF,)),
    "float": (lambda lib, x, y, i: x.float(), "ToCopyBackward0", (LEAF,)),
    "x @ x": (lambda lib, x, y, i: x @ (x * 1), "MmBackward0", (LEAF, "MulBackward0")),
    "x @ y": (lambda lib, x, y, i: x @ y, "MvBackward0", (LEAF, LEAF)),
    "y @ y": (lambda lib, x, y, i: y @ (y * 1), "DotBackward0", (LEAF, "MulBackward0")),
    "maximum": (lambda lib, x, y, i: lib.maximum(x, y), "MaximumBackward0", (LEAF, LEAF)),
    "lerp": (lambda lib, x, y, i: lib.lerp(x, y, 0.5), "LerpBackward0", (LEAF, LEAF)),
    "inv": (lambda lib, x, y, i: lib.linalg.inv(x), "LinalgInvExBackward0", (LEAF,)),
    "det": (lambda lib, x, y, i: lib.linalg.det(x), "LinalgDetBackward0", (LEAF,)),
    "eigh": (lambda lib, x, y, i: lib.linalg.eigh(x)[0], "LinalgEighBackward0", (LEAF,)),
    "eig": (lambda lib, x, y, i: lib.linalg.eig(x)[0], "LinalgEigBackward0", (LEAF,)),
    "svd": (lambda lib, x, y, i: lib.linalg.svd(x)[1], "LinalgSvdBackward0", (LEAF,)),
}  # fmt: skip


def node(library: Any, key: str) -> tuple[str, tuple[str | None, ...]]:
    x = library.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=library.float64, requires_grad=True)
    y = library.tensor([1.0, 2.0], dtype=library.float64, requires_grad=True)
    out = NODES[key][0](library, x, y, library.tensor([0, 1]))
    names = [
        None if n is None else n.name().rpartition("::")[2] for n, _ in out.grad_fn.next_functions
    ]
    return out.grad_fn.name(), tuple(names)


@pytest.mark.parametrize("key", NODES)
def test_names(key: str) -> None:
    assert node(torch, key) == NODES[key][1:]


@pytest.mark.parametrize("key", NODES)
def test_the_table_is_pytorchs(key: str) -> None:
    theirs = pytest.importorskip("torch")
    assert node(theirs, key) == NODES[key][1:]


def test_walking_from_a_loss_to_its_leaves() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    w = torch.tensor([3.0, 4.0], requires_grad=True)
    loss = ((x * w).tanh() + x).sum()
    found, stack = [], [loss.grad_fn]
    while stack:
        n = stack.pop()
        found.append(n)
        stack.extend(m for m, _ in n.next_functions if m is not None)
    leaves = [n for n in found if type(n).__name__ == "AccumulateGrad"]
    assert {id(n.variable) for n in leaves} == {id(x), id(w)}
    assert [type(n).__name__ for n in found if n not in leaves] == [
        "SumBackward0",
        "AddBackward0",
        "TanhBackward0",
        "MulBackward0",
    ]


def test_the_graph_is_the_same_after_the_values_were_read() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = x.exp()
    y.tolist()
    z = (y * x).sum()
    z.item()
    assert z.grad_fn.name() == "SumBackward0"
    product = z.grad_fn.next_functions[0][0]
    assert product.name() == "MulBackward0"
    assert [n.name() for n, _ in product.next_functions] == ["ExpBackward0", "AccumulateGrad"]


def test_leaves_constants_and_printing() -> None:
    x = torch.tensor([1.0], requires_grad=True)
    assert x.grad_fn is None
    assert x.is_leaf
    assert torch.ones(2).grad_fn is None
    assert (x * 2).detach().grad_fn is None
    assert repr(x * 2) == "tensor([2.], grad_fn=<MulBackward0>)"
    assert repr(x) == "tensor([1.], requires_grad=True)"


def test_a_node_knows_its_line() -> None:
    x = torch.tensor([1.0], requires_grad=True)
    y = x.tanh()
    file, line, function = y.grad_fn.where
    assert file == __file__
    assert function == "test_a_node_knows_its_line"
    assert line == test_a_node_knows_its_line.__code__.co_firstlineno + 2


ONE_NODE = {
    "x.clamp(0, 1)": "ClampBackward1",
    "torch.stack([x, x])": "StackBackward0",
    "x.tril()": "TrilBackward0",
    "x.triu()": "TriuBackward0",
    "x.repeat(2, 2)": "RepeatBackward0",
    "x.roll(1, 0)": "RollBackward0",
    "torch.addmm(x, x, x)": "AddmmBackward0",
    "x.index_add(0, torch.tensor([0, 1, 2]), x)": "IndexAddBackward0",
    "torch.addcmul(x, x, x, value=2)": "AddcmulBackward0",
    "torch.hypot(x, x)": "HypotBackward0",
}


@pytest.mark.parametrize("text, name", ONE_NODE.items())
def test_functions_of_several_steps_are_one_node(text: str, name: str) -> None:
    x = torch.randn(3, 3, requires_grad=True)
    out = eval(text, {"torch": torch, "x": x})
    assert type(out.grad_fn).__name__ == name
    assert {type(n).__name__ for n, _ in out.grad_fn.next_functions if n is not None} == {"AccumulateGrad"}
    out.sum().backward()
    assert x.grad.shape == (3, 3)


def test_save_on_cpu_changes_nothing() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    with torch.autograd.graph.save_on_cpu(pin_memory=False):
        y = (x.exp() * x).sum()
    y.backward()
    with torch.autograd.graph.save_on_cpu():
        (z,) = torch.autograd.grad((x.exp() * x).sum(), x)
    assert x.grad.tolist() == z.tolist()
