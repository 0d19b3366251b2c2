"""`audit stream`: consumers of the trail, which deliver its events to somewhere else."""
