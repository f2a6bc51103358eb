"""Typed, stable placeholders for what should not leave the machine: `[EMAIL_1]`, `[CARD_1]`, `[IBAN_1]`, `[API_KEY_1]`.

The same value has the same placeholder everywhere in one export, so what belongs together still reads so. The values
of secret environment variables never reach a journal (`agent.redact`); this is for what stands in files, in answers
and in goals.

covers: e-mail addresses; payment card numbers (13 to 19 digits, or 14 to 16 in groups,
Luhn-checked); IBANs (length by
country, mod-97-checked); keys with a known format: AWS, Anthropic, GitHub, GitLab, Google, Hugging Face, npm, OpenAI,
PyPI, Slack, Stripe, JSON Web Tokens, bearer tokens, passwords in URLs, PEM private keys. In every text of a session,
in nested arguments, in keys of objects, behind JSON escapes, and in whole numbers. The token ids and log-probabilities
of an action that held any of it are left out, because ids can be decoded back.
does not cover: names, addresses, telephone numbers, IP addresses, dates of birth, passport and account numbers;
passwords and keys without a known format; values that are encoded (base64, hex), translated, spelled out or split over
lines; the file names of the machine it ran on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from agent.journal import Session
from agent.types import JSON, Event


def with_texts(value: JSON, change: Callable[[str], str], other: Callable[[JSON], JSON] = lambda value: value) -> JSON:
    """The same JSON value with every text in it, keys of objects included, passed through `change`, and every number,
    truth value and null through `other`."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, JSON]", value)
        return {change(key): with_texts(part, change, other) for key, part in fields.items()}
    if isinstance(value, list | tuple):
        return [with_texts(part, change, other) for part in cast("Sequence[JSON]", value)]
    return other(value)


@dataclass
class Placeholders:
    """The placeholders of one export, numbered by type in the order in which the values came up."""

    _given: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])

    def text(self, text: str) -> str:
        """`text` with every value of a known form replaced."""
        for form in _FORMS:
            text = self._replaced(text, form)
        return text

    def value(self, value: JSON) -> JSON:
        """The same JSON value with every text in it, keys of objects included, passed through `text`."""
        return with_texts(value, self.text, self._number)

    def _number(self, value: JSON) -> JSON:
        if isinstance(value, int) and len(str(value)) in _CARD_LENGTHS and _card(str(value)):
            return self._placeholder("CARD", str(value))
        return value

    def _replaced(self, text: str, form: _Form) -> str:
        parts: list[str] = []
        end = 0
        for start, stop, canonical in _found(text, form):
            parts += [text[end:start], self._placeholder(form.type, canonical)]
            end = stop
        return text if not parts else "".join([*parts, text[end:]])

    def _placeholder(self, type_: str, canonical: str) -> str:
        number = 1 + sum(kind == type_ for kind, _ in self._given)
        return self._given.setdefault((type_, canonical), f"[{type_}_{number}]")


def redacted(session: Session, placeholders: Placeholders) -> Session:
    """The session as an export may show it. The file's chain of hashes does not hold for what this returns."""
    return replace(session, events=tuple(_event(event, placeholders) for event in session.events))


def _event(event: Event, placeholders: Placeholders) -> Event:
    if event.kind != "action":
        return replace(event, data=placeholders.value(event.data))
    # Numbers of an action are looked at in its arguments only: token ids are not text, and are many.
    data = {k: v if k in _NUMBERS else placeholders.value(v) for k, v in event.data.items()}
    data["text"] = _action_text(event.data["text"], placeholders)
    wrote = ("text", "thinking", "thought", "args")
    if any(data.get(key) != event.data.get(key) or " redacted]" in str(data.get(key)) for key in wrote):
        data |= {"token_ids": [], "sampled": [], "logprobs": []}
    return replace(event, data=data)


_NUMBERS = frozenset(("token_ids", "sampled", "logprobs", "usage", "milliseconds"))


def _action_text(text: str, placeholders: Placeholders) -> str:
    """An action is JSON, where a value may hide behind escapes; what changed is written as JSON again."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return placeholders.text(text)
    clean = placeholders.value(value)
    return text if clean == value else json.dumps(clean, ensure_ascii=False)


# --- the forms ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Form:
    """`pattern` finds a candidate (its group `value`, where it has one), `length` cuts it to size, and `canonical` says
    what value it is, or None where it is none."""

    type: str
    pattern: re.Pattern[str]
    canonical: Callable[[str], str | None] = str
    length: Callable[[str], int] = len


def _found(text: str, form: _Form) -> Iterator[tuple[int, int, str]]:
    """Where values of a form stand in `text`, left to right, without overlaps. A candidate that is none costs one
    character, so that a value that begins inside it is still found."""
    position = 0
    while match := form.pattern.search(text, position):
        group = "value" if "value" in form.pattern.groupindex else 0
        start, found = match.start(group), match[group]
        found = found[: form.length(found)]
        canonical = form.canonical(found)
        if canonical is None:
            position = start + 1
        else:
            position = start + len(found)
            yield start, position, canonical


def _luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B: every second digit from the right is doubled, digits summed, modulo 10."""
    doubled = (int(d) * (1 + i % 2) for i, d in enumerate(reversed(digits)))
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def _card(found: str) -> str | None:
    digits = re.sub(r"\D", "", found)
    # The first digit of payment cards is 2 to 6; time stamps in milli- or nanoseconds begin with 1.
    return digits if digits[0] in "23456" and len(set(digits)) > 1 and _luhn(digits) else None


