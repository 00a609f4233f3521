"""The demo's report as one self-contained page: curves over time, with the decisions marked on the axis."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from penstock_loadtest.demo.report import DemoReport

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1100px; padding: 0 1rem; color: #1c2733; }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
"""

_MARKS = {"Decision": "#b3541e", "Kill": "#a11d33", "Ready": "#2f6f4e"}
"""Kinds of timeline entries that are drawn across the curves, with their colours."""


def write_page(report: DemoReport, path: Path) -> None:
    """Write the page; it needs no network to be read."""
    figure = _figure(report).to_html(full_html=False, include_plotlyjs="inline", config={"displaylogo": False})
    path.write_text(
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Penstock demo</title><style>{_STYLE}</style>"
        f"<h1>Penstock demo</h1><p>{escape(report.summary)}</p>{figure}"
        f"<h2>Bill</h2>{_bill(report)}<h2>Timeline</h2>{_timeline(report)}"
    )


def _figure(report: DemoReport) -> Any:
    from plotly.graph_objects import Scatter  # noqa: PLC0415 - half a second that only this page needs
    from plotly.subplots import make_subplots  # noqa: PLC0415

    rows = ("KV-cache usage", "Requests waiting", "Replicas", "Completion tokens per second", "USD per million tokens")
    figure = make_subplots(rows=len(rows), cols=1, shared_xaxes=True, vertical_spacing=0.045, subplot_titles=rows)
    samples = report.samples

    def line(row: int, name: str, values: list[Any], *, steps: bool = False) -> None:
        shape = "hv" if steps else "linear"
        times = [sample.t_s for sample in samples]
        figure.add_trace(Scatter(x=times, y=values, name=name, mode="lines", line={"shape": shape}), row=row, col=1)

    line(1, "KV usage", [sample.kv_usage for sample in samples])
    line(2, "waiting", [sample.waiting for sample in samples])
    line(3, "asked for", [sample.target for sample in samples], steps=True)
    line(3, "serving", [sample.ready for sample in samples], steps=True)
    line(4, "tokens/s", [sample.completion_tokens_per_s for sample in samples])
    line(5, "USD per million", [sample.usd_per_million_tokens for sample in samples])
    for mark in report.timeline:
        if colour := _MARKS.get(mark.kind):
            figure.add_vline(x=mark.t_s, line={"color": colour, "dash": "dot", "width": 1})
            figure.add_annotation(
                x=mark.t_s, y=0.85, yref="y domain", yanchor="top", xanchor="left", row=1, col=1,
                text=mark.label, textangle=90, showarrow=False, font={"size": 10, "color": colour},
            )  # fmt: skip
    figure.update_yaxes(range=[0, 1.05], tickformat=".0%", row=1, col=1)
    figure.update_yaxes(dtick=1, rangemode="tozero", row=3, col=1)
    figure.update_yaxes(type="log", dtick=1, row=5, col=1)
    figure.update_xaxes(title_text="seconds since the demo began", row=len(rows), col=1)
    figure.update_layout(
        height=1050, hovermode="x unified", template="plotly_white", showlegend=False, margin={"t": 40}
    )
    return figure


def _bill(report: DemoReport) -> str:
    usd = report.usd
    rows = [
        ("paid (process uptime x price)", usd.paid),
        ("tenants", usd.tenants),
        ("idle", usd.idle),
        ("overhead", usd.overhead),
        ("unattributed", usd.unattributed),
    ]
    cells = "".join(f"<tr><td>{name}<td class=n>{value:.6f} USD" for name, value in rows)
    per_million = "".join(
        f"<tr><td>per million {name} tokens<td class=n>{'-' if value is None else f'{value:.4f} USD'}"
        for name, value in usd.per_million_tokens.items()
    )
    return f"<table>{cells}{per_million}</table>"


def _timeline(report: DemoReport) -> str:
    rows = "".join(
        f"<tr><td class=n>{mark.t_s:.1f} s<td>{escape(mark.kind)}<td>{escape(mark.text)}" for mark in report.timeline
    )
    return f"<table>{rows}</table>"
