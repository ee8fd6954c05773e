"""What tests share: operator records (`operators`), random graphs of primitives (`graphs`), random programs (`programs`),
comparison to the bit (`values`).
"""
