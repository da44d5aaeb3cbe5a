"""The public names of the room `models`."""

from .adapters import merge_adapters as merge_adapters
from .cross_encoder import CrossEncoder as CrossEncoder
