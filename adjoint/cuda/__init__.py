"""`torch.cuda`: questions about devices that are not there, so that code written for both kinds of machine runs.

>>> import adjoint as torch
>>> torch.device("cuda" if torch.cuda.is_available() else "cpu")
device(type='cpu')
"""

from __future__ import annotations

import importlib
from typing import Any

from adjoint.nowhere import no_device, refusing


def is_available() -> bool:
    """Whether tensors can live on a GPU: not yet.

    >>> import adjoint as torch
    >>> torch.cuda.is_available()
    False
    """
    return False


def device_count() -> int:
    """The number of GPUs that can be used.

    >>> import adjoint as torch
    >>> torch.cuda.device_count()
    0
    """
    return 0


def is_initialized() -> bool:
    """Whether a GPU has been used.

    >>> import adjoint as torch
    >>> torch.cuda.is_initialized()
    False
    """
    return False


def manual_seed(seed: int) -> None:
    """Nothing: there is no GPU whose random numbers could be seeded. `torch.manual_seed` seeds all there are.

    >>> import adjoint as torch
    >>> torch.cuda.manual_seed(0)
    """


def manual_seed_all(seed: int) -> None:
    """As `manual_seed`.

    >>> import adjoint as torch
    >>> torch.cuda.manual_seed_all(0)
    """


def empty_cache() -> None:
    """Nothing to empty.

    >>> import adjoint as torch
    >>> torch.cuda.empty_cache()
    """


_refused = refusing(
    "torch.cuda",
    "BFloat16Tensor BoolTensor ByteTensor CharTensor DoubleTensor FloatTensor HalfTensor IntTensor LongTensor ShortTensor CUDAGraph "
    "CudaError Event ExternalStream MemPool Stream StreamContext device device_of graph graph_pool_handle can_device_access_peer cudart "
    "current_blas_handle current_device current_stream default_stream get_device_capability get_device_name get_device_properties "
    "get_rng_state init initial_seed ipc_collect make_graphed_callables mem_get_info memory_snapshot memory_summary reset_max_memory_allocated "
    "reset_max_memory_cached reset_peak_memory_stats set_device set_per_process_memory_fraction set_rng_state set_rng_state_all set_stream "
    "stream synchronize utilization",
    no_device("torch.cuda", "CUDA device"),
    {
        **dict.fromkeys(
            "memory_allocated max_memory_allocated memory_reserved max_memory_reserved memory_cached max_memory_cached".split(), int
        ),
        **dict.fromkeys("get_arch_list get_rng_state_all".split(), list),
        **dict.fromkeys("is_bf16_supported is_tf32_supported is_current_stream_capturing".split(), bool),
        "memory_stats": dict,
        **dict.fromkeys("seed seed_all".split(), lambda: None),
    },
)
default_generators: tuple[Any, ...] = ()


def __getattr__(name: str) -> Any:
    if name in ("amp", "random"):
        return importlib.import_module(f"adjoint.cuda.{name}")
    if name == "OutOfMemoryError":
        from adjoint.checks import OutOfMemoryError

        return OutOfMemoryError
    return _refused(name)


__all__ = ["device_count", "empty_cache", "is_available", "is_initialized", "manual_seed", "manual_seed_all"]
