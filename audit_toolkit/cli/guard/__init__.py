"""`audit guard`: event triggers that refuse to take capture or the trail away."""
