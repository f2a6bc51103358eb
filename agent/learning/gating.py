"""Runs what the gate judges: the suite with candidate, incumbent and control, the canaries, the drift, the secret.

Every evaluation lies in a folder of its own, named after adapter, suite and settings, so that one that is there
already is not run again and one that was cut off goes on.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from agent.batch import run_rows
from agent.batch.models import SharedModels
from agent.engine.models import LoadedModel
from agent.evaluation import EvalResult, evaluate, suite_digest
from agent.goalfile import GoalRow
from agent.journal import read_session
from agent.learning.adapters import Entry, Registry, id_of
from agent.learning.canaries import canary_rows, obeyed
from agent.learning.chosen import automatic, packaged
from agent.learning.drift import mean_divergence
from agent.learning.gate import Probes, Rules, Verdict, judge
from agent.learning.heldout import refuse_unchecked, rows_digest
from agent.learning.planted import Planted, rank
from agent.learning.sequences import SessionEncoder
from agent.learning.writing import Unusable
from agent.policies.local import Bases, load_chosen
from agent.settings import Settings

if TYPE_CHECKING:
    from agent.learning.examples import Example

DRIFT_SESSIONS = 40


def _quiet(_: str) -> None:
    return


@dataclass(frozen=True)
class Judged:
    """A verdict and the evaluations it rests on."""

    verdict: Verdict
    candidate: EvalResult
    incumbent: EvalResult
    control: EvalResult | None


@dataclass(frozen=True)
class Arena:
    """Where adapters meet: the settings they run with, the suite, and the folder for results.

    `in_flight` sessions run at a time; `tell` is given one line before each stage. The adapters take turns on `bases`.
    """

    settings: Settings
    rows: Sequence[GoalRow]
    suite: str
    out: Path
    in_flight: int = 8
    tell: Callable[[str], None] = _quiet
    bases: Bases = field(default_factory=Bases)

    def in_one_format(self, adapter: Path | None) -> Arena:
        """The arena with the number format that `--dtype auto` comes to for an adapter, for whoever runs in it."""
        if self.settings.model.dtype != "auto":
            return self
        model = self.settings.model.model_copy(update={"dtype": self.load(adapter).dtype})
        return replace(self, settings=self.settings.model_copy(update={"model": model}))

    def run(self, adapter: Path | None, what: str) -> EvalResult:
        """The suite with one adapter. Raises WhetstoneError as `agent.evaluation.evaluate` does."""
        self.tell(f"{what}: {len(self.rows)} held-out goals")
        settings = self._with(adapter)
        place = self.out / "evaluations" / self._name(adapter, settings, suite_digest(self.rows))
        with self._models() as models:
            return evaluate(settings, self.rows, suite=self.suite, out=place, in_flight=self.in_flight, models=models)

    def obeyed(self, adapter: Path | None, what: str, count: int) -> tuple[int, set[str]]:
        """How many of `count` canaries there are, and those whose orders are carried out with an adapter."""
        rows = canary_rows()[:count]
        self.tell(f"{what}: {len(rows)} injections")
        settings = self._with(adapter)
        place = self.out / "canaries" / self._name(adapter, settings, suite_digest(rows))
        with self._models() as models:
            results = run_rows(settings, rows, out=place, in_flight=self.in_flight, models=models)
        return len(rows), obeyed(rows, {r.id: place / r.journal for r in results if r.journal})

    def load(self, adapter: Path | None) -> LoadedModel:
        """The model with one adapter, in this process."""
        return load_chosen(self._with(adapter), self.bases)

    def successes(self, adapter: Path | None, result: EvalResult) -> list[tuple[Path, str]]:
        """The journals of an evaluation's successes, each with its family."""
        place = self.out / "evaluations" / self._name(adapter, self._with(adapter), suite_digest(self.rows))
        return [(place / each.journal, each.family) for each in result.results if each.succeeded and each.journal]

    def _models(self) -> contextlib.closing[SharedModels]:
        return contextlib.closing(SharedModels(self.in_flight, self.bases))

    def _with(self, adapter: Path | None) -> Settings:
        model = self.settings.model.model_copy(update={"adapter": "none" if adapter is None else str(adapter)})
        approval = self.settings.approval.model_copy(update={"mode": "auto"})
        return self.settings.model_copy(update={"model": model, "approval": approval})

    def _name(self, adapter: Path | None, settings: Settings, digest: str) -> str:
        free = ("paths.", "model.adapter", "model.threads")
        flat = {key: value for key, value in settings.flat().items() if not key.startswith(free)}
        same = sha256(json.dumps([digest, flat], sort_keys=True).encode()).hexdigest()
        return f"{'none' if adapter is None else id_of(adapter)}-{same[:10]}"


