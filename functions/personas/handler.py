import shared.http.cold_start  # noqa: F401 - goes first
from functions.personas.routes import router
from shared.http.adapter import lambda_handler
from shared.http.app import create_app
from shared.resources import Resources

app = create_app(Resources(), router)
handler = lambda_handler(app)
