"""Declaring composites and optimizer updates: the names library code uses for the trace's macros."""

from adjoint.trace.macro import FLOATING, INEXACT, composite, update

__all__ = ["FLOATING", "INEXACT", "composite", "update"]
