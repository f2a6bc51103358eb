"""Plug-in tools for tests: one whose side effect can be counted, and one that takes its time."""

import os
import time
from typing import Annotated

from pydantic import Field

from agent.types import Effect
from tools.base import ToolContext, tool

PAUSE_SECONDS = 0.002
LONGEST_SECONDS = 60.0


@tool(effects={Effect.WRITES}, main="line")
def append_line(context: ToolContext, line: Annotated[str, Field(max_length=40)]) -> str:
    """Append a line to log.txt."""
    time.sleep(PAUSE_SECONDS)
    fd = os.open(context.workspace.root / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{line}\n".encode())
    finally:
        os.close(fd)
    time.sleep(PAUSE_SECONDS)
    return f"appended {line}"


@tool(effects={Effect.READS})
def hold_up(context: ToolContext) -> str:
    """Hold the first goal of a batch that asks for it until `release` lies in the batch's folder; others go by."""
    out = context.workspace.root.parent.parent
    try:
        (out / "held").touch(exist_ok=False)
    except FileExistsError:
        return "went by"
    end = time.monotonic() + LONGEST_SECONDS
    while not (out / "release").exists():
        if time.monotonic() > end:
            return "held too long"
        time.sleep(PAUSE_SECONDS)
    return "released"
