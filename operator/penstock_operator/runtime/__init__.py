"""The level-triggered runtime under the controllers: work queue, control loop, conditions, health and metrics."""
