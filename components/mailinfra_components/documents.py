"""Policy documents of AWS (IAM JSON policy language, version 2012-10-17)."""

import json
from typing import Any

Statement = dict[str, Any]


def document(*statements: Statement) -> str:
    """A policy document of these statements."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def account_administers(account: str) -> Statement:
    """For a key's policy: the account, and so whom its IAM policies name, administers the key."""
    return {
        "Sid": "Owner",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
        "Action": "kms:*",
        "Resource": "*",
    }
