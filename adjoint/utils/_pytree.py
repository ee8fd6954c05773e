"""Trees of containers under the names that PyTorch programs import: taken apart, put together, mapped.

A container is a tuple, list, dict, OrderedDict, defaultdict, deque, a tuple with names, or of a type that `register_pytree_node`
was told of; subclasses of these are leaves, as is everything else, None included. Dicts are in the order of their keys. Read
`TreeSpec` first, then `tree_flatten`. The transforms of `adjoint.func` use `batch/trees.py`, which knows tensors only.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from adjoint.return_types import NamedResults

__all__ = [
    "Context",
    "GetAttrKey",
    "LeafSpec",
    "MappingKey",
    "PyTree",
    "SequenceKey",
    "TreeSpec",
    "arg_tree_leaves",
    "keystr",
    "register_pytree_node",
    "tree_all",
    "tree_all_only",
    "tree_any",
    "tree_any_only",
    "tree_flatten",
    "tree_flatten_with_path",
    "tree_iter",
    "tree_leaves",
    "tree_leaves_with_path",
    "tree_map",
    "tree_map_",
    "tree_map_only",
    "tree_map_only_",
    "tree_map_with_path",
    "tree_structure",
    "tree_unflatten",
]

PyTree = Any
Context = Any


class _Kind(NamedTuple):
    """How containers of a type are taken apart (into parts, and what else it takes) and made from parts. keys: where the parts lie."""

    flatten: Callable[[Any], tuple[Iterable[Any], Any]]
    unflatten: Callable[[Iterable[Any], Any], Any]
    keys: Callable[[Any], Iterable[Any]] | None = None


class MappingKey(NamedTuple):
    """Where a part of a dict lies."""

    key: Any

    def get(self, parent: Any) -> Any:
        """That part."""
        return parent[self.key]

    def __str__(self) -> str:
        return f"[{self.key!r}]"


class SequenceKey(NamedTuple):
    """Where a part of a list or tuple lies."""

    idx: int

    def get(self, parent: Any) -> Any:
        """That part."""
        return parent[self.idx]

    def __str__(self) -> str:
        return f"[{self.idx!r}]"


class GetAttrKey(NamedTuple):
    """Where a part of a tuple with names lies."""

    name: str

    def get(self, parent: Any) -> Any:
        """That part."""
        return getattr(parent, self.name)

    def __str__(self) -> str:
        return f".{self.name}"


def _places(sequence: Any) -> list[Any]:
    return [SequenceKey(i) for i in range(len(sequence))]


def _fields(tree: Any) -> list[Any]:
    return [GetAttrKey(name) for name in getattr(tree, "_fields", ())] or _places(tree)


def _dict_keys(tree: Any) -> list[Any]:
    return [MappingKey(k) for k in tree]


def _dict_flatten(d: dict[Any, Any]) -> tuple[list[Any], list[Any]]:
    return list(d.values()), list(d)


def _dict_unflatten(values: Iterable[Any], context: list[Any]) -> dict[Any, Any]:
    return dict(zip(context, values, strict=True))


def _dict_flatten_with_keys(d: dict[Any, Any]) -> tuple[list[tuple[Any, Any]], list[Any]]:
    return [(MappingKey(k), v) for k, v in d.items()], list(d)


_KINDS: dict[type, _Kind] = {
    tuple: _Kind(lambda t: (t, None), lambda parts, _: tuple(parts), _places),
    list: _Kind(lambda t: (t, None), lambda parts, _: list(parts), _places),
    dict: _Kind(_dict_flatten, _dict_unflatten, _dict_keys),
    OrderedDict: _Kind(_dict_flatten, lambda parts, keys: OrderedDict(zip(keys, parts, strict=True)), _dict_keys),
    defaultdict: _Kind(
        lambda t: (t.values(), [t.default_factory, list(t)]),
        lambda parts, context: defaultdict(context[0], zip(context[1], parts, strict=True)),
        _dict_keys,
    ),
    deque: _Kind(lambda t: (t, t.maxlen), lambda parts, length: deque(parts, maxlen=length), _places),
}
_NAMED = _Kind(lambda t: (t, type(t)), lambda parts, cls: cls(*parts) if hasattr(cls, "_fields") else cls(parts), _fields)
_DICTS = (dict, OrderedDict, defaultdict)


def _kind_of(tree: Any) -> _Kind | None:
    """How a container is taken apart; None for a leaf."""
    kind = _KINDS.get(type(tree))
    if kind is None and isinstance(tree, tuple) and (hasattr(tree, "_fields") or isinstance(tree, NamedResults)):
        return _NAMED
    return kind


class TreeSpec:
    """A tree without its leaves: `type` of the container (None for a leaf), `context` (such as a dict's keys), and a spec for each part.

    >>> from adjoint.utils._pytree import tree_structure
    >>> spec = tree_structure({"w": 1, "layers": (2, 3)})
    >>> spec.num_leaves, spec
    (3, TreeSpec(dict, ['w', 'layers'], [*, TreeSpec(tuple, None, [*, *])]))
    >>> spec.unflatten("abc")
    {'w': 'a', 'layers': ('b', 'c')}
    """

    __slots__ = ("_children", "context", "num_leaves", "num_nodes", "type")

    def __init__(self, type: Any, context: Any, children_specs: Iterable[TreeSpec] = ()) -> None:
        self.type, self.context, self._children = type, context, list(children_specs)
        self.num_nodes: int = 1 + sum(c.num_nodes for c in self._children)
        self.num_leaves: int = 1 if type is None else sum(c.num_leaves for c in self._children)

    @property
    def num_children(self) -> int:
        """How many parts the container has."""
        return len(self._children)

    def children(self) -> list[TreeSpec]:
        """The specs of the parts, in order."""
        return list(self._children)

    def child(self, index: int) -> TreeSpec:
        """The spec of one part."""
        return self._children[index]

    def is_leaf(self) -> bool:
        """Whether this stands for a leaf."""
        return self.type is None

    def unflatten(self, leaves: Iterable[Any]) -> PyTree:
        """The tree with these leaves. ValueError for another number of them."""
        leaves = list(leaves)
        if len(leaves) != self.num_leaves:
            raise ValueError(
                f"tree_unflatten(leaves, treespec): there are {len(leaves)} leaves, but the spec is of a tree with {self.num_leaves}: {self}"
            )
        return self._build(iter(leaves))

    def _build(self, leaves: Iterator[Any]) -> PyTree:
        if self.type is None:
            return next(leaves)
        return _KINDS.get(self.type, _NAMED).unflatten([c._build(leaves) for c in self._children], self.context)

    def flatten_up_to(self, tree: PyTree) -> list[PyTree]:
        """What a tree that begins like this one has in place of the leaves. ValueError where it differs."""
        if self.type is None:
            return [tree]
        kind, found = _kind_of(tree), type(tree)
        if kind is None or not (found is self.type or (self.type in _DICTS and found in _DICTS)):
            raise ValueError(f"Node type mismatch: the first tree has a {self.type.__name__} where another has a {found.__name__}")
        if self.type in _DICTS:
            keys = self.context[1] if self.type is defaultdict else self.context
            if set(keys) != set(tree):
                raise ValueError(f"Node keys mismatch: the first tree has a dict with keys {keys} where another has {list(tree)}")
            parts = [tree[k] for k in keys]
        else:
            parts = list(kind.flatten(tree)[0])
        if len(parts) != len(self._children):
            raise ValueError(
                f"Node arity mismatch: the first tree has a {self.type.__name__} of {len(self._children)} where another has {len(parts)}"
            )
        return [x for c, t in zip(self._children, parts, strict=True) for x in c.flatten_up_to(t)]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TreeSpec):
            return NotImplemented
        return self.type is other.type and self.context == other.context and self._children == other._children

    def __hash__(self) -> int:
        return hash((self.type, repr(self.context), tuple(self._children)))

    def __repr__(self) -> str:
        return "*" if self.type is None else f"TreeSpec({self.type.__name__}, {self.context}, {self._children})"


class LeafSpec(TreeSpec):
    """The spec of a tree that is a leaf."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(None, None)


_LEAF = LeafSpec()


def register_pytree_node(
    cls: type,
    flatten_fn: Callable[[Any], tuple[Iterable[Any], Any]],
    unflatten_fn: Callable[[Iterable[Any], Any], Any],
    *,
    flatten_with_keys_fn: Callable[[Any], tuple[Iterable[tuple[Any, Any]], Any]] | None = None,
    **_named: Any,
) -> None:
    """Has instances of a class taken apart: `flatten_fn(tree)` gives its parts and a context, `unflatten_fn(parts, context)` makes it.

    flatten_with_keys_fn: gives pairs of a key and a part, for the functions with paths. Further arguments (`serialized_type_name` and
    others) are accepted and not used. ValueError for a class that is known.

    >>> from adjoint.utils._pytree import register_pytree_node, tree_map
    >>> class Pair:
    ...     def __init__(self, a, b):
    ...         self.a, self.b = a, b
    >>> register_pytree_node(Pair, lambda p: ([p.a, p.b], None), lambda parts, _: Pair(*parts))
    >>> vars(tree_map(lambda x: x + 1, Pair(1, 2)))
    {'a': 2, 'b': 3}
    """
    if cls in _KINDS:
        raise ValueError(f"register_pytree_node({cls.__name__}, ...): {cls} is already registered as pytree node; a class is told of once")
    keys = None if flatten_with_keys_fn is None else lambda tree: [key for key, _ in flatten_with_keys_fn(tree)[0]]
    _KINDS[cls] = _Kind(flatten_fn, unflatten_fn, keys)


def tree_flatten(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], TreeSpec]:
    """The leaves of a tree, in order, and its structure. What `is_leaf` says yes to is not taken apart.

    >>> from adjoint.utils._pytree import tree_flatten, tree_unflatten
    >>> leaves, spec = tree_flatten({"a": 1, "b": [2, None]})
    >>> leaves
    [1, 2, None]
    >>> tree_unflatten("xyz", spec)
    {'a': 'x', 'b': ['y', 'z']}
    """
    leaves: list[Any] = []
    return leaves, _flatten(tree, leaves, is_leaf)


