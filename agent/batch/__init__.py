"""Many goals, nobody watching: each in a workspace of its own, with a journal of its own, several at a time."""

from agent.batch.goals import MemoryMode
from agent.batch.results import Result, read_results
from agent.batch.run import run_rows
from agent.batch.stopping import Stopping, stopped_by_sigint

__all__ = ["MemoryMode", "Result", "Stopping", "read_results", "run_rows", "stopped_by_sigint"]
