"""Checks of answers that accept every fair way of saying them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

from agent.types import JSON

UNABLE = (
    r"(?i)\b(no|not|none|nothing|cannot|can't|couldn't|doesn't|isn't|don't|unable|missing|empty|without|impossible"
    r"|unknown)\b"
)
"""What an answer holds that says something is not there or cannot be done."""


def says(*values: object, never: Sequence[str] = ()) -> dict[str, JSON]:
    """The answer holds each of the values, in any letter case, and none of the texts of `never`."""
    wanted = "".join(rf"(?=.*{_pattern(value)})" for value in values)
    unwanted = "".join(rf"(?!.*{_bounded(re.escape(text))})" for text in never)
    return {"answer": {"matches": rf"(?is)\A{wanted}{unwanted}"}}


def unable(*values: object, never: Sequence[str] = ()) -> dict[str, JSON]:
    """The answer says that something is not there or cannot be done, and holds each of the values."""
    said = {"answer": {"matches": UNABLE}}
    return every(says(*values, never=never), said) if values or never else said


def file_says(path: str, *values: object) -> dict[str, JSON]:
    """The file holds each of the values."""
    wanted = "".join(rf"(?=.*{_pattern(value)})" for value in values)
    return {"file": path, "matches": rf"(?is)\A{wanted}"}


def file_is(path: str, text: str) -> dict[str, JSON]:
    """The file holds exactly this, but for a newline at its end."""
    return {"file": path, "equals": text}


def file_lines(path: str, lines: Sequence[str]) -> dict[str, JSON]:
    """The file holds exactly these lines; blank ones at its end do not matter."""
    body = r"[ \t]*\r?\n".join(re.escape(line) for line in lines)
    return {"file": path, "matches": rf"\A\s*{body}\s*\Z"}


def every(*checks: dict[str, JSON]) -> dict[str, JSON]:
    """All of them; nested lists of all become one."""
    flat: list[JSON] = []
    for check in checks:
        flat += check.get("all", [check])
    return flat[0] if len(flat) == 1 else {"all": flat}


def files_of(check: object) -> set[str]:
    """The files that a check wants to be there, in whatever it is put together of."""
    if isinstance(check, list):
        return set().union(*map(files_of, check))
    if not isinstance(check, Mapping) or check.get("exists") is False:
        return set()
    own = {str(check["file"])} if "file" in check else set[str]()
    return own.union(*(files_of(part) for part in check.values()))


def lenient(check: Mapping[str, JSON]) -> dict[str, JSON]:
    """The same check without what an answer must not hold: for an answer that says more than this job asks."""
    return _rewritten(
        check, lambda test: {"answer": {key: str(text).partition("(?!.*")[0] for key, text in test.items()}}
    )


def in_file(check: Mapping[str, JSON], path: str) -> dict[str, JSON]:
    """The check of an answer, asked of a file instead."""
    return _rewritten(check, lambda test: {"file": path, **test})


def _rewritten(check: Mapping[str, JSON], rewrite: Callable[[Mapping[str, JSON]], dict[str, JSON]]) -> dict[str, JSON]:
    if "all" in check or "any" in check:
        return {key: [_rewritten(part, rewrite) for part in parts] for key, parts in check.items()}
    if "answer" in check:
        return rewrite(check["answer"])
    return dict(check)


def _pattern(value: object) -> str:
    if isinstance(value, bool):
        return _bounded("(?:true|yes)" if value else "(?:false|no)")
    if isinstance(value, int | float):
        return number_pattern(value)
    text = str(value)
    return _bounded(r"\s+".join(re.escape(word) for word in (text.rstrip(".,:;!") or text).split()))


def _bounded(pattern: str) -> str:
    return rf"(?<!\w){pattern}(?!\w)"


def number_pattern(value: int | float) -> str:
    """A number, however many of its decimals are given (two at least), with or without separators of thousands."""
    forms: set[str] = set()
    for digits in range(2, 6):
        for separator in ("", ","):
            form = f"{value:{separator}.{digits}f}"
            bare = form.rstrip("0").rstrip(".")
            forms.add(re.escape(form))
            if abs(float(bare.replace(",", "")) - value) < 0.005 + 1e-9:
                forms |= {re.escape(bare), re.escape(bare if "." in bare else f"{bare}.0")}
    cut = math.trunc(value * 1e4) / 1e4
    if cut != value:
        forms.add(re.escape(f"{cut:.4f}") + r"\d+")
    options = "|".join(sorted(forms, key=lambda form: (-len(form), form)))
    return rf"(?<![\d.,-])(?:{options})(?!\d)(?![.,]\d)"
