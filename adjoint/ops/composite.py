"""Declaring composites and optimizer updates: the names library code uses for the trace's macros."""

from adjoint.trace.macro import composite, update

__all__ = ["composite", "update"]
