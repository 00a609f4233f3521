"""Where requests can go: the routing snapshot, read from its file and made into the live fleet."""
