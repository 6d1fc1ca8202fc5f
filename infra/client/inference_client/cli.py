"""The command line: ``inference --help`` lists the commands."""

import json
import sys
import webbrowser
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec
from urllib.parse import urlsplit

import httpx
import typer
from inference_client.api.actions import create_action
from inference_client.api.benchmarks import list_benchmarks
from inference_client.api.checkpoints import promote_checkpoint
from inference_client.api.insights import create_insight
from inference_client.api.spaces import create_space
from inference_client.api.users import get_me
from inference_client.client import AuthenticatedClient
from inference_client.connection import ApiStatusError, connect
from inference_client.credentials import NotSignedInError, StoredSignIn, credentials_file
from inference_client.models import (
    ActionCreate,
    Candidate,
    CatalogEntry,
    CatalogStatus,
    CheckpointAliasPut,
    InsightCreate,
    JobStatus,
    LeaderboardRow,
    MetricName,
    SpaceCreate,
)
from inference_client.steps import (
    CommandError,
    catalog,
    managed_connector,
    present,
    ranking,
    start_training,
    upload,
    wait_for_scans,
    watch,
)
from rich.console import Console
from rich.markup import escape
from rich.table import Table

LOOPBACK = ("localhost", "127.0.0.1", "::1")
app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
console, problems = Console(), Console(stderr=True)
P = ParamSpec("P")

