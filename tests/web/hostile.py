"""What somebody writes into a row who wants to harm whoever looks at it."""

from __future__ import annotations

HOSTILE = (
    "<script>alert(1)</script>",
    "</p><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "\u202eevil\u202c \u2066x\u2069",
    "\x1b[31mred\x07",
    "100% %(who)s %s",
    "'; drop table orders; --",
    "line\nbreak\ttab\r",
    "\u200binvisible\ufeff",
    "😀" * 50,
    "x" * 1_000_000,
)
