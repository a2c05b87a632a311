"""Reads the documents of ``alcove apply``: Pods, and the ConfigMaps that their volumes and variables name."""

from __future__ import annotations

from typing import Any

from alcove.errors import InvalidRequest


def read_manifests(data: bytes) -> list[dict[str, Any]]:
    """Return the Pods of a file of YAML documents, ConfigMaps put into them. Raises ``InvalidRequest``."""
    import yaml

    try:
        documents = [one for one in yaml.safe_load_all(data) if one is not None]
    except yaml.YAMLError as error:
        raise InvalidRequest(f"the file is no YAML: {error}", hint="give Kubernetes' Pod manifests") from None
    flat = [item for one in documents for item in (one.get("items", [one]) if isinstance(one, dict) else [one])]
    if not all(isinstance(one, dict) for one in flat):
        raise InvalidRequest("a document is no object", hint="give Kubernetes' Pod manifests")
    maps = {one.get("metadata", {}).get("name"): one for one in flat if one.get("kind") == "ConfigMap"}
    pods = [one for one in flat if one.get("kind") == "Pod"]
    others = {str(one.get("kind")) for one in flat} - {"Pod", "ConfigMap"}
    if others or not pods:
        what = f"{', '.join(sorted(others))} cannot be made" if others else "there is no Pod in the file"
        raise InvalidRequest(what, hint="give Pods, and ConfigMaps that they use")
    return [_resolved(one, maps) for one in pods]


def _resolved(pod: dict[str, Any], maps: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    spec = pod.get("spec")
    for volume in spec.get("volumes") or () if isinstance(spec, dict) else ():
        if isinstance(volume, dict) and isinstance(volume.get("configMap"), dict):
            volume["files"] = _files(volume.pop("configMap"), maps)
    return pod


def _files(wanted: dict[str, Any], maps: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    name = wanted.get("name")
    if name not in maps:
        if wanted.get("optional"):
            return {"items": []}
        raise InvalidRequest(f"the ConfigMap {name} is not in the file", hint="put it beside the Pod")
    data: dict[str, str] = maps[name].get("data") or {}
    mode = wanted.get("defaultMode", 0o644)
    rows = wanted.get("items") or [{"key": key, "path": key} for key in data]
    missing = [row.get("key") for row in rows if row.get("key") not in data]
    if missing:
        raise InvalidRequest(f"the ConfigMap {name} has no key {missing[0]!r}")
    return {
        "items": [{"path": row["path"], "content": data[row["key"]], "mode": row.get("mode", mode)} for row in rows]
    }
