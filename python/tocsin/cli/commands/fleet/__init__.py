"""``tocsin fleet``: index the images of a whole registry."""

from __future__ import annotations

from tocsin.cli.command import group


@group(
    commands_in={
        "plan": "tocsin.cli.commands.fleet.plan",
        "run": "tocsin.cli.commands.fleet.run",
        "status": "tocsin.cli.commands.fleet.status",
    },
    summary="Index the images of a whole registry.",
)
def fleet() -> None:
    """Index the images of a whole registry.

    Images share layers. A plan lists each layer once, so that a run reads it once, in whatever
    repositories it is. A run can be interrupted and continued.

    Examples:
      tocsin fleet plan 'ghcr.io/team/app:*' -o plan.json
      tocsin fleet run plan.json
      tocsin fleet status plan.json.journal
    """
