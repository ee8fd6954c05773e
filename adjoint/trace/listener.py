"""Who is told what a call does besides recording operations: a `Listener` set as `Trace.watch`."""

from __future__ import annotations

from typing import Any


class Listener:
    """Hears of random numbers and optimizer steps before they happen, and hands the news on to the listener around it.

    outer: that listener, or None.
    """

    def __init__(self, outer: Listener | None = None) -> None:
        self.outer = outer

    def drawn(self, generator: Any) -> None:
        """Numbers are about to be drawn from a generator."""
        if self.outer is not None:
            self.outer.drawn(generator)

    def set(self, generator: Any) -> None:
        """A generator is about to start anew."""
        if self.outer is not None:
            self.outer.set(generator)

    def stepped(self, optimizer: Any, group: Any, kind: Any, rows: list, count: int) -> None:
        """An optimizer is about to update parameters that share `count` numbers (`FormulaOptimizer.step`)."""
        if self.outer is not None:
            self.outer.stepped(optimizer, group, kind, rows, count)

    def stepped_on(self, optimizer: Any) -> None:
        """A step of an optimizer is complete."""
        if self.outer is not None:
            self.outer.stepped_on(optimizer)

    def computed(self, slot: int, value: Any) -> None:
        """In reference mode, the value at a slot is known."""
        if self.outer is not None:
            self.outer.computed(slot, value)

    def holds(self) -> bool:
        """Whether the trace should go on where it could end."""
        return self.outer is not None and self.outer.holds()

    def give_up(self, problem: str) -> None:
        """What happened cannot be done again by a look-up, for this reason."""
        if self.outer is not None:
            self.outer.give_up(problem)
