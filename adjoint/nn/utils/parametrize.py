"""Parameters that are functions of other ones: `torch.nn.utils.parametrize` by name.

`register_parametrization` replaces a parameter or buffer by a property that computes it, from what now lies below
`module.parametrizations`. The property lives in a class made for that module alone. Read it first; `ParametrizationList`
holds what is computed from.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import adjoint as torch
from adjoint.methods import Parameter, Tensor
from adjoint.nn.containers import ModuleDict, ModuleList
from adjoint.nn.module import Module
from adjoint.nn.recurrent import GRU, LSTM, RNN

__all__ = [
    "ParametrizationList",
    "cached",
    "is_parametrized",
    "register_parametrization",
    "remove_parametrizations",
    "type_before_parametrizations",
]

_cached: dict[tuple[int, str], Any] | None = None
_depth = 0


@contextlib.contextmanager
def cached() -> Iterator[None]:
    """Inside, every parametrized tensor is computed once, at its first use, and kept until the outermost block ends.

    >>> import adjoint as torch
    >>> layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 3))
    >>> with torch.nn.utils.parametrize.cached():
    ...     layer.weight is layer.weight
    True
    >>> layer.weight is layer.weight
    False
    """
    global _cached, _depth
    if _cached is None:
        _cached = {}
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if not _depth:
            _cached = None


def _keep(owner: Module, name: str, value: Tensor) -> None:
    if isinstance(value, Parameter):
        owner.register_parameter(name, value)
    else:
        owner.register_buffer(name, value)


def _put(place: Tensor, value: Tensor) -> None:
    """Another value for a tensor, of any shape."""
    if value is not place:
        place.data = value.detach().clone()


class ParametrizationList(ModuleList):
    """The chain of parametrizations of one tensor, and what it is computed from: `original`, or `original0`, `original1`, ...

    modules are called in order, the first with the originals. Made by `register_parametrization`.
    """

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False) -> None:
        if not modules:
            raise ValueError("ParametrizationList requires one or more modules.")
        super().__init__(modules)
        self.unsafe = unsafe
        shape, dtype = tuple(original.shape), original.dtype
        new: Any = original
        with torch.no_grad():
            for module in reversed(list(self)):
                if hasattr(module, "right_inverse"):
                    with contextlib.suppress(NotImplementedError):
                        new = module.right_inverse(new)
        if not isinstance(new, (Tensor, list, tuple)):
            raise ValueError(f"'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). Got {type(new).__name__}")
        self.is_tensor = isinstance(new, Tensor)
        self.ntensors = 1 if isinstance(new, Tensor) else len(new)
        if isinstance(new, Tensor):
            if new.dtype is not dtype:
                raise ValueError(
                    "When `right_inverse` outputs one tensor, it may not change the dtype.\n"
                    f"original.dtype: {dtype}\nright_inverse(original).dtype: {new.dtype}"
                )
            _put(original, new)
            _keep(self, "original", original)
        else:
            for k, part in enumerate(new):
                if not isinstance(part, Tensor):
                    raise ValueError(
                        "'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). "
                        f"Got element {k} of the sequence with type {type(part).__name__}."
                    )
                part = part.detach().clone()
                if isinstance(original, Parameter):
                    part = Parameter(part, original.requires_grad)
                _keep(self, f"original{k}", part)
        if not unsafe:
            made = self()
            if not isinstance(made, Tensor):
                raise ValueError(f"A parametrization must return a tensor. Got {type(made).__name__}.")
            _check_same("dtype", dtype, made.dtype)
            _check_same("shape", shape, tuple(made.shape))

    def originals(self) -> list[Tensor]:
        """What the tensor is computed from."""
        names = ["original"] if self.is_tensor else [f"original{k}" for k in range(self.ntensors)]
        return [getattr(self, name) for name in names]

    def right_inverse(self, value: Tensor) -> None:
        """Change the originals so that the parametrized tensor becomes `value`, by the modules' `right_inverse`.

        Raises RuntimeError for a module without one, ValueError if it gives other dtypes or another number of tensors.
        """
        made: Any = value
        with torch.no_grad():
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(f"parametrization {type(module).__name__} does not implement right_inverse.")
                made = module.right_inverse(made)
        parts = [made] if self.is_tensor else list(made)
        if len(parts) != self.ntensors:
            raise ValueError(
                f"'right_inverse' must return a sequence of tensors of length {self.ntensors}. Got a sequence of length {len(parts)}."
            )
        for place, part in zip(self.originals(), parts, strict=True):
            if not isinstance(part, Tensor) or part.dtype is not place.dtype:
                found = part.dtype if isinstance(part, Tensor) else type(part).__name__
                raise ValueError(f"The tensor returned by `right_inverse` has dtype {found} while the original has dtype {place.dtype}")
            _put(place, part)

    def forward(self) -> Tensor:
        first, *later = self
        value = first(*self.originals())
        for module in later:
            value = module(value)
        return value


def _check_same(what: str, before: Any, after: Any) -> None:
    if before != after:
        raise ValueError(
            f"Registering a parametrization may not change the {what} of the tensor, unless `unsafe` flag is enabled.\n"
            f"unparametrized {what}: {before}\nparametrized {what}: {after}"
        )


def _property(name: str) -> property:
    def get(self: Any) -> Tensor:
        if _cached is None:
            return self.parametrizations[name]()
        key = id(self), name
        if key not in _cached:
            _cached[key] = self.parametrizations[name]()
        return _cached[key]

    def put(self: Any, value: Tensor) -> None:
        self.parametrizations[name].right_inverse(value)

    return property(get, put)


def type_before_parametrizations(module: Module) -> type:
    """The class a module had before anything in it was parametrized.

    >>> import adjoint as torch
    >>> layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 3))
    >>> type(layer).__name__, torch.nn.utils.parametrize.type_before_parametrizations(layer).__name__
    ('ParametrizedLinear', 'Linear')
    """
    return getattr(type(module), "_parametrizes", type(module))


def _give_class(module: Any) -> None:
    """A class of its own, with a property for everything that is parametrized; the old class if nothing is."""
    plain = type_before_parametrizations(module)
    names = list(vars(module)["_modules"].get("parametrizations", ()))
    if not names:
        module.__class__ = plain
        return
    entries = {"_parametrizes": plain, "__module__": plain.__module__, "__doc__": plain.__doc__}
    module.__class__ = type(f"Parametrized{plain.__name__}", (plain,), entries | {name: _property(name) for name in names})


def register_parametrization(module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False) -> Module:
    """Let `module.<tensor_name>` be `parametrization` of what it was, from now on and at every use; returns the module.

    A second one is applied to the result of the first. If the parametrization has a method `right_inverse`, it is given the
    tensor and says what to store (one tensor, or several, which become its arguments); `module.<name> = value` asks it, too.
    Unless `unsafe`, shape and dtype must stay.

    Raises ValueError for a name that is neither parameter nor buffer, for a right inverse that does not fit, and for a change
    of shape or dtype; NotImplementedError for RNN, LSTM and GRU, which would compute the tensor at every step.

    >>> import adjoint as torch
    >>> class Symmetric(torch.nn.Module):
    ...     def forward(self, x):
    ...         return x.triu() + x.triu(1).T
    >>> layer = torch.nn.Linear(3, 3)
    >>> _ = torch.nn.utils.parametrize.register_parametrization(layer, "weight", Symmetric())
    >>> bool((layer.weight == layer.weight.T).all())
    True
    >>> [name for name, _ in layer.named_parameters()]
    ['bias', 'parametrizations.weight.original']
    """
    if isinstance(module, (RNN, LSTM, GRU)):
        raise NotImplementedError(f"{type(module).__name__} reads its weights at every step: parametrize a cell (LSTMCell, ...) instead")
    parametrization.train(module.training)
    tables = vars(module)
    if is_parametrized(module, tensor_name):
        chain: Any = module.parametrizations[tensor_name]
        if not unsafe:
            before = getattr(module, tensor_name)
            after = parametrization(before)
            if not isinstance(after, Tensor):
                raise ValueError(f"A parametrization must return a tensor. Got {type(after).__name__}.")
            _check_same("dtype", before.dtype, after.dtype)
            _check_same("shape", tuple(before.shape), tuple(after.shape))
            if hasattr(parametrization, "right_inverse"):
                with torch.no_grad():
                    inverse = parametrization.right_inverse(after)
                if not isinstance(inverse, Tensor):
                    raise ValueError(f"parametrization.right_inverse must return a tensor. Got: {type(inverse).__name__}")
                _check_same("dtype", before.dtype, inverse.dtype)
        chain.append(parametrization)
        chain.unsafe |= unsafe
        return module
    table = next((tables[t] for t in ("_parameters", "_buffers") if tables[t].get(tensor_name) is not None), None)
    if table is None:
        raise ValueError(f"Module '{module}' does not have a parameter, a buffer, or a parametrized element with name '{tensor_name}'")
    chain = ParametrizationList([parametrization], table[tensor_name], unsafe=unsafe)
    chain.train(module.training)
    del table[tensor_name]
    if "parametrizations" not in tables["_modules"]:
        module.add_module("parametrizations", ModuleDict())
    module.parametrizations[tensor_name] = chain
    _give_class(module)
    return module


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether a tensor of this name, or anything, in the module is parametrized.

    >>> import adjoint as torch
    >>> torch.nn.utils.parametrize.is_parametrized(torch.nn.Linear(2, 3))
    False
    """
    chains = vars(module)["_modules"].get("parametrizations")
    if not isinstance(chains, ModuleDict):
        return False
    return len(chains) > 0 if tensor_name is None else tensor_name in chains


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Make a parametrized tensor a parameter or buffer again: with its present value, or else with its original.

    Raises ValueError if it is not parametrized, or for `leave_parametrized=False` where there are several originals.

    >>> import adjoint as torch
    >>> layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 3))
    >>> _ = torch.nn.utils.parametrize.remove_parametrizations(layer, "weight")
    >>> sorted(name for name, _ in layer.named_parameters())
    ['bias', 'weight']
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"Module {module} does not have a parametrization on {tensor_name}")
    chain = module.parametrizations[tensor_name]
    first = chain.originals()[0]
    if chain.is_tensor:
        kept = first
        if leave_parametrized:
            with torch.no_grad():
                _put(kept, getattr(module, tensor_name))
    elif leave_parametrized:
        with torch.no_grad():
            value = getattr(module, tensor_name).detach().clone()
        kept = Parameter(value, first.requires_grad) if isinstance(first, Parameter) else value
    else:
        raise ValueError("Cannot leave unparametrized (`leave_parametrized=False`) a tensor that is parametrized in terms of a sequence of tensors.")
    del module.parametrizations[tensor_name]
    if not len(module.parametrizations):
        del module._modules["parametrizations"]
    _give_class(module)
    _keep(module, tensor_name, kept)
    return module
