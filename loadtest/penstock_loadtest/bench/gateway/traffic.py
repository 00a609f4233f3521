"""The traffic of the gateway benchmark: seeded requests and, for each, the one right answer.

The mock upstream and the load generator both make this table from the same seed. A request names its own row by a
marker in its last message, so the upstream can answer it whatever a router did to the rest of the body, and the load
generator knows every answer beforehand.
"""

from __future__ import annotations

import math
import random

import msgspec

MARKER = b"@@"
MARKER_DIGITS = 6
SMALLEST_BODY_BYTES = 200
LARGEST_BODY_BYTES = 32 * 1024

_WORDS = (
    *(
        "pressure",
        "valve",
        "river",
        "gate",
        "tokens",
        "stream",
        "queue",
        "weight",
        "block",
        "cache",
        "replica",
        "answer",
    ),
    *("naïve", "façade", "東京", "mètre", '"quoted"', "back\\slash", "line\nbreak", "sluice", "budget", "ledger"),
)
"""With what JSON has to escape, and with letters of more than one byte."""


class TrafficPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the traffic looks like. The same plan always makes the same table."""

    seed: int = 1
    keys: int = 1000
    models: int = 50
    unary: int = 2000
    """Distinct requests answered in one piece."""
    streams: int = 512
    """Distinct requests answered as a stream."""
    largest_stream_tokens: int = 192


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One request and its right answer."""

    index: int
    tenant: str
    model: str
    request: bytes
    """The whole HTTP request, head and body."""
    content: bytes
    """The last message as it stands in the body: it must reach the upstream unchanged."""
    body: bytes
    """The answer's body; of a stream, all its events together, as a client that speaks to the upstream would see it."""
    events: tuple[bytes, ...]
    """The same answer as it is sent: each event of a stream, or one piece. Without the usage event."""
    usage_event: bytes
    wants_usage: bool
    prompt_tokens: int
    completion_tokens: int

    @property
    def streamed(self) -> bool:
        """True when the answer is a stream."""
        return len(self.events) > 1


def key_of(tenant: int) -> str:
    """Return the API key of the tenant with this number."""
    return f"sk-bench-{tenant:04d}-0123456789abcdef0123456789abcdef"


def tenant_name(tenant: int) -> str:
    """Return the name of the tenant with this number."""
    return f"tenant-{tenant:04d}"


def model_name(model: int) -> str:
    """Return the name of the model with this number."""
    return f"model-{model:02d}"


def make_traffic(plan: TrafficPlan) -> tuple[Exchange, ...]:
    """Make the table: first the unary exchanges, then the streams; an exchange's index is its place."""
    rng = random.Random(plan.seed)  # noqa: S311 - traffic, not secrets
    return tuple(
        _make_exchange(index, plan, rng, streamed=index >= plan.unary) for index in range(plan.unary + plan.streams)
    )


def _make_exchange(index: int, plan: TrafficPlan, rng: random.Random, *, streamed: bool) -> Exchange:
    tenant = rng.randrange(plan.keys)
    model = model_name(rng.randrange(plan.models))
    span = math.log(LARGEST_BODY_BYTES / SMALLEST_BODY_BYTES)
    body_bytes = int(SMALLEST_BODY_BYTES * math.exp(rng.random() * span))
    content = f"{MARKER.decode()}{index:0{MARKER_DIGITS}d} {_text(rng, body_bytes - 150)}"
    wants_usage = streamed and index % 2 == 0
    completion_tokens = rng.randint(16, plan.largest_stream_tokens) if streamed else rng.randint(1, 400)
    prompt_tokens = len(content) // 4
    request: dict[str, object] = {
        "model": model,
        "messages": [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": content}],
        "max_tokens": completion_tokens,
        "temperature": 0.5,
    }
    if streamed:
        request["stream"] = True
    if wants_usage:
        request["stream_options"] = {"include_usage": True}
    usage = {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "completion_tokens": completion_tokens,
    }
    answer_id = f"chatcmpl-{index:0{MARKER_DIGITS}d}{rng.getrandbits(64):016x}"
    if streamed:
        events, usage_event = _stream_events(answer_id, model, rng, completion_tokens, usage)
        shown = (*events[:-1], usage_event, events[-1]) if wants_usage else events
        body = b"".join(shown)
    else:
        body = _unary_body(answer_id, model, rng, completion_tokens, usage)
        events, usage_event = (body,), b""
    return Exchange(
        index=index,
        tenant=tenant_name(tenant),
        model=model,
        request=_http_request(key_of(tenant), msgspec.json.encode(request)),
        content=msgspec.json.encode(content)[1:-1],
        body=body,
        events=events,
        usage_event=usage_event,
        wants_usage=wants_usage,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
    )


def _text(rng: random.Random, length: int) -> str:
    words: list[str] = []
    size = 0
    while size < length:
        word = rng.choice(_WORDS)
        words.append(word)
        size += len(word) + 1
    return " ".join(words)


def _http_request(key: str, body: bytes) -> bytes:
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway.bench\r\nUser-Agent: penstock-bench\r\n"
        f"Authorization: Bearer {key}\r\nAccept: */*\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _unary_body(answer_id: str, model: str, rng: random.Random, tokens: int, usage: dict[str, int]) -> bytes:
    message = {"role": "assistant", "content": _text(rng, tokens * 4)}
    return msgspec.json.encode(
        {
            "id": answer_id,
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "length"}],
            "usage": usage,
        }
    )


def _stream_events(
    answer_id: str, model: str, rng: random.Random, tokens: int, usage: dict[str, int]
) -> tuple[tuple[bytes, ...], bytes]:
    head = {"id": answer_id, "object": "chat.completion.chunk", "created": 1_700_000_000, "model": model}

    def event(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return b"data: " + msgspec.json.encode({**head, "choices": [choice]}) + b"\n\n"

    events = [event({"role": "assistant", "content": ""})]
    events += [event({"content": rng.choice(_WORDS) + " "}) for _ in range(tokens - 1)]
    events += [event({"content": "."}, "length"), b"data: [DONE]\n\n"]
    usage_event = b"data: " + msgspec.json.encode({**head, "choices": [], "usage": usage}) + b"\n\n"
    return tuple(events), usage_event
