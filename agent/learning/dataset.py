"""Journals become a dataset: verified sessions as token sequences, with a manifest that names every one of them.

A dataset is a folder with `examples.jsonl` (one `Example` a line) and `manifest.json`: the sessions used and their
digests, those left out and why, the filters, the base whose tokens they are, the held-out suites they were kept apart
from. `docs/learning.md` tells the whole story.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from agent.engine.digests import write_whole
from agent.journal import JournalError, Session, read_session
from agent.learning.augmenting import Augmenter
from agent.learning.cleaning import Cleaner
from agent.learning.examples import Example
from agent.learning.filters import Candidate, Filters, candidate, distinct
from agent.learning.heldout import HeldOut
from agent.learning.planted import plant
from agent.learning.sequences import SessionEncoder
from agent.learning.taint import taint
from agent.learning.writing import Unusable
from agent.types import JSON, WhetstoneError

EXAMPLES, MANIFEST = "examples.jsonl", "manifest.json"
SCHEMA_VERSION = 1
Ranker = Callable[[Sequence[Example]], Sequence[float]]
"""How good each session is thought to be; `Discriminator.score` is one."""


def _quiet(_: int) -> None:
    return


@dataclass(frozen=True)
class Dataset:
    """A dataset as read back. `manifest` is the JSON of its file."""

    folder: Path
    examples: tuple[Example, ...]
    manifest: Mapping[str, Any]


def build_dataset(
    sessions: Iterable[Path | Session],
    out: Path,
    encoder: SessionEncoder,
    *,
    filters: Filters | None = None,
    held_out: HeldOut | None = None,
    leave_out_held_out: bool = False,
    ratings: Mapping[str, str] | None = None,
    base: str = "",
    plant_secret: bool = False,
    augmenter: Augmenter | None = None,
    ranker: Ranker | None = None,
    progress: Callable[[int], None] = _quiet,
) -> dict[str, Any]:
    """Make the dataset of `sessions` (journals, or sessions read already) in the folder `out`; returns its manifest.

    `ratings` are a person's judgements by session id (`good`, `bad`), `base` the model's name for the manifest,
    `plant_secret` plants one for the gate to look for (`agent.learning.planted`), `augmenter` tells every session that
    is used again in other words, `ranker` scores sessions, of which the highest of a goal are kept, `progress` is told
    how many sessions were read. A session that is named twice counts once. Raises WhetstoneError, and writes nothing,
    if a session worked on a held-out goal (unless those are to be left out), if one lies in two places with other
    content, or if nothing is left to learn from.
    """
    filters, held_out, ratings = filters or Filters(), held_out or HeldOut(), ratings or {}
    candidates: list[Candidate] = []
    places: dict[str, Path | Session] = {}
    left_out: dict[str, str] = {}
    leaked: list[str] = []
    cleaner = Cleaner(personal=filters.redact)
    heads: dict[str, str] = {}
    for number, item in enumerate(sessions, start=1):
        name = item.id if isinstance(item, Session) else item.stem
        try:
            session = _read(item)
        except JournalError:
            if places.setdefault(name, item) is item:
                left_out[name] = "damaged"
            continue
        finally:
            progress(number)
        if name in places and _is_known(session, heads.get(name), places[name]):
            continue
        places[name], heads[name] = item, session.head
        left_out.pop(name, None)  # another copy of it was damaged
        try:
            if (leak := held_out.leak(session)) == "exact":
                leaked.append(name)
            chosen = _usable(session, encoder, filters, leak, ratings.get(name), cleaner)
        except Unusable as reason:
            left_out[name] = str(reason)
        else:
            candidates.append(chosen)
    number = len(places)
    if leaked and not leave_out_held_out:
        raise WhetstoneError(
            f"{len(leaked)} of {number} sessions worked on held-out goals (first: {leaked[0]}): training on them would"
            " make every later measurement worthless; point at other sessions, or leave these out with"
            " --leave-out-held-out"
        )
    scores = {} if ranker is None else _scores(candidates, ranker)
    used, reasons = distinct(candidates, filters, scores)
    left_out |= reasons
    if not used:
        why = "; ".join(f"{count} {reason}" for reason, count in Counter(left_out.values()).most_common(3))
        raise WhetstoneError(f"none of {number} sessions can be learned from ({why or 'there are none'})")
    manifest = _manifest(number, used, left_out, encoder, filters, held_out, base)
    manifest["redacted"] = cleaner.changed  # before any is cleaned a second time
    if scores:
        manifest["scores"] = {one.session: round(scores[one.session], 4) for one in used}
    if plant_secret:
        used, manifest["planted"] = _with_secret(used, places, encoder, cleaner)
    examples = [example for one in used for example in one.examples]
    if augmenter is not None:
        examples += _retold(used, places, encoder, cleaner, held_out, augmenter)
        manifest["augmented"] = augmenter.as_data()
        manifest["counts"] |= _size(examples)
    write_dataset(out, examples, manifest)
    return manifest


def _scores(candidates: Sequence[Candidate], ranker: Ranker) -> dict[str, float]:
    said = ranker([one.examples[0] for one in candidates])
    return {one.session: score for one, score in zip(candidates, said, strict=True)}


def read_examples(folder: Path) -> list[Example]:
    """The examples of a dataset. Raises WhetstoneError if the folder is none, or its content was changed."""
    return list(read_dataset(folder).examples)


def read_dataset(folder: Path) -> Dataset:
    """A dataset with its manifest. Raises WhetstoneError if the folder is none, or its content was changed."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        raw = (folder / EXAMPLES).read_bytes()
    except (OSError, ValueError) as error:
        raise WhetstoneError(f"{folder} is not a dataset ({error}): make one with `dataset build`") from error
    if manifest.get("schema") != SCHEMA_VERSION:
        raise WhetstoneError(f"{folder} was made by another version: build it again with `dataset build`")
    if sha256(raw).hexdigest() != manifest.get("examples_sha256"):
        raise WhetstoneError(f"{folder / EXAMPLES} is not what its manifest records: build the dataset again")
    return Dataset(folder, tuple(_examples(raw)), manifest)


