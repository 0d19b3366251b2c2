"""What an audit trail costs the transaction that writes, beside other tools: `nox -s bench`."""
