"""Pruning: parameters of which some elements are kept at zero by a mask.

A pruned parameter `weight` becomes the parameter `weight_orig` and the buffer `weight_mask`; before each call of the module
`weight` is set to their product, so gradients reach what is kept alone. `remove` makes it one parameter again. A method says
which elements go (`BasePruningMethod.compute_mask`); one after another prune what the ones before have kept
(`PruningContainer`). Read `BasePruningMethod.apply` first.
"""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.nn.module import Module

__all__ = [
    "BasePruningMethod",
    "CustomFromMask",
    "Identity",
    "L1Unstructured",
    "LnStructured",
    "PruningContainer",
    "RandomStructured",
    "RandomUnstructured",
    "custom_from_mask",
    "global_unstructured",
    "identity",
    "is_pruned",
    "l1_unstructured",
    "ln_structured",
    "random_structured",
    "random_unstructured",
    "remove",
]


class BasePruningMethod(ABC):
    """A way of pruning: a subclass says by `compute_mask` what is kept.

    PRUNING_TYPE: what a later method of a container sees: "unstructured" the elements that are kept, "structured" the channels
    along its `dim` of which any is, "global" everything.
    """

    PRUNING_TYPE = "unstructured"
    _tensor_name: str

    def __call__(self, module: Any, inputs: Any) -> None:
        """As a hook, before the module's forward."""
        setattr(module, self._tensor_name, self.apply_mask(module))

    @abstractmethod
    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Ones for elements that are kept and zeros for the others, of the shape of `t`, the importance of each; where
        `default_mask` has zeros, they stay."""

    def apply_mask(self, module: Any) -> Tensor:
        """The parameter with its mask, in the graph of derivatives."""
        name = getattr(self, "_tensor_name", None)
        if name is None:
            raise AssertionError(f"Module {module} has to be pruned: call {type(self).__name__}.apply(module, name, ...) first")
        original = getattr(module, name + "_orig")
        return getattr(module, name + "_mask").to(original.dtype) * original

    @classmethod
    def apply(cls, module: Any, name: str, *args: Any, importance_scores: Tensor | None = None, **kwargs: Any) -> Any:
        """Prune the parameter `name` of a module; what it was pruned by before goes on.

        importance_scores: by which elements are chosen, of the parameter's shape; by default their values. Returns the method, or
        the container of it and those before. AssertionError for scores of another shape.
        """
        before = {key: hook.call for key, hook in module._forward_pre_hooks.items() if _prunes(hook.call, name)}
        method: BasePruningMethod = cls(*args, **kwargs)
        method._tensor_name = name
        values = getattr(module, name)
        scores = values if importance_scores is None else importance_scores
        if scores.shape != values.shape:
            raise AssertionError(
                f"importance_scores should have the same shape as parameter {name} of {module}: {tuple(scores.shape)} for {tuple(values.shape)}"
            )
        kept = getattr(module, name + "_mask").detach().clone() if before else torch.ones_like(values)
        for known in before.values():
            method = _joined(known, method)
        mask = method.compute_mask(scores.detach(), kept)
        for key in before:
            del module._forward_pre_hooks[key]
        if not before:
            del module._parameters[name]
            module.register_parameter(name + "_orig", values)
        module.register_buffer(name + "_mask", mask)
        setattr(module, name, method.apply_mask(module))
        module.register_forward_pre_hook(method)
        return method

    def prune(self, t: Tensor, default_mask: Tensor | None = None, importance_scores: Tensor | None = None) -> Tensor:
        """A tensor with zeros where this method would prune a parameter."""
        scores = t if importance_scores is None else importance_scores
        if scores.shape != t.shape:
            raise AssertionError(f"importance_scores should have the same shape as tensor t: {tuple(scores.shape)} for {tuple(t.shape)}")
        return t * self.compute_mask(scores, torch.ones_like(t) if default_mask is None else default_mask)

    def remove(self, module: Any) -> None:
        """Make the pruned parameter one of zeros and what is kept."""
        name = self._tensor_name
        weight = self.apply_mask(module).detach()
        original = module._parameters.pop(name + "_orig")
        del module._buffers[name + "_mask"]
        vars(module).pop(name, None)
        original.data = weight
        setattr(module, name, original)


def _prunes(hook: Any, name: str | None = None) -> bool:
    return isinstance(hook, BasePruningMethod) and name in (None, hook._tensor_name)


def _joined(known: BasePruningMethod, method: BasePruningMethod) -> PruningContainer:
    container = PruningContainer(*known) if isinstance(known, PruningContainer) else PruningContainer(known)
    container.add_pruning_method(method)
    return container


class PruningContainer(BasePruningMethod):
    """Methods one after another: each prunes what those before it have kept."""

    def __init__(self, *args: BasePruningMethod) -> None:
        self._methods: list[BasePruningMethod] = []
        for method in args:
            self._tensor_name = method._tensor_name
            self.add_pruning_method(method)

    def add_pruning_method(self, method: BasePruningMethod | None) -> None:
        """TypeError for what is no method, ValueError for one of another parameter."""
        if method is None:
            return
        if not isinstance(method, BasePruningMethod):
            raise TypeError(f"{type(method)} is not a BasePruningMethod subclass")
        if method._tensor_name != self._tensor_name:
            raise ValueError(
                f"Can only add pruning methods acting on the parameter named '{self._tensor_name}' to PruningContainer; found '{method._tensor_name}'"
            )
        self._methods.append(method)

    def __len__(self) -> int:
        return len(self._methods)

    def __iter__(self) -> Iterator[BasePruningMethod]:
        return iter(self._methods)

    def __getitem__(self, idx: int) -> BasePruningMethod:
        return self._methods[idx]

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask after the last method, those before having led to `default_mask`."""
        method, mask = self._methods[-1], default_mask.to(t.dtype)
        if method.PRUNING_TYPE == "global":
            return method.compute_mask(t, mask)
        if method.PRUNING_TYPE == "unstructured":
            seen: Any = mask == 1
        elif method.PRUNING_TYPE == "structured":
            dim = method.dim % t.dim()  # type: ignore[attr-defined]
            channels = mask.transpose(0, dim).flatten(1).sum(1) != 0
            seen = (slice(None),) * dim + (channels,)
        else:
            raise ValueError(
                f"Unrecognized PRUNING_TYPE {method.PRUNING_TYPE} of {type(method).__name__}: it is 'unstructured', 'structured' or 'global'"
            )
        mask = mask.clone()
        mask[seen] = method.compute_mask(t[seen], mask[seen])
        return mask


