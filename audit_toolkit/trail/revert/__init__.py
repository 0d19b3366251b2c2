"""Putting back what was changed: what to take back, the plan, and how it is applied."""
