"""The public names of the room `models`."""

from .adapters import merge_adapters as merge_adapters
from .backbones import offline_weights as offline_weights
from .cross_encoder import CrossEncoder as CrossEncoder
from .int8 import input_ranges as input_ranges
from .int8 import linear_layers as linear_layers
from .int8 import quantized as quantized
from .packed import attend_by_length as attend_by_length
from .packed import forward as forward
from .packed import pack as pack
from .packed import pad_batch as pad_batch
from .packed import padding_of as padding_of
from .packed import take_apart as take_apart
from .tokens import length_batches as length_batches
from .tokens import longest_first as longest_first
from .tokens import tokenize as tokenize
