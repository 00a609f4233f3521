"""The admin port: a FastAPI application for operators, dashboards and probes, apart from inference."""
