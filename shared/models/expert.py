"""Experts: context, files and tools that a chat's model receives for one kind of question."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, field_validator

from shared.models.base import KEEP, Description, Entity, Model, Name, PartialUpdate, Timestamp

CONTEXT_CHARACTERS = 200_000
FILES_CHARACTERS = 2_000_000
FILES_LIMIT = 100
TOOLS_LIMIT = 64

Context = Annotated[str, StringConstraints(max_length=CONTEXT_CHARACTERS)]


class ExpertFile(Model):
    """A file's text. Further keys are stored and returned."""

    model_config = ConfigDict(extra="allow")

    name: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    content: Annotated[str, StringConstraints(max_length=FILES_CHARACTERS)]


class ToolFunction(Model):
    model_config = ConfigDict(extra="allow")

    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: Annotated[str, StringConstraints(max_length=10_000)] = ""
    parameters: dict[str, Any] = Field(
        default_factory=lambda: {"type": "object", "properties": {}}, description="a JSON schema of an object"
    )


class ExpertTool(Model):
    """A function that the model may ask the client to call, as in OpenAI's API."""

    model_config = ConfigDict(extra="allow")

    type: Literal["function"] = "function"
    function: ToolFunction


def _distinct(tools: list[ExpertTool]) -> list[ExpertTool]:
    names = [tool.function.name for tool in tools]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"there are several tools of the name {twice[0]}; a name may be given once")
    return tools


def _bounded(files: list[ExpertFile]) -> list[ExpertFile]:
    if sum(len(file.content) for file in files) > FILES_CHARACTERS:
        raise ValueError(f"the files hold more than {FILES_CHARACTERS:,} characters together")
    return files


Files = Annotated[list[ExpertFile], Field(max_length=FILES_LIMIT)]
Tools = Annotated[list[ExpertTool], Field(max_length=TOOLS_LIMIT)]


class _Checked(Model):
    @field_validator("tools", check_fields=False)
    @classmethod
    def _names(cls, tools: list[ExpertTool]) -> list[ExpertTool]:
        return _distinct(tools)

    @field_validator("file_context", check_fields=False)
    @classmethod
    def _sizes(cls, files: list[ExpertFile]) -> list[ExpertFile]:
        return _bounded(files)


class ExpertCreate(_Checked):
    context: Context | None = None
    description: Description
    file_context: Files = Field(default_factory=list)
    name: Name
    tools: Tools = Field(default_factory=list)


class ExpertUpdate(_Checked, PartialUpdate):
    context: Context | None = None
    description: Description = KEEP
    file_context: Files = KEEP
    name: Name = KEEP
    tools: Tools = KEEP


class Expert(Entity):
    """An expert. ``version_number`` grows with each change, and every version is stored."""

    context: str | None = None
    description: str
    file_context: list[ExpertFile] = Field(default_factory=list)
    name: str
    tools: list[ExpertTool] = Field(default_factory=list)
    version_number: int = 1

    def tools_for_model(self) -> list[dict[str, Any]]:
        """Returns the tools in the shape of OpenAI's API."""
        return [tool.model_dump(mode="json") for tool in self.tools]


class ExpertVersion(Model):
    """One version of an expert."""

    context: str | None = None
    created_at: Timestamp
    description: str
    file_context: list[ExpertFile] = Field(default_factory=list)
    id: str
    name: str
    tools: list[ExpertTool] = Field(default_factory=list)
    version_number: int
