"""Automations of Prefect's: `python -m flows.service.automations FILE` makes or renews them.

Prefect's own command makes one more each time; here those of the same name are renewed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from prefect.client.orchestration import get_client
from prefect.events.schemas.automations import AutomationCore


def renew_automations(file: Path) -> None:
    """Make the automations of a file, or renew those that are there, on the server that is set."""
    wanted = yaml.safe_load(file.read_text(encoding="utf-8"))["automations"]
    with get_client(sync_client=True) as client:
        for each in map(AutomationCore.model_validate, wanted):
            found = client.read_automations_by_name(each.name)
            if found:
                client.update_automation(found[0].id, each)
            else:
                client.create_automation(each)


if __name__ == "__main__":
    renew_automations(Path(sys.argv[1]))
