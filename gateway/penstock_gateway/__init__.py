"""The gateway: one port for inference at protocol level, one for administration."""
