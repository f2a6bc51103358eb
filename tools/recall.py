"""Ask the memory, and put something into it."""

from __future__ import annotations

import json
import time
from typing import Annotated

from pydantic import Field

from agent.types import Effect, Recalled, ago
from tools.base import ToolContext, ToolError, ToolResult, tool

Query = Annotated[str, Field(min_length=1, max_length=200, description="What to look for, in your own words.")]
Note = Annotated[str, Field(min_length=1, max_length=500, description="One fact that helps later, complete in itself.")]

MAX_RECALLED = 5
_HEADING_CHARS = 100


@tool(effects={Effect.READS}, main="query", needs={"memory"})
def recall(context: ToolContext, query: Query) -> ToolResult:
    """Look something up in memory."""
    if context.memory is None:
        raise ToolError("This run has no memory.")
    room = max(200, context.max_chars - _HEADING_CHARS * MAX_RECALLED)
    found = context.memory.recall(query, limit=MAX_RECALLED, max_chars=room)
    if not found:
        return ToolResult("nothing in memory fits")
    return ToolResult("\n".join(_line(number, recalled) for number, recalled in enumerate(found, start=1)))


# What is remembered is read from the journal, by the loop while it runs and by a rebuild of the index later. So this
# tool itself changes nothing, and declares no effect.
@tool(main="text", needs={"memory"})
def remember(context: ToolContext, text: Note) -> ToolResult:
    """Note a fact for later goals."""
    if not text.strip():
        raise ToolError("The text is empty; write down one fact.")
    return ToolResult("noted")


def _line(number: int, recalled: Recalled) -> str:
    """What it is, where it came from and how old it is, and its words in quotes that no record can end."""
    record = recalled.record
    place = f"session {record.session} step {record.step}"
    told = f"{record.kind} from {record.origin}, {ago(time.time() - record.created)}, {place}"
    return f"{number}. [{told}] {json.dumps(record.text.strip(), ensure_ascii=False)}"
