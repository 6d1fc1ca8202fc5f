"""Data models: named subjects of trainings."""

from shared.models.base import KEEP, Description, Entity, Model, Name, PartialUpdate


class DataModelCreate(Model):
    description: Description | None = None
    name: Name


class DataModelUpdate(PartialUpdate):
    description: Description | None = None
    name: Name = KEEP


class DataModel(Entity):
    description: str | None = None
    name: str
