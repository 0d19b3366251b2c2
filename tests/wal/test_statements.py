"""Whatever an application does with rows: the same events from the WAL as by triggers."""

from __future__ import annotations

import re

import pytest

from audit_toolkit.config import Capture
from tests.wal.conftest import WalTrail

DDL = """
    create table {} (
        id int primary key, v text, n int default 0, parent int references {} on update cascade on delete cascade
    );
    create table {}_lines (
        id int primary key, item int references {} on update cascade on delete set null, note text
    );
    alter table {} alter v set storage external;
    create function {}_before() returns trigger language plpgsql as $$
        begin
            if new.v = 'skip' then return null; end if;
            new.v := upper(new.v);
            return new;
        end $$;
    create function {}_after() returns trigger language plpgsql as $$
        begin
            if new.n < 0 then update {} set n = 5 where id = new.id; end if;
            return null;
        end $$;
    create trigger before_it before insert or update on {} for each row execute function {}_before();
    create trigger after_it after insert or update on {} for each row execute function {}_after()"""
STATEMENTS = """
    insert into {} values (1, 'a'), (2, 'b'), (3, 'skip');
    insert into {} values (1, 'c') on conflict (id) do update set v = excluded.v, n = {}.n + 1;
    insert into {} values (1, 'c') on conflict do nothing;
    insert into {} values (4, 'd', -1);
    begin; insert into {} values (5, 'e'); savepoint s; update {} set v = 'f' where id = 5; delete from {} where id = 1;
        rollback to s; update {} set v = 'g' where id = 5; release s; commit;
    begin; insert into {} values (6, 'never'); rollback;
    begin; delete from {} where id = 5; insert into {} values (5, 'again'); commit;
    with gone as (delete from {} where id = 2 returning *), made as (insert into {} select 20, v from gone returning id)
        update {} set n = 9 where id = 4;
    insert into {} values (30, 'p', 0, 1), (31, 'p', 0, 30);
    insert into {}_lines values (1, 30, 'x'), (2, 31, 'y');
    update {} set id = 300 where id = 30;
    delete from {} where id = 1;
    insert into {} values (40, repeat('x', 20000));
    update {} set n = n + 1 where id = 40;
    update {} set n = n where id = 40;
    update {} set id = 41, v = v where id = 40;
    do $$ begin begin insert into {} values (50); raise exception 'x'; exception when others then null; end;
        insert into {} values (51); end $$;
    set constraints all deferred;
    update {}_lines set note = null;
    truncate {} cascade"""
MERGE = """
    merge into {} as t using (values (4, 'm'), (60, 'm'), (20, null)) as s (id, v) on t.id = s.id
    when matched and s.v is null then delete
    when matched then update set v = s.v
    when not matched then insert values (s.id, s.v)"""


@pytest.fixture
def pair(wal_trail: WalTrail) -> WalTrail:
    for name, capture in (("by_row", Capture.ROW), ("by_wal", Capture.WAL)):
        wal_trail.execute(DDL.replace("{}", name))
        for table in (name, f"{name}_lines"):
            wal_trail.audit(table, capture=capture)
    wal_trail.read()
    return wal_trail


def compare(trail: WalTrail) -> int:
    trail.read()
    total = 0
    for table in ("", "_lines"):
        found = trail.rows(f"by_wal{table}")
        assert found == trail.rows(f"by_row{table}")
        total += len(found)
    return total


def test_each_kind_of_statement(pair: WalTrail) -> None:
    statements = re.split(r";\n    (?! )", STATEMENTS)
    if pair.connection.info.server_version >= 150000:
        statements.insert(-1, MERGE)
    for statement in statements:
        for name in ("by_row", "by_wal"):
            pair.execute(statement.replace("{}", name))
    for name in ("by_row", "by_wal"):
        with pair.connection.cursor().copy(f"copy {name} (id, v) from stdin") as copy:
            copy.write("".join(f"{n}\tcopied\n" for n in range(100, 200)))
    assert compare(pair) > 130


def test_transactions_that_are_prepared_count_when_they_commit(pair: WalTrail) -> None:
    for name in ("by_row", "by_wal"):
        for end in ("commit", "rollback"):
            pair.execute(
                f"begin; insert into {name} values (1, 'a'), (2, 'b'); prepare transaction '{end}'"
            )
            pair.read()
            pair.execute(f"{end} prepared '{end}'")
            pair.execute(f"delete from {name}")
    assert compare(pair) == 4
