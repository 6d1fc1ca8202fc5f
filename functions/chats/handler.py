import shared.http.cold_start  # noqa: F401 - goes first
from functions.chats.openai_routes import router as openai_router
from functions.chats.routes import router
from shared.http.adapter import lambda_handler
from shared.http.app import create_app
from shared.resources import Resources

app = create_app(Resources(), router, openai_router)
handler = lambda_handler(app)
