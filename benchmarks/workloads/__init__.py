"""The workloads, one idea per file; `ALL` is the table that the command walks through.

To add one: a file with a `Workload` record, and its name in `ALL`.
"""

from __future__ import annotations

from ..record import Workload
from .attention import ATTENTION
from .autocast import AUTOCAST
from .convolution import CONV2D, CONV2D_GRAD
from .depthwise import DEPTHWISE
from .diagonal_lstm import DIAGONAL_LSTM
from .embedding import EMBEDDING
from .fused import FUSED, FUSED_GRAD
from .gpt import GPT
from .hand import HAND
from .lenet import LENET
from .linreg import LINREG
from .lstm import LSTM
from .mlp8 import MLP8
from .mlp784 import MLP784_ADAM, MLP784_SGD
from .orders import SCANS, SEARCH, SORT, TOPK, UNIQUE
from .pointwise20 import POINTWISE20
from .pools import ADAPTIVE_POOL, AVG_POOL, MAX_POOL, MAX_POOL_OVERLAPPING
from .products import LAYERS, MATMULS, THIN_LAYER
from .reads import ELEMENT_FILL, ELEMENT_LOOP, ELEMENT_READS, ELEMENT_WRITES, MARKOV_CHAIN
from .rows import CROSS_ENTROPY, LAYER_NORM, SOFTMAX
from .scalar1000 import SCALAR1000
from .streams import STREAMS
from .tables import TABLES
from .transforms import HESSIAN, PER_SAMPLE
from .varied import VARIED

ALL: tuple[Workload, ...] = (
    POINTWISE20,
    LINREG,
    SCALAR1000,
    MLP8,
    FUSED,
    FUSED_GRAD,
    SOFTMAX,
    LAYER_NORM,
    CROSS_ENTROPY,
    CONV2D,
    CONV2D_GRAD,
    *DEPTHWISE,
    LENET,
    MLP784_SGD,
    MLP784_ADAM,
    AUTOCAST,
    LSTM,
    GPT,
    *ATTENTION,
    MAX_POOL,
    MAX_POOL_OVERLAPPING,
    AVG_POOL,
    ADAPTIVE_POOL,
    EMBEDDING,
    SORT,
    TOPK,
    UNIQUE,
    SEARCH,
    *SCANS,
    *MATMULS,
    *LAYERS,
    THIN_LAYER,
    *STREAMS,
    HESSIAN,
    PER_SAMPLE,
    HAND,
    DIAGONAL_LSTM,
    ELEMENT_READS,
    ELEMENT_WRITES,
    ELEMENT_LOOP,
    ELEMENT_FILL,
    MARKOV_CHAIN,
    *TABLES,
    *VARIED,
)
