"""What tests share: random graphs of primitives (`graphs`), comparison to the bit (`values`)."""
