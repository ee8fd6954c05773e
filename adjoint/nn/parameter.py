"""`Parameter` under the path PyTorch programs import it from.

The class itself lives beside `Tensor` (`adjoint.methods`), because it is a tensor and not a layer.
"""

from adjoint.methods import Parameter

__all__ = ["Parameter"]
