"""millrace topics apply; millrace schemas register and check."""

from enum import StrEnum
from typing import Annotated, Final

import typer
from confluent_kafka.admin import AdminClient
from confluent_kafka.schema_registry import SchemaRegistryClient

import millrace_schemas
from millrace_common.settings import load
from millrace_local import console, options, schemas, topics
from millrace_local import stack as stacks
from millrace_local.errors import SchemaConflictError
from millrace_local.settings import ClientSettings

_topics: Final = typer.Typer(no_args_is_help=True, help="The broker's topics.")
_schemas: Final = typer.Typer(no_args_is_help=True, help="The registry's Avro subjects.")

_RegistryUrl = Annotated[
    str | None,
    typer.Option(
        "--registry-url",
        show_default="SCHEMA_REGISTRY_URL, else the running local stack",
        help="Any Confluent-compatible registry; SCHEMA_REGISTRY_* variables tell how to get in.",
    ),
]


class Profile(StrEnum):
    """How topics are sized."""

    LOCAL = "local"
    PRODUCTION = "production"


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    _topics.command("apply")(apply_topics)
    _topics.callback()(lambda: None)  # with a single command typer would leave its name out
    _schemas.command("register")(register_schemas)
    _schemas.command("check")(check_schemas)
    app.add_typer(_topics, name="topics")
    app.add_typer(_schemas, name="schemas")


def apply_topics(
    profile: Annotated[Profile, typer.Option(help="Partition counts and replication.")] = Profile.LOCAL,
    lane: Annotated[str, typer.Option(help="A lane, backfill for one; without it the live lane.")] = "",
    bootstrap_servers: Annotated[
        str | None,
        typer.Option(
            show_default="KAFKA_BOOTSTRAP_SERVERS, else the running local stack",
            help="The broker; KAFKA_* variables tell how to get in.",
        ),
    ] = None,
    work_dir: options.WorkDir = options.WORK_DIR,
) -> None:
    """Create topics that are missing and alter settings that differ; never deletes."""
    settings = load(ClientSettings)
    elsewhere = bootstrap_servers or settings.kafka_bootstrap_servers
    servers = elsewhere or stacks.require(work_dir).bootstrap_servers
    declared = millrace_schemas.topics(profile.value, lane)
    if profile is Profile.LOCAL and not elsewhere:
        declared = topics.replicated(declared, servers.count(",") + 1)
    admin = AdminClient(dict(settings.kafka_client()) | {"bootstrap.servers": servers})
    done = topics.apply(admin, declared)
    for topic in done.create:
        console.out.print(f"created {topic.name}: {topic.partitions} partitions")
    for alteration in done.alter:
        console.out.print(f"altered {alteration}")
    if done.empty:
        console.out.print("nothing to do: every topic is as declared")


def register_schemas(registry_url: _RegistryUrl = None, work_dir: options.WorkDir = options.WORK_DIR) -> None:
    """Register every subject with BACKWARD_TRANSITIVE compatibility; twice is the same as once."""
    done = schemas.register(_registry(registry_url, work_dir), schemas.declared())
    for registered in done:
        if registered.changed:
            console.out.print(f"registered {registered.subject}: id {registered.schema_id}")
    if not any(registered.changed for registered in done):
        console.out.print("nothing to do: every subject is registered")


def check_schemas(registry_url: _RegistryUrl = None, work_dir: options.WorkDir = options.WORK_DIR) -> None:
    """See whether every subject could be registered; changes nothing."""
    problems = schemas.check(_registry(registry_url, work_dir), schemas.declared())
    if problems:
        raise SchemaConflictError("\n".join(problems))
    console.out.print("every subject is compatible with what is registered")


def _registry(registry_url: str | None, work_dir: options.WorkDir) -> SchemaRegistryClient:
    settings = load(ClientSettings)
    url = registry_url or settings.schema_registry_url or stacks.require(work_dir).registry_url
    return schemas.client(url, {**settings.schema_registry_client(), "url": url})
