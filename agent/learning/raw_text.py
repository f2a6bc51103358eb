"""Raw text as examples: every token has loss, as in pretraining."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from agent.learning.examples import Example
from agent.types import WhetstoneError

if TYPE_CHECKING:
    from agent.engine.tokenizer import ModelTokenizer

RAW_TEXT = "text"
"""The family of such examples."""
TOKENS = 512
"""Tokens of an example: text has no turns, and short pieces are cheaper to attend over."""


def read_text(files: Iterable[Path], tokenizer: ModelTokenizer) -> list[Example]:
    """The text of `files` in pieces. Raises WhetstoneError for a file that is no text, or if there is none at all."""
    found: list[Example] = []
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise WhetstoneError(f"{file} cannot be read as text ({error}): give UTF-8 text files") from error
        digest = sha256(text.encode()).hexdigest()
        ids = tokenizer.encode(text)
        for number, first in enumerate(range(0, len(ids), TOKENS)):
            piece = tuple(ids[first : first + TOKENS])
            if len(piece) > 1:
                loss = (False, *[True] * (len(piece) - 1))
                found.append(Example(piece, loss, f"{file.name}#{number}", digest, file.name, RAW_TEXT))
    if not found:
        raise WhetstoneError("the raw text is empty: give a file with text in it")
    return found
