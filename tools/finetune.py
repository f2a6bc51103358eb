"""Let the agent ask for training. It can do no more than ask.

The tool takes a reason and nothing else: no data, no recipe, no paths, no thresholds. What happens is decided by who
hands in `request`: it raises WhetstoneError where training may not begin, and returns what will happen otherwise.

covers: the model choosing what it is trained on or how; training in this process; a trained adapter being used without
the gate.
does not cover: what the verified sessions hold; they are filtered where the dataset is made (`agent.learning`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from agent.types import Effect
from tools.base import Tool, ToolContext, ToolResult, tool

Reason = Annotated[str, Field(min_length=1, max_length=200, description="What goes wrong again and again.")]


def fine_tune_tool(request: Callable[[str, str], str]) -> Tool:
    """The tool `fine_tune`; `request` is given the session and the reason."""

    @tool(effects={Effect.TRAINS}, main="reason")
    def fine_tune(context: ToolContext, reason: Reason) -> ToolResult:
        """Ask for training on verified sessions."""
        return ToolResult(request(context.session, reason))

    return fine_tune
