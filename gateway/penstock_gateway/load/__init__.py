"""How replicas are doing: their metrics, read every second, and the ejection of those that fail."""
