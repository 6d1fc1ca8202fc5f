"""Mails to those who are invited to a space, by Amazon SES."""

from collections.abc import Sequence
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from shared.models.invite import Invite, InviteMail

NAME_CHARACTERS = 100
SUBJECT = "You are invited to a space of the Inference API"

MailOutcome = tuple[InviteMail, str | None]


class MailClient(Protocol):
    """What is used of boto3's ``sesv2`` client."""

    def send_email(self, **request: Any) -> Any: ...


class InviteMails:
    """Without a ``sender`` no mail is sent; the client is made when the first mail is."""

    def __init__(self, client: MailClient | None, sender: str | None, sign_in_url: str | None) -> None:
        self._client = client
        self._sender = sender
        self._sign_in_url = sign_in_url

    def send(self, space_name: str, inviter: str, invites: Sequence[Invite]) -> dict[str, MailOutcome]:
        """Sends a mail to each invited person. Returns the outcome by address.

        When SES can't be reached, those that are left are not tried: the request waits for this.
        """
        outcomes: dict[str, MailOutcome] = {}
        unreachable: str | None = None
        for invite in invites:
            if self._client is None:
                outcomes[invite.email] = InviteMail.OFF, None
            elif unreachable:
                outcomes[invite.email] = InviteMail.FAILED, unreachable
            else:
                try:
                    self._write(self._client, space_name, inviter, invite)
                    outcomes[invite.email] = InviteMail.SENT, None
                except ClientError as error:
                    problem = error.response["Error"]
                    outcomes[invite.email] = InviteMail.FAILED, f"{problem['Code']}: {problem.get('Message', '')}"[:300]
                except BotoCoreError as error:
                    unreachable = f"The mail service can't be reached: {type(error).__name__}"
                    outcomes[invite.email] = InviteMail.FAILED, unreachable
        return outcomes

    def _write(self, client: MailClient, space_name: str, inviter: str, invite: Invite) -> None:
        text = _text(_one_line(space_name), _one_line(inviter), invite, self._sign_in_url)
        client.send_email(
            FromEmailAddress=self._sender,
            Destination={"ToAddresses": [invite.email]},
            Content={
                "Simple": {
                    "Subject": {"Data": SUBJECT, "Charset": "UTF-8"},
                    "Body": {"Text": {"Data": text, "Charset": "UTF-8"}},
                }
            },
        )


def _one_line(text: str) -> str:
    """Returns a user's text on one line, so that it can't pose as a part of the mail."""
    return " ".join(text.split())[:NAME_CHARACTERS]


def _text(space_name: str, inviter: str, invite: Invite, sign_in_url: str | None) -> str:
    where = f" at {sign_in_url}" if sign_in_url else ""
    return (
        f"{inviter or 'Somebody'} invites you to the space '{space_name}' of the Inference API.\n\n"
        f"Sign in{where} with this address, {invite.email}, and accept the invite (POST /users/invites/accept).\n"
        f"It holds until {invite.valid_until:%d %B %Y, %H:%M} UTC.\n\n"
        "If you did not expect this, do nothing: without you nothing happens.\n"
    )
