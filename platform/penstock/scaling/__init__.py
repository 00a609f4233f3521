"""How many replicas there should be: snapshot, demand, capacity, guards, and a decision that explains itself."""
