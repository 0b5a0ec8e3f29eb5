"""What holds for the whole collector: overrides, illegal settings, stores of state."""

from __future__ import annotations

import pytest

from settings_documents import Document, filled_in, mistakes_of, settings_of


def test_overrides_win_over_globals() -> None:
    """Devo's collector server lets a job set them beside its inputs."""
    settings = settings_of(
        filled_in()
        | {
            "globals": {"debug": False, "queue_max_size_in_mb": 10, "sender_stats_period_in_sec": 60},
            "global_overrides": {"debug": "true", "queue_max_size_in_mb": 20},
        }
    )

    assert (settings.debug, settings.queue_bytes_max) == (True, 20 * 1024 * 1024)
    assert settings.stats_period_s == 60.0
    assert settings.warnings == ()


@pytest.mark.parametrize("section", ["globals", "global_overrides"])
def test_an_illegal_global_setting_is_ignored_with_a_warning(section: str) -> None:
    """As Devo's collector does, so that a file which started there starts here."""
    given = {"sender_concurrent_connections": 5, "balanced_output": True, "flavour": {"x": 1}}

    assert settings_of(filled_in() | {section: given}).warnings == tuple(
        f"{section}.{key}: is an illegal global setting and has been ignored, as Devo's collector does"
        for key in given
    )


def test_a_misspelt_global_setting_is_a_mistake() -> None:
    """A store of state that is silently not used would be looked for in vain."""
    document = filled_in() | {
        "globals": {"persistance": {"type": "filesystem"}},
        "global_overrides": {"debugg": True, "queue_max_size_in_mb": 0},
    }

    assert mistakes_of(document) == [
        'global_overrides.debugg: unknown key; did you mean "debug"?',
        (
            "global_overrides.queue_max_size_in_mb: 0 (whole number) is out of range; "
            "give a whole number, 1 to 5,120, or remove the key"
        ),
        'globals.persistance: unknown key; did you mean "persistence"?',
    ]


MEMORY = {"globals": {"persistence": {"type": "memory"}}}


def test_a_store_in_memory_is_told_what_it_costs() -> None:
    """Devo's `memory`: nothing is known after a restart."""
    settings = settings_of(filled_in() | MEMORY | {"outputs": {"c": {"type": "console"}}})

    assert not settings.keeps_state
    assert settings.warnings == (
        (
            "globals.persistence.type: keeps no state; after a restart all that Microsoft still serves "
            "is read and delivered again"
        ),
    )


@pytest.mark.parametrize(
    ("outputs", "bound"),
    [
        ({"c": {"type": "console"}, "l": {"type": "lake"}}, "outputs.l"),
        ({"f": {"type": "files"}}, "outputs.f"),
        ({}, "the lake that is written without outputs"),
    ],
)
def test_lakes_and_files_are_not_written_without_state(outputs: Document, bound: str) -> None:
    """They tell by the state what they hold already; without it a run would lose or double records."""
    assert mistakes_of(filled_in() | MEMORY | {"outputs": outputs}) == [
        (
            f"globals.persistence.type: is memory, which {bound} cannot do with; "
            "give filesystem, or outputs to send to only"
        )
    ]


def test_the_image_of_the_container_is_known() -> None:
    """Devo's containers have its name in a variable; what the collector says of itself carries it."""
    with_image = settings_of(filled_in(), environment={"COLLECTOR_IMAGE": "devo.com/collectors/office365:2"})

    assert with_image.collector_image == "devo.com/collectors/office365:2"
    assert settings_of(filled_in(), environment={"COLLECTOR_IMAGE": ""}).collector_image is None
