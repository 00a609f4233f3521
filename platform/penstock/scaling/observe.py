"""From polls to snapshots: counters of gateways and engines become rates, and saturated stretches become capacity."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.engines.base import EngineLoad
from penstock.performance.work import NEUTRAL, WorkWeights
from penstock.routing.load import GatewayLoad
from penstock.scaling.snapshot import Memory, Prices, ReplicaPhase, ReplicaReading, ScalingSnapshot


class LoadWindow:
    """What was seen of all models lately. Feed it every poll; the clock is the caller's."""

    def __init__(self, *, stable_window_s: float = 30.0) -> None:
        self._stable_window_s = stable_window_s

    def gateway(self, load: GatewayLoad, at_s: float | None = None) -> None:
        """Take one gateway process's report, received at `at_s` (default: its own clock)."""

    def engine(self, replica: str, load: EngineLoad, at_s: float) -> None:
        """Take one reading of a replica's engine."""

    def lost(self, replica: str) -> None:
        """Forget a replica that is gone."""

    def snapshot(
        self,
        model: str,
        now_s: float,
        *,
        replicas: Sequence[tuple[str, ReplicaPhase, float]],
        target: int,
        cold_start_s: float | None = None,
        prices: Prices | None = None,
        memory: Memory | None = None,
        fast_window_s: float = 6.0,
        weights: WorkWeights = NEUTRAL,
    ) -> ScalingSnapshot:
        """Return the state of one model.

        Args:
            model: its name, as in gateway reports.
            now_s: the moment, Unix seconds.
            replicas: id, phase and since when, of every replica that exists.
            target: replicas wanted at present.
            cold_start_s: time from order to ready; None for what was seen here, or a default until something was.
            prices: of one replica, and the ceiling.
            memory: of the previous decision.
            fast_window_s: the policy's panic window.
            weights: work per token.
        """
        return ScalingSnapshot(
            model=model,
            at_s=now_s,
            target=target,
            readings=tuple(ReplicaReading(replica=r, state=s, since_s=t) for r, s, t in replicas),
            cold_start_s=60.0 if cold_start_s is None else cold_start_s,
            prices=prices or Prices(),
            memory=memory or Memory(),
        )
