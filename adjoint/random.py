"""`torch.random`: the state of the default generator, under PyTorch's names, and named streams.

>>> import adjoint as torch
>>> torch.random.initial_seed() == torch.initial_seed()
True
"""

from adjoint.ops.generators import (
    Generator,
    default_generator,
    fork_rng,
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
    stream,
)

__all__ = [
    "Generator", "default_generator", "fork_rng", "get_rng_state", "initial_seed", "manual_seed", "seed",
    "set_rng_state", "stream",
]  # fmt: skip
