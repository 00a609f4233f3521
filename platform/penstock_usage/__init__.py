"""The way of money records between pods: from each process's spool through a Redis stream to the one ledger."""
