"""Alcove: a serverless platform in which every tenant's workload runs in its own virtual machine."""

__version__ = "0.1.0"
