"""Durable queues of tenants, in the semantics of Amazon SQS's standard and FIFO queues."""
