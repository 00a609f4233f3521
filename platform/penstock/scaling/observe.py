"""From polls to snapshots: counters of gateways and engines become rates, and stretches of work become capacity."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, median

from penstock.engines.base import EngineLoad
from penstock.performance.work import NEUTRAL, WorkWeights, work_of
from penstock.routing.load import GatewayLoad, ModelLoad
from penstock.scaling.capacity import Stretch, StretchMeter, estimate
from penstock.scaling.series import MeanRequest, Series, since
from penstock.scaling.snapshot import Demand, Memory, Prices, ReplicaPhase, ReplicaReading, ScalingSnapshot

DEFAULT_COLD_START_S = 60.0
"""Assumed until a replica has been seen to start: small models on one accelerator take about a minute."""
SILENT_AFTER_S = 10.0
"""A gateway that has not reported for this long has stopped, or cannot be reached."""
GONE_AFTER_S = 60.0
"""A gateway that has not reported for this long is forgotten."""


@dataclass(slots=True)
class _Gateway:
    load: GatewayLoad
    at_s: float
    models: dict[tuple[str, str], ModelLoad]


@dataclass(slots=True)
class _EngineTrack:
    readings: deque[tuple[float, EngineLoad]] = field(default_factory=lambda: deque(maxlen=120))
    meter: StretchMeter = field(default_factory=StretchMeter)
    stretches: list[Stretch] = field(default_factory=list)
    """Not yet handed to the model."""


@dataclass(slots=True)
class _ModelTrack:
    series: Series = field(default_factory=Series)
    first_s: float | None = None
    """When increments began to be seen."""
    busy_s: float | None = None
    """When something was last asked."""
    saturated: deque[Stretch] = field(default_factory=lambda: deque(maxlen=60))
    unqueued: deque[Stretch] = field(default_factory=lambda: deque(maxlen=60))
    ordered: dict[str, float] = field(default_factory=dict)
    """When each replica that has not been ready yet was first seen starting."""
    cold_starts_s: deque[float] = field(default_factory=lambda: deque(maxlen=5))


class LoadWindow:
    """What was seen of all models lately. Feed it every poll; the clock is the caller's.

    A process seen for the first time gives a baseline only, since nobody knows when it counted what it shows: at most
    what it saw before its first poll is missed. After that a lost poll loses nothing.

    Args:
        stable_window_s: length of the window that rates are taken over.
    """

    def __init__(self, *, stable_window_s: float = 30.0) -> None:
        self._stable_window_s = stable_window_s
        self._gateways: dict[str, _Gateway] = {}
        self._engines: dict[str, _EngineTrack] = {}
        self._models: dict[str, _ModelTrack] = {}

    def gateway(self, load: GatewayLoad, at_s: float | None = None) -> None:
        """Take one gateway process's report, received at `at_s` (default: its own clock)."""
        received_s = load.at_s if at_s is None else at_s
        before = self._gateways.get(load.process)
        models = {(model.model, model.variant): model for model in load.models}
        for key, model in models.items():
            track = self._models.setdefault(model.model, _ModelTrack())
            if track.first_s is None:
                track.first_s = received_s if before is None else before.at_s
            increments = None if before is None else since(model, before.models.get(key))
            if increments is not None:
                track.series.add(received_s, increments)
            if (increments is not None and increments.arrived) or model.in_flight or model.waiting:
                track.busy_s = received_s
        self._gateways[load.process] = _Gateway(load=load, at_s=received_s, models=models)
        self._gateways = {p: g for p, g in self._gateways.items() if received_s - g.at_s <= GONE_AFTER_S}

    def engine(self, replica: str, load: EngineLoad, at_s: float) -> None:
        """Take one reading of a replica's engine."""
        track = self._engines.setdefault(replica, _EngineTrack())
        if track.readings and load.generation_tokens < track.readings[-1][1].generation_tokens:
            track.readings.clear()  # the engine began again
        track.readings.append((at_s, load))
        stretch = track.meter.take(load, at_s)
        if stretch is not None:
            track.stretches.append(stretch)

    def lost(self, replica: str) -> None:
        """Forget a replica that is gone."""
        self._engines.pop(replica, None)
        for track in self._models.values():
            track.ordered.pop(replica, None)

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
        max_sequences: int | None = None,
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
            max_sequences: requests that the engine runs at once, when known.
            weights: work per token.
        """
        track = self._models.setdefault(model, _ModelTrack())
        self._note_starts(track, replicas)
        self._collect(track, replicas)
        readings = tuple(
            self._reading(
                replica, phase, since_s, now_s=now_s, fast_window_s=fast_window_s, max_sequences=max_sequences
            )
            for replica, phase, since_s in replicas
        )
        if cold_start_s is None:
            cold_start_s = median(track.cold_starts_s) if track.cold_starts_s else DEFAULT_COLD_START_S
        return ScalingSnapshot(
            model=model,
            at_s=now_s,
            target=target,
            readings=readings,
            demand=self._demand(model, track, readings, now_s=now_s, fast_window_s=fast_window_s, weights=weights),
            cold_start_s=cold_start_s,
            capacity=estimate((*track.saturated, *track.unqueued), now_s, weights),
            prices=prices or Prices(),
            memory=memory or Memory(),
        )

    def _note_starts(self, track: _ModelTrack, replicas: Sequence[tuple[str, ReplicaPhase, float]]) -> None:
        for replica, phase, since_s in replicas:
            if phase is ReplicaPhase.STARTING:
                track.ordered.setdefault(replica, since_s)
            elif phase is ReplicaPhase.READY and replica in track.ordered:
                track.cold_starts_s.append(max(since_s - track.ordered.pop(replica), 0.0))

    def _collect(self, track: _ModelTrack, replicas: Sequence[tuple[str, ReplicaPhase, float]]) -> None:
        for replica, _, _ in replicas:
            engine = self._engines.get(replica)
            if engine is None:
                continue
            for stretch in engine.stretches:
                (track.saturated if stretch.saturated else track.unqueued).append(stretch)
            engine.stretches.clear()

    def _reading(
        self,
        replica: str,
        phase: ReplicaPhase,
        since_s: float,
        *,
        now_s: float,
        fast_window_s: float,
        max_sequences: int | None,
    ) -> ReplicaReading:
        engine = self._engines.get(replica)
        if engine is None or not engine.readings:
            return ReplicaReading(replica=replica, state=phase, since_s=since_s, max_sequences=max_sequences)
        at_s, last = engine.readings[-1]
        recent = [(t, load) for t, load in engine.readings if t > now_s - fast_window_s] or [(at_s, last)]
        first_s, first = recent[0]
        usages = [load.kv_usage for _, load in recent]
        return ReplicaReading(
            replica=replica,
            state=phase,
            since_s=since_s,
            kv_usage=fmean(usages),
            kv_usage_peak=max(usages),
            running=fmean(load.running for _, load in recent),
            waiting=last.waiting,
            waiting_for_capacity=last.waiting_for_capacity,
            preemptions_per_s=(last.preemptions - first.preemptions) / (at_s - first_s) if at_s > first_s else 0.0,
            kv_capacity_tokens=last.kv_capacity_tokens,
            max_sequences=max_sequences,
            reading_age_s=max(now_s - at_s, 0.0),
        )

    def _demand(
        self,
        model: str,
        track: _ModelTrack,
        readings: tuple[ReplicaReading, ...],
        *,
        now_s: float,
        fast_window_s: float,
        weights: WorkWeights,
    ) -> Demand:
        heard = [gateway for gateway in self._gateways.values() if now_s - gateway.at_s <= SILENT_AFTER_S]
        gauges = [load for gateway in heard for load in gateway.models.values() if load.model == model]
        newest_s = max((gateway.at_s for gateway in self._gateways.values()), default=None)
        if track.busy_s is None:
            track.busy_s = now_s  # idleness is counted from when somebody began to look
        seen_s = 0.0 if track.first_s is None else now_s - track.first_s
        stable, fast = track.series.over(self._stable_window_s, now_s), track.series.over(fast_window_s, now_s)
        mean = MeanRequest.of(stable, track.series.long)
        arrival_rps = stable.arrived / max(min(self._stable_window_s, seen_s), 1.0)
        in_gateway = sum(load.waiting for load in gauges)
        backlog = in_gateway + sum(reading.waiting for reading in readings)
        work = work_of(mean.prompt_tokens, mean.cached_tokens, mean.completion_tokens, weights)
        tokens = mean.prompt_tokens - mean.cached_tokens + mean.completion_tokens
        return Demand(
            arrival_rps=arrival_rps,
            fast_arrival_rps=fast.arrived / max(min(fast_window_s, seen_s), 1.0),
            stable_window_s=self._stable_window_s,
            fast_window_s=fast_window_s,
            prompt_tokens=mean.prompt_tokens,
            cached_tokens=mean.cached_tokens,
            completion_tokens=mean.completion_tokens,
            arriving_tokens_per_s=arrival_rps * tokens,
            work_per_request=work,
            in_flight=sum(load.in_flight for load in gauges),
            waiting_in_gateway=in_gateway,
            backlog_requests=backlog,
            backlog_tokens=backlog * tokens,
            backlog_work=backlog * work,
            seconds_per_request=mean.seconds,
            completed_requests=mean.finished,
            ttft_buckets=tuple(stable.ttft_buckets),
            tpot_buckets=tuple(stable.tpot_buckets),
            idle_s=max(now_s - track.busy_s, 0.0),
            report_age_s=None if newest_s is None else max(now_s - newest_s, 0.0),
            silent_gateways=len(self._gateways) - len(heard),
        )
