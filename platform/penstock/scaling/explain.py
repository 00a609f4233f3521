"""A decision in words, several lines of them."""

from __future__ import annotations

from datetime import UTC, datetime

from penstock.scaling.decision import Decision


def explain(decision: Decision) -> str:
    """Return the decision as a few lines of plain text: what and why first, then all that was weighed."""
    at = datetime.fromtimestamp(decision.at_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
    lines = [f"{at} UTC  {decision.model}: {decision.reason}"]
    lines.append(
        f"  ruled by {decision.ruling}; {decision.ready} ready, {decision.starting} starting, "
        f"{decision.draining} draining; {_usd(decision.usd_per_hour_before)} -> {_usd(decision.usd_per_hour_after)} $/h"
    )
    lines += [f"  bound {b.name} asks {b.asks}, keeps {b.keeps}: {b.why}" for b in decision.bounds]
    restless = [guard for guard in decision.guards if not guard.calm]
    lines += [f"  guard {guard.name} not calm: {guard.why}" for guard in restless]
    if decision.guards and not restless:
        lines.append("  all guards calm")
    lines += [f"  rejected {r.replicas} ({r.by}): {r.reason}" for r in decision.rejected]
    other = decision.counterfactual
    if other is not None:
        sign = "" if other.usd_per_hour_delta.startswith("-") else "+"
        lines.append(
            f"  with {other.replicas} instead: {sign}{_usd(other.usd_per_hour_delta)} $/h; {other.consequence}"
        )
    return "\n".join(lines)


def _usd(amount: str) -> str:
    return f"{float(amount):.4f}".rstrip("0").rstrip(".") or "0"
