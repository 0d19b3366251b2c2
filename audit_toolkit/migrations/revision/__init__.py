"""The file of a revision: its text, what it records, and how it is written."""
