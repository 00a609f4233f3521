"""What runs inside Ray: the Serve deployment that hosts an inference engine's own HTTP application."""
