"""Routes, and what gateways route by."""
