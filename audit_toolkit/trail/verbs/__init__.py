"""The verbs as applications call them. Each is a function of its own module, for any source.

feed = trail.history(session, "orders", 42, newest_first=True, limit=20)
feed = await trail.history(async_session, "orders", 42, newest_first=True, limit=20)

for row in trail.table_at(session, "orders", moment): …
async with trail.table_at(async_session, "orders", moment) as rows:
async for row in rows: …

They are in files by what they need, so that reading a history imports nothing that undoes.
"""
