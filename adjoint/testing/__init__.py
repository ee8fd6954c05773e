"""What tests share: operator records (`operators`), random graphs of primitives (`graphs`), random programs (`programs`),
comparison to the bit (`values`). `comparison` has what users call: `assert_close`.
"""

from __future__ import annotations

from adjoint.testing.comparison import assert_close

__all__ = ["assert_close"]
