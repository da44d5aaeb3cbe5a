"""The public names of the room `inference`."""

from .bulk import ScoredFile as ScoredFile
from .bulk import score_file as score_file
from .export import Drift as Drift
from .export import ExportReport as ExportReport
from .export import export_model as export_model
from .export import measure_drift as measure_drift
from .long_documents import TruncationReport as TruncationReport
from .long_documents import chunked as chunked
from .long_documents import truncation_report as truncation_report
from .pool import ScoringPool as ScoringPool
from .score_store import cached_scores as cached_scores
from .score_store import read_scores as read_scores
from .timing import Speed as Speed
from .timing import interleave as interleave
from .timing import spread_text as spread_text
