"""The public names of the room `evaluation`."""

from .calibration import calibrate as calibrate
from .classification import ClassificationReport as ClassificationReport
from .classification import accuracy_by_tag as accuracy_by_tag
from .classification import classification_evaluator as classification_evaluator
from .classification import evaluate_classification as evaluate_classification
from .comparison import compare_classifiers as compare_classifiers
from .comparison import compare_runs as compare_runs
from .comparison import randomisation_test as randomisation_test
from .explain import error_slices as error_slices
from .explain import probe as probe
from .metrics import bootstrap_difference as bootstrap_difference
from .metrics import bootstrap_interval as bootstrap_interval
from .metrics import pearson as pearson
from .metrics import spearman as spearman
from .ranking import RankingReport as RankingReport
from .ranking import evaluate_ranking as evaluate_ranking
from .ranking_metrics import measure_run as measure_run
from .ranking_metrics import ndcg as ndcg
from .reranking import collections_evaluator as collections_evaluator
from .reranking import depth_curve as depth_curve
from .reranking import evaluate_collections as evaluate_collections
from .reranking import ranking_evaluator as ranking_evaluator
from .similarity import CorrelationReport as CorrelationReport
from .similarity import by_tag as by_tag
from .similarity import correlation_evaluator as correlation_evaluator
from .similarity import evaluate_correlation as evaluate_correlation
