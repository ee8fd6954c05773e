"""Results that only detached views still hold.

`loss.detach()` shares the memory of `loss`, and so keeps it. Once nobody else does, nobody can ask for its derivative,
and its past is given up: a list of detached losses costs the losses.
"""

from __future__ import annotations

import weakref
from collections import deque
from sys import getrefcount

from adjoint.trace.aval import aval
from adjoint.trace.handle import Tensor

AT_ONCE = 16  # results looked at when a trace ends
UNHELD = 2  # references to a base besides those of its views: the local variable, the argument

watched: deque[weakref.ref[Tensor]] = deque()  # results with a past, of which a detached view was made


def watch(base: Tensor) -> None:
    """Remember a base of which a detached view was made."""
    if base._aval.requires_grad and not base._leaf:
        watched.append(weakref.ref(base))


def forget_unreachable() -> None:
    """Give up the past of those watched results that nobody can reach any more. Called when a trace ends."""
    for _ in range(min(len(watched), AT_ONCE)):
        try:
            ref = watched.popleft()
        except IndexError:  # another thread was faster
            return
        base = ref()
        if base is None or base._leaf or not base._aval.requires_grad:
            continue
        if base._hist is not None and base._data is not None and _only_detached_views_hold(base):
            base._hist, base._hslot, base._retains = None, -1, False
            base._special = base._escape is not None
            base._aval = aval(base._aval.shape, base._aval.dtype)
        else:
            watched.append(ref)


def _only_detached_views_hold(base: Tensor) -> bool:
    views = base._views.all() if base._views is not None else []
    if not all([any([move[0] == "alias" for move in v._chain]) for v in views]):
        return False
    return getrefcount(base) == len(views) + UNHELD + 1  # and the caller's
