"""Guesses at the next tokens, taken from what the session has said already (prompt-lookup decoding).

An agent copies: file names, values, its own earlier wording. So where the last few tokens occurred before, the tokens
that followed them are likely to follow again (Saxena 2023, "Prompt Lookup Decoding"; Yang et al. 2023, "Inference with
Reference"). The model reads the guess in the pass it makes anyway and chooses its own token at every place; a guess
that it does not choose costs a little arithmetic and nothing else. Because the noise of a token depends on its place
alone (`agent/engine/sampling.py`), sampled output is the same as without guessing too, token for token.
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST, SHORTEST = 4, 2
"""Tokens of context that must have occurred before; a longer match is a better guess."""
DRAFT_TOKENS = {4: 8, 3: 4, 2: 2}
"""Tokens guessed after a match of that length."""


class PromptLookup:
    """The places where each run of 2 to 4 tokens occurred last, kept up to date as the text grows."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._ends: dict[tuple[int, ...], int] = {}

    def extend(self, ids: Sequence[int]) -> None:
        """Add what was read or written since."""
        self._ids += ids
        # The run that ends at the very end has no continuation yet; it is entered when there is one.
        for end in range(max(SHORTEST, len(self._ids) - len(ids)), len(self._ids)):
            for size in range(SHORTEST, min(LONGEST, end) + 1):
                self._ends[tuple(self._ids[end - size : end])] = end

    def propose(self) -> list[int]:
        """What followed the longest known run that the text ends in; empty if none is known."""
        for size in range(LONGEST, SHORTEST - 1, -1):
            end = self._ends.get(tuple(self._ids[-size:]))
            if end is not None and len(self._ids) >= size:
                return self._ids[end : end + DRAFT_TOKENS[size]]
        return []
