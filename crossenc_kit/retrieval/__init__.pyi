"""The public names of the room `retrieval`."""

from .baselines import random_index as random_index
from .baselines import word_overlap as word_overlap
from .baselines import words as words
from .bm25 import bm25_index as bm25_index
from .bm25 import terms as terms
from .dense import cosine as cosine
from .dense import dense_cosine as dense_cosine
from .dense import dense_index as dense_index
from .dense import encoder as encoder
from .mining import mine_hard_negatives as mine_hard_negatives
from .negatives import MinedNegatives as MinedNegatives
from .negatives import false_negative_rate as false_negative_rate
from .negatives import hide_positives as hide_positives
from .negatives import negatives_by_epoch as negatives_by_epoch
from .reranking import rerank as rerank
from .reranking import retrieve_and_rerank as retrieve_and_rerank
from .search import reciprocal_rank_fusion as reciprocal_rank_fusion
