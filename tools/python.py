"""Run a script in the sandbox, with the workspace as its folder."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from agent.types import Effect, Limits, SandboxResult
from tools.base import ToolContext, ToolError, ToolResult, tool
from tools.workspace import Workspace

Code = Annotated[str, Field(min_length=1, max_length=8000, description="A Python script; print what you want to see.")]

_MISSING = re.compile(
    r"FileNotFoundError: \[Errno 2\] No such file or directory: (?P<quote>['\"])(?P<path>.+)(?P=quote)"
)
"""The last line of a script that ended because a path was not there."""
_RENAMED = re.compile(r"['\"] -> ['\"]")
"""Between the two paths of a rename."""

_LIMIT_WORDS = {
    "wall_seconds": "wall time ({:g} s)",
    "cpu_seconds": "CPU time ({:g} s)",
    "memory_bytes": "memory ({:,} bytes)",
    "processes": "processes ({})",
    "open_files": "open files ({})",
    "file_bytes": "size of one file ({:,} bytes)",
    "disk_bytes": "disk space ({:,} bytes)",
    "output_bytes": "output ({:,} bytes)",
}


@tool(effects={Effect.READS, Effect.WRITES, Effect.EXECUTES}, main="code", needs={"sandbox"})
def run_python(context: ToolContext, code: Code) -> ToolResult:
    """Run a Python script in the workspace; print the results."""
    if context.sandbox is None:
        raise ToolError("This run has no sandbox, so no code is run; 'doctor' says why.")
    before = context.workspace.snapshot()
    result = context.sandbox.run_python(code, limits=context.limits)
    failed = result.exit_code != 0 or result.killed_by is not None
    hint = _missing_path(result, context.workspace) if failed else ""
    text, cut = describe_run(result, context.limits, context.max_chars - len(hint))
    return ToolResult(
        f"{text}\n{hint}".rstrip("\n"),
        status="error" if failed else "ok",
        truncated=cut or result.truncated,
        files=context.workspace.changes_since(before),
    )


def _missing_path(result: SandboxResult, workspace: Workspace) -> str:
    """What the file tools say of the path for which the script ended, if it ended for a missing one."""
    last = result.stderr.decode("utf-8", "backslashreplace").rstrip("\n").rpartition("\n")[2]
    found = _MISSING.fullmatch(last)
    paths = _RENAMED.split(found["path"]) if found else []
    return next(filter(None, map(workspace.why_missing, paths)), "")


def describe_run(result: SandboxResult, limits: Limits, max_chars: int) -> tuple[str, bool]:
    """stdout, stderr and how it ended, within `max_chars`; and whether any was cut."""
    ending = _ending(result, limits)
    room = max(40, max_chars - len(ending) - 160)
    stdout = result.stdout.decode("utf-8", "backslashreplace").rstrip("\n")
    stderr = result.stderr.decode("utf-8", "backslashreplace").rstrip("\n")
    # An error is explained at the end of stderr; it gets half of the room, or what stdout leaves.
    stderr_room = max(room // 2, room - len(stdout))
    error_tail = _tail(stderr, stderr_room)
    output_head = _head(stdout, max(0, room - len(error_tail)))
    parts = [f"stdout:\n{output_head}"] if stdout else []
    parts += [f"stderr:\n{error_tail}"] if stderr else []
    if not parts and result.exit_code == 0 and result.killed_by is None:
        ending = "exit status 0, nothing was printed"
    elif result.truncated:
        ending += "; the output was longer than is kept"
    cut = output_head != stdout or error_tail != stderr
    return "\n".join([*parts, ending]), cut


def _ending(result: SandboxResult, limits: Limits) -> str:
    if result.killed_by is not None:
        words = _LIMIT_WORDS.get(result.killed_by)
        if words is None:
            return f"killed by {result.killed_by}"
        return f"killed: over the limit of {words.format(getattr(limits, result.killed_by))}"
    return f"exit status {result.exit_code}"


def _head(text: str, room: int) -> str:
    if len(text) <= room:
        return text
    return f"{text[:room]}\n[{len(text) - room:,} more characters; print less, or write to a file and read that]"


def _tail(text: str, room: int) -> str:
    if len(text) <= room:
        return text
    return f"[{len(text) - room:,} characters before]\n{text[-room:]}"
