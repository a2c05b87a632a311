"""Benchmarks: each prints its figures with n, p50 and p99, and the ratios that ``docs/specification.md`` states."""
