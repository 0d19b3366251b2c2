"""Verifying trusts no function of the trail, no setting of a database, and nothing that only looks like its tables."""

from __future__ import annotations

import pytest

from tests.seals.words import Sealed, forge_redaction

COPY = "create table public.copy as table audit.logged_actions"
CHANGE = "update audit.logged_actions set role_name = 'x' where event_id = 5"


def test_a_function_that_lies_about_leaves_is_not_asked(sealed: Sealed) -> None:
    sealed.execute(COPY)
    sealed.execute(
        "alter function audit.seal_leaves(regclass, bigint, bigint, bytea) rename to honest"
    )
    sealed.execute("""
        create function audit.seal_leaves(relation regclass, first_id bigint, last_id bigint, salts bytea)
            returns table (leaf oid, ids int8multirange, hashes bytea) language sql
        as $$ select * from audit.honest('public.copy', first_id, last_id, salts) $$
    """)
    assert sealed.found() == []
    sealed.tamper(CHANGE)
    assert sealed.found() == [("event_changed", "event 5")]


def test_settings_of_the_database_decide_nothing(sealed: Sealed) -> None:
    sealed.execute("""
        create schema other;
        create function other.sha256(bytea) returns bytea language sql as $$ select '\\x00'::bytea $$;
        create function other.length(text) returns integer language sql as 'select 0';
        do $$ begin
            execute format('alter database %I set search_path = other, pg_catalog, public', current_database());
            execute format('alter database %I set standard_conforming_strings = off', current_database());
        end $$
    """)
    assert sealed.found() == []
    sealed.tamper(CHANGE)
    assert sealed.found() == [("event_changed", "event 5")]


@pytest.mark.parametrize("table", ["logged_actions", "seal_tiles", "partition_lifecycle"])
def test_a_view_in_place_of_a_table_is_found(sealed: Sealed, table: str) -> None:
    sealed.execute(f"alter table audit.{table} rename to hidden")
    sealed.execute(f"create view audit.{table} as table audit.hidden")
    assert ("trail_disguised", f"audit.{table}") in sealed.found()


def test_who_announces_a_redaction_that_erased_nothing_is_found(sealed: Sealed) -> None:
    """By the owner, without DDL: all that redact does, but for the mark in place of a value."""
    forge_redaction(sealed, 301, "status", """new_row || '{"status": "forged"}'""")
    assert sealed.found() == [("redaction_unannounced", "event 301")]
