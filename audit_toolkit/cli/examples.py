"""The examples at the end of every `--help`: commands as people type them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

EXAMPLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "install": (
            "audit install --table orders --table customers",
            "audit install --table customers --mask email=sha256",
            "audit install --table readings --capture wal",
            "audit install --ddl",
        ),
        "uninstall": (
            "audit uninstall --table orders",
            "audit uninstall --table orders --upgrade",
        ),
        "init": ("audit init", "audit init migrations --edit-env"),
        "upgrade": ("audit upgrade --dry-run", "audit upgrade --upgrade"),
        "sync": (
            "audit sync",
            "audit sync --apply",
            "audit sync --schema 'tenant_*' --like tenant_1 --apply",
        ),
        "baseline": (
            "audit baseline --table orders",
            "audit baseline --table orders --batch-rows 500 --reason 'before the import'",
        ),
        "pause": ("audit pause --table orders --reason 'nightly import'",),
        "resume": ("audit resume --table orders --reason 'import done'",),
        "check": (
            "audit check",
            "audit check --table orders --format json",
            "audit check --fail-on error",
        ),
        "reconcile": (
            "audit reconcile",
            "audit reconcile --table orders --format json",
        ),
        "coverage": (
            "audit coverage --at 2026-11-01",
            "audit coverage --since 2026-10-01 --until 2026-11-01 --format json",
        ),
        "report": (
            "audit report --from 2026-10-01 --to 2026-11-01 --format html -o october.html",
            "audit report --from 2026-10-01 --profile pci --verify --key seal.key.pub",
        ),
        "review": (
            "audit review --by jo@example.com --note 'no gap in October' --file october.html",
        ),
        "drill": (
            "audit drill --archive s3://backup/trail",
            "audit drill logged_actions_2026_03 --archive s3://backup/trail --format json",
        ),
        "status": ("audit status", "audit status --format json"),
        "access": ("audit access", "audit access --format json"),
        "history": (
            "audit history orders 42",
            "audit history --actor alice --since yesterday",
            "audit history orders --changed status --newest-first --limit 10",
            "audit history --table orders --table stock --follow --format jsonl",
        ),
        "show": ("audit show 4711", "audit show 4711 --hide email --format json"),
        "ui": ("audit ui --open", "audit ui --port 8400 --allow-undo"),
        "transaction": ("audit transaction 757", "audit transaction '757@2026-11-01 10:00'"),
        "row-at": (
            "audit row-at orders 42 --at 'yesterday 10:00'",
            "audit row-at stock eu 1 --at '2 hours ago' --format json",
        ),
        "table-at": (
            "audit table-at orders --at 2026-11-01 > orders.csv",
            "audit table-at customers --at 'last week' --hide email --format jsonl",
        ),
        "diff": (
            "audit diff orders --from yesterday",
            "audit diff orders --from monday --to '1 hour ago' --hide updated_at",
        ),
        "blame": ("audit blame orders 42", "audit blame stock eu 1 --format json"),
        "restore": (
            "audit restore orders 42 --at '1 hour ago'",
            "audit restore orders 42 --at '1 hour ago' --with-children --apply",
            "audit restore orders 42 --event 4711 --sql",
        ),
        "revert": (
            "audit revert --transaction 757",
            "audit revert --last orders 42 --apply --reason 'typing error'",
            "audit revert --actor alice --since '2 hours ago' --except sessions",
            "audit revert --to-mark before-import --apply",
        ),
        "subject": ("audit subject customers 42", "audit subject customers 42 --format csv"),
        "redact": (
            "audit redact customers 42 --column email --reason 'erasure request'",
            "audit redact customers 42 --column email --keys --query --reason 'left' --ticket DPO-17 --apply",
        ),
        "mark": ("audit mark before-import --reason 'in case it goes wrong'",),
        "context": (
            "audit context actor=alice request_id=r-1",
            "audit context actor=alice --format json",
        ),
        "psql": (
            "audit psql --reason 'ticket 123'",
            "audit psql --reason 'ticket 123' -- -f fix.sql",
        ),
        "maintain": (
            "audit maintain --dry-run",
            "audit maintain --retention '2 years' --archive s3://backup/trail",
        ),
        "seal": (
            "audit seal --key /etc/audit/seal.key --checkpoint-to /mnt/worm/audit",
            "audit seal --every '30 seconds' --checkpoint-to s3://acme-seals/audit",
        ),
        "verify": (
            "audit verify --checkpoints /mnt/worm/audit --key seal.key.pub",
            "audit verify --jobs 4 --archive s3://backup/trail",
        ),
        "prove": ("audit prove 4711 > event-4711.json",),
        "verify-proof": ("audit verify-proof event-4711.json --key seal.key.pub",),
        "keys new": ("audit keys new --key /etc/audit/seal.key --name example.com/orders",),
        "keys rotate": ("audit keys rotate --key /etc/audit/seal.key",),
        "keys list": ("audit keys list", "audit keys list --format json"),
        "adopt": ("audit adopt --dry-run --reason failover", "audit adopt --reason failover"),
        "grants": ("audit grants --reader support", "audit grants --maintainer cron"),
        "guard on": ("audit guard on", "audit guard on --sql"),
        "guard off": ("audit guard off --reason 'upgrade of the server'",),
        "guard status": ("audit guard status --format json",),
        "demo": ("audit demo", "audit demo --sealed", "audit demo --ui", "audit demo --stream"),
        "publication": (
            "audit publication --upgrade",
            "audit publication --sql > publication.sql",
            "audit publication --drop",
        ),
        "witness run": (
            "audit witness run",
            "audit witness run --once",
            "audit witness run --every 0.2 --format json",
        ),
        "witness status": ("audit witness status", "audit witness status --format prometheus"),
        "witness drop": ("audit witness drop",),
        "stream run": (
            "audit stream run search --to https://search.example.org/hook",
            "audit stream run lake --to file:events.jsonl --from now --table orders",
            "audit stream run bus --to nats://127.0.0.1:4222/audit --body cloudevents",
            "audit stream run lake --to file:events.jsonl --from-archive s3://acme-audit/production --once",
        ),
        "capture run": (
            "audit capture run",
            "audit capture run --once",
            "audit capture run --fallback 20GB",
        ),
        "capture fallback": (
            "audit capture fallback --reason 'the disk fills up'",
            "audit capture fallback --table public.readings --reason 'the worker is slow'",
        ),
        "capture resume": ("audit capture resume", "audit capture resume --table public.readings"),
        "capture status": (
            "audit capture status",
            "audit capture status --format prometheus > /var/lib/node_exporter/audit_capture.prom",
        ),
        "stream list": ("audit stream list", "audit stream list --format json"),
        "stream lag": ("audit stream lag", "audit stream lag search --format prometheus"),
        "stream reset": (
            "audit stream reset search --to beginning",
            "audit stream reset search --to 4711",
        ),
        "stream drop": ("audit stream drop search",),
        "stream dead-letters list": ("audit stream dead-letters list search",),
        "stream dead-letters retry": (
            "audit stream dead-letters retry search",
            "audit stream dead-letters retry search --event 4711",
        ),
        "stream dead-letters drop": ("audit stream dead-letters drop search --event 4711",),
        "partitions plan": (
            "audit partitions plan --retention '1 year'",
            "audit partitions plan --sql",
        ),
        "partitions run": (
            "audit partitions run --dry-run",
            "audit partitions run --retention '1 year' --no-drop",
        ),
        "partitions check": (
            "audit partitions check",
            "audit partitions check --format nagios",
        ),
        "partitions hold": ("audit partitions hold logged_actions_2026_11 --reason 'court order'",),
        "partitions release": ("audit partitions release logged_actions_2026_11",),
        "partitions attach": (
            "audit partitions attach logged_actions_2026_11 --reason 'needed again'",
        ),
        "partitions list": ("audit partitions list", "audit partitions list --format json"),
        "partitions convert-default": (
            "audit partitions convert-default --dry-run",
            "audit partitions convert-default",
        ),
        "archive run": (
            "audit archive run --archive s3://backup/trail",
            "audit archive run --archive /backup/trail --again",
        ),
        "archive export": (
            "audit archive export --archive s3://backup/trail",
            "audit archive export --archive s3://backup/trail --since 2026-11-01",
        ),
        "archive register": (
            "audit archive register --archive s3://backup/trail --iceberg sqlite:///lake.db",
        ),
        "archive verify": (
            "audit archive verify --archive s3://backup/trail",
            "audit archive verify logged_actions_2026_11 --archive s3://backup/trail",
        ),
        "archive query": (
            "audit archive query 'select count(*) from logged_actions' --archive s3://backup/trail",
        ),
        "archive restore": (
            "audit archive restore logged_actions_2026_11 --archive s3://backup/trail",
        ),
        "archive adopt": ("audit archive adopt --archive s3://backup/trail",),
        "archive list": ("audit archive list --archive s3://backup/trail",),
        "indexes check": (
            "audit indexes check",
            "audit indexes check --table orders --format json",
        ),
        "indexes fix": ("audit indexes fix --dry-run", "audit indexes fix --all"),
        "indexes create": ("audit indexes create 'create index orders_status on orders (status)'",),
        "indexes progress": ("audit indexes progress", "audit indexes progress --once"),
    }
)
"""By the words after `audit`."""
