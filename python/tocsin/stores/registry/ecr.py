"""Amazon ECR: passwords for the ambient AWS role, from ECR's credential helper or boto3."""

from __future__ import annotations

import importlib
import re
import shutil
from base64 import b64decode
from typing import Any

from tocsin.errors import AuthError
from tocsin.stores.registry.credential_helper import ask_helper

_HELPER = "ecr-login"
_HOST = re.compile(
    r"[0-9]{12}\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]{1,40})\."
    r"(?:amazonaws\.com(?:\.cn)?|on\.(?:aws|amazonwebservices\.com\.cn))"
)


def is_ecr(host: str) -> bool:
    """Return whether `host` looks like a private ECR registry."""
    return _HOST.fullmatch(host) is not None


def ambient_ecr_credential(host: str) -> tuple[tuple[str, str] | None, str]:
    """Return the user name and password for `host`, and the place that was searched.

    Raises:
        AuthError: the helper or AWS failed; ECR has no anonymous access, so this is an error.
    """
    if shutil.which(f"docker-credential-{_HELPER}"):
        return ask_helper(_HELPER, host), f"docker-credential-{_HELPER} (found on the PATH)"
    try:
        boto3: Any = importlib.import_module("boto3")
    except ImportError:
        return None, "AWS (neither docker-credential-ecr-login nor tocsin[aws] is installed)"
    return _ask_aws(boto3, host), "AWS (boto3)"


def _ask_aws(boto3: Any, host: str) -> tuple[str, str]:  # noqa: ANN401 (boto3 has no types)
    match = _HOST.fullmatch(host)
    region = "" if match is None else match[1]
    try:
        client = boto3.client("ecr", region_name=region)
        answer = client.get_authorization_token()
        token = b64decode(answer["authorizationData"][0]["authorizationToken"]).decode()
    except Exception as error:
        kind = type(error).__name__
        raise AuthError(
            f"credentials: AWS: no ECR password for {host} in {region}: {kind}"
        ) from None
    username, _, password = token.partition(":")
    return username, password