def _flatten(tree: PyTree, leaves: list[Any], is_leaf: Callable[[Any], bool] | None) -> TreeSpec:
    kind = None if is_leaf is not None and is_leaf(tree) else _kind_of(tree)
    if kind is None:
        leaves.append(tree)
        return _LEAF
    parts, context = kind.flatten(tree)
    return TreeSpec(type(tree), context, [_flatten(t, leaves, is_leaf) for t in parts])


def tree_unflatten(leaves: Iterable[Any], treespec: TreeSpec) -> PyTree:
    """The tree of a structure with these leaves. ValueError for another number of them, TypeError where `treespec` is none."""
    if not isinstance(treespec, TreeSpec):
        raise TypeError(
            f"tree_unflatten(leaves, treespec): Expected `treespec` to be a TreeSpec, as tree_flatten gives, not {type(treespec).__name__}"
        )
    return treespec.unflatten(leaves)


def tree_iter(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> Iterator[Any]:
    """The leaves of a tree, one after the other."""
    kind = None if is_leaf is not None and is_leaf(tree) else _kind_of(tree)
    if kind is None:
        yield tree
    else:
        for part in kind.flatten(tree)[0]:
            yield from tree_iter(part, is_leaf)


def tree_leaves(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """The leaves of a tree, in order.

    >>> from adjoint.utils._pytree import tree_leaves
    >>> tree_leaves({"a": 1, "b": (2, [3])})
    [1, 2, 3]
    """
    return list(tree_iter(tree, is_leaf))


def arg_tree_leaves(*args: PyTree, **kwargs: PyTree) -> list[Any]:
    """The leaves of a call's arguments, in order."""
    return [x for t in (*args, *kwargs.values()) for x in tree_iter(t)]


def tree_structure(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> TreeSpec:
    """The structure of a tree."""
    return _flatten(tree, [], is_leaf)


def tree_map(func: Callable[..., Any], tree: PyTree, *rests: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> PyTree:
    """The tree of what a function makes of each leaf, and of what `rests` have in its place. ValueError where they differ in structure.

    >>> from adjoint.utils._pytree import tree_map
    >>> tree_map(lambda a, b: a + b, {"x": 1, "y": (2, 3)}, {"x": 10, "y": (20, 30)})
    {'x': 11, 'y': (22, 33)}
    """
    leaves, spec = tree_flatten(tree, is_leaf)
    return spec.unflatten(map(func, leaves, *[spec.flatten_up_to(t) for t in rests]))


def _with_path(tree: PyTree, path: tuple[Any, ...], is_leaf: Callable[[Any], bool] | None) -> Iterator[tuple[tuple[Any, ...], Any]]:
    kind = None if is_leaf is not None and is_leaf(tree) else _kind_of(tree)
    if kind is None:
        yield path, tree
        return
    if kind.keys is None:
        raise ValueError(f"{type(tree)} was registered without flatten_with_keys_fn, which says where its parts lie")
    for key, part in zip(kind.keys(tree), kind.flatten(tree)[0], strict=True):
        yield from _with_path(part, (*path, key), is_leaf)


def tree_leaves_with_path(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> list[tuple[tuple[Any, ...], Any]]:
    """Each leaf after the keys that lead to it. ValueError for containers of which no keys are known.

    >>> from adjoint.utils._pytree import keystr, tree_leaves_with_path
    >>> [(keystr(path), leaf) for path, leaf in tree_leaves_with_path({"w": 1, "layers": (2, 3)})]
    [("['w']", 1), ("['layers'][0]", 2), ("['layers'][1]", 3)]
    """
    return list(_with_path(tree, (), is_leaf))


def tree_flatten_with_path(
    tree: PyTree, is_leaf: Callable[[Any], bool] | None = None
) -> tuple[list[tuple[tuple[Any, ...], Any]], TreeSpec]:
    """`tree_leaves_with_path`, and the structure."""
    return tree_leaves_with_path(tree, is_leaf), tree_structure(tree, is_leaf)


def tree_map_with_path(func: Callable[..., Any], tree: PyTree, *rests: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> PyTree:
    """The tree of what a function makes of the keys that lead to each leaf, the leaf, and what `rests` have in its place.

    >>> from adjoint.utils._pytree import keystr, tree_map_with_path
    >>> tree_map_with_path(lambda path, x: keystr(path) + str(x), {"a": [1, 2]})
    {'a': ["['a'][0]1", "['a'][1]2"]}
    """
    found, spec = tree_flatten_with_path(tree, is_leaf)
    paths, leaves = [path for path, _ in found], [leaf for _, leaf in found]
    return spec.unflatten(map(func, paths, leaves, *[spec.flatten_up_to(t) for t in rests]))


def keystr(kp: Iterable[Any]) -> str:
    """Keys as they would be written behind a tree's name."""
    return "".join(map(str, kp))


def tree_map_(func: Callable[..., Any], tree: PyTree, *rests: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> PyTree:
    """Calls a function for each leaf, as `tree_map` does, and returns the tree itself."""
    tree_map(func, tree, *rests, is_leaf=is_leaf)
    return tree


def _is_of(kind: Any) -> Callable[[Any], bool]:
    """Whether a leaf is meant: by a type, a tuple of types, or a function that says so."""
    if isinstance(kind, (type, tuple)) or not callable(kind):
        return lambda x: isinstance(x, kind)
    return kind


def tree_map_only(kind: Any, func: Callable[[Any], Any], tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> PyTree:
    """`tree_map` over the leaves of a type (of one of several, or that a function says yes to), others stay.

    >>> from adjoint.utils._pytree import tree_map_only
    >>> tree_map_only(int, lambda x: -x, [1, "a", (2,)])
    [-1, 'a', (-2,)]
    """
    wanted = _is_of(kind)
    return tree_map(lambda x: func(x) if wanted(x) else x, tree, is_leaf=is_leaf)


def tree_map_only_(kind: Any, func: Callable[[Any], Any], tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> PyTree:
    """Calls a function for each leaf of a type, and returns the tree itself."""
    tree_map_only(kind, func, tree, is_leaf=is_leaf)
    return tree


def tree_all(pred: Callable[[Any], bool], tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> bool:
    """Whether a function says yes to every leaf."""
    return all(map(pred, tree_iter(tree, is_leaf)))


def tree_any(pred: Callable[[Any], bool], tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> bool:
    """Whether a function says yes to some leaf."""
    return any(map(pred, tree_iter(tree, is_leaf)))


def tree_all_only(kind: Any, pred: Callable[[Any], bool], tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> bool:
    """Whether a function says yes to every leaf of a type."""
    wanted = _is_of(kind)
    return all(pred(x) for x in tree_iter(tree, is_leaf) if wanted(x))


def tree_any_only(kind: Any, pred: Callable[[Any], bool], tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> bool:
    """Whether a function says yes to some leaf of a type."""
    wanted = _is_of(kind)
    return any(pred(x) for x in tree_iter(tree, is_leaf) if wanted(x))
