"""`audit upgrade`: what an older toolkit installed, brought to this one by a migration."""

from __future__ import annotations

from audit_toolkit.catalog import read_relations
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import (
    AlembicConfig,
    AlembicName,
    Django,
    DryRun,
    Dsn,
    EditEnv,
    Head,
    Message,
    NoEnv,
    PrintSql,
    ProjectSchema,
    Upgrade,
    VersionPath,
)
from audit_toolkit.cli.revisions import (
    Goal,
    Output,
    Where,
    finish,
    print_sql,
    say,
    state_without_project,
)
from audit_toolkit.migrations import plan_upgrade
from audit_toolkit.schema.install import trail_hash


def upgrade_toolkit(
    audit_schema: ProjectSchema = None,
    message: Message = None,
    head: Head = None,
    upgrade: Upgrade = False,
    sql: PrintSql = False,
    dry_run: DryRun = False,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    name: AlembicName = None,
    version_path: VersionPath = None,
    no_env: NoEnv = False,
    edit_env: EditEnv = False,
    django: Django = None,
) -> None:
    """Upgrade the trail and all capture to this version.

    Writes the revision that does it. The database must be at the head of the project. The options of
    tables stay as they are; events are not touched.
    """
    output = Output(upgrade=upgrade, sql=sql, dry_run=dry_run)
    if sql:
        with open_database(dsn, config) as connection:
            state = state_without_project(audit_schema)
            upgrade_plan = plan_upgrade(connection, read_relations(connection), state)
        print_sql(upgrade_plan.plans)
    else:
        where = Where(
            config=config,
            name=name,
            version_path=version_path,
            head=head,
            no_env=no_env,
            edit_env=edit_env,
            django=django,
        )
        run = where.begin(dsn, audit_schema)
        with run.reading() as (connection, relations):
            run.require_applied(connection)
            upgrade_plan = plan_upgrade(connection, relations, run.state)
        goal = Goal(
            captures={change.table: change.hash for change in upgrade_plan.changes},
            trail=trail_hash(upgrade_plan.schema),
            then=" ".join(["audit check", *run.schema_option]),
        )
        first = run.rename_revisions(upgrade_plan.changes)
        revisions = [*first, upgrade_plan.revision(message)] if upgrade_plan else []
        finish(run, revisions, goal, output, up_to_date=not upgrade_plan)
    if not upgrade_plan and not dry_run:
        say("already up to date")
