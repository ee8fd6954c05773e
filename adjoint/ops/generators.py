"""Generators: where random numbers come from, and the named streams that hang on a seed.

A `Generator` is a seed and a count of calls. Each call draws from a sequence of its own, numbered by (seed, call), so a
state is two integers and nothing is ever computed twice or in order. A *stream* is a generator whose seed follows from
its parent's seed and a name: what is drawn from one moves no other, and all of them restart with `manual_seed`.
The functions at the end are those of the default generator. Read `Generator`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import operator
import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from adjoint import dtypes
from adjoint.ops.create import check_device
from adjoint.trace.handle import Tensor
from adjoint.trace.recorder import local, realize, tensor_from_array

_DEFAULT_SEED = 67280421310721
_lock = threading.Lock()  # of the counts: two threads never draw the same numbers


class Generator:
    """A source of random numbers: `manual_seed` restarts it.

    >>> import adjoint as torch
    >>> g = torch.Generator().manual_seed(3)
    >>> a = torch.rand(2, generator=g)
    >>> bool((a == torch.rand(2, generator=torch.Generator().manual_seed(3))).all())
    True

    Fields: _seed: as given, 0 to 2**64 - 1.  _key: the same 64 bits as a signed number, which is what kernels take.
    _calls: draws so far.  _streams: the named streams that were asked for.
    """

    def __init__(self, device: Any = "cpu") -> None:
        check_device(device)
        self._streams: dict[str | int, Generator] = {}
        self._restart(_DEFAULT_SEED)

    def _restart(self, seed: int) -> None:
        watch = local.trace.watch
        if watch is not None:
            watch.set(self)
        self._seed, self._key, self._calls = seed, seed - (seed >> 63 << 64), 0
        for name, stream in self._streams.items():
            stream._restart(_derived(seed, name))

    def manual_seed(self, seed: int) -> Generator:
        """Start anew from `seed`, and every stream of this generator with it; returns the generator.

        ValueError unless -2**63 <= seed < 2**64 (a negative seed counts from 2**64), RuntimeError if it is no integer.
        """
        try:
            number = operator.index(seed)
        except TypeError:
            raise RuntimeError(f"manual_seed expected a long, but got {type(seed).__name__}") from None
        if not -(2**63) <= number < 2**64:
            raise ValueError(f"Overflow when unpacking long long: a seed has 64 bits, got {number}")
        self._restart(number % 2**64)
        return self

    def seed(self) -> int:
        """Start anew from a seed of the operating system; returns it."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little"))
        return self._seed

    def initial_seed(self) -> int:
        """The seed this generator last started from."""
        return self._seed

    def stream(self, name: str | int) -> Generator:
        """The independent generator of this name, the same object at every call.

        Its seed follows from this generator's seed and the name alone: drawing from one stream moves neither its
        siblings nor this generator, and `manual_seed` here restarts it. Streams have streams of their own, so
        `g.stream("layer").stream(3)` names one of many. They are kept, with where they are, as long as `g` is, and
        are part of its state.

        >>> import adjoint as torch
        >>> g = torch.Generator().manual_seed(0)
        >>> a = torch.rand(2, generator=g.stream("noise"))
        >>> g = torch.Generator().manual_seed(0)
        >>> _ = torch.rand(5, generator=g), torch.rand(5, generator=g.stream("dropout"))
        >>> bool((a == torch.rand(2, generator=g.stream("noise"))).all())
        True
        """
        found = self._streams.get(name)
        if found is None:
            if isinstance(name, bool) or not isinstance(name, (str, int)):
                raise TypeError(f"the name of a stream is a str or an int, got {name!r}")
            found = Generator()
            found._restart(_derived(self._seed, name))
            found = self._streams.setdefault(name, found)
        return found

    def next_call(self) -> tuple[int, int]:
        """The two numbers (signed 64 bits) under which the next call draws. They are never given out twice."""
        watch = local.trace.watch
        if watch is not None:
            watch.drawn(self)
        with _lock:
            self._calls += 1
            return self._key, self._calls

    def host(self) -> np.random.Generator:
        """A NumPy generator for the next call, for what is drawn in NumPy."""
        key, call = self.next_call()
        return np.random.default_rng([key % 2**64, call])

    def get_state(self) -> Tensor:
        """Where this generator and its streams are, as bytes for `set_state`."""
        return tensor_from_array(np.frombuffer(json.dumps(self._described()).encode(), np.uint8).copy())

    def set_state(self, new_state: Tensor) -> Generator:
        """Put this generator and its streams where they were; streams the state does not know start anew.

        TypeError unless `new_state` is a uint8 tensor, RuntimeError if it is not what `get_state` gave.
        """
        if not isinstance(new_state, Tensor):
            raise TypeError(f"expected a torch.ByteTensor, but got {type(new_state).__name__}")
        if new_state._aval.dtype is not dtypes.uint8:
            raise TypeError(f"RNG state must be a torch.ByteTensor, got one of {new_state._aval.dtype}")
        data = realize(new_state).array(np.uint8, (new_state._aval.size,)).tobytes()
        try:
            self._follow(json.loads(data))
        except (ValueError, KeyError, TypeError):
            raise RuntimeError(
                f"the {len(data)} bytes are no state of a generator of this library: give back what get_state() returned"
            ) from None
        return self

    def clone_state(self) -> Generator:
        """A new generator in the same state."""
        other = Generator()
        other._follow(self._described())
        return other

    def _described(self) -> dict[str, Any]:
        streams = [[name, s._described()] for name, s in self._streams.items()]
        return {"seed": self._seed, "calls": self._calls, "streams": streams}

    def _follow(self, state: dict[str, Any]) -> None:
        seed, calls = int(state["seed"]), int(state["calls"])
        streams = [(name, dict(s)) for name, s in state["streams"]]
        self._restart(seed)
        self._calls = calls
        for name, s in streams:
            self.stream(name)._follow(s)

    def __reduce__(self) -> tuple:
        return _revived, (self._described(),)

    def __repr__(self) -> str:
        return f"<torch.Generator seed={self._seed} calls={self._calls}>"


