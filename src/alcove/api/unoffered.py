"""Fields of a function's configuration that are not offered: refused where passing over them would surprise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alcove.api.dialect import NoCodeSigningConfig
from alcove.errors import InvalidRequest

# Members of a function's configuration that would change what it may do or where it runs, and why they are refused.
_REFUSED: Mapping[str, str] = {
    "CapacityProviderConfig": "every function has machines of its own",
    "DurableConfig": "a function runs once, from its beginning to its end",
    "FileSystemConfigs": "use /tmp or a bucket",
    "ImageConfig": "functions are zip packages; a runtime can be any that provided.al2023 runs",
    "KMSKeyArn": "keep secrets in a store of their own",
    "TenancyConfig": "give each tenant a key of its own: alcove tenant add",
}


def refuse_unoffered(document: Mapping[str, Any]) -> None:
    """Refuse a configuration whose fields would be passed over, where that would surprise."""
    for name, instead in _REFUSED.items():
        if document.get(name):
            raise InvalidRequest(f"'{name}' is not offered.", hint=instead)
    if document.get("CodeSigningConfigArn"):
        raise NoCodeSigningConfig("The code signing configuration cannot be found.", hint="it is not offered")
    machines = document.get("Architectures")
    if machines and machines != ["x86_64"]:
        raise InvalidRequest("'Architectures' must be [x86_64].", hint="build the package for x86-64")
    network = document.get("VpcConfig")
    if isinstance(network, dict) and (network.get("SubnetIds") or network.get("SecurityGroupIds")):
        raise InvalidRequest("'VpcConfig' is not offered.", hint="every tenant has a network of its own")
