"""What requests used: counters for scaling and metrics, and one record each for the ledger."""
