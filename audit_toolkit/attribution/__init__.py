"""Who and why: the context that the application claims, and how it travels with every write.

    current     what is claimed now: `context`, `set_actor`, `current_context`
    values      what may be claimed: JSON, small, no secrets
    statements  which SQL writes
    link        what the transaction of one connection carries already, and what is due
    attach      the two doors: `attach` (every write, by itself) and `apply_context` (now)
    cursors     psycopg: the context in the same round trip as the write
    engines     SQLAlchemy with any other driver: the context before the first write
    request     what of a web request is claimed; `asgi` and `wsgi` are the middlewares
    django, celery

The package is not named after the function `audit_toolkit.context`, which a module of that name
would hide.
"""
