"""`Optimizer`, the base class, and `FormulaOptimizer`, which turns one formula per optimizer into steps.

Structures: `param_groups` (dicts of parameters and hyper-parameters) and `state` (a dict per
parameter: tensors such as moments, and counters as plain Python numbers). Read
`FormulaOptimizer.step` first: it collects the parameters that have a gradient, and hands them
with the formula and this step's numbers to `update`, which replaces the values in place. The
numbers are run-time arguments, so that a changing learning rate compiles nothing.
"""

from __future__ import annotations

import functools
import itertools
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from copy import deepcopy
from typing import Any, ClassVar

import numpy as np

import adjoint as torch
from adjoint.autograd.engine import zero_gradient
from adjoint.autograd.hooks import RemovableHandle, add_hook
from adjoint.methods import Tensor
from adjoint.ops.composite import update
from adjoint.trace.recorder import flush, local, record

__all__ = ["FormulaOptimizer", "Optimizer"]

Group = dict[str, Any]
ParamsT = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]  # what an optimizer is made for
Hooks = dict[int, Callable[..., Any]]


class Optimizer:
    """Base class: parameter groups, state, saving and loading. Subclasses define `step`.

    `params` is an iterable of tensors, of (name, tensor) pairs, or of dicts with the key "params" and
    hyper-parameters of their own; `defaults` fills in what a group leaves out. Raises TypeError for a
    single tensor or anything that is not a tensor, ValueError for an empty list or a tensor that was
    computed.
    """

    steps_taken = 0  # what a scheduler looks at to see whether it was called too early
    counts_steps = False  # whether `step` moves `steps_taken` on; a `step` of the user's own need not

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in vars(cls) and "counts_steps" not in vars(cls):
            cls.counts_steps = False

    def __init__(self, params: Iterable[Any], defaults: Group) -> None:
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                "torch.Tensor"
            )
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[Group] = []
        self._has_cleared = False
        self._pre_hooks: Hooks = OrderedDict()
        self._post_hooks: Hooks = OrderedDict()
        self._save_pre_hooks: Hooks = OrderedDict()
        self._save_post_hooks: Hooks = OrderedDict()
        self._load_pre_hooks: Hooks = OrderedDict()
        self._load_post_hooks: Hooks = OrderedDict()
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)
        self._settle()

    def _settle(self) -> None:
        """Compute what has been recorded so far, if no derivatives of it are in sight: parameters and data that were just made.

        Otherwise the program of the first step would begin with how they are made, and the second step would be another.
        """
        trace = local.trace
        if trace.handles and not trace.static and not any([h._aval.requires_grad and not h._leaf for h in trace.handles]):
            flush(trace)

    def add_param_group(self, param_group: Group) -> None:
        """Add one group, for example of layers that were frozen so far.

        Raises TypeError for members that are not tensors, ValueError for tensors that are no leaves or that
        are already in a group.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        params = param_group["params"]
        if isinstance(params, set):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but the ordering of tensors in "
                "sets will change between runs. Please use a list instead."
            )
        params = [params] if isinstance(params, Tensor) else list(params)
        if params and isinstance(params[0], tuple):
            param_group["param_names"] = [name for name, _ in params]
            params = [param for _, param in params]
        for param in params:
            if not isinstance(param, Tensor):
                raise TypeError(
                    f"optimizer can only optimize Tensors, but one of the params is {type(param)}"
                )
            if not param.is_leaf:
                raise ValueError("can't optimize a non-leaf Tensor")
        taken = {id(p) for group in self.param_groups for p in group["params"]}
        if any(id(param) in taken for param in params):
            raise ValueError("some parameters appear in more than one parameter group")
        if len({id(param) for param in params}) != len(params):
            raise ValueError("optimizer contains a parameter group with duplicate parameters")
        param_group["params"] = params
        for name, default in self.defaults.items():
            param_group.setdefault(name, default)
        self.param_groups.append(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or with `set_to_none=False` fill them with zeros, where they lie."""
        if not self._has_cleared:
            self._has_cleared = True
            self._settle()
        for group in self.param_groups:
            for param in group["params"]:
                if set_to_none:
                    param._grad = None
                elif param._grad is not None:
                    zero_gradient(param)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update. `closure`, if given, computes the loss and its gradients, and its value is returned."""
        raise NotImplementedError

    # ---- saving and loading ----------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """{"state": per parameter number, "param_groups": hyper-parameters and parameter numbers}."""
        for hook in list(self._save_pre_hooks.values()):
            hook(self)
        numbers: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            packed = {name: value for name, value in group.items() if name != "params"}
            for param in group["params"]:
                numbers.setdefault(id(param), len(numbers))
            packed["params"] = [numbers[id(param)] for param in group["params"]]
            groups.append(packed)
        state = {
            (numbers[id(key)] if isinstance(key, Tensor) else key): value
            for key, value in self.state.items()
            if value
        }
        found: dict[str, Any] = {"state": state, "param_groups": groups}
        for hook in list(self._save_post_hooks.values()):
            changed = hook(self, found)
            found = found if changed is None else changed
        return found

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a `state_dict` of the same optimizer on the same layout of parameters.

        Raises ValueError when the groups differ in number or size.
        """
        for hook in list(self._load_pre_hooks.values()):
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        groups = state_dict["param_groups"]
        if len(groups) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        for own, given in zip(self.param_groups, groups, strict=True):
            if len(own["params"]) != len(given["params"]):
                raise ValueError(
                    "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
                )
        numbers = itertools.chain.from_iterable(group["params"] for group in groups)
        params = itertools.chain.from_iterable(group["params"] for group in self.param_groups)
        by_number = dict(zip(numbers, params, strict=True))
        self.state = defaultdict(dict)
        for key, value in state_dict["state"].items():
            # A JSON file turns the numbers into text.
            number = int(key) if isinstance(key, str) and key.isdigit() else key
            if number in by_number:
                param = by_number[number]
                self.state[param] = {
                    name: _loaded(name, entry, param) for name, entry in value.items()
                }
            else:
                self.state[key] = deepcopy(value)
        self.param_groups = [
            {"params": own["params"], **{k: deepcopy(v) for k, v in given.items() if k != "params"}}
            for own, given in zip(self.param_groups, groups, strict=True)
        ]
        for hook in list(self._load_post_hooks.values()):
            hook(self)

    # ---- hooks and printing ----------------------------------------------------------------------

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(optimizer, args, kwargs)` before each step of a built-in optimizer."""
        return add_hook(self._pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(optimizer, args, kwargs)` after each step of a built-in optimizer."""
        return add_hook(self._post_hooks, hook)

    def register_state_dict_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer)` before `state_dict` looks at anything."""
        return add_hook(self._save_pre_hooks, hook, prepend)

    def register_state_dict_post_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer, state_dict)` at the end of `state_dict`, which returns what the hook does, unless that is None."""
        return add_hook(self._save_post_hooks, hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer, state_dict)` before a state is loaded: it may return another one to be loaded."""
        return add_hook(self._load_pre_hooks, hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer)` when a state has been loaded."""
        return add_hook(self._load_post_hooks, hook, prepend)

    def __repr__(self) -> str:
        groups = [
            "\n".join([f"Parameter Group {i}", *[f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]])
            for i, group in enumerate(self.param_groups)
        ]
        return f"{type(self).__name__} (\n" + "\n\n".join(groups) + "\n)"


