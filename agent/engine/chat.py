"""A prompt as token ids: structure from the model's own chat template, contents as data.

The template is rendered once with sentinels in place of contents and cut at them. What is left over are the pieces
between contents, the only text that is tokenized with control tokens on. A prompt is then put together from the pieces
and the contents, turn by turn, which makes it append-only by construction: the ids of a longer prompt begin with the
ids of a shorter one and what the model generated after it. (Rendering the whole chat anew does not: Qwen3's template,
for one, takes the thinking out of earlier turns.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, NoReturn

from agent.engine.tokenizer import ModelTokenizer
from agent.types import Message, Prompt, WhetstoneError

Thinking = Literal["auto", "on", "off"]
THINK, END_THINK = "<think>", "</think>"
JOINT = "\n\n"

PLAIN_TEMPLATE = """\
{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}\
{% elif message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\\n' }}\
{% else %}{{ 'Assistant: ' + message['content'] + eos_token + '\\n' }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"""
"""For models without a chat template (base models)."""


@dataclass(frozen=True)
class _Pieces:
    """The template's text between contents."""

    opening: str
    """Before the first content (system if there is one, else user)."""
    system_to_user: str
    user_to_assistant: str
    """As the template writes it in history, where it may differ from the generation prompt."""
    assistant_to_user: str
    generation: str
    """After the last user content: closes the turn and opens the model's."""


class Chat:
    """Puts prompts together for one tokenizer and template.

    `end_id` is the control token that ends the model's turn; `thinks` is True where the model's turn opens with a
    `<think>` block that it closes itself. Raises WhetstoneError for a template that cannot be taken apart.
    """

    def __init__(self, tokenizer: ModelTokenizer, *, thinking: Thinking = "auto") -> None:
        self._tokenizer = tokenizer
        self._last_system: tuple[str, list[int]] | None = None
        self._source = tokenizer.chat_template or PLAIN_TEMPLATE
        if tokenizer.chat_template is None and tokenizer.eos_id is None:
            raise WhetstoneError("the model has neither a chat template nor an end token: give another with --model")
        options = {} if thinking == "auto" else {"enable_thinking": thinking == "on"}
        self._bare = self._take_apart(with_system=False, options=options)
        self._with_system = self._take_apart(with_system=True, options=options)
        pieces = self._bare or self._with_system
        if pieces is None:
            raise WhetstoneError(
                "the model's chat template leaves turns out or changes their order, so prompts cannot be built from it:"
                " give a model with an ordinary chat template"
            )
        self._pieces = pieces
        self.thinks, suffix = _thinking_suffix(pieces.generation, self._source, tokenizer, thinking)
        encode = tokenizer.encode_structure
        self._generation = encode(pieces.generation + suffix)
        self._history = encode(pieces.user_to_assistant)
        closing = encode(pieces.assistant_to_user)
        end = next((n for n, id in enumerate(closing) if id in tokenizer.control_ids), None)
        end_id = tokenizer.eos_id if end is None else closing[end]
        if end_id is None:
            raise WhetstoneError("the model's chat template ends no turn and it has no end token: give another model")
        self.end_id = end_id
        self._closing = closing
        self._after_end = closing if end is None else closing[end + 1 :]

    def encode(self, prompt: Prompt) -> list[int]:
        """The ids of the chat, ending where the model's turn begins.

        Consecutive messages of one role become one turn. An assistant message with `token_ids` is exactly those ids.
        Raises WhetstoneError if the turns do not begin and end with the user's.
        """
        system, turns = _turns(prompt.messages)
        if not turns or turns[0][0].role != "user" or turns[-1][0].role != "user":
            raise WhetstoneError("a prompt must begin (after the system message) and end with a user message")
        encode, structure = self._tokenizer.encode, self._tokenizer.encode_structure
        first = _joined(turns[0])
        if system is None:
            ids = structure((self._bare or self._pieces).opening) + encode(first)
        elif self._with_system is None:  # no system role: what it would say opens the first user turn
            ids = structure(self._pieces.opening) + encode(system + JOINT + first)
        else:
            ids = self._system_turn(system, self._with_system) + encode(first)
        for turn in turns[1:]:
            ids += self._assistant(turn) if turn[0].role == "assistant" else encode(_joined(turn))
        return ids + self._generation

    def opening_tokens(self, prompt: Prompt) -> int:
        """How many ids at the beginning of `encode(prompt)` are the system turn; 0 where it has no turn of its own."""
        system, _ = _turns(prompt.messages)
        return 0 if system is None or self._with_system is None else len(self._system_turn(system, self._with_system))

    def _system_turn(self, system: str, pieces: _Pieces) -> list[int]:
        """The ids up to the first user content. All steps of a session ask for the same ones."""
        if (last := self._last_system) is not None and last[0] == system:
            return last[1]
        encode, structure = self._tokenizer.encode, self._tokenizer.encode_structure
        ids = structure(pieces.opening) + encode(system) + structure(pieces.system_to_user)
        self._last_system = system, ids
        return ids

    def _assistant(self, turn: Sequence[Message]) -> list[int]:
        if len(turn) > 1 or turn[0].token_ids is None:
            return self._history + self._tokenizer.encode(_joined(turn)) + self._closing
        own = list(turn[0].token_ids)
        ended = bool(own) and own[-1] == self.end_id
        return self._generation + own + (self._after_end if ended else [self.end_id, *self._after_end])

    def _take_apart(self, *, with_system: bool, options: Mapping[str, Any]) -> _Pieces | None:
        """The pieces of the template, None if it does not show every content exactly once and in order."""
        roles = [*(["system"] if with_system else []), *(["user", "assistant"] * 2), "user"]
        marks = [f"whetstone{n}mark{sum(map(ord, self._source)) % 9973}" for n in range(len(roles))]
        messages = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
        try:
            rendered = self._render(messages, options)
        except Exception:  # templates refuse by raising whatever they like
            return None
        between: list[str] = []
        for mark in marks:
            before, found, rendered = rendered.partition(mark)
            if not found:
                return None
            between.append(before)
        if any(mark in rendered for mark in marks):
            return None
        skip = 1 if with_system else 0
        return _Pieces(
            opening=between[0],
            system_to_user=between[1] if with_system else "",
            user_to_assistant=between[skip + 1],
            assistant_to_user=between[skip + 2],
            generation=rendered,
        )

    def _render(self, messages: list[dict[str, str]], options: Mapping[str, Any]) -> str:
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        # The same environment as transformers' apply_chat_template, but for `strftime_now`: a date in the system turn
        # would make tomorrow's prompt another prompt.
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        # The {% generation %} marks are for training masks; they print nothing.
        template = environment.from_string(re.sub(r"\{%-?\s*(end)?generation\s*-?%\}", "", self._source))
        return template.render(
            messages=messages, add_generation_prompt=True, raise_exception=_refuse, **self._tokenizer.special, **options
        )


def _turns(messages: Sequence[Message]) -> tuple[str | None, list[list[Message]]]:
    """The system text, and the other messages with neighbours of one role together. A later system message is data."""
    opening: list[str] = []
    rest = list(messages)
    while rest and rest[0].role == "system":
        opening.append(rest.pop(0).content)
    grouped = groupby(rest, key=lambda message: message.role == "assistant")
    return (JOINT.join(opening) if opening else None), [_as_turn(list(group)) for _, group in grouped]


def _as_turn(group: list[Message]) -> list[Message]:
    if group[0].role == "system":
        group[0] = Message("user", group[0].content, group[0].section, group[0].step)
    return group


def _joined(turn: Sequence[Message]) -> str:
    return JOINT.join(message.content for message in turn)


def _thinking_suffix(generation: str, source: str, tokenizer: ModelTokenizer, thinking: Thinking) -> tuple[bool, str]:
    """Whether the model's turn opens in a think block, and what to add to the generation prompt to make that so."""
    opened = generation.rstrip().endswith(THINK)
    if thinking == "off":
        return False, f"{END_THINK}{JOINT}" if opened else ""
    if opened:
        return True, ""
    # Qwen3's template lets the model open the block itself, with exactly these tokens.
    switchable = "enable_thinking" in source and tokenizer.id_of(THINK) is not None
    closed = generation.rstrip().endswith(END_THINK)
    if thinking == "on" and not switchable:
        raise WhetstoneError("the model does not think: its chat template has no think block; leave thinking on auto")
    return (True, f"{THINK}\n") if switchable and not closed else (False, "")


def _to_json(value: Any, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise ValueError(message)
