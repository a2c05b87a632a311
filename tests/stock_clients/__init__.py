"""Stock clients that are programs of their own."""
