"""The whole API in one app, for the dev server, the OpenAPI document and the tests.

In AWS each group is a function of its own; both are built by the same factory from the same routers.
"""

from fastapi import FastAPI

from functions.benchmarks.routes import router as benchmarks
from functions.data_models.routes import router as data_models
from functions.documentation.routes import router as documentation
from functions.spaces.routes import router as spaces
from functions.users.routes import router as users
from shared.aws.resources import Resources
from shared.http.app import create_app

# In the order of the published page.
ROUTERS = (benchmarks, data_models, users, spaces, documentation)


def build_api(resources: Resources | None = None) -> FastAPI:
    return create_app(*ROUTERS, resources=resources)


app = build_api()
