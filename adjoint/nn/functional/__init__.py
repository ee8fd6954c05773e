"""The functions behind the layers: `torch.nn.functional` by name.

One family per file; every function that computes is a composite of tensor operations, written as
the formula it is. Only names are gathered here.
"""

from types import FunctionType as _FunctionType

from adjoint.nn.functional.activations import *  # noqa: F403
from adjoint.nn.functional.alignment import *  # noqa: F403
from adjoint.nn.functional.attention import *  # noqa: F403
from adjoint.nn.functional.bags import *  # noqa: F403
from adjoint.nn.functional.convolution import (  # noqa: F401
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    fold,
    unfold,
)
from adjoint.nn.functional.distance import *  # noqa: F403
from adjoint.nn.functional.dropout import (  # noqa: F401
    alpha_dropout,
    dropout,
    dropout1d,
    dropout2d,
    dropout3d,
    feature_alpha_dropout,
)
from adjoint.nn.functional.fractional import *  # noqa: F403
from adjoint.nn.functional.grids import *  # noqa: F403
from adjoint.nn.functional.grouped import *  # noqa: F403
from adjoint.nn.functional.linear import *  # noqa: F403
from adjoint.nn.functional.linear_losses import *  # noqa: F403
from adjoint.nn.functional.losses import *  # noqa: F403
from adjoint.nn.functional.margins import *  # noqa: F403
from adjoint.nn.functional.normalization import *  # noqa: F403
from adjoint.nn.functional.padding import pad  # noqa: F401
from adjoint.nn.functional.pooling import *  # noqa: F403
from adjoint.nn.functional.resampling import *  # noqa: F403
from adjoint.nn.functional.unpooling import *  # noqa: F403
from adjoint.ops.results import public as _public

for _name, _value in list(globals().items()):
    if isinstance(_value, _FunctionType) and not _name.startswith("_"):
        globals()[_name] = _public(_value, _name, "nn.functional.")


def __getattr__(name: str) -> object:
    from adjoint.absent import absent

    raise absent(__name__, name, globals())
