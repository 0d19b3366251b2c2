"""The commands of `audit capture`."""
