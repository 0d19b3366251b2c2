"""`audit access`: who can read, write, alter or silence the trail, and by which way."""

from __future__ import annotations

import json

from tests.plugins.command import Audit
from tests.plugins.trail import Trail


def test_who_can_and_by_which_way(attacked: Trail, audit: Audit) -> None:
    attacked.execute("""
        create view shop.seen as select * from audit.logged_actions;
        grant select on shop.seen to att_nobody;
        create table shop.mine (id int)
    """)
    try:
        answer = audit("access", "--format", "json", "--dsn", attacked.database.dsn)
        found = {one["role"]: one["ways"] for one in json.loads(answer.stdout)["roles"]}
        assert set(found["postgres"]) == {"read", "write", "alter", "silence"}
        assert set(found["att_maintainer"]) == {"alter"}
        assert "detaches and drops partitions that are due" in str(found["att_maintainer"])
        assert any("reads detached partitions" in way for way in found["att_archiver"]["read"])
        assert set(found["att_installer"]) == {"write", "silence"}
        assert found["att_reader"] == {"read": ["select on audit.logged_actions is granted"]}
        assert found["att_nobody"] == {"read": ["select on shop.seen is granted"]}
        assert "insert events by hand" in found["att_writes_all"]["write"][0]
        assert any("shop.orders" in way for way in found["att_table_owner"]["silence"])
        assert "att_app" not in found
        text = audit("access", "--dsn", attacked.database.dsn).stdout
        assert "can insert events by hand:\n" in text
        assert "  att_reader: select on audit.logged_actions is granted\n" in text
    finally:
        attacked.execute("drop view shop.seen; drop table shop.mine")
