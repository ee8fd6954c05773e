"""A progress bar on stderr that is a moving line on a terminal and a few plain lines elsewhere.

Read `ProgressBar`.
"""

from __future__ import annotations

import sys
import time
from typing import TextIO

_WIDTH = 28
_REDRAW_SECONDS = 0.05


class ProgressBar:
    """Shows step, loss and accuracy; off a terminal, lines for at most ten epochs."""

    def __init__(self, epochs: int, stream: TextIO | None = None) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.moving = self.stream.isatty()
        self.epochs = epochs
        self.epoch = 0
        self.accuracy: float | None = None
        self.drawn_at = 0.0

    def update(self, step: int, steps: int, loss: float, accuracy: float | None) -> None:
        if accuracy is not None:
            self.accuracy = accuracy
            self.epoch += 1
        if self.moving:
            now = time.monotonic()
            if step == steps or now - self.drawn_at >= _REDRAW_SECONDS:
                self.drawn_at = now
                self._draw(step, steps, loss)
        elif accuracy is not None and self._worth_a_line():
            self.stream.write(
                f"epoch {self.epoch}/{self.epochs}  loss {loss:.4f}  held out {accuracy:.1%}\n"
            )
            self.stream.flush()

    def _worth_a_line(self) -> bool:
        every = -(-self.epochs // 10)
        return self.epoch % every == 0 or self.epoch == self.epochs

    def _draw(self, step: int, steps: int, loss: float) -> None:
        full = _WIDTH * step // max(1, steps)
        bar = "█" * full + "░" * (_WIDTH - full)
        held = "" if self.accuracy is None else f"  held out {self.accuracy:.1%}"
        self.stream.write(f"\r{bar} {step}/{steps}  loss {loss:.4f}{held} ")
        self.stream.flush()

    def close(self) -> None:
        if self.moving:
            self.stream.write("\n")
            self.stream.flush()
