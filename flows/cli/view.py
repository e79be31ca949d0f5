"""`tar-pipeline view`: a map of a store, in a browser on this machine."""

from __future__ import annotations

import argparse

from flows.cli.terminal import DONE, add_store

EPILOG = """\
The map shows every published day: optical, SAR as delivered and as registered to swipe between,
displacement, expected error and quality; a click draws the pixel through all days. It reads
overviews and chunks as they are looked at, never a whole scene, and needs no internet. SAR as
delivered is the registered image moved back by the displacement: the store keeps no other.

Whoever reaches the port sees the store, so only this machine does unless --host says otherwise. To
look from elsewhere, tunnel: ssh -L 8200:127.0.0.1:8200 HOST.

examples:
  tar-pipeline view mosaics
  tar-pipeline view s3://mosaics/bolzano --port 8300
"""


def describe_view(parser: argparse.ArgumentParser) -> None:
    """The `view` command's options."""
    parser.description = "Serve a map of the published days of a store to a browser."
    parser.epilog = EPILOG
    add_store(parser)
    parser.add_argument("--port", type=int, default=8200, metavar="N",
                        help="where the page is (default: 8200)")  # fmt: skip
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS",
                        help="what may reach it (default: this machine alone)")  # fmt: skip
    parser.set_defaults(command=view)


def view(args: argparse.Namespace) -> int:
    """Serve the map until it is interrupted."""
    from rich.console import Console

    from flows.view.days import Published
    from flows.view.server import listen_at, serve_view

    console = Console()
    published = Published(args.store)
    published.require_a_day()
    with listen_at(args.host, args.port) as listening:
        host, port = listening.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        console.print(f"{address}  (Ctrl-C ends it)", highlight=False, soft_wrap=True)
        try:
            serve_view(published, listening)
        except KeyboardInterrupt:
            console.print("Stopped.")
    return DONE
