"""NumPy generators that follow the engine's seed.

Shuffles, and samplers whose work is a rejection loop over integers (Poisson, binomial), are quicker
and clearer in NumPy than as recorded operations. They must still obey `manual_seed` and accept a
`Generator`, so each takes one call number of the engine's stream and opens a NumPy generator on it.
Read `host_generator`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import adjoint as torch


def host_generator(generator: Any = None) -> np.random.Generator:
    """A NumPy generator for the next call number of `generator` (default: the engine's stream).

    Nothing is recorded and nothing waits for a value: the state is two Python integers.

    >>> import adjoint as torch
    >>> from adjoint.utils.host_random import host_generator
    >>> _ = torch.manual_seed(3)
    >>> a = host_generator().integers(1000)
    >>> _ = torch.manual_seed(3)
    >>> bool(a == host_generator().integers(1000))
    True
    """
    return (torch.default_generator if generator is None else generator).host()
