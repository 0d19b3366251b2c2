"""`audit witness`: what the WAL says was written, compared with the trail."""
