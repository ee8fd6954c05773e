"""`state_dict` and `load_state_dict` of modules, with the hooks around them.

`Stateful` is the part of `Module` that saves and loads: a walk over the tree of modules, each of which writes or reads its
own entries (`_save_to_state_dict`, `_load_from_state_dict`, which a class may override) between hooks. Read `state_dict` first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import adjoint as torch
from adjoint.autograd.hooks import RemovableHandle, add_hook
from adjoint.methods import Parameter, Tensor
from adjoint.nn.parameter import is_lazy

EXTRA = "_extra_state"  # under this name a module's `get_extra_state` is saved


class IncompatibleKeys(NamedTuple):
    """What `Module.load_state_dict` found: keys it wanted in vain, and keys it did not know."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


class Stateful:
    """What of a module is saved, and how it is loaded."""

    _version: int | None = 1  # of a class's entries, written into the metadata of a state dict
    _parameters: dict[str, Any]
    _buffers: dict[str, Any]
    _modules: dict[str, Any]
    _non_persistent_buffers_set: set[str]
    _state_dict_pre_hooks: dict[int, Callable[..., Any]]
    _state_dict_hooks: dict[int, tuple[Callable[..., Any], bool]]
    _load_state_dict_pre_hooks: dict[int, tuple[Callable[..., Any], bool]]
    _load_state_dict_post_hooks: dict[int, Callable[..., Any]]

    # ---- saving --------------------------------------------------------------------------------------------------------

    def state_dict(self, *, destination: dict[str, Any] | None = None, prefix: str = "", keep_vars: bool = False) -> dict[str, Any]:
        """All parameters and persistent buffers under their dotted names; they share memory with the module.

        >>> import adjoint as torch
        >>> list(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU()).state_dict())
        ['0.weight', '0.bias']
        """
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()  # type: ignore[attr-defined]  # under this name, as others look it up
        about = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = about
        for hook in list(self._state_dict_pre_hooks.values()):
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook, may_replace in list(self._state_dict_hooks.values()):
            result = hook(self, destination, prefix, about)
            if result is not None:
                if not may_replace:
                    raise RuntimeError("state_dict post-hook must return None; it changes the state dict in place")
                destination = result
        return destination

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """Write what this module itself owns."""
        for name, param in self._parameters.items():
            if param is not None:
                destination[prefix + name] = param if keep_vars or is_lazy(param) else param.detach()
        for name, buffer in self._buffers.items():
            if buffer is not None and name not in self._non_persistent_buffers_set:
                destination[prefix + name] = buffer if keep_vars or is_lazy(buffer) else buffer.detach()
        if type(self).get_extra_state is not Stateful.get_extra_state:
            destination[prefix + EXTRA] = self.get_extra_state()

    def get_extra_state(self) -> Any:
        """What else is to be saved with the module; a class that defines it defines `set_extra_state`, too."""
        raise RuntimeError("get_extra_state() was called on a module that does not define it")

    def set_extra_state(self, state: Any) -> None:
        """Take back what `get_extra_state` gave."""
        raise RuntimeError("set_extra_state() was called on a module that does not define it")

    # ---- loading -------------------------------------------------------------------------------------------------------

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> IncompatibleKeys:
        """Copy a `state_dict` into the module (or, with `assign`, take over its tensors).

        Raises RuntimeError listing every key of a wrong shape and, if `strict`, every missing or
        unexpected key; returns those keys otherwise.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        metadata = getattr(state_dict, "_metadata", None) or {}
        missing: list[str] = []
        unexpected: list[str] = []
        errors: list[str] = []

        def load(module: Stateful, state: dict[str, Any], prefix: str) -> None:
            about = dict(metadata.get(prefix[:-1], {}))
            if assign:
                about["assign_to_params_buffers"] = True
            module._load_from_state_dict(state, prefix, about, True, missing, unexpected, errors)
            for name, child in module._modules.items():
                if child is not None:
                    inside = f"{prefix}{name}."
                    # what its hooks rename is its own affair
                    load(child, {key: value for key, value in state.items() if key.startswith(inside)}, inside)
            found = IncompatibleKeys(missing, unexpected)
            for hook in list(module._load_state_dict_post_hooks.values()):
                if hook(module, found) is not None:
                    raise AssertionError(
                        "hooks registered with register_load_state_dict_post_hook must return None; they change the lists of keys in place"
                    )

        load(self, OrderedDict(state_dict), "")
        if strict and unexpected:
            errors.insert(0, f"Unexpected key(s) in state_dict: {_quoted(unexpected)}. ")
        if strict and missing:
            errors.insert(0, f"Missing key(s) in state_dict: {_quoted(missing)}. ")
        if errors:
            lines = "\n\t".join(errors)
            raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t{lines}")
        return IncompatibleKeys(missing, unexpected)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Read what this module itself owns; an override may rename entries first, then calls this one."""
        for hook, with_module in list(self._load_state_dict_pre_hooks.values()):
            who = (self,) if with_module else ()
            hook(*who, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        own = {name: p for name, p in self._parameters.items() if p is not None}
        own |= {name: b for name, b in self._buffers.items() if b is not None and name not in self._non_persistent_buffers_set}
        for name, mine in own.items():
            key = prefix + name
            if key in state_dict:
                self._load_entry(key, name, mine, state_dict[key], bool(local_metadata.get("assign_to_params_buffers")), error_msgs)
            elif strict:
                missing_keys.append(key)
        extra = type(self).set_extra_state is not Stateful.set_extra_state
        if extra and prefix + EXTRA in state_dict:
            self.set_extra_state(state_dict[prefix + EXTRA])
        elif extra and strict:
            missing_keys.append(prefix + EXTRA)
        if strict:
            for key in state_dict:
                name, *deeper = key[len(prefix) :].split(".", 1)
                known = name in self._modules if deeper else name in own or (extra and name == EXTRA)
                if key.startswith(prefix) and not known:
                    unexpected_keys.append(key)

    def _load_entry(self, key: str, name: str, own: Any, given: Any, assign: bool, errors: list[str]) -> None:
        if not isinstance(given, Tensor):
            errors.append(
                f'While copying the parameter named "{key}", expected torch.Tensor or Tensor-like '
                f"object from checkpoint but received {type(given)}"
            )
            return
        if is_lazy(own):
            if is_lazy(given):
                return
            own.materialize(given.shape)
        if tuple(given.shape) != tuple(own.shape):
            errors.append(
                f"size mismatch for {key}: copying a param with shape {given.shape} from checkpoint, "
                f"the shape in current model is {own.shape}."
            )
        elif not assign:
            with torch.no_grad():
                own.copy_(given)
        elif name in self._parameters and not isinstance(given, Parameter):
            setattr(self, name, Parameter(given, requires_grad=own.requires_grad))
        else:
            setattr(self, name, given)

    # ---- hooks ---------------------------------------------------------------------------------------------------------

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(module, prefix, keep_vars)` before the module's entries are written."""
        return add_hook(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(module, state_dict, prefix, local_metadata)` when the entries of the module and of those below it are
        written; it changes `state_dict` in place and returns None.

        >>> import adjoint as torch
        >>> layer = torch.nn.Linear(2, 1)
        >>> handle = layer.register_state_dict_post_hook(lambda module, state, prefix, about: state.pop(prefix + "bias") and None)
        >>> list(layer.state_dict())
        ['weight']
        """
        return add_hook(self._state_dict_hooks, (hook, False))

    def _register_state_dict_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """The older form of a hook after writing, which may also return another dict."""
        return add_hook(self._state_dict_hooks, (hook, True))

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)` before the
        module's entries are read; it may change `state_dict`, to rename what an older version wrote.

        >>> import adjoint as torch
        >>> layer = torch.nn.Linear(2, 1)
        >>> def rename(module, state, prefix, *rest):
        ...     state[prefix + "bias"] = state.pop(prefix + "offset")
        >>> handle = layer.register_load_state_dict_pre_hook(rename)
        >>> layer.load_state_dict({"weight": torch.ones(1, 2), "offset": torch.ones(1)})
        <All keys matched successfully>
        """
        return add_hook(self._load_state_dict_pre_hooks, (hook, True))

    def _register_load_state_dict_pre_hook(self, hook: Callable[..., Any], with_module: bool = False) -> RemovableHandle:
        """The older form, for which the module is no argument unless asked for."""
        return add_hook(self._load_state_dict_pre_hooks, (hook, with_module))

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(module, incompatible_keys)` when the module and those below it are loaded; it may change the lists of keys,
        by which `strict` decides, and returns None."""
        return add_hook(self._load_state_dict_post_hooks, hook)


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
