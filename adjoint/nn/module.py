"""`Module`: the base class of everything that owns parameters.

Structures owned here: the dictionaries of a module (`_parameters`, `_buffers`, `_modules`, and the
tables of hooks); what of them is saved, and how, is in `stateful.py`. Read `Module.__setattr__` first: it decides in
which dictionary an attribute lives; every walk (`named_parameters`, `state_dict`, `apply`, `to`) is then a loop over those
dictionaries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Self

import adjoint as torch
from adjoint.autograd.engine import zero_gradient
from adjoint.autograd.hooks import RemovableHandle, add_hook
from adjoint.methods import Parameter, Tensor
from adjoint.nn.parameter import Buffer
from adjoint.nn.stateful import IncompatibleKeys, Stateful

__all__ = ["IncompatibleKeys", "Module"]


class _Hook(NamedTuple):
    call: Callable[..., Any]
    with_kwargs: bool
    always: bool = False


def _indent(text: str, spaces: int) -> str:
    first, *rest = text.split("\n")
    return "\n".join([first, *(" " * spaces + line for line in rest)])


class Module(Stateful):
    """Base class of layers and models: a tree of modules that own parameters and buffers.

    Subclasses call `super().__init__()` first, assign parameters and sub-modules as attributes, and
    define `forward`. Calling the module runs `forward` and the forward hooks.

    >>> import adjoint as torch
    >>> class Line(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.slope = torch.nn.Parameter(torch.tensor(2.0))
    ...     def forward(self, x):
    ...         return self.slope * x
    >>> Line()(torch.tensor(3.0)).item()
    6.0
    >>> [name for name, _ in Line().named_parameters()]
    ['slope']
    """

    training: bool
    # Each value may also be None, for a name that is reserved.
    _parameters: dict[str, Any]
    _buffers: dict[str, Any]
    _modules: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args or kwargs:
            raise TypeError(
                f"{type(self).__name__}.__init__() passed arguments on to Module.__init__(), which takes none"
            )
        # Written past __setattr__, which needs the dictionaries to exist.
        vars(self).update(
            training=True,
            _parameters={},
            _buffers={},
            _non_persistent_buffers_set=set(),
            _modules={},
            _forward_hooks={},
            _forward_pre_hooks={},
            _backward_hooks={},
            _state_dict_pre_hooks={},
            _state_dict_hooks={},
            _load_state_dict_pre_hooks={},
            _load_state_dict_post_hooks={},
        )

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The computation of the module; every subclass defines it."""
        raise NotImplementedError(
            f'Module [{type(self).__name__}] is missing the required "forward" function'
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._forward_hooks or self._forward_pre_hooks or self._backward_hooks:
            return self._call_with_hooks(args, kwargs)
        return self.forward(*args, **kwargs)

    def _call_with_hooks(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        finished: set[int] = set()
        out = None
        try:
            for hook in list(self._forward_pre_hooks.values()):
                args, kwargs = self._run_pre_hook(hook, args, kwargs)
            watched = None
            if self._backward_hooks:
                from adjoint.nn.backward_hooks import Watched  # few modules have any

                watched = Watched(self, list(self._backward_hooks.values()))
                args = watched.enter(args)
            out = self.forward(*args, **kwargs)
            for key, hook in list(self._forward_hooks.items()):
                finished.add(key)
                changed = (
                    hook.call(self, args, kwargs, out)
                    if hook.with_kwargs
                    else hook.call(self, args, out)
                )
                out = out if changed is None else changed
            return out if watched is None else watched.leave(out)
        except Exception:
            # A hook that asked to run always also sees a failed call; the first error stays the one raised.
            for key, hook in list(self._forward_hooks.items()):
                if hook.always and key not in finished:
                    (
                        hook.call(self, args, kwargs, out)
                        if hook.with_kwargs
                        else hook.call(self, args, out)
                    )
            raise

    def _run_pre_hook(
        self, hook: _Hook, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if hook.with_kwargs:
            changed = hook.call(self, args, kwargs)
            if changed is None:
                return args, kwargs
            if not (isinstance(changed, tuple) and len(changed) == 2):
                raise RuntimeError(
                    "forward pre-hook must return None or a tuple of (new_args, new_kwargs), "
                    f"but got {changed!r}"
                )
            return changed
        changed = hook.call(self, args)
        if changed is None:
            return args, kwargs
        return (changed if isinstance(changed, tuple) else (changed,)), kwargs

    # ---- attributes: which dictionary a name lives in --------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        own = vars(self)
        tables = (own.get("_parameters"), own.get("_modules"), own.get("_buffers"))
        if isinstance(value, Parameter):
            if tables[0] is None:
                raise AttributeError("cannot assign parameters before Module.__init__() call")
            if name not in tables[0]:
                self._forget(name)
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            if tables[1] is None:
                raise AttributeError("cannot assign module before Module.__init__() call")
            if name not in tables[1]:
                self._forget(name)
            tables[1][name] = value
        elif isinstance(value, Buffer):
            if tables[2] is None:
                raise AttributeError("cannot assign buffer before Module.__init__() call")
            if name not in tables[2]:
                self._forget(name)
            self.register_buffer(name, value, value.persistent)
        elif tables[0] is not None and name in tables[0]:
            if value is not None:
                raise TypeError(
                    f"cannot assign '{_type_name(value)}' as parameter '{name}' (torch.nn.Parameter or None expected)"
                )
            self.register_parameter(name, None)
        elif tables[1] is not None and name in tables[1]:
            if value is not None:
                raise TypeError(
                    f"cannot assign '{_type_name(value)}' as child module '{name}' (torch.nn.Module or None expected)"
                )
            tables[1][name] = None
        elif tables[2] is not None and name in tables[2]:
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(
                    f"cannot assign '{_type_name(value)}' as buffer '{name}' (torch.Tensor or None expected)"
                )
            tables[2][name] = value
        else:
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        # Reached only when the ordinary look-up failed, which is how parameters are always found.
        own = vars(self)
        try:
            return own["_parameters"][name]
        except KeyError:
            pass
        for table in ("_modules", "_buffers"):
            if table in own and name in own[table]:
                return own[table][name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __delattr__(self, name: str) -> None:
        for table in (self._parameters, self._buffers, self._modules):
            if name in table:
                del table[name]
                self._non_persistent_buffers_set.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        names = {*object.__dir__(self), *self._parameters, *self._buffers, *self._modules}
        return sorted(name for name in names if name.isidentifier())

    def _forget(self, name: str) -> None:
        """Drop `name` wherever it lives, so that it lives in one place only."""
        own = vars(self)
        for table in (own, own["_parameters"], own["_buffers"], own["_modules"]):
            table.pop(name, None)
        own["_non_persistent_buffers_set"].discard(name)

    def _check_name(self, kind: str, name: Any, table: Mapping[str, Any]) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {_type_name(name)}")
        if "." in name:
            raise KeyError(f'{kind} name can\'t contain ".", got: {name}')
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""')
        if hasattr(self, name) and name not in table:
            raise KeyError(f"attribute '{name}' already exists")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Make `param` a parameter called `name`; None keeps the name for "there is none".

        Raises KeyError for a bad or taken name, TypeError for anything but a Parameter, ValueError for
        a parameter that was itself computed (has a `grad_fn`).
        """
        if "_parameters" not in vars(self):
            raise AttributeError("cannot assign parameter before Module.__init__() call")
        self._check_name("parameter", name, self._parameters)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"cannot assign '{_type_name(param)}' object to parameter '{name}' "
                "(torch.nn.Parameter or None required)"
            )
        if param is not None and param.grad_fn is not None:
            raise ValueError(
                f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be created "
                f"explicitly. To express '{name}' as a function of another Tensor, compute the value in "
                "the forward() method."
            )
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Keep a tensor that is state but no parameter (a running mean); saved if `persistent`."""
        if "_buffers" not in vars(self):
            raise AttributeError("cannot assign buffer before Module.__init__() call")
        self._check_name("buffer", name, self._buffers)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign '{_type_name(tensor)}' object to buffer '{name}' (torch Tensor or None required)"
            )
        self._buffers[name] = tensor
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Make `module` a child called `name`."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{_type_name(module)} is not a Module subclass")
        self._check_name("module", name, self._modules)
        self._modules[name] = module

    register_module = add_module

    # ---- walks -----------------------------------------------------------------------------------

    def named_modules(
        self, memo: set[int] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all below it, depth first, with dotted names; a shared module appears once."""
        memo = set() if memo is None else memo
        if id(self) in memo:
            return
        if remove_duplicate:
            memo.add(id(self))
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                path = f"{prefix}.{name}" if prefix else name
                yield from module.named_modules(memo, path, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        seen: set[int] = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        return (module for _, module in self.named_children())

    def _named_members(
        self,
        get_members_fn: Callable[[Module], Iterable[tuple[str, Any]]],
        prefix: str = "",
        recurse: bool = True,
        remove_duplicate: bool = True,
    ) -> Iterator[tuple[str, Any]]:
        """What a function says of this module, and of all below it, under dotted names."""
        seen: set[int] = set()
        modules = (
            self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
            if recurse
            else [(prefix, self)]
        )
        for path, module in modules:
            for name, member in get_members_fn(module):
                if member is None or id(member) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(member))
                yield (f"{path}.{name}" if path else name), member

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Dotted names and parameters, in the order of registration; a shared parameter appears once."""
        return self._named_members(lambda m: m._parameters.items(), prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (param for _, param in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        return self._named_members(lambda m: m._buffers.items(), prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted path; AttributeError names the step that is missing."""
        module: Any = self
        for step in target.split(".") if target else ():
            if not hasattr(module, step):
                raise AttributeError(f"{type(module).__name__} has no attribute `{step}`")
            module = getattr(module, step)
            if not isinstance(module, Module):
                raise AttributeError(f"`{step}` is not an nn.Module")
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted path."""
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
        param = getattr(module, name)
        if not isinstance(param, Parameter):
            raise AttributeError(f"`{name}` is not an nn.Parameter")
        return param

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a dotted path."""
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
        if name not in module._buffers:
            raise AttributeError(f"`{name}` is not a buffer")
        return getattr(module, name)

    # ---- changing all of it ----------------------------------------------------------------------

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` on every module, children first, and return self; usual for initialisation."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def _convert(self, convert: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        for module in self.modules() if recurse else (self,):
            for param in module._parameters.values():
                if param is not None:
                    grad = param.grad
                    param.grad = None  # a gradient must not outlive the dtype it was computed in
                    param.data = convert(param.data)
                    if grad is not None:
                        param.grad = convert(grad)
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = convert(buffer)
        return self

    def to(
        self,
        *args: Any,
        dtype: Any = None,
        device: Any = None,
        non_blocking: bool = False,
        memory_format: Any = None,
    ) -> Self:
        """Convert parameters and buffers in place: `to(dtype)`, `to(device)`, `to(device, dtype)`, `to(tensor)`.

        Only floating-point members change dtype, as indices and counters must stay integers. A
        `memory_format` changes nothing: parameters lie in row-major order. Raises TypeError for an
        integer dtype.

        >>> import adjoint as torch
        >>> torch.nn.Linear(2, 1).to(torch.float64).weight.dtype
        torch.float64
        """
        for given in args:
            if isinstance(given, Tensor):
                dtype, device = given.dtype, given.device
            elif isinstance(given, torch.dtype):
                dtype = given
            elif isinstance(given, bool):
                pass  # non_blocking, which means nothing on one device
            elif given is not None:
                device = given
        if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
            raise TypeError(
                f"nn.Module.to only accepts floating point or complex dtypes, but got desired dtype={dtype}"
            )

        def convert(t: Tensor) -> Tensor:
            if device is not None:
                t = t.to(device)
            return t.to(dtype) if dtype is not None and (t.is_floating_point() or t.is_complex()) else t

        return self._convert(convert)

    def float(self) -> Self:
        return self.to(dtype=torch.float32)

    def double(self) -> Self:
        return self.to(dtype=torch.float64)

    def half(self) -> Self:
        return self.to(dtype=torch.float16)

    def bfloat16(self) -> Self:
        return self.to(dtype=torch.bfloat16)

    def cpu(self) -> Self:
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Self:
        """Refused where there are parameters or buffers, as `Tensor.cuda` is: there is no GPU."""
        return self._convert(lambda t: t.cuda(device))

    def xpu(self, device: Any = None) -> Self:
        """Refused where there are parameters or buffers."""
        return self._convert(lambda t: t.to("xpu"))

    def type(self, dst_type: Any) -> Self:
        """All parameters and buffers, integers too, in another dtype.

        >>> import adjoint as torch
        >>> torch.nn.Linear(1, 1).type(torch.float64).weight.dtype
        torch.float64
        """
        return self._convert(lambda t: t.type(dst_type))

    def to_empty(self, *, device: Any, recurse: bool = True) -> Self:
        """With memory of their own for all parameters and buffers, whose values are lost; the device is the CPU."""
        return self._convert(lambda t: torch.empty_like(t, device=device), recurse)

    def share_memory(self) -> Self:
        """Parameters and buffers in memory that other processes see (`Tensor.share_memory_`)."""
        return self._convert(lambda t: t.share_memory_())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """By the name that subclasses override and programs call in PyTorch."""
        return self._convert(fn, recurse)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Have `forward` go through `torch.compile` from now on, with its arguments.

        >>> import adjoint as torch
        >>> layer = torch.nn.Linear(1, 1)
        >>> layer.compile()
        >>> layer(torch.ones(1, 1)).shape
        torch.Size([1, 1])
        """
        self.forward = torch.compile(self.forward, *args, **kwargs)  # type: ignore[method-assign]

    def train(self, mode: bool = True) -> Self:
        """Training mode on or off, for this module and all below it (dropout and batch norm look at it)."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freeze or unfreeze all parameters."""
        for param in self.parameters():
            param.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or with `set_to_none=False` fill them with zeros, where they lie."""
        for param in self.parameters():
            if param.grad is None:
                continue
            if set_to_none:
                param.grad = None
            else:
                zero_gradient(param)

    # ---- hooks -----------------------------------------------------------------------------------

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args)` before `forward`; what it returns, if anything, replaces the arguments."""
        return add_hook(self._forward_pre_hooks, _Hook(hook, with_kwargs), prepend)

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Call `hook(module, args, output)` after `forward`; what it returns, if anything, replaces the output."""
        return add_hook(self._forward_hooks, _Hook(hook, with_kwargs, always_call), prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_input, grad_output)` when backward has come to the positional arguments of a call.

        Both are tuples with one gradient for each argument and each result: None for what is no tensor and for a
        result that has none, zeros for a tensor among the arguments that has none. What the hook returns, if
        anything, replaces `grad_input` and goes on to what made the arguments; the gradients of parameters stay.
        Where no argument requires grad the hook runs with the gradients of the results and may change nothing
        (RuntimeError), as it may not return another number of gradients. Arguments and results pass through an
        identity; a module with such a hook must not change an argument in place.

        >>> import adjoint as torch
        >>> layer = torch.nn.ReLU()
        >>> handle = layer.register_full_backward_hook(lambda module, grad_in, grad_out: (grad_in[0] * 2,))
        >>> x = torch.tensor([1.0, -1.0], requires_grad=True)
        >>> layer(x).sum().backward()
        >>> x.grad
        tensor([2., 0.])
        """
        return add_hook(self._backward_hooks, (False, hook), prepend)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_output)` when backward has come to the results of a call, before it goes through the module.

        What it returns, if anything, replaces the gradients; RuntimeError if their number is another one.

        >>> import adjoint as torch
        >>> layer = torch.nn.Linear(2, 1, bias=False)
        >>> handle = layer.register_full_backward_pre_hook(lambda module, grad_out: (grad_out[0] * 0,))
        >>> layer(torch.ones(1, 2)).sum().backward()
        >>> layer.weight.grad
        tensor([[0., 0.]])
        """
        return add_hook(self._backward_hooks, (True, hook), prepend)

    # ---- printing --------------------------------------------------------------------------------

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What stands between the parentheses of the printed module."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): {_indent(repr(child), 2)}" for name, child in self._modules.items()]
        if not children and len(lines) <= 1:
            return f"{self._get_name()}({extra})"
        return f"{self._get_name()}(\n  " + "\n  ".join(lines + children) + "\n)"


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
