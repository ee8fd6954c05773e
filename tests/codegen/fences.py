"""Memory that ends the process when it is read beyond its ends."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np


def fenced(array: np.ndarray, front: bool) -> tuple[np.ndarray, mmap.mmap]:
    """A copy that begins, or ends, at a page that may not be touched."""
    page, size = mmap.PAGESIZE, array.nbytes
    inner = -(-size // page) * page
    region = mmap.mmap(-1, inner + 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(region))
    libc = ctypes.CDLL(None, use_errno=True)
    for fence in (start, start + page + inner):
        assert libc.mprotect(ctypes.c_void_p(fence), page, 0) == 0
    at = page if front else page + inner - size
    copy = np.frombuffer(region, array.dtype, array.size, at)
    copy[:] = array.ravel()
    return copy, region
