"""Names of what is not here (devices, TorchScript, graphs of `torch.fx`), which programs ask `isinstance` about and annotate with.

`refusing` makes a module's `__getattr__` of a list of such names: classes and functions that can be named and refuse to be called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adjoint.absent import absent


class DeviceError(RuntimeError, AssertionError):
    """A device that is not there: AssertionError is what PyTorch raises if built without it, RuntimeError if not found."""


def no_device(where: str, what: str) -> Callable[[str], DeviceError]:
    """What using a name of the module `where`, which is for devices called `what`, raises."""

    def error(name: str) -> DeviceError:
        return DeviceError(f"{where}.{name}: there is no {what}, Adjoint computes on the CPU; ask {where}.is_available() first")

    return error


def refused(where: str, name: str, make: Callable[[str], Exception], base: type = object) -> type:
    """A class that nothing is an instance of: making one raises what `make` says of its name."""

    def refuse(cls: type, *args: Any, **kwargs: Any) -> Any:
        raise make(name)

    return type(name, (base,), {"__new__": refuse, "__module__": where, "__doc__": f"Not here: {make(name)}"})


def refusing(
    where: str,
    names: str,
    make: Callable[[str], Exception],
    answers: dict[str, Callable[[], Any]] | None = None,
    bases: dict[str, type] | None = None,
) -> Callable[[str], Any]:
    """A module's `__getattr__`: classes that refuse to be called for `names`; for those of `answers` functions of any arguments that
    give this. AttributeError for others."""
    made: dict[str, Any] = {}
    known, given = frozenset(names.split()), answers or {}

    def look_up(name: str) -> Any:
        if name not in made:
            if name in given:
                made[name] = lambda *args, **kwargs: given[name]()
            elif name in known:
                made[name] = refused(where, name, make, (bases or {}).get(name, object))
            else:
                raise absent(where, name, known | given.keys())
        return made[name]

    return look_up
