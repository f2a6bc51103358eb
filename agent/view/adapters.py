"""Adapters of the registry as a person reads them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from agent.learning.adapters import Entry


def list_text(entries: Sequence[Entry]) -> str:
    """One line for each adapter, the newest first."""
    rows = [("id", "state", "added", "trained on", "method", "gate")]
    for entry in sorted(entries, key=lambda e: -e.added):
        gate = entry.gates[-1]["verdict"] if entry.gates else "-"
        rows.append((entry.id, entry.state, _day(entry.added), _sessions(entry), _method(entry), gate))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def show_text(entry: Entry, history: Sequence[Mapping[str, Any]]) -> str:
    """Everything that is known of one adapter."""
    card = entry.card
    lines = [f"adapter {entry.id} ({entry.state})", f"base {card['base_digest'][:12]}, {_method(entry)}"]
    if card.get("parents"):
        lines.append(f"made of {', '.join(card['parents'])}")
    lines.append(f"trained on {_sessions(entry)}")
    recipe: Mapping[str, Any] = card.get("recipe") or {}
    if recipe:
        lines.append("recipe: " + ", ".join(f"{key} {value}" for key, value in recipe.items()))
    for gate in entry.gates:
        lines.append(f"gate, {_day(gate['time'])}: {gate['verdict']}")
        lines += [f"  {reason}" for reason in gate["reasons"]]
    lines += [
        f"{_day(line['time'])} {line['event'].replace('_', ' ')}" for line in history if line["adapter"] == entry.id
    ]
    return "\n".join(lines)


def diff_text(first: Entry, second: Entry) -> str:
    """What sets two adapters apart: base, recipe, sessions, verdicts."""
    lines = [f"{first.id} -> {second.id}"]
    if first.lineage != second.lineage:
        lines.append("they belong to different bases")
    before: Mapping[str, Any] = first.card.get("recipe") or {}
    after: Mapping[str, Any] = second.card.get("recipe") or {}
    for key in sorted(set(before) | set(after)):
        if before.get(key) != after.get(key):
            lines.append(f"{key}: {before.get(key)} -> {after.get(key)}")
    gone, new = first.sessions - second.sessions, second.sessions - first.sessions
    lines.append(f"sessions: {len(first.sessions & second.sessions)} in both, {len(gone)} gone, {len(new)} new")
    verdicts = [entry.gates[-1]["verdict"] if entry.gates else "none" for entry in (first, second)]
    lines.append(f"gate: {verdicts[0]} -> {verdicts[1]}")
    return "\n".join(lines)


def as_data(entry: Entry) -> dict[str, Any]:
    """An adapter as JSON."""
    fields = {"id": entry.id, "state": entry.state, "added": entry.added, "folder": str(entry.folder)}
    return {**fields, "card": dict(entry.card), "gates": [dict(gate) for gate in entry.gates]}


def _sessions(entry: Entry) -> str:
    return f"{len(entry.sessions)} sessions" if entry.sessions else "-"


def _method(entry: Entry) -> str:
    recipe: Mapping[str, Any] = entry.card.get("recipe") or {}
    return str(recipe.get("method") or entry.card.get("kind") or "-")


def _day(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))
