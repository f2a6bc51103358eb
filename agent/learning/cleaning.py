"""Takes secrets and personal data out of sessions before anything is learned from them.

covers: the values of secret environment variables (`agent.redact`), also where they entered a session by import; with
`personal`, what an export takes out (`agent.export.redaction`: addresses, card numbers, keys of known forms).
does not cover: what those two do not cover; names, above all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

from agent.export.redaction import Placeholders, redacted
from agent.journal import Session
from agent.redact import redactor
from agent.types import JSON, Event


class Cleaner:
    """Cleans the sessions of one dataset: the same value has the same placeholder in all. `changed` counts them."""

    def __init__(self, *, personal: bool = True) -> None:
        self._placeholders = Placeholders() if personal else None
        self._redact = redactor()
        self.changed = 0

    def clean(self, session: Session) -> tuple[Session, bool]:
        """The session without them, and whether it is as it was."""
        shown = _shown(session)
        found = shown if self._placeholders is None else redacted(shown, self._placeholders)
        if self._redact is not str:
            found = replace(found, events=tuple(_without(event, self._redact) for event in found.events))
        same = found.events == shown.events
        first = replace(session.events[0], data={**session.header, **found.header})
        found = replace(found, events=(first, *found.events[1:]))
        self.changed += not same
        return (session, True) if same else (found, False)


def _shown(session: Session) -> Session:
    """The session with no more in its header than the model is shown of it: schemas are long and hold nothing."""
    first = replace(session.events[0], data={key: session.header[key] for key in ("goal", "system")})
    return replace(session, events=(first, *(e for e in session.events[1:] if e.kind != "workspace")))


def _without(event: Event, redact: Callable[[str], str]) -> Event:
    data = cast("Mapping[str, JSON]", _value(event.data, redact))
    if event.kind == "action" and data != event.data:  # ids can be decoded back
        data = {**data, "token_ids": [], "sampled": [], "logprobs": []}
    return event if data == event.data else replace(event, data=data)


def _value(value: JSON, redact: Callable[[str], str]) -> JSON:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: _value(part, redact) for key, part in cast("Mapping[str, JSON]", value).items()}
    if isinstance(value, list):
        parts = cast("list[JSON]", value)
        return parts if parts and isinstance(parts[0], int | float) else [_value(part, redact) for part in parts]
    return value
