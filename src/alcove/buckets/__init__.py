"""Object storage: buckets in a folder, whose changes call functions."""
