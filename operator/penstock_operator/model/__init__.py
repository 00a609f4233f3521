"""Models: what each becomes on a pool, its finalizer, its status, and its scale subresource."""
