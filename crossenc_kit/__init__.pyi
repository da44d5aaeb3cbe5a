"""The public names of the kit and the files they are in: read by type checkers, and by `__init__.py` itself."""

from crossenc_kit.adapters import merge_adapters as merge_adapters
from crossenc_kit.augmentation import bi_encoder_scorer as bi_encoder_scorer
from crossenc_kit.augmentation import join_pairs as join_pairs
from crossenc_kit.augmentation import label_pairs as label_pairs
from crossenc_kit.augmentation import sample_pairs as sample_pairs
from crossenc_kit.augmentation import train_bi_encoder as train_bi_encoder
from crossenc_kit.bench import compare_speed as compare_speed
from crossenc_kit.block_scoring import score_pairs as score_pairs
from crossenc_kit.bulk import score_file as score_file
from crossenc_kit.candidates import read_candidates as read_candidates
from crossenc_kit.candidates import triples_as_pairs as triples_as_pairs
from crossenc_kit.classification import ClassificationReport as ClassificationReport
from crossenc_kit.classification import accuracy_by_tag as accuracy_by_tag
from crossenc_kit.classification import classification_evaluator as classification_evaluator
from crossenc_kit.classification import compare_classifiers as compare_classifiers
from crossenc_kit.classification import evaluate_classification as evaluate_classification
from crossenc_kit.collection import Collection as Collection
from crossenc_kit.collection import check_run as check_run
from crossenc_kit.comparison import randomisation_test as randomisation_test
from crossenc_kit.distillation import distillation_loss as distillation_loss
from crossenc_kit.drift import DriftError as DriftError
from crossenc_kit.ensembles import ensemble as ensemble
from crossenc_kit.evaluation import CorrelationReport as CorrelationReport
from crossenc_kit.evaluation import by_tag as by_tag
from crossenc_kit.evaluation import correlation_evaluator as correlation_evaluator
from crossenc_kit.evaluation import evaluate_correlation as evaluate_correlation
from crossenc_kit.exercises import check as check
from crossenc_kit.exercises import check_function as check_function
from crossenc_kit.explain import error_slices as error_slices
from crossenc_kit.explain import probe as probe
from crossenc_kit.export import ExportReport as ExportReport
from crossenc_kit.export import export_model as export_model
from crossenc_kit.first_stages import bm25_index as bm25_index
from crossenc_kit.first_stages import bm25_run as bm25_run
from crossenc_kit.first_stages import bm25_scorer as bm25_scorer
from crossenc_kit.first_stages import dense_index as dense_index
from crossenc_kit.first_stages import dense_run as dense_run
from crossenc_kit.first_stages import overlap_run as overlap_run
from crossenc_kit.first_stages import random_run as random_run
from crossenc_kit.first_stages import reciprocal_rank_fusion as reciprocal_rank_fusion
from crossenc_kit.history import History as History
from crossenc_kit.judgements import false_negative_rate as false_negative_rate
from crossenc_kit.judgements import hide_positives as hide_positives
from crossenc_kit.label_readers import read_duplicates as read_duplicates
from crossenc_kit.label_readers import read_mrpc as read_mrpc
from crossenc_kit.label_readers import read_nli as read_nli
from crossenc_kit.label_readers import read_qnli as read_qnli
from crossenc_kit.layer_matching import match_layers as match_layers
from crossenc_kit.long_documents import chunked as chunked
from crossenc_kit.long_documents import score_chunks as score_chunks
from crossenc_kit.long_documents import truncation_report as truncation_report
from crossenc_kit.losses import bce_with_logits as bce_with_logits
from crossenc_kit.losses import cross_entropy as cross_entropy
from crossenc_kit.losses import loss_with as loss_with
from crossenc_kit.losses import mse as mse
from crossenc_kit.losses import sigmoid_mse as sigmoid_mse
from crossenc_kit.metrics import bootstrap_difference as bootstrap_difference
from crossenc_kit.metrics import bootstrap_interval as bootstrap_interval
from crossenc_kit.metrics import pearson as pearson
from crossenc_kit.metrics import spearman as spearman
from crossenc_kit.mining import mine_hard_negatives as mine_hard_negatives
from crossenc_kit.model import TruncationWarning as TruncationWarning
from crossenc_kit.negatives import MinedNegatives as MinedNegatives
from crossenc_kit.negatives import negatives_by_epoch as negatives_by_epoch
from crossenc_kit.pairs import DataError as DataError
from crossenc_kit.pairs import InputExample as InputExample
from crossenc_kit.pairs import Pairs as Pairs
from crossenc_kit.pairs import as_pairs as as_pairs
from crossenc_kit.ranking_evaluation import RankingReport as RankingReport
from crossenc_kit.ranking_evaluation import evaluate_ranking as evaluate_ranking
from crossenc_kit.ranking_evaluators import collections_evaluator as collections_evaluator
from crossenc_kit.ranking_evaluators import evaluate_collections as evaluate_collections
from crossenc_kit.ranking_evaluators import ranking_evaluator as ranking_evaluator
from crossenc_kit.ranking_losses import RANKING_LOSSES as RANKING_LOSSES
from crossenc_kit.ranking_metrics import ndcg as ndcg
from crossenc_kit.ranking_readers import find_ranking as find_ranking
from crossenc_kit.ranking_readers import read_ranking as read_ranking
from crossenc_kit.readers import find_data as find_data
from crossenc_kit.readers import read_pairs as read_pairs
from crossenc_kit.readers import read_sts as read_sts
from crossenc_kit.records import start_run as start_run
from crossenc_kit.reranking import depth_curve as depth_curve
from crossenc_kit.reranking import rerank as rerank
from crossenc_kit.reranking import retrieve_and_rerank as retrieve_and_rerank
from crossenc_kit.retrieval import dense_cosine as dense_cosine
from crossenc_kit.retrieval import word_overlap as word_overlap
from crossenc_kit.run_comparison import compare_runs as compare_runs
from crossenc_kit.run_metrics import measure_run as measure_run
from crossenc_kit.runs import run_notebook as run_notebook
from crossenc_kit.runs import sweep as sweep
from crossenc_kit.score_folder import read_scores as read_scores
from crossenc_kit.scoring_pool import ScoringPool as ScoringPool
from crossenc_kit.sentence_transformers_api import CrossEncoder as CrossEncoder
from crossenc_kit.sentence_transformers_collections import (
    CrossEncoderNanoBEIREvaluator as CrossEncoderNanoBEIREvaluator,
)
from crossenc_kit.sentence_transformers_evaluators import CEBinaryAccuracyEvaluator as CEBinaryAccuracyEvaluator
from crossenc_kit.sentence_transformers_evaluators import (
    CEBinaryClassificationEvaluator as CEBinaryClassificationEvaluator,
)
from crossenc_kit.sentence_transformers_evaluators import CECorrelationEvaluator as CECorrelationEvaluator
from crossenc_kit.sentence_transformers_evaluators import CEF1Evaluator as CEF1Evaluator
from crossenc_kit.sentence_transformers_evaluators import CESoftmaxAccuracyEvaluator as CESoftmaxAccuracyEvaluator
from crossenc_kit.sentence_transformers_evaluators import (
    CrossEncoderClassificationEvaluator as CrossEncoderClassificationEvaluator,
)
from crossenc_kit.sentence_transformers_evaluators import (
    CrossEncoderCorrelationEvaluator as CrossEncoderCorrelationEvaluator,
)
from crossenc_kit.sentence_transformers_reranking import CERerankingEvaluator as CERerankingEvaluator
from crossenc_kit.sentence_transformers_reranking import (
    CrossEncoderRerankingEvaluator as CrossEncoderRerankingEvaluator,
)
from crossenc_kit.students import make_student as make_student
from crossenc_kit.teacher_files import margins_as_pairs as margins_as_pairs
from crossenc_kit.teacher_files import read_teacher_scores as read_teacher_scores
from crossenc_kit.teacher_files import write_teacher_scores as write_teacher_scores
from crossenc_kit.teachers import cached_scores as cached_scores
from crossenc_kit.teachers import teacher_and_gold as teacher_and_gold
from crossenc_kit.teachers import teacher_fingerprint as teacher_fingerprint
from crossenc_kit.teachers import with_teacher_scores as with_teacher_scores
from crossenc_kit.temperature import calibrate as calibrate
from crossenc_kit.text_streams import iter_documents as iter_documents
from crossenc_kit.text_streams import iter_top1000 as iter_top1000
from crossenc_kit.text_streams import iter_triples as iter_triples
from crossenc_kit.text_streams import read_texts as read_texts
from crossenc_kit.training import TrainingError as TrainingError
from crossenc_kit.training import TrainingResult as TrainingResult
from crossenc_kit.training import train as train
from crossenc_kit.training_config import TrainingConfig as TrainingConfig
from crossenc_kit.trec import read_qrels as read_qrels
from crossenc_kit.trec import read_run as read_run
from crossenc_kit.trec import write_qrels as write_qrels
from crossenc_kit.trec import write_run as write_run

__version__: str
PUBLIC: dict[str, str]
