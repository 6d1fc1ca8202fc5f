import shared.http.cold_start  # noqa: F401 - goes first
from functions.insights.routes import beyond, router
from shared.http.adapter import lambda_handler
from shared.http.app import create_app

app = create_app(router, beyond)
handler = lambda_handler(app)
