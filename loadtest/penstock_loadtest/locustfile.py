"""A locustfile: `locust -f .../locustfile.py --host http://127.0.0.1:8080 --model NAME`, with or without a browser.

Works with any OpenAI-compatible server. `--shape` brings Penstock's workload shapes; without it locust's own
`--users`, `--spawn-rate` and `--run-time` rule. A locustfile of your own may begin with
`from penstock_loadtest.locustfile import *`.
"""

from __future__ import annotations

import logging

from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from penstock_loadtest.errors import LoadSettingsError
from penstock_loadtest.settings import LoadSettings, Shape
from penstock_loadtest.shapes import equip
from penstock_loadtest.users import ChatUser, LoadContext

__all__ = ["ChatUser", "add_options", "prepare", "print_tokens"]

_log = logging.getLogger(__name__)
_defaults = LoadSettings(url="http://127.0.0.1", model="none")


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: LocustArgumentParser) -> None:
    """Add the options of chat load."""
    parser.add_argument("--model", env_var="PENSTOCK_MODEL", default="", help="Model name, as /v1/models lists it.")
    parser.add_argument(
        "--api-key", env_var="PENSTOCK_API_KEY", default="", is_secret=True, help="Bearer key, when one is needed."
    )
    parser.add_argument(
        "--prompt-tokens", default=_defaults.prompt_tokens, help="N, LOW-HIGH or lognormal:MEDIAN:SIGMA:MAX."
    )
    parser.add_argument(
        "--output-tokens", default=_defaults.output_tokens, help="As --prompt-tokens; sent as max_tokens."
    )
    parser.add_argument(
        "--system-tokens", type=int, default=0, help="Length of a system prompt that all requests share."
    )
    parser.add_argument(
        "--bytes-per-token",
        type=float,
        default=_defaults.bytes_per_token,
        help="To size prompts: 1 for byte-level models.",
    )
    parser.add_argument("--no-stream", action="store_true", help="Ask for answers in one piece.")
    parser.add_argument("--ignore-eos", action="store_true", help="Ask vLLM for the full output length.")
    parser.add_argument("--think-time", type=float, default=0.0, help="Seconds between a user's requests.")
    parser.add_argument("--load-seed", type=int, default=1, help="Seed of prompts, lengths and arrivals.")
    parser.add_argument(
        "--shape", default="", choices=["", *Shape], help="Workload shape; --users is then its highest level."
    )
    parser.add_argument("--shape-seconds", type=float, default=_defaults.duration_s, help="Length of the shape.")
    parser.add_argument(
        "--rate", type=float, default=0.0, help="With --shape: requests/s, open loop, instead of users."
    )
    parser.add_argument("--trace", default="", help="Trace in Azure's format; default: Azure 2023 conversations.")
    parser.add_argument("--time-scale", type=float, default=1.0, help="Trace seconds that pass in one second.")
    parser.add_argument("--length-scale", type=float, default=1.0, help="Factor on a trace's lengths.")


@events.init.add_listener  # type: ignore[untyped-decorator]
def prepare(environment: Environment, **_: object) -> None:
    """Turn the options into settings and, with `--shape`, replace locust's users by the shape's."""
    options = environment.parsed_options
    settings = LoadSettings(
        url=environment.host or "http://127.0.0.1",
        model=options.model,
        api_key=options.api_key,
        shape=Shape(options.shape or Shape.CONSTANT),
        duration_s=options.shape_seconds,
        users=options.num_users or _defaults.users,
        rate_rps=options.rate or None,
        trace_file=options.trace or None,
        time_scale=options.time_scale,
        length_scale=options.length_scale,
        prompt_tokens=options.prompt_tokens,
        output_tokens=options.output_tokens,
        system_tokens=options.system_tokens,
        bytes_per_token=options.bytes_per_token,
        stream=not options.no_stream,
        ignore_eos=options.ignore_eos,
        think_time_s=options.think_time,
        seed=options.load_seed,
    )
    try:
        settings.check()
    except LoadSettingsError as error:
        raise SystemExit(f"error: {error}") from error
    if options.shape:
        equip(environment, settings)
    else:
        LoadContext(environment, settings)


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def print_tokens(environment: Environment, **_: object) -> None:
    """Log the completion tokens per second, which locust's own table does not show."""
    stats = environment.stats.entries.get((environment.parsed_options.model, "chat"))
    if stats is not None and stats.num_requests:
        seconds = max(1e-9, stats.last_request_timestamp - stats.start_time)
        _log.info("%.1f completion tokens/s over %.0f s", stats.total_content_length / seconds, seconds)
