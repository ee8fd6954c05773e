"""`torch.mps`: questions about a device that is not there, as in `torch.cuda`.

>>> import adjoint as torch
>>> torch.mps.is_available(), torch.mps.device_count()
(False, 0)
"""

from __future__ import annotations

from adjoint.nowhere import no_device, refusing

__getattr__ = refusing(
    "torch.mps",
    "Event compile_shader current_allocated_memory driver_allocated_memory get_rng_state profiler recommended_max_memory "
    "set_per_process_memory_fraction set_rng_state synchronize",
    no_device("torch.mps", "Apple GPU"),
    {
        **dict.fromkeys("is_available is_initialized".split(), bool), "device_count": int,
        **dict.fromkeys("manual_seed manual_seed_all seed seed_all empty_cache".split(), lambda: None),
    },
)  # fmt: skip
