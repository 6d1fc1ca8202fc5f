"""The sign-in of the console: an app client of the user pool that allows the authorization code with PKCE."""

from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_cognito as cognito
from constructs import Construct

from infra.settings import StageSettings
from infra.stacks.data import DataStack

# The pages that sign in, and the command line of the client (infra/client/inference_client/credentials.py).
PAGES = ("console", "docs")
COMMAND_LINE = "http://localhost:8977/"


class ConsoleSignIn(Construct):
    """Variables of the functions: whose tokens they accept, and where the console signs in.

    The client is here and not beside the pool, because its callback names the API. An issuer outside the stack has its
    own clients, and then people paste a token into the console.
    """

    def __init__(self, scope: Construct, *, settings: StageSettings, data: DataStack, api_url: str) -> None:
        super().__init__(scope, "Console")
        self.audience: Mapping[str, str] = {}
        self.variables: Mapping[str, str] = {}
        if data.user_pool is None:
            return
        if settings.aws_endpoint_url:
            self.variables = {
                "CONSOLE_POOL_URL": settings.aws_endpoint_url,
                "CONSOLE_POOL_ID": data.user_pool.user_pool_id,
                "CONSOLE_CLIENT_ID": data.oidc_audience,
            }
            return
        client = self._client(data.user_pool, [f"{api_url}{page}" for page in PAGES])
        domain = cognito.UserPoolDomain(
            self,
            "Domain",
            user_pool=data.user_pool,
            # Unique in the region, because it contains the account.
            cognito_domain=cognito.CognitoDomainOptions(
                domain_prefix=f"{settings.name('console')}-{cdk.Aws.ACCOUNT_ID}"
            ),
        )
        self.audience = {"OIDC_AUDIENCE": f"{data.oidc_audience},{client.user_pool_client_id}"}
        self.variables = {
            "CONSOLE_CLIENT_ID": client.user_pool_client_id,
            "CONSOLE_SIGN_IN_URL": domain.base_url(),
        }

    def _client(self, pool: cognito.IUserPool, pages: list[str]) -> cognito.UserPoolClient:
        return cognito.UserPoolClient(
            self,
            "Client",
            user_pool=pool,
            auth_flows=cognito.AuthFlow(),
            o_auth=cognito.OAuthSettings(
                flows=cognito.OAuthFlows(authorization_code_grant=True),
                scopes=[cognito.OAuthScope.OPENID, cognito.OAuthScope.EMAIL, cognito.OAuthScope.PROFILE],
                callback_urls=[*pages, COMMAND_LINE],
                logout_urls=pages,
            ),
            supported_identity_providers=[cognito.UserPoolClientIdentityProvider.COGNITO],
            # A browser can keep no secret: PKCE proves that who asks for the token began the sign-in.
            generate_secret=False,
            prevent_user_existence_errors=True,
            id_token_validity=cdk.Duration.hours(1),
            access_token_validity=cdk.Duration.hours(1),
            refresh_token_validity=cdk.Duration.hours(12),
        )
