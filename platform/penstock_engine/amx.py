"""Worker extension that lets vLLM's CPU worker use AMX tiles under Ray.

A process must ask the kernel for AMX before its first tile instruction, or dies with SIGILL. vLLM's own launcher gets
there by another way that a Ray actor's children do not take. vLLM imports this module in the worker before the model
loads, when it is told `--worker-extension-cls penstock_engine.amx.WorkerExtension`. It has a file of its own so that
the worker never imports Ray.
"""

from __future__ import annotations

import torch

if torch.cpu._is_amx_tile_supported():  # noqa: SLF001 - torch has no public name for it
    torch.cpu._init_amx()  # noqa: SLF001


class WorkerExtension:
    """Adds nothing to the worker: importing this module is the point."""
