"""`audit keys`: manage the keys that seals are signed with."""
