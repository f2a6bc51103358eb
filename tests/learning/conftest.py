"""A tiny model, for the tests that encode sessions and train on them."""

from __future__ import annotations

import pytest

from agent.engine.models import LoadedModel, load_model
from tests.models import build_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("base")
    return load_model(str(build_model(folder / "tiny")), dtype="fp32", cache=folder / "cache")
