"""Event source mappings: what is read from queues and streams, handed to functions in batches, and acknowledged."""