# Lengths by country: SWIFT IBAN registry, release 99.
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}


def _iban_length(found: str) -> int:
    """How many characters of `found`, spaces included, make up an IBAN of its country; 0 if it is too short."""
    wanted = _IBAN_LENGTHS.get(found[:2].upper(), 99)
    seen = 0
    for position, character in enumerate(found):
        seen += character != " "
        if seen == wanted:
            rest = found[position + 1 :]
            return 0 if rest and rest[0] != " " else position + 1
    return 0


def _iban(found: str) -> str | None:
    """ISO 13616: the first four characters moved to the end, letters as 10 to 35, modulo 97 is 1."""
    text = found.replace(" ", "").upper()
    if not text:
        return None
    return text if int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1 else None


# A value begins where no word goes on to the left of it. In JSON the letter of an escape (`\n`, `\u000a`) stands there
# and belongs to no word; after any other backslash (`DOMAIN\alice`) a word begins.
_START = r"(?:(?<![\w\\])|(?<=\\[nrtbf])|(?<=\\u[0-9a-fA-F]{4})|(?<=\\)(?![nrtbf]|u[0-9a-fA-F]{4}))"
_CARD_LENGTHS = range(13, 20)
# All repetitions are bounded or possessive, so that no text takes more than linear time.
_FORMS = (
    # RFC 7468. Line ends may be escaped. Where the end is missing, only lines of base64 belong to it.
    _Form(
        "API_KEY",
        re.compile(
            r"-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY-----"
            r"(?:(?:[\w+/=\s:,.\\]|-(?!----))*+-----END (?:[A-Z0-9]+ ){0,4}PRIVATE KEY-----"
            r"|(?:(?:\\[nr]|[\n\r])*+[A-Za-z0-9+/=]++)*+)"
        ),
    ),
    _Form(
        "API_KEY",
        re.compile(
            _START
            + r"""(?:
              (?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?!\w)      # AWS
            | gh[pousr]_[A-Za-z0-9]{36,255}                  # GitHub
            | github_pat_[A-Za-z0-9_]{22,255}
            | glpat-[A-Za-z0-9_-]{20,255}                    # GitLab
            | sk-(?=[A-Za-z_-]{0,512}[0-9])[A-Za-z0-9_-]{20,512}  # OpenAI, Anthropic; CSS classes have no digit
            | [sr]k_(?:live|test)_[A-Za-z0-9]{16,255}        # Stripe
            | whsec_[A-Za-z0-9+/]{24,255}
            | xox[abceoprs]-[A-Za-z0-9-]{10,512}             # Slack
            | xapp-[0-9]-[A-Za-z0-9-]{10,512}
            | AIza[A-Za-z0-9_-]{35}                          # Google
            | ya29\.[A-Za-z0-9_-]{20,2048}
            | hf_[A-Za-z0-9]{30,255}                         # Hugging Face
            | npm_[A-Za-z0-9]{36}
            | pypi-[A-Za-z0-9_-]{50,512}
            | eyJ[A-Za-z0-9_-]{8,8192}\.eyJ[A-Za-z0-9_-]{4,8192}\.[A-Za-z0-9_-]{0,8192}  # JSON Web Token, RFC 7519
            )""",
            re.VERBOSE,
        ),
    ),
    _Form(
        "API_KEY",
        re.compile(
            r"aws_?secret_?access_?key[\"'\s:=\\]{1,8}(?P<value>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])", re.IGNORECASE
        ),
    ),
    _Form("API_KEY", re.compile(r"\bbearer\s{1,4}(?P<value>[A-Za-z0-9._~+/-]{16,4096}=*+)", re.IGNORECASE)),
    _Form(
        "PASSWORD",
        re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s/:@\"'\[\]]{0,64}:(?P<value>[^\s/@\"'\[\]]{1,256})@"),
    ),
    # Lengths of RFC 5321. Of the marks a local part may hold, those that also stand around addresses are not taken.
    _Form(
        "EMAIL",
        re.compile(_START + r"\w[\w.%+-]{0,63}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?!\w)"),
        str.lower,
    ),
    _Form("IBAN", re.compile(_START + r"[A-Za-z]{2}[0-9]{2}(?: ?[A-Za-z0-9]){11,29}", re.ASCII), _iban, _iban_length),
    _Form(
        "CARD",
        re.compile(
            _START + r"(?<!\d[.,])(?:\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}|\d{4}([ -])\d{6}\2\d{4,5})(?!\w|[.,]\d)",
            re.ASCII,
        ),
        _card,
    ),
)
