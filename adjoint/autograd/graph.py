"""`grad_fn`: the recorded steps as PyTorch's backward nodes, built only when somebody looks.

`node_of(t)` gives the node of a tensor; `next_functions` leads on. Steps recorded inside one composite appear as the
composite's single node, a leaf as `AccumulateGrad`. Movement that only aligns shapes keeps its own node.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from adjoint.autograd.hooks import RemovableHandle, RemovableHandles
from adjoint.autograd.saved import disable_saved_tensors_hooks as disable_saved_tensors_hooks
from adjoint.autograd.saved import saved_tensors_hooks as saved_tensors_hooks
from adjoint.grad.walk import CustomResult, Gathered, Gathering, locate
from adjoint.trace.aval import Aval
from adjoint.trace.handle import Tensor
from adjoint.trace.history import History
from adjoint.trace.trie import Step

NAMES = {
    "integer_pow": "PowBackward0",
    "matmul": "MmBackward0",
    "convolve": "ConvolutionBackward0",
    "cast": "ToCopyBackward0",
    "reshape": "ViewBackward0",
    "place": "ConstantPadNdBackward0",
    "slice_update": "CopySlices",
    "take": "IndexBackward0",
    "put": "IndexPutBackward0",
    "put_add": "IndexAddBackward0",
    "inv": "LinalgInvExBackward0",
    "det": "LinalgDetBackward0",
    "cholesky": "LinalgCholeskyExBackward0",
    "solve": "LinalgSolveExBackward0",
    "eig": "LinalgEigBackward0",
    "eigh": "LinalgEighBackward0",
    "svd": "LinalgSvdBackward0",
    "qr": "LinalgQrBackward0",
    "lu": "LinalgLuFactorExBackward0",
    "fft": "FftC2CBackward0",
    "rfft": "FftR2CBackward0",
    "irfft": "FftC2RBackward0",
    "cat": "CatBackward0",
    "sum": "SumBackward0",
    "window": "UnfoldBackward0",
    "log1p": "Log1PBackward0",
    "slogdet": "LinalgSlogdetBackward0",
}
# Operands that take no part in differentiation and so have no edge: conditions, indices, starts of slices.
NO_EDGE = {"where": (0,), "take": (1,), "put": (1,), "put_add": (0,)}
EDGES = {"slice": 1, "place": 1, "slice_update": 2}  # the first operands only
_classes: dict[str, type] = {}


class GradNode:
    """A node of the backward graph.

    next_functions: ((node or None, 0), ...) for the operands.  name(): the node's name.  metadata: a free dict.
    """

    def __init__(self, hist: History | None, slot: int, leaf: Tensor | None) -> None:
        self._hist, self._slot = hist, slot
        self.metadata: dict[str, Any] = {}
        if leaf is not None:
            self.variable = leaf

    def name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object at {hex(id(self))}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GradNode) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple:
        return (id(self.variable),) if hasattr(self, "variable") else (id(self._hist), self._slot)

    @property
    def where(self) -> tuple[str, int, str] | None:
        """File, line and function of the call that recorded the step."""
        return self._hist.steps()[self._slot].where if self._hist is not None else None

    @property
    def shape(self) -> tuple[int, ...]:
        if self._hist is None:
            return tuple(self.variable._aval.shape)
        return tuple(self._hist.steps()[self._slot].aval.shape)

    @property
    def next_functions(self) -> tuple[tuple[GradNode | None, int], ...]:
        if self._hist is None:
            return ()
        hist = self._hist
        step = hist.steps()[self._slot]
        payload = hist.payload.get(self._slot)
        if isinstance(payload, CustomResult):
            return tuple((node_of(x), 0) if isinstance(x, Tensor) else (None, 0) for x in payload.call.inputs)
        return tuple((node_at(hist, slot), 0) for slot in operands_of(hist, step))


def operands_of(hist: History, step: Step) -> list[int]:
    """Operand slots of a step, or of the composite it ends; -1 for one without gradient."""
    if step.scope is None:
        picked = selected(hist, step)
        if picked is not None:
            return [picked.args[0]]
        dropped = (1,) if name_of(hist, step) == "PowBackward0" else NO_EDGE.get(step.prim, ())
        args = step.args[: EDGES.get(step.prim, len(step.args))]
        return [a if type(a) is int else -1 for k, a in enumerate(args) if k not in dropped]
    scope, steps = step.scope, hist.steps()
    out: list[int] = []
    seen: set[int] = set()
    stack = [step]
    while stack:
        s = stack.pop()
        for a in s.args:
            if type(a) is not int or a in seen:
                continue
            seen.add(a)
            inner = steps[a]
            if inner.scope is scope and inner.prim != "input":  # reference mode first meets its operands inside
                stack.append(inner)
            elif inner.aval is not None and getattr(inner.aval, "requires_grad", False):
                out.append(a)
    return sorted(out)


def selected(hist: History, step: Step) -> Step | None:
    """The slice of which this reshape drops the axis: together they are `select`, as `x[0]` records it."""
    if step.prim != "reshape" or type(step.args[0]) is not int:
        return None
    before = hist.steps()[step.args[0]]
    if before.prim != "slice" or before.scope is not None:
        return None
    starts, sizes, _ = before.attrs
    kept = tuple(n for start, n in zip(starts, sizes, strict=True) if start is not None)
    taken = [n for start, n in zip(starts, sizes, strict=True) if start is None]
    return before if taken and set(taken) == {1} and tuple(step.attrs) == kept else None


def node_at(hist: History, slot: int) -> GradNode | None:
    if slot < 0:
        return None
    step = hist.steps()[slot]
    if slot != step.slot or not getattr(step.aval, "requires_grad", False):
        return None
    if step.prim == "input":
        origin = hist.origins.get(step.inputs_before)
        if origin is not None:
            return node_at(*origin)
        return _make("AccumulateGrad", None, -1, hist.inputs[step.inputs_before])
    if step.prim == "override":  # a change that autograd did not see
        return node_at(hist, step.args[0])
    if step.prim == "pick":
        return _make(name_of(hist, hist.steps()[step.args[0]]), hist, step.args[0], None)
    return _make(name_of(hist, step), hist, slot, None)


def name_of(hist: History, step: Step) -> str:
    if step.scope is not None:
        return "MeanBackward1" if step.scope.name == "MeanBackward0" and step.aval.shape else step.scope.name
    if step.prim == "custom":
        return step.attrs[0].__name__ + "Backward"
    if step.prim == "sum" and step.aval.shape:
        return "SumBackward1"  # over some of the axes
    if step.prim == "pow" and hist.steps()[step.args[1]].slot == step.args[1]:
        return "PowBackward1"  # by a tensor: a number's slot is not a step's own
    if selected(hist, step) is not None:
        return "SelectBackward0"
    known = NAMES.get(step.prim)
    return known if known is not None else "".join(p.capitalize() for p in step.prim.split("_")) + "Backward0"


def _make(name: str, hist: History | None, slot: int, leaf: Tensor | None) -> GradNode:
    cls = _classes.get(name)
    if cls is None:
        cls = _classes[name] = type(name, (GradNode,), {})
    return cls(hist, slot, leaf)


def node_of(t: Tensor) -> GradNode | None:
    """The node that computed `t`; AccumulateGrad for a leaf that requires grad; None without gradient."""
    if not t._aval.requires_grad:
        return None
    if t._leaf:
        return _make("AccumulateGrad", None, -1, t)
    place = locate(t)
    return None if place is None else node_at(*place)


def grad_fn(t: Tensor) -> GradNode | None:
    """`Tensor.grad_fn`: None for leaves."""
    return None if t._leaf or not t._aval.requires_grad else node_of(t)


class GradientEdge(NamedTuple):
    """Where a gradient arrives: a node, and which of its results. `grad` and `backward` take it for the tensor."""

    node: GradNode
    output_nr: int
    ownership_token: Any = None


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """The edge of a tensor, which names it in `autograd.grad` and `backward` and does not keep its value.

    RuntimeError for a tensor that does not require grad.

    >>> import adjoint as torch
    >>> x = torch.tensor([1., 2.], requires_grad=True)
    >>> y = x * 2
    >>> edge = torch.autograd.graph.get_gradient_edge(y)
    >>> torch.autograd.grad((y * y).sum(), edge)
    (tensor([4., 8.]),)
    """
    node = node_of(tensor)
    if node is None:
        raise RuntimeError(
            "It is not possible to get the gradient edge for a Tensor that does not require gradients: "
            f"the tensor of shape {list(tensor._aval.shape)} was computed from none that does"
        )
    place = None if tensor._leaf else locate(tensor)
    step = None if place is None else place[0].steps()[place[1]]
    return GradientEdge(node, step.attrs if step is not None and step.prim == "pick" else 0)


def tensor_at(edge: GradientEdge) -> Tensor:
    """A tensor at an edge, which need not have a value. ValueError where there is no such edge."""
    node = edge.node
    if not isinstance(node, GradNode):
        raise ValueError(f"GradientEdge(node, output_nr): node must be a node of the graph, as grad_fn is, got {type(node).__name__}")
    if node._hist is None:
        return node.variable
    steps = node._hist.steps()
    step = steps[node._slot]
    if not isinstance(step.aval, Aval):  # several results
        found = [s for s in steps.values() if s.prim == "pick" and s.args[0] == node._slot and s.attrs == edge.output_nr]
        if not found:
            raise ValueError(f"GradientEdge({node.name()}, {edge.output_nr}): the node has no such result that was used")
        return node._hist.handle(found[0].slot)
    if edge.output_nr and not isinstance(node._hist.payload.get(node._slot), CustomResult):
        raise ValueError(f"GradientEdge({node.name()}, {edge.output_nr}): the node has one result, of number 0")
    return node._hist.handle(node._slot)


def register_multi_grad_hook(tensors: Sequence[Tensor], fn: Callable[..., Any], *, mode: str = "all") -> RemovableHandle:
    """Call `fn` once in each backward that meets some of the tensors, with their gradients. Returns a handle with `remove()`.

    mode: "all" for `fn([gradient or None, ...])`, None for tensors that had no part, before gradients are added to any `.grad`
    (PyTorch calls it as soon as the last of them is there); "any" for `fn(gradient)` with the first. What `fn` returns is
    ignored. ValueError for another mode, RuntimeError for a tensor that does not require grad.

    >>> import adjoint as torch
    >>> x, y = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    >>> handle = torch.autograd.graph.register_multi_grad_hook([x, y], print)
    >>> (x * 3).sum().backward()
    [tensor([3., 3.]), None]
    """
    if mode not in ("all", "any"):
        raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    gathering = Gathering(fn, len(tensors), mode == "any")
    return RemovableHandles([t.register_hook(Gathered(gathering, k)) for k, t in enumerate(tensors)])


def increment_version(tensor: Tensor | Iterable[Tensor]) -> None:
    """Count a change in place of a tensor, or of several, that was made elsewhere, in `_version`.

    RuntimeError for what is no tensor. Derivatives do not ask for the count: they are those of the values that were used.

    >>> import adjoint as torch
    >>> x = torch.ones(2)
    >>> torch.autograd.graph.increment_version(x)
    >>> x._version
    1
    """
    tensors = (tensor,) if isinstance(tensor, Tensor) else tuple(tensor) if isinstance(tensor, Iterable) else (tensor,)
    for t in tensors:
        if not isinstance(t, Tensor):
            raise RuntimeError(f"increment_version expect a Iterable[Tensor] as input, got {type(t).__name__}")
    for t in tensors:
        t._version += 1
        if t._base is not None:
            t._base._version += 1


class allow_mutation_on_saved_tensors:
    """A context in which what backward needs may be changed in place. It may everywhere: derivatives are those of the values that
    were used, so nothing changes. RuntimeError where it is nested.

    >>> import adjoint as torch
    >>> x = torch.tensor([2., 3.], requires_grad=True)
    >>> with torch.autograd.graph.allow_mutation_on_saved_tensors():
    ...     y = x.clone()
    ...     z = (y ** 2).sum()
    ...     _ = y.zero_()
    >>> z.backward()
    >>> x.grad
    tensor([4., 6.])
    """

    _inside = threading.local()

    def __enter__(self) -> allow_mutation_on_saved_tensors:
        if getattr(self._inside, "open", False):
            raise RuntimeError("allow_mutation_on_saved_tensors contexts cannot be nested")
        self._inside.open = True
        return self

    def __exit__(self, *exc: Any) -> None:
        self._inside.open = False

    def clear(self) -> None:
        """Nothing is kept for the context."""


class save_on_cpu:
    """A context in which what backward needs is kept in the CPU's memory. It is there already: nothing changes, as in PyTorch
    for tensors of the CPU.

    >>> import adjoint as torch
    >>> x = torch.tensor(3., requires_grad=True)
    >>> with torch.autograd.graph.save_on_cpu():
    ...     y = x * x
    >>> y.backward()
    >>> x.grad
    tensor(6.)
    """

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: Any) -> None:
        pass


Node = GradNode


def __getattr__(name: str) -> object:
    from adjoint.absent import absent

    raise absent(__name__, name, globals())
