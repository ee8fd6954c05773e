"""Trees of containers: taken apart, put together, mapped, as PyTorch does."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque, namedtuple
from typing import Any

import pytest

import adjoint as torch
from adjoint.utils import _pytree as trees

Point = namedtuple("Point", "x y")
TREES: list[Any] = [
    3,
    None,
    (1, [2, (3,)], {}),
    {"b": 1, "a": (2, None)},
    OrderedDict(z=1, y=[2]),
    defaultdict(list, p=1, q=2),
    deque([1, 2], maxlen=5),
    Point(1, {"k": Point(2, 3)}),
    [],
]


@pytest.mark.parametrize("tree", TREES, ids=str)
def test_a_tree_is_put_together_as_it_was(tree: Any) -> None:
    leaves, spec = trees.tree_flatten(tree)
    again = trees.tree_unflatten(leaves, spec)
    assert again == tree and type(again) is type(tree)
    assert trees.tree_leaves(tree) == leaves and spec.num_leaves == len(leaves)
    assert spec == trees.tree_structure(tree)
    if isinstance(tree, deque):
        assert again.maxlen == tree.maxlen
    if isinstance(tree, defaultdict):
        assert again["other"] == []


@pytest.mark.parametrize("tree", TREES, ids=str)
def test_trees_are_pytorchs(tree: Any) -> None:
    pytest.importorskip("torch")
    from torch.utils import _pytree as theirs

    assert trees.tree_leaves(tree) == theirs.tree_leaves(tree)
    ours, others = trees.tree_structure(tree), theirs.tree_structure(tree)
    assert (ours.num_leaves, ours.num_nodes, ours.num_children) == (others.num_leaves, others.num_nodes, others.num_children)
    assert trees.tree_map(str, tree) == theirs.tree_map(str, tree)


def test_what_is_a_leaf() -> None:
    class Own(dict):
        pass

    assert trees.tree_leaves([Own(a=1), torch.Size([2]), "ab"]) == [Own(a=1), torch.Size([2]), "ab"]
    assert trees.tree_leaves([(1, 2), 3], is_leaf=lambda t: isinstance(t, tuple)) == [(1, 2), 3]
    found = torch.max(torch.tensor([1.0, 3.0]), 0)
    doubled = trees.tree_map(lambda t: t * 2, found)
    assert type(doubled) is type(found) and doubled.values.item() == 6 and doubled.indices.item() == 2


def test_tensors_of_a_tree_are_differentiated() -> None:
    w = {"w": torch.ones(3, requires_grad=True), "more": [torch.full((2,), 2.0, requires_grad=True), "name"]}
    squares = trees.tree_map_only(torch.Tensor, lambda t: t * t, w)
    assert squares["more"][1] == "name"
    (squares["w"].sum() + squares["more"][0].sum()).backward()
    assert w["w"].grad.tolist() == [2.0] * 3 and w["more"][0].grad.tolist() == [4.0] * 2


def test_several_trees() -> None:
    assert trees.tree_map(lambda a, b: a - b, {"a": 1, "b": (5,)}, {"b": (2,), "a": 9}) == {"a": -8, "b": (3,)}
    seen: list[int] = []
    assert trees.tree_map_(seen.append, (1, [2])) == (1, [2]) and seen == [1, 2]
    assert trees.tree_all(bool, (1, [2])) and trees.tree_any(bool, (0, [2])) and not trees.tree_any_only(str, bool, (1, ""))
    assert trees.tree_all_only(int, lambda x: x > 0, (1, "a")) and trees.arg_tree_leaves(1, (2,), k=[3]) == [1, 2, 3]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: trees.tree_unflatten([1], trees.tree_structure((1, 2))), ValueError, "1 leaves, but the spec is of a tree with 2"),
        (lambda: trees.tree_unflatten([1], (1,)), TypeError, "not tuple"),
        (lambda: trees.tree_map(max, (1, 2), [1, 2]), ValueError, "tuple where another has a list"),
        (lambda: trees.tree_map(max, (1, 2), (1, 2, 3)), ValueError, "tuple of 2 where another has 3"),
        (lambda: trees.tree_map(max, {"a": 1}, {"b": 1}), ValueError, "keys"),
        (lambda: trees.register_pytree_node(tuple, list, tuple), ValueError, "already registered"),
    ],
)
def test_errors(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
