"""Action groups: folders of actions."""

from shared.models.base import KEEP, Description, Entity, Model, Name, PartialUpdate


class ActionGroupCreate(Model):
    description: Description
    name: Name


class ActionGroupUpdate(PartialUpdate):
    description: Description = KEEP
    name: Name = KEEP


class ActionGroup(Entity):
    description: str
    name: str
