"""The revisions that publish the trail, and that end it."""

from __future__ import annotations

from audit_toolkit.migrations.revision.record import Record
from audit_toolkit.migrations.revision.rule_text import trail_name
from audit_toolkit.migrations.revision.text import Revision, Script
from audit_toolkit.names import quote_identifier
from audit_toolkit.plan import Plan, Step
from audit_toolkit.schema.publication import plan_no_publication, plan_publication


def publication_revision(name: str, schema: str, message: str | None = None) -> Revision:
    """The revision that publishes the trail; its downgrade ends the publication."""
    plan = plan_publication(name, schema)
    return Revision(
        message=message or f"audit: publish {trail_name(schema)}",
        summary=(
            (
                f"Creates the publication {quote_identifier(name)} of {trail_name(schema)} alone: its "
                "inserts, as those of one table, for Debezium and others that follow the WAL."
            ),
            (
                "Create the slot afterwards: one that is older cannot follow the publication. A "
                "redaction is an UPDATE, which is not published: consumers have to redact their "
                "copies themselves."
            ),
        ),
        record=Record(schema=schema, published=(name,)),
        upgrade=(Script(name="PUBLISH_TRAIL", steps=plan.steps),),
        downgrade=(_undo("UNPUBLISH_TRAIL", "The publication ends", plan),),
    )


def no_publication_revision(name: str, schema: str, message: str | None = None) -> Revision:
    """The revision that ends a publication of the trail; its downgrade creates it again."""
    plan = plan_no_publication(name, schema)
    return Revision(
        message=message or f"audit: stop publishing {trail_name(schema)}",
        summary=(
            (
                f"Drops the publication {quote_identifier(name)} of {trail_name(schema)}. Drop its "
                "slots first: a slot that nobody reads keeps WAL."
            ),
        ),
        record=Record(schema=schema, unpublished=(name,)),
        upgrade=(Script(name="UNPUBLISH_TRAIL", steps=plan.steps),),
        downgrade=(_undo("PUBLISH_TRAIL", "The publication is there again", plan),),
    )


def _undo(name: str, why: str, plan: Plan) -> Script:
    return Script(name=name, steps=(Step(why=why, statements=plan.undo),))
