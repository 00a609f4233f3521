"""Where a request may go: the routing snapshot, tenant keys, load reports, and the pure pick of a replica."""
