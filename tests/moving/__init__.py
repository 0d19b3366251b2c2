"""A trail that is dumped, restored, copied, failed over or replicated."""
