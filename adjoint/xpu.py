"""`torch.xpu`: questions about a device that is not there, as in `torch.cuda`.

>>> import adjoint as torch
>>> torch.xpu.is_available(), torch.xpu.device_count()
(False, 0)
"""

from __future__ import annotations

from adjoint.nowhere import no_device, refusing

__getattr__ = refusing(
    "torch.xpu",
    "Event Stream StreamContext current_device current_stream device get_device_capability get_device_name get_device_properties "
    "get_rng_state init initial_seed max_memory_allocated mem_get_info memory_allocated memory_reserved memory_stats "
    "reset_peak_memory_stats set_device set_rng_state set_stream stream synchronize",
    no_device("torch.xpu", "Intel GPU"),
    {
        **dict.fromkeys("is_available is_initialized".split(), bool), "device_count": int, "is_bf16_supported": bool, "get_rng_state_all": list,
        **dict.fromkeys("manual_seed manual_seed_all seed seed_all empty_cache".split(), lambda: None),
    },
)  # fmt: skip
