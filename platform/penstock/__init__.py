"""The functional core of Penstock: resource types, arithmetic and decisions, free of servers and cluster clients."""

__version__ = "0.1.0"
