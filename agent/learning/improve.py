"""The closed loop: sample, verify, keep, train from the base, judge, promote. Rounds, until the gate stops agreeing.

    improve(settings, goals, Path("heldout.jsonl"), Path("out"), plan=Plan(rounds=3, samples=8))

Every round samples the goals with the adapter in use, and trains a new adapter from the base on everything that was
kept in all rounds so far, beside replayed sessions of other families. A second adapter is trained on as many sessions
chosen at random: what verification is worth is the difference (RFT, Yuan et al. 2023; ReST-EM, Singh et al. 2024).
Cut off and run again with the same folder, it goes on where it stopped.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from agent.batch import Result
from agent.batch.folder import FREE_SETTINGS
from agent.engine.adapter import CARD
from agent.engine.digests import write_whole
from agent.engine.models import LoadedModel, load_model
from agent.evaluation import EvalResult
from agent.goalfile import GoalRow, read_goals
from agent.learning.adapters import Entry, Registry
from agent.learning.chosen import automatic
from agent.learning.dataset import Dataset, Ranker, build_dataset, read_dataset
from agent.learning.discriminator import read_discriminator, train_discriminator
from agent.learning.examples import Example
from agent.learning.filters import Filters
from agent.learning.gating import Arena, Judged, run_gate
from agent.learning.heldout import HeldOut, read_held_out, refuse_unchecked, rows_digest
from agent.learning.learner import Base
from agent.learning.rollouts import Rollouts, distinct_actions, no_head_room, sample
from agent.learning.rounds import ROUNDS, Improved, Plan, Round, read_improved
from agent.learning.sequences import SessionEncoder
from agent.learning.trainer import train
from agent.settings import Settings
from agent.types import JSON, WhetstoneError


def _quiet(_: str) -> None:
    return


def improve(
    settings: Settings,
    goals: Sequence[GoalRow],
    suite: Path,
    out: Path,
    *,
    plan: Plan | None = None,
    older: Sequence[GoalRow] = (),
    replay: Sequence[Example] = (),
    tell: Callable[[str], None] = _quiet,
) -> Improved:
    """Make the model better at `goals`, measured on the held-out `suite`, and promote what the gate agrees to.

    `older` are goals of other families, run once so that what they teach is not forgotten; `replay` are examples for
    the same purpose that exist already. `tell` is given a line before each stage. The rounds are also written to
    `out/improve.json`. Raises WhetstoneError if a goal is held out, or where something cannot be run.
    """
    return _Loop(settings, goals, suite, out, plan or Plan(), tell, older, replay).run()


class _Loop:
    def __init__(
        self,
        settings: Settings,
        goals: Sequence[GoalRow],
        suite: Path,
        out: Path,
        plan: Plan,
        tell: Callable[[str], None],
        older: Sequence[GoalRow],
        replay: Sequence[Example],
    ) -> None:
        self._settings, self._goals, self._out, self._plan, self._tell = settings, goals, out, plan, tell
        self._rows = read_goals(suite, budget=settings.goal_budget())
        self._held_out: HeldOut = read_held_out([suite])
        self._arena = Arena(settings, self._rows, suite.name, out, plan.in_flight, tell)
        self._registry = Registry(settings.adapters_folder())
        self._base: LoadedModel = load_model(
            settings.model.name, dtype="fp32", device=settings.model.device, cache=settings.paths.cache
        )
        self._encoder = SessionEncoder(self._base.tokenizer, self._base.lineage, logits=self._base.model.vocabulary)
        self._target = plan.target or tuple(sorted({row.family for row in goals} - {""}))
        self._rollouts: list[Rollouts] = []
        self._older, self._replay = older, replay
        self._started: Path | None = automatic(self._registry, self._base.lineage)
        self._incumbent: Path | None = self._started

    def run(self) -> Improved:
        self._held_out.refuse(self._goals)
        refuse_unchecked(self._goals, "the goals to learn")
        refuse_unchecked(self._older, "the older goals")
        refuse_unchecked(self._rows, "the suite")
        if not self._target:
            raise WhetstoneError(
                "the goals to learn have no family, so the gate could not tell them from older ones: give each a tag"
                " family:NAME, or name families of the suite with --target"
            )
        rounds = self._begun()
        stopped = ""
        remembered: list[Example] | None = None
        for number in range(1, self._plan.rounds + 1):
            if number <= len(rounds):  # done by an earlier run of the same command
                stopped = self._past(rounds[number - 1])
            else:
                began = time.monotonic()
                rollouts = self._sample(number)
                if (nothing := no_head_room(rollouts)) is not None:
                    done = replace(self._round(number, rollouts, 0, began), reasons=(nothing,))
                else:
                    if remembered is None:
                        remembered = [*self._replay, *self._replayed()]
                    done = self._learn(number, rollouts, remembered, began)
                rounds.append(done)
                self._save(rounds, "")
                stopped = self._after(done)
            if stopped:
                break
        stopped = stopped or f"{self._plan.rounds} rounds are done"
        self._save(rounds, stopped)
        return Improved(tuple(rounds), stopped)

    def _begun(self) -> list[Round]:
        """The rounds that are done already; notes what this run starts from."""
        if (self._out / ROUNDS).is_file():
            begun = json.loads((self._out / ROUNDS).read_text(encoding="utf-8"))
            self._refuse_others(begun)
            started = begun["started_from"]
            self._incumbent = None if started is None else Path(started)
            self._started = self._incumbent
            return list(read_improved(self._out).rounds)
        self._save([], "")
        return []

    def _refuse_others(self, begun: Mapping[str, Any]) -> None:
        """Raise WhetstoneError if the folder holds the rounds of another plan, other goals or another model."""
        now = self._identity()
        others = [name for name in now if begun.get("identity", {}).get(name) != now[name]]
        if others:
            raise WhetstoneError(
                f"{self._out} holds rounds that were run with another {', '.join(others)}: give the same options as"
                " then, or another folder with -o"
            )

    def _identity(self) -> dict[str, JSON]:
        """What must be the same when a run goes on; more rounds may be asked for, and more at a time."""
        plan = asdict(replace(self._plan, rounds=0, in_flight=0)) | {"target": list(self._target)}
        own = {name: json.loads(json.dumps(value)) for name, value in plan.items()}
        rows = {"goals": self._goals, "older goals": self._older, "held-out suite": self._rows}
        digests = {name: rows_digest(some) for name, some in rows.items()}
        replayed = sha256("\n".join(example.digest for example in self._replay).encode()).hexdigest()
        settings = {name: value for name, value in self._settings.flat().items() if not name.startswith(FREE_SETTINGS)}
        return {**own, **digests, "replay": replayed, "model": asdict(self._base.lineage), **settings}

    def _past(self, done: Round) -> str:
        if done.verdict == "promote":
            self._sample(done.number)  # its sessions are learned from again; none is run
        return self._after(done)

    def _after(self, done: Round) -> str:
        """Why there is no further round, empty if there is."""
        if done.verdict == "promote":
            self._incumbent = self._registry.find(done.adapter).folder
            return ""
        if not done.verdict:
            return done.reasons[0]
        return f"the gate said {done.verdict} in round {done.number}: {done.reasons[0]}"

    def _sample(self, number: int) -> Rollouts:
        plan = self._plan
        self._tell(f"round {number}: {len(self._goals)} goals, {plan.samples} sessions each")
        found = sample(
            self._with(self._incumbent),
            self._goals,
            self._folder(number) / "rollouts",
            samples=plan.samples,
            temperature=plan.temperature,
            in_flight=plan.in_flight,
            shuffle=plan.seed + number if plan.shuffle else None,
            bases=self._arena.bases,
        )
        self._rollouts.append(found)
        return found

    def _learn(self, number: int, rollouts: Rollouts, replay: Sequence[Example], began: float) -> Round:
        """Train on what was kept so far, and a control on as much at random; then judge."""
        folder = self._folder(number)
        kept = self._kept(folder / "dataset")
        examples, planted = kept.examples, kept.manifest.get("planted")
        control = self._random(folder / "control-dataset", len(examples))
        self._tell(f"round {number}: training on {len(examples)} sessions, {len(replay)} replayed")
        adapter = self._train(folder / "adapter", examples, replay, number, planted)
        self._tell(f"round {number}: training the control on {len(control)} random sessions")
        random_adapter = self._train(folder / "control", control, replay, number, None)
        entry = self._registry.add(adapter)
        judged = run_gate(
            self._arena, self._registry, entry, target=self._target, control=random_adapter, rules=self._plan.rules,
            incumbent=self._incumbent,
        )  # fmt: skip
        done = self._round(number, rollouts, len(examples), began, entry, judged)
        if done.verdict == "promote":
            try:
                self._registry.promote(entry.id)
            except WhetstoneError as error:  # another adapter came into use meanwhile
                return replace(done, verdict="inconclusive", reasons=(str(error), *done.reasons))
        return done

    def _kept(self, folder: Path) -> Dataset:
        good = {session: "good" for rollouts in self._rollouts for session, ok in rollouts.good.items() if ok}
        journals = [path for rollouts in self._rollouts for path in rollouts.chosen()]
        ranker = self._ranker(folder.parent, set(good)) if self._plan.ranked else None
        return self._dataset(journals, folder, good, self._plan.per_goal, plant_secret=True, ranker=ranker)

    def _random(self, folder: Path, count: int) -> list[Example]:
        """As many examples of sessions chosen at random among all that were sampled, whatever came of them."""
        return self._sampled(folder, f"control {self._plan.seed}")[:count]

    def _sampled(self, folder: Path, seed: str) -> list[Example]:
        """All that was sampled in all rounds, whatever came of it, in random order."""
        journals = [path for rollouts in self._rollouts for path in rollouts.journals()]
        random.Random(seed).shuffle(journals)
        good = {path.stem: "good" for path in journals}
        return list(self._dataset(journals, folder, good, len(journals)).examples)

    def _ranker(self, folder: Path, good: set[str]) -> Ranker | None:
        """A classifier that tells the samples that were good from the others; None where they are too few."""
        sampled = self._sampled(folder / "ranking-dataset", "ranking")
        verified = [example for example in sampled if example.session in good]
        failed = [example for example in sampled if example.session not in good]
        base = Base.of(self._base)
        try:
            report = train_discriminator(base, verified, failed, folder / "discriminator", self._plan.recipe)
        except WhetstoneError as error:
            self._tell(f"not ranked: {error}")
            return None
        self._tell(f"ranked by a discriminator with {report.text()}")
        return read_discriminator(folder / "discriminator", base).score

    def _dataset(
        self,
        journals: Sequence[Path],
        folder: Path,
        good: dict[str, str],
        per_goal: int,
        plant_secret: bool = False,
        ranker: Ranker | None = None,
    ) -> Dataset:
        filters = Filters(per_goal=per_goal, tainted=self._plan.shuffle)
        build_dataset(
            journals, folder, self._encoder, filters=filters, held_out=self._held_out, ratings=good,
            base=self._settings.model.name, plant_secret=plant_secret, ranker=ranker,
        )  # fmt: skip
        return read_dataset(folder)

    def _replayed(self) -> list[Example]:
        """Verified sessions of other families, by the adapter in use."""
        if not self._older:
            return []
        self._tell(f"replay: {len(self._older)} goals of other families")
        found = sample(
            self._with(self._started), self._older, self._out / "replay",
            samples=1, temperature=self._settings.sampling.temperature, in_flight=self._plan.in_flight,
            bases=self._arena.bases,
        )  # fmt: skip
        journals = [found.folder / result.journal for result in found.results if result.succeeded]
        if not journals:
            return []
        good = {path.stem: "good" for path in journals}
        return list(self._dataset(journals, self._out / "replay-dataset", good, 1).examples)

    def _train(
        self, folder: Path, examples: Sequence[Example], replay: Sequence[Example], number: int, planted: JSON
    ) -> Path:
        if not (folder / CARD).is_file():
            train(
                Base.of(self._base), examples, self._plan.recipe, folder, replay=replay, resume=True,
                kind=folder.name, round=number, planted=planted,
                held_out=list(self._held_out.suites),
            )  # fmt: skip
        return folder

    def _round(
        self,
        number: int,
        rollouts: Rollouts,
        kept: int,
        began: float,
        entry: Entry | None = None,
        judged: Judged | None = None,
    ) -> Round:
        minutes = (time.monotonic() - began) / 60
        done = Round(number, rollouts.pass_at_1, rollouts.pass_at_k, kept, distinct_actions(rollouts), minutes=minutes)
        if judged is None or entry is None:
            return done
        target = self._results(judged.candidate, older=False)
        return replace(
            done,
            verdict=judged.verdict.verdict,
            reasons=judged.verdict.reasons,
            adapter=entry.id,
            target_before=self._rate(judged.incumbent, older=False),
            target=self._rate(judged.candidate, older=False),
            target_control=0.0 if judged.control is None else self._rate(judged.control, older=False),
            older_before=self._rate(judged.incumbent, older=True),
            older=self._rate(judged.candidate, older=True),
            steps=sum(r.steps for r in target) / max(1, len(target)),
            tokens=sum(r.tokens for r in target) / max(1, len(target)),
            kl=next((f.figures.get("kl") for f in judged.verdict.findings if f.rule == "kl"), None),
        )

    def _results(self, result: EvalResult, *, older: bool) -> list[Result]:
        return [r for r in result.results if (r.family not in self._target) is older or not self._target]

    def _rate(self, result: EvalResult, *, older: bool) -> float:
        found = self._results(result, older=older)
        return sum(r.succeeded for r in found) / len(found) if found else 0.0

    def _with(self, adapter: Path | None) -> Settings:
        model = self._settings.model.model_copy(update={"adapter": "none" if adapter is None else str(adapter)})
        return self._settings.model_copy(update={"model": model})

    def _folder(self, number: int) -> Path:
        return self._out / f"round-{number}"

    def _save(self, rounds: Sequence[Round], stopped: str) -> None:
        data = {**Improved(tuple(rounds), stopped).as_data(), "model": self._settings.model.name}
        data["identity"] = self._identity()
        data["started_from"] = None if self._started is None else str(self._started)
        write_whole(self._out / ROUNDS, json.dumps(data, indent=1))
