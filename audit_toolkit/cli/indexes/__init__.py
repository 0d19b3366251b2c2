"""`audit indexes`: find and repair broken indexes, and create new ones."""
