"""Request traces of real services, replayed as they arrived, faster or slower."""

from penstock_loadtest.traces.azure import AZURE_2023_CONVERSATION, read_azure_trace
from penstock_loadtest.traces.mooncake import MOONCAKE_CONVERSATION, read_mooncake_trace

__all__ = ["AZURE_2023_CONVERSATION", "MOONCAKE_CONVERSATION", "read_azure_trace", "read_mooncake_trace"]
