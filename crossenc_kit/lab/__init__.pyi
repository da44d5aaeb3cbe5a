"""The public names of the room `lab`."""

from .benchmark import SpeedReport as SpeedReport
from .benchmark import compare_speed as compare_speed
from .exercises import check as check
from .exercises import check_function as check_function
from .experiments import run_notebook as run_notebook
from .experiments import sweep as sweep
from .records import align as align
from .records import describe_result as describe_result
from .records import load_record as load_record
from .records import load_records as load_records
from .records import read_result as read_result
from .records import results_table as results_table
from .records import start_run as start_run
from .records import write_result as write_result
