"""Which table and which row is meant, under all the names and keys that it had."""
