"""A throwaway PostgreSQL, for `audit demo` and for the tests."""
