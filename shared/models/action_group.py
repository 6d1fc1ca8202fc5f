"""Action groups: folders of actions, with conditions that hold for each of their actions."""

from pydantic import Field

from shared.models.action import CONDITIONS, Conditions
from shared.models.base import KEEP, Description, Entity, Model, Name, PartialUpdate


class ActionGroupCreate(Model):
    conditions: Conditions = Field(default_factory=list, description=CONDITIONS)
    description: Description
    name: Name


class ActionGroupUpdate(PartialUpdate):
    conditions: Conditions = KEEP
    description: Description = KEEP
    name: Name = KEEP


class ActionGroup(Entity):
    conditions: list[str] = Field(default_factory=list)
    description: str
    name: str
