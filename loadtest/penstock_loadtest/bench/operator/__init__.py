"""The benchmark `operator`: a thousand Models on one control plane, from nothing to ready, idle, and edited."""
