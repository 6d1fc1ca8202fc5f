"""Where each architecture is fitted. Only what is asked for imports its library."""

import importlib
from typing import Any

from functions.jobs.fitting.base import Architecture

FAMILIES = {
    "additive": "functions.jobs.fitting.additive:Additive",
    "additive_catboost": "functions.jobs.fitting.catboost:AdditiveCatBoost",
    "auto": "functions.jobs.fitting.auto:Auto",
    "catboost": "functions.jobs.fitting.catboost:CatBoost",
    "lightgbm": "functions.jobs.fitting.lightgbm:LightGBM",
    "tabicl": "functions.jobs.fitting.tabicl:TabICL",
    "tabm": "functions.jobs.fitting.tabm:TabM",
    "xgboost": "functions.jobs.fitting.xgboost:XGBoost",
}


def family_of(architecture: str) -> Architecture[Any]:
    """Returns the implementation of an architecture."""
    module, _, name = FAMILIES[architecture].partition(":")
    implementation: type[Architecture[Any]] = getattr(importlib.import_module(module), name)
    return implementation()
