"""The public names of the room `data`."""

from .candidates import read_candidates as read_candidates
from .classification import read_duplicates as read_duplicates
from .classification import read_mrpc as read_mrpc
from .classification import read_nli as read_nli
from .classification import read_qnli as read_qnli
from .collection import Collection as Collection
from .collection import Qrels as Qrels
from .collection import Run as Run
from .pair_files import read_pairs as read_pairs
from .pairs import InputExample as InputExample
from .pairs import Pairs as Pairs
from .pairs import as_pairs as as_pairs
from .ranking import find_ranking as find_ranking
from .ranking import iter_documents as iter_documents
from .ranking import iter_top1000 as iter_top1000
from .ranking import iter_triples as iter_triples
from .ranking import read_ranking as read_ranking
from .ranking import read_texts as read_texts
from .similarity import read_sts as read_sts
from .sources import find_data as find_data
from .tables import read_tsv as read_tsv
from .trec import read_qrels as read_qrels
from .trec import read_run as read_run
from .trec import write_qrels as write_qrels
from .trec import write_run as write_run
