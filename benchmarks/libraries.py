"""Which libraries are measured, and how each is held to the same number of threads.

`LIBRARIES` is the table of columns. `limit_threads` must run before NumPy or anything else is
imported: most of these libraries read their thread count from the environment, once. `load` imports
what is installed and says why the rest is missing. Read `limit_threads` first.
"""

from __future__ import annotations

import importlib
import os
import warnings
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class Library:
    """A column: the name used in workloads, the module behind it, and what the column means."""

    name: str
    module: str
    meaning: str


LIBRARIES = (
    Library("adjoint", "adjoint", "ordinary eager code, no decorator"),
    Library("adjoint.compile", "adjoint", "the step, or the part named in the title, through `adjoint.compile`"),
    Library("numpy", "numpy", "values and gradients derived by hand, a fresh array per operation"),
    Library("torch", "torch", "the same text as Adjoint, eager"),
    Library(
        "torch.compile", "torch", "the forward function compiled by Inductor, and its backward"
    ),
    Library("jax", "jax", "the whole step as one pure function under jit"),
)

THREAD_VARIABLES = (
    "ADJOINT_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NPROC",  # size of XLA's thread pool on CPUs
)


def limit_threads(count: int) -> int:
    """Hold this process and its children to `count` threads; returns how many there are."""
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(count)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    # Inductor would otherwise keep a pool of compiler processes alive beside the measurements.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    if not hasattr(os, "sched_setaffinity"):
        return min(count, os.cpu_count() or 1)
    allowed = sorted(os.sched_getaffinity(0), key=lambda cpu: (_sibling_rank(cpu), cpu))
    os.sched_setaffinity(0, allowed[:count])
    return min(count, len(allowed))


def _sibling_rank(cpu: int) -> int:
    """0 for the first hardware thread of a core, 1 for the second: whole cores are taken first."""
    path = f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
    try:
        with open(path, encoding="ascii") as file:
            text = file.read()
    except OSError:
        return 0
    siblings: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        siblings.extend(range(int(first), int(last or first) + 1))
    return siblings.index(cpu) if cpu in siblings else 0


def load(threads: int) -> tuple[dict[str, ModuleType], dict[str, str]]:
    """Import every library that works here: (modules by column name, reason by missing name)."""
    modules: dict[str, ModuleType] = {}
    missing: dict[str, str] = {}
    for library in LIBRARIES:
        try:
            module = importlib.import_module(library.module)
            _prepare(library.name, module, threads)
        except Exception as error:  # whatever stops a library, the others are still measured
            missing[library.name] = f"{type(error).__name__}: {error}"
        else:
            modules[library.name] = module
    return modules, missing


def _prepare(name: str, module: ModuleType, threads: int) -> None:
    """Set the library's own thread count, and prove with one product that it computes."""
    if module.__name__ in ("adjoint", "torch"):
        if hasattr(module, "set_num_threads"):
            module.set_num_threads(threads)
        if (module.tensor([1.0, 2.0]) * 2).tolist() != [2.0, 4.0]:
            raise RuntimeError(f"{name} does not multiply")
    if name == "jax":
        importlib.import_module("jax.numpy")
    if name == "torch.compile":
        # Shapes are fixed here; a second compilation for varying ones would only blur the figures.
        module._dynamo.config.automatic_dynamic_shapes = False
        warnings.filterwarnings("ignore", module="torch")


def versions(modules: dict[str, ModuleType]) -> dict[str, str]:
    """Version of each imported library (the two PyTorch columns are one library)."""
    found = {m.__name__: getattr(m, "__version__", "unreleased") for m in modules.values()}
    if "adjoint" in found:
        found["adjoint"] = found["adjoint"].partition("+adjoint")[2]  # its own, after that of PyTorch which it follows
    try:
        import llvmlite
    except ImportError:
        return found
    return found | {"llvmlite": llvmlite.__version__}
