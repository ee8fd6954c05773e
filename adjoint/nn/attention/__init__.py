"""Which implementation `scaled_dot_product_attention` should take: accepted and without effect, there is one.

>>> import adjoint as torch
>>> from adjoint.nn.attention import SDPBackend, sdpa_kernel
>>> with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
...     torch.nn.functional.scaled_dot_product_attention(*torch.ones(3, 1, 2, 4)).shape
torch.Size([1, 2, 4])
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum

__all__ = ["SDPBackend", "sdpa_kernel"]


class SDPBackend(IntEnum):
    """PyTorch's implementations of attention."""

    ERROR = -1
    MATH = 0
    FLASH_ATTENTION = 1
    EFFICIENT_ATTENTION = 2
    CUDNN_ATTENTION = 3
    OVERRIDEABLE = 4

    def __str__(self) -> str:
        return f"SDPBackend.{self.name}"


@contextmanager
def sdpa_kernel(backends: Iterable[SDPBackend] | SDPBackend, set_priority: bool = False) -> Iterator[None]:
    """A context in which attention is computed as outside: results depend on no implementation.

    AssertionError for what is neither an SDPBackend nor several of them.
    """
    known = isinstance(backends, SDPBackend) or (isinstance(backends, Iterable) and all(isinstance(b, SDPBackend) for b in backends))
    if not known:
        raise AssertionError(
            f"sdpa_kernel(backends): Backend must be an instance of SDPBackend or a list of SDPBackend instances, not {backends!r}; "
            "SDPBackend is in torch.nn.attention"
        )
    yield


def __getattr__(name: str) -> object:
    from adjoint.absent import absent

    raise absent(__name__, name, globals())
