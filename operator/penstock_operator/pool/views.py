"""Each Model of a pool as the world is shown it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from penstock.control.brain import ModelState
from penstock.control.conditions import Obstacle, judge, restate
from penstock.control.rates import TokenRates
from penstock.control.replicas import Life
from penstock.control.status import Condition, ModelStatus
from penstock.control.summary import model_status, replica_status
from penstock.cost.report import CostReport
from penstock.engines.base import EngineLoad
from penstock.scaling.snapshot import ReplicaPhase
from penstock_kube.resources import Key
from penstock_operator.pool.loads import Reading
from penstock_operator.world import World


class Views:
    """Shows Models at once when something happened, and load figures every `period_s`."""

    def __init__(self, world: World, namespace: str, *, period_s: float) -> None:
        """Make views of a namespace's Models.

        Args:
            world: Told of them.
            namespace: Theirs.
            period_s: How often load figures alone are shown.
        """
        self._world = world
        self._namespace = namespace
        self._period_s = period_s
        self._rates = TokenRates()
        self._readings: dict[str, EngineLoad] = {}
        self._shown: dict[str, tuple[float, tuple[object, ...]]] = {}

    def take(self, readings: Mapping[str, Reading]) -> None:
        """Take readings of engines, by replica."""
        for replica, reading in readings.items():
            self._rates.take(replica, reading.load, reading.at_s)
            self._readings[replica] = reading.load

    def forget_replica(self, replica: str) -> None:
        """Forget a replica that has ended."""
        self._rates.forget(replica)
        self._readings.pop(replica, None)

    def show(
        self,
        name: str,
        state: ModelState,
        lives: Sequence[Life],
        leaving: frozenset[str],
        *,
        generation: int,
        report: CostReport | None,
        now_s: float,
    ) -> None:
        """Show a Model, if there is anything new about it."""
        conditions = tuple((item.type, item.status, item.reason, item.message) for item in state.conditions)
        phases = tuple((life.id, life.phase, life.id in leaving) for life in lives)
        if not self._is_due(name, (generation, state.target, phases, conditions), now_s):
            return
        status = model_status(
            name,
            state,
            [replica_status(life, self._readings.get(life.id), None, leaving=life.id in leaving) for life in lives],
            rates=self._rates.per_second([life.id for life in lives]),
            usd_per_hour=float(sum(life.application.usd_per_hour for life in lives)),
            report=report,
        )
        status = msgspec.structs.replace(status, namespace=self._namespace, generation=generation)
        self._world.show(Key(self._namespace, name), status)

    def show_leaving(self, name: str, lives: Sequence[Life], now_s: float) -> None:
        """Show a Model that is being deleted and whose replicas drain."""
        phases = tuple((life.id, life.phase) for life in lives)
        if not self._is_due(name, ("leaving", phases), now_s):
            return
        key = Key(self._namespace, name)
        last = self._world.view(key) or _empty(self._namespace, name, now_s)
        replicas = tuple(replica_status(life, None, None, leaving=True) for life in lives)
        status = msgspec.structs.replace(
            last,
            target=0,
            ready=0,
            starting=sum(life.phase is ReplicaPhase.STARTING for life in lives),
            draining=sum(life.phase is not ReplicaPhase.STARTING for life in lives),
            replicas=replicas,
        )
        self._world.show(key, status)

    def show_invalid(self, name: str, message: str, lives: Sequence[Life], *, generation: int, now_s: float) -> None:
        """Show a Model that cannot be read; what runs of it is left as it is."""
        if not self._is_due(name, ("invalid", message, len(lives)), now_s):
            return
        key = Key(self._namespace, name)
        last = self._world.view(key) or _empty(self._namespace, name, now_s)
        obstacle = Obstacle(reason="Invalid", message=message)
        conditions: tuple[Condition, ...] = restate(judge(last.target, lives, (), obstacle), last.conditions, now_s)
        self._world.show(key, msgspec.structs.replace(last, conditions=conditions, generation=generation))

    def forget(self, name: str) -> None:
        """Say that nothing is left of a Model."""
        self._shown.pop(name, None)
        self._world.forget(Key(self._namespace, name))

    def _is_due(self, name: str, essence: tuple[object, ...], now_s: float) -> bool:
        shown = self._shown.get(name)
        if shown is not None and shown[1] == essence and now_s - shown[0] < self._period_s:
            return False
        self._shown[name] = (now_s, essence)
        return True


def _empty(namespace: str, name: str, now_s: float) -> ModelStatus:
    return ModelStatus(
        name=name,
        namespace=namespace,
        target=0,
        ready=0,
        starting=0,
        draining=0,
        replicas=(),
        conditions=(),
        since_s=now_s,
    )