def _loaded(name: str, value: Any, param: Tensor) -> Any:
    """One saved entry of a parameter's state: counters as numbers, tensors copied in the parameter's dtype."""
    if not isinstance(value, Tensor):
        return deepcopy(value)
    if name == "step":
        return int(value.item())
    value = value.detach().clone()
    return value.to(param.dtype) if param.is_floating_point() or param.is_complex() else value


def evaluated(closure: Callable[[], Any] | None) -> Any:
    """What `closure` returns, run with gradients enabled; None without a closure."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


class FormulaOptimizer(Optimizer):
    """An optimizer that is a formula: new values of a parameter and its state from the old ones.

    A subclass names the formula (`rule`), the state tensors it takes after the parameter and its gradient
    (`tensors`), and the numbers of a step (`numbers`, run-time arguments) and switches (`switches`, part of
    the program). `rule(param, grad, *state, *numbers, *switches)` returns the new parameter and state.
    """

    counts_steps = True
    rule: ClassVar[Callable[..., tuple[Tensor, ...]]]

    def tensors(self, group: Group) -> tuple[str, ...]:
        """Names of the state tensors the formula takes and returns, in order."""
        return ()

    def fresh(self, name: str, param: Tensor, group: Group) -> Tensor:
        """The first value of a state tensor; numbers in memory, so that the first step is the program of all steps."""
        return filled(param, 0.0)

    def advance(self, state: dict[str, Any], group: Group) -> Hashable:
        """Move a parameter's counters on; parameters with equal results share one `numbers`."""
        state["step"] = step = state.get("step", 0) + 1
        return step

    def numbers(self, group: Group, clock: Any) -> tuple[float, ...]:
        """The numbers of this step."""
        raise NotImplementedError

    def switches(self, group: Group) -> tuple[Hashable, ...]:
        """What decides the shape of the formula."""
        return ()

    def choose_rule(self, group: Group) -> Callable[..., tuple[Tensor, ...]]:
        """The formula for a group; `rule` unless its arguments depend on the group."""
        return type(self).rule

    def kind(self, group: Group) -> tuple[Any, ...]:
        """All that tells the update of one group from another, but for its tensors and numbers."""
        return self.choose_rule(group), self.tensors(group), self.switches(group)

    def _begin(
        self, names: tuple[str, ...], state: dict[str, Any], param: Tensor, group: Group
    ) -> None:
        for name in names:  # records nothing, not even a change of mode: see `fresh`
            if name not in state:
                state[name] = self.fresh(name, param, group)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; returns what `closure` returned, if it was given."""
        loss = evaluated(closure)
        if self._pre_hooks:
            for hook in list(self._pre_hooks.values()):
                hook(self, (), {})
        advance, watch = self.advance, local.trace.watch
        for group in self.param_groups:
            names = self.tensors(group)
            rows: dict[Hashable, list[tuple[Tensor, ...]]] = {}
            for param in group["params"]:
                grad = param._grad
                if grad is None:
                    continue
                state = self.state[param]
                clock = advance(state, group)
                try:
                    row = (param, grad, *[state[name] for name in names])
                except KeyError:
                    self._begin(names, state, param, group)
                    row = (param, grad, *[state[name] for name in names])
                if clock in rows:
                    rows[clock].append(row)
                else:
                    rows[clock] = [row]
            outputs = (0, *range(2, 2 + len(names)))
            rule, switches = by_parts(self.choose_rule(group)), self.switches(group)
            for clock, same in rows.items():
                numbers = self.numbers(group, clock)
                if watch is not None:
                    watch.stepped(self, group, self.kind(group), same, len(numbers))
                update(rule, same, numbers, switches, outputs)
        self.steps_taken += 1
        if watch is not None:
            watch.stepped_on(self)
        if self._post_hooks:
            for hook in list(self._post_hooks.values()):
                hook(self, (), {})
        return loss

    def again(self, parts: list[tuple[Group, tuple[Any, ...], list[dict[str, Any]]]]) -> list[float] | None:
        """Move the counters on and give the numbers of another step like one that was watched; None, with nothing changed,
        where it would be another step. For every update of that step: group, `kind`, states of its parameters."""
        for group, kind, _ in parts:
            if self.kind(group) != kind:
                return None
        out: list[float] = []
        before = [(state, dict(state)) for part in parts for state in part[2]]
        seen = set()
        for group, _, states in parts:
            clocks = {self.advance(state, group) for state in states}
            clock = next(iter(clocks))
            if len(clocks) > 1 or (id(group), clock) in seen:  # parameters that part ways, or come together
                for state, old in before:
                    state.clear()
                    state.update(old)
                return None
            seen.add((id(group), clock))
            out += self.numbers(group, clock)
        self.steps_taken += 1
        return out


@functools.lru_cache(maxsize=64)
def by_parts(rule: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[Tensor, ...]]:
    """The formula with each complex tensor as pairs of reals: moments and signs are those of the parts, as in PyTorch.

    RuntimeError for a gradient of another shape; it is looked at where the formula is recorded, not at every step."""

    def apply(param: Tensor, grad: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        if grad._aval.shape != param._aval.shape:  # the data have been changed since it was set
            raise RuntimeError(
                f"a parameter of shape {list(param._aval.shape)} has a .grad of shape {list(grad._aval.shape)}; they must be the same"
            )
        if not param._aval.dtype.is_complex:
            return rule(param, grad, *rest)
        pairs = [
            record("as_real", (x,)) if isinstance(x, Tensor) and x._aval.dtype.is_complex else x
            for x in (param, grad, *rest)
        ]
        return tuple([record("as_complex", (x,)) for x in rule(*pairs)])

    return apply


def filled(param: Tensor, value: float) -> Tensor:
    """A state tensor of one number, of both parts if the parameter is complex; see `FormulaOptimizer.fresh`."""
    number = complex(value, value) if param.is_complex() else value
    return torch.tensor(np.full(param.shape, number), dtype=param.dtype)


def check_non_negative(**values: float) -> None:
    """Raise ValueError, naming the argument, for a number that is negative."""
    names = {"lr": "learning rate", "eps": "epsilon value", "weight_decay": "weight_decay value"}
    for name, value in values.items():
        if not value >= 0.0:
            raise ValueError(f"Invalid {names.get(name, name + ' value')}: {value}")


def check_betas(betas: tuple[float, float]) -> None:
    """Raise ValueError for an averaging factor outside [0, 1)."""
    for i, beta in enumerate(betas):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"Invalid beta parameter at index {i}: {beta}")


def accepted(**hints: Any) -> Group:
    """PyTorch's choices of implementation (foreach, fused, ...): kept with the group, without effect here."""
    if hints.get("differentiable"):
        raise NotImplementedError(
            "differentiable=True is not supported: steps are taken without gradient"
        )
    return hints


def descent(param: Tensor, grad: Tensor, decay: Any, maximize: bool, decays: bool) -> Tensor:
    """The direction that the formulas start from: the gradient, turned if maximizing, plus L2 decay."""
    grad = -grad if maximize else grad
    return grad + decay * param if decays else grad


def settled(average: Tensor, eps: Any = None) -> Tensor:
    """A moving average with zeros in place of denormal numbers; not where an `eps` of 0 lets the update divide by it.

    The average of a gradient that has become zero, that of a dead unit perhaps, comes to them within some hundred steps
    and stays there: nine tenths of the least of them are rounded to itself. Processors take a hundred times as long for each.
    """
    small = torch.abs(average) < torch.finfo(average.dtype).tiny
    return torch.where(small if eps is None else small & (eps > 0), 0.0, average)
