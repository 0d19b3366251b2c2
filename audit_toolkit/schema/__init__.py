"""The schema of the trail: its table, functions and grants, and whether they are as this version makes them."""

from audit_toolkit.schema.grants import Limits, render_grants
from audit_toolkit.schema.install import plan_trail

__all__ = ["Limits", "plan_trail", "render_grants"]
