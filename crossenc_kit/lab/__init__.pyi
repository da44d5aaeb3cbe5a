"""The public names of the room `lab`."""

from .benchmark import compare_speed as compare_speed
from .exercises import check as check
from .exercises import check_function as check_function
from .experiments import run_notebook as run_notebook
from .experiments import sweep as sweep
from .records import start_run as start_run
