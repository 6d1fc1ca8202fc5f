"""Signs users up and in at the emulated Cognito."""

import re

from infra.local.settings import LocalError, LocalSettings

# The password of all users of this machine's pool that this module makes, so that people can sign in to the console.
PASSWORD = "Local-password-1"  # noqa: S105
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


def token(settings: LocalSettings, email: str, *, pool_id: str, client_id: str) -> str:
    """Returns a new ID token of the user with this e-mail address, and creates a missing user.

    Each call sets the user's password to ``PASSWORD``.
    """
    if not _EMAIL.fullmatch(email):
        raise LocalError(f"'{email}' is not an e-mail address. Write: make token USER=alice@example.com")
    cognito = settings.client("cognito-idp")
    try:
        cognito.sign_up(
            ClientId=client_id, Username=email, Password=PASSWORD, UserAttributes=[{"Name": "email", "Value": email}]
        )
    except cognito.exceptions.UsernameExistsException:
        cognito.admin_set_user_password(UserPoolId=pool_id, Username=email, Password=PASSWORD, Permanent=True)
    response = cognito.initiate_auth(
        ClientId=client_id,
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": email, "PASSWORD": PASSWORD},
    )
    return str(response["AuthenticationResult"]["IdToken"])
