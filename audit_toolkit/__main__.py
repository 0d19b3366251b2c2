"""`python -m audit_toolkit` is the command `audit`."""

from audit_toolkit.cli.app import main

main()
