"""Real virtual machines, one engine at a time."""
