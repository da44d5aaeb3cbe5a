"""The public names of the room `distillation`."""

from .ensembles import ensemble as ensemble
from .layers import match_layers as match_layers
from .score_files import read_teacher_scores as read_teacher_scores
from .score_files import write_teacher_scores as write_teacher_scores
from .students import make_student as make_student
from .teachers import with_teacher_scores as with_teacher_scores
