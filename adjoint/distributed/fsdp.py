"""`torch.distributed.fsdp`: modules whose parameters several processes share, of which there are none; programs ask `isinstance` about them.

>>> import adjoint as torch
>>> from adjoint.distributed.fsdp import BackwardPrefetch
>>> isinstance(torch.ones(1), BackwardPrefetch)
False
"""

from __future__ import annotations

from adjoint.nowhere import refusing

__getattr__ = refusing(
    "torch.distributed.fsdp",
    "BackwardPrefetch CPUOffload CPUOffloadPolicy FSDPModule FullOptimStateDictConfig FullStateDictConfig FullyShardedDataParallel LocalStateDictConfig MixedPrecision MixedPrecisionPolicy OffloadPolicy ShardedStateDictConfig ShardingStrategy StateDictConfig StateDictType fully_shard register_fsdp_forward_method",
    lambda name: RuntimeError(f"torch.distributed.fsdp.{name}: a program runs in one process here; ask torch.distributed.is_available() first"),
)
