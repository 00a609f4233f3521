"""Where requests can go: the routing snapshot, from a file or from a cluster, made into the live fleet."""
