"""A policy that plays a fixed list of actions: for tests, for demonstrations, and as a teacher.

`--model scripted:FILE` reads one action a line, as JSON. Lines that are not valid actions are played as they are, so
that what the loop does with a bad action can be tried too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agent.types import JSON, Action, Completion, Prompt, TokenUsage, WhetstoneError

CHARS_PER_TOKEN = 4


class ScriptedPolicy:
    """Plays `texts` in order, step 1 first. Raises WhetstoneError at the step after the last."""

    def __init__(self, texts: Sequence[str], *, name: str = "scripted", context_tokens: int = 32768) -> None:
        self._texts = tuple(texts)
        self._name = name
        self._context_tokens = context_tokens

    @classmethod
    def from_file(cls, path: Path) -> ScriptedPolicy:
        """Read the actions of `path`, one a line; blank lines are skipped. Raises WhetstoneError if it cannot."""
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise WhetstoneError(f"cannot read the script {path}: {error}") from error
        return cls([line for line in lines if line.strip()], name=f"scripted:{path.name}")

    @property
    def context_tokens(self) -> int:
        return self._context_tokens

    def describe(self) -> Mapping[str, JSON]:
        return {"name": self._name, "adapter": None, "kind": "scripted", "actions": len(self._texts)}

    def count(self, text: str) -> int:
        return len(text) // CHARS_PER_TOKEN + 1

    def act(
        self,
        prompt: Prompt,
        schema: Mapping[str, JSON],
        *,
        step: int,
        max_tokens: int,
        deadline: float,
        on_text: Callable[[str], None],
        cancelled: Callable[[], bool],
        avoid: Sequence[Action] = (),
    ) -> Completion:
        if step > len(self._texts):
            raise WhetstoneError(f"the script has {len(self._texts)} actions and step {step} was asked for")
        text = self._texts[step - 1]
        on_text(text)
        prompt_tokens = sum(self.count(message.content) for message in prompt.messages)
        usage = TokenUsage(prompt=prompt_tokens, prefilled=prompt_tokens, sampled=self.count(text))
        return Completion(text, usage=usage)

    def close(self) -> None:
        return
