"""`torch.accelerator`: there is none; tensors live in the CPU's memory.

>>> import adjoint as torch
>>> torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
device(type='cpu')
"""

from __future__ import annotations

from adjoint.nowhere import no_device, refusing

__all__ = ["current_accelerator", "device_count", "is_available"]


def is_available() -> bool:
    """Whether tensors can live on a device other than the CPU: not yet.

    >>> import adjoint as torch
    >>> torch.accelerator.is_available()
    False
    """
    return False


def current_accelerator(check_available: bool = False) -> None:
    """The device: None, there is none.

    >>> import adjoint as torch
    >>> torch.accelerator.current_accelerator() is None
    True
    """


def device_count() -> int:
    """The number of devices that can be used.

    >>> import adjoint as torch
    >>> torch.accelerator.device_count()
    0
    """
    return 0


__getattr__ = refusing(
    "torch.accelerator",
    "current_device_idx current_device_index current_stream device_index empty_cache get_device_capability get_memory_info max_memory_allocated "
    "max_memory_reserved memory_allocated memory_reserved memory_stats reset_accumulated_memory_stats reset_peak_memory_stats "
    "set_device_idx set_device_index set_stream synchronize",
    no_device("torch.accelerator", "accelerator"),
)
