"""One completion on its way: what was generated, what the grammar allows next, and when to stop.

A generation never runs past its limit with an action half said. Near the limit it knows, at each token, a shortest
legal way to the end of the turn (`Matcher.closing`); a token after which that way would no longer fit is not taken,
the way is taken instead. So the text is schema-valid JSON even when it was cut, and `finish` says that it was. The
same holds for the deadline and for cancellation: the way out needs no model.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from agent.engine.chat import END_THINK
from agent.engine.drafts import PromptLookup
from agent.engine.grammar import PLAN_LIMIT, Matcher, Vocabulary
from agent.types import JSON

if TYPE_CHECKING:
    from agent.engine.decode import Request
    from agent.engine.kvcache import KVCache

Finish = Literal["stop", "length", "time", "cancelled"]
Said = Sequence[tuple[int, bool, float]]
"""Tokens with what `Completion` says of each: the id, whether it was sampled, its log-probability."""

CLOSING_MARGIN = 192
"""Closing plans are made from this many tokens, plus three shortest actions, before the limit: more than any of our
tools' arguments can require at once. A plan stays good while a string grows, so this costs little."""
THINKING_SHARE = 0.5
"""Of the limit; what is left after thinking is for the action."""


class Generation:
    """The state of one completion.

    `ids`, `sampled` and `logprobs` are as in `Completion`; `pending` is what the network has not read yet. Tokens the
    model did not choose (forced by the grammar, or closing a cut action) have `sampled` False and log-probability 0.
    `end_think` is the tokens that close a think block, None if the model does not think.
    """

    request: Request
    cache: KVCache
    started: float
    reused: int = 0

    def __init__(
        self,
        *,
        prompt: list[int],
        vocabulary: Vocabulary,
        schema: Mapping[str, JSON],
        limit: int,
        end_think: list[int] | None,
        on_text: Callable[[str], None],
        said: Said = (),
    ) -> None:
        self.prompt = prompt
        self.ids: list[int] = []
        self.sampled: list[bool] = []
        self.logprobs: list[float] = []
        self.finish: Finish = "stop"
        self.done = False
        self.milliseconds = {"prefill": 0.0, "decode": 0.0, "draft": 0.0, "mask": 0.0, "sample": 0.0}
        self._vocabulary = vocabulary
        self._matcher = vocabulary.matcher(schema)
        self._limit = limit
        self._end_think = end_think or []
        self._thinking = end_think is not None
        self._thought = bytearray()
        self._text = bytearray()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._on_text = on_text
        self.drafted = 0
        self.accepted = 0
        self._lookup: PromptLookup | None = None
        self._looked_up = 0
        shortest = list(self._matcher.shortest)
        self._way_out = shortest
        self._window = CLOSING_MARGIN + 3 * len(shortest)
        self._thinking_limit = max(0, min(int(limit * THINKING_SHARE), limit - self._window - len(self._end_think)))
        if len(shortest) + len(self._end_think) * self._thinking > limit:
            self._give_up(shortest)
        elif self._thinking and self._thinking_limit == 0:
            self._end_thinking()
        elif not self._thinking:
            self._go_on_from(said)

    @property
    def pending(self) -> list[int]:
        """The tokens the network has not read yet, prompt included."""
        held = len(self.cache.ids)
        if held < len(self.prompt):
            return self.prompt[held:] + self.ids
        return self.ids[held - len(self.prompt) :]

    @property
    def written(self) -> int:
        """Bytes of the action so far."""
        return len(self._text)

    @property
    def text(self) -> str:
        return self._text.decode("utf-8", errors="replace")

    @property
    def thinking(self) -> str:
        return self._thought.decode("utf-8", errors="replace").strip()

    def mask(self) -> bytes:
        """Which tokens may come next, one bit each, least significant first."""
        return self._matcher.mask() if not self._thinking else self._thinking_mask()

    def draft(self, limit: int) -> list[int]:
        """A guess at the next tokens, at most `limit`, that the grammar allows; out of the prompt and what was written.

        Often empty.
        """
        if self._thinking:
            return []
        if self._lookup is None:
            self._lookup = PromptLookup()
            self._lookup.extend(self.prompt)
        self._lookup.extend(self.ids[self._looked_up :])
        self._looked_up = len(self.ids)
        guess = self._lookup.propose()[: max(0, min(limit, self._limit - len(self.ids) - 1))]
        return guess[: self._matcher.legal(guess)] if guess else []

    def take(self, id: int, logprob: float) -> None:
        """Go on with a token the model chose."""
        if self._thinking:
            self._think(id, logprob)
            return
        ahead = self._matcher.copy()
        forced = self._step(ahead, id)
        if not self._fits(ahead, 1 + len(forced)):
            self._close("length")
            return
        self._matcher = ahead
        self._append([id], logprob)
        self._append(forced, None)
        self._end_if_finished()

    def stop(self, finish: Finish) -> None:
        """End here, by the shortest legal way."""
        if self._thinking:
            self._append(self._end_think[: self._limit - len(self.ids)], None)
            self._thinking = False
        self._close(finish)

    def _step(self, matcher: Matcher, id: int) -> list[int]:
        """Move `matcher` over `id` and what that forces; returns the forced tokens."""
        if id == self._vocabulary.end_id:
            return []
        matcher.consume([id])
        return self._forced(matcher)

    def _forced(self, matcher: Matcher) -> list[int]:
        forced: list[int] = []
        while step := matcher.forced():
            forced += step
            if step[-1] == self._vocabulary.end_id:
                return forced
            matcher.consume(step)
        return [*forced, self._vocabulary.end_id] if matcher.finished else forced

    def _force(self) -> None:
        forced = self._forced(self._matcher)
        if len(forced) > (room := self._limit - len(self.ids)):
            self._give_up(forced[:room])
            return
        self._append(forced, None)
        self._end_if_finished()

    def _go_on_from(self, said: Said) -> None:
        for id, sampled, logprob in said:
            self._matcher.consume([id])
            self._append([id], logprob if sampled else None, told=False)
        self._force()

    def _fits(self, ahead: Matcher, count: int) -> bool:
        """Whether there is a way to the end within the limit after `count` more tokens, which lead to `ahead`."""
        left = self._limit - len(self.ids) - count
        if ahead.finished and left >= 0:
            return True
        known = self._way_out
        if len(known) <= left and known and ahead.legal(known) == len(known):
            return True
        far = left > self._window
        way_out = ahead.closing(PLAN_LIMIT if far else left)
        if way_out is None:
            # None may be known; a grammar without any way through (see `Matcher.shortest`) runs up to its limit.
            return far or (left > 0 and not self._matcher.shortest)
        if len(way_out) > left:
            return False
        self._way_out = way_out
        return True

    def _close(self, finish: Finish) -> None:
        plan = self._matcher.closing(self._limit - len(self.ids), known=self._way_out)
        self.finish = finish
        self.done = True
        self._append(plan or [], None)

    def _give_up(self, shortest: list[int]) -> None:
        # The limit is below the shortest action there is: say so, with as much of it as fits.
        self._append(shortest[: max(0, self._limit)], None)
        self.finish, self.done = "length", True

    def _end_if_finished(self) -> None:
        self.done = bool(self.ids) and self.ids[-1] == self._vocabulary.end_id

    def _append(self, ids: list[int], logprob: float | None, *, told: bool = True) -> None:
        for id in ids:
            self.ids.append(id)
            self.sampled.append(logprob is not None)
            self.logprobs.append(0.0 if logprob is None else logprob)
            content = self._vocabulary.bytes_of(id)
            if self._thinking:
                self._thought += content
            elif content:
                self._text += content
                piece = self._decoder.decode(content)
                if piece and told:
                    self._on_text(piece)

    # --- thinking -----------------------------------------------------------------------------------------------

    def _thinking_mask(self) -> bytes:
        known = self._vocabulary.known
        mask = bytearray(((1 << known) - 1).to_bytes((self._vocabulary.size + 7) // 8, "little"))
        for id in self._vocabulary.control_ids - set(self._end_think):
            mask[id >> 3] &= ~(1 << (id & 7)) & 0xFF
        return bytes(mask)

    def _think(self, id: int, logprob: float) -> None:
        if id == self._end_think[0] and id in self._vocabulary.control_ids:
            self._append([id], logprob)
            self._end_thinking(said=1)
            return
        self._append([id], logprob)
        if self._thought.endswith(END_THINK.encode()):
            del self._thought[-len(END_THINK) :]
            self._end_thinking(said=None)
        elif len(self.ids) >= self._thinking_limit:
            self._end_thinking()

    def _end_thinking(self, said: int | None = 0) -> None:
        """Close the think block and begin the action; `said` of its closing tokens are there, None: all that matter."""
        if said is not None:
            self._append(self._end_think[said:], None)
        self._thinking = False
        self._force()
