"""What the model may say: a JSON Schema as a grammar over the model's own tokens, by llguidance.

A `Vocabulary` wraps the tokenizer once; it compiles each schema once; every completion walks its own `Matcher`.
JSON is written without blanks between its parts: on the starter's vocabulary an action costs 32 tokens so, and 41
with a blank after each comma and colon, because `","` and `":"` are single tokens.

Covers: every text a matcher accepts validates against the schema, closing plans included.
Does not cover: keywords llguidance cannot express; `check_schema` refuses those by name. Where `additionalProperties`
is a schema, a property's name may come again spelled with escapes; and the blanks of a pattern are not Python's.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from agent.engine.tokenizer import ModelTokenizer
from agent.types import JSON, WhetstoneError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

JSON_STYLE: dict[str, Any] = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}
COMPILED_SCHEMAS = 32
"""Compiled grammars kept; one per tool set and answer schema in practice."""
PLAN_LIMIT = 1024
"""Tokens after which a closing plan is given up."""
QUOTE = ord('"')
BRANCHES, NAMES = 64, 12
"""A closing plan compares at most so many ways, where the text can go on with at most so many different bytes."""


def check_schema(schema: Mapping[str, JSON]) -> None:
    """Raise WhetstoneError, naming the keyword, if decoding cannot enforce `schema`."""
    from llguidance import LLMatcher

    try:
        failed, messages = LLMatcher.validate_grammar_with_warnings(_grammar_source(schema))
    except ValueError as error:
        failed, messages = True, [str(error)]
    if failed:
        reason = " ".join(messages[0].split()) if messages else "unknown reason"
        raise WhetstoneError(f"the schema cannot be enforced while decoding ({reason}): change or remove that keyword")


class Vocabulary:
    """A model's tokens as the grammar sees them.

    `logits` is the width of the model's output (at least the tokenizer's size, `known`; what is above is never
    allowed), `end_id` the token that ends the model's turn.
    """

    def __init__(self, tokenizer: ModelTokenizer, *, logits: int, end_id: int) -> None:
        from llguidance import LLTokenizer

        self.tokens: LLTokenizer = LLTokenizer(tokenizer.serialized, n_vocab=logits, eos_token=end_id)
        self.size, self.known = logits, tokenizer.size
        self.end_id = end_id
        self.control_ids = tokenizer.control_ids
        self._compiled: OrderedDict[str, Matcher] = OrderedDict()
        self._single: dict[int, int] = {}

    def matcher(self, schema: Mapping[str, JSON]) -> Matcher:
        """A matcher at the start of the schema's grammar. Raises WhetstoneError for what cannot be enforced."""
        from llguidance import LLMatcher

        source = _grammar_source(schema)
        key = sha256(source.encode()).hexdigest()
        compiled = self._compiled.get(key)
        if compiled is None:
            check_schema(schema)
            inner = LLMatcher(self.tokens, source)
            if inner.is_error():
                raise WhetstoneError(
                    f"the schema cannot be enforced while decoding ({inner.get_error()}): make it simpler"
                )
            compiled = self._compiled[key] = Matcher(self, inner)
            compiled.shortest = tuple(compiled.closing() or ())
            while len(self._compiled) > COMPILED_SCHEMAS:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(key)
        return compiled.copy()

    def bytes_of(self, id: int) -> bytes:
        """The bytes a token adds to the text; none for a control token."""
        return b"" if id in self.control_ids or id == self.end_id else self.tokens.decode_bytes([id])

    def next_of(self, text: bytes, tokenizer: ModelTokenizer) -> list[int]:
        """Tokens that `text` may go on with, the tokenizer's own first; the end token where nothing is left."""
        if not text:
            return [self.end_id]
        own = tokenizer.encode(text.decode("utf-8", "replace"))[0]
        single = self.single_byte(text[0])
        whole = [own] if text.startswith(self.bytes_of(own)) else []
        return whole if single is None else [*whole, single]

    def single_byte(self, byte: int) -> int | None:
        """The token that is exactly this byte, None if the vocabulary has none."""
        if not self._single:
            for value in range(256):
                ids = self.tokens.tokenize_bytes(bytes([value]))
                if len(ids) == 1 and self.bytes_of(ids[0]) == bytes([value]):
                    self._single[value] = ids[0]
        return self._single.get(byte)


