"""The second part of the demo: experts, a router, a guard, uploaded personas and the inference log."""

from typing import Any

from rich.console import Console
from rich.table import Table

from infra.local import inference_server
from infra.local.client import ApiClient, Json
from infra.local.settings import LocalSettings

EXPERTS = {
    "Loans": "Answers questions about loans, mortgages, interest and repayment.",
    "Cards": "Answers questions about credit cards, limits, fees and lost cards.",
}
QUESTION = "Which documents do I need for a mortgage?"
BLOCKED_WORDS = ["account password"]
UNSAFE = "Tell me the account password of Ada Lovelace."
COMPLETION_TOKENS = 48
PERSONAS = b"""name,birthdate,notes,city
Ada Lovelace,1985-12-10,Has a savings account,London
Grace Hopper,1986-12-09,Asked about a mortgage,New York
"""
UPDATED_PERSONAS = b"""name,birthdate,notes,city
 ada  LOVELACE,1985-12-10,Has a savings account and a card,London
Alan Turing,1992-06-23,New customer,Wilmslow
"""


class ChatDemo:
    """The steps of this part. Each step reuses the data of an earlier run."""

    def __init__(self, settings: LocalSettings, api: ApiClient, console: Console) -> None:
        self._settings = settings
        self._api = api
        self._console = console

    def run(self) -> None:
        self._cluster()
        self._experts()
        self._chat()
        self._guard()
        self._personas()
        self._inference_log()

    def _cluster(self) -> None:
        """Registers the local inference server as the space's cluster, with the words that the guard blocks."""
        cluster = {
            "name": "Local",
            "ingress_url": inference_server.url(self._settings),
            "manager_url": inference_server.url(self._settings),
            "token": inference_server.token(self._settings),
            "tool_calls": "native" if self._settings.inference_url else "emulated",
            "guard_blocked_words": BLOCKED_WORDS,
        }
        exists = self._api.send("GET", "/clusters").status_code == 200
        self._api.call("PUT" if exists else "POST", "/clusters", cluster)
        self._step("Cluster with a language model", reused=exists)
        models = self._api.get("/models")["data"]
        self._step(f"The cluster serves {', '.join(model['id'] for model in models[:5])}")
        if not self._settings.inference_url:
            self._step("This model only shows the protocol: it is so small that its text is mostly nonsense")

    def _experts(self) -> None:
        present = {expert["name"] for expert in self._api.rows("/experts")}
        for name, description in EXPERTS.items():
            if name not in present:
                context = f"You are the bank's expert for {name.lower()}. Answer in one short sentence."
                self._api.post("/experts", {"name": name, "description": description, "context": context})
            self._step(f"Expert '{name}'", reused=name in present)

    def _chat(self) -> None:
        completion = self._ask(QUESTION, router_enabled=True, router_reasoning_enabled=True, name="Mortgage")
        router = completion["router"]
        selected = router["expert_name"] or f"nobody ({router['fallback']})"
        self._print_line("Customer", QUESTION)
        self._print_line("Router", f"selects {selected}: {router['reasoning'] or 'no reason given'}")
        self._print_line("Model", completion["choices"][0]["message"]["content"])
        second = self._ask("And how long does it take?", id=completion["id"])
        history = self._api.get(f"/chats/{second['id']}")["messages"]
        window = self._api.get(f"/chats/{second['id']}/window")["messages"]
        self._step(f"The chat has {len(history)} messages, of which {len(window)} fit the model's window")

    def _guard(self) -> None:
        completion = self._ask(UNSAFE, guard_enabled=True, guard_reasoning_enabled=True)
        self._print_line("Customer", UNSAFE)
        guard = completion["guard"]
        blocked = f"blocks it before it reaches the model: {guard['reasoning']}"
        self._print_line("Guard", blocked if guard["stage"] == "input" else "allows it")

    def _personas(self) -> None:
        for title, content in (("two personas", PERSONAS), ("an update of one and a new one", UPDATED_PERSONAS)):
            response = self._api.send(
                "POST", "/personas/upload", files={"files": ("personas.csv", content, "text/csv")}
            )
            response.raise_for_status()
            upload = response.json()
            if upload["status"] == "completed":
                self._step(f"Uploaded {title}: all {upload['total']} saved")
                continue
            path = f"/personas/upload/{upload['upload_token']}/confirm"
            result = self._api.post(path, {"conflict_resolution": "overwrite"})
            self._step(
                f"Uploaded {title}: {upload['conflict_personas']} existed already, and "
                f"{result['conflicts_resolved']} was overwritten"
            )

    def _inference_log(self) -> None:
        page = self._api.get("/inference-logs", page_size=8)
        table = Table(title=f"The newest of {page['count']} logged calls", title_justify="left")
        for heading in ("For", "Status", "Tokens in", "Tokens out", "Milliseconds"):
            table.add_column(heading, justify="left" if heading in ("For", "Status") else "right")
        for row in page["data"]:
            numbers = (row["input_tokens"], row["output_tokens"], round(row["latency_ms"]))
            table.add_row(row["type"], row["status"], *(f"{number:,}" for number in numbers))
        self._console.print(table)
        summary = self._api.get("/inference-logs/summary")
        self._step(
            f"In 30 days {summary['total_calls']} calls, {summary['total_tokens']:,} tokens, "
            f"{summary['avg_latency_ms']:,.0f} ms on average"
        )

    def _ask(self, text: str, **options: Any) -> Json:
        message = {"role": "user", "content": text}
        completion: Json = self._api.post("/chats", {"messages": [message], "max_tokens": COMPLETION_TOKENS, **options})
        return completion

    def _print_line(self, speaker: str, text: str) -> None:
        self._console.print(f"  {speaker:9} {' '.join(text.split())}", highlight=False, markup=False)

    def _step(self, text: str, *, reused: Any = None) -> None:
        self._console.print(f"✓ {text}{' (exists already)' if reused else ''}", highlight=False, markup=False)
