"""Who said something first in a session: the user or the model, or a tool.

The model may put into an argument, or into its answer, what it has read. Then the words are not its own, and a record
that repeats them must not be shown as the model's. Judged by lines and sentences of three words or more, in whatever
case, spacing and punctuation. A sentence that the model has reworded is the model's.
"""

from __future__ import annotations

import re

_SENTENCE = re.compile(r"[\n\r]+|(?<=[.!?;])\s+")
_WORD = re.compile(r"[^\W_]+")
_LEAST_WORDS, _LEAST_CHARS = 3, 16
_BEGINNING = 40
"""So many characters of a sentence tell it: what a record repeats of a long one is cut short."""


class Heard:
    """The sentences of one session's tools. What the user or the model said before a tool did is theirs."""

    def __init__(self) -> None:
        self._own = " "
        self._tools: dict[str, str] = {}
        """The beginning of each sentence, and the tool that said it first."""

    def own(self, text: str) -> None:
        """The goal, or an action's arguments."""
        self._own += f"{_words(text)} "

    def tool(self, name: str, text: str) -> None:
        """What a tool gave back."""
        for part in _SENTENCE.split(text):
            words = _words(part)
            if words.count(" ") + 1 >= _LEAST_WORDS and len(words) >= _LEAST_CHARS:
                beginning = words if len(words) <= _BEGINNING else words[:_BEGINNING].rpartition(" ")[0] or words
                if f" {beginning} " not in self._own:
                    self._tools.setdefault(beginning, name)

    def source(self, text: str) -> str:
        """The tool whose sentence stands in `text`; empty if there is none."""
        words = f" {_words(text)} "
        return next((name for sentence, name in self._tools.items() if f" {sentence} " in words), "")


def _words(text: str) -> str:
    return " ".join(_WORD.findall(text.casefold()))
