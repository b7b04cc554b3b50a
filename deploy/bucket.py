"""Creates MLflow's bucket if it does not exist: `bucket.py NAME`, with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
MLFLOW_S3_ENDPOINT_URL."""

from __future__ import annotations

import os
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError


def main() -> None:
    """Create the bucket unless it exists."""
    name = sys.argv[1]
    addressing = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 10, "mode": "standard"})
    client = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"], config=addressing)
    try:
        client.head_bucket(Bucket=name)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
            raise
        client.create_bucket(Bucket=name)
    print(f"bucket {name} exists")


if __name__ == "__main__":
    main()
