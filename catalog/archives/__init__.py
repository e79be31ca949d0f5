"""From a STAC query to scenes and pairs, and what differs between archives."""
