"""Calls the API with pydantic-ai."""

import asyncio

from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from shapes import CHAT, HELLO, KEY, QUESTION, URL, Team, check_team

provider = OpenAIProvider(base_url=URL, api_key=KEY)


async def use(model: OpenAIChatModel | OpenAIResponsesModel) -> None:
    plain = Agent(model, instructions="Be brief.")
    assert (await plain.run(QUESTION)).output == HELLO
    async with plain.run_stream(QUESTION) as streamed:
        assert await streamed.get_output() == HELLO
    for wanted in (Team, NativeOutput(Team)):
        check_team((await Agent(model, output_type=wanted).run(QUESTION)).output)

    added = []
    agent = Agent(model)

    @agent.tool_plain
    def add_team(team: Team) -> str:
        added.append(team)
        return "Added."

    first = await agent.run(QUESTION)
    assert first.output == HELLO
    check_team(added[0])
    assert (await agent.run("And now?", message_history=first.all_messages())).output == HELLO


async def main() -> None:
    await use(OpenAIChatModel(CHAT, provider=provider))
    await use(OpenAIResponsesModel(CHAT, provider=provider))


asyncio.run(main())
print("ok")
