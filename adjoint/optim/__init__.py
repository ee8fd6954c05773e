"""Optimizers and learning-rate schedules: `torch.optim` by name.

`optimizer.py` holds the machinery; the other files hold formulas, grouped by family.
"""

import importlib

from adjoint.optim import lr_scheduler
from adjoint.optim.adam import Adam, Adamax, AdamW, NAdam, RAdam, SparseAdam
from adjoint.optim.adaptive import Adadelta, Adagrad, RMSprop, Rprop
from adjoint.optim.lbfgs import LBFGS
from adjoint.optim.matrices import Adafactor, Muon
from adjoint.optim.optimizer import Optimizer
from adjoint.optim.sgd import ASGD, SGD

__all__ = [
    "ASGD",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SparseAdam",
    "lr_scheduler",
    "swa_utils",
]


def __getattr__(name: str) -> object:
    if name == "swa_utils":  # it needs the layers, which optimizers alone do not
        return importlib.import_module("adjoint.optim.swa_utils")
    from adjoint.absent import absent

    raise absent(__name__, name, globals())
