"""Types with values that must survive the trail, and sessions that try to change how values are printed."""

from __future__ import annotations

from dataclasses import dataclass

PREPARE = """
    create type mood as enum ('calm', 'so so', 'a"b', 'null', '', 'x,y');
    create domain score as int check (value < 1000000);
    create type pair as (number float8, since timestamptz, note text);
    create type span as range (subtype = float8);
    create role audit_app nologin;
    create schema hostile;
    create function hostile.to_jsonb(anyelement) returns jsonb language sql as $$ select '{"forged": 1}'::jsonb $$;
    create function hostile.changes(jsonb, jsonb) returns jsonb language sql as $$ select '{"forged": 1}'::jsonb $$;
    create function hostile.clock_timestamp() returns timestamptz language sql as $$ select 'epoch'::timestamptz $$;
    grant usage on schema hostile to audit_app;
"""
"""What the values below need in a database."""

VALUES: dict[str, tuple[str, ...]] = {
    "int": ("0", "1", "-2147483648", "2147483647"),
    "numeric": ("1.0", "1.00", "NaN", "-Infinity", "12345678901234567890.0123456789000"),
    "float8": ("0.1", "0.30000000000000004", "NaN", "-Infinity", "5e-324", "1e308"),
    "text": ("", "null", '["eu", 1]', "a\n\t\"'\\$$", "\u00e9\U0001f418", " x "),
    "timestamptz": (
        "2026-01-01 00:00+00",
        "1900-01-01 00:00:00.000001+00",
        "infinity",
        "-infinity",
    ),
    "timestamp": ("2026-02-01 12:00:00.5", "0044-03-15 00:00:00 BC", "infinity"),
    "date": ("2026-02-01", "5874897-12-31", "-infinity"),
    "timetz": ("12:00:00.000001+05:30:15", "24:00:00-15"),
    "interval": ("P1DT-2H-3M", "P-1M3D", "PT0S", "P178000000Y"),
    "bytea": ("\\x00ff5c27", "\\x", "\\xdeadbeef"),
    "uuid": ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000"),
    "json": ('{"a": [1, null]}', "[]", '"x"', "1.10"),
    "jsonb": ('{"a": {"b": [1.10, null]}}', "{}", '"x"', "false"),
    "point": ("(1,-2.5)", "(0.30000000000000004,NaN)"),
    "path": ("[(0,0),(1,0.1)]", "((0,0),(1,0.1))"),
    "int[]": ("{}", "{1,NULL,3}", "{{1,2},{3,NULL}}"),
    "text[]": ('{"a,b",NULL,"NULL",""}', "{}", '{"{}","\\""}'),
    "bytea[]": ('{"\\\\x00",NULL}', "{}"),
    "char(5)": ("ab", "", "abcde"),
    "varchar(3)": ("ab ", ""),
    '"char"': ("x", ""),
    "bit(3)": ("101", "000"),
    "money": ("1.10", "-92233720368547758.08"),
    "inet": ("::1/64", "10.0.0.1"),
    "daterange": ("[2026-02-01,2026-03-04)", "empty", "(,)"),
    "tstzrange": ("[2026-02-01 00:00+00,)", "(-infinity,infinity)"),
    "span": ("[0.1,0.30000000000000004]", "empty"),
    "nummultirange": ("{[1.0,2.00),[3,)}", "{}"),
    "mood": ("calm", "so so", 'a"b', "null", ""),
    "score": ("7", "-1"),
    "pair": ('(0.30000000000000004,"2026-01-01 00:00+00","a b")', "(,,)", '(NaN,infinity,"")'),
    "pair[]": ('{"(0.1,\\"2026-01-01 00:00+00\\",x)",NULL}',),
    "regtype": ("int", "public.mood"),
}
"""By type, values in the form in which COPY takes them. None of them is on the list of losses."""

UNSETTLED = ("int", "text", "uuid", "jsonb", "int[]", "numeric", "date", "mood", "varchar(3)")
"""Types whose values print the same under any settings: columns of them may be added after installation."""

KEY_VALUES: dict[str, tuple[str, ...]] = {
    "int": ("1", "2", "3", "4", "-5"),
    "text": ("", "1", '["eu", 1]', "null", 'a"b\\', "\u00e9"),
    "uuid": tuple(f"{n}0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11" for n in range(5)),
    "timestamptz": tuple(f"2026-03-29 0{n}:30:00.000001+00" for n in range(5)),
    "bytea": ("\\x", "\\x00", "\\xff", "\\x27", "\\x5c"),
    "numeric": ("1.0", "1.00", "2", "NaN", "1e30"),
    "float8": ("0.1", "0.30000000000000004", "0.3", "NaN", "1e100"),
    "interval": ("1 day", "24:00", "1 mon", "-1 day", "0"),
    "char(4)": ("a", "b", "", "'", "abcd"),
    "mood": ("calm", "so so", 'a"b', "null", "", "x,y"),
    "score": ("1", "2", "3", "4", "5"),
    "daterange": ("empty", "[2026-01-02,2026-03-04)", "(,)", "[2026-02-01,)"),
}
"""By type, a few values for a key column: few, so that they collide."""


@dataclass(frozen=True, slots=True)
class Hostility:
    """What a session may set to change how its values are printed, or how the trigger's queries run."""

    name: str
    settings: tuple[tuple[str, str], ...]

    @property
    def statements(self) -> str:
        """The SET statements."""
        return "; ".join(f"set {name} = {value}" for name, value in self.settings)


HOSTILITIES = (
    Hostility("dates", (("timezone", "'Asia/Kathmandu'"), ("datestyle", "'German, DMY'"))),
    Hostility("numbers", (("extra_float_digits", "-15"), ("intervalstyle", "sql_standard"))),
    Hostility(
        "bytes",
        (
            ("bytea_output", "escape"),
            ("intervalstyle", "iso_8601"),
            ("quote_all_identifiers", "on"),
        ),
    ),
    Hostility(
        "names",
        (
            ("search_path", "hostile, pg_catalog"),
            ("datestyle", "'SQL, DMY'"),
            ("timezone", "'America/St_Johns'"),
        ),
    ),
    Hostility(
        "planner",
        (
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("enable_sort", "off"),
            ("plan_cache_mode", "force_generic_plan"),
            ("work_mem", "'64kB'"),
            ("transform_null_equals", "on"),
        ),
    ),
    Hostility(
        "language",
        (
            ("plpgsql.variable_conflict", "use_column"),
            ("plpgsql.extra_errors", "'all'"),
            ("default_transaction_isolation", "serializable"),
            ("timezone", "'-13:45'"),
            ("extra_float_digits", "0"),
        ),
    ),
)
"""Six hostile sessions; each of their settings is one that anybody or, for `plpgsql.…`, a superuser may set."""