def _revived(state: dict[str, Any]) -> Generator:
    out = Generator()
    out._follow(state)
    return out


def _derived(seed: int, name: str | int) -> int:
    """The seed of a stream: 64 bits that depend on every bit of the parent's seed and of the name."""
    kind = b"s" if isinstance(name, str) else b"i"
    text = seed.to_bytes(8, "little") + kind + str(name).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, person=b"adjoint stream").digest(), "little")


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Start the default generator and its streams anew from `seed`; the same program then draws the same numbers.

    >>> import adjoint as torch
    >>> _ = torch.manual_seed(0)
    >>> a = torch.rand(2)
    >>> _ = torch.manual_seed(0)
    >>> bool((torch.rand(2) == a).all())
    True
    """
    return default_generator.manual_seed(int(seed))


def seed() -> int:
    """A new seed from the operating system for the default generator; returns it.

    >>> import adjoint as torch
    >>> isinstance(torch.seed(), int)
    True
    """
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the default generator.

    >>> import adjoint as torch
    >>> _ = torch.manual_seed(5)
    >>> torch.initial_seed()
    5
    """
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """Where the default generator and its streams are, as bytes for `set_rng_state`.

    >>> import adjoint as torch
    >>> state = torch.get_rng_state()
    >>> a = torch.rand(2)
    >>> torch.set_rng_state(state)
    >>> bool((torch.rand(2) == a).all())
    True
    """
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Put the default generator and its streams into a state that `get_rng_state` gave.

    >>> import adjoint as torch
    >>> torch.set_rng_state(torch.get_rng_state())
    """
    default_generator.set_state(new_state)


def stream(name: str | int) -> Generator:
    """The independent generator of this name, derived from the seed of `manual_seed`: `default_generator.stream(name)`.

    >>> import adjoint as torch
    >>> _ = torch.manual_seed(0)
    >>> a = torch.rand(2, generator=torch.random.stream("augmentation"))
    >>> _ = torch.manual_seed(0)
    >>> _ = torch.rand(100)
    >>> bool((a == torch.rand(2, generator=torch.random.stream("augmentation"))).all())
    True
    """
    return default_generator.stream(name)


@contextlib.contextmanager
def fork_rng(devices: Any = None, enabled: bool = True, device_type: str = "cpu", **_: Any) -> Iterator[None]:
    """What is drawn inside does not move the default generator or its streams outside.

    >>> import adjoint as torch
    >>> _ = torch.manual_seed(0)
    >>> with torch.random.fork_rng():
    ...     a = torch.rand(2)
    >>> bool((a == torch.rand(2)).all())
    True
    """
    for device in (device_type, *(devices or ())):
        check_device(device)
    if not enabled:
        yield
        return
    before = default_generator._described()
    try:
        yield
    finally:
        default_generator._follow(before)


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
