"""The gateway benchmark: routers in front of one mock engine, every answer checked byte for byte."""
