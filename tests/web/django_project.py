"""A project of Django with the page mounted as docs/page.md says, ASGI and WSGI; prints what each user gets.

Run as a program, with the address of the trail: Django's settings hold for a process.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import django  # type: ignore[import-untyped]
from django.conf import settings  # type: ignore[import-untyped]

from audit_toolkit.web import Viewer, as_wsgi, create_app

if TYPE_CHECKING:
    from starlette.requests import Request

urlpatterns: list[Any] = []


def main(dsn: str, folder: Path) -> None:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="x" * 50,
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=[f"django.contrib.{app}" for app in ("contenttypes", "auth", "sessions")],
        MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "db"}},
    )
    django.setup()
    from django.contrib.auth import get_user  # type: ignore[import-untyped]
    from django.contrib.auth.models import User  # type: ignore[import-untyped]
    from django.core.asgi import get_asgi_application  # type: ignore[import-untyped]
    from django.core.management import call_command  # type: ignore[import-untyped]
    from django.core.wsgi import get_wsgi_application  # type: ignore[import-untyped]
    from django.test import Client  # type: ignore[import-untyped]
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.testclient import TestClient
    from werkzeug.middleware.dispatcher import DispatcherMiddleware
    from werkzeug.test import Client as WsgiClient

    call_command("migrate", verbosity=0)
    sessions = import_module(settings.SESSION_ENGINE)

    def viewer_of_django(request: Request) -> Viewer | None:
        session = sessions.SessionStore(request.cookies.get(settings.SESSION_COOKIE_NAME))
        user = get_user(SimpleNamespace(session=session))
        return Viewer(actor=f"user:{user.pk}", tables=["orders"]) if user.is_staff else None

    page = create_app(dsn, authorize=viewer_of_django)
    asgi = Starlette(routes=[Mount("/audit", page), Mount("/", get_asgi_application())])
    wsgi = DispatcherMiddleware(get_wsgi_application(), {"/audit": as_wsgi(page)})

    for name, is_staff in (("nobody", None), ("visitor", False), ("ann", True)):
        cookies = {}
        if is_staff is not None:
            client = Client()
            client.force_login(User.objects.create(username=name, is_staff=is_staff))
            cookies = {key: morsel.value for key, morsel in client.cookies.items()}
        answers: list[Any] = [TestClient(asgi, cookies=cookies).get("/audit/")]
        of_wsgi = WsgiClient(wsgi)
        for key, value in cookies.items():
            of_wsgi.set_cookie(key, value)
        answers.append(of_wsgi.get("/audit/"))
        print(name, *(a.status_code for a in answers))
        for answer in answers:
            if answer.status_code == 200:
                assert "/audit/row?table=public.orders" in answer.text
                assert "salaries" not in answer.text
    print("other", TestClient(asgi).get("/shop").status_code)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(sys.argv[1], Path(folder))
