"""The demo: a user of the platform that loads it, breaks it, lets it calm down, and writes down what it saw."""
