"""What every operator of Models does between an observation and its calls, on one machine or in a cluster."""
