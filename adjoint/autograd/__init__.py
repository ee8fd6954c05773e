"""`torch.autograd`: gradients, custom functions, modes, numeric checks."""

from adjoint.autograd import functional, graph
from adjoint.autograd.check import GradcheckError, gradcheck, gradgradcheck
from adjoint.autograd.engine import backward, grad
from adjoint.autograd.function import Function
from adjoint.autograd.modes import enable_grad, inference_mode, no_grad, set_grad_enabled

__all__ = [
    "Function", "GradcheckError", "backward", "enable_grad", "functional", "grad", "gradcheck", "gradgradcheck", "graph",
    "inference_mode", "no_grad", "set_grad_enabled",
]  # fmt: skip
