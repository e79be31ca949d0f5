"""Automations of Prefect's: `python -m flows.service.automations FILE` makes or renews them.

Prefect's own command makes one more each time; here those of the same name are renewed. One that is
as the file says is left alone: renewed, it would forget the runs that it waits for a sign of.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.schemas.automations import AutomationCore


def renew_automations(file: Path, client: SyncPrefectClient) -> None:
    """Make the automations of a file on a server, or renew those that are there."""
    wanted = yaml.safe_load(file.read_text(encoding="utf-8"))["automations"]
    with client:
        for each in map(AutomationCore.model_validate, wanted):
            found = client.read_automations_by_name(each.name)
            if not found:
                client.create_automation(each)
            elif _content(found[0]) != _content(each):
                client.update_automation(found[0].id, each)


def _content(automation: AutomationCore) -> dict[str, Any]:
    """What a file says of it; ids are the server's."""
    return automation.model_dump(
        include=set(AutomationCore.model_fields), exclude={"trigger": {"id"}}
    )


if __name__ == "__main__":
    renew_automations(Path(sys.argv[1]), get_client(sync_client=True))
