"""Attacks whose tests are next to what they attack: files of the archive, types, conditions, the outside."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """An attack, who tries it, the outcome, and the test that tries it."""

    aim: str
    by: str
    outcome: str
    test: str
    """`folder/file.py::test`."""

    @property
    def is_there(self) -> bool:
        """Whether there is such a test."""
        file, _, name = self.test.partition("::")
        return name in _tests_in(file)


@cache
def _tests_in(file: str) -> frozenset[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


_FILES = "anyone who can write to the archive"
_TYPES = "owner of a type"
_IMAGES = "capture/test_images.py::test_"
_NOTHING = "it does not run, because values of such types are recorded as text"

ARCHIVE = [
    Elsewhere("an archive and its manifest forged, then restored", _FILES, "refused: the database knows the digest", "archive/test_tampering.py::test_a_forged_archive_does_not_come_back"),
    Elsewhere("a damaged manifest that hides the others", _FILES, "found by `audit archive verify`", "archive/test_tampering.py::test_one_damaged_manifest_hides_nothing_of_the_others"),
    Elsewhere("a symbolic link planted where the archive will be written", _FILES, "refused: nothing outside the folder is touched", "archive/test_tampering.py::test_a_planted_link_is_not_followed"),
    Elsewhere("a copy of the database writes into the same archive", "owner of the trail, of a copy", "refused: the archive names its database", "archive/test_tampering.py::test_a_copy_of_the_database_never_writes_over_the_archive"),
    Elsewhere("a physical copy of the cluster writes into the same archive", "superuser, of a copy", "refused until `audit archive adopt`", "archive/test_tampering.py::test_a_physical_copy_is_refused_until_it_adopts"),
]  # fmt: skip

TYPES = [
    Elsewhere("a cast to json or text of an enum, range, composite or domain, in capture", _TYPES, _NOTHING, f"{_IMAGES}capture_runs_nothing_that_belongs_to_a_type"),
    Elsewhere("the same, in a column added after the installation", _TYPES, _NOTHING, f"{_IMAGES}a_type_that_comes_later_runs_nothing"),
    Elsewhere("the same, of a type created in the transaction that writes", _TYPES, _NOTHING, f"{_IMAGES}a_type_made_within_a_transaction_that_wrote"),
    Elsewhere("the same, in the fallback that does not know the columns", _TYPES, _NOTHING, f"{_IMAGES}image_of_runs_nothing_that_belongs_to_a_type"),
    Elsewhere("the same, in a baseline run by a superuser", _TYPES, _NOTHING, f"{_IMAGES}a_baseline_runs_nothing_that_belongs_to_a_type"),
    Elsewhere("the same, of the type of a key", _TYPES, _NOTHING, f"{_IMAGES}a_baseline_by_a_key_of_a_foreign_type"),
    Elsewhere("rows hidden from TRUNCATE by row security or missing rights", "owner of a table", "refused, or all rows are recorded", f"{_IMAGES}truncate_records_all_rows_or_is_refused"),
    Elsewhere("a hidden column renamed to reveal it", "owner of a table", "it stays hidden", f"{_IMAGES}a_hidden_column_that_is_renamed_stays_hidden"),
    Elsewhere("a function called by a condition (`--when`), replaced by its owner", "owner of a function", "refused at installation", "capture/test_conditions.py::test_functions_of_others_never_run_for_the_trail"),
    Elsewhere("a condition that reads more than its row", "installer", "refused at installation", "capture/test_conditions.py::test_what_cannot_be_judged_is_refused_before_it_is_installed"),
]  # fmt: skip

BY_HAND = [
    Elsewhere("the sequence of event ids set to its end, so that writes fail", "member of pg_write_all_data", "found by `audit check`: `ids_run_out`", "install/test_forged_events.py::test_a_sequence_that_was_set_to_its_end_is_found_and_mended"),
    Elsewhere("an event with the highest id, so that `audit adopt` makes writes fail", "member of pg_write_all_data", "refused by `audit adopt`", "install/test_forged_events.py::test_adopt_gives_no_ids_above_one_that_was_made_up"),
    Elsewhere("an event under the id of a transaction that was rolled back, or of another session", "member of pg_write_all_data", "found by `audit check`: `event_forged`", "install/test_forged_events.py::test_what_names_another_transaction_is_found"),
    Elsewhere("a forged event next to real changes, in one transaction", "owner of the trail", "found by `audit check`: `event_forged`", "install/test_forged_events.py::test_what_is_written_beside_real_changes_is_found"),
]  # fmt: skip

_OUTSIDE = "attacks/test_outside.py::test_"
OUTSIDE = [
    Elsewhere("a context that names nobody", "application", "refused if `--require-context` is set", f"{_OUTSIDE}a_claim_that_says_nothing_is_none"),
    Elsewhere("a context of megabytes", "application", "marked, and the write succeeds", f"{_OUTSIDE}a_huge_context_is_marked_and_the_write_goes_through"),
    Elsewhere("holding the lock of maintenance", "any login", "refused: no privilege", f"{_OUTSIDE}the_lock_of_a_run_cannot_be_held_by_a_login"),
    Elsewhere("objects with our names created before the installation", "any login with CREATE", "refused", f"{_OUTSIDE}what_somebody_prepared_is_not_taken_over"),
    Elsewhere("default privileges that grant what is installed to others", "owner of the trail", "they are revoked", f"{_OUTSIDE}default_privileges_give_nothing"),
    Elsewhere("three first installations at once", "deployer", "one of them installs it", f"{_OUTSIDE}two_first_installations_at_once"),
    Elsewhere("terminal escapes in names and values", "application", "shown as text", f"{_OUTSIDE}no_terminal_obeys_what_is_printed"),
    Elsewhere("a malformed connection string with a password", "anyone who reads the logs", "the password is not printed", f"{_OUTSIDE}no_password_is_printed"),
]  # fmt: skip


def elsewhere() -> list[Elsewhere]:
    """All of them; the tamperings of the archive are those of its suite."""
    from tests.archive.tampering import TAMPERED

    tampered = [
        Elsewhere(
            name,
            _FILES,
            "found by `audit archive verify`",
            "archive/test_tampering.py::test_every_tampering_is_found",
        )
        for name in TAMPERED
    ]
    return [*tampered, *ARCHIVE, *TYPES, *BY_HAND, *OUTSIDE]


def as_table() -> str:
    """Them as a table in Markdown."""
    rows = [f"| {one.aim} | {one.by} | {one.outcome} | `{one.test}` |" for one in elsewhere()]
    return "\n".join(["| attack | by | outcome | test |", "|---|---|---|---|", *rows]) + "\n"
