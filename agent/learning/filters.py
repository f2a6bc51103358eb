"""Which sessions are worth learning from, and which of several for one goal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from agent.journal import Session
from agent.learning.examples import Example
from agent.learning.heldout import check_digest, normalised
from agent.types import Event

Success = Literal["verified", "unverified", "failed"]


@dataclass(frozen=True)
class Filters:
    """What is let in. `include` names the kinds of success; a person's rating counts as a check.

    `tags`: any of these, where there are some; `without_tags`: none of these. `since` and `before` are Unix times of
    the session's start. `per_goal` sessions of one goal at most; two of one goal whose actions are alike by
    `near_duplicate` (share of common word triples) or more count as one. `max_tokens` is the longest sequence.
    """

    include: tuple[Success, ...] = ("verified",)
    tags: tuple[str, ...] = ()
    without_tags: tuple[str, ...] = ()
    since: float = 0.0
    before: float = float("inf")
    per_goal: int = 4
    near_duplicate: float = 0.9
    max_tokens: int = 8192
    tainted: bool = False
    redact: bool = True

    def refuses(self, session: Session, rating: str | None) -> str | None:
        """Why a session is left out, in a few words; None if it is let in."""
        if success(session.events, rating) not in self.include:
            return {
                "verified": "verified",
                "unverified": "not verified",
                "failed": "failed",
            }[success(session.events, rating)]
        tags = set(session.header["goal"]["tags"])
        if (self.tags and not tags & set(self.tags)) or tags & set(self.without_tags):
            return "other tags"
        if not self.since <= session.events[0].time < self.before:
            return "too old or too new"
        return None


@dataclass(frozen=True)
class Candidate:
    """A session that may be used: its examples, and what it is chosen by."""

    examples: tuple[Example, ...]
    goal: str
    """Digest of the goal: its words, its check and the files it started from."""
    actions: str
    """All tools and arguments, as JSON."""
    wasted: int
    """Steps that nothing is learned from."""
    steps: int

    @property
    def session(self) -> str:
        return self.examples[0].session

    @property
    def tokens(self) -> int:
        return sum(len(example.ids) for example in self.examples)


def success(events: Sequence[Event], rating: str | None = None) -> Success:
    """What is known of a session's success: a person's rating (`good`, `bad`) before its check before its ending."""
    if rating is not None:
        return "verified" if rating == "good" else "failed"
    end = events[-1].data if events[-1].kind == "end" else {}
    check = end.get("check")
    if check is not None:
        return "verified" if check["passed"] and end["ending"] == "finished" else "failed"
    return "unverified" if end.get("ending") == "finished" else "failed"


def candidate(session: Session, examples: Sequence[Example]) -> Candidate:
    """The session as one to choose from."""
    actions = [e.data for e in session.events if e.kind == "action"]
    statuses = [e.data["status"] for e in session.events if e.kind == "observation"]
    taken = json.dumps([[a["tool"], a["args"]] for a in actions if a["valid"]], sort_keys=True, ensure_ascii=False)
    return Candidate(tuple(examples), goal_digest(session), taken, sum(s != "ok" for s in statuses), len(actions))


def goal_digest(session: Session) -> str:
    """sha256 hex of what the session had to do: the goal's words, its check and the files it started from."""
    goal: Mapping[str, Any] = session.header["goal"]
    kept = next((e.data["files"] for e in session.events if e.kind == "workspace"), [])
    files = sorted([file["path"], file["sha256"]] for file in kept)
    return sha256(json.dumps([normalised(goal["text"]), check_digest(goal["check"]), files]).encode()).hexdigest()


def distinct(
    candidates: Sequence[Candidate], filters: Filters, scores: Mapping[str, float] | None = None
) -> tuple[list[Candidate], dict[str, str]]:
    """At most `per_goal` of each goal, none like another, the tidiest first; and why each other one is left out.

    With `scores` (by session id) the highest of a goal come first. The order of the sessions stays. The reasons are by
    session id.
    """
    scores = scores or {}
    by_goal: dict[str, list[Candidate]] = {}
    for one in candidates:
        by_goal.setdefault(one.goal, []).append(one)
    kept: set[str] = set()
    reasons: dict[str, str] = {}
    for several in by_goal.values():
        chosen: list[tuple[str, frozenset[str]]] = []
        for one in sorted(several, key=lambda c: (-scores.get(c.session, 0.0), c.wasted, c.steps, c.tokens, c.session)):
            session, shingles = one.session, _triples(one.actions)
            if any(one.actions == actions for actions, _ in chosen):
                reasons[session] = "the same actions as another"
            elif any(_alike(shingles, other) >= filters.near_duplicate for _, other in chosen):
                reasons[session] = "nearly the same actions as another"
            elif len(chosen) >= filters.per_goal:
                reasons[session] = "enough of this goal"
            else:
                chosen.append((one.actions, shingles))
                kept.add(session)
    return [one for one in candidates if one.session in kept], reasons


def _triples(actions: str) -> frozenset[str]:
    words = actions.replace('"', " ").split()
    return frozenset(" ".join(words[n : n + 3]) for n in range(max(1, len(words) - 2)))


def _alike(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other)
