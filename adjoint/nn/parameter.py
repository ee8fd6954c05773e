"""`Parameter` under the path PyTorch programs import it from.

The class itself lives beside `Tensor` (`adjoint.tensor`), because it is a tensor and not a layer.
"""

from adjoint.tensor import Parameter

__all__ = ["Parameter"]
