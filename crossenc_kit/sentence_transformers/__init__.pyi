"""The public names of the room `sentence_transformers`."""

from .cross_encoder import CrossEncoder as CrossEncoder
from .evaluators import CEBinaryAccuracyEvaluator as CEBinaryAccuracyEvaluator
from .evaluators import CEBinaryClassificationEvaluator as CEBinaryClassificationEvaluator
from .evaluators import CECorrelationEvaluator as CECorrelationEvaluator
from .evaluators import CEF1Evaluator as CEF1Evaluator
from .evaluators import CESoftmaxAccuracyEvaluator as CESoftmaxAccuracyEvaluator
from .evaluators import CrossEncoderClassificationEvaluator as CrossEncoderClassificationEvaluator
from .evaluators import CrossEncoderCorrelationEvaluator as CrossEncoderCorrelationEvaluator
from .nanobeir import CrossEncoderNanoBEIREvaluator as CrossEncoderNanoBEIREvaluator
from .reranking import CERerankingEvaluator as CERerankingEvaluator
from .reranking import CrossEncoderRerankingEvaluator as CrossEncoderRerankingEvaluator
