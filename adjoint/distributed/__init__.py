"""`torch.distributed`: answers for programs that ask whether they are one of several processes. Here each is alone.

>>> import adjoint as torch
>>> torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
0
"""

from __future__ import annotations

import enum
import importlib
from typing import Any, NoReturn

_CALLS = (
    "get_rank get_world_size get_backend get_process_group_ranks barrier all_reduce all_gather all_gather_object all_gather_into_tensor "
    "all_to_all all_to_all_single broadcast broadcast_object_list gather gather_object reduce reduce_scatter reduce_scatter_tensor scatter "
    "scatter_object_list send recv isend irecv new_group monitored_barrier destroy_process_group"
).split()


class ReduceOp(enum.Enum):
    """How a reduction combines the values of the processes, for programs that name it."""

    SUM = 0
    AVG = 1
    PRODUCT = 2
    MIN = 3
    MAX = 4
    BAND = 5
    BOR = 6
    BXOR = 7


class ProcessGroup:
    """A set of processes, for annotations: there is none."""


class group:  # noqa: N801 - the name that PyTorch has
    WORLD = None


def is_available() -> bool:
    """Whether several processes can work together: they cannot here.

    >>> import adjoint as torch
    >>> torch.distributed.is_available()
    False
    """
    return False


def is_initialized() -> bool:
    """Whether this process is one of several: no.

    >>> import adjoint as torch
    >>> torch.distributed.is_initialized()
    False
    """
    return False


is_torchelastic_launched = is_mpi_available = is_nccl_available = is_gloo_available = is_ucc_available = is_initialized


def init_process_group(*arguments: Any, **named: Any) -> NoReturn:
    """RuntimeError: processes cannot be joined here."""
    raise RuntimeError(
        "torch.distributed.init_process_group: a program runs in one process here, whose threads share the work of large operations; "
        "ask torch.distributed.is_available() first"
    )


def _without_group(name: str) -> Any:
    def function(*arguments: Any, **named: Any) -> NoReturn:
        raise ValueError(
            f"torch.distributed.{name}: Default process group has not been initialized; a program runs in one process here, "
            "ask torch.distributed.is_initialized() first"
        )

    function.__name__ = function.__qualname__ = name
    function.__doc__ = "ValueError, as in PyTorch outside a process group."
    return function


def __getattr__(name: str) -> Any:
    if name in ("device_mesh", "fsdp", "tensor"):
        return importlib.import_module(f"adjoint.distributed.{name}")
    if name not in _CALLS:
        from adjoint.absent import absent

        raise absent(__name__, name, __all__)
    globals()[name] = _without_group(name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted(__all__)


__all__ = [
    "ProcessGroup", "ReduceOp", "group", "init_process_group", "is_available", "is_gloo_available", "is_initialized", "is_mpi_available",
    "is_nccl_available", "is_torchelastic_launched", "is_ucc_available", *_CALLS,
]  # fmt: skip