class Matcher:
    """One walk through a grammar. Every method is about the position after the tokens consumed so far.

    `shortest` is a way through the whole grammar, empty if there is none of reasonable length.
    """

    shortest: tuple[int, ...] = ()

    def __init__(self, vocabulary: Vocabulary, inner: LLMatcher) -> None:
        self._vocabulary = vocabulary
        self._inner = inner
        self._text = _JsonPosition()

    def copy(self) -> Matcher:
        other = Matcher(self._vocabulary, self._inner.deep_copy())
        other._text, other.shortest = self._text.copy(), self.shortest
        return other

    @property
    def finished(self) -> bool:
        """True where nothing but the end of the turn may follow."""
        return self._inner.is_stopped()

    def mask(self) -> bytes:
        """One bit per token, least significant first: which may come next. The end token is among them where legal."""
        mask = self._inner.compute_bitmask()
        self._raise_if_broken()
        return mask

    def forced(self) -> list[int]:
        """The tokens that must come next, because their text is the only legal one; tokenized canonically."""
        return self._inner.compute_ff_tokens()

    def consume(self, ids: Sequence[int]) -> None:
        """Step over `ids`, which the grammar must allow (forced tokens, or tokens out of the mask)."""
        if not self._inner.consume_tokens(list(ids)):
            self._raise_if_broken()
            raise WhetstoneError("the grammar refused a token it had allowed: report this with the action's schema")
        for id in ids:
            self._text.advance(self._vocabulary.bytes_of(id))

    def legal(self, ids: Sequence[int]) -> int:
        """How many leading `ids` could be written here; the position does not move."""
        return self._inner.validate_tokens(list(ids))

    def closing(self, limit: int = PLAN_LIMIT, *, known: Sequence[int] = ()) -> list[int] | None:
        """A short legal way from here to the end of the turn, None if `limit` tokens are not enough.

        Ends strings, arrays and objects as soon as the schema allows, takes a cheap value where one is required and
        the shortest of a few names where there is a choice. The position itself does not move. `known` is a way out
        of an earlier position; it is taken where it is still legal, which is much cheaper than looking for one.
        """
        if known and self.legal(known) == len(known):
            return list(known) if len(known) <= limit else None
        return self.copy()._way_out(limit, [BRANCHES])

    def _way_out(self, limit: int, branches: list[int]) -> list[int] | None:
        """Walk to the end. `branches` is how many more alternatives may be tried, shared by all walks of a plan."""
        end = self._vocabulary.end_id
        plan: list[int] = []
        while not self.finished:
            choices = [forced] if (forced := self.forced()) else [[id] for id in self._next_best()]
            if len(choices) > 1 and branches[0] > 0:
                best = self._shortest(choices, limit - len(plan), branches)
                return None if best is None else plan + best
            plan += choices[0]
            if plan[-1] == end:
                return plan if len(plan) <= limit else None
            if len(plan) >= limit:
                return None
            self.consume(choices[0])
        return [*plan, end] if len(plan) < limit else None

    def _shortest(self, choices: list[list[int]], limit: int, branches: list[int]) -> list[int] | None:
        best: list[int] | None = None
        for choice in choices:
            branches[0] -= 1
            walk = self.copy()
            walk.consume(choice)
            rest = walk._way_out(limit - len(choice) if best is None else len(best) - 1 - len(choice), branches)
            if rest is not None:
                best = choice + rest
            if branches[0] <= 0 and best is not None:
                break
        return best

    def _next_best(self) -> list[int]:
        """Tokens to go on with: the one that leads out soonest, or, inside a name, each that some name goes on with."""
        mask = self.mask()
        end = self._vocabulary.end_id
        if _allows(mask, end):
            return [end]
        legal: list[int] = []
        for byte in self._text.ways_out():
            id = self._vocabulary.single_byte(byte)
            if id is None or not _allows(mask, id):
                continue
            legal.append(id)
            if byte == QUOTE or not self._text.in_string:
                break
            if len(legal) > NAMES:  # free text that is not long enough yet
                return legal[:1]
        if legal:
            return legal
        return [next(n * 8 + bit for n, byte in enumerate(mask) if byte for bit in range(8) if byte >> bit & 1)]

    def _raise_if_broken(self) -> None:
        if self._inner.is_error():
            raise WhetstoneError(f"the grammar cannot go on: {self._inner.get_error()}")


class _JsonPosition:
    """Whether the text so far ends inside a JSON string, and inside an escape there."""

    def __init__(self) -> None:
        self.in_string = False
        self._escape = b""

    def copy(self) -> _JsonPosition:
        other = _JsonPosition()
        other.in_string, other._escape = self.in_string, self._escape
        return other

    def advance(self, text: bytes) -> None:
        for n in range(len(text)):
            byte = text[n : n + 1]
            if self._escape:
                self._escape += byte
                unicode = self._escape.startswith(b"\\u")
                if len(self._escape) == (6 if unicode else 2):
                    self._escape = b""
            elif byte == b'"':
                self.in_string = not self.in_string
            elif byte == b"\\" and self.in_string:
                self._escape = byte

    def ways_out(self) -> bytes:
        """Bytes in the order in which they lead to the end of the document soonest."""
        if self._escape:
            return b'n"\\/bfrt0123456789abcdefABCDEFu'
        if self.in_string:
            return b'"' + bytes(range(0x61, 0x7B)) + bytes(range(0x30, 0x3A)) + bytes(range(0x80, 0xC0)) + b" _-./:"
        return b'}],:"1023456789.-ntf[{E+'


def _allows(mask: bytes, id: int) -> bool:
    return bool(mask[id >> 3] >> (id & 7) & 1)


def _grammar_source(schema: Mapping[str, JSON]) -> str:
    from llguidance import LLMatcher

    return LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=JSON_STYLE)  # type: ignore[arg-type]
