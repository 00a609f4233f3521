"""What serving costs: usage records, replica intervals, attribution, the ledger and its reports."""
