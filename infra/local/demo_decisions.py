"""The third part of the demo: the next best action for one customer, and a reviewed argument for it."""

import csv
import io
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from infra.local.client import ApiClient, Json
from infra.local.demo_data import DATA_SETS, DataSet

GROUP = "Offers"
SHOWN_REASONS = 3
COMPLETION_TOKENS = 400


@dataclass(frozen=True)
class Offer:
    """An action that uses the model of one data set."""

    name: str
    description: str
    data_set: str
    priority: str
    channel: str


OFFERS = (
    Offer("Payment plan", "Spreads what is owed over twelve months", "default", "high", "phone"),
    Offer("Caravan insurance", "Covers a caravan and what is in it", "caravan", "medium", "email"),
    Offer("Budget advice", "An hour with an adviser, free of charge", "german-credit", "low", "email"),
)
TEMPLATE = "Dear {{client.name}},\n{{argument}}\nAsk us about: {{action.name}}."


class DecisionDemo:
    """The steps of this part. Each run makes a new customer and reuses the other data of an earlier run."""

    def __init__(self, api: ApiClient, console: Console) -> None:
        self._api = api
        self._console = console

    def run(self, benchmarks: dict[DataSet, str]) -> None:
        """Runs all steps with the leading models of the benchmarks."""
        for data_set, benchmark_id in benchmarks.items():
            self._promote(data_set, benchmark_id)
        self._offers()
        persona = self._customer()
        insight = self._decide(persona)
        self._api.post(f"/insights/{insight['id']}/reactions", {"reaction": "rejected"})
        self._step("The customer rejects the offer, so the next decision excludes it:")
        self._show_candidates(self._insight(persona))
        offer = next(each for each in insight["candidates"] if each["rank"] == 1)
        argument = self._argue(persona, insight, offer)
        self._review(persona, offer, argument)
        self._lineage(argument)

    def _promote(self, data_set: DataSet, benchmark_id: str) -> None:
        """Points an alias at the leading model, so that offers use the new leader after a change."""
        leader = self._api.get("/leaderboards", benchmarks=benchmark_id, limit=1)["data"][0]
        alias = self._api.call(
            "PUT",
            f"/checkpoints/aliases/{data_set.name}",
            {"checkpoint_id": leader["id"], "required_benchmark_ids": [benchmark_id]},
        )
        self._step(f"Alias '{alias['id']}' points at the leading {leader['architecture']} model")

    def _offers(self) -> None:
        groups = self._api.rows("/action-groups")
        group = next((each for each in groups if each["name"] == GROUP), None)
        group = group or self._api.post("/action-groups", {"name": GROUP, "description": "Made by make demo"})
        present = {action["name"] for action in self._api.rows("/actions")}
        for offer in OFFERS:
            if offer.name not in present:
                self._api.post(
                    "/actions",
                    {
                        "name": offer.name,
                        "description": offer.description,
                        "type": "offer",
                        "group": group["id"],
                        "model_id": offer.data_set,
                        "priority": offer.priority,
                        "channel": offer.channel,
                        "channel_template": TEMPLATE,
                        "status": "active",
                    },
                )
            self._step(f"Offer '{offer.name}', which uses the model '{offer.data_set}'", reused=offer.name in present)

    def _customer(self) -> Json:
        """Creates a customer with one benchmark row of each data set."""
        number = self._api.get("/personas", limit=1)["count"]
        data: Json = {}
        for data_set in DATA_SETS:
            rows = list(csv.DictReader(io.StringIO(data_set.files()[data_set.benchmark_file].decode())))
            data |= {name: value for name, value in rows[number % len(rows)].items() if name != data_set.target}
        persona: Json = self._api.post(
            "/personas",
            {"name": f"Customer {number + 1}", "birthdate": "1988-05-17", "notes": "Made by make demo", "data": data},
        )
        self._step(f"Persona '{persona['name']}' with {len(data)} attributes")
        return persona

    def _insight(self, persona: Json) -> Json:
        insight: Json = self._api.post("/insights", {"client": persona["id"], "max_tokens": COMPLETION_TOKENS})
        return insight

    def _decide(self, persona: Json) -> Json:
        insight = self._insight(persona)
        self._show_candidates(insight)
        for reason in insight["reason_codes"][:SHOWN_REASONS]:
            amount = abs(reason["contribution"])
            self._print_line(
                "Because", f"{reason['feature']} = {reason['value']} {reason['direction']} it by {amount:.3f}"
            )
        self._print_line("Argument", insight["argument"])
        if insight["error"]:
            self._print_line("Note", f"the argument is a fixed text: {insight['error']}")
        when = insight["best_time"] or "any time"
        self._print_line("When", f"{when}, on {insight['best_channel'] or 'any channel'} ({insight['timeliness']})")
        return insight

    def _show_candidates(self, insight: Json) -> None:
        table = Table(title="The next best action", title_justify="left")
        for heading in ("Rank", "Offer", "Propensity", "Priority", "Score", "Why not"):
            table.add_column(heading, justify="right" if heading in ("Rank", "Propensity", "Score") else "left")
        for each in insight["candidates"]:
            rank, propensity, score = each["rank"], each["propensity"], each["score"]
            table.add_row(
                "-" if rank is None else str(rank),
                each["name"],
                "-" if propensity is None else f"{propensity:.4f}",
                each["priority"],
                "-" if score is None else f"{score:.4f}",
                each["reason"] if rank is None else "",
            )
        self._console.print(table)

    def _argue(self, persona: Json, insight: Json, offer: Json) -> Json:
        response = self._api.send(
            "POST",
            "/arguments",
            {
                "action_id": offer["action_id"],
                "insight_id": insight["id"],
                "client": {"name": persona["name"], "birthdate": persona["birthdate"]},
                "insight_spec": {"insight": insight["insight"], "score": offer["score"]},
                "product": {"name": offer["name"]},
                "model": self._api.get("/models")["data"][0]["id"],
                "max_tokens": COMPLETION_TOKENS,
                "temperature": 0,
            },
            timeout=180,
        )
        response.raise_for_status()
        argument: Json = response.json()
        self._print_line("Draft", argument["argument"] or argument["error"])
        return argument

    def _review(self, persona: Json, offer: Json, argument: Json) -> None:
        """Rewrites the draft as a reviewer: first with a figure that no source supports, then without it."""
        path = f"/arguments/{argument['id']}"
        self._api.call("PUT", path, {"review": {"status": "reviewing"}})
        text = f"The {offer['name']} is a good fit for {persona['name']}."
        for version in (f"{text} It saves 4,200 EUR a year.", text):
            edited = self._api.call("PUT", path, {"argument": version})
            self._print_line("Reviewer", version)
            for claim in edited["claims"]:
                unsupported = f" (no source for {', '.join(claim['missing'])})" if claim["missing"] else ""
                self._print_line("Claim", f"{claim['support']}: {claim['text']}{unsupported}")
        self._api.call("PUT", path, {"review": {"status": "success", "comment": "Reviewed by make demo"}})
        changes = self._api.get(f"{path}/history")["count"]
        self._step(f"Reviewed and approved, with {changes} changes in its history")

    def _lineage(self, argument: Json) -> None:
        chain = self._api.get(f"/arguments/{argument['id']}/lineage")
        tree = Tree(f"Argument {chain['argument_id']}, review {chain['review']['status']}")
        training = (
            tree.add(f"Insight {chain['insight_id']}")
            .add(f"Action {chain['action_id']}")
            .add(f"Checkpoint {chain['checkpoint_id']}")
            .add(f"Training {chain['training_id']}, data model {chain['data_model_id']}")
        )
        for score in chain["scores"]:
            training.add(f"Benchmark {score['benchmark_id']}, revision {score['benchmark_revision']}")
        for file in chain["files"]:
            training.add(f"{file['file']}, S3 version {file['version_id']}, read by scan {file['scan_id']}")
        self._console.print(tree)

    def _print_line(self, speaker: str, text: str) -> None:
        self._console.print(f"  {speaker:9} {' '.join(text.split())}", highlight=False, markup=False)

    def _step(self, text: str, *, reused: Any = None) -> None:
        self._console.print(f"✓ {text}{' (exists already)' if reused else ''}", highlight=False, markup=False)
