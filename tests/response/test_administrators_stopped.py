"""Disabling an administrator takes a role of the directory, which no permission stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from alerts import ANN
from m365watch.response.execution.response_executor import Came
from m365watch_simulator.graph.directory import OVER_ADMINISTRATORS
from responding_scene import EVE, Scene, in_scene, make_administrators


@pytest.mark.parametrize("role", ["", *OVER_ADMINISTRATORS])
def test_an_administrator_is_disabled_only_by_an_application_with_a_role(tmp_path: Path, role: str) -> None:
    """The hint named the permissions of the page, which the application had."""

    async def test(scene: Scene) -> None:
        make_administrators(scene, ANN, EVE)
        scene.directory.acts_with = (role,) if role else ()
        [told] = await scene.apply(scene.plan("disable_account", user=ANN))

        assert told.came is (Came.DONE if role else Came.FAILED)
        assert scene.directory.users[ANN]["accountEnabled"] is not bool(role)
        if not role:
            assert told.error is not None
            assert "the role Privileged Authentication Administrator" in told.error.fix

    in_scene(tmp_path, test)
