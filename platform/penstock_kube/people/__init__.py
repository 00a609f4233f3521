"""A cluster for people: what `penstock status`, `why`, `cost` and `plan` show of one, and `kubectl penstock`."""
