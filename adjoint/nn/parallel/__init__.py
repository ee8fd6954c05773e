"""`DataParallel`, for models that are written with it: one process on one device runs the module itself; and PyTorch's class
for several processes, which there are not here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adjoint.nn.module import Module

__all__ = ["DataParallel", "DistributedDataParallel"]


class DataParallel(Module):
    """A module as `module`, which sees the whole batch: threads share the work of large operations already.

    Names in a state dict begin with "module.", as they do in PyTorch. The devices are ignored.

    >>> import adjoint as torch
    >>> net = torch.nn.DataParallel(torch.nn.Linear(2, 3))
    >>> net(torch.ones(4, 2)).shape, list(net.state_dict())
    (torch.Size([4, 3]), ['module.weight', 'module.bias'])
    """

    def __init__(self, module: Module, device_ids: Sequence[Any] | None = None, output_device: Any = None, dim: int = 0) -> None:
        super().__init__()
        self.module = module
        self.device_ids: list[Any] = []
        self.dim = dim

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.module(*inputs, **kwargs)


class DistributedDataParallel(Module):
    """A module whose gradients several processes average: ValueError, as in PyTorch outside a process group.

    Programs ask `torch.distributed.is_initialized()` first, or whether a module is one (`isinstance`): none is.
    """

    def __init__(self, module: Module, *arguments: Any, **named: Any) -> None:
        raise ValueError(
            "DistributedDataParallel: Default process group has not been initialized; a program runs in one process here, train the "
            "module itself"
        )
