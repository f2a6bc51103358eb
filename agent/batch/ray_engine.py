"""Goals on the machines of a Ray cluster: a model for each node, or each of its GPUs; no goal is lost with a node.

A node that sees the batch's folder (a shared file system) works in it, so what a lost node had begun is gone on with
elsewhere, as after a crash. A node that does not sends journal and workspace home when a goal ends; what was begun on
it when it was lost is begun anew, on a fresh copy of the workspace.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import shutil
import time
from collections import Counter, deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.batch.engines import Engine, Job, OpenEngine, models_of
from agent.batch.folder import BatchFolder
from agent.batch.parcel import pack, unpack
from agent.batch.ray_worker import Delivery, Errand, GoalWorker, pack_session
from agent.batch.results import Result
from agent.goalfile import GoalRow
from agent.types import JSON, Ending, Event, WhetstoneError

GCS_PORT = 6379
START_SECONDS = 600.0
"""How long a node may take to load the model."""
ANSWER_SECONDS = 60.0
"""How long one that has loaded it may take to say whether it sees a folder."""
LOST_SECONDS = 120.0
"""How long a cluster without any node is waited for."""
LOOK_SECONDS = 5.0
"""Between two looks for new nodes."""
MAX_LOSSES = 3
"""A goal whose node is lost this often is not sent out again: it may be the reason."""


def ray_engine(address: str = "", *, share_disk: bool = True) -> OpenEngine:
    """The engine on the cluster at `address`: `HEAD`, `HEAD:PORT`, or empty for the one this machine belongs to.

    `share_disk=False` makes every node send its work home, also where it could see our folder.
    """

    @contextlib.contextmanager
    def opened(job: Job) -> Generator[Engine]:
        ray = _connected(address)
        try:
            yield _Cluster(ray, job, share_disk)
        finally:
            ray.shutdown()

    return opened


def _connected(address: str) -> Any:
    try:
        import ray
    except ImportError as error:
        raise WhetstoneError(
            "--engine ray needs the package ray: pip install 'whetstone-agent[ray]', on every node"
        ) from error
    # A port chosen by the person is that of Ray's client server; without one this machine must be a node itself.
    where = "auto" if not address else f"ray://{address}" if ":" in address else f"{address}:{GCS_PORT}"
    try:
        ray.init(address=where, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
    except Exception as error:  # ConnectionError, RuntimeError and several of its own
        reason = " ".join(str(error).split())[:200]
        raise WhetstoneError(
            f"no Ray cluster answers at {address or 'this machine'} ({reason}): start one with `ray start --head`"
        ) from error
    return ray


@dataclass(eq=False)
class _Worker:
    """One actor as the driver sees it."""

    actor: Any
    node: str
    shares_disk: bool = False
    running: dict[Any, GoalRow] = field(default_factory=dict[Any, GoalRow])
    since: float = field(default_factory=time.monotonic)


class _Cluster:
    def __init__(self, ray: Any, job: Job, share_disk: bool) -> None:
        self._ray, self._job, self._share_disk = ray, job, share_disk
        self._workers: list[_Worker] = []
        self._nodes: set[str] = set()
        """Nodes that have workers."""
        self._loading: dict[Any, _Worker] = {}
        """Workers that have not said yet which model they have, by what they will say it with."""
        self._identity: Mapping[str, JSON] | None = None
        self._named: list[str] = []
        """Models that rows name."""
        self._joining: tuple[Path, Path | None] | None = None
        """The folder, and the token that shows who sees it."""

    def identity(self, rows: Sequence[GoalRow]) -> Mapping[str, JSON]:
        self._named = models_of(rows)
        self._look()
        while self._loading:
            for ref in self._ready():
                self._welcome(ref)
        if self._identity is None:
            raise WhetstoneError("the Ray cluster has no node with a CPU that answers: add one with `ray start`")
        return self._identity

    def results(self, folder: BatchFolder, rows: Sequence[GoalRow]) -> Generator[Result]:
        token = folder.out / f".seen-{secrets.token_hex(8)}"
        token.touch()
        self._joining = folder.out, token if self._share_disk else None
        try:
            self._workers = [worker for worker in self._workers if self._join(worker)]
            yield from self._drive(folder, deque(rows))
        finally:
            token.unlink(missing_ok=True)
            for worker in [*self._workers, *self._loading.values()]:
                self._end(worker)

    def _drive(self, folder: BatchFolder, waiting: deque[GoalRow]) -> Generator[Result]:
        stopping, losses = self._job.stopping, Counter[str]()
        looked = seen = time.monotonic()
        told = False
        while waiting or self._running():
            now = time.monotonic()
            if stopping.draining:
                waiting.clear()
            elif now - looked > LOOK_SECONDS:
                looked = now
                self._look()
            if stopping.stopped and not told:
                told = True
                for worker in self._workers:
                    worker.actor.stop.remote()
            seen = now if self._workers or self._loading else seen
            if now - seen > LOST_SECONDS:
                raise WhetstoneError(
                    "all nodes of the Ray cluster are gone: start them again, and the same command goes on"
                )
            self._send(folder, waiting)
            for ref in self._ready():
                if ref in self._loading:
                    self._welcome(ref)
                    continue
                worker = next(each for each in self._workers if ref in each.running)
                row = worker.running.pop(ref)
                try:
                    delivery: Delivery = self._ray.get(ref)
                except self._ray.exceptions.RayTaskError as error:
                    yield _failed(folder, row, str(_cause(error)))
                except self._ray.exceptions.RayError:
                    for lost in [row, *self._lose(worker)]:
                        losses[lost.id] += 1
                        if losses[lost.id] < MAX_LOSSES:
                            waiting.appendleft(lost)
                        else:
                            yield _failed(folder, lost, f"its node was lost {MAX_LOSSES} times while it ran")
                else:
                    if delivery.parcel is not None:
                        shutil.rmtree(folder.layout.workspace(row), ignore_errors=True)
                        unpack(delivery.parcel, folder.out)
                    if delivery.result is not None:
                        yield delivery.result

    # --- nodes and their workers ---------------------------------------------------------------------------------

    def _look(self) -> None:
        """Start workers on the nodes that have none; they load at the same time, and nobody waits for them."""
        alive = [node for node in self._ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        known = self._nodes | {worker.node for worker in self._loading.values()}
        for worker in [worker for node in alive if node["NodeID"] not in known for worker in self._actors(node)]:
            self._loading[worker.actor.identity.remote(self._named)] = worker

    def _welcome(self, ref: Any) -> None:
        """Take in a worker that has loaded its model. Raises WhetstoneError where it could not, or has another one."""
        worker = self._loading.pop(ref)
        try:
            identity: Mapping[str, JSON] = self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            raise _cause(error) from error
        except self._ray.exceptions.RayError:  # gone again; if it comes back, it is new
            self._end(worker)
            return
        if self._identity is None:
            self._identity = identity
        if identity != self._identity:
            self._end(worker)
            differs = _difference(self._identity, identity)
            raise WhetstoneError(
                f"node {worker.node[:8]} has another model than the first ({differs}):"
                " the same files must be on every node"
            )
        if self._joining is None or self._join(worker):
            self._workers.append(worker)
            self._nodes.add(worker.node)

    def _actors(self, node: Mapping[str, Any]) -> list[_Worker]:
        """One actor for each GPU of a node, or one for a node without."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        job, gpus = self._job, int(node["Resources"].get("GPU", 0))
        remote = self._ray.remote(GoalWorker).options(
            num_cpus=0 if gpus else 1,
            num_gpus=1 if gpus else 0,
            max_concurrency=job.in_flight + 2,  # and room for `stop`
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        )
        made = [remote.remote(job.settings, job.in_flight, job.policy, job.memory) for _ in range(max(1, gpus))]
        return [_Worker(actor, node["NodeID"]) for actor in made]

    def _join(self, worker: _Worker) -> bool:
        """Tell a worker the folder; False if it is gone. Raises WhetstoneError where it cannot work there."""
        assert self._joining is not None
        try:
            worker.shares_disk = self._ray.get(worker.actor.join.remote(*self._joining), timeout=ANSWER_SECONDS)
        except self._ray.exceptions.RayTaskError as error:
            raise _cause(error) from error
        except self._ray.exceptions.RayError:
            self._end(worker)
            self._nodes.discard(worker.node)
            return False
        return True

    def _lose(self, worker: _Worker) -> list[GoalRow]:
        """A worker that does not answer any more is ended for good; the goals it had are given back."""
        self._end(worker)
        self._workers.remove(worker)
        self._nodes.discard(worker.node)  # the node itself may be alive, or come back
        rows = list(worker.running.values())
        worker.running.clear()
        return rows

    def _end(self, worker: _Worker) -> None:
        with contextlib.suppress(Exception):  # it is gone already
            self._ray.kill(worker.actor)

    # --- goals ---------------------------------------------------------------------------------------------------

    def _send(self, folder: BatchFolder, waiting: deque[GoalRow]) -> None:
        """Give each worker as many goals as it may have, the idlest first."""
        while waiting and self._workers:
            worker = min(self._workers, key=lambda each: len(each.running))
            if len(worker.running) >= self._job.in_flight:
                return
            row = waiting.popleft()
            worker.running[worker.actor.run.remote(self._errand(folder, row, worker))] = row
            if self._job.on_event is not None:
                self._job.on_event(row, Event(0, "sent", time.time(), {"node": worker.node}))

    def _errand(self, folder: BatchFolder, row: GoalRow, worker: _Worker) -> Errand:
        errand = Errand(row, folder.digests[row.id], folder.begin(row))
        if worker.shares_disk:
            return errand
        if folder.layout.journal(errand.session).exists():
            return replace(errand, begun=pack_session(folder.layout, row, errand.session))
        if row.workspace is None or not row.workspace.is_dir():
            return errand
        return replace(errand, material=pack(row.workspace, sorted(row.workspace.iterdir())))

    def _running(self) -> list[Any]:
        return [ref for worker in self._workers for ref in worker.running]

    def _ready(self) -> list[Any]:
        """One thing, at most, that came back from workers that run goals or load their model; waits a moment for it."""
        for ref, worker in list(self._loading.items()):
            if time.monotonic() - worker.since > START_SECONDS:  # if its node is there, it is tried again
                self._end(self._loading.pop(ref))
        expected = [*self._running(), *self._loading]
        if not expected:
            time.sleep(0.2)
            return []
        return self._ray.wait(expected, num_returns=1, timeout=0.5)[0]


def _failed(folder: BatchFolder, row: GoalRow, why: str) -> Result:
    digest = folder.digests[row.id]
    return Result(row.id, Ending.ERROR, reason=why, family=row.family, tags=row.goal.tags, row=digest)


def _difference(one: Mapping[str, JSON], other: Mapping[str, JSON]) -> str:
    return ", ".join(key for key in sorted({*one, *other}) if one.get(key) != other.get(key))


def _cause(error: Any) -> Exception:
    """What went wrong on the node, as its own kind of error where it is one of ours."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, WhetstoneError):
        return WhetstoneError(str(cause))
    return WhetstoneError(
        f"a node failed: {type(cause or error).__name__}: {' '.join(str(cause or error).split())[:300]}"
    )
