"""The public names of the room `training`."""

from .config import TrainingConfig as TrainingConfig
from .loop import TrainingResult as TrainingResult
from .loop import train as train
