"""`torch.autograd.forward_ad`: dual tensors, which carry a tangent along with what is computed from them.

A dual tensor is a variable of the present level. Its tangent travels when somebody asks: `unpack_dual` walks forward over the
steps between the duals of the level and the tensor, as `func.jvp` does (`func.pushed`), and a known path is one look-up. So
the rules are those of `jvp`: derivatives of tangents may be taken, `detach()` and `no_grad()` stop them. Read `unpack_dual`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from adjoint import func
from adjoint.grad.walk import dependents, locate
from adjoint.trace.handle import Tensor

__all__ = ["UnpackedDualTensor", "dual_level", "enter_dual_level", "exit_dual_level", "make_dual", "unpack_dual"]


class UnpackedDualTensor(NamedTuple):
    """The two parts of a dual tensor; `tangent` is None where there is none."""

    primal: Tensor
    tangent: Tensor | None


class _Level:
    """What was made dual: the variables, and their tangents."""

    def __init__(self) -> None:
        self.starts: list[Tensor] = []
        self.tangents: list[Tensor] = []

    def leads_to(self, t: Tensor) -> bool:
        """Whether a tensor was computed from one of the variables."""
        place = None if t._leaf or not t._aval.requires_grad or not self.starts else locate(t)
        if place is None:
            return False
        places = [locate(x) for x in self.starts]
        found = dependents([place], {(h.id, slot) for h, slot in filter(None, places)}, set())
        return place[1] in found.get(place[0].id, ())


_level: _Level | None = None


def enter_dual_level() -> int:
    """Begin a level; returns its number, 0. RuntimeError inside of another: levels do not nest (transforms of
    `torch.func` do).

    >>> import adjoint as torch
    >>> torch.autograd.forward_ad.enter_dual_level()
    0
    >>> torch.autograd.forward_ad.exit_dual_level()
    """
    global _level
    if _level is not None:
        raise RuntimeError("Nested forward mode AD is not supported at the moment: leave the level that is open, or nest torch.func.jvp")
    _level = _Level()
    return 0


def exit_dual_level(*, level: int | None = None) -> None:
    """End the level: no tensor has a tangent from here on. RuntimeError where none is open, or another one."""
    global _level
    if _level is None:
        raise RuntimeError("exit_dual_level() without a level that is open: Dual level must be a positive number. Call enter_dual_level() first")
    if level not in (None, 0):
        raise RuntimeError(
            f"Trying to exit a forward AD level that was not the last one that was created: got level={level}, open is 0. This is not supported."
        )
    _level = None


class dual_level:
    """A level as a context; gives its number.

    >>> import adjoint as torch
    >>> from adjoint.autograd import forward_ad
    >>> with forward_ad.dual_level():
    ...     x = forward_ad.make_dual(torch.tensor(3.), torch.tensor(1.))
    ...     forward_ad.unpack_dual(x * x)
    UnpackedDualTensor(primal=tensor(9.), tangent=tensor(6.))
    """

    def __enter__(self) -> int:
        return enter_dual_level()

    def __exit__(self, *exc: Any) -> None:
        exit_dual_level()


def make_dual(tensor: Tensor, tangent: Tensor, *, level: int | None = None) -> Tensor:
    """A tensor with the values of `tensor` whose tangent is `tangent`, which has the same shape and is converted to its dtype.

    It reports `requires_grad=True`, and so does what is computed from it (PyTorch shows the tangent instead). Both
    arguments may require grad themselves. RuntimeError without an open level, for a tensor that has a tangent already, and
    for one of another shape; ValueError for integers.

    >>> import adjoint as torch
    >>> from adjoint.autograd import forward_ad
    >>> with forward_ad.dual_level():
    ...     x = forward_ad.make_dual(torch.tensor([0., 1.]), torch.tensor([1., 2.]))
    ...     forward_ad.unpack_dual(x.exp()).tangent
    tensor([1.0000, 5.4366])
    """
    if _level is None:
        raise RuntimeError(
            "Trying to create a dual Tensor for forward AD but no level exists: make sure to enter_dual_level() first, or write "
            "`with forward_ad.dual_level():`"
        )
    _check_number("make_dual", level)
    for name, x in (("tensor", tensor), ("tangent", tangent)):
        if not isinstance(x, Tensor):
            raise AttributeError(f"make_dual(): expected {name} to be a Tensor, got {type(x).__name__}: {x!r:.60}; torch.as_tensor() makes one")
    func.check_tangent(tensor, tangent)
    if tangent._aval.dtype.category < 2:
        raise ValueError(f"Expected tangent to be floating point or complex, but got: {tangent._aval.dtype}; convert it with .float()")
    if _level.leads_to(tensor):
        raise RuntimeError(
            "Making a dual Tensor based on a Tensor that already has a forward gradient at the same level 0 is not supported: take "
            "unpack_dual(tensor).primal"
        )
    start = func.variable(tensor)
    _level.starts.append(start)
    _level.tangents.append(tangent)
    return func.variable(start)  # a handle of its own: it may be changed in place


def unpack_dual(tensor: Tensor, *, level: int | None = None) -> UnpackedDualTensor:
    """The value of a tensor and its tangent: (primal, tangent), the latter None for what was computed from no dual tensor, and
    outside of a level.

    Where the computation may be differentiated in reverse, so may both. TypeError for what is no tensor.

    >>> import adjoint as torch
    >>> from adjoint.autograd import forward_ad
    >>> forward_ad.unpack_dual(torch.tensor(1.))
    UnpackedDualTensor(primal=tensor(1.), tangent=None)
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"unpack_dual(): argument 'tensor' (position 1) must be Tensor, not {type(tensor).__name__}: {tensor!r:.60}")
    if _level is None:
        return UnpackedDualTensor(tensor, None)
    _check_number("unpack_dual", level)
    if not _level.leads_to(tensor):
        return UnpackedDualTensor(tensor, None)
    again = func.is_recorded_for_others([tensor], _level.starts)
    (tangent,) = func.pushed([tensor], _level.starts, _level.tangents, again)
    return UnpackedDualTensor(func.outward(tensor, again), tangent)


def _check_number(name: str, level: int | None) -> None:
    if level not in (None, 0):
        raise RuntimeError(f"Invalid level given to {name}: {level}; the level that is open is 0, and need not be given")


def __getattr__(name: str) -> object:
    from adjoint.absent import absent

    raise absent(__name__, name, globals())
