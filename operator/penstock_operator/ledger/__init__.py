"""The ledger process: takes money records from the usage stream and answers what tokens cost."""
