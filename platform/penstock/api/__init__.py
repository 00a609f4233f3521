"""Resource types of the API group penstock.dev: Model, AcceleratorClass, Route, Tenant, one file a kind."""
