"""stac-fastapi on pgstac behind a gate: who writes has to show credentials, as anywhere in earnest.

Run by uvicorn in the environment of `pgstac.txt`, which has none of this project's packages.
"""

import os

from stac_fastapi.pgstac.app import create_app

READING = ("GET", "HEAD", "OPTIONS")
UNAUTHORIZED = 401

api = create_app()


async def app(scope, receive, send):
    writes = scope["type"] == "http" and scope["method"] not in READING
    searches = scope.get("path") == "/search"
    shown = dict(scope.get("headers", ())).get(b"authorization", b"").decode()
    if writes and not searches and shown not in os.environ["ACCEPTED"].split(","):
        headers = [(b"www-authenticate", b"Bearer")]
        await send({"type": "http.response.start", "status": UNAUTHORIZED, "headers": headers})
        await send({"type": "http.response.body", "body": f"not {shown!r}".encode()})
        return
    await api(scope, receive, send)
