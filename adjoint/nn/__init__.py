"""Layers and models: `torch.nn` by name.

`module.py` holds the base class, `containers.py` what holds other modules, one file per family of
layers the rest; what layers compute is in `functional/`, how parameters start in `init.py`.
Everything here uses the public tensor interface only.
"""

from importlib import import_module

from adjoint.nn import functional, init, parameter, utils  # noqa: F401
from adjoint.nn.activations import *  # noqa: F403
from adjoint.nn.adaptive import *  # noqa: F403
from adjoint.nn.containers import *  # noqa: F403
from adjoint.nn.convolution import *  # noqa: F403
from adjoint.nn.distance import *  # noqa: F403
from adjoint.nn.dropout import *  # noqa: F403
from adjoint.nn.lazy import *  # noqa: F403
from adjoint.nn.linear import *  # noqa: F403
from adjoint.nn.losses import *  # noqa: F403
from adjoint.nn.margins import *  # noqa: F403
from adjoint.nn.module import *  # noqa: F403
from adjoint.nn.normalization import *  # noqa: F403
from adjoint.nn.parallel import *  # noqa: F403
from adjoint.nn.parameter import *  # noqa: F403
from adjoint.nn.pooling import *  # noqa: F403
from adjoint.nn.recurrent import *  # noqa: F403
from adjoint.nn.reshaping import *  # noqa: F403
from adjoint.nn.transformer import *  # noqa: F403


def __getattr__(name: str) -> object:
    if name in ("attention", "modules"):
        return import_module(f"adjoint.nn.{name}")
    from adjoint.absent import absent

    raise absent(__name__, name, globals())
