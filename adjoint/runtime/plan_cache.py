"""Plans on disk: a process that runs a program known to an earlier one neither schedules it nor writes its kernels.

`load(key)` gives a plan and its code, `store` leaves one. The key is a digest of what was recorded (`key_of`) and of
everything else a plan depends on: the machine, the flags that change code, and the sources of this package, as Python
tells compiled modules from stale ones: by path, size and time. A plan names its kernels by the module of machine code they
are in, which `disk_cache` keeps under a key of its own; where one of them is gone, there is no plan, and everything is made
anew. The file is what `marshal` writes of plain data, digest and all of `disk_cache`.
"""

from __future__ import annotations

import marshal
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from adjoint import config, dtypes
from adjoint._version import __version__
from adjoint.hardware import l2_bytes
from adjoint.ir.plain import plain, restored
from adjoint.runtime import disk_cache, jit
from adjoint.runtime.plan import Call, Host, Place, Plan, Stage

_PARTS = ("", "codegen", "ir", "rewrite", "runtime", "schedule", "trace")  # of this package, that plans come from
_sources: str | None = None


def may_be_used() -> bool:
    """Whether plans are kept: not where somebody wants to see or check how programs are made."""
    return (
        config.get("ADJOINT_CACHE")
        and not config.get("ADJOINT_GUARD")
        and not config.get("ADJOINT_VERIFY")
        and config.get("ADJOINT_DEBUG") < 4
    )


def key_of(form: bytes | None) -> bytes | None:
    """Under which the plan of what `form` describes is kept; None for None."""
    if form is None or not _package():
        return None
    return disk_cache.key_of("plan", form.hex(), jit.settings(), config.code_key(), l2_bytes(), _package())


def load(key: bytes | None) -> tuple[Plan, list[jit.Code]] | None:
    """The plan left under `key`, and the code of its kernels."""
    found = disk_cache.load(key, disk_cache.PLAN) if key is not None else None
    if found is None:
        return None
    try:
        plan, places = _unpacked(marshal.loads(found[1]))
    except (EOFError, KeyError, TypeError, ValueError):  # whole, of this version, and still nothing that is understood
        return None
    codes = jit.load_kernels(places)
    return None if codes is None else (plan, codes)


def store(key: bytes, plan: Plan, codes: Sequence[jit.Code]) -> None:
    """Leave a plan for later processes, if it consists of plain data."""
    try:
        data = marshal.dumps(_packed(plan, [code.place for code in codes]))
    except TypeError:
        return
    disk_cache.store(key, (), data, disk_cache.PLAN)


def _packed(plan: Plan, places: list[jit.KernelPlace]) -> tuple:
    stages: list[tuple] = []
    for work, units in plan.stages:
        if isinstance(work, Host):
            stages.append((plain((work.prim, work.attrs, _bare(work.sources), _bare(work.targets), work.dtype)), units))
        else:
            stages.append((tuple([tuple(call) for call in work]), units))
    scalars = [(index, dtype.name) for index, dtype in plan.scalars]
    return (
        plan.n_inputs, plan.out_bytes, plan.names, plan.work, plan.flops, plan.bytes, scalars,
        plan.arena_bytes, plan.offsets, plan.sizes, plan.status, plan.in_place, stages, places,
    )  # fmt: skip


def _bare(places: Any) -> Any:
    """Named tuples as tuples."""
    return tuple([_bare(p) for p in places]) if isinstance(places, tuple) else places


def _unpacked(data: tuple) -> tuple[Plan, list[jit.KernelPlace]]:
    n_inputs, out_bytes, names, work, flops, moved, scalars, arena_bytes, offsets, sizes, status, in_place, packed, places = data
    stages: list[Stage] = []
    for what, units in packed:
        if isinstance(what[0], str):
            prim, attrs, sources, targets, dtype = restored(what)
            made = tuple([(part, Place(*place)) for part, place in targets])
            stages.append(Stage(Host(prim, attrs, tuple([Place(*p) for p in sources]), made, dtype), units))
        else:
            stages.append(Stage(tuple([Call(*call) for call in what]), units))
    numbers = [(index, dtypes.by_name(name)) for index, name in scalars]
    plan = Plan(
        n_inputs, out_bytes, names, work, flops, moved, numbers, arena_bytes, offsets, sizes, status, in_place, stages
    )
    return plan, places


def _package() -> str:
    """What tells these sources from others: version, path, and size and time of every file, where they are files; of NumPy,
    which folds constants, the version. Nothing where a file has changed since this process has loaded it, or may have."""
    global _sources
    if _sources is None:
        base = os.path.dirname(os.path.dirname(__file__))
        facts: list[Any] = [__version__, sys.version, np.__version__, base]
        newest = 0.0
        try:
            for part in _PARTS:
                with os.scandir(os.path.join(base, part)) as entries:
                    found = [(e.name, e.stat()) for e in entries if e.name.endswith(".py")]
                newest = max([newest, *(max(info.st_mtime, info.st_ctime) for _, info in found)])
                facts.append((part, sorted([(name, info.st_size, info.st_mtime_ns) for name, info in found])))
        except OSError:  # in an archive, say, whose contents do not change
            pass
        _sources = disk_cache.key_of(facts).hex() if newest <= jit.IMPORTED else ""
    return _sources
