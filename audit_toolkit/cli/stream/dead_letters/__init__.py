"""`audit stream dead-letters`: what a sink refused for good."""
