"""The object store as the CRT's transfer client sees it, which aws-cli v2 uses: many parts and ranges at once."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import botocore.session
from awscrt.auth import AwsCredentialsProvider
from s3transfer.crt import BotocoreCRTRequestSerializer, CRTTransferManager, create_s3_crt_client
from tests.parity.conftest import Platform

MIB = 1 << 20


@contextmanager
def transfers(platform: Platform) -> Iterator[Any]:
    """Yield a manager of transfers; what they leave on this side is there when the block has ended."""
    session = botocore.session.Session()
    session.set_credentials(platform.access_key, platform.secret)
    client = create_s3_crt_client(
        region="eu-central-1",
        crt_credentials_provider=AwsCredentialsProvider.new_static(platform.access_key, platform.secret),
        use_ssl=False,
        part_size=5 * MIB,
    )
    where = {"region_name": "eu-central-1", "endpoint_url": platform.s3_endpoint()}
    manager = CRTTransferManager(client, BotocoreCRTRequestSerializer(session, where))
    with manager:
        yield manager


def test_there_and_back(platform: Platform, tmp_path: Path) -> None:
    s3 = platform.s3()
    s3.create_bucket(Bucket="crt", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(MIB) * 23)
    held = io.BytesIO()
    with transfers(platform) as manager:
        manager.upload(str(source), "crt", "big").result()
        manager.download("crt", "big", str(target)).result()
        manager.upload(io.BytesIO(b"small"), "crt", "small").result()
        manager.download("crt", "small", held).result()
    assert held.getvalue() == b"small"
    assert target.read_bytes() == source.read_bytes()
    seen = s3.get_object_attributes(Bucket="crt", Key="big", ObjectAttributes=["Checksum", "ObjectParts"])
    assert seen["ObjectParts"]["TotalPartsCount"] == 5
    assert seen["Checksum"]["ChecksumCRC32"].endswith("-5")
    with transfers(platform) as manager:
        for key in ("big", "small"):
            manager.delete("crt", key).result()
    s3.delete_bucket(Bucket="crt")