class Identity(BasePruningMethod):
    """Prunes nothing, and gives a parameter its mask."""

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        return default_mask


class CustomFromMask(BasePruningMethod):
    """Prunes by a given mask."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        if default_mask.shape != self.mask.shape:
            raise AssertionError(f"the mask has shape {tuple(self.mask.shape)}, and what it is for {tuple(default_mask.shape)}")
        return default_mask * self.mask.to(default_mask.dtype)


class _Some(BasePruningMethod):
    """Prunes a number of elements or channels, or a share of them."""

    def __init__(self, amount: Any) -> None:
        if not isinstance(amount, numbers.Real):
            raise TypeError(f"Invalid type for amount: {amount}. Must be int or float.")
        amount = int(amount) if isinstance(amount, numbers.Integral) else float(amount)
        if amount < 0 or (isinstance(amount, float) and amount > 1):
            raise ValueError(f"amount={amount} should either be a float in the range [0, 1] or a non-negative integer")
        self.amount: Any = amount

    def of(self, number: int, what: str) -> int:
        """How many of so many."""
        amount = self.amount
        if not isinstance(amount, int):
            return round(amount * number)
        if amount > number:
            raise ValueError(f"amount={amount} should be smaller than the number of {what} to prune={number}")
        return amount


class _Elements(_Some):
    def importance(self, t: Tensor) -> Tensor:
        raise NotImplementedError

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        count = self.of(t.numel(), "parameters")
        mask = default_mask.clone().reshape(-1)
        if count:
            mask[self.importance(t).reshape(-1).topk(count, largest=False).indices] = 0
        return mask.reshape(default_mask.shape)


class RandomUnstructured(_Elements):
    """Prunes elements at random. amount: how many, or a share between 0.0 and 1.0."""

    def importance(self, t: Tensor) -> Tensor:
        return torch.rand_like(t)


class L1Unstructured(_Elements):
    """Prunes the elements that are nearest to zero. amount: how many, or a share between 0.0 and 1.0."""

    def importance(self, t: Tensor) -> Tensor:
        return t.abs()


class _Channels(_Some):
    PRUNING_TYPE = "structured"

    def __init__(self, amount: Any, dim: int = -1) -> None:
        super().__init__(amount)
        self.dim = dim

    def importance(self, channels: Tensor) -> Tensor:
        """Of each row of a matrix."""
        raise NotImplementedError

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        if t.dim() <= 1:
            raise ValueError(
                "Structured pruning can only be applied to a multidimensional tensor of at least 2 dimensions, "
                f"but found tensor of shape {tuple(t.shape)} with {t.dim()} dims: use unstructured pruning"
            )
        if not -t.dim() <= self.dim < t.dim():
            raise IndexError(f"Invalid index {self.dim} for tensor of size {tuple(t.shape)}")
        dim = self.dim % t.dim()
        count = self.of(t.shape[dim], "channels")
        if count == 0:
            return default_mask
        kept = torch.ones(t.shape[dim], dtype=default_mask.dtype)
        kept[self.importance(t.transpose(0, dim).flatten(1)).topk(count, largest=False).indices] = 0
        return default_mask * kept.reshape(-1, *[1] * (t.dim() - 1 - dim))


class RandomStructured(_Channels):
    """Prunes channels at random. amount: how many, or a share between 0.0 and 1.0.  dim: along which they lie."""

    def importance(self, channels: Tensor) -> Tensor:
        return torch.rand(len(channels))


class LnStructured(_Channels):
    """Prunes the channels with the smallest norms. amount: how many, or a share between 0.0 and 1.0.  n: of the norm, as in
    `torch.norm`.  dim: along which they lie."""

    def __init__(self, amount: Any, n: Any, dim: int = -1) -> None:
        super().__init__(amount, dim)
        self.n = n

    def importance(self, channels: Tensor) -> Tensor:
        return torch.norm(channels, p=self.n, dim=1)


def identity(module: Any, name: str) -> Any:
    """Give a parameter a mask of ones. Returns the module."""
    Identity.apply(module, name)
    return module


def random_unstructured(module: Any, name: str, amount: float) -> Any:
    """Prune elements of the parameter `name` at random: so many, or a share between 0.0 and 1.0. Returns the module.

    TypeError, or ValueError, for an amount that is no such number.

    >>> import adjoint as torch
    >>> from adjoint.nn.utils import prune
    >>> layer = prune.random_unstructured(torch.nn.Linear(4, 5), "weight", amount=6)
    >>> int((layer.weight == 0).sum()), [name for name, _ in layer.named_parameters()]
    (6, ['bias', 'weight_orig'])
    """
    RandomUnstructured.apply(module, name, amount)
    return module


def l1_unstructured(module: Any, name: str, amount: float, importance_scores: Tensor | None = None) -> Any:
    """Prune the elements of the parameter `name` that are nearest to zero, or have the smallest scores: so many, or a share between
    0.0 and 1.0. Returns the module.

    importance_scores: of the parameter's shape. TypeError, or ValueError, for an amount that is no such number.

    >>> import adjoint as torch
    >>> from adjoint.nn.utils import prune
    >>> layer = torch.nn.Linear(4, 1, bias=False)
    >>> with torch.no_grad():
    ...     _ = layer.weight.copy_(torch.tensor([[3., -1., 2., -4.]]))
    >>> prune.l1_unstructured(layer, "weight", amount=0.5).weight
    tensor([[ 3., -0.,  0., -4.]], grad_fn=<MulBackward0>)
    """
    L1Unstructured.apply(module, name, amount, importance_scores=importance_scores)
    return module


def random_structured(module: Any, name: str, amount: float, dim: int) -> Any:
    """Prune channels along `dim` of the parameter `name` at random: so many, or a share between 0.0 and 1.0. Returns the module.

    ValueError for a parameter of one dimension, IndexError for a dimension it has not.
    """
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(module: Any, name: str, amount: float, n: Any, dim: int, importance_scores: Tensor | None = None) -> Any:
    """Prune the channels along `dim` of the parameter `name` that have the smallest norms: so many, or a share between 0.0 and 1.0.
    Returns the module.

    n: of the norm, as in `torch.norm`.  importance_scores: of the parameter's shape, of which the norms are taken. ValueError for a
    parameter of one dimension, IndexError for a dimension it has not.

    >>> import adjoint as torch
    >>> from adjoint.nn.utils import prune
    >>> layer = torch.nn.Linear(2, 3, bias=False)
    >>> with torch.no_grad():
    ...     _ = layer.weight.copy_(torch.tensor([[3., 1.], [1., 2.], [4., 4.]]))
    >>> prune.ln_structured(layer, "weight", amount=1, n=2, dim=0).weight_mask
    tensor([[1., 1.],
            [0., 0.],
            [1., 1.]])
    """
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def custom_from_mask(module: Any, name: str, mask: Tensor) -> Any:
    """Prune the parameter `name` where a mask of its shape has zeros. Returns the module."""
    CustomFromMask.apply(module, name, mask)
    return module


def global_unstructured(
    parameters: Iterable[tuple[Any, str]],
    pruning_method: type[BasePruningMethod],
    importance_scores: Mapping[tuple[Any, str], Tensor] | None = None,
    **kwargs: Any,
) -> None:
    """Prune the elements of several parameters, given as (module, name), as if they were those of one.

    pruning_method: a class for single elements, such as `L1Unstructured`, made with `kwargs`.  importance_scores: by (module, name);
    by default the values. TypeError for what is neither, or a method for channels.

    >>> import adjoint as torch
    >>> from adjoint.nn.utils import prune
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    >>> prune.global_unstructured([(net[0], "weight"), (net[1], "weight")], prune.L1Unstructured, amount=0.25)
    >>> sum(int((layer.weight == 0).sum()) for layer in net)
    5
    """
    if not isinstance(parameters, Iterable) or not (chosen := [*parameters]):
        raise TypeError("global_unstructured(): parameters is a list of (module, name), with one at least")
    scores = {} if importance_scores is None else importance_scores
    if not isinstance(scores, Mapping):
        raise TypeError("global_unstructured(): importance_scores is a dictionary from (module, name) to tensors")
    method = pruning_method(**kwargs)
    if method.PRUNING_TYPE != "unstructured":
        raise TypeError(
            f'Only "unstructured" PRUNING_TYPE supported for the `pruning_method`. Found method {pruning_method} of type {method.PRUNING_TYPE}'
        )
    importance = [scores.get((module, name), getattr(module, name)).detach() for module, name in chosen]
    masks = [getattr(module, name + "_mask", torch.ones_like(getattr(module, name))) for module, name in chosen]
    method._tensor_name = "all of them"
    container = PruningContainer(method)
    mask = container.compute_mask(torch.cat([t.reshape(-1) for t in importance]), torch.cat([m.reshape(-1) for m in masks]))
    for (module, name), part, old in zip(chosen, mask.split([m.numel() for m in masks]), masks, strict=True):
        custom_from_mask(module, name, part.reshape(old.shape))


def remove(module: Any, name: str) -> Any:
    """Make a pruned parameter an ordinary one again, which has zeros where it was pruned. Returns the module.

    ValueError for a parameter that is not pruned.
    """
    for key, hook in list(module._forward_pre_hooks.items()):
        if _prunes(hook.call, name):
            hook.call.remove(module)
            del module._forward_pre_hooks[key]
            return module
    raise ValueError(f"Parameter '{name}' of module {module} has to be pruned before pruning can be removed")


def is_pruned(module: Module) -> bool:
    """Whether a parameter of the module, or of one below it, is pruned.

    >>> import adjoint as torch
    >>> from adjoint.nn.utils import prune
    >>> layer = torch.nn.Linear(2, 2)
    >>> prune.is_pruned(layer), prune.is_pruned(prune.identity(layer, "weight"))
    (False, True)
    """
    return any(_prunes(hook.call) for part in module.modules() for hook in part._forward_pre_hooks.values())