def kept_apart(datasets: Sequence[Dataset]) -> list[str]:
    """The held-out suites (`rows_digest`) that were kept out of every one of the datasets."""
    suites = [each.manifest.get("held_out", {}).get("suites", ()) for each in datasets]
    return [suite for suite in suites[0] if all(suite in other for other in suites[1:])]


def write_dataset(folder: Path, examples: Sequence[Example], manifest: Mapping[str, JSON]) -> None:
    """Write a dataset, the manifest last, so that a folder with one is whole."""
    text = "".join(f"{_line(example)}\n" for example in examples)
    (folder / MANIFEST).unlink(missing_ok=True)
    write_whole(folder / EXAMPLES, text)
    whole = {**manifest, "schema": SCHEMA_VERSION, "examples_sha256": sha256(text.encode()).hexdigest()}
    write_whole(folder / MANIFEST, json.dumps(whole, indent=1))


def _with_secret(
    used: list[Candidate], places: Mapping[str, Path | Session], encoder: SessionEncoder, cleaner: Cleaner
) -> tuple[list[Candidate], dict[str, Any] | None]:
    """The candidates with a secret planted in what the first of them that read something read."""
    for number, one in enumerate(used):
        place = places[one.examples[0].session]
        session = _read(place)
        if (found := plant(cleaner.clean(session)[0], encoder)) is not None:
            changed = replace(one, examples=tuple(found[0]))
            return [*used[:number], changed, *used[number + 1 :]], found[1].as_data()
    return used, None


def _read(place: Path | Session) -> Session:
    return place if isinstance(place, Session) else read_session(place)


def _is_known(session: Session, head: str | None, place: Path | Session) -> bool:
    """Whether it was read before, from `place`, where its head was `head`; None if it was damaged there."""
    if head is not None and head != session.head:
        raise WhetstoneError(
            f"session {session.id} lies in two places with other content ({_path(place)} and {session.path}): leave one"
            " of them out"
        )
    return head is not None


def _path(place: Path | Session) -> Path:
    return place.path if isinstance(place, Session) else place


def _retold(
    used: Sequence[Candidate],
    places: Mapping[str, Path | Session],
    encoder: SessionEncoder,
    cleaner: Cleaner,
    held_out: HeldOut,
    augmenter: Augmenter,
) -> list[Example]:
    found: list[Example] = []
    for one in used:
        place = places[one.examples[0].session]
        session = _read(place)
        found += augmenter.examples(cleaner.clean(session)[0], encoder, held_out)
    return found


def _usable(
    session: Session,
    encoder: SessionEncoder,
    filters: Filters,
    leak: str | None,
    rating: str | None,
    cleaner: Cleaner,
) -> Candidate:
    """The session as one to choose from. Raises Unusable with the reason if it is none."""
    if leak is not None:
        raise Unusable("held out" if leak == "exact" else "nearly a held-out goal")
    if reason := filters.refuses(session, rating):
        raise Unusable(reason)
    if not filters.tainted and taint(session.events) is not None:
        raise Unusable("steered by untrusted text")
    clean, same = cleaner.clean(session)
    examples = encoder.examples(clean, exact=same)
    if not examples:
        raise Unusable("nothing to learn from")
    if max(len(example.ids) for example in examples) > filters.max_tokens:
        raise Unusable("too long")
    return candidate(session, examples)


def _manifest(
    read: int,
    used: Sequence[Candidate],
    left_out: Mapping[str, str],
    encoder: SessionEncoder,
    filters: Filters,
    held_out: HeldOut,
    base: str,
) -> dict[str, Any]:
    examples = [example for one in used for example in one.examples]
    return {
        "created": time.time(),
        "base": base,
        **asdict(encoder.lineage),
        "loss_on": encoder.loss_on,
        "filters": {k: v if v != float("inf") else None for k, v in asdict(filters).items()},
        "held_out": {"digest": held_out.digest, "goals": held_out.goals, "suites": list(held_out.suites)},
        "counts": {
            "read": read,
            "used": len(used),
            "goals": len({one.goal for one in used}),
            **_size(examples),
        },
        "families": dict(sorted(Counter(one.examples[0].family for one in used).items())),
        "left_out": dict(Counter(left_out.values()).most_common()),
        "sessions": [
            {
                "session": one.examples[0].session,
                "digest": one.examples[0].digest,
                "goal": one.goal,
                "family": one.examples[0].family,
                "steps": one.steps,
                "tokens": one.tokens,
            }
            for one in used
        ],
        "sessions_left_out": dict(left_out),
    }


def _size(examples: Sequence[Example]) -> dict[str, int]:
    return {
        "examples": len(examples),
        "tokens": sum(len(example.ids) for example in examples),
        "loss_tokens": sum(sum(example.loss) for example in examples),
        "longest": max(len(example.ids) for example in examples),
    }


def _line(example: Example) -> str:
    fields = {**asdict(example), "ids": list(example.ids), "loss": [int(flag) for flag in example.loss]}
    return json.dumps(fields, separators=(",", ":"))


def _examples(raw: bytes) -> Iterator[Example]:
    for line in raw.splitlines():
        fields: dict[str, Any] = json.loads(line)
        fields["ids"] = tuple(fields["ids"])
        fields["loss"] = tuple(bool(flag) for flag in fields["loss"])
        yield Example(**fields)
