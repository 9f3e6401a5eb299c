"""Uploads that nobody finished: parts that S3 keeps, charges for, and shows in no list of objects.

One rule: they are ended only where nothing is being sent any more, since an upload that is ended fails.

An upload that fails ends itself where the store answers (`Bucket.upload`). What stays comes from processes that were
killed, and from beginnings whose answer was lost, so that another was begun. Our client has no word for them; boto3 has.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
from typing import Any

from raysweep.storage.bucket import SCHEMES, aws_endpoint

OPTIONS = {
    "connect_timeout": 5,
    "read_timeout": 20,
    "retries": {"mode": "standard", "max_attempts": 4},
}
RULE = "give the bucket a lifecycle rule that ends uploads (docs/storage.md)"


def why_kept(uri: str) -> str:
    """Why `end_unfinished` ends nothing in this bucket and the store does not either; empty: one does.

    >>> why_kept("gs://sweeps/vision")
    'give the bucket a lifecycle rule that ends uploads (docs/storage.md)'
    >>> why_kept("az://sweeps/vision")  # it drops what is a week old
    ''
    """
    match SCHEMES[uri.partition("://")[0]]:
        case "s3" if importlib.util.find_spec("boto3") is None:
            return f"install boto3, or {RULE}"
        case "gs":
            return RULE
    return ""


def end_unfinished(uri: str) -> list[str]:
    """End every upload beneath a folder of S3 for which boto3 is installed; returns what was sent, as keys.

    Raises:
        OSError: the store does not answer, or refuses.
    """
    scheme, _, place = uri.partition("://")
    if SCHEMES[scheme] != "s3" or why_kept(uri):
        return []
    bucket, _, folder = place.partition("/")
    errors = importlib.import_module("botocore.exceptions")
    try:
        client = _client()
        pages = client.get_paginator("list_multipart_uploads")
        listed = pages.paginate(Bucket=bucket, Prefix=f"{folder}/")
        found = [upload for page in listed for upload in page.get("Uploads", ())]
        for one in found:
            named = {"Bucket": bucket, "Key": one["Key"], "UploadId": one["UploadId"]}
            with contextlib.suppress(client.exceptions.NoSuchUpload):
                client.abort_multipart_upload(**named)
    except (errors.BotoCoreError, errors.ClientError, ValueError) as error:
        raise OSError(
            f"unfinished uploads beneath {uri} cannot be ended: {error}; {RULE}"
        ) from error
    return [one["Key"] for one in found]


def _client() -> Any:  # noqa: ANN401  (of a module that may be absent)
    """A client with the credentials, the region and the endpoint that `Bucket` has."""
    config = importlib.import_module("botocore.config").Config(**OPTIONS)
    session = importlib.import_module("boto3").session.Session(
        region_name=os.environ.get("AWS_REGION")
    )
    return session.client("s3", endpoint_url=aws_endpoint() or None, config=config)
