"""The relay: HTTP/1.1 between clients and replicas at protocol level, with retries, streams and metering."""
