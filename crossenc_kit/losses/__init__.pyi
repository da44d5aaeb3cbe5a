"""The public names of the room `losses`."""

from .distillation import distillation_loss as distillation_loss
from .distillation import teacher_and_gold as teacher_and_gold
from .listwise import RANKING_LOSSES as RANKING_LOSSES
from .listwise import group_cross_entropy as group_cross_entropy
from .listwise import kl_divergence as kl_divergence
from .loss import loss_with as loss_with
from .pairwise import lambda_loss as lambda_loss
from .pairwise import margin_mse as margin_mse
from .pairwise import ranknet as ranknet
from .pointwise import bce_with_logits as bce_with_logits
from .pointwise import cross_entropy as cross_entropy
from .pointwise import mse as mse
from .pointwise import sigmoid_mse as sigmoid_mse
