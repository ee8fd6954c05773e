"""`torch.amp`: products in half precision while everything else keeps its own (`autocast`), and scaled gradients for it.

`autocast` chooses the dtype in which products run (`trace.autocast` has the lists of functions); parameters stay as they
are, and so do their gradients. bfloat16 has the range of float32, so its gradients need no scale; float16 has not:
`GradScaler` multiplies the loss, divides the gradients, and leaves out steps whose gradients overflowed (Micikevicius et
al., "Mixed Precision Training", 2018, section 3.2).
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable
from typing import Any

from adjoint.autograd.modes import no_grad
from adjoint.dtypes import DType, bfloat16, float16
from adjoint.ops.joining import stack
from adjoint.trace import autocast as rules
from adjoint.trace.handle import Tensor
from adjoint.trace.recorder import local
from adjoint.trace.state import warn

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]

_ELSEWHERE = frozenset("cuda xpu mps hpu mtia xla ipu maia privateuseone meta".split())  # devices that are not there
_preferred: DType = bfloat16


def is_autocast_available(device_type: str) -> bool:
    """Whether `autocast` does anything for a kind of device.

    >>> import adjoint as torch
    >>> torch.amp.is_autocast_available("cpu")
    True
    """
    return _known(device_type) == "cpu"


def _known(device_type: Any) -> str:
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`; use 'cpu'")
    kind = device_type.split(":")[0]
    if kind != "cpu" and kind not in _ELSEWHERE:
        raise RuntimeError(f"User specified an unsupported autocast device_type '{device_type}'; use 'cpu'")
    return kind


class autocast:
    """Inside, products run in bfloat16 or float16: `matmul`, linear layers, convolutions, attention and what is made of them.

    device_type: "cpu"; for devices that are not there the context warns and does nothing.  dtype: bfloat16 unless given.
    enabled: False ends the mode of an outer context inside.  It is a decorator, too. Operands of float32 are converted;
    float64 and integers are left alone. Losses, products of elements and a few others compute in float32. Leave the
    context before `backward()`, which runs in the dtypes of the results.

    >>> import adjoint as torch
    >>> layer, x = torch.nn.Linear(2, 3), torch.ones(4, 2)
    >>> with torch.autocast("cpu"):
    ...     out = layer(x)
    ...     loss = torch.nn.functional.mse_loss(out, torch.zeros(4, 3))
    >>> loss.backward()
    >>> out.dtype, loss.dtype, layer.weight.grad.dtype
    (torch.bfloat16, torch.float32, torch.float32)
    """

    def __init__(self, device_type: str, dtype: DType | None = None, enabled: bool = True, cache_enabled: bool | None = None) -> None:
        self.device, enabled = _known(device_type), bool(enabled)
        self.fast_dtype = dtype if dtype is not None else _preferred
        if not isinstance(self.fast_dtype, DType):
            raise TypeError(f"autocast(): dtype must be a torch dtype such as torch.bfloat16, not {dtype!r}")
        if enabled and self.device != "cpu":
            warn(f"User provided device_type of '{self.device}', but {self.device.upper()} is not available. Disabling")
            enabled = False
        elif enabled and self.fast_dtype not in (bfloat16, float16):
            warn(
                "In CPU autocast, but the target dtype is not supported. Disabling autocast.\n"
                f"CPU Autocast only supports dtype of torch.bfloat16, torch.float16 currently, not {self.fast_dtype}.",
            )
            enabled = False
        self._enabled = enabled
        self._before: list[DType | None] = []

    def __enter__(self) -> autocast:
        tr = local.trace
        self._before.append(tr.lowered)
        if self.device == "cpu":
            rules.used = rules.used or self._enabled
            tr.set_lowered(self.fast_dtype if self._enabled else None)
        return self

    def __exit__(self, *exc: Any) -> None:
        tr, before = local.trace, self._before.pop()
        try:
            tr.set_lowered(before)
        except BaseException:  # a signal's
            tr.set_lowered(before)
            raise

    def __call__(self, function: Callable) -> Callable:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            context = copy.copy(self)  # which several threads may enter
            context._before = []
            with context:
                return function(*args, **kwargs)

        return call


def is_autocast_enabled(device_type: str | None = None) -> bool:
    """Whether this thread is inside of `autocast` for a kind of device; without one, for GPUs, as in PyTorch.

    >>> import adjoint as torch
    >>> with torch.autocast("cpu"):
    ...     torch.is_autocast_enabled("cpu")
    True
    """
    return device_type is not None and _known(device_type) == "cpu" and local.trace.lowered is not None


def get_autocast_dtype(device_type: str) -> DType:
    """The dtype of products inside of `autocast` where none is given to it, or that of the context there is.

    >>> import adjoint as torch
    >>> torch.get_autocast_dtype("cpu")
    torch.bfloat16
    """
    return local.trace.lowered or _preferred if _known(device_type) == "cpu" else float16


def set_autocast_enabled(device_type: str, enabled: bool) -> None:
    """Begin or end the mode in this thread without a context.

    >>> import adjoint as torch
    >>> torch.set_autocast_enabled("cpu", False)
    """
    _check("set_autocast_enabled", device_type, "enabled", enabled, bool)
    if _known(device_type) == "cpu":
        rules.used = rules.used or enabled
        local.trace.set_lowered(_preferred if enabled else None)


def set_autocast_dtype(device_type: str, dtype: DType) -> None:
    """The dtype of contexts that begin from now on without one of their own.

    >>> import adjoint as torch
    >>> torch.set_autocast_dtype("cpu", torch.bfloat16)
    """
    global _preferred
    _check("set_autocast_dtype", device_type, "dtype", dtype, DType)
    if dtype not in (bfloat16, float16):
        raise RuntimeError(f"set_autocast_dtype: products on the CPU can run in torch.bfloat16 or torch.float16, not {dtype}")
    if _known(device_type) == "cpu":
        _preferred = dtype


def is_autocast_cpu_enabled() -> bool:
    """`is_autocast_enabled("cpu")`, by its older name.

    >>> import adjoint as torch
    >>> torch.is_autocast_cpu_enabled()
    False
    """
    return is_autocast_enabled("cpu")


def get_autocast_cpu_dtype() -> DType:
    """`get_autocast_dtype("cpu")`, by its older name.

    >>> import adjoint as torch
    >>> torch.get_autocast_cpu_dtype()
    torch.bfloat16
    """
    return get_autocast_dtype("cpu")


def get_autocast_gpu_dtype() -> DType:
    """`get_autocast_dtype("cuda")`, by its older name.

    >>> import adjoint as torch
    >>> torch.get_autocast_gpu_dtype()
    torch.float16
    """
    return get_autocast_dtype("cuda")


def _check(function: str, device_type: Any, name: str, value: Any, kind: type) -> None:
    for argument, x, wanted in (("device_type", device_type, str), (name, value, kind)):
        if not isinstance(x, wanted):
            raise TypeError(f"{function}(): argument '{argument}' must be {wanted.__name__.lower()}, not {type(x).__name__}: {x!r:.60}")


def custom_fwd(fwd: Callable | None = None, *, device_type: str, cast_inputs: DType | None = None) -> Callable:
    """For the forward of an `autograd.Function` under `autocast`: with `cast_inputs`, its floating tensors are converted to that
    dtype and it runs outside of the mode.

    >>> import adjoint as torch
    >>> class Double(torch.autograd.Function):
    ...     @staticmethod
    ...     @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    ...     def forward(ctx, x):
    ...         return x * 2
    ...     @staticmethod
    ...     @torch.amp.custom_bwd(device_type="cpu")
    ...     def backward(ctx, g):
    ...         return g * 2
    >>> with torch.autocast("cpu"):
    ...     Double.apply(torch.ones(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def forward(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        ctx._lowered = local.trace.lowered
        if cast_inputs is None or ctx._lowered is None or _known(device_type) != "cpu":
            return fwd(ctx, *args, **kwargs)
        ctx._lowered = None
        args, kwargs = tuple(rules.in_dtype(x, cast_inputs) for x in args), {k: rules.in_dtype(x, cast_inputs) for k, x in kwargs.items()}
        with autocast(device_type, enabled=False):
            return fwd(ctx, *args, **kwargs)

    return forward


def custom_bwd(bwd: Callable | None = None, *, device_type: str) -> Callable:
    """For the backward of an `autograd.Function` whose forward has `custom_fwd`: it runs in the mode of that."""
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def backward(ctx: Any, *args: Any) -> Any:
        mode = getattr(ctx, "_lowered", None)
        if _known(device_type) != "cpu":
            return bwd(ctx, *args)
        with autocast(device_type, mode, enabled=mode is not None):
            return bwd(ctx, *args)

    return backward


_READY, _UNSCALED, _STEPPED = range(3)


class GradScaler:
    """A factor of the loss that keeps gradients in float16 from vanishing, adapted to what they overflow at.

    init_scale: the first factor; it grows by `growth_factor` after `growth_interval` steps without an overflow, and shrinks by
    `backoff_factor` at each. A step whose gradients hold an infinity or NaN is left out. enabled: False passes everything
    through. For devices that are not there it warns, and is not enabled.

    >>> import adjoint as torch
    >>> w = torch.nn.Parameter(torch.tensor(1.))
    >>> optimizer, scaler = torch.optim.SGD([w], lr=0.5), torch.amp.GradScaler("cpu", init_scale=4.)
    >>> scaler.scale(w * w).backward()
    >>> w.grad
    tensor(8.)
    >>> scaler.step(optimizer); scaler.update()
    >>> w
    Parameter containing:
    tensor(0., requires_grad=True)
    """

    def __init__(
        self, device: str = "cuda", init_scale: float = 2.0**16, growth_factor: float = 2.0, backoff_factor: float = 0.5,
        growth_interval: int = 2000, enabled: bool = True,
    ) -> None:  # fmt: skip
        self._device, self._enabled = _known(device), bool(enabled)
        if self._enabled and self._device != "cpu":
            warn(f"torch.{self._device}.amp.GradScaler is enabled, but {self._device.upper()} is not available.  Disabling.")
            self._enabled = False
        if self._enabled:
            if not growth_factor > 1.0:
                raise AssertionError(f"The growth factor must be > 1.0, got {growth_factor}")
            if not backoff_factor < 1.0:
                raise AssertionError(f"The backoff factor must be < 1.0, got {backoff_factor}")
        self._scale, self._tracker = float(init_scale), 0
        self._growth_factor, self._backoff_factor, self._growth_interval = growth_factor, backoff_factor, growth_interval
        self._stages: dict[int, int] = {}  # of each optimizer, by id, since the last `update`
        self._overflows: dict[int, list[Tensor]] = {}  # 0-d bool tensors

    def is_enabled(self) -> bool:
        """Whether it does anything."""
        return self._enabled

    def get_scale(self) -> float:
        """The factor of the loss; 1.0 where it is not enabled."""
        return self._scale if self._enabled else 1.0

    def scale(self, outputs: Any) -> Any:
        """A loss, or a list of them, times the factor."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            return outputs * self._scale
        if isinstance(outputs, Iterable):
            scaled: Any = [self.scale(x) for x in outputs]
            return tuple(scaled) if isinstance(outputs, tuple) else scaled
        raise ValueError("outputs must be a Tensor or an iterable of Tensors")

    @no_grad()
    def unscale_(self, optimizer: Any) -> None:
        """Divide the gradients of an optimizer's parameters by the factor, for instance before they are clipped. Once between
        two updates: RuntimeError for a second time, and after `step`."""
        if not self._enabled:
            return
        stage = self._stages.get(id(optimizer), _READY)
        if stage == _UNSCALED:
            raise RuntimeError("unscale_() has already been called on this optimizer since the last update().")
        if stage == _STEPPED:
            raise RuntimeError("unscale_() is being called after step().")
        overflows = []
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.grad.dtype is float16:
                    raise ValueError("Attempting to unscale FP16 gradients: keep the parameters in float32, and let autocast convert them")
                p.grad.mul_(1.0 / self._scale)
                overflows.append(p.grad.isfinite().all().logical_not())
        self._overflows[id(optimizer)], self._stages[id(optimizer)] = overflows, _UNSCALED

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """`optimizer.step`, with gradients that are divided by the factor; nothing where one is not finite, which is read."""
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        stage = self._stages.get(id(optimizer), _READY)
        if stage == _STEPPED:
            raise RuntimeError("step() has already been called since the last update().")
        if stage == _READY:
            self.unscale_(optimizer)
        overflows = self._overflows[id(optimizer)]
        if not overflows:
            raise AssertionError("No inf checks were recorded for this optimizer: none of its parameters has a gradient")
        self._stages[id(optimizer)] = _STEPPED
        return None if bool(stack(overflows).any()) else optimizer.step(*args, **kwargs)

    def update(self, new_scale: Any = None) -> None:
        """Adapt the factor to the steps since the last time, or take `new_scale`."""
        if not self._enabled:
            return
        found = [x for some in self._overflows.values() for x in some]
        if new_scale is not None:
            self._scale = float(new_scale)
        elif not found:
            raise AssertionError("No inf checks were recorded prior to update: call step() or unscale_() first")
        elif bool(stack(found).any()):
            self._scale, self._tracker = self._scale * self._backoff_factor, 0
        else:
            self._tracker += 1
            if self._tracker == self._growth_interval:
                self._scale, self._tracker = self._scale * self._growth_factor, 0
        self._stages.clear()
        self._overflows.clear()

    def get_growth_factor(self) -> float:
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        self._growth_interval = new_interval

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes; empty where it is not enabled."""
        if not self._enabled:
            return {}
        return {
            "scale": self._scale, "growth_factor": self._growth_factor, "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval, "_growth_tracker": self._tracker,
        }  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another one was. RuntimeError for the state of one that was not enabled."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError("The source state dict is empty, possibly because it was saved from a disabled instance of GradScaler.")
        self._scale, self._tracker = float(state_dict["scale"]), state_dict["_growth_tracker"]
        self._growth_factor, self._backoff_factor = state_dict["growth_factor"], state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]


def __getattr__(name: str) -> object:
    from adjoint.absent import absent

    raise absent(__name__, name, globals())
