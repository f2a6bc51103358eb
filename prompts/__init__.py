"""What the policy is shown: one renderer, used by run, resume, replay, evaluation and training alike."""

from prompts.budget import Compaction, plan_compaction, sections
from prompts.render import names_in, render, system_text, templates_digest

__all__ = ["Compaction", "names_in", "plan_compaction", "render", "sections", "system_text", "templates_digest"]
