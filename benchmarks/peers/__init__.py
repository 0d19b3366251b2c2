"""Other tools, each installed the way its own documentation says."""
