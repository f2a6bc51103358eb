"""What teachers do again and again: look for a file, read it, compute with a script, write, copy a result.

The student is a small model, so teachers have few habits and keep to them: they look first, name in the thought the
file or value that matters, let short scripts of always the same idioms compute, and copy the answer from what they saw.
"""

from __future__ import annotations

from collections.abc import Generator

from agent.learning.curriculum.task import Act, Play, Said
from agent.types import Observation

Step = Generator[Act, Observation, str]
"""A part of a play that comes back with a text it has seen."""


def read(path: str, why: str = "", *, vague: bool = False) -> Step:
    """Read a file, after listing the folder when the goal did not name it; comes back with the text."""
    if vague:
        yield Act("The goal does not name the file, I list the files.", "list_files", {})
        why = f"{path} must be the file that is meant."
    seen = yield Act(why or f"I read {path} first.", "read_file", {"path": path})
    return seen.text


def compute(code: str, thought: str) -> Step:
    """Run a script; comes back with what it printed."""
    seen = yield Act(thought, "run_python", {"code": code})
    return printed(seen)


def write(path: str, content: str, thought: str = "") -> Step:
    """Write a file; comes back with what the tool said."""
    seen = yield Act(thought or f"I write that to {path}.", "write_file", {"path": path, "content": content})
    return seen.text


def printed(seen: Observation) -> str:
    """What a script printed, without the words the tool puts around it."""
    text = seen.text
    if not text.startswith("stdout:\n"):
        return ""
    return text.removeprefix("stdout:\n").split("\nstderr:\n")[0].rpartition("\nexit status")[0]


def script(*lines: str) -> str:
    """The lines of a script as one text."""
    return "\n".join(lines)


def reading(path: str, answer: str, thought: str, *, vague: bool = False, why: str = "") -> Play:
    """Read one file and say what it says."""
    yield from read(path, why, vague=vague)
    return Said(thought, answer)
