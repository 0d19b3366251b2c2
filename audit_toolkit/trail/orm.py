"""The trail as a SQLAlchemy class, for activity feeds and history pages.

It has a registry and a metadata of its own: `create_all` and autogenerate of the application never
see it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Boolean,
    ColumnElement,
    Date,
    DateTime,
    Dialect,
    Enum,
    Integer,
    MetaData,
    Text,
    Time,
    Uuid,
    and_,
    case,
    cast,
    func,
    inspect,
)
from sqlalchemy.dialects.postgresql import INET, JSONB, TIMESTAMP
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Relationship,
    foreign,
    mapped_column,
    relationship,
)
from sqlalchemy.types import UserDefinedType

from audit_toolkit.long_keys import LONGEST
from audit_toolkit.trail.event import Action

_NARROW = (Boolean, Date, DateTime, Integer, Time, Uuid)


class _Xid8(UserDefinedType[int]):
    """A transaction id that never wraps around; drivers give it as text or as a number."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"

    def bind_processor(
        self,
        dialect: Dialect,  # noqa: ARG002 - SQLAlchemy's signature
    ) -> Callable[[int | None], str | None]:
        return lambda value: None if value is None else str(value)

    def bind_expression(self, bindvalue: BindParameter[int]) -> ColumnElement[int]:
        return cast(cast(bindvalue, Text), self)

    def result_processor(
        self,
        dialect: Dialect,  # noqa: ARG002
        coltype: object,  # noqa: ARG002
    ) -> Callable[[Any], int | None]:
        return lambda value: None if value is None else int(value)


class _Base(DeclarativeBase):
    metadata = MetaData(schema="audit")


class LoggedAction(_Base):
    """An event of `audit.logged_actions`, to be read: the server refuses every change of it.

    For a trail in another schema, give the engine `execution_options(schema_translate_map={"audit":
    …})`. Numbers in rows are Python floats, as in all JSON that SQLAlchemy reads; `audit history`
    keeps them exact.
    """

    __tablename__ = "logged_actions"

    event_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    action_tstamp: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True), primary_key=True)
    transaction_id: Mapped[int] = mapped_column(_Xid8)
    schema_name: Mapped[str] = mapped_column(Text)
    table_name: Mapped[str] = mapped_column(Text)
    action: Mapped[Action] = mapped_column(
        Enum(
            Action, native_enum=False, values_callable=lambda kinds: [kind.value for kind in kinds]
        )
    )
    row_key: Mapped[str | None] = mapped_column(Text)
    old_row_key: Mapped[str | None] = mapped_column(Text)
    old_row: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    new_row: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    context: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    """What the application claimed."""
    session_user_name: Mapped[str | None] = mapped_column(Text)
    """What the server knows: the role that logged in; nothing where the WAL was read."""
    role_name: Mapped[str | None] = mapped_column(Text)
    application_name: Mapped[str | None] = mapped_column(Text)
    client_addr: Mapped[Any] = mapped_column(INET)
    query: Mapped[str | None] = mapped_column(Text)
    transaction_tstamp: Mapped[datetime | None] = mapped_column(TIMESTAMP(timezone=True))
    """When the transaction began; unknown for events older than release 0.3."""

    @hybrid_property
    def actor(self) -> str | None:
        """Who, as the application claimed it; also in queries."""
        return self._claimed("actor")

    @actor.inplace.expression
    @classmethod
    def _actor_expression(cls) -> ColumnElement[str | None]:
        return _claim(cls, "actor")

    @hybrid_property
    def reason(self) -> str | None:
        """Why, as the application claimed it; also in queries."""
        return self._claimed("reason")

    @reason.inplace.expression
    @classmethod
    def _reason_expression(cls) -> ColumnElement[str | None]:
        return _claim(cls, "reason")

    @hybrid_property
    def request_id(self) -> str | None:
        """The web request that it came from; also in queries."""
        return self._claimed("request_id")

    @request_id.inplace.expression
    @classmethod
    def _request_id_expression(cls) -> ColumnElement[str | None]:
        return _claim(cls, "request_id")

    def _claimed(self, key: str) -> str | None:
        value = (self.context or {}).get(key)
        return value if value is None or isinstance(value, str) else str(value)


def _claim(cls: type[LoggedAction], key: str) -> ColumnElement[str | None]:
    text: ColumnElement[str | None] = cls.context[key].astext
    return text


def row_history(model: Callable[[], type[Any]]) -> Relationship[list[LoggedAction]]:
    """A read-only relationship from a row to its events, the oldest first.

        history: Mapped[list[LoggedAction]] = row_history(lambda: Order)

    The events of the key that the row has now; those from before a change of its key are not among
    them. One query by the trail's index on rows.
    """

    def of_this_row() -> ColumnElement[bool]:
        table = inspect(model()).local_table
        return and_(
            foreign(LoggedAction.schema_name) == (table.schema or "public"),
            foreign(LoggedAction.table_name) == table.name,
            foreign(LoggedAction.row_key) == _key_text(list(table.primary_key.columns)),
        )

    return relationship(
        LoggedAction,
        primaryjoin=of_this_row,
        order_by=LoggedAction.event_id,
        viewonly=True,
        uselist=True,
    )


def _key_text(columns: list[ColumnElement[Any]]) -> ColumnElement[str]:
    # As the capture functions write it: several columns as a JSON array, one as its text in JSON.
    key = func.jsonb_build_array(*columns)
    text = key.op("->>")(0) if len(columns) == 1 else cast(key, Text)
    if all(isinstance(column.type, _NARROW) for column in columns):
        return text
    digest = func.encode(func.sha256(func.convert_to(text, "UTF8")), "hex")
    return case(
        (func.octet_length(text) > LONGEST, func.concat("audit:sha256:", digest)), else_=text
    )
