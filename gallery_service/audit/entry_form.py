"""How an entry is shown: by the API and by the command."""

from __future__ import annotations

import json
from typing import Any

from gallery_service.audit.chain import Entry
from gallery_service.search.filters import format_moment


def entry_json(entry: Entry, stored_hash: str) -> dict[str, Any]:
    """An entry with its moment readable and its details unpacked; the chain is over the stored form, not this one."""
    return {
        "id": entry.id,
        "at": format_moment(entry.at),
        "who": entry.who,
        "via": entry.via,
        "action": entry.action,
        "purpose": entry.purpose,
        "details": json.loads(entry.details),
        "hash": stored_hash,
    }
