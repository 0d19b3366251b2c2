"""Checkpoints in a bucket whose objects nobody can remove, with S3's Object Lock in compliance mode."""

from __future__ import annotations

import pytest

from audit_toolkit.connection import connect
from audit_toolkit.seals import open_sink, read_key, read_outside, read_public, run_seal, verify
from tests.seals.words import MORE, Sealed

LOCKED = {
    "ObjectLockEnabled": "Enabled",
    "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}},
}
PLACE = "s3://locked/audit"


@pytest.mark.thorough
def test_checkpoints_in_a_locked_bucket(sealed: Sealed, s3_login: None) -> None:
    import boto3  # type: ignore[import-untyped]
    from botocore.exceptions import ClientError  # type: ignore[import-untyped]

    s3 = boto3.client("s3")
    missing = run_seal(sealed.connection, "audit", read_key(sealed.key), sinks=[open_sink(PLACE)])
    assert "bucket does not exist" in str(missing.failed)
    assert "locked" not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]

    s3.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    s3.put_object_lock_configuration(Bucket="locked", ObjectLockConfiguration=LOCKED)
    for rows in (0, 5):
        if rows:
            sealed.execute(MORE.format(rows))
        run = run_seal(sealed.connection, "audit", read_key(sealed.key), sinks=[open_sink(PLACE)])
        assert run.failed == ()
    versions = s3.list_object_versions(Bucket="locked")["Versions"]
    assert len(versions) == 2
    for version in versions:
        with pytest.raises(ClientError, match="AccessDenied"):
            s3.delete_object(Bucket="locked", Key=version["Key"], VersionId=version["VersionId"])
    sealed.tamper("delete from audit.seal_checkpoints where tree_size > 462")
    with connect(sealed.trail.database.dsn) as connection:
        outside = read_outside([PLACE])
        report = verify(connection, "audit", keys=read_public(sealed.key), outside=outside)
    assert "trail_behind" in [one.kind for one in report.alarms]
