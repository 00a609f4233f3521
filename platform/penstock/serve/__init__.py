"""Models as Ray Serve applications: what to put there, what is there, and the one client of its REST API."""
