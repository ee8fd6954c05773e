"""Layers and models: `torch.nn` by name.

`module.py` holds the base class, `containers.py` what holds other modules, one file per family of layers
the rest; what layers compute is in `functional/`, how parameters start in `init.py`. Everything here uses
the public tensor interface only.
"""

from adjoint.nn import functional, init, parameter, utils
from adjoint.nn.activations import *  # noqa: F403
from adjoint.nn.containers import ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential
from adjoint.nn.convolution import *  # noqa: F403
from adjoint.nn.distance import CosineSimilarity, PairwiseDistance
from adjoint.nn.dropout import *  # noqa: F403
from adjoint.nn.linear import Bilinear, Embedding, Identity, Linear
from adjoint.nn.losses import *  # noqa: F403
from adjoint.nn.module import Module
from adjoint.nn.normalization import *  # noqa: F403
from adjoint.nn.parameter import Parameter
from adjoint.nn.pooling import *  # noqa: F403
from adjoint.nn.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from adjoint.nn.reshaping import *  # noqa: F403
from adjoint.nn.transformer import *  # noqa: F403
