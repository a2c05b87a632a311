"""SIGKILL at each step."""