ConnectorName = Annotated[str, typer.Option("--connector", help="The managed connector that holds the files.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Registers a command, and turns errors into one line and the exit status 1."""

    @wraps(function)
    def run(*arguments: P.args, **options: P.kwargs) -> None:
        try:
            function(*arguments, **options)
        except (ApiStatusError, CommandError, NotSignedInError, OSError, httpx.HTTPError) as error:
            problems.print(f"[red]{escape(str(error))}[/red]", highlight=False)
            if isinstance(error, ApiStatusError) and error.request_id:
                problems.print(f"request id {error.request_id}", style="dim", highlight=False)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

    app.command(name=function.__name__.rstrip("_"))(run)
    return run


@command
def login(
    url: Annotated[str, typer.Argument(help="The address of the API.")],
    email: Annotated[str, typer.Option(help="Your address, on a developer's machine.")] = "",
    with_token: Annotated[bool, typer.Option(help="Read an ID token or an API key from standard input.")] = False,
) -> None:
    """Sign in, and keep the credentials in a file that only you can read."""
    url = url.rstrip("/")
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise CommandError(f"Others could read your token on the way to {url}. Use an address with https://.")
    signed_in = StoredSignIn(url=url)
    if with_token:
        signed_in.token = sys.stdin.read().strip()
    else:
        _sign_in(signed_in, httpx.get(f"{url}/console/config.json").raise_for_status().json(), email)
    me = present(get_me.sync(client=connect(url, signed_in.fresh_token())))
    signed_in.space_id = me.spaces[0].id if me.spaces else None
    signed_in.save()
    console.print(f"Signed in as {escape(me.email)}.", highlight=False)
    if not me.spaces:
        console.print("You have no space yet. Create one: inference space NAME --create")


def _sign_in(signed_in: StoredSignIn, config: dict[str, Any], email: str) -> None:
    signed_in.client_id = config["client_id"]
    if config["pool_url"]:
        signed_in.pool_url = config["pool_url"]
        email = email or typer.prompt("E-mail address")
        signed_in.sign_in_with_password(email, typer.prompt("Password", hide_input=True))
    elif config["authorization_endpoint"]:
        signed_in.token_endpoint = config["token_endpoint"]
        console.print("Sign in with the page that your browser opens.")
        signed_in.sign_in_with_browser(config["authorization_endpoint"], webbrowser.open)
    else:
        raise CommandError("This API has an issuer of its own. Get a token there, and add --with-token.")


@command
def logout() -> None:
    """Remove the credentials from this machine."""
    credentials_file().unlink(missing_ok=True)


@command
def space(
    name: Annotated[str, typer.Argument(help="The name or the id of a space of yours.")],
    create: Annotated[bool, typer.Option("--create", help="Create the space if you have none with this name.")] = False,
) -> None:
    """Choose the space of the next commands."""
    client = connect()
    spaces = present(get_me.sync(client=client)).spaces
    found = next((each.id for each in spaces if name in (each.id, each.name)), None)
    if found is None and not create:
        known = ", ".join(each.name for each in spaces) or "none"
        raise CommandError(f"You have no space {name!r}, but: {known}. Create it with --create.")
    if found is None:
        found = present(create_space.sync(client=client, body=SpaceCreate(name=name, description=name))).id
    # The calls may have renewed the token.
    signed_in = StoredSignIn.load()
    signed_in.space_id = found
    signed_in.save()
    console.print(f"Space {escape(name)}: {found}", highlight=False)


@command
def upload_(
    files: Annotated[list[Path], typer.Argument(help="CSV, Parquet or JSON Lines files.", exists=True, dir_okay=False)],
    connector: ConnectorName = "Uploads",
) -> None:
    """Upload files, and show what the scan finds in them."""
    client = connect()
    connector_id = managed_connector(client, connector).id
    before = list(catalog(client, connector_id))
    upload(client, connector_id, files)
    entries = wait_for_scans(client, connector_id, [file.name for file in files], before)
    for entry in entries:
        _show_entry(entry)
    if any(entry.status == CatalogStatus.ERROR for entry in entries):
        raise typer.Exit(1)


def _show_entry(entry: CatalogEntry) -> None:
    if entry.status == CatalogStatus.ERROR:
        problems.print(f"[red]{escape(entry.file)}: {escape(str(entry.error))}[/red]", highlight=False)
        return
    columns = entry.columns or []
    table = Table(title=f"{escape(entry.file)}: {entry.rows} rows", title_justify="left")
    for title in ("column", "type", "missing", "distinct"):
        table.add_column(title)
    for column in columns:
        table.add_row(escape(column.name), str(column.type_), str(column.nulls), str(column.distinct))
    console.print(table)
    for warning in entry.warnings or []:
        console.print(f"[yellow]{escape(str(warning.message))}[/yellow]", highlight=False)


@command
def train(
    files: Annotated[list[str], typer.Argument(help="Names of uploaded files.")],
    target: Annotated[str, typer.Option(help="The column to predict.")],
    connector: ConnectorName = "Uploads",
    architecture: Annotated[str, typer.Option(help="`auto`, or another one of GET /architectures.")] = "auto",
    configuration: Annotated[str, typer.Option(help="The configuration of the architecture, as JSON.")] = "{}",
    name: Annotated[str, typer.Option(help="The name of the training.")] = "",
    follow: Annotated[bool, typer.Option("--watch", help="Show the progress until the model is ranked.")] = False,
) -> None:
    """Train a model on uploaded files, and evaluate it on held-out rows."""
    client = connect()
    training = start_training(
        client,
        managed_connector(client, connector).id,
        files,
        name=name or f"{Path(files[0]).stem}, {architecture}",
        target=target,
        architecture=architecture,
        configuration=_parsed(configuration),
    )
    console.print(f"Training {training.id} has started.", highlight=False)
    if not follow:
        return
    ended, rows = watch(client, training.id)
    for note in ended.notes or []:
        console.print(escape(note), style="dim", highlight=False)
    if ended.status != JobStatus.SUCCEEDED:
        raise CommandError(f"The training is {ended.status}. {ended.error or ''}".strip())
    _show_ranking(rows, (ended.benchmark_ids or [""])[0])


@command
def leaderboard(
    benchmark: Annotated[str, typer.Option(help="The name or the id of a benchmark; the newest by default.")] = "",
    metric: Annotated[MetricName, typer.Option(help="What to order by.")] = MetricName.ROC_AUC,
    as_json: AsJson = False,
) -> None:
    """Compare models on a benchmark."""
    client = connect()
    benchmark_id = _benchmark(client, benchmark)
    rows = ranking(client, benchmark_id, metric)
    if as_json:
        _print_json([row.to_dict() for row in rows])
    else:
        _show_ranking(rows, benchmark_id)


def _benchmark(client: AuthenticatedClient, wanted: str) -> str:
    page, has_more = 1, True
    while has_more:
        found = present(list_benchmarks.sync(client=client, page=page, page_size=100))
        for each in found.data:
            if wanted in ("", each.id, each.name):
                return each.id
        page, has_more = page + 1, found.has_more
    raise CommandError(f"There is no benchmark {wanted!r}." if wanted else "There is no benchmark yet. Train a model.")


def _show_ranking(rows: list[LeaderboardRow], benchmark_id: str) -> None:
    table = Table(title="Leaderboard", title_justify="left")
    measured = [row.benchmarks[benchmark_id].to_dict() for row in rows]
    metrics = list(dict.fromkeys(name for values in measured for name in values))
    for title in ("rank", "model", *metrics, "checkpoint"):
        # The id is for the next command, so it is never shortened.
        table.add_column(title, overflow="fold")
    for row, values in zip(rows, measured, strict=True):
        figures = ["-" if values.get(name) is None else f"{values[name]:.4f}" for name in metrics]
        table.add_row(str(row.rank), escape(row.name), *figures, row.id)
    console.print(table if rows else "No model has been evaluated on this benchmark yet.")


@command
def promote(
    alias: Annotated[str, typer.Argument(help="The name that offers use, such as champion.")],
    checkpoint: Annotated[
        str, typer.Option(help="The id of a model; by default the best on the newest benchmark.")
    ] = "",
) -> None:
    """Give a model the name that offers use."""
    client = connect()
    if not checkpoint:
        rows = ranking(client, _benchmark(client, ""))
        if not rows:
            raise CommandError("No model has been evaluated yet. Run: inference train --watch")
        checkpoint = rows[0].id
    promote_checkpoint.sync(alias, client=client, body=CheckpointAliasPut(checkpoint_id=checkpoint))
    console.print(f"{escape(alias)} is now {checkpoint}.", highlight=False)


@command
def offer(
    name: Annotated[str, typer.Argument(help="What customers get.")],
    model: Annotated[str, typer.Option(help="The model or alias that predicts who accepts it.")],
    priority: Annotated[str, typer.Option(help="very_low, low, medium, high or very_high.")] = "medium",
    description: Annotated[str, typer.Option(help="What the offer is.")] = "",
) -> None:
    """Add an offer that decisions choose from."""
    fields = {"name": name, "description": description, "priority": priority, "type": "offer", "status": "active"}
    made = create_action.sync(client=connect(), body=ActionCreate.from_dict({**fields, "model_id": model}))
    console.print(f"Offer {present(made).id}", highlight=False)


@command
def decide(
    customer: Annotated[str, typer.Argument(help="A persona's id, a JSON object, @FILE with one, or - for stdin.")],
    write: Annotated[bool, typer.Option("--write", help="Let a language model put the decision into words.")] = False,
    as_json: AsJson = False,
) -> None:
    """Decide the next best offer for one customer, and say why."""
    text = _text_of(customer)
    body = {"client": _parsed(text) if text.lstrip().startswith("{") else text}
    insight = present(
        create_insight.sync(
            client=connect(), body=InsightCreate.from_dict(body if write else {**body, "wording": "none"})
        )
    )
    if as_json:
        _print_json(insight.to_dict())
        return
    table = Table(title="Offers", title_justify="left")
    for title in ("rank", "offer", "score", "why"):
        table.add_column(title)
    for each in insight.candidates:
        table.add_row(str(each.rank or ""), escape(each.name), _score(each), escape(each.reason))
    console.print(table)
    for code in insight.reason_codes or []:
        console.print(f"{code.feature} = {code.value!r} {code.direction} the score", markup=False, highlight=False)
    if insight.argument:
        console.print(insight.argument, markup=False, highlight=False)


def _score(candidate: Candidate) -> str:
    return f"{candidate.score:.4f}" if isinstance(candidate.score, int | float) else "-"


@command
def chat(
    prompt: Annotated[str, typer.Argument(help="What to say; a conversation without it.")] = "",
    model: Annotated[str, typer.Option(help="A language model of the space.")] = "",
    max_tokens: Annotated[int, typer.Option(help="The longest answer.")] = 500,
) -> None:
    """Talk to a language model of the space. The answer appears as it is written."""
    client = connect().get_httpx_client()
    options: dict[str, Any] = {"stream": True, "max_tokens": max_tokens, **({"model": model} if model else {})}
    while True:
        asked = prompt or typer.prompt("you")
        body = {**options, "messages": [{"role": "user", "content": asked}]}
        with client.stream("POST", "/chats", json=body) as response:
            for event in _events(response):
                options["id"] = event.get("id") or options.get("id")
                _show_part(event)
        console.print()
        if prompt:
            return


def _events(response: httpx.Response) -> Any:
    for line in response.iter_lines():
        if line.startswith("data:") and line != "data: [DONE]":
            yield json.loads(line.removeprefix("data:"))


def _show_part(event: dict[str, Any]) -> None:
    if event.get("error"):
        error = event["error"]
        raise CommandError(str(error.get("message") if isinstance(error, dict) else error))
    for choice in event.get("choices", ()):
        text = choice.get("delta", {}).get("content") or ""
        console.print(text, end="", markup=False, highlight=False, soft_wrap=True)
    guard = event.get("guard") or {}
    if guard.get("flagged"):
        problems.print(f"The guard stopped the {guard['stage']}: {', '.join(guard['categories'])}", style="yellow")


def _text_of(argument: str) -> str:
    if argument == "-":
        return sys.stdin.read()
    return Path(argument[1:]).read_text() if argument.startswith("@") else argument


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise CommandError(f"This is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise CommandError('A JSON object is needed, such as {"age": 41}.')
    return found


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")
