"""All that this package uses of vLLM, behind three calls: parse flags, start, build the HTTP application.

vLLM takes 12 s to import, so this module is imported inside the replica only.
"""

from __future__ import annotations

import logging
from argparse import Namespace
from typing import Any, NoReturn, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager
from vllm.usage.usage_lib import UsageContext
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.engine.async_llm import AsyncLLM

from penstock_engine.errors import SettingsError
from penstock_engine.faults import FaultShield, describe_invalid_fields, error_body
from penstock_engine.weights import resolve, resolve_adapter

logger = logging.getLogger("ray.serve")


class _Parser(FlexibleArgumentParser):  # type: ignore[misc] # vLLM is not followed by the type checker
    """argparse would print its reason and exit, and the replica would vanish without one."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(message)


class ServerHandle:
    """Stands where vLLM's handlers expect a uvicorn server: they set `should_exit` on it when the engine is dead."""

    def __init__(self) -> None:
        self.should_exit = False


def parse_flags(argv: list[str]) -> Namespace:
    """Parse `vllm serve` flags and resolve the weights they name.

    Args:
        argv: Flags; `--model` and the paths in `--lora-modules` may be URIs as in `penstock_engine.weights`.

    Raises:
        SettingsError: vLLM refuses the flags; the message is vLLM's own.
        WeightsError: the weights cannot be had.
    """
    try:
        args = make_arg_parser(_Parser()).parse_args(argv)
    except SystemExit as stop:  # --help and the like
        raise SettingsError("the flags ask vLLM to print something and exit, not to serve") from stop
    if args.model_tag is not None:
        args.model = args.model_tag
    weights = resolve(args.model)
    if args.served_model_name is None:
        args.served_model_name = [args.model]
    args.model = weights.model
    args.revision = args.revision or weights.revision
    if weights.load_format is not None and args.load_format == "auto":
        args.load_format = weights.load_format
    for adapter in args.lora_modules or ():
        adapter.path = resolve_adapter(adapter.path)
    try:
        validate_parsed_serve_args(args)
    except (TypeError, ValueError) as error:
        raise SettingsError(str(error)) from error
    return cast("Namespace", args)


def start(args: Namespace) -> AsyncLLM:
    """Start the engine's processes and wait until they have loaded the model. Blocks for as long as that takes."""
    if args.tool_parser_plugin:
        ToolParserManager.import_tool_parser(args.tool_parser_plugin)
    if args.reasoning_parser_plugin:
        ReasoningParserManager.import_reasoning_parser(args.reasoning_parser_plugin)
    return AsyncLLM.from_engine_args(AsyncEngineArgs.from_cli_args(args), usage_context=UsageContext.OPENAI_API_SERVER)


async def build_http_app(engine: AsyncLLM, args: Namespace, server: ServerHandle) -> FastAPI:
    """Build vLLM's own HTTP application, with LoRA adapters loaded and faults shielded from clients."""
    await engine.reset_mm_cache()  # what profiling left there; vLLM's launcher does the same
    tasks = await engine.get_supported_tasks()
    app = build_app(args, tasks, engine.model_config)
    await init_app_state(engine, app.state, args, tasks)
    app.state.server = server
    app.middleware_stack = None  # vLLM's SageMaker bootstrap built it early; None lets Starlette build it with ours
    app.add_exception_handler(RequestValidationError, _answer_invalid_request)
    app.add_exception_handler(HTTPException, _answer_framework_error)  # vLLM registers FastAPI's subclass only
    for kind in (TypeError, OverflowError):
        app.add_exception_handler(kind, _answer_odd_value)
    app.add_middleware(FaultShield)
    return cast("FastAPI", app)


async def _answer_invalid_request(_: Request, error: Exception) -> Response:
    errors: list[Any] = list(error.errors()) if isinstance(error, RequestValidationError) else []
    message, field = describe_invalid_fields(errors)
    body = error_body(400, message, kind="invalid_request_error", param=field)
    return Response(body, status_code=400, media_type="application/json")


async def _answer_framework_error(_: Request, error: Exception) -> Response:
    """Shape what Starlette raises before any endpoint: an unknown path, or a method that the path does not have."""
    if not isinstance(error, HTTPException):
        raise error
    body = error_body(error.status_code, error.detail, kind="invalid_request_error")
    return Response(body, error.status_code, headers=error.headers, media_type="application/json")


async def _answer_odd_value(request: Request, error: Exception) -> Response:
    """Answer what vLLM's own checks trip over. It would send the exception's text, which speaks of Python."""
    logger.warning("%s: %s: %s", request.url.path, type(error).__name__, error)
    body = error_body(400, "A field of the request has a wrong type or size.", kind="invalid_request_error")
    return Response(body, status_code=400, media_type="application/json")