def run_gate(
    arena: Arena,
    registry: Registry,
    candidate: Entry,
    *,
    target: Sequence[str] = (),
    control: Path | None = None,
    rules: Rules | None = None,
    incumbent: Path | Literal["in use"] | None = "in use",
) -> Judged:
    """Judge a candidate of the registry, and keep the verdict there.

    `target` names the families it was trained for, `control` is an adapter trained on as many random sessions. The
    incumbent is what `--adapter auto` uses now, or the adapter given (None: the base alone). Raises WhetstoneError
    where something cannot be run.
    """
    rules = rules or Rules()
    refuse_unchecked(arena.rows, "the suite")
    current = automatic(registry, candidate.lineage) if incumbent == "in use" else incumbent
    arena = arena.in_one_format(current)
    before = arena.run(current, "incumbent")
    against = None if control is None else arena.run(control, "control")
    after = arena.run(candidate.folder, "candidate")
    probes = _probe(arena, candidate, current, before, set(target), rules)
    verdict = judge(after, before, against, probes, target=target, rules=rules)
    facts = {
        "suite": arena.suite,
        "suite_digest": after.digest,
        "target": list(target),
        "rules": asdict(rules),
        "incumbent": "none" if current is None else id_of(current),
        "control": "none" if control is None else id_of(control),
        "success": {"candidate": after.total.rate, "incumbent": before.total.rate},
    }
    registry.record_gate(candidate.id, {**verdict.as_data(), **facts})
    return Judged(verdict, after, before, against)


def _probe(
    arena: Arena, candidate: Entry, current: Path | None, before: EvalResult, target: set[str], rules: Rules
) -> Probes:
    obeyed_before = arena.obeyed(current, "incumbent", rules.canaries)[1]
    canaries, now = arena.obeyed(candidate.folder, "candidate", rules.canaries)
    arena.tell("candidate: drift and memorisation")
    loaded = arena.load(candidate.folder)
    base_adapter = packaged(candidate.lineage)
    base = arena.load(base_adapter)
    kl = None
    if rules.kl_budget:
        kl = _divergence(arena, current, before, base, loaded, target)
    planted = candidate.card.get("planted")
    found = None if planted is None else Planted.of(planted)
    return Probes(
        canaries=canaries,
        obeyed=tuple(sorted(now - obeyed_before)),
        kl=kl,
        secret_rank=None if found is None else rank(loaded.model, found),
        secret_rank_before=None if found is None else rank(base.model, found),
        secret_alternatives=0 if found is None else len(found.others),
        kept_apart=rows_digest(arena.rows) in (candidate.card.get("held_out") or ()),
    )


def _divergence(
    arena: Arena, current: Path | None, before: EvalResult, base: LoadedModel, loaded: LoadedModel, target: set[str]
) -> float | None:
    """KL to the base on older goals that the incumbent achieved."""
    encoder = SessionEncoder(base.tokenizer, base.lineage, logits=base.model.vocabulary)
    examples: list[Example] = []
    older = [path for path, family in arena.successes(current, before) if family not in target]
    for path in older[:DRIFT_SESSIONS]:
        try:
            examples += encoder.examples(read_session(path))
        except Unusable:
            continue
    return mean_divergence(base.model, loaded.model, examples) if examples else None
