"""`torch.__config__`: what this package was made of.

>>> import adjoint as torch
>>> "llvmlite" in torch.__config__.show()
True
"""

from __future__ import annotations

__all__ = ["parallel_info", "show"]


def show() -> str:
    """Versions, processor and settings, a line each, as `adjoint env` prints them.

    >>> import adjoint as torch
    >>> torch.__config__.show().splitlines()[0].startswith("Adjoint built with:")
    True
    """
    from adjoint.cli import environment

    return "\n".join(["Adjoint built with:", *[f"  - {name}: {value}" for name, value in environment().items()]])


def parallel_info() -> str:
    """How many threads share the work.

    >>> import adjoint as torch
    >>> print(torch.__config__.parallel_info().splitlines()[0].partition(":")[0])
    torch.get_num_threads()
    """
    import adjoint as torch

    return f"torch.get_num_threads(): {torch.get_num_threads()}\ntorch.get_num_interop_threads(): {torch.get_num_interop_threads()}"
