"""What the tests stand on, one file per concern; `tests/conftest.py` lists them."""
